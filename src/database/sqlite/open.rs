//! Opening a database file that may be alive, left over from a crash, or made by somebody hostile.

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags, ffi};

use crate::ground::error::{FAULT, FULL, QUOTA};
use crate::ground::{Error, Kind, Result};

/// The length of a database file's header (<https://www.sqlite.org/fileformat2.html#the_database_header>).
pub(crate) const HEADER: usize = 100;
/// What every unencrypted database file begins with.
pub(crate) const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// The header's write and read version: 1 for a rollback journal, 2 for WAL.
pub(crate) const VERSION_AT: u64 = 18;

/// How much memory SQLite may take in this process.
const HEAP: u64 = 1 << 30;

/// A database file, open outside SQLite.
///
/// Closing any descriptor of a file drops every POSIX lock that this process has on it, SQLite's too, so this one is kept
/// at least as long as the connections are.
#[derive(Clone)]
pub(super) struct Peeked {
    pub(super) file: Arc<File>,
    pub(super) wal: bool,
}

/// Opens the file and reads what its header says; each thing that it may be instead of a database is its own error.
///
/// `held` answers the handle of the file with this device and inode, if there is one already.
pub(super) fn peek(path: &Path, held: impl FnOnce((u64, u64)) -> Option<Arc<File>>) -> Result<Peeked> {
    let shown = path.display();
    let meta = std::fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound if super::halfway::is_marked(path) => {
            Error::not_found(format!("{shown} is not there: a restore over it was killed"))
                .hint("`strongroom restore` puts the earlier database back before it does anything else.")
        }
        std::io::ErrorKind::NotFound => Error::not_found(format!("there is no database at {shown}"))
            .hint("Check [database] url or the path for a typing error."),
        std::io::ErrorKind::PermissionDenied => denied(path),
        _ => Error::io("look at", path, e),
    })?;
    regular(&meta, &shown.to_string())?;
    let file = match held((meta.dev(), meta.ino())) {
        Some(file) => file,
        None => Arc::new(File::open(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::PermissionDenied => denied(path),
            _ => Error::io("read", path, e),
        })?),
    };
    let mut header = [0; HEADER];
    let length = read_up_to(&file, &mut header).map_err(|e| Error::io("read", path, e))?;
    check_header(&header[..length], &shown.to_string())?;
    Ok(Peeked { file, wal: header[19] == 2 })
}

/// Refuses what is no regular file in a database's place ([`crate::ground::Kind::Usage`]).
pub(crate) fn regular(meta: &std::fs::Metadata, shown: &str) -> Result<()> {
    if meta.is_file() {
        return Ok(());
    }
    let is = if meta.is_dir() { "a folder" } else { "not a regular file" };
    Err(Error::usage(format!("{shown} is {is}, and no database")).hint("Name the database's own file."))
}

/// Whether these first bytes of a file are a database's header; `shown` names the file in the error.
pub(crate) fn check_header(header: &[u8], shown: &str) -> Result<()> {
    if header.is_empty() {
        return Err(Error::damaged(format!("{shown} is empty: it holds no database"))
            .hint("The application has not made its database yet, or the file was cut to nothing."));
    }
    if !header.starts_with(MAGIC) {
        let text = header.iter().all(|b| (b' '..=b'~').contains(b) || matches!(b, b'\n' | b'\r' | b'\t'));
        let error = Error::damaged(format!("{shown} is not an SQLite database"));
        return Err(error.hint(if text {
            "It begins as a text file does."
        } else {
            "It is of another kind, encrypted as a whole (SQLCipher), compressed, or overwritten."
        }));
    }
    if header.len() < HEADER {
        return Err(Error::damaged(format!("{shown} is cut off: it ends within the header of an SQLite database")));
    }
    Ok(())
}

fn read_up_to(file: &File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(read)
}

fn denied(path: &Path) -> Error {
    Error::denied(format!("may not read {}", path.display()))
        .hint("Run as the user that owns the database, or give this user the right to read it and its folder.")
}

/// The file with `suffix` put behind its name: `-wal`, `-shm`, `-journal`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// How the files of a database stood at one time; the same again later means that nobody wrote in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    identity: (u64, u64),
    length: u64,
    modified: (i64, i64),
    side_files: [bool; 2],
}

impl Stamp {
    pub(super) fn of(path: &Path) -> Result<Self> {
        let meta = std::fs::metadata(path).map_err(|e| Error::io("look at", path, e))?;
        Ok(Self {
            identity: (meta.dev(), meta.ino()),
            length: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            side_files: ["-wal", "-shm"].map(|suffix| beside(path, suffix).exists()),
        })
    }
}

/// How a live file was opened.
pub(super) enum Access {
    /// With SQLite's locks.
    Locked,
    /// Without locks or side files, because nobody has it open; right as long as the stamp stays as it was.
    Untouched(Stamp),
}

/// Opens a live file for reading, without leaving a trace where that can be avoided.
///
/// A WAL database that nobody has open would get `-wal` and `-shm` files from the mere reading, which in a read-only folder
/// fails: it is opened as immutable instead. A journal left by a crash must be rolled back before anything can be
/// read; with `mend` that is done, as the application would do it at its next start.
pub(super) fn open_live(path: &Path, peeked: &Peeked, busy: Duration, mend: bool) -> Result<(Connection, Access)> {
    let stamp = Stamp::of(path)?;
    if peeked.wal && stamp.side_files == [false, false] {
        let connection = open(path, Mode::Immutable, busy)?;
        read_begins(&connection, path)?;
        return Ok((connection, Access::Untouched(stamp)));
    }
    let connection = open(path, Mode::ReadOnly, busy)?;
    match first_read(&connection) {
        Ok(()) => Ok((connection, Access::Locked)),
        Err(e) if needs_writing(&e) => {
            drop(connection);
            let unclean =
                Error::refused(format!("{} was left by a crash and must be rolled back first", path.display()))
                    .hint("Start the application once, so that SQLite mends the file, and try again.")
                    .hint("The folder must be writable for that: the journal beside the file is played back.");
            if !mend {
                return Err(unclean.because(e));
            }
            let connection = open(path, Mode::Writable, busy).map_err(|_| unclean)?;
            read_begins(&connection, path)?;
            Ok((connection, Access::Locked))
        }
        Err(e) => Err(fault(path, e)),
    }
}

fn needs_writing(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map_or(0, |e| e.extended_code);
    let of_its_kind = [ffi::SQLITE_READONLY, ffi::SQLITE_CANTOPEN].contains(&(code & 0xff));
    // A read-only connection answers a plain CANTOPEN when there is a journal that it may not play back.
    of_its_kind && code != ffi::SQLITE_READONLY_DBMOVED
}

/// What a connection may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    ReadOnly,
    Immutable,
    Writable,
}

/// Opens a file that exists and takes every power away from it that reading does not need.
pub(crate) fn open(path: &Path, mode: Mode, busy: Duration) -> Result<Connection> {
    // The bundled SQLite takes every name for a URI that begins with `file:`; an absolute path never does.
    let absolute = std::path::absolute(path).map_err(|e| Error::io("find", path, e))?;
    let base = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let opened = match mode {
        Mode::ReadOnly => Connection::open_with_flags(&absolute, base | OpenFlags::SQLITE_OPEN_READ_ONLY),
        Mode::Writable => Connection::open_with_flags(&absolute, base | OpenFlags::SQLITE_OPEN_READ_WRITE),
        Mode::Immutable => Connection::open_with_flags(
            format!("file://{}?immutable=1", percent(absolute.as_os_str().as_bytes())),
            base | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI,
        ),
    };
    let connection = opened.map_err(|e| fault(path, e))?;
    harden(&connection, busy).map_err(|e| fault(path, e))?;
    if mode != Mode::Writable {
        connection.pragma_update(None, "query_only", true).map_err(|e| fault(path, e))?;
    }
    Ok(connection)
}

fn percent(path: &[u8]) -> String {
    use std::fmt::Write as _;
    path.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_') {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

/// Makes a connection proof against what the file's schema may hold (<https://www.sqlite.org/security.html>).
pub(crate) fn harden(connection: &Connection, busy: Duration) -> rusqlite::Result<()> {
    for (setting, value) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
    ] {
        connection.set_db_config(setting, value)?;
    }
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 0),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 4 << 20),
    ] {
        connection.set_limit(limit, value)?;
    }
    connection.busy_timeout(busy)?;
    // Sorting must not spill plaintext to /tmp, and a mapped file that somebody cuts would be a SIGBUS.
    connection.execute_batch("PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;")?;
    // A schema of a million views is read into memory whole.
    connection.execute_batch(&format!("PRAGMA hard_heap_limit = {HEAP}"))
}

fn first_read(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("SELECT count(*) FROM sqlite_schema", (), |_| Ok(()))
}

/// Reads for the first time, which is when SQLite finds out what the file is.
pub(crate) fn read_begins(connection: &Connection, path: &Path) -> Result<()> {
    first_read(connection).map_err(|e| fault(path, e))
}

/// What an error of SQLite's means to the person who waits.
pub(crate) fn fault(path: &Path, error: rusqlite::Error) -> Error {
    let shown = path.display();
    let code = error.sqlite_error().map_or(0, |e| e.extended_code);
    match code & 0xff {
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => locked(path).because(error),
        ffi::SQLITE_NOTADB => {
            Error::damaged(format!("{shown} is not an SQLite database, or it is encrypted")).because(error)
        }
        ffi::SQLITE_CORRUPT => Error::damaged(format!("{shown} is a damaged SQLite database"))
            .hint("`sqlite3 FILE .recover` saves what can be saved.")
            .because(error),
        ffi::SQLITE_NOMEM => Error::damaged(format!("{shown} takes more than {} MiB of memory to be read", HEAP >> 20))
            .hint("Its schema is larger than any application's.")
            .because(error),
        ffi::SQLITE_FULL => Error::failed(format!("no space left for {shown}")).because(error).hint(FULL),
        ffi::SQLITE_IOERR => {
            let writes = matches!(code, ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_FSYNC);
            let verb = if writes { "write" } else { "read" };
            let failed = Error::failed(format!("cannot {verb} {shown}")).because(error).hint(FAULT);
            if writes { failed.hint(QUOTA) } else { failed }
        }
        ffi::SQLITE_PERM | ffi::SQLITE_AUTH => Error::new(Kind::Denied, format!("may not read {shown}")).because(error),
        ffi::SQLITE_READONLY if code != ffi::SQLITE_READONLY_DBMOVED => may_not_write(path).because(error),
        ffi::SQLITE_CANTOPEN if !writable_folder(path) => may_not_write(path).because(error),
        ffi::SQLITE_READONLY | ffi::SQLITE_CANTOPEN => Error::failed(format!("cannot open {shown}")).because(error),
        _ => Error::failed(format!("cannot read {shown}")).because(error),
    }
}

fn may_not_write(path: &Path) -> Error {
    Error::denied(format!("may not write {}", path.display()))
        .hint("The file or its folder is read-only, and SQLite needs to write a file beside it: run as the user that owns the database.")
}

fn writable_folder(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Another program holds a lock and does not let go.
pub(super) fn locked(path: &Path) -> Error {
    Error::unreachable(format!("{} is locked by another program", path.display()))
        .hint("Try again; if it stays so, find who holds it with `fuser` or `lsof`.")
}
