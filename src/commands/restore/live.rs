//! A restore over the live system: stop, build beside, prove, swap, storage, start, health, or everything back.

use super::comparison::Comparison;
use super::mark::Mark;
use super::rekey::Rekeying;
use super::report::{Done, ended, planned};
use super::undo::{UNCHANGED, Undo, backed_up_before, start_again, take_back};
use super::{Plan, Request, Source, confirm, in_place, prove, unended};
use crate::bundle::extract::{self, Digests, ExtractOptions};
use crate::commands::hooks::Hooks;
use crate::commands::host::{Host, NamedKey, read_key};
use crate::commands::shelf::Shelf;
use crate::commands::{DatabaseOptions, Desk, Outcome, Problem, defects};
use crate::config::Config;
use crate::config::url::{DatabaseUrl, PlaceUrl};
use crate::database::{Database, Facts};
use crate::ground::progress::Unit;
use crate::ground::{Error, Result, clock, failpoint};
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
    let earlier = unended::find(&host.config.state);
    if let Some(earlier) = earlier.as_ref().filter(|_| !request.dry_run) {
        desk.ask.say(&earlier.sentence());
    }
    std::thread::scope(|scope| {
        let digests = (!request.dry_run).then(|| Comparison::begin(scope, desk, source, request));
        locked(desk, shelf, &host, source, request, earlier, digests)
    })
}

/// Restores where nobody else of this host does, or plans to.
fn locked(
    desk: &Desk<'_>,
    shelf: &Shelf,
    host: &Host,
    source: &Source<'_>,
    request: &Request,
    earlier: Option<unended::Unended>,
    digests: Option<Comparison<'_>>,
) -> Result<Outcome> {
    let header = source.opened.header();
    let mut problems = source.defects(request);
    let key = start_key(desk, host, source, request, &mut problems)?;
    // What is going to be re-encrypted is proved with its own key, as it is sealed in the bundle or escrowed.
    let (key, start) = if request.rekey { (None, key) } else { (key, None) };
    let proved = prove::bundle(desk, shelf, Some(&host.config), source, request, key)?;
    let rekeying = start.as_ref().and_then(|start| Rekeying::new(host, &proved, start).transpose()).transpose()?;

    let database = database(desk, host, source, request)?;
    let target = target(desk, host, source, request)?;
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
        ..plan(desk, host, source, request, database.as_deref(), &proved.summary.facts, target.as_deref(), &options)?
    };
    let hooks = Hooks { desk, host, on: request.hooks };
    let ready = hooks.ready(&["stop", "start"]);
    let Some(mut digests) = digests else {
        problems.extend(earlier.as_ref().map(unended::Unended::problem));
        problems.extend(ready.err().as_ref().map(Problem::from_error));
        return planned(&plan, problems);
    };
    ready?;
    if let Some(storage) = &plan.storage {
        digests.need(storage.parts()?);
    }
    confirm(desk, request, &plan, &problems)?;
    digests.awaited()?;

    // Written before the application is stopped: a full disk must not leave it so.
    let doubtful = defects::in_doubt(source.opened.header()) || defects::in_doubt(source.files().header());
    let mut mark = Mark::begin(&host.state_folder()?, facts(&hooks, request, &plan)?, earlier, doubtful)?;
    // Who fails to stop the application may have stopped a part of it.
    mark.stop(&hooks).map_err(|error| start_again(&hooks, &mut mark, error, UNCHANGED))?;
    failpoint::pass("after the stop hook");
    let mut undo = Undo { desk, database: None, storage: None, bundle: source.files() };
    let proofs = (&proved, rekeying.as_ref());
    let before = backed_up_before(desk, host, &plan, &hooks, &mut mark)?;
    let result = replace(desk, source, &plan, database.as_deref(), proofs, target.as_deref(), &options, &mut undo)
        .and_then(|()| mark.start(&hooks))
        .and_then(|()| hooks.well());
    if let Err(error) = result {
        let error = take_back(&hooks, &mut undo, &mut mark, error);
        return Err(match &before {
            Some(id) => error.hint(format!("What stood in the database before is bundle {id}.")),
            None => error,
        });
    }
    let kept = match undo.database.take() {
        Some(replacement) => replacement.keep().map_err(|error| mark.unended(error))?,
        None => None,
    };
    Ok(Done { source, plan: &plan, proved: &proved, kept, before, problems }.outcome(ended(mark)))
}

/// What the state folder remembers while the restore runs.
fn facts(hooks: &Hooks<'_>, request: &Request, plan: &Plan) -> Result<unended::Facts> {
    let storage = match &plan.storage {
        Some(_) => {
            let PlaceUrl::File(path) = storage_place(hooks.host, request.storage_url.as_deref())?;
            // From wherever the next restore is run, it is the same place.
            Some(format!("file:{}", path.canonicalize().unwrap_or(path).display()))
        }
        None => None,
    };
    Ok(unended::Facts {
        bundle: plan.bundle.clone(),
        begun: clock::now(),
        database: plan.database.as_ref().map(|database| database.target.clone()),
        storage,
        include: request.include.iter().map(|glob| glob.glob().to_string()).collect(),
        in_place: plan.database.as_ref().is_some_and(|database| !database.reversible),
        before: None,
        stopped: hooks.can_stop(),
        earlier: None,
    })
}

/// The key that the application will be started with; it must be the one that the bundle names.
fn start_key(
    desk: &Desk<'_>,
    host: &Host,
    source: &Source<'_>,
    request: &Request,
    problems: &mut Vec<Problem>,
) -> Result<Option<NamedKey>> {
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
            let mut problem = Problem::from_error(&error);
            "no-key".clone_into(&mut problem.code);
            problems.push(problem);
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
    desk.systems.target(&storage_place(host, url)?)
}

fn storage_place(host: &Host, url: Option<&str>) -> Result<PlaceUrl> {
    match url {
        Some(url) => PlaceUrl::parse(url, &current_folder()?),
        None => host.config.storage.clone().ok_or_else(|| {
            Error::usage(format!("{} names no storage", host.config.path.display()))
                .hint("Name one with --storage URL, or restore --only database.")
        }),
    }
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
