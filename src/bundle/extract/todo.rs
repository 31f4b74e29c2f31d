//! What is to be done, by path and by part, in a private database that spills to an unlinked file.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, params};

use crate::bundle::PartName;
use crate::bundle::filelist::FileLine;
use crate::ground::{Error, Result};
use crate::storage::{EntryKind, FileTime, Look};

/// What is done with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// A folder is made, and gets its look at the end.
    Folder = 0,
    /// A file is written.
    Write = 1,
    /// A file stands there with the right content, and gets its look.
    Dress = 2,
    /// A link is made.
    Link = 3,
    /// Something that the bundle does not have is moved away.
    PutAway = 4,
}

/// Looks at one entry: its path, and its line where the list has one.
type Visit<'a> = &'a mut dyn FnMut(&[u8], Option<FileLine>) -> Result<()>;

/// Looks at what stood at a path before: the path, and the look that was noted.
type Past<'a> = &'a mut dyn FnMut(&[u8], Option<&str>) -> Result<()>;

/// The list of what is to be done.
pub(super) struct Todo(Mutex<Connection>);

/// How many lines are fetched at once.
const PAGE: i64 = 500;

impl Todo {
    /// An empty list, in memory while it is small.
    pub(super) fn new() -> Result<Self> {
        // An empty name is a database of its own file, unlinked at once, which is written only when the cache is full.
        let connection = Connection::open("").map_err(|e| failed(&e))?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -8192;
                 CREATE TABLE todo (path BLOB PRIMARY KEY, action INTEGER NOT NULL, part TEXT, frame INTEGER, skip INTEGER,
                                    line BLOB, fresh INTEGER NOT NULL, look TEXT) WITHOUT ROWID;
                 CREATE TABLE listed (path BLOB PRIMARY KEY) WITHOUT ROWID;
                 BEGIN;",
            )
            .map_err(|e| failed(&e))?;
        Ok(Self(Mutex::new(connection)))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a path that the bundle has.
    pub(super) fn list(&self, path: &[u8]) -> Result<()> {
        self.connection()
            .prepare_cached("INSERT OR IGNORE INTO listed VALUES (?1)")
            .and_then(|mut s| s.execute(params![path]))
            .map(drop)
            .map_err(|e| failed(&e))
    }

    /// Whether the bundle has a path.
    pub(super) fn lists(&self, path: &[u8]) -> Result<bool> {
        self.connection()
            .prepare_cached("SELECT 1 FROM listed WHERE path = ?1")
            .and_then(|mut s| s.exists(params![path]))
            .map_err(|e| failed(&e))
    }

    /// Adds something to do; `fresh` where nothing stands yet, so that undoing it is removing it.
    pub(super) fn add(&self, action: Action, line: &FileLine, fresh: bool) -> Result<()> {
        self.stands(action, line, None, fresh)
    }

    /// The same for what may stand there already, with the look that undoing gives it back.
    pub(super) fn stands(&self, action: Action, line: &FileLine, look: Option<&Look>, fresh: bool) -> Result<()> {
        let place = line.place.as_ref().filter(|_| action == Action::Write);
        self.connection()
            .prepare_cached("INSERT OR REPLACE INTO todo VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")
            .and_then(|mut s| {
                s.execute(params![
                    line.path,
                    action as i64,
                    place.map(|p| p.part.file_name()),
                    place.map(|p| p.frame.cast_signed()),
                    place.map(|p| p.skip.cast_signed()),
                    line.to_line().ok(),
                    fresh,
                    look.map(written),
                ])
            })
            .map(drop)
            .map_err(|e| failed(&e))
    }

    /// Adds something to move away.
    pub(super) fn put_away(&self, path: &[u8]) -> Result<()> {
        self.connection()
            .prepare_cached("INSERT OR REPLACE INTO todo VALUES (?1, ?2, NULL, NULL, NULL, NULL, 0, NULL)")
            .and_then(|mut s| s.execute(params![path, Action::PutAway as i64]))
            .map(drop)
            .map_err(|e| failed(&e))
    }

    /// Takes the list as complete.
    pub(super) fn seal(&self) -> Result<()> {
        self.connection()
            .execute_batch("COMMIT; CREATE INDEX by_part ON todo (part, frame, skip) WHERE part IS NOT NULL")
            .map_err(|e| failed(&e))
    }

    /// The parts that are needed, those with most to do first.
    pub(super) fn parts(&self) -> Result<Vec<PartName>> {
        let connection = self.connection();
        let mut statement = connection
            .prepare("SELECT part FROM todo WHERE part IS NOT NULL GROUP BY part ORDER BY count(*) DESC, part")
            .map_err(|e| failed(&e))?;
        let names: Vec<String> =
            statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).map_err(|e| failed(&e))?;
        names
            .iter()
            .map(|name| PartName::parse(name).ok_or_else(|| Error::failed(format!("{name:?} is no part"))))
            .collect()
    }

    /// Hands out what is to be written from a part, in the order in which it lies there.
    pub(super) fn of_part(&self, part: &PartName, visit: &mut dyn FnMut(FileLine) -> Result<()>) -> Result<()> {
        let mut from = (-1, -1, Vec::new());
        loop {
            let page: Vec<(i64, i64, Vec<u8>, Vec<u8>)> = self
                .connection()
                .prepare_cached(
                    "SELECT frame, skip, path, line FROM todo
                     WHERE part = ?1 AND (frame, skip, path) > (?2, ?3, ?4) ORDER BY frame, skip, path LIMIT ?5",
                )
                .and_then(|mut s| {
                    s.query_map(params![part.file_name(), from.0, from.1, from.2, PAGE], |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                    })
                    .and_then(Iterator::collect)
                })
                .map_err(|e| failed(&e))?;
            let Some(last) = page.last() else { return Ok(()) };
            from = (last.0, last.1, last.2.clone());
            for (_, _, _, line) in page {
                visit(FileLine::parse(&line)?)?;
            }
        }
    }

    /// Notes that what is to stand at a path does; who undoes it must know that from what others have put there.
    pub(super) fn made(&self, path: &[u8]) -> Result<()> {
        self.connection()
            .prepare_cached("UPDATE todo SET fresh = 2 WHERE path = ?1 AND fresh = 1")
            .and_then(|mut s| s.execute(params![path]))
            .map(drop)
            .map_err(|e| failed(&e))
    }

    /// Hands out every path that was made where nothing stood when this was planned, what is in a folder before the folder.
    pub(super) fn each_made(&self, visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.each_back("fresh = 2", &mut |path, _| visit(path))
    }

    /// Hands out every path that stood already, with its look at that time, what is in a folder before the folder.
    pub(super) fn each_look(&self, visit: &mut dyn FnMut(&[u8], Look) -> Result<()>) -> Result<()> {
        self.each_back("look IS NOT NULL", &mut |path, look| {
            look.and_then(read_look).map_or(Ok(()), |l| visit(path, l))
        })
    }

    /// Hands out the paths for which something holds, from the last to the first.
    fn each_back(&self, which: &str, visit: Past<'_>) -> Result<()> {
        let sql = format!(
            "SELECT path, look FROM todo WHERE {which} AND (?1 IS NULL OR path < ?1) ORDER BY path DESC LIMIT ?2"
        );
        let mut before: Option<Vec<u8>> = None;
        loop {
            let page: Vec<(Vec<u8>, Option<String>)> = self
                .connection()
                .prepare_cached(&sql)
                .and_then(|mut s| {
                    s.query_map(params![before, PAGE], |row| Ok((row.get(0)?, row.get(1)?))).and_then(Iterator::collect)
                })
                .map_err(|e| failed(&e))?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            before = Some(last.clone());
            for (path, look) in page {
                visit(&path, look.as_deref())?;
            }
        }
    }

    /// Hands out what is to be done of one kind, by path; `backwards` from the last to the first.
    pub(super) fn each(&self, action: Action, backwards: bool, visit: Visit<'_>) -> Result<()> {
        // Two statements, because `?2 IS NULL OR …` would walk from the beginning for every page.
        let (compare, order) = if backwards { ("<", "DESC") } else { (">", "ASC") };
        let first = format!("SELECT path, line FROM todo WHERE action = ?1 ORDER BY path {order} LIMIT ?2");
        let next = format!(
            "SELECT path, line FROM todo WHERE action = ?1 AND path {compare} ?3 ORDER BY path {order} LIMIT ?2"
        );
        let mut from: Option<Vec<u8>> = None;
        loop {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let page: Vec<(Vec<u8>, Option<Vec<u8>>)> = {
                let connection = self.connection();
                match &from {
                    None => connection
                        .prepare_cached(&first)
                        .and_then(|mut s| s.query_map(params![action as i64, PAGE], read).and_then(Iterator::collect)),
                    Some(from) => connection.prepare_cached(&next).and_then(|mut s| {
                        s.query_map(params![action as i64, PAGE, from], read).and_then(Iterator::collect)
                    }),
                }
                .map_err(|e| failed(&e))?
            };
            let Some(last) = page.last() else { return Ok(()) };
            from = Some(last.0.clone());
            for (path, line) in page {
                visit(&path, line.as_deref().map(FileLine::parse).transpose()?)?;
            }
        }
    }
}

/// Folder or file, mode, owner and time of a look.
fn written(look: &Look) -> String {
    let folder = u8::from(look.kind == EntryKind::Dir);
    let FileTime { seconds, nanoseconds } = look.mtime;
    format!("{folder} {} {} {} {seconds} {nanoseconds}", look.mode, look.uid, look.gid)
}

fn read_look(text: &str) -> Option<Look> {
    let mut fields = text.split(' ');
    let mut number = || fields.next()?.parse::<i64>().ok();
    let kind = if number()? == 1 { EntryKind::Dir } else { EntryKind::File };
    let mut small = || u32::try_from(number()?).ok();
    let (mode, uid, gid) = (small()?, small()?, small()?);
    let mtime = FileTime { seconds: number()?, nanoseconds: u32::try_from(number()?).ok()? };
    Some(Look { kind, mtime, mode, uid, gid, target: None })
}

fn failed(error: &rusqlite::Error) -> Error {
    Error::failed("cannot keep the list of what is to be restored").because(error.to_string())
}
