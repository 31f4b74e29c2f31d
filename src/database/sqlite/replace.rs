//! A restored database built beside the live one, and the swap.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::halfway::{self, Action, Halfway};
use super::open::{self, HEADER, Mode, VERSION_AT};
use super::snapshot::SqliteSnapshot;
use super::{MEMBER, facts, holders, place, rewrite};
use crate::config::profile::Profile;
use crate::database::{Change, Content, DatabasePlan, Facts, Replacement, Rewritten, Snapshot};
use crate::ground::progress::{Progress, Unit};
use crate::ground::{Error, Kind, Result, durable, failpoint, names};

/// The mode of a database that replaces none.
const MODE: u32 = 0o644;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Beside,
    InPlace,
    Undone,
}

/// A restored database file; dropped before the swap it is removed.
pub(super) struct Restored {
    live: PathBuf,
    new: PathBuf,
    /// Kept open: its lock tells other runs that this file is being built.
    file: Arc<File>,
    halfway: Halfway,
    wal: bool,
    state: State,
}

/// Builds the file from the dump; see [`crate::database::Database::build`].
pub(super) fn build(
    path: &Path,
    plan: &DatabasePlan,
    facts: &Facts,
    member: &mut dyn FnMut(&str) -> Result<Box<dyn Content>>,
    progress: &dyn Progress,
) -> Result<Restored> {
    let live = place::resolve(path)?;
    holders::refuse_open(&live)?;
    if let Some(earlier) = halfway::find(&live)? {
        progress.note(&earlier.recover(&live)?);
    }
    place::check(&live, facts)?;
    sweep(&live);
    let kept = if live.exists() { Some(kept_time(&live, plan)?) } else { None };
    let random = names::hex(&names::random::<6>()?);
    let new = halfway::new_path(&live, &random);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .map_err(|e| Error::io("create", &new, e))?;
    let restored = Restored {
        live,
        new,
        file: Arc::new(file),
        halfway: Halfway { action: Action::Swap, new: random, kept },
        wal: facts.settings.get("journal_mode").is_some_and(|m| m == "wal"),
        state: State::Beside,
    };
    // Without a lock another run would sweep this file; on a file system that has none, nobody sweeps.
    let _ = rustix::fs::flock(&restored.file, FlockOperation::NonBlockingLockExclusive);
    restored.fill(&mut *member(MEMBER)?, facts, progress)?;
    restored.check(facts, progress)?;
    restored.dress()?;
    Ok(restored)
}

/// The time in the name that the plan gave the replaced file.
fn kept_time(live: &Path, plan: &DatabasePlan) -> Result<String> {
    let changed = || {
        Error::refused(format!("{} is not as it was when the restore was planned", live.display()))
            .hint("Something wrote there meanwhile: stop it, and run the restore again.")
    };
    let kept = plan.kept_as.as_deref().ok_or_else(changed)?;
    let time = kept.rsplit_once(".before-").map(|(_, time)| time.to_owned()).ok_or_else(changed)?;
    if halfway::kept_path(live, &time).exists() { Err(changed()) } else { Ok(time) }
}

/// Removes files that killed runs were building, and their unfinished markers; one whose lock is held is somebody's.
fn sweep(live: &Path) {
    let (Some(folder), Some(name)) = (live.parent(), live.file_name()) else { return };
    let prefix = [b".", name.as_bytes(), b".strongroom-"].concat();
    let marker = [b"..", name.as_bytes(), b".strongroom-swap."].concat();
    let Ok(listing) = std::fs::read_dir(folder) else { return };
    for entry in listing.flatten() {
        let name = entry.file_name();
        if name.as_bytes().starts_with(&marker) && name.as_bytes().ends_with(durable::TEMPORARY.as_bytes()) {
            let _ = std::fs::remove_file(entry.path());
            continue;
        }
        let Some(random) = name.as_bytes().strip_prefix(&prefix[..]) else { continue };
        if random.len() != 12 || !random.iter().all(u8::is_ascii_hexdigit) {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else { continue };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = halfway::remove_side(&entry.path());
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

impl Restored {
    fn fill(&self, bytes: &mut dyn Read, facts: &Facts, progress: &dyn Progress) -> Result<()> {
        progress.stage("writing the database", Some(facts.bytes), Unit::Bytes);
        let mut buffer = vec![0; 256 * 1024];
        let mut file = &*self.file;
        loop {
            let n = match bytes.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::from_io(Kind::Failed, format!("cannot read {MEMBER}"), e)),
            };
            file.write_all(&buffer[..n]).map_err(|e| Error::io("write", &self.new, e))?;
            progress.advance(n as u64);
        }
        let mut header = [0; HEADER];
        let length = self.file.read_at(&mut header, 0).map_err(|e| Error::io("read", &self.new, e))?;
        open::check_header(&header[..length], MEMBER)?;
        self.file.write_all_at(&[1, 1], VERSION_AT).map_err(|e| Error::io("write", &self.new, e))
    }

    fn check(&self, facts: &Facts, progress: &dyn Progress) -> Result<()> {
        progress.stage("checking the database", None, Unit::Items);
        let connection = open::open(&self.new, Mode::ReadOnly, Duration::ZERO)?;
        open::read_begins(&connection, &self.new)?;
        let mut faults = Vec::new();
        facts::integrity(&connection, &mut faults);
        match faults.first() {
            None => Ok(()),
            Some(first) if facts.faults.is_empty() => {
                Err(Error::damaged("the restored database fails its integrity check").because(first.clone()))
            }
            Some(_) => {
                progress.note("the database had faults when it was backed up, and has them still");
                Ok(())
            }
        }
    }

    /// Gives the file owner and mode of the one that it will replace.
    fn dress(&self) -> Result<()> {
        let mode = match std::fs::metadata(&self.live) {
            Ok(meta) => {
                let new = self.file.metadata().map_err(|e| Error::io("look at", &self.new, e))?;
                if (new.uid(), new.gid()) != (meta.uid(), meta.gid()) {
                    std::os::unix::fs::fchown(&*self.file, Some(meta.uid()), Some(meta.gid())).map_err(|e| {
                        Error::io("give owner and group of the replaced database to", &self.new, e)
                            .hint("Run the restore as root, or as the user that owns the database and is in its group.")
                    })?;
                }
                meta.mode() & 0o7777
            }
            Err(_) => MODE,
        };
        self.file
            .set_permissions(Permissions::from_mode(mode))
            .map_err(|e| Error::io("set the mode of", &self.new, e))?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        failpoint::pass(&format!("before fsync {}", self.new.display()));
        self.file.sync_all().map_err(|e| Error::io("make durable", &self.new, e))?;
        failpoint::pass(&format!("after fsync {}", self.new.display()));
        durable::sync_folder_of(&self.new)
    }
}

impl Replacement for Restored {
    fn snapshot(&mut self) -> Result<Box<dyn Snapshot + '_>> {
        let path = if self.state == State::Beside { &self.new } else { &self.live };
        let connection = open::open(path, Mode::ReadOnly, Duration::from_secs(5))?;
        open::read_begins(&connection, path)?;
        Ok(Box::new(SqliteSnapshot {
            connection,
            file: Arc::clone(&self.file),
            path: path.clone(),
            private: self.state == State::Beside,
            wal: self.wal,
            longest_lock: Duration::ZERO,
            stamp: None,
        }))
    }

    fn rewrite(&mut self, profile: &Profile, change: Change<'_>) -> Result<()> {
        if self.state != State::Beside {
            return Err(Error::failed("the restored database stands in its place already"));
        }
        match rewrite::all(&self.new, Duration::from_secs(5), profile, change)? {
            Rewritten::Committed => self.sync(),
            Rewritten::Unknown(error) => Err(error),
        }
    }

    fn swap(&mut self) -> Result<()> {
        if self.state != State::Beside {
            return Err(Error::failed("the restored database stands in its place already"));
        }
        holders::refuse_open(&self.live)?;
        if self.wal {
            self.file.write_all_at(&[2, 2], VERSION_AT).map_err(|e| Error::io("write", &self.new, e))?;
            self.sync()?;
        }
        if let Err(e) = self.halfway.swap(&self.live) {
            // What went wrong is the answer; the marker stays for the next run if this fails too.
            let _ = self.halfway.recover(&self.live);
            return Err(e);
        }
        self.state = State::InPlace;
        Ok(())
    }

    fn undo(&mut self) -> Result<()> {
        match self.state {
            State::InPlace => {}
            State::Beside if halfway::is_marked(&self.live) => return self.halfway.recover(&self.live).map(drop),
            State::Beside => return Ok(()),
            State::Undone => return Err(Error::failed("the swap is undone already")),
        }
        holders::refuse_open(&self.live)?;
        Halfway { action: Action::Undo, ..self.halfway.clone() }.undo(&self.live)?;
        self.state = State::Undone;
        Ok(())
    }

    fn keep(self: Box<Self>) -> Result<Option<PathBuf>> {
        if self.state != State::InPlace {
            return Err(Error::failed("the restored database is not in its place"));
        }
        Ok(self.halfway.kept.as_ref().map(|time| halfway::kept_path(&self.live, time)))
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        if self.state == State::Beside {
            let _ = halfway::remove_side(&self.new);
            let _ = std::fs::remove_file(&self.new);
        }
    }
}
