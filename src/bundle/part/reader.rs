//! Reading members of a part, in the order in which they lie.

use std::io::{self, Read, Seek, SeekFrom};

use crate::bundle::filelist::{FileLine, Place};
use crate::bundle::frames::{FrameReader, Position};
use crate::bundle::members::PartKind;
use crate::ground::{Error, Kind, Result, interrupt};
use crate::sealing::SealingKey;
use crate::sealing::stream::{self, SealedReader};

use super::tar::read_member;

/// A gap that is read through rather than jumped over: a jump costs opening a chunk anew.
const GAP: u64 = 256 << 10;

enum Inner<R: Read> {
    Stored(SealedReader<R>, u64),
    Compressed(FrameReader<SealedReader<R>>),
}

/// A part that is being read; it goes forwards only, unless its input can seek.
pub struct PartReader<R: Read> {
    inner: Inner<R>,
    /// A byte that was read to learn in which frame it stands.
    ahead: Option<u8>,
    what: String,
    buffer: Vec<u8>,
}

impl<R: Read> PartReader<R> {
    /// Begins at the beginning of a part.
    pub fn begin(input: R, kind: PartKind, key: &SealingKey, what: &str) -> Result<Self> {
        let sealed = stream::open(key, input, what)?;
        let inner = match kind {
            PartKind::Tar => Inner::Stored(sealed, 0),
            PartKind::TarZst => Inner::Compressed(FrameReader::new(sealed, what)?),
            PartKind::Files => return Err(Error::damaged(format!("{what} is no part"))),
        };
        Ok(Self { inner, ahead: None, what: what.to_owned(), buffer: vec![0; 256 << 10] })
    }

    fn damaged(&self, error: io::Error) -> Error {
        Error::from_io(Kind::Damaged, format!("cannot read {}", self.what), error)
    }

    /// Where the next byte stands; `None` at the end.
    ///
    /// The end of a frame and the beginning of the next are one place in the content and two as positions: only a byte that was
    /// read tells in which frame it is.
    fn here(&mut self) -> Result<Option<Position>> {
        if let Inner::Stored(_, at) = &self.inner {
            return Ok(Some(Position { frame: *at, skip: 0 }));
        }
        if self.ahead.is_none() {
            let mut byte = [0];
            if self.read(&mut byte).map_err(|e| self.damaged(e))? == 0 {
                return Ok(None);
            }
            self.ahead = Some(byte[0]);
        }
        let Inner::Compressed(frames) = &self.inner else { return Ok(None) };
        let behind = frames.position();
        Ok(Some(Position { frame: behind.frame, skip: behind.skip.saturating_sub(1) }))
    }

    /// Reads on to a place; what lies behind is an error ([`Kind::Damaged`]).
    pub fn advance_to(&mut self, place: &Place) -> Result<()> {
        let to = Position { frame: place.frame, skip: place.skip };
        let wrong = Error::damaged(format!("{}: no member begins where the list says", self.what));
        loop {
            let Some(here) = self.here()? else { return Err(wrong) };
            if here >= to {
                return if here == to { Ok(()) } else { Err(wrong) };
            }
            // Within a frame by content; towards another frame by small steps, which end with their frame at the latest.
            let most = match &self.inner {
                Inner::Stored(..) => to.frame - here.frame,
                Inner::Compressed(_) if here.frame == to.frame => to.skip - here.skip,
                Inner::Compressed(_) => self.buffer.len() as u64,
            };
            let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.buffer.len());
            let mut buffer = std::mem::take(&mut self.buffer);
            let read = self.read(&mut buffer[..most]);
            self.buffer = buffer;
            read.map_err(|e| self.damaged(e))?;
        }
    }

    /// Reads the member of a line, checking name, size and BLAKE3; `out` gets its content as it comes.
    ///
    /// What `out` got is good only when this ends well.
    pub fn member(&mut self, line: &FileLine, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let what = format!("{} in {}", String::from_utf8_lossy(&line.path).escape_debug(), self.what);
        read_member(self, &what)?.must_be(line, &what)?;
        let mut hash = blake3::Hasher::new();
        let mut left = line.size;
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = (|| {
            while left > 0 {
                interrupt::check()?;
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                // Full buffers, so that whoever writes them does so in few calls.
                self.read_exact(&mut buffer[..most]).map_err(|e| match e.kind() {
                    io::ErrorKind::UnexpectedEof => Error::damaged(format!("{what} is cut")),
                    _ => self.damaged(e),
                })?;
                hash.update(&buffer[..most]);
                out(&buffer[..most])?;
                left -= most as u64;
            }
            Ok(())
        })();
        self.buffer = buffer;
        result?;
        // blake3's own comparison takes constant time; here it only has to be right.
        if line.blake3.is_some_and(|expected| hash.finalize() == expected) {
            return Ok(());
        }
        Err(Error::damaged(format!("{what} does not have the content that the list names")))
    }

    /// Reads to the end, and gives back the input, all of which was read then.
    pub fn drain(mut self) -> Result<R> {
        let mut buffer = std::mem::take(&mut self.buffer);
        while self.read(&mut buffer).map_err(|e| self.damaged(e))? > 0 {}
        Ok(match self.inner {
            Inner::Stored(sealed, _) => sealed.into_inner(),
            Inner::Compressed(frames) => frames.into_inner().into_inner(),
        })
    }
}

impl<R: Read + Seek> PartReader<R> {
    /// Goes to a place, jumping over what is far.
    pub fn enter(&mut self, place: &Place) -> Result<()> {
        let to = Position { frame: place.frame, skip: place.skip };
        let near = self.here()?.is_some_and(|here| {
            here <= to
                && match &self.inner {
                    Inner::Stored(..) => to.frame - here.frame <= GAP,
                    Inner::Compressed(_) => here.frame == to.frame,
                }
        });
        if near {
            return self.advance_to(place);
        }
        self.ahead = None;
        let moved = match &mut self.inner {
            Inner::Stored(sealed, at) => sealed.seek(SeekFrom::Start(to.frame)).map(|now| *at = now),
            Inner::Compressed(frames) => frames.enter(to),
        };
        moved.map_err(|e| self.damaged(e))
    }
}

impl<R: Read> Read for PartReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if let Some(byte) = self.ahead.take() {
            out[0] = byte;
            return Ok(1);
        }
        match &mut self.inner {
            Inner::Stored(sealed, at) => {
                let read = sealed.read(out)?;
                *at += read as u64;
                Ok(read)
            }
            Inner::Compressed(frames) => frames.read(out),
        }
    }
}
