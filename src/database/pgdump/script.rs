//! Plain SQL as `pg_dump` and `pg_dumpall` write it: statements, and rows between `COPY … FROM stdin;` and `\.`.

use std::collections::BTreeMap;
use std::io::BufRead;

use super::copy::Fields;
use super::tables::{self, MAX_COLUMNS, Name, Tables};
use super::{Listener, Outline, copy_rows, unreadable};
use crate::database::room::Tally;
use crate::ground::{Error, Result};

/// How much of a statement is kept; what is longer is passed over.
const MAX_STATEMENT: usize = 8 << 20;

/// What the last line of a whole dump says.
const COMPLETE: &[&str] = &["-- PostgreSQL database dump complete", "-- PostgreSQL database cluster dump complete"];
/// What the first lines of a dump say.
const BEGINS: &[&str] = &["-- PostgreSQL database dump", "-- PostgreSQL database cluster dump"];

/// Reads a whole script.
pub(super) fn scan(mut input: impl BufRead, what: &str, listener: &mut dyn Listener) -> Result<Outline> {
    let mut script = Script {
        input: &mut input,
        what,
        tables: Tables::in_reading(what),
        rows: Tally::in_reading(what),
        open: 0,
        remarks: 0,
    };
    while script.statement(listener)? {}
    if script.remarks > 0 && script.open > 0 {
        return Err(Error::damaged(format!("{what} is cut off: it does not say that it is complete"))
            .hint("The program that wrote it was stopped, or the disk was full. Take another copy."));
    }
    Ok(Outline { tables: script.tables, rows: script.rows.into_counts(), ..Outline::default() })
}

/// Reads the statements that an archive holds for one table.
pub(super) fn statements(
    mut input: &mut dyn BufRead,
    what: &str,
    tables: &mut Tables,
    listener: &mut dyn Listener,
) -> Result<BTreeMap<Name, u64>> {
    let taken = std::mem::take(tables);
    let mut script =
        Script { input: &mut input, what, tables: taken, rows: Tally::in_reading(what), open: 0, remarks: 0 };
    while script.statement(listener)? {}
    *tables = script.tables;
    Ok(script.rows.into_counts())
}

struct Script<'a, R> {
    input: &'a mut R,
    what: &'a str,
    tables: Tables,
    rows: Tally<Name>,
    /// Dumps that have begun and not ended.
    open: u32,
    /// How many have begun.
    remarks: u32,
}

/// Where in a statement the reader is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    Quotes(u8),
    /// `E'…'`, in which a backslash escapes.
    Escaping,
    Comment(u32),
}

impl<R: BufRead> Script<'_, R> {
    fn damaged(&self, why: &str) -> Error {
        Error::damaged(format!("{}: {why}", self.what))
    }

    fn line(&mut self, line: &mut Vec<u8>) -> Result<bool> {
        line.clear();
        // A line may be as long as a table: it comes in pieces.
        let mut limited = std::io::Read::take(&mut *self.input, MAX_STATEMENT as u64);
        limited.read_until(b'\n', line).map(|n| n > 0).map_err(|e| unreadable(self.what, e))
    }

    /// Reads one statement and acts on it; false at the end.
    fn statement(&mut self, listener: &mut dyn Listener) -> Result<bool> {
        let (mut text, mut line) = (Vec::new(), Vec::new());
        let (mut inside, mut dollar) = (Inside::Nothing, None::<Vec<u8>>);
        let mut cut = false;
        loop {
            if !self.line(&mut line)? {
                let rest = text.trim_ascii();
                return if rest.is_empty() {
                    Ok(false)
                } else {
                    Err(self.damaged("it is cut off in the middle of a statement"))
                };
            }
            if text.trim_ascii().is_empty() && dollar.is_none() && inside == Inside::Nothing {
                text.clear();
                let trimmed = line.trim_ascii();
                if trimmed.is_empty() {
                    continue;
                }
                if trimmed.starts_with(b"--") {
                    self.remark(&String::from_utf8_lossy(trimmed));
                    continue;
                }
                // A command of psql, such as \restrict or \connect: noted by nobody, run by nobody.
                if trimmed[0] == b'\\' {
                    continue;
                }
            }
            let ends = walk(&line, &mut inside, &mut dollar);
            if text.len() + line.len() <= MAX_STATEMENT {
                text.extend_from_slice(&line);
            } else {
                cut = true;
            }
            if ends {
                return self.act(&String::from_utf8_lossy(&text), cut, listener).map(|()| true);
            }
        }
    }

    fn remark(&mut self, line: &str) {
        if BEGINS.contains(&line) {
            self.open += 1;
            self.remarks += 1;
        } else if COMPLETE.contains(&line) {
            self.open = self.open.saturating_sub(1);
        }
    }

    fn act(&mut self, text: &str, cut: bool, listener: &mut dyn Listener) -> Result<()> {
        let text = text.trim();
        let begins = |word: &str| text.get(..word.len()).is_some_and(|t| t.eq_ignore_ascii_case(word));
        if begins("COPY") {
            let Some((name, columns)) = tables::copied(text) else {
                return Err(self.damaged("a COPY that is not from the dump itself"));
            };
            let columns = if columns.is_empty() { self.columns_of(&name) } else { columns };
            let count = copy_rows(self.input, self.what, &self.tables, &name, &columns, listener)?;
            self.rows.add(&name, count)?;
        } else if begins("INSERT") {
            if cut {
                return Err(self.damaged("an INSERT is too long to be read"));
            }
            self.insert(text, listener)?;
        } else if (begins("CREATE") || begins("ALTER")) && !cut {
            self.tables.learn(text)?;
        } else if begins("MySQL") || begins("LOCK TABLES") || begins("PRAGMA") {
            return Err(Error::usage(format!("{} is no dump of PostgreSQL", self.what)));
        }
        Ok(())
    }

    fn columns_of(&self, name: &Name) -> Vec<String> {
        self.tables.0.get(name).map(|t| t.columns.iter().map(|(c, _)| c.clone()).collect()).unwrap_or_default()
    }

    fn insert(&mut self, text: &str, listener: &mut dyn Listener) -> Result<()> {
        let Some((name, columns, values)) = tables::inserted(text) else {
            return Err(self.damaged("an INSERT whose rows are not values"));
        };
        let columns = if columns.is_empty() { self.columns_of(&name) } else { columns };
        let wanted = listener.rows_of(&self.tables, &name, &columns)?;
        let mut fields = Fields::default();
        let (mut rest, mut count) = (values, 0);
        loop {
            rest = rest.trim_start();
            let Some(after) = rest.strip_prefix('(') else { break };
            let (row, after) = row(after).ok_or_else(|| self.damaged("an INSERT whose values cannot be told apart"))?;
            rest = after.trim_start().strip_prefix(',').unwrap_or(after);
            count += 1;
            if !wanted {
                continue;
            }
            if row.len() != columns.len() {
                return Err(self.damaged(&format!("a row of {} has not its {} values", name.1, columns.len())));
            }
            let mut plain = Vec::with_capacity(row.len());
            for value in row {
                plain.push(match value {
                    Value::Null => None,
                    Value::Plain(bytes) => Some(bytes),
                    Value::Computed => {
                        return Err(self
                            .damaged("a value that is computed and not written")
                            .hint("Restore it into a scratch database and prove that."));
                    }
                });
            }
            fields.set(&plain);
            listener.row(&fields)?;
        }
        self.rows.add(&name, count)?;
        Ok(())
    }
}

/// Walks over a line; true when the statement ends at its end.
fn walk(line: &[u8], inside: &mut Inside, dollar: &mut Option<Vec<u8>>) -> bool {
    let (mut at, mut ends) = (0, false);
    while at < line.len() {
        let rest = &line[at..];
        let byte = rest[0];
        if let Some(tag) = dollar {
            if rest.starts_with(tag) {
                at += tag.len();
                *dollar = None;
            } else {
                at += 1;
            }
            continue;
        }
        match *inside {
            Inside::Quotes(quote) => {
                if byte == quote {
                    *inside = Inside::Nothing;
                }
            }
            Inside::Escaping => match byte {
                b'\\' => at += 1,
                b'\'' => *inside = Inside::Nothing,
                _ => {}
            },
            Inside::Comment(depth) => {
                if rest.starts_with(b"*/") {
                    at += 1;
                    *inside = if depth == 1 { Inside::Nothing } else { Inside::Comment(depth - 1) };
                } else if rest.starts_with(b"/*") {
                    at += 1;
                    *inside = Inside::Comment(depth + 1);
                }
            }
            Inside::Nothing => match byte {
                b'\'' => {
                    let escaping = at > 0
                        && matches!(line[at - 1], b'E' | b'e')
                        && !line[..at - 1].last().is_some_and(u8::is_ascii_alphanumeric);
                    *inside = if escaping { Inside::Escaping } else { Inside::Quotes(b'\'') };
                }
                b'"' => *inside = Inside::Quotes(b'"'),
                b'-' if rest.starts_with(b"--") => return ends,
                b'/' if rest.starts_with(b"/*") => {
                    at += 1;
                    *inside = Inside::Comment(1);
                }
                b'$' => {
                    let end = rest[1..].iter().position(|b| !(b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80));
                    let before = at > 0 && (line[at - 1].is_ascii_alphanumeric() || line[at - 1] == b'_');
                    if let Some(end) = end.filter(|end| rest[end + 1] == b'$' && !before) {
                        *dollar = Some(rest[..end + 2].to_vec());
                        at += end + 1;
                    }
                }
                b';' => ends = true,
                b if !b.is_ascii_whitespace() => ends = false,
                _ => {}
            },
        }
        at += 1;
    }
    ends && *inside == Inside::Nothing && dollar.is_none()
}

enum Value {
    Null,
    Plain(Vec<u8>),
    Computed,
}

/// The values up to a row's closing parenthesis, and what follows it.
fn row(mut rest: &str) -> Option<(Vec<Value>, &str)> {
    let mut values = Vec::new();
    loop {
        rest = rest.trim_start();
        let (value, after) = value(rest)?;
        values.push(value);
        if values.len() > MAX_COLUMNS {
            return None;
        }
        let after = after.trim_start();
        if let Some(after) = after.strip_prefix(')') {
            return Some((values, after));
        }
        rest = after.strip_prefix(',')?;
    }
}

fn value(text: &str) -> Option<(Value, &str)> {
    let (escaping, body) = match text.as_bytes() {
        [b'\'', ..] => (false, &text[1..]),
        [b'E' | b'e', b'\'', ..] => (true, &text[2..]),
        _ => {
            let end = text.find([',', ')'])?;
            let word = text[..end].trim();
            let number = word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+'));
            let value = match word {
                _ if word.eq_ignore_ascii_case("null") => Value::Null,
                "true" => Value::Plain(b"t".to_vec()),
                "false" => Value::Plain(b"f".to_vec()),
                _ if number && word.bytes().any(|b| b.is_ascii_digit()) => Value::Plain(word.as_bytes().to_vec()),
                // What is computed has parentheses and commas of its own, and no end that can be known.
                _ if text[..end].contains('(') => return None,
                _ => Value::Computed,
            };
            return Some((value, &text[end..]));
        }
    };
    let (mut bytes, raw, mut at) = (Vec::new(), body.as_bytes(), 0);
    loop {
        match raw.get(at)? {
            b'\'' if raw.get(at + 1) == Some(&b'\'') => {
                bytes.push(b'\'');
                at += 2;
            }
            b'\'' => break,
            b'\\' if escaping => {
                let escaped = *raw.get(at + 1)?;
                bytes.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => other,
                });
                at += 2;
            }
            byte => {
                bytes.push(*byte);
                at += 1;
            }
        }
    }
    Some((Value::Plain(bytes), &body[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_where_postgres_ends_it() {
        let ends = |text: &str| {
            let (mut inside, mut dollar) = (Inside::Nothing, None);
            text.split_inclusive('\n').map(|line| walk(line.as_bytes(), &mut inside, &mut dollar)).collect::<Vec<_>>()
        };
        assert_eq!(ends("SELECT ';';\n"), [true]);
        assert_eq!(ends("AS $_$ begin; \n end; $$; $_$;\n"), [false, true]);
        assert_eq!(ends("E'\\';';\n"), [true]);
        assert_eq!(ends("'a\\';\n"), [true]);
        assert_eq!(ends("x /* ; \n */ ; -- y\n"), [false, true]);
        assert_eq!(ends("a$1; b\n"), [false]);
    }

    #[test]
    fn values_are_what_they_say() {
        let (values, rest) = row("1, 'a''b;', NULL, true, E'x\\n', -2.5), (").expect("read");
        assert_eq!((values.len(), rest), (6, ", ("));
        assert!(matches!(&values[1], Value::Plain(b) if b == b"a'b;"));
        assert!(matches!(values[2], Value::Null));
        assert!(row("now(), 1)").is_none());
    }
}
