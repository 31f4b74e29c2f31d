//! `strongroom.toml` → concrete systems; the only room that knows both sides.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::appkey::source::{self, Reference};
use crate::appkey::{docker, gpg};
use crate::archive::Archive;
use crate::archive::folder::Folder;
use crate::commands::{Around, DatabaseOptions, Systems};
use crate::config::url::{DatabaseUrl, PlaceUrl};
use crate::config::{EscrowPlace, SecretsManagerPlace, VaultAuth, VaultPlace};
use crate::database::Database;
use crate::database::postgres::{Postgres, PostgresOptions};
use crate::database::sqlite::{Sqlite, SqliteOptions};
use crate::escrow::secrets_manager::{Access, Service, read_secret};
use crate::escrow::{ArchiveEscrow, Escrow, FileEscrow, Login, Secret, SecretsManager, Vault, VaultEscrow};
use crate::ground::child::Environment;
use crate::ground::{Context as _, Error, Result, durable};
use crate::storage::filesystem::{Filesystem, FilesystemTarget};
use crate::storage::{Storage, Target};

/// The systems that this build knows.
#[derive(Default)]
pub struct Wiring {
    /// Sessions that are open: one login serves a key's source and an escrow, and every key that is asked for.
    vaults: Mutex<Vec<(VaultPlace, Arc<Vault>)>>,
    secrets_managers: Mutex<Vec<Arc<Service>>>,
    /// What was said already.
    warned: Mutex<BTreeSet<String>>,
}

impl Systems for Wiring {
    fn archive(&self, place: &PlaceUrl, create: bool) -> Result<Arc<dyn Archive>> {
        let PlaceUrl::File(path) = place;
        Ok(if create { Arc::new(Folder::create(path)?) } else { Arc::new(Folder::open(path)?) })
    }

    fn database(&self, url: &DatabaseUrl, options: &DatabaseOptions) -> Result<Box<dyn Database>> {
        Ok(match url {
            DatabaseUrl::Sqlite(_) if options.in_place => {
                return Err(Error::usage("--in-place is for PostgreSQL").hint(
                    "Leave it out: an SQLite file takes the live one's place in one step, and can be rolled back.",
                ));
            }
            DatabaseUrl::Sqlite(path) => {
                let max_lock = Duration::from_secs(options.max_lock_seconds);
                Box::new(Sqlite::new(path.clone(), SqliteOptions { max_lock, ..SqliteOptions::default() }))
            }
            DatabaseUrl::Postgres(url) => {
                let DatabaseOptions {
                    password,
                    prefix,
                    programs,
                    environment,
                    host,
                    as_superuser,
                    no_owner,
                    in_place,
                    ..
                } = options.clone();
                let options =
                    PostgresOptions { password, prefix, programs, environment, host, as_superuser, no_owner, in_place };
                Box::new(Postgres::new(url.clone(), options))
            }
        })
    }

    fn storage(&self, place: &PlaceUrl) -> Result<Box<dyn Storage>> {
        let PlaceUrl::File(path) = place;
        Ok(Box::new(Filesystem::new(path)))
    }

    fn target(&self, place: &PlaceUrl) -> Result<Box<dyn Target>> {
        let PlaceUrl::File(path) = place;
        self.folder(path)
    }

    fn folder(&self, path: &Path) -> Result<Box<dyn Target>> {
        Ok(Box::new(FilesystemTarget::new(path)?))
    }

    fn escrow<'a>(&self, place: &EscrowPlace, archive: &'a dyn Archive) -> Result<Box<dyn Escrow + 'a>> {
        Ok(match place {
            EscrowPlace::Archive => Box::new(ArchiveEscrow::new(archive)),
            EscrowPlace::File(path) => Box::new(FileEscrow::new(path, |path| Ok(Box::new(Folder::open(path)?)))),
            EscrowPlace::SecretsManager(place) => Box::new(SecretsManager::new(
                self.secrets_manager(access(place)),
                &place.prefix,
                place.kms_key.clone(),
                place.recovery_window_days,
            )),
            EscrowPlace::Vault(place) => Box::new(VaultEscrow::new(self.vault(place)?, &place.mount, &place.prefix)),
        })
    }

    fn secret(&self, reference: &Reference, around: &Around<'_>) -> Result<Zeroizing<Vec<u8>>> {
        match reference {
            Reference::AwsSm(id, field) => {
                let place = around.escrows.iter().find_map(|place| match place {
                    EscrowPlace::SecretsManager(place) => Some(access(place)),
                    _ => None,
                });
                read_secret(&self.secrets_manager(place.unwrap_or_default().to(id)), id, field.as_deref())
            }
            Reference::Gpg(path) => {
                let warn = |line: &str, hint: &str| {
                    // A rotation reads its key several times.
                    if self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(line.to_owned()) {
                        (around.warn)(line, hint);
                    }
                };
                gpg::decrypt(&around.base.join(path), &around.environment, around.ask, &warn)
            }
            Reference::Vault(path, field) => {
                let configured = around.escrows.iter().find_map(|escrow| match escrow {
                    EscrowPlace::Vault(place) => Some(VaultPlace::clone(place)),
                    _ => None,
                });
                let place = configured.unwrap_or_else(VaultPlace::of_the_environment);
                self.vault(&place)?.read_field(path, field)
            }
            Reference::Docker(container, name) => docker::variable(container, name, &around.environment),
            Reference::Env(_) | Reference::File(_) | Reference::Dotenv(..) | Reference::Prompt => {
                Err(Error::usage(format!("{reference} is kept by no other system")))
            }
        }
    }
}

fn access(place: &SecretsManagerPlace) -> Access {
    let SecretsManagerPlace { region, endpoint, profile, .. } = place.clone();
    Access { region, endpoint, profile }
}

/// A variable of the environment that is not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Wiring {
    /// The client for one access to Secrets Manager; nothing is connected before it is used.
    fn secrets_manager(&self, access: Access) -> Arc<Service> {
        let mut open = self.secrets_managers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(service) = open.iter().find(|known| *known.access() == access) {
            return Arc::clone(service);
        }
        let service = Arc::new(Service::new(access));
        open.push(Arc::clone(&service));
        service
    }

    /// The session with a Vault; nothing is connected before it is used.
    fn vault(&self, place: &VaultPlace) -> Result<Arc<Vault>> {
        let mut open = self.vaults.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, vault)) = open.iter().find(|(known, _)| known.is_same_session(place)) {
            return Ok(Arc::clone(vault));
        }
        let address = place.address.clone().or_else(|| variable("VAULT_ADDR")).ok_or_else(|| {
            Error::usage("where is the Vault?").hint("Give [[escrow]] kind = \"vault\" an address, or set VAULT_ADDR.")
        })?;
        let namespace = place.namespace.clone().or_else(|| variable("VAULT_NAMESPACE"));
        let ca_file = place.ca_file.clone().or_else(|| variable("VAULT_CACERT").map(Into::into));
        let vault = Vault::new(&address, namespace, ca_file, login(place))?;
        open.push((place.clone(), Arc::clone(&vault)));
        Ok(vault)
    }
}

/// How a configuration says that we log in; every part is read when it is needed.
fn login(place: &VaultPlace) -> Login {
    let read = |reference: &Reference| -> Secret {
        let (reference, base) = (reference.clone(), place.base.clone());
        Box::new(move || read_login(&reference, &base))
    };
    match &place.auth {
        VaultAuth::Token(Some(reference)) => Login::Token(read(reference)),
        VaultAuth::Token(None) => Login::Token(Box::new(usual_token)),
        VaultAuth::AppRole { mount, role_id, secret_id } => {
            Login::AppRole { mount: mount.clone(), role_id: read(role_id), secret_id: read(secret_id) }
        }
        VaultAuth::Kubernetes { mount, role, jwt } => {
            let jwt = jwt.clone();
            // Kubernetes itself makes this file readable for all in its container.
            let read =
                move || text(&Zeroizing::new(durable::read_file(&jwt, 64 << 10)?), "the service account's token");
            Login::Kubernetes { mount: mount.clone(), role: role.clone(), jwt: Box::new(read) }
        }
    }
}

fn read_login(reference: &Reference, base: &Path) -> Result<Zeroizing<String>> {
    let nobody = |_: &str| Err(Error::usage("nobody is asked for what opens a Vault"));
    let silent = |_: &str, _: &str| ();
    let around = Around { base, escrows: &[], environment: Environment::default(), ask: &nobody, warn: &silent };
    let read = source::resolve(reference, base, &nobody, &|other| Wiring::default().secret(other, &around))
        .context(|| format!("cannot read what opens the Vault from {}", reference.in_words()))?;
    text(read.expose(), &reference.to_string())
}

/// `VAULT_TOKEN`, else what `vault login` left in the home folder.
fn usual_token() -> Result<Zeroizing<String>> {
    if let Some(token) = variable("VAULT_TOKEN") {
        return Ok(Zeroizing::new(token));
    }
    let path = variable("HOME").map(|home| Path::new(&home).join(".vault-token"));
    match path.filter(|path| path.exists()) {
        Some(path) => text(&durable::read_secret_file(&path, 64 << 10)?, &path.display().to_string()),
        None => Err(Error::denied("there is no token for the Vault")
            .hint("Set VAULT_TOKEN, run `vault login`, or give the [[escrow]] an auth = { … }.")),
    }
}

fn text(bytes: &[u8], what: &str) -> Result<Zeroizing<String>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Zeroizing::new(text.trim().to_owned())),
        Err(_) => Err(Error::usage(format!("{what} is no text"))),
    }
}
