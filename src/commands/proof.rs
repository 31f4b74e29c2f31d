//! What a proof looks like to people and to scripts; the same for every verb that proves.

use serde_json::json;

use crate::appkey::proof::{Counts, Proof, Verdict};
use crate::ground::Kind;
use crate::ground::words::counted;

/// The exit code of a verdict where nothing was stored.
pub fn exit_of(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Proved => 0,
        Verdict::Plausible | Verdict::Unproven => super::ATTENTION,
        Verdict::Mixed | Verdict::WrongKey => Kind::WrongKey.exit_code(),
        Verdict::NoKey => Kind::NotFound.exit_code(),
    }
}

/// The counts as scripts read them.
pub fn counts_json(counts: &Counts) -> serde_json::Value {
    json!({
        "proved": counts.proved,
        "plausible": counts.plausible,
        "failed": counts.failed,
        "plaintext": counts.plaintext,
    })
}

/// How many values were looked at, those that the application stores as plaintext included.
pub fn looked_at(counts: &Counts) -> u64 {
    counts.proved + counts.plausible + counts.failed + counts.plaintext
}

/// The failing rows as scripts read them.
pub fn failures_json(proof: &Proof) -> serde_json::Value {
    proof
        .failures
        .iter()
        .map(|f| {
            json!({
                "table": f.table,
                "column": f.column,
                "id": f.id,
                "reason": f.reason,
                "fits": f.fits,
            })
        })
        .collect()
}

/// One sentence about a verdict.
pub fn sentence(verdict: Verdict, counts: &Counts) -> String {
    let tried = counts.proved + counts.plausible + counts.failed;
    match verdict {
        Verdict::Proved if tried == 1 => "proved: the key decrypts the one credential".to_owned(),
        Verdict::Proved => format!("proved: the key decrypts all {tried} credentials"),
        Verdict::Plausible => {
            let decrypt = counted(tried, "credential decrypts", "credentials decrypt");
            format!("plausible: {decrypt} to the right form, under a cipher that proves little")
        }
        Verdict::Mixed => {
            let does = if counts.failed == 1 { "does" } else { "do" };
            format!("mixed: {} of {tried} credentials {does} not decrypt with this key", counts.failed)
        }
        Verdict::WrongKey if tried == 1 => "wrong key: the one credential does not decrypt with it".to_owned(),
        Verdict::WrongKey => format!("wrong key: none of the {tried} credentials decrypts with it"),
        Verdict::Unproven => "unproven: there is no encrypted credential to try the key on".to_owned(),
        Verdict::NoKey => "no key: the application key could not be read".to_owned(),
    }
}

/// The failing rows for people, the first few.
pub fn failure_lines(proof: &Proof) -> Vec<String> {
    const SHOWN: usize = 10;
    let mut lines: Vec<String> = proof
        .failures
        .iter()
        .take(SHOWN)
        .map(|f| {
            let fits = match f.fits.as_slice() {
                [] => String::new(),
                [one] => format!("; the key {} fits", one.short()),
                many => format!(
                    "; {} keys fit: {}",
                    many.len(),
                    many.iter().map(crate::ground::names::Fingerprint::short).collect::<Vec<_>>().join(", ")
                ),
            };
            format!("  {}.{} row {}: {}{fits}", f.table, f.column, f.id, f.reason)
        })
        .collect();
    let more = proof.total.failed.saturating_sub(lines.len() as u64);
    if more > 0 {
        lines.push(format!("  … and {more} more"));
    }
    lines
}
