//! A file that is being restored, and the look that restored things get.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FileType, Gid, Mode, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::ground::block::Block;
use crate::ground::bulk;
use crate::ground::{Error, Result};
use crate::storage::{EntryKind, FileTime, Look, NewFile, Owner};

/// Files from this size on are written past the cache; for a small one the disk would be waited for.
const LARGE: u64 = 256 << 10;

/// Set-user and set-group bits of files go only to the owner that they were recorded with.
pub(super) fn mode_of(look: &Look, owner: Owner) -> Mode {
    let kept = match (owner, look.kind) {
        (Owner::Keep, _) => 0o7777,
        // A folder's says whose group the files in it get.
        (_, EntryKind::Dir) => 0o3777,
        _ => 0o1777,
    };
    Mode::from_raw_mode(look.mode & kept)
}

pub(super) fn times(mtime: FileTime) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

/// The owner that something gets in a target of this one's.
pub(super) fn owner_of(target: (u32, u32), look: &Look, owner: Owner) -> (u32, u32) {
    match owner {
        Owner::Target => target,
        Owner::Keep => (look.uid, look.gid),
        Owner::Ids(uid, gid) => (uid, gid),
    }
}

/// Gives an open file or folder its look.
pub(super) fn dress(fd: &OwnedFd, wanted: (u32, u32), look: &Look, owner: Owner) -> std::result::Result<(), Errno> {
    let stat = rustix::fs::fstat(fd)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink > 1 {
        return Err(Errno::MLINK);
    }
    if (stat.st_uid, stat.st_gid) != wanted {
        let changed = rustix::fs::fchown(fd, Some(Uid::from_raw(wanted.0)), Some(Gid::from_raw(wanted.1)));
        // Without the right to give files away, ours stay ours: that is what the target's owner is for most.
        if owner != Owner::Target {
            changed?;
        }
    }
    rustix::fs::fchmod(fd, mode_of(look, owner))?;
    rustix::fs::futimens(fd, &times(look.mtime))
}

/// Blocks that files are written with, one after the other.
#[derive(Default)]
pub(super) struct Blocks(Mutex<Vec<Block>>);

impl Blocks {
    fn take(&self) -> Block {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, block: Block) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(block);
    }
}

/// A file under its temporary name.
pub(super) struct Restored {
    file: File,
    shown: PathBuf,
    /// The owner of what it is restored into.
    target: (u32, u32),
    /// What was not written yet of a large file, and how much was.
    block: Option<Block>,
    at: u64,
    blocks: Arc<Blocks>,
}

impl Restored {
    /// An empty file that will have this size.
    pub(super) fn new(file: File, size: u64, shown: PathBuf, target: (u32, u32), blocks: Arc<Blocks>) -> Self {
        let block = (size >= LARGE && bulk::past_cache(&file)).then(|| blocks.take());
        Self { file, shown, target, block, at: 0, blocks }
    }
}

impl Write for Restored {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let failed = |e| Error::on_its_way("write", &self.shown, e);
        let Some(block) = &mut self.block else { return self.file.write(bytes).map_err(failed) };
        if block.room() == 0 {
            block.put(&self.file, &mut self.at).map_err(failed)?;
        }
        Ok(block.fill(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for Restored {
    fn close(mut self: Box<Self>, look: &Look, owner: Owner) -> Result<()> {
        if let Some(mut block) = self.block.take() {
            block.put(&self.file, &mut self.at).map_err(|e| Error::io("write", &self.shown, e))?;
            self.blocks.give(block);
        }
        let wanted = owner_of(self.target, look, owner);
        dress(&self.file.into(), wanted, look, owner)
            .map_err(|e| Error::io("set owner, mode or time of", &self.shown, e.into()))
    }
}
