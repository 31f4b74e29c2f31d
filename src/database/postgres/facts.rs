//! What there is to say of a database: rows, versions, and what belongs to it as a whole and stands in no dump of it.

use std::collections::BTreeMap;

use super::link::Link;
use super::read;
use super::session::Session;
use crate::database::Facts;
use crate::ground::progress::{Progress, Unit};
use crate::ground::{Error, Result};

/// The server's version as a number: 150014.
pub(super) fn server_number(session: &mut Session) -> Result<u32> {
    let row = session.row("SELECT current_setting('server_version_num')")?;
    row[0].as_deref().and_then(|n| n.parse().ok()).ok_or_else(|| Error::failed("the server does not tell its version"))
}

/// Counts rows and reads settings; asks the client programs for their versions when a dump is made with them.
pub(super) fn gather(session: &mut Session, link: &Link, dumped: bool, progress: &dyn Progress) -> Result<Facts> {
    progress.stage("counting rows", None, Unit::Items);
    let tables = read::counts(session)?;
    let server = server_number(session)?;
    let mut settings = BTreeMap::new();
    // Since version 15 a database has a locale provider; since 17 ICU's locale has the provider-neutral name.
    let provider = match server / 10_000 {
        ..=14 => "'c', NULL",
        15 | 16 => "d.datlocprovider, d.daticulocale",
        _ => "d.datlocprovider, d.datlocale",
    };
    let row = session.row(&format!(
        "SELECT current_setting('server_version'), d.datname, r.rolname, pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, \
         {provider}, d.datconnlimit, shobj_description(d.oid, 'pg_database'), t.spcname, pg_database_size(d.oid) \
         FROM pg_database d LEFT JOIN pg_roles r ON r.oid = d.datdba JOIN pg_tablespace t ON t.oid = d.dattablespace \
         WHERE d.datname = current_database()"
    ))?;
    let names = [
        "server_version",
        "database",
        "owner",
        "encoding",
        "collate",
        "ctype",
        "locale_provider",
        "locale",
        "connection_limit",
        "comment",
        "tablespace",
    ];
    for (name, value) in names.iter().zip(&row) {
        if let Some(value) = value {
            settings.insert((*name).to_owned(), value.clone());
        }
    }
    settings.insert("server_version_num".to_owned(), server.to_string());
    let lists = [
        (
            "grants",
            "SELECT coalesce(g.rolname, ''), a.privilege_type, a.is_grantable FROM pg_database d, aclexplode(d.datacl) a \
             LEFT JOIN pg_roles g ON g.oid = a.grantee WHERE d.datname = current_database() ORDER BY 1, 2",
        ),
        (
            "configuration",
            "SELECT coalesce(r.rolname, ''), c FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase \
             CROSS JOIN unnest(s.setconfig) c LEFT JOIN pg_roles r ON r.oid = s.setrole \
             WHERE d.datname = current_database() ORDER BY 1, 2",
        ),
        // A restore shares its work out by them.
        (
            "sizes",
            "SELECT n.nspname, c.relname, pg_table_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'r' AND (n.nspname <> 'pg_catalog' OR c.relname = 'pg_largeobject') \
             AND pg_table_size(c.oid) >= 1048576 ORDER BY 3 DESC, 1, 2 LIMIT 1000",
        ),
        ("extensions", "SELECT extname, extversion FROM pg_extension ORDER BY 1"),
        (
            "roles",
            "SELECT DISTINCT r.rolname FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid \
             JOIN pg_database d ON d.oid = s.dbid WHERE s.refclassid = 'pg_authid'::regclass \
             AND d.datname = current_database() AND r.rolname !~ '^pg_' ORDER BY 1",
        ),
    ];
    for (name, sql) in lists {
        let rows = session.rows(sql)?;
        // `grants` that are there and empty are something else than the default.
        if rows.is_empty() {
            continue;
        }
        let text = serde_json::to_string(&rows).map_err(|e| Error::failed("cannot write a list").because(e))?;
        settings.insert(name.to_owned(), text);
    }
    let mut tools = BTreeMap::new();
    tools.insert("server".to_owned(), settings.get("server_version").cloned().unwrap_or_default());
    if dumped {
        tools.insert("psql".to_owned(), link.version("psql")?);
        if let Ok(version) = link.version("pg_dump") {
            tools.insert("pg_dump".to_owned(), version);
        }
    }
    Ok(Facts {
        system: "postgres".to_owned(),
        tools,
        tables,
        bytes: row[11].as_deref().and_then(|n| n.parse().ok()).unwrap_or(0),
        settings,
        ..Facts::default()
    })
}
