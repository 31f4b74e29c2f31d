//! `key rotate`: a new application key, escrowed before anything depends on it; every credential under it, or none.
//!
//! The order: prove the old key, make the new one durable, escrow it, back up, stop the application, re-encrypt in one
//! transaction, configure, start, back up. Killed anywhere, the database is all under the old key or all under the new one, both
//! keys are at hand, and `--resume` finds out which it is; before the commit `--abort` gives the rotation up.
//!
//! Beside a running application (`--online`) nothing is stopped before the credentials are re-encrypted; once the application has
//! the new key, a second sweep takes what it wrote under the old one in between.

mod abort;
mod from;
mod mark;
mod pending;
mod resume;
mod steps;

use std::path::PathBuf;

use serde_json::json;

use self::mark::Mark;
use self::pending::{Pending, under_way};
use self::steps::{Missed, Swept, printed};
use crate::commands::deposits::{self, Origin};
use crate::commands::hooks::Hooks;
use crate::commands::host::{Host, NamedKey, ROTATION_NEXT, read_key};
use crate::commands::reencrypt::Rest;
use crate::commands::{ATTENTION, Desk, Outcome, Problem, proof};
use crate::config::Config;
use crate::database::{Database, Others};
use crate::ground::names::Fingerprint;
use crate::ground::words::counted;
use crate::ground::{Error, Kind, Result, failpoint};

/// What is said of a rotation that failed before anything was under the new key.
const UNCHANGED: &str =
    "Nothing was changed. `key rotate --resume` tries again, and `key rotate --abort` gives the rotation up.";

/// What is said when only a part of the credentials was under the new key, and still is.
const AS_IT_WAS: &str =
    "Nothing was changed: some credentials are under the new key, and some are not. `key rotate --resume` tries again.";

/// What is said when the application does not come back with the new key.
const CONFIGURED: &str = "The database is under the new key, which is configured; the application may be stopped. `key rotate --resume` starts it again and goes on.";

/// What is said when nobody knows whether the application has the new key.
const UNREAD: &str = "The database is under the new key; the application may be stopped. When its configured key can be read, `key rotate --resume` goes on.";

/// The word for credentials that are under neither key.
const SEVERAL: &str = "several-keys";

/// What is asked.
#[expect(clippy::struct_excessive_bools, reason = "each is asked for on its own")]
pub struct RotateRequest {
    /// The new key; one is made when missing.
    pub new: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Print the plan only.
    pub dry_run: bool,
    /// Go on with a rotation that did not end.
    pub resume: bool,
    /// Give up a rotation that did not end.
    pub abort: bool,
    /// Put rows under this key, by the beginning of its fingerprint, under the one in use; no new key is made.
    pub from: Option<String>,
    /// Who opens that key.
    pub identity: Vec<PathBuf>,
    /// Go on while the application runs.
    pub online: bool,
    /// Do not ask.
    pub yes: bool,
    /// Run the hooks.
    pub hooks: bool,
}

/// Replaces the application's key.
pub fn rotate(desk: &Desk<'_>, config: Config, request: &RotateRequest) -> Result<Outcome> {
    let host = Host::new(config)?;
    let result = run(desk, &host, request);
    desk.progress.finish();
    if request.dry_run { result } else { host.told("rotate", result) }
}

fn run(desk: &Desk<'_>, host: &Host, request: &RotateRequest) -> Result<Outcome> {
    let _lock = host.lock()?;
    let database = host.needed_database(desk)?;
    let state = host.state_folder()?;
    let rotation = Rotation { desk, host, database: database.as_ref(), request };
    let mark = Mark::find(&state)?;
    match (Pending::find(&state)?, request.resume || request.abort) {
        (None, true) if request.abort => {
            let error = Error::not_found("there is no rotation to give up");
            Err(match mark {
                Some(_) => error.hint("One with --from was killed: `strongroom key rotate --resume` ends it."),
                None => error,
            })
        }
        (None, false) => {
            if let Some(fingerprint) = &request.from {
                return rotation.rows_from(fingerprint, mark);
            }
            rotation.settle(mark)?.map_or(Ok(()), Mark::end)?;
            rotation.begin()
        }
        (None, true) => match mark {
            Some(mark) => rotation.rows_on(mark),
            None => {
                Err(Error::not_found("there is no rotation to go on with").hint("`strongroom key rotate` begins one."))
            }
        },
        (Some(pending), false) => Err(under_way(pending.path())),
        (Some(pending), true) => {
            rotation.settle(mark)?.map_or(Ok(()), Mark::end)?;
            if request.abort { rotation.abort(pending) } else { rotation.resume(pending) }
        }
    }
}

struct Rotation<'a> {
    desk: &'a Desk<'a>,
    host: &'a Host,
    database: &'a dyn Database,
    request: &'a RotateRequest,
}

impl Rotation<'_> {
    fn begin(&self) -> Result<Outcome> {
        self.host.config.profile.writable()?;
        let old = self.host.key(self.desk, None)?;
        let text = match &self.request.new {
            Some(reference) => {
                let text = read_key(self.desk, Some(&self.host.config), reference)?;
                self.fit(&text)?;
                text
            }
            None => self.host.scheme.new_key()?,
        };
        let new = NamedKey::new(text, self.host.scheme, &self.host.config.installation)?;
        if old.effective.same_as(&new.effective) {
            return Err(Error::refused(format!("the new key is the old one, {}", old.fingerprint.short()))
                .hint("Two texts that the application treats as one are one key; leave --new out for a random one."));
        }
        let weak = self.host.lint(&new.text);
        let proved = self.prove(&old, None)?;
        let count = proved.total.proved;
        let lines = self.plan(&old, &new, count);
        if self.request.dry_run {
            let json = json!({
                "old": old.fingerprint, "new": self.request.new.is_some().then_some(&new.fingerprint),
                "state": "planned", "moved": 0, "credentials": proof::counts_json(&proved.total), "plan": lines,
                "problems": weak,
            });
            return Ok(Outcome { exit: 0, json, line: String::new(), text: lines, problems: weak });
        }
        self.hooks().ready(&["stop", "start", "set_key"])?;
        self.confirm(&lines, &weak)?;
        let origin = Origin { predecessor: Some(old.fingerprint.clone()), reason: self.request.reason.clone() };
        let record = deposits::record(self.host, &new, &origin);
        let beside = self.request.online.then(|| deposits::record(self.host, &old, &Origin::default()));
        let pending = Pending::begin(&self.host.state_folder()?, record, &old.fingerprint, beside)?;
        failpoint::pass("before the new key is escrowed");
        match self.escrow(&new, &pending.origin()) {
            Ok(()) => self.under_old(pending, &old, &new, weak, false),
            // Nobody else has the key, and nothing is under it: there is nothing to go on with.
            Err(Missed { error, stored: false }) => Err(match pending.end() {
                Ok(()) => error.hint("Nothing was changed, and no rotation is pending."),
                Err(_) => error.hint(ROTATION_NEXT),
            }),
            Err(missed) => Err(missed.error.hint(ROTATION_NEXT)),
        }
    }

    /// From a database under the old key, or `partly` under the new one, and that in escrow: back up, stop, re-encrypt.
    fn under_old(
        &self,
        pending: Pending,
        old: &NamedKey,
        new: &NamedKey,
        mut problems: Vec<Problem>,
        partly: bool,
    ) -> Result<Outcome> {
        let before = self.back_up("the bundle before the rotation").map_err(|error| error.hint(ROTATION_NEXT))?;
        // That no key opens all of one is what is being mended.
        problems.extend(before.into_iter().filter(|_| !partly));
        // Where rows are under the new key already, the old one was kept before they went, or opened from a copy now.
        if !partly {
            self.kept(old).map_err(|error| {
                error.hint("`strongroom key escrow --repair` puts the configured key back.").hint(ROTATION_NEXT)
            })?;
        }
        let beside = pending.beside().is_some();
        let hooks = Hooks { on: self.request.hooks && !beside, ..self.hooks() };
        let unchanged = if partly { AS_IT_WAS } else { UNCHANGED };
        hooks.stop().map_err(|error| hooks.start_after(error, unchanged))?;
        let rest = if beside || partly { Rest::Leave } else { Rest::Refuse };
        match self.sweep(old, new, rest, if beside { Others::Wait } else { Others::Refuse }) {
            Ok(Swept::Done(_)) => self.under_new(pending, new, problems),
            Ok(Swept::Unknown(error)) => Err(unknown(error, "`key rotate --resume` finds out then")),
            // Nothing was changed: the application goes on with the key that it has.
            Err(error) => Err(hooks.start_after(error, unchanged)),
        }
    }

    /// From a database under the new key: configure, start, back up, forget the file.
    fn under_new(&self, pending: Pending, new: &NamedKey, mut problems: Vec<Problem>) -> Result<Outcome> {
        self.enter(&pending)?;
        let hooks = self.hooks();
        // Its place may be gone with the application that was stopped, and come back with the hook.
        let mut configured = match self.configured(new) {
            Err(error) if error.kind() == Kind::NotFound && self.host.config.hooks.set_key.is_some() => false,
            configured => configured?,
        };
        let mut failed = None;
        if !configured {
            failed = hooks.set_key(new.text.expose()).err();
            if let Some(error) = failed.take_if(|error| error.kind() == Kind::Interrupted) {
                return Err(error);
            }
            configured = self.configured(new).map_err(|error| {
                let error = error.hint(format!("The new key: `{} | base64 -d` prints it.", printed(&pending)));
                failed.iter().fold(error, |error, failed| error.hint(failed.chain()))
            })?;
        }
        if !configured {
            return Ok(self.waiting(&pending, new, failed.as_ref(), problems));
        }
        let anew = || {
            if pending.beside().is_some() {
                hooks.stop()?;
            }
            hooks.start()?;
            hooks.well()
        };
        anew().map_err(|error| error.hint(CONFIGURED))?;
        let mut late = 0;
        if pending.beside().is_some() {
            match self.sweep(&self.old(&pending)?, new, Rest::Leave, Others::Wait)? {
                Swept::Done(moved) => late = moved.now,
                Swept::Unknown(error) => return Err(unknown(error, "`key rotate --resume` goes on then")),
            }
        }
        let proved = self.prove(new, Some("under the new key"))?;
        problems.extend(self.back_up("the bundle after the rotation")?);
        let old = pending.old().clone();
        pending.end()?;
        let mut text = vec![
            format!("key {} took the place of {}", new.fingerprint.short(), old.short()),
            format!("  {}", proof::sentence(proved.verdict(), &proved.total)),
        ];
        if late > 0 {
            text.push(format!(
                "  {late} of them were written under the old key meanwhile, and found by the second sweep"
            ));
        }
        text.extend([
            format!("  key {} is kept: older bundles need it (`strongroom key needed --all`)", old.short()),
            "  credentials that somebody has seen already are not made safe by this: change them at their source"
                .to_owned(),
        ]);
        Ok(Outcome {
            exit: if problems.iter().all(Problem::is_advice) { 0 } else { ATTENTION },
            json: json!({
                "old": old, "new": new.fingerprint, "state": "done", "moved": proved.total.proved + proved.total.plausible,
                "credentials": proof::counts_json(&proved.total), "problems": problems,
            }),
            line: problems.first().map_or_else(String::new, |p| p.message.clone()),
            text,
            problems,
        })
    }

    /// The database is done and the application's configuration is not.
    fn waiting(&self, pending: &Pending, new: &NamedKey, failed: Option<&Error>, problems: Vec<Problem>) -> Outcome {
        let again = if pending.beside().is_some() { "start the application anew, then" } else { "then" };
        let problem = Problem::new(
            "not-configured",
            format!(
                "the database is under key {} now, and {} still gives another one",
                new.fingerprint.short(),
                self.host.config.key
            ),
            format!(
                "Put the new key there (`{} | base64 -d` prints it), {again}: strongroom key rotate --resume",
                printed(pending)
            ),
        );
        let hook = failed.map(|error| {
            Problem::new(
                "set-key-failed",
                error.chain(),
                "`strongroom key rotate --resume` runs it again, and goes on; the hook is given the new key on its standard input.",
            )
        });
        let problems: Vec<_> = std::iter::once(problem).chain(hook).chain(problems).collect();
        Outcome {
            exit: ATTENTION,
            json: json!({
                "old": pending.old(), "new": new.fingerprint, "state": "not-configured", "problems": &problems,
            }),
            line: problems.first().map_or_else(String::new, |p| p.message.clone()),
            text: vec![if problems.iter().any(|problem| problem.code == SEVERAL) {
                format!("no credential is under key {} any more", pending.old().short())
            } else {
                format!("every credential is under key {} now", new.fingerprint.short())
            }],
            problems,
        }
    }

    fn hooks(&self) -> Hooks<'_> {
        Hooks { desk: self.desk, host: self.host, on: self.request.hooks }
    }

    /// Whether the application is configured with the new key; what cannot be read is an error, and no other key.
    fn configured(&self, new: &NamedKey) -> Result<bool> {
        let text = self.host.key_text(self.desk, None).map_err(|error| error.hint(UNREAD))?;
        Ok(self.host.scheme.effective_key(&text).is_ok_and(|effective| effective.same_as(&new.effective)))
    }

    fn plan(&self, old: &NamedKey, new: &NamedKey, count: u64) -> Vec<String> {
        let hooks = &self.host.config.hooks;
        let made = if self.request.new.is_some() { new.fingerprint.short() } else { "made at random" };
        let mut lines = vec![
            format!("rotate key {} of {}; the new one is {made}", old.fingerprint.short(), self.database.describe()),
            format!(
                "  escrow the new key in {}, and back up",
                counted(self.host.config.escrows.len(), "place", "places")
            ),
            format!("  re-encrypt {} in one transaction", counted(count, "credential", "credentials")),
        ];
        if self.request.online {
            lines.push("  the application runs on, and cannot read credentials until it has the new key".to_owned());
            lines.push("  look a second time for what it wrote under the old key meanwhile".to_owned());
        }
        lines.extend(self.hook_lines());
        if hooks.set_key.is_none() || !self.request.hooks {
            lines.push(format!("  you put the new key into {} then", self.host.config.key));
        }
        lines.push("  back up again; the old key is kept as long as a bundle needs it".to_owned());
        lines
    }

    /// The hooks that will run.
    fn hook_lines(&self) -> Vec<String> {
        let hooks = &self.host.config.hooks;
        let set_key = hooks.set_key.as_ref().filter(|_| self.request.from.is_none());
        let stop = hooks.stop.as_ref();
        let steps = if self.request.online {
            [("set_key", set_key), ("stop", stop), ("start", hooks.start.as_ref())]
        } else {
            [("stop", stop), ("set_key", set_key), ("start", hooks.start.as_ref())]
        };
        let shown = self.request.hooks && !(self.request.online && self.request.from.is_some());
        let line =
            |(name, argv): (&str, Option<&Vec<String>>)| argv.map(|argv| format!("  runs {name}: {}", argv.join(" ")));
        steps.into_iter().filter(|_| shown).filter_map(line).collect()
    }

    /// What becomes of others who have the database open.
    fn others(&self) -> Others {
        if self.request.online { Others::Wait } else { Others::Refuse }
    }

    /// Says what is to be known of the new key, and asks.
    fn confirm(&self, lines: &[String], weak: &[Problem]) -> Result<()> {
        for problem in weak {
            self.desk.ask.say(&format!("warning: {}", problem.message));
        }
        if self.request.yes {
            return Ok(());
        }
        if !self.desk.ask.interactive() {
            return Err(Error::refused("a rotation changes live data and nobody is there to be asked")
                .hint("Read the plan with --dry-run, then give --yes."));
        }
        self.desk.progress.finish();
        for line in lines {
            self.desk.ask.say(line);
        }
        if self.desk.ask.confirm("Rotate the key?")? { Ok(()) } else { Err(Error::refused("not rotated: you said no")) }
    }
}

/// The error when nobody knows whether the credentials were re-encrypted; the application stays as it is.
fn unknown(error: Error, then: &str) -> Error {
    error
        .context("it is not known whether the credentials are under the new key")
        .hint(format!("The application was not started again. Wait until the database answers. {then}."))
}

/// Refuses a key that a rotation which did not end may need still.
pub(super) fn not_in_one(host: &Host, fingerprint: &Fingerprint) -> Result<()> {
    match Pending::find(&host.state_folder()?)? {
        Some(pending) if pending.old() == fingerprint || pending.record().fingerprint == *fingerprint => {
            Err(under_way(pending.path()))
        }
        _ => Ok(()),
    }
}
