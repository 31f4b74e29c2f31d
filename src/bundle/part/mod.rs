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

/// A file's entry, for tests.
#[cfg(test)]
pub(in crate::bundle) fn file_entry(path: Vec<u8>, size: u64) -> crate::storage::Entry {
    crate::storage::Entry {
        path,
        kind: crate::storage::EntryKind::File,
        size,
        mtime: crate::storage::FileTime::default(),
        ctime: crate::storage::FileTime::default(),
        inode: 1,
        mode: 0o644,
        uid: 0,
        gid: 0,
        target: None,
        hard_linked: false,
        sparse: false,
    }
}
