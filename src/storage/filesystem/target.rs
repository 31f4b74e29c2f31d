//! Restoring into a folder: temporary names first, then everything takes its place.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, StatxFlags, Uid, mkdirat, openat, readlinkat, renameat, statat, statx,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::path::{as_path, open_below, open_folder, split};
use super::restored::{Blocks, Restored, dress, mode_of, owner_of, times};
use super::rollback::Rollback;
use super::{OWN_FOLDER, is_own, kept, size_of, times_of, walk};
use crate::ground::durable::TEMPORARY;
use crate::ground::kept::Kept;
use crate::ground::{Error, Kind, Result, failpoint};
use crate::storage::{EntryKind, Look, NewFile, Owner, Standing, Target};

/// A folder to restore into.
pub struct FilesystemTarget {
    pub(super) root: OwnedFd,
    pub(super) shown: PathBuf,
    /// The owner of the root, whom restored files go to unless something else is asked for.
    owner: (u32, u32),
    blocks: Arc<Blocks>,
    device: u64,
    /// What is mounted at the root, as far as the system tells.
    pub(super) mount: Option<u64>,
    /// A folder of each other file system that is mounted below: it is made to last apart.
    mounted: Mutex<BTreeMap<u64, Arc<OwnedFd>>>,
}

/// The temporary name of a path's last component; the same in every run, so that none is left behind twice.
fn temporary(name: &[u8]) -> Vec<u8> {
    let hash = blake3::hash(name).to_hex();
    format!(".{}{TEMPORARY}", &hash[..16]).into_bytes()
}

/// Whether a path has a name as [`temporary`] makes it: an application's own files may end alike.
pub(super) fn is_temporary(path: &[u8]) -> bool {
    let name = split(path).1.strip_prefix(b".").and_then(|name| name.strip_suffix(TEMPORARY.as_bytes()));
    name.is_some_and(|hash| hash.len() == 16 && hash.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// The number of what is mounted where something stands: nothing is renamed from one to another, even of one file system.
///
/// `name` is one in the folder, or empty for the folder itself.
pub(super) fn mount_of(folder: &OwnedFd, name: &[u8]) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = statx(folder, as_path(name), flags, StatxFlags::MNT_ID).ok()?;
    StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID).then_some(stat.stx_mnt_id)
}

impl FilesystemTarget {
    /// The folder at this path, which must exist.
    pub fn new(root: &Path) -> Result<Self> {
        let fd = open_folder(root)?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| Error::io("look at", root, e.into()))?;
        let mount = mount_of(&fd, b"");
        Ok(Self {
            root: fd,
            shown: root.to_owned(),
            owner: (stat.st_uid, stat.st_gid),
            blocks: Arc::default(),
            device: stat.st_dev,
            mount,
            mounted: Mutex::default(),
        })
    }

    pub(super) fn error(&self, verb: &str, path: &[u8], e: Errno) -> Error {
        let error = Error::io(verb, &self.shown.join(as_path(path)), e.into());
        match e {
            Errno::ROFS | Errno::ACCESS | Errno::PERM => {
                error.with_kind(Kind::Denied).hint("Give this user the right to write there, or run as one who has it.")
            }
            Errno::LOOP | Errno::NOTDIR => error
                .with_kind(Kind::Refused)
                .hint("Something stands where a folder should be, and links are not followed: move it away."),
            Errno::MLINK => error
                .with_kind(Kind::Refused)
                .hint("It got another name (a hard link) meanwhile, which would be changed with it: run this again."),
            _ => error,
        }
    }

    pub(super) fn open_dir(&self, path: &[u8]) -> std::result::Result<OwnedFd, Errno> {
        let folder = open_below(self.root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        let device = rustix::fs::fstat(&folder)?.st_dev;
        if device != self.device {
            let mut mounted = self.mounted.lock().unwrap_or_else(PoisonError::into_inner);
            if let Entry::Vacant(place) = mounted.entry(device) {
                place.insert(Arc::new(rustix::io::fcntl_dupfd_cloexec(&folder, 0)?));
            }
        }
        Ok(folder)
    }

    /// The folder of a path, made with those above it where they are missing.
    pub(super) fn parent(&self, path: &[u8]) -> Result<OwnedFd> {
        let (folder, _) = split(path);
        match self.open_dir(folder) {
            Err(Errno::NOENT) => {
                self.make_dir(folder)?;
                self.open_dir(folder).map_err(|e| self.error("open the folder", folder, e))
            }
            other => other.map_err(|e| self.error("open the folder", folder, e)),
        }
    }

    fn make_dir(&self, path: &[u8]) -> Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        let parent = self.parent(path)?;
        match mkdirat(&parent, as_path(split(path).1), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(self.error("create the folder", path, e)),
        }
    }

    fn stat(&self, path: &[u8]) -> Result<Option<Stat>> {
        let (folder, name) = split(path);
        let found = self.open_dir(folder).and_then(|fd| statat(&fd, as_path(name), AtFlags::SYMLINK_NOFOLLOW));
        match found {
            Ok(stat) => Ok(Some(stat)),
            // Below a link or a file there is nothing that a restore could keep.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(e) => Err(self.error("look at", path, e)),
        }
    }
}

impl Target for FilesystemTarget {
    fn describe(&self) -> String {
        format!("file:{}", self.shown.display())
    }

    fn standing(&self, path: &[u8]) -> Result<Standing> {
        Ok(match self.stat(path)? {
            None => Standing::Nothing,
            Some(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile if stat.st_nlink > 1 => Standing::Linked,
                FileType::RegularFile => Standing::File(size_of(&stat)),
                FileType::Directory => Standing::Dir,
                FileType::Symlink => Standing::Symlink,
                _ => Standing::Other,
            },
        })
    }

    fn read_link(&self, path: &[u8]) -> Result<Vec<u8>> {
        let (folder, name) = split(path);
        self.open_dir(folder)
            .and_then(|fd| readlinkat(&fd, as_path(name), Vec::new()))
            .map(std::ffi::CString::into_bytes)
            .map_err(|e| self.error("read the link", path, e))
    }

    fn read(&self, path: &[u8]) -> Result<Box<dyn Read + Send>> {
        let fd = open_below(self.root.as_fd(), path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
            .map_err(|e| self.error("read", path, e))?;
        Ok(Box::new(File::from(fd)))
    }

    fn folder(&self, path: &[u8], rollback: Option<&str>) -> Result<()> {
        match (self.standing(path)?, rollback) {
            (Standing::Dir, _) => return Ok(()),
            (Standing::Nothing, _) => {}
            (_, Some(rollback)) => self.put_away(path, rollback)?,
            (_, None) => return Err(self.error("create the folder", path, Errno::NOTDIR)),
        }
        self.make_dir(path)
    }

    fn create(&self, path: &[u8], size: u64) -> Result<Box<dyn NewFile>> {
        let parent = self.parent(path)?;
        let name = temporary(split(path).1);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || openat(&parent, as_path(&name), flags, Mode::RUSR | Mode::WUSR);
        let fd = match open() {
            Err(Errno::EXIST) => unlinkat(&parent, as_path(&name), AtFlags::empty()).and_then(|()| open()),
            other => other,
        }
        .map_err(|e| self.error("create", path, e))?;
        let (owner, blocks) = (self.owner, self.blocks.clone());
        Ok(Box::new(Restored::new(File::from(fd), size, self.shown.join(as_path(path)), owner, blocks)))
    }

    fn link(&self, path: &[u8], look: &Look, owner: Owner) -> Result<()> {
        let parent = self.parent(path)?;
        let name = temporary(split(path).1);
        let target = look.target.as_deref().unwrap_or_default();
        let link = || symlinkat(as_path(target), &parent, as_path(&name));
        match link() {
            Err(Errno::EXIST) => unlinkat(&parent, as_path(&name), AtFlags::empty()).and_then(|()| link()),
            other => other,
        }
        .map_err(|e| self.error("create the link", path, e))?;
        let (uid, gid) = owner_of(self.owner, look, owner);
        let given = rustix::fs::chownat(
            &parent,
            as_path(&name),
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        );
        if owner != Owner::Target {
            given.map_err(|e| self.error("set the owner of", path, e))?;
        }
        utimensat(&parent, as_path(&name), &times(look.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| self.error("set the time of", path, e))
    }

    fn publish(&self, path: &[u8], rollback: Option<&str>) -> Result<()> {
        let standing = self.standing(path)?;
        match rollback {
            Some(rollback) if standing != Standing::Nothing => self.put_away(path, rollback)?,
            None if standing == Standing::Dir => {
                return Err(self.error("replace", path, Errno::ISDIR).with_kind(Kind::Refused));
            }
            _ => {}
        }
        let parent = self.parent(path)?;
        let name = split(path).1;
        failpoint::pass("before the rename of a restored file");
        renameat(&parent, as_path(&temporary(name)), &parent, as_path(name))
            .map_err(|e| self.error("rename into place", path, e))?;
        failpoint::pass("after the rename of a restored file");
        Ok(())
    }

    fn look(&self, path: &[u8]) -> Result<Option<Look>> {
        let Some(stat) = self.stat(path)? else { return Ok(None) };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Dir,
            _ => return Ok(None),
        };
        Ok(Some(Look {
            kind,
            mtime: times_of(&stat).0,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            target: None,
        }))
    }

    fn dress(&self, path: &[u8], look: &Look, owner: Owner) -> Result<()> {
        let Some(stat) = self.stat(path)? else { return Ok(()) };
        let wanted = owner_of(self.owner, look, owner);
        let right = times_of(&stat).0 == look.mtime
            && Mode::from_raw_mode(stat.st_mode & 0o7777) == mode_of(look, owner)
            && (owner == Owner::Target || (stat.st_uid, stat.st_gid) == wanted);
        if right {
            return Ok(());
        }
        open_below(self.root.as_fd(), path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
            .and_then(|fd| dress(&fd, wanted, look, owner))
            .map_err(|e| self.error("set owner, mode or time of", path, e))
    }

    fn sync(&self) -> Result<()> {
        // Nobody is kept from opening folders meanwhile.
        let mounted: Vec<_> = self.mounted.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        std::iter::once(&self.root)
            .chain(mounted.iter().map(Arc::as_ref))
            .try_for_each(rustix::fs::syncfs)
            .map_err(|e| self.error("make durable", b"", e))
    }

    fn sweep(&self) -> Result<()> {
        let mut left = Vec::new();
        walk::walk(&self.root, &self.shown, &mut |entry| {
            if entry.kind != EntryKind::Dir && is_temporary(&entry.path) {
                left.push(entry.path);
            }
            Ok(())
        })?;
        for path in left {
            let (folder, name) = split(&path);
            let removed = self.open_dir(folder).and_then(|fd| unlinkat(&fd, as_path(name), AtFlags::empty()));
            removed.map_err(|e| self.error("remove", &path, e))?;
        }
        Ok(())
    }

    fn can_keep(&self, rollback: &str) -> Result<()> {
        Rollback::of(self, rollback).possible()
    }

    fn can_put_away(&self, path: &[u8]) -> Result<()> {
        let (folder, name) = split(path);
        let fd = self.open_dir(folder).map_err(|e| self.error("open the folder", folder, e))?;
        let device = rustix::fs::fstat(&fd).map_err(|e| self.error("look at", folder, e))?.st_dev;
        // A single file may be what is mounted, too.
        if (device, mount_of(&fd, name)) == (self.device, self.mount) {
            return Ok(());
        }
        Err(Error::refused(format!(
            "{} would be replaced, and it cannot be kept: something is mounted between it and {}",
            self.shown.join(as_path(path)).display(),
            self.shown.display()
        ))
        .hint("Restore with --target DIR and copy the files, or move away what stands there and run this again."))
    }

    fn put_away(&self, path: &[u8], rollback: &str) -> Result<()> {
        Rollback::of(self, rollback).put_away(path)
    }

    fn begin_keeping(&self, rollback: &str) -> Result<()> {
        Rollback::of(self, rollback).begin()
    }

    fn end_keeping(&self, rollback: &str) -> Result<()> {
        Rollback::of(self, rollback).end()
    }

    fn roll_back(&self, rollback: &str) -> Result<()> {
        Rollback::of(self, rollback).put_back()
    }

    fn walk(&self, visit: &mut dyn FnMut(&[u8], EntryKind) -> Result<()>) -> Result<()> {
        walk::walk(&self.root, &self.shown, &mut |entry| {
            let own = is_own(&entry.path) || is_temporary(&entry.path);
            if own { Ok(()) } else { visit(&entry.path, entry.kind) }
        })
        .map(drop)
    }

    fn discard(&self, path: &[u8]) -> Result<()> {
        let flags = match self.standing(path)? {
            Standing::Nothing => return Ok(()),
            Standing::Dir => AtFlags::REMOVEDIR,
            _ => AtFlags::empty(),
        };
        let (folder, name) = split(path);
        failpoint::pass("before what a restore made is removed");
        match self.open_dir(folder).and_then(|fd| unlinkat(&fd, as_path(name), flags)) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(e) => Err(self.error("remove", path, e)),
        }
    }

    fn kept(&self) -> Result<Vec<Kept>> {
        kept::list(self.root.as_fd()).map_err(|e| self.error("list", OWN_FOLDER, e))
    }

    fn remove_kept(&self, name: &str) -> Result<()> {
        match kept::remove(self.root.as_fd(), name) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::refused(format!("{name} was not made by a restore"))),
            Err(e) => Err(self.error("remove", &[OWN_FOLDER, b"/", name.as_bytes()].concat(), e)),
        }
    }

    fn need(&self, bytes: u64) -> Result<()> {
        let stat = rustix::fs::fstatvfs(&self.root).map_err(|e| self.error("look at", b"", e))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free >= bytes {
            return Ok(());
        }
        Err(Error::failed(format!("{} has {free} bytes free and {bytes} are needed", self.shown.display()))
            .hint("Free some space there, then run this again: what stands there already is not written twice."))
    }
}
