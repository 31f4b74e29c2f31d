//! `key status`, `key needed`, `key history`, `key retire`: what the signed ledger says of keys.

use std::collections::BTreeSet;

use serde_json::json;

use super::named;
use crate::commands::host::Host;
use crate::commands::shelf::Shelf;
use crate::commands::{Desk, Outcome, Problem, exit_of, to_json};
use crate::config::Config;
use crate::escrow::Escrow;
use crate::ground::names::{Fingerprint, SealingId};
use crate::ground::words::counted;
use crate::ground::{Error, Result, clock};
use crate::ledger::{Event, KeyEvent, KeyFacts, KeyState, Ledger};

/// The escrows of which it is true; what could not be asked is a problem.
fn places(
    desk: &Desk<'_>,
    shelf: &Shelf,
    problems: &mut Vec<Problem>,
    is: impl Fn(&dyn Escrow) -> Result<bool>,
) -> Vec<String> {
    let mut places = Vec::new();
    for place in &shelf.escrows {
        let asked = desk
            .systems
            .escrow(place, shelf.archive.as_ref())
            .and_then(|escrow| Ok(is(escrow.as_ref())?.then(|| escrow.describe())));
        match asked {
            Ok(found) => places.extend(found),
            Err(error) => problems.push(Problem::from_error(&error)),
        }
    }
    places
}

/// An escrow that is away is so for every key.
fn tell_once(problems: &mut Vec<Problem>, missed: Vec<Problem>) {
    for problem in missed {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
}

/// The escrows that hold a key now.
fn holding(
    desk: &Desk<'_>,
    shelf: &Shelf,
    fingerprint: &Fingerprint,
    sealing: &SealingId,
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    places(desk, shelf, problems, |escrow| {
        Ok(escrow.inspect(&shelf.app, fingerprint, sealing, &shelf.trusted)?.is_some())
    })
}

/// The escrows that have anything left of a key, whole or not.
pub(super) fn remains(
    desk: &Desk<'_>,
    shelf: &Shelf,
    fingerprint: &Fingerprint,
    sealing: &SealingId,
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    places(desk, shelf, problems, |escrow| escrow.remains(&shelf.app, fingerprint, sealing, &shelf.trusted))
}

/// The sealing keys that anything of a key may be sealed to: what entries say, and the one that is configured.
fn sealings(key: &KeyFacts, ledger: &Ledger<'_>, configured: Option<&SealingId>) -> BTreeSet<SealingId> {
    let deposits = key.deposits.iter().map(|deposit| deposit.sealing.clone());
    let bundles = ledger.bundles().filter(|b| b.keys.contains(&key.fingerprint)).map(|b| b.sealing.clone());
    deposits.chain(bundles).chain(configured.cloned()).collect()
}

/// Every key: its state, when it was first seen and last proved, which escrows hold it, how many bundles need it.
pub fn status(desk: &Desk<'_>, shelf: &Shelf, config: Option<Config>) -> Result<Outcome> {
    let host = config.map(Host::new).transpose()?;
    let pending = host.as_ref().and_then(Host::pending_rotation);
    let configured = host.as_ref().map(|host| host.config.recipient.id());
    let ledger = shelf.ledger()?;
    let keys = ledger.keys();
    let (mut rows, mut problems) = (Vec::new(), Vec::from_iter(pending));
    let mut text = vec![format!(
        "{:<12}  {:<9}  {:<20}  {:<20}  {:>7}  {}",
        "KEY", "STATE", "FIRST SEEN", "LAST PROVED", "BUNDLES", "ESCROWS"
    )];
    for key in &keys {
        let (mut places, mut missed) = (Vec::new(), Vec::new());
        let look = if key.state == KeyState::Destroyed { remains } else { holding };
        for sealing in sealings(key, &ledger, configured) {
            places.extend(look(desk, shelf, &key.fingerprint, &sealing, &mut missed));
        }
        let unknown: BTreeSet<String> = missed.iter().map(|problem| problem.message.clone()).collect();
        tell_once(&mut problems, missed);
        places.sort();
        places.dedup();
        if !places.is_empty() && key.state == KeyState::Destroyed {
            let short = key.fingerprint.short();
            problems.push(Problem::new(
                "not-destroyed",
                format!("key {short} was to be destroyed, and is in {}", places.join(", ")),
                format!("`strongroom key destroy {short} --yes` goes on with it."),
            ));
        }
        let unneeded = key.state == KeyState::Retired && key.bundles.is_empty();
        if places.is_empty() && unknown.is_empty() && key.state != KeyState::Destroyed && !unneeded {
            problems.push(Problem::new(
                "no-escrow",
                format!("no escrow holds key {}", key.fingerprint.short()),
                "`strongroom key escrow` puts the configured key into every escrow; bundles may hold it too.",
            ));
        }
        text.push(format!(
            "{:<12}  {:<9}  {:<20}  {:<20}  {:>7}  {}",
            key.fingerprint.short(),
            key.state.as_str(),
            clock::rfc3339(key.first_seen),
            key.last_proved.map_or_else(|| "never".to_owned(), clock::rfc3339),
            key.bundles.len(),
            match places.as_slice() {
                [] if !unknown.is_empty() => "unknown".to_owned(),
                [] => "none".to_owned(),
                places => places.join(", "),
            }
        ));
        let mut row = to_json(key)?;
        row["escrows"] = json!(places);
        row["unknown"] = json!(unknown);
        rows.push(row);
    }
    Ok(Outcome {
        exit: exit_of(&problems),
        json: rows.into(),
        line: problems.first().map(|p| p.message.clone()).unwrap_or_default(),
        text: if keys.is_empty() { vec![format!("the ledger of {} names no key yet", shelf.app)] } else { text },
        problems,
    })
}

/// Which key each bundle needs, and where a copy of it is.
pub fn needed(desk: &Desk<'_>, shelf: &Shelf, bundle: Option<&str>) -> Result<Outcome> {
    let ledger = shelf.ledger()?;
    let one = bundle.map(|selector| shelf.find(&ledger, selector)).transpose()?.map(|(id, _)| id);
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    let mut text = vec![format!("{:<25}  {:<10}  {:<12}  {}", "BUNDLE", "VERDICT", "KEY", "COPIES")];
    let mut asked = std::collections::BTreeMap::new();
    for bundle in ledger.bundles().filter(|b| one.as_ref().is_none_or(|id| *id == b.bundle)) {
        for fingerprint in &bundle.keys {
            let known = asked.entry((fingerprint.clone(), bundle.sealing.clone()));
            let (places, unknown) = known
                .or_insert_with(|| {
                    let mut missed = Vec::new();
                    let places = holding(desk, shelf, fingerprint, &bundle.sealing, &mut missed);
                    let unknown = !missed.is_empty();
                    tell_once(&mut problems, missed);
                    (places, unknown)
                })
                .clone();
            let inside = bundle.contains.iter().any(|c| c == "key");
            let copies: Vec<String> = inside.then(|| "the bundle".to_owned()).into_iter().chain(places).collect();
            if copies.is_empty() && !unknown {
                problems.push(Problem::new(
                    "no-copy",
                    format!("no copy of key {} is found, which bundle {} needs", fingerprint.short(), bundle.bundle),
                    "Whoever still has the key can put it back: configure it, then `strongroom key escrow --repair`.",
                ));
            }
            text.push(format!(
                "{:<25}  {:<10}  {:<12}  {}",
                bundle.bundle,
                bundle.verdict,
                fingerprint.short(),
                match copies.as_slice() {
                    [] if unknown => "unknown".to_owned(),
                    [] => "none".to_owned(),
                    copies => copies.join(", "),
                }
            ));
            rows.push(json!({
                "bundle": bundle.bundle, "verdict": bundle.verdict, "fingerprint": fingerprint, "copies": copies,
            }));
        }
        if bundle.keys.is_empty() && bundle.verdict == "no-key" {
            text.push(format!(
                "{:<25}  {:<10}  {:<12}  the key could not be read",
                bundle.bundle, bundle.verdict, "unknown"
            ));
            rows.push(json!({ "bundle": bundle.bundle, "verdict": bundle.verdict, "fingerprint": null, "copies": [] }));
        }
    }
    Ok(Outcome {
        exit: exit_of(&problems),
        json: rows.into(),
        line: problems.first().map(|p| p.message.clone()).unwrap_or_default(),
        text,
        problems,
    })
}

/// Everything that the ledger says happened to keys, oldest first.
pub fn history(shelf: &Shelf) -> Result<Outcome> {
    let ledger = shelf.ledger()?;
    let (mut rows, mut text) = (Vec::new(), Vec::new());
    let mut used: Option<Vec<Fingerprint>> = None;
    for entry in ledger.entries() {
        let line = match &entry.event {
            Event::Escrow(e) => format!("key {} put into {}", e.fingerprint.short(), e.place),
            Event::Key(e) => {
                let after = e.predecessor.as_ref().map_or_else(String::new, |p| format!(" after {}", p.short()));
                let why = e.reason.as_ref().map_or_else(String::new, |r| format!(": {}", r.escape_debug()));
                format!("key {} {}{after}{why}", e.fingerprint.short(), e.action.escape_debug())
            }
            // Night after night the same key is no news.
            Event::Bundle(b) if !b.keys.is_empty() && used.as_ref() != Some(&b.keys) => {
                used = Some(b.keys.clone());
                let names: Vec<&str> = b.keys.iter().map(Fingerprint::short).collect();
                format!("key {} used from bundle {} on, {}", names.join(", "), b.bundle, b.verdict)
            }
            _ => continue,
        };
        text.push(format!("{}  {:>5}  {line}", clock::rfc3339(entry.time), entry.seq));
        rows.push(to_json(entry)?);
    }
    Outcome::done(rows, text)
}

/// Enters that a key is in use no more; its copies stay, because bundles need them.
pub fn retire(desk: &Desk<'_>, config: Config, key: &str, reason: Option<&str>) -> Result<Outcome> {
    let host = Host::new(config)?;
    let signer = host.signer()?;
    let shelf = host.shelf(desk)?;
    let mut ledger = shelf.ledger()?;
    let facts = named(&ledger, Some(key))?;
    let short = facts.fingerprint.short().to_owned();
    match facts.state {
        KeyState::InUse => {
            return Err(Error::refused(format!("key {short} is in use: the newest bundle was made with it"))
                .hint("Rotate first; the key before is kept by itself, and can be retired then."));
        }
        KeyState::Retired | KeyState::Destroyed => {
            return Err(Error::refused(format!("key {short} is {} already", facts.state.as_str())));
        }
        KeyState::Kept => {}
    }
    let event = KeyEvent {
        fingerprint: facts.fingerprint.clone(),
        action: "retired".to_owned(),
        predecessor: None,
        reason: reason.map(str::to_owned),
    };
    let seq = ledger.append(&signer, Event::Key(event), clock::now())?;
    let mut text = vec![format!("key {short} retired (ledger entry {seq})")];
    if !facts.bundles.is_empty() {
        let need = counted(facts.bundles.len(), "bundle needs", "bundles need");
        text.push(format!("  {need} it still, so its copies stay"));
    }
    Outcome::done(json!({ "fingerprint": facts.fingerprint, "seq": seq, "bundles": facts.bundles }), text)
}
