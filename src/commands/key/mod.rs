//! The application's key and its life: what it is, which bundles need it, where copies are, and how it is replaced.

mod copies;
mod destroy;
mod doctor;
mod history;
mod rotate;
mod text;

pub use copies::{CopyRequest, escrow, exec, fetch, verify};
pub use destroy::{DestroyRequest, destroy};
pub use doctor::doctor;
pub use history::{history, needed, retire, status};
pub use rotate::{RotateRequest, rotate};
pub use text::{fingerprint, lint};

use crate::appkey::KeyText;
use crate::appkey::schemes::{self, Scheme};
use crate::commands::host::NamedKey;
use crate::commands::shelf::Shelf;
use crate::config::Config;
use crate::ground::names::Uuid;
use crate::ground::{Error, Result};
use crate::ledger::{KeyFacts, KeyState, Ledger};

/// The fewest hex digits that name a key.
const SHORTEST: usize = 4;

/// The key that somebody means by the beginning of its fingerprint, or the one in use.
fn named(ledger: &Ledger<'_>, text: Option<&str>) -> Result<KeyFacts> {
    let listed = "`strongroom key status` shows the keys that there are.";
    let mut keys = ledger.keys().into_iter();
    let Some(text) = text else {
        return keys.find(|key| key.state == KeyState::InUse).ok_or_else(|| {
            Error::not_found(format!("the ledger of {} names no key in use", ledger.app()))
                .hint("`strongroom backup` enters the one that is configured.")
        });
    };
    let lower = text.to_ascii_lowercase();
    if lower.len() < SHORTEST || lower.len() > 32 || !lower.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::usage("this is no fingerprint, nor the beginning of one").hint(listed));
    }
    let mut fitting = keys.filter(|key| key.fingerprint.as_str().starts_with(&lower));
    match (fitting.next(), fitting.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => Err(Error::usage(format!("several fingerprints begin with {lower}")).hint(listed)),
        (None, _) => Err(Error::not_found(format!("the ledger of {} names no key {lower}", ledger.app())).hint(listed)),
    }
}

/// How keys of this application get their names.
struct Naming {
    scheme: &'static dyn Scheme,
    installation: Uuid,
}

impl Naming {
    /// From the configuration; without one, as the newest bundle says.
    fn of(config: Option<&Config>, shelf: &Shelf, ledger: &Ledger<'_>) -> Result<Self> {
        if let Some(config) = config {
            let scheme = schemes::by_name(&config.profile.scheme)?;
            return Ok(Self { scheme, installation: config.installation.clone() });
        }
        let newest = shelf.bundle(ledger, "latest")?;
        let header = newest.header();
        Ok(Self { scheme: schemes::by_name(&header.scheme)?, installation: header.installation.clone() })
    }

    fn name(&self, text: KeyText) -> Result<NamedKey> {
        NamedKey::new(text, self.scheme, &self.installation)
    }
}
