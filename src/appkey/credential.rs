//! One encrypted value of the database, and the row that it stands in.

use serde::{Deserialize, Serialize};

use crate::ground::words::shown;

/// The largest ciphertext that is tried; a longer value is counted as failed and named.
pub const MAX_CIPHERTEXT: usize = 64 * 1024;

/// One component of a primary key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum KeyPart {
    /// An integer; one of 2⁵³ or more travels as text.
    Integer(i64),
    /// Text.
    Text(String),
    /// Bytes that are no text.
    Bytes {
        /// Base64.
        #[serde(rename = "_b64")]
        base64: String,
    },
}

/// A row's primary key: one part, or several in the profile's order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RowId {
    /// One column.
    One(KeyPart),
    /// Several columns.
    Many(Vec<KeyPart>),
}

impl std::fmt::Display for KeyPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(n) => n.fmt(f),
            // A row's id may come from a hostile dump and goes to a terminal.
            Self::Text(text) => f.write_str(&shown(text.as_bytes())),
            Self::Bytes { base64 } => write!(f, "base64:{base64}"),
        }
    }
}

impl std::fmt::Display for RowId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(part) => part.fmt(f),
            Self::Many(parts) => {
                for (i, part) in parts.iter().enumerate() {
                    if i > 0 {
                        f.write_str("/")?;
                    }
                    part.fmt(f)?;
                }
                Ok(())
            }
        }
    }
}

/// One encrypted value: table, column, row, ciphertext as the database holds it (text columns: their UTF-8).
///
/// The ciphertext is no secret of ours, but with the key it is one; it is printed nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// The row.
    pub id: RowId,
    /// The value's bytes.
    pub ciphertext: Vec<u8>,
}
