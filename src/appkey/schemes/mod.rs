//! Schemes: how applications turn their key into ciphertext.
//!
//! The contract every scheme keeps: what it does with a key text and a value is to the letter what the application does, so
//! that "decrypts here" means "decrypts there"; it never panics on a value, and wipes what it decrypted.

pub mod package_broker;
mod stretch;

use zeroize::Zeroizing;

use super::{EffectiveKey, KeyText};
use crate::ground::{Error, Result};

/// What came of decrypting one value.
pub enum Outcome {
    /// A tag or MAC matched; the plaintext.
    Proved(Zeroizing<Vec<u8>>),
    /// The cipher authenticates nothing, and the plaintext has the right form.
    Plausible(Zeroizing<Vec<u8>>),
    /// It does not decrypt.
    Failed,
}

/// One way of encrypting; see the module for what it promises.
pub trait Scheme: Send + Sync {
    /// Its name, as profiles and bundles write it.
    fn name(&self) -> &'static str;

    /// What the application really uses of a key text.
    fn effective_key(&self, text: &KeyText) -> Result<EffectiveKey>;

    /// Whether a value has the form of this scheme's ciphertext.
    fn looks_like(&self, value: &[u8]) -> bool;

    /// Decrypts one value.
    fn decrypt(&self, key: &EffectiveKey, value: &[u8]) -> Outcome;

    /// Encrypts one value as the application would.
    fn encrypt(&self, key: &EffectiveKey, plaintext: &[u8]) -> Result<Vec<u8>>;

    /// Encrypts a value under another key, and decrypts what came of it; `None` when the value does not decrypt with `from`.
    ///
    /// Nothing comes out that was not seen to decrypt with `to` to the same plaintext.
    fn reencrypt(&self, from: &EffectiveKey, to: &EffectiveKey, value: &[u8]) -> Result<Option<Vec<u8>>> {
        let (Outcome::Proved(plaintext) | Outcome::Plausible(plaintext)) = self.decrypt(from, value) else {
            return Ok(None);
        };
        let new = self.encrypt(to, &plaintext)?;
        match self.decrypt(to, &new) {
            Outcome::Proved(again) | Outcome::Plausible(again) if again == plaintext => Ok(Some(new)),
            _ => Err(Error::failed("a value that was encrypted under the new key does not decrypt with it")),
        }
    }

    /// A new random key in the form that the application asks for.
    fn new_key(&self) -> Result<KeyText> {
        use base64::Engine as _;
        let random = Zeroizing::new(crate::ground::names::random::<32>()?);
        let text = base64::engine::general_purpose::STANDARD.encode(&random[..self.recommended_bytes().min(32)]);
        Ok(KeyText::new(Zeroizing::new(text.into_bytes())))
    }

    /// How many characters of a key text count, where the application cuts it.
    fn key_characters(&self) -> Option<usize>;

    /// How many bytes the application recommends a key to have, base64-encoded.
    fn recommended_bytes(&self) -> usize;
}

/// The scheme of this name.
pub fn by_name(name: &str) -> Result<&'static dyn Scheme> {
    match name {
        package_broker::NAME => Ok(&package_broker::PackageBroker),
        _ => {
            Err(Error::usage(format!("there is no scheme {name:?}")).hint(format!("Known: {}.", package_broker::NAME)))
        }
    }
}
