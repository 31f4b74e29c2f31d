//! Ways below the root that follow no symbolic link.
//!
//! Each component is opened from the folder before it with `O_NOFOLLOW`; that is as safe as `openat2(RESOLVE_BENEATH |
//! RESOLVE_NO_SYMLINKS)` for names without `..`, and every kernel and container runtime has it.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom, fstat, openat, seek, statat, unlinkat};
use rustix::io::Errno;

use crate::ground::names::ObjectName;

type Io<T> = std::io::Result<T>;

/// Folders that are only passed through need no right to list them.
#[cfg(target_os = "linux")]
const PASS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const PASS: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

const LIST: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// One thing in a folder.
pub(super) struct Entry<'a> {
    /// The folder that it is in.
    pub(super) folder: BorrowedFd<'a>,
    /// That folder's path below the root.
    pub(super) path: &'a str,
    /// Its name there.
    pub(super) name: &'a str,
    /// Whether it is a regular file.
    pub(super) regular: bool,
    /// Its length.
    pub(super) length: u64,
    /// When it was last written.
    pub(super) modified: SystemTime,
}

fn open_folder(root: &Path, components: &[&str], last: OFlags) -> Io<OwnedFd> {
    // The root itself is the operator's and may be a link.
    let mut folder = openat(CWD, root, if components.is_empty() { last } else { PASS }, Mode::empty())?;
    for (i, component) in components.iter().enumerate() {
        let flags = if i + 1 == components.len() { last } else { PASS };
        folder = openat(&folder, *component, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(folder)
}

fn split(name: &ObjectName) -> (Vec<&str>, &str) {
    let mut components: Vec<&str> = name.as_str().split('/').collect();
    let last = components.pop().unwrap_or_default();
    (components, last)
}

/// The folder that an object lies in.
pub(super) fn parent(root: &Path, name: &ObjectName) -> Io<OwnedFd> {
    open_folder(root, &split(name).0, PASS)
}

/// Opens a regular file for reading, with its length; anything else there is `ENXIO`, a symbolic link `ELOOP`.
pub(super) fn open_file(root: &Path, name: &ObjectName) -> Io<(File, u64)> {
    let (folders, last) = split(name);
    let folder = open_folder(root, &folders, PASS)?;
    // Opening a FIFO would wait for its other end, and opening a device may do anything; the second is over at once.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(&folder, last, flags, Mode::empty())?;
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::NXIO.into());
    }
    let length = u64::try_from(stat.st_size).unwrap_or(0);
    if last.as_bytes().ends_with(b".age") && has_holes(&file, length) {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "it has holes, and nothing that is sealed has any",
        ));
    }
    Ok((file.into(), length))
}

/// Whether a file says that it is long and holds little: it costs its maker nothing and its reader hours.
fn has_holes(file: &OwnedFd, length: u64) -> bool {
    let hole = seek(file, SeekFrom::Hole(0));
    // Where holes are not known the whole file is data up to its end.
    seek(file, SeekFrom::Start(0)).is_ok() && hole.is_ok_and(|at| at < length)
}

/// The length of a regular file; the errors of [`open_file`] for everything else.
pub(super) fn length(root: &Path, name: &ObjectName) -> Io<u64> {
    let (folders, last) = split(name);
    let folder = open_folder(root, &folders, PASS)?;
    let stat = statat(&folder, last, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(u64::try_from(stat.st_size).unwrap_or(0)),
        FileType::Symlink => Err(Errno::LOOP.into()),
        // A folder of that name is no object, and an object of that name is missing.
        FileType::Directory => Err(Errno::NOENT.into()),
        _ => Err(Errno::NXIO.into()),
    }
}

/// Removes what stands under an object's name, whatever it is but a folder.
pub(super) fn remove(root: &Path, name: &ObjectName) -> Io<()> {
    let (folders, last) = split(name);
    let folder = open_folder(root, &folders, PASS)?;
    Ok(unlinkat(&folder, last, AtFlags::empty())?)
}

/// The names of what stands directly in a folder; one that is no text comes as text all the same, and is nobody's name.
pub(super) fn children(root: &Path, folder: &ObjectName) -> Io<Vec<String>> {
    let components: Vec<&str> = folder.as_str().split('/').collect();
    let folder = open_folder(root, &components, LIST)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// What failed in a walk, and in which folder of the archive.
pub(super) struct Failed {
    pub(super) folder: String,
    pub(super) error: std::io::Error,
}

/// Visits everything below a folder whose name is wanted, at all depths but folders, in no order.
pub(super) fn each(
    root: &Path,
    folder: &ObjectName,
    wanted: fn(&str) -> bool,
    visit: &mut dyn FnMut(Entry<'_>) -> Io<()>,
) -> std::result::Result<(), Failed> {
    let components: Vec<&str> = folder.as_str().split('/').collect();
    let opened = open_folder(root, &components, LIST);
    let opened = opened.map_err(|error| Failed { folder: folder.to_string(), error })?;
    descend(&opened, folder.as_str(), wanted, visit)
}

fn descend(
    folder: &OwnedFd,
    path: &str,
    wanted: fn(&str) -> bool,
    visit: &mut dyn FnMut(Entry<'_>) -> Io<()>,
) -> std::result::Result<(), Failed> {
    let failed = |error: std::io::Error| Failed { folder: path.to_owned(), error };
    for entry in Dir::read_from(folder).map_err(|e| failed(e.into()))? {
        let entry = entry.map_err(|e| failed(e.into()))?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name == "." || name == ".." {
            continue;
        }
        // Looking at each is what takes the time.
        if !matches!(entry.file_type(), FileType::Directory | FileType::Unknown) && !wanted(name) {
            continue;
        }
        let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed or renamed since its name was read.
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(failed(e.into())),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory {
            if !wanted(name) {
                continue;
            }
            let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
            visit(Entry {
                folder: folder.as_fd(),
                path,
                name,
                regular: kind == FileType::RegularFile,
                length: u64::try_from(stat.st_size).unwrap_or(0),
                modified: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            })
            .map_err(failed)?;
        } else if !name.starts_with('.') {
            let below = format!("{path}/{name}");
            // No object lies deeper than a name can be long, so this ends.
            if below.parse::<ObjectName>().is_ok() {
                match openat(folder, name, LIST | OFlags::NOFOLLOW, Mode::empty()) {
                    Ok(next) => descend(&next, &below, wanted, visit)?,
                    Err(Errno::NOENT) => {}
                    Err(e) => return Err(failed(e.into())),
                }
            }
        }
    }
    Ok(())
}
