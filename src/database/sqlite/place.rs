//! Where a restored database is to stand, and everything about that place which would fail later.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags};

use super::{halfway, holders};
use crate::database::{DatabasePlan, Facts};
use crate::ground::{Error, Result, clock};

/// The file behind the configured path: links are followed, so that the file is replaced and not the link.
pub(super) fn resolve(path: &Path) -> Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Ok(real) => return Ok(real),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io("find", path, e)),
    }
    if path.is_symlink() {
        return Err(Error::refused(format!("{} is a link to a file that does not exist", path.display()))
            .hint("Remove the link, or make what it names."));
    }
    let name = path.file_name().ok_or_else(|| Error::usage(format!("{} names no file", path.display())))?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = std::fs::canonicalize(folder).map_err(|e| {
        Error::io("find the folder", folder, e)
            .hint("Make the folder first, owned by the user that the application runs as.")
    })?;
    Ok(folder.join(name))
}

/// See [`crate::database::Database::plan`].
pub(super) fn plan(path: &Path, facts: &Facts) -> Result<DatabasePlan> {
    if facts.system != "sqlite" {
        return Err(Error::usage(format!("this bundle holds a {} database, and the target is SQLite", facts.system))
            .hint("Name a database of the bundle's kind with --database, or write files with --target DIR."));
    }
    let live = resolve(path)?;
    check(&live, facts)?;
    let earlier = halfway::find(&live)?;
    let replaces = live.exists() || earlier.as_ref().is_some_and(|e| e.kept.is_some());
    let kept = if replaces { Some(free_name(&live)?) } else { None };
    let mut steps = Vec::new();
    if earlier.is_some() {
        steps.push(format!("finish or take back the earlier restore of {} that was killed", live.display()));
    }
    let held = holders::processes(&live);
    if !held.is_empty() {
        steps.push(format!("wait until {} no longer has it open, else refuse", held.join(", ")));
    }
    steps.push(format!("build the restored database beside {} and check it ({} bytes)", live.display(), facts.bytes));
    if let Some(kept) = &kept {
        steps.push(format!("keep the present database as {}", kept.display()));
    }
    steps.push(format!("rename the restored one to {}", live.display()));
    Ok(DatabasePlan {
        target: format!("sqlite:{}", live.display()),
        replaces,
        kept_as: kept.map(|k| k.display().to_string()),
        steps,
        reversible: true,
    })
}

/// A name for the replaced file that is free.
fn free_name(live: &Path) -> Result<PathBuf> {
    let time = clock::compact(clock::now());
    (0..100)
        .map(|n| if n == 0 { time.clone() } else { format!("{time}-{n}") })
        .map(|time| halfway::kept_path(live, &time))
        .find(|path| !path.exists())
        .ok_or_else(|| Error::refused(format!("every name beside {} is taken", live.display())))
}

/// Refuses a place where the swap could not be done.
pub(super) fn check(live: &Path, facts: &Facts) -> Result<()> {
    let folder = live.parent().unwrap_or(Path::new("/"));
    if live.exists() {
        let meta = std::fs::metadata(live).map_err(|e| Error::io("look at", live, e))?;
        if !meta.is_file() {
            return Err(Error::refused(format!("{} is not a regular file", live.display()))
                .hint("Name the database's own file in [database] url or with --database."));
        }
        let user = rustix::process::geteuid();
        if !user.is_root() && meta.uid() != user.as_raw() {
            return Err(Error::denied(format!(
                "{} belongs to user {}, and user {} may not give files away",
                live.display(),
                meta.uid(),
                user.as_raw()
            ))
            .hint("Run the restore as root, or as the user that owns the database."));
        }
        if !user.is_root() && !may_give_to(meta.gid(), folder) {
            return Err(Error::denied(format!(
                "{} belongs to group {}, and user {} is not in it and may not give files to it",
                live.display(),
                meta.gid(),
                user.as_raw()
            ))
            .hint("Run the restore as root, or put this user into that group."));
        }
    }
    if is_mount_point(live) {
        return Err(mounted(live));
    }
    let stat = rustix::fs::statvfs(folder).map_err(|e| Error::io("look at", folder, e.into()))?;
    if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(Error::denied(format!("{} is on a file system that is mounted read-only", folder.display()))
            .hint("Mount it for writing, or restore elsewhere with --database or --target."));
    }
    rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|e| {
        Error::denied(format!("may not write in {}", folder.display()))
            .because(std::io::Error::from(e))
            .hint("The restored database is built beside the live one: the folder must be writable.")
    })?;
    let (free, needed) = (stat.f_bavail.saturating_mul(stat.f_frsize), facts.bytes.saturating_add(1 << 20));
    if free < needed {
        return Err(Error::failed(format!("{} has {free} bytes free and {needed} are needed", folder.display()))
            .hint("Both databases, old and new, stand there until the restore is done. Free some space."));
    }
    Ok(())
}

/// Whether a file that this user makes in a folder can be in this group.
fn may_give_to(group: u32, folder: &Path) -> bool {
    let inherited = std::fs::metadata(folder).is_ok_and(|meta| meta.mode() & 0o2000 != 0 && meta.gid() == group);
    let ours = rustix::process::getgroups().unwrap_or_default();
    inherited || rustix::process::getegid().as_raw() == group || ours.iter().any(|ours| ours.as_raw() == group)
}

/// The error for a file that is a mount point of its own.
pub(super) fn mounted(live: &Path) -> Error {
    Error::refused(format!("{} is mounted as a single file and cannot be replaced by renaming", live.display())).hint(
        "Run the restore where the file's folder is seen (on the host, outside the container), or mount the folder.",
    )
}

/// Whether this very path is a mount point, by `/proc/self/mountinfo` (proc(5)).
fn is_mount_point(path: &Path) -> bool {
    let Ok(mounts) = std::fs::read("/proc/self/mountinfo") else { return false };
    mounts
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .any(|point| unescape(point) == path.as_os_str().as_bytes())
}

/// Undoes the octal escapes of mountinfo: space, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(field.len()), field);
    while let Some((&first, after)) = rest.split_first() {
        let octal =
            after.get(..3).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        match octal {
            Some(byte) if first == b'\\' => {
                out.push(byte);
                rest = &after[3..];
            }
            _ => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_known_by_their_escaped_names() {
        assert_eq!(unescape(b"/a\\040b\\134c"), b"/a b\\c");
        assert_eq!(unescape(b"/plain\\9"), b"/plain\\9");
        assert!(is_mount_point(Path::new("/proc")));
        assert!(!is_mount_point(Path::new("/proc/self/no-such-thing")));
    }

    #[test]
    fn a_bundle_of_another_system_is_not_restored_into_a_file() {
        let facts = Facts { system: "postgres".to_owned(), ..Facts::default() };
        let error = plan(Path::new("/tmp/x.sqlite"), &facts).expect_err("refused");
        assert_eq!(error.kind(), crate::ground::Kind::Usage);
    }
}
