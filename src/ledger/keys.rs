//! What the ledger says of application keys: which there were, which bundle needs which, where copies were put.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::{BundleEvent, Event, Ledger};
use crate::ground::clock;
use crate::ground::names::{BundleId, Fingerprint, SealingId};

/// What has become of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// The newest bundle was made with it.
    InUse,
    /// It was in use before.
    Kept,
    /// Somebody said that it is in use no more.
    Retired,
    /// Its escrowed copies were destroyed.
    Destroyed,
}

impl KeyState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InUse => "in use",
            Self::Kept => "kept",
            Self::Retired => "retired",
            Self::Destroyed => "destroyed",
        }
    }
}

/// A deposit that an entry speaks of; whether it is still there only the escrow knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Deposited {
    /// The escrow.
    pub place: String,
    /// What the key is sealed to there.
    pub sealing: SealingId,
}

/// What the ledger says of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyFacts {
    /// The key.
    pub fingerprint: Fingerprint,
    /// What has become of it.
    pub state: KeyState,
    /// When it was first entered.
    #[serde(with = "clock::text")]
    pub first_seen: Timestamp,
    /// When a backup or a verification last proved it.
    #[serde(serialize_with = "optional_time")]
    pub last_proved: Option<Timestamp>,
    /// The key before it.
    pub predecessor: Option<Fingerprint>,
    /// Why it took the place of that one.
    pub reason: Option<String>,
    /// The bundles that name it, or that a verification proved with it because they name none, and were not pruned.
    pub bundles: Vec<BundleId>,
    /// Deposits that were made of it.
    pub deposits: BTreeSet<Deposited>,
}

#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn optional_time<S: serde::Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(clock::rfc3339).serialize(serializer)
}

/// Keys in the order in which they came.
#[derive(Default)]
struct Book {
    keys: Vec<KeyFacts>,
    index: BTreeMap<Fingerprint, usize>,
}

impl Book {
    fn of(&mut self, fingerprint: &Fingerprint, now: Timestamp) -> &mut KeyFacts {
        let next = self.keys.len();
        let at = *self.index.entry(fingerprint.clone()).or_insert(next);
        if at == next {
            self.keys.push(KeyFacts {
                fingerprint: fingerprint.clone(),
                state: KeyState::Kept,
                first_seen: now,
                last_proved: None,
                predecessor: None,
                reason: None,
                bundles: Vec::new(),
                deposits: BTreeSet::new(),
            });
        }
        &mut self.keys[at]
    }
}

impl Ledger<'_> {
    /// Every application key that an entry names, in the order in which they were first entered.
    pub fn keys(&self) -> Vec<KeyFacts> {
        let mut book = Book::default();
        let unnamed: BTreeSet<_> =
            self.bundles().filter(|b| b.event.keys.is_empty()).map(|b| &b.event.bundle).collect();
        for entry in &self.entries {
            match &entry.event {
                Event::Bundle(event) => {
                    for fingerprint in &event.keys {
                        let key = book.of(fingerprint, entry.time);
                        if !self.pruned.contains_key(&event.bundle) {
                            key.bundles.push(event.bundle.clone());
                        }
                        if event.verdict == "proved" {
                            key.last_proved = Some(entry.time);
                        }
                        // Whoever uses a key again has not retired it.
                        key.state = KeyState::Kept;
                    }
                }
                Event::Escrow(event) => {
                    let deposit = Deposited { place: event.place.clone(), sealing: event.sealing.clone() };
                    let key = book.of(&event.fingerprint, entry.time);
                    key.deposits.insert(deposit);
                    // Whoever escrows it again has it still.
                    if key.state == KeyState::Destroyed {
                        key.state = KeyState::Kept;
                    }
                }
                Event::Verification(event) if event.verdict == "proved" => {
                    if let Some(fingerprint) = &event.fingerprint {
                        let key = book.of(fingerprint, entry.time);
                        key.last_proved = Some(entry.time);
                        // What was made without a key has one since somebody has found it.
                        if unnamed.contains(&event.bundle) && !key.bundles.contains(&event.bundle) {
                            key.bundles.push(event.bundle.clone());
                        }
                    }
                }
                Event::Key(event) => {
                    let key = book.of(&event.fingerprint, entry.time);
                    match event.action.as_str() {
                        "rotated" => {
                            key.predecessor.clone_from(&event.predecessor);
                            key.reason.clone_from(&event.reason);
                        }
                        "retired" => key.state = KeyState::Retired,
                        "destroyed" => key.state = KeyState::Destroyed,
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        if let Some(newest) = self.bundles().rev().find(|bundle| !bundle.event.keys.is_empty()) {
            for key in book.keys.iter_mut().filter(|key| newest.event.keys.contains(&key.fingerprint)) {
                key.state = KeyState::InUse;
            }
        }
        book.keys
    }

    /// The bundles of which some credential does not open with the key that they name, or that name none, oldest first.
    ///
    /// What a verification found out since is no reason to leave one out: whoever may sign could say so.
    pub fn under_unknown_keys(&self) -> impl Iterator<Item = &BundleEvent> {
        self.bundles().map(|committed| committed.event).filter(|event| match event.verdict.as_str() {
            "mixed" | "wrong-key" => true,
            "no-key" => event.contains.iter().any(|what| what == "database"),
            _ => false,
        })
    }
}
