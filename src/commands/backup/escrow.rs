//! The key's share of a backup: sealed into every escrow that lacks it, and into the bundle.

use zeroize::Zeroizing;

use crate::commands::host::{Host, NamedKey};
use crate::commands::shelf::Shelf;
use crate::commands::{Desk, Problem};
use crate::escrow::{self, Prepared, Record};
use crate::ground::{Result, clock};
use crate::ledger::{EscrowEvent, Event, Ledger};
use crate::signer::Signer;

/// The record of a key, as it is sealed.
fn record(host: &Host, key: &NamedKey) -> Record {
    Record {
        key: Zeroizing::new(key.text.expose().to_vec()),
        scheme: host.scheme.name().to_owned(),
        fingerprint: key.fingerprint.clone(),
        app: host.config.app.clone(),
        created: clock::now(),
        source: host.config.key.to_string(),
        predecessor: None,
        reason: None,
    }
}

/// The lines that a bundle's `key.age` holds.
pub(super) fn record_lines(host: &Host, key: &NamedKey) -> Result<Zeroizing<Vec<u8>>> {
    escrow::to_lines([&record(host, key)])
}

/// Makes sure that every escrow has the key; answers which have it, and what went wrong.
pub(super) fn deposit(
    desk: &Desk<'_>,
    host: &Host,
    shelf: &Shelf,
    signer: &Signer,
    ledger: &mut Ledger<'_>,
    key: &NamedKey,
) -> Result<(Vec<String>, Vec<Problem>)> {
    let recipient = &host.config.recipient;
    let (mut holding, mut problems) = (Vec::new(), Vec::new());
    for place in &host.config.escrows {
        let attempt = || -> Result<(String, Option<Prepared>)> {
            let escrow = desk.systems.escrow(place, shelf.archive.as_ref())?;
            if escrow.has(&host.config.app, &key.fingerprint, recipient.id(), &shelf.trusted)?.is_some() {
                return Ok((escrow.describe(), None));
            }
            let prepared = escrow::prepare(&record(host, key), recipient, signer)?;
            escrow.deposit(&prepared.sealed, &prepared.public, &prepared.minisig, &shelf.trusted)?;
            Ok((escrow.describe(), Some(prepared)))
        };
        match attempt() {
            Ok((name, new)) => {
                if let Some(new) = new {
                    let event = Event::Escrow(EscrowEvent {
                        fingerprint: key.fingerprint.clone(),
                        sealing: recipient.id().clone(),
                        place: name.clone(),
                        sha256: new.public.sha256,
                    });
                    ledger.append(signer, event, clock::now())?;
                }
                holding.push(name);
            }
            Err(error) => {
                let mut problem = Problem::from_error(&error);
                "escrow-missed".clone_into(&mut problem.code);
                problems.push(problem);
            }
        }
    }
    if holding.len() < host.config.escrow_min_copies {
        problems.push(Problem::new(
            "escrow-too-few",
            format!(
                "{} escrows hold the key, and [rules] escrow_min_copies asks for {}",
                holding.len(),
                host.config.escrow_min_copies
            ),
            "See the escrow that failed above; the next backup tries again.",
        ));
    }
    Ok((holding, problems))
}
