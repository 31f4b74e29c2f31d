//! `key rotate --abort`: a rotation whose new key no row is under is given up.
//!
//! Nothing is taken on trust: every credential is tried with both keys, while nobody writes and after what a run that was killed had
//! begun has come to its end. The new key's deposits stay where they are, because a row
//! that came under it after all could be read with nothing else; the ledger says that it is in use no more, and `key destroy`, which
//! looks again, removes it.

use serde_json::json;

use super::Rotation;
use super::pending::Pending;
use crate::appkey::proof::Verdict;
use crate::commands::hooks::Hooks;
use crate::commands::host::NamedKey;
use crate::commands::key::history::remains;
use crate::commands::{Outcome, Problem, exit_of, proof};
use crate::ground::words::counted;
use crate::ground::{Error, Result, clock};
use crate::ledger::{Event, KeyEvent, KeyState};

/// Why the new key is retired, where nobody gave a reason.
const REASON: &str = "the rotation to it was given up";

fn took_place(moved: u64, new: &NamedKey) -> Error {
    Error::wrong_key(format!(
        "the rotation cannot be given up: {} under the new key {}",
        counted(moved, "credential is", "credentials are"),
        new.fingerprint.short()
    ))
    .hint("Nothing was changed. Go on with it: strongroom key rotate --resume")
}

impl Rotation<'_> {
    /// Proves the database under the old key, starts the application with it, and forgets the new one.
    pub(super) fn abort(&self, pending: Pending) -> Result<Outcome> {
        let hooks = Hooks { on: self.request.hooks && pending.beside().is_none(), ..self.hooks() };
        hooks.ready(&["start"]).map_err(|error| error.hint("Nothing was changed."))?;
        let new = self.named(&pending)?;
        let old = match self.configured_old(&pending) {
            Ok(old) => old,
            // Where it took place, the new one may be configured already.
            Err(error) => match self.try_key(&new, None)?.total.proved {
                0 => self.overtaken()?.ok_or(error)?,
                moved => return Err(took_place(moved, &new)),
            },
        };
        let counts = self.standing(&new, &old)?;
        if counts.now > 0 {
            return Err(took_place(counts.now, &new));
        }
        let proved = self.try_key(&old, None)?;
        self.desk.progress.finish();
        let sentence = proof::sentence(proved.verdict(), &proved.total);
        if counts.neither > 0 || !matches!(proved.verdict(), Verdict::Proved | Verdict::Plausible | Verdict::Unproven) {
            for line in proof::failure_lines(&proved) {
                self.desk.ask.say(&line);
            }
            return Err(Error::wrong_key(sentence)
                .context("the rotation is not given up: some rows are not under the old key")
                .hint("Nothing was changed. `strongroom key doctor -i FILE` says which keys they are under."));
        }
        // A run that was killed may have left it stopped.
        hooks.start()?;
        hooks.well()?;
        let (places, problems) = self.retire(&new)?;
        pending.end()?;
        let short = new.fingerprint.short();
        let mut text = vec![
            format!("the rotation is given up: key {} stays in use", old.fingerprint.short()),
            format!("  {sentence}"),
        ];
        text.push(match places.as_slice() {
            [] => format!("  no escrow names key {short}; what a killed deposit left of it, `strongroom key destroy {short}` removes"),
            places => format!(
                "  key {short} stays in {}; `strongroom key destroy {short}` removes it when nothing needs it",
                places.join(", ")
            ),
        });
        Ok(Outcome {
            exit: exit_of(&problems),
            json: json!({
                "old": old.fingerprint, "new": new.fingerprint, "state": "aborted", "moved": 0,
                "credentials": proof::counts_json(&proved.total), "escrows": places, "problems": problems,
            }),
            line: problems.first().map_or_else(String::new, |p| p.message.clone()),
            text,
            problems,
        })
    }

    /// Enters that the new key is in use no more; which escrows have it, and which could not be asked.
    fn retire(&self, new: &NamedKey) -> Result<(Vec<String>, Vec<Problem>)> {
        let place = self.host.shelf(self.desk)?;
        let mut ledger = place.ledger()?;
        let mut problems = Vec::new();
        let sealing = self.host.config.recipient.id();
        let places = remains(self.desk, &place, &new.fingerprint, sealing, &mut problems);
        let facts = ledger.keys().into_iter().find(|key| key.fingerprint == new.fingerprint);
        // A run that was killed may have left a deposit that no entry names, or a part of one: `key destroy` finds it by this entry.
        let retired = facts
            .as_ref()
            .is_some_and(|key| !key.bundles.is_empty() || matches!(key.state, KeyState::Retired | KeyState::Destroyed));
        if !retired {
            let event = KeyEvent {
                fingerprint: new.fingerprint.clone(),
                action: "retired".to_owned(),
                predecessor: None,
                reason: Some(self.request.reason.clone().unwrap_or_else(|| REASON.to_owned())),
            };
            ledger.append(&self.host.signer()?, Event::Key(event), clock::now())?;
        }
        Ok((places, problems))
    }
}
