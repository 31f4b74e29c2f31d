//! Dumps and database files that anybody made: opened by their content, never by their name, and never executed.

mod listen;
mod script;
mod snapshot;
#[cfg(test)]
mod tests;
mod token;
mod value;

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Snapshot;
use super::pgdump::{self, DumpSnapshot, Opener, Place};
use super::sqlite::open::{self, HEADER, MAGIC, Mode, VERSION_AT};
use super::sqlite::snapshot::{FromFile, SqliteSnapshot};
use crate::ground::scratch::Scratch;
use crate::ground::{Error, Kind, Result};

/// How much of a file is looked at to know what it is.
const LOOK: usize = 4096;
/// The largest window of a zstd stream that is accepted, as a power of two: 8 MiB.
const WINDOW: u32 = 23;
/// A compressed database is at most so many times as large as its file; real ones, half empty, reach thirty times.
const MOST_UNPACKED: u64 = 250;
/// So much may be unpacked of any file, however small.
const ALWAYS_UNPACKED: u64 = 64 << 20;
/// `O_NONBLOCK`, for opening.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
/// How often free space is asked for while a stream is written.
const SPACE: u64 = 64 << 20;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// A dump's file, which can be read from its beginning as often as needed.
#[derive(Clone)]
struct Source {
    file: Arc<File>,
    length: u64,
    packing: Packing,
    what: String,
}

impl Source {
    fn of(file: Arc<File>, what: &str) -> Result<Self> {
        let length = file.metadata().map_err(|e| Error::failed(format!("cannot look at {what}")).because(e))?.len();
        let mut source = Self { file, length, packing: Packing::Plain, what: what.to_owned() };
        source.packing = match source.first_bytes()?[..] {
            [] => {
                return Err(
                    Error::damaged(format!("{what} is empty")).hint("Whatever wrote it failed. Take another copy.")
                );
            }
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
            _ => Packing::Plain,
        };
        Ok(source)
    }

    /// Its content from the beginning, unpacked.
    fn open(&self) -> Result<Box<dyn Read + Send>> {
        let file = FromFile { file: Arc::clone(&self.file), at: 0, length: self.length };
        Ok(match self.packing {
            Packing::Plain => Box::new(file),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(64 * 1024, file))),
            Packing::Zstd => {
                let failed = |e| token::unreadable(&self.what, e);
                let mut decoder = zstd::stream::read::Decoder::new(file).map_err(failed)?;
                decoder.window_log_max(WINDOW).map_err(failed)?;
                Box::new(decoder)
            }
        })
    }

    fn first_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(LOOK);
        let read = self.open()?.take(LOOK as u64).read_to_end(&mut bytes);
        // What is cut off shortly after its beginning can still be named, and fails when it is read.
        if bytes.is_empty() {
            read.map_err(|e| token::unreadable(&self.what, e))?;
        }
        Ok(bytes)
    }
}

/// What a file's first bytes say that it is.
enum Content {
    Sqlite,
    Sql,
    PgDump,
    PgSql,
    PgTar,
}

fn recognise(bytes: &[u8], what: &str) -> Result<Content> {
    let begins = |magic: &[u8]| bytes.starts_with(magic);
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]);
    if begins(MAGIC) {
        return Ok(Content::Sqlite);
    }
    if begins(pgdump::MAGIC) {
        return Ok(Content::PgDump);
    }
    if begins(b"toc.dat\0") {
        return Ok(Content::PgTar);
    }
    if ["-- PostgreSQL database", "\\restrict ", "SET statement_timeout", "pg_catalog.set_config("]
        .iter()
        .any(|word| head.contains(word))
    {
        return Ok(Content::PgSql);
    }
    if head.contains("-- MySQL dump") || head.contains("-- MariaDB dump") {
        return Err(script::foreign("MySQL").context(format!("cannot read {what}")));
    }
    if begins(b"age-encryption.org/") || begins(b"-----BEGIN AGE ENCRYPTED") {
        return Err(Error::sealed(format!("{what} is sealed with age"))
            .hint("Decrypt it with `age -d`, or give the bundle to `verify`."));
    }
    if bytes.contains(&0) || !head.bytes().any(|b| b.is_ascii_graphic()) {
        return Err(Error::damaged(format!("{what} is neither an SQLite database nor SQL"))
            .hint("It is of another kind, encrypted as a whole (SQLCipher), or overwritten."));
    }
    Ok(Content::Sql)
}

pub(super) fn open(path: &Path, scratch: &Scratch) -> Result<Box<dyn Snapshot>> {
    let what = path.display().to_string();
    // A pipe without a writer is not waited for.
    let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::not_found(format!("there is no {what}")),
        std::io::ErrorKind::PermissionDenied => Error::denied(format!("may not read {what}")),
        _ => Error::io("read", path, e),
    })?;
    let meta = file.metadata().map_err(|e| Error::io("look at", path, e))?;
    if meta.is_dir() && path.join("toc.dat").is_file() {
        return Ok(Box::new(DumpSnapshot::new(Place::Directory(path.to_owned()), &what)));
    }
    open::regular(&meta, &what)?;
    let source = Source::of(Arc::new(file), &what)?;
    match recognise(&source.first_bytes()?, &what)? {
        Content::Sql => Ok(Box::new(snapshot::SqlSnapshot::new(source, scratch.clone()))),
        content @ (Content::PgDump | Content::PgSql | Content::PgTar) => Ok(postgres(source, &content)),
        Content::Sqlite if source.packing == Packing::Plain => {
            let real = std::fs::canonicalize(path).map_err(|e| Error::io("find", path, e))?;
            let alone = ["-wal", "-journal"].iter().all(|suffix| !open::beside(&real, suffix).exists());
            if alone {
                whole(&source)?;
            }
            // The handle goes before SQLite locks the file: closing it later would drop the locks.
            drop(source);
            Ok(Box::new(super::sqlite::open_file(path)?))
        }
        Content::Sqlite => open_unpacked(source.open()?, Some(source.length), &what, scratch),
    }
}

/// A dump of PostgreSQL in one file.
fn postgres(source: Source, content: &Content) -> Box<dyn Snapshot> {
    let what = source.what.clone();
    let open: Opener<'static> = Box::new(move || source.open());
    let place = match content {
        Content::PgDump => Place::Custom(open),
        Content::PgTar => Place::Tar(open),
        _ => Place::Script(open),
    };
    Box::new(DumpSnapshot::new(place, &what))
}

/// Opens a dump that can be read from its beginning as often as needed, such as a bundle's member.
///
/// A dump of PostgreSQL is read on its way and lies nowhere; any other goes through [`open_stream`].
pub fn open_again<'a>(
    open: impl Fn() -> Result<Box<dyn Read + Send>> + Send + 'a,
    base_name: &str,
    scratch: &Scratch,
) -> Result<Box<dyn Snapshot + 'a>> {
    let mut first = vec![0; pgdump::MAGIC.len()];
    let short = open()?.read_exact(&mut first).is_err();
    if short || first != pgdump::MAGIC {
        return open_stream(open()?, base_name, scratch);
    }
    Ok(Box::new(DumpSnapshot::new(Place::Custom(Box::new(open)), base_name)))
}

/// Opens a dump that comes as a stream, such as a bundle's member, by way of an unlinked file in `scratch`.
///
/// `base_name` is for messages; what it is, is recognised by its content.
pub fn open_stream(bytes: Box<dyn Read + Send>, base_name: &str, scratch: &Scratch) -> Result<Box<dyn Snapshot>> {
    open_unpacked(bytes, None, base_name, scratch)
}

/// The same for what was compressed and had `packed` bytes.
fn open_unpacked(
    bytes: Box<dyn Read + Send>,
    packed: Option<u64>,
    base_name: &str,
    scratch: &Scratch,
) -> Result<Box<dyn Snapshot>> {
    let name = scratch.name("dump")?;
    let shown = name.path().to_owned();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&shown)
        .map_err(|e| Error::io("create", &shown, e))?;
    // SQLite opens the file by its name now and reads it later, when the name is gone and the bytes are there.
    let connection = open::open(&shown, Mode::ReadOnly, Duration::ZERO)?;
    name.unlink();
    let most = packed.map(|packed| packed.saturating_mul(MOST_UNPACKED).max(ALWAYS_UNPACKED));
    write_all(bytes, &file, most, base_name, &shown, scratch)?;
    let source = Source::of(Arc::new(file), base_name)?;
    match recognise(&source.first_bytes()?, base_name)? {
        Content::Sql => Ok(Box::new(snapshot::SqlSnapshot::new(source, scratch.clone()))),
        content @ (Content::PgDump | Content::PgSql | Content::PgTar) => Ok(postgres(source, &content)),
        Content::Sqlite if source.packing != Packing::Plain => {
            open_unpacked(source.open()?, Some(source.length), base_name, scratch)
        }
        Content::Sqlite => {
            let wal = whole(&source)?;
            source.file.write_all_at(&[1, 1], VERSION_AT).map_err(|e| Error::io("write", &shown, e))?;
            open::read_begins(&connection, Path::new(base_name))?;
            Ok(Box::new(SqliteSnapshot {
                connection,
                file: source.file,
                path: base_name.into(),
                private: true,
                wal,
                longest_lock: Duration::ZERO,
                stamp: None,
            }))
        }
    }
}

/// Writes a stream out: at most `most` bytes, and only while there is room for more than comes next.
fn write_all(
    mut bytes: Box<dyn Read + Send>,
    mut file: &File,
    most: Option<u64>,
    what: &str,
    shown: &Path,
    scratch: &Scratch,
) -> Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let (mut before_asking, mut written) = (0, 0_u64);
    loop {
        if before_asking == 0 {
            scratch.need(2 * SPACE)?;
            before_asking = SPACE;
        }
        let n = match bytes.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) if e.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Error>) => {
                return Err(Error::from_io(Kind::Failed, format!("cannot read {what}"), e));
            }
            Err(e) => return Err(token::unreadable(what, e)),
        };
        written += n as u64;
        if most.is_some_and(|most| written > most) {
            return Err(Error::damaged(format!(
                "{what} unpacks to more than {MOST_UNPACKED} times its size, as no database does"
            ))
            .hint("If it is really one, unpack it yourself where there is room, and give the unpacked file."));
        }
        file.write_all(&buffer[..n]).map_err(|e| Error::io("write", shown, e))?;
        before_asking = before_asking.saturating_sub(n as u64);
    }
}

/// Whether a database file that stands alone is as long as its header says; answers whether it was in WAL mode.
///
/// The page count is valid when the change counter (offset 24) equals the version-valid-for number (92).
fn whole(source: &Source) -> Result<bool> {
    let bytes = source.first_bytes()?;
    let header = &bytes[..bytes.len().min(HEADER)];
    open::check_header(header, &source.what)?;
    let number = |at: usize| header[at..at + 4].iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
    let page = match number(16) >> 16 {
        1 => 65_536,
        n => n,
    };
    let length = page * number(28);
    if number(24) == number(92) && source.length < length {
        return Err(Error::damaged(format!(
            "{} is cut off: {} of {length} bytes are there",
            source.what, source.length
        ))
        .hint("Take another copy; one of a live database is made with `strongroom backup` or `VACUUM INTO`."));
    }
    Ok(header[19] == 2)
}
