//! What a run of `init` made, so that one that fails leaves nothing of its own behind.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::{self, Archive};
use crate::custody;
use crate::ground::names::{AppName, SealingId};
use crate::ground::{Error, Result, failpoint};

/// What was made so far; nothing that stood before is ever in it.
#[derive(Default)]
pub(super) struct Made {
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
    signer: Vec<PathBuf>,
    custody: Option<(Arc<dyn Archive>, SealingId)>,
    archive: Option<(Arc<dyn Archive>, AppName)>,
    entered: bool,
}

impl Made {
    /// A folder that is about to be made, with those above it that are missing.
    pub(super) fn folder(&mut self, folder: &Path) -> Result<()> {
        let folder = std::path::absolute(folder).map_err(|e| Error::io("find", folder, e))?;
        let missing = folder.ancestors().take_while(|above| !above.exists()).map(Path::to_owned);
        self.folders.extend(missing.collect::<Vec<_>>().into_iter().rev());
        Ok(())
    }

    /// A file that is about to be written, where none stands.
    pub(super) fn file(&mut self, path: &Path) {
        if path.symlink_metadata().is_err() {
            self.files.push(path.to_owned());
        }
    }

    /// The signing key that is about to be written.
    pub(super) fn signer(&mut self, secret: &Path, public: &Path) {
        self.signer =
            [secret, public].into_iter().filter(|p| p.symlink_metadata().is_err()).map(Path::to_owned).collect();
    }

    /// The custody of a new sealing key.
    pub(super) fn custody(&mut self, archive: Arc<dyn Archive>, sealing: &SealingId) {
        self.custody = Some((archive, sealing.clone()));
    }

    /// The archive itself.
    pub(super) fn archive(&mut self, archive: Arc<dyn Archive>, app: &AppName) {
        self.archive = Some((archive, app.clone()));
    }

    /// The ledger has an entry by the signer now.
    pub(super) fn entered(&mut self) {
        self.entered = true;
    }

    /// Removes what this run made, and says so with the error.
    ///
    /// A ledger is never cut: once it has an entry, the archive and the signing key stay, and the next `init` goes on with them.
    pub(super) fn take_back(self, error: Error) -> Error {
        let nothing =
            self.files.is_empty() && self.signer.is_empty() && self.custody.is_none() && self.archive.is_none();
        match self.remove() {
            Ok(()) if nothing => error,
            Ok(()) => error.hint("What this run had made was removed again: mend the cause, then run it again."),
            Err(second) => error.hint(format!("What this run had made could not all be removed: {}", second.chain())),
        }
    }

    fn remove(self) -> Result<()> {
        let mut result = Ok(());
        let mut also = |other: Result<()>| {
            if result.is_ok() {
                result = other;
            }
        };
        if let Some((archive, sealing)) = &self.custody {
            also(custody::abandon(archive.as_ref(), sealing));
        }
        let mut files = self.files;
        if !self.entered {
            files.extend(self.signer);
            if let Some((archive, app)) = &self.archive {
                also(abandon(archive.as_ref(), app));
            }
        }
        for file in &files {
            failpoint::pass("before what init made is removed");
            match std::fs::remove_file(file) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => also(Err(Error::io("remove", file, e))),
                _ => {}
            }
            failpoint::pass("after what init made was removed");
        }
        for folder in self.folders.iter().rev() {
            // One that holds something by now is somebody's.
            let _ = std::fs::remove_dir(folder);
        }
        result
    }
}

/// Takes back an archive that holds nothing but its marker.
fn abandon(archive: &dyn Archive, app: &AppName) -> Result<()> {
    archive.remove(&format!("ledger/{app}/.lock").parse()?)?;
    archive.remove(&archive::MARKER.parse()?)
}
