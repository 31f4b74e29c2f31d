//! `key escrow`, `key verify`, `key fetch`, `key exec`: the sealed copies of a key.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Naming, named};
use crate::appkey::KeyText;
use crate::appkey::proof::{ProverOptions, Verdict, prove_with};
use crate::commands::deposits::{Depositor, Look, Origin};
use crate::commands::guard::Permit;
use crate::commands::host::{Host, NamedKey};
use crate::commands::missed::{gravest, several};
use crate::commands::shelf::{self, Shelf};
use crate::commands::{ATTENTION, Desk, Outcome, Problem, exit_of, proof, verify as bundles};
use crate::config::Config;
use crate::custody::Identities;
use crate::escrow;
use crate::ground::durable::{self, Existing};
use crate::ground::names::Fingerprint;
use crate::ground::{Error, Result};
use crate::ledger::{KeyFacts, KeyState, Ledger};

/// Puts the configured key into every escrow that lacks it; with `repair` over what is damaged there.
pub fn escrow(desk: &Desk<'_>, config: Config, repair: bool) -> Result<Outcome> {
    let host = Host::new(config)?;
    host.config.escrows_apart()?;
    let signer = host.signer()?;
    let shelf = host.shelf(desk)?;
    let mut ledger = shelf.ledger()?;
    let key = host.key(desk, None)?;
    let depositor = Depositor { desk, host: &host, shelf: &shelf, signer: &signer };
    let held =
        depositor.make(&mut ledger, &key, &Origin::default(), if repair { Look::Repair } else { Look::Whole })?;
    let mut text = vec![format!("key {}", key.fingerprint.short())];
    text.extend(held.places.iter().map(|place| format!("  held by {place}")));
    let problems = held.problems();
    Ok(Outcome {
        exit: exit_of(&problems),
        json: json!({ "fingerprint": key.fingerprint, "escrows": held.places, "problems": problems }),
        line: problems.first().map(|p| p.message.clone()).unwrap_or_default(),
        text,
        problems,
    })
}

/// What is asked of a key's copies.
pub struct CopyRequest<'a> {
    /// The beginning of its fingerprint; the key in use when missing.
    pub key: Option<&'a str>,
    /// Who opens the sealing key.
    pub identity: &'a [PathBuf],
}

/// One copy, opened.
pub(super) struct Copy {
    place: String,
    pub(super) key: NamedKey,
}

/// Opens every copy of a key that the identities open: in each escrow, and in the newest bundle that names it.
///
/// A copy that does not open, or holds another key, is missed and not among the answers.
fn open_all(
    desk: &Desk<'_>,
    shelf: &Shelf,
    ledger: &Ledger<'_>,
    naming: &Naming,
    key: &KeyFacts,
    identities: &Identities<'_>,
    missed: &mut Vec<Error>,
) -> Vec<Copy> {
    let mut copies = Vec::new();
    let mut take = |place: String, found: Result<NamedKey>, missed: &mut Vec<Error>| match found {
        Ok(key) => copies.push(Copy { place, key }),
        Err(error) => missed.push(error.context(format!("the copy in {place}"))),
    };
    let checked = |bytes: zeroize::Zeroizing<Vec<u8>>| -> Result<NamedKey> {
        let found = naming.name(KeyText::new(bytes))?;
        if found.fingerprint == key.fingerprint {
            Ok(found)
        } else {
            let (holds, wanted) = (found.fingerprint.short(), key.fingerprint.short());
            Err(Error::not_authentic(format!("it holds key {holds}, not {wanted}")))
        }
    };
    for place in &shelf.escrows {
        let escrow = match desk.systems.escrow(place, shelf.archive.as_ref()) {
            Ok(escrow) => escrow,
            Err(error) => {
                missed.push(error);
                continue;
            }
        };
        let deposits = match escrow.list(&shelf.app) {
            Ok(deposits) => deposits,
            Err(error) => {
                missed.push(error);
                continue;
            }
        };
        for (_, sealing) in deposits.into_iter().filter(|(fingerprint, _)| *fingerprint == key.fingerprint) {
            let found = shelf.unseal(&sealing, identities, None).and_then(|sealing_key| {
                let sealed = escrow.fetch_signed(&shelf.app, &key.fingerprint, &sealing, &shelf.trusted)?;
                checked(escrow::open_record(&sealing_key, &sealed)?.key)
            });
            take(escrow.describe(), found, missed);
        }
    }
    if let Some(id) = key.bundles.last() {
        let found = (|| {
            let opened = shelf.bundle(ledger, id.as_str())?;
            let sealing = shelf.unseal(&opened.header().sealing, identities, Some(&opened))?;
            let records = bundles::sealed_records(&opened, &sealing)?;
            match records.into_iter().find(|record| record.fingerprint == key.fingerprint) {
                Some(record) => checked(record.key).map(Some),
                None => Ok(None),
            }
        })();
        if let Some(found) = found.transpose() {
            take(format!("bundle {id}"), found, missed);
        }
    }
    copies
}

/// One good copy; an error that says why there is none.
pub(super) fn open_one(
    desk: &Desk<'_>,
    shelf: &Shelf,
    config: Option<&Config>,
    request: &CopyRequest<'_>,
) -> Result<(Copy, Fingerprint)> {
    let ledger = shelf.ledger()?;
    let naming = Naming::of(config, shelf, &ledger)?;
    let key = named(&ledger, request.key)?;
    let identities = shelf::identities(desk, request.identity)?;
    let mut missed = Vec::new();
    let copies = open_all(desk, shelf, &ledger, &naming, &key, &identities, &mut missed);
    desk.progress.finish();
    match copies.into_iter().next() {
        Some(copy) => Ok((copy, key.fingerprint)),
        None => Err(several(gravest(&missed), no_copy(&key), &missed)),
    }
}

fn no_copy(key: &KeyFacts) -> String {
    format!("no copy of key {} could be opened", key.fingerprint.short())
}

/// Opens every copy of a key, and tries the one in use on the live database.
pub fn verify(desk: &Desk<'_>, shelf: &Shelf, config: Option<Config>, request: &CopyRequest<'_>) -> Result<Outcome> {
    let ledger = shelf.ledger()?;
    let naming = Naming::of(config.as_ref(), shelf, &ledger)?;
    let key = named(&ledger, request.key)?;
    let identities = shelf::identities(desk, request.identity)?;
    let mut missed = Vec::new();
    let copies = open_all(desk, shelf, &ledger, &naming, &key, &identities, &mut missed);
    let mut problems: Vec<Problem> = missed.iter().map(Problem::from_error).collect();
    let short = key.fingerprint.short();
    let mut text = vec![format!("key {short} ({})", key.state.as_str())];
    text.extend(copies.iter().map(|copy| format!("  {}: opens, and is that key", copy.place)));
    if copies.is_empty() {
        problems.push(Problem::new(
            "no-copy",
            no_copy(&key),
            "Whoever still has the key can put it back: `strongroom key escrow`.",
        ));
    }
    let host = config.map(Host::new).transpose()?;
    let mut live = None;
    if let (Some(host), Some(copy)) = (&host, copies.first())
        && key.state == KeyState::InUse
        && let Some(database) = host.database(desk)?
    {
        let options =
            ProverOptions::new(host.scheme, &copy.key.effective, &host.config.profile, desk.progress.as_ref());
        let mut snapshot = database.look()?;
        let (proved, _) = prove_with(&options, |sink| {
            snapshot.credentials(&host.config.profile, None, &mut |credential| sink(credential))
        })?;
        text.push(format!("  {}: {}", database.describe(), proof::sentence(proved.verdict(), &proved.total)));
        text.extend(proof::failure_lines(&proved));
        live = Some((proved.verdict(), proved.total));
    }
    desk.progress.finish();
    let exit = match live.as_ref().map(|(verdict, _)| *verdict) {
        Some(verdict @ (Verdict::WrongKey | Verdict::Mixed)) => proof::exit_of(verdict),
        _ if copies.is_empty() => gravest(&missed).exit_code(),
        _ if !problems.is_empty() => ATTENTION,
        // Another key than the one in use is tried on nothing.
        verdict => verdict.map_or(0, proof::exit_of),
    };
    Ok(Outcome {
        exit,
        json: json!({
            "fingerprint": key.fingerprint,
            "state": key.state,
            "copies": copies.iter().map(|c| &c.place).collect::<Vec<_>>(),
            "live": live.map(|(verdict, counts)| json!({ "verdict": verdict, "credentials": proof::counts_json(&counts) })),
            "problems": problems,
        }),
        line: problems.first().map_or_else(|| text.last().cloned().unwrap_or_default(), |p| p.message.clone()),
        text,
        problems,
    })
}

/// Writes a key to a new file that only its owner can read, or to `out` when the path is `-`.
pub fn fetch(
    desk: &Desk<'_>,
    shelf: &Shelf,
    config: Option<&Config>,
    request: &CopyRequest<'_>,
    path: &Path,
    out: &mut dyn Write,
) -> Result<Outcome> {
    let (copy, fingerprint) = open_one(desk, shelf, config, request)?;
    let shown = path.display();
    if path.as_os_str() == "-" {
        out.write_all(copy.key.text.expose())
            .and_then(|()| out.flush())
            .map_err(|e| Error::failed("cannot write the key out").because(e))?;
        return Outcome::done(json!({ "fingerprint": fingerprint, "from": copy.place }), Vec::new());
    }
    if !durable::write_file(path, copy.key.text.expose(), 0o600, Existing::Keep)? {
        return Err(Error::refused(format!("{shown} exists already")).hint("Name a file that does not exist yet."));
    }
    Outcome::done(
        json!({ "fingerprint": fingerprint, "from": copy.place, "file": path }),
        vec![format!("key {} from {} written to {shown}, byte for byte", fingerprint.short(), copy.place)],
    )
}

/// Permits a command with a key in its environment, and nowhere else.
pub fn exec(
    desk: &Desk<'_>,
    shelf: &Shelf,
    config: Option<&Config>,
    request: &CopyRequest<'_>,
    command: Vec<OsString>,
) -> Result<Permit> {
    let (copy, _) = open_one(desk, shelf, config, request)?;
    let profile = match config {
        Some(config) => config.profile.clone(),
        None => crate::config::profile::Profile::named(shelf.app.as_str())?,
    };
    if copy.key.text.expose().contains(&0) {
        return Err(Error::usage("the key has a NUL byte, and no environment variable can hold one"));
    }
    Ok(Permit { command, variable: profile.key_variable, key: copy.key.text })
}
