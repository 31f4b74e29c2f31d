//! What is asked of a dump: its credentials, its suspects, its rows.

use super::script::{Listener, Outline};
use super::value::Value;
use crate::appkey::credential::{Credential, KeyPart};
use crate::config::profile::{CredentialColumn, Profile};
use crate::database::Suspect;
use crate::database::room::Tally;
use crate::database::rows::{MAX_KEY, integer, missing, row_id, text_or_bytes};
use crate::database::spread::Spread;
use crate::database::sqlite::read::in_profile;
use crate::ground::{Error, Result};

fn position(columns: &[String], name: &str) -> Option<usize> {
    columns.iter().position(|c| c.eq_ignore_ascii_case(name))
}

fn is_profile_table(profile: &Profile, table: &str) -> bool {
    profile.credentials.iter().any(|c| c.table.eq_ignore_ascii_case(table))
}

/// Hands on credentials.
pub(super) struct Credentials<'a> {
    profile: &'a Profile,
    /// For each column of the profile, which of its rows are taken.
    spreads: Vec<Spread>,
    /// For each column of the profile, the non-NULL values seen.
    pub(super) counts: Vec<u64>,
    visit: &'a mut dyn FnMut(Credential) -> Result<()>,
    /// Of the INSERT at hand: number in the profile, place of the value, places of the key.
    here: Vec<(usize, usize, Vec<usize>)>,
}

impl<'a> Credentials<'a> {
    pub(super) fn new(
        profile: &'a Profile,
        spreads: Vec<Spread>,
        visit: &'a mut dyn FnMut(Credential) -> Result<()>,
    ) -> Self {
        Self { profile, spreads, counts: vec![0; profile.credentials.len()], visit, here: Vec::new() }
    }

    /// After the last row: whether everything that the profile needs was there.
    pub(super) fn check(&self, outline: &Outline) -> Result<()> {
        for wanted in self.profile.credentials.iter().filter(|c| !c.optional) {
            match outline.tables.get(&wanted.table.to_ascii_lowercase()) {
                None => return Err(missing(&format!("table {}", wanted.table))),
                Some((_, columns)) => drop(places(wanted, columns)?),
            }
        }
        Ok(())
    }
}

fn places(wanted: &CredentialColumn, columns: &[String]) -> Result<Option<(usize, Vec<usize>)>> {
    let absent = |column: &str| missing(&format!("column {}.{column}", wanted.table));
    let Some(value) = position(columns, &wanted.stored) else {
        return if wanted.optional { Ok(None) } else { Err(absent(&wanted.stored)) };
    };
    let keys: Result<_> = wanted.primary_key.iter().map(|k| position(columns, k).ok_or_else(|| absent(k))).collect();
    Ok(Some((value, keys?)))
}

impl Listener for Credentials<'_> {
    fn rows_of(&mut self, table: &str, columns: &[String]) -> Result<Option<Vec<bool>>> {
        self.here.clear();
        let mut kept = vec![false; columns.len()];
        for (number, wanted) in self.profile.credentials.iter().enumerate() {
            if !wanted.table.eq_ignore_ascii_case(table) {
                continue;
            }
            if let Some((value, keys)) = places(wanted, columns)? {
                kept[value] = true;
                for key in &keys {
                    kept[*key] = true;
                }
                self.here.push((number, value, keys));
            }
        }
        Ok(if self.here.is_empty() { None } else { Some(kept) })
    }

    fn row(&mut self, table: &str, _: &[String], values: &[Value]) -> Result<()> {
        for (number, value, keys) in &self.here {
            let wanted = &self.profile.credentials[*number];
            let value = match &values[*value] {
                Value::Null => continue,
                Value::Number(text) => text.as_bytes().to_vec(),
                Value::Text(bytes) | Value::Blob(bytes) => bytes.clone(),
                Value::Unread => return Err(Error::damaged(format!("a row of {table} is too long to be read"))),
            };
            let Some(ciphertext) = wanted.within(value.into()).map(std::borrow::Cow::into_owned) else { continue };
            let taken = self.spreads[*number].takes(self.counts[*number]);
            self.counts[*number] += 1;
            if !taken {
                continue;
            }
            let id = row_id(keys.iter().map(|k| key_part(&values[*k])).collect());
            (self.visit)(Credential { table: wanted.table.clone(), column: wanted.column.clone(), id, ciphertext })?;
        }
        Ok(())
    }

    fn skipped_row(&mut self, _: &str) -> Result<()> {
        Ok(())
    }

    fn matters(&self, table: &str) -> bool {
        is_profile_table(self.profile, table)
    }
}

fn key_part(value: &Value) -> KeyPart {
    match value {
        Value::Null | Value::Unread => KeyPart::Text("NULL".to_owned()),
        Value::Number(text) => text.parse().map_or_else(|_| KeyPart::Text(text.clone()), integer),
        Value::Text(bytes) | Value::Blob(bytes) if bytes.len() > MAX_KEY => {
            KeyPart::Text(format!("longer than {MAX_KEY} bytes"))
        }
        Value::Text(bytes) | Value::Blob(bytes) => text_or_bytes(bytes),
    }
}

/// Looks at some rows of every table for values that look like ciphertext.
pub(super) struct Suspects<'a> {
    profile: &'a Profile,
    looks_like: &'a dyn Fn(&[u8]) -> bool,
    rows: Tally<String>,
    found: Tally<(String, String)>,
}

impl<'a> Suspects<'a> {
    pub(super) fn new(profile: &'a Profile, looks_like: &'a dyn Fn(&[u8]) -> bool, what: &str) -> Self {
        Self { profile, looks_like, rows: Tally::in_reading(what), found: Tally::in_reading(what) }
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
    fn rows_of(&mut self, table: &str, columns: &[String]) -> Result<Option<Vec<bool>>> {
        let rows = self.rows.of(table);
        // The first five hundred, and then some of all the others.
        let looked_at = rows < 500 || rows % 64 == 0;
        Ok(looked_at.then(|| columns.iter().map(|c| !in_profile(self.profile, table, c)).collect()))
    }

    fn row(&mut self, table: &str, columns: &[String], values: &[Value]) -> Result<()> {
        self.rows.add(table, 1)?;
        for (column, value) in columns.iter().zip(values) {
            if let Value::Text(bytes) | Value::Blob(bytes) = value
                && (self.looks_like)(bytes)
            {
                self.found.add(&(table.to_owned(), column.clone()), 1)?;
            }
        }
        Ok(())
    }

    fn skipped_row(&mut self, table: &str) -> Result<()> {
        self.rows.add(table, 1).map(drop)
    }

    fn matters(&self, _: &str) -> bool {
        false
    }
}

/// Counts rows.
pub(super) struct Count(pub(super) Tally<String>);

impl Listener for Count {
    fn rows_of(&mut self, _: &str, _: &[String]) -> Result<Option<Vec<bool>>> {
        Ok(None)
    }

    fn row(&mut self, _: &str, _: &[String], _: &[Value]) -> Result<()> {
        Ok(())
    }

    fn skipped_row(&mut self, table: &str) -> Result<()> {
        if !table.starts_with("sqlite_") {
            self.0.add(table, 1)?;
        }
        Ok(())
    }

    fn matters(&self, _: &str) -> bool {
        false
    }
}
