//! Public keys, and the list of those that are trusted.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::{Blake2b512, Digest as _};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::minisig::Minisig;
use crate::ground::{Error, Result};

const HINT: &str = "Trusted signers come from [signing] trusted in the configuration; compare with the signer's own \
                    strongroom-signing.pub.";
/// The same for commands that take these flags.
const HINT_FLAGS: &str = "Trusted signers come from [signing] trusted in the configuration, from --signer RW… or from the \
                    recovery card (--card); compare with the signer's own strongroom-signing.pub.";

/// A minisign public key: algorithm `Ed`, key id and Ed25519 point, 42 bytes compared whole.
///
/// Its text is the `RW…` line of a `.pub` file, 56 characters of base64; serde uses the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 42]);

impl PublicKey {
    pub(super) fn from_bytes(bytes: [u8; 42]) -> Option<Self> {
        bytes.starts_with(b"Ed").then_some(Self(bytes))
    }

    /// Reads a `.pub` file's bytes (a comment line and the key), or the bare `RW…` line.
    pub fn parse_file(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::usage("a public key file is not text"))?;
        let mut lines = text.lines().filter(|line| !line.starts_with("untrusted comment:"));
        match (lines.next(), lines.next()) {
            (Some(line), None) => line.parse(),
            _ => Err(Error::usage("a public key file does not hold one key")),
        }
    }

    /// The `.pub` file as the `minisign` program writes it.
    pub fn to_file(&self) -> String {
        format!("untrusted comment: minisign public key {}\n{self}\n", self.id())
    }

    /// The key id as the `minisign` program prints it; two keys may have the same one, so it is for people only.
    pub fn id(&self) -> String {
        shown(self.key_id())
    }

    fn key_id(&self) -> [u8; 8] {
        let mut id = [0; 8];
        id.copy_from_slice(&self.0[2..10]);
        id
    }

    /// Whether this key made both signatures; ring is twice as fast here as the `minisign` crate, and ledgers are long.
    fn made(&self, parsed: &Minisig<'_>, message: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.0[10..]);
        let commented = [parsed.signature.as_slice(), parsed.comment.as_bytes()].concat();
        key.verify(&Blake2b512::digest(message), &parsed.signature).is_ok()
            && key.verify(&commented, &parsed.global).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes: Option<[u8; 42]> = STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.and_then(Self::from_bytes).ok_or_else(|| {
            Error::usage(format!("{:?} is no minisign public key", text.chars().take(80).collect::<String>()))
                .hint("It is the second line of a .pub file, 56 characters that begin with RW.")
        })
    }
}

impl TryFrom<String> for PublicKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

/// A key id as the `minisign` program prints it: a little-endian number, without leading zeros.
fn shown(key_id: [u8; 8]) -> String {
    format!("{:X}", u64::from_le_bytes(key_id))
}

/// The signers that are accepted; an empty list accepts nobody.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    keys: Vec<PublicKey>,
    /// The command line could name more.
    flags: bool,
}

impl Trusted {
    /// Trusts these keys and no others.
    pub fn new(keys: Vec<PublicKey>) -> Self {
        Self { keys, flags: false }
    }

    /// The same where the command line takes `--signer` and `--card`, so that a hint may name them.
    pub fn with_flags(keys: Vec<PublicKey>) -> Self {
        Self { keys, flags: true }
    }

    fn hint(&self) -> &'static str {
        if self.flags { HINT_FLAGS } else { HINT }
    }

    /// The keys.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Fails with [`crate::ground::Kind::NotAuthentic`] when nobody is trusted; `what` is what could not be accepted.
    pub fn somebody(&self, what: &str) -> Result<()> {
        if self.is_empty() {
            return Err(
                Error::not_authentic(format!("{what} cannot be accepted: no signer is trusted")).hint(self.hint())
            );
        }
        Ok(())
    }

    /// Verifies that a trusted signer signed exactly this message under exactly this comment, and says who it was.
    ///
    /// `minisig` is the signature file, `what` the signed object's name for messages. Everything that is not such a
    /// signature is [`crate::ground::Kind::NotAuthentic`].
    pub fn verify(&self, message: &[u8], minisig: &[u8], trusted_comment: &str, what: &str) -> Result<PublicKey> {
        self.somebody(what)?;
        let refused = |why: &str| {
            Error::not_authentic(format!("the signature of {what} is not good: {why}"))
                .hint("Somebody or something changed one of the two: take both from another copy of the archive, and find out who can write to this one.")
        };
        let parsed = Minisig::parse(minisig).map_err(refused)?;
        if parsed.comment != trusted_comment {
            return Err(refused(&format!(
                "it was made for \"{}\", and \"{trusted_comment}\" is asked for",
                parsed.comment.chars().take(200).filter(|c| !c.is_control()).collect::<String>()
            )));
        }
        // An id is eight bytes that anybody may put into a key, so several trusted keys may have it.
        let mut named = self.keys.iter().filter(|key| key.key_id() == parsed.key_id).peekable();
        if named.peek().is_none() {
            let id = shown(parsed.key_id);
            return Err(Error::not_authentic(format!("{what} is signed by a key that is not trusted (id {id})"))
                .hint(self.hint())
                .hint(format!(
                    "If another host of yours signs with it, the first line of its strongroom-signing.pub ends in {id}: add the second, RW…, to [signing] trusted."
                )));
        }
        if let Some(key) = named.find(|key| key.made(&parsed, message)) {
            return Ok(*key);
        }
        Err(refused("it does not fit what is there, or was made by a key with the id of a trusted one"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Signer;
    use super::*;
    use crate::ground::Kind;

    #[test]
    fn a_public_key_reads_back_from_every_form_it_is_written_in() {
        let key = *Signer::generate().expect("random").public();
        assert!(key.to_string().starts_with("RW"));
        assert_eq!(key.to_string().parse::<PublicKey>().expect("it reads back"), key);
        assert_eq!(PublicKey::parse_file(key.to_file().as_bytes()).expect("it reads back"), key);
        let json = serde_json::to_string(&key).expect("it serializes");
        assert_eq!(serde_json::from_str::<PublicKey>(&json).expect("it reads back"), key);
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let good = Signer::generate().expect("random").public().to_string();
        let mut other_algorithm = good.clone().into_bytes();
        other_algorithm[1] = b'U';
        let other_algorithm = String::from_utf8(other_algorithm).expect("text");
        for bad in ["", "RW", &good[..55], &format!("{good}A"), &format!("{good}="), &other_algorithm] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
        }
        assert!(PublicKey::parse_file(format!("{good}\n{good}\n").as_bytes()).is_err());
    }

    #[test]
    fn only_the_named_signer_message_and_comment_verify() {
        let signer = Signer::generate().expect("random");
        let minisig = signer.sign(b"message", "comment").expect("signed");
        let trusted = Trusted::new(vec![*Signer::generate().expect("random").public(), *signer.public()]);
        assert_eq!(trusted.verify(b"message", &minisig, "comment", "it").expect("good"), *signer.public());
        for (message, comment) in [("message ", "comment"), ("", "comment"), ("message", "comment "), ("message", "")] {
            let error = trusted.verify(message.as_bytes(), &minisig, comment, "it").expect_err("refused");
            assert_eq!(error.kind(), Kind::NotAuthentic);
        }
        let strangers = Trusted::new(vec![*Signer::generate().expect("random").public()]);
        let error = strangers.verify(b"message", &minisig, "comment", "it").expect_err("refused");
        assert_eq!(error.kind(), Kind::NotAuthentic);
        assert!(!error.hints()[0].contains("--signer"));
        let error =
            Trusted::with_flags(strangers.keys).verify(b"message", &minisig, "comment", "it").expect_err("refused");
        assert!(error.hints()[0].contains("--signer"));
    }

    #[test]
    fn an_empty_list_trusts_nobody() {
        let minisig = Signer::generate().expect("random").sign(b"m", "c").expect("signed");
        let error = Trusted::default().verify(b"m", &minisig, "c", "it").expect_err("refused");
        assert_eq!(error.kind(), Kind::NotAuthentic);
    }

    #[test]
    fn a_key_that_borrows_a_trusted_id_is_not_trusted() {
        let trusted = Signer::generate().expect("random");
        let mut bytes = Signer::generate().expect("random").public().0;
        bytes[2..10].copy_from_slice(&trusted.public().0[2..10]);
        let same_id = PublicKey::from_bytes(bytes).expect("a key");
        assert_ne!(same_id, *trusted.public());
        let minisig = trusted.sign(b"m", "c").expect("signed");
        assert!(Trusted::new(vec![same_id]).verify(b"m", &minisig, "c", "it").is_err());
        let both = Trusted::new(vec![same_id, *trusted.public()]);
        assert_eq!(both.verify(b"m", &minisig, "c", "it").expect("good"), *trusted.public());
    }

    #[test]
    fn no_single_changed_bit_of_a_signature_file_is_accepted_unless_it_stands_in_the_untrusted_comment() {
        let signer = Signer::generate().expect("random");
        let trusted = Trusted::new(vec![*signer.public()]);
        let good = signer.sign(b"message", "comment").expect("signed");
        let first_line = good.iter().position(|b| *b == b'\n').expect("a line");
        for at in first_line..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(trusted.verify(b"message", &bad, "comment", "it").is_err(), "byte {at}");
        }
    }
}
