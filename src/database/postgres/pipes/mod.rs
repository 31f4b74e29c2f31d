//! A dump in a bundle given to one `pg_restore` as a directory of named pipes.
//!
//! From a directory it restores tables side by side, in an order of its own, and builds the indexes of one while it loads the
//! next. It opens a file when it wants a table; that pipe is filled then, so nothing waits for what was not asked for, and no row
//! is ever on a disk. An open pipe that ends too early looks to it like the end of a table: so nothing counts but that
//! every table was asked for and given to its end, that `pg_restore` is content, and that the dump's digest is right.

mod room;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use self::room::Room;
use super::feed;
use super::link::{Link, widen};
use super::session::Said;
use crate::database::Content;
use crate::database::pgdump::{Data, Directory, Known, Reader};
use crate::ground::beside::Stop;
use crate::ground::progress::{Progress, Unit};
use crate::ground::{Error, Result, durable, interrupt};

const DUMP: &str = "database.pgdump";

/// How often pipes are looked at: while one may be opened any moment, and while that may take longer.
const SOON: Duration = Duration::from_millis(1);
const LATER: Duration = Duration::from_millis(8);

/// So many pipes are looked at each time; the others much more seldom, because nothing is known that makes them the next.
const NEXT: usize = 8;

/// How long `pg_restore` may take to end when it was told to.
const GRACE: Duration = Duration::from_secs(5);

/// A pipe that nobody has opened yet.
struct Waiting<'a> {
    path: PathBuf,
    /// What it is to be filled with; the table of contents if nothing.
    data: Option<&'a Data>,
}

/// What the threads tell each other.
#[derive(Default)]
struct State {
    /// Pipes that were filled to the end.
    whole: AtomicUsize,
    /// The dump's digest is the right one.
    right: AtomicBool,
    /// Somebody has failed: nothing is filled any more.
    stopped: Stop,
    first: Mutex<Option<Error>>,
}

impl State {
    /// The first error says why; others come of it.
    fn fail(&self, error: Error) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stopped.set();
    }

    fn stopped(&self) -> bool {
        self.stopped.is_set()
    }
}

/// Restores a dump, all of it, with so many sessions.
pub(super) fn restore(
    link: &Link,
    directory: &Directory,
    dump: Box<dyn Content>,
    jobs: usize,
    progress: &dyn Progress,
) -> Result<()> {
    let room = Room::new(link)?;
    let folder = room.scratch.folder();
    let contents = std::iter::once(Waiting { path: folder.join("toc.dat"), data: None });
    let data = directory.data.iter().map(|data| Waiting { path: folder.join(&data.file), data: Some(data) });
    let pipes: Vec<_> = contents.chain(data).collect();
    for pipe in &pipes {
        mknodat(CWD, &pipe.path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .map_err(|e| Error::io("create", &pipe.path, e.into()))?;
    }
    let known = Known::of(directory);
    let mut readers = Vec::new();
    for _ in 0..jobs {
        readers.push(Reader::new(dump.beside()?, DUMP, &known)?);
    }
    let (jobs, shown) = (format!("--jobs={jobs}"), folder.display().to_string());
    let mut command = feed::command(link, &["--format=directory", &jobs, &shown]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().map_err(|e| link.not_started("pg_restore", e))?;
    let said = Said::default();
    let listener = child.stderr.take().map(|stderr| said.listen(stderr));

    let (state, all) = (State::default(), pipes.len());
    let (asked, wanted) = unbounded();
    let status = std::thread::scope(|scope| {
        let state = &state;
        scope.spawn(move || match dump.settle(&state.stopped) {
            Ok(right) => state.right.store(right, Ordering::Release),
            Err(error) => state.fail(error),
        });
        for reader in readers {
            let wanted = wanted.clone();
            scope.spawn(move || fill_all(reader, &wanted, &directory.contents, state, progress));
        }
        let mut watch = Watch { pipes, asked, state, all, swept: Instant::now() };
        watch.until_it_ends(&mut child, progress)
    });
    if let Some(listener) = listener {
        // Its workers have the pipe too; none of them outlives what it waits for by much.
        let ended = Instant::now();
        while !listener.is_finished() && ended.elapsed() < GRACE {
            std::thread::sleep(SOON);
        }
    }
    if let Some(error) = state.first.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(error);
    }
    let whole =
        state.whole.load(Ordering::Acquire) == all && state.right.load(Ordering::Acquire) && known.whole(directory);
    feed::verdict(link, status?, &said, whole)
}

/// Looks which pipes are opened, and to the program that opens them.
struct Watch<'a> {
    pipes: Vec<Waiting<'a>>,
    asked: Sender<(Option<&'a Data>, File)>,
    state: &'a State,
    all: usize,
    /// When all pipes were looked at.
    swept: Instant,
}

impl Watch<'_> {
    /// Fills what is asked for until the program has ended, and ends it when that has become useless.
    fn until_it_ends(&mut self, child: &mut Child, progress: &dyn Progress) -> Result<ExitStatus> {
        let (mut told, mut quiet) = (false, 0_u32);
        loop {
            if let Err(error) = interrupt::check() {
                self.state.fail(error);
            }
            if self.state.stopped() {
                return self.end(child);
            }
            if let Some(status) =
                child.try_wait().map_err(|e| Error::failed("cannot wait for pg_restore").because(e))?
            {
                if !status.success() {
                    // Whoever fills a pipe for one of its workers is told to stop, and they to go on.
                    self.state.stopped.set();
                    self.unblock();
                }
                return Ok(status);
            }
            match self.look() {
                Ok(0) => quiet = quiet.saturating_add(1),
                Ok(_) => quiet = 0,
                Err(error) => self.state.fail(error),
            }
            if !told && self.state.whole.load(Ordering::Acquire) == self.all {
                progress.stage("build indexes", None, Unit::Items);
                told = true;
            }
            std::thread::sleep(match quiet {
                _ if told => LATER,
                // Small tables come one after the other.
                0 => SOON / 8,
                1..100 => SOON,
                _ => LATER,
            });
        }
    }

    /// Hands over the pipes that somebody has opened; answers how many.
    fn look(&mut self) -> Result<usize> {
        let begun = Instant::now();
        // All of them for at most a twentieth of the time.
        let everywhere =
            self.swept.elapsed() > Duration::from_millis(20).max(Duration::from_micros(40 * self.pipes.len() as u64));
        let most = if everywhere { self.pipes.len() } else { NEXT.min(self.pipes.len()) };
        if everywhere {
            self.swept = begun;
        }
        let (mut at, mut found) = (0, 0);
        for _ in 0..most {
            let pipe = &self.pipes[at];
            match OpenOptions::new().write(true).custom_flags(durable::AT_ONCE).open(&pipe.path) {
                Ok(file) => {
                    let pipe = self.pipes.remove(at);
                    // Whoever came a second time would wait for ever.
                    std::fs::remove_file(&pipe.path).map_err(|e| Error::io("remove", &pipe.path, e))?;
                    self.asked
                        .send((pipe.data, file))
                        .map_err(|_| Error::failed("a thread that fills pipes has ended"))?;
                    found += 1;
                }
                // Nobody reads from it.
                Err(e) if e.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => at += 1,
                Err(e) => return Err(Error::io("open", &pipe.path, e)),
            }
        }
        Ok(found)
    }

    /// Ends the program: it ends its workers, and those that wait in `open` are let out.
    fn end(&self, child: &mut Child) -> Result<ExitStatus> {
        let failed = |e| Error::failed("cannot wait for pg_restore").because(e);
        let _ = kill_process(Pid::from_child(child), Signal::TERM);
        let begun = Instant::now();
        self.unblock();
        loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                return Ok(status);
            }
            if begun.elapsed() > GRACE {
                let _ = child.kill();
                return child.wait().map_err(failed);
            }
            std::thread::sleep(LATER);
        }
    }

    /// Lets those out that wait in `open`, and those that come find nothing.
    fn unblock(&self) {
        for some in self.pipes.chunks(100) {
            let held = some.iter().map(|pipe| {
                let held = OpenOptions::new().read(true).write(true).custom_flags(durable::AT_ONCE).open(&pipe.path);
                let _ = std::fs::remove_file(&pipe.path);
                held
            });
            let held: Vec<_> = held.collect();
            // Who has found the name and does not wait yet is about to.
            std::thread::sleep(SOON);
            drop(held);
        }
    }
}

/// Fills the pipes that are asked for, one after the other.
fn fill_all(
    mut reader: Reader<'_>,
    wanted: &Receiver<(Option<&Data>, File)>,
    contents: &[u8],
    state: &State,
    progress: &dyn Progress,
) {
    for (data, pipe) in wanted {
        let nap = if widen(&pipe) { SOON } else { SOON / 8 };
        let mut pipe = Pipe { end: pipe, nap, state, gone: false };
        let done = match data {
            None => pipe.put(contents),
            Some(data) => reader.give(data, &mut |piece| {
                pipe.put(piece)?;
                progress.advance(piece.len() as u64);
                Ok(())
            }),
        };
        match done {
            Ok(()) => drop(state.whole.fetch_add(1, Ordering::AcqRel)),
            // When it stops reading, its own words say why.
            Err(_) if pipe.gone => {}
            Err(error) => state.fail(error),
        }
    }
}

/// The end of a pipe that is written to.
struct Pipe<'a> {
    end: File,
    /// How long to wait while it is full: not so long that it runs empty.
    nap: Duration,
    state: &'a State,
    /// It is not read to its end, or not to be filled to its end.
    gone: bool,
}

impl Pipe<'_> {
    fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        let mut nap = self.nap;
        while !bytes.is_empty() {
            if self.state.stopped() {
                self.gone = true;
                return Err(Error::failed("another part of the restore has failed"));
            }
            match self.end.write(bytes) {
                Ok(written) => (bytes, nap) = (&bytes[written..], self.nap),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(nap);
                    nap = (nap * 2).min(LATER);
                }
                Err(e) => {
                    self.gone = e.kind() == ErrorKind::BrokenPipe;
                    return Err(Error::failed("cannot write to pg_restore").because(e));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Cursor, Read};
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::link::PostgresOptions;
    use super::*;
    use crate::config::url::DatabaseUrl;
    use crate::database::Places;
    use crate::database::pgdump::{Beginning, tests::tables_only};
    use crate::ground::Kind;
    use crate::ground::progress::Silent;

    /// A dump that is what its bundle lists, or not, or nobody knows.
    struct Listed(Cursor<Vec<u8>>, std::result::Result<bool, Kind>);

    impl Read for Listed {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Content for Listed {
        fn beside(&self) -> Result<Box<dyn Places>> {
            Ok(Box::new(Cursor::new(self.0.get_ref().clone())))
        }

        fn settle(self: Box<Self>, _: &Stop) -> Result<bool> {
            self.1.map_err(|kind| Error::new(kind, "another file"))
        }
    }

    /// Restores three tables with a `pg_restore` that is this script; `$d` is the folder.
    fn with(script: &str, settled: std::result::Result<bool, Kind>) -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("pg_restore");
        let begin = "for a; do case $a in /*) d=$a;; esac; done; head -c 5 $d/toc.dat >/dev/null";
        std::fs::write(&program, format!("#!/bin/sh\n{begin}\n{script}\n")).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("set");
        let DatabaseUrl::Postgres(url) = DatabaseUrl::parse("postgres://app@/app", folder.path()).expect("a URL")
        else {
            panic!("another kind of database")
        };
        let options = PostgresOptions { programs: Some(folder.path().to_owned()), ..PostgresOptions::default() };
        let dump = Cursor::new(tables_only());
        let (beginning, _) = Beginning::read(Box::new(dump.clone()), "a test").expect("begun");
        let directory = Directory::of(&beginning, &BTreeMap::new(), &[]).expect("tables alone");
        restore(&Link { url, options }, &directory, Box::new(Listed(dump, settled)), 2, &Silent)
    }

    #[test]
    fn only_what_was_given_whole_and_is_the_listed_file_is_restored() {
        let all = "for f in $d/[0-9]*.dat; do cat $f >/dev/null; done";
        with(all, Ok(true)).expect("restored");
        let refused = |script: &str, settled| with(script, settled).expect_err(script).chain();
        assert!(refused(all, Ok(false)).contains("before it had read the whole dump"));
        assert!(refused(all, Err(Kind::Damaged)).contains("another file"));
        assert!(refused("cat $d/2.dat $d/5.dat >/dev/null", Ok(true)).contains("before it had read the whole dump"));
        // More of a table than a pipe holds, and it reads less.
        let part = "head -c 100 $d/2.dat >/dev/null; cat $d/5.dat $d/9.dat >/dev/null";
        let told = refused(&part.replace("head", "sleep 1; head"), Ok(true));
        assert!(told.contains("before it had read the whole dump") || told.contains("pipe"), "{told}");
    }
}
