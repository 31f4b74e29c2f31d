//! Finding bundles: by id, by the beginning of one, the latest.

use std::collections::BTreeSet;
use std::str::FromStr;

use jiff::Timestamp;

use super::{BundleEvent, Entry, Event, Ledger};
use crate::ground::names::{BundleId, Sha256Hex};
use crate::ground::{Error, Result};
use crate::signer::PublicKey;

/// What a person calls a bundle by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Its id.
    Id(BundleId),
    /// The beginning of its id; unique, or it is no name.
    Prefix(String),
    /// The one with the highest seq, whatever its verdict.
    Latest,
    /// The one with the highest seq among those with verdict `proved`.
    LatestProved,
}

impl FromStr for Selector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "latest" => return Ok(Self::Latest),
            "latest-proved" => return Ok(Self::LatestProved),
            _ => {}
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        let possible = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'T' | b'Z' | b'-');
        if text.is_empty() || text.len() > 25 || !text.bytes().all(possible) || !text.as_bytes()[0].is_ascii_digit() {
            return Err(Error::not_found(format!("{:?} names no bundle", text.chars().take(80).collect::<String>()))
                .hint("Give an id, the beginning of one, latest or latest-proved; `strongroom list` shows them."));
        }
        Ok(Self::Prefix(text.to_owned()))
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Prefix(prefix) => prefix.fmt(f),
            Self::Latest => f.write_str("latest"),
            Self::LatestProved => f.write_str("latest-proved"),
        }
    }
}

/// A bundle that the ledger names, and the entry that does.
#[derive(Clone, Copy, Debug)]
pub struct Committed<'a> {
    /// The number of the entry.
    pub seq: u64,
    /// When it was entered.
    pub time: Timestamp,
    /// Who signed it.
    pub signer: &'a PublicKey,
    /// The facts.
    pub event: &'a BundleEvent,
}

impl std::ops::Deref for Committed<'_> {
    type Target = BundleEvent;

    fn deref(&self) -> &BundleEvent {
        self.event
    }
}

fn committed(entry: &Entry) -> Option<Committed<'_>> {
    match &entry.event {
        Event::Bundle(event) => Some(Committed { seq: entry.seq, time: entry.time, signer: &entry.signer, event }),
        _ => None,
    }
}

impl Ledger<'_> {
    /// The bundles that are committed and not pruned, newest last.
    pub fn bundles(&self) -> impl DoubleEndedIterator<Item = Committed<'_>> {
        self.entries.iter().filter_map(committed).filter(|bundle| !self.pruned.contains_key(&bundle.event.bundle))
    }

    /// The bundles that a signed entry says were pruned.
    pub fn pruned(&self) -> BTreeSet<BundleId> {
        self.pruned.keys().cloned().collect()
    }

    /// The newest bundle that stores a storage itself: the one whose parts a next bundle may refer to.
    pub fn newest_storage(&self) -> Option<Committed<'_>> {
        self.bundles().rev().find(|b| b.event.contains.iter().any(|c| c == "storage"))
    }

    /// Finds a bundle.
    ///
    /// [`crate::ground::Kind::NotFound`] when there is none, `Usage` when a prefix fits several.
    pub fn find(&self, selector: &Selector) -> Result<Committed<'_>> {
        let place = || format!("the archive {}", self.archive.describe());
        let listed = "`strongroom list` shows the bundles that there are.";
        match selector {
            Selector::Latest => self.bundles().next_back().ok_or_else(|| {
                Error::not_found(format!("there is no bundle of {} in {}", self.app, place()))
                    .hint("`strongroom backup` makes one.")
            }),
            Selector::LatestProved => {
                self.bundles().rev().find(|bundle| bundle.event.verdict == "proved").ok_or_else(|| {
                    Error::not_found(format!("there is no proved bundle of {} in {}", self.app, place())).hint(listed)
                })
            }
            Selector::Id(id) => {
                if let Some(index) = self.pruned.get(id) {
                    return Err(Error::not_found(format!(
                        "bundle {id} was pruned, says entry {} of the ledger",
                        index + 1
                    ))
                    .hint(listed));
                }
                let entry = self.bundles.get(id).and_then(|index| self.entries.get(*index));
                entry
                    .and_then(committed)
                    .ok_or_else(|| Error::not_found(format!("there is no bundle {id} in {}", place())).hint(listed))
            }
            Selector::Prefix(prefix) => {
                let mut fitting = self.bundles().filter(|bundle| bundle.event.bundle.as_str().starts_with(prefix));
                match (fitting.next(), fitting.next()) {
                    (Some(bundle), None) => Ok(bundle),
                    (Some(one), Some(two)) => Err(Error::usage(format!(
                        "{prefix} is the beginning of several bundles, such as {} and {}",
                        one.event.bundle, two.event.bundle
                    ))
                    .hint("Give more of the id.")),
                    (None, _) => {
                        Err(Error::not_found(format!("there is no bundle that begins with {prefix} in {}", place()))
                            .hint(listed))
                    }
                }
            }
        }
    }

    /// The digest of a bundle's `SHA256SUMS`, as it was committed.
    pub fn sums(&self, bundle: &BundleId) -> Option<&Sha256Hex> {
        let entry = self.entries.get(*self.bundles.get(bundle)?)?;
        committed(entry).map(|bundle| &bundle.event.sums)
    }

    /// Whether another signer than the bundle's own entered a deep verification of these very bytes as proved.
    pub fn confirmed(&self, bundle: &BundleId) -> bool {
        self.confirmed.contains(bundle)
    }
}
