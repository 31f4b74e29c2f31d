//! Rows of the state: what is remembered of one file.

use rusqlite::{Row, params};

use crate::archive::state::State;
use crate::bundle::filelist::{FileLine, Place};
use crate::bundle::members::PartName;
use crate::ground::words::shown;
use crate::ground::{Error, Result};
use crate::storage::owners::Owners;
use crate::storage::{Entry, EntryKind, FileTime};

/// The columns of `files`, in the order of [`FileRow::read`] and [`FileRow::write`].
pub(super) const COLUMNS: &str = "path, kind, size, mtime, mtime_ns, ctime, ctime_ns, inode, mode, uid, gid, target, blake3, part, frame, skip, racy";

/// What is remembered of a file, a folder or a link.
pub(super) struct FileRow {
    pub(super) entry: Entry,
    pub(super) content: Option<([u8; 32], Place)>,
    /// It changed so shortly before it was looked at that a change right after would not show.
    pub(super) racy: bool,
}

pub(super) fn kind_number(kind: EntryKind) -> i64 {
    match kind {
        EntryKind::File => 0,
        EntryKind::Dir => 1,
        EntryKind::Symlink => 2,
    }
}

/// Numbers beyond what SQLite holds are kept as the same bits.
fn bits(n: u64) -> i64 {
    n.cast_signed()
}

/// Temporary tables for one run.
pub(super) fn prepare(state: &State) -> Result<()> {
    state
        .connection()
        .execute_batch(
            "DROP TABLE IF EXISTS temp.changed; DROP TABLE IF EXISTS temp.gone;
             DROP TABLE IF EXISTS temp.dying; DROP TABLE IF EXISTS temp.lost;
             DROP TABLE IF EXISTS temp.unread;
             CREATE TEMP TABLE changed AS SELECT * FROM files WHERE 0;
             CREATE TEMP TABLE gone (path BLOB PRIMARY KEY) WITHOUT ROWID;
             CREATE TEMP TABLE dying (part TEXT PRIMARY KEY) WITHOUT ROWID;
             CREATE TEMP TABLE lost (name TEXT PRIMARY KEY) WITHOUT ROWID;
             CREATE TEMP TABLE unread (first BLOB PRIMARY KEY, after BLOB NOT NULL) WITHOUT ROWID;",
        )
        .map_err(|e| state.failed(&e))
}

/// Whether every part that a file lies in is known: else no bundle could name it.
pub(super) fn is_sound(state: &State) -> Result<bool> {
    let stray = "SELECT NOT EXISTS (SELECT DISTINCT part FROM files WHERE part IS NOT NULL
                 EXCEPT SELECT name FROM parts WHERE length(sha256) = 64)";
    state.connection().query_row(stray, [], |row| row.get(0)).map_err(|e| state.failed(&e))
}

/// Takes the changes of a pass over, and keeps the rows from before the run where there is a state to go back to.
pub(super) fn apply(state: &State) -> Result<()> {
    let keep = if state.base().is_some() {
        "INSERT INTO files_before SELECT * FROM files
         WHERE path IN (SELECT path FROM temp.changed UNION SELECT path FROM temp.gone)
         AND path NOT IN (SELECT path FROM touched);"
    } else {
        ""
    };
    state
        .connection()
        .execute_batch(&format!(
            "{keep}
             INSERT OR IGNORE INTO touched SELECT path FROM temp.changed;
             INSERT OR IGNORE INTO touched SELECT path FROM temp.gone;
             DELETE FROM files WHERE path IN (SELECT path FROM temp.gone);
             INSERT OR REPLACE INTO files ({COLUMNS}) SELECT {COLUMNS} FROM temp.changed;
             DELETE FROM temp.changed; DELETE FROM temp.gone;"
        ))
        .map_err(|e| state.failed(&e))
}

/// Marks a path as gone.
pub(super) fn forget(state: &State, path: &[u8]) -> Result<()> {
    state
        .connection()
        .prepare_cached("INSERT OR IGNORE INTO temp.gone VALUES (?1)")
        .and_then(|mut s| s.execute(params![path]))
        .map(drop)
        .map_err(|e| state.failed(&e))
}

impl FileRow {
    /// Reads a row that was selected by [`COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let kind = match row.get::<_, i64>(1)? {
            0 => EntryKind::File,
            1 => EntryKind::Dir,
            _ => EntryKind::Symlink,
        };
        let content = match row.get::<_, Option<[u8; 32]>>(12)? {
            Some(blake3) => {
                let name: String = row.get(13)?;
                let part = PartName::parse(&name).ok_or(rusqlite::Error::InvalidQuery)?;
                let place = Place {
                    part,
                    frame: row.get::<_, i64>(14)?.cast_unsigned(),
                    skip: row.get::<_, i64>(15)?.cast_unsigned(),
                };
                Some((blake3, place))
            }
            None => None,
        };
        let entry = Entry {
            path: row.get(0)?,
            kind,
            size: row.get::<_, i64>(2)?.cast_unsigned(),
            mtime: FileTime { seconds: row.get(3)?, nanoseconds: row.get(4)? },
            ctime: FileTime { seconds: row.get(5)?, nanoseconds: row.get(6)? },
            inode: row.get::<_, i64>(7)?.cast_unsigned(),
            mode: row.get(8)?,
            uid: row.get(9)?,
            gid: row.get(10)?,
            target: row.get(11)?,
            hard_linked: false,
            sparse: false,
        };
        Ok(Self { entry, content, racy: row.get(16)? })
    }

    /// Writes it among the changes of this pass.
    pub(super) fn write(&self, state: &State) -> Result<()> {
        let e = &self.entry;
        let place = self.content.as_ref().map(|(_, place)| place);
        state
            .connection()
            .prepare_cached(&format!(
                "INSERT INTO temp.changed ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)"
            ))
            .and_then(|mut s| {
                s.execute(params![
                    e.path,
                    kind_number(e.kind),
                    bits(e.size),
                    e.mtime.seconds,
                    e.mtime.nanoseconds,
                    e.ctime.seconds,
                    e.ctime.nanoseconds,
                    bits(e.inode),
                    e.mode,
                    e.uid,
                    e.gid,
                    e.target,
                    self.content.as_ref().map(|(blake3, _)| blake3.as_slice()),
                    place.map(|p| p.part.file_name()),
                    place.map(|p| bits(p.frame)),
                    place.map(|p| bits(p.skip)),
                    self.racy,
                ])
            })
            .map(drop)
            .map_err(|e| state.failed(&e))
    }

    /// The line of the file list.
    pub(super) fn to_line(&self, owners: &Owners) -> Result<FileLine> {
        let e = &self.entry;
        if e.kind == EntryKind::File && self.content.is_none() {
            return Err(Error::failed(format!("the state has no content of {}", shown(&e.path)))
                .hint("Remove the state: the next backup then stores every file again."));
        }
        Ok(FileLine {
            path: e.path.clone(),
            kind: e.kind,
            size: e.size,
            mtime: e.mtime,
            mode: e.mode,
            uid: e.uid,
            gid: e.gid,
            user: owners.user(e.uid).map(str::to_owned),
            group: owners.group(e.gid).map(str::to_owned),
            target: e.target.clone(),
            blake3: self.content.as_ref().map(|(blake3, _)| *blake3),
            place: self.content.as_ref().map(|(_, place)| place.clone()),
        })
    }
}
