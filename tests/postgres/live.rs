//! A live database: proved, backed up, listed, checked, verified, guarded.

use std::sync::atomic::{AtomicBool, Ordering};

use super::server::{Server, VERSIONS};
use super::world::{World, fill, prefix, wrapper};

fn story(server: &Server, world: &World) {
    world.ends("config check", 0);
    let (code, backup) = world.json("backup");
    // One object that the database names can be fetched again: that is advice and no failure.
    assert_eq!((code, backup["verdict"].as_str()), (0, Some("proved")), "{backup}");
    assert_eq!(backup["credentials"]["proved"], 5);
    assert_eq!(backup["credentials"]["plaintext"], 1);
    assert_eq!(backup["storage"]["missing"], 1);
    let (_, list) = world.json("list");
    assert_eq!(list[0]["verdict"], "proved");
    world.ends("check --all", 0);
    world.ends("verify -i recovery-identity.txt", 0);
    let deep = world.ends("verify --deep -i recovery-identity.txt", 0);
    assert!(deep.contains("taken from the dump itself"), "{deep}");
    world.ends("verify --deep -i recovery-identity.txt --key env:WRONG", 12);
    world.ends("guard -- true", 0);

    world.set_key(super::world::WRONG);
    world.ends("guard -- true", 12);
    let (code, backup) = world.json("backup");
    assert_eq!((code, backup["verdict"].as_str()), (3, Some("wrong-key")));
    world.ends("verify -i recovery-identity.txt", 12);

    world.ends("restore latest-proved -i recovery-identity.txt --target out", 0);
    let dump = world.path("out/database.pgdump");
    let list = server.command("pg_restore", "app", "app").arg("-l").arg(&dump).output().expect("it runs");
    assert!(String::from_utf8_lossy(&list.stdout).contains("TABLE DATA public repositories app"));
    for member in ["globals.sql.zst.age", "pgschema.zst.age"] {
        let bundles = world.path("archive/bundles/package-broker");
        let bundle = std::fs::read_dir(bundles).expect("listed").flatten().next().expect("a bundle").path();
        assert!(bundle.join(member).exists(), "{member}");
    }
}

#[test]
fn the_whole_story_on_every_version() {
    for version in VERSIONS {
        let Some(server) = Server::start(version) else { continue };
        fill(&server, "app", 5);
        let world = World::new(&server.programs);
        world.init(&server.url("app", "app"), "");
        story(&server, &world);
    }
}

#[test]
fn the_same_story_behind_a_prefix() {
    let Some(server) = Server::start(15) else { return };
    fill(&server, "app", 5);
    let world = World::new(std::path::Path::new("/nowhere"));
    let inside = prefix(&server);
    let plain = World::new(&server.programs);
    plain.init(&server.url("app", "app"), "");
    for name in ["strongroom.toml", "strongroom-signing.key", "strongroom-signing.pub", "recovery-identity.txt"] {
        std::fs::copy(plain.path(name), world.path(name)).expect("copied");
    }
    let copied =
        std::process::Command::new("cp").arg("-r").arg(plain.path("archive")).arg(world.path("archive")).status();
    assert!(copied.expect("cp runs").success());
    world.configure(&inside);
    story(&server, &world);
}

#[test]
fn a_key_that_changes_after_its_32nd_character_is_the_same_key() {
    let Some(server) = Server::start(15) else { return };
    fill(&server, "app", 12);
    let world = World::new(&server.programs);
    let url = server.url("app", "app");
    for (key, code, verdict) in [("KEY", 0, "proved"), ("SAME", 0, "proved"), ("WRONG", 12, "wrong-key")] {
        let (exit, proof) = world.json(&format!("prove {url} --key env:{key}"));
        assert_eq!((exit, proof["verdict"].as_str()), (code, Some(verdict)));
        assert_eq!(proof["total"], 13);
    }
    let (_, sampled) = world.json(&format!("prove {url} --key env:KEY --sample 4"));
    assert_eq!((sampled["credentials"]["failed"].as_u64(), sampled["sampled"].as_bool()), (Some(0), Some(true)));
    server.sql(
        "app",
        "app",
        "UPDATE repositories SET auth_credentials = 'bm9wZQ==' WHERE id < 'r003' AND id <> 'manual'",
    );
    let (exit, mixed) = world.json(&format!("prove {url} --key env:KEY"));
    assert_eq!(
        (exit, mixed["verdict"].as_str(), mixed["failures"][0]["id"].as_str()),
        (12, Some("mixed"), Some("r000"))
    );
}

#[test]
fn a_backup_is_one_moment_while_others_write() {
    let Some(server) = Server::start(15) else { return };
    fill(&server, "app", 5);
    let world = World::new(&server.programs);
    world.init(&server.url("app", "app"), "");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                server.sql("app", "app", "INSERT INTO counters (v) SELECT 'w' FROM generate_series(1, 50); DELETE FROM counters WHERE n % 7 = 0; UPDATE repositories SET note = 'x'");
            }
        });
        for _ in 0..3 {
            // The rows of the dump are compared with the snapshot's counts while it is stored, and again here.
            let out = world.run("backup");
            let deep = world.run("verify --deep -i recovery-identity.txt");
            if out.status.code() != Some(0) || deep.status.code() != Some(0) {
                stop.store(true, Ordering::Relaxed);
                panic!("{}{}", super::world::said(&out), super::world::said(&deep));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn credentials_are_found_in_every_schema_type_and_key() {
    let Some(server) = Server::start(15) else { return };
    let value = super::world::encrypted("{}");
    server.sql(
        "app",
        "app",
        &format!(
            "CREATE SCHEMA tenant; CREATE SCHEMA \"Odd.one\";
            CREATE TABLE repositories (id bigint, part smallint, auth_credentials bytea, PRIMARY KEY (id, part));
            CREATE TABLE tenant.repositories (id text, part text, auth_credentials varchar) PARTITION BY LIST (part);
            CREATE TABLE tenant.first PARTITION OF tenant.repositories FOR VALUES IN ('a');
            CREATE TABLE tenant.rest PARTITION OF tenant.repositories DEFAULT;
            CREATE TABLE \"Odd.one\".\"Ta\"\"ble\" (\"Se;cret\" text);
            INSERT INTO repositories VALUES (7, 1, convert_to('{value}', 'UTF8')), (7, 2, convert_to('{value}', 'UTF8')), (8, 1, NULL);
            INSERT INTO tenant.repositories VALUES ('x', 'a', '{value}'), ('y', 'b', '{{}}'), ('z', 'c', '{value}');
            INSERT INTO \"Odd.one\".\"Ta\"\"ble\" VALUES ('{value}'), ('no');
            SELECT lo_from_bytea(0, decode('00ff', 'hex')), lo_from_bytea(0, '');"
        ),
    );
    let world = World::new(&server.programs);
    world.init(&server.url("app", "app"), "");
    let path = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).expect("read")
        + "\n[profile]\napp = \"package-broker\"\nscheme = \"package-broker\"\nkey_variable = \"ENCRYPTION_KEY\"\n\
           [[profile.credential]]\ntable = \"repositories\"\ncolumn = \"auth_credentials\"\nprimary_key = [\"id\", \"part\"]\nplaintext = [\"{}\"]\n";
    std::fs::write(&path, text).expect("written");
    let (code, backup) = world.json("backup --only database");
    assert_eq!(
        (code, &backup["credentials"]["proved"], &backup["credentials"]["plaintext"]),
        (3, &4.into(), &1.into()),
        "{backup}"
    );
    assert!(backup["problems"].to_string().contains("Odd.one.Ta\\\"ble.Se;cret looks encrypted (1 value)"), "{backup}");
    let (code, deep) = world.json("verify --deep -i recovery-identity.txt");
    assert_eq!((code, &deep["credentials"]), (3, &backup["credentials"]), "{deep}");
    assert_eq!(deep["problems"][0]["code"], "bundle-unknown-ciphertext");
    server.sql("app", "app", "UPDATE repositories SET auth_credentials = 'x' WHERE part = 2");
    let (code, proof) = world.json("prove");
    assert_eq!((code, proof["failures"][0]["id"].to_string()), (12, "[7,2]".to_owned()), "{proof}");
}

#[test]
fn a_password_is_in_no_argument_and_sessions_of_a_killed_run_are_ended() {
    let Some(server) = Server::start(15) else { return };
    fill(&server, "app", 2);
    let world = World::new(&server.programs);
    let log = world.path("argv");
    for program in ["psql", "pg_dump", "pg_dumpall"] {
        let script = format!("echo \"{program} $*\" >> {}\nexec $REAL \"$@\"", log.display());
        wrapper(&world.path("bin"), program, &server.programs, &script);
    }
    server.sql("postgres", "postgres", "ALTER ROLE app PASSWORD 'hunter2'");
    let hba = server.folder.path().join("data/pg_hba.conf");
    std::fs::write(&hba, "local all postgres trust\nlocal all all scram-sha-256\n").expect("written");
    server.sql("postgres", "postgres", "SELECT pg_reload_conf()");
    let url = server.url("app", "app");
    world.ends(&format!("prove {url} --key env:KEY"), 21);
    let with = url.replace("app@", "app:hunter2@");
    let told = world.ends(&format!("prove {with} --key env:KEY"), 0);
    assert!(!told.contains("hunter2"), "{told}");
    world.ends(&format!("init --yes --database {with} --archive file:archive"), 2);
    // The set-up takes the place of the password, tries it and writes the place down.
    std::fs::write(world.path("password"), "hunter2\n").expect("written");
    super::world::private(&world.path("password"));
    let init = format!(
        "init --yes --config by-file/strongroom.toml --database {url} --archive file:archive --key-source dotenv:../.env#ENCRYPTION_KEY"
    );
    world.ends(&format!("{init} --database-password file:passwort"), 10);
    let reference = format!("file:{}", world.path("password").display());
    let out = world.run(&format!("{init} --database-password {reference}"));
    assert!(matches!(out.status.code(), Some(0 | 3)), "{}", super::world::said(&out));
    let config = std::fs::read_to_string(world.path("by-file/strongroom.toml")).expect("read");
    assert!(config.contains(&format!("\npassword = \"{reference}\"\n")), "{config}");
    world.ends("config check --config by-file/strongroom.toml", 0);

    std::fs::write(world.path(".pgpass"), "*:*:*:app:hunter2\n").expect("written");
    super::world::private(&world.path(".pgpass"));
    world.init(&url, &format!("programs = \"{}\"", world.path("bin").display()));
    world.ends("backup", 0);
    std::fs::remove_file(world.path(".pgpass")).expect("removed");
    world.ends("backup", 21);
    world.configure("password = \"file:password\"");
    world.ends("backup", 0);
    let argv = std::fs::read_to_string(&log).expect("read");
    assert!(argv.contains("pg_dump ") && !argv.contains("hunter2"), "{argv}");

    let name = argv.split("application_name='").nth(1).and_then(|rest| rest.split('\'').next()).expect("a name");
    let name = name.replace("/look", "/backup");
    let mut orphan = server.command("psql", "postgres", "app");
    orphan.env("PGAPPNAME", &name).args(["-X", "-c", "SET ROLE app; BEGIN; SELECT pg_sleep(600)"]);
    // Another user's session of the same name is not ours to end.
    let mut foreign = orphan.spawn().expect("started");
    let mut own = server.command("psql", "app", "app");
    own.env("PGPASSWORD", "hunter2").env("PGAPPNAME", &name).args(["-X", "-c", "SELECT pg_sleep(600)"]);
    let mut own = own.spawn().expect("started");
    let count = || {
        server.sql(
            "postgres",
            "app",
            &format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'"),
        )
    };
    while count() != "2" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    world.ends("backup", 0);
    assert_eq!(count(), "1");
    assert!(!own.wait().expect("ended").success());
    foreign.kill().expect("killed");
    foreign.wait().expect("ended");
}
