//! Restoring a storage: the file list read strictly, a plan, then files written beside, checked, and given their names.

mod deep;
mod plan;
mod run;
mod todo;

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use globset::GlobMatcher;

use super::filelist::{FileLine, LINE_LIMIT, SegmentLine};
use super::frames::FrameReader;
use super::part::PartReader;
use super::{Member, Opened, PartName, unseal};
use crate::ground::names::BundleId;
use crate::ground::{Error, Kind, Result, words};
use crate::sealing::SealingKey;
use crate::storage::{EntryKind, Owner, Target};

pub use deep::{DeepFiles, verify_deep};
pub use plan::{ExtractPlan, plan};
pub use run::{ExtractReport, run};

/// When the parts' own digests (SHA-256) are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Digests {
    /// They were ([`Opened::check`]): of a part, only what is wanted is read.
    Before,
    /// While files are written: a part is read from its first byte to its last, and no file gets its name before all were right.
    Along,
}

/// What is restored, and how.
#[derive(Clone)]
pub struct ExtractOptions {
    /// Only files whose path matches one of these; all when there is none.
    pub include: Vec<GlobMatcher>,
    /// Who owns what is written.
    pub owner: Owner,
    /// Move away what the bundle does not have.
    pub delete_extra: bool,
    /// The bundle, which names the folder of what was replaced.
    pub bundle: BundleId,
    /// Keep what is replaced; without it the target is empty, and whatever stands there is replaced.
    pub rollback: bool,
    /// When the parts' digests are compared.
    pub digests: Digests,
}

impl ExtractOptions {
    /// Whether an entry is restored; patterns that it fits are matched from then on.
    fn wants(&self, line: &FileLine, matched: &mut [bool]) -> bool {
        if line.kind == EntryKind::Dir {
            return self.include.is_empty();
        }
        let path = Path::new(OsStr::from_bytes(&line.path));
        let mut wanted = self.include.is_empty();
        for (glob, matched) in self.include.iter().zip(matched) {
            if glob.is_match(path) {
                (wanted, *matched) = (true, true);
            }
        }
        wanted
    }

    fn rollback_name(&self) -> Option<String> {
        self.rollback.then(|| rollback_name(&self.bundle))
    }
}

fn rollback_name(bundle: &BundleId) -> String {
    format!("rollback-{bundle}")
}

/// Reads lines of bounded length from sealed frames.
struct Lines<R: Read> {
    input: BufReader<R>,
    what: String,
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    fn new(input: R, what: &str) -> Self {
        Self { input: BufReader::with_capacity(128 << 10, input), what: what.to_owned(), line: Vec::new() }
    }

    /// The next line without its newline; `None` at the end.
    fn next(&mut self) -> Result<Option<&[u8]>> {
        self.line.clear();
        let read = (&mut self.input)
            .take(LINE_LIMIT as u64 + 1)
            .read_until(b'\n', &mut self.line)
            .map_err(|e| Error::from_io(Kind::Damaged, format!("cannot read {}", self.what), e))?;
        if read == 0 {
            return Ok(None);
        }
        if self.line.pop() != Some(b'\n') {
            return Err(Error::damaged(format!("{} has a line that is cut or too long", self.what)));
        }
        Ok(Some(&self.line))
    }
}

/// The files and links of a sorted list that later paths may claim to lie in.
#[derive(Default)]
struct Leaves(Vec<Vec<u8>>);

impl Leaves {
    /// Takes the next line; false when it lies below a file or a link.
    fn admit(&mut self, line: &FileLine) -> bool {
        // Sorted: what is no beginning of this path is none of any later one.
        while self.0.last().is_some_and(|leaf| !line.path.starts_with(leaf)) {
            self.0.pop();
        }
        if self.0.iter().any(|leaf| line.path.get(leaf.len()) == Some(&b'/')) {
            return false;
        }
        if line.kind != EntryKind::Dir {
            self.0.push(line.path.clone());
        }
        true
    }
}

/// Hands out every line of a bundle's file list, in order; everything that a list must be is checked on the way. Answers the
/// segments that it is made of.
///
/// Segments are digested as they are read: what `visit` got is good only when this ends well.
pub fn for_each_line(
    opened: &Opened<'_>,
    key: &SealingKey,
    visit: &mut dyn FnMut(FileLine) -> Result<()>,
) -> Result<Vec<PartName>> {
    let mut segments = Vec::new();
    let name = Member::Files.file_name();
    let mut list = Lines::new(opened.read(&Member::Files, key)?, &name);
    let mut before: Option<Vec<u8>> = None;
    let mut leaves = Leaves::default();
    while let Some(line) = list.next()? {
        let segment = SegmentLine::parse(line)?;
        let part = segment.name()?;
        let what = part.object(opened.app())?.to_string();
        let digested = opened.read_part(&part)?;
        let mut lines = Lines::new(FrameReader::new(unseal(key, digested, &what)?, what.clone())?, &what);
        let (mut count, mut files, mut bytes) = (0, 0, 0_u64);
        let mut hash = blake3::Hasher::new();
        while let Some(text) = lines.next()? {
            hash.update(text).update(b"\n");
            let line = FileLine::parse(text)?;
            if before.as_ref().is_some_and(|before| *before >= line.path) {
                return Err(Error::damaged(format!("{what} is not sorted, or names a path twice")));
            }
            if !leaves.admit(&line) {
                return Err(Error::damaged(format!("{what} has something below what is no folder")));
            }
            if let Some(place) = &line.place
                && opened.sums().part(&place.part).is_none()
            {
                return Err(Error::damaged(format!("{what} names a part that the bundle does not list")));
            }
            count += 1;
            if line.kind == EntryKind::File {
                files += 1;
                bytes = bytes.saturating_add(line.size);
            }
            before = Some(line.path.clone());
            visit(line)?;
        }
        // What the digest covers beyond the age payload is nothing, but the end must have been reached.
        lines.input.into_inner().into_inner().into_inner().finish()?;
        let same = hash.finalize().to_hex().as_str() == segment.blake3;
        if !same || (count, files, bytes) != (segment.lines, segment.files, segment.bytes) {
            return Err(Error::damaged(format!("{what} does not hold the lines that the list of segments names")));
        }
        segments.push(part);
    }
    Ok(segments)
}

/// Writes one file of the storage out.
pub fn cat(opened: &Opened<'_>, key: &SealingKey, path: &[u8], out: &mut dyn Write) -> Result<()> {
    let mut found = None;
    for_each_line(opened, key, &mut |line| {
        if line.path == path {
            found = Some(line);
        }
        Ok(())
    })?;
    let shown = words::shown(path);
    let line = found.ok_or_else(|| {
        Error::not_found(format!("bundle {} has no file {shown}", opened.header().id))
            .hint("`strongroom show --files -i FILE` lists them.")
    })?;
    let Some(place) = &line.place else {
        return Err(Error::usage(format!("{shown} is no regular file")));
    };
    let what = place.part.object(opened.app())?.to_string();
    let mut part = PartReader::begin(opened.open_part(&place.part)?, place.part.kind, key, &what)?;
    part.enter(place)?;
    part.member(&line, &mut |bytes| {
        out.write_all(bytes).map_err(|e| Error::from_io(Kind::Failed, format!("cannot write {shown} out"), e))
    })
}

/// Undoes a restore: what it made where nothing stood is removed, what it replaced is put back, and what stood there already
/// looks again as it did.
pub fn undo(target: &dyn Target, bundle: &BundleId, plan: &ExtractPlan) -> Result<()> {
    // Before the folders that they may lie in. What stays there keeps nothing else from being put back.
    let swept = target.sweep();
    plan.todo.each_made(&mut |path| target.discard(path))?;
    target.roll_back(&rollback_name(bundle))?;
    plan.todo.each_look(&mut |path, look| target.dress(path, &look, Owner::Keep))?;
    target.sync().and(swept)
}
