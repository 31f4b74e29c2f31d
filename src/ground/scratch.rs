//! Room for plaintext that must lie somewhere for a while: unlinked at once, gone with the process.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Error, Result, durable, names};

/// A folder with mode 0700 in which files live only as long as somebody has them open.
#[derive(Debug, Clone)]
pub struct Scratch {
    folder: PathBuf,
    /// Removes the folder with the last clone, when it was made for this.
    temporary: Option<Arc<Temporary>>,
}

#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Scratch {
    /// Uses this folder, made with mode 0700 if it is not there; one that others own or can enter is refused.
    ///
    /// Files that a killed run left behind are removed.
    pub fn at(folder: &Path) -> Result<Self> {
        durable::create_folders(folder, 0o700)?;
        let meta = std::fs::metadata(folder).map_err(|e| Error::io("look at", folder, e))?;
        if meta.mode() & 0o077 != 0 || meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(Error::refused(format!(
                "{} would hold plaintext, and others can enter it or own it",
                folder.display()
            ))
            .hint(format!("chmod 700 {}", folder.display())));
        }
        let scratch = Self { folder: folder.to_owned(), temporary: None };
        scratch.sweep();
        Ok(scratch)
    }

    /// A new folder below `TMPDIR`, for verbs that need no set-up; removed when this is dropped.
    pub fn temporary() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("strongroom-{}", names::hex(&names::random::<8>()?)));
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&folder).map_err(|e| Error::io("create the folder", &folder, e))?;
        let temporary = Arc::new(Temporary(folder.clone()));
        Ok(Self { folder, temporary: Some(temporary) })
    }

    /// The folder, for messages.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Fails when the device has less free space than this many bytes.
    pub fn need(&self, bytes: u64) -> Result<()> {
        let stat = rustix::fs::statvfs(&self.folder).map_err(|e| Error::io("look at", &self.folder, e.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < bytes {
            return Err(Error::failed(format!(
                "{} has {free} bytes free and {bytes} are needed",
                self.folder.display()
            ))
            .hint(self.elsewhere()));
        }
        Ok(())
    }

    /// What helps when there is no room here.
    pub fn elsewhere(&self) -> &'static str {
        if self.temporary.is_some() {
            "Free some space there, or set TMPDIR to a folder that has it."
        } else {
            "Free some space there, or name another folder as [scratch] folder."
        }
    }

    /// A name for a file that something else opens by path; whoever opened it calls [`Name::unlink`] at once.
    pub fn name(&self, what: &str) -> Result<Name> {
        Ok(Name {
            path: self.folder.join(format!("{what}-{}{}", names::hex(&names::random::<6>()?), durable::TEMPORARY)),
        })
    }

    /// An unlinked file, readable and writable.
    pub fn file(&self) -> Result<File> {
        let name = self.name("scratch")?;
        std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&name.path)
            .map_err(|e| Error::io("create", &name.path, e))
    }

    fn sweep(&self) {
        // A minute's grace, for a run that stands between creating a file and unlinking it.
        let Ok(listing) = std::fs::read_dir(&self.folder) else { return };
        for entry in listing.flatten() {
            let ours = entry.file_name().to_string_lossy().contains(durable::TEMPORARY);
            let old = entry
                .metadata()
                .and_then(|m| m.modified())
                .is_ok_and(|t| t.elapsed().is_ok_and(|age| age.as_secs() > 60));
            if ours && old {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// A path in the scratch folder; the file there is unlinked when this is dropped.
#[derive(Debug)]
pub struct Name {
    path: PathBuf,
}

impl Name {
    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Unlinks the file; those who have it open keep it.
    pub fn unlink(self) {}
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
