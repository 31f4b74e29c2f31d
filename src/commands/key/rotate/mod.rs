//! `key rotate`: a new application key, escrowed before anything depends on it; every credential under it, or none.
//!
//! The order: prove the old key, make the new one durable, escrow it, back up, stop the application, re-encrypt in one
//! transaction, configure, start, back up. Killed anywhere, the database is all under the old key or all under the new one, both
//! keys are at hand, and `--resume` finds out which it is.

mod pending;

use serde_json::json;

use self::pending::{Pending, under_way};
use crate::appkey::KeyText;
use crate::appkey::credential::Credential;
use crate::appkey::proof::{Proof, ProverOptions, Verdict, prove_with};
use crate::commands::backup;
use crate::commands::deposits::{self, Depositor, Origin};
use crate::commands::hooks::Hooks;
use crate::commands::host::{Host, NamedKey, read_key};
use crate::commands::prove::threads;
use crate::commands::{ATTENTION, Desk, Outcome, Problem, proof};
use crate::config::Config;
use crate::database::Database;
use crate::ground::progress::Unit;
use crate::ground::{Error, Kind, Result, clock, failpoint, interrupt};
use crate::ledger::{Event, KeyEvent};

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
    let database = host
        .database(desk)?
        .ok_or_else(|| Error::usage(format!("{} names no database", host.config.path.display())))?;
    let state = host.state_folder()?;
    let rotation = Rotation { desk, host, database: database.as_ref(), request };
    match (Pending::find(&state)?, request.resume) {
        (None, false) => rotation.begin(),
        (None, true) => {
            Err(Error::not_found("there is no rotation to go on with").hint("`strongroom key rotate` begins one."))
        }
        (Some(pending), false) => Err(under_way(pending.path())),
        (Some(pending), true) => rotation.resume(pending),
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
        self.database.rewritable()?;
        let old = self.host.key(self.desk, None)?;
        let text = match &self.request.new {
            Some(reference) => read_key(self.desk, Some(&self.host.config), reference)?,
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
                "credentials": proof::counts_json(&proved.total), "plan": lines, "problems": weak,
            });
            return Ok(Outcome { exit: 0, json, line: String::new(), text: lines, problems: weak });
        }
        self.confirm(&lines)?;
        let origin = Origin { predecessor: Some(old.fingerprint.clone()), reason: self.request.reason.clone() };
        let record = deposits::record(self.host, &new, &origin);
        let pending = Pending::begin(&self.host.state_folder()?, record, &old.fingerprint)?;
        self.under_old(pending, &old, weak)
    }

    /// Finds out what a run that was killed left, and goes on from there.
    fn resume(&self, pending: Pending) -> Result<Outcome> {
        let new = self.named(&pending)?;
        let under_new = self.try_key(&new, Some(50))?;
        if under_new.verdict() == Verdict::Proved {
            return self.under_new(pending, &new, Vec::new());
        }
        let old = self.host.key(self.desk, None)?;
        if old.fingerprint != *pending.old() {
            return Err(Error::refused(format!(
                "the configured key is {}, and this rotation began with {}",
                old.fingerprint.short(),
                pending.old().short()
            ))
            .hint(format!(
                "The database is under the old key still. Configure that one again, or remove {} to give the rotation up.",
                pending.path().display()
            )));
        }
        self.prove(&old, None)?;
        self.under_old(pending, &old, Vec::new())
    }

    fn named(&self, pending: &Pending) -> Result<NamedKey> {
        let new = NamedKey::new(
            KeyText::new(pending.record().key.clone()),
            self.host.scheme,
            &self.host.config.installation,
        )?;
        if new.fingerprint == pending.record().fingerprint {
            return Ok(new);
        }
        Err(Error::damaged(format!("{} holds another key than it says", pending.path().display())))
    }

    /// From a database under the old key: escrow, back up, stop, re-encrypt.
    fn under_old(&self, pending: Pending, old: &NamedKey, mut problems: Vec<Problem>) -> Result<Outcome> {
        let new = self.named(&pending)?;
        failpoint::pass("before the new key is escrowed");
        self.escrow(&pending, &new)?;
        problems.extend(self.back_up("the bundle before the rotation")?);
        let hooks = self.hooks();
        hooks.stop()?;
        if let Err(error) = self.reencrypt(old, &new) {
            // Nothing was changed: the application goes on with the old key.
            let started = hooks.start();
            return Err(match started {
                Ok(()) => error.hint("Nothing was changed. `key rotate --resume` tries again."),
                Err(second) => {
                    error.hint(format!("Nothing was changed, but starting again failed: {}", second.chain()))
                }
            });
        }
        self.under_new(pending, &new, problems)
    }

    /// From a database under the new key: configure, start, back up, forget the file.
    fn under_new(&self, pending: Pending, new: &NamedKey, mut problems: Vec<Problem>) -> Result<Outcome> {
        self.enter(&pending)?;
        let hooks = self.hooks();
        if !self.configured(new) {
            hooks.set_key(new.text.expose())?;
        }
        if !self.configured(new) {
            return Ok(self.waiting(&pending, new));
        }
        hooks.start()?;
        hooks.well()?;
        let proved = self.prove(new, Some("under the new key"))?;
        problems.extend(self.back_up("the bundle after the rotation")?);
        let old = pending.old().clone();
        pending.end()?;
        let text = vec![
            format!("key {} took the place of {}", new.fingerprint.short(), old.short()),
            format!("  {}", proof::sentence(proved.verdict(), &proved.total)),
            format!("  key {} is kept: older bundles need it (`strongroom key needed --all`)", old.short()),
            "  credentials that somebody has seen already are not made safe by this: change them at their source"
                .to_owned(),
        ];
        Ok(Outcome {
            exit: if problems.iter().all(Problem::is_advice) { 0 } else { ATTENTION },
            json: json!({
                "old": old, "new": new.fingerprint, "state": "done",
                "credentials": proof::counts_json(&proved.total), "problems": problems,
            }),
            line: problems.first().map_or_else(String::new, |p| p.message.clone()),
            text,
            problems,
        })
    }

    /// The database is done and the application's configuration is not.
    fn waiting(&self, pending: &Pending, new: &NamedKey) -> Outcome {
        let file = pending.path().display();
        let problem = Problem::new(
            "not-configured",
            format!(
                "the database is under key {} now, and {} still gives another one",
                new.fingerprint.short(),
                self.host.config.key
            ),
            format!(
                "Put the new key there (`jq -r .key_b64 {file} | base64 -d` prints it), then: strongroom key rotate --resume"
            ),
        );
        Outcome {
            exit: ATTENTION,
            json: json!({
                "old": pending.old(), "new": new.fingerprint, "state": "not-configured", "problems": [&problem],
            }),
            line: problem.message.clone(),
            text: vec![format!("every credential is under key {} now", new.fingerprint.short())],
            problems: vec![problem],
        }
    }

    fn hooks(&self) -> Hooks<'_> {
        Hooks { desk: self.desk, host: self.host, on: self.request.hooks }
    }

    fn configured(&self, new: &NamedKey) -> bool {
        let configured = self.host.key_text(self.desk, None).and_then(|text| self.host.scheme.effective_key(&text));
        configured.is_ok_and(|effective| effective.same_as(&new.effective))
    }

    fn plan(&self, old: &NamedKey, new: &NamedKey, count: u64) -> Vec<String> {
        let hooks = &self.host.config.hooks;
        let made = if self.request.new.is_some() { new.fingerprint.short() } else { "made at random" };
        let mut lines = vec![
            format!("rotate key {} of {}; the new one is {made}", old.fingerprint.short(), self.database.describe()),
            format!("  escrow the new key in {} places, and back up", self.host.config.escrows.len()),
            format!("  re-encrypt {count} credentials in one transaction"),
        ];
        let steps = [("stop", &hooks.stop), ("set_key", &hooks.set_key), ("start", &hooks.start)];
        for (name, argv) in steps.into_iter().filter(|_| self.request.hooks) {
            lines.extend(argv.as_ref().map(|argv| format!("  runs {name}: {}", argv.join(" "))));
        }
        if hooks.set_key.is_none() || !self.request.hooks {
            lines.push(format!("  you put the new key into {} then", self.host.config.key));
        }
        lines.push("  back up again; the old key is kept as long as a bundle needs it".to_owned());
        lines
    }

    fn confirm(&self, lines: &[String]) -> Result<()> {
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

    fn try_key(&self, key: &NamedKey, sample: Option<usize>) -> Result<Proof> {
        let profile = &self.host.config.profile;
        let options = ProverOptions::new(self.host.scheme, &key.effective, profile, self.desk.progress.as_ref());
        let mut snapshot = self.database.look()?;
        prove_with(&options, |sink| snapshot.credentials(profile, sample, &mut |credential| sink(credential)))
            .map(|(proved, _)| proved)
    }

    /// Every credential decrypts with this key, or nothing goes on.
    fn prove(&self, key: &NamedKey, when: Option<&str>) -> Result<Proof> {
        let proved = self.try_key(key, None)?;
        self.desk.progress.finish();
        if matches!(proved.verdict(), Verdict::Proved | Verdict::Plausible) {
            return Ok(proved);
        }
        for line in proof::failure_lines(&proved) {
            self.desk.ask.say(&line);
        }
        let sentence = proof::sentence(proved.verdict(), &proved.total);
        let error = match proved.verdict() {
            Verdict::Unproven => Error::refused(sentence)
                .hint("With no credential stored yet, configure another key and back up; nothing has to be re-encrypted."),
            _ => Error::wrong_key(sentence).hint(
                "Nothing was changed. `strongroom key doctor -i FILE` says which keys the failing rows are under; enter those credentials anew in the application.",
            ),
        };
        Err(match when {
            Some(when) => error.context(format!("{when}, the database is not as it should be")),
            None => error,
        })
    }

    /// The new key is in as many escrows as the rules ask for, before anything depends on it.
    fn escrow(&self, pending: &Pending, key: &NamedKey) -> Result<()> {
        let signer = self.host.signer()?;
        let place = self.host.shelf(self.desk)?;
        let mut ledger = place.ledger()?;
        let depositor = Depositor { desk: self.desk, host: self.host, shelf: &place, signer: &signer };
        let held = depositor.make(&mut ledger, key, &pending.origin(), false)?;
        if held.places.len() >= self.host.config.escrow_min_copies.max(1) {
            return Ok(());
        }
        let error = Error::failed("the new key is not in escrow, so nothing is put under it");
        Err(held.problems.into_iter().fold(error, |error, problem| error.hint(problem.message)))
    }

    /// Enters the rotation into the ledger, once.
    fn enter(&self, pending: &Pending) -> Result<()> {
        let signer = self.host.signer()?;
        let place = self.host.shelf(self.desk)?;
        let mut ledger = place.ledger()?;
        let event = KeyEvent {
            fingerprint: pending.record().fingerprint.clone(),
            action: "rotated".to_owned(),
            predecessor: Some(pending.old().clone()),
            reason: pending.record().reason.clone(),
        };
        let known = ledger.entries().iter().any(|entry| matches!(&entry.event, Event::Key(known) if *known == event));
        if known { Ok(()) } else { ledger.append(&signer, Event::Key(event), clock::now()).map(drop) }
    }

    fn back_up(&self, what: &str) -> Result<Vec<Problem>> {
        let request = backup::Request { only: backup::Only::All, prove_all: false, rotating: true };
        let outcome =
            backup::make(self.desk, self.host, &request).map_err(|e| e.context(format!("{what} could not be made")))?;
        self.desk.progress.finish();
        self.desk.ask.say(&format!("{what}: {}", outcome.text.first().map_or("", String::as_str)));
        Ok(outcome.problems.into_iter().filter(|p| !p.is_advice()).collect())
    }

    /// Every credential under the new key, in one transaction.
    fn reencrypt(&self, old: &NamedKey, new: &NamedKey) -> Result<()> {
        let profile = &self.host.config.profile;
        self.database.rewrite(profile, &mut |credentials, put| {
            self.desk.progress.stage("re-encrypt credentials", Some(credentials.len() as u64), Unit::Items);
            let (jobs, work) = crossbeam_channel::bounded::<Credential>(64);
            let (tell, done) = crossbeam_channel::bounded::<Result<(Credential, Vec<u8>)>>(64);
            std::thread::scope(|scope| {
                for _ in 0..threads() {
                    let (work, tell) = (work.clone(), tell.clone());
                    scope.spawn(move || {
                        for credential in work {
                            let moved = self.move_one(&credential, old, new);
                            if tell.send(moved.map(|value| (credential, value))).is_err() {
                                return;
                            }
                        }
                    });
                }
                drop((work, tell));
                let plaintext = |c: &Credential| profile.is_plaintext(&c.table, &c.column, &c.ciphertext);
                scope.spawn(move || {
                    for credential in credentials.into_iter().filter(|c| !plaintext(c)) {
                        if jobs.send(credential).is_err() {
                            return;
                        }
                    }
                });
                for moved in done {
                    interrupt::check()?;
                    let (credential, value) = moved?;
                    put(&credential, &value)?;
                    self.desk.progress.advance(1);
                }
                Ok(())
            })
        })
    }

    fn move_one(&self, credential: &Credential, old: &NamedKey, new: &NamedKey) -> Result<Vec<u8>> {
        self.host.scheme.reencrypt(&old.effective, &new.effective, &credential.ciphertext)?.ok_or_else(|| {
            let Credential { table, column, id, .. } = credential;
            Error::new(Kind::WrongKey, format!("{table}.{column} row {id} does not decrypt with the old key any more"))
        })
    }
}
