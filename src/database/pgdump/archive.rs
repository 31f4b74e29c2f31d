//! The custom format of `pg_dump`, read in one pass and believed in nothing (`pg_backup_archiver.c`, `pg_backup_custom.c`).
//!
//! A header, a table of contents, then one block for each entry that has data, in the same order. A block is a chain of chunks
//! with their lengths; with compression the chunks together are one stream.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek};

use super::head::{Head, Primitive};
use super::unpack::unpack;
use super::unreadable;
use crate::ground::{Error, Result};

/// A dump that is being read.
pub(crate) struct Archive<R> {
    input: Primitive<R>,
    pub(crate) head: Head,
    /// Places in `head.entries` by id.
    places: BTreeMap<i64, usize>,
    /// Which entries' data has been seen.
    seen: Vec<bool>,
    /// How many entries' data has not been seen yet.
    left: u64,
}

/// The next block.
pub(crate) enum Block {
    /// Data of the entry at this place.
    Table(usize),
    /// Large objects, of the entry at this place.
    Objects(usize),
}

impl<R: Read> Archive<R> {
    /// Reads header and table of contents.
    pub(crate) fn begin(input: R, what: &str) -> Result<Self> {
        let mut input = Primitive::new(input, what);
        let head = input.head()?;
        let places: BTreeMap<_, _> = head.entries.iter().enumerate().map(|(n, entry)| (entry.id, n)).collect();
        if places.len() != head.entries.len() {
            return Err(input.damaged("two of its entries have one number"));
        }
        let seen = vec![false; head.entries.len()];
        let left = head.entries.iter().filter(|entry| entry.data).count() as u64;
        Ok(Self { input, head, places, seen, left })
    }

    /// The next block; its data must be read before the next is asked for. At the end, everything must have been there.
    ///
    /// Behind the last block nothing is looked at: since version 16 `pg_dump > FILE` writes the table of contents there again.
    pub(crate) fn next_block(&mut self) -> Result<Option<Block>> {
        if self.left == 0 {
            return std::io::copy(&mut self.input.input, &mut std::io::sink())
                .map(|_| None)
                .map_err(|e| unreadable(&self.input.what, e));
        }
        let Some(block) = self.begin_block()? else {
            let missing = self.head.entries.iter().zip(&self.seen).find(|(entry, seen)| entry.data && !**seen);
            return Err(self.without_data(missing.map_or("?", |(entry, _)| &entry.tag)));
        };
        let (Block::Table(place) | Block::Objects(place)) = block;
        if std::mem::replace(&mut self.seen[place], true) {
            return Err(self.input.damaged("an entry has data twice"));
        }
        self.left -= u64::from(self.head.entries[place].data);
        Ok(Some(block))
    }

    /// The block that begins here, whatever was read before; `None` at the end.
    pub(super) fn begin_block(&mut self) -> Result<Option<Block>> {
        let Some(kind) = self.input.byte_or_end()? else { return Ok(None) };
        let id = self.input.integer()?;
        let place = *self.places.get(&id).ok_or_else(|| self.input.damaged("a block belongs to no entry"))?;
        match kind {
            1 => Ok(Some(Block::Table(place))),
            3 => Ok(Some(Block::Objects(place))),
            _ => Err(self.input.damaged("a block is of no known kind")),
        }
    }

    /// The error for an entry whose data is not there.
    pub(super) fn without_data(&self, tag: &str) -> Error {
        self.input.damaged(&format!("it is cut off: the data of {} is missing", tag.escape_debug()))
    }

    /// How many bytes stand before what is read next.
    pub(super) fn place(&self) -> u64 {
        self.input.place()
    }

    /// The data of a [`Block::Table`]; [`Archive::skip_chunks`] passes what was not read of it.
    pub(crate) fn data(&mut self) -> Result<Box<dyn std::io::BufRead + '_>> {
        let what = self.input.what.clone();
        let chunks = Chunks { input: &mut self.input, left: 0, ended: false };
        unpack(BufReader::with_capacity(64 << 10, chunks), self.head.packing, &what)
    }

    /// The next number of a block whose parts are taken one by one.
    pub(super) fn number(&mut self) -> Result<i64> {
        self.input.integer()
    }

    /// Some bytes of a chunk, which must not end here.
    pub(super) fn bytes(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self.input.input.read(buffer) {
            Ok(0) if !buffer.is_empty() => Err(self.input.cut()),
            Ok(read) => Ok(read),
            Err(e) => Err(unreadable(&self.input.what, e)),
        }
    }

    /// Passes over large objects.
    pub(crate) fn skip_objects(&mut self) -> Result<u64> {
        let mut objects = 0;
        while self.input.integer()? != 0 {
            self.skip_chunks()?;
            objects += 1;
        }
        Ok(objects)
    }

    /// Passes over a block's chunks.
    pub(crate) fn skip_chunks(&mut self) -> Result<()> {
        let mut chunks = Chunks { input: &mut self.input, left: 0, ended: false };
        std::io::copy(&mut chunks, &mut std::io::sink()).map(drop).map_err(|e| unreadable("the dump", e))
    }
}

impl<R: Read + Seek> Archive<R> {
    /// Goes to the beginning of a block; near ones are in memory already.
    pub(super) fn enter(&mut self, at: u64) -> Result<()> {
        let here = self.place();
        let by = i64::try_from(i128::from(at) - i128::from(here)).unwrap_or(i64::MAX);
        self.input.input.seek_relative(by).map_err(|e| unreadable(&self.input.what, e))
    }
}

/// A chain of chunks as one stream.
struct Chunks<'a, R> {
    input: &'a mut Primitive<R>,
    left: u64,
    ended: bool,
}

impl<R: Read> Read for Chunks<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut filled = 0;
        // Many chunks are one row long: they are put together before they are handed on.
        while filled < buffer.len() && !self.ended {
            if self.left == 0 {
                match self.input.integer().map_err(Error::into_io)? {
                    0 => self.ended = true,
                    n => {
                        self.left = u64::try_from(n)
                            .map_err(|_| self.input.damaged("a chunk has a negative length").into_io())?;
                    }
                }
                continue;
            }
            let room = buffer.len() - filled;
            let most = usize::try_from(self.left).map_or(room, |left| left.min(room));
            let read = self.input.input.read(&mut buffer[filled..filled + most])?;
            if read == 0 {
                return Err(self.input.cut().into_io());
            }
            filled += read;
            self.left -= read as u64;
        }
        Ok(filled)
    }
}

/// The table of contents of a directory dump.
pub(super) fn contents(input: impl Read, what: &str) -> Result<Head> {
    let archive = Archive::begin(input, what)?;
    Ok(archive.head)
}
