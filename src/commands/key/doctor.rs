//! `key doctor`: rows of the live database under other keys than the configured one, and which keys open them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use super::Naming;
use crate::appkey::EffectiveKey;
use crate::appkey::proof::{ProverOptions, prove_with};
use crate::commands::host::Host;
use crate::commands::{Desk, Outcome, Problem, proof, shelf, verify};
use crate::config::Config;
use crate::ground::names::Fingerprint;
use crate::ground::words::counted;
use crate::ground::{Kind, Result};

/// Tries every credential with the configured key, and those that fail with every escrowed one.
pub fn doctor(desk: &Desk<'_>, config: Config, identity: &[PathBuf]) -> Result<Outcome> {
    let host = Host::new(config)?;
    let shelf = host.shelf(desk)?;
    let ledger = shelf.ledger()?;
    let naming = Naming::of(Some(&host.config), &shelf, &ledger)?;
    let key = host.key(desk, None)?;
    let identities = shelf::identities(desk, identity)?;
    let mut others: Vec<(Fingerprint, EffectiveKey)> = Vec::new();
    let sealings: std::collections::BTreeSet<_> = ledger.bundles().map(|b| b.sealing.clone()).collect();
    let each = shelf::each_of(sealings.len());
    for sealing in sealings {
        let sealing_key = shelf.unseal(&sealing, &identities, None).map_err(&each)?;
        let found =
            verify::escrowed(desk, &shelf, &sealing_key, naming.scheme, &naming.installation, Some(&key.fingerprint))?;
        for candidate in found {
            if !others.iter().any(|(known, _)| *known == candidate.fingerprint) {
                others.push((candidate.fingerprint, candidate.effective));
            }
        }
    }
    let database = host.needed_database(desk)?;
    let mut snapshot = database.look()?;
    let profile = &host.config.profile;
    let options = ProverOptions {
        others: &others,
        ..ProverOptions::new(host.scheme, &key.effective, profile, desk.progress.as_ref())
    };
    let (proved, _) =
        prove_with(&options, |sink| snapshot.credentials(profile, None, &mut |credential| sink(credential)))?;
    desk.progress.finish();

    let mut under: BTreeMap<String, u64> = BTreeMap::new();
    for failure in &proved.failures {
        let name = match failure.fits.as_slice() {
            [] => "no known key".to_owned(),
            [one] => one.short().to_owned(),
            many => many.iter().map(Fingerprint::short).collect::<Vec<_>>().join(" and "),
        };
        *under.entry(name).or_default() += 1;
    }
    let mut text = vec![
        format!("{}: {}", database.describe(), proof::sentence(proved.verdict(), &proved.total)),
        format!(
            "  tried the configured key {} and {} in escrow",
            key.fingerprint.short(),
            counted(others.len(), "other", "others")
        ),
    ];
    if proved.total.failed > proved.failures.len() as u64 {
        text.push(format!("  of the first {} rows that do not decrypt:", proved.failures.len()));
    }
    text.extend(under.iter().map(|(name, rows)| format!("  {} with {name}", counted(*rows, "row opens", "rows open"))));
    text.extend(proof::failure_lines(&proved));
    let mut problems: Vec<_> = host.pending_rotation().into_iter().chain(host.pending_restore()).collect();
    if proved.total.failed > 0 {
        problems.push(Problem::new(
            "several-keys",
            format!("{} not under the configured key", counted(proved.total.failed, "credential is", "credentials are")),
            match under.iter().filter(|(name, _)| name.bytes().all(|b| b.is_ascii_hexdigit())).max_by_key(|(_, rows)| **rows) {
                Some((key, _)) => format!(
                    "Key {key} opens others: `strongroom key rotate --from {key} -i FILE` puts those rows under the configured one. If most are under {key}, the configured one may be the wrong one: `strongroom key fetch {key} -i FILE -o KEYFILE` writes it out."
                ),
                None => "Start the application with the key that opens most rows; re-enter the others' credentials in it, or restore them.".to_owned(),
            },
        ));
    }
    Ok(Outcome {
        exit: if proved.total.failed > 0 { Kind::WrongKey.exit_code() } else { proof::exit_of(proved.verdict()) },
        json: json!({
            "fingerprint": key.fingerprint,
            "verdict": proved.verdict(),
            "credentials": proof::counts_json(&proved.total),
            "under": under,
            "failures": proof::failures_json(&proved),
            "problems": problems,
        }),
        line: text[0].clone(),
        text,
        problems,
    })
}
