//! Which parts and segments the archive does not have any more: what lay in them is stored again from the source.
//!
//! One look at each name and length, so a night without changes stays short; a byte that changed inside is for `check`.

use rusqlite::params;

use super::{Lost, StoreOptions};
use crate::bundle::members::PartName;
use crate::ground::{Kind, Result};

/// Marks what is lost, so that neither files nor lists are left in it.
pub(super) fn look(options: &StoreOptions<'_>) -> Result<Vec<Lost>> {
    let state = &*options.state;
    let failed = |e: rusqlite::Error| state.failed(&e);
    let mut statement = state
        .connection()
        .prepare("SELECT name, stored FROM parts UNION ALL SELECT name, stored FROM segments ORDER BY 1")
        .map_err(failed)?;
    let names: Vec<(String, u64)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))
        .and_then(Iterator::collect)
        .map_err(failed)?;
    let mut lost = Vec::new();
    for (name, stored) in names {
        let Some(part) = PartName::parse(&name) else { continue };
        let object = part.object(options.app)?;
        let why = match options.archive.length(&object) {
            Ok(Some(length)) if length == stored => continue,
            Ok(Some(length)) => format!("has {length} bytes there instead of {stored}"),
            Ok(None) => "is not there any more".to_owned(),
            Err(error) if error.kind() == Kind::Damaged => "is no file there any more".to_owned(),
            Err(error) => return Err(error),
        };
        let connection = state.connection();
        let count = "SELECT count(*) FROM files WHERE part = ?1";
        let files: i64 = connection.query_row(count, params![name], |row| row.get(0)).map_err(failed)?;
        for table in ["dying", "lost"] {
            connection
                .execute(&format!("INSERT OR IGNORE INTO temp.{table} VALUES (?1)"), params![name])
                .map_err(failed)?;
        }
        lost.push(Lost { object: object.to_string(), why, files: files.cast_unsigned() });
    }
    Ok(lost)
}
