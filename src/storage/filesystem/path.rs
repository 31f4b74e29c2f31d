//! Opening what lies below a folder, and nothing else: no symbolic link is followed on the way.

use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::ground::{Error, Result};

/// Bytes as a path of the system.
pub(super) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// A path's folder (empty for the root) and its last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// Opens a root; links on the way to it are the operator's own.
pub(super) fn open_folder(path: &Path) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| {
        let error = Error::io("open the folder", path, e.into());
        if e == Errno::NOENT {
            error.hint(format!(
                "Is its disk mounted, and is the URL right? For a restore onto a new machine: mkdir -p {}",
                path.display()
            ))
        } else {
            error
        }
    })
}

/// Opens what lies at `path` below `root`; an empty path is the root itself.
///
/// `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)`; component by component where a kernel or a sandbox lacks it.
pub(super) fn open_below(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if path.is_empty() {
        return openat(root, c".", flags, mode);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, as_path(path), flags, mode, resolve) {
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => step_by_step(root, path, flags, mode),
        other => other,
    }
}

fn step_by_step(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let (folders, name) = split(path);
    let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = openat(root, c".", through, Mode::empty())?;
    for part in folders.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
        if part == b".." {
            return Err(Errno::XDEV);
        }
        folder = openat(&folder, as_path(part), through, Mode::empty())?;
    }
    openat(&folder, as_path(name), flags, mode)
}
