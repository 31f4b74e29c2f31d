//! Parts that the archive does not have any more, and runs that ended between their ledger entry and what they remember.

use std::path::PathBuf;

use crate::app::{OBJECTS, object};
use crate::world::{IDENTITY, World, codes, text};

/// The objects of the archive's `parts` that end like this.
fn parts(world: &World, end: &str) -> Vec<PathBuf> {
    let found = world.files("archive/parts");
    found.iter().filter(|name| name.ends_with(end)).map(|name| world.path("archive/parts").join(name)).collect()
}

#[test]
fn a_part_that_is_gone_or_cut_is_named_and_what_was_in_it_stored_again() {
    for end in [".tar.age", ".tar.zst.age", ".files.zst.age"] {
        for cut in [false, true] {
            let (world, _) = World::backed_up();
            let part = parts(&world, end).pop().expect("a part");
            if cut {
                let bytes = std::fs::read(&part).expect("read");
                std::fs::write(&part, &bytes[..bytes.len() - 1]).expect("cut");
            } else {
                std::fs::remove_file(&part).expect("removed");
            }
            let json = world.json("backup", 3);
            assert_eq!(codes(&json), ["part-lost"], "{end} {cut}");
            let name = part.file_name().expect("a name").to_string_lossy().into_owned();
            assert!(text(&json["problems"][0]["message"]).contains(&name), "{json}");
            assert_eq!(json["verdict"], "proved");
            assert_eq!(json["storage"]["files"], OBJECTS.len() * 2);
            world.run("check", 0);
            world.run(&format!("verify --deep -i {IDENTITY}"), 0);
            let again = world.json("backup", 0);
            assert_eq!(again["storage"]["bytes_stored"], 0, "once stored again, it is there");
        }
    }
}

#[test]
fn only_what_was_lost_is_stored_again() {
    let (world, _) = World::backed_up();
    std::fs::remove_file(parts(&world, ".tar.zst.age").pop().expect("a part")).expect("removed");
    let json = world.json("backup", 3);
    // The three packages do not compress and lie in other parts than the three texts, of which a part has one or all.
    let message = text(&json["problems"][0]["message"]);
    let lost = (1..=OBJECTS.len()).find(|n| match n {
        1 => message.contains("the file that was in it"),
        n => message.contains(&format!("the {n} files that were in it")),
    });
    assert_eq!(json["storage"]["reused"], OBJECTS.len() * 2 - lost.expect(&message));
}

#[test]
fn what_an_empty_night_could_not_name_is_stored_again_even_when_it_comes_back() {
    for end in [".tar.age", ".files.zst.age"] {
        let (world, _) = World::backed_up();
        world.app.execute("DELETE FROM artifacts");
        let (storage, aside) = (world.app.storage(), world.path("aside"));
        std::fs::rename(&storage, &aside).expect("moved");
        std::fs::create_dir(&storage).expect("made");
        let part = parts(&world, end).pop().expect("a part");
        std::fs::rename(&part, world.path("part")).expect("moved");
        assert_eq!(codes(&world.json("backup", 3)), ["storage-empty", "part-lost"]);
        world.run("check", 0);
        std::fs::remove_dir(&storage).expect("removed");
        std::fs::rename(&aside, &storage).expect("moved back");
        std::fs::rename(world.path("part"), &part).expect("moved back");
        let before = world.files("archive/parts");
        let back = world.backup(0);
        let name = part.file_name().expect("a name").to_string_lossy().into_owned();
        let listed = std::fs::read_to_string(world.bundle(&back).join("SHA256SUMS")).expect("read");
        assert!(!listed.contains(&name), "no bundle before it lists {name}: {listed}");
        assert!(world.files("archive/parts").len() > before.len());
        world.run("check --all", 0);
        world.run(&format!("verify --deep -i {IDENTITY}"), 0);
    }
}

#[test]
fn a_state_that_places_files_in_parts_that_it_does_not_know_is_begun_anew() {
    let known = "(SELECT part FROM files WHERE part IS NOT NULL LIMIT 1)";
    for sql in [
        format!("DELETE FROM parts WHERE name = {known}"),
        format!("UPDATE parts SET sha256 = '' WHERE name = {known}"),
    ] {
        let (world, _) = World::backed_up();
        let state = world.path("strongroom-state/state.sqlite");
        let ran = std::process::Command::new("sqlite3").arg(&state).arg(&sql).status().expect("sqlite3 runs");
        assert!(ran.success());
        let json = world.json("backup", 3);
        assert_eq!(codes(&json), ["state-lost"], "{sql}");
        world.run(&format!("verify --deep -i {IDENTITY}"), 0);
        world.run(&format!("restore --target out -i {IDENTITY}"), 0);
    }
}

#[test]
fn a_damaged_part_ends_a_restore_that_needs_it_and_no_other() {
    let (world, _) = World::backed_up();
    for part in parts(&world, ".tar.age") {
        crate::world::flip(&part);
    }
    // Everything stands there as it is to be.
    world.run(&format!("restore --yes -i {IDENTITY}"), 0);
    world.run(&format!("verify --deep -i {IDENTITY}"), 13);
    let (kind, acme, version) = OBJECTS[0];
    let large = object(kind, acme, version);
    let readme = large.replace(".zip", ".readme.md");
    for (name, code) in [(readme, 0), (large, 13)] {
        std::fs::remove_file(world.app.storage().join(&name)).expect("removed");
        world.call("restore --yes --only storage --include").arg(&name).arg("-i").arg(IDENTITY).ends(code);
        assert_eq!(world.app.storage().join(&name).exists(), code == 0);
    }
}

#[test]
fn parts_that_a_bundle_lists_for_later_ones_are_verified_and_keep_no_restore_from_being_made() {
    let (world, _) = World::backed_up();
    world.app.execute("DELETE FROM artifacts");
    std::fs::remove_dir_all(world.app.storage()).expect("removed");
    std::fs::create_dir(world.app.storage()).expect("made");
    world.backup(3);
    world.run(&format!("verify --deep -i {IDENTITY}"), 3);
    crate::world::flip(&parts(&world, ".tar.age")[0]);
    world.run(&format!("verify --deep -i {IDENTITY}"), 13);
    world.run(&format!("restore --yes -i {IDENTITY}"), 3).says("restored");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_backup_killed_around_its_ledger_entry_costs_the_next_one_nothing() {
    let (world, _) = World::backed_up();
    world.app.store("private/manual/acme/new/1.0.0.zip", &crate::app::zip("new", 300));
    std::fs::remove_file(world.app.storage().join("private/manual/acme/tools/1.0.0.readme.md")).expect("removed");
    for (place, again) in [("before the ledger entry", true), ("after the ledger entry", false)] {
        let copy = world.copy();
        // The copied files have other inodes; one backup more, and the new file is all that is new.
        let killed = copy.call("backup").env("STRONGROOM_KILL_AT", place).run();
        assert_eq!(killed.code, None, "{place}");
        let json = copy.json("backup", 0);
        assert_eq!(codes(&json), Vec::<String>::new(), "{place}");
        let stored = json["storage"]["bytes_stored"].as_u64().expect("a number");
        // Less than the new file's content: the text that lies in a part with the one that is gone may be stored again.
        assert_eq!(stored > 9_600, again, "{place}: {stored}");
        assert_eq!(json["storage"]["files"], OBJECTS.len() * 2, "{place}");
        copy.run(&format!("verify --deep -i {IDENTITY}"), 0);
        copy.run("check --all", 0);
    }
}
