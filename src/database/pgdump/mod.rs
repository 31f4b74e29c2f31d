//! Dumps of PostgreSQL that anybody made: custom format, directory, plain SQL. Read without a server, never executed.

mod archive;
mod beginning;
pub(crate) mod copy;
mod directory;
mod head;
mod lane;
pub(crate) mod listen;
mod script;
mod snapshot;
mod tables;
mod tar;
#[cfg(test)]
pub(crate) mod tests;
mod unpack;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use self::archive::{Archive, Block};
use self::copy::Fields;
use self::head::{Entry, Head};
use self::tables::{Name, Tables};
use self::unpack::{Packing, unpack};
use crate::ground::{Error, Kind, Result, durable};

pub(crate) use self::beginning::Beginning;
pub(crate) use self::directory::{Data, Directory, Known, Reader};
pub(crate) use self::head::MAGIC;
pub(crate) use self::lane::{Lane, Shares};
pub(crate) use self::snapshot::DumpSnapshot;

/// Opens a dump's bytes from the beginning, as often as needed.
pub(crate) type Opener<'a> = Box<dyn Fn() -> Result<Box<dyn Read + Send>> + Send + 'a>;

/// Where a dump is.
pub(crate) enum Place<'a> {
    /// Custom format.
    Custom(Opener<'a>),
    /// SQL.
    Script(Opener<'a>),
    /// A tar with `toc.dat`.
    Tar(Opener<'a>),
    /// A folder with `toc.dat`.
    Directory(PathBuf),
}

/// A block of so many bytes is worth a landmark; a shorter one is passed over in no time.
const LONG: u64 = 1 << 20;

/// More landmarks than this would make a proof long.
const MOST_BLOCKS: usize = 10_000;

/// Who wants to know what a dump holds.
pub(crate) trait Listener {
    /// Before a table's rows: whether they are wanted.
    fn rows_of(&mut self, tables: &Tables, table: &Name, columns: &[String]) -> Result<bool>;
    /// A row of a table that was wanted.
    fn row(&mut self, fields: &Fields) -> Result<()>;
}

/// Nobody wants to know more than how many there are.
pub(crate) struct Nobody;

impl Listener for Nobody {
    fn rows_of(&mut self, _: &Tables, _: &Name, _: &[String]) -> Result<bool> {
        Ok(false)
    }

    fn row(&mut self, _: &Fields) -> Result<()> {
        Ok(())
    }
}

/// What a whole dump holds.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    /// Its tables, by its own statements.
    pub(crate) tables: Tables,
    /// Rows of each table of which it holds rows, be it none.
    pub(crate) rows: BTreeMap<Name, u64>,
    /// Large objects.
    pub(crate) objects: u64,
    /// Blocks of [`LONG`] and more, as entries and where they are.
    pub(crate) blocks: Vec<(i64, Range<u64>)>,
    /// The server's version.
    pub(crate) server: String,
    /// `pg_dump`'s version.
    pub(crate) tool: String,
}

impl Outline {
    fn of(head: &Head, what: &str) -> Result<Self> {
        let mut tables = Tables::in_reading(what);
        for entry in &head.entries {
            if ["TABLE", "TABLE ATTACH", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE"].contains(&entry.kind.as_str()) {
                tables.learn(&entry.definition)?;
            }
        }
        Ok(Self { tables, server: head.server.clone(), tool: head.tool.clone(), ..Self::default() })
    }

    /// Rows per table as facts have them, tables of extensions left out.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.rows
            .iter()
            .filter(|(name, _)| self.tables.0.contains_key(*name))
            .map(|((schema, table), rows)| (format!("{schema}.{table}"), *rows))
            .collect()
    }
}

/// Reads a whole dump, whatever it is, to its end.
pub(crate) fn scan(place: &Place<'_>, what: &str, listener: &mut dyn Listener) -> Result<Outline> {
    match place {
        Place::Custom(open) => custom(open()?, what, listener),
        Place::Script(open) => script::scan(BufReader::with_capacity(256 << 10, open()?), what, listener),
        Place::Tar(open) => tar::scan(open()?, what, listener),
        Place::Directory(folder) => directory(folder, what, listener),
    }
}

/// Reads a dump in custom format to its end.
pub(crate) fn custom(input: impl Read, what: &str, listener: &mut dyn Listener) -> Result<Outline> {
    let mut archive = Archive::begin(input, what)?;
    let mut outline = Outline::of(&archive.head, what)?;
    loop {
        let begin = archive.place();
        let Some(block) = archive.next_block()? else { break };
        let (Block::Table(place) | Block::Objects(place)) = block;
        match block {
            Block::Objects(_) => outline.objects += archive.skip_objects()?,
            Block::Table(_) => {
                let entry = archive.head.entries[place].clone();
                if entry.kind == "TABLE DATA" {
                    let mut data = archive.data()?;
                    table_data(&entry, data.as_mut(), what, &mut outline, listener)?;
                } else {
                    archive.skip_chunks()?;
                }
            }
        }
        let end = archive.place();
        if end - begin >= LONG && outline.blocks.len() < MOST_BLOCKS {
            outline.blocks.push((archive.head.entries[place].id, begin..end));
        }
    }
    Ok(outline)
}

fn directory(folder: &Path, what: &str, listener: &mut dyn Listener) -> Result<Outline> {
    let open = |name: &str| -> Result<std::fs::File> {
        // Names come from the dump: they stay in its folder.
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(Error::damaged(format!("{what}: it names a file outside its folder")));
        }
        let path = folder.join(name);
        durable::open_regular(&path, false).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::damaged(format!("{what}: {name} is missing")),
            _ => Error::io("read", &path, e),
        })
    };
    let head = archive::contents(open("toc.dat")?, what)?;
    let mut outline = Outline::of(&head, what)?;
    for entry in head.entries.iter().filter(|e| e.data && e.kind == "TABLE DATA") {
        let packed =
            [("", None), (".gz", Some(Packing::Zlib)), (".zst", Some(Packing::Zstd)), (".lz4", Some(Packing::Lz4))];
        let found = packed.iter().find(|(end, _)| folder.join(format!("{}{end}", entry.file)).exists());
        let (end, packing) = found.ok_or_else(|| Error::damaged(format!("{what}: {} is missing", entry.file)))?;
        let file = BufReader::with_capacity(256 << 10, open(&format!("{}{end}", entry.file))?);
        let mut data: Box<dyn BufRead> = match packing {
            // In a directory these are files as gzip writes them.
            Some(Packing::Zlib) => {
                Box::new(BufReader::with_capacity(128 << 10, flate2::bufread::MultiGzDecoder::new(file)))
            }
            Some(packing) => unpack(file, *packing, what)?,
            None => Box::new(file),
        };
        table_data(entry, data.as_mut(), what, &mut outline, listener)?;
    }
    Ok(outline)
}

/// The rows of one table, and everything behind them.
fn table_data(
    entry: &Entry,
    mut data: &mut dyn BufRead,
    what: &str,
    outline: &mut Outline,
    listener: &mut dyn Listener,
) -> Result<()> {
    let (name, columns) = match tables::copied(&entry.copy) {
        Some(copied) => copied,
        // Made with --inserts.
        None if entry.copy.is_empty() => {
            let rows = script::statements(data, what, &mut outline.tables, listener)?;
            let name = (entry.schema.clone(), entry.tag.clone());
            outline.rows.entry(name).or_insert(0);
            for (name, count) in rows {
                *outline.rows.entry(name).or_insert(0) += count;
            }
            return Ok(());
        }
        None => return Err(Error::damaged(format!("{what}: a table's data has no COPY statement"))),
    };
    if (&name.0, &name.1) != (&entry.schema, &entry.tag) {
        return Err(Error::damaged(format!("{what}: the data of {} goes to another table", entry.tag.escape_debug())));
    }
    let count = copy_rows(&mut data, what, &outline.tables, &name, &columns, listener)?;
    if outline.rows.insert(name, count).is_some() {
        return Err(Error::damaged(format!("{what}: {} has data twice", entry.tag.escape_debug())));
    }
    // To the last byte, so that a compressed stream's own check is made.
    std::io::copy(&mut data, &mut std::io::sink()).map(drop).map_err(|e| unreadable(what, e))
}

/// Rows of a COPY, up to the line that ends them.
fn copy_rows(
    input: &mut impl BufRead,
    what: &str,
    tables: &Tables,
    name: &Name,
    columns: &[String],
    listener: &mut dyn Listener,
) -> Result<u64> {
    if !listener.rows_of(tables, name, columns)? {
        return copy::rows(input, what, None, true);
    }
    let mut fields = Fields::default();
    let mut read = |line: &[u8]| -> Result<()> {
        fields.read(line)?;
        if fields.len() != columns.len() {
            return Err(Error::damaged(format!("{what}: a row of {} has not its {} values", name.1, columns.len())));
        }
        listener.row(&fields)
    };
    copy::rows(input, what, Some(&mut read), true)
}

/// The error for a dump that cannot be read on.
fn unreadable(what: &str, error: std::io::Error) -> Error {
    if Error::travels_in(&error) {
        return Error::from_io(Kind::Failed, what.to_owned(), error);
    }
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::damaged(format!("{what} is cut off")).because(error),
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput | std::io::ErrorKind::Other => {
            Error::damaged(format!("{what} is damaged")).because(error)
        }
        _ => Error::failed(format!("cannot read {what}")).because(error),
    }
}
