//! The new database beside the live one: created as the old one was, filled by `pg_restore`, never through `psql`.

use std::collections::BTreeMap;
use std::io::{Seek as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use super::feed::{self, Input, run};
use super::link::Link;
use super::preflight::{Names, administer, first, list};
use super::session::{Session, literal, quote};
use super::{Postgres, end_orphans, pipes};
use crate::database::{Content, Facts, pgdump};
use crate::ground::progress::{Progress, Unit};
use crate::ground::scratch::Scratch;
use crate::ground::{Error, Result};

const DUMP: &str = "database.pgdump";

/// More sessions than this would only wait for each other; each costs some memory here.
const MOST: usize = 8;

/// Drops the new database again unless it was taken out.
pub(super) struct Fresh {
    pub(super) link: Link,
    pub(super) name: Option<String>,
    /// Statistics are gathered while the database is looked at.
    analysis: Option<JoinHandle<Result<()>>>,
}

impl Fresh {
    fn new(link: &Link, name: &str) -> Self {
        Self { link: link.clone(), name: Some(name.to_owned()), analysis: None }
    }

    /// Gathers statistics for the planner, in sessions of their own.
    fn analyze(&mut self, new: Link) {
        self.analysis = Some(std::thread::spawn(move || analyze(&new)));
    }

    /// Waits until nobody works on the database any more.
    pub(super) fn settle(&mut self) -> Result<()> {
        let Some(analysis) = self.analysis.take() else { return Ok(()) };
        analysis.join().unwrap_or_else(|_| Err(Error::failed("a thread that gathers statistics has ended")))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Best effort: what is left has a name that says what it is.
        let _ = self.settle();
        if let Some(name) = self.name.take()
            && let Ok(mut session) = administer(&self.link)
        {
            let _ = session.run(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE);", quote(&name)));
        }
    }
}

/// Builds the new database; see [`crate::database::Database::build`].
pub(super) fn build(
    postgres: &Postgres,
    names: &Names,
    facts: &Facts,
    member: &mut dyn FnMut(&str) -> Result<Box<dyn Content>>,
    progress: &dyn Progress,
) -> Result<Fresh> {
    let link = &postgres.link;
    let mut session = administer(link)?;
    end_orphans(&mut session, link)?;
    session.run(&format!("{};", creation(names, facts, link)?))?;
    let mut fresh = Fresh::new(link, &names.fresh);
    let new = link.with_database(&names.fresh);

    let content = member(DUMP)?;
    let (dump, _) = pgdump::Beginning::read(content.beside()?, DUMP)?;
    let (sizes, cores) = (sizes(facts)?, std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let jobs = cores.min(MOST);
    match pgdump::Directory::of(&dump, &sizes, &facts.landmarks).filter(|_| jobs > 1 && link.options.prefix.is_empty())
    {
        Some(directory) => {
            facts.landmarks.iter().try_for_each(|landmark| content.learn(landmark))?;
            progress.stage("restore rows", Some(facts.bytes), Unit::Bytes);
            pipes::restore(&new, &directory, content, jobs, progress)?;
        }
        None => by_sections(&new, &dump, content, (&sizes, jobs, facts.bytes), member, progress)?,
    }
    properties(&mut session, names, facts, link)?;
    fresh.analyze(new);
    Ok(fresh)
}

/// Restores in three steps, where one `pg_restore` cannot be given everything at once: behind a prefix, and with large objects.
fn by_sections(
    new: &Link,
    dump: &pgdump::Beginning,
    whole: Box<dyn Content>,
    (sizes, jobs, bytes): (&BTreeMap<(String, String), u64>, usize, u64),
    member: &mut dyn FnMut(&str) -> Result<Box<dyn Content>>,
    progress: &dyn Progress,
) -> Result<()> {
    // Schemas and no rows: the table of contents is small, and pg_restore reads it twice.
    let scratch = Scratch::temporary()?;
    let mut head = scratch.file()?;
    let written = head.write_all(&dump.head).and_then(|()| head.rewind());
    written.map_err(|e| Error::io("write", scratch.folder(), e))?;
    let again = || head.try_clone().map_err(|e| Error::failed("cannot open a file twice").because(e));

    run(new, &["--section=pre-data"], Input::Head(again()?), progress)?;
    progress.stage("restore rows", Some(bytes), Unit::Bytes);
    feed::data(new, (dump, whole), sizes, &mut || member(DUMP), progress)?;
    progress.stage("build indexes", None, Unit::Items);
    (&head).rewind().map_err(|e| Error::io("read", scratch.folder(), e))?;
    let jobs = format!("--jobs={jobs}");
    if new.options.prefix.is_empty() {
        run(new, &["--section=post-data", &jobs, "/dev/stdin"], Input::Head(again()?), progress)?;
    } else if new.has_files() {
        run(new, &["--section=post-data", &jobs], Input::Beyond(again()?), progress)?;
    } else {
        // A pipe can be read by one alone.
        run(new, &["--section=post-data"], Input::Head(again()?), progress)?;
    }
    Ok(())
}

/// What `ANALYZE` without a table does, two tables at a time, the largest first.
fn analyze(new: &Link) -> Result<()> {
    let mut session = Session::open(new, "restore")?;
    let tables = session.rows(
        // A partitioned table takes its partitions with it.
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), CASE WHEN c.relkind = 'p'
             THEN (SELECT pg_catalog.sum(pg_catalog.pg_relation_size(relid)) FROM pg_catalog.pg_partition_tree(c.oid))
             ELSE pg_catalog.pg_relation_size(c.oid) END
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND NOT c.relisshared AND NOT c.relispartition
         ORDER BY 2 DESC NULLS LAST, 1",
    )?;
    // Its size does not say how long a table takes.
    let next = AtomicUsize::new(0);
    let work = |session: &mut Session| -> Result<()> {
        while let Some(row) = tables.get(next.fetch_add(1, Ordering::Relaxed)) {
            session.run(&format!("ANALYZE {};", first(row)))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| work(&mut Session::open(new, "restore")?));
        let done = work(&mut session);
        beside.join().unwrap_or_else(|_| Err(Error::failed("a thread that gathers statistics has ended"))).and(done)
    })
}

/// Bytes of the large tables, as they were.
fn sizes(facts: &Facts) -> Result<BTreeMap<(String, String), u64>> {
    let size = |row: Vec<Option<String>>| {
        let mut values = row.into_iter().map(Option::unwrap_or_default);
        let name = (values.next().unwrap_or_default(), values.next().unwrap_or_default());
        (name, values.next().and_then(|bytes| bytes.parse().ok()).unwrap_or(0))
    };
    Ok(list(facts, "sizes")?.into_iter().map(size).collect())
}

fn setting<'a>(facts: &'a Facts, name: &str) -> Option<&'a str> {
    facts.settings.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// `CREATE DATABASE` as the old one was.
fn creation(names: &Names, facts: &Facts, link: &Link) -> Result<String> {
    let mut parts = vec![format!("CREATE DATABASE {} TEMPLATE template0", quote(&names.fresh))];
    if let Some(owner) = setting(facts, "owner").filter(|_| !link.options.no_owner) {
        parts.push(format!("OWNER {}", quote(owner)));
    }
    for (name, word) in [("encoding", "ENCODING"), ("collate", "LC_COLLATE"), ("ctype", "LC_CTYPE")] {
        if let Some(value) = setting(facts, name) {
            parts.push(format!("{word} {}", literal(value)));
        }
    }
    match (setting(facts, "locale_provider"), setting(facts, "locale")) {
        (Some("i"), Some(locale)) => parts.push(format!("LOCALE_PROVIDER icu ICU_LOCALE {}", literal(locale))),
        (Some("b"), Some(locale)) => parts.push(format!("LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", literal(locale))),
        (None | Some("c"), _) => {}
        (Some(other), _) => {
            return Err(Error::refused(format!("the database had a locale provider {other:?} that is not known here")));
        }
    }
    Ok(parts.join(" "))
}

/// What belongs to the database and stands in no dump of it.
fn properties(session: &mut Session, names: &Names, facts: &Facts, link: &Link) -> Result<()> {
    let database = quote(&names.fresh);
    let mut statements = Vec::new();
    if let Some(comment) = setting(facts, "comment") {
        statements.push(format!("COMMENT ON DATABASE {database} IS {}", literal(comment)));
    }
    for row in list(facts, "configuration")? {
        let (role, pair) = (first(&row), row.get(1).and_then(Option::as_deref).unwrap_or_default());
        let Some((name, value)) = pair.split_once('=') else { continue };
        let whom = match role {
            "" => format!("ALTER DATABASE {database}"),
            _ if link.options.no_owner => continue,
            role => format!("ALTER ROLE {} IN DATABASE {database}", quote(role)),
        };
        statements.push(format!("{whom} SET {} TO {}", quote(name), value_of(name, value)));
    }
    if !link.options.no_owner {
        let grants = list(facts, "grants")?;
        if !grants.is_empty() {
            statements.push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"));
        }
        for row in grants {
            let whom = match first(&row) {
                "" => "PUBLIC".to_owned(),
                role => quote(role),
            };
            let right = row.get(1).and_then(Option::as_deref).unwrap_or_default();
            if !["CONNECT", "CREATE", "TEMPORARY"].contains(&right) {
                return Err(Error::damaged(format!("the proof names a right {right:?} on a database")));
            }
            let more = if row.get(2).and_then(Option::as_deref) == Some("t") { " WITH GRANT OPTION" } else { "" };
            statements.push(format!("GRANT {right} ON DATABASE {database} TO {whom}{more}"));
        }
    }
    if let Some(limit) = setting(facts, "connection_limit") {
        let limit: i32 = limit.parse().map_err(|_| Error::damaged("the proof's connection limit is no number"))?;
        statements.push(format!("ALTER DATABASE {database} CONNECTION LIMIT {limit}"));
    }
    for statement in statements {
        session.run(&format!("{statement};")).map_err(|e| {
            e.context("a property of the database cannot be set again")
                .hint("Restore as the database's owner with the rights that it had, or leave owners, grants and roles' settings out with --no-owner.")
        })?;
    }
    Ok(())
}

/// A setting's value; lists of names are stored quoted and must not be quoted once more as a whole.
fn value_of(name: &str, value: &str) -> String {
    let lists = [
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    ];
    if !lists.contains(&name) {
        return literal(value);
    }
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = value.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(std::mem::take(&mut part)),
            ' ' if !quoted => {}
            other => part.push(other),
        }
    }
    parts.push(part);
    parts.iter().map(|part| literal(part)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_stays_a_list() {
        assert_eq!(value_of("search_path", "\"$user\", public, \"a\"\"b,c\""), "'$user', 'public', 'a\"b,c'");
        assert_eq!(value_of("work_mem", "1MB'; DROP"), "'1MB''; DROP'");
    }
}
