//! `key fingerprint` and `key lint`: what the application really uses of a key, and whether it is a good one.

use crate::commands::host::lint_problem;
use serde_json::json;

use crate::appkey::schemes::{self, Scheme};
use crate::appkey::{KeyText, fingerprint, lint, source};
use crate::commands::host::{Host, read_key};
use crate::commands::{Desk, Outcome, Problem, exit_of};
use crate::config::Config;
use crate::config::profile::Profile;
use crate::ground::names::Uuid;
use crate::ground::{Error, Result};

fn scheme_and_key(
    desk: &Desk<'_>,
    config: Option<Config>,
    reference: Option<&str>,
    app: Option<&str>,
) -> Result<(&'static dyn Scheme, KeyText, Option<Uuid>)> {
    let host = config.map(Host::new).transpose()?;
    let scheme = match (app, &host) {
        (Some(app), Some(host)) => schemes::by_name(&host.profile(app)?.scheme)?,
        (Some(app), None) => schemes::by_name(&Profile::named(app)?.scheme)?,
        (None, Some(host)) => host.scheme,
        (None, None) => schemes::by_name("package-broker")?,
    };
    let key = match (reference, &host) {
        (Some(reference), _) => read_key(desk, host.as_ref().map(|h| &h.config), reference)?,
        (None, Some(host)) => host.key_text(desk, None)?,
        (None, None) => {
            return Err(Error::usage("which key?").hint(format!("Name it: {}.", source::KINDS)));
        }
    };
    Ok((scheme, key, host.map(|h| h.config.installation)))
}

/// Prints the fingerprint of a key.
pub fn fingerprint(
    desk: &Desk<'_>,
    config: Option<Config>,
    reference: Option<&str>,
    installation: Option<&str>,
    app: Option<&str>,
) -> Result<Outcome> {
    let (scheme, key, configured) = scheme_and_key(desk, config, reference, app)?;
    let installation = match installation {
        Some(text) => text.parse()?,
        None => configured.ok_or_else(|| {
            Error::usage("a fingerprint belongs to an installation, and there is no configuration")
                .hint("Give --installation UUID; `strongroom show` prints a bundle's.")
        })?,
    };
    let print = fingerprint::of(scheme, &installation, &scheme.effective_key(&key)?)?;
    Outcome::done(
        json!({ "fingerprint": print, "scheme": scheme.name(), "installation": installation }),
        vec![print.to_string()],
    )
}

/// Says what is wrong with a key's text, without showing it.
pub fn lint(desk: &Desk<'_>, config: Option<Config>, reference: Option<&str>, app: Option<&str>) -> Result<Outcome> {
    let (scheme, key, _) = scheme_and_key(desk, config, reference, app)?;
    let findings = lint::lint(scheme, &key);
    let problems: Vec<Problem> = findings.into_iter().map(lint_problem).collect();
    let text = if problems.is_empty() { vec!["nothing to say against this key".to_owned()] } else { Vec::new() };
    Ok(Outcome {
        exit: exit_of(&problems),
        json: json!({ "scheme": scheme.name(), "problems": problems }),
        line: problems.first().map(|p| p.message.clone()).unwrap_or_default(),
        text,
        problems,
    })
}
