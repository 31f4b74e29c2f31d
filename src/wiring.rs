//! `strongroom.toml` → concrete systems; the only room that knows both sides.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::appkey::source::Reference;
use crate::appkey::{docker, gpg};
use crate::archive::Archive;
use crate::archive::folder::Folder;
use crate::commands::{Around, DatabaseOptions, Systems};
use crate::config::url::{DatabaseUrl, PlaceUrl};
use crate::config::{EscrowPlace, SecretsManagerPlace};
use crate::database::Database;
use crate::database::postgres::{Postgres, PostgresOptions};
use crate::database::sqlite::{Sqlite, SqliteOptions};
use crate::escrow::secrets_manager::{Access, read_secret};
use crate::escrow::{ArchiveEscrow, Escrow, FileEscrow, SecretsManager};
use crate::ground::{Error, Result};
use crate::storage::filesystem::{Filesystem, FilesystemTarget};
use crate::storage::{Storage, Target};

/// The systems that this build knows.
#[derive(Debug, Default)]
pub struct Wiring;

impl Systems for Wiring {
    fn archive(&self, place: &PlaceUrl, create: bool) -> Result<Arc<dyn Archive>> {
        let PlaceUrl::File(path) = place;
        Ok(if create { Arc::new(Folder::create(path)?) } else { Arc::new(Folder::open(path)?) })
    }

    fn database(&self, url: &DatabaseUrl, options: &DatabaseOptions) -> Result<Box<dyn Database>> {
        Ok(match url {
            DatabaseUrl::Sqlite(path) => {
                let max_lock = Duration::from_secs(options.max_lock_seconds);
                Box::new(Sqlite::new(path.clone(), SqliteOptions { max_lock, ..SqliteOptions::default() }))
            }
            DatabaseUrl::Postgres(url) => {
                let DatabaseOptions { password, prefix, programs, environment, host, as_superuser, no_owner, .. } =
                    options.clone();
                let options = PostgresOptions { password, prefix, programs, environment, host, as_superuser, no_owner };
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
            EscrowPlace::File(path) => Box::new(FileEscrow::new(path)),
            EscrowPlace::SecretsManager(place) => {
                Box::new(SecretsManager::new(access(place), &place.prefix, place.kms_key.clone()))
            }
        })
    }

    fn secret(&self, reference: &Reference, around: &Around<'_>) -> Result<Zeroizing<Vec<u8>>> {
        match reference {
            Reference::AwsSm(id, field) => {
                let place = around.escrows.iter().find_map(|place| match place {
                    EscrowPlace::SecretsManager(place) => Some(access(place)),
                    _ => None,
                });
                read_secret(&place.unwrap_or_default(), id, field.as_deref())
            }
            Reference::Gpg(path) => gpg::decrypt(&around.base.join(path), &around.environment, around.ask),
            Reference::Docker(container, name) => docker::variable(container, name, &around.environment),
            other => Err(Error::usage(format!("{other}: such references are not supported by this version"))),
        }
    }
}

fn access(place: &SecretsManagerPlace) -> Access {
    let SecretsManagerPlace { region, endpoint, profile, .. } = place.clone();
    Access { region, endpoint, profile }
}
