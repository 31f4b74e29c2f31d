//! The archive's signed, append-only record of events.
//!
//! One small object an event, `ledger/<app>/<seq, 10 digits>.json`, signed beside it (`….json.minisig`), each holding the
//! SHA-256 of the one before. A bundle exists when the ledger names it; the ledger is chain, audit log and index in one.
//!
//! What [`Ledger::open`] answers for: the entries are 1 to n without a gap, each is signed by a trusted signer for this
//! archive, app and number, each continues the one before, none is from the future. Everything else is
//! [`crate::ground::Kind::NotAuthentic`] and names the object. What it cannot see is the loss of the newest entries:
//! [`Ledger::remembered`] compares with a number and a digest kept elsewhere.
//!
//! Entries of kinds that this program does not know are verified like all others and kept as they are.

mod append;
mod entry;
mod event;
mod keys;
mod read;
mod select;

pub use entry::Entry;
pub use event::{
    BundleEvent, CustodyEvent, CustodyTestEvent, DrillEvent, EscrowEvent, Event, KeyEvent, PruneEvent,
    VerificationEvent,
};
pub use keys::{Deposited, KeyFacts, KeyState};
pub use select::{Committed, Selector};

use std::collections::{BTreeMap, BTreeSet};

use crate::archive::Archive;
use crate::ground::names::{AppName, BundleId, ObjectName, Sha256Hex, Uuid};
use crate::ground::{Error, Result};
use crate::signer::Trusted;

/// The longest entry, in bytes; longer ones are neither written nor read.
pub const LIMIT: u64 = 64 << 10;

/// How far ahead of our clock an entry may be, in seconds.
pub const AHEAD: i64 = 600;

/// One app's ledger in one archive, verified.
pub struct Ledger<'a> {
    archive: &'a dyn Archive,
    archive_id: Uuid,
    app: AppName,
    trusted: Trusted,
    entries: Vec<Entry>,
    /// Index of the entry that commits a bundle.
    bundles: BTreeMap<BundleId, usize>,
    /// Index of the entry that says a bundle was pruned.
    pruned: BTreeMap<BundleId, usize>,
    /// Bundles that another signer than their own verified.
    confirmed: BTreeSet<BundleId>,
}

impl<'a> Ledger<'a> {
    /// Reads and verifies a whole ledger; an app that has none yet has an empty one.
    ///
    /// [`crate::ground::Kind::NotAuthentic`] as the module says, also when nobody is trusted.
    pub fn open(archive: &'a dyn Archive, archive_id: &Uuid, app: &AppName, trusted: &Trusted) -> Result<Self> {
        trusted.somebody(&format!("the ledger of {app} in {}", archive.describe()))?;
        let mut ledger = Self {
            archive,
            archive_id: archive_id.clone(),
            app: app.clone(),
            trusted: trusted.clone(),
            entries: Vec::new(),
            bundles: BTreeMap::new(),
            pruned: BTreeMap::new(),
            confirmed: BTreeSet::new(),
        };
        ledger.read_on()?;
        Ok(ledger)
    }

    /// Every entry, oldest first; the one at index 0 has seq 1.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Number and digest of the newest entry, to be remembered outside the archive.
    pub fn newest(&self) -> Option<(u64, Sha256Hex)> {
        self.entries.last().map(|entry| (entry.seq, entry.digest.clone()))
    }

    /// Checks that an entry remembered elsewhere (a recovery card, a notification) is in this ledger, unchanged.
    pub fn remembered(&self, seq: u64, digest: &Sha256Hex) -> Result<()> {
        let entry = seq.checked_sub(1).and_then(|i| self.entries.get(usize::try_from(i).ok()?));
        match entry {
            Some(entry) if entry.digest == *digest => Ok(()),
            Some(entry) => Err(Error::not_authentic(format!(
                "entry {seq} of the ledger in {} is not the one that is remembered: its digest is {}, and {digest} was expected",
                self.archive.describe(),
                entry.digest
            ))
            .hint("Somebody replaced the end of the ledger; look for another copy of the archive.")),
            None => Err(Error::not_authentic(format!(
                "the ledger in {} ends at entry {}, and entry {seq} is remembered",
                self.archive.describe(),
                self.entries.len()
            ))
            .hint("The newest entries are lost; look for another copy of the archive.")),
        }
    }

    /// The app whose ledger this is.
    pub fn app(&self) -> &AppName {
        &self.app
    }

    /// Takes verified entries in, and what they say about bundles.
    fn take(&mut self, entries: Vec<Entry>) -> Result<()> {
        for entry in entries {
            let index = self.entries.len();
            match &entry.event {
                Event::Bundle(event) => {
                    if let Some(before) = self.bundles.insert(event.bundle.clone(), index) {
                        return Err(Error::not_authentic(format!(
                            "entries {} and {} of the ledger in {} both commit bundle {}",
                            before + 1,
                            entry.seq,
                            self.archive.describe(),
                            event.bundle
                        ))
                        .hint("Compare the ledger with another copy of the archive, and find out who can write to this one."));
                    }
                }
                Event::Prune(event) => {
                    for bundle in &event.bundles {
                        self.pruned.entry(bundle.clone()).or_insert(index);
                    }
                }
                Event::Verification(seen) if seen.deep && seen.verdict == "proved" => {
                    let own = self.bundles.get(&seen.bundle).and_then(|index| self.entries.get(*index));
                    let same = |own: &Entry| matches!(&own.event, Event::Bundle(own) if own.sums == seen.sums);
                    if own.is_some_and(|own| own.signer != entry.signer && same(own)) {
                        self.confirmed.insert(seen.bundle.clone());
                    }
                }
                _ => {}
            }
            self.entries.push(entry);
        }
        Ok(())
    }
}

/// The apps that have a ledger in an archive; not authenticated.
pub fn apps(archive: &dyn Archive) -> Result<Vec<AppName>> {
    Ok(archive.children(&"ledger".parse()?)?.iter().filter_map(|name| name.parse().ok()).collect())
}

fn folder(app: &AppName) -> Result<ObjectName> {
    format!("ledger/{app}").parse()
}

fn entry_name(app: &AppName, seq: u64) -> Result<ObjectName> {
    format!("ledger/{app}/{seq:010}.json").parse()
}

fn signature_name(app: &AppName, seq: u64) -> Result<ObjectName> {
    format!("ledger/{app}/{seq:010}.json.minisig").parse()
}

fn trusted_comment(archive: &Uuid, app: &AppName, seq: u64) -> String {
    format!("strongroom ledger v1 archive={archive} app={app} seq={seq}")
}

#[cfg(test)]
mod tests;
