//! New values for credentials of the live database, in one transaction.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::open;
use super::read::{Reader, quote};
use crate::appkey::credential::{Credential, KeyPart, RowId};
use crate::config::profile::Profile;
use crate::database::rewrite::{Expected, named};
use crate::database::{Change, Rewritten};
use crate::ground::{Error, Result, failpoint};

/// See [`crate::database::Database::rewrite`].
pub(super) fn all(path: &Path, busy: Duration, profile: &Profile, change: Change<'_>) -> Result<Rewritten> {
    profile.writable()?;
    let connection = open::open(path, open::Mode::Writable, busy)?;
    let fault = |e| open::fault(path, e);
    connection.execute_batch("PRAGMA synchronous = FULL; BEGIN IMMEDIATE").map_err(fault)?;
    if let Err(error) = within(&connection, path, profile, change) {
        let _ = connection.execute_batch("ROLLBACK");
        return Err(error);
    }
    failpoint::pass("before the commit of new credentials");
    let committed = connection.execute_batch("COMMIT");
    failpoint::pass("after the commit of new credentials");
    match committed {
        Ok(()) => Ok(Rewritten::Committed),
        // The transaction is still open, as when a reader stays in the way: it is taken back, and nothing has changed.
        Err(error) if !connection.is_autocommit() && connection.execute_batch("ROLLBACK").is_ok() => Err(fault(error)),
        Err(error) => Ok(Rewritten::Unknown(fault(error))),
    }
}

fn within(connection: &Connection, path: &Path, profile: &Profile, change: Change<'_>) -> Result<()> {
    let reader = Reader { connection, fault: &|e| open::fault(path, e) };
    let mut credentials = Vec::new();
    reader.credentials(profile, None, &mut |credential| {
        credentials.push(credential);
        Ok(())
    })?;
    let mut expected = Expected::new(&credentials)?;
    change(credentials, &mut |credential, value| {
        expected.put(credential, value)?;
        put(connection, path, profile, credential, value)
    })?;
    reader.credentials(profile, None, &mut |credential| expected.look(&credential))?;
    expected.finish()
}

fn put(connection: &Connection, path: &Path, profile: &Profile, credential: &Credential, value: &[u8]) -> Result<()> {
    let row = || named(credential);
    let described = profile
        .credentials
        .iter()
        .find(|c| c.table == credential.table && c.column == credential.column)
        .ok_or_else(|| Error::failed(format!("the profile does not name {}", row())))?;
    let parts: Vec<&KeyPart> = match &credential.id {
        RowId::One(part) => vec![part],
        RowId::Many(parts) => parts.iter().collect(),
    };
    let mut values =
        vec![text_or_bytes(value), text_or_bytes(&credential.ciphertext), Value::Blob(credential.ciphertext.clone())];
    for part in &parts {
        values.push(match part {
            KeyPart::Integer(n) => Value::Integer(*n),
            KeyPart::Text(text) => Value::Text(text.clone()),
            KeyPart::Bytes { base64 } => Value::Blob(
                base64::engine::general_purpose::STANDARD
                    .decode(base64)
                    .map_err(|_| Error::failed(format!("the key of {} is no base64", row())))?,
            ),
        });
    }
    let column = quote(&credential.column);
    let keys: Vec<String> =
        described.primary_key.iter().enumerate().map(|(i, key)| format!("{} IS ?{}", quote(key), i + 4)).collect();
    let sql = format!(
        "UPDATE {} SET {column} = CASE typeof({column}) WHEN 'blob' THEN CAST(?1 AS BLOB) ELSE ?1 END
         WHERE ({column} IS ?2 OR {column} IS ?3) AND {}",
        quote(&credential.table),
        keys.join(" AND ")
    );
    let changed = connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.execute(params_from_iter(values)))
        .map_err(|e| open::fault(path, e))?;
    if changed == 1 {
        return Ok(());
    }
    Err(Error::failed(format!("{changed} rows are {}, and one should be", row()))
        .hint("The profile's primary key does not name a row; correct it before anything is rewritten."))
}

fn text_or_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::Text(text.to_owned()),
        Err(_) => Value::Blob(bytes.to_vec()),
    }
}
