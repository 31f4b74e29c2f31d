//! The application's storage: the files that its database names.
//!
//! The contract every storage keeps:
//! * [`Storage::walk`] answers in raw byte order of the whole path, one entry at a time, and never follows a link;
//! * a file read through [`Storage::open`] is the one that was walked, or [`Opened::unchanged`] says that it is not;
//! * what cannot be read is reported, never left out in silence;
//! * names are bytes, and no two places mean the same name.

pub mod filesystem;

use std::io::Read;

use crate::ground::Result;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link, recorded and never followed.
    Symlink,
}

/// A moment as file systems keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FileTime {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// One file, folder or link of the storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path relative to the storage's root: raw bytes, `/` between components, never empty, `.` or `..`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of content; 0 for what is no file.
    pub size: u64,
    /// When the content changed.
    pub mtime: FileTime,
    /// When anything about it changed; a restore cannot set it, so it gives a changed file away.
    pub ctime: FileTime,
    /// The file's number on its device.
    pub inode: u64,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The target of a symbolic link.
    pub target: Option<Vec<u8>>,
    /// It has other names too (hard links); its content is stored under each of them.
    pub hard_linked: bool,
    /// It has holes; they are stored as zeros.
    pub sparse: bool,
}

/// What a walk could not hand out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// The path, lossy, for people.
    pub path: String,
    /// Why: `socket`, `device`, `permission denied` …
    pub reason: String,
}

/// A file open for reading.
pub trait Opened: Read + Send {
    /// Its entry as it is now that it is open.
    fn entry(&self) -> &Entry;
    /// Whether size, mtime and ctime are still what [`Opened::entry`] says.
    fn unchanged(&self) -> Result<bool>;
}

/// The files of an application.
pub trait Storage: Send + Sync {
    /// Its URL without secrets, for messages.
    fn describe(&self) -> String;

    /// Hands out every entry in raw byte order of the path; answers what could not be handed out.
    ///
    /// A storage whose root is missing is an error, never an empty walk.
    fn walk(&self, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<Vec<LeftOut>>;

    /// Opens a file by its walked path; [`crate::ground::Kind::NotFound`] when it is gone.
    fn open(&self, path: &[u8]) -> Result<Box<dyn Opened>>;

    /// Whether there is a regular file under this path now.
    fn has(&self, path: &[u8]) -> Result<bool>;
}
