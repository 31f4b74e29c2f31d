//! The only room that reads arguments, asks, prints and draws progress; it ends in an exit code.

mod args;
pub mod exit;
mod keys;
mod man;
mod print;
mod reference;
mod terminal;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::commands::shelf::{PlaceFlags, Shelf};
use crate::commands::{
    self, Desk, Outcome, backup, bundles, custody, demo, guard, init, policy, prove, restore, verify,
};
use crate::config::{self, Config};
use crate::ground::{Error, Result, interrupt};
use crate::storage::Owner;
use crate::wiring::Wiring;
use args::{Cli, ConfigVerb, CustodyVerb, Global, Place, PolicyVerb, Verb};
use terminal::{Bars, Person};

/// How a verb ended, when it is more than an outcome.
enum End {
    Outcome(Outcome),
    /// Nothing more to print.
    Quiet,
    /// Become this command.
    Become(guard::Permit),
}

/// Reads the command line, runs the verb, prints how it ended.
///
/// `as_found` puts the process's limits back before it becomes another program.
pub fn run(as_found: &dyn Fn()) -> ExitCode {
    let matches = match reference::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return print::usage(&error),
    };
    let Cli { global, verb } = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return print::usage(&error),
    };
    let person = Person { quiet: global.quiet };
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("strongroom"));
    let desk = Desk {
        systems: &Wiring::default(),
        progress: Arc::new(Bars::new(
            !global.no_progress && !global.json && !global.quiet,
            global.quiet,
            global.verbose,
        )),
        ask: &person,
        program,
        variables: std::env::vars_os()
            .filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("STRONGROOM_"))
            .collect(),
    };
    let end =
        variables(&desk, &global).and_then(|()| interrupt::listen()).and_then(|()| dispatch(&desk, &global, verb));
    desk.progress.finish();
    match end {
        Ok(End::Outcome(outcome)) => print::outcome(&global, &outcome),
        Ok(End::Quiet) => ExitCode::SUCCESS,
        Ok(End::Become(permit)) => {
            as_found();
            print::error(&global, &become_command(&permit))
        }
        Err(error) => print::error(&global, &error),
    }
}

/// A misspelt variable would be no override, and nobody would know.
fn variables(desk: &Desk<'_>, global: &Global) -> Result<()> {
    let reference = |text: &str, name: &str| {
        text.match_indices(&format!("env:{name}"))
            .any(|(at, found)| !text[at + found.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    };
    config::known_variables(&desk.variables, &|name| {
        let arguments = std::env::args_os().any(|argument| reference(&argument.to_string_lossy(), name));
        arguments || std::fs::read_to_string(global.config_path()).is_ok_and(|text| reference(&text, name))
    })
}

/// Replaces this process by the command; returns only when that fails.
fn become_command(permit: &guard::Permit) -> Error {
    use std::os::unix::process::CommandExt as _;
    let Some((program, arguments)) = permit.command.split_first() else {
        return Error::usage("there is no command to start");
    };
    let error = std::process::Command::new(program).args(arguments).env(&permit.variable, permit.value()).exec();
    Error::io("start", Path::new(program), error)
        .hint("Is it installed, and on PATH? Name it by its whole path otherwise.")
}

impl Global {
    fn config_path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| PathBuf::from(config::FILE_NAME))
    }

    fn config(&self, desk: &Desk<'_>) -> Result<Config> {
        if self.config.is_none() {
            believed(Path::new(config::FILE_NAME))?;
        }
        Config::load(&self.config_path(), &desk.variables)
    }

    /// The configuration of a verb that can do with flags instead.
    fn config_of_the_shelf(&self, desk: &Desk<'_>) -> Result<Config> {
        self.config(desk).map_err(|error| {
            if self.config_path().exists() {
                return error;
            }
            error.hint("On a machine without one: --card recovery-card.txt, or --archive URL and --signer RW….")
        })
    }

    /// The configuration if one is named or stands here; verbs that can do without use this.
    fn config_if_any(&self, desk: &Desk<'_>) -> Result<Option<Config>> {
        if self.config.is_none() && !Path::new(config::FILE_NAME).exists() {
            return Ok(None);
        }
        self.config(desk).map(Some)
    }
}

/// Refuses a configuration that nobody named and that another user left in the current folder: it says what is run.
fn believed(path: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(meta) = std::fs::metadata(path) else { return Ok(()) };
    if meta.uid() == rustix::process::geteuid().as_raw() || meta.uid() == 0 {
        return Ok(());
    }
    Err(Error::refused(format!("the {} in this folder belongs to another user", path.display()))
        .hint(format!("If it is the right one, name it: --config {}", path.display())))
}

fn flags(place: &Place) -> PlaceFlags {
    PlaceFlags {
        archive: place.archive.clone(),
        signers: place.signer.clone(),
        card: place.card.clone(),
        app: place.app.clone(),
    }
}

/// Whether the command line says where bundles are, so that a configuration that happens to stand here is not meant.
fn elsewhere(place: &Place) -> bool {
    place.archive.is_some() || place.card.is_some()
}

fn dispatch(desk: &Desk<'_>, global: &Global, verb: Verb) -> Result<End> {
    let shelf = |place: &Place| Shelf::open(desk, &flags(place), || global.config_of_the_shelf(desk));
    let outcome = match verb {
        Verb::Prove(a) => {
            let _ = a.all;
            let config = if a.target.is_some() && a.key.is_some() { None } else { global.config_if_any(desk)? };
            prove::run(desk, &prove::Request { target: a.target, key: a.key, app: a.app, sample: a.sample }, config)
        }
        Verb::Init(a) => init::run(
            desk,
            &init::Request {
                app: a.app,
                database: a.database,
                database_password: a.database_password,
                storage: a.storage,
                archive: a.archive,
                key_source: a.key_source,
                custodians: a.custodian,
                recipient: a.recipient,
                signers: a.signer,
                yes: a.yes,
                config: global.config_path(),
            },
        ),
        Verb::Backup(a) => backup::run(desk, global.config(desk)?, &backup_request(&a)),
        Verb::List { place } => bundles::list(&shelf(&place)?),
        Verb::Show { bundle, unseal, files, place } => {
            bundles::show(desk, &shelf(&place)?, &bundle, &unseal.identity, files)
        }
        Verb::Cat { bundle, what, unseal, place } => {
            let mut out = print::Pipe::new();
            return match bundles::cat(desk, &shelf(&place)?, &bundle, &what, &unseal.identity, &mut out) {
                Err(error) if !out.gone() => Err(error),
                _ => Ok(End::Quiet),
            };
        }
        Verb::Check { bundle, all, place } => {
            let config = if elsewhere(&place) { None } else { global.config_if_any(desk)? };
            bundles::check(desk, &shelf(&place)?, config.as_ref(), (!all).then_some(bundle.as_str()))
        }
        Verb::Verify(a) => {
            let config = if elsewhere(&a.place) { None } else { global.config_if_any(desk)? };
            let request = verify::Request { bundle: a.bundle, identity: a.unseal.identity, deep: a.deep, key: a.key };
            verify::run(desk, &shelf(&a.place)?, config.as_ref(), &request)
        }
        Verb::Restore(a) => restore_verb(desk, global, a),
        Verb::Guard(a) => {
            let request = guard::Request {
                sample: a.sample,
                max_time: duration(&a.max_time)?,
                wait: duration(&a.wait)?,
                strict: a.strict,
                require_proof: a.require_proof,
                command: a.command,
            };
            return guard::run(desk, global.config(desk)?, request).map(End::Become);
        }
        Verb::Demo { dir: Some(dir), app_only: true } => {
            demo::application(&dir)?;
            return Ok(End::Quiet);
        }
        Verb::Demo { dir, .. } => {
            let mut say = |line: &str| drop(print::data(&format!("{line}\n")));
            demo::run(demo::Stage { say: &mut say, program: desk.program.clone() }, dir.as_deref())?;
            return Ok(End::Quiet);
        }
        Verb::Custody { verb } => custody_verb(desk, global, &verb),
        Verb::Config { verb: ConfigVerb::Check } => commands::config::check(desk, global.config(desk)?),
        Verb::Policy { verb: PolicyVerb::Print(a) } => {
            let args::PolicyPrint { system, role, mount, prefix, region, account } = a;
            policy::print(&policy::Request { system, role, mount, prefix, region, account })
        }
        Verb::Key { verb } => return keys::run(desk, global, verb),
        Verb::Completions { shell } => {
            let mut command = reference::command();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "strongroom", &mut script);
            print::data(&String::from_utf8_lossy(&script))?;
            return Ok(End::Quiet);
        }
        Verb::Man { dir } => {
            man::write(&dir)?;
            return Ok(End::Quiet);
        }
        Verb::Reference { dir } => {
            reference::write(&dir)?;
            return Ok(End::Quiet);
        }
    };
    outcome.map(End::Outcome)
}

fn backup_request(a: &args::Backup) -> backup::Request {
    let only = match a.only.as_deref() {
        Some("database") => backup::Only::Database,
        Some("storage") => backup::Only::Storage,
        Some("key") => backup::Only::Key,
        _ => backup::Only::All,
    };
    backup::Request { only, prove_all: a.prove_all, allow_empty: a.allow_empty, within: backup::Within::Nothing }
}

fn custody_verb(desk: &Desk<'_>, global: &Global, verb: &CustodyVerb) -> Result<Outcome> {
    let (CustodyVerb::List { place } | CustodyVerb::Test { place, .. }) = verb;
    let config = if elsewhere(place) { None } else { global.config_if_any(desk)? };
    let shelf = Shelf::open(desk, &flags(place), || global.config_of_the_shelf(desk))?;
    match verb {
        CustodyVerb::List { .. } => custody::list(&shelf, config.as_ref()),
        CustodyVerb::Test { unseal, .. } => custody::test(desk, &shelf, config.as_ref(), &unseal.identity),
    }
}

fn restore_verb(desk: &Desk<'_>, global: &Global, a: args::Restore) -> Result<Outcome> {
    let config = if elsewhere(&a.place) {
        global.config.is_some().then(|| global.config(desk)).transpose()?
    } else {
        global.config_if_any(desk)?
    };
    if config.is_none() && a.target.is_none() && !a.config_from_bundle {
        return Err(Error::usage("a restore over a live system needs its configuration")
            .hint("Give --config FILE or --config-from-bundle, or write plain files with --target DIR."));
    }
    if a.cleanup {
        let config =
            config.ok_or_else(|| Error::usage("a clean-up needs the configuration").hint("Give --config FILE."))?;
        let places = restore::cleanup::Places { database: a.database.as_deref(), storage: a.storage.as_deref() };
        return restore::cleanup::run(desk, config, &places, a.dry_run, a.yes);
    }
    let shelf = Shelf::open(desk, &flags(&a.place), || global.config_of_the_shelf(desk))?;
    let include = a
        .include
        .iter()
        .map(|glob| {
            globset::Glob::new(glob)
                .map(|g| g.compile_matcher())
                .map_err(|e| Error::usage(format!("{glob:?} is no pattern")).because(e))
        })
        .collect::<Result<_>>()?;
    let request = restore::Request {
        bundle: a.bundle,
        identity: a.identity,
        config_from_bundle: a.config_from_bundle,
        dry_run: a.dry_run,
        yes: a.yes,
        database: a.only.as_deref() != Some("storage") && (a.include.is_empty() || a.only.is_some()),
        storage: a.only.as_deref() != Some("database"),
        target: a.target,
        include,
        database_url: a.database,
        storage_url: a.storage,
        key: a.key,
        rekey: a.rekey,
        accept_unproved: a.accept_unproved,
        as_superuser: a.as_superuser,
        no_owner: a.no_owner,
        in_place: a.in_place,
        hooks: !a.no_hooks,
        delete_extra: a.delete_extra,
        owner: owner(&a.owner)?,
    };
    restore::run(desk, &shelf, config, &request)
}

fn owner(text: &str) -> Result<Owner> {
    let wrong = || Error::usage(format!("{text:?} is no owner")).hint("Use target, keep, or UID:GID in numbers.");
    match text {
        "target" => Ok(Owner::Target),
        "keep" => Ok(Owner::Keep),
        _ => {
            let (uid, gid) = text.split_once(':').ok_or_else(wrong)?;
            Ok(Owner::Ids(uid.parse().map_err(|_| wrong())?, gid.parse().map_err(|_| wrong())?))
        }
    }
}

/// `500ms`, `5s`, `2m`, `1h`, or seconds without a unit.
fn duration(text: &str) -> Result<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let wrong = || Error::usage(format!("{text:?} is no length of time")).hint("Write it like 500ms, 5s, 2m or 1h.");
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" | "" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        "h" => Ok(Duration::from_secs(number.saturating_mul(3600))),
        _ => Err(wrong()),
    }
}

/// The command line's own definition, for those who check it.
pub fn command() -> clap::Command {
    let _ = Cli::command;
    reference::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn lengths_of_time_have_units() {
        assert_eq!(duration("500ms").expect("read"), Duration::from_millis(500));
        assert_eq!(duration("2m").expect("read"), Duration::from_mins(2));
        assert!(duration("5 s").is_err());
        assert!(duration("").is_err());
    }
}
