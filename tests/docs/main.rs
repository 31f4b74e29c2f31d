//! The documents are true: their commands run, their links resolve, what is generated is the program's own.
//!
//! One binary, `cargo test --features failpoints --test docs`. How a `console` block is read stands in `console.rs`, what counts as
//! equal output in `normal.rs`. `STRONGROOM_BLESS=1` writes what commands really print, and what is generated, into the documents, to be
//! read before it is committed.

#[path = "../escrows/bao.rs"]
#[allow(dead_code, clippy::print_stderr, reason = "shared with tests/escrows")]
mod bao;
mod by_hand;
mod claims;
mod configuration;
mod console;
mod format;
mod guide;
mod install;
mod json;
mod links;
mod normal;
mod recipes;
mod reference;
#[path = "../aws/server.rs"]
#[allow(dead_code, reason = "shared with tests/aws")]
mod server;
mod stage;
