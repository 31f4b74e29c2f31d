//! An archive, one application in it, and whom to believe about it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::Desk;
use crate::archive::{self, Archive};
use crate::bundle::{Member, Opened};
use crate::config::url::PlaceUrl;
use crate::config::{Config, EscrowPlace};
use crate::custody::card::Card;
use crate::custody::{self, Identities};
use crate::ground::names::{AppName, BundleId, ObjectName, SealingId, Sha256Hex, Uuid};
use crate::ground::recognise::Seems;
use crate::ground::{Error, Kind, Result, durable};
use crate::ledger::{Ledger, Selector};
use crate::sealing::SealingKey;
use crate::signer::Trusted;

/// How many bundles are searched for another copy of the sealing key, newest first.
const OLDER: usize = 500;

/// Where bundles are, as the command line says it for machines without a configuration.
#[derive(Clone, Default)]
pub struct PlaceFlags {
    /// `--archive`
    pub archive: Option<String>,
    /// `--signer`: believed beside those of the configuration or the card
    pub signers: Vec<String>,
    /// `--card`
    pub card: Option<PathBuf>,
    /// `--app`
    pub app: Option<String>,
}

/// An archive, one application in it, and whom to believe about it.
pub struct Shelf {
    /// The place.
    pub archive: Arc<dyn Archive>,
    /// Where that is.
    pub place: PlaceUrl,
    /// The archive's name.
    pub id: Uuid,
    /// The application.
    pub app: AppName,
    /// The signers that are believed.
    pub trusted: Trusted,
    /// Where keys of the application may be kept: the archive, and what the configuration names.
    pub escrows: Vec<EscrowPlace>,
    /// What the recovery card remembers of the ledger.
    pub newest_known: Option<(u64, Sha256Hex)>,
}

impl Shelf {
    /// From a configuration, whose own signer is believed too.
    pub fn from_config(desk: &Desk<'_>, config: &Config) -> Result<Self> {
        let archive = desk.systems.archive(&config.archive, false)?;
        let id = archive::identify(archive.as_ref())?;
        // A new archive in its place has an empty ledger, and nothing that this host remembers is of it.
        if let Some(ours) = config.archive_id.as_ref().filter(|ours| **ours != id) {
            return Err(Error::not_authentic(format!(
                "{} is archive {id}, and {} is for {ours}",
                archive.describe(),
                config.path.display()
            ))
            .hint("Find out who put another archive there. If it was you: `strongroom init` for the new one, or its id as [archive] id (STRONGROOM_ARCHIVE_ID)."));
        }
        let mut escrows = config.escrows.clone();
        if !escrows.contains(&EscrowPlace::Archive) {
            escrows.push(EscrowPlace::Archive);
        }
        let place = config.archive.clone();
        Ok(Self { archive, place, id, app: config.app.clone(), trusted: config.trusted(), escrows, newest_known: None })
    }

    /// From flags or a recovery card; with neither, from the configuration.
    pub fn open(desk: &Desk<'_>, flags: &PlaceFlags, config: impl FnOnce() -> Result<Config>) -> Result<Self> {
        let card = flags.card.as_ref().map(|path| read_card(path)).transpose()?;
        let Some(url) = flags.archive.clone().or_else(|| card.as_ref().map(|c| c.archive_url.clone())) else {
            let mut shelf = Self::from_config(desk, &config()?).map_err(|error| match error.kind() {
                Kind::NotFound => error
                    .hint("Without changing the configuration: --archive URL with --signer RW…, or with --card FILE."),
                _ => error,
            })?;
            let mut signers = shelf.trusted.keys().to_vec();
            for text in &flags.signers {
                signers.push(text.parse()?);
            }
            shelf.trusted = Trusted::with_flags(signers);
            if let Some(app) = &flags.app {
                shelf.app = app.parse()?;
            }
            return Ok(shelf);
        };
        let here = std::env::current_dir().map_err(|e| Error::failed("there is no current folder").because(e))?;
        let place = PlaceUrl::parse(&url, &here)?;
        let archive = desk.systems.archive(&place, false)?;
        let id = archive::identify(archive.as_ref())?;
        if let Some(card) = card.as_ref().filter(|card| card.archive != id) {
            return Err(Error::not_authentic(format!(
                "{} is archive {id}, and the recovery card is for {}",
                archive.describe(),
                card.archive
            ))
            .hint("Use the card that was printed for this archive."));
        }
        let mut signers = flags.signers.iter().map(|s| s.parse()).collect::<Result<Vec<_>>>()?;
        if let Some(card) = &card {
            signers.extend(card.signers.iter().copied());
        }
        let app = match (&flags.app, &card) {
            (Some(app), _) => app.parse()?,
            (None, Some(card)) => card.app.clone(),
            (None, None) => only_app(archive.as_ref())?,
        };
        let newest_known = card.and_then(|c| c.newest);
        let escrows = vec![EscrowPlace::Archive];
        Ok(Self { archive, place, id, app, trusted: Trusted::with_flags(signers), escrows, newest_known })
    }

    /// The verified ledger; one that is shorter than what the card remembers is not authentic.
    pub fn ledger(&self) -> Result<Ledger<'_>> {
        let ledger = Ledger::open(self.archive.as_ref(), &self.id, &self.app, &self.trusted)?;
        if let Some((seq, digest)) = &self.newest_known {
            ledger.remembered(*seq, digest)?;
        }
        Ok(ledger)
    }

    /// The bundle that somebody means.
    pub fn find(&self, ledger: &Ledger<'_>, selector: &str) -> Result<(BundleId, Sha256Hex)> {
        let selector: Selector = selector.parse()?;
        let found = ledger.find(&selector)?.event;
        Ok((found.bundle.clone(), found.sums.clone()))
    }

    /// The authenticated bundle that somebody means.
    pub fn bundle(&self, ledger: &Ledger<'_>, selector: &str) -> Result<Opened<'_>> {
        let (id, sums) = self.find(ledger, selector)?;
        self.bundle_by_id(&id, &sums)
    }

    /// An authenticated bundle that the ledger names.
    pub fn bundle_by_id(&self, id: &BundleId, sums: &Sha256Hex) -> Result<Opened<'_>> {
        Opened::open(self.archive.as_ref(), &self.id, &self.app, id, Some(sums), &self.trusted)
    }

    /// Opens the bundle that holds the storage of one that refers to another; it is sealed to the same key.
    pub fn storage_of(&self, ledger: &Ledger<'_>, opened: &Opened<'_>) -> Result<Option<Opened<'_>>> {
        let header = opened.header();
        let Some(from) = &header.storage_from else { return Ok(None) };
        let storage = self.bundle(ledger, from.as_str())?;
        if storage.header().sealing == header.sealing {
            return Ok(Some(storage));
        }
        Err(Error::refused(format!("bundle {} goes with the storage of {from}, and both are sealed to different keys", header.id))
            .hint(format!("Restore them one after the other: {} --only database, then {from} --only storage, each with its own identity.", header.id))
            .hint("A backup with the storage makes a bundle that has both."))
    }

    /// Opens the sealing key with what the archive keeps, with the copy inside the bundle, or with that of another bundle.
    pub fn unseal(
        &self,
        sealing: &SealingId,
        identities: &Identities<'_>,
        bundle: Option<&Opened<'_>>,
    ) -> Result<SealingKey> {
        let error = match custody::open(self.archive.as_ref(), sealing, identities) {
            Ok(key) => return Ok(key),
            Err(error) => error,
        };
        // Whoever can write to the archive can take the archive's copy away or spoil it; the bundle's own is signed.
        if !spoilt(&error) {
            return Err(error);
        }
        let key = self.unseal_by_copy(sealing, identities, bundle, &error)?.ok_or(error)?;
        // What the archive says of its custodians is checked however the key was opened.
        if let Ok(Some(record)) = custody::record(self.archive.as_ref(), sealing) {
            record.verify(&key)?;
        }
        Ok(key)
    }

    /// Opens the sealing key with the copies inside bundles: this one's first, then those that older ones keep from other times.
    ///
    /// The same copy is tried once, so that nobody is asked twice for one.
    fn unseal_by_copy(
        &self,
        sealing: &SealingId,
        identities: &Identities<'_>,
        bundle: Option<&Opened<'_>>,
        error: &Error,
    ) -> Result<Option<SealingKey>> {
        let mut tried = HashSet::new();
        if error.kind() == Kind::Sealed {
            tried.extend(custody::wrapped(self.archive.as_ref(), sealing)?.map(|bytes| Sha256Hex::of(&bytes)));
        }
        let mut attempt = |bundle: &Opened<'_>| -> Result<Option<SealingKey>> {
            let fresh = bundle.sums().member(&Member::Identity).filter(|digest| !tried.contains(digest));
            let Some(digest) = fresh else { return Ok(None) };
            let Some(bytes) = bundle.wrapped_identity()? else { return Ok(None) };
            tried.insert(digest);
            let what = format!("identity.age of bundle {}", bundle.header().id);
            match custody::open_wrapped(&bytes, sealing, identities, &what) {
                Ok(key) => Ok(Some(key)),
                Err(e) if spoilt(&e) => Ok(None),
                Err(e) => Err(e),
            }
        };
        match bundle.map(&mut attempt) {
            Some(Ok(Some(key))) => return Ok(Some(key)),
            Some(Err(e)) if !spoilt(&e) => return Err(e),
            _ => {}
        }
        let ledger = self.ledger()?;
        for older in ledger.bundles().rev().filter(|b| b.sealing == *sealing).take(OLDER) {
            let found = self.bundle_by_id(&older.bundle, &older.sums).and_then(|opened| attempt(&opened));
            match found {
                Ok(Some(key)) => return Ok(Some(key)),
                Ok(None) => {}
                Err(e) if spoilt(&e) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }
}

/// What helps when one thing takes several sealing keys, as after a host was set up anew, and the identities open some of them.
pub fn each_of(sealings: usize) -> impl Fn(Error) -> Error {
    move |error| {
        if sealings < 2 || error.kind() != Kind::Sealed {
            return error;
        }
        error.hint(format!(
            "It takes {sealings} sealing keys, and an identity for each: give them all, -i FILE -i FILE."
        ))
    }
}

/// Whether a copy of the sealing key may be spoilt, so that others are worth trying.
fn spoilt(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::Damaged | Kind::Sealed | Kind::NotAuthentic) || error.is_fault()
}

/// Reads a recovery card.
pub fn read_card(path: &std::path::Path) -> Result<Card> {
    durable::named_as_file(path, "recovery card")?;
    if let Some(seems) = Seems::file(path).filter(|seems| *seems != Seems::Card) {
        let error = Error::usage(format!("{} is {}, and no recovery card", path.display(), seems.name()));
        return Err(match seems {
            Seems::Identity | Seems::SshIdentity => {
                error.hint("Give the identity with -i, and with --card the recovery card that `strongroom init` wrote.")
            }
            Seems::SignerPublic => error.hint(
                "A card names archive, application and signer; without one, give --archive URL and --signer with the second line of this file.",
            ),
            Seems::Configuration => error.hint("Give the configuration with --config; then no card is needed."),
            _ => error.hint("The card is the text that `strongroom init` wrote into recovery-card.txt."),
        });
    }
    let bytes = durable::read_file(path, 64 * 1024)?;
    Card::parse(&String::from_utf8_lossy(&bytes)).map_err(|e| e.context(format!("cannot use {}", path.display())))
}

/// The one application that the archive has bundles of.
fn only_app(archive: &dyn Archive) -> Result<AppName> {
    let apps = archive.children(&"ledger".parse::<ObjectName>()?)?;
    match apps.as_slice() {
        [app] => app.parse(),
        [] => Err(Error::not_found(format!("{} has no bundle of any application", archive.describe()))),
        many => Err(Error::usage(format!("{} has bundles of several applications", archive.describe()))
            .hint(format!("Name one with --app: {}", many.join(", ")))),
    }
}

/// Loads identities, asking for passphrases where somebody can answer.
pub fn identities<'a>(desk: &'a Desk<'_>, paths: &[PathBuf]) -> Result<Identities<'a>> {
    if paths.is_empty() {
        return Err(Error::usage("this needs an identity that opens the sealing key")
            .hint("Give one with -i FILE, or name it in STRONGROOM_IDENTITY."));
    }
    Identities::load(paths, &desk.ask)
}
