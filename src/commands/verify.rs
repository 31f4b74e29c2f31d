//! `verify`: would this bundle restore, with the escrowed key or with this one?

use std::path::PathBuf;

use serde_json::json;

use super::host::{Host, read_key};
use super::shelf::{self, Shelf};
use super::{Desk, Outcome, Problem, proof};
use crate::appkey::proof::{Proof, ProverOptions, Verdict, prove_with};
use crate::appkey::schemes::{self, Scheme};
use crate::appkey::{EffectiveKey, KeyText, canary, fingerprint};
use crate::bundle::{Header, Member, Opened, ProofReader, ProofSummary, Scope, extract};
use crate::config::profile::Profile;
use crate::config::{Config, EscrowPlace};
use crate::database;
use crate::escrow::{self, Record};
use crate::ground::names::{Fingerprint, Sha256Hex};
use crate::ground::progress::Unit;
use crate::ground::scratch::Scratch;
use crate::ground::{Error, Kind, Result, clock};
use crate::ledger::{Event, VerificationEvent};
use crate::sealing::SealingKey;

/// What is asked.
pub struct Request {
    /// Which bundle.
    pub bundle: String,
    /// Who opens it.
    pub identity: Vec<PathBuf>,
    /// Stream everything.
    pub deep: bool,
    /// Try this key instead of the sealed one.
    pub key: Option<String>,
}

/// A key to try on a bundle, by its name in that installation.
pub struct Candidate {
    /// What the application uses.
    pub effective: EffectiveKey,
    /// Its exact text.
    pub text: KeyText,
    /// Its name.
    pub fingerprint: Fingerprint,
}

impl Candidate {
    /// Names a key text for the installation of a bundle.
    pub fn new(text: KeyText, scheme: &dyn Scheme, header: &Header) -> Result<Self> {
        let effective = scheme.effective_key(&text)?;
        let fingerprint = fingerprint::of(scheme, &header.installation, &effective)?;
        Ok(Self { effective, text, fingerprint })
    }
}

/// Verifies one bundle.
pub fn run(desk: &Desk<'_>, shelf: &Shelf, config: Option<&Config>, request: &Request) -> Result<Outcome> {
    let mut ledger = shelf.ledger()?;
    let opened = shelf.bundle(&ledger, &request.bundle)?;
    let header = opened.header().clone();
    let sealing = shelf.unseal(&header.sealing, &shelf::identities(desk, &request.identity)?, Some(&opened))?;
    let scheme = schemes::by_name(&header.scheme)?;
    let mut problems = Vec::new();

    opened.check(Scope::Only(&[Member::Proof, Member::Key]), desk.progress.as_ref())?;
    let candidate = candidate(desk, shelf, &opened, &sealing, scheme, request.key.as_deref())?;
    let others = escrowed(desk, shelf, &sealing, scheme, &header, Some(&candidate.fingerprint))?;
    let others: Vec<_> = others.into_iter().map(|c| (c.fingerprint, c.effective)).collect();

    if request.deep {
        desk.progress.stage("check every digest", None, Unit::Bytes);
        opened.check(Scope::Members, desk.progress.as_ref())?;
    }
    let profile = profile_of(config, &header)?;
    let (mut proved, summary) = quick(desk, &opened, &sealing, scheme, &candidate, &others, &profile)?;
    if request.deep {
        if header.contains.iter().any(|c| c == "storage") {
            let files = extract::verify_deep(&opened, &sealing, desk.progress.as_ref())?;
            desk.progress.note(&format!("{} files match the list", files.files));
        }
        if let Some(member) = opened.database_member() {
            let deep = dumped(desk, &opened, &sealing, &member, scheme, &candidate, &others, &profile, &summary)?;
            proved = deep;
        }
    }
    desk.progress.finish();

    let verdict = proved.verdict();
    let foreign = !header.keys.contains(&candidate.fingerprint);
    if foreign {
        problems.push(Problem::new(
            "other-key",
            format!(
                "the key tried is {}, and the bundle names {}",
                candidate.fingerprint.short(),
                header.keys.first().map_or("none", |k| k.short())
            ),
            "Two texts may be one key; these two are not.",
        ));
    }
    if request.deep
        && request.key.is_none()
        && let Some(problem) = sign_verification(config, &mut ledger, &header, opened.digest(), verdict)
    {
        problems.push(problem);
    }
    let mut text = vec![
        format!("bundle {}: authentic, signed by {}", header.id, header.signer),
        format!("  {}", proof::sentence(verdict, &proved.total)),
    ];
    text.extend(proof::failure_lines(&proved));
    if request.deep {
        text.push("  deep: every digest matches; the credentials were taken from the dump itself".to_owned());
    }
    let outcome = Outcome {
        exit: proof::exit_of(verdict),
        json: json!({
            "bundle": header.id,
            "verdict": verdict,
            "fingerprint": candidate.fingerprint,
            "credentials": proof::counts_json(&proved.total),
            "authentic": true,
            "deep": request.deep,
            "failures": proof::failures_json(&proved),
            "problems": problems,
        }),
        line: format!("bundle {}: {}", header.id, proof::sentence(verdict, &proved.total)),
        text,
        problems,
    };
    if let Some(config) = config
        && let Ok(host) = Host::new(config.clone())
        && let Some(problem) = host.notify("verify", &outcome.json)
    {
        desk.ask.say(&problem.message);
    }
    Ok(outcome)
}

/// The application's profile: the configured one if it is for this application.
pub(super) fn profile_of(config: Option<&Config>, header: &Header) -> Result<Profile> {
    match config.filter(|c| c.app == header.app) {
        Some(config) => Ok(config.profile.clone()),
        None => Profile::embedded(header.app.as_str()),
    }
}

/// The key to try: the one given, else the one sealed in the bundle, else the escrowed one.
pub(super) fn candidate(
    desk: &Desk<'_>,
    shelf: &Shelf,
    opened: &Opened<'_>,
    sealing: &SealingKey,
    scheme: &dyn Scheme,
    reference: Option<&str>,
) -> Result<Candidate> {
    let header = opened.header();
    if let Some(reference) = reference {
        return Candidate::new(read_key(desk, reference)?, scheme, header);
    }
    if let Some(record) = sealed_records(opened, sealing)?.into_iter().next() {
        let named = record.fingerprint.clone();
        let found = Candidate::new(KeyText::new(record.key), scheme, header)?;
        if found.fingerprint != named || !header.keys.contains(&named) {
            return Err(Error::not_authentic(format!(
                "the sealed key of bundle {} is {}, and its record says {}",
                header.id,
                found.fingerprint.short(),
                named.short()
            )));
        }
        return Ok(found);
    }
    escrowed(desk, shelf, sealing, scheme, header, None)?
        .into_iter()
        .find(|c| header.keys.contains(&c.fingerprint))
        .ok_or_else(|| {
            Error::not_found(format!("no sealed copy of the key of bundle {} was found", header.id))
                .hint("Try a key that you have: --key file:PATH or --key prompt:.")
        })
}

/// The records that the bundle's own `key.age` holds; none when policy left it out.
fn sealed_records(opened: &Opened<'_>, sealing: &SealingKey) -> Result<Vec<Record>> {
    if !opened.has(&Member::Key) {
        return Ok(Vec::new());
    }
    let bytes = opened.read_secret(&Member::Key, sealing, 1 << 20)?;
    escrow::from_lines(&bytes, &format!("key.age of bundle {}", opened.header().id))
}

/// Every key of the archive's own escrow that a believed signer vouches for, except one.
pub(super) fn escrowed(
    desk: &Desk<'_>,
    shelf: &Shelf,
    sealing: &SealingKey,
    scheme: &dyn Scheme,
    header: &Header,
    except: Option<&Fingerprint>,
) -> Result<Vec<Candidate>> {
    let place = desk.systems.escrow(&EscrowPlace::Archive, shelf.archive.as_ref())?;
    let mut found = Vec::new();
    for (fingerprint, id) in place.list(&shelf.app)? {
        if id != *sealing.id() || Some(&fingerprint) == except {
            continue;
        }
        // A record that nobody we believe has signed is somebody's, not ours: it is left alone.
        let Ok(sealed) = place.fetch_signed(&shelf.app, &fingerprint, &id, &shelf.trusted) else { continue };
        let record = escrow::open_record(sealing, &sealed)?;
        let candidate = Candidate::new(KeyText::new(record.key), scheme, header)?;
        if candidate.fingerprint == fingerprint {
            found.push(candidate);
        }
    }
    Ok(found)
}

/// Proves the credentials that the proof lists.
pub(super) fn quick(
    desk: &Desk<'_>,
    opened: &Opened<'_>,
    sealing: &SealingKey,
    scheme: &dyn Scheme,
    candidate: &Candidate,
    others: &[(Fingerprint, EffectiveKey)],
    profile: &Profile,
) -> Result<(Proof, ProofSummary)> {
    let mut reader = ProofReader::begin(opened.read(&Member::Proof, sealing)?)?;
    let head = reader.head().clone();
    if head.bundle != opened.header().id {
        return Err(Error::not_authentic(format!("the proof in bundle {} is of {}", opened.header().id, head.bundle)));
    }
    if let Some(text) = &head.canary
        && !canary::opens(scheme, &candidate.effective, &head.bundle, text)
    {
        desk.progress.note("the canary does not open: this is not the key that the backup was made with");
    }
    let (proved, ()) = prove_with(&options(desk, scheme, candidate, others, profile), |sink| {
        while let Some(credential) = reader.next_credential()? {
            sink(credential)?;
        }
        Ok(())
    })?;
    Ok((proved, reader.finish()?))
}

/// Reads a proof to its end for its summary.
pub(super) fn summary(opened: &Opened<'_>, sealing: &SealingKey) -> Result<ProofSummary> {
    let mut reader = ProofReader::begin(opened.read(&Member::Proof, sealing)?)?;
    while reader.next_credential()?.is_some() {}
    reader.finish()
}

fn options<'a>(
    desk: &'a Desk<'_>,
    scheme: &'a dyn Scheme,
    candidate: &'a Candidate,
    others: &'a [(Fingerprint, EffectiveKey)],
    profile: &'a Profile,
) -> ProverOptions<'a> {
    ProverOptions { others, ..ProverOptions::new(scheme, &candidate.effective, profile, desk.progress.as_ref()) }
}

/// Proves the credentials in the dump itself, and compares its rows with what the proof counted.
#[expect(clippy::too_many_arguments, reason = "each is a separate fact of one verification")]
fn dumped(
    desk: &Desk<'_>,
    opened: &Opened<'_>,
    sealing: &SealingKey,
    member: &Member,
    scheme: &dyn Scheme,
    candidate: &Candidate,
    others: &[(Fingerprint, EffectiveKey)],
    profile: &Profile,
    summary: &ProofSummary,
) -> Result<Proof> {
    let scratch = Scratch::temporary()?;
    desk.progress.stage("read the dump", Some(summary.facts.bytes), Unit::Bytes);
    let mut snapshot = database::open_again(|| opened.read(member, sealing), &member.base_name(), &scratch)?;
    let (proved, _) = prove_with(&options(desk, scheme, candidate, others, profile), |sink| {
        snapshot.credentials(profile, None, &mut |credential| sink(credential))
    })?;
    let facts = snapshot.facts(desk.progress.as_ref())?;
    if facts.tables != summary.facts.tables {
        let table = summary.facts.tables.iter().find(|(t, n)| facts.tables.get(*t) != Some(n)).map_or("?", |(t, _)| t);
        return Err(Error::damaged(format!(
            "the dump in bundle {} does not have the rows that were counted, first in table {table}",
            opened.header().id
        )));
    }
    Ok(proved)
}

/// Signs what was found into the ledger, where this machine has a signer of its own.
fn sign_verification(
    config: Option<&Config>,
    ledger: &mut crate::ledger::Ledger<'_>,
    header: &Header,
    sums: &Sha256Hex,
    verdict: Verdict,
) -> Option<Problem> {
    let host = Host::new(config?.clone()).ok()?;
    let signer = match host.signer() {
        Ok(signer) => signer,
        Err(error) if matches!(error.kind(), Kind::Usage | Kind::NotFound) => return None,
        Err(error) => return Some(Problem::from_error(&error)),
    };
    let event = Event::Verification(VerificationEvent {
        bundle: header.id.clone(),
        sums: sums.clone(),
        verdict: verdict.as_str().to_owned(),
        deep: true,
        fingerprint: header.keys.first().cloned(),
    });
    ledger
        .append(&signer, event, clock::now())
        .err()
        .map(|e| Problem::from_error(&e.context("the verification was not signed into the ledger")))
}
