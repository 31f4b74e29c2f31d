//! Places that keep sealed application keys.
//!
//! An escrow keeps three things for an application key and the sealing key it is sealed to: the *sealed record* (opaque here),
//! a readable *public record* that names it and its SHA-256, and a signature over the public record. The contract:
//! * **Created once.** A deposit never becomes one version among many, and never replaces a deposit that is complete.
//! * **The public record is written last and marks completion.** Without it there is no deposit, whatever else is there.
//! * **Write-only rights suffice** for [`Escrow::has`] and [`Escrow::deposit`]: they read public records and signatures, and look at
//!   the sealed bytes only as far as they may. Where they may, a deposit whose sealed bytes are gone or differ from its record is
//!   an error and not a deposit; where each look is a request that most hosts are denied, [`Escrow::inspect`] makes it and `has` does not.
//! * **Nobody is believed without a signature.** A path taken by a public record that no trusted signer signed is
//!   [`crate::ground::Kind::NotAuthentic`], and is neither a copy nor overwritten.
//! * Every call may be repeated. A deposit that was killed is finished by the next one; see [`Escrow::deposit`].
//!
//! Whoever administers an escrow can still delete from it. That is what several escrows, and `key.age` in bundles, are for.

mod archive;
#[cfg(test)]
mod conformance;
mod file;
mod record;
pub mod secrets_manager;
mod tree;
mod vault;

pub use archive::{ArchiveEscrow, is_an_archive};
pub use file::{FileEscrow, OpenFolder};
pub use record::{Prepared, PublicRecord, Record, from_lines, open_record, prepare, seal_record, to_lines};
pub use secrets_manager::SecretsManager;
pub use vault::{Login, Secret, Vault, VaultEscrow};

use crate::ground::names::{AppName, Fingerprint, SealingId, Sha256Hex};
use crate::ground::{Error, Kind, Result};
use crate::signer::Trusted;

/// What became of a deposit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deposit {
    /// It was stored by this call.
    Stored,
    /// A complete deposit by a trusted signer was there, and stays.
    Already,
}

/// What became of a deposit that was to be destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destroyed {
    /// There was nothing.
    Nothing,
    /// It is gone, as far as the place can say.
    Gone,
    /// It can be brought back for some time: by what, and until when, in words for a person.
    Recoverable(String),
}

/// A place that keeps sealed application keys; see the module for what it promises.
pub trait Escrow: Send + Sync {
    /// The place without secrets, for messages.
    fn describe(&self) -> String;

    /// Whether anything is left, whole or not, of a deposit that was to be destroyed; what is on its way out is not.
    fn remains(
        &self,
        app: &AppName,
        fingerprint: &Fingerprint,
        sealing: &SealingId,
        trusted: &Trusted,
    ) -> Result<bool> {
        match self.has(app, fingerprint, sealing, trusted) {
            Ok(record) => Ok(record.is_some()),
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotAuthentic) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Gets ready for a run: logs in where that is needed, and answers what a person should know of how long that will last.
    ///
    /// Nothing depends on it: every other call gets ready by itself.
    fn begin(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Whether it is there and lets us see what it keeps of an application, as far as a backup needs that.
    fn reachable(&self, app: &AppName) -> Result<()> {
        self.list(app).map(drop)
    }

    /// The signed public record of a complete deposit; `None` when there is none.
    ///
    /// [`crate::ground::Kind::NotAuthentic`] when a record is there without a trusted signature, or does not belong where it
    /// stands. Where looking costs nothing, also when the sealed bytes are not the ones it names, and
    /// [`crate::ground::Kind::Damaged`] when they are gone; [`Escrow::inspect`] looks at any cost.
    fn has(
        &self,
        app: &AppName,
        fingerprint: &Fingerprint,
        sealing: &SealingId,
        trusted: &Trusted,
    ) -> Result<Option<PublicRecord>>;

    /// The same, with a look at the sealed bytes as far as the rights allow it.
    fn inspect(
        &self,
        app: &AppName,
        fingerprint: &Fingerprint,
        sealing: &SealingId,
        trusted: &Trusted,
    ) -> Result<Option<PublicRecord>> {
        self.has(app, fingerprint, sealing, trusted)
    }

    /// Stores a sealed record with its public record and signature, unless a complete deposit is there.
    ///
    /// Written in this order: sealed bytes, signature, public record; or all of it by one call. What a killed run leaves is a sealed object, or that and a
    /// signature, which nobody vouches for: they are not ours (sealing is randomized, so they differ from `sealed`), cannot be
    /// checked without the secret key, and may have been planted. After a pause, in which another run would finish, they are
    /// replaced by ours where the rights allow it, and are [`crate::ground::Kind::NotAuthentic`] with a hint where they do not.
    /// Of two runs at once one creates the public record; it then sees to it that its own bytes lie under it, and the other
    /// puts back what it replaced.
    fn deposit(&self, sealed: &[u8], public: &PublicRecord, minisig: &[u8], trusted: &Trusted) -> Result<Deposit>;

    /// Replaces whatever is there by this deposit, at the operator's explicit wish; needs more than write-only rights.
    ///
    /// The public record goes first and comes back last, so being killed leaves an unfinished deposit and no wrong one.
    fn repair(&self, sealed: &[u8], public: &PublicRecord, minisig: &[u8], trusted: &Trusted) -> Result<()>;

    /// Removes a deposit for good, at the operator's explicit wish; needs more than write-only rights.
    ///
    /// * It asks nobody for a signature: whatever stands at this place goes, complete or not, ours or planted.
    /// * The sealed bytes go first and the public record goes last, so that one that was killed is still listed, and is finished by
    ///   the next call. A place that keeps versions of them destroys every version, or answers [`Destroyed::Recoverable`].
    /// * What is not there is no error: [`Destroyed::Nothing`]. [`crate::ground::Kind::Denied`] where the rights are missing.
    /// * Afterwards [`Escrow::has`] answers `None`, [`Escrow::list`] does not name it, [`Escrow::fetch`] is
    ///   [`crate::ground::Kind::NotFound`], and other deposits are as they were.
    fn destroy(&self, app: &AppName, fingerprint: &Fingerprint, sealing: &SealingId) -> Result<Destroyed>;

    /// The sealed bytes, not authenticated; [`crate::ground::Kind::NotFound`] when there are none.
    fn fetch(&self, app: &AppName, fingerprint: &Fingerprint, sealing: &SealingId) -> Result<Vec<u8>>;

    /// Every complete deposit of an application, sorted, not authenticated.
    fn list(&self, app: &AppName) -> Result<Vec<(Fingerprint, SealingId)>>;

    /// The sealed bytes that a trusted signer's record names; [`crate::ground::Kind::NotFound`] when there is no deposit.
    fn fetch_signed(
        &self,
        app: &AppName,
        fingerprint: &Fingerprint,
        sealing: &SealingId,
        trusted: &Trusted,
    ) -> Result<Vec<u8>> {
        let Some(public) = self.has(app, fingerprint, sealing, trusted)? else {
            return Err(Error::not_found(format!(
                "{} has no deposit of key {} sealed to {sealing}",
                self.describe(),
                fingerprint.short()
            )));
        };
        let sealed = self.fetch(app, fingerprint, sealing)?;
        if Sha256Hex::of(&sealed) != public.sha256 {
            return Err(record::replaced(&self.describe(), fingerprint));
        }
        Ok(sealed)
    }
}
