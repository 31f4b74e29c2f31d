//! `strongroom.toml` → concrete systems; the only room that knows both sides.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::appkey::docker;
use crate::appkey::source::Reference;
use crate::archive::Archive;
use crate::archive::folder::Folder;
use crate::commands::{Around, DatabaseOptions, Systems};
use crate::config::EscrowPlace;
use crate::config::url::{DatabaseUrl, PlaceUrl};
use crate::database::Database;
use crate::database::postgres::{Postgres, PostgresOptions};
use crate::database::sqlite::{Sqlite, SqliteOptions};
use crate::escrow::{ArchiveEscrow, Escrow, FileEscrow};
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
            EscrowPlace::File(path) => Box::new(FileEscrow::new(path)),
        })
    }

    fn secret(&self, reference: &Reference, around: &Around<'_>) -> Result<Zeroizing<Vec<u8>>> {
        match reference {
            Reference::Docker(container, name) => docker::variable(container, name, &around.environment),
            other => Err(Error::usage(format!("{other}: such references are not supported by this version"))),
        }
    }
}
