//! Deep verification of a storage: every part read once, every listed file's digest compared.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::for_each_line;
use super::run::{cores, each_part};
use super::todo::{Action, Todo};
use crate::bundle::part::PartReader;
use crate::bundle::{Opened, Scope};
use crate::ground::Result;
use crate::ground::progress::{Progress, Unit};
use crate::sealing::SealingKey;

/// What was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DeepFiles {
    /// Files whose content is what the list names.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// Reads every part of a bundle from its first byte to its last: SHA-256 of what is stored, BLAKE3 of every listed file.
pub fn verify_deep(opened: &Opened<'_>, key: &SealingKey, progress: &dyn Progress) -> Result<DeepFiles> {
    let todo = Todo::new()?;
    let mut total = 0_u64;
    let segments = for_each_line(opened, key, &mut |line| {
        if line.place.is_none() {
            return Ok(());
        }
        total = total.saturating_add(line.size);
        todo.add(Action::Write, &line, false)
    })?;
    todo.seal()?;
    progress.stage("verify files", Some(total), Unit::Bytes);
    let (files, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let parts = todo.parts()?;
    each_part(&parts, cores(), |part| {
        let what = part.object(opened.app())?.to_string();
        let mut reader = PartReader::begin(opened.read_part(part)?, part.kind, key, &what)?;
        todo.of_part(part, &mut |line| {
            let Some(place) = &line.place else { return Ok(()) };
            reader.advance_to(place)?;
            reader.member(&line, &mut |chunk| {
                progress.advance(chunk.len() as u64);
                Ok(())
            })?;
            files.fetch_add(1, Ordering::Relaxed);
            bytes.fetch_add(line.size, Ordering::Relaxed);
            Ok(())
        })?;
        reader.drain()?.finish()
    })?;
    // What is listed for bundles to come, and holds nothing of this one.
    let read = segments.into_iter().chain(parts).collect();
    opened.check(Scope::PartsBut(&read), progress)?;
    Ok(DeepFiles { files: files.into_inner(), bytes: bytes.into_inner() })
}
