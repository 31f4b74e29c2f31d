//! `custody list` and `custody test`: who can open the sealing key.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::json;

use super::host::Host;
use super::shelf::{self, Shelf};
use super::{Desk, Outcome, Problem, exit_of};
use crate::config::Config;
use crate::custody;
use crate::ground::names::{Label, SealingId};
use crate::ground::words::counted;
use crate::ground::{Error, Kind, Result, clock};
use crate::ledger::{CustodyEvent, CustodyTestEvent, Event, Ledger};
use crate::signer::PublicKey;

/// How many bundles are searched for a signed copy of the sealing key, newest first.
const OLDER: usize = 20;

/// Lists the sealing keys of the archive, who can open each, and which host's they are.
pub fn list(shelf: &Shelf, config: Option<&Config>) -> Result<Outcome> {
    let mut text = Vec::new();
    let mut rows = Vec::new();
    // What the archive says of custody can be shown to somebody who believes no signer yet.
    let ledger = if shelf.trusted.is_empty() { None } else { Some(shelf.ledger()?) };
    let mut errors = ledger.as_ref().map_or_else(Vec::new, |ledger| all_changed(shelf, ledger, config));
    for sealing in custody::sealings(shelf.archive.as_ref())? {
        let record = match custody::record(shelf.archive.as_ref(), &sealing) {
            Ok(Some(record)) => record,
            // With a ledger it is among the errors already.
            Err(error) if ledger.is_none() => {
                errors.push(error);
                continue;
            }
            _ => continue,
        };
        let labels: Vec<&str> = record.labels.iter().map(Label::as_str).collect();
        text.push(format!("sealing key {}", record.sealing));
        text.push(format!("  generation {}, made {}", record.generation, clock::rfc3339(record.created)));
        text.push(format!("  any {} of: {}", record.threshold, labels.join(", ")));
        let entered = ledger.as_ref().and_then(|ledger| newest(ledger, &record.sealing));
        let signer = entered.map(|(_, signer)| signer);
        let bundles = ledger.as_ref().map(|ledger| ledger.bundles().filter(|b| b.sealing == record.sealing).count());
        if let Some(signer) = signer {
            text.push(format!("  entered by signer {signer}"));
        }
        if let Some(bundles) = bundles {
            let ours = config.is_some_and(|config| *config.recipient.id() == record.sealing);
            let ours = if ours { "; what this host backs up is sealed to it" } else { "" };
            text.push(format!("  {} sealed to it{ours}", counted(bundles, "bundle is", "bundles are")));
        }
        let mut row = super::to_json(&record)?;
        row["signer"] = json!(signer);
        row["bundles"] = json!(bundles);
        rows.push(row);
    }
    if rows.is_empty() && errors.is_empty() {
        text.push(format!("{} keeps no sealing key; it was made elsewhere", shelf.archive.describe()));
    } else if !rows.is_empty() {
        text.push("the labels are what the archive says; `custody test -i FILE` checks them".to_owned());
    }
    let exit = errors.first().map_or(0, |error| error.kind().exit_code());
    let problems: Vec<_> = errors.iter().map(Problem::from_error).collect();
    let line = problems.first().map(|problem| problem.message.clone()).unwrap_or_default();
    Ok(Outcome { exit, json: rows.into(), line, text, problems })
}

/// The same for the record of one key, for a backup, which is made all the same.
pub(super) fn record_changed(shelf: &Shelf, ledger: &Ledger<'_>, sealing: &SealingId) -> Option<Problem> {
    let error = match custody::record(shelf.archive.as_ref(), sealing) {
        Ok(Some(record)) => changed(shelf, ledger, &record)?,
        Ok(None) => return None,
        Err(error) => error,
    };
    let mut problem = Problem::from_error(&error);
    if !error.is_fault() {
        "custody-changed".clone_into(&mut problem.code);
    }
    Some(problem)
}

/// What is to be said of every sealing key in custody that was changed, or is gone, or cannot be looked at.
pub(super) fn all_changed(shelf: &Shelf, ledger: &Ledger<'_>, config: Option<&Config>) -> Vec<Error> {
    let there = match custody::sealings(shelf.archive.as_ref()) {
        Ok(there) => there,
        Err(error) => return vec![error],
    };
    let mut errors = Vec::new();
    let used = ledger.bundles().map(|bundle| bundle.sealing.clone()).chain(config.map(|c| c.recipient.id().clone()));
    // A key that nothing was sealed to may be what a failed set-up took back.
    let used: BTreeSet<_> = used.collect();
    for sealing in there.into_iter().chain(used.iter().cloned()).collect::<BTreeSet<_>>() {
        errors.extend(match custody::record(shelf.archive.as_ref(), &sealing) {
            Ok(Some(record)) => changed(shelf, ledger, &record),
            Ok(None) => None,
            Err(error) => Some(error),
        });
        if used.contains(&sealing) {
            errors.extend(gone(shelf, ledger, &sealing).err());
        }
    }
    errors
}

/// Refuses a sealing key that was put into custody by the ledger's word, and is not there any more, or in part.
pub(super) fn gone(shelf: &Shelf, ledger: &Ledger<'_>, sealing: &SealingId) -> Result<()> {
    // One that was made elsewhere was entered with nobody who could open it here.
    if newest(ledger, sealing).is_none() {
        return Ok(());
    }
    let Some(name) = custody::lacks(shelf.archive.as_ref(), sealing)? else { return Ok(()) };
    Err(Error::not_authentic(format!(
        "{name} is gone from {}, and the ledger says that it was put there",
        shelf.archive.describe()
    ))
    .hint("Whoever can write to the archive may have taken it. Take custody/ from another copy of the archive; a bundle's identity.age is the same file."))
}

/// The wrapped sealing key for the bundle: as the newest signed bundle has it, where there is one.
///
/// The copy in custody is not signed, and signing it would vouch for whatever somebody put there.
pub(super) fn wrapped_identity(
    shelf: &Shelf,
    ledger: &Ledger<'_>,
    sealing: &SealingId,
) -> Result<(Option<Vec<u8>>, Option<Problem>)> {
    let found = custody::wrapped(shelf.archive.as_ref(), sealing);
    let (mut signed, mut unread) = (None, None);
    for bundle in ledger.bundles().rev().filter(|bundle| bundle.sealing == *sealing).take(OLDER) {
        match shelf.bundle_by_id(&bundle.bundle, &bundle.sums).and_then(|opened| opened.wrapped_identity()) {
            Ok(Some(bytes)) => {
                signed = Some(bytes);
                break;
            }
            Ok(None) => {}
            Err(error) => unread = unread.or(Some(error)),
        }
    }
    let problem = match (&signed, &found, unread) {
        (Some(signed), Ok(Some(found)), _) if found == signed => None,
        (Some(_), Err(error), _) if error.is_fault() => Some(Problem::from_error(error)),
        (Some(_), ..) => Some(Problem::new(
            "custody-changed",
            format!("custody/{sealing}/identity.age is not the one that the last bundle holds, or is gone"),
            "The bundle got the copy from the last one. Find out who can write to the archive, and put that copy back into custody.",
        )),
        (None, _, Some(error)) => Some(Problem::new(
            "custody-unsigned",
            format!(
                "no bundle gives its copy of the sealing key, so the one in custody was taken, which nobody signed: {}",
                error.chain()
            ),
            "Compare custody/ with another copy of the archive, and take the bundles' objects from there.",
        )),
        (None, Ok(None), None) => gone(shelf, ledger, sealing).err().map(|error| match error.kind() {
            Kind::NotAuthentic => {
                let message = format!("{error}; no bundle has a copy, so no custodian can open what is made now");
                Problem::new("custody-changed", message, error.hints().join(" "))
            }
            _ => Problem::from_error(&error),
        }),
        (None, _, None) => None,
    };
    let wrapped = match signed {
        Some(signed) => Some(signed),
        None => found?,
    };
    Ok((wrapped, problem))
}

/// What is to be said of a record that is not what was entered into the ledger.
pub(super) fn changed(shelf: &Shelf, ledger: &Ledger<'_>, record: &custody::CustodyRecord) -> Option<Error> {
    let (event, _) = newest(ledger, &record.sealing)?;
    let same =
        (event.generation, event.threshold, &event.labels) == (record.generation, record.threshold, &record.labels);
    (!same).then(|| {
        Error::not_authentic(format!(
            "custody/{}/custody.json in {} is not what was entered into the ledger",
            record.sealing,
            shelf.archive.describe()
        ))
        .hint(custody::RECORD_NEXT)
    })
}

/// The newest entry about the custodians of a sealing key, and who signed it.
fn newest<'a>(ledger: &'a Ledger<'_>, sealing: &SealingId) -> Option<(&'a CustodyEvent, PublicKey)> {
    ledger.entries().iter().rev().find_map(|entry| match &entry.event {
        // Who only seals to a key enters nobody who opens it, and takes nothing back by that.
        Event::Custody(event) if event.sealing == *sealing && !event.labels.is_empty() => Some((event, entry.signer)),
        _ => None,
    })
}

/// Opens the sealing key with an identity, checks the record of custody, and signs the test into the ledger.
pub fn test(desk: &Desk<'_>, shelf: &Shelf, config: Option<&Config>, identity: &[PathBuf]) -> Result<Outcome> {
    let sealing = match config {
        Some(config) => config.recipient.id().clone(),
        None => newest_sealing(shelf)?,
    };
    let identities = shelf::identities(desk, identity)?;
    let key = custody::open(shelf.archive.as_ref(), &sealing, &identities)?;
    let mut problems = Vec::new();
    let mut recorded = None;
    if let Some(config) = config {
        match Host::new(config.clone())?.signer() {
            Ok(signer) => {
                let event = Event::CustodyTest(CustodyTestEvent { sealing: key.id().clone(), label: None });
                // The answer is known, whatever becomes of writing it down.
                match shelf.ledger().and_then(|mut ledger| ledger.append(&signer, event, clock::now())) {
                    Ok(seq) => recorded = Some(seq),
                    Err(error) if matches!(error.kind(), Kind::NotAuthentic | Kind::Damaged | Kind::Interrupted) => {
                        return Err(error);
                    }
                    Err(error) => {
                        problems.push(Problem::from_error(&error.context("the test was not recorded in the ledger")));
                    }
                }
            }
            Err(error) if matches!(error.kind(), Kind::Usage | Kind::NotFound) => {}
            Err(error) => problems.push(Problem::from_error(&error)),
        }
    }
    let mut text = vec![format!("this identity opens the sealing key {}", key.id())];
    if let Some(seq) = recorded {
        text.push(format!("  recorded in the ledger as entry {seq}"));
    }
    Ok(Outcome {
        exit: exit_of(&problems),
        json: json!({ "sealing": key.id(), "opens": true, "seq": recorded, "problems": problems }),
        line: text[0].clone(),
        text,
        problems,
    })
}

/// The sealing key of the newest bundle.
fn newest_sealing(shelf: &Shelf) -> Result<crate::ground::names::SealingId> {
    let ledger = shelf.ledger()?;
    let newest = ledger.bundles().next_back().map(|b| b.sealing.clone());
    newest.ok_or_else(|| {
        Error::not_found(format!("{} has no bundle of {} yet", shelf.archive.describe(), shelf.app))
            .hint("`strongroom backup` makes one.")
    })
}
