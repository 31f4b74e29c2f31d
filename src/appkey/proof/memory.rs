//! What was proved before, so that a nightly run decrypts only what is new.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};

use crate::ground::names::Fingerprint;
use crate::ground::{Error, Result, durable, failpoint, sqlite};

/// How long what is remembered is believed before everything is proved again, in seconds.
const WEEK: i64 = 7 * 24 * 3600;

/// Proved ciphertexts, by SHA-256(fingerprint ‖ ciphertext), in a file that only its owner can reach.
///
/// It says nothing about plaintext or key, and losing it costs one full proof. What is remembered becomes lasting with
/// [`Memory::commit`] only, after the bundle that it belongs to.
pub struct Memory {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl Memory {
    /// Opens the file, or makes it; one that is damaged is begun anew, and a disk that is full or fails is an error.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            durable::write_file(path, b"", 0o600, durable::Existing::Keep)?;
        }
        let opened = match Self::prepare(path) {
            Err(e) if sqlite::is_spoilt(&e) => {
                durable::write_file(path, b"", 0o600, durable::Existing::Replace)?;
                Self::prepare(path)
            }
            opened => opened,
        };
        let opened = opened.map_err(|e| failed(path, &e))?;
        Ok(Self { path: path.to_owned(), connection: Mutex::new(opened) })
    }

    /// One that ends with this run: what it has decrypted, it knows when it meets the same bytes again.
    pub fn of_this_run() -> Result<Self> {
        let path = PathBuf::from(":memory:");
        let connection = Self::prepare(&path).map_err(|e| failed(&path, &e))?;
        Ok(Self { path, connection: Mutex::new(connection) })
    }

    fn failed(&self, error: &rusqlite::Error) -> Error {
        failed(&self.path, error)
    }

    fn prepare(path: &Path) -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.execute_batch(
            "PRAGMA journal_mode = DELETE;
             PRAGMA synchronous = FULL;
             BEGIN;
             CREATE TABLE IF NOT EXISTS proved (digest BLOB PRIMARY KEY, seen INTEGER NOT NULL) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);",
        )?;
        failpoint::pass("before the commit of the memory's tables");
        connection.execute_batch("COMMIT; BEGIN IMMEDIATE;")?;
        failpoint::pass("after the commit of the memory's tables");
        Ok(connection)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this value was proved before; it stays remembered then.
    pub(super) fn knows(&self, fingerprint: &Fingerprint, ciphertext: &[u8]) -> Result<bool> {
        let changed = self
            .connection()
            .prepare_cached("UPDATE proved SET seen = 1 WHERE digest = ?1")
            .and_then(|mut s| s.execute(params![digest(fingerprint, ciphertext)]))
            .map_err(|e| self.failed(&e))?;
        Ok(changed == 1)
    }

    /// Remembers a proved value.
    pub(super) fn remember(&self, fingerprint: &Fingerprint, ciphertext: &[u8]) -> Result<()> {
        self.connection()
            .prepare_cached("INSERT OR REPLACE INTO proved (digest, seen) VALUES (?1, 1)")
            .and_then(|mut s| s.execute(params![digest(fingerprint, ciphertext)]))
            .map(drop)
            .map_err(|e| self.failed(&e))
    }

    /// Whether it is time to prove everything again.
    pub fn full_due(&self, now: Timestamp) -> Result<bool> {
        let last: Option<i64> = self
            .connection()
            .query_row("SELECT value FROM facts WHERE name = 'last full proof'", [], |row| row.get(0))
            .optional()
            .map_err(|e| self.failed(&e))?;
        // A time in the future is a clock that jumped: better once too often.
        Ok(last.is_none_or(|last| !(0..WEEK).contains(&(now.as_second() - last))))
    }

    /// Makes lasting what this run proved; values that it did not meet are forgotten. `full`: everything was decrypted.
    pub fn commit(&self, full: Option<Timestamp>) -> Result<()> {
        let connection = self.connection();
        failpoint::pass("before the commit of what was proved");
        let write = || -> rusqlite::Result<()> {
            connection.execute("DELETE FROM proved WHERE seen = 0", [])?;
            connection.execute("UPDATE proved SET seen = 0", [])?;
            if let Some(now) = full {
                connection.execute(
                    "INSERT OR REPLACE INTO facts (name, value) VALUES ('last full proof', ?1)",
                    [now.as_second()],
                )?;
            }
            connection.execute_batch("COMMIT; BEGIN IMMEDIATE")
        };
        write().map_err(|e| self.failed(&e))?;
        failpoint::pass("after the commit of what was proved");
        Ok(())
    }
}

fn digest(fingerprint: &Fingerprint, ciphertext: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(fingerprint.as_str());
    hash.update(ciphertext);
    hash.finalize().into()
}

fn failed(path: &Path, error: &rusqlite::Error) -> Error {
    let removing = "It can be removed: the next backup then proves every credential again.";
    sqlite::failed("the memory of earlier proofs", path, error, removing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Fingerprint {
        Fingerprint::from_bytes(&[1; 16])
    }

    #[test]
    fn only_what_was_committed_is_remembered() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("proved.sqlite");
        let memory = Memory::open(&path).expect("opened");
        memory.remember(&name(), b"a").expect("remembered");
        drop(memory);
        let memory = Memory::open(&path).expect("opened");
        assert!(!memory.knows(&name(), b"a").expect("asked"));
        memory.remember(&name(), b"a").expect("remembered");
        memory.commit(None).expect("committed");
        drop(memory);
        let memory = Memory::open(&path).expect("opened");
        assert!(memory.knows(&name(), b"a").expect("asked"));
        assert!(!memory.knows(&name(), b"b").expect("asked"));
        assert!(!memory.knows(&Fingerprint::from_bytes(&[2; 16]), b"a").expect("asked"));
    }

    #[test]
    fn what_a_run_remembers_for_itself_is_nobody_elses() {
        let (memory, other) = (Memory::of_this_run().expect("begun"), Memory::of_this_run().expect("begun"));
        memory.remember(&name(), b"a").expect("remembered");
        assert!(memory.knows(&name(), b"a").expect("asked") && !memory.knows(&name(), b"b").expect("asked"));
        assert!(!other.knows(&name(), b"a").expect("asked"));
    }

    #[test]
    fn a_value_that_is_gone_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Memory::open(&folder.path().join("m")).expect("opened");
        memory.remember(&name(), b"a").expect("remembered");
        memory.commit(None).expect("committed");
        memory.remember(&name(), b"b").expect("remembered");
        memory.commit(None).expect("committed");
        assert!(!memory.knows(&name(), b"a").expect("asked"));
    }

    #[test]
    fn a_full_proof_is_due_weekly_and_after_a_clock_jump() {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Memory::open(&folder.path().join("m")).expect("opened");
        let now: Timestamp = "2026-11-23T02:00:00Z".parse().expect("a time");
        let later = |seconds: i64| Timestamp::from_second(now.as_second() + seconds).expect("a time");
        assert!(memory.full_due(now).expect("asked"));
        memory.commit(Some(now)).expect("committed");
        assert!(!memory.full_due(later(WEEK - 1)).expect("asked"));
        assert!(memory.full_due(later(WEEK)).expect("asked"));
        assert!(memory.full_due(later(-10)).expect("asked"));
    }

    #[test]
    fn a_damaged_file_costs_one_full_proof() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m");
        std::fs::write(&path, b"this is no database, and it is longer than a header").expect("written");
        assert!(Memory::open(&path).expect("begun anew").full_due(crate::ground::clock::now()).expect("asked"));
    }
}
