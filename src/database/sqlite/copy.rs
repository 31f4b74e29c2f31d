//! A consistent copy of a database that others write to, by SQLite's backup interface.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, ffi};

use super::SqliteOptions;
use super::open::{self, VERSION_AT, fault, locked};
use super::read::unsigned;
use crate::ground::progress::{Progress, Unit};
use crate::ground::scratch::Scratch;
use crate::ground::{Error, Result, interrupt};

/// How long one step may keep writers out.
const STEP: Duration = Duration::from_millis(40);
/// How often a lock is asked for: a busy writer leaves gaps of about a millisecond.
const POLL: Duration = Duration::from_millis(1);
/// How often writers may make the copy begin again before they are kept out.
const RESTARTS: u32 = 3;
/// The most pages of one step, so that a step's time stays near what was measured.
const MOST_PAGES: i32 = 65_536;

/// A copy without a name, gone with the last handle.
pub(super) struct Copied {
    /// The copy, open for reading.
    pub(super) connection: Connection,
    /// Its bytes.
    pub(super) file: Arc<File>,
    /// The longest time that writers had to wait.
    pub(super) longest_lock: Duration,
}

/// Copies the whole database into `scratch`.
///
/// A source in WAL mode is read in one transaction, which keeps nobody out. One with a rollback journal is read in steps of
/// about 40 ms; when writers have made it begin again three times, they are kept out for at most `max_lock`.
pub(super) fn copy(
    source: &Connection,
    wal: bool,
    path: &Path,
    scratch: &Scratch,
    options: &SqliteOptions,
    progress: &dyn Progress,
) -> Result<Copied> {
    let name = scratch.name("database")?;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(name.path())
        .map_err(|e| Error::io("create", name.path(), e))?;
    let shown = name.path().to_owned();
    let mut target =
        Connection::open_with_flags(&shown, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(|e| fault(&shown, e))?;
    // Opened now, while there is a name to open, and read only when the copy is whole.
    let connection = open::open(&shown, open::Mode::ReadOnly, Duration::ZERO)?;
    name.unlink();
    // No journal and no syncing: what a crash leaves of this file has no name.
    target
        .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;")
        .map_err(|e| fault(&shown, e))?;
    let into = |e| fault(&shown, e).hint(scratch.elsewhere());
    let longest_lock =
        Copying { source, wal, path, into: &into, options, progress, longest: Duration::ZERO }.run(&mut target)?;
    target.close().map_err(|(_, e)| into(e))?;
    // The pages were copied with the source's marks; this file has no log beside it and must not ask for one.
    file.write_all_at(&[1, 1], VERSION_AT).map_err(|e| Error::io("write", &shown, e))?;
    open::read_begins(&connection, path)?;
    Ok(Copied { connection, file: Arc::new(file), longest_lock })
}

/// Whether an error comes from writing, which is done to the copy alone.
fn writes(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map_or(0, |e| e.extended_code);
    matches!(code, ffi::SQLITE_FULL | ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_TRUNCATE)
}

struct Copying<'a> {
    source: &'a Connection,
    wal: bool,
    path: &'a Path,
    /// An error of the copy, not of the source.
    into: &'a dyn Fn(rusqlite::Error) -> Error,
    options: &'a SqliteOptions,
    progress: &'a dyn Progress,
    longest: Duration,
}

impl Copying<'_> {
    fn run(mut self, target: &mut Connection) -> Result<Duration> {
        let page: u64 =
            self.source.query_row("PRAGMA page_size", (), |row| unsigned(row, 0)).map_err(|e| self.fault(e))?;
        let pages: u64 =
            self.source.query_row("PRAGMA page_count", (), |row| unsigned(row, 0)).map_err(|e| self.fault(e))?;
        self.progress.stage("copying the database", Some(page * pages), Unit::Bytes);
        if self.wal {
            self.begin()?;
        }
        // From here on the waiting is done here, so that a step's time is the time of its lock.
        self.source.busy_timeout(Duration::ZERO).map_err(|e| self.fault(e))?;
        let backup = Backup::new(self.source, target).map_err(|e| self.fault(e))?;
        let (mut step, mut restarts, mut done_before, mut shown) = (256, 0, 0, 0);
        let mut held: Option<Instant> = None;
        let mut waiting: Option<Instant> = None;
        let target_time = STEP.min(self.options.max_lock / 4);
        loop {
            interrupt::check()?;
            let begun = Instant::now();
            let result = backup.step(step).map_err(|e| if writes(&e) { (self.into)(e) } else { self.fault(e) })?;
            let took = begun.elapsed();
            match result {
                StepResult::Busy | StepResult::Locked => {
                    if waiting.get_or_insert(begun).elapsed() > self.options.busy {
                        return Err(locked(self.path));
                    }
                    std::thread::sleep(POLL);
                    continue;
                }
                StepResult::Done => {
                    self.lasted(held.map_or(took, |since| since.elapsed()));
                    break;
                }
                _ => waiting = None,
            }
            let now = backup.progress();
            let done = now.pagecount - now.remaining;
            if u64::try_from(done).unwrap_or(0) > shown {
                self.progress.advance((u64::try_from(done).unwrap_or(0) - shown) * page);
                shown = u64::try_from(done).unwrap_or(0);
            }
            if let Some(since) = held {
                if since.elapsed() > self.options.max_lock {
                    return Err(self.too_long(now.pagecount, done));
                }
            } else if !self.wal {
                self.lasted(took);
                // Whoever was kept out gets its turn, half of the time.
                std::thread::sleep(took.clamp(Duration::from_millis(1), STEP));
                restarts += u32::from(done <= done_before);
                if restarts > RESTARTS {
                    self.begin()?;
                    held = Some(Instant::now());
                }
            }
            done_before = done;
            step = if took < target_time / 2 { (step * 2).min(MOST_PAGES) } else { step };
            step = if took > target_time { (step / 2).max(16) } else { step };
        }
        drop(backup);
        if self.wal || held.is_some() {
            self.source.execute_batch("COMMIT").map_err(|e| self.fault(e))?;
        }
        Ok(self.longest)
    }

    /// Begins a read transaction: from here on the source stays as it is for this connection.
    fn begin(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.source.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1;") {
                Ok(()) => return Ok(()),
                Err(e) => {
                    if !self.source.is_autocommit() {
                        let _ = self.source.execute_batch("ROLLBACK");
                    }
                    let error = self.fault(e);
                    if error.kind() != crate::ground::Kind::Unreachable || begun.elapsed() > self.options.busy {
                        return Err(error);
                    }
                    std::thread::sleep(POLL);
                }
            }
        }
    }

    fn lasted(&mut self, lock: Duration) {
        if !self.wal {
            self.longest = self.longest.max(lock);
        }
    }

    fn fault(&self, error: rusqlite::Error) -> Error {
        fault(self.path, error)
    }

    fn too_long(&self, pages: i32, done: i32) -> Error {
        Error::failed(format!(
            "{} is written to all the time, and copying it would keep writers out for longer than {} s ({done} of {pages} pages)",
            self.path.display(),
            self.options.max_lock.as_secs_f32()
        ))
        .hint("Raise [database] max_lock_seconds, back up at a quieter time, or set `PRAGMA journal_mode = WAL` once: then nobody waits.")
    }
}
