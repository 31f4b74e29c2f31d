//! What a backup says when it is done.

use serde_json::json;

use crate::appkey::proof::{Counts, Verdict};
use crate::archive::state::State;
use crate::bundle::Header;
use crate::bundle::store::{FEW, Loss, StoreReport};
use crate::commands::host::Host;
use crate::commands::shelf::Shelf;
use crate::commands::{ATTENTION, Outcome, Problem, human_bytes, proof};
use crate::ground::names::{BundleId, Sha256Hex};
use crate::ground::words::counted;
use crate::ground::{Error, Result};
use crate::ledger::{Committed, Ledger};
use crate::storage::UNFINISHED;

/// What there is to say.
pub(super) struct Facts<'a> {
    pub(super) host: &'a Host,
    pub(super) header: &'a Header,
    pub(super) seq: u64,
    pub(super) digest: Option<Sha256Hex>,
    pub(super) counts: Counts,
    pub(super) stored: Option<StoreReport>,
    pub(super) missing: u64,
    pub(super) escrows: Vec<String>,
    pub(super) problems: Vec<Problem>,
    pub(super) proof_failures: Vec<String>,
    pub(super) tried_live: bool,
}

/// How the system words it when a device fails.
const FAULT: &str = "(os error 5)";

/// What a person should look at in the storage.
pub(super) fn storage_problems(report: &StoreReport) -> Vec<Problem> {
    const SHOWN: usize = 20;
    let mut problems = Vec::new();
    if report.state_lost {
        problems.push(Problem::new(
            "state-lost",
            "what this host remembered of earlier backups is gone or is not of the newest bundle, so every file was stored again",
            "Keep the [state] folder between runs, and let one host make an application's backups: another one's bundle is not remembered here. The next backup is incremental again.",
        ));
    }
    if report.other_key {
        problems.push(Problem::new(
            "other-sealing-key",
            "what earlier backups stored is sealed to another key than [sealing] recipient names, so every file was stored again",
            "Nothing is to be done if that key is new. Earlier bundles open with the one of their time: keep its identities and cards.",
        ));
    }
    for lost in report.lost.iter().take(SHOWN) {
        let again = match lost.files {
            0 => "the list that was in it was stored again".to_owned(),
            1 => "the file that was in it was stored again, if the storage still has it".to_owned(),
            n => format!("the {n} files that were in it were stored again, if the storage still has them"),
        };
        problems.push(Problem::new(
            "part-lost",
            format!("{} of the archive {}; {again}", lost.object, lost.why),
            "Bundles from before this one need it too: look for it in another copy of the archive, run `strongroom check --all`, and find out who removed it.",
        ));
    }
    if report.lost.len() > SHOWN {
        problems.push(Problem::new(
            "part-lost",
            format!(
                "{} lost from the archive",
                counted(report.lost.len() - SHOWN, "more object is", "more objects are")
            ),
            "`strongroom check --all` names every bundle that needs one of them.",
        ));
    }
    for left in report.left_out.iter().take(SHOWN) {
        problems.push(Problem::new(
            "left-out",
            format!("{} is not in the bundle: {}", left.path, left.reason),
            if left.reason.contains(FAULT) {
                "The device does not give it back: see the system's log (`dmesg`); older bundles may have it."
            } else if left.reason == UNFINISHED {
                "Run that restore again, or remove it; a file of the application's own with such a name cannot be backed up: give it another."
            } else if left.reason.starts_with("it is a") {
                "It is no file, and nothing of it could be restored: move it out of the storage."
            } else {
                "Give this user the right to read it, or move it out of the storage."
            },
        ));
    }
    if report.left_out.len() > SHOWN {
        problems.push(Problem::new(
            "left-out-more",
            format!("{} left out", counted(report.left_out.len() - SHOWN, "more was", "more were")),
            "They are the same kind of thing, most likely.",
        ));
    }
    for path in report.changed_while_read.iter().take(SHOWN) {
        problems.push(Problem::new(
            "changed-while-read",
            format!("{path} changed while it was read, twice"),
            "The next backup reads it again; stop the application for a moment if it must be in this one.",
        ));
    }
    problems
}

/// The outcome: text, JSON and exit code.
pub(super) fn outcome(facts: Facts<'_>) -> Outcome {
    let Facts { host, header, seq, digest, counts, stored, missing, escrows, mut problems, proof_failures, tried_live } =
        facts;
    let verdict = header.verdict;
    if matches!(verdict, Verdict::WrongKey | Verdict::Mixed) {
        problems.insert(
            0,
            Problem::new(
                "wrong-key",
                "the application's key does not open its database",
                "Look for the key that was in use when these rows were written: `strongroom verify -i IDENTITY` names it when an escrow has it.",
            ),
        );
    }
    // Without a database there is nothing that a proof could be about.
    let to_prove = tried_live && host.config.database.is_some();
    let well = (!to_prove || verdict == Verdict::Proved) && problems.iter().all(Problem::is_advice);
    let mut text = vec![format!("bundle {} (ledger entry {seq})", header.id)];
    if to_prove {
        text.push(format!("  {}", proof::sentence(verdict, &counts)));
        text.extend(proof_failures);
    }
    if let Some(stored) = &stored {
        text.push(format!(
            "  storage: {}, {}; {} stored, {} already there{}",
            counted(stored.files, "file", "files"),
            human_bytes(stored.bytes),
            human_bytes(stored.bytes_stored),
            stored.reused_files,
            if missing > 0 {
                format!("; {} missing", counted(missing, "that the database names is", "that the database names are"))
            } else {
                String::new()
            }
        ));
    }
    if let Some(fingerprint) = header.keys.first() {
        let kept = if !escrows.is_empty() {
            format!("escrowed in {}", escrows.join(", "))
        } else if header.has("key") {
            "escrowed in the bundle only".to_owned()
        } else {
            "in no escrow, and not in the bundle".to_owned()
        };
        text.push(format!("  key {}: {kept}", fingerprint.short()));
    }
    let decides = problems.iter().find(|p| match verdict {
        Verdict::NoKey => p.code == "no-key",
        Verdict::Proved | Verdict::Unproven => !p.is_advice(),
        _ => false,
    });
    let why = decides.map_or_else(|| proof::sentence(verdict, &counts), |problem| problem.message.clone());
    let line = format!("bundle {}: stored; {why}", header.id);
    Outcome {
        exit: if well { 0 } else { ATTENTION },
        json: json!({
            "bundle": header.id,
            "app": header.app,
            "seq": seq,
            "entry": digest,
            "verdict": verdict,
            "fingerprint": header.keys.first(),
            "credentials": proof::counts_json(&counts),
            "storage": stored.as_ref().map(|s| json!({
                "files": s.files,
                "missing": missing,
                "bytes": s.bytes,
                "bytes_stored": s.bytes_stored,
                "reused": s.reused_files,
                "left_out": s.left_out.len(),
                "changed_while_read": s.changed_while_read.len(),
                "hard_linked": s.hard_linked,
                "sparse": s.sparse,
            })),
            "bytes": header.bytes,
            "escrows": escrows,
            "problems": problems,
        }),
        line,
        text,
        problems,
    }
}

/// A storage of which nothing can be backed up.
pub(super) fn unreachable(error: &Error, base: Option<&BundleId>) -> Problem {
    let meanwhile = base.map_or_else(
        || " No bundle has any of its files.".to_owned(),
        |id| format!(" Bundle {id} has what was stored before."),
    );
    Problem::new(
        "storage-unreachable",
        format!("the storage is not in the bundle: {}", error.chain()),
        format!("Mount it, or correct `storage` in the configuration, and back up again.{meanwhile}"),
    )
}

/// The words for a storage without files, and for one with less than went.
const EMPTY: &str = "storage-empty";
const SHRUNK: &str = "storage-shrunk";
/// The word for files that could not be read.
const LEFT_OUT: &str = "left-out";
/// How many bundles are looked at for one that has what was there.
const OLDER: usize = 100;

/// What this host could not write down of a bundle that is whole without it.
pub(super) fn not_remembered(error: &Error) -> Problem {
    Problem::new(
        "not-remembered",
        format!("the bundle is made, and this host could not write down what it remembers of it: {}", error.chain()),
        error.hints().first().map_or("The next backup settles it.", String::as_str),
    )
}

/// What somebody took from the end of the ledger since this host last looked; a backup is made all the same.
pub(super) fn lost_entries(state: &State, ledger: &Ledger<'_>) -> Result<Option<Problem>> {
    let Some((seq, digest)) = state.newest_entry()? else { return Ok(None) };
    let Err(error) = ledger.remembered(seq, &digest) else { return Ok(None) };
    Ok(Some(Problem::new(
        "ledger-cut",
        error.chain(),
        "Bundles may be gone that nothing in the archive tells of any more: find out who could write to it, and look for another copy.",
    )))
}

/// Whether a bundle's storage had lost all or most of its files.
pub(super) fn has_lost(bundle: &Committed<'_>) -> bool {
    bundle.problems.iter().any(|word| [EMPTY, SHRUNK].contains(&word.as_str()))
}

/// A storage that has lost all or most of its files since the last bundle of which nobody says so: it may not be mounted.
pub(super) fn lost_files(shelf: &Shelf, ledger: &Ledger<'_>, stored: &StoreReport, loss: Loss) -> Option<Problem> {
    let StoreReport { files, gone, state_lost, other_key, .. } = stored;
    let remembered = !state_lost && !other_key && loss == Loss::Told;
    if loss == Loss::Accepted || *gone == 0 && *files > 0 && remembered {
        return None;
    }
    let kept = |bundle: &Committed<'_>| bundle.contains.iter().any(|what| what == "storage") && !has_lost(bundle);
    let whole = |bundle: &Committed<'_>| bundle.problems.iter().all(|word| word.as_str() != LEFT_OUT);
    let mut bundles = ledger.bundles().rev().filter(kept);
    let newest = bundles.next()?;
    // One that left files out may lack those that are gone now.
    let before = std::iter::once(newest).chain(bundles).take(OLDER).find(whole).unwrap_or(newest);
    let id = &before.bundle;
    let had =
        shelf.bundle_by_id(id, &before.sums).map(|opened| opened.header().storage.as_ref().map_or(0, |s| s.files));
    let went = match &had {
        _ if *gone > 0 => *gone,
        // Where nothing is remembered of them, their number alone tells.
        Ok(had) => had.saturating_sub(*files),
        Err(_) => 0,
    };
    let (code, message) = match had {
        _ if *files > 0 && (*gone > 0 || went > *files && went >= FEW) => {
            (SHRUNK, format!("the storage has lost {went} files since bundle {id}, and has {files}"))
        }
        _ if *files > 0 || had.as_ref().is_ok_and(|had| *had == 0) && *gone == 0 => return None,
        Ok(had) => (EMPTY, format!("the storage has no file, and bundle {id} has {had} of it")),
        Err(error) => {
            (EMPTY, format!("the storage has no file, and what bundle {id} has of it is not known: {}", error.chain()))
        }
    };
    Some(Problem::new(
        code,
        message,
        "Is all of it mounted? That bundle has what was there, and the next backup has files that are back. If they are not wanted any more, `strongroom backup --allow-empty` says so once.",
    ))
}
