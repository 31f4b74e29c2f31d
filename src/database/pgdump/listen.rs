//! What is asked of a dump: its credentials and its suspects.

use super::copy::{Fields, bytea};
use super::tables::{Name, Tables};
use super::{Listener, Outline};
use crate::appkey::credential::{Credential, KeyPart, MAX_CIPHERTEXT};
use crate::config::profile::{CredentialColumn, Profile};
use crate::database::Suspect;
use crate::database::room::Tally;
use crate::database::rows::{MAX_KEY, integer, missing, row_id, text_or_bytes};
use crate::database::spread::Spread;
use crate::ground::{Error, Result};

/// The name that people and the proof see: `table` in `public`, `schema.table` elsewhere.
pub(crate) fn shown(schema: &str, table: &str) -> String {
    if schema == "public" { table.to_owned() } else { format!("{schema}.{table}") }
}

/// Whether the profile means this table: by its name in every schema, or by schema and name.
pub(crate) fn is_meant(profile_table: &str, schema: &str, table: &str) -> bool {
    match profile_table.split_once('.') {
        Some((s, t)) => s == schema && t == table,
        None => profile_table == table,
    }
}

/// Whether a column of this table is the profile's business: a credential, or the key of one.
pub(crate) fn in_profile(profile: &Profile, schema: &str, table: &str, column: &str) -> bool {
    profile
        .credentials
        .iter()
        .any(|c| is_meant(&c.table, schema, table) && (c.stored == column || c.primary_key.iter().any(|k| k == column)))
}

/// A component of a row's key, as the type says.
pub(crate) fn key_part(value: Option<&[u8]>, of: &str) -> KeyPart {
    let Some(value) = value else { return KeyPart::Text("NULL".to_owned()) };
    if value.len() > MAX_KEY {
        return KeyPart::Text(format!("longer than {MAX_KEY} bytes"));
    }
    let text = std::str::from_utf8(value).unwrap_or_default();
    match of {
        "smallint" | "integer" | "bigint" | "int2" | "int4" | "int8" => {
            text.parse().map_or_else(|_| text_or_bytes(value), integer)
        }
        "bytea" => bytea(value).map_or_else(
            || text_or_bytes(value),
            |bytes| KeyPart::Bytes {
                base64: base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes),
            },
        ),
        _ => text_or_bytes(value),
    }
}

/// A ciphertext's bytes, as the type says; one longer than is tried stays longer.
pub(crate) fn ciphertext(value: &[u8], of: &str) -> Vec<u8> {
    let mut bytes = if of == "bytea" { bytea(value).unwrap_or_else(|| value.to_vec()) } else { value.to_vec() };
    bytes.truncate(MAX_CIPHERTEXT + 1);
    bytes
}

/// Where a credential stands in the rows at hand.
struct Here {
    number: usize,
    table: String,
    value: (usize, String),
    keys: Vec<(usize, String)>,
}

/// Hands on credentials.
pub(super) struct Credentials<'a> {
    profile: &'a Profile,
    spreads: Vec<Spread>,
    /// For each column of the profile, the values seen.
    pub(super) counts: Vec<u64>,
    visit: &'a mut dyn FnMut(Credential) -> Result<()>,
    here: Vec<Here>,
}

impl<'a> Credentials<'a> {
    pub(super) fn new(
        profile: &'a Profile,
        spreads: Vec<Spread>,
        visit: &'a mut dyn FnMut(Credential) -> Result<()>,
    ) -> Self {
        Self { profile, spreads, counts: vec![0; profile.credentials.len()], visit, here: Vec::new() }
    }

    /// After the last row: whether everything that the profile needs was there, with its rows.
    pub(super) fn check(&self, outline: &Outline) -> Result<()> {
        for wanted in &self.profile.credentials {
            let (mut found, mut pretender) = (false, None);
            for (name, table) in &outline.tables.0 {
                if !is_meant(&wanted.table, &name.0, &name.1) || table.parent.is_some() {
                    continue;
                }
                if let Some(what) = table.pretender {
                    pretender = Some(pretends(&name.1, what));
                    continue;
                }
                found = true;
                let columns: Vec<_> = table.columns.iter().map(|(column, _)| column.clone()).collect();
                if places(wanted, &columns)?.is_none() || table.partitioned {
                    continue;
                }
                if !outline.rows.contains_key(name) {
                    return Err(Error::usage(format!(
                        "the dump holds the table {}.{} without its rows",
                        name.0, name.1
                    ))
                    .hint("It was made with --schema-only or --exclude-table-data; it proves nothing."));
                }
            }
            // A dump of data alone has rows and no tables.
            found |= outline.rows.keys().any(|name| is_meant(&wanted.table, &name.0, &name.1));
            if let Some(error) = pretender.filter(|_| !found) {
                return Err(error);
            }
            if !found && !wanted.optional {
                return Err(missing(&format!("table {}", wanted.table)));
            }
        }
        Ok(())
    }
}

/// The error for something that only looks like the application's table.
pub(crate) fn pretends(table: &str, what: &str) -> Error {
    Error::not_authentic(format!("{table} is {what}, and the application's is a table"))
        .hint("Somebody changed this database's schema: what it shows is not what is stored.")
}

fn places(wanted: &CredentialColumn, columns: &[String]) -> Result<Option<(usize, Vec<usize>)>> {
    let position = |name: &str| columns.iter().position(|c| c == name);
    let absent = |column: &str| missing(&format!("column {}.{column}", wanted.table));
    let Some(value) = position(&wanted.stored) else {
        return if wanted.optional { Ok(None) } else { Err(absent(&wanted.stored)) };
    };
    let keys: Result<_> = wanted.primary_key.iter().map(|k| position(k).ok_or_else(|| absent(k))).collect();
    Ok(Some((value, keys?)))
}

impl Listener for Credentials<'_> {
    fn rows_of(&mut self, tables: &Tables, table: &Name, columns: &[String]) -> Result<bool> {
        self.here.clear();
        // Rows of a partition are rows of its table.
        let root = tables.root(table);
        let known = tables.0.get(table);
        let of = |column: &str| {
            let own = known.map_or("", |t| t.type_of(column));
            // What a child inherits stands in its parent's statement only.
            let of = if own.is_empty() { tables.0.get(root).map_or("", |t| t.type_of(column)) } else { own };
            of.to_owned()
        };
        for (number, wanted) in self.profile.credentials.iter().enumerate() {
            if !is_meant(&wanted.table, &root.0, &root.1) {
                continue;
            }
            if let Some((value, keys)) = places(wanted, columns)? {
                self.here.push(Here {
                    number,
                    table: if root.0 == "public" { wanted.table.clone() } else { shown(&root.0, &root.1) },
                    value: (value, of(&columns[value])),
                    keys: keys.into_iter().map(|k| (k, of(&columns[k]))).collect(),
                });
            }
        }
        Ok(!self.here.is_empty())
    }

    fn row(&mut self, fields: &Fields) -> Result<()> {
        for here in &self.here {
            let wanted = &self.profile.credentials[here.number];
            let Some(value) = fields.get(here.value.0) else { continue };
            let Some(value) = wanted.within(ciphertext(value, &here.value.1).into()) else { continue };
            let taken = self.spreads[here.number].takes(self.counts[here.number]);
            self.counts[here.number] += 1;
            if !taken {
                continue;
            }
            (self.visit)(Credential {
                table: here.table.clone(),
                column: wanted.column.clone(),
                id: row_id(here.keys.iter().map(|(k, of)| key_part(fields.get(*k), of)).collect()),
                ciphertext: value.into_owned(),
            })?;
        }
        Ok(())
    }
}

/// Looks at some rows of every table for values that look like ciphertext.
pub(super) struct Suspects<'a> {
    profile: &'a Profile,
    looks_like: &'a dyn Fn(&[u8]) -> bool,
    table: String,
    columns: Vec<(usize, String, bool)>,
    rows: u64,
    found: Tally<(String, String)>,
}

impl<'a> Suspects<'a> {
    pub(super) fn new(profile: &'a Profile, looks_like: &'a dyn Fn(&[u8]) -> bool, what: &str) -> Self {
        Self { profile, looks_like, table: String::new(), columns: Vec::new(), rows: 0, found: Tally::in_reading(what) }
    }

    pub(super) fn found(self) -> Vec<Suspect> {
        self.found
            .into_counts()
            .into_iter()
            .map(|((table, column), values)| Suspect { table, column, values })
            .collect()
    }
}

impl Listener for Suspects<'_> {
    fn rows_of(&mut self, tables: &Tables, table: &Name, columns: &[String]) -> Result<bool> {
        let root = tables.root(table);
        self.table = shown(&root.0, &root.1);
        self.rows = 0;
        self.columns = columns
            .iter()
            .enumerate()
            .filter(|(_, c)| !in_profile(self.profile, &root.0, &root.1, c))
            .map(|(n, c)| (n, c.clone(), tables.0.get(table).is_some_and(|t| t.type_of(c) == "bytea")))
            .collect();
        Ok(!self.columns.is_empty())
    }

    fn row(&mut self, fields: &Fields) -> Result<()> {
        self.rows += 1;
        // The first five hundred, and then some of all the others.
        if self.rows > 500 && !self.rows.is_multiple_of(64) {
            return Ok(());
        }
        for (number, column, binary) in &self.columns {
            let Some(value) = fields.get(*number) else { continue };
            let value = ciphertext(value, if *binary { "bytea" } else { "" });
            if value.len() <= MAX_CIPHERTEXT && (self.looks_like)(&value) {
                self.found.add(&(self.table.clone(), column.clone()), 1)?;
            }
        }
        Ok(())
    }
}
