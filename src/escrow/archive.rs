//! The archive itself as an escrow.

use super::tree::Place;
use crate::archive::Archive;
use crate::ground::names::ObjectName;
use crate::ground::{Kind, Result};

/// How the name of such a place begins.
const ARCHIVE: &str = "the archive ";

/// Whether a place that the ledger names is an archive, whatever its address was then.
pub fn is_an_archive(place: &str) -> bool {
    place.starts_with(ARCHIVE)
}

/// Keeps sealed keys in the archive, below `keys/`.
pub struct ArchiveEscrow<'a>(&'a dyn Archive);

impl<'a> ArchiveEscrow<'a> {
    /// The escrow in this archive.
    pub fn new(archive: &'a dyn Archive) -> Self {
        Self(archive)
    }
}

impl Place for ArchiveEscrow<'_> {
    fn describe(&self) -> String {
        format!("{ARCHIVE}{}", self.0.describe())
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.0.get(name, limit)
    }

    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<bool> {
        self.0.put_new(name, bytes)
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        self.0.replace(name, bytes)
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        self.0.remove(name)
    }

    fn list(&self, folder: &ObjectName) -> Result<Vec<ObjectName>> {
        match self.0.list(folder) {
            Ok(listed) => Ok(listed.into_iter().map(|listed| listed.name).collect()),
            Err(error) if error.kind() == Kind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn hold(&self, name: &ObjectName) -> Result<Box<dyn Send>> {
        // Whoever can write to the archive can hold this for ever, or put something else in its place. Of two deposits at once one
        // creates the public record and
        // puts its bytes under it; what a repair or a removal leaves beside another run is no deposit, or one whose bytes its
        // record does not name, which is no copy and is mended by the next repair.
        Ok(self.0.hold(name).unwrap_or_else(|_| Box::new(())))
    }
}
