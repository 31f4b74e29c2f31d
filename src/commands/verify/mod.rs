//! `verify`: would this bundle restore, with the escrowed key or with this one?

mod candidates;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;

use serde_json::json;

use super::host::{Host, NamedKey};
use super::shelf::{self, Shelf};
use super::{ATTENTION, Desk, Outcome, Problem, defects, exit_of, proof};
use crate::appkey::proof::{Counts, Memory, Proof, ProverOptions, Verdict, prove_with};
use crate::appkey::schemes::{self, Scheme};
use crate::appkey::{EffectiveKey, canary};
use crate::bundle::{FOREIGN, Header, Member, Opened, ProofReader, ProofSummary, Scope, Seen, extract};
use crate::config::Config;
use crate::config::profile::Profile;
use crate::database::{self, Landmark};
use crate::ground::names::{Fingerprint, Sha256Hex};
use crate::ground::progress::Unit;
use crate::ground::scratch::Scratch;
use crate::ground::words::counted;
use crate::ground::{Error, Kind, Result, clock};
use crate::ledger::{Event, VerificationEvent};
use crate::sealing::SealingKey;
pub(super) use candidates::{KeyFrom, candidate, escrowed, fitting, in_escrow, sealed_records, unnamed};

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

/// Verifies one bundle.
pub fn run(desk: &Desk<'_>, shelf: &Shelf, config: Option<&Config>, request: &Request) -> Result<Outcome> {
    let result = verify(desk, shelf, config, request);
    desk.progress.finish();
    match config {
        Some(config) => Host::new(config.clone())?.told("verify", result),
        None => result,
    }
}

fn verify(desk: &Desk<'_>, shelf: &Shelf, config: Option<&Config>, request: &Request) -> Result<Outcome> {
    let mut ledger = shelf.ledger()?;
    let opened = shelf.bundle(&ledger, &request.bundle)?;
    let header = opened.header().clone();
    let sealing = shelf.unseal(&header.sealing, &shelf::identities(desk, &request.identity)?, Some(&opened))?;
    let scheme = schemes::by_name(&header.scheme)?;
    let mut problems = defects::told(&header, true, true);

    opened.check(Scope::Only(&[Member::Proof, Member::Key]), desk.progress.as_ref())?;
    // A bundle without a database has no credential: there is nothing that a key could be tried on.
    if header.database.is_none() {
        return storage_only(desk, config, request, &opened, &sealing, &mut ledger);
    }
    let profile = profile_of(config, &header)?;
    let (candidate, origin) = match &request.key {
        Some(key) => (candidate(desk, shelf, &opened, &sealing, scheme, Some((key.as_str(), config)))?, KeyFrom::Given),
        None if candidates::unnamed(&opened) => {
            candidates::fitting(desk, shelf, config, &opened, &sealing, scheme, &profile)?
        }
        None => {
            let origin = if opened.has(&Member::Key) { KeyFrom::Bundle } else { KeyFrom::Escrow(None) };
            (candidate(desk, shelf, &opened, &sealing, scheme, None)?, origin)
        }
    };
    try_canary(desk, &opened, &sealing, scheme, &candidate)?;
    let others = escrowed(desk, shelf, &sealing, scheme, &header.installation, Some(&candidate.fingerprint))?;
    let others: Vec<_> = others.into_iter().map(|c| (c.fingerprint, c.effective)).collect();

    let storage = shelf.storage_of(&ledger, &opened)?;
    problems.extend(storage.iter().flat_map(|storage| defects::told(storage.header(), false, true)));
    let defective = !problems.is_empty();
    let trial = Trial::new(desk, scheme, &candidate, &others, &profile);
    let dump = opened.database_member().filter(|_| request.deep);
    let proved = if let Some(member) = &dump {
        // The credentials of the dump itself count, and each is decrypted once.
        let summary = summary(&opened, &sealing)?;
        everything(desk, &opened, storage.as_ref(), &sealing, Some(member))?;
        trial.dumped(&opened, &sealing, member, &summary)?
    } else {
        let (proved, _) = trial.quick(&opened, &sealing)?;
        if request.deep {
            everything(desk, &opened, storage.as_ref(), &sealing, None)?;
        }
        proved
    };

    let verdict = proved.verdict();
    let named = header.keys.first();
    if let Some(named) = named.filter(|_| !header.keys.contains(&candidate.fingerprint)) {
        problems.push(Problem::new(
            "other-key",
            format!("the key tried is {}, and the bundle names {}", candidate.fingerprint.short(), named.short()),
            "Give the key that was in use when the bundle was made, or leave out --key to try the sealed one.",
        ));
    }
    if request.deep
        && request.key.is_none()
        && let Some(problem) = sign_verification(
            config,
            &mut ledger,
            &header,
            named.or(Some(&candidate.fingerprint)),
            opened.digest(),
            verdict,
        )
    {
        problems.push(problem);
    }
    let mut text = vec![
        format!("bundle {}: authentic, signed by {}", header.id, header.signer),
        format!("  {}", proof::sentence(verdict, &proved.total)),
    ];
    if named.is_none() {
        text.push(format!("  the bundle names no key; tried with {}, {origin}", candidate.fingerprint.short()));
    }
    text.extend(proof::failure_lines(&proved));
    if !request.deep {
        text.push("  neither the dump nor the storage was read: --deep reads everything".to_owned());
    }
    if request.deep {
        let taken = if dump.is_some() { "; the credentials were taken from the dump itself" } else { "" };
        text.push(format!("  deep: every digest matches{taken}"));
    }
    Ok(Outcome {
        exit: match proof::exit_of(verdict) {
            0 if defective => ATTENTION,
            exit => exit,
        },
        json: json!({
            "bundle": header.id,
            "verdict": verdict,
            "fingerprint": candidate.fingerprint,
            "key_from": origin.word(),
            "credentials": proof::counts_json(&proved.total),
            "authentic": true,
            "deep": request.deep,
            "failures": proof::failures_json(&proved),
            "problems": problems,
        }),
        line: format!("bundle {}: {}", header.id, proof::sentence(verdict, &proved.total)),
        text,
        problems,
    })
}

/// Verifies a bundle in which no key has anything to open.
fn storage_only(
    desk: &Desk<'_>,
    config: Option<&Config>,
    request: &Request,
    opened: &Opened<'_>,
    sealing: &SealingKey,
    ledger: &mut crate::ledger::Ledger<'_>,
) -> Result<Outcome> {
    let header = opened.header();
    summary(opened, sealing)?;
    let mut problems = defects::told(header, false, true);
    if request.deep {
        everything(desk, opened, None, sealing, None)?;
        problems.extend(sign_verification(
            config,
            ledger,
            header,
            header.keys.first(),
            opened.digest(),
            Verdict::Unproven,
        ));
    }
    let mut text = vec![
        format!("bundle {}: authentic, signed by {}", header.id, header.signer),
        "  it holds no database, so there is nothing to prove".to_owned(),
    ];
    if request.deep {
        text.push("  deep: every digest matches".to_owned());
    }
    Ok(Outcome {
        exit: exit_of(&problems),
        json: json!({
            "bundle": header.id,
            "verdict": Verdict::Unproven,
            "fingerprint": header.keys.first(),
            "key_from": null,
            "credentials": proof::counts_json(&Counts::default()),
            "authentic": true,
            "deep": request.deep,
            "failures": [],
            "problems": problems,
        }),
        line: problems.first().map(|p| p.message.clone()).unwrap_or_default(),
        text,
        problems,
    })
}

/// The application's profile: the configured one if it is for this application.
pub(super) fn profile_of(config: Option<&Config>, header: &Header) -> Result<Profile> {
    match config.filter(|c| c.app == header.app) {
        Some(config) => Ok(config.profile.clone()),
        None => Profile::named(header.app.as_str()),
    }
}

/// Checks the digest of every object but one, and every file of the storage, its own or another bundle's, against the list.
fn everything(
    desk: &Desk<'_>,
    opened: &Opened<'_>,
    other: Option<&Opened<'_>>,
    sealing: &SealingKey,
    but: Option<&Member>,
) -> Result<()> {
    desk.progress.stage("check every digest", None, Unit::Bytes);
    opened.check(Scope::MembersBut(but), desk.progress.as_ref())?;
    let storage = other.unwrap_or(opened);
    if storage.header().contains.iter().any(|c| c == "storage") {
        let files = extract::verify_deep(storage, sealing, desk.progress.as_ref())?;
        desk.progress.note(&format!("{} the list", counted(files.files, "file matches", "files match")));
    }
    Ok(())
}

/// Begins to read a bundle's proof, which must be of that bundle.
fn proof_of(opened: &Opened<'_>, sealing: &SealingKey) -> Result<ProofReader<Box<dyn Read + Send>>> {
    let reader = ProofReader::begin(opened.read(&Member::Proof, sealing)?)?;
    let (here, there) = (&opened.header().id, &reader.head().bundle);
    if here == there {
        return Ok(reader);
    }
    Err(Error::not_authentic(format!("the proof in bundle {here} is of {there}")).hint(FOREIGN))
}

/// Tells at once when a key is not the one that the backup was made with: naming other keys and counting come later.
pub(super) fn try_canary(
    desk: &Desk<'_>,
    opened: &Opened<'_>,
    sealing: &SealingKey,
    scheme: &dyn Scheme,
    candidate: &NamedKey,
) -> Result<()> {
    let reader = proof_of(opened, sealing)?;
    let head = reader.head();
    if let Some(text) = &head.canary
        && !canary::opens(scheme, &candidate.effective, &head.bundle, text)
    {
        desk.progress.note("the canary does not open: this is not the key that the backup was made with");
    }
    Ok(())
}

/// Reads a proof to its end for its summary.
pub(super) fn summary(opened: &Opened<'_>, sealing: &SealingKey) -> Result<ProofSummary> {
    let mut reader = proof_of(opened, sealing)?;
    while reader.next_credential()?.is_some() {}
    reader.finish()
}

/// A key that is tried on a bundle, and what it takes.
pub(super) struct Trial<'a> {
    /// Who watches.
    pub(super) desk: &'a Desk<'a>,
    /// How the application encrypts.
    pub(super) scheme: &'a dyn Scheme,
    /// The key.
    pub(super) candidate: &'a NamedKey,
    /// Other keys, for what it does not open.
    pub(super) others: &'a [(Fingerprint, EffectiveKey)],
    /// Where credentials are.
    pub(super) profile: &'a Profile,
    /// That it opens nothing is an answer as good as another.
    pub(super) only_tried: bool,
    /// What it opens is to be known again.
    pub(super) memory: Option<&'a Memory>,
}

impl<'a> Trial<'a> {
    /// Of what it opens nothing is kept, and a key that opens nothing is called wrong.
    pub(super) fn new(
        desk: &'a Desk<'a>,
        scheme: &'a dyn Scheme,
        candidate: &'a NamedKey,
        others: &'a [(Fingerprint, EffectiveKey)],
        profile: &'a Profile,
    ) -> Self {
        Self { desk, scheme, candidate, others, profile, only_tried: false, memory: None }
    }

    fn options(&self) -> ProverOptions<'_> {
        let progress = self.desk.progress.as_ref();
        ProverOptions {
            others: self.others,
            only_tried: self.only_tried,
            memory: self.memory.map(|memory| (memory, &self.candidate.fingerprint)),
            ..ProverOptions::new(self.scheme, &self.candidate.effective, self.profile, progress)
        }
    }

    /// Proves the credentials that the proof lists.
    pub(super) fn quick(&self, opened: &Opened<'_>, sealing: &SealingKey) -> Result<(Proof, ProofSummary)> {
        let mut reader = proof_of(opened, sealing)?;
        let (proved, ()) = prove_with(&self.options(), |sink| {
            while let Some(credential) = reader.next_credential()? {
                sink(credential)?;
            }
            Ok(())
        })?;
        Ok((proved, reader.finish()?))
    }

    /// Proves the credentials in the dump itself, and compares its rows with what the proof counted, and its digest.
    fn dumped(
        &self,
        opened: &Opened<'_>,
        sealing: &SealingKey,
        member: &Member,
        summary: &ProofSummary,
    ) -> Result<Proof> {
        let scratch = Scratch::temporary()?;
        let progress = self.desk.progress.as_ref();
        progress.stage("read the dump", Some(summary.facts.bytes), Unit::Bytes);
        let seen = Seen::default();
        let mut snapshot =
            database::open_again(|| opened.watch(member, sealing, &seen), &member.base_name(), &scratch)?;
        let (proved, _) = prove_with(&self.options(), |sink| {
            snapshot.credentials(self.profile, None, &mut |credential| sink(credential))
        })?;
        let facts = snapshot.facts(progress)?;
        if facts.tables != summary.facts.tables {
            let differs = |(table, rows): &(&String, &u64)| facts.tables.get(*table) != Some(*rows);
            let table = summary.facts.tables.iter().find(differs).map_or("?", |(table, _)| table);
            return Err(Error::damaged(format!(
                "the dump in bundle {} does not have the rows that were counted, first in table {table}",
                opened.header().id
            )));
        }
        let blocks: BTreeSet<_> = snapshot.blocks().into_iter().map(|(entry, at)| (entry, at.start, at.end)).collect();
        let is_there = |landmark: &Landmark| {
            blocks.contains(&(landmark.entry, landmark.begin, landmark.end)) && seen.agrees(landmark)
        };
        if !summary.facts.landmarks.iter().all(is_there) {
            let id = &opened.header().id;
            return Err(Error::damaged(format!("the dump's data in bundle {id} is not where its proof says")));
        }
        if !seen.ended() {
            // Behind what a dump needs there may be more.
            opened.check(Scope::Only(std::slice::from_ref(member)), progress)?;
        }
        Ok(proved)
    }
}

/// Signs what was found into the ledger, where this machine has a signer of its own.
fn sign_verification(
    config: Option<&Config>,
    ledger: &mut crate::ledger::Ledger<'_>,
    header: &Header,
    key: Option<&Fingerprint>,
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
        fingerprint: key.cloned(),
    });
    ledger
        .append(&signer, event, clock::now())
        .err()
        .map(|e| Problem::from_error(&e.context("the verification was not signed into the ledger")))
}
