//! The steps that every rotation is made of: prove, escrow, back up, re-encrypt, enter.

use super::Rotation;
use super::pending::Pending;
use crate::appkey::KeyText;
use crate::appkey::credential::Credential;
use crate::appkey::lint::{self, Finding};
use crate::appkey::proof::{Proof, ProverOptions, Verdict, prove_with};
use crate::commands::backup;
use crate::commands::deposits::{Depositor, Look, Origin};
use crate::commands::host::NamedKey;
use crate::commands::missed::several;
use crate::commands::reencrypt::{Moved, Prepared, Reencryption, Rest};
use crate::commands::{Problem, proof};
use crate::database::{Others, Rewritten};
use crate::ground::{Error, Kind, Result, clock};
use crate::ledger::{Event, KeyEvent};

/// The command that prints the new key of a rotation under way, in base64.
pub(super) fn printed(pending: &Pending) -> String {
    let file = pending.path().display();
    if pending.beside().is_some() {
        format!("head -n 1 {file} | jq -r .key_b64")
    } else {
        format!("jq -r .key_b64 {file}")
    }
}

/// A key that too few escrows took.
pub(super) struct Missed {
    pub(super) error: Error,
    /// Some of them may have it.
    pub(super) stored: bool,
}

/// How a sweep over the credentials ended that was not refused.
pub(super) enum Swept {
    Done(Moved),
    /// It may have happened, and the database could not be asked.
    Unknown(Error),
}

impl Rotation<'_> {
    /// Refuses a new key that anybody can guess, or a text that is more than the key: nobody is bound to one yet.
    pub(super) fn fit(&self, new: &KeyText) -> Result<()> {
        let guessed = |finding: &Finding| ["short", "published", "low-entropy"].contains(&finding.code);
        match lint::lint(self.host.scheme, new).into_iter().find(|finding| finding.misread || guessed(finding)) {
            Some(Finding { message, hint, misread, .. }) => {
                let error = Error::refused(format!("the new key is not taken: {message}"));
                let error = if misread { error.hint(hint) } else { error };
                Err(error.hint("Nothing was changed. Without --new a good one is made."))
            }
            None => Ok(()),
        }
    }

    /// Finds out how many credentials are under a key; that none is may be as good an answer.
    pub(super) fn try_key(&self, key: &NamedKey, sample: Option<usize>) -> Result<Proof> {
        self.look(key, sample, true)
    }

    fn look(&self, key: &NamedKey, sample: Option<usize>, only_tried: bool) -> Result<Proof> {
        let profile = &self.host.config.profile;
        let progress = self.desk.progress.as_ref();
        let options =
            ProverOptions { only_tried, ..ProverOptions::new(self.host.scheme, &key.effective, profile, progress) };
        let mut snapshot = self.database.look()?;
        prove_with(&options, |sink| snapshot.credentials(profile, sample, &mut |credential| sink(credential)))
            .map(|(proved, _)| proved)
    }

    /// Every credential decrypts with this key, or nothing goes on.
    pub(super) fn prove(&self, key: &NamedKey, when: Option<&str>) -> Result<Proof> {
        let proved = self.look(key, None, false)?;
        self.desk.progress.finish();
        if matches!(proved.verdict(), Verdict::Proved | Verdict::Plausible) {
            return Ok(proved);
        }
        for line in proof::failure_lines(&proved) {
            self.desk.ask.say(&line);
        }
        let sentence = proof::sentence(proved.verdict(), &proved.total);
        let error = match (proved.verdict(), when) {
            (Verdict::Unproven, _) => Error::refused(sentence)
                .hint("With no credential stored yet, configure another key and back up; nothing has to be re-encrypted."),
            (_, Some(_)) => Error::wrong_key(sentence)
                .hint("The application may still be running with the old key: start it anew, then `key rotate --resume`, which puts what is under the old key under the new one.")
                .hint("`strongroom key doctor -i FILE` says which keys those rows are under; enter what is under neither anew in the application."),
            _ => Error::wrong_key(sentence).hint(
                "Nothing was changed. `strongroom key doctor -i FILE` says which keys the failing rows are under; `key rotate --from` puts those under the key in use, or enter them anew in the application.",
            ),
        };
        Err(match when {
            Some(when) => error.context(format!("{when}, the database is not as it should be")),
            None => error,
        })
    }

    /// A key is in as many escrows as the rules ask for, before anything depends on it.
    pub(super) fn escrow(&self, key: &NamedKey, origin: &Origin) -> Result<(), Missed> {
        let nowhere = |error| Missed { error, stored: false };
        self.host.config.escrows_apart().map_err(nowhere)?;
        let signer = self.host.signer().map_err(nowhere)?;
        let place = self.host.shelf(self.desk).map_err(nowhere)?;
        let mut ledger = place.ledger().map_err(nowhere)?;
        let depositor = Depositor { desk: self.desk, host: self.host, shelf: &place, signer: &signer };
        // It fails as a whole only once a deposit was made, which was not entered then.
        let held =
            depositor.make(&mut ledger, key, origin, Look::Record).map_err(|error| Missed { error, stored: true })?;
        let (copies, asked) = (held.places.len(), self.copies_asked());
        if copies >= asked {
            return Ok(());
        }
        let short = key.fingerprint.short();
        let message = format!("{copies} of {asked} escrows hold key {short}, so nothing is put under it");
        let error = match held.missed.as_slice() {
            [] => Error::usage(message)
                .hint("Name as many escrows as [rules] escrow_min_copies asks for, at least one: [[escrow]] kind = \"archive\""),
            [first, ..] => several(first.kind(), message, &held.missed),
        };
        Err(Missed { error, stored: copies > 0 })
    }

    fn copies_asked(&self) -> usize {
        self.host.config.escrow_min_copies.max(1)
    }

    /// The key that is being replaced can be had from where nobody overwrites it: older bundles need it.
    ///
    /// As many escrows have it as the rules ask for, asked for the sealed bytes too, or the newest bundle does.
    pub(super) fn kept(&self, old: &NamedKey) -> Result<()> {
        let place = self.host.shelf(self.desk)?;
        let newest = place.ledger()?.bundles().next_back().is_some_and(|bundle| {
            bundle.keys.contains(&old.fingerprint) && bundle.contains.iter().any(|what| what == "key")
        });
        if newest {
            return Ok(());
        }
        let config = &self.host.config;
        let (mut copies, mut missed) = (0, Vec::new());
        for escrow in &config.escrows {
            let found = self.desk.systems.escrow(escrow, place.archive.as_ref()).and_then(|escrow| {
                escrow.inspect(&config.app, &old.fingerprint, config.recipient.id(), &place.trusted)
            });
            match found {
                Ok(found) => copies += usize::from(found.is_some()),
                Err(error) => missed.push(error),
            }
        }
        let asked = self.copies_asked();
        if copies >= asked {
            return Ok(());
        }
        let short = old.fingerprint.short();
        let message = format!(
            "{copies} of {asked} escrows hold the old key {short}, nor has the bundle just made a copy: no older bundle would open any more"
        );
        Err(several(missed.first().map_or(Kind::Refused, Error::kind), message, &missed))
    }

    /// Enters the rotation into the ledger, once.
    pub(super) fn enter(&self, pending: &Pending) -> Result<()> {
        let event = KeyEvent {
            fingerprint: pending.record().fingerprint.clone(),
            action: "rotated".to_owned(),
            predecessor: Some(pending.old().clone()),
            reason: pending.record().reason.clone(),
        };
        let signer = self.host.signer()?;
        let place = self.host.shelf(self.desk)?;
        let mut ledger = place.ledger()?;
        let known = ledger.entries().iter().any(|entry| matches!(&entry.event, Event::Key(known) if *known == event));
        if known { Ok(()) } else { ledger.append(&signer, Event::Key(event), clock::now()).map(drop) }
    }

    pub(super) fn back_up(&self, what: &str) -> Result<Vec<Problem>> {
        let request = backup::Request {
            only: backup::Only::All,
            prove_all: false,
            allow_empty: false,
            within: backup::Within::Rotation,
        };
        let outcome =
            backup::make(self.desk, self.host, &request).map_err(|e| e.context(format!("{what} could not be made")))?;
        self.desk.progress.finish();
        self.desk.ask.say(&format!("{what}: {}", outcome.text.first().map_or("", String::as_str)));
        Ok(outcome.problems.into_iter().filter(|p| !p.is_advice()).collect())
    }

    pub(super) fn way<'b>(&'b self, from: &'b NamedKey, to: &'b NamedKey, rest: Rest) -> Reencryption<'b> {
        Reencryption {
            desk: self.desk,
            scheme: self.host.scheme,
            profile: &self.host.config.profile,
            from: &from.effective,
            to: &to.effective,
            rest,
        }
    }

    /// Every credential that is under `from` is put under `to`, in one transaction.
    ///
    /// Beside a running application the new values are made first, so that it waits for the writing only.
    pub(super) fn sweep(&self, from: &NamedKey, to: &NamedKey, rest: Rest, others: Others) -> Result<Swept> {
        let way = self.way(from, to, rest);
        let prepared = match others {
            Others::Wait => way.prepare(self.database.look()?.as_mut())?,
            Others::Refuse => Prepared::default(),
        };
        match self.rewrite(&way, &prepared, others)? {
            (Rewritten::Committed, moved) => Ok(Swept::Done(moved)),
            // More are under this key than were before; everything is proved afterwards.
            (Rewritten::Unknown(error), moved) => match self.standing(to, from) {
                Ok(counts) if counts.now > moved.already || moved.now == 0 => Ok(Swept::Done(moved)),
                Ok(_) => Err(error),
                Err(_) => Ok(Swept::Unknown(error)),
            },
        }
    }

    /// How many credentials are under the first key (`now`), and how many under the other (`already`), asked while nobody writes.
    pub(super) fn standing(&self, first: &NamedKey, other: &NamedKey) -> Result<Moved> {
        let way = self.way(first, other, Rest::Leave);
        let prepared = way.prepare(self.database.look()?.as_mut())?;
        let mut counts = Moved::default();
        self.locked(&mut |credentials| {
            counts = way.change(&prepared, credentials, &mut |_, _| Ok(()))?;
            Ok(())
        })?;
        self.desk.progress.finish();
        Ok(counts)
    }

    /// Shows every credential while nobody writes, and after what a run that ended early had begun has come to its end: a look beside
    /// it would not see a commit that is on its way.
    pub(super) fn locked(&self, look: &mut dyn FnMut(Vec<Credential>) -> Result<()>) -> Result<()> {
        let mut seen = false;
        let looked = self.database.rewrite(&self.host.config.profile, Others::Wait, &mut |credentials, _| {
            look(credentials)?;
            seen = true;
            // Nothing is written, so nothing is committed.
            Err(Error::failed("it was only looked at"))
        });
        match looked {
            _ if seen => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(Error::failed("the credentials were not looked at")),
        }
    }

    pub(super) fn rewrite(
        &self,
        way: &Reencryption<'_>,
        prepared: &Prepared,
        others: Others,
    ) -> Result<(Rewritten, Moved)> {
        let mut moved = Moved::default();
        let rewritten = self.database.rewrite(&self.host.config.profile, others, &mut |credentials, put| {
            moved = way.change(prepared, credentials, put)?;
            Ok(())
        })?;
        self.desk.progress.finish();
        Ok((rewritten, moved))
    }
}
