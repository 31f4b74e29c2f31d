//! Executing a plan: folders, files under temporary names, one sync, names, looks, one sync.

use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::Serialize;

use super::todo::{Action, Todo};
use super::{Digests, ExtractOptions, ExtractPlan};
use crate::bundle::filelist::{FileLine, Place};
use crate::bundle::part::PartReader;
use crate::bundle::{Opened, PartName};
use crate::ground::beside::{Stop, beside};
use crate::ground::progress::{Progress, Unit};
use crate::ground::words::shown;
use crate::ground::{Error, Kind, Result, failpoint};
use crate::sealing::SealingKey;
use crate::storage::{Look, Owner, Standing, Target};

/// So many bytes are made to last while more are written, so that the disk works from the beginning.
const STRETCH: u64 = 64 << 20;

/// More workers than this would only wait for the disk, each with memory of its own.
const MOST: usize = 16;

/// So many files wait for their names.
const WAITING: usize = 256;

/// What was restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ExtractReport {
    /// Files that were written.
    pub written: u64,
    /// Bytes of them.
    pub bytes: u64,
}

fn look(line: &FileLine) -> Look {
    Look {
        kind: line.kind,
        mtime: line.mtime,
        mode: line.mode,
        uid: line.uid,
        gid: line.gid,
        target: line.target.clone(),
    }
}

/// Restores what the plan says. Killed anywhere, a new plan and run go on: what stands already right is not written again.
pub fn run(
    opened: &Opened<'_>,
    key: &SealingKey,
    target: &dyn Target,
    plan: &ExtractPlan,
    options: &ExtractOptions,
    progress: &dyn Progress,
) -> Result<ExtractReport> {
    let rollback = options.rollback_name();
    let rollback = rollback.as_deref();
    progress.stage("restore files", Some(plan.write_bytes), Unit::Bytes);
    target.need(plan.write_bytes)?;
    let lines = |action, visit: &mut dyn FnMut(FileLine) -> Result<()>| {
        plan.todo.each(action, false, &mut |_, line| line.map_or(Ok(()), &mut *visit))
    };
    if let Some(rollback) = rollback {
        target.begin_keeping(rollback)?;
    }
    // Only who undoes this must know what was made.
    let made = |path: &[u8]| if rollback.is_some() { plan.todo.made(path) } else { Ok(()) };
    let folders = |stop: &Stop| {
        lines(Action::Folder, &mut |line| {
            stop.check()?;
            target.folder(&line.path, rollback)?;
            made(&line.path)
        })
    };
    let files = || write_parts(opened, key, target, &plan.todo, options, progress);
    let report = if rollback.is_some() {
        folders(&Stop::default())?;
        files()?
    } else {
        // Nothing has to go out of the way first, and a file makes the folders above it where they are not there yet.
        beside(folders, files)?
    };
    lines(Action::Link, &mut |line| target.link(&line.path, &look(&line), options.owner))?;
    failpoint::pass("before the first sync of restored files");
    target.sync()?;
    failpoint::pass("after the first sync of restored files");
    publish(target, &plan.todo, rollback, &made)?;
    lines(Action::Link, &mut |line| {
        target.publish(&line.path, rollback)?;
        made(&line.path)
    })?;
    lines(Action::Dress, &mut |line| target.dress(&line.path, &look(&line), options.owner))?;
    if let Some(rollback) = rollback {
        plan.todo.each(Action::PutAway, false, &mut |path, _| match target.standing(path)? {
            // It went away with a folder that a file has replaced.
            Standing::Nothing => Ok(()),
            _ => target.put_away(path, rollback),
        })?;
    }
    // The deepest first: what is put into a folder changes its time.
    plan.todo.each(Action::Folder, true, &mut |_, line| {
        line.map_or(Ok(()), |line| target.dress(&line.path, &look(&line), options.owner))
    })?;
    failpoint::pass("before the last sync of restored files");
    target.sync()?;
    failpoint::pass("after the last sync of restored files");
    if let Some(rollback) = rollback {
        target.end_keeping(rollback)?;
    }
    Ok(report)
}

/// Writes every file, four workers a core and at most 16 because most wait for the disk, each reading one part from its beginning to its end.
fn write_parts(
    opened: &Opened<'_>,
    key: &SealingKey,
    target: &dyn Target,
    todo: &Todo,
    options: &ExtractOptions,
    progress: &dyn Progress,
) -> Result<ExtractReport> {
    let parts = todo.parts()?;
    let (ask, asked) = bounded::<()>(1);
    let (written, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let settling = scope.spawn(|| asked.iter().try_for_each(|()| target.sync()));
        let writing = Writing { target, todo, owner: options.owner, progress, ask, written: &written, bytes: &bytes };
        let result = each_part(&parts, (4 * cores()).min(MOST), |part| {
            let what = part.object(opened.app())?.to_string();
            if options.digests == Digests::Before {
                let mut reader = PartReader::begin(opened.open_part(part)?, part.kind, key, &what)?;
                return writing.part(part, &mut reader, PartReader::enter);
            }
            let mut reader = PartReader::begin(opened.read_part(part)?, part.kind, key, &what)?;
            writing.part(part, &mut reader, PartReader::advance_to)?;
            reader.drain()?.finish()
        });
        drop(writing);
        let settled = settling.join().unwrap_or_else(|_| Err(Error::failed("a thread that syncs has panicked")));
        result.and(settled)
    })?;
    Ok(ExtractReport { written: written.into_inner(), bytes: bytes.into_inner() })
}

/// What those who write files share.
struct Writing<'a> {
    target: &'a dyn Target,
    todo: &'a Todo,
    owner: Owner,
    progress: &'a dyn Progress,
    /// Asks for what is written to be made to last.
    ask: Sender<()>,
    written: &'a AtomicU64,
    bytes: &'a AtomicU64,
}

impl Writing<'_> {
    /// Writes what is wanted of a part, under temporary names; `go` brings the reader to a place.
    fn part<R: Read>(
        &self,
        part: &PartName,
        reader: &mut PartReader<R>,
        go: impl Fn(&mut PartReader<R>, &Place) -> Result<()>,
    ) -> Result<()> {
        self.todo.of_part(part, &mut |line| {
            let Some(place) = &line.place else { return Ok(()) };
            go(reader, place)?;
            let mut file = self.target.create(&line.path, line.size)?;
            reader.member(&line, &mut |chunk| {
                let before = self.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                if before / STRETCH != (before + chunk.len() as u64) / STRETCH {
                    // Full: it is at it already. Ended: its error is the answer.
                    let _ = self.ask.try_send(());
                }
                self.progress.advance(chunk.len() as u64);
                file.write_all(chunk)
                    .map_err(|e| Error::from_io(Kind::Failed, format!("cannot write {}", shown(&line.path)), e))
            })?;
            file.close(&look(&line), self.owner)?;
            self.written.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }
}

/// Gives every file its name, on all cores: each waits for the system a little, and there may be a million.
fn publish(
    target: &dyn Target,
    todo: &Todo,
    rollback: Option<&str>,
    made: &(dyn Fn(&[u8]) -> Result<()> + Sync),
) -> Result<()> {
    let (hand, taken) = bounded::<Vec<u8>>(WAITING);
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let stop = &stop;
        let work = move |taken: Receiver<Vec<u8>>| {
            let result = taken.iter().try_for_each(|path| {
                target.publish(&path, rollback)?;
                made(&path)
            });
            if result.is_err() {
                stop.set();
            }
            result
        };
        let workers: Vec<_> =
            (0..cores()).map(|_| taken.clone()).map(|taken| scope.spawn(move || work(taken))).collect();
        drop(taken);
        let handed = todo.each(Action::Write, false, &mut |path, _| {
            stop.check()?;
            // Whoever failed says why.
            hand.send(path.to_vec()).map_err(|_| Error::failed("naming restored files has stopped"))
        });
        drop(hand);
        let ended = |worker: ScopedJoinHandle<'_, Result<()>>| {
            worker.join().unwrap_or_else(|_| Err(Error::failed("a thread that names restored files has panicked")))
        };
        // All are waited for, and the first error is the answer.
        workers.into_iter().map(ended).fold(Ok(()), Result::and).and(handed)
    })
}

pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Does something for each part, with at most so many workers; the first error ends all.
pub(super) fn each_part(
    parts: &[PartName],
    workers: usize,
    work: impl Fn(&PartName) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let fail = |error: Error| {
        failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
        next.store(usize::MAX / 2, Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        for _ in 0..workers.min(parts.len()) {
            scope.spawn(|| {
                while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = work(part) {
                        fail(error);
                        return;
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
}
