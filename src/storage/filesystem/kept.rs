//! Folders in which earlier restores kept what they replaced: `.strongroom/rollback-<bundle>`.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat, unlinkat};
use rustix::io::Errno;

use super::OWN_FOLDER;
use super::path::open_below;
use crate::ground::failpoint;
use crate::ground::kept::Kept;

type Result<T> = std::result::Result<T, Errno>;

const LIST: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whether a name is one that a restore makes: `rollback-<bundle>`, with `.1` behind it for an older one.
fn is_ours(name: &str) -> bool {
    name.strip_prefix("rollback-").is_some_and(|rest| {
        !rest.is_empty()
            && !rest.ends_with(".running")
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
    })
}

fn own_folder(root: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    match open_below(root, OWN_FOLDER, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
        Ok(own) => Ok(Some(own)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(e) => Err(e),
    }
}

/// What is kept, sorted; one that a killed restore needs still is left out.
pub(super) fn list(root: BorrowedFd<'_>) -> Result<Vec<Kept>> {
    let Some(own) = own_folder(root)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in Dir::read_from(&own)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !is_ours(name) || statat(&own, format!("{name}.running"), AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            continue;
        }
        match openat(&own, name, LIST, Mode::empty()) {
            Ok(folder) => {
                found.push(Kept { name: name.to_owned(), bytes: Some(size(&folder)?), way_back: true });
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(e),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn size(folder: &OwnedFd) -> Result<u64> {
    let mut bytes = 0_u64;
    each(folder, &mut |name, below| {
        bytes += match below {
            Some(below) => size(below)?,
            None => u64::try_from(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_size).unwrap_or(0),
        };
        Ok(())
    })?;
    Ok(bytes)
}

/// Removes one of [`list`] with all that is in it; answers whether it was one.
pub(super) fn remove(root: BorrowedFd<'_>, name: &str) -> Result<bool> {
    let Some(own) = own_folder(root)? else { return Ok(false) };
    if !list(root)?.iter().any(|kept| kept.name == name) {
        return Ok(false);
    }
    failpoint::pass("before what a restore kept is removed");
    empty(&openat(&own, name, LIST, Mode::empty())?)?;
    unlinkat(&own, name, AtFlags::REMOVEDIR)?;
    // Ours and empty: without anything in it the storage looks as if no restore had been there.
    let _ = unlinkat(root, super::path::as_path(OWN_FOLDER), AtFlags::REMOVEDIR);
    rustix::fs::fsync(root)?;
    failpoint::pass("after what a restore kept was removed");
    Ok(true)
}

fn empty(folder: &OwnedFd) -> Result<()> {
    each(folder, &mut |name, below| match below {
        Some(below) => empty(below).and_then(|()| unlinkat(folder, name, AtFlags::REMOVEDIR)),
        None => unlinkat(folder, name, AtFlags::empty()),
    })
}

/// Visits what lies directly in a folder; folders are handed out open, links never followed.
fn each(folder: &OwnedFd, visit: &mut dyn FnMut(&std::ffi::CStr, Option<&OwnedFd>) -> Result<()>) -> Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            visit(name, Some(&openat(folder, name, LIST, Mode::empty())?))?;
        } else {
            visit(name, None)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_removed_whole_and_nothing_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        for (path, text) in [
            (".strongroom/rollback-a/d/f", "12345"),
            (".strongroom/rollback-a/g", "1"),
            (".strongroom/rollback-b/f", "1"),
            (".strongroom/other/f", "1"),
            ("outside/f", "1"),
        ] {
            std::fs::create_dir_all(at(path).parent().expect("a folder")).expect("made");
            std::fs::write(at(path), text).expect("written");
        }
        std::os::unix::fs::symlink(at("outside"), at(".strongroom/rollback-a/link")).expect("made");
        std::os::unix::fs::symlink(at("outside"), at(".strongroom/rollback-c")).expect("made");
        std::fs::write(at(".strongroom/rollback-b.running"), "").expect("written");
        let root = OwnedFd::from(std::fs::File::open(folder.path()).expect("opened"));
        let found = list(root.as_fd()).expect("listed");
        assert_eq!(found.iter().map(|k| k.name.as_str()).collect::<Vec<_>>(), ["rollback-a"]);
        assert!(found[0].bytes.is_some_and(|bytes| bytes >= 6), "{found:?}");
        for (name, ours) in [("rollback-a", true), ("rollback-a", false), ("rollback-b", false), ("../outside", false)]
        {
            assert_eq!(remove(root.as_fd(), name).expect("looked"), ours, "{name}");
        }
        assert!(!at(".strongroom/rollback-a").exists());
        assert!(
            at("outside/f").exists() && at(".strongroom/rollback-b/f").exists() && at(".strongroom/other/f").exists()
        );
    }
}
