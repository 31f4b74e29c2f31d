//! A lane: one thread that reads files and writes them into its own open parts.

use std::io::Write as _;

use crossbeam_channel::Sender;

use super::tar::{padding, write_headers};
use super::writer::{Closing, PartWriter};
use super::{BUFFER, sniff};
use crate::archive::Archive;
use crate::bundle::filelist::Place;
use crate::ground::names::AppName;
use crate::ground::{Error, Kind, Result};
use crate::sealing::Recipient;
use crate::storage::{Entry, Opened, Reader};

/// A part is closed when its tar file has grown past this.
const AIM: u64 = 256 << 20;

/// Where a file was stored, and what was stored of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The entry as it was when it was read.
    pub entry: Entry,
    /// BLAKE3 of the content.
    pub blake3: [u8; 32],
    /// Where it lies.
    pub place: Place,
    /// It changed while it was read, each time.
    pub changed: bool,
}

/// What came of storing a file.
pub enum Attempt {
    /// It was stored.
    Stored(Stored),
    /// It is gone, or no file any more.
    Gone,
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// One lane; up to two parts are open, one for content that compresses and one for the rest.
pub struct Lane<'a> {
    archive: &'a dyn Archive,
    app: &'a AppName,
    recipient: &'a Recipient,
    reader: Box<dyn Reader>,
    closing: Sender<Closing>,
    parts: [Option<PartWriter>; 2],
    buffer: Vec<u8>,
    headers: Vec<u8>,
}

impl<'a> Lane<'a> {
    /// A lane whose full parts go to `closing`.
    pub fn new(
        archive: &'a dyn Archive,
        app: &'a AppName,
        recipient: &'a Recipient,
        reader: Box<dyn Reader>,
        closing: Sender<Closing>,
    ) -> Self {
        let (buffer, headers) = (vec![0; BUFFER], Vec::with_capacity(1024));
        Self { archive, app, recipient, reader, closing, parts: [None, None], buffer, headers }
    }

    /// BLAKE3 of a file's content now, and its entry; `None` when it changed meanwhile or cannot be read.
    pub fn digest(&mut self, path: &[u8]) -> Option<([u8; 32], Entry)> {
        let mut file = self.reader.open(path).ok()?;
        let mut hash = blake3::Hasher::new();
        loop {
            match read_full(file.as_mut(), &mut self.buffer).ok()? {
                0 => break,
                read => hash.update(&self.buffer[..read]),
            };
        }
        file.unchanged().ok()?.then(|| (*hash.finalize().as_bytes(), file.entry().clone()))
    }

    /// Stores a file, read again once if it changed meanwhile. `advance` is told of bytes as they are read.
    pub fn store(
        &mut self,
        path: &[u8],
        names: (Option<&str>, Option<&str>),
        advance: &dyn Fn(u64),
    ) -> Result<Attempt> {
        match self.store_once(path, names, advance)? {
            Attempt::Stored(first) if first.changed => self.store_once(path, names, &|_| {}),
            attempt => Ok(attempt),
        }
    }

    fn store_once(
        &mut self,
        path: &[u8],
        names: (Option<&str>, Option<&str>),
        advance: &dyn Fn(u64),
    ) -> Result<Attempt> {
        let mut file = match self.reader.open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == Kind::NotFound => return Ok(Attempt::Gone),
            Err(e) => return Ok(Attempt::Unreadable(e.chain())),
        };
        let entry = file.entry().clone();
        let mut filled = match read_full(file.as_mut(), &mut self.buffer) {
            Ok(filled) => filled,
            Err(e) => return Ok(Attempt::Unreadable(e.to_string())),
        };
        let compress = sniff::worth_compressing(&self.buffer[..filled.min(sniff::TRIAL)]);
        let slot = usize::from(compress);
        let part = match &mut self.parts[slot] {
            Some(part) => part,
            none => none.insert(PartWriter::begin(self.archive, self.app, self.recipient, compress)?),
        };
        let place = part.place();
        let failed = |e| Error::from_io(Kind::Failed, format!("cannot write part {}", place.part.file_name()), e);
        write_headers(part, &mut self.headers, &entry, names.0, names.1).map_err(failed)?;

        let mut hash = blake3::Hasher::new();
        let mut left = entry.size;
        // What grew is cut and what shrank is filled: a member is as long as its header says, or the tar file is broken.
        let mut torn = false;
        loop {
            let wanted = usize::try_from(left).map_or(filled, |left| filled.min(left));
            hash.update(&self.buffer[..wanted]);
            part.write_all(&self.buffer[..wanted]).map_err(failed)?;
            advance(wanted as u64);
            left -= wanted as u64;
            torn |= filled > wanted;
            if left == 0 || filled == 0 {
                break;
            }
            match read_full(file.as_mut(), &mut self.buffer) {
                Ok(read) => filled = read,
                Err(e) => {
                    // The member is made whole, and no list names it.
                    fill(part, &mut hash, left, padding(entry.size)).map_err(failed)?;
                    return Ok(Attempt::Unreadable(e.to_string()));
                }
            }
        }
        torn |= left > 0 || !file.unchanged()?;
        fill(part, &mut hash, left, padding(entry.size)).map_err(failed)?;
        if part.content() >= AIM
            && let Some(full) = self.parts[slot].take()
        {
            self.hand_over(full)?;
        }
        Ok(Attempt::Stored(Stored { entry, blake3: *hash.finalize().as_bytes(), place, changed: torn }))
    }

    fn hand_over(&self, part: PartWriter) -> Result<()> {
        let closing = part.close()?;
        self.closing.send(closing).map_err(|_| Error::failed("the thread that closes parts has ended early"))
    }

    /// Closes what is open.
    pub fn finish(mut self) -> Result<()> {
        for slot in 0..self.parts.len() {
            if let Some(part) = self.parts[slot].take() {
                self.hand_over(part)?;
            }
        }
        Ok(())
    }
}

/// Zeros for the content that is missing, and for the rest of the last block.
fn fill(part: &mut PartWriter, hash: &mut blake3::Hasher, mut missing: u64, padding: usize) -> std::io::Result<()> {
    let zeros = [0; 4096];
    while missing > 0 {
        let length = usize::try_from(missing).map_or(zeros.len(), |n| n.min(zeros.len()));
        hash.update(&zeros[..length]);
        part.write_all(&zeros[..length])?;
        missing -= length as u64;
    }
    part.write_all(&zeros[..padding])
}

/// Fills the buffer as far as the file goes.
fn read_full(file: &mut dyn Opened, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
