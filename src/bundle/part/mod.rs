//! Parts: sealed tar files of storage content, written by lanes and read from any member.

mod lane;
mod reader;
mod sniff;
mod tar;
mod writer;

pub use lane::{Attempt, Lane, Stored};
pub use reader::PartReader;
pub use writer::{Closing, Finished};
