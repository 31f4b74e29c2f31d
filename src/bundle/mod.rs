//! The format: header, proof, file list, parts, sums; writer and reader.
//!
//! A bundle is a folder of objects, each of which the distribution's own tools open: `age`, `zstd`, `tar`, `sha256sum`,
//! `minisign`. The contract:
//! * everything streams, in both directions, in memory that does not grow with what is stored;
//! * an object's digest is taken from the very bytes that are written, and checked on the very bytes that are used;
//! * a bundle exists when the ledger names the digest of its `SHA256SUMS`; what a run that was killed left behind is no bundle;
//! * nothing is believed before `SHA256SUMS` is signed by a trusted signer, and nothing that it does not list is part of it.

mod check;
mod content;
pub mod digest;
pub mod draft;
pub mod extract;
pub mod filelist;
pub mod frames;
pub mod header;
pub mod members;
pub mod opened;
pub mod part;
pub mod proof_record;
pub mod store;
pub mod sums;
#[cfg(test)]
mod tests;

pub use check::Scope;
pub use content::Seen;
pub use draft::{Draft, MemberWriter, StoredMember};
pub use header::{Header, StorageSummary};
pub use members::{Member, PartKind, PartName};
pub use opened::Opened;
pub use proof_record::{ProofHead, ProofReader, ProofSummary, ProofWriter};
pub use sums::Sums;

use std::io::Read;

use crate::ground::names::{AppName, BundleId, ObjectName, Uuid};
use crate::ground::{Error, Kind, Result};
use crate::sealing::{SealingKey, stream};

/// The object that lists every other with its digest.
pub const SUMS: &str = "SHA256SUMS";

/// The signature of [`SUMS`].
pub const SIGNATURE: &str = "SHA256SUMS.minisig";

/// The folder of a bundle.
pub fn folder(app: &AppName, id: &BundleId) -> Result<ObjectName> {
    format!("bundles/{app}/{id}").parse()
}

/// What to do about a bundle that is not what it should be although it is signed.
pub(crate) const FOREIGN: &str =
    "Take the bundle from another copy of the archive, and find out who can write to this one.";

/// Begins to open what a bundle holds or refers to, with the key that its header names.
///
/// What does not open with that key was damaged or exchanged ([`Kind::Damaged`]): no other identity would help.
fn unseal<R: Read>(key: &SealingKey, input: R, what: &str) -> Result<stream::SealedReader<R>> {
    stream::open(key, input, what).map_err(|error| match error.kind() {
        Kind::Sealed => Error::damaged(format!("{what} is not what its bundle was sealed with"))
            .because(error)
            .hint("Take this object from another copy of the archive."),
        _ => error,
    })
}

/// What a bundle's signature says besides the digest list.
fn trusted_comment(archive: &Uuid, app: &AppName, id: &BundleId) -> String {
    format!("strongroom bundle v1 archive={archive} app={app} id={id}")
}
