//! Decompression of frames that anybody may have written.

use std::io::{self, Read, Seek, SeekFrom};

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};
use zstd::zstd_safe;

use super::{BUFFER, FRAME, MAGIC, Position};
use crate::ground::{Error, Result};

/// The largest window that is read, 8 MiB; it bounds what a decoder allocates.
const WINDOW_LOG_MAX: u32 = 23;

/// The longest frame header.
const HEADER: usize = 18;

/// Decompresses frames one after the other; memory is bounded by the window, whatever the input says.
///
/// What is not a sequence of frames as the format has them, or is cut, is an error ([`crate::ground::Kind::Damaged`]).
pub struct FrameReader<R> {
    input: R,
    decoder: Decoder<'static>,
    what: String,
    /// Content of the current frame that was given out; `None` between frames.
    content: Option<u64>,
    /// A frame was seen: the end may come.
    any: bool,
    buffer: Vec<u8>,
    ready: std::ops::Range<usize>,
    /// Where what is ready begins in the compressed stream.
    consumed: u64,
    /// Where the current frame begins in the compressed stream.
    frame: u64,
    /// Where the last byte that was given out stands.
    last: Position,
    ended: bool,
}

impl<R: Read> FrameReader<R> {
    /// Reads frames from the place where `input` stands; `what` names it in errors.
    pub fn new(input: R, what: impl Into<String>) -> Result<Self> {
        let decoder = Decoder::new().and_then(|mut decoder| {
            decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
            Ok(decoder)
        });
        Ok(Self {
            input,
            decoder: decoder.map_err(|e| Error::failed("cannot begin to decompress").because(e))?,
            what: what.into(),
            content: None,
            any: false,
            buffer: vec![0; BUFFER],
            ready: 0..0,
            consumed: 0,
            frame: 0,
            last: Position::default(),
            ended: false,
        })
    }

    /// Gives back what was read from.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// What is read from; it may stand behind what was given out.
    pub fn get_ref(&self) -> &R {
        &self.input
    }

    /// Where the next byte of content stands, as a writer's `FrameWriter::position` tells it; at the end of a frame maybe as the
    /// end of that and not as the beginning of the next.
    ///
    /// Right for an input that was read from its beginning, or after [`FrameReader::enter`].
    pub fn position(&self) -> Position {
        match self.content {
            Some(skip) => Position { frame: self.frame, skip },
            None => Position { frame: self.consumed, skip: 0 },
        }
    }

    /// Where the byte stands that was given out last, in the frame that it belongs to: also when that frame ended with it.
    pub fn last(&self) -> Position {
        self.last
    }

    fn damaged(&self, why: &str) -> Error {
        Error::damaged(format!("{} is not zstd as it should be: {why}", self.what))
    }

    /// Fills the buffer until it holds so many bytes or the input ends.
    fn fill(&mut self, least: usize) -> io::Result<()> {
        while self.ready.len() < least && !self.ended {
            if self.buffer.len() - self.ready.start < least || self.ready.is_empty() {
                self.buffer.copy_within(self.ready.clone(), 0);
                self.ready = 0..self.ready.len();
            }
            match self.input.read(&mut self.buffer[self.ready.end..]) {
                Ok(0) => self.ended = true,
                Ok(read) => self.ready.end += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Looks at a frame's header and refuses what no writer of ours makes; `false` at the end.
    fn begin_frame(&mut self) -> io::Result<bool> {
        self.fill(HEADER)?;
        let bytes = &self.buffer[self.ready.clone()];
        let why = if bytes.is_empty() {
            if self.any {
                return Ok(false);
            }
            "there is no frame"
        } else if !bytes.starts_with(&MAGIC) {
            "something else than a frame"
        } else if zstd_safe::get_dict_id_from_frame(bytes).is_some() {
            "a frame with a dictionary"
        } else {
            match zstd_safe::get_frame_content_size(bytes) {
                Ok(None | Some(0..=FRAME)) => {
                    self.decoder.reinit()?;
                    self.any = true;
                    self.content = Some(0);
                    self.frame = self.consumed;
                    return Ok(true);
                }
                Ok(Some(_)) => "a frame of more than 4 MiB",
                Err(_) => "a frame without a whole header",
            }
        };
        Err(self.damaged(why).into_io())
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if self.content.is_none() && !self.begin_frame()? {
                return Ok(0);
            }
            let content = self.content.unwrap_or_default();
            self.fill(1)?;
            // One byte more than a frame may hold is enough to see that it holds too much.
            let room = usize::try_from(FRAME - content + 1).unwrap_or(usize::MAX).min(out.len());
            let mut input = InBuffer::around(&self.buffer[self.ready.clone()]);
            let mut output = OutBuffer::around(&mut out[..room]);
            let left = self
                .decoder
                .run(&mut input, &mut output)
                .map_err(|e| self.damaged("a frame is damaged").because(e).into_io())?;
            let (taken, given) = (input.pos(), output.pos());
            self.ready.start += taken;
            self.consumed += taken as u64;
            let content = content + given as u64;
            if content > FRAME {
                return Err(self.damaged("a frame of more than 4 MiB").into_io());
            }
            self.content = (left > 0).then_some(content);
            if given > 0 {
                self.last = Position { frame: self.frame, skip: content - 1 };
                return Ok(given);
            }
            if left > 0 && taken == 0 && self.ended && self.ready.is_empty() {
                return Err(self.damaged("it was cut").into_io());
            }
        }
    }
}

impl<R: Read + Seek> FrameReader<R> {
    /// Goes to a place that a writer's `FrameWriter::position` told.
    pub fn enter(&mut self, to: Position) -> io::Result<()> {
        self.input.seek(SeekFrom::Start(to.frame))?;
        (self.ready, self.ended, self.content, self.any) = (0..0, false, None, false);
        self.consumed = to.frame;
        let mut left = to.skip;
        let mut content = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(64 << 10)];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(content.len());
            let read = self.read(&mut content[..most])?;
            if read == 0 {
                return Err(self.damaged("it is shorter than it should be").into_io());
            }
            left -= read as u64;
        }
        Ok(())
    }
}
