//! A plain folder as an escrow: a mounted share, a USB stick, a drop box that one may only write to.

use std::path::{Path, PathBuf};

use super::tree::Place;
use crate::archive::Archive;
use crate::ground::names::ObjectName;
use crate::ground::{Error, Kind, Result};

/// Opens a folder as an archive's is: whoever can write to it is not trusted, so no symbolic link in it is followed.
pub type OpenFolder = fn(&Path) -> Result<Box<dyn Archive>>;

/// Keeps sealed keys in a folder, below `keys/` as an archive does; files have mode 0600.
pub struct FileEscrow {
    root: PathBuf,
    open: OpenFolder,
}

impl FileEscrow {
    /// The escrow in this folder; while it is not there, every call is [`Kind::Unreachable`].
    pub fn new(root: &Path, open: OpenFolder) -> Self {
        Self { root: root.to_owned(), open }
    }

    /// Fails where the folder is not: a disk that is not mounted must not pass for an empty escrow.
    fn folder(&self) -> Result<Box<dyn Archive>> {
        if self.root.is_dir() {
            return (self.open)(&self.root);
        }
        Err(Error::unreachable(format!("there is no folder {}", self.root.display()))
            .hint(format!("Is its disk mounted? A new escrow begins with `mkdir -m 700 {}`.", self.root.display())))
    }
}

impl Place for FileEscrow {
    fn describe(&self) -> String {
        format!("the folder {}", self.root.display())
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.folder()?.get(name, limit).map_err(|error| match error.kind() {
            // It is no archive, and has no other copies.
            Kind::NotFound => Error::not_found(format!("there is no {name} in {}", Place::describe(self))),
            _ => error,
        })
    }

    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<bool> {
        self.folder()?.put_new(name, bytes)
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        self.folder()?.replace(name, bytes)
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        self.folder()?.remove(name)
    }

    fn list(&self, folder: &ObjectName) -> Result<Vec<ObjectName>> {
        Ok(self.folder()?.list(folder)?.into_iter().map(|listed| listed.name).collect())
    }

    fn hold(&self, name: &ObjectName) -> Result<Box<dyn Send>> {
        let folder = self.folder()?;
        // Others may write here and hold it for ever, or keep us from opening it: being careful must do then.
        Ok(folder.hold(name).unwrap_or_else(|_| Box::new(())))
    }
}
