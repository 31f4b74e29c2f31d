//! Escrows that are trees of small files: `keys/<app>/<fingerprint>/<sealing id>.age`, `.json` and `.json.minisig`.
//!
//! A [`Place`] is all that differs between them; the order of writes and what is believed stand here once.

use std::time::Duration;

use super::record::{self, Found, PUBLIC_LIMIT, SEALED_LIMIT, check};
use super::{Deposit, Destroyed, Escrow, PublicRecord};
use crate::ground::names::{AppName, Fingerprint, ObjectName, SealingId};
use crate::ground::{Error, Kind, Result, failpoint};
use crate::signer::Trusted;

/// A place with names and bytes; every write is whole and durable, or not there.
pub(super) trait Place: Send + Sync {
    fn describe(&self) -> String;
    /// [`Kind::NotFound`] when there is none; what may not be read is [`Kind::Denied`], or has that as its I/O cause.
    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>>;
    /// `false` when the name was taken.
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<bool>;
    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()>;
    /// One that is gone is no error.
    fn remove(&self, name: &ObjectName) -> Result<()>;
    /// Everything below a folder; nothing when it is missing.
    fn list(&self, folder: &ObjectName) -> Result<Vec<ObjectName>>;
    /// A courtesy to other runs on this host.
    fn hold(&self, name: &ObjectName) -> Result<Box<dyn Send>>;
    /// How long another run may take between two writes.
    fn pause(&self) -> Duration {
        Duration::from_secs(3)
    }
}

struct Names {
    sealed: ObjectName,
    json: ObjectName,
    minisig: ObjectName,
    lock: ObjectName,
}

impl Names {
    fn of(app: &AppName, fingerprint: &Fingerprint, sealing: &SealingId) -> Result<Self> {
        let stem = format!("keys/{app}/{fingerprint}/{sealing}");
        Ok(Self {
            sealed: format!("{stem}.age").parse()?,
            json: format!("{stem}.json").parse()?,
            minisig: format!("{stem}.json.minisig").parse()?,
            lock: format!("keys/{app}/.lock").parse()?,
        })
    }
}

/// Whether a right is missing, as opposed to anything else having failed.
fn is_denied(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        if next.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied) {
            return true;
        }
        cause = next.source();
    }
    error.kind() == Kind::Denied
}

fn look<P: Place + ?Sized>(place: &P, name: &ObjectName, limit: u64) -> Result<Found> {
    match place.get(name, limit) {
        Ok(bytes) => Ok(Found::Bytes(bytes)),
        Err(error) if error.kind() == Kind::NotFound => Ok(Found::Nothing(None)),
        Err(error) if is_denied(&error) => Ok(Found::MayNotLook),
        Err(error) => Err(error),
    }
}

/// Puts our bytes in the place of unvouched ones; answers with those, where they could be read.
fn take_over<P: Place + ?Sized>(place: &P, name: &ObjectName, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    let before = match look(place, name, SEALED_LIMIT) {
        Ok(Found::Bytes(before)) if before == bytes => return Ok(None),
        Ok(Found::Bytes(before)) => Some(before),
        // What is unreadable or too long was not put there by us.
        Ok(Found::Other | Found::Nothing(_) | Found::MayNotLook) | Err(_) => None,
    };
    place.replace(name, bytes).map_err(|error| {
        if !is_denied(&error) {
            return error;
        }
        Error::not_authentic(format!(
            "{name} in {} is taken, and no signed record vouches for it",
            place.describe()
        ))
        .because(error)
        .hint("A run that was killed may have left it, or somebody put it there. This account may not replace it: remove it with one that may, and run again.")
    })?;
    Ok(before)
}

/// Makes sure that our bytes lie where they were put, as far as one may look.
fn settle<P: Place + ?Sized>(place: &P, name: &ObjectName, bytes: &[u8]) -> Result<()> {
    match look(place, name, SEALED_LIMIT)? {
        Found::Bytes(there) if there == bytes => Ok(()),
        Found::MayNotLook => Ok(()),
        Found::Bytes(_) | Found::Other | Found::Nothing(_) => place.replace(name, bytes),
    }
}

impl<P: Place> Escrow for P {
    fn describe(&self) -> String {
        Place::describe(self)
    }

    fn has(
        &self,
        app: &AppName,
        fingerprint: &Fingerprint,
        sealing: &SealingId,
        trusted: &Trusted,
    ) -> Result<Option<PublicRecord>> {
        let names = Names::of(app, fingerprint, sealing)?;
        let json = match self.get(&names.json, PUBLIC_LIMIT) {
            Ok(json) => json,
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let what = format!("{} in {}", names.json, Place::describe(self));
        let minisig = self.get(&names.minisig, PUBLIC_LIMIT).map_err(|error| match error.kind() {
            Kind::NotFound => Error::not_authentic(format!("{what} has no signature"))
                .hint("Nothing of ours leaves a record without one: find out who put it there."),
            _ => error,
        })?;
        let record = PublicRecord::verify(&json, &minisig, (app, fingerprint, sealing), trusted, &what)?;
        let found = look(self, &names.sealed, SEALED_LIMIT)?;
        record::whole(record, found, &Place::describe(self), &names.sealed).map(Some)
    }

    fn deposit(&self, sealed: &[u8], public: &PublicRecord, minisig: &[u8], trusted: &Trusted) -> Result<Deposit> {
        let names = Names::of(&public.app, &public.fingerprint, &public.sealing)?;
        let complete = || self.has(&public.app, &public.fingerprint, &public.sealing, trusted);
        let _held = self.hold(&names.lock)?;
        let at = format!("{} in {}", names.json, Place::describe(self));
        record::deposit((sealed, public, minisig), trusted, &complete, &at, |json| {
            let mut before = Vec::new();
            let mut paused = false;
            for (name, bytes) in [(&names.sealed, sealed), (&names.minisig, minisig)] {
                if self.put_new(name, bytes)? {
                    continue;
                }
                if !paused {
                    // Another run may be at work and not dead.
                    std::thread::sleep(self.pause());
                    paused = true;
                    if complete()?.is_some() {
                        return Ok(false);
                    }
                }
                failpoint::pass("before an unfinished deposit is taken over");
                before.push((name, take_over(self, name, bytes)?));
            }
            if self.put_new(&names.json, &json)? {
                settle(self, &names.sealed, sealed)?;
                settle(self, &names.minisig, minisig)?;
                return Ok(true);
            }
            // Another run was not dead after all, and its record stands: what it had written goes back under it.
            for (name, bytes) in before {
                if let Some(bytes) = bytes {
                    self.replace(name, &bytes)?;
                }
            }
            Ok(false)
        })
    }

    fn repair(&self, sealed: &[u8], public: &PublicRecord, minisig: &[u8], trusted: &Trusted) -> Result<()> {
        let json = check(sealed, public, minisig, trusted)?;
        let names = Names::of(&public.app, &public.fingerprint, &public.sealing)?;
        let _held = self.hold(&names.lock)?;
        self.remove(&names.json)?;
        self.replace(&names.sealed, sealed)?;
        self.replace(&names.minisig, minisig)?;
        self.replace(&names.json, &json)
    }

    fn destroy(&self, app: &AppName, fingerprint: &Fingerprint, sealing: &SealingId) -> Result<Destroyed> {
        let names = Names::of(app, fingerprint, sealing)?;
        let _held = self.hold(&names.lock)?;
        let mut found = Destroyed::Nothing;
        for name in [&names.sealed, &names.minisig, &names.json] {
            // What is too long or may not be read is there too.
            let nothing = self.get(name, SEALED_LIMIT).is_err_and(|error| error.kind() == Kind::NotFound);
            if !nothing {
                self.remove(name)?;
                found = Destroyed::Gone;
            }
        }
        Ok(found)
    }

    fn fetch(&self, app: &AppName, fingerprint: &Fingerprint, sealing: &SealingId) -> Result<Vec<u8>> {
        self.get(&Names::of(app, fingerprint, sealing)?.sealed, SEALED_LIMIT)
    }

    fn list(&self, app: &AppName) -> Result<Vec<(Fingerprint, SealingId)>> {
        let folder: ObjectName = format!("keys/{app}").parse()?;
        let mut found: Vec<_> = Place::list(self, &folder)?
            .iter()
            .filter_map(|name| {
                let (fingerprint, file) =
                    name.as_str().strip_prefix(folder.as_str())?.strip_prefix('/')?.split_once('/')?;
                Some((fingerprint.parse().ok()?, file.strip_suffix(".json")?.parse().ok()?))
            })
            .collect();
        found.sort();
        Ok(found)
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
