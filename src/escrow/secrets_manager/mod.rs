//! AWS Secrets Manager as an escrow: one secret a deposit, its record and signature in the secret's tags.
//!
//! Secret and tags are created by one call, so there is never half a deposit, and the id of the secret's version is the
//! SHA-256 of the sealed bytes, so whoever reads tags sees whether these bytes are still the current ones without the right to read them.

mod access;
mod fault;
mod secret;
mod tags;

use std::sync::Arc;

use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;
use aws_sdk_secretsmanager::primitives::{Blob, DateTime};
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType, Tag};

pub use access::{Access, Service};
use fault::{Call, Fault};
pub use secret::read as read_secret;

use super::record::{self, Found, check, replaced};
use super::{Deposit, Destroyed, Escrow, PublicRecord};
use crate::ground::names::{AppName, Fingerprint, SealingId};
use crate::ground::{Error, Kind, Result, clock, failpoint, interrupt, runtime};
use crate::signer::Trusted;

/// The version of a secret that is read.
const CURRENT: &str = "AWSCURRENT";
/// The most pages of a listing that are asked for, each of 100 secrets: one without an end is no listing.
const PAGES: usize = 500;

/// Keeps sealed keys as `<prefix>/<app>/<fingerprint>/<sealing id>`.
pub struct SecretsManager {
    service: Arc<Service>,
    prefix: String,
    kms_key: Option<String>,
    window: Option<u8>,
}

impl SecretsManager {
    /// The escrow below a prefix; secrets that are created get the KMS key, and destroyed ones the days of the window.
    pub fn new(service: Arc<Service>, prefix: &str, kms_key: Option<String>, window: Option<u8>) -> Self {
        Self { service, prefix: prefix.to_owned(), kms_key, window }
    }

    fn access(&self) -> &Access {
        self.service.access()
    }

    fn name(&self, app: &AppName, fingerprint: &Fingerprint, sealing: &SealingId) -> String {
        format!("{}/{app}/{fingerprint}/{sealing}", self.prefix)
    }

    fn call<'a>(&'a self, action: &'static str, secret: &'a str) -> Call<'a> {
        Call { access: self.access(), action, secret }
    }

    /// The description of a secret; one that is scheduled for deletion is an error.
    fn look(&self, name: &str) -> Result<Option<DescribeSecretOutput>> {
        match self.look_anyhow(name)? {
            Some(found) if found.deleted_date().is_some() => {
                Err(self.call("DescribeSecret", name).error(Fault::Deleted))
            }
            found => Ok(found),
        }
    }

    fn look_anyhow(&self, name: &str) -> Result<Option<DescribeSecretOutput>> {
        let call = self.call("DescribeSecret", name);
        let client = self.service.client()?;
        runtime::wait(async {
            match client.describe_secret().secret_id(name).send().await {
                Ok(found) => Ok(Some(found)),
                Err(error) => match call.fault(&error) {
                    Fault::Missing => Ok(None),
                    fault => Err(call.error(fault)),
                },
            }
        })
    }

    /// `false` when the name was taken.
    fn create(&self, name: &str, sealed: &[u8], public: &PublicRecord, tags: Vec<Tag>) -> Result<bool> {
        let call = self.call("CreateSecret", name);
        let request = self
            .service
            .client()?
            .create_secret()
            .name(name)
            .client_request_token(public.sha256.as_str())
            .secret_binary(Blob::new(sealed))
            .set_kms_key_id(self.kms_key.clone())
            .set_tags(Some(tags));
        failpoint::pass("before a secret is created");
        let created = runtime::wait(async {
            match request.send().await {
                Ok(_) => Ok(true),
                Err(error) => match call.fault(&error) {
                    Fault::Taken => Ok(false),
                    fault => Err(call.error(fault)),
                },
            }
        });
        failpoint::pass("after a secret is created");
        created
    }
}

/// What was deleted with a recovery window, which ends at a time that AWS tells.
fn recoverable(name: &str, until: Option<&DateTime>) -> Destroyed {
    let until = until
        .and_then(|until| jiff::Timestamp::from_second(until.secs()).ok())
        .map_or_else(String::new, |until| format!(" until {}", clock::rfc3339(until)));
    Destroyed::Recoverable(format!("`aws secretsmanager restore-secret --secret-id {name}` brings it back{until}"))
}

impl Escrow for SecretsManager {
    fn describe(&self) -> String {
        format!("{} below {}/", self.access(), self.prefix)
    }

    /// Asks for a secret that is not there: who may see records is told so, and listing is more than a backup may.
    fn reachable(&self, app: &AppName) -> Result<()> {
        self.look(&format!("{}/{app}/reachable", self.prefix)).map(drop)
    }

    fn has(
        &self,
        app: &AppName,
        fingerprint: &Fingerprint,
        sealing: &SealingId,
        trusted: &Trusted,
    ) -> Result<Option<PublicRecord>> {
        let name = self.name(app, fingerprint, sealing);
        let Some(found) = self.look(&name)? else { return Ok(None) };
        let what = format!("the secret {name} in {}", self.access());
        let Some((record, minisig)) = tags::read(found.tags()) else {
            return Err(Error::not_authentic(format!("{what} has no signed record in its tags")).hint(
                "Nothing of ours leaves a secret without one: find out who put it there, or who changed its tags. `strongroom key escrow --repair` replaces it.",
            ));
        };
        let record = PublicRecord::verify(&record, &minisig, (app, fingerprint, sealing), trusted, &what)?;
        let versions = found.version_ids_to_stages();
        let current = versions.into_iter().flatten().find(|(_, stages)| stages.iter().any(|s| s == CURRENT));
        match current {
            Some((version, _)) if version == record.sha256.as_str() => Ok(Some(record)),
            Some(_) => Err(replaced(&self.describe(), fingerprint)),
            None => Err(Error::damaged(format!("{what} has no current version, and its record is still there"))
                .hint("`strongroom key escrow --repair` stores the key anew.")),
        }
    }

    fn inspect(
        &self,
        app: &AppName,
        fingerprint: &Fingerprint,
        sealing: &SealingId,
        trusted: &Trusted,
    ) -> Result<Option<PublicRecord>> {
        let Some(record) = self.has(app, fingerprint, sealing, trusted)? else { return Ok(None) };
        let found = match self.fetch(app, fingerprint, sealing) {
            Ok(sealed) => Found::Bytes(sealed),
            Err(error) if error.kind() == Kind::Denied => Found::MayNotLook,
            Err(error) => return Err(error),
        };
        let name = self.name(app, fingerprint, sealing);
        record::whole(record, found, &self.describe(), &name).map(Some)
    }

    fn deposit(&self, sealed: &[u8], public: &PublicRecord, minisig: &[u8], trusted: &Trusted) -> Result<Deposit> {
        let complete = || self.has(&public.app, &public.fingerprint, &public.sealing, trusted);
        let name = self.name(&public.app, &public.fingerprint, &public.sealing);
        let at = format!("the secret {name} in {}", self.access());
        record::deposit((sealed, public, minisig), trusted, &complete, &at, |json| {
            self.create(&name, sealed, public, tags::write(&json, minisig)?)
        })
    }

    fn repair(&self, sealed: &[u8], public: &PublicRecord, minisig: &[u8], trusted: &Trusted) -> Result<()> {
        let json = check(sealed, public, minisig, trusted)?;
        let tags = tags::write(&json, minisig)?;
        let name = self.name(&public.app, &public.fingerprint, &public.sealing);
        if self.look(&name)?.is_none() {
            if self.create(&name, sealed, public, tags)? {
                return Ok(());
            }
            return Err(self
                .call("CreateSecret", &name)
                .error(Fault::Taken)
                .hint("Another run created it: run this again."));
        }
        let client = self.service.client()?;
        let call = self.call("UntagResource", &name);
        let keys = Some(tags::names().map(str::to_owned).collect());
        failpoint::pass("before a secret's record is taken off");
        runtime::wait(async {
            let sent = client.untag_resource().secret_id(&name).set_tag_keys(keys).send().await;
            sent.map_err(|e| call.error(call.fault(&e)))
        })?;
        failpoint::pass("before a secret's bytes are replaced");
        let call = self.call("PutSecretValue", &name);
        runtime::wait(async {
            let token = public.sha256.as_str();
            let put = client.put_secret_value().secret_id(&name).client_request_token(token);
            let sent = put.secret_binary(Blob::new(sealed)).send().await;
            sent.map_err(|e| call.error(call.fault(&e)))
        })?;
        failpoint::pass("before a secret's record comes back");
        let call = self.call("TagResource", &name);
        runtime::wait(async {
            let sent = client.tag_resource().secret_id(&name).set_tags(Some(tags)).send().await;
            sent.map_err(|e| call.error(call.fault(&e)))
        })?;
        failpoint::pass("after a secret's record came back");
        Ok(())
    }

    fn remains(&self, app: &AppName, fingerprint: &Fingerprint, sealing: &SealingId, _: &Trusted) -> Result<bool> {
        let found = self.look_anyhow(&self.name(app, fingerprint, sealing))?;
        Ok(found.is_some_and(|found| self.window.is_none() || found.deleted_date().is_none()))
    }

    /// Gone at once, unless a recovery window is configured.
    fn destroy(&self, app: &AppName, fingerprint: &Fingerprint, sealing: &SealingId) -> Result<Destroyed> {
        let name = self.name(app, fingerprint, sealing);
        let Some(found) = self.look_anyhow(&name)? else { return Ok(Destroyed::Nothing) };
        if let Some(until) = found.deleted_date().filter(|_| self.window.is_some()) {
            return Ok(recoverable(&name, Some(until)));
        }
        let call = self.call("DeleteSecret", &name);
        let client = self.service.client()?;
        failpoint::pass("before a secret is destroyed");
        let deleted = runtime::wait(async {
            let request = client.delete_secret().secret_id(&name);
            let sent = match self.window {
                Some(days) => request.recovery_window_in_days(days.into()).send().await,
                None => request.force_delete_without_recovery(true).send().await,
            };
            sent.map_err(|e| call.error(call.fault(&e)))
        })?;
        failpoint::pass("after a secret is destroyed");
        Ok(if self.window.is_some() { recoverable(&name, deleted.deletion_date()) } else { Destroyed::Gone })
    }

    fn fetch(&self, app: &AppName, fingerprint: &Fingerprint, sealing: &SealingId) -> Result<Vec<u8>> {
        let name = self.name(app, fingerprint, sealing);
        let call = self.call("GetSecretValue", &name);
        let client = self.service.client()?;
        let answer = runtime::wait(async {
            let sent = client.get_secret_value().secret_id(&name).version_stage(CURRENT).send().await;
            sent.map_err(|e| call.error(call.fault(&e)))
        })?;
        let bytes = answer.secret_binary.map(Blob::into_inner);
        bytes.ok_or_else(|| {
            Error::damaged(format!("the secret {name} in {} holds a text and no sealed bytes", self.access()))
        })
    }

    fn list(&self, app: &AppName) -> Result<Vec<(Fingerprint, SealingId)>> {
        let below = format!("{}/{app}/", self.prefix);
        let call = self.call("ListSecrets", &below);
        let client = self.service.client()?;
        let named = Filter::builder().key(FilterNameStringType::Name).values(&below).build();
        // What is scheduled for deletion can still be brought back, and whoever looks for it should be told.
        let pages = client.list_secrets().filters(named).include_planned_deletion(true).max_results(100);
        let mut pages = pages.into_paginator().send();
        let mut found = Vec::new();
        runtime::wait(async {
            for _ in 0..PAGES {
                interrupt::check()?;
                let Some(page) = pages.next().await else { return Ok(()) };
                let page = page.map_err(|e| call.error(call.fault(&e)))?;
                for entry in page.secret_list().iter().filter(|entry| tags::read(entry.tags()).is_some()) {
                    let stem = entry.name().and_then(|name| name.strip_prefix(&below)?.split_once('/'));
                    if let Some((fingerprint, sealing)) = stem
                        && let (Ok(fingerprint), Ok(sealing)) = (fingerprint.parse(), sealing.parse())
                    {
                        found.push((fingerprint, sealing));
                    }
                }
            }
            Err(call.strange(&format!("goes on for more than {PAGES} pages")))
        })?;
        found.sort();
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
