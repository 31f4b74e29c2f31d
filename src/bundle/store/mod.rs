//! Backing up a storage: what changed is stored in parts, what did not is referred to.

mod absent;
mod list;
mod liveness;
mod lost;
mod pass;
mod rows;

use std::collections::HashMap;

use rusqlite::{OptionalExtension as _, params};

pub use absent::FEW;

use super::Draft;
use crate::archive::Archive;
use crate::archive::state::State;
use crate::ground::Result;
use crate::ground::beside::Stop;
use crate::ground::names::{AppName, BundleId, SealingId};
use crate::ground::progress::Progress;
use crate::sealing::Recipient;
use crate::storage::owners::Owners;
use crate::storage::{EntryKind, LeftOut, Storage};

/// What a backup of a storage needs.
pub struct StoreOptions<'a> {
    /// Where parts go.
    pub archive: &'a dyn Archive,
    /// The application.
    pub app: &'a AppName,
    /// What everything is sealed to.
    pub recipient: &'a Recipient,
    /// The files.
    pub storage: &'a dyn Storage,
    /// What this host remembers; its transaction gets this run's changes.
    pub state: &'a mut State,
    /// The newest bundle with storage that the ledger names, and what it is sealed to; parts are referred to only if the state is
    /// of this one, and the recipient is the same.
    pub base: Option<(&'a BundleId, &'a SealingId)>,
    /// What becomes of it when all or most files are gone.
    pub loss: Loss,
    /// How many threads read and seal.
    pub lanes: usize,
}

/// What becomes of it when all or most files are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It is right.
    Accepted,
    /// It is told.
    Told,
    /// It was so in the bundle before, so whatever of that is gone still is told.
    Doubted,
}

/// A part or a list's segment that is gone from the archive, or has another length there.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Lost {
    /// Its name in the archive.
    pub object: String,
    /// What is the matter with it.
    pub why: String,
    /// Files of the storage that lay in it.
    pub files: u64,
}

/// What was stored.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct StoreReport {
    /// Files in the list.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Bytes that this run added to the archive.
    pub bytes_stored: u64,
    /// Files whose content was there already.
    pub reused_files: u64,
    /// What could not be stored.
    pub left_out: Vec<LeftOut>,
    /// Files that are gone, where none is left or more went than are left, and that was not accepted.
    pub gone: u64,
    /// Files that changed while they were read, twice; stored as they were then.
    pub changed_while_read: Vec<String>,
    /// Files with several names, stored under each.
    pub hard_linked: u64,
    /// Files with holes, stored as zeros.
    pub sparse: u64,
    /// What was remembered is gone or does not fit, so everything was stored again.
    pub state_lost: bool,
    /// What was stored before is sealed to another key, so everything was stored again.
    pub other_key: bool,
    /// Objects that this backup would have referred to and the archive does not have as they were stored.
    pub lost: Vec<Lost>,
    /// Parts that this run wrote.
    pub parts_written: u64,
}

/// A backup of a storage under way.
///
/// [`Store::pass`] is called twice, before and after the database's snapshot, so that every object that the snapshot names is
/// there unless it was deleted before the first pass reached it.
pub struct Store<'a> {
    options: StoreOptions<'a>,
    owners: Owners,
    report: StoreReport,
    passes: u32,
    stored_files: u64,
    /// Parts that this run wrote, and their stored bytes.
    written: HashMap<String, u64>,
}

impl<'a> Store<'a> {
    /// Begins; a state that does not fit the ledger is forgotten here.
    pub fn begin(options: StoreOptions<'a>) -> Result<Self> {
        let mut report = StoreReport::default();
        let base = options.base.map(|(base, _)| base);
        options.state.settle(base)?;
        if options.state.base() != base || options.state.was_unusable() || !rows::is_sound(options.state)? {
            report.state_lost = base.is_some();
            options.state.forget()?;
        } else if options.base.is_some_and(|(_, sealing)| sealing != options.recipient.id()) {
            report.other_key = true;
            options.state.forget()?;
        }
        rows::prepare(options.state)?;
        report.lost = lost::look(&options)?;
        liveness::choose(options.state)?;
        Ok(Self {
            options,
            owners: Owners::of_this_machine(),
            report,
            passes: 0,
            stored_files: 0,
            written: HashMap::new(),
        })
    }

    /// Walks the storage once and stores what differs from what is remembered or was stored before; `stop` ends it, between files.
    pub fn pass(&mut self, progress: &dyn Progress, stop: &Stop) -> Result<()> {
        self.passes += 1;
        pass::run(self, progress, stop)
    }

    /// Whether the list has no file of this path.
    pub fn lacks(&self, path: &[u8]) -> Result<bool> {
        let kind: Option<i64> = self
            .options
            .state
            .connection()
            .prepare_cached("SELECT kind FROM files WHERE path = ?1")
            .and_then(|mut s| s.query_row(params![path], |row| row.get(0)).optional())
            .map_err(|e| self.options.state.failed(&e))?;
        Ok(kind != Some(rows::kind_number(EntryKind::File)))
    }

    /// What the last pass could not read.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.report.left_out
    }

    /// Writes the file list, and names in the bundle's sums every part and segment that it needs.
    pub fn finish(&mut self, draft: &mut Draft<'_>) -> Result<StoreReport> {
        list::write(self, draft)?;
        let mut report = std::mem::take(&mut self.report);
        report.reused_files = report.files.saturating_sub(self.stored_files);
        Ok(report)
    }
}
