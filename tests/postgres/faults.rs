//! What goes wrong, each with an answer of its own; nothing of it ever says `proved`.

use std::os::unix::fs::PermissionsExt as _;

use super::server::{Server, programs};
use super::world::{World, fill, wrapper};

#[test]
fn rows_that_are_hidden_are_an_error_and_never_a_subset() {
    let Some(server) = Server::start(15) else { return };
    fill(&server, "app", 4);
    server.sql(
        "postgres",
        "app",
        "CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
         ALTER TABLE repositories ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON repositories USING (id < 'r002')",
    );
    let world = World::new(&server.programs);
    let told = world.ends(&format!("prove {} --key env:KEY", server.url("reader", "app")), 21);
    assert!(told.contains("ow-level security") && !told.contains("proved:"), "{told}");
    // The owner is not held back by it.
    world.ends(&format!("prove {} --key env:KEY", server.url("app", "app")), 0);
    world.init(&server.url("app", "app"), "");
    world.ends("backup", 0);
    server.sql("app", "app", "ALTER TABLE repositories FORCE ROW LEVEL SECURITY");
    let told = world.ends("backup", 21);
    assert!(told.contains("ow-level security"), "{told}");
    world.ends("guard -- true", 21);
}

#[test]
fn what_the_profile_needs_and_the_database_lacks_is_named() {
    let Some(server) = Server::start(15) else { return };
    let world = World::new(&server.programs);
    let prove = format!("prove {} --key env:KEY", server.url("app", "app"));
    assert!(world.ends(&prove, 2).contains("no table repositories"));
    server.sql("app", "app", "CREATE VIEW repositories AS SELECT 'x'::text AS id, 'y'::text AS auth_credentials");
    assert!(world.ends(&prove, 14).contains("is a view"));
    server.sql("app", "app", "DROP VIEW repositories; CREATE TABLE repositories (id text, credentials text)");
    assert!(world.ends(&prove, 2).contains("no column repositories.auth_credentials"));
    server.sql("app", "app", "ALTER TABLE repositories ADD auth_credentials text GENERATED ALWAYS AS (id) STORED");
    assert!(world.ends(&prove, 14).contains("computed"));
}

#[test]
fn every_way_not_to_reach_a_server_has_its_own_answer() {
    let Some(server) = Server::start(15) else { return };
    fill(&server, "app", 1);
    let world = World::new(&server.programs);
    let prove = |url: &str, code| world.ends(&format!("prove {url} --key env:KEY"), code);
    assert!(prove(&server.url("nobody-there", "app"), 21).contains("no such user"));
    prove(&server.url("app", "nowhere"), 10);
    prove("postgres://app@/app?host=/nowhere", 20);
    prove("postgres://app@127.0.0.1:1/app", 20);
    prove("postgres://app@/app?sslmod=require", 2);
    server.sql("postgres", "postgres", "ALTER ROLE app NOLOGIN");
    prove(&server.url("app", "app"), 21);
    server.sql("postgres", "postgres", "ALTER ROLE app LOGIN; REVOKE CONNECT ON DATABASE app FROM PUBLIC, app");
    prove(&server.url("app", "app"), 21);
    let bare = World::new(std::path::Path::new("/nowhere"));
    let out =
        bare.command(&format!("prove {} --key env:KEY", server.url("app", "app"))).env("PATH", "/nowhere").output();
    assert_eq!(out.expect("it runs").status.code(), Some(2));
    server.down();
    prove(&server.url("app", "app"), 20);
    server.up("");
}

#[test]
fn a_backup_that_cannot_be_whole_is_no_backup() {
    let Some(server) = Server::start(15) else { return };
    fill(&server, "app", 2);
    let world = World::new(&server.programs);
    world.init(&server.url("app", "app"), &format!("programs = \"{}\"", world.path("bin").display()));
    let real = server.programs.clone();
    let fake = |program: &str, script: &str| wrapper(&world.path("bin"), program, &real, script);
    let plain = "exec $REAL \"$@\"";
    for program in ["psql", "pg_dumpall", "pg_dump"] {
        fake(program, plain);
    }
    world.ends("backup", 0);
    let psql = real.join("psql").display().to_string();
    let whole = "case \"$*\" in *--version*|*--schema-only*) exec $REAL \"$@\";; esac";

    // pg_dump ends in the middle: badly, or well and short.
    fake(
        "pg_dump",
        &format!("{whole}\n$REAL \"$@\" | head -c 3000; echo 'pg_dump: error: it was the disk' >&2; exit 1"),
    );
    assert!(world.ends("backup", 1).contains("it was the disk"));
    fake("pg_dump", &format!("{whole}\n$REAL \"$@\" | head -c 3000; exit 0"));
    assert!(world.ends("backup", 13).contains("cut off"));
    // It sees another moment than the proof did.
    let insert =
        format!("{psql} -X -q -h {} -U app -d app -c \"INSERT INTO counters (v) VALUES ('new')\"", server.socket());
    fake(
        "pg_dump",
        &format!("{whole}\n{insert}\nexec $REAL --format=custom -d \"host={} user=app dbname=app\"", server.socket()),
    );
    assert!(world.ends("backup", 13).contains("public.counters"));
    // The server goes away, or the session of the snapshot does.
    let end = format!(
        "{psql} -X -q -h {} -U postgres -d app -c \"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'\" >/dev/null",
        server.socket()
    );
    fake("pg_dump", &format!("{whole}\n{end}\nexec $REAL \"$@\""));
    let told = world.run("backup");
    assert!(matches!(told.status.code(), Some(1 | 20)), "{}", super::world::said(&told));
    std::fs::remove_file(world.path("bin/pg_dump")).expect("removed");
    assert!(world.ends("backup", 2).contains("pg_dump"));
    fake("pg_dump", plain);
    // A right is taken away.
    server.sql("postgres", "app", "ALTER TABLE counters OWNER TO postgres; REVOKE ALL ON counters FROM app");
    assert!(world.ends("backup", 21).contains("permission denied"));
    let (_, list) = world.json("list");
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
}

#[test]
fn a_service_is_found_or_named() {
    let Some(server) = Server::start(15) else { return };
    fill(&server, "app", 1);
    let world = World::new(&server.programs);
    let file = world.path("services");
    std::fs::write(&file, format!("[shop]\nhost={}\nuser=app\ndbname=app\n", server.socket())).expect("written");
    let prove = |url: &str, service: &str| {
        let mut command = world.command(&format!("prove {url} --key env:KEY"));
        let out = command.env("PGSERVICEFILE", &file).env("PGSERVICE", service).output().expect("it runs");
        (out.status.code(), super::world::said(&out))
    };
    assert_eq!(prove("postgres:///?service=shop", "").0, Some(0));
    assert_eq!(prove("postgres:///", "shop").0, Some(0));
    let (code, told) = prove("postgres:///?service=other", "shop");
    assert!(code == Some(2) && told.contains("other") && told.contains("PGSERVICEFILE"), "{told}");
}

/// A profile whose query takes its time, so that something can happen to the session.
fn slow(world: &World, seconds: u32) {
    let text = format!(
        "app = \"package-broker\"\nscheme = \"package-broker\"\nkey_variable = \"ENCRYPTION_KEY\"\n\
         [[credential]]\ntable = \"repositories\"\ncolumn = \"auth_credentials\"\nprimary_key = [\"id\"]\nplaintext = [\"{{}}\"]\n\
         [storage]\nquery = \"SELECT file_key, 1 FROM artifacts, (SELECT pg_sleep({seconds})) s\"\ntables = [\"artifacts\"]\n"
    );
    std::fs::create_dir_all(world.path("policies/apps")).expect("made");
    std::fs::write(world.path("policies/apps/package-broker.toml"), text).expect("written");
}

#[test]
fn what_happens_to_a_session_in_the_middle_has_its_own_answer() {
    let Some(server) = Server::start(15) else { return };
    fill(&server, "app", 2);
    let world = World::new(&server.programs);
    world.init(&server.url("app", "app"), "");
    // The user's own limit is not the backup's.
    slow(&world, 3);
    server.sql("postgres", "postgres", "ALTER ROLE app SET statement_timeout = '2s'");
    world.ends("backup", 0);
    server.sql("postgres", "postgres", "ALTER ROLE app RESET statement_timeout");

    slow(&world, 300);
    let during = |act: &dyn Fn()| {
        let out = world.command("backup");
        std::thread::scope(|scope| {
            let running = scope.spawn(move || {
                let mut out = out;
                out.output().expect("it runs")
            });
            let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            while server.sql("postgres", "postgres", asleep) == "0" {
                assert!(!running.is_finished(), "it ended before it slept");
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            act();
            let out = running.join().expect("no panic");
            assert_eq!(out.status.code(), Some(20), "{}", super::world::said(&out));
            super::world::said(&out)
        })
    };
    let to = |verb: &str| {
        server.sql(
            "postgres",
            "postgres",
            &format!("SELECT {verb}(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"),
        );
    };
    let told = during(&|| to("pg_cancel_backend"));
    assert!(told.contains("A statement was cancelled"), "{told}");
    let told = during(&|| to("pg_terminate_backend"));
    assert!(told.contains("terminating connection"), "{told}");
    during(&|| server.down());
    server.up("");
    let (_, list) = world.json("list");
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
}

#[test]
fn a_restore_without_its_program_touches_nothing() {
    let Some(server) = Server::start(15) else { return };
    fill(&server, "app", 2);
    let world = World::new(&server.programs);
    world.init(&server.url("app", "app"), &format!("programs = \"{}\"", world.path("bin").display()));
    for program in ["psql", "pg_dumpall", "pg_dump"] {
        wrapper(&world.path("bin"), program, &server.programs, "exec $REAL \"$@\"");
    }
    world.ends("backup", 0);
    let told = world.ends("restore -i recovery-identity.txt --only database --yes", 2);
    assert!(told.contains("there is no program") && told.contains("pg_restore"), "{told}");
    assert_eq!(server.sql("postgres", "postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'app%'"), "1");
}

#[test]
fn a_client_that_is_older_than_the_server_is_named() {
    let (Some(server), Some(old)) = (Server::start(18), programs(15)) else { return };
    fill(&server, "app", 2);
    let world = World::new(&old);
    let url = server.url("app", "app");
    world.ends(&format!("prove {url} --key env:KEY"), 0);
    world.init(&url, "");
    world.ends("config check", 2);
    let told = world.ends("backup", 2);
    assert!(told.contains("pg_dump is of version 15") && told.contains("the server of 18"), "{told}");
    world.configure(&format!("programs = \"{}\"", server.programs.display()));
    world.ends("backup", 0);
}

/// A `psql` that loses everything from the commit of the swap on; it hands the commit itself on, or not.
const LOSING: &str = r#"#!/usr/bin/env python3
import os, subprocess, sys, threading
psql = subprocess.Popen([REAL, *sys.argv[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
lost, renamed = threading.Event(), False
def answers():
    for some in iter(lambda: psql.stdout.read1(65536), b""):
        if not lost.is_set():
            os.write(1, some)
reader = threading.Thread(target=answers)
reader.start()
for line in sys.stdin.buffer:
    renamed |= b" RENAME TO " in line
    if renamed and line.startswith(b"COMMIT"):
        lost.set()
        if HAND_ON:
            psql.stdin.write(line)
        psql.stdin.close()
        psql.wait()
        sys.exit(3)
    psql.stdin.write(line)
    psql.stdin.flush()
psql.stdin.close()
reader.join()
sys.exit(psql.wait())
"#;

#[test]
fn a_swap_whose_answer_is_lost_is_what_the_server_says_of_it() {
    let Some(server) = Server::start(15) else { return };
    fill(&server, "app", 5);
    let folder = tempfile::tempdir().expect("a folder");
    let psql = folder.path().join("psql");
    for program in std::fs::read_dir(&server.programs).expect("listed").map(|entry| entry.expect("an entry")) {
        if program.file_name() != "psql" {
            std::os::unix::fs::symlink(program.path(), folder.path().join(program.file_name())).expect("linked");
        }
    }
    let real = format!("{:?}", server.programs.join("psql"));
    let losing = |hand_on: &str| {
        let text = LOSING.replace("REAL", &real).replace("HAND_ON", hand_on);
        std::fs::write(&psql, text).expect("written");
        std::fs::set_permissions(&psql, std::fs::Permissions::from_mode(0o755)).expect("set");
    };
    losing("True");
    let world = World::new(folder.path());
    world.init(&server.url("app", "app"), "");
    world.ends("backup", 0);
    let ask = "SELECT auth_credentials FROM repositories WHERE id = 'r000'";
    let right = server.sql("app", "app", ask);

    // It was committed: the restored database is the live one, and nothing is taken back.
    server.sql("app", "app", "UPDATE repositories SET auth_credentials = 'x'");
    world.ends("restore -i recovery-identity.txt --only database --yes", 0);
    assert_eq!(server.sql("app", "app", ask), right);

    // It was not: all is as it was, and the application gets in again.
    losing("False");
    server.sql("app", "app", "UPDATE repositories SET auth_credentials = 'y'");
    let said = world.ends("restore -i recovery-identity.txt --only database --yes", 20);
    assert!(said.contains("as it was before"), "{said}");
    assert_eq!(server.sql("app", "app", ask), "y");
    let all = "SELECT count(*) FROM pg_database WHERE datname LIKE 'app%'";
    assert_eq!(server.sql("postgres", "postgres", all), "2", "the live one, and the one that the first restore kept");
}
