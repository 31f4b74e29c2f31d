//! A restore over a live database: built beside, proved there, swapped, and swapped back.

use std::process::{Child, Command};

use super::server::{Server, VERSIONS};
use super::world::{World, fill, prefix, said};

/// Everything that an application's database may have beyond tables.
pub(crate) const RICH: &str = "
COMMENT ON DATABASE app IS 'the application''s own';
ALTER DATABASE app SET search_path = \"$user\", public, pg_catalog;
ALTER DATABASE app SET work_mem = '7MB';
ALTER ROLE app IN DATABASE app SET statement_timeout = '11min';
REVOKE CONNECT ON DATABASE app FROM PUBLIC; GRANT CONNECT ON DATABASE app TO reader;
ALTER DATABASE app CONNECTION LIMIT 33;
CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO reader;
CREATE TABLE other.parts (id int, v text) PARTITION BY RANGE (id);
CREATE TABLE other.low PARTITION OF other.parts FOR VALUES FROM (0) TO (100);
CREATE TABLE other.high PARTITION OF other.parts FOR VALUES FROM (100) TO (1000);
INSERT INTO other.parts SELECT g, 'p' || g FROM generate_series(0, 299) g;
CREATE INDEX ON other.parts (v);
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n FROM counters;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.note := 'touched'; RETURN NEW; END$$;
CREATE TRIGGER touched BEFORE UPDATE ON repositories FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE artifacts ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON artifacts TO reader USING (repo_id = 'manual');
GRANT SELECT ON artifacts TO reader;
CREATE TABLE large (n int PRIMARY KEY, v text);
CREATE TABLE larger (n int PRIMARY KEY REFERENCES large, v text);
INSERT INTO large SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 1300) g;
INSERT INTO larger SELECT g, repeat(md5(g::text), 40) FROM generate_series(1, 1300) g;
SELECT setval('counters_n_seq', 12345);
SELECT lo_from_bytea(4711, decode('00ff1122', 'hex'));
";

/// What two equal databases answer alike: schema, rows, large objects, settings.
pub(crate) fn portrait(server: &Server) -> String {
    let dump = server.command("pg_dump", "postgres", "app").arg("--create").output().expect("it runs");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let text = String::from_utf8_lossy(&dump.stdout).into_owned();
    // A token that is new each time, and the order of rows, which a heap does not keep.
    let mut lines: Vec<_> = text.lines().filter(|line| !line.contains("restrict ")).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Two portraits are the same; what only one of them has is printed, a few lines of it.
pub(crate) fn alike(now: &str, before: &str) {
    let only = |one: &str, other: &str| -> Vec<String> {
        let known: std::collections::HashSet<_> = other.lines().collect();
        one.lines().filter(|line| !known.contains(line)).take(5).map(str::to_owned).collect()
    };
    assert!(now == before, "only now: {:#?}\nonly before: {:#?}", only(now, before), only(before, now));
}

pub(crate) fn damage(server: &Server) {
    server.sql(
        "app",
        "app",
        "UPDATE repositories SET auth_credentials = 'x'; DROP SCHEMA other CASCADE; DELETE FROM artifacts",
    );
}

pub(crate) fn databases(server: &Server) -> Vec<String> {
    let all = server.sql(
        "postgres",
        "postgres",
        "SELECT datname FROM pg_database WHERE datname LIKE 'app%' AND datallowconn ORDER BY 1",
    );
    all.lines().map(str::to_owned).collect()
}

/// A pool that opens a session again as soon as it is thrown out.
pub(crate) struct Pool(Vec<Child>);

impl Pool {
    pub(crate) fn busy(server: &Server) -> Self {
        let psql = server.programs.join("psql");
        let line = format!(
            "while :; do {} -X -q -h {} -U app -d app -c 'SELECT pg_sleep(30)'; sleep 0.05; done",
            psql.display(),
            server.socket()
        );
        let start = |_| {
            Command::new("setsid")
                .args(["sh", "-c", &line])
                .stderr(std::process::Stdio::null())
                .stdout(std::process::Stdio::null())
                .spawn()
        };
        Self((0..3).map(|n| start(n).expect("started")).collect())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let group = format!("-{}", child.id());
            let _ = Command::new("kill").args(["-9", "--", &group]).status();
            let _ = child.wait();
        }
    }
}

pub(crate) fn rich(version: u32) -> Option<(Server, World)> {
    let server = Server::start(version)?;
    server.sql("postgres", "postgres", "CREATE ROLE reader LOGIN");
    fill(&server, "app", 5);
    server.sql("app", "app", RICH);
    let world = World::new(&server.programs);
    world.init(&server.url("app", "app"), "");
    Some((server, world))
}

fn round_trip(server: &Server, world: &World) {
    world.ends("backup", 0);
    let before = portrait(server);
    damage(server);
    assert_ne!(before, portrait(server));
    let pool = Pool::busy(server);
    let plan = world.ends("restore latest -i recovery-identity.txt --only database --dry-run", 0);
    assert!(plan.contains("app_before_"), "{plan}");
    assert_eq!(databases(server), ["app"]);
    world.set_key(super::world::WRONG);
    world.ends("restore latest -i recovery-identity.txt --only database --yes", 12);
    world.set_key(super::world::KEY);
    assert_eq!(databases(server), ["app"]);
    world.ends("restore latest -i recovery-identity.txt --only database --yes", 0);
    drop(pool);
    assert_eq!(portrait(server), before);
    let now = databases(server);
    assert!(now.len() == 2 && now[1].starts_with("app_before_"), "{now:?}");
    assert_eq!(server.sql("app", &now[1], "SELECT auth_credentials FROM repositories WHERE id = 'r000'"), "x");
    world.ends("prove --key env:KEY", 0);

    // The health check fails: everything comes back as it was before this second restore.
    server.sql("app", "app", "UPDATE repositories SET note = 'newer'");
    let newer = portrait(server);
    let path = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).expect("read");
    std::fs::write(&path, text + "health = { url = \"http://127.0.0.1:1/health\", within_seconds = 1 }\n")
        .expect("written");
    let told = world.ends("restore latest -i recovery-identity.txt --only database --yes", 20);
    assert!(told.contains("put back as it was"), "{told}");
    assert_eq!(portrait(server), newer);
    assert_eq!(databases(server), now);

    assert!(world.ends("restore --cleanup --dry-run", 0).contains(&now[1]));
    world.ends("restore --cleanup", 15);
    assert_eq!(databases(server), now);
    world.ends("restore --cleanup --yes", 0);
    assert_eq!(databases(server), ["app"]);
    world.ends("prove --key env:KEY", 0);
}

#[test]
fn everything_comes_back_and_goes_back_on_every_version() {
    for version in VERSIONS {
        let Some((server, world)) = rich(version) else { continue };
        round_trip(&server, &world);
    }
}

/// Killed at every durable step of a restore, the application's database is there, old or new, and the next run works.
#[test]
fn a_restore_that_is_killed_leaves_one_whole_database() {
    let Some(server) = Server::start(15) else { return };
    fill(&server, "app", 2);
    let world = World::new(&server.programs);
    world.init(&server.url("app", "app"), "");
    world.ends("backup", 0);
    server.sql("app", "app", "UPDATE repositories SET auth_credentials = 'x' WHERE id = 'r000'");
    let restore = "restore latest -i recovery-identity.txt --only database --yes";
    let trace = world.path("trace");
    assert!(world.command(restore).env("STRONGROOM_KILL_TRACE", &trace).status().expect("it runs").success());
    let places = std::fs::read_to_string(&trace).unwrap_or_default();
    if places.is_empty() {
        return; // Built without kill points.
    }
    assert!(places.contains("swap of databases"), "{places}");
    for place in 1..=places.lines().count() {
        server.sql("app", "app", "UPDATE repositories SET auth_credentials = 'x' WHERE id = 'r000'");
        let killed = world.command(restore).env("STRONGROOM_KILL_AT", place.to_string()).status().expect("it runs");
        assert!(!killed.success(), "{place}");
        // What stood there before is kept as long as nobody says that the restore is made good.
        let kept = databases(&server).iter().any(|name| name.contains("_before_"));
        let mark = world.path("strongroom-state/restore.json");
        if kept && mark.exists() {
            assert!(world.ends("restore --cleanup --yes", 15).contains("may be the way back"));
            std::fs::remove_file(mark).expect("removed");
        }
        world.ends("restore --cleanup --yes", 0);
        let value = server.sql("app", "app", "SELECT length(auth_credentials) FROM repositories WHERE id = 'r000'");
        assert!(value == "1" || value.parse::<u32>().is_ok_and(|n| n > 50), "{place} {value}");
        assert_eq!(databases(&server), ["app"], "{place}");
    }
    world.ends(restore, 0);
    world.ends("prove --key env:KEY", 0);
}

#[test]
fn the_same_behind_a_prefix() {
    let Some((server, world)) = rich(15) else { return };
    world.configure(&prefix(&server));
    round_trip(&server, &world);
}

#[test]
fn what_would_fail_later_is_refused_before_anything_is_touched() {
    let Some((server, world)) = rich(15) else { return };
    // A policy names its roles, and no flag can leave that out.
    server.sql("app", "app", "DROP POLICY mine ON artifacts");
    world.ends("backup", 0);
    let restore =
        |more: &str, code| world.ends(&format!("restore -i recovery-identity.txt --only database --yes {more}"), code);
    let admin = server.url("postgres", "app");
    assert!(restore(&format!("--database {admin}"), 15).contains("superuser"));
    server.sql("postgres", "postgres", "ALTER ROLE app NOCREATEDB");
    assert!(restore("", 21).contains("CREATEDB"));
    server.sql("postgres", "postgres", "ALTER ROLE app CREATEDB; ALTER DATABASE app OWNER TO postgres");
    assert!(restore("", 21).contains("belongs to postgres"));
    server.sql("postgres", "postgres", "ALTER DATABASE app OWNER TO app");
    assert_eq!(databases(&server), ["app"]);

    // Another server, that knows no reader: refused, and offered without owners and grants.
    let Some(newer) = Server::start(16) else { return };
    let there = newer.url("app", "fresh");
    let elsewhere = |more: &str| {
        let line = format!("restore -i recovery-identity.txt --only database --yes --database {there} {more}");
        let mut command = world.command(&line);
        command.env("PATH", format!("{}:/usr/bin:/bin", newer.programs.display()));
        command.output().expect("it runs")
    };
    let out = elsewhere("");
    assert_eq!(out.status.code(), Some(15), "{}", said(&out));
    assert!(said(&out).contains("no role reader") && said(&out).contains("--no-owner"), "{}", said(&out));
    let out = elsewhere("--no-owner");
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert_eq!(newer.sql("app", "fresh", "SELECT count(*) FROM other.parts"), "300");

    // And from new to old: refused.
    fill(&newer, "app", 2);
    let other = World::new(&newer.programs);
    other.init(&newer.url("app", "app"), "");
    other.ends("backup", 0);
    let told = other.ends(
        &format!("restore -i recovery-identity.txt --only database --yes --database {}", server.url("app", "app")),
        15,
    );
    assert!(told.contains("of PostgreSQL 16, and this server is of 15"), "{told}");
    assert_eq!(databases(&server), ["app"]);
}

#[test]
fn two_restores_within_a_second_keep_two_databases() {
    let Some(server) = Server::start(15) else { return };
    fill(&server, "app", 3);
    let world = World::new(&server.programs);
    world.init(&server.url("app", "app"), "");
    world.ends("backup", 0);
    let second = jiff::Timestamp::now().to_string();
    for _ in 0..2 {
        let out = world
            .command("restore latest -i recovery-identity.txt --only database --yes")
            .env("STRONGROOM_TEST_CLOCK", &second)
            .output()
            .expect("it runs");
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    }
    let now = databases(&server);
    assert_eq!(now.iter().filter(|name| name.starts_with("app_before_")).count(), 2, "{now:?}");
}
