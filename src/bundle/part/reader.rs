//! Reading members of a part, in the order in which they lie.

use std::io::{self, Read, Seek, SeekFrom};

use crate::bundle::filelist::{FileLine, Place};
use crate::bundle::frames::{FrameReader, Position};
use crate::bundle::members::PartKind;
use crate::bundle::unseal;
use crate::ground::words::shown;
use crate::ground::{Error, Kind, Result, interrupt};
use crate::sealing::SealingKey;
use crate::sealing::stream::SealedReader;

use super::BUFFER;
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
        let sealed = unseal(key, input, what)?;
        let inner = match kind {
            PartKind::Tar => Inner::Stored(sealed, 0),
            PartKind::TarZst => Inner::Compressed(FrameReader::new(sealed, what)?),
            PartKind::Files => return Err(Error::damaged(format!("{what} is no part"))),
        };
        Ok(Self { inner, ahead: None, what: what.to_owned(), buffer: vec![0; BUFFER] })
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
        Ok(Some(frames.last()))
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
            // The end of a part that is stored as it is shows here alone: its position does not say that nothing follows.
            if read.map_err(|e| self.damaged(e))? == 0 {
                return Err(wrong);
            }
        }
    }

    /// Reads the member of a line, checking name, size and BLAKE3; `out` gets its content as it comes.
    ///
    /// What `out` got is good only when this ends well.
    pub fn member(&mut self, line: &FileLine, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let what = format!("{} in {}", shown(&line.path), self.what);
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

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use super::*;
    use crate::bundle::frames::{FRAME, FrameWriter};
    use crate::bundle::members::PartName;
    use crate::bundle::part::file_entry;
    use crate::bundle::part::tar::{padding, write_headers};
    use crate::ground::clock;
    use crate::ground::names::Ulid;
    use crate::sealing::stream;

    /// A part of members with these sizes, and the lines that name them.
    fn part(key: &SealingKey, sizes: &[u64]) -> (Vec<u8>, Vec<FileLine>) {
        let name = PartName { ulid: Ulid::new(clock::now()).expect("a name"), kind: PartKind::TarZst };
        let mut out = FrameWriter::new(stream::seal(key.recipient(), Vec::new()).expect("begun")).expect("begun");
        let mut lines = Vec::new();
        for (number, size) in sizes.iter().enumerate() {
            let entry = file_entry(format!("file-{number}").into_bytes(), *size);
            let at = out.position();
            let content = vec![u8::try_from(number).expect("few"); usize::try_from(*size).expect("small")];
            write_headers(&mut out, &mut Vec::new(), &entry, None, None).expect("written");
            out.write_all(&content).expect("written");
            out.write_all(&[0; 512][..padding(*size)]).expect("written");
            lines.push(FileLine {
                path: entry.path,
                kind: entry.kind,
                size: *size,
                mtime: entry.mtime,
                mode: entry.mode,
                uid: 0,
                gid: 0,
                user: None,
                group: None,
                target: None,
                blake3: Some(*blake3::hash(&content).as_bytes()),
                place: Some(Place { part: name.clone(), frame: at.frame, skip: at.skip }),
            });
        }
        (out.finish().expect("finished").finish().expect("finished"), lines)
    }

    #[test]
    fn a_place_beyond_the_end_is_damage_and_nothing_to_wait_for() {
        let key = SealingKey::generate();
        let tar = stream::seal_bytes(key.recipient(), &[0; 2048]).expect("sealed");
        let (compressed, lines) = part(&key, &[700]);
        for (bytes, kind) in [(tar, PartKind::Tar), (compressed, PartKind::TarZst)] {
            for (frame, skip) in [(4096, 0), (1 << 50, 0), (0, 1 << 40)] {
                let place = Place { frame, skip, ..lines[0].place.clone().expect("a place") };
                let begin = || PartReader::begin(Cursor::new(bytes.as_slice()), kind, &key, "it").expect("begun");
                for found in [begin().advance_to(&place), begin().enter(&place)] {
                    let kind = found.err().map(|e| e.kind());
                    assert!(kind == Some(Kind::Damaged) || (skip > 0 && kind.is_none()), "{frame} {skip}: {kind:?}");
                }
            }
        }
    }

    #[test]
    fn members_are_found_wherever_frames_end() {
        let key = SealingKey::generate();
        // Headers take 512 bytes: content that ends with its frame, and up to a block before it; then one that fills a frame.
        for short in [0, 1, 2, 511] {
            let (bytes, lines) = part(&key, &[FRAME - 512 - short, 700, 3 * FRAME, 1, 0, FRAME - 1, 5]);
            let begin =
                || PartReader::begin(Cursor::new(bytes.as_slice()), PartKind::TarZst, &key, "it").expect("begun");
            // All of them, every second one, and the last alone; forwards, and by jumping.
            for step in [1, 2, lines.len() - 1] {
                let (mut forwards, mut jumping) = (begin(), begin());
                for line in lines.iter().step_by(step) {
                    let place = line.place.as_ref().expect("a place");
                    forwards.advance_to(place).expect("found");
                    forwards.member(line, &mut |_| Ok(())).expect("the same content");
                    jumping.enter(place).expect("found");
                    jumping.member(line, &mut |_| Ok(())).expect("the same content");
                }
            }
        }
    }
}
