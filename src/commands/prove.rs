//! `prove`: does this key open the credentials in this database, or in this dump?

use serde_json::json;

use super::host::{Host, lint_problem, read_key};
use super::{DatabaseOptions, Desk, Outcome, Problem, proof};
use crate::appkey::lint;
use crate::appkey::proof::{ProverOptions, prove_with};
use crate::appkey::schemes;
use crate::config::Config;
use crate::config::profile::Profile;
use crate::config::url::DatabaseUrl;
use crate::database::{self, Snapshot};
use crate::ground::scratch::Scratch;
use crate::ground::words::counted;
use crate::ground::{Error, Kind, Result};

/// What is asked.
pub struct Request {
    /// A database URL or a file; the configured database when missing.
    pub target: Option<String>,
    /// A reference; the configured key when missing.
    pub key: Option<String>,
    /// The application; the configured one, else package-broker.
    pub app: Option<String>,
    /// About how many to try; all when missing.
    pub sample: Option<usize>,
}

/// Proves a key against a database or a dump.
pub fn run(desk: &Desk<'_>, request: &Request, config: Option<Config>) -> Result<Outcome> {
    let host = config.map(Host::new).transpose()?;
    let profile = match (&request.app, &host) {
        (Some(app), Some(host)) => host.profile(app)?,
        (Some(app), None) => Profile::named(app)?,
        (None, Some(host)) => host.config.profile.clone(),
        (None, None) => Profile::named("package-broker")?,
    };
    let scheme = schemes::by_name(&profile.scheme)?;
    let key = match (&request.key, &host) {
        (Some(reference), _) => read_key(desk, host.as_ref().map(|h| &h.config), reference)?,
        (None, Some(host)) => host.key_text(desk, None)?,
        (None, None) => {
            return Err(Error::usage("which key is to be proved?").hint(format!(
                "Name it: --key dotenv:PATH#{0}, --key file:PATH, --key env:{0}, --key prompt:",
                profile.key_variable
            )));
        }
    };
    let effective = scheme.effective_key(&key)?;
    let scratch = Scratch::temporary()?;
    let (mut snapshot, what) = open(desk, request.target.as_deref(), host.as_ref(), &scratch)?;

    let options = ProverOptions::new(scheme, &effective, &profile, desk.progress.as_ref());
    let (proved, total) = prove_with(&options, |sink| {
        snapshot.credentials(&profile, request.sample, &mut |credential| sink(credential))
    })?;
    desk.progress.finish();

    let verdict = proved.verdict();
    let mut text = vec![format!("{what}: {}", proof::sentence(verdict, &proved.total))];
    text.extend(proof::failure_lines(&proved));
    if proved.total.plaintext > 0 {
        let is = if proved.total.plaintext == 1 { "is" } else { "are" };
        text.push(format!("  {} more {is} stored as plaintext by the application itself", proved.total.plaintext));
    }
    let tried = proof::looked_at(&proved.total);
    if tried < total {
        text.push(format!("  a sample of {tried} out of {total} values, those stored as plaintext included; without --sample all are tried"));
    }
    let mut problems: Vec<Problem> = snapshot
        .suspects(&profile, &|value| scheme.looks_like(value))?
        .into_iter()
        .map(|s| suspect_problem(&s))
        .collect();
    if let crate::appkey::proof::Verdict::WrongKey | crate::appkey::proof::Verdict::Mixed = verdict {
        problems.push(Problem::new(
            "wrong-key",
            "do not start the application with this key",
            "Look for the key that was in use when these rows were written, and prove that one.",
        ));
        // What was read may be no key at all, or more than the key.
        problems.extend(lint::lint(scheme, &key).into_iter().filter(|f| f.misread).map(lint_problem));
    }
    Ok(Outcome {
        exit: proof::exit_of(verdict),
        json: json!({
            "target": what,
            "app": profile.app,
            "verdict": verdict,
            "credentials": proof::counts_json(&proved.total),
            "sampled": tried < total,
            "total": total,
            "failures": proof::failures_json(&proved),
            "problems": problems,
        }),
        line: text[0].clone(),
        text,
        problems,
    })
}

/// A suspect as a problem.
pub fn suspect_problem(suspect: &database::Suspect) -> Problem {
    Problem::new(
        "unknown-ciphertext",
        format!(
            "{}.{} looks encrypted ({}) and the profile does not name it",
            suspect.table,
            suspect.column,
            counted(suspect.values, "value", "values")
        ),
        "If the application encrypts this column, add it to the profile; until then it is backed up and not proved.",
    )
}

/// How many threads prove: one a core.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn open(
    desk: &Desk<'_>,
    target: Option<&str>,
    host: Option<&Host>,
    scratch: &Scratch,
) -> Result<(Box<dyn Snapshot>, String)> {
    let here = std::env::current_dir().map_err(|e| Error::failed("there is no current folder").because(e))?;
    let Some(target) = target else {
        let host = host.ok_or_else(|| {
            Error::usage("which database or dump is to be proved?")
                .hint("Name it: strongroom prove sqlite:PATH, postgres://…, or the path of a .sqlite, .sql, .sql.gz or pg_dump file.")
        })?;
        let database = host.needed_database(desk)?;
        return Ok((database.look()?, database.describe()));
    };
    let path = here.join(target);
    if path.exists() {
        return Ok((database::open_dump(&path, scratch)?, target.to_owned()));
    }
    match DatabaseUrl::parse(target, &here) {
        Ok(url) => {
            // The same database as the configured one is reached as it is configured.
            let options = match host {
                Some(host) if host.config.database.as_ref() == Some(&url) => host.database_options(desk)?,
                _ => DatabaseOptions::default(),
            };
            let database = desk.systems.database(&url, &options)?;
            Ok((database.look()?, database.describe()))
        }
        Err(error) if error.kind() == Kind::Usage && !target.contains(':') => {
            Err(Error::not_found(format!("there is no file {target}"))
                .hint("A live database is named by a URL such as sqlite:PATH or postgres://user@host/database."))
        }
        Err(error) => Err(error),
    }
}
