//! URLs of databases, storages and archives.

use std::path::{Path, PathBuf};

pub use super::postgres::PostgresUrl;
use crate::ground::{Error, Result};

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// `sqlite:PATH`
    Sqlite(PathBuf),
    /// `postgres://user@host:port/db`
    Postgres(PostgresUrl),
}

/// What a database URL may be.
const SUPPORTED: &str = "Supported: sqlite:PATH, postgres://user@host:port/database.";

/// Where a storage or an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceUrl {
    /// `file:PATH`
    File(PathBuf),
}

/// The path of `scheme:PATH` or `scheme://PATH`, relative ones from `base`.
fn path_of(rest: &str, base: &Path, url: &str) -> Result<PathBuf> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() {
        return Err(Error::usage(format!("{url:?} names no path")));
    }
    Ok(if Path::new(path).is_absolute() { PathBuf::from(path) } else { base.join(path) })
}

impl DatabaseUrl {
    /// Reads a URL; a relative path is relative to `base`.
    pub fn parse(url: &str, base: &Path) -> Result<Self> {
        match url.split_once(':') {
            Some(("sqlite", rest)) => Ok(Self::Sqlite(path_of(rest, base, url)?)),
            Some(("postgres" | "postgresql", rest)) => Ok(Self::Postgres(PostgresUrl::parse(rest, base)?)),
            Some((scheme @ "d1", _)) => {
                Err(Error::usage(format!("{scheme}: databases are not supported by this version")).hint(SUPPORTED))
            }
            None if is_path(url) => Err(Error::usage(format!("{url:?} is a path, and no database URL"))
                .hint(format!("An SQLite database is named as sqlite:{url}"))),
            _ => Err(Error::usage(format!("{:?} is no database URL", redact(url))).hint(SUPPORTED)),
        }
    }

    /// Whether the URL itself holds a password.
    pub fn holds_password(&self) -> bool {
        matches!(self, Self::Postgres(url) if url.password().is_some())
    }
}

impl PlaceUrl {
    /// Reads a URL; a relative path is relative to `base`.
    pub fn parse(url: &str, base: &Path) -> Result<Self> {
        match url.split_once(':') {
            Some(("file", rest)) => Ok(Self::File(path_of(rest, base, url)?)),
            Some((scheme @ ("s3" | "r2"), _)) => {
                Err(Error::usage(format!("{scheme}: places are not supported by this version"))
                    .hint("Supported: file:PATH."))
            }
            None if is_path(url) => Err(Error::usage(format!("{url:?} is a path, and no URL of a place"))
                .hint(format!("A folder is named as file:{url}"))),
            _ => Err(Error::usage(format!("{:?} is no URL of a place", redact(url))).hint("Supported: file:PATH.")),
        }
    }
}

/// Whether somebody left a URL's kind out.
fn is_path(text: &str) -> bool {
    text.starts_with(['/', '.', '~'])
}

/// The URL with whatever stands between `://` and `@` left out, and cut to a length that fits a message.
pub fn redact(url: &str) -> String {
    // Cut last: what is cut before it may have lost the sign that a password ends with.
    let public = match (url.find("://"), url.rfind('@')) {
        (Some(start), Some(at)) if at > start => format!("{}://…{}", &url[..start], &url[at..]),
        _ => url.to_owned(),
    };
    public.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_password_is_left_out_whole() {
        let shown = redact(&format!("mysql://root:{}@db/x", "S".repeat(130)));
        assert_eq!(shown, "mysql://…@db/x");
        assert_eq!(redact(&"x".repeat(200)).len(), 120);
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let base = Path::new("/etc/strongroom");
        assert_eq!(PlaceUrl::parse("file:a/b", base).expect("read"), PlaceUrl::File("/etc/strongroom/a/b".into()));
        assert_eq!(PlaceUrl::parse("file:///a", base).expect("read"), PlaceUrl::File("/a".into()));
        assert_eq!(DatabaseUrl::parse("sqlite:/a", base).expect("read"), DatabaseUrl::Sqlite("/a".into()));
        assert!(PlaceUrl::parse("file:", base).is_err());
        assert!(PlaceUrl::parse("/a", base).is_err());
    }

    #[test]
    fn a_password_never_reaches_a_message() {
        let error = DatabaseUrl::parse("mysql://root:hunter2@db/x", Path::new("")).expect_err("unknown");
        assert!(!error.chain().contains("hunter2"), "{}", error.chain());
    }
}
