//! `key destroy`: a key that nothing needs any more is removed from every escrow.
//!
//! The ledger says so first. Whoever is killed after that finds in it what was to be done, and `key destroy` goes on; a removal that
//! nobody signed for cannot happen, and an entry without its removal shows in `key status`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::json;

use super::copies::{CopyRequest, open_one};
use super::{named, rotate};
use crate::appkey::proof::{ProverOptions, prove_with};
use crate::appkey::schemes;
use crate::archive::state::{self, State};
use crate::bundle;
use crate::commands::host::Host;
use crate::commands::shelf::{self, Shelf};
use crate::commands::verify::{self, Trial};
use crate::commands::{Desk, Outcome, Problem, exit_of};
use crate::config::Config;
use crate::escrow::{Destroyed, Escrow};
use crate::ground::names::{BundleId, Fingerprint, SealingId};
use crate::ground::words::counted;
use crate::ground::{Error, Kind, Result, clock};
use crate::ledger::{Entry, Event, KeyEvent, KeyFacts, KeyState, Ledger};
use crate::signer::Signer;

/// What is asked.
pub struct DestroyRequest {
    /// The beginning of the key's fingerprint.
    pub key: String,
    /// Why.
    pub reason: Option<String>,
    /// Do not ask.
    pub yes: bool,
    /// Who opens bundles that may need it.
    pub identity: Vec<PathBuf>,
}

/// Removes a key from every escrow; refused while a bundle, the application or a rotation needs it.
pub fn destroy(desk: &Desk<'_>, config: Config, request: &DestroyRequest) -> Result<Outcome> {
    let host = Host::new(config)?;
    let _lock = host.lock()?;
    let signer = host.signer()?;
    let shelf = host.shelf(desk)?;
    let mut ledger = shelf.ledger()?;
    whole(&host, &signer, &shelf, &ledger)?;
    let facts = named(&ledger, Some(&request.key))?;
    let short = facts.fingerprint.short().to_owned();
    needed_by_nothing(&facts)?;
    rotate::not_in_one(&host, &facts.fingerprint)?;
    opens_nothing(desk, &host, &facts.fingerprint)?;

    // All of them answer, or nothing is begun.
    let (mut places, mut there) = (Vec::new(), false);
    for place in &shelf.escrows {
        let escrow = desk.systems.escrow(place, shelf.archive.as_ref())?;
        let deposits = escrow.list(&shelf.app).map_err(|e| e.context(format!("key {short} is not destroyed")))?;
        there |= deposits.iter().any(|(key, _)| *key == facts.fingerprint);
        let mut sealings = sealings(&host, &ledger);
        sealings.extend(deposits.into_iter().filter(|(key, _)| *key == facts.fingerprint).map(|(_, id)| id));
        places.push((escrow, sealings));
    }
    // Where no copy is listed there is none to try, and a removal that was begun is ended.
    let tried = if there { opens_no_bundle(desk, &host, &shelf, &ledger, &facts.fingerprint, request)? } else { 0 };
    confirm(desk, request, &short, places.iter().map(|(escrow, _)| escrow.describe()))?;

    let mut seq = None;
    if facts.state != KeyState::Destroyed {
        let event = KeyEvent {
            fingerprint: facts.fingerprint.clone(),
            action: "destroyed".to_owned(),
            predecessor: None,
            reason: request.reason.clone(),
        };
        seq = Some(ledger.append(&signer, Event::Key(event), clock::now())?);
        // Another host may have entered a bundle before that number was ours.
        let now = named(&ledger, Some(facts.fingerprint.as_str()))?;
        let late = "It came while the destruction was entered; nothing was removed. A backup enters the key anew.";
        if !now.bundles.is_empty() {
            return Err(needed(&now).hint(late));
        }
        if there && ledger.under_unknown_keys().count() != tried {
            return Err(Error::refused(format!("a bundle came that key {short} was not tried on")).hint(late));
        }
    }
    let removed = remove(&shelf, &facts.fingerprint, &places);
    Ok(told(&facts.fingerprint, seq, removed))
}

fn needed(facts: &KeyFacts) -> Error {
    let ids: Vec<&str> = facts.bundles.iter().take(3).map(BundleId::as_str).collect();
    let more = if facts.bundles.len() > ids.len() { " …" } else { "" };
    Error::refused(format!(
        "{} key {}: {}{more}",
        counted(facts.bundles.len(), "bundle needs", "bundles need"),
        facts.fingerprint.short(),
        ids.join(", ")
    ))
}

/// No signed bundle that was not pruned names the key, and it is not the one in use.
fn needed_by_nothing(facts: &KeyFacts) -> Result<()> {
    if facts.state == KeyState::InUse {
        return Err(Error::refused(format!("key {} is in use", facts.fingerprint.short()))
            .hint("Rotate first; the key before can be destroyed when no bundle needs it any more."));
    }
    if facts.bundles.is_empty() {
        return Ok(());
    }
    Err(needed(facts).hint(
        "A key goes when its last bundle has gone. `strongroom key retire` only enters that it is in use no more.",
    ))
}

/// The application is configured with another key, and that one opens everything in the live database.
fn opens_nothing(desk: &Desk<'_>, host: &Host, fingerprint: &Fingerprint) -> Result<()> {
    let unsure = "Whether the live database needs the key is known only when it is looked at with the one in use.";
    let key = host.key(desk, None).map_err(|e| e.hint(unsure))?;
    if key.fingerprint == *fingerprint {
        return Err(Error::refused(format!("key {} is the one that is configured", fingerprint.short())));
    }
    let Some(database) = host.database(desk)? else { return Ok(()) };
    let profile = &host.config.profile;
    let mut snapshot = database.look().map_err(|e| e.hint(unsure))?;
    let options = ProverOptions::new(host.scheme, &key.effective, profile, desk.progress.as_ref());
    let (proved, _) =
        prove_with(&options, |sink| snapshot.credentials(profile, None, &mut |credential| sink(credential)))?;
    desk.progress.finish();
    if proved.total.failed == 0 {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{} not under the key in use in {}, and may need key {}",
        counted(proved.total.failed, "credential is", "credentials are"),
        database.describe(),
        fingerprint.short()
    ))
    .hint("`strongroom key doctor -i FILE` says which keys they are under; `key rotate --from` puts them under the one in use."))
}

/// No bundle whose credentials its own key does not open has one that this key opens: it is tried on each; answers on how many.
fn opens_no_bundle(
    desk: &Desk<'_>,
    host: &Host,
    shelf: &Shelf,
    ledger: &Ledger<'_>,
    fingerprint: &Fingerprint,
    request: &DestroyRequest,
) -> Result<usize> {
    let identity = request.identity.as_slice();
    let short = fingerprint.short();
    let unsure: Vec<_> = ledger.under_unknown_keys().collect();
    let Some(newest) = unsure.last() else { return Ok(0) };
    let count = unsure.len();
    if identity.is_empty() {
        return Err(Error::refused(format!(
            "{} credentials that no key of its own opens, and key {short} may, the newest {}",
            counted(count, "bundle has", "bundles have"),
            newest.bundle
        ))
        .hint("With -i FILE the key is tried on them first."));
    }
    let request = CopyRequest { key: Some(fingerprint.as_str()), identity };
    let (copy, _) = open_one(desk, shelf, Some(&host.config), &request)?;
    let identities = shelf::identities(desk, identity)?;
    let each = shelf::each_of(unsure.iter().map(|bundle| &bundle.sealing).collect::<BTreeSet<_>>().len());
    for bundle in unsure {
        let opened = shelf.bundle_by_id(&bundle.bundle, &bundle.sums)?;
        let header = opened.header();
        let sealing = shelf.unseal(&header.sealing, &identities, Some(&opened)).map_err(&each)?;
        let (scheme, profile) = (schemes::by_name(&header.scheme)?, verify::profile_of(Some(&host.config), header)?);
        let trial = Trial { only_tried: true, ..Trial::new(desk, scheme, &copy.key, &[], &profile) };
        let total = trial.quick(&opened, &sealing)?.0.total;
        desk.progress.finish();
        if total.proved + total.plausible > 0 {
            return Err(Error::refused(format!(
                "key {short} opens {} of bundle {}",
                counted(total.proved + total.plausible, "credential", "credentials"),
                header.id
            ))
            .hint("A key goes when its last bundle has gone."));
        }
    }
    Ok(count)
}

/// The ledger has the end that this host saw last, and no bundle lies there that it calls pruned.
fn whole(host: &Host, signer: &Signer, shelf: &Shelf, ledger: &Ledger<'_>) -> Result<()> {
    let because = "Nothing is destroyed by a ledger that may not tell of every bundle.";
    let anew =
        "`strongroom check --all` looks at the archive; the next backup begins the state anew, and then this goes on.";
    let path = host.config.state.join(state::NAME);
    let unread = |error: Error| {
        Error::refused(format!("what this host has seen of the ledger cannot be read from {}", path.display()))
            .because(error.chain())
            .hint(because)
            .hint(anew)
    };
    let own = |entry: &Entry| matches!(entry.event, Event::Bundle(_)) && entry.signer == *signer.public();
    if let Some((seq, digest)) = State::recall(&path, &shelf.id, &shelf.app).map_err(unread)? {
        ledger.remembered(seq, &digest).map_err(|error| error.hint(because))?;
    } else if ledger.entries().iter().any(own) {
        return Err(Error::refused(format!(
            "this host has made bundles, and {} does not say what it has seen of the ledger",
            path.display()
        ))
        .hint(because)
        .hint(anew));
    }
    for id in ledger.pruned() {
        let list = bundle::folder(&shelf.app, &id)?.join(bundle::SUMS)?;
        if shelf.archive.length(&list)?.is_some() {
            return Err(Error::refused(format!(
                "the ledger says that bundle {id} was pruned, and it lies in the archive"
            ))
            .hint(because));
        }
    }
    Ok(())
}

/// Every sealing key that anything was ever sealed to; a deposit that was half removed may be listed no more.
fn sealings(host: &Host, ledger: &Ledger<'_>) -> BTreeSet<SealingId> {
    let deposits = ledger.keys().into_iter().flat_map(|key| key.deposits).map(|deposit| deposit.sealing);
    let bundles = ledger.bundles().map(|bundle| bundle.sealing.clone());
    deposits.chain(bundles).chain(std::iter::once(host.config.recipient.id().clone())).collect()
}

fn confirm(desk: &Desk<'_>, request: &DestroyRequest, short: &str, places: impl Iterator<Item = String>) -> Result<()> {
    if request.yes {
        return Ok(());
    }
    if !desk.ask.interactive() {
        return Err(Error::refused("a destroyed key does not come back and nobody is there to be asked")
            .hint("Read `strongroom key status` and `key needed --all`, then give --yes."));
    }
    for place in places {
        desk.ask.say(&format!("key {short} goes from {place}"));
    }
    if desk.ask.confirm("Destroy it for good?")? {
        Ok(())
    } else {
        Err(Error::refused("nothing was destroyed: you said no"))
    }
}

/// What became of the copies.
#[derive(Default)]
struct Removed {
    gone: Vec<String>,
    remaining: Vec<String>,
    problems: Vec<Problem>,
}

fn remove(shelf: &Shelf, fingerprint: &Fingerprint, places: &[(Box<dyn Escrow + '_>, BTreeSet<SealingId>)]) -> Removed {
    let mut removed = Removed::default();
    for (escrow, sealings) in places {
        let place = escrow.describe();
        for sealing in sealings {
            match escrow.destroy(&shelf.app, fingerprint, sealing) {
                Ok(Destroyed::Nothing) => {}
                Ok(Destroyed::Gone) => removed.gone.push(place.clone()),
                Ok(Destroyed::Recoverable(how)) => {
                    removed.gone.push(place.clone());
                    removed.remaining.push(format!("{place}: {how}"));
                }
                Err(error) => {
                    let mut problem = Problem::from_error(&error);
                    if error.kind() == Kind::Denied {
                        problem.hint = Some("Run it again with an account that may delete there.".to_owned());
                    }
                    removed.remaining.push(place.clone());
                    "not-destroyed".clone_into(&mut problem.code);
                    removed.problems.push(problem);
                }
            }
        }
    }
    removed.gone.dedup();
    removed
}

/// Copies that no escrow of ours knows of.
const ELSEWHERE: [&str; 3] = [
    "copies of this archive, and older versions of its objects where the place keeps them, with key.age of bundles that were pruned",
    "backups of the escrows themselves",
    "whoever fetched it, or was given it",
];

fn told(fingerprint: &Fingerprint, seq: Option<u64>, removed: Removed) -> Outcome {
    let Removed { gone, mut remaining, problems } = removed;
    let short = fingerprint.short();
    let entered = seq.map_or_else(|| "entered before".to_owned(), |seq| format!("ledger entry {seq}"));
    let mut text = vec![if problems.is_empty() {
        format!("key {short} destroyed ({entered})")
    } else {
        format!("key {short} is not gone from everywhere ({entered})")
    }];
    text.extend(gone.iter().map(|place| format!("  gone from {place}")));
    if gone.is_empty() && problems.is_empty() {
        text.push("  no escrow had it any more".to_owned());
    }
    remaining.extend(ELSEWHERE.map(str::to_owned));
    text.extend(remaining.iter().map(|what| format!("  may remain: {what}")));
    Outcome {
        exit: exit_of(&problems),
        json: json!({
            "fingerprint": fingerprint, "seq": seq, "gone": gone, "remaining": remaining, "problems": problems,
        }),
        line: problems.first().map(|p| p.message.clone()).unwrap_or_default(),
        text,
        problems,
    }
}
