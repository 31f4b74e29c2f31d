//! One file a verb: a readable list of steps over contracts; no concrete system, no printing.

pub mod backup;
pub mod bundles;
pub mod config;
pub mod custody;
mod defects;
pub mod demo;
mod deposits;
pub mod guard;
mod hooks;
pub mod host;
pub mod init;
pub mod key;
mod missed;
pub mod policy;
pub mod proof;
pub mod prove;
mod reencrypt;
pub mod restore;
pub mod shelf;
pub mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::appkey::KeyText;
use crate::appkey::source::{self, Reference};
use crate::archive::Archive;
use crate::config::url::{DatabaseUrl, PlaceUrl};
use crate::config::{Config, EscrowPlace};
use crate::database::Database;
use crate::escrow::Escrow;
use crate::ground::child::Environment;
use crate::ground::progress::Progress;
use crate::ground::{Error, Result};
use crate::storage::{Storage, Target};

/// The exit code of work that is done and that a person should look at.
pub const ATTENTION: u8 = 3;

/// What a person is asked and told while a verb runs.
pub trait Ask: Send + Sync {
    /// Whether somebody is there to answer.
    fn interactive(&self) -> bool;
    /// Asks for a secret without echo; an error when nobody is there.
    fn secret(&self, prompt: &str) -> Result<Zeroizing<String>>;
    /// Asks for a line of text.
    fn text(&self, prompt: &str) -> Result<String>;
    /// Asks yes or no; no is the default.
    fn confirm(&self, question: &str) -> Result<bool>;
    /// Says something that is not the result.
    fn say(&self, line: &str);
}

/// What a database needs to be reached, and how patient and how bold its user is.
#[derive(Clone)]
pub struct DatabaseOptions {
    /// The longest time that a backup may keep others from writing, in seconds.
    pub max_lock_seconds: u64,
    /// Its password, when it needs one that it does not find itself.
    pub password: Option<Arc<KeyText>>,
    /// What stands in front of its own programs.
    pub prefix: Vec<String>,
    /// The folder of its own programs.
    pub programs: Option<PathBuf>,
    /// What its programs get of our environment.
    pub environment: Environment,
    /// Tells this host's sessions from others'.
    pub host: String,
    /// A restore may run with a superuser's rights.
    pub as_superuser: bool,
    /// A restore leaves owners and grants out.
    pub no_owner: bool,
    /// A restore changes the live database itself.
    pub in_place: bool,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            max_lock_seconds: 5,
            password: None,
            prefix: Vec::new(),
            programs: None,
            environment: Environment::default(),
            host: std::process::id().to_string(),
            as_superuser: false,
            no_owner: false,
            in_place: false,
        }
    }
}

/// Makes concrete systems out of what the configuration names; `wiring` is the one implementation.
pub trait Systems: Send + Sync {
    /// The archive at a place; with `create` its folder is made.
    fn archive(&self, place: &PlaceUrl, create: bool) -> Result<Arc<dyn Archive>>;
    /// The application's database.
    fn database(&self, url: &DatabaseUrl, options: &DatabaseOptions) -> Result<Box<dyn Database>>;
    /// The application's storage, to read.
    fn storage(&self, place: &PlaceUrl) -> Result<Box<dyn Storage>>;
    /// The application's storage, to restore into.
    fn target(&self, place: &PlaceUrl) -> Result<Box<dyn Target>>;
    /// A folder as a place to write plain files to.
    fn folder(&self, path: &Path) -> Result<Box<dyn Target>>;
    /// A place for sealed application keys.
    fn escrow<'a>(&self, place: &EscrowPlace, archive: &'a dyn Archive) -> Result<Box<dyn Escrow + 'a>>;
    /// A secret that another system keeps.
    fn secret(&self, reference: &Reference, around: &Around<'_>) -> Result<Zeroizing<Vec<u8>>>;
}

/// What a reference to a secret is read with.
pub struct Around<'a> {
    /// The folder that relative paths are relative to.
    pub base: &'a Path,
    /// The escrows of the configuration: their settings say how to reach the system that keeps the secret.
    pub escrows: &'a [EscrowPlace],
    /// What child programs get of our environment.
    pub environment: Environment,
    /// Asks a person for a passphrase.
    pub ask: &'a dyn Fn(&str) -> Result<Zeroizing<String>>,
    /// Tells a person what will not go well for ever, and what to do about it.
    pub warn: &'a dyn Fn(&str, &str),
}

impl Desk<'_> {
    /// Reads a secret, with what the configuration says if there is one; `prompt` is what a person is asked for.
    pub fn secret(&self, reference: &Reference, config: Option<&Config>, prompt: Option<&str>) -> Result<KeyText> {
        self.secret_relative_to(reference, &config.map(Config::base).unwrap_or_default(), config, prompt)
    }

    /// The same, with relative paths relative to `base`.
    pub fn secret_relative_to(
        &self,
        reference: &Reference,
        base: &Path,
        config: Option<&Config>,
        prompt: Option<&str>,
    ) -> Result<KeyText> {
        let around = Around {
            base,
            escrows: config.map_or(&[], |config| &config.escrows),
            environment: config.map(Config::environment).unwrap_or_default(),
            ask: &|question| self.ask.secret(question),
            warn: &|line, hint| {
                self.progress.note(&format!("warning: {line}"));
                self.progress.note(&format!("   hint: {hint}"));
            },
        };
        source::resolve(reference, base, &|question| self.ask.secret(prompt.unwrap_or(question)), &|reference| {
            self.systems.secret(reference, &around)
        })
    }
}

/// What every verb has at hand.
pub struct Desk<'a> {
    /// Concrete systems on demand.
    pub systems: &'a dyn Systems,
    /// Who watches.
    pub progress: Arc<dyn Progress>,
    /// Who answers.
    pub ask: &'a dyn Ask,
    /// The program itself, for hooks and schedules.
    pub program: PathBuf,
    /// `STRONGROOM_…` variables.
    pub variables: Vec<(String, String)>,
}

/// Something that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A word for scripts.
    pub code: String,
    /// What is the matter, with which object.
    pub message: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// A problem with a hint.
    pub fn new(code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), hint: Some(hint.into()) }
    }

    /// Whether it is advice, and no reason for a person to get up.
    pub fn is_advice(&self) -> bool {
        self.code.starts_with("key-")
            || ["recovery-identity-here", "missing-fetchable", "escrow-login-short", "other-sealing-key"]
                .contains(&self.code.as_str())
    }

    /// An error that did not stop the work.
    pub fn from_error(error: &Error) -> Self {
        Self { code: error.kind().word().to_owned(), message: error.chain(), hint: error.hints().first().cloned() }
    }
}

/// The exit code of work that is done, whose problems are all for a person to look at.
fn exit_of(problems: &[Problem]) -> u8 {
    if problems.is_empty() { 0 } else { ATTENTION }
}

/// How a verb ended: for scripts, for people, and as an exit code.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code.
    pub exit: u8,
    /// For `--json`.
    pub json: Value,
    /// For standard output.
    pub text: Vec<String>,
    /// The one line that `-q` prints when all is not well.
    pub line: String,
    /// What a person should look at.
    pub problems: Vec<Problem>,
}

impl Outcome {
    /// A good end.
    pub fn done(json: impl Serialize, text: Vec<String>) -> Result<Self> {
        Ok(Self { exit: 0, json: to_json(&json)?, line: String::new(), text, problems: Vec::new() })
    }
}

/// A value for `--json`.
pub fn to_json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::failed("cannot write the result as JSON").because(e))
}

/// Bytes as people read them: `1.4 GiB`.
pub fn human_bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit < units.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// What an identity may need of the person: passphrases, and the words of plugins.
impl crate::custody::Ask for &dyn Ask {
    fn passphrase(&self, what: &str) -> Result<Zeroizing<String>> {
        let mut prompt = what.to_owned();
        if let Some(first) = prompt.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        self.secret(&prompt)
    }

    fn tell(&self, line: &str) {
        self.say(line);
    }

    fn confirm(&self, question: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        if !self.interactive() {
            return None;
        }
        let question = format!("{question} ({yes}{})", no.map_or_else(String::new, |no| format!(" / {no}")));
        Ask::confirm(*self, &question).ok()
    }

    fn text(&self, what: &str) -> Option<String> {
        if self.interactive() { Ask::text(*self, what).ok() } else { None }
    }
}
