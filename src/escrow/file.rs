//! A plain folder as an escrow: a mounted share, a USB stick, a drop box that one may only write to.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::tree::Place;
use crate::ground::durable::{self, Existing};
use crate::ground::names::ObjectName;
use crate::ground::{Error, Result, failpoint};

/// How long another run is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps sealed keys in a folder, below `keys/` as an archive does; files have mode 0600.
pub struct FileEscrow {
    root: PathBuf,
}

impl FileEscrow {
    /// The escrow in this folder; while it is not there, every call is [`crate::ground::Kind::Unreachable`].
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.root.join(name.as_str())
    }

    /// Fails where the folder is not: a disk that is not mounted must not pass for an empty escrow.
    fn there(&self) -> Result<()> {
        if self.root.is_dir() {
            return Ok(());
        }
        Err(Error::unreachable(format!("there is no folder {}", self.root.display()))
            .hint(format!("Is its disk mounted? A new escrow begins with `mkdir -m 700 {}`.", self.root.display())))
    }

    /// The path of a name, in a folder that is there.
    fn prepared(&self, name: &ObjectName) -> Result<PathBuf> {
        self.there()?;
        let path = self.path(name);
        if let Some(folder) = path.parent() {
            durable::create_folders(folder, 0o700)?;
        }
        Ok(path)
    }

    fn write(&self, name: &ObjectName, bytes: &[u8], existing: Existing) -> Result<bool> {
        durable::write_file(&self.prepared(name)?, bytes, 0o600, existing)
    }

    fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
        let listing = match std::fs::read_dir(folder) {
            Ok(listing) => listing,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::io("list", folder, e)),
        };
        for entry in listing {
            let entry = entry.map_err(|e| Error::io("list", folder, e))?;
            let kind = entry.file_type().map_err(|e| Error::io("look at", &entry.path(), e))?;
            if kind.is_dir() && depth > 0 {
                Self::walk(&entry.path(), depth - 1, found)?;
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
        Ok(())
    }
}

impl Place for FileEscrow {
    fn describe(&self) -> String {
        format!("the folder {}", self.root.display())
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.there()?;
        let path = self.path(name);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(durable::AT_ONCE)
            .open(&path)
            .map_err(|e| Error::io("read", &path, e))?;
        if !file.metadata().map_err(|e| Error::io("read", &path, e))?.is_file() {
            return Err(Error::damaged(format!("{} is not a regular file", path.display())));
        }
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", &path, e))?;
        if bytes.len() as u64 > limit {
            return Err(Error::damaged(format!("{} has more than the {limit} bytes it may", path.display())));
        }
        Ok(bytes)
    }

    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<bool> {
        self.write(name, bytes, Existing::Keep)
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        self.write(name, bytes, Existing::Replace).map(|_| ())
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        self.there()?;
        let path = self.path(name);
        failpoint::pass(&format!("before the removal of {}", path.display()));
        match std::fs::remove_file(&path) {
            Ok(()) => durable::sync_folder_of(&path)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::io("remove", &path, e)),
        }
        failpoint::pass(&format!("after the removal of {}", path.display()));
        Ok(())
    }

    fn list(&self, folder: &ObjectName) -> Result<Vec<ObjectName>> {
        self.there()?;
        let mut paths = Vec::new();
        // keys/<app>/<fingerprint>/<file>, and nothing below.
        Self::walk(&self.path(folder), 1, &mut paths)?;
        Ok(paths.iter().filter_map(|path| path.strip_prefix(&self.root).ok()?.to_str()?.parse().ok()).collect())
    }

    fn hold(&self, name: &ObjectName) -> Result<Box<dyn Send>> {
        struct Held(#[expect(dead_code, reason = "closing the file ends the lock")] Option<File>);
        let path = self.prepared(name)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(durable::AT_ONCE);
        let file = options.open(&path).ok();
        let begun = Instant::now();
        // Others may write here and hold it for ever: after a while, or where there are no locks, being careful must do.
        while let Some(file) = &file
            && flock(file, FlockOperation::NonBlockingLockExclusive).is_err()
            && begun.elapsed() < PATIENCE
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Box::new(Held(file)))
    }
}
