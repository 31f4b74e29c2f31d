//! The scheme of PACKAGE.broker (`@package-broker/core` 0.19.8, `dist/utils/encryption.js`).
//!
//! AES-256-GCM under PBKDF2-HMAC-SHA-256 with 100,000 iterations and a salt a value; stored as standard base64 of
//! `salt[16] | iv[12] | ciphertext | tag[16]`, no additional data. The password is the key text cut or padded with `0` to 32 UTF-16
//! units, as UTF-8; the text is not base64-decoded.

use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::{Outcome, Scheme, stretch};
use crate::appkey::{EffectiveKey, KeyText};
use crate::ground::names::random;
use crate::ground::{Error, Result};

/// The scheme's name.
pub const NAME: &str = "package-broker";

const ITERATIONS: u32 = 100_000;
const UNITS: usize = 32;
const SALT: usize = 16;
const IV: usize = 12;
const TAG: usize = 16;

/// `atob` takes missing padding, and bits after the last byte that are not zero (WHATWG Infra, forgiving-base64 decode).
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The scheme.
pub struct PackageBroker;

/// The AES key of one value.
fn derive(key: &EffectiveKey, salt: &[u8]) -> Zeroizing<[u8; 32]> {
    stretch::pbkdf2(key.expose(), salt, ITERATIONS)
}

/// Decodes as `atob` does: ASCII white space left out, padding whole or missing, everything else refused.
fn atob(value: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> =
        value.iter().copied().filter(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c')).collect();
    let padding = text.iter().rev().take_while(|b| **b == b'=').count();
    // One or two `=` are taken off a text whose length is a multiple of four; anywhere else they are no base64.
    let body = if padding > 0 && padding <= 2 && text.len().is_multiple_of(4) {
        &text[..text.len() - padding]
    } else {
        &text[..]
    };
    if body.contains(&b'=') || body.len() % 4 == 1 {
        return None;
    }
    FORGIVING.decode(body).ok()
}

/// The parts of a stored value.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    if bytes.len() < SALT + IV + TAG {
        return None;
    }
    let (salt, rest) = bytes.split_at(SALT);
    let (iv, sealed) = rest.split_at(IV);
    Some((salt, iv, sealed))
}

/// A new stored value, and the cipher that opens it.
fn seal(key: &EffectiveKey, plaintext: &[u8]) -> Result<(Vec<u8>, Aes256Gcm)> {
    let (salt, iv) = (random::<SALT>()?, random::<IV>()?);
    let failed = || Error::failed("cannot encrypt a credential");
    let cipher = Aes256Gcm::new_from_slice(derive(key, &salt).as_ref()).map_err(|_| failed())?;
    let sealed = cipher.encrypt(Nonce::from_slice(&iv), plaintext).map_err(|_| failed())?;
    let whole = [salt.as_slice(), &iv, &sealed].concat();
    Ok((base64::engine::general_purpose::STANDARD.encode(whole).into_bytes(), cipher))
}

impl Scheme for PackageBroker {
    fn name(&self) -> &'static str {
        NAME
    }

    /// The UTF-8 of the 32 UTF-16 units that PBKDF2 gets; bytes that are no UTF-8 become U+FFFD, as in Node's `process.env`.
    fn effective_key(&self, text: &KeyText) -> Result<EffectiveKey> {
        let decoded = Zeroizing::new(String::from_utf8_lossy(text.expose()).into_owned());
        let mut units: Zeroizing<Vec<u16>> = Zeroizing::new(Vec::with_capacity(UNITS));
        units.extend(decoded.encode_utf16().chain(std::iter::repeat(u16::from(b'0'))).take(UNITS));
        // A surrogate pair cut in half at unit 32 is U+FFFD to TextEncoder.
        let mut utf8 = Zeroizing::new(Vec::with_capacity(UNITS * 4));
        for unit in char::decode_utf16(units.iter().copied()) {
            let mut buffer = Zeroizing::new([0; 4]);
            utf8.extend_from_slice(unit.unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut *buffer).as_bytes());
        }
        Ok(EffectiveKey::new(utf8))
    }

    fn looks_like(&self, value: &[u8]) -> bool {
        // A short random text can be base64 too; the shortest ciphertext, of `{}`, has 46 bytes.
        if value.len() < 60 || !value.len().is_multiple_of(4) || value.iter().any(u8::is_ascii_whitespace) {
            return false;
        }
        // Digests in hex and words are base64 as well. Of random bytes, not one in 100,000 lacks any of these three kinds.
        let has = |kind: fn(&u8) -> bool| value.iter().any(kind);
        has(|b| (b'G'..=b'Z').contains(b))
            && has(|b| (b'g'..=b'z').contains(b))
            && has(|b| b.is_ascii_digit() || b"+/".contains(b))
            && atob(value).is_some_and(|bytes| bytes.len() >= SALT + IV + TAG + 2)
    }

    fn decrypt(&self, key: &EffectiveKey, value: &[u8]) -> Outcome {
        let Some(bytes) = atob(value) else { return Outcome::Failed };
        let Some((salt, iv, sealed)) = split(&bytes) else { return Outcome::Failed };
        let Ok(cipher) = Aes256Gcm::new_from_slice(derive(key, salt).as_ref()) else { return Outcome::Failed };
        match cipher.decrypt(Nonce::from_slice(iv), sealed) {
            Ok(plaintext) => Outcome::Proved(Zeroizing::new(plaintext)),
            Err(_) => Outcome::Failed,
        }
    }

    fn encrypt(&self, key: &EffectiveKey, plaintext: &[u8]) -> Result<Vec<u8>> {
        seal(key, plaintext).map(|(value, _)| value)
    }

    /// As the contract says, with two derivations instead of three: the derived key serves the look back too.
    fn reencrypt(&self, from: &EffectiveKey, to: &EffectiveKey, value: &[u8]) -> Result<Option<Vec<u8>>> {
        let Outcome::Proved(plaintext) = self.decrypt(from, value) else { return Ok(None) };
        let (new, cipher) = seal(to, &plaintext)?;
        let bytes = atob(&new);
        let again = bytes
            .as_deref()
            .and_then(split)
            .and_then(|(_, iv, sealed)| cipher.decrypt(Nonce::from_slice(iv), sealed).map(Zeroizing::new).ok());
        if again.as_ref() == Some(&plaintext) {
            return Ok(Some(new));
        }
        Err(Error::failed("a value that was encrypted under the new key does not decrypt with it"))
    }

    fn key_characters(&self) -> Option<usize> {
        Some(UNITS)
    }

    fn recommended_bytes(&self) -> usize {
        32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::names::hex;

    #[test]
    fn digests_words_and_ids_do_not_look_like_ciphertext() {
        let key = PackageBroker.effective_key(&KeyText::new(Zeroizing::new(b"some key".to_vec()))).expect("a key");
        for plaintext in [b"{}".as_slice(), br#"{"username":"a","password":"b"}"#, &[7; 300]] {
            assert!(PackageBroker.looks_like(&PackageBroker.encrypt(&key, plaintext).expect("encrypted")));
        }
        let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let words = "some words ".repeat(20);
        for text in [digest, &digest.to_uppercase(), &digest.repeat(2), &words, &words.replace(' ', ""), "short"] {
            assert!(!PackageBroker.looks_like(text.as_bytes()), "{text}");
        }
    }

    const VECTORS: &str = include_str!("../../../tests/vectors/package-broker-vectors.json");

    fn key(text: &str) -> EffectiveKey {
        PackageBroker.effective_key(&KeyText::new(Zeroizing::new(text.as_bytes().to_vec()))).expect("a key")
    }

    #[test]
    fn every_vector_of_the_application_comes_out_the_same() {
        let file: serde_json::Value = serde_json::from_str(VECTORS).expect("vectors");
        let vectors = file["vectors"].as_array().expect("a list");
        assert!(vectors.len() >= 13);
        for vector in vectors {
            let name = vector["name"].as_str().expect("a name");
            let key = key(vector["key"].as_str().expect("a key"));
            if let Some(expected) = vector["effective_key_utf8_hex"].as_str() {
                assert_eq!(hex(key.expose()), expected, "{name}");
            }
            let value = vector["ciphertext"].as_str().expect("a ciphertext").as_bytes();
            if let Some(expected) = vector["derived_key_hex"].as_str() {
                let bytes = atob(value).expect("base64");
                let (salt, iv, _) = split(&bytes).expect("parts");
                assert_eq!(hex(salt), vector["salt_hex"], "{name}");
                assert_eq!(hex(iv), vector["iv_hex"], "{name}");
                assert_eq!(hex(derive(&key, salt).as_ref()), expected, "{name}");
            }
            match (PackageBroker.decrypt(&key, value), vector["plaintext"].as_str()) {
                (Outcome::Proved(plain), Some(expected)) => assert_eq!(*plain, expected.as_bytes(), "{name}"),
                (Outcome::Failed, None) => assert_eq!(vector["decrypts"], false, "{name}"),
                _ => panic!("{name} came out otherwise"),
            }
        }
    }

    #[test]
    fn what_it_encrypts_it_decrypts_and_another_key_does_not() {
        let value = PackageBroker.encrypt(&key("a"), b"{}").expect("encrypted");
        assert!(PackageBroker.looks_like(&value));
        assert!(matches!(PackageBroker.decrypt(&key("a"), &value), Outcome::Proved(p) if *p == b"{}"));
        assert!(matches!(PackageBroker.decrypt(&key("b"), &value), Outcome::Failed));
    }

    #[test]
    fn a_value_goes_from_one_key_to_another_or_stays() {
        let (old, new) =
            (key("old"), PackageBroker.effective_key(&PackageBroker.new_key().expect("made")).expect("one"));
        let value = PackageBroker.encrypt(&old, b"secret").expect("encrypted");
        let moved = PackageBroker.reencrypt(&old, &new, &value).expect("no fault").expect("decrypts");
        assert!(matches!(PackageBroker.decrypt(&new, &moved), Outcome::Proved(p) if *p == b"secret"));
        assert!(matches!(PackageBroker.decrypt(&old, &moved), Outcome::Failed));
        assert!(PackageBroker.reencrypt(&new, &old, &value).expect("no fault").is_none());
    }

    #[test]
    fn base64_is_read_as_atob_reads_it() {
        assert_eq!(atob(b" Y\tW\nJ\rj "), Some(b"abc".to_vec()));
        assert_eq!(atob(b"YWI="), Some(b"ab".to_vec()));
        assert_eq!(atob(b"YWI"), Some(b"ab".to_vec()));
        assert_eq!(atob(b"YWJ="), Some(b"ab".to_vec()));
        for wrong in ["Y", "YWI==", "YW=I", "=", "YWJj=", "YW-_", "{}", "YWI\u{a0}"] {
            assert_eq!(atob(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn no_value_makes_it_panic() {
        let key = key("x");
        for value in [b"".as_slice(), b"AAAA", &[0xff; 100], "A".repeat(60).as_bytes(), "A".repeat(70000).as_bytes()] {
            assert!(matches!(PackageBroker.decrypt(&key, value), Outcome::Failed));
        }
    }
}
