//! Parts: sealed tar files of storage content, written by lanes and read from any member.

mod lane;
mod reader;
mod sniff;
mod tar;
mod writer;

/// Bytes read or written at a time: what else is touched between reading and sealing fits into a core's own cache beside them.
const BUFFER: usize = 128 << 10;

pub use lane::{Attempt, Lane, Stored};
pub use reader::PartReader;
pub use writer::{Closing, Finished};
