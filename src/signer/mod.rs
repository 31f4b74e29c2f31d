//! Signers: the minisign keys that bundles and ledger entries are accepted from.
//!
//! A signature says who wrote something; it is the one thing in an archive that its owner cannot forge. So [`Trusted`]
//! comes from the operator (configuration, `--signer`, recovery card) and never from an archive, and an empty list trusts
//! nobody. Files are those of the `minisign` program (<https://jedisct1.github.io/minisign/#signature-format>), prehashed
//! signatures only.

mod minisig;
mod public;
mod secret;

pub use public::{PublicKey, Trusted};
pub use secret::Signer;

#[cfg(test)]
mod interop;
