//! Keys in files that GnuPG encrypted, to a public key or with a passphrase.
//!
//! The user's own `gpg` opens them: it has the keyring, the agent that remembers passphrases, and smartcards. The plaintext comes
//! through a pipe and lies in no file.

use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::source::without_newline;
use crate::ground::child::{self, Ended, Environment};
use crate::ground::{Error, Result, clock, durable};

/// How long `gpg` may take; a person may be typing a passphrase, or looking for a smartcard.
const LIMIT: Duration = Duration::from_mins(2);

/// What `gpg` needs to find its keyring, and its agent to ask a person.
const VARIABLES: [&str; 8] = [
    "GNUPGHOME",
    "GPG_TTY",
    "TERM",
    "XDG_RUNTIME_DIR",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "DBUS_SESSION_BUS_ADDRESS",
];

/// Decrypts a file; a newline at its end is not part of the secret.
///
/// A key that has expired opens what was encrypted to it all the same; `warn` is told which, and since when.
/// The agent is tried first, and asks in its own way where it can; where it cannot, `ask` does.
/// [`crate::ground::Kind::Sealed`] when no secret key or passphrase opens it, [`crate::ground::Kind::Damaged`] when it is no encrypted file.
pub fn decrypt(
    path: &Path,
    environment: &Environment,
    ask: &dyn Fn(&str) -> Result<Zeroizing<String>>,
    warn: &dyn Fn(&str, &str),
) -> Result<Zeroizing<Vec<u8>>> {
    // A pipe would be waited for.
    durable::open_regular(path, true).map_err(|e| Error::io("open", path, e))?;
    let mut environment = environment.clone();
    environment.pass.extend(VARIABLES.map(str::to_owned));
    let shown = path.display().to_string();
    let opened = match outcome(run(path, &environment, None)?, &shown) {
        Outcome::Locked => {
            let passphrase = ask(&format!("Passphrase of {shown}")).map_err(|error| {
                Error::sealed(format!("{shown} wants a passphrase"))
                    .because(error)
                    .hint("Run this on a terminal, or let gpg-agent hold the passphrase before this runs.")
            })?;
            outcome(run(path, &environment, Some(&passphrase))?, &shown)
        }
        outcome => outcome,
    };
    match opened {
        Outcome::Opened(bytes, by) => {
            if let Some(by) = &by
                && let Some(since) = by.expired(&environment)
            {
                let OpenedBy { key, subkey } = by;
                warn(
                    &format!("{shown} is encrypted to the GnuPG key {key} (subkey {subkey}), which expired at {since}"),
                    "It still opens. Encrypt the file to another key, or give this one more time with `gpg --quick-set-expire`.",
                );
            }
            Ok(without_newline(bytes))
        }
        Outcome::Locked => Err(Error::sealed(format!("gpg did not take the passphrase of {shown}"))),
        Outcome::Failed(error) => Err(error),
    }
}

fn run(path: &Path, environment: &Environment, passphrase: Option<&str>) -> Result<Ended> {
    let mut argv: Vec<String> = ["gpg", "--batch", "--no-tty", "--status-fd", "2"].map(str::to_owned).to_vec();
    if passphrase.is_some() {
        argv.extend(["--pinentry-mode", "loopback", "--passphrase-fd", "0"].map(str::to_owned));
    }
    let path = path.to_str().ok_or_else(|| Error::usage(format!("the name {} is not UTF-8", path.display())))?;
    argv.extend(["--decrypt", "--", path].map(str::to_owned));
    let mut line = Zeroizing::new(String::with_capacity(passphrase.map_or(0, str::len) + 1));
    if let Some(passphrase) = passphrase {
        line.push_str(passphrase);
        line.push('\n');
    }
    child::run_to_end(&argv, environment, line.as_bytes(), LIMIT)
        .map_err(|e| e.hint("Install gnupg, or decrypt the file yourself and use file:PATH with mode 0600."))
}

/// The fingerprints of the key that opened a file: the subkey, and the key that it belongs to.
struct OpenedBy {
    subkey: String,
    key: String,
}

impl OpenedBy {
    fn of(status: &[(&str, &str)]) -> Option<Self> {
        let (_, rest) = status.iter().find(|(word, _)| *word == "DECRYPTION_KEY")?;
        let mut words = rest.split(' ').map(str::to_owned);
        Some(Self { subkey: words.next()?, key: words.next()? })
    }

    /// Since when it has expired, if it has.
    ///
    /// The keyring is asked: while it decrypts, gpg has a status line (`KEYEXPIRED`) for a key as a whole and none for a subkey alone.
    fn expired(&self, environment: &Environment) -> Option<String> {
        let argv =
            ["gpg", "--batch", "--no-tty", "--no-auto-check-trustdb", "--with-colons", "--list-keys", "--", &self.key];
        let listed = child::run_to_end(&argv.map(str::to_owned), environment, b"", LIMIT).ok()?;
        expired_since(&String::from_utf8_lossy(&listed.out), &[&self.key, &self.subkey])
    }
}

/// The earliest end among these keys in a listing (GnuPG, `doc/DETAILS`, "Format of the colon listings").
fn expired_since(listing: &str, fingerprints: &[&str]) -> Option<String> {
    let mut ended: Vec<i64> = Vec::new();
    let mut key: Option<i64> = None;
    for line in listing.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let field = |n: usize| fields.get(n).copied().unwrap_or_default();
        match field(0) {
            // Field 2 is `e` for what has expired, and field 7 when.
            "pub" | "sub" => key = (field(1) == "e").then(|| field(6).parse().ok()).flatten(),
            "fpr" if fingerprints.contains(&field(9)) => ended.extend(key.take()),
            _ => {}
        }
    }
    let since = jiff::Timestamp::from_second(ended.into_iter().min()?).ok()?;
    Some(clock::rfc3339(since))
}

enum Outcome {
    Opened(Zeroizing<Vec<u8>>, Option<OpenedBy>),
    /// It wants a passphrase, and the agent could not ask for it.
    Locked,
    Failed(Error),
}

/// What gpg's status lines (GnuPG, `doc/DETAILS`) say; its messages are for people and differ by language.
fn outcome(ended: Ended, shown: &str) -> Outcome {
    let Ended { success, out, err, .. } = ended;
    let status: Vec<(&str, &str)> = err
        .lines()
        .filter_map(|line| line.strip_prefix("[GNUPG:] "))
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .collect();
    let has = |word: &str| status.iter().any(|(w, _)| *w == word);
    // libgpg-error: the low 16 bits are the code, the others its origin. `11` is a bad passphrase, `99` somebody who cancelled.
    let codes = |code: u32| {
        let matches = |text: &str| {
            text.split(['_', ' ']).next().and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n & 0xffff == code)
        };
        status
            .iter()
            .any(|(word, rest)| *word == "ERROR" && rest.split_once(' ').is_some_and(|(_, code)| matches(code)))
    };
    if has("DECRYPTION_OKAY") && success {
        return Outcome::Opened(out, OpenedBy::of(&status));
    }
    let error = if success || has("PLAINTEXT") && !has("BEGIN_DECRYPTION") {
        Error::damaged(format!("{shown} is not encrypted: gpg read it without a key"))
            .hint("Encrypt it: `gpg --encrypt --recipient YOU FILE`, or `gpg --symmetric FILE`.")
    } else if has("NODATA") {
        Error::damaged(format!("{shown} is no file that GnuPG encrypted"))
    } else if has("BADMDC") || has("DECRYPTION_INFO") && !codes(11) {
        Error::damaged(format!("{shown} is damaged, or gpg refuses its old cipher"))
    } else if codes(11) || has("BAD_PASSPHRASE") {
        Error::sealed(format!("the passphrase of {shown} is wrong"))
    } else if codes(99) {
        Error::sealed(format!("nobody gave the passphrase of {shown}: it was cancelled"))
    } else if status.iter().any(|(word, rest)| {
        *word == "ERROR" && (rest.starts_with("pkdecrypt_failed") || rest.starts_with("get_passphrase"))
    }) {
        return Outcome::Locked;
    } else if has("NO_SECKEY") {
        let keys: Vec<&str> = status.iter().filter(|(word, _)| *word == "NO_SECKEY").map(|(_, key)| *key).collect();
        Error::sealed(format!("{shown} is encrypted to {}, and gpg has no such secret key here", keys.join(", ")))
            .hint("Import the secret key for the user who runs this, plug in its smartcard, or set GNUPGHOME.")
    } else {
        let said = err.lines().filter(|line| !line.starts_with("[GNUPG:]")).collect::<Vec<_>>().join("; ");
        Error::failed(format!("gpg cannot decrypt {shown}")).because(said)
    };
    Outcome::Failed(error)
}
