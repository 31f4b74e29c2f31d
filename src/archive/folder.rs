//! A folder as an archive.
//!
//! Objects are files with mode 0600 in folders with mode 0700, written under a temporary name, made durable and renamed to a
//! name that was free. Whoever can write to the folder is not trusted: below the root no symbolic link is followed, and
//! only regular files are opened. Names that begin with a dot are not objects: temporary files, locks, `.snapshot`.

mod walk;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Archive, Listed, NewObject, Object};
use crate::ground::block::{Block, TakeBlocks};
use crate::ground::durable::{self, Existing, NewFile};
use crate::ground::names::ObjectName;
use crate::ground::{Error, Kind, Result, failpoint};

/// How long [`Archive::hold`] waits for another run.
const WAIT: Duration = Duration::from_secs(10);

/// Temporary files untouched for longer than this belong to no run.
const ABANDONED: Duration = Duration::from_hours(24);

/// An archive in a folder.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    wait: Duration,
}

impl Folder {
    /// Uses a folder that is there; [`Kind::NotFound`] when it is not.
    ///
    /// A folder that is there and holds no archive, such as the empty place where a disk is not mounted, is for
    /// [`super::identify`] to notice.
    pub fn open(path: &Path) -> Result<Self> {
        let root = std::path::absolute(path).map_err(|e| Error::io("find", path, e))?;
        let folder = Self { root, wait: WAIT };
        match std::fs::metadata(&folder.root) {
            Ok(meta) if meta.is_dir() => Ok(folder),
            Ok(_) => Err(Error::usage(format!("{} is not a folder, so it is no archive", folder.root.display()))
                .hint("An archive is the folder that holds strongroom.json.")),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(folder.missing()),
            Err(e) => Err(folder.failed("open the archive", "", e)),
        }
    }

    /// Makes the folder and those above it (0700) where they are missing, and uses it.
    pub fn create(path: &Path) -> Result<Self> {
        let root = std::path::absolute(path).map_err(|e| Error::io("find", path, e))?;
        durable::create_folders(&root, 0o700)?;
        Self::open(&root)
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.root.join(name.as_str())
    }

    fn missing(&self) -> Error {
        Error::not_found(format!("no archive at {}", self.describe()))
            .hint("Is its disk mounted? Where it is mounted elsewhere, name that place in [archive] url.")
            .hint(super::LOST)
    }

    /// The error of something that was tried on an object (or on the archive itself, under an empty name).
    fn failed(&self, verb: &str, name: &str, source: std::io::Error) -> Error {
        use rustix::io::Errno;
        let path = if name.is_empty() { self.root.clone() } else { self.root.join(name) };
        let message = || format!("cannot {verb} {}", path.display());
        if source.kind() == std::io::ErrorKind::InvalidData {
            return Error::damaged(message())
                .because(source)
                .hint("Take this object from another copy of the archive.");
        }
        match Errno::from_io_error(&source) {
            Some(Errno::NOENT) if !self.root.is_dir() => self.missing(),
            Some(Errno::NOENT) => Error::not_found(format!("there is no {name} in the archive {}", self.describe()))
                .because(source)
                .hint("Take it from another copy of the archive; `strongroom check --all` says what else is gone."),
            Some(Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => Error::damaged(message())
                .because("a symbolic link or something else that is not ours stands there".to_owned()),
            Some(Errno::ACCESS | Errno::PERM) => Error::denied(message())
                .because(source)
                .hint("Run as the user to whom it belongs, or give this one the right to it."),
            Some(Errno::STALE | Errno::NOTCONN | Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::HOSTUNREACH) => {
                Error::unreachable(message())
                    .because(source)
                    .hint("Is the machine there from which it is mounted? Mount it again, and try again.")
            }
            Some(Errno::IO) if verb == "read" => {
                Error::io(verb, &path, source).hint("If it stays so, take it from another copy.")
            }
            _ => Error::io(verb, &path, source),
        }
    }

    /// Makes the folder that a name lies in, and refuses one that is reached through a symbolic link.
    fn prepare(&self, verb: &str, name: &ObjectName) -> Result<()> {
        if !self.root.is_dir() {
            return Err(self.missing());
        }
        match walk::parent(&self.root, name) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                if let Some(parent) = self.path(name).parent() {
                    durable::create_folders(parent, 0o700).map_err(|e| match e.kind() {
                        // Nobody named what lies inside.
                        Kind::Usage => e.with_kind(Kind::Damaged),
                        _ => e,
                    })?;
                }
                walk::parent(&self.root, name)
            }
            other => other,
        }
        .map(drop)
        .map_err(|e| self.failed(verb, name.as_str(), e))
    }

    fn begin(&self, name: &ObjectName) -> Result<NewFile> {
        if name.as_str().split('/').any(|component| component.starts_with('.')) {
            return Err(Error::failed(format!("{name} cannot be an object's name: it begins with a dot")));
        }
        let create = || self.prepare("write", name).and_then(|()| NewFile::create(&self.path(name), 0o600));
        for _ in 0..9 {
            match create() {
                // Another run removed the empty folder between the steps.
                Err(e) if e.kind() == Kind::NotFound && self.root.is_dir() => {}
                other => return other,
            }
        }
        create()
    }
}

impl Archive for Folder {
    fn describe(&self) -> String {
        format!("file:{}", self.root.display())
    }

    fn open(&self, name: &ObjectName) -> Result<Box<dyn Object>> {
        let (file, length) = walk::open_file(&self.root, name).map_err(|e| self.failed("read", name.as_str(), e))?;
        Ok(Box::new(FolderObject { file: Arc::new(file), length, at: 0, folder: self.clone(), name: name.clone() }))
    }

    fn create(&self, name: &ObjectName) -> Result<Box<dyn NewObject>> {
        Ok(Box::new(NewFolderObject(self.begin(name)?)))
    }

    fn length(&self, name: &ObjectName) -> Result<Option<u64>> {
        match walk::length(&self.root, name) {
            Ok(length) => Ok(Some(length)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && self.root.is_dir() => Ok(None),
            Err(e) => Err(self.failed("look at", name.as_str(), e)),
        }
    }

    fn list(&self, folder: &ObjectName) -> Result<Vec<Listed>> {
        let mut found = Vec::new();
        let walked = walk::each(&self.root, folder, |name| !name.starts_with('.'), &mut |entry| {
            if entry.regular
                && let Ok(name) = format!("{}/{}", entry.path, entry.name).parse()
            {
                found.push(Listed { name, length: entry.length });
            }
            Ok(())
        });
        match walked {
            Ok(()) => {}
            Err(e) if e.error.kind() == std::io::ErrorKind::NotFound && self.root.is_dir() => return Ok(Vec::new()),
            Err(e) => return Err(self.failed("list", &e.folder, e.error)),
        }
        found.sort_unstable_by(|a, b| a.name.as_str().as_bytes().cmp(b.name.as_str().as_bytes()));
        Ok(found)
    }

    fn children(&self, folder: &ObjectName) -> Result<Vec<String>> {
        match walk::children(&self.root, folder) {
            Ok(mut names) => {
                names.retain(|name| !name.starts_with('.'));
                names.sort_unstable();
                Ok(names)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && self.root.is_dir() => Ok(Vec::new()),
            Err(e) => Err(self.failed("list", folder.as_str(), e)),
        }
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        let mut new = self.begin(name)?;
        new.write_all(bytes).map_err(|e| Error::from_io(Kind::Failed, format!("cannot write {name}"), e))?;
        new.commit(Existing::Replace).map(drop)
    }

    fn sweep(&self, below: &ObjectName) -> Result<u64> {
        let mut removed = 0;
        let now = SystemTime::now();
        let temporary = |name: &str| name.starts_with('.') && name.ends_with(durable::TEMPORARY);
        let walked = walk::each(&self.root, below, temporary, &mut |entry| {
            let old = now.duration_since(entry.modified).is_ok_and(|age| age > ABANDONED);
            if entry.regular && old {
                rustix::fs::unlinkat(entry.folder, entry.name, rustix::fs::AtFlags::empty())?;
                removed += 1;
            }
            Ok(())
        });
        match walked {
            Err(e) if e.error.kind() != std::io::ErrorKind::NotFound => Err(self.failed("sweep", &e.folder, e.error)),
            _ => Ok(removed),
        }
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        let gone = |e: &std::io::Error| e.kind() == std::io::ErrorKind::NotFound && self.root.is_dir();
        let path = self.path(name);
        failpoint::pass(&format!("before remove {}", path.display()));
        match walk::remove(&self.root, name) {
            Ok(()) => {}
            Err(e) if gone(&e) => return Ok(()),
            Err(e) => return Err(self.failed("remove", name.as_str(), e)),
        }
        failpoint::pass(&format!("after remove {}", path.display()));
        // Folders that became empty go too, so that a removed bundle leaves no name behind.
        let mut folder = path.as_path();
        while let Some(parent) = folder.parent().filter(|parent| *parent != self.root) {
            folder = parent;
            if std::fs::remove_dir(folder).is_err() {
                return match durable::sync_folder(folder) {
                    Err(e) if e.kind() == Kind::NotFound => Ok(()),
                    other => other,
                };
            }
        }
        durable::sync_folder(&self.root)
    }

    fn hold(&self, name: &ObjectName) -> Result<Box<dyn Send>> {
        self.prepare("lock", name)?;
        let path = self.path(name);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(durable::AT_ONCE)
            .open(&path)
            .map_err(|e| self.failed("lock", name.as_str(), e))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                // Where there are no locks, the courtesy is left out: nobody relies on it.
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(Box::new(file)),
                Err(TryLockError::WouldBlock) if begun.elapsed() >= self.wait => {
                    return Err(Error::locked(format!("another run holds {}", path.display()))
                        .hint("Wait until it has ended, and try again."));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

struct FolderObject {
    file: Arc<File>,
    length: u64,
    at: u64,
    folder: Folder,
    name: ObjectName,
}

impl Object for FolderObject {
    fn length(&self) -> u64 {
        self.length
    }

    fn again(&self) -> Result<Box<dyn Object>> {
        Ok(Box::new(Self {
            file: Arc::clone(&self.file),
            length: self.length,
            at: 0,
            folder: self.folder.clone(),
            name: self.name.clone(),
        }))
    }
}

impl Read for FolderObject {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(buffer, self.at).map_err(|e| match e.kind() {
            std::io::ErrorKind::Interrupted => e,
            _ => self.folder.failed("read", self.name.as_str(), e).into_io(),
        })?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for FolderObject {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let place = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = place.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

struct NewFolderObject(NewFile);

impl NewObject for NewFolderObject {
    fn commit(self: Box<Self>) -> Result<bool> {
        self.0.commit(Existing::Keep)
    }
}

impl TakeBlocks for NewFolderObject {
    fn give(&mut self, block: Block) -> std::io::Result<Block> {
        self.0.give(block)
    }
}

impl Write for NewFolderObject {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests;
