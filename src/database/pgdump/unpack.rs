//! Data of a dump as it was before compression.

use std::io::{BufReader, Read};

use super::unreadable;
use crate::ground::{Error, Result};

/// The largest window of a zstd stream, as a power of two.
const WINDOW: u32 = 27;

/// How data is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Zlib,
    Lz4,
    Zstd,
}

/// Data as it was before compression.
pub(super) fn unpack<'a>(
    input: impl std::io::BufRead + 'a,
    packing: Packing,
    what: &str,
) -> Result<Box<dyn std::io::BufRead + 'a>> {
    Ok(match packing {
        Packing::Plain => Box::new(input),
        Packing::Zlib => Box::new(BufReader::with_capacity(128 << 10, Whole(flate2::bufread::ZlibDecoder::new(input)))),
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(|e| unreadable(what, e))?;
            decoder.window_log_max(WINDOW).map_err(|e| unreadable(what, e))?;
            Box::new(BufReader::with_capacity(128 << 10, decoder))
        }
        Packing::Lz4 => Box::new(BufReader::with_capacity(128 << 10, Whole(lz4_flex::frame::FrameDecoder::new(input)))),
    })
}

/// What unpacks, and what it stands on.
trait Unpacker: Read {
    /// What is behind what was unpacked.
    fn rest(&mut self) -> &mut dyn std::io::BufRead;
}

impl<R: std::io::BufRead> Unpacker for flate2::bufread::ZlibDecoder<R> {
    fn rest(&mut self) -> &mut dyn std::io::BufRead {
        self.get_mut()
    }
}

impl<R: std::io::BufRead> Unpacker for lz4_flex::frame::FrameDecoder<R> {
    fn rest(&mut self) -> &mut dyn std::io::BufRead {
        self.get_mut()
    }
}

/// A compressed stream, read on to the last byte of what it stands in.
struct Whole<D>(D);

impl<D: Unpacker> Read for Whole<D> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 => {
                let rest = self.0.rest();
                if buffer.is_empty() || rest.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                Err(Error::damaged("something follows a compressed stream").into_io())
            }
            n => Ok(n),
        }
    }
}
