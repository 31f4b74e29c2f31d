//! Whether the server has room for a second database.

use super::link::Link;
use super::session::{Session, literal};
use crate::database::Facts;
use crate::ground::{Error, Result};

const MIB: u64 = 1 << 20;

/// The plan's sentence on space; an error when there is certainly too little.
///
/// What is free is seen where the server runs on this machine, and its folder may be looked at.
pub(super) fn sentence(session: &mut Session, link: &Link, facts: &Facts, live: &str) -> Result<String> {
    let bytes = match facts.bytes {
        0 => size_of(session, live)?,
        bytes => bytes,
    };
    let (need, what) = (bytes.div_ceil(MIB), "it takes about");
    match free(session, link)? {
        Some(free) if free < bytes => Err(Error::refused(format!(
            "the server's disk has {} MiB free, and the database takes about {need}",
            free / MIB
        ))
        .hint("Free some space there (`restore --cleanup` removes what earlier restores kept), or restore into another server with --database URL.")),
        Some(free) => Ok(format!("{what} {need} MiB on the server's disk, of which {} are free", free / MIB)),
        None => Ok(format!("{what} {need} MiB on the server's disk; what is free there cannot be seen from here")),
    }
}

/// What a database takes now, none for one that is not there.
fn size_of(session: &mut Session, database: &str) -> Result<u64> {
    let rows = session.rows(&format!(
        "SELECT pg_catalog.pg_database_size(oid) FROM pg_catalog.pg_database WHERE datname = {}",
        literal(database)
    ))?;
    Ok(rows.first().and_then(|row| row[0].as_deref()?.parse().ok()).unwrap_or(0))
}

/// What is free in the server's folder, if that is on this machine and may be seen.
fn free(session: &mut Session, link: &Link) -> Result<Option<u64>> {
    if !link.options.prefix.is_empty() {
        return Ok(None);
    }
    // By a socket it is this machine, unless somebody forwards sockets: then the process is not the server's either.
    let row = session.row(
        "SELECT inet_server_addr() IS NULL, pg_backend_pid(), \
         (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory')",
    )?;
    let (socket, process) = (row[0].as_deref() == Some("t"), row[1].as_deref().unwrap_or_default());
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    if !socket || !name.starts_with("postgres") {
        return Ok(None);
    }
    // The server stands in its folder. Others than root and itself may not look there, and need a right to be told its name.
    let folders = [Some(format!("/proc/{process}/cwd/base")), row[2].clone()];
    Ok(folders
        .iter()
        .flatten()
        .find_map(|folder| rustix::fs::statvfs(folder.as_str()).ok())
        .map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize)))
}
