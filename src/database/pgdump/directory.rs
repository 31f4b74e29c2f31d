//! A dump in custom format as if it were one in directory format: its table of contents, and its data entry by entry.
//!
//! Whoever restores from a directory opens a file for each entry with data, in an order of his own. Readers here go to a block at
//! once where the proof says where it is. Else they go forward in the dump, tell each other where blocks are, and go back to one
//! that another has passed.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::archive::{Archive, Block};
use super::head::Entry;
use super::lane::ROWS;
use super::tables::Name;
use super::{Beginning, unreadable};
use crate::database::{Landmark, Places};
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
    /// Where the first block begins.
    begin: u64,
    /// Where the proof says that entries' blocks are.
    told: BTreeMap<usize, Range<u64>>,
}

impl Directory {
    /// The directory of a dump; `None` when it holds data that is no table's.
    ///
    /// `pg_restore` begins with the largest files. What it is given here has no size, so that it takes entries by their numbers:
    /// those of the tables' data are dealt out again, the largest first, then as they stand in the dump.
    pub(crate) fn of(dump: &Beginning, sizes: &BTreeMap<Name, u64>, landmarks: &[Landmark]) -> Option<Self> {
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
        let ids: BTreeMap<i64, usize> = with_data().map(|(place, entry)| (entry.id, place)).collect();
        let told = landmarks.iter().filter(|block| block.begin < block.end);
        let told = told.filter_map(|block| Some((*ids.get(&block.entry)?, block.begin..block.end)));
        Some(Self { contents: contents(dump, &new), data, begin: dump.head.len() as u64, told: told.collect() })
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

/// What is known of where blocks are.
pub(crate) struct Known(Mutex<Seen>);

struct Seen {
    /// Where each entry's block begins.
    begins: BTreeMap<usize, u64>,
    /// Where each block ends, by where it begins.
    ends: BTreeMap<u64, u64>,
    /// The same of those that were given.
    given: BTreeMap<u64, u64>,
    /// Nothing is known of the block that begins here, if one does.
    next: u64,
}

impl Known {
    /// What is known of a dump of which nothing was read but its table of contents.
    pub(crate) fn of(directory: &Directory) -> Self {
        let told = &directory.told;
        Self(Mutex::new(Seen {
            begins: told.iter().map(|(place, block)| (*place, block.start)).collect(),
            ends: told.values().map(|block| (block.start, block.end)).collect(),
            given: BTreeMap::new(),
            next: directory.begin,
        }))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the blocks that were given are the dump: each once, one behind the other.
    pub(crate) fn whole(&self, directory: &Directory) -> bool {
        let given = &self.seen().given;
        let mut at = directory.begin;
        let follows = |(begin, end): (&u64, &u64)| *begin == std::mem::replace(&mut at, *end);
        given.len() == directory.data.len() && given.iter().all(follows)
    }
}

impl Seen {
    /// The first place at which nobody knows how long the block is.
    fn unknown(&mut self) -> u64 {
        while let Some(end) = self.ends.get(&self.next) {
            self.next = *end;
        }
        self.next
    }

    /// Where to look for an entry's block, and whether it is known to begin there.
    fn toward(&mut self, wanted: usize) -> (u64, bool) {
        match self.begins.get(&wanted) {
            Some(begin) => (*begin, true),
            None => (self.unknown(), false),
        }
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
        Ok(Self { archive: Archive::begin(dump, what)?, known, what })
    }

    /// Hands on an entry's data piece by piece, unpacked.
    pub(crate) fn give(&mut self, data: &Data, to: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let begin = self.find(data.place)?;
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
        self.ended(begin)?;
        self.known.seen().given.insert(begin, self.archive.place());
        Ok(())
    }

    /// Notes where the block ends that began there.
    fn ended(&self, begin: u64) -> Result<()> {
        let end = self.archive.place();
        match self.known.seen().ends.insert(begin, end) {
            Some(told) if told != end => Err(self.misplaced()),
            _ => Ok(()),
        }
    }

    fn misplaced(&self) -> Error {
        Error::damaged(format!("{}: its data is not where the proof says", self.what))
    }

    /// Goes to where an entry's data begins: at once where that is known, else by way of the blocks of which nothing is.
    fn find(&mut self, wanted: usize) -> Result<u64> {
        loop {
            // Each time anew, and both at once: others may have passed it meanwhile, and then it is nowhere where nothing is known.
            let (begin, known) = self.known.seen().toward(wanted);
            self.archive.enter(begin)?;
            let Some(block) = self.archive.begin_block()? else {
                return Err(self.archive.without_data(&self.archive.head.entries[wanted].tag));
            };
            let (Block::Table(place) | Block::Objects(place)) = block;
            match block {
                Block::Table(place) if place == wanted => {}
                _ if place == wanted => return Err(Error::damaged(format!("{}: a table's data is none", self.what))),
                _ if known => return Err(self.misplaced()),
                Block::Table(_) => self.archive.skip_chunks()?,
                Block::Objects(_) => self.archive.skip_objects().map(drop)?,
            }
            let _ = self.known.seen().begins.insert(place, begin);
            if place == wanted {
                return Ok(begin);
            }
            self.ended(begin)?;
        }
    }
}
