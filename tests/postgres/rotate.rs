//! New keys in a live PostgreSQL database: all rows or none, whatever happens in between.

use std::process::{Child, Command, Stdio};

use super::server::{Server, VERSIONS};
use super::world::{KEY, WRONG, World, encrypted, fill, prefix, said};

const IDENTITY: &str = "recovery-identity.txt";

fn host(version: u32, rows: usize) -> Option<(Server, World)> {
    let server = Server::start(version)?;
    fill(&server, "app", rows);
    let world = World::new(&server.programs);
    world.init(&server.url("app", "app"), "");
    with_set_key(&world);
    Some((server, world))
}

/// A hook that puts the key that it reads into the application's configuration.
fn with_set_key(world: &World) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = world.path("set-key");
    let text = "#!/bin/sh\numask 077; { printf 'ENCRYPTION_KEY='; cat; echo; } >new.env && mv new.env .env\n";
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let config = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&config).expect("read") + "set_key = [\"./set-key\"]\n";
    std::fs::write(config, text).expect("written");
}

/// The whole table, to see that nothing was changed.
fn rows(server: &Server) -> String {
    server.sql("app", "app", "SELECT id, auth_credentials, note FROM repositories ORDER BY id")
}

/// A session of an application; it ends when its input does.
fn session(server: &Server, sql: &str) -> Child {
    use std::io::{BufRead as _, Write as _};
    let mut child = server
        .command("psql", "app", "app")
        .args(["-X", "-q", "-A", "-t"])
        .env("PGAPPNAME", "the application")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("psql runs");
    writeln!(child.stdin.as_mut().expect("an input"), "{sql}\n\\echo ready").expect("written");
    let mut output = std::io::BufReader::new(child.stdout.take().expect("an output"));
    let mut line = String::new();
    while line != "ready\n" {
        line.clear();
        assert!(output.read_line(&mut line).expect("read") > 0, "psql ended");
    }
    child
}

fn end(mut child: Child) {
    drop(child.stdin.take());
    child.wait().expect("ended");
}

fn story(server: &Server, world: &World, count: u64) {
    let (_, first) = world.json("backup");
    let old = first["fingerprint"].as_str().expect("a fingerprint").to_owned();
    let notes =
        server.sql("app", "app", "SELECT md5(string_agg(id || coalesce(note, ''), ',' ORDER BY id)) FROM repositories");
    let (code, done) = world.json("key rotate --yes --reason leaked");
    assert_eq!((code, done["state"].as_str(), &done["moved"]), (0, Some("done"), &count.into()), "{done}");
    world.ends("prove", 0);
    world.ends("prove --key env:KEY", 12);
    assert_eq!(server.sql("app", "app", "SELECT auth_credentials FROM repositories WHERE id = 'manual'"), "{}");
    let after =
        server.sql("app", "app", "SELECT md5(string_agg(id || coalesce(note, ''), ',' ORDER BY id)) FROM repositories");
    assert_eq!(after, notes);
    world.ends(&format!("verify {} --deep -i {IDENTITY}", first["bundle"].as_str().expect("an id")), 0);
    world.ends(&format!("verify latest --deep -i {IDENTITY}"), 0);

    // Rows under the key before, named and put under the one in use.
    let value = encrypted("{\"token\":\"late\"}");
    server.sql("app", "app", &format!("INSERT INTO repositories VALUES ('late', 'git', '{value}', NULL)"));
    let (code, found) = world.json(&format!("key doctor -i {IDENTITY}"));
    assert_eq!((code, &found["under"][&old[..12]]), (12, &1.into()), "{found}");
    let (code, done) = world.json(&format!("key rotate --from {} --yes -i {IDENTITY}", &old[..8]));
    assert_eq!((code, &done["moved"]), (0, &1.into()), "{done}");
    world.ends("prove", 0);
    world.ends("guard -- true", 0);

    // The first bundle comes back under the key that is configured now.
    let restore = format!("restore {} -i {IDENTITY} --only database --yes", first["bundle"].as_str().expect("an id"));
    world.ends(&restore, 12);
    let plan = world.ends(&format!("{restore} --rekey --dry-run"), 0);
    assert!(plan.contains(&format!("re-encrypt {count} credentials")) && plan.contains("before the swap"), "{plan}");
    world.ends(&format!("{restore} --rekey"), 0);
    let proof = world.ends("prove", 0);
    assert!(proof.contains(&format!("all {count} credentials")), "{proof}");
    world.ends("restore --cleanup --yes", 0);
}

#[test]
fn a_key_is_replaced_and_adopted_on_every_version() {
    for version in VERSIONS {
        let Some((server, world)) = host(version, 5) else { continue };
        story(&server, &world, 5);
    }
}

#[test]
fn more_rows_than_go_into_one_statement_are_rewritten() {
    let Some((server, world)) = host(15, 1) else { return };
    server.sql("app", "app", "INSERT INTO repositories SELECT 'x' || g, 'git', auth_credentials, NULL FROM repositories, generate_series(1, 104) g WHERE id = 'r000'");
    let (code, done) = world.json("key rotate --yes");
    assert_eq!((code, &done["moved"]), (0, &105.into()), "{done}");
    assert_eq!(server.sql("app", "app", "SELECT count(DISTINCT auth_credentials) FROM repositories"), "106");
}

#[test]
fn the_same_behind_a_prefix() {
    let Some((server, plain)) = host(15, 5) else { return };
    let world = World::new(std::path::Path::new("/nowhere"));
    for name in ["strongroom.toml", "strongroom-signing.key", "strongroom-signing.pub", IDENTITY, "set-key"] {
        std::fs::copy(plain.path(name), world.path(name)).expect("copied");
    }
    let copied = Command::new("cp").arg("-r").arg(plain.path("archive")).arg(world.path("archive")).status();
    assert!(copied.expect("cp runs").success());
    world.configure(&prefix(&server));
    story(&server, &world, 5);
}

#[test]
fn every_schema_type_and_key_is_rewritten() {
    let Some(server) = Server::start(15) else { return };
    let value = encrypted("{}");
    server.sql(
        "app",
        "app",
        &format!(
            "CREATE SCHEMA tenant; CREATE SCHEMA \"Odd.one\"; CREATE TYPE kind AS ENUM ('it''s', 'b');
            CREATE TABLE repositories (id bigint, part smallint, auth_credentials bytea, PRIMARY KEY (id, part));
            CREATE TABLE tenant.repositories (id text, part text, auth_credentials varchar(400)) PARTITION BY LIST (part);
            CREATE TABLE tenant.first PARTITION OF tenant.repositories FOR VALUES IN ('a');
            CREATE TABLE tenant.rest PARTITION OF tenant.repositories DEFAULT;
            CREATE TABLE \"Odd.one\".repositories (id kind, part char(4), auth_credentials text, PRIMARY KEY (id, part));
            INSERT INTO repositories VALUES (9007199254740993, 1, convert_to('{value}', 'UTF8')), (7, 2, convert_to('{value}', 'UTF8')), (8, 1, NULL);
            INSERT INTO tenant.repositories VALUES (E'back\\\\slash''s\\n', 'a', '{value}'), ('y', 'b', '{{}}'), ('z', 'c', '{value}');
            INSERT INTO \"Odd.one\".repositories VALUES ('it''s', ':x', '{value}'), ('b', 'cccc', '{value}');"
        ),
    );
    let world = World::new(&server.programs);
    world.init(&server.url("app", "app"), "");
    with_set_key(&world);
    let path = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).expect("read")
        + "\n[profile]\napp = \"package-broker\"\nscheme = \"package-broker\"\nkey_variable = \"ENCRYPTION_KEY\"\n\
           [[profile.credential]]\ntable = \"repositories\"\ncolumn = \"auth_credentials\"\nprimary_key = [\"id\", \"part\"]\nplaintext = [\"{}\"]\n";
    std::fs::write(&path, text).expect("written");
    let (code, done) = world.json("key rotate --yes");
    assert_eq!((code, &done["moved"], &done["credentials"]["plaintext"]), (0, &6.into(), &1.into()), "{done}");
    world.ends("prove --key env:KEY", 12);
    assert_eq!(server.sql("app", "app", "SELECT count(*) FROM repositories WHERE auth_credentials IS NULL"), "1");
    assert_eq!(
        server.sql("app", "app", "SELECT count(*) FROM repositories WHERE get_byte(auth_credentials, 0) < 33"),
        "0"
    );
}

#[test]
fn what_keeps_a_row_from_being_rewritten_is_named_and_nothing_is_changed() {
    let Some((server, world)) = host(15, 4) else { return };
    world.ends("backup", 0);
    let before = rows(&server);
    let refused = |code: i32, says: &str| {
        let told = world.ends("key rotate --yes", code);
        assert!(told.contains(says) && told.contains("Nothing was changed"), "{told}");
        assert_eq!(rows(&server), before);
        std::fs::remove_file(world.path("strongroom-state/rotation.json")).expect("given up");
        world.ends("prove --key env:KEY", 0);
    };
    // A trigger that changes what is written, one that swallows it, and one that writes another row.
    let trigger = |body: &str| {
        server.sql(
            "app",
            "app",
            &format!(
                "CREATE OR REPLACE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} END$$;
                 DROP TRIGGER IF EXISTS meddle ON repositories;
                 CREATE TRIGGER meddle BEFORE UPDATE ON repositories FOR EACH ROW EXECUTE FUNCTION meddle()"
            ),
        )
    };
    trigger("NEW.auth_credentials := OLD.auth_credentials; RETURN NEW;");
    refused(1, "does not hold what was written");
    trigger("RETURN NULL;");
    refused(1, "0 rows are");
    trigger("INSERT INTO repositories VALUES ('new' || OLD.id, 'git', OLD.auth_credentials, NULL); RETURN NEW;");
    refused(1, "was not there before");
    server.sql("app", "app", "DROP TRIGGER meddle ON repositories");
    // A right that is missing, and rows that are hidden.
    server.sql("postgres", "app", "ALTER TABLE repositories OWNER TO postgres; GRANT SELECT ON repositories TO app");
    refused(21, "right to UPDATE");
    server.sql("postgres", "app", "ALTER TABLE repositories OWNER TO app; ALTER TABLE repositories ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY");
    let told = world.ends("key rotate --yes", 21);
    assert!(told.contains("ow-level security"), "{told}");
    server.sql("app", "app", "ALTER TABLE repositories DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY");
    // A primary key that names no row.
    let path = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).expect("read");
    let profile = "\n[profile]\napp = \"package-broker\"\nscheme = \"package-broker\"\nkey_variable = \"ENCRYPTION_KEY\"\n\
        [[profile.credential]]\ntable = \"repositories\"\ncolumn = \"auth_credentials\"\nprimary_key = [\"vcs_type\"]\nplaintext = [\"{}\"]\n";
    std::fs::write(&path, format!("{text}{profile}")).expect("written");
    refused(1, "two rows");
    std::fs::write(&path, text).expect("written");
    world.ends("key rotate --yes", 0);
}

#[test]
fn an_application_that_is_connected_is_not_rotated_under_unless_it_is_to_be() {
    let Some((server, world)) = host(15, 4) else { return };
    world.ends("backup", 0);
    let before = rows(&server);
    let application = session(&server, "SELECT 1;");
    let told = world.ends("key rotate --yes", 15);
    assert!(told.contains("the application as app") && told.contains("--online"), "{told}");
    assert_eq!(rows(&server), before);
    // It goes away while it is waited for.
    let going = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs(4));
        end(application);
    });
    world.ends("key rotate --resume", 0);
    going.join().expect("joined");
    world.ends("prove", 0);

    // Beside a running one: what it writes under the old key meanwhile is found by the second sweep.
    let application = session(&server, "SELECT 1;");
    let config = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&config).expect("read").replace("set_key = ", "# set_key = ");
    std::fs::write(&config, &text).expect("written");
    world.ends("key rotate --online --yes --new env:WRONG", 3);
    let (_, old) = (world.ends("prove", 12), std::fs::read_to_string(world.path(".env")).expect("read"));
    let old = old.trim().strip_prefix("ENCRYPTION_KEY=").expect("a key").to_owned();
    let value = super::world::encrypted_with(&old, "{\"token\":\"late\"}");
    server.sql("app", "app", &format!("INSERT INTO repositories VALUES ('late', 'git', '{value}', NULL)"));
    world.set_key(WRONG);
    let told = world.ends("key rotate --resume", 0);
    assert!(told.contains("1 of them were written under the old key meanwhile"), "{told}");
    assert!(world.ends("prove", 0).contains("all 5 credentials"));
    end(application);
}

#[test]
fn a_lock_that_somebody_holds_is_not_waited_for_for_ever() {
    let Some((server, world)) = host(15, 2) else { return };
    world.ends("backup", 0);
    let holder = session(&server, "BEGIN; UPDATE repositories SET note = 'held' WHERE id = 'r000';");
    let before = rows(&server);
    let told = world.ends("key rotate --online --yes", 20);
    assert!(told.contains("holds a lock"), "{told}");
    assert_eq!(rows(&server), before);
    end(holder);
    world.ends("key rotate --resume", 0);
}

#[test]
fn no_credential_and_no_key_is_in_an_argument() {
    let Some((server, world)) = host(15, 3) else { return };
    world.ends("backup", 0);
    let log = world.path("argv");
    let script = format!("echo \"psql $*\" >> {}\nexec $REAL \"$@\"", log.display());
    for program in ["psql", "pg_dump", "pg_dumpall"] {
        super::world::wrapper(
            &world.path("bin"),
            program,
            &server.programs,
            &script.replace("psql $*", &format!("{program} $*")),
        );
    }
    world.configure(&format!("programs = \"{}\"", world.path("bin").display()));
    let before = rows(&server);
    world.ends("key rotate --yes", 0);
    let argv = std::fs::read_to_string(&log).expect("read");
    let value = |row: &str| row.split('|').nth(1).unwrap_or_default().to_owned();
    for row in before.lines().chain(rows(&server).lines()).filter(|row| !row.starts_with("manual")) {
        assert!(!argv.contains(&value(row)), "{argv}");
    }
    assert!(argv.contains("psql ") && !argv.contains("UPDATE") && !argv.contains(KEY), "{argv}");
}

/// Runs a line that is killed at the place of this name.
#[cfg(feature = "failpoints")]
fn killed(world: &World, line: &str, place: &str) {
    use std::os::unix::process::ExitStatusExt as _;
    let out = world.command(line).env("STRONGROOM_KILL_AT", place).output().expect("it runs");
    assert_eq!(out.status.signal(), Some(9), "{place}: {}", said(&out));
}

#[cfg(feature = "failpoints")]
const COMMIT: [&str; 2] = ["before the commit of new credentials", "after the commit of new credentials"];

#[test]
#[cfg(feature = "failpoints")]
fn a_rotation_killed_anywhere_is_all_old_or_all_new_and_goes_on() {
    let Some((server, world)) = host(15, 5) else { return };
    world.ends("backup", 0);
    let prefixed = World::new(std::path::Path::new("/nowhere"));
    let copied = Command::new("cp").arg("-a").arg(world.path(".")).arg(prefixed.path("")).status();
    assert!(copied.expect("cp runs").success());
    prefixed.configure(&prefix(&server));
    let own = ["before the new key is escrowed", COMMIT[0], COMMIT[1], "before the end of the rotation"];
    for line in ["key rotate --yes", "key rotate --yes --online"] {
        for place in own {
            let old = std::fs::read_to_string(world.path(".env")).expect("read");
            let before = rows(&server);
            killed(&world, line, place);
            // The session of a run that was killed may take a moment to end.
            let early = place == own[0] || place == own[1];
            assert_eq!(rows(&server) == before, early, "{line} killed {place}");
            let configured = std::fs::read_to_string(world.path(".env")).expect("read");
            assert_eq!(configured == old, place != own[3], "{line} killed {place}");
            let told = world.run("key rotate --resume");
            assert!(matches!(told.status.code(), Some(0 | 3)), "{line} killed {place}: {}", said(&told));
            world.ends("prove", 0);
            assert!(!world.path("strongroom-state/rotation.json").exists());
        }
    }
    world.ends(&format!("verify latest --deep -i {IDENTITY}"), 0);
    std::fs::copy(world.path(".env"), prefixed.path(".env")).expect("copied");
    super::world::private(&prefixed.path(".env"));
    for place in COMMIT {
        killed(&prefixed, "key rotate --yes", place);
        let told = prefixed.run("key rotate --resume");
        assert!(matches!(told.status.code(), Some(0 | 3)), "killed {place}: {}", said(&told));
        prefixed.ends("prove", 0);
    }
}

#[test]
#[cfg(feature = "failpoints")]
fn a_rotation_killed_before_its_commit_can_be_given_up_and_not_after_it() {
    let Some((server, world)) = host(15, 5) else { return };
    world.ends("backup", 0);
    let before = rows(&server);
    for line in ["key rotate --yes", "key rotate --yes --online"] {
        killed(&world, line, COMMIT[0]);
        world.ends("key rotate --abort", 0);
        assert_eq!(rows(&server), before);
        assert!(!world.path("strongroom-state/rotation.json").exists());
        world.ends("prove", 0);
    }
    killed(&world, "key rotate --yes", COMMIT[1]);
    assert!(world.ends("key rotate --abort", 12).contains("5 credentials are under the new key"));
    world.ends("key rotate --resume", 0);
    world.ends("prove", 0);
}

#[test]
fn a_commit_that_is_on_its_way_is_waited_for_before_a_rotation_is_given_up() {
    let Some((server, world)) = host(15, 5) else { return };
    world.ends("backup", 0);
    let admin = |sql: &str| server.sql("postgres", "postgres", sql);
    // The standby is away: whoever commits waits, and nobody sees what he has written.
    admin("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    admin("SELECT pg_reload_conf()");
    let mut child =
        world.command("key rotate --yes").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let begun = std::time::Instant::now();
    while admin("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") != "1" {
        assert!(begun.elapsed().as_secs() < 120, "no commit is waiting");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(world.ends("key rotate --abort", 12).contains("5 credentials are under the new key"));
    admin("ALTER SYSTEM RESET synchronous_standby_names");
    admin("SELECT pg_reload_conf()");
    world.ends("key rotate --resume", 0);
    world.ends("prove", 0);
}

#[test]
#[cfg(feature = "failpoints")]
fn a_restore_killed_while_it_re_encrypts_has_touched_nothing() {
    let Some((server, world)) = host(15, 5) else { return };
    world.ends("backup", 0);
    world.set_key(WRONG);
    server.sql("app", "app", "UPDATE repositories SET auth_credentials = '{}'");
    let before = rows(&server);
    let line = format!("restore latest -i {IDENTITY} --only database --yes --rekey");
    for place in COMMIT {
        killed(&world, &line, place);
        assert_eq!(rows(&server), before, "killed {place}");
        assert!(world.ends("restore --cleanup --yes", 0).contains("app_new_"));
    }
    world.ends(&line, 0);
    assert!(world.ends("prove", 0).contains("all 5 credentials"));
}

#[test]
fn a_commit_whose_answer_is_lost_is_asked_for_and_not_guessed() {
    let Some((server, world)) = host(15, 3) else { return };
    world.ends("backup", 0);
    world.configure(&format!("programs = \"{}\"", world.path("bin").display()));
    // psql ends between our COMMIT and its answer: with it, or before it reached the server.
    for (reaches, name) in [(true, "committed"), (false, "not")] {
        let before = rows(&server);
        let done = world.path(name).display().to_string();
        // The shell goes first, because it holds the stream that we read.
        let script = if reaches {
            format!(
                "case \"$*\" in *rotate*) [ -e {done} ] && exec $REAL \"$@\"; T={done}.said; tee \"$T\" | $REAL \"$@\" | \
                 while IFS= read -r line; do \
                 if sed -n '/pg_current_xact_id/,$p' \"$T\" | grep -q '^COMMIT;$'; then sleep 1; touch {done}; kill -9 $$; exit; fi; printf '%s\\n' \"$line\"; done;; \
                 *) exec $REAL \"$@\";; esac"
            )
        } else {
            format!(
                "case \"$*\" in *rotate*) [ -e {done} ] && exec $REAL \"$@\"; \
                 {{ seen=; while IFS= read -r line; do \
                 case \"$line\" in *pg_current_xact_id*) seen=1;; 'COMMIT;') [ -z \"$seen\" ] || break;; esac; \
                 printf '%s\\n' \"$line\"; done; touch {done}; }} | $REAL \"$@\";; *) exec $REAL \"$@\";; esac"
            )
        };
        super::world::wrapper(&world.path("bin"), "psql", &server.programs, &script);
        for program in ["pg_dump", "pg_dumpall"] {
            super::world::wrapper(&world.path("bin"), program, &server.programs, "exec $REAL \"$@\"");
        }
        let out = world.run("key rotate --yes");
        assert!(world.path(name).exists(), "nothing was lost: {}", said(&out));
        if reaches {
            assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        } else {
            assert_eq!(rows(&server), before);
            assert!(said(&out).contains("Nothing was changed"), "{}", said(&out));
            world.ends("key rotate --resume", 0);
        }
        world.ends("prove", 0);
    }
}
