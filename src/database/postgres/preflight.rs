//! A restore's plan: everything that would fail later is refused now, with what to do about it.

use jiff::SignedDuration;

use super::link::Link;
use super::session::{Session, literal};
use super::{PostgresOptions, facts, in_place, link, space};
use crate::database::{DatabasePlan, Facts};
use crate::ground::{Error, Result, clock};

/// The longest name that PostgreSQL keeps whole.
const MAX_NAME: usize = 63;

/// The names that a restore uses.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The application's database.
    pub(super) live: String,
    /// Where the new one is built.
    pub(super) fresh: String,
    /// Where the replaced one is kept.
    pub(super) kept: Option<String>,
}

/// A list that the facts hold as JSON.
pub(super) fn list(facts: &Facts, name: &str) -> Result<Vec<Vec<Option<String>>>> {
    match facts.settings.get(name) {
        None => Ok(Vec::new()),
        Some(text) => serde_json::from_str(text)
            .map_err(|e| Error::damaged(format!("the proof's list of {name} cannot be read")).because(e)),
    }
}

pub(super) fn first(row: &[Option<String>]) -> &str {
    row.first().and_then(Option::as_deref).unwrap_or_default()
}

/// A session on the database that is there for administration, because none can rename the one that it is connected to.
pub(super) fn administer(link: &Link) -> Result<Session> {
    Session::open(&link.with_database("postgres"), "restore").or_else(|error| {
        // Some clusters have no database of that name.
        if error.kind() == crate::ground::Kind::NotFound {
            Session::open(&link.with_database("template1"), "restore")
        } else {
            Err(error)
        }
    })
}

/// The database that a restore is for.
pub(super) fn live_name(link: &Link) -> Result<String> {
    link.url.get("dbname").map(str::to_owned).ok_or_else(|| {
        Error::usage(format!("{} names no database", link.url)).hint("A restore wants the database's name in the URL.")
    })
}

/// The names with the first second from now on that no earlier restore has taken.
fn names(session: &mut Session, live: &str, exists: bool) -> Result<Names> {
    let there = session.rows("SELECT datname FROM pg_catalog.pg_database")?;
    let taken = |name: &str| there.iter().any(|row| first(row) == name);
    let mut time = clock::now();
    loop {
        let second = clock::compact(time).to_lowercase();
        let (fresh, kept) = (format!("{live}_new_{second}"), format!("{live}_before_{second}"));
        if kept.len() > MAX_NAME {
            return Err(Error::refused(format!(
                "the database's name {live:?} leaves no room for the one that is kept"
            ))
            .hint("Restore with --target DIR, and give the dump to pg_restore."));
        }
        if !taken(&fresh) && !taken(&kept) {
            return Ok(Names { live: live.to_owned(), fresh, kept: exists.then_some(kept) });
        }
        time += SignedDuration::from_secs(1);
    }
}

/// The names of a plan that was made before.
pub(super) fn names_of(link: &Link, plan: &DatabasePlan) -> Result<Names> {
    let live = live_name(link)?;
    Ok(match &plan.kept_as {
        Some(kept) => Names { fresh: kept.replacen("_before_", "_new_", 1), kept: Some(kept.clone()), live },
        None => names(&mut administer(link)?, &live, false)?,
    })
}

/// See [`crate::database::Database::plan`].
pub(super) fn plan(link: &Link, facts: &Facts) -> Result<DatabasePlan> {
    if facts.system != "postgres" {
        return Err(Error::usage(format!("the bundle's database is {}, and {} is PostgreSQL", facts.system, link.url))
            .hint("Name a database of the bundle's kind with --database, or write files with --target DIR."));
    }
    let live = live_name(link)?;
    let mut session = administer(link)?;
    let server = facts::server_number(&mut session)?;
    let from: u32 = facts.settings.get("server_version_num").and_then(|n| n.parse().ok()).unwrap_or(0);
    if from / 10_000 > server / 10_000 {
        return Err(Error::refused(format!(
            "the bundle is of PostgreSQL {}, and this server is of {}",
            from / 10_000,
            server / 10_000
        ))
        .hint(
            "A newer version's dump does not restore cleanly into an older one. Restore into a server at least as new.",
        ));
    }
    link.restores(from, server, facts.tools.get("pg_dump").map(String::as_str))?;
    let options = &link.options;
    let superuser = rights(&mut session, options)?;
    let row = session.rows(&format!(
        "SELECT d.oid, pg_get_userbyid(d.datdba), pg_has_role(d.datdba, 'MEMBER') FROM pg_catalog.pg_database d WHERE d.datname = {}",
        literal(&live)
    ))?;
    let exists = row.first();
    if let Some(row) = exists {
        if row[2].as_deref() != Some("t") {
            return Err(Error::denied(format!("{live} belongs to {}", row[1].as_deref().unwrap_or("somebody")))
                .hint("Only its owner, or a member of that role, can rename it."));
        }
        nothing_hangs_on_it(&mut session, &live, row[0].as_deref().unwrap_or("0"))?;
    }
    if !options.no_owner {
        roles(&mut session, facts)?;
        public_schema(facts, from / 10_000, server / 10_000, superuser)?;
    }
    extensions(&mut session, facts, superuser)?;
    let space = space::sentence(&mut session, link, facts, &live)?;
    if options.in_place {
        return in_place::plan(link, facts, &live, exists.is_some(), space);
    }
    let names = names(&mut session, &live, exists.is_some())?;
    let mut steps = vec![
        format!("a new database {} is built beside it, with the credentials proved there", names.fresh),
        space,
        "its settings, grants and comment are set as they were at the backup".to_owned(),
    ];
    if options.no_owner {
        "owners and grants are left out (--no-owner): everything belongs to this user".clone_into(&mut steps[2]);
    }
    if let Some(kept) = &names.kept {
        steps.push("no new sessions are let in and those that are there are ended".to_owned());
        steps.push(format!("in one transaction {live} becomes {kept}, and the new one {live}"));
    } else {
        steps.push(format!("it is renamed to {live}"));
    }
    steps.push("roles are not touched: globals.sql in the bundle has them".to_owned());
    let replaces = exists.is_some();
    Ok(DatabasePlan { target: link.url.to_string(), replaces, kept_as: names.kept, steps, reversible: true })
}

/// Whether the user is a superuser; one is refused unless that was asked for.
fn rights(session: &mut Session, options: &PostgresOptions) -> Result<bool> {
    let row =
        session.row("SELECT rolname, rolsuper, rolcreatedb FROM pg_catalog.pg_roles WHERE rolname = current_user")?;
    let user = first(&row).to_owned();
    let superuser = row[1].as_deref() == Some("t");
    if superuser && !options.as_superuser {
        return Err(Error::refused(format!("{user} is a superuser, and a dump runs with all the rights of whoever restores it"))
            .hint("Restore as the database's owner (ALTER ROLE … CREATEDB), or give --as-superuser for a dump that you trust wholly."));
    }
    if !superuser && row[2].as_deref() != Some("t") && !options.in_place {
        return Err(Error::denied(format!("{user} may not create databases"))
            .hint(format!("ALTER ROLE {user} CREATEDB lets it; the new database is built beside the old one. Without that right there is --in-place.")));
    }
    Ok(superuser)
}

/// What follows a database by its identity would follow the replaced one.
fn nothing_hangs_on_it(session: &mut Session, live: &str, oid: &str) -> Result<()> {
    let name = literal(live);
    for (what, sql, hint) in [
        (
            "logical replication slots",
            format!("SELECT slot_name::text FROM pg_catalog.pg_replication_slots WHERE database = {name}"),
            "Drop them first (pg_drop_replication_slot); their readers must begin anew after a restore anyway.",
        ),
        (
            "subscriptions",
            format!("SELECT subname::text FROM pg_catalog.pg_subscription WHERE subdbid = {oid}::oid"),
            "Drop or disable them first; they must be made anew after a restore.",
        ),
        (
            "prepared transactions",
            format!("SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = {name}"),
            "COMMIT PREPARED or ROLLBACK PREPARED them: a database that has some cannot be renamed.",
        ),
    ] {
        let rows = session.rows(&sql)?;
        if !rows.is_empty() {
            let all: Vec<_> = rows.iter().map(|row| first(row).to_owned()).collect();
            return Err(Error::refused(format!("{live} has {what}: {}", all.join(", "))).hint(hint));
        }
    }
    Ok(())
}

fn roles(session: &mut Session, facts: &Facts) -> Result<()> {
    let there: Vec<_> = session.rows("SELECT rolname FROM pg_catalog.pg_roles")?;
    let known = |name: &str| name.is_empty() || there.iter().any(|row| first(row) == name);
    let mut missing: Vec<String> = Vec::new();
    for name in ["roles", "grants", "configuration"] {
        missing.extend(list(facts, name)?.iter().map(|row| first(row).to_owned()).filter(|role| !known(role)));
    }
    missing.extend(facts.settings.get("owner").filter(|owner| !known(owner)).cloned());
    missing.sort();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!("the server has no role {}", missing.join(", ")))
        .hint("Make them from the bundle's globals.sql (`restore --target` writes it), or leave owners and grants out with --no-owner."))
}

/// Until 14 the schema `public` belonged to the superuser, and since 15 its dump says so: nobody else can give it away.
fn public_schema(facts: &Facts, from: u32, server: u32, superuser: bool) -> Result<()> {
    let says_so = facts.tools.get("pg_dump").is_some_and(|version| link::major(version) >= 15);
    if from >= 15 || server < 15 || superuser || !says_so {
        return Ok(());
    }
    Err(Error::refused(format!(
        "the schema public belonged to the superuser in PostgreSQL {from}, and only a superuser can make it so in {server}"
    ))
    .hint("Leave owners and grants out with --no-owner: everything then belongs to this user."))
}

fn extensions(session: &mut Session, facts: &Facts, superuser: bool) -> Result<()> {
    let there = session.rows(
        "SELECT e.name, bool_or(v.trusted) FROM pg_catalog.pg_available_extensions e \
         JOIN pg_catalog.pg_available_extension_versions v ON v.name = e.name GROUP BY 1",
    )?;
    for row in list(facts, "extensions")? {
        let name = first(&row);
        if name == "plpgsql" {
            continue;
        }
        match there.iter().find(|row| first(row) == name) {
            None => {
                return Err(Error::refused(format!("the server has no extension {name}"))
                    .hint("Install its package on the server; the database cannot be built without it."));
            }
            Some(row) if !superuser && row[1].as_deref() != Some("t") => {
                return Err(Error::refused(format!("only a superuser may create the extension {name}")).hint(
                    "Restore as a superuser with --as-superuser, or mark the extension as trusted on the server.",
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
