//! zstd as the format has it: concatenated frames of at most 4 MiB of content (RFC 8878).
//!
//! A frame is where a reader can begin. `zstd -d` opens the whole stream, because it takes frames one after the other.

mod parallel;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use parallel::{Frames, ParallelWriter};
pub use reader::FrameReader;
pub use writer::FrameWriter;

/// The most content that a frame holds, in bytes.
pub const FRAME: u64 = 4 << 20;

/// The compression level that everything is stored with.
pub const LEVEL: i32 = 3;

/// The window that is written: a whole frame, whatever the level would take.
const WINDOW_LOG: u32 = 22;

/// Compressed bytes that are gathered before they are handed on.
const BUFFER: usize = 128 << 10;

/// How a frame begins, as bytes; skippable frames begin otherwise and are refused.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A place in the content, as a reader finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Where the frame begins in the compressed stream.
    pub frame: u64,
    /// Bytes of content before the place in that frame.
    pub skip: u64,
}
