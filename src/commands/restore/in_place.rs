//! What a restore needs around it that cannot be rolled back: a bundle of what is there, and a proof without a second database.

use super::{Source, prove};
use crate::commands::host::Host;
use crate::commands::{Desk, Problem, backup};
use crate::database::{self, Replacement};
use crate::ground::scratch::Scratch;
use crate::ground::{Error, Result};

/// Backs up what is there, of which an earlier restore may make one doubt; whoever calls this holds the host's lock, and has stopped the application.
pub(super) fn back_up(desk: &Desk<'_>, host: &Host, doubt: Option<Problem>) -> Result<String> {
    desk.ask.say("backing up what is there");
    let within = backup::Within::Restore(doubt);
    let request = backup::Request { only: backup::Only::Database, prove_all: false, allow_empty: false, within };
    let outcome = backup::make(desk, host, &request)
        .map_err(|e| e.context("what is there could not be backed up, so nothing was touched"))?;
    desk.progress.finish();
    outcome.json["bundle"].as_str().map(str::to_owned).ok_or_else(|| Error::failed("a backup told no bundle"))
}

/// Proves the credentials in the dump itself, and that it has the rows that were counted.
pub(super) fn prove_dump(desk: &Desk<'_>, source: &Source<'_>, proved: &prove::Proved) -> Result<()> {
    let member = source.opened.member_named("database.pgdump")?;
    let scratch = Scratch::temporary()?;
    let mut snapshot =
        database::open_again(|| source.opened.read(&member, &source.sealing), &member.base_name(), &scratch)?;
    prove::restored(desk, proved, snapshot.as_mut())
}

/// Looks at what was committed: every table of the bundle with the rows that it had.
pub(super) fn check(desk: &Desk<'_>, replacement: &mut dyn Replacement, proved: &prove::Proved) -> Result<()> {
    let now = replacement.snapshot()?.facts(desk.progress.as_ref())?;
    let differs = |(table, rows): &(&String, &u64)| now.tables.get(*table) != Some(*rows);
    match proved.summary.facts.tables.iter().find(differs) {
        None => Ok(()),
        Some((table, _)) => {
            Err(Error::damaged(format!("table {table} does not have the rows that were counted at the backup"))
                .hint("Somebody writes to the database: stop that, and restore again."))
        }
    }
}
