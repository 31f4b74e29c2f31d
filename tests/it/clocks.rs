//! Clocks that jump: the order is the ledger's, and what a wrong clock wrote is said and not lost.
#![cfg(feature = "failpoints")]

use crate::app::zip;
use crate::world::{Call, IDENTITY, World, codes, text};

/// A call at a time, so many seconds from now.
fn at(world: &World, line: &str, seconds: i64) -> Call {
    let time = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds).expect("a time");
    world.call(line).env("STRONGROOM_TEST_CLOCK", time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

const DAY: i64 = 24 * 3600;

/// Bundles as `list` has them, the newest last.
fn listed(world: &World) -> Vec<String> {
    let list = world.json("list", 0);
    list.as_array().expect("bundles").iter().map(|b| text(&b["bundle"])).collect()
}

fn bundle(call: Call) -> String {
    text(&call.ends(0).json()["bundle"])
}

/// The package that each backup here finds changed, as the newest bundle has it.
fn newest_has(world: &World, content: &[u8]) {
    let _ = std::fs::remove_dir_all(world.path("out"));
    world.run(&format!("restore latest --target out -i {IDENTITY}"), 0);
    let found = std::fs::read(world.path("out/storage/private/new.zip")).expect("restored");
    assert!(found == content, "another one is the latest");
}

/// Moves away what the ledger got since, as the error says; answers how many files.
fn move_away(world: &World, right: &[String]) -> usize {
    let (ledger, away) = (world.path("archive/ledger/package-broker"), world.path("away"));
    std::fs::create_dir(&away).expect("made");
    let new = world.files("archive/ledger/package-broker").into_iter().filter(|name| !right.contains(name));
    new.map(|name| std::fs::rename(ledger.join(&name), away.join(&name)).expect("moved")).count()
}

#[test]
fn the_order_of_bundles_is_the_ledgers_whatever_their_clocks_said() {
    let world = World::ready();
    let mut ids = Vec::new();
    // Each earlier than the one before, by its own clock.
    for (n, seconds) in [300, 0, -300, -DAY, -365 * DAY].into_iter().enumerate() {
        let content = zip(&n.to_string(), 20);
        world.app.store("private/new.zip", &content);
        // A clock that is behind by more than ten minutes takes what is there for the future.
        if seconds < -300 {
            at(&world, "backup", seconds).ends(14).says("is the clock of this machine right?");
            continue;
        }
        ids.push(bundle(at(&world, "backup --json", seconds)));
        newest_has(&world, &content);
    }
    let (mut by_name, order) = (ids.clone(), listed(&world));
    by_name.sort();
    assert_eq!(order, ids);
    assert_ne!(by_name, ids, "the names are in another order");
    // The clock is right again, and nothing has to be done.
    world.run("backup", 0);
    world.run("check --all", 0);
    world.run("guard -- /bin/true", 0);
    for id in ids {
        world.run(&format!("verify {id} --deep -i {IDENTITY}"), 0);
    }
}

#[test]
fn a_clock_that_was_behind_and_is_right_again_leaves_nothing_to_do() {
    let world = World::new();
    world.call(crate::world::INIT).env("STRONGROOM_TEST_CLOCK", "2020-01-01T00:00:00Z").ends(0);
    std::fs::rename(world.path("recovery-identity.txt"), world.path(IDENTITY)).expect("moved away");
    let old = bundle(world.call("backup --json").env("STRONGROOM_TEST_CLOCK", "2020-01-01T00:00:00Z"));
    assert!(old.starts_with("20200101T000000Z-"), "{old}");
    world.app.store("private/new.zip", b"new");
    let new = world.backup(0);
    assert_eq!(listed(&world), [old.clone(), new]);
    newest_has(&world, b"new");
    // A week is over since everything was proved: nothing of it is taken from memory, and nothing is lost.
    world.run("check --all", 0);
    world.run(&format!("verify {old} --deep -i {IDENTITY}"), 0);
}

#[test]
fn a_clock_that_was_a_year_ahead_is_named_and_costs_what_it_wrote_and_no_more() {
    let (world, first) = World::backed_up();
    let right = world.files("archive/ledger/package-broker");
    world.app.store("private/new.zip", b"of a wrong year");
    let ahead = bundle(at(&world, "backup --json", 365 * DAY));
    // Right again: what came from the future is refused by everything that reads the ledger, and says what to do.
    for line in ["backup", "list", "check --all", "key status"] {
        world.run(line, 14).says("is in the future").says("is the clock").says("Move this entry");
    }
    for line in [format!("verify -i {IDENTITY}"), format!("restore --target out -i {IDENTITY}")] {
        world.run(&line, 14).says("is in the future");
    }
    assert!(!world.path("out").exists());
    // The application itself is not kept from starting.
    world.run("guard -- /bin/true", 0);
    // By its own clock it was a good one.
    at(&world, &format!("verify {ahead} --deep -i {IDENTITY}"), 365 * DAY).ends(0);

    // The bundle, and its verification.
    assert_eq!(move_away(&world, &right), 4);
    assert_eq!(listed(&world), std::slice::from_ref(&first));
    let json = world.json("backup", 3);
    assert_eq!(codes(&json), ["ledger-cut", "state-lost"], "said once");
    assert_eq!(json["verdict"], "proved");
    newest_has(&world, b"of a wrong year");
    assert_eq!(codes(&world.json("backup", 0)), Vec::<String>::new());
    world.run("check --all", 0);
    world.run(&format!("verify {first} --deep -i {IDENTITY}"), 0);
}

#[test]
fn a_clock_that_jumps_in_the_middle_of_a_backup_makes_no_good_bundle_bad() {
    let (world, first) = World::backed_up();
    world.app.store("private/new.zip", b"of a night when clocks jumped");
    let right = world.files("archive/ledger/package-broker");
    let mut ends = std::collections::BTreeSet::new();
    for seconds in [DAY, -DAY] {
        let time = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds).expect("a time");
        for looks in 0..10 {
            let what = format!("{seconds} s after {looks} looks");
            let world = world.copy();
            let clock = format!("{}{}", "now ".repeat(looks), time.strftime("%Y-%m-%dT%H:%M:%SZ"));
            let ran = world.call("backup --json").env("STRONGROOM_TEST_CLOCK", clock).run();
            let listed_now = world.call("list").run();
            let entered = world.files("archive/ledger/package-broker").len() > right.len();
            ends.insert((ran.code, listed_now.code, entered));
            match (ran.code, listed_now.code) {
                // It was noticed, and nothing was entered.
                (Some(1 | 14), Some(0)) => assert!(!entered, "{what}"),
                // It is a bundle like any other; what could not be compared with the one before, a day later, is said.
                (Some(end @ (0 | 3)), Some(0)) => {
                    if end == 3 {
                        assert_eq!(codes(&ran.json()), ["custody-unsigned"], "{what}");
                        ran.says("comes from the future");
                    }
                    newest_has(&world, b"of a night when clocks jumped");
                    world.run(&format!("verify --deep -i {IDENTITY}"), 0);
                }
                // A day ahead: said, until what it entered is moved away.
                (Some(0), Some(14)) => {
                    listed_now.says("is in the future").says("Move this entry");
                    assert!(seconds > 0 && move_away(&world, &right) == 2, "{what}");
                    assert_eq!(listed(&world), std::slice::from_ref(&first), "{what}");
                }
                other => panic!("{what}: {other:?}\n{}\n{}", ran.stdout, ran.stderr),
            }
            let next = world.call("backup --json").run();
            assert!(matches!(next.code, Some(0 | 3)), "{what}: {}", next.stderr);
            let said = codes(&next.json());
            assert!(said.iter().all(|code| ["ledger-cut", "state-lost"].contains(&code.as_str())), "{what}: {said:?}");
            newest_has(&world, b"of a night when clocks jumped");
            world.run("check --all", 0);
            for id in [&first, "latest"] {
                world.run(&format!("verify {id} --deep -i {IDENTITY}"), 0);
            }
        }
    }
    assert!(ends.len() > 2, "each way that it can end was seen: {ends:?}");
}

#[test]
fn a_backup_that_tries_no_credential_is_no_proof_of_all() {
    let (world, _) = World::backed_up();
    let last = || -> i64 {
        let memory = rusqlite::Connection::open(world.path("strongroom-state/proved.sqlite")).expect("opened");
        memory.query_row("SELECT value FROM facts WHERE name = 'last full proof'", [], |row| row.get(0)).expect("noted")
    };
    let first = last();
    at(&world, "backup --only storage", 8 * DAY).ends(0);
    at(&world, "backup", 8 * DAY).env("STRONGROOM_KEY_SOURCE", "file:/nowhere/key").ends(3);
    assert_eq!(last(), first);
    at(&world, "backup", 8 * DAY).ends(0);
    assert!(last() >= first + 7 * DAY, "everything was due");
}
