//! What a dump's own statements say of its tables: schemas, columns, types, and which table is a part of which.

use std::collections::BTreeMap;

use crate::database::room::Room;
use crate::ground::Result;

/// How many columns a table may have, as PostgreSQL has it.
pub(super) const MAX_COLUMNS: usize = 1664;

/// A table by schema and name.
pub(crate) type Name = (String, String);

/// One table, or what stands in a table's place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// Column names and types, as they are written.
    pub(crate) columns: Vec<(String, String)>,
    /// It has no rows of its own; its partitions have them.
    pub(crate) partitioned: bool,
    /// The table whose partition it is.
    pub(crate) parent: Option<Name>,
    /// It is a view or a foreign table and only looks like a table.
    pub(crate) pretender: Option<&'static str>,
}

impl Table {
    /// A column's type; empty when it is not known.
    pub(crate) fn type_of(&self, column: &str) -> &str {
        self.columns.iter().find(|(name, _)| name == column).map_or("", |(_, of)| of)
    }
}

/// The tables of a dump, and the room that is left for more.
#[derive(Debug, Default)]
pub(crate) struct Tables(pub(crate) BTreeMap<Name, Table>, Room);

impl Tables {
    /// None yet, in this reading of a dump.
    pub(super) fn in_reading(what: &str) -> Self {
        Self(BTreeMap::new(), Room::in_reading(what))
    }

    /// Takes what a statement, or several, says of tables.
    pub(crate) fn learn(&mut self, sql: &str) -> Result<()> {
        let mut words = Words(sql);
        let mut first = words.next();
        while let Some(word) = first {
            if word.is("CREATE") {
                self.create(&mut words)?;
            } else if word.is("ALTER") {
                self.alter(&mut words)?;
            }
            // To the next statement.
            first = loop {
                match words.next() {
                    Some(Word::Sign(';')) => break words.next(),
                    Some(_) => {}
                    None => break None,
                }
            };
        }
        Ok(())
    }

    /// The table that this one is a part of, however far up.
    pub(crate) fn root<'a>(&'a self, name: &'a Name) -> &'a Name {
        let mut at = name;
        for _ in 0..64 {
            match self.0.get(at).and_then(|t| t.parent.as_ref()) {
                Some(parent) => at = parent,
                None => break,
            }
        }
        at
    }

    fn create(&mut self, words: &mut Words<'_>) -> Result<()> {
        let mut pretender = None;
        loop {
            match words.next() {
                Some(word) if word.is("UNLOGGED") || word.is("OR") || word.is("REPLACE") || word.is("RECURSIVE") => {}
                Some(word) if word.is("FOREIGN") => pretender = Some("a foreign table"),
                Some(word) if word.is("MATERIALIZED") => pretender = Some("a materialized view"),
                Some(word) if word.is("VIEW") => {
                    pretender = pretender.or(Some("a view"));
                    break;
                }
                Some(word) if word.is("TABLE") => break,
                _ => return Ok(()),
            }
        }
        let Some(name) = words.name() else { return Ok(()) };
        let mut table = Table { pretender, ..Table::default() };
        match words.next() {
            Some(Word::Sign('(')) => {
                table.columns = words.columns();
                let before = words.0;
                match words.next() {
                    // The statement's end is for the one who reads statements.
                    Some(Word::Sign(';')) => words.0 = before,
                    Some(word) if word.is("PARTITION") => table.partitioned = true,
                    // Rows of a child are rows of its parent, as they are for a query.
                    Some(word) if word.is("INHERITS") => {
                        words.next();
                        table.parent = words.name();
                    }
                    _ => {}
                }
            }
            Some(word) if word.is("PARTITION") => {
                words.next();
                table.parent = words.name();
            }
            _ => {}
        }
        if !self.0.contains_key(&name) {
            self.1.take(name.0.len() + name.1.len() + size_of::<Table>())?;
            table.columns.iter().try_for_each(|(column, of)| self.1.take(column.len() + of.len()))?;
            self.0.insert(name, table);
        }
        Ok(())
    }

    fn alter(&mut self, words: &mut Words<'_>) -> Result<()> {
        if !words.next().is_some_and(|w| w.is("TABLE")) {
            return Ok(());
        }
        let Some(parent) = words.name() else { return Ok(()) };
        if !words.next().is_some_and(|w| w.is("ATTACH")) || !words.next().is_some_and(|w| w.is("PARTITION")) {
            return Ok(());
        }
        if let Some(name) = words.name() {
            self.1.take(name.0.len() + name.1.len() + parent.0.len() + parent.1.len() + size_of::<Table>())?;
            self.0.entry(name).or_default().parent = Some(parent);
        }
        Ok(())
    }
}

/// The table and the columns of `COPY schema.table (a, b) FROM stdin`.
pub(crate) fn copied(statement: &str) -> Option<(Name, Vec<String>)> {
    let mut words = Words(statement);
    if !words.next()?.is("COPY") {
        return None;
    }
    let name = words.name()?;
    let mut columns = Vec::new();
    match words.next()? {
        Word::Sign('(') => loop {
            match words.next()? {
                Word::Bare(name) => columns.push(name.to_ascii_lowercase()),
                Word::Quoted(name) => columns.push(name),
                Word::Sign(',') => {}
                Word::Sign(')') => break,
                _ => return None,
            }
            if columns.len() > MAX_COLUMNS {
                return None;
            }
        },
        word if word.is("FROM") => return Some((name, columns)),
        _ => return None,
    }
    (words.next()?.is("FROM") && words.next()?.is("STDIN")).then_some((name, columns))
}

/// The table and columns of `INSERT INTO schema.table [(a, b)] VALUES`, and the text of the values.
pub(crate) fn inserted(statement: &str) -> Option<(Name, Vec<String>, &str)> {
    let mut words = Words(statement);
    if !words.next()?.is("INSERT") || !words.next()?.is("INTO") {
        return None;
    }
    let name = words.name()?;
    let mut columns = Vec::new();
    loop {
        match words.next()? {
            Word::Bare(word) if word.eq_ignore_ascii_case("VALUES") => return Some((name, columns, words.0)),
            Word::Bare(word) if word.eq_ignore_ascii_case("OVERRIDING") => {
                words.next()?;
                words.next()?;
            }
            Word::Bare(name) => columns.push(name.to_ascii_lowercase()),
            Word::Quoted(name) => columns.push(name),
            Word::Sign('(' | ',' | ')') => {}
            _ => return None,
        }
        if columns.len() > MAX_COLUMNS {
            return None;
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Bare(String),
    Quoted(String),
    Text,
    Sign(char),
}

impl Word {
    fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Bare(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// A statement cut into words; comments are left out.
struct Words<'a>(&'a str);

impl Words<'_> {
    fn next(&mut self) -> Option<Word> {
        loop {
            self.0 = self.0.trim_start();
            if self.0.starts_with("--") {
                self.0 = self.0.find('\n').map_or("", |at| &self.0[at..]);
                continue;
            }
            let first = self.0.chars().next()?;
            return Some(match first {
                '"' => Word::Quoted(self.quoted('"')),
                '\'' => {
                    self.quoted('\'');
                    Word::Text
                }
                '$' if self.dollar() => Word::Text,
                c if c.is_alphanumeric() || c == '_' => {
                    let end = self.0.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'));
                    let (word, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
                    self.0 = rest;
                    Word::Bare(word.to_owned())
                }
                sign => {
                    self.0 = &self.0[sign.len_utf8()..];
                    Word::Sign(sign)
                }
            });
        }
    }

    /// What stands in quotes, a doubled quote being one.
    fn quoted(&mut self, quote: char) -> String {
        let (mut text, mut rest) = (String::new(), &self.0[1..]);
        loop {
            let Some(at) = rest.find(quote) else {
                self.0 = "";
                return text;
            };
            text.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            match rest.strip_prefix(quote) {
                Some(more) => {
                    text.push(quote);
                    rest = more;
                }
                None => break,
            }
        }
        self.0 = rest;
        text
    }

    /// Passes over `$tag$ … $tag$`; false when it is none.
    fn dollar(&mut self) -> bool {
        let Some(end) = self.0[1..].find('$').map(|at| at + 2) else { return false };
        let tag = &self.0[..end];
        if !tag[1..end - 1].chars().all(|c| c.is_alphanumeric() || c == '_') {
            return false;
        }
        self.0 = self.0[end..].find(tag).map_or("", |at| &self.0[end + at + tag.len()..]);
        true
    }

    /// `[ONLY] [IF NOT EXISTS] schema.name`; without a schema it is `public`.
    fn name(&mut self) -> Option<Name> {
        let mut part = || match self.next()? {
            Word::Bare(name) => Some((name.to_ascii_lowercase(), false)),
            Word::Quoted(name) => Some((name, true)),
            _ => None,
        };
        let (mut first, mut quoted) = part()?;
        while !quoted && ["only", "if", "not", "exists"].contains(&first.as_str()) {
            (first, quoted) = part()?;
        }
        match self.0.strip_prefix('.') {
            Some(rest) => {
                self.0 = rest;
                let name = match self.next()? {
                    Word::Bare(name) => name.to_ascii_lowercase(),
                    Word::Quoted(name) => name,
                    _ => return None,
                };
                Some((first, name))
            }
            None => Some(("public".to_owned(), first)),
        }
    }

    /// Names and types of columns, up to the closing parenthesis.
    fn columns(&mut self) -> Vec<(String, String)> {
        let (mut columns, mut depth, mut at) = (Vec::<(String, String)>::new(), 0_u32, 0_u32);
        while let Some(word) = self.next() {
            match &word {
                Word::Sign(')') if depth == 0 => break,
                Word::Sign(')') => depth -= 1,
                Word::Sign('(') => depth += 1,
                Word::Sign(',') if depth == 0 => {
                    at = 0;
                    continue;
                }
                Word::Bare(name) if at == 0 => {
                    let constraint = ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "EXCLUDE", "LIKE"];
                    if constraint.contains(&name.as_str()) || columns.len() >= MAX_COLUMNS {
                        // What follows is no type of the column before.
                        at += 1;
                    } else {
                        columns.push((name.to_ascii_lowercase(), String::new()));
                    }
                }
                Word::Quoted(name) if at == 0 && columns.len() < MAX_COLUMNS => {
                    columns.push((name.clone(), String::new()));
                }
                Word::Bare(name) if at == 1 => {
                    if let Some((_, of)) = columns.last_mut() {
                        of.push_str(&name.to_ascii_lowercase());
                    }
                }
                Word::Bare(name) if name == "GENERATED" => {
                    if let Some((_, of)) = columns.last_mut() {
                        of.push_str(" generated");
                    }
                }
                _ => {}
            }
            at += 1;
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(schema: &str, table: &str) -> Name {
        (schema.to_owned(), table.to_owned())
    }

    #[test]
    fn a_table_is_known_by_its_statement() {
        let mut tables = Tables::default();
        tables.learn(
            "CREATE TABLE public.repositories (\n    id text NOT NULL,\n    \"Odd, \"\"name\" bytea DEFAULT 'a,b)'::text,\n    \
             n numeric(10,2),\n    CONSTRAINT c CHECK ((n > (0)::numeric))\n)\nPARTITION BY LIST (id);\n\
             CREATE TABLE app.p1 (\n    id text\n);\nALTER TABLE ONLY public.repositories ATTACH PARTITION app.p1 FOR VALUES IN ('a;b');\n\
             CREATE VIEW public.v AS SELECT 1;CREATE FOREIGN TABLE f.t (a integer) SERVER s;",
        ).expect("learnt");
        let table = &tables.0[&name("public", "repositories")];
        let columns: Vec<_> = table.columns.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        assert_eq!(columns, [("id", "text"), ("Odd, \"name", "bytea"), ("n", "numeric")]);
        assert!(table.partitioned);
        assert_eq!(tables.root(&name("app", "p1")), &name("public", "repositories"));
        assert_eq!(tables.0[&name("public", "v")].pretender, Some("a view"));
        assert_eq!(tables.0[&name("f", "t")].pretender, Some("a foreign table"));
    }

    #[test]
    fn copy_and_insert_name_their_columns() {
        let (table, columns) = copied("COPY app.\"Ta.ble\" (id, \"B\") FROM stdin;").expect("read");
        assert_eq!((table, columns), (name("app", "Ta.ble"), vec!["id".to_owned(), "B".to_owned()]));
        let (table, columns, values) = inserted("INSERT INTO public.t (a, b) VALUES (1, 'x')").expect("read");
        assert_eq!((table, columns.len(), values), (name("public", "t"), 2, " (1, 'x')"));
        assert!(copied("COPY x TO PROGRAM 'id'").is_none());
    }
}
