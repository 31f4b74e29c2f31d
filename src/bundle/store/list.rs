//! Writing the file list: segments in which nothing changed are referred to, the others are written anew.

use std::io::Write as _;

use rusqlite::{OptionalExtension as _, params};

use super::rows::{COLUMNS, FileRow};
use super::{Store, StoreReport, absent};
use crate::archive::NewObject;
use crate::archive::state::State;
use crate::bundle::digest::DigestWriter;
use crate::bundle::filelist::{SegmentLine, cut_after};
use crate::bundle::frames::FrameWriter;
use crate::bundle::members::{PartKind, PartName};
use crate::bundle::{Draft, Member};
use crate::ground::names::{Sha256Hex, Ulid};
use crate::ground::{Error, Kind, Result, clock, json};
use crate::sealing::stream::{self, SealedWriter};
use crate::storage::EntryKind;

/// A segment as the state remembers it.
#[derive(Clone)]
struct Segment {
    first: Vec<u8>,
    sha256: Sha256Hex,
    line: SegmentLine,
    /// Its length in the archive.
    length: u64,
    /// It was stored in this run.
    new: bool,
    /// The archive does not have it any more.
    lost: bool,
}

/// Writes the list, and names every part and segment in the bundle's sums.
pub(super) fn write(store: &mut Store<'_>, draft: &mut Draft<'_>) -> Result<()> {
    let old = remembered(store.options.state)?;
    let mut segments: Vec<Segment> = Vec::new();
    let mut index = 0;
    // A storage that was empty has no segment to begin at.
    let mut pending = old.is_empty().then(Vec::new);
    while index < old.len() || pending.is_some() {
        let from = match pending.take() {
            Some(from) => from,
            None if !touched(store.options.state, &old, index)? => {
                segments.push(old[index].clone());
                index += 1;
                continue;
            }
            None if index == 0 => Vec::new(),
            None => old[index].first.clone(),
        };
        match run(store, &old, &from, &mut segments)? {
            Some(aligned) => index = aligned,
            None => break,
        }
    }
    save(store, draft, &segments)
}

/// Writes segments from a path on, until one ends where an old one begins in which nothing changed; answers which, or the end.
fn run(store: &mut Store<'_>, old: &[Segment], from: &[u8], segments: &mut Vec<Segment>) -> Result<Option<usize>> {
    let state: &State = store.options.state;
    let failed = |e: rusqlite::Error| state.failed(&e);
    let select = format!("SELECT {COLUMNS} FROM files WHERE path >= ?1 ORDER BY path");
    let mut statement = state.connection().prepare(&select).map_err(failed)?;
    let mut rows = statement.query(params![from]).map_err(failed)?;
    let mut writer: Option<SegmentWriter> = None;
    let mut between = false;
    while let Some(row) = rows.next().map_err(failed)? {
        let row = FileRow::read(row).map_err(failed)?;
        if between {
            between = false;
            let aligned = old.binary_search_by(|s| s.first.as_slice().cmp(&row.entry.path)).ok();
            if let Some(aligned) = aligned
                && !touched(state, old, aligned)?
            {
                return Ok(Some(aligned));
            }
        }
        let writer_now = match &mut writer {
            Some(writer) => writer,
            none => none.insert(SegmentWriter::begin(store, &row.entry.path)?),
        };
        writer_now.add(&row, store)?;
        if cut_after(&row.entry.path, writer_now.lines)
            && let Some(full) = writer.take()
        {
            segments.push(full.finish(old, &mut store.report.bytes_stored)?);
            between = true;
        }
    }
    if let Some(last) = writer.take() {
        segments.push(last.finish(old, &mut store.report.bytes_stored)?);
    }
    Ok(None)
}

/// Whether any line of an old segment changed, came or went, or the segment itself is lost.
fn touched(state: &State, old: &[Segment], index: usize) -> Result<bool> {
    if old[index].lost {
        return Ok(true);
    }
    let failed = |e: rusqlite::Error| state.failed(&e);
    let start: &[u8] = if index == 0 { &[] } else { &old[index].first };
    let found: Option<i64> = match old.get(index + 1) {
        Some(next) => state
            .connection()
            .prepare_cached("SELECT 1 FROM touched WHERE path >= ?1 AND path < ?2 LIMIT 1")
            .and_then(|mut s| s.query_row(params![start, next.first], |row| row.get(0)).optional()),
        None => state
            .connection()
            .prepare_cached("SELECT 1 FROM touched WHERE path >= ?1 LIMIT 1")
            .and_then(|mut s| s.query_row(params![start], |row| row.get(0)).optional()),
    }
    .map_err(failed)?;
    Ok(found.is_some())
}

fn remembered(state: &State) -> Result<Vec<Segment>> {
    let failed = |e: rusqlite::Error| state.failed(&e);
    let mut statement = state
        .connection()
        .prepare(
            "SELECT first, name, sha256, lines, files, bytes, blake3, stored, name IN (SELECT name FROM temp.lost)
             FROM segments ORDER BY first",
        )
        .map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut segments = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let sha256: String = row.get(2).map_err(failed)?;
        let read = || -> rusqlite::Result<(Vec<u8>, SegmentLine, u64, bool)> {
            Ok((
                row.get(0)?,
                SegmentLine {
                    segment: row.get(1)?,
                    lines: row.get::<_, i64>(3)?.cast_unsigned(),
                    files: row.get::<_, i64>(4)?.cast_unsigned(),
                    bytes: row.get::<_, i64>(5)?.cast_unsigned(),
                    blake3: row.get(6)?,
                },
                row.get::<_, i64>(7)?.cast_unsigned(),
                row.get(8)?,
            ))
        };
        let (first, line, length, lost) = read().map_err(failed)?;
        segments.push(Segment { first, sha256: sha256.parse()?, line, length, new: false, lost });
    }
    Ok(segments)
}

/// Saves the segments, and names them and every live part in the bundle.
fn save(store: &mut Store<'_>, draft: &mut Draft<'_>, segments: &[Segment]) -> Result<()> {
    let state: &State = store.options.state;
    let failed = |e: rusqlite::Error| state.failed(&e);
    state.connection().execute("DELETE FROM segments", []).map_err(failed)?;
    let mut list = draft.member(Member::Files)?;
    for Segment { first, sha256, line, length, .. } in segments {
        let mut bytes = json::line(line)?;
        bytes.push(b'\n');
        list.write_all(&bytes).map_err(|e| Error::from_io(Kind::Failed, "cannot write the file list", e))?;
        state
            .connection()
            .execute(
                "INSERT INTO segments VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    first,
                    line.segment,
                    sha256.as_str(),
                    line.lines.cast_signed(),
                    line.files.cast_signed(),
                    line.bytes.cast_signed(),
                    line.blake3,
                    length.cast_signed()
                ],
            )
            .map_err(failed)?;
        store.report.files += line.files;
        store.report.bytes += line.bytes;
    }
    list.finish()?;
    for segment in segments {
        draft.stored(&segment.line.name()?, &segment.sha256, if segment.new { segment.length } else { 0 })?;
    }
    let StoreReport { left_out, files, .. } = &store.report;
    store.report.gone = absent::remember(state, left_out, *files, store.options.loss)?;
    state
        .connection()
        .execute("DELETE FROM parts WHERE name NOT IN (SELECT part FROM files WHERE part IS NOT NULL)", [])
        .map_err(failed)?;
    let mut statement = state.connection().prepare("SELECT name, sha256 FROM parts ORDER BY name").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let (name, sha256): (String, String) = (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
        let part =
            PartName::parse(&name).ok_or_else(|| Error::failed(format!("the state names {name}, which is no part")))?;
        let stored = store.written.get(&name).copied().unwrap_or(0);
        draft.stored(&part, &sha256.parse()?, stored)?;
    }
    Ok(())
}

type Out = FrameWriter<SealedWriter<DigestWriter<Box<dyn NewObject>>>>;

/// A segment that is being written.
struct SegmentWriter {
    first: Vec<u8>,
    name: PartName,
    out: Out,
    hash: blake3::Hasher,
    lines: u64,
    files: u64,
    bytes: u64,
}

impl SegmentWriter {
    fn begin(store: &Store<'_>, first: &[u8]) -> Result<Self> {
        let name = PartName { ulid: Ulid::new(clock::now())?, kind: PartKind::Files };
        let object = store.options.archive.create(&name.object(store.options.app)?)?;
        let out = FrameWriter::new(stream::seal(store.options.recipient, DigestWriter::new(object))?)?;
        Ok(Self { first: first.to_vec(), name, out, hash: blake3::Hasher::new(), lines: 0, files: 0, bytes: 0 })
    }

    fn add(&mut self, row: &FileRow, store: &Store<'_>) -> Result<()> {
        let mut line = row.to_line(&store.owners)?.to_line()?;
        line.push(b'\n');
        self.hash.update(&line);
        self.out.write_all(&line).map_err(|e| Error::from_io(Kind::Failed, "cannot write the file list", e))?;
        self.lines += 1;
        if row.entry.kind == EntryKind::File {
            self.files += 1;
            self.bytes += row.entry.size;
        }
        Ok(())
    }

    /// Stores the segment, unless an old one has the same lines: then that one serves, and this never comes to be.
    fn finish(self, old: &[Segment], bytes_stored: &mut u64) -> Result<Segment> {
        let blake3 = self.hash.finalize().to_hex().to_string();
        if let Some(same) = old.iter().find(|s| !s.lost && s.line.blake3 == blake3 && s.first == self.first) {
            return Ok(same.clone());
        }
        let (object, sha256, stored) = self.out.finish()?.finish()?.finish()?;
        if !object.commit()? {
            return Err(Error::not_authentic(format!("the segment {} exists already", self.name.file_name())));
        }
        *bytes_stored += stored;
        let line = SegmentLine {
            segment: self.name.file_name(),
            lines: self.lines,
            files: self.files,
            bytes: self.bytes,
            blake3,
        };
        Ok(Segment { first: self.first, sha256, line, length: stored, new: true, lost: false })
    }
}
