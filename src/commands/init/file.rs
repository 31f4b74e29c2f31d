//! The text of a new `strongroom.toml`, with the comments that a person needs later.

use crate::ground::names::Uuid;
use crate::ground::{Error, Result};

/// What stands in the file.
pub(super) struct Values<'a> {
    pub(super) app: &'a str,
    pub(super) installation: &'a Uuid,
    pub(super) key_source: &'a str,
    pub(super) database: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    pub(super) storage: Option<&'a str>,
    pub(super) archive: &'a str,
    pub(super) archive_id: &'a Uuid,
    pub(super) recipient: &'a str,
    pub(super) trusted: &'a [String],
}

/// What a person may want to set for PostgreSQL.
const POSTGRES: &str = r#"# command_prefix = ["/usr/bin/docker", "exec", "-i", "NAME"]
# programs = "/usr/lib/postgresql/17/bin"   # psql, pg_dump and pg_restore, when PATH has older ones
"#;

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The whole file.
pub(super) fn text(v: &Values<'_>) -> String {
    let section = |name: &str, url: Option<&str>, example: &str| match url {
        Some(url) => format!("[{name}]\nurl = {}\n", quoted(url)),
        None => format!("# [{name}]\n# url = \"{example}\"\n"),
    };
    let postgres = v.database.is_some_and(|url| url.starts_with("postgres"));
    let password = match v.password {
        Some(reference) => format!("password = {}\n", quoted(reference)),
        None => "# password = \"file:database-password\"      # or ~/.pgpass, or PGSERVICE\n".to_owned(),
    };
    let database_more = if postgres { password + POSTGRES } else { String::new() };
    format!(
        r#"# strongroom: what to back up, and to whom it is sealed. This file holds no secret.
# Relative paths are relative to this file. `strongroom config check` tries everything that it names.

# It salts fingerprints; a copy of the application elsewhere has another.
installation = {installation}

[key]
# Where the application's key is: env:NAME, file:PATH or dotenv:PATH#NAME. Files must be 0600.
source = {key}

{database}{database_more}
{storage}
[archive]
url = {archive}
# Another archive in its place is refused.
id = {archive_id}

[sealing]
# The public half: this host can seal and cannot open.
recipient = {recipient}

[signing]
# This host's minisign key, and the signers that verify and restore believe.
key = "strongroom-signing.key"
trusted = [{trusted}]

[[escrow]]
# Another copy of the sealed key, beside the one in every bundle. kind = "file" with a path is another place.
kind = "archive"

# [notify]
# Gets the result as JSON on standard input, after every backup, verify and restore.
# on_result = ["/usr/local/bin/tell-someone"]

[app]
name = {app}
# How a restore stops, starts and asks the application; absolute paths, because cron has a short PATH.
# stop = ["/usr/bin/systemctl", "stop", "package-broker"]
# start = ["/usr/bin/systemctl", "start", "package-broker"]
# health = {{ url = "http://localhost:3000/health", expect = {{ status = "ok", "checks.database" = "ok" }} }}
"#,
        installation = quoted(v.installation.as_str()),
        key = quoted(v.key_source),
        database = section("database", v.database, "sqlite:/data/database.sqlite"),
        storage = section("storage", v.storage, "file:/data/storage"),
        archive = quoted(v.archive),
        archive_id = quoted(v.archive_id.as_str()),
        recipient = quoted(v.recipient),
        trusted = v.trusted.iter().map(|t| quoted(t)).collect::<Vec<_>>().join(", "),
        app = quoted(v.app),
    )
}

/// A profile as a part of the configuration.
pub(super) fn profile(text: &str) -> Result<String> {
    let table: toml::Table =
        text.parse().map_err(|e: toml::de::Error| Error::usage("the profile cannot be read").because(e.to_string()))?;
    let outer: toml::Table = std::iter::once(("profile".to_owned(), toml::Value::Table(table))).collect();
    Ok(outer.to_string())
}
