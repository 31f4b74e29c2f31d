//! `key rotate --resume`: every credential is tried, which says how far a rotation came that did not end.

use super::from::neither;
use super::pending::Pending;
use super::{AS_IT_WAS, Rotation};
use crate::appkey::KeyText;
use crate::appkey::proof::{Counts, Verdict};
use crate::commands::host::{NamedKey, ROTATION_NEXT};
use crate::commands::key::copies::{self, CopyRequest};
use crate::commands::reencrypt::Rest;
use crate::commands::{Outcome, Problem};
use crate::ground::words::counted;
use crate::ground::{Error, Result};

impl Rotation<'_> {
    /// Finds out what an earlier run left, and goes on from there.
    pub(super) fn resume(&self, pending: Pending) -> Result<Outcome> {
        let new = self.named(&pending)?;
        let weak = self.host.lint(&new.text);
        // All of them: a single one may have been written under the old key since.
        let under_new = self.try_key(&new, None)?;
        self.desk.progress.finish();
        // Beside a running application some rows may be under the old key again, and the second sweep is to come.
        if under_new.verdict() == Verdict::Proved || pending.beside().is_some() && under_new.total.proved > 0 {
            return self.under_new(pending, &new, weak);
        }
        if under_new.total.proved > 0 {
            return self.partly(pending, &new, weak, &under_new.total);
        }
        let old = self.old(&pending).and_then(|old| self.prove(&old, None).map(|_| old)).or_else(|error| {
            Err(match self.overtaken()? {
                Some(now) => Error::refused(format!(
                    "all credentials are under {}: another rotation took place since this one, from {} to {}, began",
                    now.fingerprint.short(),
                    pending.old().short(),
                    new.fingerprint.short()
                ))
                .hint("Nothing was changed. Give this one up: strongroom key rotate --abort"),
                None => error,
            })
        })?;
        self.ready_to_go_on(&pending, &new)?;
        self.under_old(pending, &old, &new, weak, false)
    }

    /// From a database that is under the new key in part: what is under the old one follows.
    fn partly(&self, pending: Pending, new: &NamedKey, mut problems: Vec<Problem>, counts: &Counts) -> Result<Outcome> {
        let old = self.old_at_hand(&pending, new, counts)?;
        let left = self.way(&old, new, Rest::Leave).prepare(self.database.look()?.as_mut())?.counts;
        self.desk.progress.finish();
        if left.neither > 0 {
            problems.push(neither(left.neither));
        }
        if left.now == 0 {
            return self.under_new(pending, new, problems);
        }
        self.ready_to_go_on(&pending, new)?;
        self.under_old(pending, &old, new, problems, true)
    }

    /// Nothing is begun without the hooks that end it, nor before the new key is in escrow.
    fn ready_to_go_on(&self, pending: &Pending, new: &NamedKey) -> Result<()> {
        self.hooks().ready(&["stop", "start", "set_key"]).map_err(|error| error.hint(ROTATION_NEXT))?;
        self.escrow(new, &pending.origin()).map_err(|missed| missed.error.hint(ROTATION_NEXT))
    }

    /// The key that is being replaced: as the file keeps it, else as it is configured still.
    pub(super) fn old(&self, pending: &Pending) -> Result<NamedKey> {
        if let Some(record) = pending.beside() {
            let text = KeyText::new(record.key.clone());
            return NamedKey::new(text, self.host.scheme, &self.host.config.installation);
        }
        self.configured_old(pending)
    }

    /// The key that is being replaced, as it is configured, or from a copy that the identities open.
    fn old_at_hand(&self, pending: &Pending, new: &NamedKey, counts: &Counts) -> Result<NamedKey> {
        let missing = format!(
            "{} not under the new key {}, and the old key {} is not at hand",
            counted(counts.failed, "credential is", "credentials are"),
            new.fingerprint.short(),
            pending.old().short()
        );
        let opens = "With -i FILE a copy of the old key is opened: `strongroom key rotate --resume -i FILE`.";
        match self.host.key(self.desk, None) {
            Ok(old) if old.fingerprint == *pending.old() => Ok(old),
            _ if !self.request.identity.is_empty() => {
                let place = self.host.shelf(self.desk)?;
                let request = CopyRequest { key: Some(pending.old().as_str()), identity: &self.request.identity };
                copies::open_one(self.desk, &place, Some(&self.host.config), &request)
                    .map(|(copy, _)| copy.key)
                    .map_err(|error| error.context(missing).hint(AS_IT_WAS))
            }
            Ok(_) => Err(Error::wrong_key(missing).hint(opens).hint(AS_IT_WAS)),
            Err(error) => Err(error.context(missing).hint(opens).hint(AS_IT_WAS)),
        }
    }

    /// The configured key, where it opens every credential although it is neither of the two: another rotation was faster.
    pub(super) fn overtaken(&self) -> Result<Option<NamedKey>> {
        let Ok(now) = self.host.key(self.desk, None) else { return Ok(None) };
        let proved = self.try_key(&now, None)?.verdict() == Verdict::Proved;
        self.desk.progress.finish();
        Ok(proved.then_some(now))
    }

    /// The key that is being replaced, which has to be the configured one.
    pub(super) fn configured_old(&self, pending: &Pending) -> Result<NamedKey> {
        let old = self.host.key(self.desk, None)?;
        if old.fingerprint == *pending.old() {
            return Ok(old);
        }
        Err(Error::refused(format!(
            "the configured key is {}, and this rotation began with {}",
            old.fingerprint.short(),
            pending.old().short()
        ))
        .hint(format!(
            "No row is under the new key: configure the old one again. `strongroom key fetch {} -i FILE -o KEYFILE` writes it out.",
            pending.old().short()
        )))
    }

    pub(super) fn named(&self, pending: &Pending) -> Result<NamedKey> {
        let new = NamedKey::new(
            KeyText::new(pending.record().key.clone()),
            self.host.scheme,
            &self.host.config.installation,
        )?;
        if new.fingerprint == pending.record().fingerprint {
            return Ok(new);
        }
        Err(Error::damaged(format!("{} holds another key than it says", pending.path().display())))
    }
}
