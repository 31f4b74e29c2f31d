//! A restore into the live database itself: in one transaction after a bundle of what is there, or nothing.

use super::restore::{damage, databases, portrait, rich};
use super::server::Server;
use super::world::{World, fill, prefix};

const RESTORE: &str = "restore -i recovery-identity.txt --only database --in-place";

/// How many bundles there are.
fn bundles(world: &World) -> usize {
    world.json("list").1.as_array().map_or(0, Vec::len)
}

fn story(server: &Server, world: &World) {
    world.ends("backup", 0);
    let (_, list) = world.json("list");
    let first = list[0]["bundle"].as_str().expect("an id").to_owned();
    let restore = RESTORE.replace("restore", &format!("restore {first}"));
    let before = portrait(server);
    damage(server);
    let damaged = portrait(server);
    // Who may not create databases has no other way.
    server.sql("postgres", "postgres", "ALTER ROLE app NOCREATEDB");
    let told = world.ends(&format!("restore {first} -i recovery-identity.txt --only database --yes"), 21);
    assert!(told.contains("--in-place"), "{told}");
    let plan = world.ends(&format!("{restore} --dry-run"), 0);
    assert!(plan.contains("cannot be rolled back once it is committed"), "{plan}");
    assert!(plan.contains("backed up first"), "{plan}");
    assert_eq!((portrait(server), bundles(world)), (damaged.clone(), 1));
    world.set_key(super::world::WRONG);
    world.ends(&format!("{restore} --yes"), 12);
    world.set_key(super::world::KEY);
    assert_eq!((portrait(server), bundles(world)), (damaged, 1));

    // Something that the dump does not know hangs on what it would replace: nothing changes.
    server.sql("app", "app", "CREATE VIEW hanging AS SELECT id FROM artifacts");
    let hanging = portrait(server);
    let told = world.ends(&format!("{restore} --yes"), 1);
    assert!(told.contains("hanging") && told.contains("put back as it was"), "{told}");
    assert_eq!((portrait(server), bundles(world)), (hanging, 2));
    server.sql("app", "app", "DROP VIEW hanging; CREATE TABLE later (id text)");
    assert!(world.ends(&format!("{restore} --dry-run"), 0).contains("stay: public.later"));
    server.sql("app", "app", "DROP TABLE later");

    // A session in the way, that comes back each time it is ended.
    let mut idle = server.command("psql", "app", "app");
    idle.args(["-X", "-c", "BEGIN; SELECT * FROM artifacts", "-c", "SELECT pg_sleep(600)"]);
    let mut idle = idle.stdout(std::process::Stdio::null()).spawn().expect("started");
    let told = world.ends(&format!("{restore} --yes"), 0);
    assert!(told.contains("what stood in the database before is bundle"), "{told}");
    assert!(!idle.wait().expect("ended").success());
    assert_eq!(portrait(server), before);
    assert_eq!(databases(server), ["app"]);
    world.ends("prove --key env:KEY", 0);

    // The way back is the bundle that was made before.
    let (_, list) = world.json("list");
    let newest =
        list.as_array().and_then(|l| l.iter().max_by_key(|b| b["bundle"].as_str().map(str::to_owned))).expect("one");
    let newest = newest["bundle"].as_str().expect("an id");
    world.ends(
        &format!("restore {newest} -i recovery-identity.txt --only database --in-place --yes --accept-unproved"),
        3,
    );
    assert_eq!(server.sql("app", "app", "SELECT count(*) FROM artifacts"), "0");
    assert_eq!(server.sql("app", "app", "SELECT auth_credentials FROM repositories WHERE id = 'r000'"), "x");
    assert_eq!(server.sql("app", "app", "SELECT count(*) FROM other.parts"), "300");
}

#[test]
fn everything_is_replaced_in_one_transaction_or_nothing() {
    let Some((server, world)) = rich(15) else { return };
    story(&server, &world);
    // The health check fails after the commit: that is said, and with what to go back.
    world.ends("backup", 3);
    let path = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).expect("read");
    std::fs::write(&path, text + "health = { url = \"http://127.0.0.1:1/health\", within_seconds = 1 }\n")
        .expect("written");
    let told = world.ends(&format!("{RESTORE} --yes --accept-unproved"), 20);
    assert!(told.contains("that is committed") && told.contains("before is bundle"), "{told}");
    world.ends(&format!("{RESTORE} --database sqlite:x.sqlite"), 2);
}

#[test]
fn the_same_behind_a_prefix() {
    let Some((server, world)) = rich(15) else { return };
    world.configure(&prefix(&server));
    story(&server, &world);
}

/// Killed anywhere, the database is as it was or as it should be, and the next run works.
#[test]
fn a_restore_in_place_that_is_killed_leaves_one_whole_state() {
    let Some(server) = Server::start(15) else { return };
    fill(&server, "app", 2);
    let world = World::new(&server.programs);
    world.init(&server.url("app", "app"), "");
    world.ends("backup", 0);
    let (_, list) = world.json("list");
    let restore = format!(
        "restore {} -i recovery-identity.txt --only database --in-place --yes",
        list[0]["bundle"].as_str().expect("an id")
    );
    let spoil = || server.sql("app", "app", "UPDATE repositories SET auth_credentials = 'x' WHERE id = 'r000'");
    spoil();
    let trace = world.path("trace");
    assert!(world.command(&restore).env("STRONGROOM_KILL_TRACE", &trace).status().expect("it runs").success());
    let places = std::fs::read_to_string(&trace).unwrap_or_default();
    let near: Vec<_> =
        places.lines().enumerate().filter(|(_, l)| l.contains("restore in place") || l.contains("stop hook")).collect();
    if places.is_empty() {
        return; // Built without kill points.
    }
    assert_eq!(near.len(), 3, "{places}");
    for (place, name) in near {
        spoil();
        let killed =
            world.command(&restore).env("STRONGROOM_KILL_AT", (place + 1).to_string()).status().expect("it runs");
        assert!(!killed.success(), "{place}");
        let value = server.sql("app", "app", "SELECT length(auth_credentials) FROM repositories WHERE id = 'r000'");
        assert!(value == "1" || value.parse::<u32>().is_ok_and(|n| n > 50), "{place} {value}");
        let told = world.ends("backup", 3);
        assert!(told.contains("has not ended") && told.contains("in place"), "{told}");
        let backed_up = told.contains("What stood in the database before is bundle");
        assert_eq!(backed_up, !name.contains("stop hook"), "{told}");
    }
    let backup = world.ends("backup", 3);
    let way_back = |told: &str| {
        let told = told.to_lowercase();
        told.split("what stood in the database before is bundle ").nth(1).map(|rest| rest[..25].to_owned())
    };
    let told = world.ends(&restore, 0);
    assert!(told.contains("an earlier restore of bundle"), "{told}");
    // The first of what stood there, and not what an earlier restore has left.
    assert_eq!(way_back(&told), way_back(&backup), "{told}");
    let (_, list) = world.json("list");
    let made = list.as_array().and_then(|list| list.last()).expect("a bundle");
    assert_eq!(made["problems"], serde_json::json!(["restore-pending"]));
    assert!(!world.ends("backup", 0).contains("has not ended"));
    world.ends("prove --key env:KEY", 0);
}

/// What the database takes is counted from its files, and one of them may be long and empty.
#[test]
fn a_server_without_room_is_noticed_before_anything_is_touched() {
    let Some((server, world)) = rich(15) else { return };
    world.ends("backup", 0);
    let restore = "restore -i recovery-identity.txt --only database";
    let plan = world.ends(&format!("{restore} --dry-run"), 0);
    assert!(plan.contains("MiB on the server's disk, of which"), "{plan}");
    let oid = server.sql("app", "app", "SELECT oid FROM pg_database WHERE datname = 'app'");
    let long = server.folder.path().join("data/base").join(oid).join("99999999");
    let file = std::fs::File::create(&long).expect("created");
    if file.set_len(15 << 40).is_err() {
        return; // The file system has no such long files.
    }
    world.ends("backup", 0);
    std::fs::remove_file(&long).expect("removed");
    let before = portrait(&server);
    for how in ["--yes", "--yes --in-place"] {
        let told = world.ends(&format!("{restore} {how}"), 15);
        assert!(told.contains("MiB free, and the database takes about 15728"), "{told}");
    }
    assert_eq!((portrait(&server), databases(&server)), (before, vec!["app".to_owned()]));
    // Behind a prefix it may be any machine.
    world.configure(&prefix(&server));
    let (_, list) = world.json("list");
    let oldest =
        list.as_array().and_then(|l| l.iter().min_by_key(|b| b["bundle"].as_str().map(str::to_owned))).expect("one");
    let oldest = oldest["bundle"].as_str().expect("an id");
    let plan = world.ends(&format!("restore {oldest} -i recovery-identity.txt --only database --dry-run"), 0);
    assert!(plan.contains("cannot be seen from here"), "{plan}");
}
