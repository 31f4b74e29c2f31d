//! The payload of an age file: STREAM with ChaCha20-Poly1305 in chunks of 64 KiB.

use std::io::{self, Read, Seek, SeekFrom, Write};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::ground::block::{Block, TakeBlocks};
use crate::ground::{Error, Kind, Result};

/// Plaintext bytes of a chunk.
const CHUNK: usize = 64 << 10;
/// Bytes of a chunk's tag.
const TAG: usize = 16;
/// Bytes of a whole sealed chunk.
const SEALED: usize = CHUNK + TAG;
/// Chunks that come from the system at once: fewer, larger calls take half of the time that chunk by chunk takes.
const BATCH: usize = 4;
/// Bytes of the payload's nonce, which stands after the header.
pub(super) const NONCE: usize = 16;

/// The key of one payload. `ring` keeps it expanded and does not wipe it; it opens this one file only.
#[derive(Clone)]
pub(super) struct PayloadKey(LessSafeKey);

impl PayloadKey {
    /// HKDF-SHA-256 of the file key, salted with the payload's nonce.
    pub(super) fn derive(file_key: &[u8; 16], nonce: &[u8; NONCE]) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        hkdf::Hkdf::<sha2::Sha256>::new(Some(nonce), file_key)
            .expand(b"payload", key.as_mut())
            .expect("32 bytes are a valid length");
        Self(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &*key).expect("the key has 32 bytes")))
    }

    /// The nonce of a chunk: its number in eleven bytes, and whether it is the last.
    fn nonce(counter: u64, last: bool) -> Nonce {
        let mut bytes = [0; 12];
        bytes[3..11].copy_from_slice(&counter.to_be_bytes());
        bytes[11] = u8::from(last);
        Nonce::assume_unique_for_key(bytes)
    }
}

/// Writes a sealed stream; without [`SealedWriter::finish`] it is cut off, and readers notice.
pub struct SealedWriter<W: TakeBlocks> {
    key: PayloadKey,
    out: W,
    counter: u64,
    /// Sealed chunks that wait for others, then the plaintext of the chunk that is being filled. None after an error.
    block: Option<Block>,
    /// How much of the block is sealed.
    sealed: usize,
}

impl<W: TakeBlocks> SealedWriter<W> {
    pub(super) fn new(key: PayloadKey, out: W) -> Self {
        Self { key, out, counter: 0, block: Some(Block::new()), sealed: 0 }
    }

    fn seal_chunk(&mut self, last: bool) -> io::Result<()> {
        let mut block = self.block.take().ok_or_else(failed_before)?;
        let nonce = PayloadKey::nonce(self.counter, last);
        let tag = self
            .key
            .0
            .seal_in_place_separate_tag(nonce, Aad::empty(), &mut block.bytes_mut()[self.sealed..])
            .map_err(|_| io::Error::other("a chunk cannot be sealed"))?;
        block.fill(tag.as_ref());
        self.out.show(&block.bytes()[self.sealed..])?;
        self.sealed = block.bytes().len();
        self.counter += 1;
        if last || block.room() < SEALED {
            block = self.out.give(block)?;
            self.sealed = 0;
        }
        self.block = Some(block);
        Ok(())
    }

    /// Seals the last chunk, and gives back what was written to.
    pub fn finish(mut self) -> Result<W> {
        self.seal_chunk(true)
            .and_then(|()| self.out.flush())
            .map_err(|e| Error::from_io(Kind::Failed, "cannot end an age stream", e))?;
        Ok(self.out)
    }

    /// How many bytes the chunk that is being filled has.
    fn open(&self) -> io::Result<usize> {
        let block = self.block.as_ref().ok_or_else(failed_before)?;
        Ok(block.bytes().len() - self.sealed)
    }

    /// The rest of the chunk that is being filled, at least a byte, to be written where it is sealed.
    ///
    /// What is put there counts when [`SealedWriter::filled`] says so; something must be written after this, or the stream
    /// would end in an empty chunk.
    pub fn room(&mut self) -> io::Result<&mut [u8]> {
        if self.open()? == CHUNK {
            self.seal_chunk(false)?;
        }
        let room = CHUNK - self.open()?;
        self.block.as_mut().map(|block| block.room_mut(room)).ok_or_else(failed_before)
    }

    /// So many bytes were put into the room.
    pub fn filled(&mut self, bytes: usize) {
        if let Some(block) = &mut self.block {
            block.grow(bytes);
        }
    }
}

fn failed_before() -> io::Error {
    io::Error::other("an earlier write of an age stream has failed")
}

impl<W: TakeBlocks> Write for SealedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits for the byte that shows that it is not the last.
        if bytes.is_empty() {
            return Ok(0);
        }
        let room = self.room()?;
        let taken = bytes.len().min(room.len());
        room[..taken].copy_from_slice(&bytes[..taken]);
        self.filled(taken);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a sealed stream: authenticated bytes only, and an error where it was changed or cut.
pub struct SealedReader<R: Read> {
    key: PayloadKey,
    input: R,
    what: String,
    /// Where the payload begins in the input.
    start: u64,
    /// The number of the next chunk to read.
    counter: u64,
    /// Some chunks and one byte of the next, which shows that there is a next; each becomes plaintext in its place.
    buffer: Zeroizing<Vec<u8>>,
    /// What of the buffer was read and not opened yet.
    sealed: std::ops::Range<usize>,
    /// The input has no more than the buffer holds.
    drained: bool,
    /// What of the plaintext in the buffer was not given out yet.
    ready: std::ops::Range<usize>,
    ended: bool,
}

impl<R: Read> SealedReader<R> {
    pub(super) fn new(key: PayloadKey, input: R, start: u64, what: String) -> Self {
        let buffer = Zeroizing::new(vec![0; BATCH * SEALED + 1]);
        Self { key, input, what, start, counter: 0, buffer, sealed: 0..0, drained: false, ready: 0..0, ended: false }
    }

    /// Reads another open copy of the same file under the key of this one: the header is not read again, so whoever exchanges
    /// the file meanwhile exchanges nothing here.
    pub fn beside<T: Read + Seek>(&self, input: T) -> io::Result<SealedReader<T>> {
        let mut other = SealedReader::new(self.key.clone(), input, self.start, self.what.clone());
        other.seek(SeekFrom::Start(0))?;
        Ok(other)
    }

    /// What is read from.
    pub fn get_ref(&self) -> &R {
        &self.input
    }

    /// Gives back what was read from; all of it was read once [`Read::read`] has answered 0.
    pub fn into_inner(self) -> R {
        self.input
    }

    fn damaged(&self, why: &str) -> io::Error {
        Error::damaged(format!("{} is damaged: {why}", self.what))
            .hint("Take this object from another copy of the archive.")
            .into_io()
    }

    /// Fills the buffer as far as the input goes.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.sealed.clone(), 0);
        self.sealed = 0..self.sealed.len();
        while self.sealed.end < self.buffer.len() {
            match self.input.read(&mut self.buffer[self.sealed.end..]) {
                Ok(0) => {
                    self.drained = true;
                    break;
                }
                Ok(read) => self.sealed.end += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Opens the next chunk where it lies.
    fn next_chunk(&mut self) -> io::Result<()> {
        if self.sealed.len() <= SEALED && !self.drained {
            self.fill()?;
        }
        let last = self.sealed.len() <= SEALED;
        let chunk = self.sealed.start..self.sealed.start + self.sealed.len().min(SEALED);
        if chunk.len() < TAG {
            return Err(self.damaged("it was cut"));
        }
        let nonce = PayloadKey::nonce(self.counter, last);
        let opened = self.key.0.open_in_place(nonce, Aad::empty(), &mut self.buffer[chunk.clone()]).map(|p| p.len());
        let Ok(length) = opened else {
            return Err(self.damaged("a chunk does not authenticate"));
        };
        // Only a payload that is empty altogether may end in an empty chunk.
        if length == 0 && self.counter > 0 {
            return Err(self.damaged("it ends in an empty chunk"));
        }
        self.counter += 1;
        self.ended = last;
        self.sealed.start = chunk.end;
        self.ready = chunk.start..chunk.start + length;
        Ok(())
    }
}

impl<R: Read> Read for SealedReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && !self.ended {
            self.next_chunk()?;
        }
        let taken = out.len().min(self.ready.len());
        out[..taken].copy_from_slice(&self.buffer[self.ready.start..self.ready.start + taken]);
        self.ready.start += taken;
        Ok(taken)
    }
}

impl<R: Read + Seek> Seek for SealedReader<R> {
    /// Moves within the plaintext; a place past its end is an error, and so is one that needs the current position.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let end = self.input.seek(SeekFrom::End(0))?;
        let sealed = end.saturating_sub(self.start);
        let chunks = sealed.div_ceil(SEALED as u64).max(1);
        let length = sealed.saturating_sub(chunks * TAG as u64);
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(back) => length.checked_add_signed(back),
            SeekFrom::Current(_) => None,
        };
        let at = at.filter(|at| *at <= length).ok_or_else(|| self.damaged("it is shorter than it should be"))?;
        // The end of the plaintext is reached through its last chunk, so that a cut is noticed there too.
        let number = (at / CHUNK as u64).min(chunks - 1);
        self.input.seek(SeekFrom::Start(self.start + number * SEALED as u64))?;
        self.counter = number;
        (self.sealed, self.drained) = (0..0, false);
        self.ready = 0..0;
        self.ended = false;
        self.next_chunk()?;
        let skip = usize::try_from(at - number * CHUNK as u64).unwrap_or(usize::MAX);
        self.ready.start = skip.min(self.ready.end);
        Ok(at)
    }
}
