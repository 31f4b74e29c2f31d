//! A restore over the live system: stop, build beside, prove, swap, storage, start, health, or everything back.

use serde_json::json;

use super::rekey::Rekeying;
use super::{Plan, Request, Source, confirm, in_place, prove};
use crate::bundle::Opened;
use crate::bundle::extract::{self, Digests, ExtractOptions, ExtractPlan};
use crate::commands::hooks::Hooks;
use crate::commands::host::{Host, NamedKey, read_key};
use crate::commands::shelf::Shelf;
use crate::commands::{DatabaseOptions, Desk, Outcome, proof};
use crate::config::Config;
use crate::config::url::{DatabaseUrl, PlaceUrl};
use crate::database::{Database, Facts, Replacement};
use crate::ground::progress::Unit;
use crate::ground::{Error, Result, failpoint};
use crate::storage::Target;

pub(super) fn run(
    desk: &Desk<'_>,
    shelf: &Shelf,
    config: Config,
    source: &Source<'_>,
    request: &Request,
) -> Result<Outcome> {
    let host = Host::new(config)?;
    let header = source.opened.header();
    if header.app != host.config.app {
        return Err(Error::refused(format!(
            "bundle {} is of {}, and this host runs {}",
            header.id, header.app, host.config.app
        ))
        .hint("Write it out with --target DIR, or use the configuration of its own host."));
    }
    let _lock = if request.dry_run { None } else { Some(host.lock()?) };
    let key = start_key(desk, &host, source, request)?;
    // What is going to be re-encrypted is proved with its own key, as it is sealed in the bundle or escrowed.
    let (key, start) = if request.rekey { (None, key) } else { (key, None) };
    let proved = prove::bundle(desk, shelf, Some(&host.config), source, request, key)?;
    let rekeying = start.as_ref().and_then(|start| Rekeying::new(&host, &proved, start).transpose()).transpose()?;

    let database = database(desk, &host, source, request)?;
    let target = target(desk, &host, source, request)?;
    let options = ExtractOptions {
        include: request.include.clone(),
        owner: request.owner,
        delete_extra: request.delete_extra,
        bundle: header.id.clone(),
        rollback: true,
        digests: Digests::Before,
    };
    let plan = Plan {
        rekey: rekeying.as_ref().map(Rekeying::planned),
        ..plan(desk, &host, source, request, database.as_deref(), &proved.summary.facts, target.as_deref(), &options)?
    };
    if request.dry_run {
        return Outcome::done(&plan, plan.lines());
    }
    confirm(desk, request, &plan)?;
    source.authenticate(desk, request)?;

    let hooks = Hooks { desk, host: &host, on: request.hooks };
    hooks.stop()?;
    failpoint::pass("after the stop hook");
    let mut undo = Undo { desk, database: None, storage: None, bundle: source.files() };
    let proofs = (&proved, rekeying.as_ref());
    let before = backed_up_before(desk, &host, &plan, &hooks)?;
    let result = replace(desk, source, &plan, database.as_deref(), proofs, target.as_deref(), &options, &mut undo)
        .and_then(|()| hooks.start())
        .and_then(|()| hooks.well());
    if let Err(error) = result {
        let error = take_back(&hooks, &mut undo, error);
        return Err(match &before {
            Some(id) => error.hint(format!("What stood in the database before is bundle {id}.")),
            None => error,
        });
    }
    let kept = match undo.database.take() {
        Some(replacement) => replacement.keep()?,
        None => None,
    };

    let storage = plan.storage.as_ref();
    let moved = storage.filter(|s| s.delete_extra).map_or(0, |s| s.extra_count);
    let mut text = vec![format!("bundle {} restored", header.id)];
    text.extend(plan.signer.map(|signer| format!("  it was made by another host, signer {signer}")));
    text.push(format!("  {}", proof::sentence(proved.verdict, &proved.counts)));
    if let Some(id) = &before {
        text.push(format!("  what stood in the database before is bundle {id}"));
    }
    text.extend(plan.rekey.as_ref().map(|rekey| format!("  put under key {}, which is configured", rekey.to.short())));
    if let Some(kept) = &kept {
        text.push(format!("  the database that stood there is kept as {}; remove it when all is well", kept.display()));
    }
    if storage.is_some_and(|s| s.replaced > 0) {
        text.push(format!(
            "  replaced files are kept in .strongroom/rollback-{} of the storage",
            source.files().header().id
        ));
    }
    if let Some(storage) = storage.filter(|_| moved > 0) {
        text.push(format!(
            "  extra files moved to .strongroom/rollback-{} of the storage: {moved}",
            source.files().header().id
        ));
        text.extend(storage.extra_lines("moved"));
    }
    if kept.is_some() || moved > 0 || storage.is_some_and(|s| s.replaced > 0) {
        text.push("  `strongroom restore --cleanup` removes what is kept".to_owned());
    }
    Ok(Outcome {
        exit: proved.exit(header),
        json: json!({
            "bundle": header.id,
            "verdict": proved.verdict,
            "credentials": proof::counts_json(&proved.counts),
            "kept": kept,
            "before": before,
            "extra_moved": moved,
            "plan": plan,
        }),
        line: text[0].clone(),
        text,
        problems: Vec::new(),
    })
}

/// Stops the application, puts everything back and starts it again; what comes of it is the error's last hint.
fn take_back(hooks: &Hooks<'_>, undo: &mut Undo<'_>, error: Error) -> Error {
    // The application may be running on what is about to go away again.
    if let Err(second) = hooks.stop() {
        return error.hint(format!(
            "Nothing was put back, because the application could not be stopped: {}. Stop it by hand and run the restore again.",
            second.chain()
        ));
    }
    if let Err(second) = undo.everything() {
        let started = match hooks.start() {
            Ok(()) => String::new(),
            Err(third) => format!("; and the application does not start: {}", third.chain()),
        };
        return error.hint(format!("Putting everything back failed too: {}{started}", second.chain()));
    }
    match hooks.start() {
        Ok(()) if hooks.can_start() => {
            error.hint("Everything was put back as it was before, and the application was started again.")
        }
        Ok(()) => error.hint("Everything was put back as it was before."),
        Err(second) => error.hint(format!(
            "Everything was put back as it was before, but the application was not started again: {}. Start it by hand.",
            second.chain()
        )),
    }
}

/// Where the database cannot be rolled back, what is there is a bundle first; its id.
fn backed_up_before(desk: &Desk<'_>, host: &Host, plan: &Plan, hooks: &Hooks<'_>) -> Result<Option<String>> {
    if plan.database.as_ref().is_none_or(|database| database.reversible) {
        return Ok(None);
    }
    in_place::back_up(desk, host).map(Some).map_err(|error| match hooks.start() {
        Ok(()) => error,
        Err(second) => error.hint(format!("Starting the application failed too: {}", second.chain())),
    })
}

/// The key that the application will be started with; it must be the one that the bundle names.
fn start_key(desk: &Desk<'_>, host: &Host, source: &Source<'_>, request: &Request) -> Result<Option<NamedKey>> {
    let header = source.opened.header();
    if header.database.is_none() {
        return Ok(None);
    }
    let text = match &request.key {
        Some(reference) => read_key(desk, Some(&host.config), reference),
        None => host.key_text(desk, None),
    };
    let text = match text {
        Ok(text) => text,
        Err(error) if request.accept_unproved => {
            desk.ask.say(&format!("warning: {}", error.chain()));
            return Ok(None);
        }
        Err(error) => {
            return Err(error
                .hint("The key that the application will be started with must be proved before anything is touched.")
                .hint("Name it with --key REF. `strongroom key fetch -i FILE -o KEYFILE` takes it out of the archive, for --key file:KEYFILE and for the application."));
        }
    };
    // What is only to be put under it is named as this host names it.
    let installation = if request.rekey { &host.config.installation } else { &header.installation };
    NamedKey::new(text, host.scheme, installation).map(Some)
}

fn database(desk: &Desk<'_>, host: &Host, source: &Source<'_>, request: &Request) -> Result<Option<Box<dyn Database>>> {
    if !request.database || source.opened.database_member().is_none() {
        return Ok(None);
    }
    if request.in_place {
        // What cannot be rolled back is backed up first, and that wants a signer.
        host.signer()?;
    }
    let Request { as_superuser, no_owner, in_place, .. } = *request;
    let options = DatabaseOptions { as_superuser, no_owner, in_place, ..DatabaseOptions::default() };
    open_database(desk, host, request.database_url.as_deref(), &options).map(Some)
}

/// The database to restore over: the one that is named, else the configured one; of `options`, what a restore decides.
pub(super) fn open_database(
    desk: &Desk<'_>,
    host: &Host,
    url: Option<&str>,
    options: &DatabaseOptions,
) -> Result<Box<dyn Database>> {
    let url = match url {
        Some(url) => DatabaseUrl::parse(url, &current_folder()?)?,
        None => host.config.database.clone().ok_or_else(|| {
            Error::usage(format!("{} names no database", host.config.path.display()))
                .hint("Name one with --database URL, or restore --only storage.")
        })?,
    };
    let DatabaseOptions { as_superuser, no_owner, in_place, .. } = *options;
    let options = DatabaseOptions { as_superuser, no_owner, in_place, ..host.database_options(desk)? };
    desk.systems.database(&url, &options)
}

fn target(desk: &Desk<'_>, host: &Host, source: &Source<'_>, request: &Request) -> Result<Option<Box<dyn Target>>> {
    if !request.storage || !source.has_storage() {
        return Ok(None);
    }
    open_target(desk, host, request.storage_url.as_deref()).map(Some)
}

/// The storage to restore into: the one that is named, else the configured one.
pub(super) fn open_target(desk: &Desk<'_>, host: &Host, url: Option<&str>) -> Result<Box<dyn Target>> {
    let place = match url {
        Some(url) => PlaceUrl::parse(url, &current_folder()?)?,
        None => host.config.storage.clone().ok_or_else(|| {
            Error::usage(format!("{} names no storage", host.config.path.display()))
                .hint("Name one with --storage URL, or restore --only database.")
        })?,
    };
    desk.systems.target(&place)
}

fn current_folder() -> Result<std::path::PathBuf> {
    std::env::current_dir().map_err(|e| Error::failed("there is no current folder").because(e))
}

#[expect(clippy::too_many_arguments, reason = "a plan is made of everything that will be touched")]
fn plan(
    desk: &Desk<'_>,
    host: &Host,
    source: &Source<'_>,
    request: &Request,
    database: Option<&dyn Database>,
    facts: &Facts,
    target: Option<&dyn Target>,
    options: &ExtractOptions,
) -> Result<Plan> {
    let header = source.opened.header();
    let database = database.map(|d| d.plan(facts)).transpose()?;
    let storage = match target {
        Some(target) => Some(extract::plan(source.files(), &source.sealing, target, options, desk.progress.as_ref())?),
        None => None,
    };
    if database.is_none() && storage.is_none() {
        return Err(Error::not_found(format!("bundle {} holds nothing of what was asked for", header.id))
            .hint("`strongroom show` says what it contains."));
    }
    let mut hooks = Vec::new();
    if request.hooks {
        let h = &host.config.hooks;
        hooks.extend(h.stop.as_ref().map(|argv| format!("stop: {}", argv.join(" "))));
        hooks.extend(h.start.as_ref().map(|argv| format!("start: {}", argv.join(" "))));
        hooks.extend(h.health.as_ref().map(|health| format!("health: {}", health.url)));
    }
    let rollback = if database.as_ref().is_none_or(|d| d.reversible) {
        "rolled back as a whole if anything fails".to_owned()
    } else {
        "the database cannot be rolled back once it is committed; the bundle that is made first is the way back"
            .to_owned()
    };
    Ok(Plan {
        bundle: header.id.clone(),
        storage_from: source.storage.as_ref().map(|s| s.header().id.clone()),
        fingerprint: header.keys.first().cloned(),
        rekey: None,
        database,
        storage,
        hooks,
        rollback,
        // Without a signing key of its own this is nobody's host yet.
        signer: host.signer().ok().filter(|own| *own.public() != header.signer).map(|_| header.signer),
    })
}

/// What has been replaced so far, and how it comes back.
struct Undo<'a> {
    desk: &'a Desk<'a>,
    database: Option<Box<dyn Replacement>>,
    storage: Option<(&'a dyn Target, &'a ExtractPlan)>,
    bundle: &'a Opened<'a>,
}

impl Undo<'_> {
    fn everything(&mut self) -> Result<()> {
        self.desk.ask.say("putting everything back");
        let storage = match self.storage {
            Some((target, plan)) => extract::undo(target, &self.bundle.header().id, plan),
            None => Ok(()),
        };
        let database = match self.database.as_mut() {
            Some(replacement) => replacement.undo(),
            None => Ok(()),
        };
        storage.and(database)
    }
}

#[expect(clippy::too_many_arguments, reason = "one step of the plan each")]
fn replace<'a>(
    desk: &Desk<'_>,
    source: &'a Source<'_>,
    plan: &'a Plan,
    database: Option<&dyn Database>,
    (proved, rekeying): (&prove::Proved, Option<&Rekeying<'_>>),
    target: Option<&'a dyn Target>,
    options: &ExtractOptions,
    undo: &mut Undo<'a>,
) -> Result<()> {
    if let (Some(database), Some(planned)) = (database, &plan.database) {
        desk.progress.stage("build the database beside", Some(proved.summary.facts.bytes), Unit::Bytes);
        let mut member = |base: &str| {
            let member = source.opened.member_named(base)?;
            source.opened.content(&member, &source.sealing)
        };
        let mut replacement = database.build(planned, &proved.summary.facts, &mut member, desk.progress.as_ref())?;
        if planned.reversible {
            prove::restored(desk, proved, replacement.snapshot()?.as_mut())?;
        } else {
            in_place::prove_dump(desk, source, proved)?;
        }
        if let Some(rekeying) = rekeying {
            rekeying.run(desk, replacement.as_mut())?;
        }
        // From here on a failure must put it back, also one in the middle of the swap.
        let replacement = undo.database.insert(replacement);
        replacement.swap()?;
        if !planned.reversible {
            in_place::check(desk, replacement.as_mut(), proved)?;
        }
    }
    if let (Some(target), Some(planned)) = (target, &plan.storage) {
        undo.storage = Some((target, planned));
        extract::run(source.files(), &source.sealing, target, planned, options, desk.progress.as_ref())?;
    }
    Ok(())
}
