//! `restore --rekey`: the restored credentials are put under the key that the application will be started with, before the swap.
//!
//! The key that they are under comes from the signed bundle, or from an escrow where a trusted signer vouches for it, and is the one
//! that its fingerprint names; it proved every credential of the bundle before anything is built.

use serde::Serialize;

use super::Request;
use super::prove::Proved;
use crate::appkey::proof::{ProverOptions, Verdict, prove_with};
use crate::appkey::schemes::Scheme;
use crate::bundle::Header;
use crate::commands::Desk;
use crate::commands::host::{Host, NamedKey};
use crate::commands::reencrypt::{Prepared, Reencryption, Rest};
use crate::config::profile::Profile;
use crate::database::Replacement;
use crate::ground::names::Fingerprint;
use crate::ground::words::counted;
use crate::ground::{Error, Result};

/// The keys of a restore that re-encrypts; part of its plan.
#[derive(Serialize)]
pub struct Rekey {
    /// The key that the bundle's credentials are under.
    pub from: Fingerprint,
    /// The key that the application will be started with.
    pub to: Fingerprint,
    /// How many credentials there are.
    pub credentials: u64,
}

impl Rekey {
    pub(super) fn sentence(&self) -> String {
        format!(
            "re-encrypt {} from key {} to key {}, which the application will be started with, before the swap",
            counted(self.credentials, "credential", "credentials"),
            self.from.short(),
            self.to.short()
        )
    }
}

/// Refuses where there is nothing that could be re-encrypted.
pub(super) fn sensible(request: &Request, header: &Header) -> Result<()> {
    if !request.rekey {
        return Ok(());
    }
    if request.target.is_some() {
        return Err(Error::usage("--target writes the database as it is in the bundle, under the bundle's own key")
            .hint("Restore into a database that nothing uses yet: --rekey --only database --database URL.")
            .hint("`strongroom key fetch` gives you the key that the files need."));
    }
    if request.in_place {
        return Err(Error::refused("--in-place commits the database as it is in the bundle, and nothing can be re-encrypted before that")
            .hint("Restore it with --key REF and the bundle's own key (`strongroom key fetch` gives it to you), then `strongroom key rotate`."));
    }
    if !request.database || header.database.is_none() {
        return Err(Error::usage("--rekey re-encrypts a database, and none is restored")
            .hint("Leave --rekey out, or choose a bundle that `strongroom list --json` shows with a database."));
    }
    Ok(())
}

/// The way from the bundle's key to the configured one.
pub(super) struct Rekeying<'a> {
    scheme: &'static dyn Scheme,
    profile: &'a Profile,
    from: &'a NamedKey,
    to: &'a NamedKey,
    credentials: u64,
}

impl<'a> Rekeying<'a> {
    /// `None` when the bundle's credentials are under the key already.
    pub(super) fn new(host: &Host, proved: &'a Proved, to: &'a NamedKey) -> Result<Option<Self>> {
        let Some(from) = &proved.candidate else {
            return Err(Error::refused("the bundle's own key is not known, so nothing can be put under another one")
                .hint("`strongroom verify -i FILE --key REF` tries a key that you have on the bundle."));
        };
        if host.scheme.name() != proved.scheme.name() {
            return Err(Error::refused(format!(
                "the bundle's credentials are encrypted as {} does it, and this application is configured as {}",
                proved.scheme.name(),
                host.scheme.name()
            )));
        }
        if from.effective.same_as(&to.effective) {
            return Ok(None);
        }
        proved.profile.writable()?;
        let credentials = proved.counts.proved + proved.counts.plausible;
        Ok(Some(Self { scheme: proved.scheme, profile: &proved.profile, from, to, credentials }))
    }

    pub(super) fn planned(&self) -> Rekey {
        Rekey { from: self.from.fingerprint.clone(), to: self.to.fingerprint.clone(), credentials: self.credentials }
    }

    /// Re-encrypts the database beside the live one, and proves it anew.
    pub(super) fn run(&self, desk: &Desk<'_>, replacement: &mut dyn Replacement) -> Result<()> {
        let Self { scheme, profile, .. } = *self;
        let way = Reencryption {
            desk,
            scheme,
            profile,
            from: &self.from.effective,
            to: &self.to.effective,
            rest: Rest::Refuse,
        };
        replacement
            .rewrite(profile, &mut |credentials, put| way.change(&Prepared::default(), credentials, put).map(drop))?;
        let options = ProverOptions::new(scheme, &self.to.effective, profile, desk.progress.as_ref());
        let mut snapshot = replacement.snapshot()?;
        let (proved, _) =
            prove_with(&options, |sink| snapshot.credentials(profile, None, &mut |credential| sink(credential)))?;
        let counts = proved.total;
        let sound = matches!(proved.verdict(), Verdict::Proved | Verdict::Plausible);
        if sound && counts.proved + counts.plausible == self.credentials {
            return Ok(());
        }
        Err(Error::damaged(format!(
            "{} of {} re-encrypted credentials decrypt with key {}",
            counts.proved + counts.plausible,
            self.credentials,
            self.to.fingerprint.short()
        )))
    }
}
