//! What a file seems to be by its beginning, for whoever gave one for another.

use std::io::Read as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::durable;

/// How much of a file says what it is.
const BEGINNING: usize = 512;

/// A file that somebody has beside an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seems {
    /// A recovery card.
    Card,
    /// An age identity, in the clear or under a passphrase.
    Identity,
    /// An SSH key's private half.
    SshIdentity,
    /// The public half of an age or SSH key.
    Recipient,
    /// The secret half of a minisign key.
    Signer,
    /// The public half of one.
    SignerPublic,
    /// A `strongroom.toml`.
    Configuration,
}

impl Seems {
    /// By the first bytes of a file; `None` when they are of nothing that is known.
    pub fn of(beginning: &[u8]) -> Option<Self> {
        let begins = &beginning[..beginning.len().min(BEGINNING)];
        // What is cut off in the middle of a letter is text all the same. Nothing is copied: it may be a secret.
        let text = match std::str::from_utf8(begins) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&begins[..error.valid_up_to()]).unwrap_or_default(),
        };
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let lines = || text.lines().map(str::trim);
        if text.starts_with("strongroom recovery card") || lines().any(|line| line.starts_with("recovery-card:")) {
            return Some(Self::Card);
        }
        if text.starts_with("untrusted comment:") {
            // A public key is 42 bytes in base64, a secret one 158.
            let key = lines().nth(1).unwrap_or_default();
            // A line that is cut off here may be longer.
            let whole = begins.len() < BEGINNING || text.matches('\n').count() > 1;
            return if key.len() > 56 { Some(Self::Signer) } else { whole.then_some(Self::SignerPublic) };
        }
        if ["ssh-", "ecdsa-", "sk-ssh-", "age1"].iter().any(|begin| text.starts_with(begin)) {
            return Some(Self::Recipient);
        }
        if text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----") || text.starts_with("age-encryption.org/") {
            return Some(Self::Identity);
        }
        if text.starts_with("-----BEGIN ") && lines().next().is_some_and(|line| line.contains("PRIVATE KEY")) {
            return Some(Self::SshIdentity);
        }
        if lines().any(|line| line.starts_with("AGE-SECRET-KEY-1") || line.starts_with("AGE-PLUGIN-")) {
            return Some(Self::Identity);
        }
        let table = |line: &str| ["[key]", "[archive]", "[sealing]"].contains(&line);
        if text.starts_with("# strongroom: what to back up") || lines().any(table) {
            return Some(Self::Configuration);
        }
        None
    }

    /// The same for a file; `None` also for one that cannot be read.
    pub fn file(path: &Path) -> Option<Self> {
        let file = durable::open_regular(path, true).ok()?;
        // One allocation that is wiped: it may be a secret.
        let mut begins = Zeroizing::new(Vec::with_capacity(BEGINNING));
        (&file).take(BEGINNING as u64).read_to_end(&mut begins).ok()?;
        Self::of(&begins)
    }

    /// What it is called, with its article.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Card => "a recovery card",
            Self::Identity => "an age identity",
            Self::SshIdentity => "an SSH private key",
            Self::Recipient => "a public key",
            Self::Signer => "a minisign secret key",
            Self::SignerPublic => "a minisign public key",
            Self::Configuration => "a strongroom configuration",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_beginning() {
        let signer = format!("untrusted comment: x\n{}\n", "R".repeat(212));
        let public = format!("untrusted comment: minisign public key\nRW{}\n", "Q".repeat(54));
        for (text, seems) in [
            ("strongroom recovery card\n====", Some(Seems::Card)),
            ("> quoted\nrecovery-card: 1\n", Some(Seems::Card)),
            ("# created: 2026\n# public key: age1x\nAGE-SECRET-KEY-1QQ\n", Some(Seems::Identity)),
            ("age-encryption.org/v1\n-> scrypt", Some(Seems::Identity)),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\n", Some(Seems::SshIdentity)),
            ("ssh-ed25519 AAAA me", Some(Seems::Recipient)),
            ("\u{feff}age1abc", Some(Seems::Recipient)),
            (&signer, Some(Seems::Signer)),
            (&format!("untrusted comment: {}\n{}\n", "x".repeat(470), "R".repeat(212)), None),
            (&format!("untrusted comment: {}\n{}\n", "x".repeat(400), "R".repeat(212)), Some(Seems::Signer)),
            (&public, Some(Seems::SignerPublic)),
            ("installation = \"x\"\n[key]\nsource = \"env:X\"\n", Some(Seems::Configuration)),
            ("app = \"mine\"\nscheme = \"x\"\n[[credential]]\n", None),
            ("", None),
        ] {
            assert_eq!(Seems::of(text.as_bytes()), seems, "{text}");
        }
        assert_eq!(Seems::of(b"\xff\xfe\0"), None);
    }
}
