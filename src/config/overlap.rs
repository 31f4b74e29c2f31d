//! Which places may not lie inside which: an archive in the storage would be backed up into itself, for example.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use super::url::{DatabaseUrl, PlaceUrl};
use super::{Config, EscrowPlace};
use crate::ground::{Error, Result};

/// The places of a host that are folders or files of this machine.
#[derive(Debug, Default)]
pub struct Places<'a> {
    /// Where bundles go.
    pub archive: Option<&'a Path>,
    /// The application's storage.
    pub storage: Option<&'a Path>,
    /// The application's database, where it is a file.
    pub database: Option<&'a Path>,
    /// What this host remembers.
    pub state: Option<&'a Path>,
    /// Where plaintext may lie for the length of a run.
    pub scratch: Option<&'a Path>,
    /// The configuration, beside which keys and identities lie.
    pub config: Option<&'a Path>,
    /// This host's signing key.
    pub signing_key: Option<&'a Path>,
    /// The escrows that are folders.
    pub escrows: Vec<&'a Path>,
}

/// The path of a place.
pub fn path_of(place: &PlaceUrl) -> &Path {
    let PlaceUrl::File(path) = place;
    path
}

/// The file of a database that is one.
pub fn file_of(url: &DatabaseUrl) -> Option<&Path> {
    match url {
        DatabaseUrl::Sqlite(path) => Some(path),
        DatabaseUrl::Postgres(_) => None,
    }
}

impl Config {
    /// Fails when one place lies inside another that it must not be in.
    pub fn places_apart(&self) -> Result<()> {
        self.places().apart()
    }

    /// Fails when a copy in one escrow is none beside that in another, or lies where it would be lost with what it is for.
    pub fn escrows_apart(&self) -> Result<()> {
        EscrowPlace::all_differ(&self.escrows).map_err(|e| e.context(self.path.display().to_string()))?;
        self.places().escrows_apart()
    }

    fn places(&self) -> Places<'_> {
        Places {
            archive: Some(path_of(&self.archive)),
            storage: self.storage.as_ref().map(path_of),
            database: self.database.as_ref().and_then(file_of),
            state: Some(&self.state),
            scratch: Some(&self.scratch),
            config: Some(&self.path),
            signing_key: self.signing_key.as_deref(),
            escrows: self.escrows.iter().filter_map(EscrowPlace::folder).collect(),
        }
    }
}

impl Places<'_> {
    /// Fails when one place lies inside another that it must not be in; links and mounts are seen through.
    pub fn apart(&self) -> Result<()> {
        let rules = [
            (
                "the archive",
                self.archive,
                "the storage",
                self.storage,
                "every backup would store the archive in itself",
            ),
            (
                "the storage",
                self.storage,
                "the archive",
                self.archive,
                "whoever writes to the archive could change the application's files",
            ),
            ("the state folder", self.state, "the storage", self.storage, "it changes while it is backed up"),
            (
                "the state folder",
                self.state,
                "the archive",
                self.archive,
                "whoever writes to the archive could change what this host remembers of it",
            ),
            (
                "the scratch folder",
                self.scratch,
                "the storage",
                self.storage,
                "plaintext of the database would lie in it",
            ),
            (
                "the scratch folder",
                self.scratch,
                "the archive",
                self.archive,
                "plaintext of the database would lie in it",
            ),
            (
                "the database",
                self.database,
                "the storage",
                self.storage,
                "it would be copied as a file while it changes, and a restore of the storage would write over it",
            ),
            (
                "the database",
                self.database,
                "the archive",
                self.archive,
                "what is lost with one is lost with the other",
            ),
            ("the configuration", self.config, "the storage", self.storage, "the application could give its keys away"),
            (
                "the configuration",
                self.config,
                "the archive",
                self.archive,
                "keys and identities lie beside it, and whoever reads the archive would have them",
            ),
            ("the signing key", self.signing_key, "the storage", self.storage, "the application could give it away"),
            (
                "the signing key",
                self.signing_key,
                "the archive",
                self.archive,
                "whoever reads the archive could sign in this host's name",
            ),
        ];
        for (what, inner, place, outer, why) in rules {
            if let (Some(inner), Some(outer)) = (inner, outer) {
                not_in(what, inner, place, outer, why)?;
            }
        }
        Ok(())
    }

    /// What lies in another place is no further copy.
    fn escrows_apart(&self) -> Result<()> {
        const LOST: &str = "what is lost with one is lost with the other";
        for (n, escrow) in self.escrows.iter().enumerate() {
            for (place, outer, why) in [
                ("the archive", self.archive, LOST),
                ("the storage", self.storage, "the application could remove the copies of its key"),
                ("the state folder", self.state, "that may be thrown away, and copies of the key may not"),
            ] {
                if let Some(outer) = outer {
                    not_in("the escrow", escrow, place, outer, why)?;
                }
            }
            for (_, other) in self.escrows.iter().enumerate().filter(|(m, _)| *m != n) {
                not_in("the escrow", escrow, "the escrow", other, LOST)?;
            }
        }
        Ok(())
    }
}

fn not_in(what: &str, inner: &Path, place: &str, outer: &Path, why: &str) -> Result<()> {
    if !lies_in(inner, outer) {
        return Ok(());
    }
    let (inner, outer) = (inner.display(), outer.display());
    Err(Error::usage(format!("{what} {inner} lies inside {place} {outer}: {why}"))
        .hint(format!("Put it into a folder of its own, outside of {outer}.")))
}

/// Fails when a bundle would be written out inside the archive or the storage.
pub fn outside(target: &Path, archive: &Path, storage: Option<&Path>) -> Result<()> {
    for (place, outer) in [("archive", Some(archive)), ("storage", storage)] {
        if let Some(outer) = outer.filter(|outer| lies_in(target, outer)) {
            return Err(Error::refused(format!(
                "{} lies inside the {place} {}: plaintext of the database would be among its files",
                target.display(),
                outer.display()
            ))
            .hint("Name a folder elsewhere."));
        }
    }
    Ok(())
}

/// Whether a path is another one or lies below it, whatever names lead there.
fn lies_in(inner: &Path, outer: &Path) -> bool {
    let (inner, outer) = (real(inner), real(outer));
    if inner.starts_with(&outer) {
        return true;
    }
    // A folder that is mounted a second time has another path and the same number.
    let number = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let Some(outer) = number(&outer) else { return false };
    inner.ancestors().any(|above| number(above) == Some(outer))
}

/// The path without links, as far as it exists, and what will stand below that.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for above in path.ancestors() {
        if let Ok(real) = std::fs::canonicalize(above) {
            let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
            return rest.components().fold(real, |mut real, component| {
                match component {
                    Component::ParentDir => drop(real.pop()),
                    Component::Normal(name) => real.push(name),
                    _ => {}
                }
                real
            });
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_in_a_folder_whatever_leads_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("storage/deep")).expect("made");
        std::fs::create_dir(at("storage-2")).expect("made");
        std::os::unix::fs::symlink(at("storage"), at("link")).expect("made");
        for inside in
            ["storage", "storage/new/archive", "link", "link/deep/x", "storage-2/../storage/x", "none/../link"]
        {
            assert!(lies_in(&at(inside), &at("storage")), "{inside}");
        }
        for outside in ["", "storage-2", "storage/../archive", "other", "link-2"] {
            assert!(!lies_in(&at(outside), &at("storage")), "{outside}");
        }
    }
}
