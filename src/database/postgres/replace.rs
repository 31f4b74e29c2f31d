//! The swap: sessions out, two renames in one transaction, and the same way back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::build::Fresh;
use super::link::Link;
use super::preflight::{Names, administer, first};
use super::session::{Session, literal, quote};
use super::{Postgres, rewrite};
use crate::config::profile::Profile;
use crate::database::{Change, Database as _, Others, Replacement, Rewritten, Snapshot};
use crate::ground::{Error, Kind, Result, failpoint};

/// How long sessions may take to go.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A restored database beside the live one.
pub(super) struct Beside {
    postgres: Postgres,
    names: Names,
    fresh: Fresh,
    swapped: bool,
}

impl Beside {
    pub(super) fn new(postgres: Postgres, names: Names, fresh: Fresh) -> Self {
        Self { postgres, names, fresh, swapped: false }
    }

    /// What the swap renames, in order.
    fn renames(&self) -> Vec<(&str, &str)> {
        let Names { live, fresh, kept, .. } = &self.names;
        let away = kept.iter().map(|kept| (live.as_str(), kept.as_str()));
        away.chain([(fresh.as_str(), live.as_str())]).collect()
    }
}

impl Replacement for Beside {
    fn snapshot(&mut self) -> Result<Box<dyn Snapshot + '_>> {
        Postgres { link: self.postgres.link.with_database(&self.names.fresh) }.look()
    }

    fn rewrite(&mut self, profile: &Profile, change: Change<'_>) -> Result<()> {
        self.fresh.settle()?;
        // Nobody knows of it yet.
        let link = self.postgres.link.with_database(&self.names.fresh);
        match rewrite::all(&link, profile, Others::Wait, change)? {
            Rewritten::Committed => Ok(()),
            Rewritten::Unknown(error) => Err(error),
        }
    }

    fn swap(&mut self) -> Result<()> {
        self.fresh.settle()?;
        rename(&self.postgres.link, &self.renames())?;
        self.swapped = true;
        self.fresh.name = None;
        Ok(())
    }

    fn undo(&mut self) -> Result<()> {
        // Also where a swap failed: nobody may be told that all is as it was before the server was asked.
        let names = &self.names;
        if self.swapped || are_renamed(&mut administer(&self.postgres.link)?, &self.renames())? {
            let mut back = vec![(names.live.as_str(), names.fresh.as_str())];
            if let Some(kept) = &names.kept {
                back.push((kept.as_str(), names.live.as_str()));
            }
            rename(&self.postgres.link, &back)?;
            self.swapped = false;
            self.fresh.name = Some(names.fresh.clone());
        }
        // It has no use any more, and neither has what is known of it.
        let _ = self.fresh.settle();
        if let Some(name) = self.fresh.name.take() {
            administer(&self.postgres.link)?.run(&format!("DROP DATABASE IF EXISTS {};", quote(&name)))?;
        }
        Ok(())
    }

    fn keep(self: Box<Self>) -> Result<Option<PathBuf>> {
        Ok(self.names.kept.clone().map(PathBuf::from))
    }
}

/// Renames all or nothing, after everybody has left the databases; whoever comes back waits outside.
fn rename(link: &Link, renames: &[(&str, &str)]) -> Result<()> {
    let Err(error) = renamed(link, renames) else { return Ok(()) };
    // The answer to the commit may have been lost, and with it the session that would open what it has closed.
    let begun = Instant::now();
    loop {
        match settled(link, renames) {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(error),
            Err(second) if begun.elapsed() > PATIENCE => {
                return Err(error.hint(format!(
                    "Whether databases were renamed is not known, because the server does not answer: {}. \
                     `strongroom restore --cleanup` opens a database that is left closed.",
                    second.chain()
                )));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
    }
}

fn renamed(link: &Link, renames: &[(&str, &str)]) -> Result<()> {
    let mut session = administer(link)?;
    for (from, _) in renames {
        session.run(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS false;", quote(from)))?;
    }
    failpoint::pass("before the swap of databases");
    let from: Vec<_> = renames.iter().map(|(from, _)| *from).collect();
    leave(&mut session, &from)?;
    let mut statements = vec!["BEGIN;".to_owned(), "SET LOCAL synchronous_commit = on;".to_owned()];
    for (from, to) in renames {
        statements.push(format!("ALTER DATABASE {} RENAME TO {};", quote(from), quote(to)));
        statements.push(format!("ALTER DATABASE {} ALLOW_CONNECTIONS true;", quote(to)));
    }
    statements.push("COMMIT;".to_owned());
    // One statement after the other, so that each one's failure is seen; a broken transaction commits nothing.
    for statement in &statements {
        if let Err(error) = session.run(statement) {
            let _ = session.run("ROLLBACK;");
            return Err(error);
        }
    }
    failpoint::pass("after the swap of databases");
    Ok(())
}

/// Whether everything was renamed; what was not is opened again.
fn settled(link: &Link, renames: &[(&str, &str)]) -> Result<bool> {
    let mut session = administer(link)?;
    if are_renamed(&mut session, renames)? {
        return Ok(true);
    }
    let from = quoted(renames.iter().map(|(from, _)| *from));
    let closed = format!("SELECT datname FROM pg_catalog.pg_database WHERE datname IN ({from}) AND NOT datallowconn");
    for row in session.rows(&closed)? {
        session.run(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true;", quote(first(&row))))?;
    }
    Ok(false)
}

/// Whether all names are as they are to be; databases are renamed all or none.
fn are_renamed(session: &mut Session, renames: &[(&str, &str)]) -> Result<bool> {
    let names = quoted(renames.iter().flat_map(|(from, to)| [*from, *to]));
    let there = session.rows(&format!("SELECT datname FROM pg_catalog.pg_database WHERE datname IN ({names})"))?;
    let stands = |name: &str| there.iter().any(|row| first(row) == name);
    Ok(renames.iter().all(|(_, to)| stands(to)) && renames.last().is_some_and(|(from, _)| !stands(from)))
}

/// Names as a list of SQL.
fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(literal).collect::<Vec<_>>().join(", ")
}

/// Ends every session on these databases, and waits until they are gone.
pub(super) fn leave(session: &mut Session, databases: &[&str]) -> Result<()> {
    let there = format!(
        "FROM pg_catalog.pg_stat_activity WHERE datname IN ({}) AND pid <> pg_catalog.pg_backend_pid()",
        quoted(databases.iter().copied())
    );
    let begun = Instant::now();
    loop {
        let left = session.rows(&format!(
            "SELECT pid, usename, application_name, pg_has_role(usesysid, 'MEMBER') {there} AND backend_type = 'client backend'"
        ))?;
        if left.is_empty() {
            return Ok(());
        }
        session.run(&format!(
            "SELECT pg_catalog.pg_terminate_backend(pid) {there} AND pg_catalog.pg_has_role(usesysid, 'MEMBER');"
        ))?;
        if begun.elapsed() > PATIENCE {
            let who: Vec<_> = left
                .iter()
                .map(|row| format!("{} ({})", row[1].as_deref().unwrap_or("?"), row[2].as_deref().unwrap_or("")))
                .collect();
            return Err(Error::new(Kind::Denied, format!("sessions of {} do not end", who.join(", ")))
                .hint("They belong to other users: stop those programs, or grant this user pg_signal_backend."));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
