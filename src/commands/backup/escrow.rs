//! The key's share of a backup: sealed into every escrow that lacks it, and into the bundle.

use crate::commands::host::{Host, NamedKey};
use crate::commands::shelf::Shelf;
use crate::commands::{Desk, Problem};
use crate::escrow::{self, PublicRecord, Record};
use crate::ground::{Result, clock, json};
use crate::ledger::{Event, Ledger};
use crate::signer::{Signer, Trusted};

/// The record of a key, as it is sealed.
fn record(host: &Host, key: &NamedKey) -> Record {
    Record::new(
        key.text.expose(),
        host.scheme.name(),
        &key.fingerprint,
        &host.config.app,
        clock::now(),
        &host.config.key.to_string(),
    )
}

/// The line that a bundle's `key.age` holds for a key.
pub(super) fn record_line(host: &Host, key: &NamedKey) -> Result<zeroize::Zeroizing<Vec<u8>>> {
    record(host, key).to_line()
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
    let own = Trusted::new(shelf.trusted.keys().iter().cloned().chain([signer.public().clone()]).collect());
    let (mut holding, mut problems) = (Vec::new(), Vec::new());
    for place in &host.config.escrows {
        let attempt = || -> Result<(String, bool)> {
            let escrow = desk.systems.escrow(place, &shelf.archive, &host.config.app)?;
            if escrow.has(&host.config.app, &key.fingerprint, recipient.id(), &own)?.is_some() {
                return Ok((escrow.describe(), false));
            }
            let sealed = escrow::seal_record(&record(host, key), recipient)?;
            let public = PublicRecord::new(
                &host.config.app,
                &key.fingerprint,
                recipient.id(),
                &sealed,
                host.scheme.name(),
                clock::now(),
            );
            let minisig = signer.sign(&json::pretty(&public)?, &public.trusted_comment())?;
            escrow.deposit(&sealed, &public, &minisig, &own)?;
            Ok((escrow.describe(), true))
        };
        match attempt() {
            Ok((name, new)) => {
                if new {
                    ledger.append(signer, Event::escrow(&key.fingerprint, recipient.id(), &name), clock::now())?;
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
