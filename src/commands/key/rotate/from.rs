//! `key rotate --from`: rows under another known key, as `key doctor` names them, are put under the key in use.
//!
//! No new key comes into the world here. What has to be remembered is that rows were about to change ([`Mark`]): after a kill the next
//! run goes on with what is left, and enters what was done.

use serde_json::json;

use super::mark::{Facts, Mark};
use super::{Rotation, SEVERAL, unknown};
use crate::appkey::schemes::Outcome as Decrypted;
use crate::commands::deposits::Origin;
use crate::commands::hooks::Hooks;
use crate::commands::host::NamedKey;
use crate::commands::key::copies::{self, CopyRequest};
use crate::commands::reencrypt::{Moved, Rest};
use crate::commands::{Outcome, Problem, exit_of, proof};
use crate::database::Rewritten;
use crate::ground::words::counted;
use crate::ground::{Error, Result, clock};
use crate::ledger::Event;

impl Rotation<'_> {
    /// Goes on with what a run that was killed began.
    pub(super) fn rows_on(&self, mark: Mark) -> Result<Outcome> {
        let from = mark.facts.from.clone();
        match self.settle(Some(mark))? {
            Some(mark) => self.rows_moved(&self.host.key(self.desk, None)?, mark),
            None => self.rows_from(from.as_str(), None),
        }
    }

    /// Enters what a run that was killed has changed; the mark is answered when it had come so far, and what follows is left to be done.
    pub(super) fn settle(&self, mark: Option<Mark>) -> Result<Option<Mark>> {
        let Some(mark) = mark.filter(|_| !self.request.dry_run) else { return Ok(None) };
        if self.took_place(&mark, &self.host.key(self.desk, None)?)? {
            self.enter_rows(&mark)?;
            return Ok(Some(mark));
        }
        mark.end()?;
        Ok(None)
    }

    /// Whether what a mark announces was done, asked while nobody writes.
    fn took_place(&self, mark: &Mark, to: &NamedKey) -> Result<bool> {
        // Where another key is configured by now, that the values are gone has to be enough.
        let known = to.fingerprint == mark.facts.to;
        let opens =
            |value: &[u8]| !known || !matches!(self.host.scheme.decrypt(&to.effective, value), Decrypted::Failed);
        let mut took_place = false;
        self.locked(&mut |credentials| {
            took_place = mark.took_place(&credentials, opens);
            Ok(())
        })?;
        Ok(took_place)
    }

    fn enter_rows(&self, mark: &Mark) -> Result<()> {
        let signer = self.host.signer()?;
        let place = self.host.shelf(self.desk)?;
        let mut ledger = place.ledger()?;
        if mark.is_entered(&ledger) {
            return Ok(());
        }
        ledger.append(&signer, Event::Key(mark.event()), clock::now()).map(drop)
    }

    /// Puts the rows under the key that is named under the one in use.
    pub(super) fn rows_from(&self, fingerprint: &str, mark: Option<Mark>) -> Result<Outcome> {
        self.host.config.profile.writable()?;
        let before = self.settle(mark)?;
        let to = self.host.key(self.desk, None)?;
        let place = self.host.shelf(self.desk)?;
        let request = CopyRequest { key: Some(fingerprint), identity: &self.request.identity };
        let (copy, _) = copies::open_one(self.desk, &place, Some(&self.host.config), &request)?;
        let from = copy.key;
        let old = from.fingerprint.short();
        if from.effective.same_as(&to.effective) {
            return Err(Error::usage(format!("key {old} is the one in use"))
                .hint("Name the other one: `strongroom key doctor -i FILE` says which keys rows are under."));
        }
        let json = |moved: u64, state: &str| json!({ "old": from.fingerprint, "new": to.fingerprint, "state": state, "moved": moved });
        let way = self.way(&from, &to, Rest::Leave);
        let prepared = way.prepare(self.database.look()?.as_mut())?;
        self.desk.progress.finish();
        if prepared.counts.now == 0 {
            if let Some(mark) = before {
                return self.rows_moved(&to, mark);
            }
            let text = vec![format!("no row of {} is under key {old}", self.database.describe())];
            return Ok(told(json(0, "done"), text, Vec::new()));
        }
        let lines = self.lines(&from, &to, prepared.counts);
        if self.request.dry_run {
            let mut json = json(prepared.counts.now, "planned");
            json["plan"] = json!(lines);
            return Ok(told(json, lines, Vec::new()));
        }
        self.rows_hooks().ready(&["stop", "start"])?;
        self.confirm(&lines, &[])?;
        self.escrow(&to, &Origin::default()).map_err(|missed| missed.error)?;
        // That this bundle is not proved is what is being mended.
        self.back_up("the bundle before")?;
        let facts = Facts {
            from: from.fingerprint.clone(),
            to: to.fingerprint.clone(),
            reason: self.request.reason.clone(),
            moved: prepared.counts.now,
            after: place.ledger()?.newest().map_or(0, |(seq, _)| seq),
            values: prepared.going().to_vec(),
        };
        // Written before the application is stopped: a full disk must not leave it so.
        let mut mark = Mark::begin(&self.host.state_folder()?, facts)?;
        let hooks = self.rows_hooks();
        if let Err(error) = hooks.stop() {
            let _ = mark.end();
            return Err(hooks.start_after(error, "Nothing was changed."));
        }
        let rewritten = match self.rewrite(&way, &prepared, self.others()) {
            Ok((Rewritten::Committed, moved)) => Ok(moved),
            // Other rows may have been under that key before: these must be.
            Ok((Rewritten::Unknown(error), moved)) => match self.took_place(&mark, &to) {
                Ok(true) => Ok(moved),
                Ok(false) => Err(error),
                Err(_) => return Err(unknown(error, "Run this again then")),
            },
            Err(error) => Err(error),
        };
        match rewritten {
            Ok(moved) => mark.facts.moved = moved.now,
            Err(error) => {
                // One that stays is taken away by the next run.
                let _ = mark.end();
                return Err(hooks.start_after(error, "Nothing was changed."));
            }
        }
        self.enter_rows(&mark)?;
        self.rows_moved(&to, mark)
    }

    /// The application runs while rows move beside it, and is left alone.
    fn rows_hooks(&self) -> Hooks<'_> {
        Hooks { desk: self.desk, host: self.host, on: self.request.hooks && !self.request.online }
    }

    /// From rows that have moved: start, back up, prove, forget the mark.
    fn rows_moved(&self, to: &NamedKey, mark: Mark) -> Result<Outcome> {
        let Facts { from, moved, .. } = mark.facts.clone();
        let hooks = self.rows_hooks();
        hooks.start()?;
        hooks.well()?;
        let mut problems = self.back_up("the bundle after")?;
        let proved = self.try_key(to, None)?;
        self.desk.progress.finish();
        mark.end()?;
        let mut text = vec![
            format!(
                "{} went from key {} to key {}, the one in use",
                counted(moved, "credential", "credentials"),
                from.short(),
                to.fingerprint.short()
            ),
            format!("  {}", proof::sentence(proved.verdict(), &proved.total)),
        ];
        text.extend(proof::failure_lines(&proved));
        if proved.total.failed > 0 && problems.is_empty() {
            problems.push(neither(proved.total.failed));
        }
        let json = json!({
            "old": from, "new": to.fingerprint, "state": "done", "moved": moved,
            "credentials": proof::counts_json(&proved.total),
        });
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
                "  re-encrypt {} in one transaction; {} under the key in use, {} under neither",
                counted(counts.now, "credential", "credentials"),
                counts.already,
                counts.neither
            ),
        ];
        lines.extend(self.hook_lines());
        lines.push("  back up again".to_owned());
        lines
    }
}

/// Credentials that a re-encryption leaves as they are.
pub(super) fn neither(count: u64) -> Problem {
    Problem::new(
        SEVERAL,
        format!("{} under neither key", counted(count, "credential is", "credentials are")),
        "`strongroom key doctor -i FILE` says whether another known key opens them.",
    )
}

fn told(mut json: serde_json::Value, text: Vec<String>, problems: Vec<Problem>) -> Outcome {
    json["problems"] = json!(problems);
    Outcome {
        exit: exit_of(&problems),
        json,
        line: problems.first().map_or_else(String::new, |p| p.message.clone()),
        text,
        problems,
    }
}
