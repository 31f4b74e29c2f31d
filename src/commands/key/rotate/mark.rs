//! What `--from` writes down before it changes a row, so that a run that was killed is entered into the ledger by the next one.
//!
//! It holds no secret. Some of the values that are to go are named by their digests, and so are their rows: the rewriting is one
//! transaction, so as long as one of the values is there it did not take place, and if none is, one of the rows is under the other key.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::appkey::credential::Credential;
use crate::commands::reencrypt::row;
use crate::ground::durable::{self, Existing};
use crate::ground::names::{Fingerprint, Sha256Hex};
use crate::ground::{Kind, Result, failpoint, json};
use crate::ledger::{Event, KeyEvent, Ledger};

/// Its name in the state folder.
const NAME: &str = "re-encryption.json";

/// How long the file may be.
const LIMIT: u64 = 64 << 10;

/// Rows that go from one key to another.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) from: Fingerprint,
    pub(super) to: Fingerprint,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    pub(super) moved: u64,
    /// The newest entry of the ledger before.
    pub(super) after: u64,
    /// Digests of some ciphertexts under `from`, each with its row's.
    pub(super) values: Vec<(Sha256Hex, Sha256Hex)>,
}

/// The file with these facts.
pub(super) struct Mark {
    path: PathBuf,
    pub(super) facts: Facts,
}

impl Mark {
    /// Writes it.
    pub(super) fn begin(state: &Path, facts: Facts) -> Result<Self> {
        let path = state.join(NAME);
        durable::write_file(&path, &json::line(&facts)?, 0o600, Existing::Replace)?;
        Ok(Self { path, facts })
    }

    /// The one that a run left; `None` when there is none.
    pub(super) fn find(state: &Path) -> Result<Option<Self>> {
        let path = state.join(NAME);
        match durable::read_file(&path, LIMIT) {
            Ok(bytes) => Ok(Some(Self { facts: json::parse(&bytes, &path.display().to_string())?, path })),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the rows went to the other key, by all credentials; `opens` says what is under that one.
    ///
    /// Values that are gone may have been changed or removed by the application.
    pub(super) fn took_place(&self, credentials: &[Credential], opens: impl Fn(&[u8]) -> bool) -> bool {
        let mut there = credentials.iter().map(|credential| Sha256Hex::of(&credential.ciphertext));
        if there.any(|value| self.facts.values.iter().any(|(known, _)| *known == value)) {
            return false;
        }
        credentials.iter().any(|credential| {
            let row = row(credential);
            self.facts.values.iter().any(|(_, known)| *known == row) && opens(&credential.ciphertext)
        })
    }

    /// What is entered of it.
    pub(super) fn event(&self) -> KeyEvent {
        KeyEvent {
            fingerprint: self.facts.to.clone(),
            action: "re-encrypted".to_owned(),
            predecessor: Some(self.facts.from.clone()),
            reason: self.facts.reason.clone(),
        }
    }

    /// Whether it was entered since.
    pub(super) fn is_entered(&self, ledger: &Ledger<'_>) -> bool {
        let event = Event::Key(self.event());
        ledger.entries().iter().any(|entry| entry.seq > self.facts.after && entry.event == event)
    }

    /// Removes it: nothing is left to be entered.
    pub(super) fn end(self) -> Result<()> {
        failpoint::pass("before the mark of a re-encryption is removed");
        durable::remove(&self.path)?;
        failpoint::pass("after the mark of a re-encryption was removed");
        Ok(())
    }
}
