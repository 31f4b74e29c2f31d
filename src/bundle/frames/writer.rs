//! Compression into frames.

use std::io::{self, Write};

use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation as _, OutBuffer};

use super::{BUFFER, FRAME, LEVEL, Position, WINDOW_LOG};
use crate::ground::{Error, Kind, Result};

/// Compresses into frames; without [`FrameWriter::finish`] the last one is cut off.
pub struct FrameWriter<W: Write> {
    out: W,
    encoder: Encoder<'static>,
    position: Position,
    /// Compressed bytes so far, those in the buffer included.
    compressed: u64,
    buffer: Vec<u8>,
    filled: usize,
}

impl<W: Write> FrameWriter<W> {
    /// Begins a stream at [`LEVEL`].
    pub fn new(out: W) -> Result<Self> {
        Self::with_level(out, LEVEL)
    }

    /// Begins a stream at a level of zstd, 1 to 19 in earnest.
    pub fn with_level(out: W, level: i32) -> Result<Self> {
        let encoder = Encoder::new(level).and_then(|mut encoder| {
            encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
            // The tags of age come after compression: this one notices what the memory did between the two.
            encoder.set_parameter(CParameter::ChecksumFlag(true))?;
            Ok(encoder)
        });
        Ok(Self {
            out,
            encoder: encoder.map_err(|e| Error::failed("cannot begin to compress").because(e))?,
            position: Position::default(),
            compressed: 0,
            buffer: vec![0; BUFFER],
            filled: 0,
        })
    }

    /// Where the next byte of content will be found.
    pub fn position(&self) -> Position {
        self.position
    }

    /// What is written to; holds whole frames after [`FrameWriter::end_frame`] only.
    pub fn get_ref(&self) -> &W {
        &self.out
    }

    /// Ends the current frame, so that the next byte begins one; nothing happens at the beginning of a frame.
    pub fn end_frame(&mut self) -> io::Result<()> {
        if self.position.skip > 0 { self.end() } else { Ok(()) }
    }

    fn end(&mut self) -> io::Result<()> {
        loop {
            let mut output = OutBuffer::around(&mut self.buffer[self.filled..]);
            let left = self.encoder.finish(&mut output, true)?;
            let written = output.pos();
            self.took(written)?;
            if left == 0 {
                break;
            }
        }
        self.drain()?;
        self.encoder.reinit()?;
        self.position = Position { frame: self.compressed, skip: 0 };
        Ok(())
    }

    fn took(&mut self, written: usize) -> io::Result<()> {
        self.filled += written;
        self.compressed += written as u64;
        if self.filled == self.buffer.len() { self.drain() } else { Ok(()) }
    }

    fn drain(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer[..self.filled])?;
        self.filled = 0;
        Ok(())
    }

    /// Ends the stream, and gives back what was written to.
    ///
    /// A stream without content is one empty frame, because `zstd -d` refuses a file without any.
    pub fn finish(mut self) -> Result<W> {
        let ended = if self.compressed == 0 { self.end() } else { self.end_frame() };
        ended.map_err(|e| Error::from_io(Kind::Failed, "cannot end a compressed stream", e))?;
        Ok(self.out)
    }
}

impl<W: Write> Write for FrameWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = usize::try_from(FRAME - self.position.skip).unwrap_or(usize::MAX);
        let taken = bytes.len().min(room);
        let mut input = InBuffer::around(&bytes[..taken]);
        while input.pos() < taken {
            let mut output = OutBuffer::around(&mut self.buffer[self.filled..]);
            self.encoder.run(&mut input, &mut output)?;
            let written = output.pos();
            self.took(written)?;
        }
        self.position.skip += taken as u64;
        if self.position.skip == FRAME {
            self.end()?;
        }
        Ok(taken)
    }

    /// Does nothing: a flush in the middle of a frame would only cost space.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
