//! SQLite: one file, copied under writers by the backup interface, restored beside and renamed in.

mod copy;
mod facts;
mod halfway;
mod holders;
mod leftovers;
pub(crate) mod open;
mod place;
pub(crate) mod read;
#[cfg(test)]
mod read_tests;
mod replace;
#[cfg(test)]
mod restore_tests;
mod rewrite;
pub(crate) mod snapshot;
#[cfg(test)]
pub(crate) mod tests;

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::open::{Access, Peeked};
use self::snapshot::SqliteSnapshot;
use super::{Change, Content, Database, DatabasePlan, Facts, Others, Replacement, Rewritten, Snapshot};
use crate::config::profile::Profile;
use crate::ground::Result;
use crate::ground::kept::Kept;
use crate::ground::progress::Progress;
use crate::ground::scratch::Scratch;

/// The name of the dump in a bundle: the database file itself.
pub const MEMBER: &str = "database.sqlite";

/// How patient a backup is, with others and they with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// The longest time that writers may be kept out, when they would not let a copy end otherwise.
    pub max_lock: Duration,
    /// How long to wait for a lock that another program holds.
    pub busy: Duration,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { max_lock: Duration::from_secs(5), busy: Duration::from_secs(30) }
    }
}

/// A file's device and inode, and a handle of it.
type Held = ((u64, u64), Arc<File>);

/// An application's SQLite database.
pub struct Sqlite {
    path: PathBuf,
    options: SqliteOptions,
    /// The file's handle, kept for the sake of locks: see [`Peeked`].
    peeked: Mutex<Option<Held>>,
}

impl Sqlite {
    /// The database at this path, which need not exist yet.
    pub fn new(path: PathBuf, options: SqliteOptions) -> Self {
        Self { path, options, peeked: Mutex::new(None) }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file behind the path and what it is.
    ///
    /// Links are followed here, because the files beside a database lie where SQLite finds the file itself.
    fn peek(&self) -> Result<(PathBuf, Peeked)> {
        let path = real(&self.path);
        let mut held = self.peeked.lock().unwrap_or_else(PoisonError::into_inner);
        let peeked = open::peek(&path, |identity| {
            held.as_ref().filter(|(same, _)| *same == identity).map(|(_, file)| Arc::clone(file))
        })?;
        let identity = peeked.file.metadata().map(|m| (m.dev(), m.ino())).unwrap_or_default();
        *held = Some((identity, Arc::clone(&peeked.file)));
        Ok((path, peeked))
    }
}

fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

impl Database for Sqlite {
    fn describe(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    fn snapshot(&self, scratch: &Scratch, progress: &dyn Progress) -> Result<Box<dyn Snapshot>> {
        let (path, peeked) = self.peek()?;
        let size = |file: &Path| std::fs::metadata(file).map_or(0, |m| m.len());
        scratch.need(size(&path) + size(&open::beside(&path, "-wal")) + (1 << 20))?;
        // A second time only when somebody opened an untouched database in between.
        for last in [false, true] {
            let (source, access) = open::open_live(&path, &peeked, self.options.busy, true)?;
            let copied = copy::copy(&source, peeked.wal, &path, scratch, &self.options, progress)?;
            if let Access::Untouched(stamp) = access
                && open::Stamp::of(&path)? != stamp
                && !last
            {
                continue;
            }
            return Ok(Box::new(SqliteSnapshot {
                connection: copied.connection,
                file: copied.file,
                path,
                private: true,
                wal: peeked.wal,
                longest_lock: copied.longest_lock,
                stamp: None,
            }));
        }
        Err(open::locked(&path))
    }

    fn look(&self) -> Result<Box<dyn Snapshot>> {
        let (path, peeked) = self.peek()?;
        Ok(Box::new(look_at(&path, peeked, self.options.busy.min(Duration::from_secs(5)))?))
    }

    fn rewrite(&self, profile: &Profile, others: Others, change: Change<'_>) -> Result<Rewritten> {
        let (path, _) = self.peek()?;
        *self.peeked.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if others == Others::Refuse {
            holders::refuse_open(&path)?;
        }
        rewrite::all(&path, self.options.busy, profile, change)
    }

    fn plan(&self, facts: &Facts) -> Result<DatabasePlan> {
        place::plan(&self.path, facts)
    }

    fn build(
        &self,
        plan: &DatabasePlan,
        facts: &Facts,
        member: &mut dyn FnMut(&str) -> Result<Box<dyn Content>>,
        progress: &dyn Progress,
    ) -> Result<Box<dyn Replacement>> {
        *self.peeked.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(Box::new(replace::build(&self.path, plan, facts, member, progress)?))
    }

    fn kept(&self) -> Result<Vec<Kept>> {
        leftovers::list(&self.path)
    }

    fn remove_kept(&self, name: &str) -> Result<()> {
        leftovers::remove(&self.path, name)
    }
}

/// Opens a live file, or one that may be, for a look in one read transaction.
fn look_at(path: &Path, peeked: Peeked, busy: Duration) -> Result<SqliteSnapshot> {
    let (connection, access) = open::open_live(path, &peeked, busy, false)?;
    let stamp = match access {
        Access::Locked => None,
        Access::Untouched(stamp) => Some(stamp),
    };
    connection.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1;").map_err(|e| open::fault(path, e))?;
    Ok(SqliteSnapshot {
        connection,
        file: peeked.file,
        path: path.to_owned(),
        private: false,
        wal: peeked.wal,
        longest_lock: Duration::ZERO,
        stamp,
    })
}

/// Opens somebody's database file by its path: a dump, or the live file of an application.
pub(crate) fn open_file(path: &Path) -> Result<SqliteSnapshot> {
    let path = real(path);
    let peeked = open::peek(&path, |_| None)?;
    look_at(&path, peeked, Duration::from_secs(5))
}
