//! Backups that are known to open.
//!
//! The rooms, from the ground up: [`ground`] (errors, names, durable writes), [`sealing`] (the age key that everything is
//! sealed to), [`signer`] (minisign), [`archive`] (where bundles lie), [`ledger`] (what happened, signed and chained),
//! [`custody`] (who can open the sealing key), [`appkey`] (the application's key and the proof), [`escrow`] (where sealed
//! application keys are kept), [`database`] and [`storage`] (what is backed up), [`bundle`] (the format) and [`config`].

#![forbid(unsafe_code)]

pub mod appkey;
pub mod archive;
pub mod bundle;
pub mod cli;
pub mod commands;
pub mod config;
pub mod custody;
pub mod database;
pub mod escrow;
pub mod ground;
pub mod ledger;
pub mod sealing;
pub mod signer;
pub mod storage;
pub mod wiring;
