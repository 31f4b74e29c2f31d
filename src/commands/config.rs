//! `config check`: read the configuration and try everything that it names, changing nothing.

use serde_json::json;

use super::hooks::program;
use super::host::Host;
use super::shelf::Shelf;
use super::{Desk, Outcome, Problem, proof};
use crate::appkey::proof::{ProverOptions, Verdict, prove_with};
use crate::archive;
use crate::config::{Config, HookTable};
use crate::custody;
use crate::ground::words::counted;
use crate::ground::{Error, Result};

/// How many credentials are tried.
const SAMPLE: usize = 50;

/// Tries everything.
pub fn check(desk: &Desk<'_>, config: Config) -> Result<Outcome> {
    let host = Host::new(config)?;
    let mut tried = Tried::default();
    let reads = host
        .config
        .places_apart()
        .and_then(|()| host.config.escrows_apart())
        .map(|()| format!("{} reads", host.config.path.display()));
    let apart = reads.is_ok();
    tried.step("configuration", reads);
    let shelf = tried.value("archive", host.shelf(desk), |s| s.archive.describe());
    tried.step("signer", host.signer().map(|s| s.public().to_string()));
    if let Some(shelf) = &shelf {
        tried.step("ledger", shelf.ledger().map(|l| counted(l.entries().len(), "entry", "entries")));
        tried.step(
            "write",
            archive::try_writing(shelf.archive.as_ref(), &shelf.app)
                .map(|()| "the archive takes new objects".to_owned()),
        );
        tried.step("custody", custody_of(&host, shelf));
        for place in &host.config.escrows {
            let escrow = desk.systems.escrow(place, shelf.archive.as_ref());
            tried.step("escrow", escrow.and_then(|e| e.reachable(&host.config.app).map(|()| e.describe())));
        }
    }
    if let Err(error) = host.config.enough_escrows() {
        tried.step("rules", Err(error));
    }
    if apart {
        tried.step("state", host.scratch().map(|s| s.folder().display().to_string()));
    }
    if let Some(place) = &host.config.storage {
        let storage = desk.systems.storage(place);
        tried.step("storage", storage.and_then(|s| s.reachable().map(|()| s.describe())));
    }
    let key = tried.value("key", host.key_text(desk, None), |_| "can be read".to_owned());
    match host.database(desk) {
        Ok(Some(database)) => {
            if let Some(mut snapshot) = tried.value("database", database.look(), |_| database.describe())
                && let Some(key) = &key
            {
                tried.step("proof", sample(desk, &host, key, snapshot.as_mut()));
            }
            match database.tools() {
                Ok(Some(tools)) => tried.step("dump", Ok(tools)),
                Ok(None) => {}
                Err(error) => tried.step("dump", Err(error)),
            }
        }
        Ok(None) => {}
        Err(error) => tried.step("database", Err(error)),
    }
    let hooks = &host.config.hooks;
    for (name, argv) in [
        ("stop", &hooks.stop),
        ("start", &hooks.start),
        ("set_key", &hooks.set_key),
        ("on_result", &host.config.on_result),
    ] {
        if let Some(argv) = argv {
            tried.step(name, program(argv));
        }
    }
    desk.progress.finish();
    let mut standing = host.standing_problems(key.as_ref());
    standing.extend(half_of_a_pair(hooks));
    standing.extend(host.pending_rotation());
    standing.extend(host.pending_restore());
    Ok(tried.outcome(standing))
}

/// What was tried and how it went.
#[derive(Default)]
struct Tried {
    text: Vec<String>,
    rows: Vec<serde_json::Value>,
    problems: Vec<Problem>,
    exit: u8,
}

impl Tried {
    fn step(&mut self, name: &str, result: Result<String>) {
        match result {
            Ok(what) => {
                self.text.push(format!("  ok      {name:<14} {what}"));
                self.rows.push(json!({ "name": name, "ok": true, "what": what }));
            }
            Err(error) => {
                self.text.push(format!("  FAILED  {name:<14} {}", error.chain()));
                self.rows.push(json!({ "name": name, "ok": false, "what": error.chain() }));
                if self.exit == 0 {
                    self.exit = error.kind().exit_code();
                }
                self.problems.push(Problem::from_error(&error));
            }
        }
    }

    fn value<T>(&mut self, name: &str, result: Result<T>, say: impl FnOnce(&T) -> String) -> Option<T> {
        match result {
            Ok(value) => {
                self.step(name, Ok(say(&value)));
                Some(value)
            }
            Err(error) => {
                self.step(name, Err(error));
                None
            }
        }
    }

    fn outcome(self, standing: Vec<Problem>) -> Outcome {
        let line = self.text.iter().find(|l| l.contains("FAILED")).map(|l| l.trim().to_owned()).unwrap_or_default();
        let mut problems = self.problems;
        problems.extend(standing);
        Outcome {
            exit: self.exit,
            json: json!({ "ok": self.exit == 0, "checks": self.rows, "problems": problems }),
            text: self.text,
            line,
            problems,
        }
    }
}

fn custody_of(host: &Host, shelf: &Shelf) -> Result<String> {
    let id = host.config.recipient.id();
    // A ledger that cannot be read has its own line.
    shelf.ledger().map_or(Ok(()), |ledger| super::custody::gone(shelf, &ledger, id))?;
    match custody::record(shelf.archive.as_ref(), id)? {
        Some(record) => Ok(format!("{id}, any {} of {}", record.threshold, record.labels.len())),
        None => Ok(format!("{id} was made elsewhere; the archive keeps no wrapped copy")),
    }
}

fn sample(
    desk: &Desk<'_>,
    host: &Host,
    key: &crate::appkey::KeyText,
    snapshot: &mut dyn crate::database::Snapshot,
) -> Result<String> {
    let effective = host.scheme.effective_key(key)?;
    let profile = &host.config.profile;
    let options = ProverOptions::new(host.scheme, &effective, profile, desk.progress.as_ref());
    let (proved, total) =
        prove_with(&options, |sink| snapshot.credentials(profile, Some(SAMPLE), &mut |credential| sink(credential)))?;
    let sentence = proof::sentence(proved.verdict(), &proved.total);
    let tried = proof::looked_at(&proved.total);
    let sentence = if tried < total {
        format!("{sentence} (a sample: {tried} of {total} values; `strongroom prove` tries all)")
    } else {
        sentence
    };
    match proved.verdict() {
        Verdict::WrongKey | Verdict::Mixed => Err(Error::wrong_key(sentence)
            .hint("[key] source has to name the key that the application runs with; `strongroom prove --key REF` tries another one.")),
        _ => Ok(sentence),
    }
}

/// Who stops the application should start it, and the other way round.
fn half_of_a_pair(hooks: &HookTable) -> Option<Problem> {
    let (message, hint) = match (&hooks.stop, &hooks.start) {
        (Some(_), None) => (
            "[app] has a stop hook and no start hook: after a restore the application stays stopped",
            "Name start too; without it, every restore ends with that and says so until its mark is removed by hand.",
        ),
        (None, Some(_)) => (
            "[app] has a start hook and no stop hook: a restore replaces files and database while the application runs",
            "Name stop too, or stop the application by hand before a restore.",
        ),
        _ => return None,
    };
    Some(Problem::new("hook-alone", message, hint))
}
