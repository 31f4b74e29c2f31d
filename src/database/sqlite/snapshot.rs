//! An open database as a [`Snapshot`]: a copy, a look at the live one, or somebody's file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::open::{Stamp, fault};
use super::read::Reader;
use super::{MEMBER, facts};
use crate::appkey::credential::Credential;
use crate::config::profile::Profile;
use crate::database::{Dump, Facts, NamedObject, Snapshot, Suspect};
use crate::ground::progress::Progress;
use crate::ground::{Error, Result};

/// One moment of an SQLite database.
pub(crate) struct SqliteSnapshot {
    // Before `file`: a connection must be closed before any other handle of its file is.
    pub(crate) connection: Connection,
    pub(crate) file: Arc<File>,
    /// What messages call it.
    pub(crate) path: PathBuf,
    /// Nobody else can write to it: its bytes are the dump, and there is time to check them.
    pub(crate) private: bool,
    /// The source was in WAL mode.
    pub(crate) wal: bool,
    pub(crate) longest_lock: Duration,
    /// How the files must still stand, where no lock holds others off.
    pub(crate) stamp: Option<Stamp>,
}

impl SqliteSnapshot {
    fn read<T>(&self, read: impl FnOnce(&Reader<'_>) -> Result<T>) -> Result<T> {
        let path: &Path = &self.path;
        let answer = read(&Reader { connection: &self.connection, fault: &|e| fault(path, e) });
        if let Some(stamp) = &self.stamp
            && Stamp::of(path)? != *stamp
        {
            return Err(Error::unreachable(format!("another program opened {} while it was read", path.display()))
                .hint("Try again."));
        }
        answer
    }
}

impl Snapshot for SqliteSnapshot {
    fn credentials(
        &mut self,
        profile: &Profile,
        sample: Option<usize>,
        visit: &mut dyn FnMut(Credential) -> Result<()>,
    ) -> Result<u64> {
        self.read(|reader| reader.credentials(profile, sample, visit))
    }

    fn suspects(&mut self, profile: &Profile, looks_like: &dyn Fn(&[u8]) -> bool) -> Result<Vec<Suspect>> {
        self.read(|reader| reader.suspects(profile, looks_like))
    }

    fn named_objects(&mut self, profile: &Profile, visit: &mut dyn FnMut(NamedObject) -> Result<()>) -> Result<()> {
        self.read(|reader| reader.named_objects(profile, visit))
    }

    fn facts(&mut self, progress: &dyn Progress) -> Result<Facts> {
        self.read(|reader| {
            let mut facts = facts::gather(reader.connection, self.wal, self.private, progress);
            facts.bytes = self.file.metadata().map_err(|e| Error::io("look at", &self.path, e))?.len();
            facts.longest_lock_ms = u64::try_from(self.longest_lock.as_millis()).unwrap_or(u64::MAX);
            Ok(facts)
        })
    }

    fn dumps(&mut self) -> Result<Vec<Dump>> {
        if !self.private {
            return Err(Error::usage(format!("a look at {} is no backup of it", self.path.display())));
        }
        let length = self.file.metadata().map_err(|e| Error::io("look at", &self.path, e))?.len();
        let bytes = Box::new(FromFile { file: Arc::clone(&self.file), at: 0, length });
        Ok(vec![Dump { name: MEMBER.to_owned(), bytes }])
    }
}

/// Reads a file from its beginning, whatever others do with the handle.
pub(crate) struct FromFile {
    pub(crate) file: Arc<File>,
    pub(crate) at: u64,
    pub(crate) length: u64,
}

impl Read for FromFile {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.length - self.at).unwrap_or(usize::MAX).min(buffer.len());
        if left == 0 {
            return Ok(0);
        }
        match self.file.read_at(&mut buffer[..left], self.at)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.at += n as u64;
                Ok(n)
            }
        }
    }
}
