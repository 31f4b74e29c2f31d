//! One walk over the storage: what differs goes to the lanes, and what they stored becomes rows.

use std::collections::HashMap;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rusqlite::params;

use super::Store;
use super::rows::{self, COLUMNS, FileRow};
use crate::archive::state::State;
use crate::bundle::filelist::Place;
use crate::bundle::part::{Attempt, Closing, Finished, Lane};
use crate::ground::beside::Stop;
use crate::ground::progress::{Progress, Unit};
use crate::ground::words::shown;
use crate::ground::{Error, Result, clock};
use crate::storage::owners::Owners;
use crate::storage::{Entry, EntryKind, LeftOut};

/// Files that wait for a lane.
const QUEUE: usize = 256;
/// Full parts that wait to be made durable, each with its pages in the system's cache.
const CLOSING: usize = 2;
/// Changes this close to the walk may be followed by others that do not show in the times, in seconds.
const RACY: i64 = 2;

/// Work for a lane.
struct Job {
    entry: Entry,
    /// What is remembered of content of the same size: stored again only if it differs.
    known: Option<([u8; 32], Place)>,
}

/// What a lane or the closer has done.
enum Done {
    Row(FileRow, Stored),
    Gone(Vec<u8>),
    LeftOut(LeftOut),
    Part(Finished),
}

/// How a row's content came to be.
#[derive(PartialEq, Eq)]
enum Stored {
    Now,
    NowButChanged,
    Before,
}

pub(super) fn run(store: &mut Store<'_>, progress: &dyn Progress, stop: &Stop) -> Result<()> {
    let first = store.passes == 1;
    // What is left out still is found by this pass again, and what was read since is left out no more.
    store.report.left_out.clear();
    progress.stage("store files", None, Unit::Bytes);
    let racy_from = clock::now().as_second() - RACY;
    let options = &store.options;
    let (jobs, work) = bounded::<Job>(QUEUE);
    let (tell, done) = unbounded::<Done>();
    let (close, closing) = bounded::<Closing>(CLOSING);
    let mut lanes = Vec::new();
    for _ in 0..options.lanes.max(1) {
        let reader = options.storage.reader()?;
        lanes.push(Lane::new(options.archive, options.app, options.recipient, reader, close.clone()));
    }
    drop(close);

    let (owners, state) = (&store.owners, &*options.state);
    let mut books = Books {
        state,
        report: &mut store.report,
        stored_files: &mut store.stored_files,
        written: &mut store.written,
        first,
    };
    let mut take = |done: Done| books.take(done);
    let walked = std::thread::scope(|scope| {
        let tell_of_parts = tell.clone();
        // The first: when it ends early, the lanes notice and know no cause.
        let mut threads = vec![scope.spawn(move || {
            let result = closing.iter().try_for_each(|part| {
                let finished = part.commit()?;
                tell_of_parts.send(Done::Part(finished)).map_err(|_| Error::failed("nobody waits for parts"))
            });
            if result.is_err() {
                stop.set();
            }
            result
        })];
        for lane in lanes {
            let (work, tell) = (work.clone(), tell.clone());
            threads.push(scope.spawn(move || {
                let result = serve(lane, &work, &tell, owners, racy_from, &|by| progress.advance(by), stop);
                if result.is_err() {
                    stop.set();
                }
                result
            }));
        }
        drop((work, tell));
        let walked = walk(store.options.storage, state, first, racy_from, &jobs, &done, &mut take, stop);
        drop(jobs);
        let mut result = Ok(());
        for thread in threads {
            let ended = thread.join().unwrap_or_else(|_| Err(Error::failed("a thread that stores has panicked")));
            // The first error is the cause; what comes after is others noticing.
            result = result.and(ended);
        }
        // Lanes that were stopped have left something.
        result.and(walked).and_then(|left_out| stop.check().map(|()| left_out))
    })?;
    for done in done.try_iter() {
        take(done)?;
    }
    store.report.left_out.extend(walked);
    rows::apply(store.options.state)
}

/// Walks in step with what is remembered, and sends what differs to the lanes.
#[expect(clippy::too_many_arguments, reason = "two ends of two channels, and what is walked")]
fn walk(
    storage: &dyn crate::storage::Storage,
    state: &State,
    first: bool,
    racy_from: i64,
    jobs: &Sender<Job>,
    done: &Receiver<Done>,
    take: &mut dyn FnMut(Done) -> Result<()>,
    stop: &Stop,
) -> Result<Vec<LeftOut>> {
    let failed = |e: rusqlite::Error| state.failed(&e);
    let select = format!("SELECT {COLUMNS}, part IN (SELECT part FROM temp.dying) FROM files ORDER BY path");
    let mut statement = state.connection().prepare(&select).map_err(failed)?;
    let mut known = statement.query([]).map_err(failed)?;
    let mut next = move || -> Result<Option<(FileRow, bool)>> {
        let Some(row) = known.next().map_err(failed)? else { return Ok(None) };
        let dying = row.get::<_, Option<bool>>(17).map_err(failed)?.unwrap_or(false);
        FileRow::read(row).map(|file| Some((file, dying))).map_err(failed)
    };
    let mut current = next()?;
    let left_out = storage.walk(&mut |entry| {
        stop.check()?;
        for done in done.try_iter() {
            take(done)?;
        }
        while current.as_ref().is_some_and(|(row, _)| row.entry.path < entry.path) {
            // What the first pass stored stays, although it is gone by the second.
            if let Some((row, _)) = current.take().filter(|_| first) {
                rows::forget(state, &row.entry.path)?;
            }
            current = next()?;
        }
        let mut remembered = None;
        if current.as_ref().is_some_and(|(row, _)| row.entry.path == entry.path) {
            remembered = current.take();
            current = next()?;
        }
        if let Some((row, dying)) = &remembered
            && same(row, &entry)
            && !(first && (row.racy || *dying))
        {
            return Ok(());
        }
        if entry.kind != EntryKind::File {
            let racy = is_racy(&entry, racy_from);
            return FileRow { entry, content: None, racy }.write(state);
        }
        let known = remembered
            .filter(|(row, dying)| row.entry.size == entry.size && !(first && *dying))
            .and_then(|(row, _)| row.content);
        jobs.send(Job { entry, known }).map_err(|_| Error::failed("storing has stopped"))
    })?;
    if first {
        while let Some((row, _)) = current {
            rows::forget(state, &row.entry.path)?;
            current = next()?;
        }
    }
    Ok(left_out)
}

/// Whether an entry is what the row remembers. Links and folders have no inode that matters.
fn same(row: &FileRow, entry: &Entry) -> bool {
    let known = &row.entry;
    let outside = known.kind == entry.kind
        && known.mtime == entry.mtime
        && known.mode == entry.mode
        && known.uid == entry.uid
        && known.gid == entry.gid
        && known.target == entry.target;
    match entry.kind {
        EntryKind::File => {
            outside && known.size == entry.size && known.ctime == entry.ctime && known.inode == entry.inode
        }
        EntryKind::Dir | EntryKind::Symlink => outside,
    }
}

fn is_racy(entry: &Entry, racy_from: i64) -> bool {
    entry.mtime.seconds >= racy_from || entry.ctime.seconds >= racy_from
}

/// One lane's work.
fn serve(
    mut lane: Lane<'_>,
    work: &Receiver<Job>,
    tell: &Sender<Done>,
    owners: &Owners,
    racy_from: i64,
    advance: &dyn Fn(u64),
    stop: &Stop,
) -> Result<()> {
    let send = |done| tell.send(done).map_err(|_| Error::failed("nobody waits for what is stored"));
    for Job { entry, known } in work {
        if stop.is_set() {
            // Whoever asked for that says why; what is open is nobody's.
            return Ok(());
        }
        if let Some((blake3, place)) = known
            && let Some((now, entry)) = lane.digest(&entry.path)
            && now == blake3
        {
            let racy = is_racy(&entry, racy_from);
            send(Done::Row(FileRow { entry, content: Some((blake3, place)), racy }, Stored::Before))?;
            continue;
        }
        let names = (owners.user(entry.uid), owners.group(entry.gid));
        match lane.store(&entry.path, names, advance)? {
            Attempt::Stored(stored) => {
                let how = if stored.changed { Stored::NowButChanged } else { Stored::Now };
                // A torn file is looked at again next time, whatever its times say.
                let racy = stored.changed || is_racy(&stored.entry, racy_from);
                send(Done::Row(
                    FileRow { entry: stored.entry, content: Some((stored.blake3, stored.place)), racy },
                    how,
                ))?;
            }
            Attempt::Gone => send(Done::Gone(entry.path))?,
            Attempt::Unreadable(reason) => {
                send(Done::Gone(entry.path.clone()))?;
                send(Done::LeftOut(LeftOut::new(entry.path, reason)))?;
            }
        }
    }
    lane.finish()
}

/// Where what the threads have done is written down.
struct Books<'a> {
    state: &'a State,
    report: &'a mut super::StoreReport,
    stored_files: &'a mut u64,
    written: &'a mut HashMap<String, u64>,
    first: bool,
}

impl Books<'_> {
    fn take(&mut self, done: Done) -> Result<()> {
        match done {
            Done::Row(row, how) => self.take_row(&row, &how),
            // What the first pass stored stays, although the second does not find it.
            Done::Gone(path) if self.first => rows::forget(self.state, &path),
            Done::Gone(_) => Ok(()),
            Done::LeftOut(left) => {
                self.report.left_out.push(left);
                Ok(())
            }
            Done::Part(part) => {
                self.report.parts_written += 1;
                self.report.bytes_stored += part.stored;
                self.written.insert(part.name.file_name(), part.stored);
                self.state
                    .connection()
                    .execute(
                        "INSERT INTO parts VALUES (?1, ?2, ?3, 0)
                         ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, stored = excluded.stored",
                        params![part.name.file_name(), part.sha256.as_str(), part.stored.cast_signed()],
                    )
                    .map(drop)
                    .map_err(|e| self.state.failed(&e))
            }
        }
    }

    fn take_row(&mut self, row: &FileRow, how: &Stored) -> Result<()> {
        if self.first {
            self.report.hard_linked += u64::from(row.entry.hard_linked);
            self.report.sparse += u64::from(row.entry.sparse);
        }
        let path = shown(&row.entry.path);
        self.report.changed_while_read.retain(|changed| *changed != path);
        if *how != Stored::Before {
            *self.stored_files += 1;
            if let Some((_, place)) = &row.content {
                grow(self.state, &place.part.file_name(), row.entry.size)?;
            }
        }
        if *how == Stored::NowButChanged {
            self.report.changed_while_read.push(path);
        }
        row.write(self.state)
    }
}

/// Counts content into a part, which may not be finished yet.
fn grow(state: &State, part: &str, by: u64) -> Result<()> {
    state
        .connection()
        .prepare_cached(
            "INSERT INTO parts VALUES (?1, '', 0, ?2) ON CONFLICT (name) DO UPDATE SET content = content + excluded.content",
        )
        .and_then(|mut s| s.execute(params![part, by.cast_signed()]))
        .map(drop)
        .map_err(|e| state.failed(&e))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::StoreOptions;
    use super::*;
    use crate::archive::memory::Memory;
    use crate::bundle::part::file_entry;
    use crate::ground::Kind;
    use crate::ground::progress::Silent;
    use crate::sealing::SealingKey;
    use crate::storage::{Opened, Reader, Storage};

    /// Three files that are gone when they are opened; how many were found.
    #[derive(Default)]
    struct Files(AtomicUsize);

    impl Storage for Files {
        fn describe(&self) -> String {
            "files".to_owned()
        }

        fn walk(&self, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<Vec<LeftOut>> {
            for path in [b"a", b"b", b"c"] {
                self.0.fetch_add(1, Ordering::Relaxed);
                visit(file_entry(path.to_vec(), 7))?;
            }
            Ok(Vec::new())
        }

        fn reader(&self) -> Result<Box<dyn Reader>> {
            Ok(Box::new(Self::default()))
        }

        fn reachable(&self) -> Result<()> {
            Ok(())
        }
    }

    impl Reader for Files {
        fn open(&self, _: &[u8]) -> Result<Box<dyn Opened>> {
            Err(Error::not_found("gone"))
        }
    }

    #[test]
    fn a_walk_that_nobody_wants_ends_at_the_next_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (archive, app, key) = (Memory::default(), "shop".parse().expect("a name"), SealingKey::generate());
        let id = "7b1c8f10-3c1e-4f6a-9d57-0a4a5d1e2f30".parse().expect("an id");
        let mut state = State::open(&folder.path().join("state.sqlite"), &id, &app).expect("opens");
        let files = Files::default();
        let mut store = Store::begin(StoreOptions {
            archive: &archive,
            app: &app,
            recipient: key.recipient(),
            storage: &files,
            state: &mut state,
            base: None,
            loss: crate::bundle::store::Loss::Told,
            lanes: 1,
        })
        .expect("begun");
        let found = || files.0.swap(0, Ordering::Relaxed);
        store.pass(&Silent, &Stop::default()).expect("walked");
        assert_eq!(found(), 3);
        let stop = Stop::default();
        stop.set();
        assert_eq!(store.pass(&Silent, &stop).map_err(|e| e.kind()), Err(Kind::Failed));
        assert_eq!(found(), 1);
    }
}
