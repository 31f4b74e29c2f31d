//! Reading credentials, suspects, object names and row counts in a session's one moment.

use std::collections::BTreeMap;

use super::session::{Session, literal, quote};
use crate::appkey::credential::{Credential, MAX_CIPHERTEXT};
use crate::config::profile::{CredentialColumn, Profile};
use crate::database::pgdump::copy::Fields;
use crate::database::pgdump::listen::{ciphertext, in_profile, is_meant, key_part, pretends, shown};
use crate::database::rows::{MAX_KEY, missing, row_id};
use crate::database::spread::share_of;
use crate::database::{NamedObject, Suspect};
use crate::ground::{Error, Result};

/// The longest storage path that is read.
const MAX_PATH: usize = 4096;
/// How many rows of a table are looked at for suspects.
const SUSPECT_ROWS: u32 = 500;

/// Schemas that are the server's own.
pub(super) const FOREIGN_SCHEMAS: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";
/// Tables that an extension brought are its own business, as they are for `pg_dump`.
const NOT_OF_EXTENSIONS: &str = "NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass \
    AND d.objid = c.oid AND d.deptype = 'e')";

/// A table and its columns: name, type, computed.
pub(super) struct Table {
    schema: String,
    name: String,
    columns: Vec<(String, String, bool)>,
}

impl Table {
    pub(super) fn sql(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }

    pub(super) fn type_of(&self, column: &str) -> &str {
        self.columns.iter().find(|(name, ..)| name == column).map_or("", |(_, of, _)| of)
    }
}

fn text(row: &[Option<String>], at: usize) -> String {
    row.get(at).cloned().flatten().unwrap_or_default()
}

/// The tables that the profile means by this name: one in each schema that has it.
fn tables(session: &mut Session, wanted: &str) -> Result<Vec<Table>> {
    let name = wanted.split_once('.').map_or(wanted, |(_, name)| name);
    let found = session.rows(&format!(
        "SELECT n.nspname, c.relname, c.relkind, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relname = {} AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition \
         AND c.relpersistence <> 't' AND {FOREIGN_SCHEMAS} ORDER BY 1",
        literal(name)
    ))?;
    let (mut tables, mut pretender) = (Vec::new(), None);
    for row in found {
        let (schema, name, kind) = (text(&row, 0), text(&row, 1), text(&row, 2));
        if !is_meant(wanted, &schema, &name) {
            continue;
        }
        match kind.as_str() {
            "v" => pretender = Some(pretends(&name, "a view")),
            "m" => pretender = Some(pretends(&name, "a materialized view")),
            "f" => pretender = Some(pretends(&name, "a foreign table")),
            _ => {
                let columns = columns(session, &text(&row, 3))?;
                tables.push(Table { schema, name, columns });
            }
        }
    }
    match pretender {
        Some(error) if tables.is_empty() => Err(error),
        _ => Ok(tables),
    }
}

fn columns(session: &mut Session, oid: &str) -> Result<Vec<(String, String, bool)>> {
    let rows = session.rows(&format!(
        "SELECT attname, format_type(atttypid, NULL), attgenerated <> '' FROM pg_attribute \
         WHERE attrelid = {oid}::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    ))?;
    Ok(rows.iter().map(|row| (text(row, 0), text(row, 1), text(row, 2) == "t")).collect())
}

/// Whether the table has what the profile needs; an error when it lacks it and may not.
fn has(table: &Table, wanted: &CredentialColumn) -> Result<bool> {
    for column in std::iter::once(&wanted.stored).chain(&wanted.primary_key) {
        match table.columns.iter().find(|(name, ..)| name == column) {
            Some((.., true)) => {
                return Err(Error::not_authentic(format!("{}.{column} is computed and not stored", table.name))
                    .hint("Somebody changed this database's schema: what it shows is not what is stored."));
            }
            Some(_) => {}
            None if wanted.optional && *column == wanted.stored => return Ok(false),
            None => return Err(missing(&format!("column {}.{column}", shown(&table.schema, &table.name)))),
        }
    }
    Ok(true)
}

/// A credential, where it stands, and the row as the server wrote it: the value, then the key's parts.
pub(super) struct Cell<'a> {
    pub(super) wanted: &'a CredentialColumn,
    pub(super) table: &'a Table,
    pub(super) fields: &'a Fields,
    pub(super) credential: Credential,
}

/// See [`crate::database::Snapshot::credentials`].
pub(super) fn credentials(
    session: &mut Session,
    profile: &Profile,
    sample: Option<usize>,
    visit: &mut dyn FnMut(Credential) -> Result<()>,
) -> Result<u64> {
    cells(session, profile, sample, &mut |cell| visit(cell.credential))
}

/// The tables that hold credentials, by name and once each.
pub(super) fn homes(session: &mut Session, profile: &Profile) -> Result<Vec<String>> {
    let mut homes = Vec::new();
    for wanted in &profile.credentials {
        homes.extend(tables(session, &wanted.table)?.iter().map(Table::sql));
    }
    homes.sort();
    homes.dedup();
    Ok(homes)
}

/// The same as [`credentials`], with where each one stands.
pub(super) fn cells(
    session: &mut Session,
    profile: &Profile,
    sample: Option<usize>,
    visit: &mut dyn FnMut(Cell<'_>) -> Result<()>,
) -> Result<u64> {
    let mut found = Vec::new();
    for wanted in &profile.credentials {
        let tables = tables(session, &wanted.table)?;
        if tables.is_empty() && !wanted.optional {
            return Err(missing(&format!("table {}", wanted.table)));
        }
        for table in tables {
            if has(&table, wanted)? {
                let count = count(session, wanted, &table)?;
                found.push((wanted, table, count));
            }
        }
    }
    let total = found.iter().map(|(.., count)| count).sum();
    for (wanted, table, count) in found {
        column(session, wanted, &table, count, sample.map(|n| share_of(n, count, total)), visit)?;
    }
    Ok(total)
}

/// A column's value as text, `NULL` when it is longer than may be tried; and its type.
fn value<'a>(wanted: &CredentialColumn, table: &'a Table) -> (String, &'a str) {
    let value = format!("{}::text", quote(&wanted.stored));
    let of = table.type_of(&wanted.stored);
    // The same limit for bytes as for text, which are written as two digits and a mark.
    let limit = if of == "bytea" { MAX_CIPHERTEXT * 2 + 2 } else { MAX_CIPHERTEXT };
    (format!("CASE WHEN octet_length({value}) <= {limit} THEN {value} END"), of)
}

/// The credential of a row; `None` where its JSON has none.
fn credential(wanted: &CredentialColumn, value: Option<&[u8]>, of: &str) -> Option<Vec<u8>> {
    match value {
        Some(bytes) => wanted.within(ciphertext(bytes, of).into()).map(std::borrow::Cow::into_owned),
        // Longer than may be tried: it must count as failed, and its bytes are of no use to anybody.
        None => Some(vec![0; MAX_CIPHERTEXT + 1]),
    }
}

/// How many credentials there are.
fn count(session: &mut Session, wanted: &CredentialColumn, table: &Table) -> Result<u64> {
    let from = format!("FROM {} WHERE {} IS NOT NULL", table.sql(), quote(&wanted.stored));
    if wanted.steps.is_empty() {
        return Ok(text(&session.row(&format!("SELECT count(*) {from}"))?, 0).parse().unwrap_or(0));
    }
    // Read here and not by the server's operators, so that the dump and the live database mean the same.
    let (value, of) = value(wanted, table);
    let mut count = 0;
    session.query(&format!("SELECT {value} {from}"), &mut |fields| {
        count += u64::from(credential(wanted, fields.get(0), of).is_some());
        Ok(())
    })?;
    Ok(count)
}

fn column(
    session: &mut Session,
    wanted: &CredentialColumn,
    table: &Table,
    count: u64,
    share: Option<u64>,
    visit: &mut dyn FnMut(Cell<'_>) -> Result<()>,
) -> Result<()> {
    let (value, of) = value(wanted, table);
    let keys: Vec<_> = wanted.primary_key.iter().map(|k| quote(k)).collect();
    let parts: Vec<_> = keys
        .iter()
        .map(|k| {
            format!(
                "CASE WHEN octet_length({k}::text) <= {MAX_KEY} THEN {k}::text ELSE 'longer than {MAX_KEY} bytes' END"
            )
        })
        .collect();
    let order = match share {
        Some(share) => format!("ORDER BY random() LIMIT {share}"),
        None => format!("ORDER BY {}", keys.join(", ")),
    };
    let sql = format!(
        "SELECT {value}, {} FROM {} WHERE {} IS NOT NULL {order}",
        parts.join(", "),
        table.sql(),
        quote(&wanted.stored)
    );
    let name = if table.schema == "public" { wanted.table.clone() } else { shown(&table.schema, &table.name) };
    let types: Vec<_> = wanted.primary_key.iter().map(|k| table.type_of(k).to_owned()).collect();
    let mut seen = 0;
    session.query(&sql, &mut |fields| {
        let Some(ciphertext) = credential(wanted, fields.get(0), of) else { return Ok(()) };
        seen += 1;
        let parts = types.iter().enumerate().map(|(n, of)| key_part(fields.get(n + 1), of)).collect();
        let credential =
            Credential { table: name.clone(), column: wanted.column.clone(), id: row_id(parts), ciphertext };
        visit(Cell { wanted, table, fields, credential })
    })?;
    if share.is_none() && seen != count {
        return Err(Error::damaged(format!("an index of {} names {seen} of {count} rows", table.name))
            .hint("REINDEX the table, and look at the server's disk."));
    }
    Ok(())
}

/// See [`crate::database::Snapshot::suspects`].
pub(super) fn suspects(
    session: &mut Session,
    profile: &Profile,
    looks_like: &dyn Fn(&[u8]) -> bool,
) -> Result<Vec<Suspect>> {
    // Tables that this user may not read, or sees a part of, are somebody else's.
    let found = session.rows(&format!(
        "SELECT n.nspname, c.relname, c.oid, \
         least(100, 100.0 * 64 / greatest(1, c.relpages)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' AND {FOREIGN_SCHEMAS} \
         AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') \
         AND NOT row_security_active(c.oid) AND {NOT_OF_EXTENSIONS} ORDER BY 1, 2"
    ))?;
    let mut suspects = Vec::new();
    for row in found {
        let (schema, name) = (text(&row, 0), text(&row, 1));
        let columns: Vec<_> = columns(session, &text(&row, 2))?
            .into_iter()
            .filter(|(column, of, _)| {
                let may = ["text", "character varying", "character", "bytea"].contains(&of.as_str());
                may && !in_profile(profile, &schema, &name, column)
            })
            .collect();
        if columns.is_empty() {
            continue;
        }
        let values: Vec<_> = columns
            .iter()
            .map(|(column, ..)| {
                let value = format!("{}::text", quote(column));
                format!("CASE WHEN octet_length({value}) <= {} THEN {value} END", MAX_CIPHERTEXT * 2 + 2)
            })
            .collect();
        let select = format!("SELECT {} FROM {}.{}", values.join(", "), quote(&schema), quote(&name));
        let mut counts = vec![0; columns.len()];
        let rows = std::cell::Cell::new(0);
        let mut look = |fields: &Fields| {
            rows.set(rows.get() + 1);
            for (n, (_, of, _)) in columns.iter().enumerate() {
                if let Some(value) = fields.get(n) {
                    let value = ciphertext(value, of);
                    counts[n] += u64::from(value.len() <= MAX_CIPHERTEXT && looks_like(&value));
                }
            }
            Ok(())
        };
        session.query(&format!("{select} LIMIT {SUSPECT_ROWS}"), &mut look)?;
        if rows.get() == SUSPECT_ROWS {
            let share = text(&row, 3);
            session.query(&format!("{select} TABLESAMPLE SYSTEM ({share}) LIMIT {SUSPECT_ROWS}"), &mut look)?;
        }
        suspects.extend(columns.iter().zip(counts).filter(|(_, n)| *n > 0).map(|((column, ..), values)| Suspect {
            table: shown(&schema, &name),
            column: column.clone(),
            values,
        }));
    }
    Ok(suspects)
}

/// See [`crate::database::Snapshot::named_objects`].
pub(super) fn named_objects(
    session: &mut Session,
    profile: &Profile,
    visit: &mut dyn FnMut(NamedObject) -> Result<()>,
) -> Result<()> {
    let Some(storage) = &profile.storage else { return Ok(()) };
    let wrong = |why: &str| Error::usage(format!("the profile's storage query {why}"));
    // psql would take it for a command of its own.
    if storage.query.contains('\\') {
        return Err(wrong("has a backslash, which is not possible with PostgreSQL"));
    }
    // Each schema that has all the tables is asked on its own.
    let mut schemas: Option<Vec<String>> = None;
    for wanted in &storage.tables {
        let here: Vec<_> = tables(session, wanted)?.into_iter().map(|t| t.schema).collect();
        schemas = Some(match schemas {
            Some(before) => before.into_iter().filter(|s| here.contains(s)).collect(),
            None => here,
        });
    }
    for schema in schemas.unwrap_or_default() {
        session.run(&format!("SET LOCAL search_path = pg_catalog, {};", quote(&schema)))?;
        session.query(&storage.query, &mut |fields| {
            let Some(path) = fields.get(0) else { return Ok(()) };
            if fields.len() != 2 {
                return Err(wrong("must have two columns: path, and 1 if it can be fetched again"));
            }
            if path.len() > MAX_PATH {
                return Err(Error::damaged(format!("the database names a storage object by {} bytes", path.len())));
            }
            let fetchable = !matches!(fields.get(1), None | Some(b"0" | b"f"));
            visit(NamedObject { path: path.to_vec(), fetchable })
        })?;
    }
    session.run("SET LOCAL search_path = pg_catalog;")
}

/// Rows per table that a dump will hold rows of, as `schema.table`.
pub(super) fn counts(session: &mut Session) -> Result<BTreeMap<String, u64>> {
    let found = session.rows(&format!(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {FOREIGN_SCHEMAS} AND {NOT_OF_EXTENSIONS} ORDER BY 1, 2"
    ))?;
    let mut counts = BTreeMap::new();
    for row in found {
        let (schema, name) = (text(&row, 0), text(&row, 1));
        let sql = format!("SELECT count(*) FROM ONLY {}.{}", quote(&schema), quote(&name));
        let rows = text(&session.row(&sql)?, 0).parse().unwrap_or(0);
        counts.insert(format!("{schema}.{name}"), rows);
    }
    Ok(counts)
}
