//! HashiCorp Vault and OpenBao: sealed keys as secrets of a KV v2 mount, and `vault:` references.
//!
//! The sealed record is the field `sealed` (base64) of `<prefix>/sealed/<app>/<fingerprint>/<sealing id>`; the public record and its
//! signature are the fields `record` and `minisig` of the same path below `<prefix>/public/`: one write, one read. Both are created
//! with `cas = 0`, which KV v1 does not know.

mod kv;
mod secret;
mod session;
mod wire;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use self::kv::Read;
use self::secret::Field;
pub use self::session::{Login, Secret, Vault};
use super::record::{self, Found, PUBLIC_LIMIT, SEALED_LIMIT};
use super::{Deposit, Destroyed, Escrow, PublicRecord};
use crate::ground::names::{AppName, Fingerprint, SealingId};
use crate::ground::{Error, Kind, Result, failpoint};
use crate::signer::Trusted;

/// How long another run may take between its two writes.
const PAUSE: Duration = Duration::from_secs(3);

/// Keeps sealed keys in a KV v2 mount.
pub struct VaultEscrow {
    vault: Arc<Vault>,
    mount: String,
    prefix: String,
    is_v2: OnceLock<()>,
}

/// The two secrets of a deposit.
struct Paths {
    sealed: String,
    public: String,
}

impl VaultEscrow {
    /// The escrow below a folder of a KV v2 mount.
    pub fn new(vault: Arc<Vault>, mount: &str, prefix: &str) -> Self {
        Self { vault, mount: mount.to_owned(), prefix: prefix.to_owned(), is_v2: OnceLock::new() }
    }

    fn paths(&self, app: &AppName, fingerprint: &Fingerprint, sealing: &SealingId) -> Paths {
        let of = |kind: &str| format!("{}/{kind}/{app}/{fingerprint}/{sealing}", self.prefix);
        Paths { sealed: of("sealed"), public: of("public") }
    }

    fn shown(&self, path: &str) -> String {
        format!("{}/{path} in {}", self.mount, self.vault.describe())
    }

    /// Refuses a mount that would take a write and keep no promise of it.
    fn must_be_v2(&self) -> Result<()> {
        if self.is_v2.get().is_some() {
            return Ok(());
        }
        let found = self.vault.mount_of(&self.mount)?;
        if found.path != self.mount {
            return Err(Error::usage(format!(
                "{} has no mount {}: {} is below the mount {}",
                self.vault.describe(),
                self.mount,
                self.mount,
                found.path
            ))
            .hint("Name the mount as mount = \"…\", and the rest as prefix = \"…\"."));
        }
        if found.version != 2 {
            return Err(Error::usage(format!(
                "the mount {} of {} is KV version 1, where a later write replaces an earlier one without a trace",
                self.mount,
                self.vault.describe()
            ))
            .hint("Use a mount of version 2 (`vault secrets enable -path=NAME -version=2 kv`), or `vault kv enable-versioning`."));
        }
        let () = *self.is_v2.get_or_init(|| ());
        Ok(())
    }

    /// The public record and its signature, as they are written.
    fn public(&self, path: &str) -> Result<Option<(Zeroizing<String>, Zeroizing<String>)>> {
        let what = self.shown(path);
        let mut fields = match self.vault.read(&self.mount, path)? {
            Read::Fields(fields) => fields,
            Read::Nothing => {
                self.must_be_v2()?;
                return Ok(None);
            }
            Read::Deleted => {
                return Err(Error::damaged(format!("{what} was deleted")).hint(
                    "`vault kv undelete` brings it back; `strongroom key escrow --repair` stores the key anew.",
                ));
            }
        };
        let mut text = |name: &str| match fields.remove(name) {
            Some(Field::Text(text)) if text.len() as u64 <= PUBLIC_LIMIT => Some(text),
            _ => None,
        };
        match (text("record"), text("minisig")) {
            (Some(record), Some(minisig)) => Ok(Some((record, minisig))),
            (Some(_), None) => Err(Error::not_authentic(format!("{what} has no signature"))
                .hint("Nothing of ours leaves a record without one: find out who put it there.")),
            (None, _) => Err(Error::not_authentic(format!("{what} is taken by something that is no escrow record"))
                .hint("Find out who put it there; `strongroom key escrow --repair` replaces it, with an account that may.")),
        }
    }

    fn sealed(&self, path: &str) -> Result<Found> {
        let mut fields = match self.vault.read(&self.mount, path) {
            Ok(Read::Fields(fields)) => fields,
            Ok(Read::Nothing) => return Ok(Found::Nothing(None)),
            Ok(Read::Deleted) => return Ok(Found::Nothing(Some(kv::UNDELETE))),
            // An auditor reads no sealed key, and its history.
            Err(error) if error.kind() == Kind::Denied => return self.vault.history(&self.mount, path),
            Err(error) => return Err(error),
        };
        let bytes = match fields.remove("sealed") {
            Some(Field::Text(text)) => STANDARD.decode(text.as_bytes()).ok(),
            _ => None,
        };
        Ok(bytes.filter(|bytes| bytes.len() as u64 <= SEALED_LIMIT).map_or(Found::Other, Found::Bytes))
    }

    fn taken(&self, path: &str) -> Error {
        Error::not_authentic(format!("{} is taken, and no signed record vouches for it", self.shown(path)))
            .hint("A run that was killed may have left it, or somebody put it there. This account may not replace it: remove it with one that may (`vault kv metadata delete`), and run again.")
    }

    /// Puts our bytes in the place of unvouched ones; answers with those, where they could be read.
    fn take_over(&self, path: &str, sealed: &[u8]) -> Result<Option<Vec<u8>>> {
        let before = match self.sealed(path)? {
            Found::Bytes(there) if there == sealed => return Ok(None),
            Found::Bytes(there) => Some(there),
            Found::Nothing(_) | Found::Other | Found::MayNotLook => None,
        };
        failpoint::pass("before an unfinished deposit is taken over");
        self.overwrite_sealed(path, sealed).map_err(|error| match error.kind() {
            Kind::Denied => self.taken(path).because(error.chain()),
            _ => error,
        })?;
        Ok(before)
    }

    fn overwrite_sealed(&self, path: &str, sealed: &[u8]) -> Result<()> {
        self.vault.overwrite(&self.mount, path, &[("sealed", &STANDARD.encode(sealed))])
    }
}

impl Escrow for VaultEscrow {
    fn describe(&self) -> String {
        format!("{} ({}/{})", self.vault.describe(), self.mount, self.prefix)
    }

    fn begin(&self) -> Result<Option<String>> {
        self.vault.begin()
    }

    fn reachable(&self, app: &AppName) -> Result<()> {
        // Most hosts may not list. A name that no deposit has is read in the way that deposits are.
        self.must_be_v2()?;
        self.vault.read(&self.mount, &format!("{}/public/{app}/reachable", self.prefix)).map(drop)
    }

    fn has(
        &self,
        app: &AppName,
        fingerprint: &Fingerprint,
        sealing: &SealingId,
        trusted: &Trusted,
    ) -> Result<Option<PublicRecord>> {
        let paths = self.paths(app, fingerprint, sealing);
        let Some((record, minisig)) = self.public(&paths.public)? else { return Ok(None) };
        let what = self.shown(&paths.public);
        let stand = (app, fingerprint, sealing);
        PublicRecord::verify(record.as_bytes(), minisig.as_bytes(), stand, trusted, &what).map(Some)
    }

    fn inspect(
        &self,
        app: &AppName,
        fingerprint: &Fingerprint,
        sealing: &SealingId,
        trusted: &Trusted,
    ) -> Result<Option<PublicRecord>> {
        let Some(record) = self.has(app, fingerprint, sealing, trusted)? else { return Ok(None) };
        let path = self.paths(app, fingerprint, sealing).sealed;
        let at = format!("{}/{path}", self.mount);
        record::whole(record, self.sealed(&path)?, &self.vault.describe(), &at).map(Some)
    }

    fn deposit(&self, sealed: &[u8], public: &PublicRecord, minisig: &[u8], trusted: &Trusted) -> Result<Deposit> {
        let paths = self.paths(&public.app, &public.fingerprint, &public.sealing);
        let complete = || self.inspect(&public.app, &public.fingerprint, &public.sealing, trusted);
        record::deposit((sealed, public, minisig), trusted, &complete, &self.shown(&paths.public), |json| {
            let (json, minisig) = (text(&json)?, text(minisig)?);
            self.must_be_v2()?;
            let mut before = None;
            failpoint::pass("before a sealed key goes to a Vault");
            if !self.vault.create(&self.mount, &paths.sealed, &[("sealed", &STANDARD.encode(sealed))])? {
                // Another run may be at work and not dead.
                std::thread::sleep(PAUSE);
                if complete()?.is_some() {
                    return Ok(false);
                }
                before = self.take_over(&paths.sealed, sealed)?;
            }
            failpoint::pass("before the record of a sealed key goes to a Vault");
            if self.vault.create(&self.mount, &paths.public, &[("record", &json), ("minisig", &minisig)])? {
                failpoint::pass("after the record of a sealed key went to a Vault");
                match self.sealed(&paths.sealed)? {
                    Found::Bytes(there) if there == sealed => {}
                    Found::MayNotLook => {}
                    _ => self.overwrite_sealed(&paths.sealed, sealed)?,
                }
                return Ok(true);
            }
            // Another run was not dead after all, and its record stands: what it had written goes back under it.
            if let Some(bytes) = before {
                self.overwrite_sealed(&paths.sealed, &bytes)?;
            }
            Ok(false)
        })
    }

    fn repair(&self, sealed: &[u8], public: &PublicRecord, minisig: &[u8], trusted: &Trusted) -> Result<()> {
        let (json, minisig) = (text(&record::check(sealed, public, minisig, trusted)?)?, text(minisig)?);
        self.must_be_v2()?;
        let paths = self.paths(&public.app, &public.fingerprint, &public.sealing);
        failpoint::pass("before a deposit in a Vault is replaced");
        self.vault.delete(&self.mount, &paths.public)?;
        failpoint::pass("after the record of a deposit in a Vault was taken off");
        self.overwrite_sealed(&paths.sealed, sealed)?;
        failpoint::pass("before the record of a replaced deposit comes back");
        self.vault.overwrite(&self.mount, &paths.public, &[("record", &json), ("minisig", &minisig)])?;
        failpoint::pass("after the record of a deposit in a Vault came back");
        Ok(())
    }

    fn destroy(&self, app: &AppName, fingerprint: &Fingerprint, sealing: &SealingId) -> Result<Destroyed> {
        self.must_be_v2()?;
        let paths = self.paths(app, fingerprint, sealing);
        failpoint::pass("before a deposit in a Vault is destroyed");
        let sealed = self.vault.destroy(&self.mount, &paths.sealed)?;
        failpoint::pass("before the record of a destroyed deposit goes");
        let public = self.vault.destroy(&self.mount, &paths.public)?;
        failpoint::pass("after a deposit in a Vault was destroyed");
        Ok(if sealed || public { Destroyed::Gone } else { Destroyed::Nothing })
    }

    fn fetch(&self, app: &AppName, fingerprint: &Fingerprint, sealing: &SealingId) -> Result<Vec<u8>> {
        let path = self.paths(app, fingerprint, sealing).sealed;
        let what = self.shown(&path);
        let fields = match self.vault.read(&self.mount, &path)? {
            Read::Fields(fields) => fields,
            Read::Nothing => return Err(Error::not_found(format!("there is no {what}"))),
            Read::Deleted => {
                return Err(
                    Error::not_found(format!("{what} was deleted")).hint("`vault kv undelete` may bring it back.")
                );
            }
        };
        let text = fields.get("sealed").and_then(Field::text);
        text.and_then(|text| STANDARD.decode(text).ok())
            .filter(|bytes| bytes.len() as u64 <= SEALED_LIMIT)
            .ok_or_else(|| Error::damaged(format!("{what} holds no sealed key in its field `sealed`")))
    }

    fn list(&self, app: &AppName) -> Result<Vec<(Fingerprint, SealingId)>> {
        let folder = format!("{}/public/{app}", self.prefix);
        let mut found = Vec::new();
        let fingerprints = self.vault.list(&self.mount, &folder)?;
        if fingerprints.is_empty() {
            self.must_be_v2()?;
        }
        for name in fingerprints {
            let Some(fingerprint) = name.strip_suffix('/').and_then(|name| name.parse::<Fingerprint>().ok()) else {
                continue;
            };
            let sealings = self.vault.list(&self.mount, &format!("{folder}/{fingerprint}"))?;
            found.extend(sealings.iter().filter_map(|name| Some((fingerprint.clone(), name.parse().ok()?))));
        }
        found.sort();
        Ok(found)
    }
}

/// A public record or a signature as a field.
fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::failed("an escrow record that is no text cannot be stored"))
}

#[cfg(test)]
mod tests;
