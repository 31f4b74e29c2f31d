//! PostgreSQL 14 to 18, through its own programs: `psql` for questions, `pg_dump` and `pg_restore` for the bulk.
//!
//! One way for every shape in which people run it: the programs reach the server as they always do (socket, TLS, `.pgpass`,
//! service file), or stand behind a prefix such as `docker exec -i NAME`. The proof and the dump read one exported snapshot.

mod build;
mod dump;
mod facts;
mod fault;
mod feed;
mod in_place;
mod leftovers;
mod link;
mod pipes;
mod preflight;
mod read;
mod replace;
mod rewrite;
mod session;
mod space;

use std::io::Cursor;
use std::ops::Range;
use std::sync::PoisonError;

use self::dump::{Blocks, Output, Remarks};
use self::in_place::InPlace;
use self::link::Link;
pub use self::link::PostgresOptions;
use self::replace::Beside;
use self::session::{Session, literal};
use super::{
    Change, Content, Database, DatabasePlan, Dump, Facts, NamedObject, Others, Replacement, Rewritten, Snapshot,
    Suspect,
};
use crate::appkey::credential::Credential;
use crate::config::profile::Profile;
use crate::config::url::PostgresUrl;
use crate::ground::kept::Kept;
use crate::ground::progress::Progress;
use crate::ground::scratch::Scratch;
use crate::ground::{Error, Result};

/// An application's PostgreSQL database.
#[derive(Clone)]
pub struct Postgres {
    link: Link,
}

impl Postgres {
    /// The database at this URL, which need not answer yet.
    pub fn new(url: PostgresUrl, options: PostgresOptions) -> Self {
        Self { link: Link { url, options } }
    }
}

/// Ends sessions of earlier runs of this host: a program killed behind a prefix leaves its session open.
///
/// Of verbs only that hold this host's lock; `guard` and `prove` may be looking just now.
fn end_orphans(session: &mut Session, link: &Link) -> Result<()> {
    let names: Vec<_> =
        ["backup", "restore", rewrite::PURPOSE].iter().map(|purpose| literal(&link.application(purpose))).collect();
    session.run(&format!(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
         WHERE application_name IN ({}) AND pid <> pg_catalog.pg_backend_pid() AND usename = current_user;",
        names.join(", ")
    ))
}

/// What is to be said of a `pg_dump` whose dump this server will not take back.
fn too_new(dump: &str, server: u32) -> Option<String> {
    (link::major(dump) >= 17 && server < 17).then(|| {
        format!(
            "pg_dump is of version {dump}, and the server of {server}: the dump can be restored into a server of 17 or newer only. \
             Name the folder of the client programs of {server} as [database] programs"
        )
    })
}

impl Database for Postgres {
    fn describe(&self) -> String {
        let prefix = &self.link.options.prefix;
        if prefix.is_empty() { self.link.url.to_string() } else { format!("{} by {}", self.link.url, prefix.join(" ")) }
    }

    fn snapshot(&self, _: &Scratch, _: &dyn Progress) -> Result<Box<dyn Snapshot>> {
        let mut session = Session::open(&self.link, "backup")?;
        end_orphans(&mut session, &self.link)?;
        session.begin_reading()?;
        let server = facts::server_number(&mut session)?;
        let dump = self.link.not_older("pg_dump", server)?;
        let remarks = Remarks::default();
        remarks.lock().unwrap_or_else(PoisonError::into_inner).extend(too_new(&dump, server / 10_000));
        let id = session.row("SELECT pg_export_snapshot()")?.remove(0).unwrap_or_default();
        Ok(Box::new(Moment { id: Some(id), remarks, ..Moment::new(session, &self.link) }))
    }

    fn look(&self) -> Result<Box<dyn Snapshot>> {
        let mut session = Session::open(&self.link, "look")?;
        session.begin_reading()?;
        Ok(Box::new(Moment::new(session, &self.link)))
    }

    fn rewrite(&self, profile: &Profile, others: Others, change: Change<'_>) -> Result<Rewritten> {
        rewrite::all(&self.link, profile, others, change)
    }

    fn plan(&self, facts: &Facts) -> Result<DatabasePlan> {
        preflight::plan(&self.link, facts)
    }

    fn build(
        &self,
        plan: &DatabasePlan,
        facts: &Facts,
        member: &mut dyn FnMut(&str) -> Result<Box<dyn Content>>,
        progress: &dyn Progress,
    ) -> Result<Box<dyn Replacement>> {
        if self.link.options.in_place {
            return Ok(Box::new(InPlace::new(self, member)?));
        }
        let names = preflight::names_of(&self.link, plan)?;
        let fresh = build::build(self, &names, facts, member, progress)?;
        Ok(Box::new(Beside::new(self.clone(), names, fresh)))
    }

    fn tools(&self) -> Result<Option<String>> {
        let server = facts::server_number(&mut Session::open(&self.link, "look")?)?;
        let dump = self.link.not_older("pg_dump", server)?;
        Ok(Some(format!("pg_dump {dump} for a server of {}", server / 10_000)))
    }

    fn kept(&self) -> Result<Vec<Kept>> {
        leftovers::list(&self.link)
    }

    fn remove_kept(&self, name: &str) -> Result<()> {
        leftovers::remove(&self.link, name)
    }
}

/// One moment of the database, held by an open transaction.
struct Moment {
    session: Session,
    link: Link,
    /// The exported snapshot, for `pg_dump`.
    id: Option<String>,
    /// What was counted.
    rows: Option<Facts>,
    blocks: Blocks,
    remarks: Remarks,
}

impl Moment {
    fn new(session: Session, link: &Link) -> Self {
        let (blocks, remarks) = (Blocks::default(), Remarks::default());
        Self { session, link: link.clone(), id: None, rows: None, blocks, remarks }
    }
}

impl Snapshot for Moment {
    fn credentials(
        &mut self,
        profile: &Profile,
        sample: Option<usize>,
        visit: &mut dyn FnMut(Credential) -> Result<()>,
    ) -> Result<u64> {
        read::credentials(&mut self.session, profile, sample, visit)
    }

    fn suspects(&mut self, profile: &Profile, looks_like: &dyn Fn(&[u8]) -> bool) -> Result<Vec<Suspect>> {
        read::suspects(&mut self.session, profile, looks_like)
    }

    fn named_objects(&mut self, profile: &Profile, visit: &mut dyn FnMut(NamedObject) -> Result<()>) -> Result<()> {
        read::named_objects(&mut self.session, profile, visit)
    }

    fn facts(&mut self, progress: &dyn Progress) -> Result<Facts> {
        let facts = facts::gather(&mut self.session, &self.link, self.id.is_some(), progress)?;
        self.rows = Some(facts.clone());
        Ok(facts)
    }

    fn dumps(&mut self) -> Result<Vec<Dump>> {
        let Some(id) = &self.id else { return Err(Error::usage("a look is not dumped; a snapshot is")) };
        let rows = self.rows.as_ref().map(|facts| facts.tables.clone());
        let told = (&self.blocks, &self.remarks);
        let schema = Output::pg_dump(&self.link, id, &["--schema-only"], None, told)?;
        let whole = Output::pg_dump(&self.link, id, &[], rows, told)?;
        let mut dumps = Vec::new();
        if let Some(globals) = dump::globals(&self.link, &self.remarks)? {
            dumps.push(Dump { name: "globals.sql".to_owned(), bytes: Box::new(Cursor::new(globals)) });
        }
        dumps.push(Dump { name: "pgschema".to_owned(), bytes: Box::new(schema) });
        dumps.push(Dump { name: "database.pgdump".to_owned(), bytes: Box::new(whole) });
        Ok(dumps)
    }

    fn blocks(&mut self) -> Vec<(i64, Range<u64>)> {
        std::mem::take(&mut *self.blocks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut *self.remarks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
