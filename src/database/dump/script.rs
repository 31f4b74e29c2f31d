//! A dump's statements: what tables it makes and what rows it writes. Nothing of it is ever executed.

use std::collections::HashMap;
use std::io::BufRead;
use std::rc::Rc;

use super::token::{Token, Tokens};
use super::value::{self, Value};
use crate::database::room::Room;
use crate::ground::{Error, Result};

/// The most columns of a table, as SQLite has it by default.
const MAX_COLUMNS: usize = 2000;

/// How much of one row is kept.
const MAX_ROW: usize = 8 << 20;

/// Who wants to know what a dump holds.
pub(super) trait Listener {
    /// Before a table's rows: whether to read them, and of which columns the values are kept.
    fn rows_of(&mut self, table: &str, columns: &[String]) -> Result<Option<Vec<bool>>>;
    /// A row of a table that was wanted; columns that were not kept are [`Value::Unread`].
    fn row(&mut self, table: &str, columns: &[String], values: &[Value]) -> Result<()>;
    /// A row of a table that was not wanted.
    fn skipped_row(&mut self, table: &str) -> Result<()>;
    /// Whether the values of this table matter, so that what cannot be read of it is an error.
    fn matters(&self, table: &str) -> bool;
}

/// What a dump makes, and what it holds that was not acted on.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// Every table's columns, by its name in lowercase.
    pub(super) tables: HashMap<String, (String, Rc<Vec<String>>)>,
    /// Lines such as `ATTACH` or `.shell`, which are noted and never acted on.
    pub(super) ignored: u64,
}

/// Reads a whole dump.
pub(super) fn scan<R: BufRead>(input: R, what: &str, listener: &mut dyn Listener) -> Result<Outline> {
    let mut script = Script {
        tokens: Tokens::new(input, what),
        outline: Outline::default(),
        room: Room::in_reading(what),
        in_transaction: false,
        triggers: false,
    };
    while script.statement(listener)? {}
    if script.in_transaction {
        return Err(script.tokens.truncated().hint("It begins a transaction that it does not end."));
    }
    Ok(script.outline)
}

struct Script<R> {
    tokens: Tokens<R>,
    outline: Outline,
    /// For the tables of the outline.
    room: Room,
    in_transaction: bool,
    /// A trigger that names a table which matters was made: rows written from here on may not be what they say.
    triggers: bool,
}

impl<R: BufRead> Script<R> {
    fn token(&mut self, keep: bool) -> Result<Token> {
        self.tokens.next(keep)?.ok_or_else(|| self.tokens.truncated())
    }

    fn statement(&mut self, listener: &mut dyn Listener) -> Result<bool> {
        let Some(first) = self.tokens.next(false)? else { return Ok(false) };
        match &first {
            Token::Sign(b';') => {}
            // A command of the sqlite3 shell, such as `.shell` or `.load`.
            Token::Sign(b'.') => {
                self.outline.ignored += 1;
                self.tokens.skip_line()?;
            }
            Token::Sign(b'\\') => return Err(foreign("PostgreSQL")),
            Token::Word(word) => match word.to_ascii_uppercase().as_str() {
                "CREATE" => self.create(listener)?,
                "INSERT" | "REPLACE" => self.insert(listener, first.is("REPLACE"))?,
                "BEGIN" => {
                    self.in_transaction = true;
                    self.skip()?;
                }
                "COMMIT" | "END" => {
                    self.in_transaction = false;
                    self.skip()?;
                }
                // How `.dump` ends when the database was damaged while it wrote.
                "ROLLBACK" => {
                    return Err(self.tokens.damaged("the dump says itself that it is not whole (ROLLBACK)"));
                }
                "COPY" => return Err(foreign("PostgreSQL")),
                "LOCK" | "UNLOCK" | "USE" => return Err(foreign("MySQL")),
                "UPDATE" | "DELETE" | "ALTER" | "DROP" | "WITH" => self.change(listener, word)?,
                "SET" | "SELECT" => self.setting()?,
                "PRAGMA" | "ANALYZE" | "SAVEPOINT" | "RELEASE" | "VACUUM" | "REINDEX" => self.skip()?,
                "ATTACH" | "DETACH" | "EXPLAIN" => {
                    self.outline.ignored += 1;
                    self.skip()?;
                }
                other => {
                    return Err(self
                        .tokens
                        .damaged(&format!("{} begins no statement of a dump", other.escape_debug())));
                }
            },
            _ => return Err(self.tokens.damaged("this is no SQL")),
        }
        Ok(true)
    }

    fn skip(&mut self) -> Result<()> {
        while self.token(false)? != Token::Sign(b';') {}
        Ok(())
    }

    /// `SET …` and `SELECT pg_catalog.set_config…` are how dumps of other systems begin.
    fn setting(&mut self) -> Result<()> {
        let word = self.token(false)?;
        if word.is("pg_catalog")
            || word.is("statement_timeout")
            || word.is("lock_timeout")
            || word.is("client_encoding")
        {
            return Err(foreign("PostgreSQL"));
        }
        self.outline.ignored += 1;
        if word == Token::Sign(b';') { Ok(()) } else { self.skip() }
    }

    /// Rows that are changed after they were written are not what the dump's rows say.
    fn change(&mut self, listener: &dyn Listener, verb: &str) -> Result<()> {
        let mut dropped = None;
        loop {
            match self.token(false)? {
                Token::Sign(b';') => break,
                Token::Word(name) | Token::Quoted(name) if listener.matters(&name) => dropped = Some(name),
                _ => {}
            }
        }
        let Some(table) = dropped else { return Ok(()) };
        // `DROP TABLE IF EXISTS` before the table is made is common.
        if verb.eq_ignore_ascii_case("DROP") && !self.outline.tables.contains_key(&table.to_ascii_lowercase()) {
            return Ok(());
        }
        Err(Error::usage(format!("the dump changes {table} after writing it ({})", verb.to_ascii_uppercase()))
            .hint("Import it into an empty database with `sqlite3`, and use that file."))
    }

    fn create(&mut self, listener: &dyn Listener) -> Result<()> {
        let mut kind = self.token(false)?;
        let mut temporary = false;
        while ["TEMP", "TEMPORARY", "UNIQUE", "VIRTUAL", "OR"].iter().any(|k| kind.is(k)) || kind.is("REPLACE") {
            if kind.is("VIRTUAL") {
                self.token(false)?;
                return self.pretender(listener, "a virtual table");
            }
            temporary |= kind.is("TEMP") || kind.is("TEMPORARY");
            kind = self.token(false)?;
        }
        if kind.is("TRIGGER") {
            return self.skip_trigger(listener);
        }
        if kind.is("VIEW") {
            return self.pretender(listener, "a view");
        }
        if !kind.is("TABLE") {
            return if kind == Token::Sign(b';') { Ok(()) } else { self.skip() };
        }
        let (table, after) = self.table_name()?;
        if temporary && listener.matters(&table) {
            return Err(Error::not_authentic(format!("{table} is a temporary table in this dump"))
                .hint("It hides the application's own: what it shows is not what is stored."));
        }
        if after != Token::Sign(b'(') {
            // CREATE TABLE … AS SELECT: its rows are computed, and nobody knows them here.
            if listener.matters(&table) {
                return Err(self.tokens.damaged(&format!("{table} is made from a query")));
            }
            return if after == Token::Sign(b';') { Ok(()) } else { self.skip() };
        }
        let columns = self.columns()?;
        self.skip()?;
        let name = table.to_ascii_lowercase();
        if !self.outline.tables.contains_key(&name) {
            self.room.take(2 * table.len())?;
            columns.iter().try_for_each(|column| self.room.take(column.len()))?;
            self.outline.tables.insert(name, (table, Rc::new(columns)));
        }
        Ok(())
    }

    /// A view or virtual table; one under the name of a table that matters is refused.
    fn pretender(&mut self, listener: &dyn Listener, what: &str) -> Result<()> {
        let (name, after) = self.table_name()?;
        if listener.matters(&name) {
            return Err(Error::not_authentic(format!(
                "{name} is {what} in this dump, and the application's is a table"
            ))
            .hint("Somebody changed the schema: what it shows is not what is stored."));
        }
        if after == Token::Sign(b';') { Ok(()) } else { self.skip() }
    }

    /// A trigger's body holds statements; it ends with `; END ;`, as `sqlite3_complete()` knows it.
    fn skip_trigger(&mut self, listener: &dyn Listener) -> Result<()> {
        let mut last = [false, false];
        loop {
            let token = self.token(false)?;
            if let Token::Word(name) | Token::Quoted(name) = &token {
                self.triggers |= listener.matters(name);
            }
            let semicolon = token == Token::Sign(b';');
            if semicolon && last == [true, true] {
                return Ok(());
            }
            last = if semicolon { [true, false] } else { [last[0] && !last[1] && token.is("END"), token.is("END")] };
        }
    }

    /// `[IF NOT EXISTS] [schema.]name`, and the token behind it.
    fn table_name(&mut self) -> Result<(String, Token)> {
        let mut name = self.token(true)?;
        if name.is("IF") {
            self.token(true)?;
            self.token(true)?;
            name = self.token(true)?;
        }
        let mut after = self.token(true)?;
        if after == Token::Sign(b'.') {
            let schema = self.named(name)?;
            name = self.token(true)?;
            after = self.token(true)?;
            if !schema.eq_ignore_ascii_case("main") {
                // A table of the same name elsewhere, such as a temporary one, is another table.
                return Ok((format!("{schema}.{}", self.named(name)?), after));
            }
        }
        Ok((self.named(name)?, after))
    }

    fn named(&self, token: Token) -> Result<String> {
        match token {
            Token::Word(name) | Token::Quoted(name) => Ok(name),
            // SQLite takes 'text' for a name where only a name can stand.
            Token::Text(literal) => {
                String::from_utf8(literal.bytes).map_err(|_| self.tokens.damaged("a name that is not UTF-8"))
            }
            _ => Err(self.tokens.damaged("a name is missing")),
        }
    }

    /// The column names of a CREATE TABLE, up to its closing parenthesis.
    fn columns(&mut self) -> Result<Vec<String>> {
        let (mut columns, mut depth, mut begins, mut done) = (Vec::new(), 0_u32, true, false);
        loop {
            // Names may stand in '…' too, so text is kept.
            match self.token(begins)? {
                Token::Sign(b')') if depth == 0 => return Ok(columns),
                Token::Sign(b')') => depth -= 1,
                Token::Sign(b'(') => depth += 1,
                Token::Sign(b',') if depth == 0 => begins = true,
                Token::Sign(b';') => return Err(self.tokens.damaged("a CREATE TABLE without its closing parenthesis")),
                token if begins => {
                    begins = false;
                    // Constraints of the table come after every column.
                    done |= ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"].iter().any(|k| token.is(k));
                    if !done {
                        columns.push(self.named(token)?);
                    }
                    if columns.len() > MAX_COLUMNS {
                        return Err(self.tokens.damaged("a table of more than 2000 columns"));
                    }
                }
                _ => {}
            }
        }
    }

    fn insert(&mut self, listener: &mut dyn Listener, replace: bool) -> Result<()> {
        let mut token = self.token(false)?;
        if !replace {
            while token.is("OR") || ["REPLACE", "IGNORE", "ABORT", "FAIL", "ROLLBACK"].iter().any(|k| token.is(k)) {
                token = self.token(false)?;
            }
        }
        if !token.is("INTO") {
            return Err(self.tokens.damaged("INSERT without INTO"));
        }
        let (table, mut after) = self.table_name()?;
        let listed = if after == Token::Sign(b'(') {
            let columns = self.columns()?;
            after = self.token(false)?;
            Some(columns)
        } else {
            None
        };
        if self.triggers {
            return Err(Error::usage(format!(
                "the dump makes triggers before it writes {table}, and they may change what was written"
            ))
            .hint("Import it into an empty database with `sqlite3`, and use that file."));
        }
        if !after.is("VALUES") {
            if listener.matters(&table) {
                return Err(self.tokens.damaged(&format!("rows of {table} come from a query and not from values")));
            }
            return if after == Token::Sign(b';') { Ok(()) } else { self.skip() };
        }
        let made = self.outline.tables.get(&table.to_ascii_lowercase());
        let columns = match (listed, made) {
            (Some(columns), _) => Rc::new(columns),
            (None, Some((_, columns))) => Rc::clone(columns),
            (None, None) if listener.matters(&table) => {
                return Err(self.tokens.damaged(&format!(
                    "rows of {table} come before its CREATE TABLE, so nobody knows which column is which"
                )));
            }
            (None, None) => Rc::default(),
        };
        let wanted = if columns.is_empty() { None } else { listener.rows_of(&table, &columns)? };
        self.rows(listener, &table, &columns, wanted.as_deref())
    }

    fn rows(
        &mut self,
        listener: &mut dyn Listener,
        table: &str,
        columns: &[String],
        wanted: Option<&[bool]>,
    ) -> Result<()> {
        loop {
            if self.token(false)? != Token::Sign(b'(') {
                return Err(self.tokens.damaged("a row does not begin with a parenthesis"));
            }
            match wanted {
                None => {
                    self.skip_row()?;
                    listener.skipped_row(table)?;
                }
                Some(wanted) => {
                    let values = self.row(table, columns, wanted)?;
                    listener.row(table, columns, &values)?;
                }
            }
            match self.token(false)? {
                Token::Sign(b',') => {}
                Token::Sign(b';') => return Ok(()),
                // ON CONFLICT, RETURNING: no dump writes them, and they change what a row means.
                _ => return Err(self.tokens.damaged("something follows the rows of an INSERT")),
            }
        }
    }

    fn skip_row(&mut self) -> Result<()> {
        let mut depth = 0_u32;
        loop {
            match self.token(false)? {
                Token::Sign(b')') if depth == 0 => return Ok(()),
                Token::Sign(b')') => depth -= 1,
                Token::Sign(b'(') => depth += 1,
                Token::Sign(b';') => return Err(self.tokens.damaged("a row without its closing parenthesis")),
                _ => {}
            }
        }
    }

    fn row(&mut self, table: &str, columns: &[String], wanted: &[bool]) -> Result<Vec<Value>> {
        let (mut values, mut kept) = (Vec::with_capacity(columns.len()), 0);
        loop {
            let keep = wanted.get(values.len()).copied().unwrap_or(false) && kept < MAX_ROW;
            let (value, end) = value::read(&mut self.tokens, keep)?;
            kept += value.length();
            values.push(value);
            if values.len() > columns.len() || (end == b')' && values.len() < columns.len()) {
                return Err(self.tokens.damaged(&format!("a row of {table} has not its {} values", columns.len())));
            }
            if end == b')' {
                return Ok(values);
            }
        }
    }
}

/// The error for a dump of another system.
pub(super) fn foreign(system: &str) -> Error {
    let what = if system == "PostgreSQL" { " without the first lines that pg_dump writes" } else { "" };
    Error::usage(format!("{system} dumps are not read{what}"))
        .hint("Restore it into a scratch database and prove that, or give a file of SQLite or pg_dump.")
}
