//! Databases that earlier restores kept or left: `<live>_before_<time>` and `<live>_new_<time>`.

use super::link::Link;
use super::preflight::{administer, first, live_name};
use super::session::{Session, literal, quote};
use crate::ground::kept::Kept;
use crate::ground::{Error, Result};

/// Whether a name is one that a restore of `live` makes, with a time such as `20261123t020000z` behind it.
fn is_ours(live: &str, name: &str) -> bool {
    let rest = name.strip_prefix(live).unwrap_or_default();
    let time = rest.strip_prefix("_before_").or_else(|| rest.strip_prefix("_new_")).unwrap_or_default().as_bytes();
    time.len() == 16
        && time.iter().enumerate().all(|(at, byte)| match at {
            8 => *byte == b't',
            15 => *byte == b'z',
            _ => byte.is_ascii_digit(),
        })
}

/// What is there; and the live database lets sessions in again, if a killed restore had shut it.
pub(super) fn list(link: &Link) -> Result<Vec<Kept>> {
    let live = live_name(link)?;
    let mut session = administer(link)?;
    reopen(&mut session, &live)?;
    let names = session.rows(
        // A database that this role may not connect to has a size that it may not know.
        "SELECT datname, CASE WHEN has_database_privilege(datname, 'CONNECT') THEN pg_database_size(datname) END
         FROM pg_catalog.pg_database ORDER BY 1",
    )?;
    if !names.iter().any(|row| first(row) == live) {
        return Err(Error::refused(format!("there is no database {live}; what is kept beside it may be all there is"))
            .hint(format!("ALTER DATABASE … RENAME TO {live} brings a kept one back.")));
    }
    let ours = names.iter().filter(|row| is_ours(&live, first(row)));
    let way_back = |name: &str| !name[live.len()..].starts_with("_new_");
    Ok(ours
        .map(|row| Kept { name: first(row).to_owned(), bytes: second(row), way_back: way_back(first(row)) })
        .collect())
}

/// The number in the second column.
fn second(row: &[Option<String>]) -> Option<u64> {
    row.get(1)?.as_deref()?.parse().ok()
}

fn reopen(session: &mut Session, live: &str) -> Result<()> {
    let shut = session.rows(&format!(
        "SELECT datname FROM pg_catalog.pg_database WHERE datname = {} AND NOT datallowconn",
        literal(live)
    ))?;
    if shut.is_empty() {
        return Ok(());
    }
    session.run(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true;", quote(live)))
}

/// Drops one of them.
pub(super) fn remove(link: &Link, name: &str) -> Result<()> {
    if !is_ours(&live_name(link)?, name) {
        return Err(Error::refused(format!("{name} was not made by a restore")));
    }
    administer(link)?.run(&format!("DROP DATABASE {};", quote(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_restore_makes_are_ours() {
        assert!(is_ours("app", "app_before_20261123t020000z") && is_ours("app", "app_new_20261123t020000z"));
        for name in [
            "app",
            "app_before_",
            "app_before_2026",
            "app_before_20261123t020000zz",
            "app2_before_20261123t020000z",
            "ap_before_20261123t020000z",
            "app_before_2026112xt020000z",
        ] {
            assert!(!is_ours("app", name), "{name}");
        }
    }
}
