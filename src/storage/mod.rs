//! The application's storage: the files that its database names.
//!
//! The contract every storage keeps:
//! * [`Storage::walk`] answers in raw byte order of the whole path, one entry at a time, and never follows a link;
//! * a file read through [`Reader::open`] is the one that was walked, or [`Opened::unchanged`] says that it is not;
//! * what cannot be read is reported, never left out in silence;
//! * names are bytes, and no two places mean the same name.

pub mod filesystem;
pub mod owners;

use std::io::{Read, Write};

use crate::ground::Result;
use crate::ground::kept::Kept;
use crate::ground::words::shown;

/// The folder at the root that belongs to us; a walk leaves it out.
pub const OWN_FOLDER: &[u8] = b".strongroom";

/// Why a file is left out that looks like one of ours.
pub const UNFINISHED: &str = "a restore that was killed left it unfinished, by its name";

/// Whether a path is the folder that belongs to us, or lies in it.
pub fn is_own(path: &[u8]) -> bool {
    path.strip_prefix(OWN_FOLDER).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

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
    /// The path, lossy, for people; a folder whose content cannot be read has a `/` at its end.
    pub path: String,
    /// The same in raw bytes.
    #[serde(skip)]
    pub raw: Vec<u8>,
    /// Why: `socket`, `device`, `permission denied` …
    pub reason: String,
}

impl LeftOut {
    /// The path in raw bytes, with a `/` at the end of a folder's, and why.
    pub fn new(raw: Vec<u8>, reason: impl Into<String>) -> Self {
        Self { path: shown(&raw), raw, reason: reason.into() }
    }
}

/// A file open for reading.
pub trait Opened: Read + Send {
    /// Its entry as it is now that it is open.
    fn entry(&self) -> &Entry;
    /// Whether size, mtime and ctime are still what [`Opened::entry`] says.
    fn unchanged(&self) -> Result<bool>;
}

/// Opens the files that a walk named.
pub trait Reader: Send {
    /// Opens a file by its walked path; [`crate::ground::Kind::NotFound`] when it is gone or is no file any more.
    fn open(&self, path: &[u8]) -> Result<Box<dyn Opened>>;
}

/// The files of an application.
pub trait Storage: Send + Sync {
    /// Its URL without secrets, for messages.
    fn describe(&self) -> String;

    /// Hands out every entry in raw byte order of the path; answers what could not be handed out.
    ///
    /// A storage whose root is missing is an error, never an empty walk.
    fn walk(&self, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<Vec<LeftOut>>;

    /// Somebody who opens files; each thread that reads has its own.
    fn reader(&self) -> Result<Box<dyn Reader>>;

    /// Fails when the storage cannot be walked at all.
    fn reachable(&self) -> Result<()>;
}

/// Who owns what a restore writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The owner of the storage's root.
    Target,
    /// As recorded, set-user and set-group bits included; takes the right to give files away.
    Keep,
    /// This user and group.
    Ids(u32, u32),
}

/// What a restored entry should look like, beside its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// What it is.
    pub kind: EntryKind,
    /// When the content changed.
    pub mtime: FileTime,
    /// Permission bits.
    pub mode: u32,
    /// The owner as recorded.
    pub uid: u32,
    /// The group as recorded.
    pub gid: u32,
    /// The target of a symbolic link.
    pub target: Option<Vec<u8>>,
}

/// What stands at a path of the target now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Nothing,
    /// A regular file of this size.
    File(u64),
    /// A regular file that has other names (hard links), wherever they are: what changes it changes those.
    Linked,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink,
    /// Something else: a device, a socket, a pipe.
    Other,
}

/// A file that is being restored; it does not stand under its name until [`Target::publish`].
pub trait NewFile: Write + Send {
    /// Ends it with this look, under its temporary name.
    fn close(self: Box<Self>, look: &Look, owner: Owner) -> Result<()>;
}

/// A storage to restore into. Paths are those of [`Entry::path`]; no call follows a symbolic link below the root.
///
/// The order is: [`Target::folder`] for every folder, [`Target::create`] and [`NewFile::close`] for files and [`Target::link`] for
/// links (both under temporary names), [`Target::sync`], [`Target::publish`] for each, [`Target::dress`] for folders, deepest first,
/// [`Target::sync`]. Killed in between, the same restore run again goes on: what stands already right is not written again.
pub trait Target: Send + Sync {
    /// Its URL without secrets, for messages.
    fn describe(&self) -> String;

    /// What stands at a path.
    fn standing(&self, path: &[u8]) -> Result<Standing>;

    /// The target of the symbolic link at a path.
    fn read_link(&self, path: &[u8]) -> Result<Vec<u8>>;

    /// Opens the regular file at a path for comparing it.
    fn read(&self, path: &[u8]) -> Result<Box<dyn Read + Send>>;

    /// Sees to it that there is a folder; whatever else stands there is moved to `rollback`, or refused without one.
    fn folder(&self, path: &[u8], rollback: Option<&str>) -> Result<()>;

    /// Begins a file of this size under a temporary name.
    fn create(&self, path: &[u8], size: u64) -> Result<Box<dyn NewFile>>;

    /// Makes a symbolic link under a temporary name.
    fn link(&self, path: &[u8], look: &Look, owner: Owner) -> Result<()>;

    /// Gives a finished file or link its name; what stood there is moved to `rollback`, or replaced without one.
    fn publish(&self, path: &[u8], rollback: Option<&str>) -> Result<()>;

    /// Fails ([`crate::ground::Kind::Refused`]) when [`Target::put_away`] cannot move what stands at a path; changes nothing.
    fn can_put_away(&self, path: &[u8]) -> Result<()>;

    /// Moves what stands at a path to `rollback`.
    fn put_away(&self, path: &[u8], rollback: &str) -> Result<()>;

    /// How the file or folder at a path looks now; `None` for anything else.
    fn look(&self, path: &[u8]) -> Result<Option<Look>>;

    /// Gives an entry that stands already its look: mode, owner, times. A file with other names is refused.
    fn dress(&self, path: &[u8], look: &Look, owner: Owner) -> Result<()>;

    /// Makes everything so far last; may be called beside the other calls, for what they have done by then.
    fn sync(&self) -> Result<()>;

    /// Hands out every path that stands in the target, in raw byte order.
    fn walk(&self, visit: &mut dyn FnMut(&[u8], EntryKind) -> Result<()>) -> Result<()>;

    /// Removes a file or a link, or a folder with nothing in it; nothing there, or a folder in use, is no error.
    fn discard(&self, path: &[u8]) -> Result<()>;

    /// Removes the temporary files and links that a run that ended early left behind.
    fn sweep(&self) -> Result<()>;

    /// Fails when something stands where replaced files would be kept; changes nothing.
    fn can_keep(&self, rollback: &str) -> Result<()>;

    /// Begins to keep what is replaced under `rollback`: what a finished restore kept there stays under another name, and what
    /// one that was killed kept there is gone on with.
    fn begin_keeping(&self, rollback: &str) -> Result<()>;

    /// The restore is at its end: what is kept under `rollback` is of this one alone.
    fn end_keeping(&self, rollback: &str) -> Result<()>;

    /// Puts back what was moved to `rollback`; what stands in the place of something of another kind is removed first.
    fn roll_back(&self, rollback: &str) -> Result<()>;

    /// What earlier restores kept here and [`Target::remove_kept`] removes; not what a killed one needs still.
    fn kept(&self) -> Result<Vec<Kept>>;

    /// Removes one of [`Target::kept`] for good.
    fn remove_kept(&self, name: &str) -> Result<()>;

    /// Fails when the target has less room than this many bytes.
    fn need(&self, bytes: u64) -> Result<()>;
}
