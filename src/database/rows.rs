//! Keys of rows, and the words for what is missing; the same for every database.

use base64::Engine as _;

use crate::appkey::credential::{KeyPart, RowId};
use crate::config::profile::CredentialColumn;
use crate::ground::{Error, Result, json};

/// The longest component of a primary key that is read.
pub(crate) const MAX_KEY: usize = 4096;

/// The error for something that the profile needs and the database lacks.
pub(crate) fn missing(what: &str) -> Error {
    Error::usage(format!("the database has no {what}")).hint(
        "Is this the application's database? Another version of it may need another profile (--app, or [profile]).",
    )
}

/// Where value and key of a credential stand among a row's columns; `None` when the column is missing and may be.
pub(crate) fn places(
    wanted: &CredentialColumn,
    position: &dyn Fn(&str) -> Option<usize>,
) -> Result<Option<(usize, Vec<usize>)>> {
    let absent = |column: &str| missing(&format!("column {}.{column}", wanted.table));
    let Some(value) = position(&wanted.stored) else {
        return if wanted.optional { Ok(None) } else { Err(absent(&wanted.stored)) };
    };
    let keys: Result<_> = wanted.primary_key.iter().map(|k| position(k).ok_or_else(|| absent(k))).collect();
    Ok(Some((value, keys?)))
}

/// Whether the row after so many others of its table is looked at for suspects: the first five hundred, then some of all.
pub(crate) fn is_looked_at(before: u64) -> bool {
    before < 500 || before.is_multiple_of(64)
}

/// An integer of a key; text when JSON could not hold it exactly.
pub(crate) fn integer(n: i64) -> KeyPart {
    if n.unsigned_abs() <= json::MAX_INTEGER { KeyPart::Integer(n) } else { KeyPart::Text(n.to_string()) }
}

/// Text of a key; bytes when it is none.
pub(crate) fn text_or_bytes(bytes: &[u8]) -> KeyPart {
    std::str::from_utf8(bytes).map_or_else(
        |_| KeyPart::Bytes { base64: base64::engine::general_purpose::STANDARD.encode(bytes) },
        |text| KeyPart::Text(text.to_owned()),
    )
}

/// A key of one part or of several.
pub(crate) fn row_id(mut parts: Vec<KeyPart>) -> RowId {
    match parts.len() {
        1 => RowId::One(parts.remove(0)),
        _ => RowId::Many(parts),
    }
}
