//! What PostgreSQL says, turned into errors of ours.

use crate::ground::{Error, Kind, child};

/// An error with a code (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub(super) fn coded(what: &str, code: &str, message: &str) -> Error {
    let (kind, hint) = match code {
        "42501" if message.contains("row-level security") => (
            Kind::Denied,
            Some(
                "Row-level security hides rows from this user. Use the tables' owner, or a role with BYPASSRLS: a subset would prove nothing.",
            ),
        ),
        "42501" => (Kind::Denied, Some("Grant this user the right to read (pg_read_all_data), or use the owner.")),
        "57014" => (
            Kind::Unreachable,
            Some("A statement was cancelled: by statement_timeout, or by somebody. Raise the limit for this user."),
        ),
        "25P03" | "25P04" => (Kind::Unreachable, Some("A time limit ended the transaction. Raise it for this user.")),
        "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "55P03" | "40001" | "40P01" => (Kind::Unreachable, None),
        "3D000" => (Kind::NotFound, None),
        "42883" | "42P01" | "42703" | "42601" => (Kind::Usage, None),
        "XX001" | "XX002" => (Kind::Damaged, Some("The server found its own data damaged.")),
        "53100" => (Kind::Failed, Some("The server's disk is full.")),
        _ if code.starts_with("28") => (Kind::Denied, None),
        _ if code.starts_with("08") => (Kind::Unreachable, None),
        _ => (Kind::Failed, None),
    };
    let error = Error::new(kind, format!("{what}: {}", printable(message)));
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// A program that ended badly, by what it said last.
pub(super) fn ended(what: &str, program: &str, said: &str, status: &str) -> Error {
    if let Some(error) = super::link::missing(program, said) {
        return error;
    }
    let lower = said.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| lower.contains(w));
    let (kind, hint) = if has(&["server version mismatch"]) {
        (Kind::Usage, "Install client programs that are at least as new as the server.")
    } else if has(&["definition of service", "service file"]) {
        (Kind::Usage, "Services stand in the file that PGSERVICEFILE names, or in ~/.pg_service.conf.")
    } else if has(&["canceling statement due to user request", "canceling statement due to lock timeout"]) {
        (
            Kind::Unreachable,
            "Somebody cancelled it, or another session holds what it waits for. Try again when that is gone.",
        )
    } else if has(&["row-level security"]) {
        (Kind::Denied, "Row-level security hides rows from this user. Use the tables' owner, or a role with BYPASSRLS.")
    } else if has(&["password authentication failed", "no password supplied", "fe_sendauth"]) {
        (Kind::Denied, "Give the password as [database] password, or in ~/.pgpass (mode 0600).")
    } else if has(&[
        "no pg_hba.conf entry",
        "authentication failed",
        "permission denied",
        "must be owner",
        "must be superuser",
        "is not permitted to log in",
        "certificate verify failed",
        "does not match host name",
        "valid client certificate",
        "does not support ssl",
        "root certificate file",
    ]) {
        (Kind::Denied, "")
    } else if lower.contains("role \"") && lower.contains("does not exist") && lower.contains("fatal") {
        (Kind::Denied, "The server has no such user.")
    } else if lower.contains("role \"") && lower.contains("does not exist") {
        (Kind::Refused, "Make the missing role first; the bundle's globals.sql (`restore --target` writes it) has it.")
    } else if has(&["is not currently accepting connections"]) {
        (
            Kind::Unreachable,
            "If a restore was killed during its swap, `strongroom restore --cleanup` lets sessions in again.",
        )
    } else if lower.contains("database \"") && lower.contains("does not exist") {
        (Kind::NotFound, "Check the name of the database in the URL.")
    } else if has(&["statement timeout"]) {
        (Kind::Unreachable, "statement_timeout ended it. Raise the limit for this user.")
    } else if has(&[
        "connection refused",
        "could not connect",
        "could not translate host name",
        "timeout expired",
        "timed out",
        "server closed the connection",
        "connection to server was lost",
        "terminating connection",
        "the database system is",
        "too many clients",
        "too many connections",
        "remaining connection slots",
        "is the server running",
        "no such container",
        "is not running",
        "connection to server at",
        "connection to server on",
    ]) || has(&child::DOCKER_IS_AWAY)
    {
        (
            Kind::Unreachable,
            "Is the server running, does it take another session, and are host and port in the URL right?",
        )
    } else {
        (Kind::Failed, "")
    };
    let said = said.trim();
    let error = Error::new(kind, format!("{what}: {program} failed ({status})"));
    let error = if said.is_empty() { error } else { error.because(printable(said)) };
    if hint.is_empty() { error } else { error.hint(hint) }
}

/// Text of a server, fit for a terminal and for one line.
fn printable(text: &str) -> String {
    let line: Vec<_> = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("LOCATION:")).collect();
    line.join("; ").chars().map(|c| if c.is_control() { '?' } else { c }).take(2000).collect()
}
