//! Reading credentials, suspects and object names from an open database.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use crate::appkey::credential::{Credential, KeyPart, MAX_CIPHERTEXT};
use crate::config::profile::{CredentialColumn, Profile};
use crate::database::rows::{MAX_KEY, integer, missing, row_id, text_or_bytes};
use crate::database::spread::{Spread, share_of};
use crate::database::{NamedObject, Suspect};
use crate::ground::{Error, Result};

/// The longest storage path that is read.
const MAX_PATH: usize = 4096;
/// How many rows of a table are looked at for suspects, from its beginning and from its end.
const SUSPECT_ROWS: u64 = 500;
/// The profile's query is stopped after this many times a hundred thousand steps of SQLite's machine.
const QUERY_LIMIT: u32 = 5_000;

/// An identifier as SQL takes it, whatever it holds.
pub(crate) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A count, which SQLite holds as a signed integer.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|n| u64::try_from(n).unwrap_or(0))
}

/// The real tables, in the schema's order: no views, no virtual tables, none of SQLite's own.
pub(super) fn table_names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")?
        .query_map((), |row| row.get(0))?
        .collect()
}

/// A table that is one, and its stored columns.
struct Table {
    name: String,
    columns: Vec<String>,
    computed: Vec<String>,
}

impl Table {
    fn find(&self, column: &str) -> Option<&str> {
        self.columns.iter().find(|c| c.eq_ignore_ascii_case(column)).map(String::as_str)
    }
}

/// A reader of an open database; `fault` makes an error of SQLite's ours.
pub(crate) struct Reader<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) fault: &'a dyn Fn(rusqlite::Error) -> Error,
}

impl Reader<'_> {
    /// Looks a table up; anything that only poses as a table is refused, because its rows are somebody's choice.
    fn table(&self, name: &str) -> Result<Option<Table>> {
        let fault = self.fault;
        let found: Vec<(String, String, i64)> = self
            .connection
            .prepare(
                "SELECT type, name, ifnull(rootpage, 0) FROM sqlite_schema \
                 WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE",
            )
            .and_then(|mut s| s.query_map([name], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.take(2).collect())
            .map_err(fault)?;
        let (kind, actual, root) = match &found[..] {
            [] => return Ok(None),
            [one] => one,
            _ => return Err(Error::damaged(format!("the schema holds {name} more than once"))),
        };
        if kind == "view" || *root == 0 {
            let what = if kind == "view" { "a view" } else { "a virtual table" };
            return Err(Error::not_authentic(format!("{actual} is {what}, and the application's is a table"))
                .hint("Somebody changed this database's schema: what it shows is not what is stored."));
        }
        let (mut columns, mut computed) = (Vec::new(), Vec::new());
        let mut statement =
            self.connection.prepare("SELECT name, hidden FROM pragma_table_xinfo(?1)").map_err(fault)?;
        let mut rows = statement.query([actual]).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            let (column, hidden): (String, i64) = (row.get(0).map_err(fault)?, row.get(1).map_err(fault)?);
            if hidden == 0 { columns.push(column) } else { computed.push(column) }
        }
        Ok(Some(Table { name: actual.clone(), columns, computed }))
    }

    /// The table and columns of one kind of credential; `None` when they are missing and may be.
    fn shape(&self, wanted: &CredentialColumn) -> Result<Option<Table>> {
        let Some(table) = self.table(&wanted.table)? else {
            return if wanted.optional { Ok(None) } else { Err(missing(&format!("table {}", wanted.table))) };
        };
        for column in std::iter::once(&wanted.stored).chain(&wanted.primary_key) {
            if table.computed.iter().any(|c| c.eq_ignore_ascii_case(column)) {
                return Err(Error::not_authentic(format!("{}.{column} is computed and not stored", table.name))
                    .hint("Somebody changed this database's schema: what it shows is not what is stored."));
            }
            if table.find(column).is_none() {
                let optional = wanted.optional && *column == wanted.stored;
                return if optional { Ok(None) } else { Err(missing(&format!("column {}.{column}", table.name))) };
            }
        }
        Ok(Some(table))
    }

    /// See [`crate::database::Snapshot::credentials`].
    pub(super) fn credentials(
        &self,
        profile: &Profile,
        sample: Option<usize>,
        visit: &mut dyn FnMut(Credential) -> Result<()>,
    ) -> Result<u64> {
        let fault = self.fault;
        let mut columns = Vec::new();
        for wanted in &profile.credentials {
            let Some(table) = self.shape(wanted)? else { continue };
            let count = self.count(wanted, &table).map_err(fault)?;
            columns.push((wanted, table, count));
        }
        let total = columns.iter().map(|(_, _, count)| count).sum();
        for (wanted, table, count) in columns {
            let share = sample.map(|n| share_of(n, count, total));
            self.column(wanted, &table, count, share, visit)?;
        }
        Ok(total)
    }

    /// How many credentials there are, by the table itself: an index may not name every row in a damaged file.
    fn count(&self, wanted: &CredentialColumn, table: &Table) -> rusqlite::Result<u64> {
        let from = format!("FROM {} NOT INDEXED WHERE {} IS NOT NULL", quote(&table.name), quote(&wanted.stored));
        if wanted.steps.is_empty() {
            return self.connection.query_row(&format!("SELECT count(*) {from}"), (), |row| unsigned(row, 0));
        }
        let mut statement = self.connection.prepare(&format!("SELECT {} {from}", lengthy(wanted)))?;
        let mut rows = statement.query(())?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += u64::from(ciphertext(row, wanted)?.is_some());
        }
        Ok(count)
    }

    fn column(
        &self,
        wanted: &CredentialColumn,
        table: &Table,
        count: u64,
        share: Option<u64>,
        visit: &mut dyn FnMut(Credential) -> Result<()>,
    ) -> Result<()> {
        let fault = self.fault;
        let value = quote(&wanted.stored);
        let keys: Vec<String> = wanted.primary_key.iter().map(|c| quote(c)).collect();
        // Lengths come from a record's header, so that a huge value is never loaded.
        let parts = keys.iter().map(|k| {
            format!("CASE WHEN octet_length({k}) <= {MAX_KEY} THEN {k} ELSE 'longer than {MAX_KEY} bytes' END")
        });
        let select = format!(
            "SELECT {}, {} FROM {} WHERE {value} IS NOT NULL",
            lengthy(wanted),
            parts.collect::<Vec<_>>().join(", "),
            quote(&table.name)
        );
        let ordered = format!("{select} ORDER BY {}", keys.join(", "));
        let sql = if self.sorts(&ordered)? { select } else { ordered };
        let mut statement = self.connection.prepare(&sql).map_err(fault)?;
        let mut rows = statement.query(()).map_err(fault)?;
        let mut chosen = Spread::new(count, share)?;
        let mut seen = 0;
        while let Some(row) = rows.next().map_err(fault)? {
            let Some(ciphertext) = ciphertext(row, wanted).map_err(fault)? else { continue };
            seen += 1;
            if chosen.takes(seen - 1) {
                visit(credential(row, wanted, ciphertext).map_err(fault)?)?;
            }
        }
        if seen == count {
            return Ok(());
        }
        Err(Error::damaged(format!("an index of {} names {seen} of {count} rows", table.name))
            .hint("`sqlite3 FILE 'REINDEX'` on a copy makes the index anew."))
    }

    /// Whether SQLite would sort all rows in memory for this query, because no index has their order.
    fn sorts(&self, sql: &str) -> Result<bool> {
        let mut statement = self.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).map_err(self.fault)?;
        let mut rows = statement.query(()).map_err(self.fault)?;
        while let Some(row) = rows.next().map_err(self.fault)? {
            if row.get::<_, String>(3).map_err(self.fault)?.contains("TEMP B-TREE") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// See [`crate::database::Snapshot::suspects`].
    pub(super) fn suspects(&self, profile: &Profile, looks_like: &dyn Fn(&[u8]) -> bool) -> Result<Vec<Suspect>> {
        let fault = self.fault;
        let mut suspects = Vec::new();
        for name in table_names(self.connection).map_err(fault)? {
            let Some(table) = self.table(&name)? else { continue };
            let columns: Vec<_> = table.columns.iter().filter(|c| !in_profile(profile, &name, c)).collect();
            if columns.is_empty() {
                continue;
            }
            let values: Vec<_> = columns
                .iter()
                .map(|c| quote(c))
                .map(|c| format!("CASE WHEN octet_length({c}) <= {MAX_CIPHERTEXT} THEN {c} END"))
                .collect();
            let select = format!("SELECT {} FROM {}", values.join(", "), quote(&name));
            let mut found = vec![0; columns.len()];
            // The newest rows count as well as the oldest; a table without rowids has them in its key's order anyway.
            let newest = format!("{select} ORDER BY rowid DESC LIMIT {SUSPECT_ROWS}");
            let rows = self.look_at(&format!("{select} LIMIT {SUSPECT_ROWS}"), &mut found, looks_like)?;
            if rows == SUSPECT_ROWS && self.connection.prepare(&newest).is_ok() {
                self.look_at(&newest, &mut found, looks_like)?;
            }
            suspects.extend(columns.iter().zip(found).filter(|(_, n)| *n > 0).map(|(column, values)| Suspect {
                table: name.clone(),
                column: (*column).clone(),
                values,
            }));
        }
        Ok(suspects)
    }

    fn look_at(&self, sql: &str, found: &mut [u64], looks_like: &dyn Fn(&[u8]) -> bool) -> Result<u64> {
        let mut statement = self.connection.prepare(sql).map_err(self.fault)?;
        let mut rows = statement.query(()).map_err(self.fault)?;
        let mut seen = 0;
        while let Some(row) = rows.next().map_err(self.fault)? {
            seen += 1;
            for (i, values) in found.iter_mut().enumerate() {
                if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = row.get_ref(i).map_err(self.fault)? {
                    *values += u64::from(looks_like(bytes));
                }
            }
        }
        Ok(seen)
    }

    /// See [`crate::database::Snapshot::named_objects`].
    pub(crate) fn named_objects(
        &self,
        profile: &Profile,
        visit: &mut dyn FnMut(NamedObject) -> Result<()>,
    ) -> Result<()> {
        let Some(storage) = &profile.storage else { return Ok(()) };
        for table in &storage.tables {
            if self.table(table)?.is_none() {
                return Ok(());
            }
        }
        let wrong = |why: &str| Error::usage(format!("the profile's storage query {why}"));
        let mut statement = self
            .connection
            .prepare(&storage.query)
            .map_err(|e| wrong("is no SQL that this database takes").because(e))?;
        if !statement.readonly() || statement.column_count() != 2 {
            return Err(wrong("must be one SELECT with two columns: path, and 1 if it can be fetched again"));
        }
        let mut calls = 0;
        let limit = move || {
            calls += 1;
            calls > QUERY_LIMIT
        };
        self.connection.progress_handler(100_000, Some(limit)).map_err(self.fault)?;
        let walked = self.objects(&mut statement, visit);
        self.connection.progress_handler(0, None::<fn() -> bool>).map_err(self.fault)?;
        walked
    }

    fn objects(
        &self,
        statement: &mut rusqlite::Statement<'_>,
        visit: &mut dyn FnMut(NamedObject) -> Result<()>,
    ) -> Result<()> {
        let fault = |e: rusqlite::Error| match e.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => {
                Error::failed("the profile's storage query takes too long and was stopped")
            }
            _ => (self.fault)(e),
        };
        let mut rows = statement.query(()).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            let path = match row.get_ref(0).map_err(fault)? {
                ValueRef::Null => continue,
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
                _ => return Err(Error::damaged("the database names a storage object by a number")),
            };
            if path.len() > MAX_PATH {
                return Err(Error::damaged(format!("the database names a storage object by {} bytes", path.len())));
            }
            let fetchable = matches!(row.get_ref(1).map_err(fault)?, ValueRef::Integer(n) if n != 0);
            visit(NamedObject { path: path.to_vec(), fetchable })?;
        }
        Ok(())
    }
}

/// Whether a column is the profile's business: a credential, or the key of one.
pub(crate) fn in_profile(profile: &Profile, table: &str, column: &str) -> bool {
    profile.credentials.iter().any(|c| {
        c.table.eq_ignore_ascii_case(table)
            && (c.stored.eq_ignore_ascii_case(column) || c.primary_key.iter().any(|k| k.eq_ignore_ascii_case(column)))
    })
}

/// A value's length, and the value when it may be tried.
fn lengthy(wanted: &CredentialColumn) -> String {
    let value = quote(&wanted.stored);
    format!("octet_length({value}), CASE WHEN octet_length({value}) <= {MAX_CIPHERTEXT} THEN {value} END")
}

/// The credential in a row that begins with [`lengthy`]; `None` where its JSON has none.
fn ciphertext(row: &Row<'_>, wanted: &CredentialColumn) -> rusqlite::Result<Option<Vec<u8>>> {
    let length = usize::try_from(unsigned(row, 0)?).unwrap_or(usize::MAX);
    let value = match row.get_ref(1)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
        ValueRef::Integer(n) => n.to_string().into_bytes(),
        ValueRef::Real(x) => x.to_string().into_bytes(),
        // Longer than may be tried: it must count as failed, and its bytes are of no use to anybody.
        ValueRef::Null => return Ok(Some(vec![0; length.min(MAX_CIPHERTEXT + 1)])),
    };
    Ok(wanted.within(value.into()).map(std::borrow::Cow::into_owned))
}

fn credential(row: &Row<'_>, wanted: &CredentialColumn, ciphertext: Vec<u8>) -> rusqlite::Result<Credential> {
    let mut parts = Vec::with_capacity(wanted.primary_key.len());
    for i in 0..wanted.primary_key.len() {
        parts.push(match row.get_ref(i + 2)? {
            ValueRef::Null => KeyPart::Text("NULL".to_owned()),
            ValueRef::Integer(n) => integer(n),
            ValueRef::Real(x) => KeyPart::Text(x.to_string()),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => text_or_bytes(bytes),
        });
    }
    Ok(Credential { table: wanted.table.clone(), column: wanted.column.clone(), id: row_id(parts), ciphertext })
}
