//! `pg_dump` and `pg_dumpall`, read as they write, and checked before their last byte is believed.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::process::{Child, ChildStdout, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::fault;
use super::link::Link;
use super::session::Said;
use crate::database::pgdump::{self, Nobody, Outline};
use crate::ground::{Error, Result};

/// How much of globals is kept: a cluster with a hundred thousand roles has less.
const MAX_GLOBALS: u64 = 64 << 20;

/// How long a pipe is left to fill: far less than a mebibyte takes.
const FILLING: Duration = Duration::from_micros(300);

/// What the programs said besides their output, although they ended well.
pub(super) type Remarks = Arc<Mutex<Vec<String>>>;

/// Long blocks of a dump that was written.
pub(super) type Blocks = Arc<Mutex<Vec<(i64, Range<u64>)>>>;

/// A program's output; the end without an error means that it ended well and wrote what it should.
pub(super) struct Output {
    state: State,
    program: &'static str,
    what: String,
    remarks: Remarks,
}

enum State {
    Running(Box<Running>),
    Ended,
}

pub(super) struct Running {
    child: Child,
    output: ChildStdout,
    /// Whether the pipe holds so much that reading it can wait.
    wide: bool,
    said: Said,
    listener: Option<JoinHandle<()>>,
    check: Option<Check>,
}

/// Reads the same bytes on a thread of its own, and compares what they hold.
struct Check {
    sender: Option<Sender<Vec<u8>>>,
    reader: Option<JoinHandle<Result<Outline>>>,
    rows: Option<BTreeMap<String, u64>>,
    blocks: Blocks,
}

/// Bytes that come over a channel.
struct Received {
    receiver: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.chunk.len() {
            match self.receiver.recv() {
                Ok(chunk) => (self.chunk, self.at) = (chunk, 0),
                Err(_) => return Ok(0),
            }
        }
        let n = buffer.len().min(self.chunk.len() - self.at);
        buffer[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

impl Check {
    fn begin(rows: Option<BTreeMap<String, u64>>, blocks: &Blocks) -> Self {
        let (sender, receiver) = bounded(8);
        let input = Received { receiver, chunk: Vec::new(), at: 0 };
        let reader = std::thread::spawn(move || pgdump::custom(input, "the dump", &mut Nobody));
        Self { sender: Some(sender), reader: Some(reader), rows, blocks: Arc::clone(blocks) }
    }

    /// Hands bytes over; false when the reader has found something wrong.
    fn feed(&mut self, bytes: &[u8]) -> bool {
        self.sender.as_ref().is_some_and(|sender| sender.send(bytes.to_vec()).is_ok())
    }

    fn end(&mut self) -> Result<()> {
        self.sender = None;
        let Some(reader) = self.reader.take() else { return Ok(()) };
        let outline = reader.join().map_err(|_| Error::failed("the thread that reads the dump has panicked"))??;
        let Some(expected) = &self.rows else { return Ok(()) };
        let found = outline.counts();
        if found == *expected {
            *self.blocks.lock().unwrap_or_else(PoisonError::into_inner) = outline.blocks;
            return Ok(());
        }
        let differs = expected.iter().find(|(table, rows)| found.get(*table) != Some(rows));
        let (table, rows) = differs.map_or(("a table that was not counted", 0), |(t, n)| (t.as_str(), *n));
        Err(Error::damaged(format!(
            "the dump has {} rows of {table}, and the snapshot {rows}",
            found.get(table).map_or_else(|| "no".to_owned(), u64::to_string)
        ))
        .hint("pg_dump and the proof did not see the same: this is a fault, please report it."))
    }
}

fn start(link: &Link, program: &'static str, mut command: Command, check: Option<Check>) -> Result<Running> {
    let mut child = command.spawn().map_err(|e| link.not_started(program, e))?;
    let gone = || Error::failed(format!("{program} has no standard streams"));
    let output = child.stdout.take().ok_or_else(gone)?;
    let wide = super::link::widen(&output);
    let said = Said::default();
    let listener = Some(said.listen(child.stderr.take().ok_or_else(gone)?));
    Ok(Running { child, output, wide, said, listener, check })
}

impl Output {
    /// `pg_dump` in custom format, uncompressed, of this snapshot; with `rows` its tables must have so many.
    ///
    /// It begins at once: what it has to find out before its first byte, it finds out while another dump is stored.
    pub(super) fn pg_dump(
        link: &Link,
        snapshot: &str,
        more: &[&str],
        rows: Option<BTreeMap<String, u64>>,
        (blocks, remarks): (&Blocks, &Remarks),
    ) -> Result<Self> {
        let snapshot = format!("--snapshot={snapshot}");
        let mut arguments = vec!["--format=custom", "--compress=0", snapshot.as_str()];
        arguments.extend(more);
        let command = link.command("pg_dump", "backup", &arguments);
        let running = start(link, "pg_dump", command, Some(Check::begin(rows, blocks)))?;
        Ok(Self {
            state: State::Running(Box::new(running)),
            program: "pg_dump",
            what: link.url.to_string(),
            remarks: Arc::clone(remarks),
        })
    }

    fn end(&mut self, mut running: Running) -> Result<()> {
        let status = running.child.wait().map_err(|e| Error::failed("cannot wait for a program").because(e))?;
        if let Some(listener) = running.listener.take() {
            let _ = listener.join();
        }
        let said = running.said.text();
        if !status.success() {
            return Err(fault::ended(&self.what, self.program, &said, &status.to_string()));
        }
        if let Some(check) = &mut running.check {
            check.end()?;
        }
        if !said.is_empty() {
            self.remarks.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{}: {said}", self.program));
        }
        Ok(())
    }

    fn some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => Ok(0),
            State::Running(mut running) => {
                let read = running
                    .gather(buffer)
                    .map_err(|e| Error::failed(format!("cannot read from {}", self.program)).because(e))?;
                if read == 0 {
                    return self.end(*running).map(|()| 0);
                }
                if let Some(check) = &mut running.check
                    && !check.feed(&buffer[..read])
                {
                    let _ = running.child.kill();
                    let _ = running.child.wait();
                    check.end()?;
                }
                self.state = State::Running(running);
                Ok(read)
            }
        }
    }
}

impl Running {
    /// Reads as much as fits, or what is left before the end.
    ///
    /// `pg_dump` writes 4 KiB at a time: a reader that waits for each would have both of them woken up for it, and what they
    /// and the compressing threads lose by that is a fifth of a backup's time. So the pipe is left to fill a little.
    fn gather(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.output.read(&mut buffer[read..]) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            if !self.wide {
                break;
            }
            if read < buffer.len() {
                std::thread::sleep(FILLING);
            }
        }
        Ok(read)
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.some(buffer).map_err(Error::into_io)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever does not read to the end does not want the rest; after the end this does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Roles and tablespaces, with the roles' passwords where this user may read them; `None` where it may read nothing of it.
pub(super) fn globals(link: &Link, remarks: &Remarks) -> Result<Option<Vec<u8>>> {
    let mut last = None;
    for more in [&["--globals-only"][..], &["--globals-only", "--no-role-passwords"]] {
        // Otherwise it would look for a database of its own choice, which a pooler or a provider may not have.
        let database = link.url.get("dbname").map(|name| format!("--database={name}"));
        let arguments: Vec<&str> = more.iter().copied().chain(database.as_deref()).collect();
        let command = link.command("pg_dumpall", "backup", &arguments);
        let mut running = start(link, "pg_dumpall", command, None)?;
        let mut text = Vec::new();
        (&mut running.output)
            .take(MAX_GLOBALS)
            .read_to_end(&mut text)
            .map_err(|e| Error::failed("cannot read from pg_dumpall").because(e))?;
        let status = running.child.wait().map_err(|e| Error::failed("cannot wait for a program").because(e))?;
        let whole = String::from_utf8_lossy(&text[text.len().saturating_sub(400)..])
            .contains("-- PostgreSQL database cluster dump complete");
        if status.success() && whole {
            return Ok(Some(text));
        }
        if let Some(listener) = running.listener.take() {
            let _ = listener.join();
        }
        let said = running.said.text();
        let error = fault::ended(&link.url.to_string(), "pg_dumpall", &said, &status.to_string());
        if status.success() {
            return Err(Error::damaged("pg_dumpall ended before it said that it was complete"));
        }
        last = Some(error);
    }
    if let Some(error) = last {
        let mut remarks = remarks.lock().unwrap_or_else(PoisonError::into_inner);
        remarks.push(format!("roles and tablespaces are not in the bundle: {}", error.chain()));
    }
    Ok(None)
}
