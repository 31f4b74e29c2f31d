//! The sealing key: the age X25519 identity that everything in an archive is sealed to.
//!
//! Hosts hold its public half ([`Recipient`]); the secret half ([`SealingKey`]) exists only in the memory of a run that a
//! custodian opened it for.

pub mod stream;

use age::secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::ground::names::SealingId;
use crate::ground::{Error, Result};

/// The public half of a sealing key.
#[derive(Clone)]
pub struct Recipient {
    inner: age::x25519::Recipient,
    id: SealingId,
}

impl Recipient {
    /// Reads an `age1…` recipient; other kinds of recipient are custodians, not sealing keys.
    pub fn parse(text: &str) -> Result<Self> {
        let inner: age::x25519::Recipient = text.trim().parse().map_err(|why: &str| {
            if text.trim().to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
                return Error::usage("an age identity was given where its recipient belongs, the public half")
                    .hint("`age-keygen -y FILE` prints it. Take the secret out of your shell's history.");
            }
            Error::usage(format!("{:?} is no age X25519 recipient", text.chars().take(80).collect::<String>()))
                .because(why.to_owned())
                .hint("It begins with age1 and is printed by age-keygen and by `strongroom init`.")
        })?;
        let id = id_of(&inner.to_string());
        Ok(Self { inner, id })
    }

    /// The sealing id: the first 32 hex digits of SHA-256 of the recipient's text.
    pub fn id(&self) -> &SealingId {
        &self.id
    }

    pub(crate) fn age(&self) -> &age::x25519::Recipient {
        &self.inner
    }
}

impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

fn id_of(recipient: &str) -> SealingId {
    let digest = Sha256::digest(recipient.as_bytes());
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    SealingId::from_bytes(&first)
}

/// The secret half of a sealing key. No `Debug`, no `Clone`; age keeps the scalar zeroized.
pub struct SealingKey {
    inner: age::x25519::Identity,
    recipient: Recipient,
}

impl SealingKey {
    /// A new sealing key.
    pub fn generate() -> Self {
        Self::from_age(age::x25519::Identity::generate())
    }

    fn from_age(inner: age::x25519::Identity) -> Self {
        let public = inner.to_public();
        let id = id_of(&public.to_string());
        Self { inner, recipient: Recipient { inner: public, id } }
    }

    /// Reads an identity file's bytes: one `AGE-SECRET-KEY-1…` line among comments.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = || Error::damaged("the wrapped sealing key is not one age identity");
        let text = std::str::from_utf8(bytes).map_err(|_| wrong())?;
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (Some(line), None) = (lines.next(), lines.next()) else { return Err(wrong()) };
        line.parse().map(Self::from_age).map_err(|_: &str| wrong())
    }

    /// The identity file's bytes, as `age -i` takes them.
    pub fn to_identity_file(&self) -> Zeroizing<Vec<u8>> {
        let secret = self.inner.to_string();
        let mut bytes = Zeroizing::new(Vec::with_capacity(256));
        bytes.extend_from_slice(format!("# strongroom sealing key {}\n", self.recipient.id).as_bytes());
        bytes.extend_from_slice(format!("# public key: {}\n", self.recipient).as_bytes());
        bytes.extend_from_slice(secret.expose_secret().as_bytes());
        bytes.push(b'\n');
        bytes
    }

    /// Its public half.
    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// Its id, recomputed from the identity itself.
    pub fn id(&self) -> &SealingId {
        &self.recipient.id
    }

    pub(crate) fn age(&self) -> &age::x25519::Identity {
        &self.inner
    }

    /// The key of `custody.json`'s MAC: HKDF-SHA-256 of the identity's text, info `strongroom custody v1`.
    pub(crate) fn custody_mac_key(&self) -> Zeroizing<[u8; 32]> {
        let secret = self.inner.to_string();
        let mut key = Zeroizing::new([0; 32]);
        hkdf::Hkdf::<Sha256>::new(None, secret.expose_secret().as_bytes())
            .expand(b"strongroom custody v1", key.as_mut())
            .expect("32 bytes are a valid length");
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealing_key_reads_back_from_its_identity_file() {
        let key = SealingKey::generate();
        let again = SealingKey::parse(&key.to_identity_file()).expect("it reads back");
        assert_eq!(again.id(), key.id());
        assert_eq!(Recipient::parse(&key.recipient().to_string()).expect("a recipient").id(), key.id());
    }

    #[test]
    fn an_identity_given_as_a_recipient_is_not_repeated() {
        let file = SealingKey::generate().to_identity_file();
        let secret = std::str::from_utf8(&file).expect("text").lines().last().expect("a line").to_owned();
        for given in [secret.clone(), format!(" {}", secret.to_lowercase())] {
            let error = Recipient::parse(&given).err().expect("refused");
            assert!(!error.chain().to_uppercase().contains(&secret[16..40]));
        }
    }

    #[test]
    fn two_identities_in_one_file_are_no_sealing_key() {
        let mut bytes = SealingKey::generate().to_identity_file().to_vec();
        bytes.extend_from_slice(&SealingKey::generate().to_identity_file());
        assert!(SealingKey::parse(&bytes).is_err());
    }
}
