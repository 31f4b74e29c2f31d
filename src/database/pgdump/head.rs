//! Header and table of contents of `pg_dump`'s custom format, and how it writes numbers and texts.

use std::io::{BufRead as _, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use super::unpack::Packing;
use super::unreadable;
use crate::ground::{Error, Result};

/// How the format begins.
pub(crate) const MAGIC: &[u8] = b"PGDMP";
/// The longest text of an entry.
const MAX_TEXT: u64 = 64 << 20;
/// How much all texts together may hold, with what keeping an entry costs.
const MAX_TEXTS: u64 = 256 << 20;
/// The most entries.
const MAX_ENTRIES: u64 = 2_000_000;

/// Versions as the format counts them: 1.10 is 110.
const OLDEST: u32 = 110;
const NEWEST: u32 = 116;

/// One entry of the table of contents.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    pub(crate) id: i64,
    /// It has data, in a block or a file of its own.
    pub(crate) data: bool,
    pub(crate) tag: String,
    pub(crate) kind: String,
    pub(crate) definition: String,
    pub(crate) copy: String,
    pub(crate) schema: String,
    pub(crate) owner: String,
    /// The file in a directory dump.
    pub(super) file: String,
    /// Where it stands in the dump, in bytes.
    pub(super) at: Range<usize>,
    /// What it depends on, and where that stands in the dump.
    pub(super) needs: Vec<i64>,
    pub(super) needs_at: Range<usize>,
}

/// What stands before the data.
#[derive(Debug)]
pub(crate) struct Head {
    pub(super) packing: Packing,
    /// The server's version, as it said itself.
    pub(crate) server: String,
    /// `pg_dump`'s version.
    pub(crate) tool: String,
    pub(crate) entries: Vec<Entry>,
    /// How many bytes a number has, and where that of the entries stands in the dump.
    pub(super) integer: u8,
    pub(super) count_at: Range<usize>,
    /// Where it says how the data is compressed.
    pub(super) packing_at: Range<usize>,
}

impl Head {
    /// How many bytes a number takes, with its sign.
    pub(super) fn number_length(&self) -> usize {
        1 + usize::from(self.integer)
    }

    /// Writes a number as this dump has them.
    pub(super) fn put_number(&self, number: i64, to: &mut Vec<u8>) {
        to.push(u8::from(number < 0));
        to.extend_from_slice(&number.unsigned_abs().to_le_bytes()[..usize::from(self.integer)]);
    }
}

/// An input that knows how far it was read.
pub(super) struct Counted<R> {
    input: R,
    at: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.at = self.input.seek(to)?;
        Ok(self.at)
    }
}

/// Integers and texts as the format writes them.
pub(super) struct Primitive<R> {
    pub(super) input: BufReader<Counted<R>>,
    /// The dump's name, for messages.
    pub(super) what: String,
    integer: u8,
    offset: u8,
    texts: u64,
    /// Bytes of header and table of contents that were read.
    taken: usize,
}

impl<R: Read> Primitive<R> {
    /// Begins before the header.
    pub(super) fn new(input: R, what: &str) -> Self {
        Self {
            input: BufReader::with_capacity(256 << 10, Counted { input, at: 0 }),
            what: what.to_owned(),
            integer: 4,
            offset: 8,
            texts: 0,
            taken: 0,
        }
    }

    /// How many bytes stand before what is read next.
    pub(super) fn place(&self) -> u64 {
        self.input.get_ref().at - self.input.buffer().len() as u64
    }

    pub(super) fn damaged(&self, why: &str) -> Error {
        Error::damaged(format!("{}: {why}", self.what))
    }

    pub(super) fn cut(&self) -> Error {
        self.damaged("it is cut off")
            .hint("The program that wrote it was stopped, or the disk was full. Take another copy.")
    }

    pub(super) fn byte_or_end(&mut self) -> Result<Option<u8>> {
        let byte = match self.input.fill_buf() {
            Ok(buffer) => buffer.first().copied(),
            Err(e) => return Err(unreadable(&self.what, e)),
        };
        self.input.consume(usize::from(byte.is_some()));
        self.taken = self.taken.saturating_add(usize::from(byte.is_some()));
        Ok(byte)
    }

    fn byte(&mut self) -> Result<u8> {
        self.byte_or_end()?.ok_or_else(|| self.cut())
    }

    /// A sign, then the magnitude, lowest byte first.
    pub(super) fn integer(&mut self) -> Result<i64> {
        let negative = self.byte()? != 0;
        let mut value = 0_i64;
        for place in 0..self.integer {
            let byte = i64::from(self.byte()?);
            if place < 7 {
                value |= byte << (8 * u32::from(place));
            } else if byte != 0 {
                return Err(self.damaged("a number is too large"));
            }
        }
        Ok(if negative { -value } else { value })
    }

    /// A length, then bytes; `None` for a negative length.
    fn text(&mut self) -> Result<Option<String>> {
        let Ok(length) = u64::try_from(self.integer()?) else { return Ok(None) };
        self.texts += length;
        if length > MAX_TEXT || self.texts > MAX_TEXTS {
            return Err(self.damaged("a text is longer than any dump has it"));
        }
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(length).read_to_end(&mut bytes).map_err(|e| unreadable(&self.what, e))?;
        if read as u64 != length {
            return Err(self.cut());
        }
        self.taken = self.taken.saturating_add(read);
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn some_text(&mut self) -> Result<String> {
        Ok(self.text()?.unwrap_or_default())
    }

    /// Reads header and table of contents.
    pub(super) fn head(&mut self) -> Result<Head> {
        for expected in MAGIC {
            if self.byte()? != *expected {
                return Err(self.damaged("it does not begin as pg_dump's custom format does"));
            }
        }
        let version = u32::from(self.byte()?) * 100 + u32::from(self.byte()?);
        self.byte()?;
        if !(OLDEST..=NEWEST).contains(&version) {
            return Err(Error::usage(format!(
                "{} is of version {}.{} of pg_dump's format, which is not known here",
                self.what,
                version / 100,
                version % 100
            ))
            .hint("`pg_restore -f dump.sql FILE` of its own version makes a .sql file of it, which is read here."));
        }
        self.integer = self.byte()?;
        self.offset = self.byte()?;
        if self.integer == 0 || self.integer > 8 || self.offset == 0 || self.offset > 16 {
            return Err(self.damaged("its numbers are of no size that exists"));
        }
        let directory = match self.byte()? {
            1 => false,
            // Data in files of their own: a tar's, a directory's.
            3 | 5 => true,
            _ => return Err(self.damaged("it is of no kind that pg_dump writes")),
        };
        let before = self.taken;
        let packing = if version >= 115 {
            match self.byte()? {
                0 => Packing::Plain,
                1 => Packing::Zlib,
                2 => Packing::Lz4,
                3 => Packing::Zstd,
                _ => return Err(self.damaged("its compression is not known")),
            }
        } else if self.integer()? == 0 {
            Packing::Plain
        } else {
            Packing::Zlib
        };
        let packing_at = before..self.taken;
        for _ in 0..7 {
            self.integer()?;
        }
        self.text()?;
        let (server, tool) = (self.some_text()?, self.some_text()?);
        let before = self.taken;
        let count = u64::try_from(self.integer()?).unwrap_or(0);
        let count_at = before..self.taken;
        if count > MAX_ENTRIES {
            return Err(self.damaged("it has more entries than any dump"));
        }
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(self.entry(version, directory)?);
        }
        Ok(Head { packing, server, tool, entries, integer: self.integer, count_at, packing_at })
    }

    fn entry(&mut self, version: u32, directory: bool) -> Result<Entry> {
        let begin = self.taken;
        let id = self.integer()?;
        let data = self.integer()? != 0;
        self.texts += size_of::<Entry>() as u64;
        self.text()?;
        self.text()?;
        let mut entry = Entry { id, data, tag: self.some_text()?, kind: self.some_text()?, ..Entry::default() };
        if version >= 111 {
            self.integer()?;
        }
        entry.definition = self.some_text()?;
        self.text()?;
        entry.copy = self.some_text()?;
        entry.schema = self.some_text()?;
        self.text()?;
        if version >= 114 {
            self.text()?;
        }
        if version >= 116 {
            self.integer()?;
        }
        entry.owner = self.some_text()?;
        self.text()?;
        let needs_at = self.taken;
        while let Some(number) = self.text()? {
            self.texts += size_of::<i64>() as u64;
            entry.needs.push(number.parse().map_err(|_| self.damaged("an entry depends on what is no number"))?);
            if entry.needs.len() as u64 > MAX_ENTRIES {
                return Err(self.damaged("an entry depends on more than there is"));
            }
        }
        entry.needs_at = needs_at..self.taken;
        if directory {
            entry.file = self.some_text()?;
        } else {
            for _ in 0..=self.offset {
                self.byte()?;
            }
        }
        entry.at = begin..self.taken;
        Ok(entry)
    }
}
