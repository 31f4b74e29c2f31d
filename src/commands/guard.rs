//! `guard`: start the application only if its key opens its database.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::{Duration, Instant};

use super::host::Host;
use super::{Desk, proof};
use crate::appkey::KeyText;
use crate::appkey::proof::{Proof, ProverOptions, Verdict, prove_with};
use crate::config::Config;
use crate::database::Snapshot;
use crate::ground::words::counted;
use crate::ground::{Error, Kind, Result, interrupt};

/// What is asked.
pub struct Request {
    /// How many credentials to try.
    pub sample: usize,
    /// How long trying may take.
    pub max_time: Duration,
    /// How long to wait for the database.
    pub wait: Duration,
    /// Mixed stops too.
    pub strict: bool,
    /// Nothing to prove with stops too.
    pub require_proof: bool,
    /// The command.
    pub command: Vec<OsString>,
}

/// What may be started, with which variable in its environment.
pub struct Permit {
    /// The command.
    pub command: Vec<OsString>,
    /// The name of the key's variable.
    pub variable: String,
    /// The key that was proved, exactly.
    pub key: KeyText,
}

impl Permit {
    /// The key's value as an environment variable.
    pub fn value(&self) -> OsString {
        OsString::from_vec(self.key.expose().to_vec())
    }
}

/// Proves a sample and permits the start, or refuses it.
pub fn run(desk: &Desk<'_>, config: Config, request: Request) -> Result<Permit> {
    let host = Host::new(config)?;
    for pending in host.pending_rotation().into_iter().chain(host.doubtful_places()) {
        desk.ask.say(&format!("guard: warning: {}. {}", pending.message, pending.hint.unwrap_or_default()));
    }
    let key = host.key_text(desk, None)?;
    if key.expose().contains(&0) {
        return Err(Error::usage("the key has a NUL byte, and no environment variable can hold one"));
    }
    let effective = host.scheme.effective_key(&key)?;
    let mut snapshot = wait_for_database(desk, &host, request.wait)?;
    let begun = Instant::now();
    let options = ProverOptions::new(host.scheme, &effective, &host.config.profile, desk.progress.as_ref());
    let (proved, cut) = prove_with(&options, |sink| {
        let mut cut = false;
        snapshot.credentials(&host.config.profile, Some(request.sample), &mut |credential| {
            // Time is bounded by trying fewer, never by taking an unproved key for a proved one.
            cut = cut || begun.elapsed() > request.max_time;
            if cut { Ok(()) } else { sink(credential) }
        })?;
        Ok(cut)
    })?;
    if cut {
        desk.ask.say(&format!(
            "guard: only {} tried in time",
            counted(tried(&proved), "credential was", "credentials were")
        ));
    }
    if cut && tried(&proved) == 0 {
        return Err(Error::wrong_key("no credential could be tried in the time that --max-time gives")
            .hint("Give more time; a key that was not tried starts nothing."));
    }
    judge(desk, &proved, &request)?;
    Ok(Permit { command: request.command, variable: host.config.profile.key_variable, key })
}

fn tried(proved: &Proof) -> u64 {
    proved.total.proved + proved.total.plausible + proved.total.failed
}

fn judge(desk: &Desk<'_>, proved: &Proof, request: &Request) -> Result<()> {
    let verdict = proved.verdict();
    let sentence = proof::sentence(verdict, &proved.total);
    match verdict {
        Verdict::Proved | Verdict::Plausible => Ok(()),
        Verdict::Mixed if !request.strict => {
            desk.ask.say(&format!("guard: warning: {sentence}"));
            Ok(())
        }
        Verdict::Mixed => Err(Error::wrong_key(sentence)
            .hint("Leave out --strict to start all the same, or find the key of the failing rows with `strongroom prove`.")),
        Verdict::Unproven | Verdict::NoKey if !request.require_proof => {
            desk.ask.say(&format!("guard: warning: {sentence}"));
            Ok(())
        }
        Verdict::Unproven | Verdict::NoKey => Err(Error::new(Kind::WrongKey, sentence)
            .hint("Leave out --require-proof to start with an empty database.")),
        Verdict::WrongKey => Err(Error::wrong_key(sentence).hint(
            "The application was not started: it would look healthy and every credential would be dead. Give it the key that these rows were written with.",
        )),
    }
}

fn wait_for_database(desk: &Desk<'_>, host: &Host, wait: Duration) -> Result<Box<dyn Snapshot>> {
    let database = host.needed_database(desk)?;
    let begun = Instant::now();
    let mut told = false;
    loop {
        match database.look() {
            Ok(snapshot) => return Ok(snapshot),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Unreachable) && begun.elapsed() < wait => {
                if !told {
                    desk.ask.say(&format!("guard: waiting for the database: {}", error.chain()));
                    told = true;
                }
                interrupt::check()?;
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(error) => return Err(error),
        }
    }
}
