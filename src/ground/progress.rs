//! How far long work has come, told to whoever watches.

use std::sync::Arc;

/// What the numbers of a stage count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things: files, credentials, bundles.
    Items,
}

/// Somebody who watches long work. Calls come from any thread and must be cheap.
pub trait Progress: Send + Sync {
    /// A new stage begins; it ends when the next one begins or [`Progress::finish`] is called.
    fn stage(&self, name: &str, total: Option<u64>, unit: Unit);
    /// So much more of the stage is done.
    fn advance(&self, by: u64);
    /// A line for the person who waits, such as "the key is wrong".
    fn note(&self, line: &str);
    /// Nothing more comes.
    fn finish(&self);
}

/// Nobody watches.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _: &str, _: Option<u64>, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn note(&self, _: &str) {}
    fn finish(&self) {}
}

/// A watcher that nobody is behind.
pub fn silent() -> Arc<dyn Progress> {
    Arc::new(Silent)
}
