//! `backup`: it always happens, and is called proved only when it is.

use std::os::unix::fs::PermissionsExt as _;

use crate::app::{CREDENTIALS, KEY, OBJECTS, WRONG, object, zip};
use crate::world::{IDENTITY, World, codes, text};

#[test]
fn a_proved_backup_ends_with_0_and_says_what_it_did() {
    let world = World::ready();
    let json = world.json("backup", 0);
    assert_eq!(json["app"], "package-broker");
    assert_eq!(json["verdict"], "proved");
    assert_eq!(json["credentials"]["proved"], CREDENTIALS);
    assert_eq!(json["credentials"]["failed"], 0);
    assert_eq!(json["credentials"]["plausible"], 0);
    assert_eq!(json["credentials"]["plaintext"], 1);
    assert_eq!(text(&json["fingerprint"]).len(), 32);
    assert_eq!(json["storage"]["files"], OBJECTS.len() * 2);
    assert_eq!(json["storage"]["missing"], 0);
    assert!(json["storage"]["bytes_stored"].as_u64().expect("a number") > 6000);
    assert_eq!(json["escrows"].as_array().map(Vec::len), Some(1));
    assert_eq!(codes(&json), Vec::<String>::new());
    let listed = world.json("list", 0);
    assert_eq!(listed[0]["bundle"], json["bundle"]);
    assert_eq!(listed[0]["fingerprint"], json["fingerprint"]);
    assert!(
        world
            .path(format!("archive/ledger/package-broker/{:010}.json", json["seq"].as_u64().expect("a number")))
            .exists()
    );
}

#[test]
fn a_wrong_key_is_stored_and_3() {
    let world = World::ready();
    world.app.set_key(WRONG);
    let json = world.json("backup", 3);
    assert_eq!(json["verdict"], "wrong-key");
    assert_eq!(json["credentials"]["failed"], CREDENTIALS);
    assert_eq!(world.json("list", 0)[0]["verdict"], "wrong-key");
    world.run("check", 0);
}

#[test]
fn an_unreadable_key_is_stored_and_3_with_no_key() {
    let world = World::ready();
    std::fs::remove_file(world.path("app/.env")).expect("removed");
    let json = world.json("backup", 3);
    assert_eq!(json["verdict"], "no-key");
    assert_eq!(json["fingerprint"], serde_json::Value::Null);
    assert!(codes(&json).contains(&"no-key".to_owned()));
    world.run("check", 0);
    let found = world.call(&format!("verify -i {IDENTITY} --key env:K")).env("K", KEY).run();
    assert_eq!(found.code, Some(0), "the right key proves it later\n{}", found.stderr);
}

#[test]
fn nothing_to_prove_with_is_unproven_and_3() {
    let world = World::ready();
    world.app.execute("DELETE FROM repositories WHERE id <> 'manual'; DELETE FROM artifacts WHERE repo_id <> 'manual'");
    let json = world.json("backup", 3);
    assert_eq!(json["verdict"], "unproven");
    assert_eq!(json["credentials"]["proved"], 0);
    world.call(&format!("verify -i {IDENTITY}")).ends(3);
}

#[test]
fn a_database_under_two_keys_is_mixed_and_3() {
    let world = World::ready();
    world.app.add_credential(90, WRONG);
    let ran = world.run("backup", 3);
    ran.says("repo-90");
    assert_eq!(world.json("list", 0)[0]["verdict"], "mixed");
}

#[test]
fn missing_objects_are_named_and_whether_they_come_back() {
    let world = World::ready();
    let (lost, fetchable) = (object("manual", "acme/tools", "1.0.0"), object("repo-1", "acme/lib", "2.0.0"));
    std::fs::remove_file(world.app.storage().join(&fetchable)).expect("removed");
    let json = world.json("backup", 0);
    assert_eq!(codes(&json), ["missing-fetchable"]);
    std::fs::remove_file(world.app.storage().join(&lost)).expect("removed");
    let json = world.json("backup", 3);
    assert_eq!(json["verdict"], "proved");
    assert_eq!(json["storage"]["missing"], 2);
    let problem =
        |code: &str| json["problems"].as_array().expect("problems").iter().find(|p| p["code"] == code).expect(code);
    assert!(text(&problem("missing-lost")["message"]).contains(&lost));
    assert!(text(&problem("missing-fetchable")["message"]).contains(&fetchable));
}

#[test]
fn only_one_thing_is_backed_up_when_asked() {
    let world = World::ready();
    let storage = world.json("backup --only storage", 0);
    assert_eq!(storage["storage"]["files"], OBJECTS.len() * 2);
    assert_eq!(storage["fingerprint"], serde_json::Value::Null);
    let database = world.json("backup --only database", 0);
    assert_eq!(database["storage"], serde_json::Value::Null);
    assert_eq!(database["verdict"], "proved");
    let key = world.json("backup --only key", 0);
    assert_eq!(key["verdict"], "proved");
    let listed = world.json("list", 0);
    let contains = |n: usize| listed[n]["contains"].to_string();
    assert_eq!(contains(0), r#"["storage"]"#);
    assert_eq!(contains(1), r#"["database","key"]"#);
    assert_eq!(contains(2), r#"["key"]"#);
    assert_eq!(listed[1]["storage_from"], storage["bundle"], "the database goes with the newest storage");
    assert!(!world.bundle(&text(&key["bundle"])).join("database.sqlite.zst.age").exists());
    world.run("check --all", 0);
    world.run("backup --only everything", 2);
}

#[test]
fn a_second_run_stores_what_is_new() {
    let (world, first) = World::backed_up();
    world.app.store("private/manual/acme/new/1.0.0.zip", &zip("new", 300));
    let json = world.json("backup", 0);
    assert_eq!(json["storage"]["files"], OBJECTS.len() * 2 + 1);
    assert_eq!(json["storage"]["reused"], OBJECTS.len() * 2);
    let stored = json["storage"]["bytes_stored"].as_u64().expect("a number");
    assert!((9_600..20_000).contains(&stored), "{stored}");
    let again = world.json("backup", 0);
    assert_eq!(again["storage"]["bytes_stored"], 0);
    world.run(&format!("verify {first} --deep -i {IDENTITY}"), 0);
    world.run(&format!("verify latest --deep -i {IDENTITY}"), 0);
}

#[test]
fn a_changed_file_of_the_same_size_is_stored_again() {
    let (world, _) = World::backed_up();
    let name = object("manual", "acme/tools", "1.0.0");
    let mut bytes = world.app.stored(&name);
    bytes[100] ^= 1;
    world.app.store(&name, &bytes);
    assert_eq!(world.json("backup", 0)["storage"]["reused"], OBJECTS.len() * 2 - 1);
    let ran = world.run(&format!("cat latest {name} -i {IDENTITY}"), 0);
    assert!(ran.out == bytes);
}

#[test]
fn a_deleted_file_leaves_the_list_and_stays_in_the_earlier_bundle() {
    let (world, first) = World::backed_up();
    let name = object("repo-1", "acme/lib", "2.0.0");
    let bytes = world.app.stored(&name);
    std::fs::remove_file(world.app.storage().join(&name)).expect("removed");
    world.run("backup", 0);
    world.run(&format!("cat latest {name} -i {IDENTITY}"), 10);
    assert!(world.run(&format!("cat {first} {name} -i {IDENTITY}"), 0).out == bytes);
}

#[test]
fn a_lost_state_stores_everything_again_and_is_3() {
    let (world, first) = World::backed_up();
    std::fs::remove_dir_all(world.path("strongroom-state")).expect("removed");
    let json = world.json("backup", 3);
    assert_eq!(codes(&json), ["state-lost"]);
    assert_eq!(json["verdict"], "proved");
    assert_eq!(json["storage"]["reused"], 0);
    world.run("check --all", 0);
    assert_eq!(world.json("backup", 0)["storage"]["bytes_stored"], 0);
    world.run(&format!("verify {first} --deep -i {IDENTITY}"), 0);
}

#[test]
fn a_damaged_state_is_no_reason_to_fail() {
    let (world, _) = World::backed_up();
    std::fs::write(world.path("strongroom-state/state.sqlite"), vec![9; 5000]).expect("written");
    std::fs::write(world.path("strongroom-state/proved.sqlite"), vec![9; 5000]).expect("written");
    assert_eq!(codes(&world.json("backup", 3)), ["state-lost"]);
    world.run(&format!("verify --deep -i {IDENTITY}"), 0);
}

#[test]
fn an_old_state_put_back_is_noticed() {
    let (world, _) = World::backed_up();
    let (state, old) = (world.path("strongroom-state/state.sqlite"), world.path("tmp/old"));
    std::fs::copy(&state, &old).expect("copied");
    world.app.store("new.zip", &zip("new", 10));
    world.run("backup", 0);
    std::fs::copy(&old, &state).expect("copied");
    assert_eq!(codes(&world.json("backup", 3)), ["state-lost"]);
    world.run("check --all", 0);
    world.run(&format!("verify --deep -i {IDENTITY}"), 0);
}

#[test]
fn special_files_are_reported_and_links_are_stored_as_links() {
    let world = World::ready();
    let storage = world.app.storage();
    std::os::unix::fs::symlink("/etc/passwd", storage.join("link")).expect("linked");
    std::os::unix::fs::symlink("/etc", storage.join("folder-link")).expect("linked");
    assert_eq!(codes(&world.json("backup", 0)), Vec::<String>::new());
    let _socket = std::os::unix::net::UnixListener::bind(storage.join("socket")).expect("bound");
    let json = world.json("backup", 3);
    assert_eq!(codes(&json), ["left-out"]);
    assert!(text(&json["problems"][0]["message"]).contains("socket"));
    world.run(&format!("cat latest folder-link/passwd -i {IDENTITY}"), 10);
    world.run(&format!("restore --target out -i {IDENTITY}"), 3);
    assert_eq!(std::fs::read_link(world.path("out/storage/link")).expect("a link").to_str(), Some("/etc/passwd"));
}

#[test]
fn names_that_are_not_utf8_and_holes_and_second_names_survive() {
    use std::os::unix::ffi::OsStrExt as _;
    let world = World::ready();
    let storage = world.app.storage();
    let odd = std::ffi::OsStr::from_bytes(b"a \xff\n\"name");
    std::fs::write(storage.join(odd), b"odd").expect("written");
    std::fs::File::create(storage.join("sparse")).and_then(|f| f.set_len(3 << 20)).expect("made");
    std::fs::hard_link(storage.join("sparse"), storage.join("second")).expect("linked");
    let json = world.json("backup", 0);
    assert_eq!(json["storage"]["hard_linked"], 2);
    assert_eq!(json["storage"]["sparse"], 2);
    world.run(&format!("restore --target out -i {IDENTITY}"), 0);
    assert_eq!(std::fs::read(world.path("out/storage").join(odd)).expect("read"), b"odd");
    assert!(std::fs::read(world.path("out/storage/second")).expect("read") == vec![0; 3 << 20]);
}

#[test]
fn two_runs_at_once_are_not_two_backups() {
    let world = World::ready();
    // Held as a run holds it, so that nothing depends on how long one takes.
    let lock = world.path("strongroom-state/lock");
    std::fs::create_dir_all(lock.parent().expect("a folder")).expect("made");
    std::fs::set_permissions(lock.parent().expect("a folder"), std::fs::Permissions::from_mode(0o700)).expect("set");
    let file = std::fs::File::create(&lock).expect("created");
    file.lock().expect("locked");
    world.run("backup", 11);
    drop(file);
    world.run("backup", 0);
    let file = std::fs::File::open(&lock).expect("opened");
    file.lock().expect("locked");
    world.run(&format!("restore --yes -i {IDENTITY}"), 11);
    world.run(&format!("restore --dry-run -i {IDENTITY}"), 0);
    world.run("list", 0);
}

#[test]
fn several_runs_started_together_leave_whole_bundles() {
    let world = World::ready();
    let ended: Vec<i32> = std::thread::scope(|scope| {
        let running: Vec<_> =
            (0..3).map(|_| scope.spawn(|| world.call("backup").run().code.expect("a code"))).collect();
        running.into_iter().map(|r| r.join().expect("ended")).collect()
    });
    let stored = ended.iter().filter(|code| **code == 0).count();
    assert!(stored >= 1 && ended.iter().all(|code| [0, 11].contains(code)), "{ended:?}");
    assert_eq!(world.json("list", 0).as_array().map(Vec::len), Some(stored));
    world.run("check --all", 0);
}

#[test]
fn no_plaintext_and_no_key_is_left_on_the_disk() {
    let (world, _) = World::backed_up();
    assert!(world.files("tmp").is_empty(), "{:?}", world.files("tmp"));
    for (folder, secrets) in [
        // The host's own memory knows the names of its files; what leaves the host does not show them.
        ("strongroom-state", vec![KEY, "team-1", "sample-1"]),
        ("archive", vec![KEY, "team-1", "sample-1", "acme", "http-basic", "ENCRYPTION_KEY"]),
    ] {
        for file in world.files(folder) {
            let bytes = std::fs::read(world.path(folder).join(&file)).expect("read");
            for secret in &secrets {
                assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{folder}/{file} shows {secret}");
            }
        }
    }
}

#[test]
fn without_its_archive_a_backup_is_10_and_makes_none() {
    let world = World::ready();
    std::fs::rename(world.path("archive"), world.path("away")).expect("moved");
    world.run("backup", 10);
    assert!(!world.path("archive").exists());
    std::fs::create_dir(world.path("archive")).expect("made");
    world.run("backup", 10);
    assert!(world.files("archive").is_empty(), "an empty mount point was taken for the archive");
}

#[test]
fn a_key_that_is_escrowed_once_is_not_escrowed_again() {
    let (world, _) = World::backed_up();
    let objects = || world.files("archive/keys").into_iter().filter(|f| !f.ends_with("/.lock")).count();
    let before = world.state_of("archive/keys");
    assert_eq!(objects(), 3);
    world.backup(0);
    assert_eq!(world.state_of("archive/keys"), before);
    world.app.execute("DELETE FROM repositories WHERE id <> 'manual'");
    world.app.add_credential(7, WRONG);
    world.app.set_key(WRONG);
    world.call("backup").run();
    assert_eq!(objects(), 6, "another key is another record");
}

#[test]
fn an_escrow_that_fails_is_missed_and_3() {
    let world = World::ready();
    std::fs::write(world.path("blocked"), b"a file where a folder should be").expect("written");
    world.configure("[[escrow]]\nkind = \"file\"\npath = \"blocked\"");
    let json = world.json("backup", 3);
    assert_eq!(codes(&json), ["escrow-missed"]);
    assert_eq!(json["verdict"], "proved");
    world.run("check", 0);
}

#[test]
fn a_file_escrow_keeps_the_key_too() {
    let world = World::ready();
    world.configure("[[escrow]]\nkind = \"file\"\npath = \"keys-elsewhere\"");
    assert_eq!(codes(&world.json("backup", 3)), ["escrow-missed"], "a disk that is not mounted is no escrow");
    std::fs::create_dir(world.path("keys-elsewhere")).expect("made");
    assert_eq!(world.json("backup", 0)["escrows"].as_array().map(Vec::len), Some(2));
    assert_eq!(world.files("keys-elsewhere").iter().filter(|f| !f.contains("/.")).count(), 3);
}

#[test]
fn a_wrapped_key_that_somebody_changed_in_custody_gets_into_no_bundle() {
    let (world, first) = World::backed_up();
    let custody = world.files("archive/custody").into_iter().find(|f| f.ends_with("identity.age")).expect("wrapped");
    let signed = std::fs::read(world.bundle(&first).join("identity.age")).expect("read");
    let path = world.path("archive/custody").join(custody);
    std::fs::write(&path, b"age-encryption.org/v1\n-> X25519 somebody else's").expect("written");
    for changed in [true, false] {
        if !changed {
            std::fs::remove_file(&path).expect("removed");
        }
        let json = world.json("backup", 3);
        assert!(codes(&json).contains(&"custody-changed".to_owned()), "{json}");
        let bundle = world.bundle(&crate::world::text(&json["bundle"]));
        assert_eq!(std::fs::read(bundle.join("identity.age")).expect("read"), signed);
        world.run(&format!("verify latest -i {IDENTITY}"), 0);
    }
}

#[test]
fn a_wrapped_key_that_no_bundle_vouches_for_any_more_is_told() {
    let (world, first) = World::backed_up();
    let spoilt = world.bundle(&first).join("identity.age");
    let whole = std::fs::read(&spoilt).expect("read");
    std::fs::write(&spoilt, b"spoilt").expect("written");
    let json = world.json("backup", 3);
    assert_eq!(codes(&json), ["custody-unsigned"]);
    // It is custody's copy, and signed from now on.
    let second = crate::world::text(&json["bundle"]);
    assert_eq!(std::fs::read(world.bundle(&second).join("identity.age")).expect("read"), whole);
    world.run(&format!("verify latest -i {IDENTITY}"), 0);
    world.json("backup", 0);
}

#[test]
fn a_storage_that_has_lost_all_its_files_is_told() {
    let (world, first) = World::backed_up();
    world.app.execute("DELETE FROM artifacts");
    let aside = world.path("aside");
    std::fs::rename(world.app.storage(), &aside).expect("moved");
    std::fs::create_dir(world.app.storage()).expect("made");
    let json = world.json("backup", 3);
    assert_eq!(codes(&json), ["storage-empty"], "{json}");
    assert!(json.to_string().contains(&first), "{json}");
    // Every night, until they are back or somebody says that it is right.
    let json = world.json("backup", 3);
    assert_eq!(codes(&json), ["storage-empty"], "{json}");
    assert!(json.to_string().contains(&first), "{json}");
    world.run("check --all", 0);
    world.run(&format!("verify --deep -i {IDENTITY}"), 3).says("it may not have been mounted");
    // They come back, and are in the archive already.
    let parts = || world.files("archive/parts").iter().filter(|part| part.contains(".tar.")).count();
    let stored = parts();
    std::fs::remove_dir(world.app.storage()).expect("removed");
    std::fs::rename(&aside, world.app.storage()).expect("moved back");
    let back = world.json("backup", 0);
    assert_eq!(back["storage"]["reused"], back["storage"]["files"], "{back}");
    assert_eq!(parts(), stored);
    world.run(&format!("verify --deep -i {IDENTITY}"), 0);

    std::fs::rename(world.app.storage(), &aside).expect("moved");
    std::fs::create_dir(world.app.storage()).expect("made");
    world.run("backup", 3);
    world.run("backup --allow-empty", 0);
    world.run("backup", 0);
    world.run(&format!("verify -i {IDENTITY}"), 0);
}

#[test]
fn what_killed_runs_left_unfinished_goes_a_day_later() {
    let (world, first) = World::backed_up();
    let part = world.files("archive/parts").into_iter().find(|name| name.contains(".tar")).expect("a part");
    let beside = |path: std::path::PathBuf, name: &str| path.with_file_name(format!(".{name}.strongroom-tmp"));
    let old = [
        beside(world.path("archive/parts").join(part), "part"),
        beside(world.bundle(&first).join("x"), "database.sqlite.zst.age.abc"),
    ];
    let young = beside(old[0].clone(), "of another host");
    for path in old.iter().chain([&young]) {
        std::fs::write(path, "half").expect("written");
    }
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(25);
    for path in &old {
        std::fs::File::options().write(true).open(path).and_then(|f| f.set_modified(long_ago)).expect("made old");
    }
    world.run("backup", 0).says("1 unfinished file of killed runs removed");
    assert_eq!([old[0].exists(), old[1].exists(), young.exists()], [false, false, true]);
    world.run("check --all", 0);
}

#[test]
fn a_storage_that_has_lost_all_its_files_is_told_whatever_became_of_the_bundle_before() {
    for lose_state in [false, true] {
        let (world, first) = World::backed_up();
        world.app.execute("DELETE FROM artifacts");
        std::fs::remove_file(world.bundle(&first).join("bundle.json")).expect("removed");
        std::fs::remove_dir_all(world.app.storage()).expect("removed");
        std::fs::create_dir(world.app.storage()).expect("made");
        if lose_state {
            std::fs::remove_dir_all(world.path("strongroom-state")).expect("removed");
        }
        let json = world.json("backup", 3);
        assert!(codes(&json).contains(&"storage-empty".to_owned()), "{json}");
        assert!(json.to_string().contains(&first), "{json}");
    }
}
