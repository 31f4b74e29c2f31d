//! Secrets in a key/value mount: create-only writes, reads that tell a deleted secret from none, lists.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::secret::{Field, Fields};
use super::session::{Vault, body};
use super::wire::{Answer, Call};
use crate::escrow::record::Found;
use crate::ground::{Error, Result, clock};

/// What a read came to.
pub(super) enum Read {
    Fields(Fields),
    Nothing,
    /// The newest version was deleted, and its number is still taken.
    Deleted,
}

/// A mount, as the server describes it to anybody who may do something in it.
pub(super) struct Mount {
    pub(super) path: String,
    pub(super) version: u8,
}

#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

#[derive(Deserialize)]
struct Versioned {
    data: Option<Fields>,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

#[derive(Deserialize)]
struct Described {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    options: Option<Options>,
}

#[derive(Deserialize)]
struct Options {
    version: Option<String>,
}

/// The history of a secret: <https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#read-secret-metadata>.
#[derive(Deserialize)]
struct History {
    current_version: u64,
    versions: BTreeMap<String, Version>,
}

#[derive(Deserialize)]
struct Version {
    /// When it was deleted, or will be by itself; empty where neither is so.
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

/// What brings a deleted secret back.
pub(super) const UNDELETE: &str = "`vault kv undelete` may bring it back";

impl Vault {
    /// The mount that a path lies in; [`crate::ground::Kind::Denied`] where there is none that we may use.
    pub(super) fn mount_of(&self, path: &str) -> Result<Mount> {
        let asked = format!("sys/internal/ui/mounts/{path}");
        let answer = self.get(&asked)?;
        if answer.status != 200 {
            return Err(Error::denied(format!(
                "{} has no mount at {path}, or lets us do nothing there",
                self.describe()
            ))
            .hint("Check mount and prefix, and the policy of our token: `strongroom policy print vault ROLE`."));
        }
        let Data { data: Described { path, kind, options } } = answer.read()?;
        let path = path.trim_end_matches('/').to_owned();
        if kind != "kv" && kind != "generic" {
            return Err(Error::usage(format!("the mount {path} of {} is of type {kind}, and no KV", self.describe()))
                .hint("Name a KV mount of version 2."));
        }
        let version = options.and_then(|o| o.version).map_or(1, |v| if v == "2" { 2 } else { 1 });
        Ok(Mount { path, version })
    }

    /// The fields of a secret of a KV v2 mount.
    pub(super) fn read(&self, mount: &str, path: &str) -> Result<Read> {
        let at = format!("{mount}/data/{path}");
        let answer = self.get(&at)?;
        match answer.status {
            200 => {
                let Data { data: Versioned { data } } = answer.read()?;
                Ok(data.map_or(Read::Deleted, Read::Fields))
            }
            404 => {
                self.route_exists(&answer, mount)?;
                let deleted = answer.read::<Data<Versioned>>().is_ok();
                Ok(if deleted { Read::Deleted } else { Read::Nothing })
            }
            _ => Err(self.unexpected(&answer, "read", &at)),
        }
    }

    /// The fields of a secret of a KV v1 mount.
    pub(super) fn read_v1(&self, mount: &str, path: &str) -> Result<Read> {
        let at = format!("{mount}/{path}");
        let answer = self.get(&at)?;
        match answer.status {
            200 => Ok(Read::Fields(answer.read::<Data<Fields>>()?.data)),
            404 => Ok(Read::Nothing),
            _ => Err(self.unexpected(&answer, "read", &at)),
        }
    }

    /// Creates a secret; `false` when the path is taken, by a deleted one too.
    pub(super) fn create(&self, mount: &str, path: &str, fields: &[(&str, &str)]) -> Result<bool> {
        let at = format!("{mount}/data/{path}");
        let answer = self.write(&at, r#"{"options":{"cas":0},"data":"#, fields)?;
        match answer.status {
            200 | 204 => Ok(true),
            400 if answer.complains_of("check-and-set") => Ok(false),
            // Who may create and not update is denied where something is, before anybody looks at its version.
            403 if self.may(&at, "create") => Ok(false),
            _ => Err(self.unexpected(&answer, "create", &at)),
        }
    }

    /// Writes a secret over whatever is there.
    pub(super) fn overwrite(&self, mount: &str, path: &str, fields: &[(&str, &str)]) -> Result<()> {
        let at = format!("{mount}/data/{path}");
        let answer = self.write(&at, r#"{"data":"#, fields)?;
        match answer.status {
            200 | 204 => Ok(()),
            _ => Err(self.unexpected(&answer, "update", &at)),
        }
    }

    /// Deletes the newest version of a secret.
    pub(super) fn delete(&self, mount: &str, path: &str) -> Result<()> {
        let at = format!("{mount}/data/{path}");
        let answer = self.ask(Call { method: "DELETE", path: &at, body: None })?;
        match answer.status {
            200 | 204 | 404 => Ok(()),
            _ => Err(self.unexpected(&answer, "delete", &at)),
        }
    }

    /// Destroys every version of a secret and frees its name; `false` when there was none.
    pub(super) fn destroy(&self, mount: &str, path: &str) -> Result<bool> {
        let at = format!("{mount}/metadata/{path}");
        let seen = self.get(&at)?;
        if seen.status == 404 {
            return self.route_exists(&seen, mount).map(|()| false);
        }
        // What may not be looked at may still be destroyed.
        let answer = self.ask(Call { method: "DELETE", path: &at, body: None })?;
        match answer.status {
            200 | 204 => Ok(true),
            _ => Err(self.unexpected(&answer, "delete", &at)),
        }
    }

    /// What the history of a secret tells of it, for who may not read the secret itself.
    pub(super) fn history(&self, mount: &str, path: &str) -> Result<Found> {
        let at = format!("{mount}/metadata/{path}");
        let answer = self.get(&at)?;
        match answer.status {
            200 => {}
            404 => return self.route_exists(&answer, mount).map(|()| Found::Nothing(None)),
            403 => return Ok(Found::MayNotLook),
            _ => return Err(self.unexpected(&answer, "read", &at)),
        }
        let History { current_version, versions } = answer.read::<Data<_>>()?.data;
        let over = |time: &str| !time.is_empty() && time.parse::<Timestamp>().map_or(true, |time| time <= clock::now());
        Ok(match versions.get(&current_version.to_string()) {
            Some(version) if version.destroyed => Found::Nothing(None),
            Some(version) if over(&version.deletion_time) => Found::Nothing(Some(UNDELETE)),
            _ => Found::MayNotLook,
        })
    }

    /// The names in a folder, folders with a slash at their end; none when there is no such folder.
    pub(super) fn list(&self, mount: &str, folder: &str) -> Result<Vec<String>> {
        let at = format!("{mount}/metadata/{folder}");
        let answer = self.get(&format!("{at}/?list=true"))?;
        match answer.status {
            200 => Ok(answer.read::<Data<Keys>>()?.data.keys),
            404 => self.route_exists(&answer, mount).map(|()| Vec::new()),
            _ => Err(self.unexpected(&answer, "list", &at)),
        }
    }

    /// The text of a field of a secret of somebody's, in a KV mount of either version.
    pub fn read_field(&self, path: &str, field: &str) -> Result<Zeroizing<Vec<u8>>> {
        let what = format!("{path} in {}", self.describe());
        let mount = self.mount_of(path)?;
        let below = path.strip_prefix(&mount.path).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
        if below.is_empty() {
            return Err(Error::usage(format!("{what} is a mount, and no secret in it")));
        }
        let read = if mount.version == 2 { self.read(&mount.path, below) } else { self.read_v1(&mount.path, below) };
        let mut fields = match read? {
            Read::Fields(fields) => fields,
            Read::Nothing => return Err(Error::not_found(format!("there is no {what}"))),
            Read::Deleted => {
                return Err(
                    Error::not_found(format!("{what} was deleted")).hint("`vault kv undelete` may bring it back.")
                );
            }
        };
        match fields.remove(field) {
            Some(Field::Text(text)) => Ok(Zeroizing::new(text.as_bytes().to_vec())),
            Some(Field::Other) => Err(Error::usage(format!("the field {field} of {what} is no text"))),
            None => {
                let names: Vec<_> = fields.keys().map(String::as_str).collect();
                Err(Error::not_found(format!("{what} has no field {field}"))
                    .hint(format!("It has: {}.", names.join(", "))))
            }
        }
    }

    fn get(&self, path: &str) -> Result<Answer> {
        self.ask(Call { method: "GET", path, body: None })
    }

    fn write(&self, path: &str, before: &str, fields: &[(&str, &str)]) -> Result<Answer> {
        let fields = body(fields);
        let mut whole = Zeroizing::new(Vec::with_capacity(before.len() + fields.len() + 1));
        whole.extend_from_slice(before.as_bytes());
        whole.extend_from_slice(&fields);
        whole.push(b'}');
        self.ask(Call { method: "POST", path, body: Some(&whole) })
    }

    /// Whether our token has a capability on a path; `false` where it may not even ask.
    fn may(&self, path: &str, capability: &str) -> bool {
        #[derive(Deserialize)]
        struct Capabilities {
            capabilities: Vec<String>,
        }
        let asked = body(&[("path", path)]);
        self.ask(Call { method: "POST", path: "sys/capabilities-self", body: Some(&asked) })
            .and_then(|answer| answer.read::<Data<Capabilities>>())
            .is_ok_and(|answer| answer.data.capabilities.iter().any(|c| c == capability || c == "root"))
    }

    fn route_exists(&self, answer: &Answer, mount: &str) -> Result<()> {
        if answer.complains_of("namespace not found") {
            return Err(Error::usage(format!("{} has no such namespace", self.describe()))
                .hint("Check namespace, or VAULT_NAMESPACE."));
        }
        if answer.complains_of("no handler for route") {
            return Err(Error::usage(format!("{} has no mount {mount}", self.describe()))
                .hint("Name the KV v2 mount as `vault secrets list` shows it: mount = \"…\"."));
        }
        Ok(())
    }

    fn unexpected(&self, answer: &Answer, capability: &str, at: &str) -> Error {
        let what = self.describe();
        match answer.status {
            403 => Error::denied(format!("{what} does not let us {capability} {at}")).hint(format!(
                "The policy of our token needs the capability \"{capability}\" on the path \"{at}\": see `strongroom policy print vault ROLE`. A mount that does not exist is denied in the same way."
            )),
            404 => match self.route_exists(answer, at.split('/').next().unwrap_or_default()) {
                Err(error) => error,
                Ok(()) => Error::not_found(format!("{what} has nothing at {at}")),
            },
            status => Error::failed(format!("{what} does not {capability} {at} (status {status})"))
                .hint("Its own log says why."),
        }
    }
}
