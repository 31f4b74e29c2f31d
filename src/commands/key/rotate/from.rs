//! `key rotate --from`: rows under another known key, as `key doctor` names them, are put under the key in use.
//!
//! Nothing new comes into the world here, so there is nothing to remember: run again after a kill, it goes on with what is left.

use serde_json::json;

use super::steps::Swept;
use super::{Rotation, unknown};
use crate::commands::deposits::Origin;
use crate::commands::hooks::Hooks;
use crate::commands::host::NamedKey;
use crate::commands::key::copies::{self, CopyRequest};
use crate::commands::reencrypt::{Moved, Rest};
use crate::commands::{ATTENTION, Outcome, Problem, proof};
use crate::ground::{Error, Result};
use crate::ledger::KeyEvent;

impl Rotation<'_> {
    /// Puts the rows under the key that is named under the one in use.
    pub(super) fn rows_from(&self, fingerprint: &str) -> Result<Outcome> {
        self.host.config.profile.writable()?;
        let to = self.host.key(self.desk, None)?;
        let place = self.host.shelf(self.desk)?;
        let request = CopyRequest { key: Some(fingerprint), identity: &self.request.identity };
        let (copy, _) = copies::open_one(self.desk, &place, Some(&self.host.config), &request)?;
        let from = copy.key;
        let (old, new) = (from.fingerprint.short(), to.fingerprint.short());
        if from.effective.same_as(&to.effective) {
            return Err(Error::usage(format!("key {old} is the one in use"))
                .hint("Name the other one: `strongroom key doctor -i FILE` says which keys rows are under."));
        }
        let json = |moved: u64, state: &str| json!({ "old": from.fingerprint, "new": to.fingerprint, "state": state, "moved": moved });
        let way = self.way(&from, &to, Rest::Leave);
        let prepared = way.prepare(self.database.look()?.as_mut())?;
        self.desk.progress.finish();
        if prepared.counts.now == 0 {
            let text = vec![format!("no row of {} is under key {old}", self.database.describe())];
            return Ok(told(json(0, "done"), text, Vec::new()));
        }
        let lines = self.lines(&from, &to, prepared.counts);
        if self.request.dry_run {
            let mut json = json(prepared.counts.now, "planned");
            json["plan"] = json!(lines);
            return Ok(told(json, lines, Vec::new()));
        }
        self.confirm(&lines)?;
        self.escrow(&to, &Origin::default())?;
        // That this bundle is not proved is what is being mended.
        self.back_up("the bundle before")?;
        let hooks = Hooks { desk: self.desk, host: self.host, on: self.request.hooks && !self.request.online };
        hooks.stop()?;
        let swept = self.rewrite(&way, &prepared, &to, self.others());
        let moved = match swept {
            Ok(Swept::Done(moved)) => moved,
            Ok(Swept::Unknown(error)) => return Err(unknown(error, "Run this again then")),
            Err(error) => {
                let error = error.hint("Nothing was changed.");
                return Err(match hooks.start() {
                    Ok(()) => error,
                    Err(second) => error.hint(format!("Starting the application again failed: {}", second.chain())),
                });
            }
        };
        self.append(
            KeyEvent {
                fingerprint: to.fingerprint.clone(),
                action: "re-encrypted".to_owned(),
                predecessor: Some(from.fingerprint.clone()),
                reason: self.request.reason.clone(),
            },
            false,
        )?;
        hooks.start()?;
        hooks.well()?;
        let mut problems = self.back_up("the bundle after")?;
        let proved = self.try_key(&to, None)?;
        self.desk.progress.finish();
        let mut text = vec![
            format!("{} credentials went from key {old} to key {new}, the one in use", moved.now),
            format!("  {}", proof::sentence(proved.verdict(), &proved.total)),
        ];
        text.extend(proof::failure_lines(&proved));
        if proved.total.failed > 0 && problems.is_empty() {
            problems.push(Problem::new(
                "several-keys",
                format!("{} credentials are under neither key", proved.total.failed),
                "`strongroom key doctor -i FILE` says whether another known key opens them.",
            ));
        }
        let mut json = json(moved.now, "done");
        json["credentials"] = proof::counts_json(&proved.total);
        Ok(told(json, text, problems))
    }

    fn lines(&self, from: &NamedKey, to: &NamedKey, counts: Moved) -> Vec<String> {
        let mut lines = vec![
            format!(
                "put rows of {} from key {} under key {}, the one in use",
                self.database.describe(),
                from.fingerprint.short(),
                to.fingerprint.short()
            ),
            "  back up".to_owned(),
            format!(
                "  re-encrypt {} credentials in one transaction; {} are under the key in use, {} under neither",
                counts.now, counts.already, counts.neither
            ),
        ];
        lines.extend(self.hook_lines());
        lines.push("  back up again".to_owned());
        lines
    }
}

fn told(mut json: serde_json::Value, text: Vec<String>, problems: Vec<Problem>) -> Outcome {
    json["problems"] = json!(problems);
    Outcome {
        exit: if problems.is_empty() { 0 } else { ATTENTION },
        json,
        line: problems.first().map_or_else(String::new, |p| p.message.clone()),
        text,
        problems,
    }
}
