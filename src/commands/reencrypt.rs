//! Credentials from one key to another: on every core, and with the lock of the database held as shortly as may be.

use std::collections::HashMap;

use super::Desk;
use super::prove::threads;
use crate::appkey::EffectiveKey;
use crate::appkey::credential::Credential;
use crate::appkey::schemes::{Outcome, Scheme};
use crate::config::profile::Profile;
use crate::database::{Put, Snapshot};
use crate::ground::names::Sha256Hex;
use crate::ground::progress::Unit;
use crate::ground::{Error, Kind, Result, interrupt};

/// What a credential that is not under the old key is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// A reason to change nothing.
    Refuse,
    /// Somebody else's, or under the new key already: it is left as it is.
    Leave,
}

/// How many credentials came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// Put under the new key.
    pub(super) now: u64,
    /// Under the new key before.
    pub(super) already: u64,
    /// Under neither.
    pub(super) neither: u64,
}

/// One way from a key to another.
pub(super) struct Reencryption<'a> {
    pub(super) desk: &'a Desk<'a>,
    pub(super) scheme: &'static dyn Scheme,
    pub(super) profile: &'a Profile,
    pub(super) from: &'a EffectiveKey,
    pub(super) to: &'a EffectiveKey,
    pub(super) rest: Rest,
}

/// What became of one value.
#[derive(Clone)]
enum Came {
    New(Vec<u8>),
    Already,
    Neither,
}

/// New values that were made before anything was locked, by the values that they take the place of.
#[derive(Default)]
pub(super) struct Prepared {
    values: HashMap<Sha256Hex, Came>,
    going: Vec<(Sha256Hex, Sha256Hex)>,
    /// What would become of the credentials.
    pub(super) counts: Moved,
}

/// How many values that will go are named one by one.
const NAMED: usize = 64;

/// A row's name in digests: what stands in it may be anything, and of any length.
pub(super) fn row(credential: &Credential) -> Sha256Hex {
    let Credential { table, column, id, .. } = credential;
    Sha256Hex::of(format!("{table:?}.{column:?} {id:?}").as_bytes())
}

impl Prepared {
    /// Digests of some values that will go, each with its row's.
    pub(super) fn going(&self) -> &[(Sha256Hex, Sha256Hex)] {
        &self.going
    }
}

impl Moved {
    fn add(&mut self, came: &Came) {
        match came {
            Came::New(_) => self.now += 1,
            Came::Already => self.already += 1,
            Came::Neither => self.neither += 1,
        }
    }
}

impl Reencryption<'_> {
    /// Makes the new values of a moment of the database, without holding anybody up.
    pub(super) fn prepare(&self, snapshot: &mut dyn Snapshot) -> Result<Prepared> {
        let mut credentials = Vec::new();
        snapshot.credentials(self.profile, None, &mut |credential| {
            credentials.push(credential);
            Ok(())
        })?;
        let mut prepared = Prepared::default();
        self.each(credentials, &Prepared::default(), &mut |credential, came| {
            prepared.counts.add(&came);
            let value = Sha256Hex::of(&credential.ciphertext);
            if matches!(came, Came::New(_)) && prepared.going.len() < NAMED {
                prepared.going.push((value.clone(), row(&credential)));
            }
            prepared.values.insert(value, came);
            Ok(())
        })?;
        Ok(prepared)
    }

    /// Puts new values, those that were prepared and those of credentials that came or changed since.
    pub(super) fn change(&self, prepared: &Prepared, credentials: Vec<Credential>, put: Put<'_>) -> Result<Moved> {
        let mut moved = Moved::default();
        self.each(credentials, prepared, &mut |credential, came| {
            moved.add(&came);
            match came {
                Came::New(value) => put(&credential, &value),
                Came::Already | Came::Neither => Ok(()),
            }
        })?;
        Ok(moved)
    }

    fn each(
        &self,
        credentials: Vec<Credential>,
        prepared: &Prepared,
        take: &mut dyn FnMut(Credential, Came) -> Result<()>,
    ) -> Result<()> {
        self.desk.progress.stage("re-encrypt credentials", Some(credentials.len() as u64), Unit::Items);
        let (jobs, work) = crossbeam_channel::bounded::<Credential>(64);
        let (tell, done) = crossbeam_channel::bounded::<Result<(Credential, Came)>>(64);
        std::thread::scope(|scope| {
            for _ in 0..threads() {
                let (work, tell) = (work.clone(), tell.clone());
                scope.spawn(move || {
                    for credential in work {
                        let came = match prepared.values.get(&Sha256Hex::of(&credential.ciphertext)) {
                            Some(came) => Ok(came.clone()),
                            None => self.one(&credential),
                        };
                        if tell.send(came.map(|came| (credential, came))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop((work, tell));
            let plaintext = |c: &Credential| self.profile.is_plaintext(&c.table, &c.column, &c.ciphertext);
            scope.spawn(move || {
                for credential in credentials.into_iter().filter(|c| !plaintext(c)) {
                    if jobs.send(credential).is_err() {
                        return;
                    }
                }
            });
            for came in done {
                interrupt::check()?;
                let (credential, came) = came?;
                take(credential, came)?;
                self.desk.progress.advance(1);
            }
            Ok(())
        })
    }

    fn one(&self, credential: &Credential) -> Result<Came> {
        if let Some(value) = self.scheme.reencrypt(self.from, self.to, &credential.ciphertext)? {
            return Ok(Came::New(value));
        }
        let Credential { table, column, id, ciphertext } = credential;
        if self.rest == Rest::Refuse {
            return Err(Error::new(
                Kind::WrongKey,
                format!("{table}.{column} row {id} does not decrypt with the old key"),
            ));
        }
        Ok(match self.scheme.decrypt(self.to, ciphertext) {
            Outcome::Proved(_) | Outcome::Plausible(_) => Came::Already,
            Outcome::Failed => Came::Neither,
        })
    }
}
