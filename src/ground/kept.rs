//! What a restore kept of what it replaced, until a person removes it.

/// One thing that is kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Kept {
    /// Its name, by which it is removed.
    pub name: String,
    /// Its size, where it is known.
    pub bytes: Option<u64>,
    /// Something stood there before a restore; what a restore left unfinished brings nothing back.
    pub way_back: bool,
}
