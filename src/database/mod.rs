//! The application's database: a consistent snapshot, its credentials, and the way back.
//!
//! The contract every database keeps:
//! * a [`Snapshot`] is one moment of the database; credentials, counts, object names and the dump all come from it;
//! * a dump that ends without an error is complete; a system that cannot be sure says so with an error;
//! * nothing is hidden: a row that the session may not see is an error, never a smaller result;
//! * a restore is built beside the live database and takes its place in one step ([`Replacement::swap`]), which can be
//!   undone until [`Replacement::keep`] or the end of the plan.

pub mod dump;
pub(crate) mod pgdump;
pub mod postgres;
pub mod rewrite;
mod room;
pub(crate) mod rows;
pub(crate) mod spread;
pub mod sqlite;

pub use dump::{open_again, open_stream};
pub use rewrite::{Change, Others, Put, Rewritten};

use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::appkey::credential::Credential;
use crate::config::profile::Profile;
use crate::ground::beside::Stop;
use crate::ground::kept::Kept;
use crate::ground::progress::Progress;
use crate::ground::scratch::Scratch;
use crate::ground::{Error, Result};

/// What a snapshot says of itself; goes into the proof.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize, PartialEq, Eq)]
pub struct Facts {
    /// The system: `sqlite` or `postgres`.
    pub system: String,
    /// Versions of the tools that made the dump.
    pub tools: BTreeMap<String, String>,
    /// Rows per table (PostgreSQL: `schema.table`).
    pub tables: BTreeMap<String, u64>,
    /// Bytes of the dump before compression, where it is known before it is read.
    pub bytes: u64,
    /// Settings that belong to the database and not to its rows (SQLite: journal mode, page size, encoding …).
    pub settings: BTreeMap<String, String>,
    /// The longest time that others could not write, in milliseconds.
    pub longest_lock_ms: u64,
    /// What the checks found: empty when all is well (SQLite: `integrity_check`, `foreign_key_check`).
    pub faults: Vec<String>,
    /// Where long blocks of the dump are (PostgreSQL).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub landmarks: Vec<Landmark>,
}

/// Where a long block of a dump is, so that a restore goes there at once.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, PartialEq, Eq)]
pub struct Landmark {
    /// The number that its entry has in the dump's table of contents.
    pub entry: i64,
    /// Bytes of the dump before it.
    pub begin: u64,
    /// Bytes of the dump up to its end.
    pub end: u64,
    /// Where the frame begins that holds its first byte, in the compressed dump.
    pub frame: u64,
    /// Bytes of the dump before it in that frame.
    pub skip: u64,
}

/// One file of a dump, ready to be sealed.
pub struct Dump {
    /// The member's base name in the bundle: `database.sqlite`, `database.pgdump`, `globals.sql` …
    pub name: String,
    /// The bytes; read to the end without an error, the dump is complete.
    pub bytes: Box<dyn Read + Send>,
}

/// What the database names in the storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedObject {
    /// The object's path in the storage.
    pub path: Vec<u8>,
    /// The application can fetch it again from where it came.
    pub fetchable: bool,
}

/// A column outside the profile whose values look like the scheme's ciphertext.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Suspect {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// How many of the values looked at look so.
    pub values: u64,
}

/// One moment of a database.
pub trait Snapshot: Send {
    /// Hands every credential of the profile to `visit`, or with `sample` about that many spread over all rows.
    ///
    /// NULLs are left out. A missing table or column is an error ([`crate::ground::Kind::Usage`]) unless the profile
    /// calls it optional. Answers how many non-NULL values there are in all, sampled or not.
    fn credentials(
        &mut self,
        profile: &Profile,
        sample: Option<usize>,
        visit: &mut dyn FnMut(Credential) -> Result<()>,
    ) -> Result<u64>;

    /// Columns outside the profile with values that `looks_like` takes for the scheme's ciphertext.
    fn suspects(&mut self, profile: &Profile, looks_like: &dyn Fn(&[u8]) -> bool) -> Result<Vec<Suspect>>;

    /// Hands every storage object that the database names to `visit`; nothing when the profile has no query.
    fn named_objects(&mut self, profile: &Profile, visit: &mut dyn FnMut(NamedObject) -> Result<()>) -> Result<()>;

    /// What there is to say of the snapshot; counts rows and runs checks, so it takes its time.
    fn facts(&mut self, progress: &dyn Progress) -> Result<Facts>;

    /// The files of the dump, in the order in which they are to be stored.
    fn dumps(&mut self) -> Result<Vec<Dump>>;

    /// Long blocks of the dump, as entries and where they begin and end; asked for when the dumps were read.
    fn blocks(&mut self) -> Vec<(i64, Range<u64>)> {
        Vec::new()
    }

    /// What the tools remarked although they ended well; asked for when the dumps were read.
    fn remarks(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// What a restore is going to do to the database; `--dry-run` prints it and the run executes it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DatabasePlan {
    /// Where the database will stand, redacted.
    pub target: String,
    /// It exists and will be replaced.
    pub replaces: bool,
    /// Where the replaced one will be kept.
    pub kept_as: Option<String>,
    /// Steps, one sentence each, for people.
    pub steps: Vec<String>,
    /// The swap can be undone; where it cannot, what is there is backed up first.
    pub reversible: bool,
}

/// A restored database beside the live one.
pub trait Replacement: Send {
    /// A snapshot of it, for the proof before the swap.
    fn snapshot(&mut self) -> Result<Box<dyn Snapshot + '_>>;

    /// Replaces credentials in it before the swap, as [`Database::rewrite`] does.
    fn rewrite(&mut self, profile: &Profile, change: Change<'_>) -> Result<()>;

    /// Puts it in the live one's place; the live one is kept.
    fn swap(&mut self) -> Result<()>;

    /// Puts the kept one back; allowed once. Where nothing was swapped, or a swap failed half way, the live one stands after it.
    fn undo(&mut self) -> Result<()>;

    /// The restore is good. Answers where the replaced database is kept, if there was one.
    fn keep(self: Box<Self>) -> Result<Option<PathBuf>>;
}

/// A file of a dump, as it stands in a bundle.
pub trait Content: Read + Send {
    /// Another reader of the same bytes, which goes to any place from their beginning that it is told.
    ///
    /// What it gives is authenticated as a part of what this one reads; that this is what the bundle lists is known when
    /// [`Content::settle`] has answered.
    fn beside(&self) -> Result<Box<dyn Places>>;

    /// Says where a frame begins, so that readers beside this one get there without what stands before it.
    ///
    /// An error ([`crate::ground::Kind::Damaged`]) when that contradicts what is known.
    fn learn(&self, _landmark: &Landmark) -> Result<()> {
        Ok(())
    }

    /// Compares the digest of the whole file, to its end; nothing that was read may count before that.
    ///
    /// `false` when it was told to stop before it knew.
    fn settle(self: Box<Self>, stop: &Stop) -> Result<bool>;
}

/// Bytes that can be read anywhere.
pub trait Places: Read + Seek + Send {}

impl<T: Read + Seek + Send> Places for T {}

/// A database of an application.
pub trait Database: Send + Sync {
    /// Its URL without secrets, for messages.
    fn describe(&self) -> String;

    /// A consistent snapshot for a backup, made while others write; plaintext goes to `scratch` only.
    fn snapshot(&self, scratch: &Scratch, progress: &dyn Progress) -> Result<Box<dyn Snapshot>>;

    /// A short look at the live database, for sampling credentials: read only, no copy.
    fn look(&self) -> Result<Box<dyn Snapshot>>;

    /// Replaces credentials in the live database: all in one transaction, or none.
    ///
    /// `change` gets every credential that is not NULL, and puts new values; while it works nobody else writes them. What it put
    /// is read again before the commit, and no other credential may have changed, come or gone. An error means that nothing was
    /// changed; [`crate::ground::Kind::Refused`] with [`Others::Refuse`] while another program has the database open.
    fn rewrite(&self, profile: &Profile, others: Others, change: Change<'_>) -> Result<Rewritten>;

    /// Plans a restore over this database from a bundle's facts; refuses now what would fail later.
    fn plan(&self, facts: &Facts) -> Result<DatabasePlan>;

    /// Builds the database beside the live one from the dump's members, asked for by base name.
    fn build(
        &self,
        plan: &DatabasePlan,
        facts: &Facts,
        member: &mut dyn FnMut(&str) -> Result<Box<dyn Content>>,
        progress: &dyn Progress,
    ) -> Result<Box<dyn Replacement>>;

    /// Whether the programs are there that a backup needs, and fit the server; what they are, for people.
    fn tools(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// What earlier restores kept or left beside the database and [`Database::remove_kept`] removes; nothing where that is
    /// for a person to do.
    fn kept(&self) -> Result<Vec<Kept>> {
        Ok(Vec::new())
    }

    /// Removes one of [`Database::kept`] for good.
    fn remove_kept(&self, name: &str) -> Result<()> {
        Err(Error::refused(format!("{name} is removed by hand")))
    }
}

/// Opens a database dump or file that anybody made, by its content: hostile-proof, read only.
pub fn open_dump(path: &Path, scratch: &Scratch) -> Result<Box<dyn Snapshot>> {
    dump::open(path, scratch)
}
