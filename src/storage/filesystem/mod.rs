//! A folder of files as storage.

mod kept;
mod path;
mod restored;
mod rollback;
mod target;
#[cfg(test)]
mod target_tests;
mod walk;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, Mode, OFlags, Stat};

use super::{Entry, EntryKind, FileTime, LeftOut, OWN_FOLDER, Opened, Storage, UNFINISHED, is_own};
use crate::ground::{Error, Kind, Result};
pub use target::FilesystemTarget;

/// A folder of files.
#[derive(Debug, Clone)]
pub struct Filesystem {
    root: PathBuf,
}

impl Filesystem {
    /// The folder at this path; whether it is there shows when it is used.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn open_root(&self) -> Result<OwnedFd> {
        path::open_folder(&self.root)
    }

    fn shown(&self, path: &[u8]) -> PathBuf {
        self.root.join(path::as_path(path))
    }
}

impl Storage for Filesystem {
    fn describe(&self) -> String {
        format!("file:{}", self.root.display())
    }

    fn walk(&self, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<Vec<LeftOut>> {
        let mut unfinished = Vec::new();
        let mut left_out = walk::walk(&self.open_root()?, &self.root, &mut |entry| {
            if is_own(&entry.path) {
                return Ok(());
            }
            if entry.kind != EntryKind::Dir && target::is_temporary(&entry.path) {
                unfinished.push(LeftOut::new(entry.path, UNFINISHED));
                return Ok(());
            }
            visit(entry)
        })?;
        left_out.append(&mut unfinished);
        Ok(left_out)
    }

    fn reader(&self) -> Result<Box<dyn super::Reader>> {
        Ok(Box::new(Reader { root: self.open_root()?, shown: self.clone() }))
    }

    fn reachable(&self) -> Result<()> {
        let first = Dir::read_from(&self.open_root()?).and_then(|mut entries| entries.next().transpose());
        first.map(drop).map_err(|e| Error::io("list", &self.root, e.into()))
    }
}

/// Opens files below one root.
struct Reader {
    root: OwnedFd,
    shown: Filesystem,
}

impl super::Reader for Reader {
    fn open(&self, path: &[u8]) -> Result<Box<dyn Opened>> {
        let shown = self.shown.shown(path);
        let fd = path::open_below(self.root.as_fd(), path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
            .map_err(|e| Error::io("read", &shown, e.into()))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| Error::io("read", &shown, e.into()))?;
        let entry = walk::entry_of(path.to_vec(), &stat, None)
            .filter(|entry| entry.kind == EntryKind::File)
            .ok_or_else(|| Error::new(Kind::NotFound, format!("{} is no file any more", shown.display())))?;
        Ok(Box::new(OpenFile { file: File::from(fd), entry, shown }))
    }
}

/// A file open for reading.
struct OpenFile {
    file: File,
    entry: Entry,
    shown: PathBuf,
}

impl Read for OpenFile {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Opened for OpenFile {
    fn entry(&self) -> &Entry {
        &self.entry
    }

    fn unchanged(&self) -> Result<bool> {
        let stat = rustix::fs::fstat(&self.file).map_err(|e| Error::io("look at", &self.shown, e.into()))?;
        let (mtime, ctime) = times_of(&stat);
        Ok(size_of(&stat) == self.entry.size && mtime == self.entry.mtime && ctime == self.entry.ctime)
    }
}

fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

#[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "the types differ between architectures")]
fn times_of(stat: &Stat) -> (FileTime, FileTime) {
    let time = |seconds: i64, nanoseconds: u64| FileTime {
        seconds,
        nanoseconds: u32::try_from(nanoseconds).unwrap_or(0).min(999_999_999),
    };
    (time(stat.st_mtime as i64, stat.st_mtime_nsec as u64), time(stat.st_ctime as i64, stat.st_ctime_nsec as u64))
}
