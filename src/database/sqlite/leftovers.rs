//! Databases that earlier restores replaced and kept: `<live>.before-<time>`.

use std::path::{Path, PathBuf};

use super::halfway::{self, SIDE};
use super::open::beside;
use super::place;
use crate::ground::kept::Kept;
use crate::ground::{Error, Result};

/// Whether a time is one that a restore puts into a name: `20261123T020000Z`, with `-2` behind it for a second one.
fn is_ours(time: &str) -> bool {
    let (time, more) = time.split_once('-').unwrap_or((time, "1"));
    let shape = time.len() == 16
        && time.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    shape && (1..=2).contains(&more.len()) && more.bytes().all(|b| b.is_ascii_digit())
}

/// The live file; an error where what is kept beside it may be needed still.
fn live(path: &Path) -> Result<PathBuf> {
    let live = place::resolve(path)?;
    if halfway::is_marked(&live) {
        return Err(Error::refused(format!("an earlier restore of {} was killed and is not finished", live.display()))
            .hint("Run that restore again first: what is kept may be its way back."));
    }
    if !live.exists() {
        return Err(Error::refused(format!(
            "there is no database {}; what is kept beside it may be all there is",
            live.display()
        ))
        .hint(format!("Rename a kept one to {} to bring it back.", live.display())));
    }
    Ok(live)
}

/// What is there, oldest first.
pub(super) fn list(path: &Path) -> Result<Vec<Kept>> {
    let live = live(path)?;
    let folder = live.parent().unwrap_or(Path::new("/"));
    let prefix = format!("{}.before-", live.file_name().unwrap_or_default().to_string_lossy());
    let listing = std::fs::read_dir(folder).map_err(|e| Error::io("list", folder, e))?;
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry.map_err(|e| Error::io("list", folder, e))?;
        let name = entry.file_name();
        let ours = name.to_str().and_then(|name| name.strip_prefix(&prefix)).is_some_and(is_ours);
        // A name that is no text could not be said on the command line, and is left to a person.
        let Some(path) = entry.path().to_str().map(str::to_owned).filter(|_| ours) else { continue };
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let size = |path: &Path| std::fs::symlink_metadata(path).map_or(0, |meta| meta.len());
            let bytes = size(&entry.path()) + SIDE.iter().map(|end| size(&beside(&entry.path(), end))).sum::<u64>();
            found.push(Kept { name: path, bytes: Some(bytes), way_back: true });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Removes one of them, and what belongs to it.
pub(super) fn remove(path: &Path, name: &str) -> Result<()> {
    if !list(path)?.iter().any(|kept| kept.name == name) {
        return Err(Error::refused(format!("{name} was not made by a restore")));
    }
    halfway::remove_side(Path::new(name))?;
    crate::ground::durable::remove(Path::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_that_a_restore_writes_are_ours() {
        assert!(is_ours("20261123T020000Z") && is_ours("20261123T020000Z-7"));
        for time in ["", "2026", "20261123T020000Z-", "20261123T020000Z-wal", "20261123T020000Zx", "20261123t020000z"] {
            assert!(!is_ours(time), "{time}");
        }
    }
}
