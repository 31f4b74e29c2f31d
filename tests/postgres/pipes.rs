//! Restores in which one `pg_restore` is given the dump as a directory of pipes: any order, and everything that may go wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::restore::{RICH, damage, databases, portrait};
use super::server::{Server, VERSIONS};
use super::world::{KEY, WRONG, World, fill, said, wrapper};

const RESTORE: &str = "restore latest -i recovery-identity.txt --only database --yes";

/// What must come in an order, and what is many.
const MORE: &str = "
CREATE TABLE aside (id int PRIMARY KEY, large int REFERENCES large, v text);
INSERT INTO aside SELECT g, g, repeat('aside', 1500) FROM generate_series(1, 1000) g;
CREATE MATERIALIZED VIEW firsts AS SELECT n, v FROM large WHERE n < 100;
CREATE UNIQUE INDEX ON firsts (n);
CREATE MATERIALIZED VIEW afterwards AS SELECT count(*) FROM firsts JOIN aside ON aside.large = firsts.n;
CREATE TABLE \"a table; 'with' a name\" (\"the column\" text);
INSERT INTO \"a table; 'with' a name\" VALUES (E'tab\\t, line\\n, \\\\. and \\\\N'), (NULL);
CREATE TABLE nothing (n int);
CREATE STATISTICS both_columns ON n, v FROM large;
DO $$BEGIN FOR n IN 1..80 LOOP
    EXECUTE format('CREATE TABLE small_%s (n int PRIMARY KEY, v text DEFAULT %L)', n, n);
    EXECUTE format('INSERT INTO small_%s SELECT generate_series(1, %s)', n, n);
END LOOP; END$$;
ANALYZE;
";

/// A table of which each row takes its time when it is restored.
const SLOW: &str = "
CREATE FUNCTION slow(int) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN PERFORM pg_catalog.pg_sleep(0.03); RETURN true; END$$;
CREATE TABLE slowly (n int CHECK (slow(n)));
INSERT INTO slowly SELECT generate_series(1, 100);
";

/// A host whose `pg_restore` is a script, by default one that writes down its arguments.
struct Host {
    server: Server,
    world: World,
}

impl Host {
    fn new(version: u32, more: &str) -> Option<Self> {
        let server = Server::start(version)?;
        server.sql("postgres", "postgres", "CREATE ROLE reader LOGIN");
        fill(&server, "app", 5);
        // With large objects it is restored in another way.
        server.sql("app", "app", &RICH.replace("SELECT lo_from_bytea(4711, decode('00ff1122', 'hex'));", ""));
        server.sql("app", "app", more);
        let world = World::new(&server.programs);
        std::fs::create_dir(world.path("tmp")).expect("made");
        for program in ["psql", "pg_dump", "pg_dumpall"] {
            wrapper(&world.path("bin"), program, &server.programs, "exec $REAL \"$@\"");
        }
        let host = Self { server, world };
        host.script(&format!("echo \"$@\" >>{}; exec $REAL \"$@\"", host.world.path("said").display()));
        host.world
            .init(&host.server.url("app", "app"), &format!("programs = \"{}\"", host.world.path("bin").display()));
        host.world.ends("backup", 0);
        Some(host)
    }

    /// What `pg_restore` is when it is given a directory.
    fn script(&self, script: &str) {
        let script = format!("case \"$*\" in *--format=directory*) ;; *) exec $REAL \"$@\";; esac\n{script}");
        wrapper(&self.world.path("bin"), "pg_restore", &self.server.programs, &script);
    }

    fn command(&self) -> Command {
        let mut command = self.world.command(RESTORE);
        command.env("TMPDIR", self.world.path("tmp")).stdin(Stdio::null());
        command
    }

    /// Restores; one that hangs is ended, and is no success.
    fn restore(&self) -> Output {
        let own = self.command();
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "100"]).arg(own.get_program()).args(own.get_args()).env_clear();
        command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
        command.current_dir(self.world.folder.path()).output().expect("it runs")
    }

    /// The restore must fail so, with nothing changed and nothing left.
    fn fails(&self, code: i32, because: &str) {
        let before = portrait(&self.server);
        let out = self.restore();
        assert_eq!(out.status.code(), Some(code), "{because}: {}", said(&out));
        assert!(said(&out).contains(because), "{because}: {}", said(&out));
        assert_eq!(databases(&self.server), ["app"], "{because}");
        assert_eq!(portrait(&self.server), before, "{because}");
        self.nothing_is_left();
    }

    fn nothing_is_left(&self) {
        let begun = Instant::now();
        let folder = self.world.path("tmp");
        loop {
            let left: Vec<_> = std::fs::read_dir(&folder).expect("listed").flatten().map(|e| e.path()).collect();
            let running = running_on(&folder);
            if left.is_empty() && running.is_empty() {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{left:?} {running:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Begins to restore, and is there when rows of the slow table are on their way.
    fn in_the_middle(&self) -> std::process::Child {
        let child = self.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
        let begun = Instant::now();
        let copying =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY public.slowly%' AND datname LIKE 'app_new%'";
        while self.server.sql("postgres", "postgres", copying) == "0" {
            assert!(begun.elapsed() < Duration::from_mins(1), "no row of the slow table is restored");
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    }

    fn object(&self) -> PathBuf {
        let bundles = self.world.path("archive/bundles");
        let below = |folder: &Path| std::fs::read_dir(folder).expect("listed").flatten().next().expect("one").path();
        below(&below(&bundles)).join("database.pgdump.zst.age")
    }
}

/// Processes that have this folder among their arguments.
fn running_on(folder: &Path) -> Vec<String> {
    let lines = std::fs::read_dir("/proc").expect("listed").flatten();
    let lines = lines.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&folder.display().to_string())).collect()
}

fn one_core() -> bool {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get) == 1
}

#[test]
fn whatever_the_order_everything_comes_back_on_every_version() {
    for version in VERSIONS {
        let Some(host) = Host::new(version, MORE) else { continue };
        let (_, shown) = host.world.json("show latest -i recovery-identity.txt");
        let landmarks = shown["proof"]["facts"]["landmarks"].as_array().cloned().unwrap_or_default();
        assert_eq!(landmarks.len(), 3, "{shown}");
        assert!(landmarks.iter().any(|landmark| landmark["frame"].as_u64() > Some(0)), "{landmarks:?}");
        host.world.ends("verify latest --deep -i recovery-identity.txt", 0);
        let before = portrait(&host.server);
        damage(&host.server);
        host.server.sql("app", "app", "DROP TABLE aside, small_3 CASCADE; UPDATE small_80 SET v = 'x'");
        assert_ne!(portrait(&host.server), before);
        let out = host.restore();
        assert_eq!(out.status.code(), Some(0), "{version}: {}", said(&out));
        assert!(portrait(&host.server) == before, "{version}");
        host.nothing_is_left();
        let said = std::fs::read_to_string(host.world.path("said")).unwrap_or_default();
        assert_eq!(said.lines().count(), usize::from(!one_core()), "{said}");
    }
}

#[test]
fn a_dump_that_changes_while_it_is_restored_is_never_taken_for_good() {
    if one_core() {
        return;
    }
    let Some(host) = Host::new(15, MORE) else { return };
    let object = host.object();
    let good = std::fs::read(&object).expect("read");
    let path = object.display();
    for at in [good.len() / 50, good.len() / 3, good.len() - 30] {
        // Not what stands there, whatever that is.
        let byte = if good[at] == b'A' { 'B' } else { 'A' };
        host.script(&format!(
            "printf {byte} | dd of={path} bs=1 seek={at} conv=notrunc 2>/dev/null; exec $REAL \"$@\""
        ));
        host.fails(13, "Take this object from another copy");
        std::fs::write(&object, &good).expect("written");
    }
    for length in [good.len() / 2, good.len() - 1] {
        host.script(&format!("truncate -s {length} {path}; exec $REAL \"$@\""));
        host.fails(13, "Take this object from another copy");
        std::fs::write(&object, &good).expect("written");
    }
    host.script("exec $REAL \"$@\"");
    assert_eq!(host.restore().status.code(), Some(0));
}

#[test]
fn a_damaged_dump_is_known_before_the_application_is_stopped() {
    let Some(host) = Host::new(15, "") else { return };
    let stop = host.world.path("stop.sh");
    wrapper(host.world.folder.path(), "stop.sh", Path::new("/"), &format!("echo >>{}.ran", stop.display()));
    let config = host.world.path("strongroom.toml");
    let text = std::fs::read_to_string(&config).expect("read");
    let text = text.replace("[app]\n", &format!("[app]\nstop = [{stop:?}]\nstart = [\"/bin/true\"]\n"));
    std::fs::write(&config, text).expect("written");
    let object = host.object();
    let good = std::fs::read(&object).expect("read");
    let ran = host.world.path("stop.sh.ran");
    for at in [good.len() / 3, good.len() - 30] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        std::fs::write(&object, bytes).expect("written");
        host.fails(13, "does not have the SHA-256");
        host.world.set_key(WRONG);
        host.fails(12, "Nothing was touched");
        host.world.set_key(KEY);
        assert!(!ran.exists());
    }
    std::fs::write(&object, &good).expect("written");
    assert_eq!(host.restore().status.code(), Some(0));
    assert!(ran.exists());
}

#[test]
fn a_pg_restore_that_does_not_do_everything_has_restored_nothing() {
    if one_core() {
        return;
    }
    let Some(host) = Host::new(15, &format!("{MORE}{SLOW}")) else { return };
    let not_whole = "before it had read the whole dump";
    host.script("exit 0");
    host.fails(1, not_whole);
    host.script("exec $REAL \"$@\" --section=pre-data");
    host.fails(1, not_whole);
    host.script("exec $REAL \"$@\" --section=pre-data --section=post-data");
    host.fails(1, not_whole);
    host.script("echo 'pg_restore: error: no' >&2; exit 1");
    host.fails(1, "pg_restore: error: no");
    // It reads a pipe and not all of it, and then once more.
    host.script(
        "for d; do case $d in */strongroom-*) head -c 10 $d/toc.dat >/dev/null;; esac; done; exec $REAL \"$@\"",
    );
    host.fails(1, "toc.dat");
    // It is killed with rows on their way, and its workers are not.
    host.script("$REAL \"$@\" & p=$!; sleep 1; kill -9 $p; wait $p; exit 137");
    host.fails(1, "137");
    // A worker is killed, or its session.
    host.script("$REAL \"$@\" & p=$!; sleep 1; kill -9 $(cat /proc/$p/task/$p/children); wait $p; exit $?");
    host.fails(1, "pg_restore");
    let psql = format!("psql -h {} -U postgres -d postgres -c", host.server.socket());
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY public.slowly%'";
    host.script(&format!("$REAL \"$@\" & p=$!; sleep 1; {psql} \"{end}\" >/dev/null; wait $p; exit $?"));
    host.fails(20, "terminating connection");
    host.script("exec $REAL \"$@\"");
    assert_eq!(host.restore().status.code(), Some(0));
}

#[test]
fn a_restore_that_is_ended_or_killed_leaves_no_program_that_waits() {
    if one_core() {
        return;
    }
    let Some(host) = Host::new(15, SLOW) else { return };
    let before = portrait(&host.server);
    for signal in ["-INT", "-KILL"] {
        let mut child = host.in_the_middle();
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().expect("it runs").success());
        let status = child.wait().expect("ended");
        assert!(!status.success(), "{signal}");
        host.nothing_is_left();
        if signal == "-INT" {
            assert_eq!(databases(&host.server), ["app"]);
        }
        host.world.ends("restore --cleanup --yes", 0);
        assert_eq!(databases(&host.server), ["app"], "{signal}");
        assert_eq!(portrait(&host.server), before, "{signal}");
    }
    assert_eq!(host.restore().status.code(), Some(0));
    assert_eq!(portrait(&host.server), before);
}
