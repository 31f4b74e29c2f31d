//! `postgres://` URLs, as libpq reads them, with the password kept apart.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::appkey::KeyText;
use crate::ground::{Error, Result};

/// Parameters that may stand behind the `?`; application name and encoding are ours.
const PARAMETERS: [&str; 29] = [
    "channel_binding",
    "connect_timeout",
    "dbname",
    "gssencmode",
    "gsslib",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "options",
    "passfile",
    "port",
    "require_auth",
    "requirepeer",
    "service",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcrl",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
];

/// Parameters that are paths; relative ones are relative to the configuration.
const PATHS: [&str; 5] = ["passfile", "sslcert", "sslcrl", "sslkey", "sslrootcert"];

/// A PostgreSQL database. Its password, if the URL held one, is shown nowhere.
#[derive(Clone)]
pub struct PostgresUrl {
    parameters: BTreeMap<String, String>,
    password: Option<Arc<KeyText>>,
}

impl PostgresUrl {
    /// Reads what follows the scheme's colon: `//user@host:port/db?sslmode=…`.
    pub fn parse(rest: &str, base: &Path) -> Result<Self> {
        // The text may hold a password: it is never repeated.
        let wrong = |why: &str| {
            Error::usage(format!("the postgres: URL {why}"))
                .hint("It looks like postgres://user@host:5432/database?sslmode=verify-full, or postgres:///database?host=/run/postgresql.")
        };
        let rest = rest.strip_prefix("//").ok_or_else(|| wrong("does not continue with //"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, secret) = user.split_once(':').map_or((user, None), |(user, secret)| (user, Some(secret)));
        let mut url = Self { parameters: BTreeMap::new(), password: None };
        let decode = |text: &str| decode(text).ok_or_else(|| wrong("has a % that no two hex digits follow"));
        let text = |text: &str| {
            let bytes = decode(text)?;
            match std::str::from_utf8(&bytes) {
                Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
                _ => Err(wrong("is not text")),
            }
        };
        if let Some(secret) = secret {
            url.password = Some(Arc::new(KeyText::new(decode(secret)?)));
        }
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for host in hosts.split(',').filter(|h| !h.is_empty()) {
            let (name, port) = match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
                Some((name, port)) => (name, port.strip_prefix(':').unwrap_or(port)),
                None => host.split_once(':').unwrap_or((host, "")),
            };
            if !port.bytes().all(|b| b.is_ascii_digit()) {
                return Err(wrong("has a port that is no number"));
            }
            names.push(text(name)?);
            ports.push(port);
        }
        for (name, value) in [("user", text(user)?), ("dbname", text(database)?), ("host", names.join(","))] {
            if !value.is_empty() {
                url.parameters.insert(name.to_owned(), value);
            }
        }
        if ports.iter().any(|port| !port.is_empty()) {
            url.parameters.insert("port".to_owned(), ports.join(","));
        }
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| wrong("has a parameter without ="))?;
            match name {
                "password" => url.password = Some(Arc::new(KeyText::new(decode(value)?))),
                "user" => drop(url.parameters.insert(name.to_owned(), text(value)?)),
                _ if PARAMETERS.contains(&name) => {
                    let mut value = text(value)?;
                    if PATHS.contains(&name) && Path::new(&value).is_relative() && value != "system" {
                        value = base.join(value).display().to_string();
                    }
                    url.parameters.insert(name.to_owned(), value);
                }
                _ => {
                    let known = PARAMETERS
                        .iter()
                        .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
                    let name: String = name.chars().take(40).collect();
                    return Err(wrong(&format!("has an unknown parameter {name:?}")))
                        .map_err(|e: Error| e.hint(format!("Did you mean `{}`?", known.unwrap_or(&"sslmode"))));
                }
            }
        }
        Ok(url)
    }

    /// A parameter by libpq's name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The same server with another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        let mut other = self.clone();
        other.parameters.insert("dbname".to_owned(), database.to_owned());
        other
    }

    /// The password that the URL held.
    pub fn password(&self) -> Option<&Arc<KeyText>> {
        self.password.as_ref()
    }

    /// A libpq connection string without the password; `extra` parameters win.
    pub fn conninfo(&self, extra: &[(&str, &str)]) -> String {
        let mut all: BTreeMap<&str, &str> = self.parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        all.entry("connect_timeout").or_insert("10");
        all.extend(extra.iter().copied());
        let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        let pairs: Vec<_> = all.iter().map(|(name, value)| format!("{name}='{}'", quoted(value))).collect();
        pairs.join(" ")
    }
}

/// As people know it: user, host, port and database, nothing else.
impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.get("user") {
            write!(f, "{}@", user.escape_debug())?;
        }
        let host = self.get("host").unwrap_or_default();
        if !host.starts_with('/') {
            write!(f, "{}", host.escape_debug())?;
        }
        if let Some(port) = self.get("port") {
            write!(f, ":{port}")?;
        }
        write!(f, "/{}", self.get("dbname").unwrap_or_default().escape_debug())?;
        if host.starts_with('/') {
            write!(f, "?host={}", host.escape_debug())?;
        }
        if let Some(service) = self.get("service") {
            write!(f, "?service={}", service.escape_debug())?;
        }
        Ok(())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for PostgresUrl {
    fn eq(&self, other: &Self) -> bool {
        self.parameters == other.parameters && self.password.is_some() == other.password.is_some()
    }
}

impl Eq for PostgresUrl {}

fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == b'%' {
            let hex = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(first);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<PostgresUrl> {
        PostgresUrl::parse(text, Path::new("/etc/strongroom"))
    }

    #[test]
    fn a_url_is_what_libpq_makes_of_it() {
        let all = url("//me%40x:p%27w@db:5433/app?sslmode=verify-full&sslrootcert=ca.pem").expect("read");
        assert_eq!(
            all.conninfo(&[("application_name", "a'b")]),
            "application_name='a\\'b' connect_timeout='10' dbname='app' host='db' port='5433' sslmode='verify-full' \
             sslrootcert='/etc/strongroom/ca.pem' user='me@x'"
        );
        assert_eq!(all.password().expect("a password").expose(), b"p'w");
        let socket = url("///app?host=/run/postgresql").expect("read");
        assert_eq!(socket.get("host"), Some("/run/postgresql"));
        assert_eq!(socket.to_string(), "postgres:///app?host=/run/postgresql");
        let six = url("//[::1]:1/app").expect("read");
        assert_eq!((six.get("host"), six.get("port")), (Some("::1"), Some("1")));
        assert_eq!(url("//a:1,b:2/x").expect("read").get("port"), Some("1,2"));
    }

    #[test]
    fn a_password_is_never_shown() {
        let with = url("//me:hunter2@db/app").expect("read");
        assert!(!format!("{with} {with:?} {}", with.conninfo(&[])).contains("hunter2"));
        for bad in ["me:hunter2@db", "//me:hunter2@db:x/app", "//me:hunter2@db/app?hunter3=1", "//me:hunter%2@db/a"] {
            let error = url(bad).expect_err("refused");
            assert!(!format!("{} {:?}", error.chain(), error.hints()).contains("hunter2"), "{bad}");
        }
    }

    #[test]
    fn a_misspelt_parameter_names_the_nearest() {
        let error = url("//db/app?sslmod=require").expect_err("refused");
        assert!(error.hints().iter().any(|h| h.contains("`sslmode`")), "{:?}", error.hints());
    }
}
