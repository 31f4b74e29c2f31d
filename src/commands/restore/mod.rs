//! `restore`: plan, authenticate, prove, stop, build beside, swap, check, or roll back.

pub mod cleanup;
mod comparison;
mod in_place;
mod live;
mod mark;
mod plain;
mod prove;
mod rekey;
mod report;
mod undo;
pub(super) mod unended;

use std::collections::HashSet;
use std::path::PathBuf;

use globset::GlobMatcher;
use serde::Serialize;

use super::host::Host;
use super::shelf::{self, Shelf};
use super::{Desk, Outcome, Problem, defects, human_bytes};
use crate::appkey::source::Reference;
use crate::bundle::extract::ExtractPlan;
use crate::bundle::{Member, Opened, PartName, Scope};
use crate::config::{self, Config};
use crate::database::DatabasePlan;
use crate::ground::beside::Stop;
use crate::ground::names::{BundleId, Fingerprint};
use crate::ground::progress::Progress;
use crate::ground::words::counted;
use crate::ground::{Error, Result};
use crate::sealing::SealingKey;
use crate::signer::PublicKey;
use crate::storage::Owner;

/// What is asked.
#[expect(clippy::struct_excessive_bools, reason = "each is asked for on its own")]
pub struct Request {
    /// Which bundle.
    pub bundle: String,
    /// Who opens it.
    pub identity: Vec<PathBuf>,
    /// Use the configuration that is sealed in the bundle when there is none here.
    pub config_from_bundle: bool,
    /// Print the plan only.
    pub dry_run: bool,
    /// Do not ask.
    pub yes: bool,
    /// Restore the database.
    pub database: bool,
    /// Restore the storage.
    pub storage: bool,
    /// Write plain files here.
    pub target: Option<PathBuf>,
    /// Only files that match one of these.
    pub include: Vec<GlobMatcher>,
    /// The database to restore over, instead of the configured one.
    pub database_url: Option<String>,
    /// The storage to restore into, instead of the configured one.
    pub storage_url: Option<String>,
    /// The key that the application will be started with.
    pub key: Option<String>,
    /// Put the credentials under that key before the swap, when the bundle's are under another one.
    pub rekey: bool,
    /// Go on without a proof.
    pub accept_unproved: bool,
    /// The database may be built with a superuser's rights.
    pub as_superuser: bool,
    /// Leave owners and grants of the database out.
    pub no_owner: bool,
    /// Change the live database itself, in one transaction, after a backup of it.
    pub in_place: bool,
    /// Run the hooks.
    pub hooks: bool,
    /// Move extra files away.
    pub delete_extra: bool,
    /// Who owns restored files.
    pub owner: Owner,
}

/// What a restore is going to do: printed by `--dry-run`, executed otherwise.
#[derive(Serialize)]
pub struct Plan {
    /// The bundle.
    pub bundle: BundleId,
    /// The bundle whose storage goes with it, when it is another one.
    pub storage_from: Option<BundleId>,
    /// The key that its credentials were written with.
    pub fingerprint: Option<Fingerprint>,
    /// The key that its credentials are put under before the swap.
    pub rekey: Option<rekey::Rekey>,
    /// The database's share.
    pub database: Option<DatabasePlan>,
    /// The storage's share.
    pub storage: Option<ExtractPlan>,
    /// Hooks that will run, in order.
    pub hooks: Vec<String>,
    /// What can be rolled back and what cannot.
    pub rollback: String,
    /// Who signed the bundle, when it was not this host.
    pub signer: Option<PublicKey>,
}

impl Plan {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("restore {}", self.bundle)];
        lines.extend(self.signer.map(|signer| format!("  made by another host, signer {signer}")));
        if let Some(database) = &self.database {
            lines.push(format!("  database: {}", database.target));
            lines.extend(database.steps.iter().map(|s| format!("    {s}")));
            lines.extend(self.rekey.as_ref().map(|rekey| format!("    {}", rekey.sentence())));
        }
        if let Some(storage) = &self.storage {
            lines.push(format!(
                "  storage: {}, {}; {} to write, {} already right, {} replaced, {} extra{}",
                counted(storage.files, "file", "files"),
                human_bytes(storage.bytes),
                storage.write,
                storage.already_right,
                storage.replaced,
                storage.extra_count,
                self.storage_from.as_ref().map_or_else(String::new, |id| format!(" (from bundle {id})")),
            ));
            if storage.delete_extra && storage.extra_count > 0 {
                lines
                    .push(format!("    extra files that will be moved away (--delete-extra): {}", storage.extra_count));
            }
            lines.extend(storage.replaced_lines());
            lines.extend(storage.extra_lines("extra"));
        }
        lines.extend(self.hooks.iter().map(|hook| format!("  runs {hook}")));
        lines.push(format!("  {}", self.rollback));
        lines
    }
}

/// What every way of restoring needs.
struct Source<'a> {
    opened: Opened<'a>,
    storage: Option<Opened<'a>>,
    sealing: SealingKey,
}

impl<'a> Source<'a> {
    /// The bundle that holds the files.
    fn files(&self) -> &Opened<'a> {
        self.storage.as_ref().unwrap_or(&self.opened)
    }

    fn has_storage(&self) -> bool {
        self.files().header().contains.iter().any(|c| c == "storage")
    }

    /// What the backups said of what the restore will use.
    fn defects(&self, request: &Request) -> Vec<Problem> {
        let database = request.database && self.opened.database_member().is_some();
        let storage = request.storage && self.has_storage();
        let mut told = defects::told(self.opened.header(), database, storage && self.storage.is_none());
        if let Some(other) = self.storage.as_ref().filter(|_| storage) {
            told.extend(defects::told(other.header(), false, true));
        }
        told
    }

    /// Checks the digests of what the restore of the database will use; an error, too, when it was told to stop before the end.
    fn authenticate(&self, request: &Request, stop: &Stop, progress: &dyn Progress) -> Result<()> {
        // A sealed key is compared when it is read, and one that is damaged keeps nobody out who has the key.
        let mut members = vec![Member::Proof];
        members.extend(self.opened.database_member().filter(|_| request.database));
        self.opened.check_unless(stop, Scope::Only(&members), progress).map(drop)
    }

    /// The same of the parts that hold files which are to be written. The list was compared when it was read.
    fn authenticate_parts(&self, parts: &HashSet<PartName>, stop: &Stop, progress: &dyn Progress) -> Result<()> {
        self.files().check_unless(stop, Scope::Parts(parts), progress).map(drop)
    }
}

/// Restores, or plans to.
pub fn run(desk: &Desk<'_>, shelf: &Shelf, config: Option<Config>, request: &Request) -> Result<Outcome> {
    let host = config.as_ref().filter(|_| !request.dry_run).cloned();
    let result = restore(desk, shelf, config, request);
    desk.progress.finish();
    match host {
        Some(config) => Host::new(config)?.told("restore", result),
        None => result,
    }
}

fn restore(desk: &Desk<'_>, shelf: &Shelf, config: Option<Config>, request: &Request) -> Result<Outcome> {
    // Before anybody is asked for a passphrase.
    request.key.as_deref().map(str::parse::<Reference>).transpose()?;
    let ledger = shelf.ledger()?;
    let opened = shelf.bundle(&ledger, &request.bundle)?;
    let storage = if request.storage { shelf.storage_of(&ledger, &opened)? } else { None };
    let sealing =
        shelf.unseal(&opened.header().sealing, &shelf::identities(desk, &request.identity)?, Some(&opened))?;
    let source = Source { opened, storage, sealing };
    if !request.include.is_empty() && !request.storage {
        return Err(Error::usage("--include chooses files of the storage, and none of it is to be restored"));
    }
    if !request.include.is_empty() && !source.has_storage() {
        return Err(Error::not_found(format!(
            "bundle {} has no storage to choose files of",
            source.opened.header().id
        )));
    }
    rekey::sensible(request, source.opened.header())?;
    if let Some(folder) = &request.target {
        return plain::run(desk, shelf, config.as_ref(), &source, request, folder);
    }
    let config = match config {
        Some(config) => config,
        None if request.config_from_bundle => sealed_config(desk, &source)?,
        None => {
            return Err(Error::usage("a restore over a live system needs its configuration")
                .hint("Give --config FILE or --config-from-bundle, or write plain files with --target DIR."));
        }
    };
    live::run(desk, shelf, config, &source, request)
}

/// The configuration of the host that made the bundle, as if it stood in the current folder.
fn sealed_config(desk: &Desk<'_>, source: &Source<'_>) -> Result<Config> {
    let bytes = source.opened.read_secret(&Member::Config, &source.sealing, 1 << 20)?;
    let here = std::env::current_dir().map_err(|e| Error::failed("there is no current folder").because(e))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::damaged("config.toml.age holds no text"))?;
    Config::foreign(text, &here.join(config::FILE_NAME), &desk.variables)
}

/// Asks before anything is changed.
fn confirm(desk: &Desk<'_>, request: &Request, plan: &Plan, problems: &[Problem]) -> Result<()> {
    if request.yes {
        return Ok(());
    }
    if !desk.ask.interactive() {
        return Err(Error::refused("a restore changes live data and nobody is there to be asked")
            .hint("Read the plan with --dry-run, then give --yes."));
    }
    desk.progress.finish();
    for line in plan.lines() {
        desk.ask.say(&line);
    }
    // Said again with how it ended.
    for problem in problems {
        desk.ask.say(&format!("warning: {}", problem.message));
        desk.ask.say(&format!("   hint: {}", problem.hint.as_deref().unwrap_or_default()));
    }
    if desk.ask.confirm("Restore this?")? { Ok(()) } else { Err(Error::refused("not restored: you said no")) }
}
