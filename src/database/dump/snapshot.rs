//! A dump in SQL as a [`Snapshot`]: read from its beginning for everything that is asked of it.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::ToSql;
use rusqlite::{Connection, OpenFlags};

use super::listen::{Count, Credentials, Suspects};
use super::script::{self, Listener, Outline};
use super::value::Value;
use super::{SPACE, Source};
use crate::appkey::credential::Credential;
use crate::config::profile::Profile;
use crate::database::room::Tally;
use crate::database::spread::{Spread, share_of};
use crate::database::sqlite::open::{fault, harden};
use crate::database::sqlite::read::{Reader, quote};
use crate::database::{Dump, Facts, NamedObject, Snapshot, Suspect};
use crate::ground::Result;
use crate::ground::progress::{Progress, Unit};
use crate::ground::scratch::Scratch;

/// A dump in SQL text, perhaps compressed.
pub(super) struct SqlSnapshot {
    source: Source,
    scratch: Scratch,
}

impl SqlSnapshot {
    pub(super) fn new(source: Source, scratch: Scratch) -> Self {
        Self { source, scratch }
    }

    fn scan(&self, listener: &mut dyn Listener) -> Result<Outline> {
        let input = BufReader::with_capacity(256 * 1024, self.source.open()?);
        script::scan(input, &self.source.what, listener)
    }

    fn pass(
        &self,
        profile: &Profile,
        shares: &[Option<u64>],
        counts: &[u64],
        visit: &mut dyn FnMut(Credential) -> Result<()>,
    ) -> Result<Vec<u64>> {
        let spreads: Result<_> = shares.iter().zip(counts).map(|(share, count)| Spread::new(*count, *share)).collect();
        let mut listener = Credentials::new(profile, spreads?, visit);
        let outline = self.scan(&mut listener)?;
        listener.check(&outline)?;
        Ok(listener.counts)
    }
}

impl Snapshot for SqlSnapshot {
    fn credentials(
        &mut self,
        profile: &Profile,
        sample: Option<usize>,
        visit: &mut dyn FnMut(Credential) -> Result<()>,
    ) -> Result<u64> {
        let nothing = vec![0; profile.credentials.len()];
        let Some(sample) = sample else {
            let all = vec![None; profile.credentials.len()];
            return Ok(self.pass(profile, &all, &nothing, visit)?.iter().sum());
        };
        // Twice, because only at the end of a stream is it known how many there are to choose from.
        let none = vec![Some(0); profile.credentials.len()];
        let counts = self.pass(profile, &none, &nothing, &mut |_| Ok(()))?;
        let total = counts.iter().sum();
        let shares: Vec<_> = counts.iter().map(|count| Some(share_of(sample, *count, total))).collect();
        self.pass(profile, &shares, &counts, visit)?;
        Ok(total)
    }

    fn suspects(&mut self, profile: &Profile, looks_like: &dyn Fn(&[u8]) -> bool) -> Result<Vec<Suspect>> {
        let mut listener = Suspects::new(profile, looks_like, &self.source.what);
        self.scan(&mut listener)?;
        Ok(listener.found())
    }

    fn named_objects(&mut self, profile: &Profile, visit: &mut dyn FnMut(NamedObject) -> Result<()>) -> Result<()> {
        let Some(storage) = &profile.storage else { return Ok(()) };
        // The rows of the tables that the query needs, and nothing else of the dump, in an unlinked file.
        let name = self.scratch.name("rows")?;
        let path = name.path().to_owned();
        let connection = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )
        .map_err(|e| fault(&path, e))?;
        name.unlink();
        let begin = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; BEGIN;";
        connection.execute_batch(begin).map_err(|e| fault(&path, e))?;
        harden(&connection, Duration::ZERO).map_err(|e| fault(&path, e))?;
        let mut rows = Rows {
            connection: &connection,
            tables: &storage.tables,
            made: Vec::new(),
            path: &path,
            scratch: &self.scratch,
            since_asking: 0,
        };
        let outline = self.scan(&mut rows)?;
        for table in &storage.tables {
            if let Some((_, columns)) = outline.tables.get(&table.to_ascii_lowercase()) {
                rows.make(table, columns)?;
            }
        }
        let shown = PathBuf::from(&self.source.what);
        Reader { connection: &connection, fault: &|e| fault(&shown, e) }.named_objects(profile, visit)
    }

    fn facts(&mut self, progress: &dyn Progress) -> Result<Facts> {
        progress.stage("counting rows", None, Unit::Items);
        let mut count = Count(Tally::in_reading(&self.source.what));
        let outline = self.scan(&mut count)?;
        let mut tables = count.0.into_counts();
        for (_, (name, _)) in outline.tables {
            tables.entry(name).or_insert(0);
        }
        Ok(Facts { system: "sqlite".to_owned(), tables, bytes: self.source.length, ..Facts::default() })
    }

    fn dumps(&mut self) -> Result<Vec<Dump>> {
        Ok(vec![Dump { name: "database.sql".to_owned(), bytes: self.source.open()? }])
    }
}

/// Puts rows into tables without types, values as they are, by bound parameters only.
struct Rows<'a> {
    connection: &'a Connection,
    tables: &'a [String],
    made: Vec<String>,
    path: &'a Path,
    scratch: &'a Scratch,
    /// Bytes that were written since free space was asked for.
    since_asking: usize,
}

impl Rows<'_> {
    fn make(&mut self, table: &str, columns: &[String]) -> Result<()> {
        if self.made.iter().any(|t| t.eq_ignore_ascii_case(table)) {
            return Ok(());
        }
        let columns: Vec<_> = columns.iter().map(|c| quote(c)).collect();
        self.connection
            .execute_batch(&format!("CREATE TABLE {} ({})", quote(table), columns.join(", ")))
            .map_err(|e| fault(self.path, e))?;
        self.made.push(table.to_owned());
        Ok(())
    }
}

impl Listener for Rows<'_> {
    fn rows_of(&mut self, table: &str, columns: &[String]) -> Result<Option<Vec<bool>>> {
        if !self.matters(table) {
            return Ok(None);
        }
        self.make(table, columns)?;
        Ok(Some(vec![true; columns.len()]))
    }

    fn row(&mut self, table: &str, columns: &[String], values: &[Value]) -> Result<()> {
        self.since_asking += values.iter().map(|value| value.length() + 16).sum::<usize>();
        if self.since_asking as u64 >= SPACE {
            self.scratch.need(2 * SPACE)?;
            self.since_asking = 0;
        }
        let names: Vec<_> = columns.iter().map(|c| quote(c)).collect();
        let marks = vec!["?"; columns.len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({marks})", quote(table), names.join(", "));
        let values: Vec<Box<dyn ToSql>> = values.iter().map(bound).collect();
        let mut statement = self.connection.prepare_cached(&sql).map_err(|e| fault(self.path, e))?;
        statement.execute(rusqlite::params_from_iter(values)).map_err(|e| fault(self.path, e))?;
        Ok(())
    }

    fn skipped_row(&mut self, _: &str) -> Result<()> {
        Ok(())
    }

    fn matters(&self, table: &str) -> bool {
        self.tables.iter().any(|t| t.eq_ignore_ascii_case(table))
    }
}

fn bound(value: &Value) -> Box<dyn ToSql> {
    match value {
        Value::Null | Value::Unread => Box::new(rusqlite::types::Null),
        Value::Number(text) => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(n), _) => Box::new(n),
            (_, Ok(x)) => Box::new(x),
            _ => Box::new(text.clone()),
        },
        Value::Text(bytes) => match String::from_utf8(bytes.clone()) {
            Ok(text) => Box::new(text),
            Err(_) => Box::new(bytes.clone()),
        },
        Value::Blob(bytes) => Box::new(bytes.clone()),
    }
}
