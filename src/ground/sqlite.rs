//! What goes wrong with the SQLite files that are our own: what this host remembers.

use std::path::Path;

use rusqlite::ErrorCode;

use super::{Error, error};

/// Whether a file holds something else than it should, so that it is begun anew.
///
/// A disk that is full or fails and another program's lock say nothing about what the file holds.
pub fn is_spoilt(error: &rusqlite::Error) -> bool {
    !matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::DiskFull
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::OutOfMemory
        )
    )
}

/// An error on such a file; `removing` says what removing it costs.
pub fn failed(what: &str, path: &Path, error: &rusqlite::Error, removing: &str) -> Error {
    let failed = Error::failed(format!("cannot use {what} in {}", path.display())).because(error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => failed.hint(error::FULL),
        Some(ErrorCode::SystemIoFailure) => failed.hint(error::FAULT).hint(error::QUOTA).hint(removing),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            failed.hint("Another program holds it: wait until it has ended, and try again.")
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            failed.hint("Is there room on its device, and may this user write there?")
        }
        _ => failed.hint(removing),
    }
}
