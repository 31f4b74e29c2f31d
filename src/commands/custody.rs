//! `custody list` and `custody test`: who can open the sealing key.

use std::path::PathBuf;

use serde_json::json;

use super::host::Host;
use super::shelf::{self, Shelf};
use super::{Desk, Outcome, Problem};
use crate::config::Config;
use crate::custody;
use crate::ground::names::Label;
use crate::ground::words::counted;
use crate::ground::{Error, Kind, Result, clock};
use crate::ledger::{CustodyTestEvent, Entry, Event};

/// Lists the sealing keys of the archive, who can open each, and which host's they are.
pub fn list(shelf: &Shelf, config: Option<&Config>) -> Result<Outcome> {
    let mut text = Vec::new();
    let mut rows = Vec::new();
    // What the archive says of custody can be shown to somebody who believes no signer yet.
    let ledger = shelf.ledger().ok();
    for record in custody::list(shelf.archive.as_ref())? {
        let labels: Vec<&str> = record.labels.iter().map(Label::as_str).collect();
        text.push(format!("sealing key {}", record.sealing));
        text.push(format!("  generation {}, made {}", record.generation, clock::rfc3339(record.created)));
        text.push(format!("  any {} of: {}", record.threshold, labels.join(", ")));
        let signer = ledger.as_ref().and_then(|ledger| {
            let about = |entry: &&Entry| matches!(&entry.event, Event::Custody(e) if e.sealing == record.sealing);
            ledger.entries().iter().find(about).map(|entry| entry.signer)
        });
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
    if rows.is_empty() {
        text.push(format!("{} keeps no sealing key; it was made elsewhere", shelf.archive.describe()));
    } else {
        text.push("the labels are what the archive says; `custody test -i FILE` checks them".to_owned());
    }
    Outcome::done(rows, text)
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
                recorded = Some(shelf.ledger()?.append(
                    &signer,
                    Event::CustodyTest(CustodyTestEvent { sealing: key.id().clone(), label: None }),
                    clock::now(),
                )?);
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
        exit: 0,
        json: json!({ "sealing": key.id(), "opens": true, "seq": recorded, "problems": problems }),
        text,
        line: String::new(),
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
