//! `prove`: does this key open the credentials in this database, or in a dump that somebody made?

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Command;

use crate::app::{CREDENTIALS, KEY, SCHEMA, WRONG, encrypt, secret, secret_file};
use crate::world::{World, codes};

/// The key of the world's `.env`.
const DOTENV: &str = "--key dotenv:app/.env#ENCRYPTION_KEY";

/// What `sqlite3 .dump` says.
fn dump(world: &World) -> String {
    let output = Command::new("sqlite3").arg(world.app.database()).arg(".dump").output().expect("sqlite3 runs");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text")
}

/// Rows before the tables that their foreign keys name, as `wrangler d1 export` writes them.
fn d1_export() -> String {
    let mut sql = String::from(
        "PRAGMA defer_foreign_keys=TRUE;\nCREATE TABLE \"repositories\" (id text primary key, organization_id text references organizations(id), vcs_type text, credential_type text, auth_credentials text not null);\n",
    );
    for n in 1..=CREDENTIALS {
        let value = encrypt(KEY, &secret(n));
        let _ = writeln!(sql, "INSERT INTO \"repositories\" VALUES('repo-{n}','o1','git','http-basic','{value}');");
    }
    sql + "CREATE TABLE organizations (id text primary key);\nINSERT INTO organizations VALUES('o1');\nCREATE TABLE d1_migrations (id integer primary key, name text);\n"
}

#[test]
fn the_right_key_is_proved_on_a_live_database() {
    let world = World::new();
    let json = world.json(&format!("prove sqlite:app/database.sqlite {DOTENV}"), 0);
    assert_eq!(json["verdict"], "proved");
    assert_eq!(json["credentials"]["proved"], CREDENTIALS);
    assert_eq!(json["credentials"]["failed"], 0);
    assert_eq!(json["credentials"]["plaintext"], 1, "the row `manual` is plaintext by design");
    assert_eq!(json["sampled"], false);
}

#[test]
fn a_sample_says_what_it_is_of_and_a_row_is_shown_as_it_is_named() {
    let world = World::new();
    let line = format!("prove sqlite:app/database.sqlite {DOTENV}");
    world
        .run(&format!("{line} --sample 2"), 0)
        .says(&format!("a sample of 2 out of {} values, those stored as plaintext included", CREDENTIALS + 1));
    world.app.execute("UPDATE repositories SET id = 'o''brien', auth_credentials = 'x' WHERE id = 'repo-1'");
    world.run(&line, 12).says("row o'brien: ").says(&format!("mixed: 1 of {CREDENTIALS} credentials does not decrypt"));
    world.app.execute("DELETE FROM repositories WHERE id LIKE 'repo-%' AND id <> 'repo-2'; DELETE FROM repositories WHERE id LIKE 'o%'");
    world.run(&line, 0).says("proved: the key decrypts the one credential");
}

#[test]
fn every_kind_of_dump_is_proved_without_set_up() {
    let world = World::new();
    std::fs::copy(world.app.database(), world.path("old.sqlite")).expect("copied");
    std::fs::write(world.path("old.sql"), dump(&world)).expect("written");
    std::fs::write(world.path("d1.sql"), d1_export()).expect("written");
    let file = std::fs::File::create(world.path("old.sql.gz")).expect("created");
    let mut gz = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    gz.write_all(dump(&world).as_bytes()).expect("written");
    gz.finish().expect("finished");
    for name in ["old.sqlite", "old.sql", "old.sql.gz", "d1.sql"] {
        let json = world.json(&format!("prove {name} {DOTENV}"), 0);
        assert_eq!(json["verdict"], "proved", "{name}");
        assert_eq!(json["credentials"]["proved"], CREDENTIALS, "{name}");
    }
    assert!(world.files("tmp").is_empty(), "plaintext was left behind: {:?}", world.files("tmp"));
}

#[test]
fn a_wrong_key_is_12_and_every_failing_row_is_named() {
    let world = World::new();
    world.app.set_key(WRONG);
    for target in ["sqlite:app/database.sqlite", "app/database.sqlite"] {
        let json = world.json(&format!("prove {target} {DOTENV}"), 12);
        assert_eq!(json["verdict"], "wrong-key");
        assert_eq!(json["credentials"]["failed"], CREDENTIALS);
        let failures = json["failures"].as_array().expect("failures");
        assert_eq!(failures.len(), CREDENTIALS);
        assert_eq!(failures[0]["table"], "repositories");
        assert_eq!(failures[0]["column"], "auth_credentials");
        assert!(failures.iter().any(|f| f["id"].to_string().contains("repo-1")), "{failures:?}");
    }
}

#[test]
fn a_database_under_two_keys_is_mixed_and_12() {
    let world = World::new();
    world.app.add_credential(90, WRONG);
    let json = world.json(&format!("prove sqlite:app/database.sqlite {DOTENV}"), 12);
    assert_eq!(json["verdict"], "mixed");
    assert_eq!(json["credentials"]["failed"], 1);
    assert_eq!(json["credentials"]["proved"], CREDENTIALS);
    assert!(json["failures"][0]["id"].to_string().contains("repo-90"), "{json}");
}

#[test]
fn an_empty_database_proves_nothing_and_ends_with_3() {
    let world = World::new();
    world.app.execute("DELETE FROM repositories WHERE id <> 'manual'");
    let json = world.json(&format!("prove sqlite:app/database.sqlite {DOTENV}"), 3);
    assert_eq!(json["verdict"], "unproven");
    assert_eq!(json["credentials"]["plaintext"], 1);
}

#[test]
fn a_missing_file_is_10_and_something_else_is_13() {
    let world = World::new();
    for target in ["sqlite:app/gone.sqlite", "gone.sql", "./gone.sqlite"] {
        world.run(&format!("prove {target} {DOTENV}"), 10);
    }
    assert!(!world.path("app/gone.sqlite").exists(), "asking must not make a database");
    std::fs::write(world.path("noise"), crate::app::zip("noise", 200)).expect("written");
    world.run(&format!("prove noise {DOTENV}"), 13);
    world.run(&format!("prove sqlite:noise {DOTENV}"), 13);
    std::fs::write(world.path("cut.sql"), &dump(&world)[..600]).expect("written");
    world.run(&format!("prove cut.sql {DOTENV}"), 13);
}

#[test]
fn the_key_may_come_from_variable_file_and_dotenv() {
    let world = World::new();
    secret_file(&world.path("key"), &format!("{KEY}\n"));
    world.run("prove app/database.sqlite --key file:key", 0);
    world.call("prove app/database.sqlite --key env:SOME_KEY").env("SOME_KEY", KEY).ends(0);
    world.run("prove app/database.sqlite --key env:SOME_KEY", 10);
    world.run("prove app/database.sqlite --key file:nokey", 10);
    world.run("prove app/database.sqlite --key dotenv:app/.env#OTHER", 10);
    world.run("prove app/database.sqlite --key prompt:", 2).says("prompt");
    let said = world.run(&format!("prove app/database.sqlite --key {KEY}"), 2);
    said.keeps_quiet_about(KEY);
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    secret_file(&world.path("key"), KEY);
    std::fs::set_permissions(world.path("key"), std::fs::Permissions::from_mode(0o644)).expect("set");
    world.run("prove app/database.sqlite --key file:key", 15).says("chmod 600");
}

#[test]
fn only_the_first_32_characters_of_a_key_count() {
    let world = World::new();
    secret_file(&world.path("key"), &KEY[..32]);
    world.run("prove app/database.sqlite --key file:key", 0);
}

#[test]
fn a_sample_says_that_it_is_one() {
    let world = World::new();
    for n in 10..20 {
        world.app.add_credential(n, KEY);
    }
    let json = world.json(&format!("prove app/database.sqlite {DOTENV} --sample 3"), 0);
    assert_eq!(json["sampled"], true);
    assert!(json["credentials"]["proved"].as_u64().expect("a number") < 10, "{json}");
    world.run(&format!("prove app/database.sqlite {DOTENV} --sample 3 --all"), 2);
}

#[test]
fn encrypted_columns_that_nobody_named_are_reported() {
    let world = World::new();
    let value = encrypt(KEY, &secret(1));
    world.app.execute(&format!("UPDATE users SET two_factor_secret = '{value}'"));
    let json = world.json(&format!("prove app/database.sqlite {DOTENV}"), 0);
    assert_eq!(codes(&json), ["unknown-ciphertext"]);
}

#[test]
fn a_database_in_wal_mode_is_proved_with_what_only_its_log_holds() {
    let world = World::new();
    let connection = rusqlite::Connection::open(world.app.database()).expect("opens");
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;").expect("set");
    let value = encrypt(WRONG, &secret(90));
    connection
        .execute_batch(&format!(
            "INSERT INTO repositories VALUES ('repo-90','','git','http-basic','{value}',NULL,NULL,'ok',NULL,NULL,1)"
        ))
        .expect("inserted");
    let json = world.json(&format!("prove sqlite:app/database.sqlite {DOTENV}"), 12);
    assert_eq!(json["credentials"]["failed"], 1);
    drop(connection);
}

#[test]
fn a_dump_that_attaches_or_loads_is_read_and_not_obeyed() {
    let world = World::new();
    let outside = world.path("made-by-the-dump");
    let sql = format!(
        "{SCHEMA}\nATTACH DATABASE '{}' AS x;\nCREATE TABLE x.t (a);\nINSERT INTO repositories VALUES ('r','','git','http-basic','{}',NULL,NULL,'ok',NULL,NULL,1);\n",
        outside.display(),
        encrypt(KEY, &secret(1))
    );
    std::fs::write(world.path("hostile.sql"), sql).expect("written");
    world.call(&format!("prove hostile.sql {DOTENV}")).run();
    assert!(!outside.exists());
}

#[test]
fn quiet_says_nothing_when_all_is_well_and_one_line_when_not() {
    let world = World::new();
    let ran = world.run(&format!("prove app/database.sqlite {DOTENV} -q"), 0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    world.app.set_key(WRONG);
    let ran = world.run(&format!("prove app/database.sqlite {DOTENV} -q"), 12);
    assert_eq!((ran.stdout.lines().count(), ran.stderr.lines().count()), (0, 1), "{}", ran.stderr);
}

#[test]
fn a_dump_whose_rows_are_changed_by_what_stands_beside_them_is_not_proved() {
    let world = World::new();
    let table = "CREATE TABLE repositories (id TEXT PRIMARY KEY, auth_credentials TEXT NOT NULL);";
    let value = crate::app::encrypt(KEY, "{}");
    let row = |schema: &str| format!("INSERT INTO {schema}repositories VALUES ('a', '{value}');");
    let cases = [
        (format!("{table}\n{}\nWITH t AS (SELECT 1) UPDATE repositories SET auth_credentials = 'x';", row("")), 2),
        (
            format!(
                "{table}\nCREATE TRIGGER t AFTER INSERT ON repositories BEGIN UPDATE repositories SET auth_credentials = 'x'; END;\n{}",
                row("")
            ),
            2,
        ),
        (format!("{table}\nCREATE TEMP TABLE other (a);\n{}", row("temp.")), 3),
        (format!("{table}\n{}", row("main.")), 0),
    ];
    for (text, code) in cases {
        std::fs::write(world.path("dump.sql"), &text).expect("written");
        world.run("prove dump.sql --key dotenv:app/.env#ENCRYPTION_KEY", code);
    }
}

#[test]
fn names_in_a_dump_command_no_terminal() {
    let world = World::new();
    world.app.execute("CREATE TABLE \"\u{1b}]0;x\u{7}t\" (a TEXT)");
    let value = crate::app::encrypt(KEY, "{}");
    world.app.execute(&format!("INSERT INTO \"\u{1b}]0;x\u{7}t\" VALUES ('{value}'), ('{value}')"));
    let ran = world.call("prove sqlite:app/database.sqlite --key dotenv:app/.env#ENCRYPTION_KEY").run();
    ran.says("looks encrypted").keeps_quiet_about("\u{1b}");
}

/// The most memory that a call took, in KiB; the call is watched until it ends, with this code.
fn peak(world: &World, line: &str, code: i32) -> u64 {
    let mut call = world.call(line);
    let mut child = call.command().stdout(std::process::Stdio::null()).spawn().expect("started");
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        most = most.max(value.and_then(|v| v.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0));
        if let Some(ended) = child.try_wait().expect("waited") {
            assert_eq!(ended.code(), Some(code), "strongroom {line}");
            return most;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Writes a gzip file of one beginning and many pieces.
fn packed(world: &World, name: &str, begin: &str, pieces: impl Iterator<Item = String>) {
    let file = std::fs::File::create(world.path(name)).expect("created");
    let mut gz = flate2::write::GzEncoder::new(std::io::BufWriter::new(file), flate2::Compression::fast());
    gz.write_all(begin.as_bytes()).expect("written");
    for piece in pieces {
        gz.write_all(piece.as_bytes()).expect("written");
    }
    gz.finish().expect("finished");
}

#[test]
fn a_dump_that_names_more_than_can_be_remembered_is_refused_in_little_memory() {
    let world = World::new();
    let value = encrypt(KEY, &secret(1));
    let table = format!(
        "CREATE TABLE repositories (id TEXT PRIMARY KEY, auth_credentials TEXT NOT NULL);\nINSERT INTO repositories VALUES ('a', '{value}');\n"
    );
    let wide = (0..1000).fold(String::new(), |wide, n| wide + &format!(", column_with_a_name_{n} text"));
    let many = 0..700_000_u32;
    packed(&world, "rows.sql.gz", &table, many.clone().map(|n| format!("INSERT INTO t{n} VALUES (1);\n")));
    packed(&world, "tables.sql.gz", &table, many.clone().map(|n| format!("CREATE TABLE t{n} (a text);\n")));
    packed(&world, "wide.sql.gz", &table, (0..1000).map(|n| format!("CREATE TABLE t{n} (a text{wide});\n")));
    let pg = "--\n-- PostgreSQL database dump\n--\n";
    let copies = many.clone().map(|n| format!("COPY public.t{n} (a) FROM stdin;\n\\.\n"));
    packed(&world, "copies.sql.gz", pg, copies);
    packed(&world, "pgtables.sql.gz", pg, many.map(|n| format!("CREATE TABLE public.t{n} (\n a text\n);\n")));
    packed(&world, "pgwide.sql.gz", pg, (0..1000).map(|n| format!("CREATE TABLE t{n} (a text{wide});\n")));
    for name in ["rows", "tables", "wide", "copies", "pgtables", "pgwide"] {
        let line = format!("prove {name}.sql.gz {DOTENV}");
        let most = peak(&world, &line, 13);
        assert!(most < 400 << 10, "{name} took {most} KiB");
        world.run(&line, 13).says(&format!("{name}.sql.gz names more tables and columns"));
    }
    let tabs = format!(
        "{pg}CREATE TABLE public.repositories (id text, auth_credentials text);\nCOPY public.repositories (id, auth_credentials) FROM stdin;\n{}\n\\.\n",
        "\t".repeat(40 << 20)
    );
    packed(&world, "tabs.sql.gz", &tabs, std::iter::empty());
    let most = peak(&world, &format!("prove tabs.sql.gz {DOTENV}"), 13);
    assert!(most < 400 << 10, "a row of nothing but tabs took {most} KiB");
}

#[test]
fn a_database_that_unpacks_without_an_end_fills_nothing() {
    let world = World::new();
    let begin = std::fs::read(world.app.database()).expect("read");
    let mut bomb = begin.clone();
    bomb.resize(96 << 20, 0);
    let file = std::fs::File::create(world.path("bomb.sqlite.gz")).expect("created");
    let mut gz = flate2::write::GzEncoder::new(file, flate2::Compression::best());
    gz.write_all(&bomb).expect("written");
    gz.finish().expect("finished");
    std::fs::write(world.path("bomb.sqlite.zst"), zstd::encode_all(&bomb[..], 3).expect("packed")).expect("written");
    for name in ["bomb.sqlite.gz", "bomb.sqlite.zst"] {
        world.run(&format!("prove {name} {DOTENV}"), 13).says("unpacks to more than");
        assert!(world.files("tmp").is_empty(), "{:?}", world.files("tmp"));
    }
    // A small one that is nearly all air is unpacked, as every real one is.
    let mut airy = begin;
    airy.resize(16 << 20, 0);
    std::fs::write(world.path("airy.sqlite.zst"), zstd::encode_all(&airy[..], 3).expect("packed")).expect("written");
    world.run(&format!("prove airy.sqlite.zst {DOTENV}"), 0);
}

#[test]
fn a_profile_that_lies_in_the_current_folder_is_not_believed() {
    let world = World::new();
    // Only the rows that the key opens: with this profile a wrong key would look proved.
    let value = encrypt(WRONG, &secret(9));
    world
        .app
        .execute(&format!("CREATE TABLE bait (id TEXT PRIMARY KEY, v TEXT); INSERT INTO bait VALUES ('a', '{value}')"));
    world.app.set_key(WRONG);
    let profile = "app = \"package-broker\"\nscheme = \"package-broker\"\nkey_variable = \"ENCRYPTION_KEY\"\n[[credential]]\ntable = \"bait\"\ncolumn = \"v\"\nprimary_key = [\"id\"]\n";
    std::fs::create_dir_all(world.path("policies/apps")).expect("made");
    std::fs::write(world.path("policies/apps/package-broker.toml"), profile).expect("written");
    let line = format!("prove app/database.sqlite {DOTENV}");
    world.run(&line, 12);
    world.run(&format!("{line} --app package-broker"), 12);
    world.run(&format!("{line} --app policies/apps/package-broker.toml"), 0);
}

#[test]
fn a_pipe_that_nobody_writes_to_is_not_waited_for() {
    let world = World::new();
    for name in ["dump.fifo", "key.fifo"] {
        assert!(Command::new("mkfifo").arg(world.path(name)).status().expect("mkfifo").success());
    }
    world.run(&format!("prove dump.fifo {DOTENV}"), 2).says("not a regular file");
    world.run("prove app/database.sqlite --key file:key.fifo", 15).says("not a regular file");
    // In a folder that pg_dump made, neither.
    std::fs::create_dir(world.path("dumped")).expect("made");
    for what in ["fifo", "link"] {
        let toc = world.path("dumped/toc.dat");
        let _ = std::fs::remove_file(&toc);
        if what == "fifo" {
            assert!(Command::new("mkfifo").arg(&toc).status().expect("mkfifo").success());
        } else {
            std::os::unix::fs::symlink("/dev/zero", &toc).expect("linked");
        }
        let ran = world.call(&format!("prove dumped {DOTENV}")).run();
        assert!(ran.code.is_some_and(|code| code != 0), "{what}: {}", ran.stdout);
    }
}
