//! The configured host: its application, its key, its systems.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::restore::unended::{self, Unended};
use super::{DatabaseOptions, Desk, Outcome, Problem, shelf::Shelf};
use crate::appkey::schemes::{self, Scheme};
use crate::appkey::source::Reference;
use crate::appkey::{EffectiveKey, KeyText, fingerprint, lint};
use crate::config::Config;
use crate::config::profile::Profile;
use crate::custody;
use crate::database::Database;
use crate::ground::names::{Fingerprint, Sha256Hex};
use crate::ground::scratch::Scratch;
use crate::ground::{Context as _, Error, Result, child, clock, durable};
use crate::signer::Signer;

/// The file in the state folder that holds the new key of a rotation under way.
pub(super) const ROTATION: &str = "rotation.json";

/// What can be done about a rotation that did not end.
pub(super) const ROTATION_NEXT: &str = "Go on with it: strongroom key rotate --resume. Or give it up, as long as no row is under the new key: strongroom key rotate --abort";

/// A key that was read: exact text, what the application uses of it, its name.
pub struct NamedKey {
    /// The exact text.
    pub text: KeyText,
    /// What the application really uses.
    pub effective: EffectiveKey,
    /// Its name.
    pub fingerprint: Fingerprint,
}

impl NamedKey {
    /// Names a key text for an installation.
    pub fn new(text: KeyText, scheme: &dyn Scheme, installation: &crate::ground::names::Uuid) -> Result<Self> {
        let effective = scheme.effective_key(&text)?;
        let fingerprint = fingerprint::of(scheme, installation, &effective)?;
        Ok(Self { text, effective, fingerprint })
    }
}

/// The configured host.
pub struct Host {
    /// The configuration.
    pub config: Config,
    /// How the application encrypts.
    pub scheme: &'static dyn Scheme,
}

impl Host {
    /// From a configuration.
    pub fn new(config: Config) -> Result<Self> {
        let scheme = schemes::by_name(&config.profile.scheme)?;
        Ok(Self { config, scheme })
    }

    /// The profile that the command line names: its file, or a name as in the configuration.
    pub fn profile(&self, app: &str) -> Result<Profile> {
        let beside = self.config.base().join(format!("policies/apps/{app}.toml"));
        if beside.exists() { Profile::find(app, &self.config.base()) } else { Profile::named(app) }
    }

    /// The archive and its ledger's names.
    pub fn shelf(&self, desk: &Desk<'_>) -> Result<Shelf> {
        Shelf::from_config(desk, &self.config)
    }

    /// The application's key as it is configured, or as `reference` names it.
    pub fn key(&self, desk: &Desk<'_>, reference: Option<&str>) -> Result<NamedKey> {
        self.named(self.key_text(desk, reference)?)
    }

    /// A key with its name here, which costs a slow hash.
    pub fn named(&self, text: KeyText) -> Result<NamedKey> {
        NamedKey::new(text, self.scheme, &self.config.installation)
    }

    /// The key's text as it is configured, or as `reference` names it.
    pub fn key_text(&self, desk: &Desk<'_>, reference: Option<&str>) -> Result<KeyText> {
        match reference {
            Some(text) => read_key(desk, Some(&self.config), text),
            None => desk
                .secret(&self.config.key, Some(&self.config), None)
                .context(|| format!("cannot read the application key from {}", self.config.key.in_words())),
        }
    }

    /// The configured database.
    pub fn database(&self, desk: &Desk<'_>) -> Result<Option<Box<dyn Database>>> {
        let Some(url) = &self.config.database else { return Ok(None) };
        desk.systems.database(url, &self.database_options(desk)?).map(Some)
    }

    /// The same for what cannot be done without one.
    pub fn needed_database(&self, desk: &Desk<'_>) -> Result<Box<dyn Database>> {
        self.database(desk)?.ok_or_else(|| {
            Error::usage(format!("{} names no database", self.config.path.display()))
                .hint("Set [database] url there: sqlite:PATH or postgres://user@host/database.")
        })
    }

    /// How the configured database is reached.
    pub fn database_options(&self, desk: &Desk<'_>) -> Result<DatabaseOptions> {
        let config = &self.config;
        let password = match &config.database_password {
            Some(reference) => Some(Arc::new(
                desk.secret(reference, Some(config), Some("Password of the database"))
                    .context(|| format!("cannot read the database's password from {}", reference.in_words()))?,
            )),
            None => None,
        };
        // This machine and this state folder: two hosts that back up one database leave each other's sessions alone.
        let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
        let state = std::path::absolute(&config.state).unwrap_or_else(|_| config.state.clone());
        let name = [&machine[..], b"\0", state.as_os_str().as_encoded_bytes()].concat();
        Ok(DatabaseOptions {
            max_lock_seconds: config.max_lock_seconds,
            password,
            prefix: config.command_prefix.clone(),
            programs: config.database_programs.clone(),
            environment: config.environment(),
            host: Sha256Hex::of(&name).as_str()[..12].to_owned(),
            ..DatabaseOptions::default()
        })
    }

    /// The signer of this host.
    pub fn signer(&self) -> Result<Signer> {
        let path = self.config.signing_key.as_ref().ok_or_else(|| {
            Error::usage(format!("{} names no signing key", self.config.path.display()))
                .hint("Set [signing] key to this host's minisign key.")
        })?;
        Signer::load(path)
    }

    /// The folder with mode 0700 for plaintext.
    pub fn scratch(&self) -> Result<Scratch> {
        self.state_folder()?;
        Scratch::at(&self.config.scratch)
    }

    /// The folder in which this host remembers what it stored.
    pub fn state_folder(&self) -> Result<PathBuf> {
        durable::believed_folder(&self.config.state)?;
        durable::create_folders(&self.config.state, 0o700)?;
        Ok(self.config.state.clone())
    }

    /// Holds off other runs of this host; [`crate::ground::Kind::Locked`] when one is under way.
    pub fn lock(&self) -> Result<File> {
        let path = self.state_folder()?.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .custom_flags(durable::AT_ONCE)
            .open(&path)
            .map_err(|e| Error::io("open", &path, e))?;
        match file.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(Error::locked(format!("another run of this host holds {}", path.display()))
                    .hint("Wait for it to end; a run that was killed holds no lock."))
            }
            // A place without locks is no reason not to back up: correctness does not rest on this lock.
            Ok(()) | Err(std::fs::TryLockError::Error(_)) => Ok(file),
        }
    }

    /// What is wrong with a key's text.
    pub fn lint(&self, key: &KeyText) -> Vec<Problem> {
        lint::lint(self.scheme, key).into_iter().map(lint_problem).collect()
    }

    /// What a person should know about the key and its custody, every time.
    pub fn standing_problems(&self, key: Option<&KeyText>) -> Vec<Problem> {
        let mut problems = key.map_or_else(Vec::new, |key| self.lint(key));
        if self.config.recovery_identity.exists() {
            problems.push(Problem::new(
                "recovery-identity-here",
                format!(
                    "{} is still on this host{}",
                    self.config.recovery_identity.display(),
                    if custody::is_protected(&self.config.recovery_identity) { ", under its passphrase" } else { "" }
                ),
                "Move it to where this host cannot read it, and keep it with the recovery card.",
            ));
        }
        problems
    }

    /// A rotation of the key that did not end, if there is one.
    pub fn pending_rotation(&self) -> Option<Problem> {
        let path = self.config.state.join(ROTATION);
        path.exists().then(|| {
            Problem::new(
                "rotation-pending",
                format!("a key rotation did not end: {} holds its new key", path.display()),
                ROTATION_NEXT,
            )
        })
    }

    /// A restore over the live system that did not end, if there is one.
    pub fn pending_restore(&self) -> Option<Problem> {
        unended::find(&self.config.state).map(|left| left.problem())
    }

    /// The same for whoever starts the application: to him it is nothing that it may be stopped, nor what he may not read.
    pub fn doubtful_places(&self) -> Option<Problem> {
        unended::find(&self.config.state).filter(Unended::is_seen_in_doubt).map(|left| left.problem())
    }

    /// Tells how a verb ended to whoever wants to know; that nobody could be told is for a person to look at.
    pub fn told(&self, verb: &str, result: Result<Outcome>) -> Result<Outcome> {
        match result {
            Ok(mut outcome) => {
                if let Some(problem) = self.notify(verb, outcome.exit, &outcome.json) {
                    if outcome.exit == 0 {
                        outcome.exit = super::ATTENTION;
                    }
                    outcome.problems.push(problem);
                }
                Ok(outcome)
            }
            Err(error) => {
                let told = serde_json::json!({ "error": Problem::from_error(&error) });
                match self.notify(verb, error.kind().exit_code(), &told) {
                    Some(problem) => Err(error.hint(problem.message)),
                    None => Err(error),
                }
            }
        }
    }

    fn notify(&self, verb: &str, exit: u8, result: &serde_json::Value) -> Option<Problem> {
        let argv = self.config.on_result.as_ref()?;
        let told = serde_json::json!({
            "verb": verb,
            "app": self.config.app,
            "time": clock::rfc3339(clock::now()),
            "exit": exit,
            "result": result,
        });
        let input = told.to_string();
        child::run(argv, &self.config.environment(), input.as_bytes(), std::time::Duration::from_mins(1))
            .err()
            .map(|e| Problem::from_error(&e.context("the result was not told to [notify] on_result")))
    }
}

/// What is to be said about a key, as a problem.
pub fn lint_problem(finding: lint::Finding) -> Problem {
    Problem::new(&format!("key-{}", finding.code), finding.message, finding.hint)
}

/// Reads a key by a reference of the command line, relative to the current folder.
pub fn read_key(desk: &Desk<'_>, config: Option<&Config>, reference: &str) -> Result<KeyText> {
    let parsed: Reference = reference.parse()?;
    desk.secret_relative_to(&parsed, std::path::Path::new(""), config, None)
        .context(|| format!("cannot read the application key from {}", parsed.in_words()))
}
