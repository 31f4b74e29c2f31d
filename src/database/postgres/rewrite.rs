//! New values for credentials of the live database, in one transaction, through `psql`.
//!
//! The tables are locked against writers before anything is read, and reading goes on. New values go in on standard input, some
//! hundred rows a statement, each row named by its key and by the value that it had.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::end_orphans;
use super::link::Link;
use super::read::{self, Cell};
use super::session::{Session, literal, quote};
use crate::appkey::credential::{Credential, RowId};
use crate::config::profile::Profile;
use crate::database::rewrite::{Expected, named};
use crate::database::{Change, Others, Rewritten};
use crate::ground::{Error, Kind, Result, failpoint, names};

/// What its sessions are called.
pub(super) const PURPOSE: &str = "rotate";
/// How many rows a statement changes.
const BATCH: usize = 100;
/// How long the application's sessions may take to end after it was stopped.
const PATIENCE: Duration = Duration::from_secs(10);

/// A column of one table, as SQL names it.
#[derive(PartialEq, Eq, Hash)]
struct Column {
    table: String,
    value: String,
    binary: bool,
    /// Name and type of each part of the key.
    key: Vec<(String, String)>,
}

/// Where a credential stands, as the server wrote it.
struct Address {
    column: Arc<Column>,
    key: Vec<String>,
    value: String,
}

/// See [`crate::database::Database::rewrite`].
pub(super) fn all(link: &Link, profile: &Profile, others: Others, change: Change<'_>) -> Result<Rewritten> {
    profile.writable()?;
    let mut session = Session::open(link, PURPOSE)?;
    end_orphans(&mut session, link)?;
    if others == Others::Refuse {
        alone(&mut session, link)?;
    }
    session.begin_writing()?;
    let homes = read::homes(&mut session, profile)?;
    if !homes.is_empty() {
        let lock = format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE;", homes.join(", "));
        session.run(&lock).map_err(|error| match error.kind() {
            Kind::Unreachable => {
                error.hint("Another session holds a lock on these rows: stop that program, or let it finish.")
            }
            Kind::Denied => {
                error.hint("Rewriting takes the right to UPDATE these tables: use the application's own user.")
            }
            _ => error,
        })?;
    }
    within(&mut session, profile, change)?;
    let transaction = session.row("SELECT pg_current_xact_id()")?.remove(0).unwrap_or_default();
    failpoint::pass("before the commit of new credentials");
    let committed = session.commit();
    failpoint::pass("after the commit of new credentials");
    judge(session, link, &transaction, committed)
}

/// Believes of a commit what the server says when it is asked afterwards.
fn judge(mut session: Session, link: &Link, transaction: &str, committed: Result<()>) -> Result<Rewritten> {
    let begun = Instant::now();
    let mut answer = committed.and_then(|()| session.fate(transaction));
    loop {
        match answer {
            Ok(fate) if fate == "committed" => return Ok(Rewritten::Committed),
            Ok(fate) if fate == "aborted" => {
                return Err(Error::failed(format!("{} did not commit the new credentials", link.url)));
            }
            Ok(_) if begun.elapsed() > PATIENCE => {
                return Ok(Rewritten::Unknown(Error::unreachable(format!("{} does not end the commit", link.url))));
            }
            Err(error) if begun.elapsed() > PATIENCE => {
                return Ok(Rewritten::Unknown(error.context("the answer to the commit was lost")));
            }
            _ => {
                std::thread::sleep(Duration::from_millis(200));
                answer = Session::open(link, PURPOSE).and_then(|mut session| session.fate(transaction));
            }
        }
    }
}

/// Waits for the sessions of a stopped application to end; refuses when they do not.
fn alone(session: &mut Session, link: &Link) -> Result<()> {
    let begun = Instant::now();
    loop {
        // What another user's session is doing is not shown to everybody; that it is there is.
        let there = session.rows(
            "SELECT pid, usename, application_name FROM pg_catalog.pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_catalog.pg_backend_pid() AND usesysid IS NOT NULL \
             AND coalesce(backend_type, 'client backend') = 'client backend' ORDER BY pid",
        )?;
        if there.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            let text = |row: &[Option<String>], at: usize| row.get(at).cloned().flatten().unwrap_or_default();
            let who: Vec<_> = there
                .iter()
                .take(5)
                .map(|row| format!("{} as {} (pid {})", text(row, 2).escape_debug(), text(row, 1), text(row, 0)))
                .collect();
            return Err(Error::refused(format!(
                "{} is open in {} sessions: {}",
                link.url,
                there.len(),
                who.join(", ")
            ))
            .hint("Stop the application first, by hand or as [app] stop; a pooler keeps sessions for a while.")
            .hint("`key rotate --online` goes on beside it, and looks a second time."));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn within(session: &mut Session, profile: &Profile, change: Change<'_>) -> Result<()> {
    let mut credentials = Vec::new();
    let mut addresses: HashMap<(String, String, RowId), Address> = HashMap::new();
    let mut columns: Vec<Arc<Column>> = Vec::new();
    read::cells(session, profile, None, &mut |cell| {
        let address = address(&cell, &mut columns)?;
        let Credential { table, column, id, .. } = &cell.credential;
        addresses.insert((table.clone(), column.clone(), id.clone()), address);
        credentials.push(cell.credential);
        Ok(())
    })?;
    let mut expected = Expected::new(&credentials)?;
    // Triggers of the application find its tables where they always do; operators are the server's own all the same.
    session.run(
        "SELECT set_config('search_path', concat_ws(', ', 'pg_catalog', nullif(reset_val, '')), true) \
         FROM pg_settings WHERE name = 'search_path';",
    )?;
    let mut waiting: Vec<(Address, Credential, Vec<u8>)> = Vec::new();
    change(credentials, &mut |credential, value| {
        expected.put(credential, value)?;
        let place = (credential.table.clone(), credential.column.clone(), credential.id.clone());
        let address =
            addresses.remove(&place).ok_or_else(|| Error::failed(format!("{} was not read", named(credential))))?;
        // A statement is about one column.
        let full = waiting.len() == BATCH || waiting.first().is_some_and(|first| first.0.column != address.column);
        if full {
            flush(session, &std::mem::take(&mut waiting))?;
        }
        waiting.push((address, credential.clone(), value.to_vec()));
        Ok(())
    })?;
    flush(session, &waiting)?;
    session.run("SET LOCAL search_path = pg_catalog;")?;
    read::credentials(session, profile, None, &mut |credential| expected.look(&credential))?;
    expected.finish()
}

fn address(cell: &Cell<'_>, columns: &mut Vec<Arc<Column>>) -> Result<Address> {
    let here = |name: &str| match cell.table.type_of(name) {
        // Without a length these names mean one of one letter or bit.
        "character" => "bpchar".to_owned(),
        "bit" => "varbit".to_owned(),
        other => other.to_owned(),
    };
    let column = Column {
        table: cell.table.sql(),
        value: quote(&cell.wanted.column),
        binary: cell.table.type_of(&cell.wanted.column) == "bytea",
        key: cell.wanted.primary_key.iter().map(|name| (quote(name), here(name))).collect(),
    };
    let column = if let Some(known) = columns.iter().find(|known| ***known == column) {
        Arc::clone(known)
    } else {
        let column = Arc::new(column);
        columns.push(Arc::clone(&column));
        column
    };
    let text = |at: usize| -> Result<String> {
        let bytes = cell.fields.get(at).ok_or_else(|| {
            Error::failed(format!("{} has no value that can be replaced", named(&cell.credential)))
                .hint("A part of its key is NULL, or it is longer than any credential.")
        })?;
        String::from_utf8(bytes.to_vec())
            .map_err(|_| Error::failed(format!("{} is not text in the server's encoding", named(&cell.credential))))
    };
    Ok(Address { key: (1..=column.key.len()).map(text).collect::<Result<_>>()?, value: text(0)?, column })
}

/// Changes rows of one column; each must be there once, with the value that was read.
fn flush(session: &mut Session, rows: &[(Address, Credential, Vec<u8>)]) -> Result<()> {
    let Some((first, ..)) = rows.first() else { return Ok(()) };
    let Column { table, value: column, binary, key } = &*first.column;
    let mut values = Vec::with_capacity(rows.len());
    for (number, (address, credential, value)) in rows.iter().enumerate() {
        let new = if *binary {
            format!("\\x{}", names::hex(value))
        } else {
            String::from_utf8(value.clone())
                .map_err(|_| Error::failed(format!("the new value of {} is no text", named(credential))))?
        };
        let mut row = vec![number.to_string(), literal(&address.value), literal(&new)];
        row.extend(address.key.iter().map(|part| literal(part)));
        values.push(format!("({})", row.join(", ")));
    }
    let keys: Vec<_> = (0..key.len()).map(|n| format!("k{n}")).collect();
    // The typed comparison finds the row by its index, the one of texts leaves no doubt.
    let same: Vec<_> = key
        .iter()
        .zip(&keys)
        .map(|((name, of), k)| format!("t.{name} = v.{k}::{of} AND t.{name}::text = v.{k}"))
        .collect();
    let new = if *binary { "v.new::bytea" } else { "v.new" };
    let sql = format!(
        "UPDATE {table} AS t SET {column} = {new} FROM (VALUES {}) AS v (n, old, new, {}) \
         WHERE {} AND t.{column}::text = v.old RETURNING v.n",
        values.join(", "),
        keys.join(", "),
        same.join(" AND ")
    );
    let mut changed = vec![0_u32; rows.len()];
    session.query(&sql, &mut |fields| {
        let number = fields.get(0).and_then(|n| std::str::from_utf8(n).ok()?.parse::<usize>().ok());
        if let Some(count) = number.and_then(|n| changed.get_mut(n)) {
            *count += 1;
        }
        Ok(())
    })?;
    match changed.iter().position(|count| *count != 1) {
        None => Ok(()),
        Some(at) => Err(Error::failed(format!("{} rows are {}, and one should be", changed[at], named(&rows[at].1)))
            .hint("The profile's primary key does not name a row, or a rule or a policy of the database keeps it from being changed.")),
    }
}
