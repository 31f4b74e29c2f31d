//! Walking a folder in raw byte order of the whole path.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};

use super::path::as_path;
use super::{size_of, times_of};
use crate::ground::{Error, Result};
use crate::storage::{Entry, EntryKind, LeftOut};

/// One folder that is being walked.
struct Level {
    fd: OwnedFd,
    /// Its path with a `/` at its end; empty for the root.
    prefix: Vec<u8>,
    /// What is left of it, last first.
    ///
    /// A folder stands here twice: as the entry `name`, and as `name/`, where its content begins. Sorted by these bytes the
    /// whole walk is in order, because `a-b` stands before `a/b` and after `a`.
    names: Vec<Vec<u8>>,
}

/// Walks everything below `root`.
pub(super) fn walk(root: &OwnedFd, shown: &Path, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<Vec<LeftOut>> {
    let mut left_out = Vec::new();
    let fd = openat(root, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::io("list", shown, e.into()))?;
    let names = list(&fd).map_err(|e| Error::io("list", shown, e.into()))?;
    let mut levels = vec![Level { fd, prefix: Vec::new(), names }];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            levels.pop();
            continue;
        };
        if let Some(folder) = name.strip_suffix(b"/") {
            let below = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = openat(&level.fd, as_path(folder), below, Mode::empty())
                .and_then(|fd| list(&fd).map(|names| (fd, names)));
            let prefix = [level.prefix.as_slice(), &name].concat();
            match opened {
                Ok((fd, names)) => levels.push(Level { fd, prefix, names }),
                // It went away between its two names: nothing was lost that a backup could have had.
                Err(rustix::io::Errno::NOENT) => {}
                Err(e) => leave_out(&mut left_out, &prefix, &std::io::Error::from(e).to_string()),
            }
            continue;
        }
        let path = [level.prefix.as_slice(), &name].concat();
        match look(level, &name, path.clone()) {
            Ok(Some(entry)) => visit(entry)?,
            Ok(None) => {}
            Err(reason) => leave_out(&mut left_out, &path, &reason),
        }
    }
    Ok(left_out)
}

fn leave_out(left_out: &mut Vec<LeftOut>, path: &[u8], reason: &str) {
    // Enough to act on; a million unreadable files need not all be named.
    if left_out.len() < 10_000 {
        left_out.push(LeftOut::new(path.to_owned(), reason));
    }
}

/// The names in a folder as [`Level::names`] holds them.
fn list(fd: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let folder = match entry.file_type() {
            FileType::Directory => true,
            // Some file systems do not say what an entry is when they list it.
            FileType::Unknown => statat(fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
            _ => false,
        };
        names.push(name.to_vec());
        if folder {
            names.push([name, b"/"].concat());
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

fn look(level: &Level, name: &[u8], path: Vec<u8>) -> std::result::Result<Option<Entry>, String> {
    let stat = match statat(level.fd.as_fd(), as_path(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(e) => return Err(std::io::Error::from(e).to_string()),
    };
    let target = if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        match readlinkat(&level.fd, as_path(name), Vec::new()) {
            Ok(target) => Some(target.into_bytes()),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(std::io::Error::from(e).to_string()),
        }
    } else {
        None
    };
    entry_of(path, &stat, target).map(Some).ok_or_else(|| what_it_is(&stat).to_owned())
}

fn what_it_is(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => "it is a socket",
        FileType::Fifo => "it is a named pipe",
        FileType::BlockDevice => "it is a block device",
        FileType::CharacterDevice => "it is a character device",
        _ => "it is of no known kind",
    }
}

/// The entry of what was looked at; `None` for what is no file, folder or link.
#[expect(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the types differ between architectures")]
pub(super) fn entry_of(path: Vec<u8>, stat: &Stat, target: Option<Vec<u8>>) -> Option<Entry> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Dir,
        FileType::Symlink => EntryKind::Symlink,
        _ => return None,
    };
    let (mtime, ctime) = times_of(stat);
    let file = kind == EntryKind::File;
    Some(Entry {
        path,
        kind,
        size: if file { size_of(stat) } else { 0 },
        mtime,
        ctime,
        inode: stat.st_ino as u64,
        mode: stat.st_mode as u32 & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        target,
        hard_linked: file && u64::from(stat.st_nlink) > 1,
        sparse: file && (u64::try_from(stat.st_blocks).unwrap_or(0) * 512) < size_of(stat),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use crate::storage::filesystem::Filesystem;
    use crate::storage::{EntryKind, Storage as _};

    fn paths(root: &std::path::Path) -> (Vec<Vec<u8>>, usize) {
        let mut paths = Vec::new();
        let left = Filesystem::new(root)
            .walk(&mut |entry| {
                paths.push(entry.path);
                Ok(())
            })
            .expect("walked");
        (paths, left.len())
    }

    #[test]
    fn the_order_is_that_of_the_whole_paths_bytes() {
        let root = tempfile::tempdir().expect("a folder");
        for path in ["a/b", "a-b", "a.b", "a/c/d", "a0", "Z", "a/c-d", "ä"] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, b"x").expect("written");
        }
        let bad = root.path().join(std::ffi::OsStr::from_bytes(b"bad\xffname"));
        std::fs::write(bad, b"x").expect("written");
        let (found, left) = paths(root.path());
        let mut sorted = found.clone();
        sorted.sort();
        assert_eq!(found, sorted);
        assert_eq!((found.len(), left), (11, 0));
        assert!(found.contains(&b"bad\xffname".to_vec()));
    }

    #[test]
    fn links_are_recorded_and_never_followed_and_special_files_are_named() {
        let root = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink("/etc", root.path().join("link")).expect("linked");
        rustix::fs::mknodat(rustix::fs::CWD, root.path().join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("made");
        std::fs::create_dir(root.path().join(".strongroom")).expect("made");
        std::fs::write(root.path().join(".strongroom/x"), b"x").expect("written");
        let mut found = Vec::new();
        let left = Filesystem::new(root.path())
            .walk(&mut |entry| {
                found.push(entry);
                Ok(())
            })
            .expect("walked");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].kind, found[0].target.as_deref()), (EntryKind::Symlink, Some(b"/etc".as_slice())));
        assert_eq!(left.len(), 1);
        assert!(left[0].reason.contains("pipe"));
    }

    #[test]
    fn a_missing_root_is_an_error_and_not_an_empty_storage() {
        let root = tempfile::tempdir().expect("a folder");
        assert!(Filesystem::new(&root.path().join("nowhere")).walk(&mut |_| Ok(())).is_err());
    }

    #[test]
    fn a_file_is_never_opened_through_a_link() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("real")).expect("made");
        std::fs::write(root.path().join("real/f"), b"x").expect("written");
        std::os::unix::fs::symlink("real", root.path().join("link")).expect("linked");
        let reader = Filesystem::new(root.path()).reader().expect("a reader");
        assert!(reader.open(b"real/f").is_ok());
        assert!(reader.open(b"link/f").is_err());
        assert!(reader.open(b"../x").is_err());
    }
}
