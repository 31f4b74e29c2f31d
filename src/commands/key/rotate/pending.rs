//! A rotation under way: the new key, durable in a file that only its owner can read until the application is proved on it.

use std::path::{Path, PathBuf};

use crate::commands::deposits::Origin;
use crate::commands::host::{ROTATION, ROTATION_NEXT};
use crate::escrow::{self, Record};
use crate::ground::durable::{self, Existing};
use crate::ground::names::Fingerprint;
use crate::ground::{Error, Kind, Result, failpoint};

/// How long the file may be.
const LIMIT: u64 = 256 << 10;

/// The file: the new key's record as an escrow gets it, not sealed, because this host must read it.
///
/// Beside a running application the old key's record is a second line: its rows may come after the configuration has changed.
pub(super) struct Pending {
    path: PathBuf,
    record: Record,
    old: Fingerprint,
    beside: Option<Record>,
}

impl Pending {
    /// Writes the file; from here on the new key is lost no more.
    pub(super) fn begin(state: &Path, record: Record, old: &Fingerprint, beside: Option<Record>) -> Result<Self> {
        let path = path_in(state);
        let bytes = escrow::to_lines(std::iter::once(&record).chain(&beside))?;
        if durable::write_file(&path, &bytes, 0o600, Existing::Keep)? {
            Ok(Self { path, record, old: old.clone(), beside })
        } else {
            Err(under_way(&path))
        }
    }

    /// Reads the file of a rotation that did not end; `None` when there is none.
    pub(super) fn find(state: &Path) -> Result<Option<Self>> {
        let path = path_in(state);
        let bytes = match durable::read_secret_file(&path, LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = || Error::damaged(format!("{} is not the record of one new key", path.display()));
        let mut records = escrow::from_lines(&bytes, &path.display().to_string())?.into_iter();
        let (Some(record), beside, None) = (records.next(), records.next(), records.next()) else {
            return Err(damaged());
        };
        let old = record.predecessor.clone().ok_or_else(damaged)?;
        if beside.as_ref().is_some_and(|beside| beside.fingerprint != old) {
            return Err(damaged());
        }
        Ok(Some(Self { path, record, old, beside }))
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The key that is being replaced.
    pub(super) fn old(&self) -> &Fingerprint {
        &self.old
    }

    /// The new key's record.
    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// The old key's record, where the application goes on beside the rotation.
    pub(super) fn beside(&self) -> Option<&Record> {
        self.beside.as_ref()
    }

    /// What the new key's deposits say of where it came from.
    pub(super) fn origin(&self) -> Origin {
        Origin { predecessor: Some(self.old.clone()), reason: self.record.reason.clone() }
    }

    /// Removes the file: the application has the key now.
    pub(super) fn end(self) -> Result<()> {
        failpoint::pass("before the end of the rotation");
        durable::remove(&self.path)?;
        failpoint::pass("after the end of the rotation");
        Ok(())
    }
}

fn path_in(state: &Path) -> PathBuf {
    state.join(ROTATION)
}

/// The error for a rotation that did not end.
pub(super) fn under_way(path: &Path) -> Error {
    Error::refused(format!("a rotation is under way: {} holds its new key", path.display())).hint(ROTATION_NEXT)
}
