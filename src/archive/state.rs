//! What this host remembers of the storage that it backed up, so that a write-only host works incrementally.
//!
//! One transaction a backup: it sees the last committed state and takes the changes of this run. [`State::pend`] commits them
//! with what takes them back, before the ledger entry, and [`State::commit`] makes them the state, after it. A run that is
//! killed between both is settled by the next one ([`State::settle`]): by then the ledger says whether the bundle exists.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};

use crate::ground::names::{AppName, BundleId, Sha256Hex, Uuid};
use crate::ground::{Error, Result, durable, failpoint, sqlite};

/// Its name in the state folder.
pub const NAME: &str = "state.sqlite";

/// The layout of the tables; another one is begun anew.
const LAYOUT: i64 = 2;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, kind INTEGER NOT NULL, size INTEGER NOT NULL,
    mtime INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL, mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL,
    target BLOB, blake3 BLOB, part TEXT, frame INTEGER, skip INTEGER, racy INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (
    name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, stored INTEGER NOT NULL, content INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segments (
    first BLOB PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, lines INTEGER NOT NULL,
    files INTEGER NOT NULL, bytes INTEGER NOT NULL, blake3 TEXT NOT NULL, stored INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS touched (path BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files_before AS SELECT * FROM files WHERE 0;
CREATE TABLE IF NOT EXISTS parts_before AS SELECT * FROM parts WHERE 0;
CREATE TABLE IF NOT EXISTS segments_before AS SELECT * FROM segments WHERE 0;
";

/// Forgets what takes a run's changes back.
const SETTLED: &str = "
DELETE FROM touched; DELETE FROM files_before; DELETE FROM parts_before; DELETE FROM segments_before;
DELETE FROM facts WHERE name = 'pending';
";

/// Takes the changes of a run back.
const TAKE_BACK: &str = "
DELETE FROM files WHERE path IN (SELECT path FROM touched);
INSERT INTO files SELECT * FROM files_before;
DELETE FROM parts; INSERT INTO parts SELECT * FROM parts_before;
DELETE FROM segments; INSERT INTO segments SELECT * FROM segments_before;
";

/// The state database of one host, for one application in one archive.
pub struct State {
    path: PathBuf,
    connection: Connection,
    base: Option<BundleId>,
    /// The file was there and could not be used.
    unusable: bool,
}

impl State {
    /// Opens the state, or begins it; what belongs to another archive or is no state is begun anew.
    ///
    /// A disk that is full or fails, or a lock, is an error: what is remembered would be lost for nothing.
    pub fn open(path: &Path, archive: &Uuid, app: &AppName) -> Result<Self> {
        let owner = format!("{archive}/{app}");
        let existed = path.exists();
        let opened = match Self::try_open(path, &owner) {
            Err(e) if existed && !sqlite::is_spoilt(&e) => return Err(failed(path, &e)),
            opened => opened,
        };
        let (connection, unusable) = if let Ok(Some(connection)) = opened {
            (connection, false)
        } else {
            // Beside it lies what SQLite keeps of a transaction that was killed; it goes with the file.
            for suffix in ["", "-journal", "-wal", "-shm"] {
                let mut name = path.as_os_str().to_owned();
                name.push(suffix);
                let _ = std::fs::remove_file(PathBuf::from(name));
            }
            durable::write_file(path, b"", 0o600, durable::Existing::Replace)?;
            let connection = Self::try_open(path, &owner)
                .map_err(|e| failed(path, &e))?
                .ok_or_else(|| Error::failed(format!("cannot begin {}", path.display())))?;
            (connection, existed)
        };
        let base: Option<String> = connection
            .query_row("SELECT value FROM facts WHERE name = 'base'", [], |row| row.get(0))
            .optional()
            .map_err(|e| failed(path, &e))?;
        let base = base.and_then(|id| id.parse().ok());
        connection.execute_batch("BEGIN IMMEDIATE").map_err(|e| failed(path, &e))?;
        Ok(Self { path: path.to_owned(), connection, base, unusable })
    }

    /// Opens and checks; `None` when it is somebody else's.
    fn try_open(path: &Path, owner: &str) -> rusqlite::Result<Option<Connection>> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.execute_batch(
            "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL; PRAGMA cache_size = -8192; PRAGMA temp_store = FILE;",
        )?;
        let layout: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let empty: bool = connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?;
        if empty {
            connection.execute_batch("BEGIN")?;
            connection.execute_batch(TABLES)?;
            connection.pragma_update(None, "user_version", LAYOUT)?;
            connection.execute("INSERT INTO facts VALUES ('owner', ?1)", [owner])?;
            failpoint::pass("before the commit of a new state");
            connection.execute_batch("COMMIT")?;
            failpoint::pass("after the commit of a new state");
            return Ok(Some(connection));
        }
        if layout != LAYOUT {
            return Ok(None);
        }
        let found: String =
            connection.query_row("SELECT value FROM facts WHERE name = 'owner'", [], |row| row.get(0))?;
        Ok((found == owner).then_some(connection))
    }

    /// The bundle that the state is of.
    pub fn base(&self) -> Option<&BundleId> {
        self.base.as_ref()
    }

    /// Settles what a run left that was killed around its ledger entry, and begins to keep what takes this run's changes back.
    ///
    /// `newest` is the newest bundle with storage that the ledger names. All of it is within this run's transaction.
    pub fn settle(&mut self, newest: Option<&BundleId>) -> Result<()> {
        let pending: Option<String> = self
            .connection
            .query_row("SELECT value FROM facts WHERE name = 'pending'", [], |row| row.get(0))
            .optional()
            .map_err(|e| self.failed(&e))?;
        match pending.and_then(|id| id.parse::<BundleId>().ok()) {
            Some(pending) if newest == Some(&pending) => self.base = Some(pending),
            Some(_) => self.connection.execute_batch(TAKE_BACK).map_err(|e| self.failed(&e))?,
            None => {}
        }
        self.connection
            .execute_batch(SETTLED)
            .and_then(|()| {
                self.connection.execute_batch(
                    "INSERT INTO parts_before SELECT * FROM parts; INSERT INTO segments_before SELECT * FROM segments;",
                )
            })
            .map_err(|e| self.failed(&e))
    }

    /// Whether a file was there that could not be used.
    pub fn was_unusable(&self) -> bool {
        self.unusable
    }

    /// Forgets everything, within this run's transaction.
    pub fn forget(&mut self) -> Result<()> {
        self.base = None;
        self.connection
            .execute_batch(
                "DELETE FROM files; DELETE FROM parts; DELETE FROM segments;
                 DELETE FROM parts_before; DELETE FROM segments_before; DELETE FROM facts WHERE name = 'base';",
            )
            .map_err(|e| self.failed(&e))
    }

    /// The connection, for the one who stores.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Turns an error of the database into one that names it.
    pub fn failed(&self, error: &rusqlite::Error) -> Error {
        failed(&self.path, error)
    }

    /// Number and digest of the newest ledger entry that this host has seen.
    pub fn newest_entry(&self) -> Result<Option<(u64, Sha256Hex)>> {
        let text: Option<String> = self
            .connection
            .query_row("SELECT value FROM facts WHERE name = 'newest'", [], |row| row.get(0))
            .optional()
            .map_err(|e| self.failed(&e))?;
        Ok(text.as_deref().and_then(read_entry))
    }

    /// The same of a state that somebody else may be using; nothing where there is none that can be read now.
    ///
    /// A disk that fails is an error: what it holds is not known to be nothing.
    pub fn glance(path: &Path, archive: &Uuid, app: &AppName) -> Result<Option<(u64, Sha256Hex)>> {
        // SQLite calls a read error in the middle of a statement damage of the file.
        let lost = [ErrorCode::SystemIoFailure, ErrorCode::DatabaseCorrupt];
        match Self::seen(path, archive, app) {
            Err(error) if error.sqlite_error_code().is_some_and(|code| lost.contains(&code)) => Err(failed(
                path, &error,
            )
            .hint("What this host has seen of the ledger is not compared with --archive in the place of --config.")),
            seen => Ok(seen.unwrap_or_default()),
        }
    }

    /// The same for whoever must not go on without it: a state that cannot be read is an error, and nothing is changed in it.
    pub fn recall(path: &Path, archive: &Uuid, app: &AppName) -> Result<Option<(u64, Sha256Hex)>> {
        if !path.try_exists().map_err(|e| Error::io("open", path, e))? {
            return Ok(None);
        }
        Self::seen(path, archive, app).map_err(|e| failed(path, &e))
    }

    fn seen(path: &Path, archive: &Uuid, app: &AppName) -> rusqlite::Result<Option<(u64, Sha256Hex)>> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let fact = |name: &str| -> rusqlite::Result<Option<String>> {
            connection.query_row("SELECT value FROM facts WHERE name = ?1", [name], |row| row.get(0)).optional()
        };
        let ours = fact("owner")? == Some(format!("{archive}/{app}"));
        Ok(if ours { fact("newest")?.as_deref().and_then(read_entry) } else { None })
    }

    /// Remembers the end of the ledger, lasting at once: an archive that loses it is noticed by the next run.
    pub fn remember_entry(&self, seq: u64, digest: &Sha256Hex) -> Result<()> {
        failpoint::pass("before the commit of the ledger's end");
        self.connection
            .execute("INSERT OR REPLACE INTO facts VALUES ('newest', ?1)", params![format!("{seq} {digest}")])
            .and_then(|_| self.connection.execute_batch("COMMIT; BEGIN IMMEDIATE"))
            .map_err(|e| self.failed(&e))?;
        failpoint::pass("after the commit of the ledger's end");
        Ok(())
    }

    /// Commits this run's changes, and what takes them back, before the ledger names the bundle.
    pub fn pend(&self, bundle: &BundleId) -> Result<()> {
        failpoint::pass("before the commit of what is pending");
        self.connection
            .execute("INSERT OR REPLACE INTO facts VALUES ('pending', ?1)", params![bundle.as_str()])
            .and_then(|_| self.connection.execute_batch("COMMIT; BEGIN IMMEDIATE"))
            .map_err(|e| self.failed(&e))?;
        failpoint::pass("after the commit of what is pending");
        Ok(())
    }

    /// Makes this run's changes the state of a bundle that the ledger names.
    pub fn commit(&mut self, bundle: &BundleId) -> Result<()> {
        failpoint::pass("before the commit of the state");
        self.connection
            .execute("INSERT OR REPLACE INTO facts VALUES ('base', ?1)", params![bundle.as_str()])
            .and_then(|_| self.connection.execute_batch(SETTLED))
            .and_then(|()| self.connection.execute_batch("COMMIT; BEGIN IMMEDIATE"))
            .map_err(|e| self.failed(&e))?;
        self.base = Some(bundle.clone());
        failpoint::pass("after the commit of the state");
        Ok(())
    }
}

fn read_entry(text: &str) -> Option<(u64, Sha256Hex)> {
    let (seq, digest) = text.split_once(' ')?;
    Some((seq.parse().ok()?, digest.parse().ok()?))
}

fn failed(path: &Path, error: &rusqlite::Error) -> Error {
    let removing = "It can be removed: the next backup then stores every file again.";
    sqlite::failed("the state", path, error, removing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (Uuid, AppName, BundleId) {
        (
            "11111111-2222-4333-8444-555555555555".parse().expect("a uuid"),
            "app".parse().expect("a name"),
            "20261123T020000Z-1a2b3c4d".parse().expect("an id"),
        )
    }

    #[test]
    fn only_a_commit_changes_the_state() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.sqlite");
        let (archive, app, id) = names();
        let mut state = State::open(&path, &archive, &app).expect("begun");
        state.connection().execute("INSERT INTO parts VALUES ('a', 'b', 1, 1)", []).expect("written");
        drop(state);
        state = State::open(&path, &archive, &app).expect("opened");
        let count = |s: &State| -> i64 {
            s.connection().query_row("SELECT count(*) FROM parts", [], |row| row.get(0)).expect("counted")
        };
        assert_eq!((count(&state), state.base()), (0, None));
        state.connection().execute("INSERT INTO parts VALUES ('a', 'b', 1, 1)", []).expect("written");
        state.commit(&id).expect("committed");
        drop(state);
        let state = State::open(&path, &archive, &app).expect("opened");
        assert_eq!((count(&state), state.base()), (1, Some(&id)));
        assert!(!state.was_unusable());
    }

    #[test]
    fn what_was_pending_is_taken_over_or_taken_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.sqlite");
        let (archive, app, first) = names();
        let second: BundleId = "20261124T020000Z-1a2b3c4d".parse().expect("an id");
        let open = || State::open(&path, &archive, &app).expect("opened");
        let names = |s: &State| -> String {
            s.connection().query_row("SELECT group_concat(name) FROM parts", [], |row| row.get(0)).expect("read")
        };
        let mut state = open();
        state.settle(None).expect("settled");
        state.connection().execute("INSERT INTO parts VALUES ('a', 'x', 1, 1)", []).expect("written");
        state.commit(&first).expect("committed");
        state.settle(Some(&first)).expect("settled");
        state.connection().execute("INSERT INTO parts VALUES ('b', 'x', 1, 1)", []).expect("written");
        state.pend(&second).expect("pending");
        drop(state);
        let mut state = open();
        assert_eq!((names(&state).as_str(), state.base()), ("a,b", Some(&first)));
        state.settle(Some(&second)).expect("settled");
        assert_eq!((names(&state).as_str(), state.base()), ("a,b", Some(&second)), "the ledger names it");
        drop(state);
        let mut state = open();
        state.settle(Some(&first)).expect("settled");
        assert_eq!((names(&state).as_str(), state.base()), ("a", Some(&first)), "the ledger does not");
    }

    #[test]
    fn a_state_of_another_archive_or_a_damaged_one_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.sqlite");
        let (archive, app, id) = names();
        State::open(&path, &archive, &app).expect("begun").commit(&id).expect("committed");
        let other: Uuid = "21111111-2222-4333-8444-555555555555".parse().expect("a uuid");
        assert_eq!(State::open(&path, &other, &app).expect("begun anew").base(), None);
        std::fs::write(&path, vec![7; 5000]).expect("damaged");
        let state = State::open(&path, &archive, &app).expect("begun anew");
        assert!(state.was_unusable() && state.base().is_none());
    }
}
