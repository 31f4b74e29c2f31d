//! What every room stands on: errors with a kind, names that cannot be wrong, writes that last.
//!
//! Nothing here knows a bundle, a key or an application. Every room may import this one; it imports none.

pub mod beside;
pub mod block;
pub(crate) mod bulk;
pub mod child;
pub mod clock;
pub mod durable;
pub mod endpoint;
pub mod error;
pub mod failpoint;
pub mod interrupt;
pub mod json;
pub mod kept;
pub mod names;
pub mod progress;
pub mod recognise;
pub mod runtime;
pub mod scratch;
pub mod sqlite;
pub mod words;

pub use error::{Context, Error, Kind, Result};
