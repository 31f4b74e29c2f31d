//! What a restore replaces, kept below `.strongroom` in the target until nobody needs it, and put back when the restore fails.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, fsync, mkdirat, openat, renameat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::path::{as_path, split};
use super::target::{FilesystemTarget, mount_of};
use super::{OWN_FOLDER, walk};
use crate::ground::{Error, Kind, Result, failpoint};
use crate::storage::{EntryKind, Standing, Target as _};

/// What one restore keeps, under its own name.
pub(super) struct Rollback<'a> {
    target: &'a FilesystemTarget,
    name: &'a str,
}

impl<'a> Rollback<'a> {
    /// What is kept in this target under this name.
    pub(super) fn of(target: &'a FilesystemTarget, name: &'a str) -> Self {
        Self { target, name }
    }

    /// Where it is kept.
    fn folder(&self) -> Vec<u8> {
        [OWN_FOLDER, b"/", self.name.as_bytes()].concat()
    }

    /// Where a replaced path is kept.
    fn kept(&self, path: &[u8]) -> Vec<u8> {
        [&self.folder(), b"/".as_slice(), path].concat()
    }

    /// Stands while the restore is under way.
    fn marker(&self) -> String {
        format!("{}.running", self.name)
    }

    fn failed(&self, e: Errno) -> Error {
        self.target.error("keep replaced files in", &self.folder(), e)
    }

    fn make_own_folder(&self) -> Result<()> {
        match mkdirat(&self.target.root, as_path(OWN_FOLDER), Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(self.target.error("create the folder", OWN_FOLDER, e)),
        }
    }

    fn own_folder(&self) -> Result<Option<OwnedFd>> {
        match self.target.open_dir(OWN_FOLDER) {
            Ok(own) => Ok(Some(own)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.failed(e)),
        }
    }

    /// Fails when something stands in the way; changes nothing.
    pub(super) fn possible(&self) -> Result<()> {
        for path in [OWN_FOLDER.to_vec(), self.folder()] {
            if !matches!(self.target.standing(&path)?, Standing::Nothing | Standing::Dir) {
                return Err(self.target.error("keep replaced files in", &path, Errno::NOTDIR));
            }
        }
        let Some(own) = self.own_folder()? else { return Ok(()) };
        if mount_of(&own, b"") == self.target.mount {
            return Ok(());
        }
        Err(self.failed(Errno::XDEV).with_kind(Kind::Refused).hint(
            "Something is mounted there, and nothing can be moved to it: unmount it, or restore with --target DIR.",
        ))
    }

    /// Begins to keep: what a finished restore kept under this name gets another one.
    pub(super) fn begin(&self) -> Result<()> {
        self.make_own_folder()?;
        let own = self.target.open_dir(OWN_FOLDER).map_err(|e| self.failed(e))?;
        let marker = self.marker();
        if rustix::fs::statat(&own, &marker, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Ok(());
        }
        failpoint::pass("before an earlier rollback gets another name");
        for n in 1_u32.. {
            match renameat_with(&own, self.name, &own, format!("{}.{n}", self.name), RenameFlags::NOREPLACE) {
                Ok(()) | Err(Errno::NOENT) => break,
                Err(Errno::EXIST) => {}
                Err(e) => return Err(self.failed(e)),
            }
        }
        failpoint::pass("after an earlier rollback got another name");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&own, &marker, flags, Mode::RUSR | Mode::WUSR).map_err(|e| self.failed(e))?;
        fsync(&own).map_err(|e| self.failed(e))
    }

    /// Moves what stands at a path here.
    pub(super) fn put_away(&self, path: &[u8]) -> Result<()> {
        let kept = self.kept(path);
        self.make_own_folder()?;
        let (from, to) = (self.target.parent(path)?, self.target.parent(&kept)?);
        let (old, new) = (as_path(split(path).1), as_path(split(&kept).1));
        failpoint::pass("before a replaced file is moved away");
        let moved = renameat_with(&from, old, &to, new, RenameFlags::NOREPLACE);
        failpoint::pass("after a replaced file was moved away");
        match moved {
            // The original is there since a run that was killed; what stands now is that run's own.
            Ok(()) | Err(Errno::EXIST | Errno::NOENT) => Ok(()),
            Err(Errno::INVAL) => renameat(&from, old, &to, new).map_err(|e| self.target.error("move away", path, e)),
            Err(e) => Err(self.target.error("move away", path, e)),
        }
    }

    /// The restore is at its end.
    pub(super) fn end(&self) -> Result<()> {
        let Some(own) = self.own_folder()? else { return Ok(()) };
        failpoint::pass("before the marker of a rollback is removed");
        match unlinkat(&own, self.marker(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(self.failed(e)),
        }
        failpoint::pass("after the marker of a rollback was removed");
        fsync(&own).map_err(|e| self.failed(e))?;
        // Gone when nothing was replaced.
        let _ = unlinkat(&self.target.root, as_path(OWN_FOLDER), AtFlags::REMOVEDIR);
        Ok(())
    }

    /// Puts everything back.
    pub(super) fn put_back(&self) -> Result<()> {
        let target = self.target;
        let kept = self.folder();
        let folder = match target.open_dir(&kept) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return self.end(),
            Err(e) => return Err(target.error("open the folder", &kept, e)),
        };
        let mut found = Vec::new();
        walk::walk(&folder, &target.shown.join(as_path(&kept)), &mut |entry| {
            found.push((entry.path, entry.kind));
            Ok(())
        })?;
        let (mut folders, mut whole) = (Vec::new(), Vec::<Vec<u8>>::new());
        for (path, kind) in found {
            if whole.iter().any(|folder| path.starts_with(folder) && path.get(folder.len()) == Some(&b'/')) {
                continue;
            }
            match (kind, target.standing(&path)?) {
                // The way to what is kept below it.
                (EntryKind::Dir, Standing::Dir) => {
                    folders.push(path);
                    continue;
                }
                // Something of another kind took its place; a folder is empty again by now.
                (EntryKind::Dir, Standing::Nothing) => {}
                (EntryKind::Dir, _) | (_, Standing::Dir) => target.discard(&path)?,
                _ => {}
            }
            let from = self.kept(&path);
            let (source, to) = (target.parent(&from)?, target.parent(&path)?);
            failpoint::pass("before a replaced file is put back");
            renameat(&source, as_path(split(&from).1), &to, as_path(split(&path).1))
                .map_err(|e| target.error("put back", &path, e))?;
            if kind == EntryKind::Dir {
                whole.push(path);
            }
        }
        for path in folders.iter().rev() {
            let from = self.kept(path);
            let _ = unlinkat(&target.parent(&from)?, as_path(split(&from).1), AtFlags::REMOVEDIR);
        }
        let own = target.open_dir(OWN_FOLDER).map_err(|e| target.error("open the folder", OWN_FOLDER, e))?;
        let _ = unlinkat(&own, self.name, AtFlags::REMOVEDIR);
        self.end()?;
        if Dir::read_from(&own)
            .is_ok_and(|mut dir| !dir.any(|e| e.is_ok_and(|e| !e.file_name().to_bytes().starts_with(b"."))))
        {
            let _ = unlinkat(&target.root, as_path(OWN_FOLDER), AtFlags::REMOVEDIR);
        }
        target.sync()
    }
}
