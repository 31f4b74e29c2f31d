//! Where bundles and parts live: a folder, or a bucket.
//!
//! The contract every archive keeps:
//! * an object appears whole and durable, or not at all; nobody sees half of one;
//! * [`Archive::put_new`] and [`NewObject::commit`] create: a name once taken is never overwritten by them, and of two
//!   writers exactly one is told that it was first;
//! * reads may be repeated; a write that failed may be tried again under the same name;
//! * listing is by raw bytes of the name, and shows every object committed before the call.
//!
//! An archive's owner is not trusted: what comes from here is authenticated by those who ask for it.

pub mod folder;
pub mod state;

#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
pub(crate) mod memory;

use std::io::{Read, Seek};

use crate::ground::block::TakeBlocks;
use crate::ground::names::{ObjectName, Uuid};
use crate::ground::{Error, Result, json};

/// The file that makes a place an archive.
pub const MARKER: &str = "strongroom.json";

/// An object open for reading.
pub trait Object: Read + Seek + Send {
    /// Its length in bytes.
    fn length(&self) -> u64;

    /// Another reader of the very same object, with a place of its own.
    fn again(&self) -> Result<Box<dyn Object>>;
}

/// An object that is being written; it does not exist until [`NewObject::commit`].
pub trait NewObject: TakeBlocks + Send {
    /// Makes it durable and gives it its name; `false` when the name was taken, and nothing is changed then.
    fn commit(self: Box<Self>) -> Result<bool>;
}

/// One name of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The object's name.
    pub name: ObjectName,
    /// Its length in bytes.
    pub length: u64,
}

/// A place for objects; see the module for what it promises.
pub trait Archive: Send + Sync {
    /// Its URL without secrets, for messages.
    fn describe(&self) -> String;

    /// Opens an object; [`crate::ground::Kind::NotFound`] when there is none.
    fn open(&self, name: &ObjectName) -> Result<Box<dyn Object>>;

    /// Begins a new object.
    fn create(&self, name: &ObjectName) -> Result<Box<dyn NewObject>>;

    /// The object's length, `None` when there is none.
    fn length(&self, name: &ObjectName) -> Result<Option<u64>>;

    /// Every object whose name begins with this folder (no `/` at its end), all depths, sorted by bytes.
    fn list(&self, folder: &ObjectName) -> Result<Vec<Listed>>;

    /// The names directly below a folder, sorted by bytes, whatever stands there: folders, objects, and what is neither. None
    /// when it is missing.
    fn children(&self, folder: &ObjectName) -> Result<Vec<String>>;

    /// Replaces a small object; for the few that have generations (`custody.json`, `identity.age`).
    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()>;

    /// Removes an object; one that is gone already is no error.
    fn remove(&self, name: &ObjectName) -> Result<()>;

    /// Holds off other writers of this host for as long as the guard lives, where the place can; a courtesy only.
    ///
    /// The last component of the name begins with a dot, so it is no object. Waits for some seconds; then
    /// [`crate::ground::Kind::Locked`].
    fn hold(&self, name: &ObjectName) -> Result<Box<dyn Send>>;

    /// Removes what runs that were killed hours ago left unfinished below a folder, and says how many; nothing where there is no such thing.
    fn sweep(&self, _below: &ObjectName) -> Result<u64> {
        Ok(0)
    }

    /// Writes a small new object; `false` when the name was taken.
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<bool> {
        let mut new = self.create(name)?;
        new.write_all(bytes)
            .map_err(|e| Error::from_io(crate::ground::Kind::Failed, format!("cannot write {name}"), e))?;
        new.commit()
    }

    /// Reads a small object whole; one that is longer than `limit` is damaged.
    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        let object = self.open(name)?;
        if object.length() > limit {
            return Err(Error::damaged(format!("{name} has {} bytes, more than the {limit} it may", object.length())));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(object.length()).unwrap_or(0));
        object
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::from_io(crate::ground::Kind::Failed, format!("cannot read {name}"), e))?;
        if bytes.len() as u64 > limit {
            return Err(Error::damaged(format!("{name} has more than the {limit} bytes it may")));
        }
        Ok(bytes)
    }
}

/// Begins objects where a backup will, and writes some bytes of each; none of them comes to be.
pub fn try_writing(archive: &dyn Archive, app: &crate::ground::names::AppName) -> Result<()> {
    for room in ["ledger", "bundles", "parts", "keys"] {
        let folder: ObjectName = format!("{room}/{app}").parse()?;
        // A room that no backup has made yet is made by the first one, as `ledger` was.
        if room != "ledger" && archive.children(&folder)?.is_empty() {
            continue;
        }
        let name = folder.join("write-test")?;
        let mut new = archive.create(&name)?;
        new.write_all(&[0; 4096])
            .and_then(|()| new.flush())
            .map_err(|e| Error::from_io(crate::ground::Kind::Failed, format!("cannot write in {folder}"), e))?;
    }
    Ok(())
}

/// What `strongroom.json` says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Marker {
    /// The archive format, 1.
    pub format: u64,
    /// The archive's name; copies keep the origin's.
    pub archive: Uuid,
}

/// What is left where an archive is gone; `init` goes over nothing that it finds.
const LOST: &str = "If it is gone for good: move strongroom.toml and recovery-identity.txt away where they stand here, and `strongroom init` makes a new archive.";

/// Reads which archive this is.
pub fn identify(archive: &dyn Archive) -> Result<Uuid> {
    let name: ObjectName = MARKER.parse()?;
    let bytes = archive.get(&name, 4096).map_err(|e| match e.kind() {
        crate::ground::Kind::NotFound => Error::not_found(format!("no archive at {}", archive.describe()))
            .hint("An archive is the folder that holds strongroom.json: check [archive] url, and whether its disk is mounted.")
            .hint(LOST),
        _ => e,
    })?;
    let marker: Marker = json::parse(&bytes, MARKER)?;
    if marker.format != 1 {
        return Err(Error::failed(format!(
            "{} has archive format {}, and this program reads format 1",
            archive.describe(),
            marker.format
        ))
        .hint("Use a newer strongroom."));
    }
    Ok(marker.archive)
}

/// Makes a place an archive, or answers which one it is already.
pub fn establish(archive: &dyn Archive) -> Result<Uuid> {
    let marker = Marker { format: 1, archive: Uuid::new()? };
    if archive.put_new(&MARKER.parse()?, &json::pretty(&marker)?)? { Ok(marker.archive) } else { identify(archive) }
}
