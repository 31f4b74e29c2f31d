//! The format: header, proof, file list, parts, sums; writer and reader.
//!
//! A bundle is a folder of objects, each of which the distribution's own tools open: `age`, `zstd`, `tar`, `sha256sum`,
//! `minisign`. The contract:
//! * everything streams, in both directions, in memory that does not grow with what is stored;
//! * an object's digest is taken from the very bytes that are written, and checked on the very bytes that are used;
//! * a bundle exists when the ledger names the digest of its `SHA256SUMS`; what a run that was killed left behind is no bundle.

pub mod digest;
pub mod frames;
