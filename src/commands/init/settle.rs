//! What `init` is given and what it asks for, each answer tried before the next question.

use std::path::Path;
use std::sync::Arc;

use super::Request;
use crate::appkey::source::Reference;
use crate::appkey::{lint, schemes};
use crate::commands::{DatabaseOptions, Desk};
use crate::config::profile::Profile;
use crate::config::url::{DatabaseUrl, PlaceUrl};
use crate::ground::{Context as _, Error, Kind, Result};

/// What has been settled, all of it read and found to make sense.
pub(super) struct Settled {
    pub(super) profile: Profile,
    /// The text of the profile, where it stands in a file of its own.
    pub(super) described: Option<String>,
    pub(super) database: Option<String>,
    pub(super) password: Option<String>,
    pub(super) storage: Option<String>,
    pub(super) archive: String,
    pub(super) place: PlaceUrl,
    pub(super) key_source: String,
}

/// Takes what is given, asks for the rest where somebody can answer, and reads all of it.
pub(super) fn settle(desk: &Desk<'_>, request: &Request, base: &Path) -> Result<Settled> {
    let asking = desk.ask.interactive() && !request.yes;
    let app = request.app.as_deref().unwrap_or("package-broker");
    let (profile, described) = (Profile::find(app, base)?, Profile::described(app, base)?);
    let (database, password) = database(desk, request, base, asking)?;
    let prompt = "Storage URL (file:PATH; empty for none)";
    let storage = answer(desk, asking, request.storage.as_deref(), prompt, &|text| {
        if let Some(url) = text {
            storage_there(url, base)?;
        } else if database.is_none() {
            return Err(Error::usage("there is nothing to back up")
                .hint("Name the database, --database sqlite:PATH, or the storage, --storage file:PATH."));
        }
        Ok(text.map(str::to_owned))
    })?;
    let prompt = "Archive URL, where bundles go (file:PATH)";
    let (archive, place) = answer(desk, asking, request.archive.as_deref(), prompt, &|text| {
        let url =
            text.ok_or_else(|| Error::usage("where do bundles go?").hint("Name the archive: --archive file:PATH"))?;
        Ok((url.to_owned(), PlaceUrl::parse(url, base)?))
    })?;
    let scheme = schemes::by_name(&profile.scheme)?;
    let fallback = format!("env:{}", profile.key_variable);
    let prompt = format!("Where is the application key? (dotenv:PATH#NAME, file:PATH; empty: {fallback})");
    let key_source = answer(desk, asking, request.key_source.as_deref(), &prompt, &|text| {
        let text = text.unwrap_or(&fallback);
        let reference = text.parse::<Reference>()?;
        // What is not there yet on the day of the set-up is for `config check`; what somebody mistyped is found now.
        if asking && reference != Reference::Prompt {
            let key = desk
                .secret_relative_to(&reference, base, None, None)
                .context(|| format!("cannot read the application key from {}", reference.in_words()))?;
            if let Some(found) = lint::lint(scheme, &key).into_iter().find(|found| found.misread) {
                return Err(Error::usage(found.message).hint(found.hint));
            }
        }
        Ok(text.to_owned())
    })?;
    Ok(Settled { profile, described, database, password, storage, archive, place, key_source })
}

/// What was given, or an answer; one that does not read is asked for again.
fn answer<T>(
    desk: &Desk<'_>,
    asking: bool,
    given: Option<&str>,
    prompt: &str,
    read: &dyn Fn(Option<&str>) -> Result<T>,
) -> Result<T> {
    if given.is_some() || !asking {
        return read(given);
    }
    loop {
        let text = desk.ask.text(prompt)?;
        let text = text.trim();
        match read(Some(text).filter(|text| !text.is_empty())) {
            Ok(answer) => return Ok(answer),
            Err(error) => say(desk, &error),
        }
    }
}

fn say(desk: &Desk<'_>, error: &Error) {
    desk.ask.say(&format!("error: {}", error.chain()));
    for hint in error.hints() {
        desk.ask.say(&format!(" hint: {hint}"));
    }
}

/// The database and where its password is; both are tried.
fn database(desk: &Desk<'_>, request: &Request, base: &Path, asking: bool) -> Result<(Option<String>, Option<String>)> {
    let prompt = "Database URL (sqlite:PATH or postgres://user@host/database; empty for none)";
    let given = request.database_password.as_deref();
    answer(desk, asking, request.database.as_deref(), prompt, &|text| {
        let Some(text) = text else { return Ok((None, None)) };
        let url = DatabaseUrl::parse(text, base)?;
        if url.holds_password() {
            return Err(Error::usage("the database URL holds a password, and the configuration holds no secret")
                .hint("Leave it out of the URL, and name a file that holds it: --database-password file:PATH. Or put it into ~/.pgpass."));
        }
        let password = match look(desk, &url, given, base) {
            Ok(()) => given.map(str::to_owned),
            Err(error) if asking && given.is_none() && error.kind() == Kind::Denied => {
                say(desk, &error);
                let prompt = "Where is its password? (file:PATH, env:NAME)";
                answer(desk, asking, None, prompt, &|text| {
                    look(desk, &url, text, base)?;
                    Ok(text.map(str::to_owned))
                })?
            }
            Err(error) => return Err(error),
        };
        Ok((Some(text.to_owned()), password))
    })
}

/// Opens the database, and does nothing in it.
fn look(desk: &Desk<'_>, url: &DatabaseUrl, password: Option<&str>, base: &Path) -> Result<()> {
    let mut options = DatabaseOptions::default();
    if let Some(text) = password {
        let reference: Reference = text.parse()?;
        let secret = desk
            .secret_relative_to(&reference, base, None, Some("Password of the database"))
            .context(|| format!("cannot read the database's password from {}", reference.in_words()))?;
        options.password = Some(Arc::new(secret));
    }
    desk.systems.database(url, &options)?.look().map(drop)
}

fn storage_there(url: &str, base: &Path) -> Result<()> {
    let PlaceUrl::File(path) = PlaceUrl::parse(url, base)?;
    if path.is_dir() {
        return Ok(());
    }
    Err(Error::not_found(format!("the storage {} is no folder", path.display()))
        .hint("Check --storage for a typing error; relative paths are relative to the configuration's folder."))
}
