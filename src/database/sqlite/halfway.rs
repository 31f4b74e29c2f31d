//! The swap of two database files, so that a kill at any point can be finished or taken back.
//!
//! A marker beside the database says what is being done; it is durable before the first rename and removed after the last.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::open::beside;
use crate::ground::durable::{self, Existing};
use crate::ground::{Error, Result, failpoint, json};

/// The files that belong to a database file, by what is put behind its name.
pub(super) const SIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Action {
    /// The new file takes the live one's place.
    Swap,
    /// The kept one comes back.
    Undo,
}

/// What the marker says; names are made from the live file's, never read from a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Halfway {
    pub(super) action: Action,
    /// The new file's random digits.
    pub(super) new: String,
    /// When the replaced file's name says it was replaced; nothing when there was none.
    pub(super) kept: Option<String>,
}

fn with(live: &Path, before: &str, after: &str) -> PathBuf {
    let mut name = OsString::from(before);
    name.push(live.file_name().unwrap_or_default());
    name.push(after);
    live.with_file_name(name)
}

/// Where the new file is built.
pub(super) fn new_path(live: &Path, random: &str) -> PathBuf {
    with(live, ".", &format!(".strongroom-{random}"))
}

/// Where the replaced file is kept.
pub(super) fn kept_path(live: &Path, time: &str) -> PathBuf {
    with(live, "", &format!(".before-{time}"))
}

fn marker_path(live: &Path) -> PathBuf {
    with(live, ".", ".strongroom-swap")
}

/// Whether something is under way, or was when it was killed.
pub(super) fn is_marked(live: &Path) -> bool {
    marker_path(live).exists()
}

/// What is under way.
pub(super) fn find(live: &Path) -> Result<Option<Halfway>> {
    let path = marker_path(live);
    if !path.exists() {
        return Ok(None);
    }
    let halfway: Halfway = json::parse(&durable::read_file(&path, 4096)?, &path.display().to_string())?;
    let plain = |text: &String| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if plain(&halfway.new) && halfway.kept.as_ref().is_none_or(plain) {
        Ok(Some(halfway))
    } else {
        Err(Error::damaged(format!("{} names files that no restore makes", path.display())))
    }
}

impl Halfway {
    fn kept(&self, live: &Path) -> Option<PathBuf> {
        self.kept.as_ref().map(|time| kept_path(live, time))
    }

    /// Puts the new file in the live one's place, and the live one aside.
    pub(super) fn swap(&self, live: &Path) -> Result<()> {
        self.mark(live)?;
        if let Some(kept) = self.kept(live) {
            move_side(live, &kept)?;
            put_aside(live, &kept)?;
        }
        rename(&new_path(live, &self.new), live)?;
        unmark(live)
    }

    /// Puts the kept file back in the live one's place, or removes the new one where there was none.
    pub(super) fn undo(&self, live: &Path) -> Result<()> {
        self.mark(live)?;
        self.put_back(live)
    }

    fn put_back(&self, live: &Path) -> Result<()> {
        let Some(kept) = self.kept(live) else {
            remove_side(live)?;
            durable::remove(live)?;
            return unmark(live);
        };
        if kept.exists() {
            // Another database's log would be played into this one.
            remove_side(live)?;
            rename(&kept, live)?;
        }
        move_side(&kept, live)?;
        unmark(live)
    }

    /// Brings what was killed to an end: a swap whose renames are done stays done, any other is taken back.
    ///
    /// Answers what happened, for people. May be repeated.
    pub(super) fn recover(&self, live: &Path) -> Result<String> {
        let new = new_path(live, &self.new);
        let shown = live.display();
        if self.action == Action::Undo {
            self.put_back(live)?;
            return Ok(format!("an earlier restore of {shown} was being undone; that is finished"));
        }
        if !new.exists() && live.exists() {
            unmark(live)?;
            return Ok(format!("an earlier restore of {shown} had ended but for its marker"));
        }
        if let Some(kept) = self.kept(live) {
            if same(&kept, live) {
                durable::remove(&kept)?;
            } else if kept.exists() && !live.exists() {
                rename(&kept, live)?;
            }
            if !live.exists() {
                return Err(Error::failed(format!(
                    "an earlier restore was killed, and both {shown} and {} are gone",
                    kept.display()
                ))
                .hint(format!("{} holds what was restored: rename it to {shown}.", new.display())));
            }
            move_side(&kept, live)?;
        }
        remove_side(&new)?;
        durable::remove(&new)?;
        unmark(live)?;
        Ok(format!("an earlier restore of {shown} was killed before the swap; the database is the one from before it"))
    }

    fn mark(&self, live: &Path) -> Result<()> {
        durable::write_file(&marker_path(live), &json::pretty(self)?, 0o600, Existing::Replace).map(drop)
    }
}

fn unmark(live: &Path) -> Result<()> {
    durable::remove(&marker_path(live))
}

fn same(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (std::fs::symlink_metadata(a), std::fs::symlink_metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Gives the live file its second name; where the file system has no links it is renamed, and for a moment missing.
fn put_aside(live: &Path, kept: &Path) -> Result<()> {
    let shown = kept.display().to_string();
    failpoint::pass(&format!("before link {shown}"));
    if let Err(e) = std::fs::hard_link(live, kept) {
        if e.kind() == std::io::ErrorKind::AlreadyExists {
            return Err(Error::io("keep the replaced database as", kept, e));
        }
        if !durable::rename_new(live, kept)? {
            return Err(Error::refused(format!("{shown} exists already")));
        }
    }
    failpoint::pass(&format!("after link {shown}"));
    durable::sync_folder_of(live)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    let shown = to.display().to_string();
    failpoint::pass(&format!("before rename {shown}"));
    std::fs::rename(from, to).map_err(|e| match e.kind() {
        std::io::ErrorKind::ResourceBusy => super::place::mounted(to).because(e),
        _ => Error::io("rename into place", to, e),
    })?;
    failpoint::pass(&format!("after rename {shown}"));
    durable::sync_folder_of(to)
}

/// Moves what lies beside one database file beside another; a shared-memory file is made anew by whoever opens it.
fn move_side(from: &Path, to: &Path) -> Result<()> {
    durable::remove(&beside(from, "-shm"))?;
    for suffix in ["-wal", "-journal"] {
        if beside(from, suffix).exists() {
            rename(&beside(from, suffix), &beside(to, suffix))?;
        }
    }
    Ok(())
}

/// Removes what lies beside a database file that goes away.
pub(super) fn remove_side(of: &Path) -> Result<()> {
    SIDE.iter().try_for_each(|suffix| durable::remove(&beside(of, suffix)))
}
