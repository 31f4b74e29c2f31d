//! Where the application's key comes from: references such as `env:NAME` and `file:PATH`.

use std::fmt;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use zeroize::Zeroizing;

use super::KeyText;
use crate::ground::{Error, Kind, Result, durable};

/// The longest key, and the longest file that holds one.
const LIMIT: u64 = 64 << 10;

/// A reference to a secret. It holds no secret itself and may be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// An environment variable.
    Env(String),
    /// A file; one trailing newline is not part of the secret.
    File(PathBuf),
    /// A variable in a `.env` file.
    Dotenv(PathBuf, String),
    /// Asked for on the terminal, without echo.
    Prompt,
    /// The path of a secret in a Vault, its mount first, and a field of it.
    Vault(String, String),
    /// The name or ARN of a secret in AWS Secrets Manager, and a field when its text is JSON.
    AwsSm(String, Option<String>),
    /// A file that GnuPG encrypted.
    Gpg(PathBuf),
    /// A container, and a variable of the environment that it is configured with.
    Docker(String, String),
}

/// Reads what other systems keep: the last four kinds of [`Reference`].
pub type Elsewhere<'a> = dyn Fn(&Reference) -> Result<Zeroizing<Vec<u8>>> + 'a;

/// The kinds, for hints.
pub const KINDS: &str = "env:NAME, file:PATH, dotenv:PATH#NAME, prompt:, docker:CONTAINER#NAME, vault:MOUNT/PATH#FIELD, aws-sm:SECRET[#FIELD], gpg:PATH";

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = format!("Known: {KINDS}");
        // Somebody may have put the key itself here: what was written is not repeated.
        let wrong = |why: &str| Error::usage(format!("the reference to the key {why}")).hint(known.clone());
        let path = ["/", "./", "../", "~"].iter().any(|begin| text.starts_with(begin))
            || text.ends_with("/.env")
            || text == ".env";
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() && !name.contains('=') => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("dotenv", rest)) => match rest.rsplit_once('#') {
                Some((path, name)) if !path.is_empty() && !name.is_empty() => {
                    Ok(Self::Dotenv(path.into(), name.to_owned()))
                }
                _ => Err(wrong("is not like dotenv:PATH#NAME")),
            },
            Some(("prompt", "")) => Ok(Self::Prompt),
            Some(("vault", rest)) => match rest.rsplit_once('#') {
                Some((path, field)) if is_vault_path(path) && !field.is_empty() => {
                    Ok(Self::Vault(path.to_owned(), field.to_owned()))
                }
                _ => Err(wrong("is not like vault:MOUNT/PATH#FIELD")),
            },
            Some(("aws-sm", rest)) => match rest.rsplit_once('#') {
                Some((id, field)) if !id.is_empty() && !field.is_empty() => {
                    Ok(Self::AwsSm(id.to_owned(), Some(field.to_owned())))
                }
                None if !rest.is_empty() => Ok(Self::AwsSm(rest.to_owned(), None)),
                _ => Err(wrong("is not like aws-sm:SECRET or aws-sm:SECRET#FIELD")),
            },
            Some(("gpg", path)) if !path.is_empty() => Ok(Self::Gpg(path.into())),
            Some(("docker", rest)) => match rest.rsplit_once('#') {
                Some((container, name)) if is_container(container) && is_variable(name) => {
                    Ok(Self::Docker(container.to_owned(), name.to_owned()))
                }
                _ => Err(wrong("is not like docker:CONTAINER#NAME")),
            },
            _ if path => Err(Error::usage("the reference to the key is a path alone")
                .hint("file:PATH if the key is all that the file holds, dotenv:PATH#NAME if it has a line NAME=…")),
            _ => Err(wrong("is of no known kind")),
        }
    }
}

impl Reference {
    /// The same for a sentence that goes on with a colon.
    pub fn in_words(&self) -> String {
        match self {
            Self::Prompt => "the prompt".to_owned(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Dotenv(path, name) => write!(f, "dotenv:{}#{name}", path.display()),
            Self::Prompt => f.write_str("prompt:"),
            Self::Vault(path, field) => write!(f, "vault:{path}#{field}"),
            Self::AwsSm(id, Some(field)) => write!(f, "aws-sm:{id}#{field}"),
            Self::AwsSm(id, None) => write!(f, "aws-sm:{id}"),
            Self::Gpg(path) => write!(f, "gpg:{}", path.display()),
            Self::Docker(container, name) => write!(f, "docker:{container}#{name}"),
        }
    }
}

/// A mount and a path below it that mean the same thing in every URL.
fn is_vault_path(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@=+:~ ".contains(c);
    path.contains('/') && path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.chars().all(plain))
}

/// What Docker takes for the name or id of a container, and no option of its command line.
fn is_container(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0', '\n'])
}

/// Reads the secret; relative paths are relative to `base`, `prompt` asks a person, and `elsewhere` other systems.
///
/// [`Kind::NotFound`] when it is not there or empty, [`Kind::Refused`] when others can read the file that holds it.
pub fn resolve(
    reference: &Reference,
    base: &Path,
    prompt: &dyn Fn(&str) -> Result<Zeroizing<String>>,
    elsewhere: &Elsewhere<'_>,
) -> Result<KeyText> {
    let bytes = match reference {
        Reference::Env(name) => Zeroizing::new(
            std::env::var_os(name)
                .ok_or_else(|| {
                    Error::not_found(format!("the environment has no variable {name}"))
                        .hint("cron and systemd give programs a short environment: file:PATH or dotenv:PATH#NAME works there.")
                })?
                .into_vec(),
        ),
        Reference::File(path) => without_newline(durable::read_secret_file(&base.join(path), LIMIT)?),
        Reference::Dotenv(path, name) => {
            let path = base.join(path);
            let file = durable::read_secret_file(&path, LIMIT)?;
            dotenv(&file, name).ok_or_else(|| {
                Error::not_found(format!("{} has no variable {name}", path.display()))
                    .hint("A line of it should begin with the name and an equals sign.")
            })?
        }
        Reference::Prompt => Zeroizing::new(prompt("Application key")?.as_bytes().to_vec()),
        Reference::Vault(..) | Reference::AwsSm(..) | Reference::Gpg(_) | Reference::Docker(..) => {
            elsewhere(reference)?
        }
    };
    if bytes.is_empty() {
        return Err(Error::new(Kind::NotFound, format!("the key at {reference} is empty")));
    }
    Ok(KeyText::new(bytes))
}

/// Takes one newline off the end, with the carriage return before it.
pub(super) fn without_newline(mut bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

/// A variable of a `.env` file, as the npm package `dotenv` reads it: the last one wins, `export` may stand before it, a value
/// may be quoted with `'`, `"` or a backtick (and then hold newlines), a `#` ends an unquoted value, and `\n` is a newline within `"`
/// only. Nothing is expanded: `$(…)` stays as it is.
fn dotenv(file: &[u8], name: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut found = None;
    let mut rest = file;
    while !rest.is_empty() {
        let (line, after) = cut(rest, b'\n');
        let trimmed = line.trim_ascii_start();
        let bare = trimmed.strip_prefix(b"export ").map_or(trimmed, <[u8]>::trim_ascii_start);
        let (key, value) = match bare.iter().position(|b| matches!(b, b'=' | b':')) {
            Some(at) if bare[at] == b'=' => (bare[..at].trim_ascii_end(), &bare[at + 1..]),
            _ => {
                rest = after;
                continue;
            }
        };
        let value = value.trim_ascii_start();
        let quoted = value.first().filter(|q| matches!(q, b'\'' | b'"' | b'`')).and_then(|quote| {
            // The closing quote may stand lines below.
            let start = file.len() - rest.len() + (line.len() - value.len()) + 1;
            let length = file[start..].iter().position(|b| b == quote)?;
            Some((*quote, &file[start..start + length], &file[start + length + 1..]))
        });
        let (text, next) = if let Some((quote, inner, after_quote)) = quoted {
            let text = if quote == b'"' { unescape(inner) } else { Zeroizing::new(inner.to_vec()) };
            (text, cut(after_quote, b'\n').1)
        } else {
            let plain = value.split(|b| *b == b'#').next().unwrap_or_default().trim_ascii();
            (Zeroizing::new(plain.to_vec()), after)
        };
        if key == name.as_bytes() {
            found = Some(text);
        }
        rest = next;
    }
    found
}

fn cut(bytes: &[u8], at: u8) -> (&[u8], &[u8]) {
    match bytes.iter().position(|b| *b == at) {
        Some(n) => (&bytes[..n], &bytes[n + 1..]),
        None => (bytes, &[]),
    }
}

fn unescape(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.peek()) {
            (b'\\', Some(b'n')) => out.push(b'\n'),
            (b'\\', Some(b'r')) => out.push(b'\r'),
            _ => {
                out.push(byte);
                continue;
            }
        }
        bytes.next();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody(_: &str) -> Result<Zeroizing<String>> {
        Err(Error::usage("nobody is there"))
    }

    fn nowhere(reference: &Reference) -> Result<Zeroizing<Vec<u8>>> {
        Err(Error::usage(format!("{reference} is somewhere else")))
    }

    #[test]
    fn references_read_back_and_a_key_put_there_is_not_repeated() {
        for text in [
            "env:ENCRYPTION_KEY",
            "file:/a/b",
            "dotenv:/a/.env#KEY",
            "prompt:",
            "vault:secret/apps/broker#key",
            "aws-sm:prod/broker",
            "aws-sm:arn:aws:secretsmanager:eu-west-1:111122223333:secret:prod/broker-AbCdEf#key",
            "gpg:/a/key.gpg",
            "docker:package-broker#ENCRYPTION_KEY",
        ] {
            assert_eq!(text.parse::<Reference>().expect("read").to_string(), text);
        }
        for wrong in [
            "hunter2",
            "env:",
            "file:",
            "dotenv:/a",
            "dotenv:#K",
            "prompt:x",
            "env:hunter2=x",
            "vault:secret#hunter2",
            "vault:secret/a",
            "vault:secret/../sys/hunter2#f",
            "vault:secret/a?hunter2#f",
            "vault:/a/b#f",
            "aws-sm:",
            "aws-sm:#hunter2",
            "gpg:",
            "docker:--format=hunter2#K",
            "docker:c#",
            "docker:#K",
        ] {
            let error = wrong.parse::<Reference>().expect_err(wrong);
            assert!(!error.chain().contains("hunter2"), "{}", error.chain());
        }
    }

    #[test]
    fn one_newline_of_a_file_is_not_part_of_the_key_and_nothing_else_is_trimmed() {
        let folder = tempfile::tempdir().expect("a folder");
        for (content, key) in [("k\n", "k"), ("k\r\n", "k"), ("k\n\n", "k\n"), (" k ", " k "), ("k", "k")] {
            durable::write_file(&folder.path().join("key"), content.as_bytes(), 0o600, durable::Existing::Replace)
                .expect("written");
            let read = resolve(&Reference::File("key".into()), folder.path(), &nobody, &nowhere).expect("read");
            assert_eq!(read.expose(), key.as_bytes(), "{content:?}");
        }
    }

    #[test]
    fn missing_empty_and_wide_open_are_three_answers() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = Reference::File("nowhere".into());
        assert_eq!(resolve(&missing, folder.path(), &nobody, &nowhere).err().expect("missing").kind(), Kind::NotFound);
        let write = |mode, content: &str| {
            durable::write_file(&folder.path().join("k"), content.as_bytes(), mode, durable::Existing::Replace)
                .expect("written");
            resolve(&Reference::File("k".into()), folder.path(), &nobody, &nowhere).err().map(|e| e.kind())
        };
        assert_eq!(write(0o600, "\n"), Some(Kind::NotFound));
        assert_eq!(write(0o644, "k"), Some(Kind::Refused));
        assert_eq!(write(0o600, "k"), None);
        let unset = Reference::Env("STRONGROOM_NO_SUCH_VARIABLE".into());
        assert_eq!(resolve(&unset, folder.path(), &nobody, &nowhere).err().expect("unset").kind(), Kind::NotFound);
    }

    #[test]
    fn a_dotenv_file_is_read_as_the_application_reads_it() {
        let file = b"# KEY=no\nOTHER=1\nexport KEY = plain value # comment\n A='single \\n $(x)'\nB=\"two\\nlines\"\nC=`tick`\nD=\"over\ntwo\"\nE=$(openssl rand -base64 32)\nF=\nG='unclosed\nKEY2=x=y==\n";
        let read = |name: &str| dotenv(file, name).map(|v| String::from_utf8_lossy(&v).into_owned());
        assert_eq!(read("KEY").as_deref(), Some("plain value"));
        assert_eq!(read("A").as_deref(), Some("single \\n $(x)"));
        assert_eq!(read("B").as_deref(), Some("two\nlines"));
        assert_eq!(read("C").as_deref(), Some("tick"));
        assert_eq!(read("D").as_deref(), Some("over\ntwo"));
        assert_eq!(read("E").as_deref(), Some("$(openssl rand -base64 32)"));
        assert_eq!(read("F").as_deref(), Some(""));
        assert_eq!(read("G").as_deref(), Some("'unclosed"));
        assert_eq!(read("KEY2").as_deref(), Some("x=y=="));
        assert_eq!(read("NONE"), None);
        assert_eq!(dotenv(b"K=1\nK=2\n", "K").as_deref().map(Vec::as_slice), Some(b"2".as_slice()));
    }
}
