//! A restore into the live database itself: everything of the dump in one transaction, or nothing.
//!
//! For those who may not create a database. Nothing can be looked at before it is committed, so what is restored is proved from
//! the dump, and what is there is backed up first; both is the caller's.

use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::feed::{Input, run};
use super::link::Link;
use super::preflight::{administer, first, live_name};
use super::read::FOREIGN_SCHEMAS;
use super::replace::{PATIENCE, leave};
use super::session::{Session, literal};
use super::{Postgres, end_orphans};
use crate::config::profile::Profile;
use crate::database::{Change, Content, Database as _, DatabasePlan, Facts, Replacement, Snapshot, pgdump};
use crate::ground::progress::Silent;
use crate::ground::{Error, Result, failpoint};

const DUMP: &str = "database.pgdump";

/// How often it is asked whether somebody stands in the way.
const LOOK: Duration = Duration::from_millis(500);

/// Plans it; what every restore needs was looked at before.
pub(super) fn plan(link: &Link, facts: &Facts, live: &str, exists: bool, space: String) -> Result<DatabasePlan> {
    if !exists {
        return Err(Error::not_found(format!("there is no database {live} to restore into"))
            .hint("Leave --in-place out: the database is then built anew, for which this user needs CREATEDB."));
    }
    let mut session = Session::open(link, "restore")?;
    let encoding = session.row(
        "SELECT pg_catalog.pg_encoding_to_char(encoding) FROM pg_catalog.pg_database WHERE datname = current_database()",
    )?;
    if let Some(from) = facts.settings.get("encoding").filter(|from| *from != first(&encoding)) {
        return Err(Error::refused(format!(
            "{live} is encoded in {}, and the bundle's database in {from}",
            first(&encoding)
        ))
        .hint("Leave --in-place out: the database is then built anew as it was."));
    }
    let mut steps = vec![
        "what is there is backed up first, as a bundle of its own".to_owned(),
        "the credentials are proved in the bundle's dump".to_owned(),
        "sessions that are there are ended, and later ones that stand in the way".to_owned(),
        "in one transaction everything that the dump holds is dropped and made anew; if anything fails, nothing has changed".to_owned(),
        "once committed this cannot be rolled back: the way back is to restore the bundle that was made first".to_owned(),
        "the database's own settings, grants and comment stay as they are".to_owned(),
        space,
    ];
    let tables = session.rows(&format!(
        "SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {FOREIGN_SCHEMAS} ORDER BY 1"
    ))?;
    let extra: Vec<_> = tables.iter().map(|row| first(row)).filter(|t| !facts.tables.contains_key(*t)).collect();
    if !extra.is_empty() {
        steps.push(format!("tables that the bundle does not have stay: {}", extra.join(", ")));
    }
    Ok(DatabasePlan { target: link.url.to_string(), replaces: true, kept_as: None, steps, reversible: false })
}

/// The live database, and the dump that will be put into it.
pub(super) struct InPlace {
    postgres: Postgres,
    dump: Option<Box<dyn Read + Send>>,
    state: State,
}

/// What became of the live database.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    AsItWas,
    Unknown,
    Committed,
}

impl InPlace {
    /// Opens the dump; it is read by the swap.
    pub(super) fn new(postgres: &Postgres, member: &mut dyn FnMut(&str) -> Result<Box<dyn Content>>) -> Result<Self> {
        Ok(Self { postgres: postgres.clone(), dump: Some(member(DUMP)?), state: State::AsItWas })
    }
}

/// Tells two states of a database apart: whatever is made anew has new numbers.
fn identity(link: &Link) -> Result<String> {
    let row = Session::open(link, "restore")?.row(&format!(
        "SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(c.oid::text, ',' ORDER BY c.oid), '')) FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {FOREIGN_SCHEMAS}"
    ))?;
    Ok(first(&row).to_owned())
}

impl Replacement for InPlace {
    fn snapshot(&mut self) -> Result<Box<dyn Snapshot + '_>> {
        self.postgres.look()
    }

    fn rewrite(&mut self, _: &Profile, _: Change<'_>) -> Result<()> {
        Err(Error::refused("what is restored in place can be re-encrypted only when it is there")
            .hint("`strongroom key rotate` does it afterwards."))
    }

    fn swap(&mut self) -> Result<()> {
        let Some(dump) = self.dump.take() else { return Err(Error::failed("a dump is put in place once")) };
        let link = &self.postgres.link;
        let before = identity(link)?;
        let mut session = administer(link)?;
        end_orphans(&mut session, link)?;
        leave(&mut session, &[&live_name(link)?])?;
        drop(session);
        failpoint::pass("before the restore in place");
        self.state = State::Unknown;
        let arguments = ["--clean", "--if-exists", "--single-transaction"];
        let done = std::thread::scope(|scope| {
            let (end, ended) = bounded::<()>(0);
            scope.spawn(move || make_way(link, &ended));
            let done = pgdump::Beginning::read(dump, DUMP).and_then(|(head, whole)| {
                let one = pgdump::Shares::one();
                let lane = pgdump::Lane::new(whole, DUMP, &head, &one, 0)?;
                run(link, &arguments, Input::Stream(Box::new(lane)), &Silent)
            });
            drop(end);
            done
        });
        if let Err(error) = done {
            // The answer to a commit may be lost on its way.
            let begun = Instant::now();
            while self.state == State::Unknown {
                match identity(link) {
                    Ok(now) => self.state = if now == before { State::AsItWas } else { State::Committed },
                    Err(_) if begun.elapsed() > PATIENCE => break,
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
            return Err(error);
        }
        self.state = State::Committed;
        failpoint::pass("after the restore in place");
        // What is committed is good without it, too: the server does the same by and by.
        let _ = Session::open(link, "restore").and_then(|mut inside| inside.run("ANALYZE;"));
        Ok(())
    }

    fn undo(&mut self) -> Result<()> {
        let why = match self.state {
            State::AsItWas => return Ok(()),
            State::Unknown => {
                "whether the restore in place was committed is not known, because the server does not answer"
            }
            State::Committed => "the database was restored in place, and that is committed",
        };
        Err(Error::failed(why).hint("To go back, restore the bundle that was made before it, with --in-place."))
    }

    fn keep(self: Box<Self>) -> Result<Option<PathBuf>> {
        Ok(None)
    }
}

/// Ends sessions that our restore waits for; one of somebody else ends the restore, because it would wait for ever.
fn make_way(link: &Link, ended: &Receiver<()>) {
    let (Ok(mut session), Ok(live)) = (administer(link), live_name(link)) else { return };
    let ours = format!(
        "a.datname = {} AND a.application_name = {} AND a.usename = current_user",
        literal(&live),
        literal(&link.application("restore"))
    );
    let waiting = "FROM pg_catalog.pg_stat_activity a, pg_catalog.unnest(pg_catalog.pg_blocking_pids(a.pid)) b \
        JOIN pg_catalog.pg_stat_activity o ON o.pid = b";
    let mut since = None::<Instant>;
    while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        let _ = session.run(&format!(
            "SELECT pg_catalog.pg_terminate_backend(b) {waiting} WHERE {ours} AND pg_catalog.pg_has_role(o.usesysid, 'MEMBER');"
        ));
        let others =
            session.rows(&format!("SELECT a.pid {waiting} WHERE {ours} AND NOT pg_has_role(o.usesysid, 'MEMBER')"));
        match others {
            Ok(rows) if !rows.is_empty() => {
                if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    let _ = session.run(&format!(
                        "SELECT pg_catalog.pg_cancel_backend(a.pid) FROM pg_catalog.pg_stat_activity a WHERE {ours};"
                    ));
                }
            }
            _ => since = None,
        }
    }
}
