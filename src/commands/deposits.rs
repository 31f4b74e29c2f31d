//! Deposits of the application key: sealed into every escrow that lacks it, and into the bundle.

use zeroize::Zeroizing;

use super::host::{Host, NamedKey};
use super::shelf::Shelf;
use super::{Desk, Problem};
use crate::escrow::{self, Deposit, PublicRecord, Record};
use crate::ground::names::Fingerprint;
use crate::ground::words::counted;
use crate::ground::{Error, Kind, Result, clock};
use crate::ledger::{EscrowEvent, Event, Ledger};
use crate::signer::Signer;

/// Why a key took the place of another one.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    pub(super) predecessor: Option<Fingerprint>,
    pub(super) reason: Option<String>,
}

/// The record of a key, as it is sealed.
pub(super) fn record(host: &Host, key: &NamedKey, origin: &Origin) -> Record {
    Record {
        key: Zeroizing::new(key.text.expose().to_vec()),
        scheme: host.scheme.name().to_owned(),
        fingerprint: key.fingerprint.clone(),
        app: host.config.app.clone(),
        created: clock::now(),
        source: host.config.key.to_string(),
        predecessor: origin.predecessor.clone(),
        reason: origin.reason.clone(),
    }
}

/// The lines that a bundle's `key.age` holds.
pub(super) fn record_lines(host: &Host, key: &NamedKey) -> Result<Zeroizing<Vec<u8>>> {
    escrow::to_lines([&record(host, key, &Origin::default())])
}

/// What became of a key's deposits.
#[derive(Default)]
pub(super) struct Held {
    /// The escrows that have it.
    pub(super) places: Vec<String>,
    /// Why others do not, in their order.
    pub(super) missed: Vec<Error>,
    too_few: Option<Problem>,
}

impl Held {
    /// What went wrong.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let missed = self.missed.iter().map(|error| {
            let mut problem = Problem::from_error(error);
            "escrow-missed".clone_into(&mut problem.code);
            problem
        });
        missed.chain(self.too_few.clone()).collect()
    }
}

/// How closely an escrow is looked at that has a deposit already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// At the signed record, which is all that most hosts may see.
    Record,
    /// At the sealed bytes, too, as far as the rights allow.
    Whole,
    /// The same, and what is damaged or was signed by nobody who is trusted is replaced, which takes more than write-only rights.
    Repair,
}

/// Who makes deposits, and where.
pub(super) struct Depositor<'a> {
    pub(super) desk: &'a Desk<'a>,
    pub(super) host: &'a Host,
    pub(super) shelf: &'a Shelf,
    pub(super) signer: &'a Signer,
}

impl Depositor<'_> {
    /// Logs in to the escrows before the long work begins, and says at once what will not last.
    ///
    /// One that cannot be reached now is tried again when its turn comes: that it is away is the deposit's to report.
    pub(super) fn begin(&self) -> Vec<Problem> {
        let open = |place| self.desk.systems.escrow(place, self.shelf.archive.as_ref())?.begin();
        let said: Vec<String> = self.host.config.escrows.iter().filter_map(|place| open(place).ok()?).collect();
        said.into_iter()
            .map(|line| {
                self.desk.progress.note(&line);
                let hint =
                    "Log in anew before the next run, or use auth method approle, where strongroom logs in by itself.";
                Problem::new("escrow-login-short", line, hint)
            })
            .collect()
    }

    /// Makes sure that every escrow has the key.
    pub(super) fn make(&self, ledger: &mut Ledger<'_>, key: &NamedKey, origin: &Origin, closely: Look) -> Result<Held> {
        let Self { desk, host, shelf, signer } = self;
        let recipient = &host.config.recipient;
        let mut held = Held::default();
        for place in &host.config.escrows {
            let attempt = || -> Result<(String, PublicRecord)> {
                let escrow = desk.systems.escrow(place, shelf.archive.as_ref())?;
                let prepare = || escrow::prepare(&record(host, key, origin), recipient, signer);
                let stand = (&host.config.app, &key.fingerprint, recipient.id());
                let look = || {
                    if closely == Look::Record {
                        escrow.has(stand.0, stand.1, stand.2, &shelf.trusted)
                    } else {
                        escrow.inspect(stand.0, stand.1, stand.2, &shelf.trusted)
                    }
                };
                let there = match look() {
                    Ok(Some(there)) => there,
                    Ok(None) => {
                        let new = prepare()?;
                        match escrow.deposit(&new.sealed, &new.public, &new.minisig, &shelf.trusted)? {
                            Deposit::Stored => new.public,
                            Deposit::Already => look()?.ok_or_else(|| {
                                Error::unreachable(format!("the deposit in {} came and went", escrow.describe()))
                                    .hint("Somebody else works on it: run this again.")
                            })?,
                        }
                    }
                    Err(error)
                        if closely == Look::Repair && matches!(error.kind(), Kind::Damaged | Kind::NotAuthentic) =>
                    {
                        let new = prepare()?;
                        escrow.repair(&new.sealed, &new.public, &new.minisig, &shelf.trusted)?;
                        new.public
                    }
                    Err(error) => return Err(error),
                };
                Ok((escrow.describe(), there))
            };
            match attempt() {
                Ok((name, there)) => {
                    // A run that was killed between a deposit and its entry left it to the next one.
                    let known = |event: &Event| matches!(event, Event::Escrow(known) if known.sha256 == there.sha256);
                    if !ledger.entries().iter().any(|entry| known(&entry.event)) {
                        let event = Event::Escrow(EscrowEvent {
                            fingerprint: key.fingerprint.clone(),
                            sealing: recipient.id().clone(),
                            place: name.clone(),
                            sha256: there.sha256,
                        });
                        ledger.append(signer, event, clock::now())?;
                    }
                    // One place is one copy, however often it is named.
                    if !held.places.contains(&name) {
                        held.places.push(name);
                    }
                }
                Err(error) => held.missed.push(error),
            }
        }
        if held.places.len() < host.config.escrow_min_copies {
            held.too_few = Some(Problem::new(
                "escrow-too-few",
                format!(
                    "{} the key, and [rules] escrow_min_copies asks for {}",
                    counted(held.places.len(), "escrow holds", "escrows hold"),
                    host.config.escrow_min_copies
                ),
                match host.config.enough_escrows() {
                    Ok(()) => "See the escrow that failed above; the next backup tries again.".to_owned(),
                    Err(error) => error.hints().join(" "),
                },
            ));
        }
        Ok(held)
    }
}
