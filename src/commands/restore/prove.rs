//! The proof before a restore: of the bundle, of the key that the application will be started with.

use super::{Request, Source};
use crate::appkey::EffectiveKey;
use crate::appkey::proof::{Counts, Memory, ProverOptions, Verdict, prove_with};
use crate::appkey::schemes::{self, Scheme};
use crate::commands::host::NamedKey;
use crate::commands::shelf::Shelf;
use crate::commands::verify::{self, KeyFrom, Trial};
use crate::commands::{Desk, proof};
use crate::config::Config;
use crate::config::profile::Profile;
use crate::database::Snapshot;
use crate::ground::names::Fingerprint;
use crate::ground::words::counted;
use crate::ground::{Error, Kind, Result};

/// What was proved, and with what.
pub(super) struct Proved {
    pub(super) scheme: &'static dyn Scheme,
    pub(super) profile: Profile,
    pub(super) candidate: Option<NamedKey>,
    /// The bundle names no key, and an escrow holds the one that was proved.
    pub(super) in_escrow: bool,
    pub(super) verdict: Verdict,
    pub(super) counts: Counts,
    pub(super) summary: crate::bundle::ProofSummary,
    /// What was decrypted: the same bytes in the restored database need not be decrypted again.
    memory: Memory,
}

impl Proved {
    /// The exit code of a restore that is done.
    pub(super) fn exit(&self, header: &crate::bundle::Header) -> u8 {
        if self.verdict == Verdict::Proved || header.database.is_none() { 0 } else { crate::commands::ATTENTION }
    }

    /// What `-q` prints of a restore that is done, when something is to be said.
    pub(super) fn line(&self, header: &crate::bundle::Header, done: &str) -> String {
        if self.exit(header) == 0 {
            return done.to_owned();
        }
        format!("{done}; {}", proof::sentence(self.verdict, &self.counts))
    }
}

/// Proves the bundle's credentials; an error unless they are proved or the person accepts that they are not.
pub(super) fn bundle(
    desk: &Desk<'_>,
    shelf: &Shelf,
    config: Option<&Config>,
    source: &Source<'_>,
    request: &Request,
    live_key: Option<NamedKey>,
) -> Result<Proved> {
    let header = source.opened.header();
    let scheme = schemes::by_name(&header.scheme)?;
    let profile = verify::profile_of(config, header)?;
    let mut in_escrow = false;
    let sealed = || {
        if verify::unnamed(&source.opened) {
            let (opened, sealing) = (&source.opened, &source.sealing);
            let (key, from) = verify::fitting(desk, shelf, config, opened, sealing, scheme, &profile)?;
            in_escrow = matches!(from, KeyFrom::Escrow(_));
            Ok(key)
        } else {
            verify::candidate(desk, shelf, &source.opened, &source.sealing, scheme, None).or_else(|error| {
                if error.kind() != Kind::Damaged {
                    return Err(error);
                }
                // The sealed copy is damaged, and an escrow may have the same key.
                let found = verify::in_escrow(desk, shelf, &source.opened, &source.sealing, scheme);
                let Ok(key) = found else { return Err(error) };
                desk.ask.say(&format!("warning: {}; the key is taken from an escrow", error.chain()));
                Ok(key)
            })
        }
    };
    // The key that the application will use is the one to prove, whatever is sealed.
    let candidate = match live_key.map_or_else(sealed, Ok) {
        Ok(candidate) => Some(candidate),
        Err(_) if request.accept_unproved || header.database.is_none() => None,
        Err(error) if request.rekey => {
            return Err(Error::new(error.kind(), error.chain())
                .hint("--rekey takes the bundle's own key from the bundle, or from an escrow where a trusted signer vouches for it.")
                .hint("If you have that key yourself: restore with --key REF, start the application with it, and `strongroom key rotate`."));
        }
        Err(error) => return Err(error.hint("--accept-unproved restores without a key.")),
    };
    if let Some(candidate) = &candidate {
        verify::try_canary(desk, &source.opened, &source.sealing, scheme, candidate)?;
    }
    let others = verify::escrowed(
        desk,
        shelf,
        &source.sealing,
        scheme,
        &header.installation,
        candidate.as_ref().map(|c| &c.fingerprint),
    )?;
    let others: Vec<(Fingerprint, EffectiveKey)> = others.into_iter().map(|c| (c.fingerprint, c.effective)).collect();
    let memory = Memory::of_this_run()?;
    let Some(candidate) = candidate else {
        let summary = verify::summary(&source.opened, &source.sealing)?;
        return Ok(Proved {
            scheme,
            profile,
            candidate: None,
            in_escrow,
            verdict: if header.database.is_none() { Verdict::Unproven } else { Verdict::NoKey },
            counts: Counts::default(),
            summary,
            memory,
        });
    };
    let trial = Trial { memory: Some(&memory), ..Trial::new(desk, scheme, &candidate, &others, &profile) };
    let (proved, summary) = trial.quick(&source.opened, &source.sealing)?;
    let verdict = proved.verdict();
    // Without a database there is no credential, and no key that could be the wrong one.
    if verdict != Verdict::Proved && !request.accept_unproved && header.database.is_some() {
        for line in proof::failure_lines(&proved) {
            desk.ask.say(&line);
        }
        let fits = proved.failures.iter().find_map(|failure| failure.fits.first());
        let other = fits.or(header.keys.first()).filter(|other| **other != candidate.fingerprint);
        let error = refusal(verdict, &proved.total, other);
        let rotated = request.target.is_none() && other.is_some_and(|other| header.keys.contains(other));
        return Err(if rotated { error.hint(REKEY) } else { error });
    }
    Ok(Proved {
        scheme,
        profile,
        candidate: Some(candidate),
        in_escrow,
        verdict,
        counts: proved.total,
        summary,
        memory,
    })
}

/// What else can be done where the key was rotated since.
const REKEY: &str = "If that key was rotated since, --rekey puts the bundle's credentials under the configured one before anything is swapped.";

/// Why nothing is restored; `other` is the key that would fit.
fn refusal(verdict: Verdict, counts: &Counts, other: Option<&Fingerprint>) -> Error {
    let sentence = proof::sentence(verdict, counts);
    match (verdict, other) {
        (Verdict::WrongKey | Verdict::Mixed, Some(other)) => Error::wrong_key(sentence)
            .hint(format!(
                "Nothing was touched. Key {0} is the one that this bundle needs: `strongroom key fetch {0} -i FILE -o KEYFILE` writes it out.",
                other.short()
            ))
            .hint("Give that key to the application and restore again, naming it with --key file:KEYFILE if it is not configured."),
        (Verdict::WrongKey | Verdict::Mixed, None) => Error::wrong_key(sentence).hint(
            "Nothing was touched. Give the right key with --key, or restore all the same with --accept-unproved.",
        ),
        _ => Error::refused(sentence)
            .hint("Nothing was touched. --accept-unproved restores a bundle whose key cannot be proved."),
    }
}

/// Proves the credentials in the restored database itself, before it takes the live one's place.
pub(super) fn restored(desk: &Desk<'_>, proved: &Proved, snapshot: &mut dyn Snapshot) -> Result<()> {
    let facts = snapshot.facts(desk.progress.as_ref())?;
    if facts.tables != proved.summary.facts.tables {
        return Err(Error::damaged("the restored database does not have the rows that were counted at the backup"));
    }
    let Some(candidate) = &proved.candidate else { return Ok(()) };
    // A key takes long to try on a value, and of one that is byte for byte the same it is known what comes of it.
    let options = ProverOptions {
        memory: Some((&proved.memory, &candidate.fingerprint)),
        believe_memory: true,
        ..ProverOptions::new(proved.scheme, &candidate.effective, &proved.profile, desk.progress.as_ref())
    };
    let (again, _) =
        prove_with(&options, |sink| snapshot.credentials(&proved.profile, None, &mut |credential| sink(credential)))?;
    if again.total.proved < proved.counts.proved || again.total.failed > proved.counts.failed {
        return Err(Error::damaged(format!(
            "the restored database proves {}, and the bundle's proof {}",
            counted(again.total.proved, "credential", "credentials"),
            proved.counts.proved
        )));
    }
    Ok(())
}
