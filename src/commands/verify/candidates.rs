//! Which key is tried on a bundle: the one that it names, or, when it names none, one that opens its credentials.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;

use super::proof_of;
use crate::appkey::KeyText;
use crate::appkey::schemes::{Outcome, Scheme};
use crate::bundle::{FOREIGN, Member, Opened};
use crate::commands::Desk;
use crate::commands::host::{Host, NamedKey, read_key};
use crate::commands::missed::{gravest, several};
use crate::commands::shelf::Shelf;
use crate::config::Config;
use crate::config::profile::Profile;
use crate::escrow::{self, Record};
use crate::ground::names::{Fingerprint, Uuid};
use crate::ground::{Error, Result, interrupt};
use crate::sealing::SealingKey;

/// How many credentials have to open before the key that opens most of them is chosen.
const OPENED: usize = 10;
/// How many are looked at for that once one has opened; rows under no key at all may come first.
const LOOKED: usize = 100;

/// Where a key that is tried comes from.
pub(in crate::commands) enum KeyFrom {
    /// From the command line.
    Given,
    /// From the bundle itself.
    Bundle,
    /// From an escrow; its name where it is worth telling.
    Escrow(Option<String>),
    /// From where the configuration says that the application's key is.
    Configuration,
}

impl KeyFrom {
    /// The word for it in JSON.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Bundle => "bundle",
            Self::Escrow(_) => "escrow",
            Self::Configuration => "configuration",
        }
    }
}

impl fmt::Display for KeyFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given => f.write_str("the one given"),
            Self::Bundle => f.write_str("which the bundle holds"),
            Self::Escrow(None) => f.write_str("which an escrow holds"),
            Self::Escrow(Some(place)) => write!(f, "which {place} holds"),
            Self::Configuration => f.write_str("the configured one"),
        }
    }
}

/// The key to try: the one given, else the one sealed in the bundle, else the escrowed one.
pub(in crate::commands) fn candidate(
    desk: &Desk<'_>,
    shelf: &Shelf,
    opened: &Opened<'_>,
    sealing: &SealingKey,
    scheme: &dyn Scheme,
    given: Option<(&str, Option<&Config>)>,
) -> Result<NamedKey> {
    let header = opened.header();
    if let Some((reference, config)) = given {
        return NamedKey::new(read_key(desk, config, reference)?, scheme, &header.installation);
    }
    if let Some(record) = sealed_records(opened, sealing)?.into_iter().next() {
        let named = record.fingerprint.clone();
        let found = NamedKey::new(KeyText::new(record.key), scheme, &header.installation)?;
        if found.fingerprint != named || !header.keys.contains(&named) {
            return Err(Error::not_authentic(format!(
                "the sealed key of bundle {} is {}, and its record says {}",
                header.id,
                found.fingerprint.short(),
                named.short()
            ))
            .hint(FOREIGN));
        }
        return Ok(found);
    }
    in_escrow(desk, shelf, opened, sealing, scheme)
}

/// The key that a bundle names, from an escrow, which need not let itself be listed.
///
/// An error says why none gives it, and which of those that the ledger knows of was not asked.
pub(in crate::commands) fn in_escrow(
    desk: &Desk<'_>,
    shelf: &Shelf,
    opened: &Opened<'_>,
    sealing: &SealingKey,
    scheme: &dyn Scheme,
) -> Result<NamedKey> {
    let header = opened.header();
    let (mut missed, mut asked) = (Vec::new(), Vec::new());
    for place in &shelf.escrows {
        let escrow = match desk.systems.escrow(place, shelf.archive.as_ref()) {
            Ok(escrow) => escrow,
            Err(error) => {
                missed.push(error);
                continue;
            }
        };
        asked.push(escrow.describe());
        for fingerprint in &header.keys {
            let found = escrow
                .fetch_signed(&shelf.app, fingerprint, sealing.id(), &shelf.trusted)
                .and_then(|sealed| escrow::open_record(sealing, &sealed))
                .and_then(|record| NamedKey::new(KeyText::new(record.key), scheme, &header.installation));
            missed.push(match found {
                Ok(key) if key.fingerprint == *fingerprint => return Ok(key),
                Ok(_) => {
                    let (place, short) = (escrow.describe(), fingerprint.short());
                    Error::not_authentic(format!("{place} has another key under the name of {short}"))
                }
                Err(error) => error,
            });
        }
    }
    let message = format!("no sealed copy of the key of bundle {} could be opened", header.id);
    let error = several(gravest(&missed), message, &missed);
    let known = shelf.ledger().map_or_else(|_| Vec::new(), |ledger| ledger.keys());
    let elsewhere: BTreeSet<String> = known
        .into_iter()
        .filter(|key| header.keys.contains(&key.fingerprint))
        .flat_map(|key| key.deposits)
        .filter(|deposit| deposit.sealing == header.sealing && !asked.contains(&deposit.place))
        // This archive, as it was called elsewhere.
        .filter(|deposit| !escrow::is_an_archive(&deposit.place))
        .map(|deposit| deposit.place)
        .collect();
    let error = elsewhere.into_iter().fold(error, |error, place| {
        error.hint(format!(
            "The ledger says that it was put into {place}: a configuration that names that as [[escrow]] asks there."
        ))
    });
    Err(error.hint(ANOTHER))
}

/// What to do when no key was found.
const ANOTHER: &str = "Try a key that you have: --key file:PATH or --key prompt:.";

/// Whether a bundle neither holds a key nor names one: none could be read when it was made.
pub(in crate::commands) fn unnamed(opened: &Opened<'_>) -> bool {
    opened.header().keys.is_empty() && !opened.has(&Member::Key)
}

/// For a bundle that names no key: the one that opens most of its credentials, of those in escrow, newest first, and the configured one.
pub(in crate::commands) fn fitting(
    desk: &Desk<'_>,
    shelf: &Shelf,
    config: Option<&Config>,
    opened: &Opened<'_>,
    sealing: &SealingKey,
    scheme: &dyn Scheme,
    profile: &Profile,
) -> Result<(NamedKey, KeyFrom)> {
    let header = opened.header();
    let mut deposits = deposits(desk, shelf, sealing, scheme, &header.installation, None)?;
    deposits.sort_by_key(|deposit| std::cmp::Reverse(deposit.created));
    let mut keys: Vec<_> = deposits.into_iter().map(|d| (d.key, KeyFrom::Escrow(Some(d.place)))).collect();
    let escrows = keys.len();
    if let Some(config) = config.filter(|config| config.app == header.app) {
        let read = Host::new(config.clone())?.key_text(desk, None);
        match read.and_then(|text| NamedKey::new(text, scheme, &header.installation)) {
            Ok(key) if keys.iter().all(|(known, _)| known.fingerprint != key.fingerprint) => {
                keys.push((key, KeyFrom::Configuration));
            }
            Ok(_) => {}
            // Those in escrow may do.
            Err(error) => desk.progress.note(&format!("the configured key is not tried: {}", error.chain())),
        }
    }
    if keys.is_empty() {
        return Err(Error::not_found(format!(
            "bundle {} was made without its key, no escrow holds one of {}, and none is configured that can be read",
            header.id, header.app
        ))
        .hint(ANOTHER));
    }
    let mut opens = vec![0; keys.len()];
    let (mut looked, mut opened_some) = (0, 0);
    let mut reader = proof_of(opened, sealing)?;
    while opened_some < OPENED && (looked < LOOKED || opened_some == 0) {
        let Some(credential) = reader.next_credential()? else { break };
        interrupt::check()?;
        if profile.is_plaintext(&credential.table, &credential.column, &credential.ciphertext) {
            continue;
        }
        looked += 1;
        let before: usize = opens.iter().sum();
        for ((key, _), opens) in keys.iter().zip(&mut opens) {
            let outcome = scheme.decrypt(&key.effective, &credential.ciphertext);
            *opens += usize::from(!matches!(outcome, Outcome::Failed));
        }
        opened_some += usize::from(opens.iter().sum::<usize>() > before);
    }
    let most = opens.iter().copied().max().unwrap_or(0);
    if most == 0 && looked > 0 {
        return Err(Error::not_found(format!(
            "bundle {} was made without its key, and none of the {} in escrow{} opens a credential of it",
            header.id,
            escrows,
            if keys.len() > escrows { ", nor the configured one," } else { "" }
        ))
        .hint(ANOTHER));
    }
    // Of those that open as many, the first in the order above.
    let chosen = opens.iter().position(|opens| *opens == most).unwrap_or(0);
    Ok(keys.swap_remove(chosen))
}

/// The records that the bundle's own `key.age` holds; none when policy left it out.
pub(in crate::commands) fn sealed_records(opened: &Opened<'_>, sealing: &SealingKey) -> Result<Vec<Record>> {
    if !opened.has(&Member::Key) {
        return Ok(Vec::new());
    }
    let bytes = opened.read_secret(&Member::Key, sealing, 1 << 20)?;
    escrow::from_lines(&bytes, &format!("key.age of bundle {}", opened.header().id))
}

/// Every key in an escrow that a believed signer vouches for, except one.
pub(in crate::commands) fn escrowed(
    desk: &Desk<'_>,
    shelf: &Shelf,
    sealing: &SealingKey,
    scheme: &dyn Scheme,
    installation: &Uuid,
    except: Option<&Fingerprint>,
) -> Result<Vec<NamedKey>> {
    let found = deposits(desk, shelf, sealing, scheme, installation, except)?;
    Ok(found.into_iter().map(|deposit| deposit.key).collect())
}

/// A key in an escrow.
struct Deposited {
    key: NamedKey,
    created: Timestamp,
    place: String,
}

/// Every key in an escrow that a believed signer vouches for, except one; each once, from the first escrow that gives it.
fn deposits(
    desk: &Desk<'_>,
    shelf: &Shelf,
    sealing: &SealingKey,
    scheme: &dyn Scheme,
    installation: &Uuid,
    except: Option<&Fingerprint>,
) -> Result<Vec<Deposited>> {
    let mut found: Vec<Deposited> = Vec::new();
    for place in &shelf.escrows {
        let searched = desk.systems.escrow(place, shelf.archive.as_ref()).and_then(|escrow| {
            let deposits = escrow.list(&shelf.app)?;
            Ok((escrow, deposits))
        });
        let (escrow, deposits) = match searched {
            Ok(searched) => searched,
            // One escrow that is away is what the others are for.
            Err(error) => {
                desk.progress.note(&format!("an escrow could not be searched: {}", error.chain()));
                continue;
            }
        };
        for (fingerprint, id) in deposits {
            let known = found.iter().any(|deposit| deposit.key.fingerprint == fingerprint);
            if known || id != *sealing.id() || Some(&fingerprint) == except {
                continue;
            }
            // A record that nobody we believe has signed is somebody's, not ours: it is left alone.
            let Ok(sealed) = escrow.fetch_signed(&shelf.app, &fingerprint, &id, &shelf.trusted) else { continue };
            let record = escrow::open_record(sealing, &sealed)?;
            let created = record.created;
            let key = NamedKey::new(KeyText::new(record.key), scheme, installation)?;
            if key.fingerprint == fingerprint {
                found.push(Deposited { key, created, place: escrow.describe() });
            }
        }
    }
    Ok(found)
}
