//! `list`, `show`, `cat`, `check`: what bundles there are and what is in them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use serde_json::json;

use super::shelf::{self, Shelf};
use super::{Desk, Outcome, Problem, defects, human_bytes, proof};
use crate::archive::state::{self, State};
use crate::bundle::{Scope, extract};
use crate::config::{Config, EscrowPlace};
use crate::escrow;
use crate::ground::names::{BundleId, SealingId};
use crate::ground::progress::Unit;
use crate::ground::words::{counted, shown};
use crate::ground::{Error, Kind, Result, clock, names};
use crate::ledger::{BundleEvent, KeyFacts, KeyState, Ledger};

/// Lists every bundle that was not pruned, oldest first.
pub fn list(shelf: &Shelf) -> Result<Outcome> {
    let ledger = shelf.ledger()?;
    let mut text =
        vec![format!("{:<26} {:<20} {:<12} {:<12} {:>10}  PROBLEMS", "BUNDLE", "CREATED", "VERDICT", "KEY", "STORED")];
    let mut rows = Vec::new();
    for bundle in ledger.bundles() {
        let created = clock::rfc3339(bundle.bundle.time());
        let key = bundle.keys.first();
        let confirmed = ledger.confirmed(&bundle.bundle);
        let verdict = if confirmed { "confirmed" } else { bundle.verdict.as_str() };
        text.push(format!(
            "{:<26} {created:<20} {verdict:<12} {:<12} {:>10}  {}",
            bundle.bundle.as_str(),
            key.map_or("-", names::Fingerprint::short),
            human_bytes(bundle.bytes),
            defects::words(&bundle.problems),
        ));
        rows.push(json!({
            "bundle": bundle.bundle,
            "created": created,
            "verdict": bundle.verdict,
            "confirmed": confirmed,
            "fingerprint": key,
            "sealing": bundle.sealing,
            "contains": bundle.event.contains,
            "storage_from": bundle.storage_from,
            "bytes": bundle.bytes,
            "problems": bundle.event.problems,
        }));
    }
    if rows.is_empty() {
        text = vec![none_yet(shelf)];
    }
    Outcome::done(rows, text)
}

fn none_yet(shelf: &Shelf) -> String {
    format!("{} has no bundle of {} yet", shelf.archive.describe(), shelf.app)
}

/// Shows one bundle; with identities its proof, with `files` its file list.
pub fn show(desk: &Desk<'_>, shelf: &Shelf, bundle: &str, identity: &[PathBuf], files: bool) -> Result<Outcome> {
    let ledger = shelf.ledger()?;
    let opened = shelf.bundle(&ledger, bundle)?;
    let header = opened.header();
    let mut json = super::to_json(header)?;
    let mut text = vec![
        format!("bundle        {}", header.id),
        format!("application   {}", header.app),
        format!("installation  {}", header.installation),
        format!("created       {}", header.created),
        format!("signer        {}", header.signer),
        format!("sealing key   {}", header.sealing),
        format!("keys          {}", header.keys.iter().map(names::Fingerprint::as_str).collect::<Vec<_>>().join(", ")),
        format!("verdict       {}", header.verdict.as_str()),
        format!("contains      {}", header.contains.join(", ")),
        format!("stored        {}", human_bytes(header.bytes)),
    ];
    if let Some(storage) = &header.storage {
        text.push(format!(
            "storage       {}, {}, {} missing",
            counted(storage.files, "file", "files"),
            human_bytes(storage.bytes),
            storage.missing
        ));
    }
    if let Some(from) = &header.storage_from {
        text.push(format!("storage from  {from}"));
    }
    if !header.problems.is_empty() {
        text.push(format!("problems      {}", defects::words(&header.problems)));
    }
    if identity.is_empty() {
        if files {
            return Err(Error::usage("the file list is sealed").hint("Give the identity that opens it: -i FILE."));
        }
        return Outcome::done(json, text);
    }
    let key = shelf.unseal(&header.sealing, &shelf::identities(desk, identity)?, Some(&opened))?;
    let summary = super::verify::summary(&opened, &key)?;
    text.push(format!("proof         {}", proof::sentence(header.verdict, &summary.counts)));
    for (table, rows) in &summary.facts.tables {
        let noun = if *rows == 1 { "row" } else { "rows" };
        text.push(format!("  {rows:>10} {noun} in {}", shown(table.as_bytes())));
    }
    for fault in &summary.facts.faults {
        text.push(format!("  fault: {}", shown(fault.as_bytes())));
    }
    json["proof"] = super::to_json(&summary)?;
    if files {
        let mut lines = Vec::new();
        extract::for_each_line(&opened, &key, &mut |line| {
            let path = shown(&line.path);
            text.push(format!("{} {:>12} {path}", line.mode_text(), line.size));
            lines.push(super::to_json(&line)?);
            Ok(())
        })?;
        json["files"] = lines.into();
    }
    Outcome::done(json, text)
}

/// Writes one thing out of a bundle.
pub fn cat(
    desk: &Desk<'_>,
    shelf: &Shelf,
    bundle: &str,
    what: &OsStr,
    identity: &[PathBuf],
    out: &mut dyn Write,
) -> Result<()> {
    let ledger = shelf.ledger()?;
    let opened = shelf.bundle(&ledger, bundle)?;
    let header = opened.header();
    let key = shelf.unseal(&header.sealing, &shelf::identities(desk, identity)?, Some(&opened))?;
    if what == "database" {
        let member = opened.database_member().ok_or_else(|| {
            Error::not_found(format!("bundle {} holds no database", header.id))
                .hint("`strongroom list --json` shows what each bundle contains.")
        })?;
        let mut bytes = opened.read(&member, &key)?;
        std::io::copy(&mut bytes, out)
            .map_err(|e| Error::from_io(Kind::Failed, format!("cannot write {} out", member.file_name()), e))?;
        return Ok(());
    }
    let storage = shelf.storage_of(&ledger, &opened)?;
    let source = storage.as_ref().unwrap_or(&opened);
    extract::cat(source, &key, what.as_bytes(), out)
}

/// The row of a bundle that was not read to its end; of what was not seen, nothing is said.
fn unread(id: &BundleId, authentic: bool, error: &Error) -> serde_json::Value {
    let authentic = authentic.then_some(true);
    json!({ "bundle": id, "authentic": authentic, "read": false, "whole": null, "error": error.chain() })
}

/// Checks signatures, ledger and digests of one bundle or of all; needs no secret.
///
/// With a configuration also that the ledger has the newest entry that this host has seen.
pub fn check(desk: &Desk<'_>, shelf: &Shelf, config: Option<&Config>, bundle: Option<&str>) -> Result<Outcome> {
    // First: a backup beside this makes the ledger longer, and remembers that.
    let seen = match config {
        Some(config) => State::glance(&config.state.join(state::NAME), &shelf.id, &shelf.app)?,
        None => None,
    };
    let ledger = shelf.ledger()?;
    seen.map_or(Ok(()), |(seq, digest)| ledger.remembered(seq, &digest))?;
    let chosen: Vec<_> = match bundle {
        Some(selector) => vec![shelf.find(&ledger, selector)?],
        None => ledger.bundles().map(|b| (b.bundle.clone(), b.sums.clone())).collect(),
    };
    let (mut text, mut rows, mut first_error) = (Vec::new(), Vec::new(), None);
    let mut seen = std::collections::HashSet::new();
    let mut problems = Vec::new();
    let mut rest = chosen.iter();
    for (id, sums) in rest.by_ref() {
        desk.progress.stage(&format!("check {id}"), None, Unit::Bytes);
        let opened = shelf.bundle_by_id(id, sums);
        let authentic = opened.is_ok();
        let result = opened.and_then(|o| o.check(Scope::EverythingBut(&mut seen), desk.progress.as_ref()));
        match result {
            Ok(bytes) => {
                text.push(format!("{id}: whole and authentic ({} read)", human_bytes(bytes)));
                rows.push(json!({ "bundle": id, "authentic": true, "read": true, "whole": true, "bytes": bytes }));
            }
            Err(error) => {
                text.push(format!("{id}: {}", error.chain()));
                rows.push(match error.kind() {
                    // Damage may have been met before the signature.
                    Kind::Damaged | Kind::NotAuthentic => json!({
                        "bundle": id,
                        "authentic": if error.kind() == Kind::Damaged { authentic.then_some(true) } else { Some(false) },
                        "read": true,
                        "whole": false,
                        "error": error.chain(),
                    }),
                    // What could not be read is not known to be broken.
                    _ => unread(id, authentic, &error),
                });
                // Bundles share their parts: what is damaged in several is one problem.
                let problem = Problem::from_error(&error);
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
                let interrupted = error.kind() == Kind::Interrupted;
                // Whoever interrupted it sees that first, whatever was found before.
                if interrupted || first_error.is_none() {
                    first_error = Some(error);
                }
                if interrupted {
                    break;
                }
            }
        }
    }
    for (id, _) in rest {
        let error = Error::new(Kind::Interrupted, "not read: interrupted before");
        text.push(format!("{id}: {error}"));
        rows.push(unread(id, false, &error));
    }
    desk.progress.finish();
    if chosen.is_empty() {
        text.push(none_yet(shelf));
    }
    if bundle.is_some()
        && let Some(error) = first_error
    {
        return Err(error);
    }
    if bundle.is_none() && first_error.as_ref().is_none_or(|error| error.kind() != Kind::Interrupted) {
        for error in
            super::custody::all_changed(shelf, &ledger, config).into_iter().chain(spoilt_copies(desk, shelf, &ledger))
        {
            text.push(error.chain());
            problems.push(Problem::from_error(&error));
            first_error.get_or_insert(error);
        }
    }
    Ok(Outcome {
        exit: first_error.as_ref().map_or(0, |e| e.kind().exit_code()),
        json: rows.into(),
        line: text.iter().find(|l| !l.contains("whole and authentic")).cloned().unwrap_or_default(),
        text,
        problems,
    })
}

/// What is to be said of a key that the archive does not hold any more: nothing, where a bundle or another escrow may.
fn nowhere_else(ledger: &Ledger<'_>, key: &KeyFacts, sealing: &SealingId) -> Option<Error> {
    let mut places = key.deposits.iter().filter(|deposit| deposit.sealing == *sealing);
    if !places.all(|deposit| escrow::is_an_archive(&deposit.place)) {
        return None;
    }
    let needs = |b: &BundleEvent| b.sealing == *sealing && b.keys.contains(&key.fingerprint);
    let bundle = ledger.bundles().find(|b| needs(b) && !b.contains.iter().any(|what| what == "key"))?;
    let short = key.fingerprint.short();
    Some(
        Error::damaged(format!(
            "key {short}, which bundle {} needs and does not hold, is gone from the archive",
            bundle.bundle
        ))
        .hint("Take keys/ from another copy of the archive. If it is the configured key: `strongroom key escrow`."),
    )
}

/// What is to be said of the sealed keys that the archive keeps as an escrow and that are not what was put there.
fn spoilt_copies(desk: &Desk<'_>, shelf: &Shelf, ledger: &Ledger<'_>) -> Vec<Error> {
    let escrow = match desk.systems.escrow(&EscrowPlace::Archive, shelf.archive.as_ref()) {
        Ok(escrow) => escrow,
        Err(error) => return vec![error],
    };
    let mut errors = Vec::new();
    for key in ledger.keys().iter().filter(|key| key.state != KeyState::Destroyed) {
        for sealing in key.deposits.iter().map(|deposit| &deposit.sealing).collect::<BTreeSet<_>>() {
            match escrow.inspect(&shelf.app, &key.fingerprint, sealing, &shelf.trusted) {
                Ok(Some(_)) => {}
                Ok(None) => errors.extend(nowhere_else(ledger, key, sealing)),
                Err(error) => errors.push(error),
            }
        }
    }
    errors
}
