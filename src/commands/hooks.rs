//! The application's own hooks: how it is stopped, started, asked whether it is well, and given a new key.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Desk;
use super::host::Host;
use crate::config::Health;
use crate::ground::{Error, Result, child, interrupt};

/// How long a hook may take.
const LIMIT: Duration = Duration::from_mins(5);

/// The hooks of a host; none of them runs when they are switched off.
pub(super) struct Hooks<'a> {
    pub(super) desk: &'a Desk<'a>,
    pub(super) host: &'a Host,
    pub(super) on: bool,
}

impl Hooks<'_> {
    /// Stops the application.
    pub(super) fn stop(&self) -> Result<()> {
        self.run("stop", self.host.config.hooks.stop.as_ref(), b"")
    }

    /// Starts the application.
    pub(super) fn start(&self) -> Result<()> {
        self.run("start", self.host.config.hooks.start.as_ref(), b"")
    }

    /// Starts the application again after an error that has changed nothing.
    pub(super) fn start_after(&self, error: Error, unchanged: &str) -> Error {
        match self.start() {
            Ok(()) if self.can_stop() && !self.can_start() => {
                error.hint(format!("{unchanged} The application may be stopped."))
            }
            Ok(()) => error.hint(unchanged),
            Err(second) => error
                .hint(format!("Nothing was changed, but starting the application again failed: {}", second.chain())),
        }
    }

    /// Whether the programs of these hooks can be run: `stop`, `start`, `set_key`.
    pub(super) fn ready(&self, wanted: &[&str]) -> Result<()> {
        let hooks = &self.host.config.hooks;
        let named = [("stop", &hooks.stop), ("start", &hooks.start), ("set_key", &hooks.set_key)];
        for (name, argv) in named.into_iter().filter(|(name, _)| self.on && wanted.contains(name)) {
            // Others are looked for on PATH, when they are run.
            let whole = argv.as_ref().filter(|argv| argv.first().is_some_and(|program| program.starts_with('/')));
            whole.map_or(Ok(()), |argv| program(argv).map(drop)).map_err(|e| e.context(format!("the {name} hook")))?;
        }
        Ok(())
    }

    /// Whether there is a hook that stops the application.
    pub(super) fn can_stop(&self) -> bool {
        self.on && self.host.config.hooks.stop.is_some()
    }

    /// Whether there is a hook that starts the application.
    pub(super) fn can_start(&self) -> bool {
        self.on && self.host.config.hooks.start.is_some()
    }

    /// Waits until the application is well, where there is a way to ask.
    pub(super) fn well(&self) -> Result<()> {
        match self.host.config.hooks.health.as_ref().filter(|_| self.on) {
            Some(health) => well(self.desk, health),
            None => Ok(()),
        }
    }

    /// Gives the application's configuration a new key, on the hook's standard input and nowhere else; `false` without such a hook.
    pub(super) fn set_key(&self, key: &[u8]) -> Result<bool> {
        let argv = self.host.config.hooks.set_key.as_ref();
        self.run("set_key", argv, key).map(|()| self.on && argv.is_some())
    }

    fn run(&self, name: &str, argv: Option<&Vec<String>>, input: &[u8]) -> Result<()> {
        let Some(argv) = argv.filter(|_| self.on) else { return Ok(()) };
        self.desk.ask.say(&format!("{name}: {}", argv.join(" ")));
        let environment = self.host.config.environment();
        let ran = match input {
            [] => child::run(argv, &environment, input, LIMIT).map(drop),
            key => child::run_with_secret(argv, &environment, key, LIMIT),
        };
        ran.map_err(|e| {
            e.context(format!("the {name} hook failed"))
                .hint(format!("Run it by hand to see why: {}. With --no-hooks no hook is run.", argv.join(" ")))
        })
    }
}

/// A program that cron will find: an absolute path to a file that can be executed.
pub(super) fn program(argv: &[String]) -> Result<String> {
    let path = Path::new(argv.first().map_or("", String::as_str));
    if !path.is_absolute() {
        return Err(Error::usage(format!("{} is no absolute path", path.display()))
            .hint("cron has a short PATH: name the program by its whole path."));
    }
    // A folder can be searched, which is the same right.
    if !path.is_file() || rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_err() {
        return Err(Error::not_found(format!("{} cannot be executed", path.display()))
            .hint("Check its name for a typing error, and its mode: chmod +x."));
    }
    Ok(path.display().to_string())
}

/// Waits until the application says that it is well, by what its answer says and not only by its status.
fn well(desk: &Desk<'_>, health: &Health) -> Result<()> {
    desk.ask.say(&format!("health: {}", health.url));
    let begun = Instant::now();
    loop {
        match ask_health(health) {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > Duration::from_secs(health.within_seconds) => {
                return Err(error.context("the application does not become well"));
            }
            Err(_) => {
                interrupt::check()?;
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    }
}

fn ask_health(health: &Health) -> Result<()> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build().into();
    let unreachable = |e: ureq::Error| Error::unreachable(format!("{} does not answer well", health.url)).because(e);
    let mut answer = agent.get(&health.url).call().map_err(unreachable)?;
    let body = answer.body_mut().with_config().limit(1 << 20).read_to_vec().map_err(unreachable)?;
    if health.expect.is_empty() {
        return Ok(());
    }
    let value: serde_json::Value = serde_json::from_slice(&body)
        .map_err(|_| Error::unreachable(format!("{} does not answer with JSON", health.url)))?;
    for (path, expected) in &health.expect {
        let found = path.split('.').try_fold(&value, |v, key| v.get(key));
        let said = match found {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => "nothing".to_owned(),
        };
        if said != *expected {
            return Err(Error::unreachable(format!("{}: {path} is {said}, not {expected:?}", health.url)));
        }
    }
    Ok(())
}
