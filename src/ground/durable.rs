//! Writes that last: temporary name → fsync → rename → fsync of the folder, each step a place where a test can kill.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::block::{Block, TakeBlocks};
use super::bulk::{self, Bulk};
use super::{Error, Result, failpoint, names};

/// How the names of unfinished files end; whoever lists a folder leaves them out, and old ones may be swept.
pub const TEMPORARY: &str = ".strongroom-tmp";

/// What helps where rights are not what is missing.
const FORBIDDEN: &str = "Rights alone would allow it: look at the folder's attributes (`lsattr -d`), and at what this program is confined by (a service, a container).";

/// A file that does not exist under its name until it is whole.
///
/// A large one is written by a thread of its own, so an error may be one of bytes given earlier. Dropped without
/// [`NewFile::commit`], the temporary file is removed.
pub struct NewFile {
    file: Option<File>,
    temporary: PathBuf,
    target: PathBuf,
    written: u64,
    bulk: Option<Bulk>,
}

/// What happens when the name is taken already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the commit answers `false`.
    Keep,
    /// It is replaced.
    Replace,
}

impl NewFile {
    /// Begins a file that will stand at `target` with this mode; its folder must exist.
    pub fn create(target: &Path, mode: u32) -> Result<Self> {
        let name = target.file_name().ok_or_else(|| Error::usage(format!("{} names no file", target.display())))?;
        let mut temporary_name = std::ffi::OsString::from(".");
        temporary_name.push(name);
        temporary_name.push(format!(".{}{TEMPORARY}", names::hex(&names::random::<6>()?)));
        let temporary = target.with_file_name(temporary_name);
        let file = OpenOptions::new()
            .write(true)
            .read(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)
            .map_err(|e| not_created(target, e))?;
        // The mode asked for, whatever the umask took away.
        file.set_permissions(std::fs::Permissions::from_mode(mode))
            .map_err(|e| Error::io("set the mode of", target, e))?;
        Ok(Self { file: Some(file), temporary, target: target.to_owned(), written: 0, bulk: None })
    }

    /// Makes it last and gives it its name; `false` when the name was taken and kept.
    pub fn commit(mut self, existing: Existing) -> Result<bool> {
        let file = self.file.take().expect("open until commit");
        let shown = self.target.display().to_string();
        failpoint::pass(&format!("before fsync {shown}"));
        self.bulk
            .take()
            .map_or(Ok(()), Bulk::end)
            .and_then(|()| file.sync_all())
            .map_err(|e| Error::io("make durable", &self.target, e))?;
        drop(file);
        // Nothing lasting happens between a sync and the rename after it: one place is after the one and before the other.
        failpoint::pass(&format!("before rename {shown}"));
        let done = match existing {
            Existing::Replace => std::fs::rename(&self.temporary, &self.target)
                .map(|()| true)
                .map_err(|e| Error::io("rename into place", &self.target, e))?,
            Existing::Keep => rename_new(&self.temporary, &self.target)?,
        };
        failpoint::pass(&format!("after rename {shown}"));
        if done {
            self.temporary.clear();
            sync_folder_of(&self.target)?;
        }
        Ok(done)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.temporary.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let file = self.file.as_mut().expect("open until commit");
        if self.written == bulk::HEAD && self.bulk.is_none() {
            self.bulk = Bulk::begin(file);
        }
        let head = usize::try_from(bulk::HEAD.saturating_sub(self.written)).unwrap_or(usize::MAX);
        let written = if let Some(bulk) = &mut self.bulk {
            bulk.write(file, bytes)
        } else if head > 0 {
            file.write(&bytes[..bytes.len().min(head)])
        } else {
            file.write(bytes)
        }
        .map_err(|e| Error::on_its_way("write", &self.target, e))?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl TakeBlocks for NewFile {
    fn give(&mut self, mut block: Block) -> std::io::Result<Block> {
        if let Some(Bulk::Direct(direct)) = &mut self.bulk {
            self.written += block.bytes().len() as u64;
            return direct.give(block).map_err(|e| Error::on_its_way("write", &self.target, e));
        }
        self.write_all(block.bytes())?;
        block.clear();
        Ok(block)
    }
}

/// A new file is no file whose owner one would have to be: what is not permitted there, no right permits.
fn not_created(target: &Path, source: std::io::Error) -> Error {
    let forbidden = rustix::io::Errno::from_io_error(&source) == Some(rustix::io::Errno::PERM);
    let error = Error::io("create", target, source);
    if forbidden { error.hint(FORBIDDEN) } else { error }
}

/// Renames unless the new name is taken; `false` when it is.
///
/// `renameat2(RENAME_NOREPLACE)`; a link and an unlink where the file system has no such flag.
pub fn rename_new(from: &Path, to: &Path) -> Result<bool> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => match std::fs::hard_link(from, to) {
            Ok(()) => {
                failpoint::pass(&format!("after link and before unlink {}", to.display()));
                std::fs::remove_file(from).map_err(|e| Error::io("remove", from, e))?;
                Ok(true)
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(Error::io("rename into place", to, e)),
        },
        Err(e) => Err(Error::io("rename into place", to, e.into())),
    }
}

/// Removes a file for good; one that is gone already is no error.
pub fn remove(path: &Path) -> Result<()> {
    let shown = path.display().to_string();
    failpoint::pass(&format!("before remove {shown}"));
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("remove", path, e)),
    }
    failpoint::pass(&format!("after remove {shown}"));
    sync_folder_of(path)
}

/// Makes the names in the folder that holds `path` last.
pub fn sync_folder_of(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    sync_folder(parent)
}

/// Makes the names in a folder last.
pub fn sync_folder(folder: &Path) -> Result<()> {
    // `.` says nothing in a message.
    let failed = |e| Error::io("make durable", &std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()), e);
    let done = match File::open(folder) {
        Ok(open) => open.sync_all().map_err(failed),
        // A folder that one may write and not read cannot be opened; everything is made durable instead.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            rustix::fs::sync();
            Ok(())
        }
        Err(e) => Err(failed(e)),
    };
    failpoint::pass(&format!("after fsync of the folder {}", folder.display()));
    done
}

/// Makes a folder and those above it, each durable in its parent; one that exists already keeps its mode.
pub fn create_folders(folder: &Path, mode: u32) -> Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        create_folders(parent, mode)?;
    }
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
    match builder.create(folder) {
        Ok(()) => {
            failpoint::pass(&format!("before fsync of the new folder {}", folder.display()));
            sync_folder_of(folder)
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Error::usage(format!("{} is there already, and is no folder", folder.display()))
                .hint("Name another place, or move away what stands there."))
        }
        Err(e) => Err(Error::io("create the folder", folder, e)),
    }
}

/// Writes a whole small file; `false` when the name was taken and kept.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32, existing: Existing) -> Result<bool> {
    let mut new = NewFile::create(path, mode)?;
    new.write_all(bytes).map_err(|e| Error::io("write", path, e))?;
    new.commit(existing)
}

/// Flags for opening where others may write: no symbolic link, and no waiting for the other end of a pipe.
pub const AT_ONCE: i32 = (rustix::fs::OFlags::NOFOLLOW.bits() | rustix::fs::OFlags::NONBLOCK.bits()).cast_signed();

/// Opens a regular file for reading, and waits for nobody: a pipe, a device or a folder is an error.
///
/// Without `follow` a symbolic link is one too.
pub fn open_regular(path: &Path, follow: bool) -> std::io::Result<File> {
    use rustix::fs::OFlags;
    let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    let file = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("it is not a regular file")) }
}

/// Refuses a folder, or something else that is no file, where somebody named a file ([`super::Kind::Usage`]); `what` it should be.
///
/// What is not there passes: reading it says so.
pub fn named_as_file(path: &Path, what: &str) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(meta) if !meta.is_file() => {
            let is = if meta.is_dir() { "a folder" } else { "not a regular file" };
            Err(Error::usage(format!("{} is {is}, and no {what}", path.display())).hint("Name the file itself."))
        }
        _ => Ok(()),
    }
}

/// Reads a whole file of at most `limit` bytes.
pub fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = open_regular(path, true).map_err(|e| Error::io("read", path, e))?;
    read_open_file(&file, path, limit)
}

fn read_open_file(file: &File, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    if bytes.len() as u64 > limit {
        return Err(Error::refused(format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(bytes)
}

/// Refuses what others can write to: whoever writes there decides what this program does.
fn only_ours(path: &Path, mode: u32) -> Result<()> {
    if mode & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::refused(format!(
        "others can write to {} (mode {:04o}), and what stands there is believed",
        path.display(),
        mode & 0o7777
    ))
    .hint(format!("chmod go-w {}", path.display())))
}

/// Reads a file that is believed, such as a configuration: a regular file that only its owner can write to, else
/// [`super::Kind::Refused`]. Links on the way to it are followed.
pub fn read_believed_file(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = open_regular(path, true).map_err(|e| Error::io("read", path, e))?;
    only_ours(path, file.metadata().map_err(|e| Error::io("read", path, e))?.mode())?;
    read_open_file(&file, path, limit)
}

/// Refuses a folder that others can write to; one that is not there is made later, and by us.
pub fn believed_folder(folder: &Path) -> Result<()> {
    match std::fs::metadata(folder) {
        Ok(meta) => only_ours(folder, meta.mode()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("look at", folder, e)),
    }
}

/// Refuses a file in a folder where others can put another one in its place.
///
/// A folder with the sticky bit, in which only owners rename, and one on a file system that is mounted read-only are no such
/// place: that is how Kubernetes mounts secrets.
pub fn unmoved(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let meta = std::fs::metadata(folder).map_err(|e| Error::io("look at", folder, e))?;
    let fixed = rustix::fs::statvfs(folder).is_ok_and(|fs| fs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    if fixed || meta.mode() & 0o1000 != 0 { Ok(()) } else { only_ours(folder, meta.mode()) }
}

/// Whether a container's runtime put a secret there, readable by all who are in the container: below `/run/secrets`, as Docker
/// does it, or through `..data` to a folder that begins with `..`, as Kubernetes does it.
fn is_mounted_secret(path: &Path) -> bool {
    let Ok(real) = std::fs::canonicalize(path) else { return false };
    real.starts_with("/run/secrets")
        || real.parent().and_then(Path::file_name).is_some_and(|name| name.as_encoded_bytes().starts_with(b".."))
}

/// Reads a file that holds a secret: a regular file that only its owner can read, else [`super::Kind::Refused`].
///
/// One that a container's runtime mounted may be read by others and not written. The bytes come zeroized on drop.
pub fn read_secret_file(path: &Path, limit: u64) -> Result<zeroize::Zeroizing<Vec<u8>>> {
    let file = open_regular(path, true).map_err(|e| match e.kind() {
        std::io::ErrorKind::Other => Error::refused(format!("{} is not a regular file", path.display()))
            .hint("Name a file with mode 0600; what a pipe gives can be written to one first, under `umask 077`."),
        _ => Error::io("read", path, e),
    })?;
    let meta = file.metadata().map_err(|e| Error::io("read", path, e))?;
    let others = meta.mode() & 0o077;
    if others != 0 && (others & 0o033 != 0 || !is_mounted_secret(path)) {
        return Err(Error::refused(format!(
            "{} holds a secret and has mode {:04o}, so others can reach it",
            path.display(),
            meta.mode() & 0o7777
        ))
        .hint(format!("chmod 600 {}", path.display())));
    }
    if meta.len() > limit {
        return Err(Error::refused(format!("{} is larger than {limit} bytes", path.display())));
    }
    // One allocation, so that growing leaves no unwiped copy behind.
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 1));
    (&file).take(meta.len()).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_appears_before_commit_and_nothing_stays_after_a_drop() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("a");
        let mut new = NewFile::create(&target, 0o600).expect("created");
        new.write_all(b"x").expect("written");
        assert!(!target.exists());
        drop(new);
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
    }

    #[test]
    fn a_taken_name_is_kept_or_replaced_as_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("a");
        assert!(write_file(&target, b"1", 0o600, Existing::Keep).expect("written"));
        assert!(!write_file(&target, b"2", 0o600, Existing::Keep).expect("kept"));
        assert_eq!(read_file(&target, 9).expect("read"), b"1");
        assert!(write_file(&target, b"3", 0o600, Existing::Replace).expect("written"));
        assert_eq!(read_file(&target, 9).expect("read"), b"3");
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 1);
    }

    #[test]
    fn what_no_right_would_permit_says_where_to_look() {
        use rustix::io::Errno;
        for (errno, hints) in [(Errno::PERM, &[FORBIDDEN.to_owned()][..]), (Errno::ACCESS, &[])] {
            let error = not_created(Path::new("/a"), errno.into());
            assert_eq!((error.kind(), error.hints()), (crate::ground::Kind::Denied, hints));
        }
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        write_file(&path, b"k", 0o640, Existing::Keep).expect("written");
        let error = read_secret_file(&path, 9).expect_err("refused");
        assert_eq!(error.kind(), crate::ground::Kind::Refused);
        assert!(error.hints()[0].contains("chmod 600"));
    }
}
