//! Who else has a database open: by `/proc` in our own PID namespace, by SQLite's locks beyond it.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::ErrorCode;

use super::open::{self, Mode, beside};
use crate::ground::{Error, Result};

/// The processes that have the database or a file beside it open, as `name (pid)`.
///
/// Those of other users are seen by root only, and those of other PID namespaces not at all.
pub(super) fn processes(live: &Path) -> Vec<String> {
    let files: HashSet<(u64, u64)> = ["", "-wal", "-shm", "-journal"]
        .iter()
        .filter_map(|suffix| std::fs::metadata(beside(live, suffix)).ok())
        .map(|meta| (meta.dev(), meta.ino()))
        .collect();
    let own = std::process::id().to_string();
    let Ok(listing) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for entry in listing.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|n| n.bytes().all(|b| b.is_ascii_digit()) && **n != *own) else {
            continue;
        };
        let Ok(descriptors) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let holds = descriptors
            .flatten()
            .filter_map(|descriptor| std::fs::metadata(descriptor.path()).ok())
            .any(|meta| files.contains(&(meta.dev(), meta.ino())));
        if holds {
            let program = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push(format!("{} ({pid})", program.trim().escape_debug()));
        }
    }
    found
}

/// Refuses when anybody has the live database open, and leaves it settled: no journal to roll back, nothing in the log.
///
/// A database that SQLite cannot open is nobody's business here: damaged ones are what restores are for.
pub(super) fn refuse_open(live: &Path) -> Result<()> {
    if !live.exists() {
        return Ok(());
    }
    let held = processes(live);
    if !held.is_empty() {
        return Err(Error::refused(format!("{} is open in {}", live.display(), held.join(", ")))
            .hint("Stop the application first, by hand or as [app] stop."));
    }
    // SQLite removes the log beside what it takes for an empty database; a damaged one is left as it is.
    if open::peek(live, |_| None).is_err() {
        return Ok(());
    }
    let Ok(connection) = open::open(live, Mode::Writable, Duration::from_secs(1)) else { return Ok(()) };
    // Exclusive for the connection and not for a transaction: in WAL mode that is refused even by idle readers.
    let taken = connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT;");
    match taken {
        Ok(()) => {
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()));
            Ok(())
        }
        Err(e) if matches!(e.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) => {
            Err(Error::refused(format!("{} is in use by a program that is not seen from here", live.display()))
                .because(e)
                .hint("Stop the application first; it may run in another container."))
        }
        Err(_) => Ok(()),
    }
}
