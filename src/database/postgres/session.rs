//! One session of the database, held open through `psql` in machine-readable mode.
//!
//! Queries are `COPY (…) TO STDOUT`, which streams and escapes everything; each answer ends with a line that nobody can
//! guess and that carries `psql`'s own verdict. SQL goes in on standard input: nothing of it is in an argument.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::fault;
use super::link::Link;
use crate::database::pgdump::copy::Fields;
use crate::ground::{Error, Kind, Result, names};

/// The longest answer line; a row of suspects is the longest there is.
const MAX_LINE: u64 = 256 << 20;
/// How much of what a program says on stderr is kept.
const TAIL: usize = 8192;

/// What our reading of answers, and psql's reading of what we ask, rests on.
const SETTINGS: &str = "SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; \
    SET client_min_messages = warning; SET DateStyle = ISO; SET bytea_output = hex;";

/// A session.
pub(super) struct Session {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    said: Said,
    marker: String,
    what: String,
    in_transaction: bool,
}

/// The end of what a program says on stderr, collected beside its work.
#[derive(Clone, Default)]
pub(super) struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    /// Collects until the stream ends.
    pub(super) fn listen(&self, mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<()> {
        let tail = Arc::clone(&self.0);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut chunk) {
                let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                tail.extend_from_slice(&chunk[..n]);
                let excess = tail.len().saturating_sub(TAIL);
                tail.drain(..excess);
            }
        })
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).trim().to_owned()
    }
}

/// How one statement ended.
struct Verdict {
    failed: bool,
    code: String,
    message: String,
}

impl Session {
    /// Connects; the session ends when this is dropped.
    pub(super) fn open(link: &Link, purpose: &str) -> Result<Self> {
        let what = link.url.to_string();
        let mut command = link.command(
            "psql",
            purpose,
            &["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=VERBOSITY=verbose"],
        );
        command.stdin(std::process::Stdio::piped());
        let mut child = command.spawn().map_err(|e| link.not_started("psql", e))?;
        let gone = || Error::failed("psql has no standard streams");
        let (input, output) = (child.stdin.take().ok_or_else(gone)?, child.stdout.take().ok_or_else(gone)?);
        let said = Said::default();
        said.listen(child.stderr.take().ok_or_else(gone)?);
        let mut session = Self {
            child,
            input: Some(input),
            output: BufReader::with_capacity(256 << 10, output),
            said,
            marker: format!("strongroom-{}", names::hex(&names::random::<16>()?)),
            what,
            in_transaction: false,
        };
        session.run(SETTINGS)?;
        Ok(session)
    }

    /// Begins a transaction that only reads one moment, with nothing that could hide rows from it or end it.
    pub(super) fn begin_reading(&mut self) -> Result<()> {
        self.begin("ISOLATION LEVEL REPEATABLE READ READ ONLY", "0")
    }

    /// Begins a transaction that writes: what it locks it sees as it then is, it waits for no lock for ever, and its commit is durable.
    pub(super) fn begin_writing(&mut self) -> Result<()> {
        self.begin("ISOLATION LEVEL READ COMMITTED READ WRITE", "'30s'")?;
        self.run("SET LOCAL synchronous_commit = on;")
    }

    fn begin(&mut self, how: &str, lock_timeout: &str) -> Result<()> {
        self.run(&format!("BEGIN {how};"))?;
        self.in_transaction = true;
        self.run(&format!(
            "SET LOCAL row_security = off; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = {lock_timeout}; \
             SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL search_path = pg_catalog;"
        ))?;
        // Once more, because a pooler may have given this transaction another connection than the one above.
        self.run(&SETTINGS.replace("SET ", "SET LOCAL "))?;
        // A setting of version 17 that ends long transactions; it must not end this one.
        self.run("SELECT set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout';")
    }

    /// Ends a transaction that wrote; without an error the server said yes, which is believed of [`Session::fate`] only.
    pub(super) fn commit(&mut self) -> Result<()> {
        self.in_transaction = false;
        self.run("COMMIT;")
    }

    /// What became of a transaction: `committed`, `aborted` or `in progress`.
    pub(super) fn fate(&mut self, transaction: &str) -> Result<String> {
        let fate = self.row(&format!("SELECT pg_catalog.pg_xact_status({}::pg_catalog.xid8)", literal(transaction)))?;
        Ok(fate.into_iter().next().flatten().unwrap_or_default())
    }

    /// Runs statements whose answers are of no interest.
    pub(super) fn run(&mut self, sql: &str) -> Result<()> {
        let verdict = self.ask(sql, &mut |_| Ok(()))?;
        self.judge(&verdict)
    }

    /// Hands the rows of a query to `visit`.
    pub(super) fn query(&mut self, sql: &str, visit: &mut dyn FnMut(&Fields) -> Result<()>) -> Result<()> {
        let own = !self.in_transaction;
        if own {
            self.run("BEGIN;")?;
        }
        let mut fields = Fields::default();
        let mut wrong = None;
        let verdict = self.ask(&format!("COPY ({sql}) TO STDOUT;"), &mut |line| {
            // After an error of ours the rest is read all the same, so that the session stays usable.
            if wrong.is_none() {
                wrong = fields.read(line).and_then(|()| visit(&fields)).err();
            }
            Ok(())
        })?;
        // Older psql do not notice a COPY that failed halfway; the transaction that it broke does.
        let after = self.ask("SELECT WHERE false;", &mut |_| Ok(()))?;
        let done = self.judge(&verdict).and_then(|()| if after.failed { Err(self.halfway(&after)) } else { Ok(()) });
        if let Err(error) = done {
            if own {
                // Or nothing could be asked in this session any more.
                let _ = self.run("ROLLBACK;");
            }
            return Err(error);
        }
        if own {
            self.run("COMMIT;")?;
        }
        wrong.map_or(Ok(()), Err)
    }

    /// The one row that a query has, as text; an error when it has none or several.
    pub(super) fn row(&mut self, sql: &str) -> Result<Vec<Option<String>>> {
        let mut rows = self.rows(sql)?;
        match rows.len() {
            1 => Ok(rows.remove(0)),
            n => Err(Error::failed(format!("{}: a query that has one row has {n}", self.what))),
        }
    }

    /// All rows of a small query, as text.
    pub(super) fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let mut rows = Vec::new();
        self.query(sql, &mut |fields| {
            let text = |i| fields.get(i).map(|b| String::from_utf8_lossy(b).into_owned());
            rows.push((0..fields.len()).map(text).collect());
            Ok(())
        })?;
        Ok(rows)
    }

    fn judge(&self, verdict: &Verdict) -> Result<()> {
        if !verdict.failed {
            return Ok(());
        }
        if verdict.code == "25P02" || verdict.code.is_empty() {
            return Err(self.halfway(verdict));
        }
        Err(fault::coded(&self.what, &verdict.code, &verdict.message))
    }

    /// The error behind a broken transaction, which only stderr has told.
    fn halfway(&self, verdict: &Verdict) -> Error {
        let begun = Instant::now();
        loop {
            let said = self.said.text();
            let first = said
                .lines()
                .rev()
                .filter_map(|l| l.split_once("ERROR:  ").and_then(|(_, rest)| rest.split_once(": ")))
                .find(|(code, _)| code.len() == 5 && *code != "25P02");
            if let Some((code, message)) = first {
                return fault::coded(&self.what, code, message);
            }
            // Standard error comes by another way and may be a moment late.
            if begun.elapsed() > Duration::from_millis(500) {
                return fault::coded(&self.what, &verdict.code, &verdict.message);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn ask(&mut self, sql: &str, visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<Verdict> {
        let end = format!("{}.", self.marker);
        let text = format!("{sql}\n\\echo {} :ERROR :SQLSTATE :LAST_ERROR_MESSAGE\n\\echo {end}\n", self.marker);
        let sent = match self.input.as_mut() {
            Some(input) => input.write_all(text.as_bytes()).and_then(|()| input.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        if sent.is_err() {
            return Err(self.lost());
        }
        let (mut line, mut verdict) = (Vec::new(), None::<Verdict>);
        loop {
            line.clear();
            let read = (&mut self.output).take(MAX_LINE).read_until(b'\n', &mut line).unwrap_or(0);
            if read == 0 {
                return Err(self.lost());
            }
            if line.pop() != Some(b'\n') {
                return Err(Error::failed(format!("{}: an answer without an end", self.what)));
            }
            if line == end.as_bytes() {
                return verdict.ok_or_else(|| Error::failed(format!("{}: psql gave no verdict", self.what)));
            }
            if let Some(verdict) = &mut verdict {
                verdict.message.push('\n');
                verdict.message.push_str(&String::from_utf8_lossy(&line));
            } else if let Some(rest) = line.strip_prefix(self.marker.as_bytes()) {
                let text = String::from_utf8_lossy(rest);
                let mut words = text.trim_start_matches(' ').splitn(3, ' ');
                let failed = words.next() != Some("false");
                let code = words.next().unwrap_or_default().to_owned();
                verdict = Some(Verdict { failed, code, message: words.next().unwrap_or_default().to_owned() });
            } else {
                visit(&line)?;
            }
        }
    }

    /// The error for a session that has ended.
    fn lost(&mut self) -> Error {
        self.input = None;
        let begun = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status.to_string(),
                _ if begun.elapsed() > Duration::from_secs(5) => {
                    let _ = self.child.kill();
                    break "it did not end".to_owned();
                }
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        std::thread::sleep(Duration::from_millis(20));
        let error = fault::ended(&self.what, "psql", &self.said.text(), &status);
        if error.kind() == Kind::Failed { error.with_kind(Kind::Unreachable) } else { error }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The end of its input is the end of psql, which says goodbye to the server properly.
        self.input = None;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                _ => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A name as SQL takes it, whatever it holds.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL takes it, whatever it holds.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
