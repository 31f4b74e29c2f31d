//! `restore` over the live system: plan, prove, stop, swap, start, check, or everything back.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use serde_json::Value;

use crate::app::{CREDENTIALS, KEY, OBJECTS, WRONG, object, secret_file};
use crate::world::{IDENTITY, World, flip};

const LOST: (&str, &str, &str) = OBJECTS[0];
const CHANGED: (&str, &str, &str) = OBJECTS[1];

fn path(of: (&str, &str, &str)) -> String {
    object(of.0, of.1, of.2)
}

fn rows(world: &World) -> i64 {
    world.app.number("SELECT count(*) FROM repositories")
}

fn all() -> i64 {
    i64::try_from(CREDENTIALS + 1).expect("few")
}

/// A disaster: credentials gone, a package lost, another changed, something new beside them.
fn damage(world: &World) {
    world.app.execute("DELETE FROM repositories WHERE id <> 'repo-1'");
    std::fs::remove_file(world.app.storage().join(path(LOST))).expect("removed");
    world.app.store(&path(CHANGED), b"not what it was");
    world.app.store("private/new.zip", b"made since");
}

/// Adds scripts that write their names to `log`, for the hooks.
fn hooks(world: &World, stop: &str, start: &str, more: &str) {
    let stop = world.script("stop.sh", &format!("echo stop >>$W/log\n{stop}"));
    let start = world.script("start.sh", &format!("echo start >>$W/log\n{start}"));
    let told = world.script("told.sh", "cat >$W/told.json");
    world.configure(&format!(
        "stop = [\"{}\"]\nstart = [\"{}\"]\n{more}\n[notify]\non_result = [\"{}\"]",
        stop.display(),
        start.display(),
        told.display()
    ));
}

fn log(world: &World) -> String {
    std::fs::read_to_string(world.path("log")).unwrap_or_default().replace('\n', " ").trim().to_owned()
}

/// Answers every request with this JSON; its URL.
fn health(answer: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("http://{}/health", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                answer.len()
            );
        }
    });
    url
}

#[test]
fn database_and_storage_come_back_and_what_was_replaced_is_kept() {
    let (world, id) = World::backed_up();
    let lost = world.app.stored(&path(LOST));
    let changed = world.app.stored(&path(CHANGED));
    std::fs::set_permissions(world.app.database(), std::fs::Permissions::from_mode(0o660)).expect("set");
    damage(&world);
    let json = world.json(&format!("restore --yes -i {IDENTITY}"), 0);
    assert_eq!(json["bundle"], id.as_str());
    assert_eq!(rows(&world), all());
    assert!(world.app.stored(&path(LOST)) == lost);
    assert!(world.app.stored(&path(CHANGED)) == changed);
    assert_eq!(world.app.stored("private/new.zip"), b"made since", "extra files stay");
    assert_eq!(json["plan"]["storage"]["extra"], serde_json::json!(["private/new.zip"]));
    let kept = world.app.stored(&format!(".strongroom/rollback-{id}/{}", path(CHANGED)));
    assert_eq!(kept, b"not what it was");
    let kept = json["kept"].as_str().expect("the replaced database");
    assert_eq!(crate::app::number(std::path::Path::new(kept), "SELECT count(*) FROM repositories"), 1);
    assert_eq!(std::fs::metadata(world.app.database()).expect("there").mode() & 0o7777, 0o660);
    world.run("prove", 0);
    let backup = world.json("backup", 0);
    assert_eq!(backup["storage"]["files"], OBJECTS.len() * 2 + 1, "what restores keep is no part of the storage");
}

#[test]
fn a_dry_run_changes_nothing_and_prints_what_is_executed() {
    let (world, _) = World::backed_up();
    hooks(&world, "", "", "");
    damage(&world);
    let before = world.state_of("");
    let mut plan = world.json(&format!("restore --dry-run -i {IDENTITY}"), 0);
    assert_eq!(world.state_of(""), before);
    assert_eq!(plan["storage"]["write"], 2);
    assert_eq!(plan["storage"]["replaced"], 1);
    let replaced = crate::world::text(&plan["storage"]["replaced_paths"][0]);
    world.run(&format!("restore --dry-run -i {IDENTITY}"), 0).says(&format!("    replaced: {replaced}"));
    assert_eq!(plan["storage"]["extra_count"], 1);
    assert_eq!(plan["database"]["reversible"], true);
    assert_eq!(plan["hooks"].as_array().map(Vec::len), Some(2));
    assert_eq!(plan.as_object_mut().expect("a plan").remove("problems"), Some(serde_json::json!([])));
    let mut done = world.json(&format!("restore --yes -i {IDENTITY}"), 0)["plan"].clone();
    for plan in [&mut plan, &mut done] {
        // The kept database's name has the time of the run in it.
        plan["database"]["kept_as"] = Value::Null;
        plan["database"]["steps"] = Value::Null;
    }
    assert_eq!(plan, done);
    world.run(&format!("restore --dry-run -i {IDENTITY}"), 0).says("already right");
}

#[test]
fn a_wrong_key_is_12_and_touches_nothing() {
    let (world, _) = World::backed_up();
    hooks(&world, "", "", "");
    damage(&world);
    world.app.set_key(WRONG);
    let before = world.state_of("app");
    world.run(&format!("restore --yes -i {IDENTITY}"), 12).says("Nothing was touched");
    std::fs::remove_file(world.path("app/.env")).expect("removed");
    world.run(&format!("restore --yes -i {IDENTITY}"), 10).says("--key");
    assert_eq!(log(&world), "", "the application was not stopped");
    secret_file(&world.path("key"), WRONG);
    world.run(&format!("restore --yes --key file:key -i {IDENTITY}"), 12);
    world.app.set_key(WRONG);
    assert_eq!(
        world.state_of("app/storage"),
        before
            .into_iter()
            .filter_map(|mut f| {
                f.0 = f.0.strip_prefix("storage/")?.to_owned();
                Some(f)
            })
            .collect::<Vec<_>>()
    );
    assert_eq!(rows(&world), 1);
    secret_file(&world.path("key"), KEY);
    world.run(&format!("restore --yes --key file:key -i {IDENTITY}"), 0);
    assert_eq!(rows(&world), all());
}

#[test]
fn damage_is_told_before_anything_is_touched_and_only_when_it_would_be() {
    let (world, id) = World::backed_up();
    hooks(&world, "", "", "");
    damage(&world);
    let before = world.state_of("app");
    flip(&world.bundle(&id).join("database.sqlite.zst.age"));
    let restore = format!("restore --yes -i {IDENTITY}");
    world.run(&restore, 13).says("does not have the SHA-256");
    assert_eq!((log(&world).as_str(), world.state_of("app")), ("", before));
    // Whoever is refused for another reason hears that one, and a plan uses nothing of it.
    world.run(&format!("restore -i {IDENTITY}"), 15).says("--yes");
    world.run(&format!("restore --dry-run -i {IDENTITY}"), 0);
    world.app.set_key(WRONG);
    world.run(&restore, 12).says("Nothing was touched");
    assert_eq!(log(&world), "");
}

#[test]
fn without_a_terminal_nothing_is_restored_unless_told_to() {
    let (world, _) = World::backed_up();
    damage(&world);
    let before = world.state_of("app");
    world.run(&format!("restore -i {IDENTITY}"), 15).says("--yes");
    assert_eq!(world.state_of("app"), before);
}

#[test]
fn hooks_run_in_order_and_the_result_is_told() {
    let (world, id) = World::backed_up();
    let url = health(r#"{"status":"ok","checks":{"database":"ok"}}"#);
    hooks(
        &world,
        "",
        "",
        &format!("health = {{ url = \"{url}\", expect = {{ status = \"ok\", \"checks.database\" = \"ok\" }} }}"),
    );
    damage(&world);
    world.run(&format!("restore --yes -i {IDENTITY}"), 0);
    assert_eq!(log(&world), "stop start");
    let told: Value = serde_json::from_slice(&std::fs::read(world.path("told.json")).expect("told")).expect("JSON");
    assert_eq!(told["verb"], "restore");
    assert_eq!(told["result"]["bundle"], id.as_str());
    std::fs::remove_file(world.path("log")).expect("removed");
    world.run(&format!("restore --yes --no-hooks -i {IDENTITY}"), 0);
    assert_eq!(log(&world), "");
}

/// Hooks of an application that is not well after a restore.
fn unwell(world: &World) {
    let url = health(r#"{"status":"degraded","checks":{"database":"ok"}}"#);
    let health = format!("health = {{ url = \"{url}\", expect = {{ status = \"ok\" }}, within_seconds = 0 }}");
    hooks(world, "", "", &health);
}

#[test]
fn a_failing_health_check_puts_everything_back() {
    let (world, id) = World::backed_up();
    unwell(&world);
    damage(&world);
    let before = world.state_of("app");
    let ran = world.run(&format!("restore --yes -i {IDENTITY}"), 20);
    ran.says("degraded").says("put back");
    assert_eq!(world.state_of("app"), before);
    assert_eq!(log(&world), "stop start stop start");
    let told: Value = serde_json::from_slice(&std::fs::read(world.path("told.json")).expect("told")).expect("JSON");
    assert_eq!((&told["verb"], &told["exit"]), (&Value::from("restore"), &Value::from(20)));
    world.run(&format!("restore {id} --yes --no-hooks -i {IDENTITY}"), 0);
    assert_eq!(rows(&world), all());
}

#[test]
fn what_stood_in_the_place_of_something_of_another_kind_comes_back() {
    let (world, _) = World::backed_up();
    unwell(&world);
    damage(&world);
    let (file, package) = (world.app.storage().join(path(LOST)), world.app.storage().join(path(CHANGED)));
    // A folder where the bundle has a file, and a link where it has a folder.
    std::fs::create_dir_all(file.join("inner")).expect("made");
    std::fs::write(file.join("inner/kept"), b"kept").expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o711)).expect("set");
    let (folder, elsewhere) = (package.parent().expect("a folder"), world.path("elsewhere"));
    std::fs::rename(folder, &elsewhere).expect("moved");
    std::os::unix::fs::symlink(&elsewhere, folder).expect("linked");
    let (before, there) = (world.state_of("app"), world.state_of("elsewhere"));
    for more in ["", " --delete-extra"] {
        world.run(&format!("restore --yes{more} -i {IDENTITY}"), 20).says("as it was before");
        assert_eq!(world.state_of("app"), before);
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o7777, 0o711);
        assert_eq!(std::fs::read_link(folder).expect("a link"), elsewhere);
        assert_eq!(world.state_of("elsewhere"), there);
    }
    world.run(&format!("restore --yes --no-hooks --delete-extra -i {IDENTITY}"), 0);
    assert!(file.is_file() && !folder.is_symlink() && package.is_file());
    assert_eq!(world.state_of("elsewhere"), there);
}

#[test]
fn what_came_while_the_plan_was_read_is_nobodys_to_remove() {
    let (world, _) = World::backed_up();
    damage(&world);
    let file = world.app.storage().join(path(LOST));
    // The application stores the file that was lost until it is stopped, and somebody spoils what was checked a moment ago.
    let stop = format!(
        "printf uploaded >{}; for part in $(find $W/archive/parts -name '*.tar*.age'); do : >$part; done",
        file.display()
    );
    hooks(&world, &stop, "", "");
    world.run(&format!("restore --yes -i {IDENTITY}"), 13).says("as it was before");
    assert_eq!(std::fs::read(&file).expect("it stays"), b"uploaded");
    assert_eq!(rows(&world), 1, "the database is back, too");
}

#[test]
fn a_start_that_fails_puts_everything_back() {
    let (world, _) = World::backed_up();
    hooks(&world, "", "test $(grep -c start $W/log) -gt 1 || { echo no >&2; exit 1; }", "");
    damage(&world);
    let before = world.state_of("app");
    world.run(&format!("restore --yes -i {IDENTITY}"), 1).says("start hook failed");
    assert_eq!(world.state_of("app"), before);
    assert_eq!(log(&world), "stop start stop start");
}

#[test]
fn a_stop_that_fails_touches_nothing() {
    let (world, _) = World::backed_up();
    hooks(&world, "exit 1", "", "");
    damage(&world);
    let before = world.state_of("app");
    world.run(&format!("restore --yes -i {IDENTITY}"), 1).says("stop hook failed").says("Nothing was changed");
    assert_eq!(world.state_of("app"), before);
    assert_eq!(log(&world), "stop start", "a part of it may be stopped");
}

#[test]
fn a_hook_whose_program_is_not_there_is_known_before_the_first_runs() {
    let (world, _) = World::backed_up();
    hooks(&world, "", "", "");
    damage(&world);
    let config = std::fs::read_to_string(world.path("strongroom.toml")).expect("read");
    let before = world.state_of("app");
    for hook in ["stop", "start"] {
        let line = config.lines().find(|line| line.starts_with(&format!("{hook} = "))).expect("a hook");
        let lost = config.replace(line, &format!("{hook} = [\"/no/such/program\"]"));
        std::fs::write(world.path("strongroom.toml"), lost).expect("written");
        let ran = world.run(&format!("restore --yes -i {IDENTITY}"), 10);
        ran.says(&format!("the {hook} hook")).says("/no/such/program").keeps_quiet_about("started again");
        let planned = world.json(&format!("restore --dry-run -i {IDENTITY}"), 0);
        assert!(planned["problems"].to_string().contains("/no/such/program"), "{planned}");
        world.run(&format!("restore --dry-run --no-hooks -i {IDENTITY}"), 0).keeps_quiet_about("/no/such");
        world.run("key rotate --yes", 10).says(&format!("the {hook} hook"));
        assert!(!world.path("strongroom-state/rotation.json").exists());
    }
    assert_eq!((log(&world), world.state_of("app")), (String::new(), before));
}

#[test]
fn a_database_that_somebody_holds_open_is_not_swapped() {
    let (world, _) = World::backed_up();
    damage(&world);
    let before = world.state_of("app/storage");
    let mut child = std::process::Command::new("sqlite3")
        .arg(world.app.database())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sqlite3 runs");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(b"BEGIN IMMEDIATE;\nSELECT 'ready';\n").expect("written");
    let mut ready = [0; 5];
    child.stdout.as_mut().expect("its output").read_exact(&mut ready).expect("it answers");
    let ran = world.call(&format!("restore --yes -i {IDENTITY}")).run();
    assert!([Some(11), Some(15)].contains(&ran.code), "{:?} {}", ran.code, ran.stderr);
    ran.says("sqlite3");
    assert_eq!(world.state_of("app/storage"), before);
    drop(stdin);
    child.wait().expect("it ends");
    assert_eq!(rows(&world), 1);
    world.run(&format!("restore --yes -i {IDENTITY}"), 0);
}

#[test]
fn only_one_of_both_is_restored_when_asked() {
    let (world, _) = World::backed_up();
    damage(&world);
    world.run(&format!("restore --yes --only storage -i {IDENTITY}"), 0);
    assert_eq!(rows(&world), 1);
    assert!(world.app.storage().join(path(LOST)).exists());
    std::fs::remove_file(world.app.storage().join(path(LOST))).expect("removed");
    world.run(&format!("restore --yes --only database -i {IDENTITY}"), 0);
    assert_eq!(rows(&world), all());
    assert!(!world.app.storage().join(path(LOST)).exists());
}

#[test]
fn one_file_is_brought_back_without_touching_the_rest() {
    let (world, _) = World::backed_up();
    damage(&world);
    world.run(&format!("restore --yes --include {} -i {IDENTITY}", path(LOST)), 0);
    assert!(world.app.storage().join(path(LOST)).exists());
    assert_eq!(world.app.stored(&path(CHANGED)), b"not what it was");
    assert_eq!(rows(&world), 1);
}

#[test]
fn extra_files_are_moved_away_only_when_asked() {
    let (world, id) = World::backed_up();
    damage(&world);
    world.run(&format!("restore --yes --only storage --delete-extra -i {IDENTITY}"), 0);
    assert!(!world.app.storage().join("private/new.zip").exists());
    assert_eq!(world.app.stored(&format!(".strongroom/rollback-{id}/private/new.zip")), b"made since");
}

#[test]
fn an_empty_place_is_filled() {
    let (world, _) = World::backed_up();
    std::fs::remove_file(world.app.database()).expect("removed");
    std::fs::remove_dir_all(world.app.storage()).expect("removed");
    std::fs::create_dir(world.app.storage()).expect("made");
    let json = world.json(&format!("restore --yes -i {IDENTITY}"), 0);
    assert_eq!(json["kept"], Value::Null);
    assert_eq!(rows(&world), all());
    assert_eq!(std::fs::metadata(world.app.database()).expect("there").mode() & 0o7777, 0o644);
    assert_eq!(world.files("app/storage").len(), OBJECTS.len() * 2);
}

#[test]
fn it_is_restored_elsewhere_when_asked() {
    let (world, _) = World::backed_up();
    damage(&world);
    let before = world.state_of("app");
    std::fs::create_dir(world.path("other")).expect("made");
    world.run(&format!("restore --yes --database sqlite:other/db.sqlite --storage file:other -i {IDENTITY}"), 0);
    assert_eq!(world.state_of("app"), before);
    assert_eq!(world.files("other").len(), OBJECTS.len() * 2 + 1);
}

#[test]
fn a_log_that_lies_beside_the_database_is_not_played_into_the_restored_one() {
    let world = World::new();
    let connection = rusqlite::Connection::open(world.app.database()).expect("opens");
    connection.execute_batch("PRAGMA journal_mode = WAL;").expect("set");
    drop(connection);
    world.run(crate::world::INIT, 0);
    world.backup(0);
    world.run("restore --yes -i recovery-identity.txt", 0);
    let mode: String = rusqlite::Connection::open(world.app.database())
        .and_then(|c| c.query_row("PRAGMA journal_mode", [], |row| row.get(0)))
        .expect("asked");
    assert_eq!(mode, "wal", "the journal mode comes back");
    // A log that a crash left behind, with rows that only it holds.
    let connection = rusqlite::Connection::open(world.app.database()).expect("opens");
    connection.execute_batch("PRAGMA wal_autocheckpoint = 0; DELETE FROM repositories;").expect("run");
    let (wal, shm) = (world.path("app/database.sqlite-wal"), world.path("app/database.sqlite-shm"));
    let left = (std::fs::read(&wal).expect("a log"), std::fs::read(&shm).expect("its index"));
    drop(connection);
    std::fs::write(&wal, left.0).expect("put back");
    std::fs::write(&shm, left.1).expect("put back");
    world.run("restore --yes -i recovery-identity.txt", 0);
    assert_eq!(rows(&world), all());
}

#[test]
fn an_older_bundle_is_restored_over_a_newer_state() {
    let (world, first) = World::backed_up();
    world.app.add_credential(50, KEY);
    world.app.store("private/later.zip", b"later");
    world.backup(0);
    world.run(&format!("restore {first} --yes -i {IDENTITY}"), 0);
    assert_eq!(rows(&world), all());
    world.run(&format!("restore latest --yes -i {IDENTITY}"), 0);
    assert_eq!(rows(&world), all() + 1);
}

#[test]
fn the_same_bundle_restored_twice_keeps_what_it_replaced_each_time() {
    let (world, id) = World::backed_up();
    let file = crate::app::OBJECTS[0];
    let name = crate::app::object(file.0, file.1, file.2);
    let line = format!("restore --yes --only storage -i {IDENTITY}");
    for week in ["week 1", "week 2"] {
        world.app.store(&name, week.as_bytes());
        world.run(&line, 0);
    }
    assert_eq!(world.app.stored(&format!(".strongroom/rollback-{id}.1/{name}")), b"week 1");
    assert_eq!(world.app.stored(&format!(".strongroom/rollback-{id}/{name}")), b"week 2");
    // One that fails puts back what stood there, and not what stood there long ago.
    world.app.store(&name, b"week 3");
    world.configure("start = [\"/bin/false\"]");
    world.run(&line, 1).says("putting everything back");
    assert_eq!(world.app.stored(&name), b"week 3");
    assert_eq!(world.app.stored(&format!(".strongroom/rollback-{id}.2/{name}")), b"week 2");
}
