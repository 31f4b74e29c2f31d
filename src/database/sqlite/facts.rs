//! What there is to say of a database: rows, settings, faults.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::read::{quote, unsigned};
use crate::database::Facts;
use crate::ground::progress::{Progress, Unit};

/// The most faults that are kept.
const MOST_FAULTS: usize = 100;

/// Counts, reads settings, and with `checks` looks for faults.
///
/// A damaged database is described as far as it goes, because it is backed up all the same.
pub(super) fn gather(connection: &Connection, wal: bool, checks: bool, progress: &dyn Progress) -> Facts {
    let mut faults = Vec::new();
    let settings = settings(connection, wal, &mut faults);
    if checks {
        progress.stage("checking the copy", None, Unit::Items);
        integrity(connection, &mut faults);
        foreign_keys(connection, &mut faults);
    }
    let tables = count_rows(connection, &mut faults, progress);
    faults.truncate(MOST_FAULTS);
    Facts {
        system: "sqlite".to_owned(),
        tools: BTreeMap::from([("sqlite".to_owned(), rusqlite::version().to_owned())]),
        tables,
        bytes: 0,
        settings,
        longest_lock_ms: 0,
        faults,
        landmarks: Vec::new(),
    }
}

fn settings(connection: &Connection, wal: bool, faults: &mut Vec<String>) -> BTreeMap<String, String> {
    let journal = if wal { "wal" } else { "delete" };
    let mut settings = BTreeMap::from([("journal_mode".to_owned(), journal.to_owned())]);
    for pragma in ["page_size", "encoding", "auto_vacuum", "user_version", "application_id"] {
        let value = connection.query_row(&format!("PRAGMA {pragma}"), (), |row| {
            Ok(match row.get_ref(0)? {
                rusqlite::types::ValueRef::Integer(n) => n.to_string(),
                other => String::from_utf8_lossy(other.as_bytes().unwrap_or_default()).into_owned(),
            })
        });
        match value {
            Ok(value) => {
                let value = match (pragma, value.as_str()) {
                    ("auto_vacuum", "0") => "none".to_owned(),
                    ("auto_vacuum", "1") => "full".to_owned(),
                    ("auto_vacuum", "2") => "incremental".to_owned(),
                    _ => value,
                };
                settings.insert(pragma.to_owned(), value);
            }
            Err(e) => faults.push(format!("{pragma}: {e}")),
        }
    }
    settings
}

/// What `integrity_check` says, nothing when it says `ok`.
pub(super) fn integrity(connection: &Connection, faults: &mut Vec<String>) {
    let mut lines = || -> rusqlite::Result<()> {
        let mut statement = connection.prepare(&format!("PRAGMA integrity_check({MOST_FAULTS})"))?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let line = String::from_utf8_lossy(row.get_ref(0)?.as_bytes().unwrap_or_default()).into_owned();
            if line != "ok" && faults.len() < MOST_FAULTS {
                faults.push(line.chars().take(500).collect());
            }
        }
        Ok(())
    };
    if let Err(e) = lines() {
        faults.push(format!("integrity_check: {e}"));
    }
}

fn foreign_keys(connection: &Connection, faults: &mut Vec<String>) {
    let mut lines = || -> rusqlite::Result<()> {
        let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            if faults.len() >= MOST_FAULTS {
                break;
            }
            let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
            let number: Option<i64> = row.get(1)?;
            let row = number.map_or_else(|| "a row".to_owned(), |n| format!("row {n}"));
            faults.push(format!("{row} of {table} names a row of {parent} that is not there"));
        }
        Ok(())
    };
    if let Err(e) = lines() {
        faults.push(format!("foreign_key_check: {e}"));
    }
}

fn count_rows(connection: &Connection, faults: &mut Vec<String>, progress: &dyn Progress) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let names = match super::read::table_names(connection) {
        Ok(names) => names,
        Err(e) => {
            faults.push(format!("the schema cannot be read: {e}"));
            return counts;
        }
    };
    progress.stage("counting rows", Some(names.len() as u64), Unit::Items);
    for name in names {
        match connection
            .query_row(&format!("SELECT count(*) FROM {} NOT INDEXED", quote(&name)), (), |row| unsigned(row, 0))
        {
            Ok(count) => {
                counts.insert(name, count);
            }
            Err(e) => faults.push(format!("the rows of {name} cannot be counted: {e}")),
        }
        progress.advance(1);
    }
    counts
}
