//! The application's key: where it comes from, what the application really uses of it, its name, and the proof.
//!
//! A [`KeyText`] is the exact bytes that somebody configured; an [`EffectiveKey`] is what a scheme makes of them. Two texts may
//! have the same effective key, so names ([`fingerprint`]) and proofs ([`proof`]) are of the effective one.

pub mod canary;
pub mod credential;
pub mod docker;
pub mod fingerprint;
pub mod lint;
pub mod proof;
pub mod schemes;
pub mod source;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The exact bytes of an application key. No `Debug`, no `Clone`; wiped when dropped.
pub struct KeyText(Zeroizing<Vec<u8>>);

impl KeyText {
    /// Takes the bytes over.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The bytes, for the one who uses them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// What a scheme really uses of a key text. No `Debug`, no `Clone`; wiped when dropped.
pub struct EffectiveKey(Zeroizing<Vec<u8>>);

impl EffectiveKey {
    /// Takes the bytes over.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The bytes, for the scheme and the fingerprint.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether both are the same key, in constant time.
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}
