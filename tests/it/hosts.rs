//! Two hosts that back up into one archive at once, killed and not; and what a host remembers, lost or older than the archive.

use std::time::Duration;

use crate::app::zip;
use crate::world::{Call, IDENTITY, World, codes, text};

/// A call as the host of this name makes it: with a home, a state and a scratch folder of its own.
fn on(world: &World, host: &str, line: &str) -> Call {
    world
        .call(line)
        .env("HOME", world.path(format!("home-{host}")))
        .env("STRONGROOM_STATE_FOLDER", format!("state-{host}"))
        .env("STRONGROOM_SCRATCH_FOLDER", format!("state-{host}/scratch"))
}

/// A backup of a host that nobody disturbs: proved, and with nothing to say but that the other host was there meanwhile.
fn backup(world: &World, host: &str) -> String {
    let ran = on(world, host, "backup --json").run();
    let json = ran.json();
    assert_eq!(json["verdict"], "proved", "{json}");
    let said = codes(&json);
    assert!(said.iter().all(|code| code == "state-lost"), "{json}");
    assert_eq!(ran.code, Some(if said.is_empty() { 0 } else { 3 }), "{json}");
    text(&json["bundle"])
}

fn bundles(world: &World) -> Vec<String> {
    let listed = world.json("list", 0);
    let mut ids: Vec<_> = listed.as_array().expect("bundles").iter().map(|b| text(&b["bundle"])).collect();
    ids.sort();
    ids
}

/// Everything that the storage has now is in the newest bundle.
fn newest_is_whole(world: &World) {
    let _ = std::fs::remove_dir_all(world.path("whole"));
    world.run(&format!("restore latest --target whole -i {IDENTITY}"), 0);
    for file in world.files("app/storage") {
        let bytes = std::fs::read(world.path("whole/storage").join(&file)).expect("restored");
        assert!(bytes == world.app.stored(&file), "{file}");
    }
}

/// How a run ends before its end.
enum End {
    Whole,
    /// Killed at the place of this number.
    #[cfg_attr(not(feature = "failpoints"), allow(dead_code, reason = "places are there with the feature only"))]
    At(usize),
    /// Killed after so many milliseconds, wherever it is then.
    After(u64),
}

/// One backup of a host; its bundle, if it came to tell.
fn disturbed(world: &World, host: &str, end: &End) -> Option<String> {
    let mut call = on(world, host, "backup --json");
    if let End::At(place) = end {
        call = call.env("STRONGROOM_KILL_AT", place.to_string());
    }
    let output = match end {
        End::After(milliseconds) => {
            let mut child = call.command().spawn().expect("started");
            std::thread::sleep(Duration::from_millis(*milliseconds));
            child.kill().expect("killed, or over");
            child.wait_with_output().expect("ended")
        }
        _ => call.command().output().expect("started"),
    };
    match output.status.code() {
        None => None,
        Some(0 | 3) => {
            let json = serde_json::from_slice(&output.stdout).expect("JSON");
            assert!(codes(&json).iter().all(|code| code == "state-lost"), "{json}");
            assert_eq!(json["verdict"], "proved");
            Some(text(&json["bundle"]))
        }
        code => panic!("{host} ends with {code:?}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn two_hosts_that_write_and_are_killed_at_once_lose_no_bundle_and_make_no_false_one() {
    let world = World::ready();
    let mut told = vec![backup(&world, "a"), backup(&world, "b")];
    for round in 0..8 {
        world.app.store(&format!("private/manual/acme/new/1.{round}.0.zip"), &zip(&round.to_string(), 20));
        let (a, b) = match round % 4 {
            0 => (End::Whole, End::Whole),
            1 => (End::At(11 + 17 * round), End::Whole),
            2 => (End::Whole, End::After(60 * round as u64)),
            _ => (End::At(60 + 9 * round), End::After(50 * round as u64)),
        };
        std::thread::scope(|scope| {
            let (world, a, b) = (&world, &a, &b);
            let writers =
                [scope.spawn(move || disturbed(world, "a", a)), scope.spawn(move || disturbed(world, "b", b))];
            // A third one reads what is there meanwhile.
            let out = format!("out-{round}");
            world.run(&format!("restore latest --target {out} -i {IDENTITY}"), 0);
            world.run(&format!("verify -i {IDENTITY}"), 0);
            world.run("check", 0);
            told.extend(writers.into_iter().filter_map(|writer| writer.join().expect("no panic")));
        });
        let listed = bundles(&world);
        assert!(told.iter().all(|id| listed.contains(id)), "{told:?} {listed:?}");
    }
    world.run("check --all", 0);
    for id in bundles(&world) {
        world.run(&format!("verify {id} -i {IDENTITY}"), 0);
    }
    backup(&world, "b");
    newest_is_whole(&world);
    // Alone again, a host is incremental again.
    backup(&world, "a");
    let json = on(&world, "a", "backup --json").ends(0).json();
    assert_eq!(json["storage"]["bytes_stored"], 0, "{json}");
    world.run(&format!("verify --deep -i {IDENTITY}"), 0);
}

#[test]
fn a_state_that_is_lost_or_older_costs_storing_again_and_nothing_else() {
    let world = World::ready();
    let state = world.path("strongroom-state");
    let snapshot = world.path("snapshot");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let _ = std::fs::remove_dir_all(to);
        let status = std::process::Command::new("/bin/cp").arg("-a").args([from, to]).status().expect("cp runs");
        assert!(status.success());
    };
    let first = world.backup(0);
    copy(&state, &snapshot);
    world.app.store("private/manual/acme/new/1.0.0.zip", &zip("new", 40));
    let second = world.backup(0);
    world.app.store("private/manual/acme/new/1.0.0.zip", &zip("newer", 40));

    // A machine that was put back to last night's snapshot, its archive elsewhere.
    copy(&snapshot, &state);
    let json = world.json("backup", 3);
    assert_eq!((codes(&json), &json["verdict"]), (vec!["state-lost".to_owned()], &"proved".into()));
    newest_is_whole(&world);
    assert_eq!(codes(&world.json("backup", 0)), Vec::<String>::new(), "only once");

    // No state at all.
    std::fs::remove_dir_all(&state).expect("removed");
    assert_eq!(codes(&world.json("backup", 3)), ["state-lost"]);
    newest_is_whole(&world);
    let again = world.json("backup", 0);
    assert_eq!(again["storage"]["bytes_stored"], 0);

    // The other way round: an archive that was put back, and a host that remembers more than it holds.
    for id in [&first, &second] {
        world.run(&format!("verify {id} --deep -i {IDENTITY}"), 0);
    }
    copy(&world.path("archive"), &world.path("older"));
    world.app.store("private/manual/acme/new/2.0.0.zip", &zip("newest", 40));
    world.backup(0);
    copy(&world.path("older"), &world.path("archive"));
    let json = world.json("backup", 3);
    assert_eq!(codes(&json), ["ledger-cut", "state-lost"], "{json}");
    assert_eq!(json["verdict"], "proved");
    newest_is_whole(&world);
    world.run("check --all", 0);
}

#[test]
fn a_state_that_another_program_holds_is_not_thrown_away() {
    let (world, _) = World::backed_up();
    let path = world.path("strongroom-state/state.sqlite");
    let before = std::fs::read(&path).expect("read");
    let other = rusqlite::Connection::open(&path).expect("opened");
    other.execute_batch("BEGIN EXCLUSIVE").expect("locked");
    world.run("backup", 1).says("state.sqlite").says("Another program holds it");
    other.execute_batch("ROLLBACK").expect("let go");
    drop(other);
    assert!(std::fs::read(&path).expect("read") == before, "what was remembered is gone");
    let json = world.json("backup", 0);
    assert_eq!(json["storage"]["bytes_stored"], 0);
}
