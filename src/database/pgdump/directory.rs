//! A dump in custom format as if it were one in directory format: its table of contents, and its data entry by entry.
//!
//! Whoever restores from a directory opens a file for each entry with data, in an order of his own. Readers here go forward in
//! the dump, tell each other where blocks begin, and go back to a block that one of them has passed.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::archive::{Archive, Block};
use super::head::Entry;
use super::lane::ROWS;
use super::tables::Name;
use super::{Beginning, unreadable};
use crate::database::Places;
use crate::ground::{Error, Result};

/// Where the header says what format it is, and how the data is compressed.
const FORMAT_AT: usize = 10;
/// The format of a directory's table of contents: it has that of a tar.
const DIRECTORY: u8 = 3;

/// One entry's data, as a file of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Data {
    /// The file's name: a number and an ending, whatever the dump holds.
    pub(crate) file: String,
    /// Which entry it is.
    pub(super) place: usize,
}

/// What a directory would hold.
pub(crate) struct Directory {
    /// `toc.dat`.
    pub(crate) contents: Vec<u8>,
    /// The other files, as they will be asked for if everything else is equal.
    pub(crate) data: Vec<Data>,
}

impl Directory {
    /// The directory of a dump; `None` when it holds data that is no table's.
    ///
    /// `pg_restore` begins with the largest files. What it is given here has no size, so that it takes entries by their numbers:
    /// those of the tables' data are dealt out again, the largest first, then as they stand in the dump.
    pub(crate) fn of(dump: &Beginning, sizes: &BTreeMap<Name, u64>) -> Option<Self> {
        let entries = &dump.contents.entries;
        let with_data = || entries.iter().enumerate().filter(|(_, entry)| entry.data);
        if with_data().any(|(_, entry)| entry.kind != ROWS) {
            return None;
        }
        let size = |entry: &Entry| sizes.get(&(entry.schema.clone(), entry.tag.clone())).copied();
        let mut places: Vec<_> = with_data().map(|(place, entry)| (size(entry), place)).collect();
        places.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
        let mut numbers: Vec<_> = with_data().map(|(_, entry)| entry.id).collect();
        numbers.sort_unstable();
        let dealt = |(number, (_, place)): (&i64, &(_, usize))| (entries[*place].id, *number);
        let new: BTreeMap<i64, i64> = numbers.iter().zip(&places).map(dealt).collect();
        let data = numbers.iter().zip(&places);
        let data = data.map(|(number, (_, place))| Data { file: format!("{number}.dat"), place: *place }).collect();
        Some(Self { contents: contents(dump, &new), data })
    }
}

/// The table of contents with other numbers, and with files instead of offsets.
fn contents(dump: &Beginning, new: &BTreeMap<i64, i64>) -> Vec<u8> {
    let (head, old) = (&dump.contents, &dump.head);
    let number = |old: i64| new.get(&old).copied().unwrap_or(old);
    let text = |text: &str, out: &mut Vec<u8>| {
        head.put_number(i64::try_from(text.len()).unwrap_or(i64::MAX), out);
        out.extend_from_slice(text.as_bytes());
    };
    let mut out = old[..head.count_at.end].to_vec();
    out[FORMAT_AT] = DIRECTORY;
    // What is given out has been unpacked.
    out[head.packing_at.clone()].fill(0);
    for entry in &head.entries {
        let own = number(entry.id);
        head.put_number(own, &mut out);
        out.extend_from_slice(&old[entry.at.start + head.number_length()..entry.needs_at.start]);
        for needed in &entry.needs {
            text(&number(*needed).to_string(), &mut out);
        }
        head.put_number(-1, &mut out);
        text(&if entry.data { format!("{own}.dat") } else { String::new() }, &mut out);
    }
    out
}

/// What is known of where blocks begin.
#[derive(Default)]
pub(crate) struct Known(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    blocks: BTreeMap<usize, u64>,
    /// How far anybody has read: here a block begins, or the dump ends.
    furthest: u64,
}

impl Known {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passed(&self, to: u64) {
        let mut seen = self.seen();
        seen.furthest = seen.furthest.max(to);
    }
}

/// A reader that gives any entry's data.
pub(crate) struct Reader<'a> {
    archive: Archive<Box<dyn Places>>,
    known: &'a Known,
    what: &'a str,
}

impl<'a> Reader<'a> {
    /// Reads the dump from its beginning, as all readers do that share what they know.
    pub(crate) fn new(dump: Box<dyn Places>, what: &'a str, known: &'a Known) -> Result<Self> {
        let mut archive = Archive::begin(dump, what)?;
        known.passed(archive.place()?);
        Ok(Self { archive, known, what })
    }

    /// Hands on an entry's data piece by piece, unpacked.
    pub(crate) fn give(&mut self, data: &Data, to: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.find(data.place)?;
        let mut unpacked = self.archive.data()?;
        loop {
            let piece = unpacked.fill_buf().map_err(|e| unreadable(self.what, e))?;
            if piece.is_empty() {
                break;
            }
            to(piece)?;
            let length = piece.len();
            unpacked.consume(length);
        }
        drop(unpacked);
        self.known.passed(self.archive.place()?);
        Ok(())
    }

    /// Goes to where an entry's data begins: at once where that is known, else forward from the last place that is.
    fn find(&mut self, wanted: usize) -> Result<()> {
        let (known, furthest) = {
            let seen = self.known.seen();
            (seen.blocks.get(&wanted).copied(), seen.furthest)
        };
        self.archive.enter(known.unwrap_or(furthest))?;
        loop {
            let begin = self.archive.place()?;
            let Some(block) = self.archive.begin_block()? else {
                return Err(self.archive.without_data(&self.archive.head.entries[wanted].tag));
            };
            let (Block::Table(place) | Block::Objects(place)) = block;
            self.known.seen().blocks.insert(place, begin);
            match block {
                Block::Table(place) if place == wanted => return Ok(()),
                _ if place == wanted => return Err(Error::damaged(format!("{}: a table's data is none", self.what))),
                Block::Table(_) => self.archive.skip_chunks()?,
                Block::Objects(_) => self.archive.skip_objects().map(drop)?,
            }
            self.known.passed(self.archive.place()?);
        }
    }
}
