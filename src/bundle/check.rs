//! Digests of a bundle's objects, several at once.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::digest::DigestReader;
use super::members::{Listed, Member, PartName};
use crate::archive::Archive;
use crate::ground::beside::Stop;
use crate::ground::names::{ObjectName, Sha256Hex};
use crate::ground::progress::Progress;
use crate::ground::words::counted;
use crate::ground::{Error, Kind, Result};

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// How many damaged objects are named.
const NAMED: usize = 10;

/// Which objects are checked.
pub enum Scope<'a> {
    /// Every object that `SHA256SUMS` lists.
    Everything,
    /// Every object but those in the set, which get into it: the parts that bundles share are read once.
    ///
    /// Names with their digests, so that a part which two bundles list with different digests is read for both.
    EverythingBut(&'a mut HashSet<(ObjectName, Sha256Hex)>),
    /// The bundle's own objects but one, without parts and segments.
    MembersBut(Option<&'a Member>),
    /// These members, as far as they are listed.
    Only(&'a [Member]),
    /// These parts, as far as they are listed.
    Parts(&'a HashSet<PartName>),
    /// All parts and segments but these.
    PartsBut(&'a HashSet<PartName>),
}

impl Scope<'_> {
    /// Whether an object is to be checked.
    pub(super) fn takes(&self, listed: &Listed, name: &ObjectName, digest: &Sha256Hex) -> bool {
        match (self, listed) {
            (Self::Everything, _) => true,
            (Self::EverythingBut(seen), _) => !seen.contains(&(name.clone(), digest.clone())),
            (Self::MembersBut(member), Listed::Member(listed)) => *member != Some(listed),
            (Self::Only(members), Listed::Member(member)) => members.contains(member),
            (Self::Parts(parts), Listed::Part(part)) => parts.contains(part),
            (Self::PartsBut(parts), Listed::Part(part)) => !parts.contains(part),
            (Self::MembersBut(_) | Self::Only(_), Listed::Part(_))
            | (Self::Parts(_) | Self::PartsBut(_), Listed::Member(_)) => false,
        }
    }
}

/// Reads each object once and compares its digest; answers how many bytes were read.
///
/// One worker a core. What is damaged or missing does not keep the others from being checked, and the error names several;
/// an archive that does not answer ends it, and so does `stop`.
pub(super) fn objects(
    archive: &dyn Archive,
    objects: &[(ObjectName, Sha256Hex)],
    stop: &Stop,
    progress: &dyn Progress,
) -> Result<u64> {
    let (next, total) = (AtomicUsize::new(0), AtomicU64::new(0));
    let failed: Mutex<Vec<(usize, Error)>> = Mutex::new(Vec::new());
    let fail = |number: usize, error: Error| {
        if error.kind() != Kind::Damaged {
            next.store(objects.len(), Ordering::SeqCst);
        }
        if let Ok(mut failed) = failed.lock() {
            failed.push((number, error));
        }
    };
    let work = || {
        let mut buffer = vec![0; BUFFER];
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            let Some((name, digest)) = objects.get(number) else { return };
            match one(archive, name, digest, &mut buffer, stop, progress) {
                Ok(bytes) => {
                    total.fetch_add(bytes, Ordering::Relaxed);
                }
                Err(error) => fail(number, error),
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(objects.len());
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
    let mut failed = failed.into_inner().map_err(|_| Error::failed("a check ended early"))?;
    // What ended the check comes first, then what comes first in the list.
    failed.sort_by_key(|(number, error)| (error.kind() == Kind::Damaged, *number));
    let mut failed = failed.into_iter();
    let Some((_, first)) = failed.next() else { return Ok(total.into_inner()) };
    if first.kind() != Kind::Damaged {
        return Err(first);
    }
    let others: Vec<_> = failed.filter_map(|(number, _)| objects.get(number)).map(|(name, _)| name.as_str()).collect();
    if others.is_empty() {
        return Err(first);
    }
    let shown = others[..others.len().min(NAMED)].join(", ");
    let more = if others.len() > NAMED { ", …" } else { "" };
    Err(first.hint(format!(
        "{} not as they should be: {shown}{more}",
        counted(others.len(), "more object is", "more objects are")
    )))
}

fn one(
    archive: &dyn Archive,
    name: &ObjectName,
    digest: &Sha256Hex,
    buffer: &mut [u8],
    stop: &Stop,
    progress: &dyn Progress,
) -> Result<u64> {
    use std::io::Read as _;
    let object = archive.open(name).map_err(|e| missing(e, name))?;
    let mut reader = DigestReader::new(object, digest.clone(), name.as_str());
    let mut total = 0;
    loop {
        stop.check()?;
        match reader.read(buffer) {
            Ok(0) => return Ok(total),
            Ok(read) => {
                total += read as u64;
                progress.advance(read as u64);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::from_io(Kind::Failed, format!("cannot read {name}"), e)),
        }
    }
}

/// An object that a signed list names and that is not there: damage.
pub(super) fn missing(error: Error, name: &ObjectName) -> Error {
    if error.kind() == Kind::NotFound {
        Error::damaged(format!("{name} is missing"))
            .because(error)
            .hint("Take this object from another copy of the archive.")
    } else {
        error
    }
}
