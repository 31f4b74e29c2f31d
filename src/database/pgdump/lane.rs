//! One dump restored by several programs at once, each of which gets a part of the tables' rows.
//!
//! The first lane is the dump as it is, but for the rows that belong to another lane: those are left empty. Every other lane is
//! a dump of its tables' rows and nothing else, because what is no row may be restored once only.
//!
//! Nothing that follows the last block is given out, and the end of that block only when the input has ended without an error: who
//! reads a lane piece by piece and holds the last one back has then not read a whole dump of which a byte is wrong.

use std::collections::BTreeMap;
use std::io::Read;

use super::Beginning;
use super::archive::{Archive, Block};
use super::head::Entry;
use super::tables::Name;
use crate::ground::beside::Stop;
use crate::ground::{Error, Result};

/// The kind of entries that are shared out.
pub(super) const ROWS: &str = "TABLE DATA";

/// Kinds of entries that say how the others are to be read.
const SETTINGS: [&str; 3] = ["ENCODING", "STDSTRINGS", "SEARCHPATH"];

/// What a table costs however small it is, as bytes that are restored in the same time.
const STATEMENT: u64 = 64 << 10;

/// Which lane has which data.
pub(crate) struct Shares {
    count: usize,
    /// Lanes by the entries' places.
    lanes: BTreeMap<usize, usize>,
    given_up: Stop,
}

impl Shares {
    /// Shares out the data of a dump over at most so many lanes: the largest first, each to the lane that has least so far.
    ///
    /// `sizes` has the bytes of tables that are large enough to matter; each of them is worth a lane.
    pub(crate) fn new(dump: &Beginning, sizes: &BTreeMap<Name, u64>, most: usize) -> Self {
        let size = |entry: &Entry| match entry.kind.as_str() {
            "BLOBS" => sizes.get(&("pg_catalog".to_owned(), "pg_largeobject".to_owned())).copied(),
            _ => sizes.get(&(entry.schema.clone(), entry.tag.clone())).copied(),
        };
        let entries = &dump.contents.entries;
        let (mut rows, mut first) = (Vec::new(), 0_u64);
        for (place, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.data) {
            if entry.kind == ROWS {
                rows.push((size(entry), place));
            } else {
                first = first.saturating_add(size(entry).unwrap_or(0));
            }
        }
        let large = rows.iter().filter(|(size, _)| size.is_some()).count() + usize::from(first > 0);
        let mut loads = vec![0_u64; most.min(large).max(1)];
        loads[0] = first;
        // What is of one size keeps its order, so that small tables are spread as they come.
        rows.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
        let mut lanes = BTreeMap::new();
        for (size, place) in rows {
            let Some((lane, load)) = loads.iter_mut().enumerate().min_by_key(|(_, load)| **load) else { break };
            *load = load.saturating_add(size.unwrap_or(0)).saturating_add(STATEMENT);
            lanes.insert(place, lane);
        }
        Self { count: loads.len(), lanes, given_up: Stop::default() }
    }

    /// What a lane begins with, header and table of contents.
    fn head(&self, dump: &Beginning, number: usize) -> Vec<u8> {
        if number == 0 {
            return dump.head.clone();
        }
        let entries = dump.contents.entries.iter().enumerate();
        let own: Vec<_> = entries
            .filter(|(place, entry)| SETTINGS.contains(&entry.kind.as_str()) || self.lanes.get(place) == Some(&number))
            .filter_map(|(_, entry)| dump.head.get(entry.at.clone()))
            .collect();
        let mut head = dump.head[..dump.contents.count_at.start].to_vec();
        dump.contents.put_number(i64::try_from(own.len()).unwrap_or(i64::MAX), &mut head);
        head.extend(own.into_iter().flatten());
        head
    }

    /// The whole dump as one lane.
    pub(crate) fn one() -> Self {
        Self { count: 1, lanes: BTreeMap::new(), given_up: Stop::default() }
    }

    /// How many lanes there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Ends every lane: one has failed, so the others work for nothing.
    pub(crate) fn give_up(&self) {
        self.given_up.set();
    }
}

/// A dump in custom format as one lane reads it.
pub(crate) struct Lane<'a, R> {
    archive: Archive<R>,
    shares: &'a Shares,
    number: usize,
    /// What is to be given out before anything else, and how much of it was.
    ready: Vec<u8>,
    given: usize,
    state: State,
}

/// What comes next in the dump.
#[derive(Clone, Copy)]
enum State {
    Block,
    /// A large object's number.
    Object,
    /// A chunk's length.
    Chunk {
        objects: bool,
    },
    /// So many bytes of a chunk.
    Bytes {
        left: u64,
        objects: bool,
    },
}

impl<'a, R: Read> Lane<'a, R> {
    /// The lane of this number over the dump that `input` gives, which is the one that began so.
    pub(crate) fn new(input: R, what: &str, dump: &Beginning, shares: &'a Shares, number: usize) -> Result<Self> {
        let ready = shares.head(dump, number);
        Ok(Self { archive: Archive::begin(input, what)?, shares, number, ready, given: 0, state: State::Block })
    }

    fn put(&mut self, number: i64) {
        self.archive.head.put_number(number, &mut self.ready);
    }

    /// Begins the next block, or passes over it; `false` at the end.
    fn block(&mut self) -> Result<bool> {
        if self.shares.given_up.is_set() {
            return Err(Error::failed("another part of the restore has failed"));
        }
        let Some(block) = self.archive.next_block()? else { return Ok(false) };
        let (place, kind, objects) = match block {
            Block::Table(place) => (place, 1, false),
            Block::Objects(place) => (place, 3, true),
        };
        // What was not shared out is the first lane's.
        let own = self.shares.lanes.get(&place).copied().unwrap_or(0) == self.number;
        if own || self.number == 0 {
            self.ready.push(kind);
            self.put(self.archive.head.entries[place].id);
        }
        if own {
            self.state = if objects { State::Object } else { State::Chunk { objects: false } };
            return Ok(true);
        }
        if objects {
            self.archive.skip_objects()?;
        } else {
            self.archive.skip_chunks()?;
        }
        if self.number == 0 {
            self.put(0);
        }
        Ok(true)
    }

    /// Goes on by one step; `None` at the end, else how many bytes were put into `buffer`.
    fn step(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        if self.given < self.ready.len() {
            let given = buffer.len().min(self.ready.len() - self.given);
            buffer[..given].copy_from_slice(&self.ready[self.given..self.given + given]);
            self.given += given;
            return Ok(Some(given));
        }
        self.ready.clear();
        self.given = 0;
        match self.state {
            State::Block => return Ok(self.block()?.then_some(0)),
            State::Object => {
                let number = self.archive.number()?;
                self.put(number);
                self.state = if number == 0 { State::Block } else { State::Chunk { objects: true } };
            }
            State::Chunk { objects } => {
                let length = self.archive.number()?;
                self.put(length);
                self.state = match u64::try_from(length) {
                    Ok(0) if objects => State::Object,
                    Ok(0) => State::Block,
                    Ok(left) => State::Bytes { left, objects },
                    Err(_) => return Err(Error::damaged("a dump has a chunk of a negative length")),
                };
            }
            State::Bytes { left, objects } => {
                let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
                let read = self.archive.bytes(&mut buffer[..most])?;
                let left = left - read as u64;
                self.state = if left == 0 { State::Chunk { objects } } else { State::Bytes { left, objects } };
                return Ok(Some(read));
            }
        }
        Ok(Some(0))
    }
}

impl<R: Read> Read for Lane<'_, R> {
    /// Fills the buffer as far as there is something: chunks may be as short as a row.
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.step(&mut buffer[filled..]).map_err(Error::into_io)? {
                Some(read) => filled += read,
                None => break,
            }
        }
        Ok(filled)
    }
}
