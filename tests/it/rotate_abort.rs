//! A rotation that cannot go on: nothing is left of one that never began, and one that stands before its commit can be given up.

use std::os::unix::fs::PermissionsExt as _;

use crate::app::{KEY, encrypt, secret};
use crate::keyring::{in_use, with_set_key};
use crate::world::{IDENTITY, World, codes, text};

const PENDING: &str = "strongroom-state/rotation.json";

/// A rotation that stopped before its commit, because another program had the database open.
fn stopped() -> World {
    let (world, _) = World::backed_up();
    with_set_key(&world);
    let held = crate::world::Call::new("/bin/sh", &world.path(""), "-c").arg(format!(
        "sleep 1000 3<app/database.sqlite & p=$!; {} key rotate --yes; r=$?; kill $p; exit $r",
        crate::world::PROGRAM
    ));
    held.ends(15).says("key rotate --resume").says("key rotate --abort");
    assert!(world.path(PENDING).exists());
    world
}

/// The key that a rotation under way holds.
fn new_key(world: &World) -> (String, String) {
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.path(PENDING)).expect("a rotation is under way")).expect("JSON");
    let key = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text(&record["key_b64"]));
    (text(&record["fingerprint"]), String::from_utf8(key.expect("base64")).expect("text"))
}

#[test]
fn a_rotation_that_another_one_has_overtaken_can_be_given_up() {
    let world = stopped();
    let aside = world.path("rotation-aside");
    std::fs::rename(world.path(PENDING), &aside).expect("moved");
    // As another host of the same application would.
    world.run("key rotate --yes", 0);
    let now = in_use(&world);
    let before = world.state_of("app");
    std::fs::rename(&aside, world.path(PENDING)).expect("moved back");
    let (new, _) = new_key(&world);
    world
        .run("key rotate --resume", 15)
        .says(&format!("all credentials are under {}", &now[..12]))
        .says("another rotation took place")
        .says("strongroom key rotate --abort");
    let given_up = world.json("key rotate --abort", 0);
    assert_eq!((text(&given_up["old"]), text(&given_up["new"])), (now.clone(), new));
    assert_eq!(world.state_of("app"), before);
    assert_eq!(codes(&world.json("backup", 0)), Vec::<String>::new());
    assert_eq!(in_use(&world), now);
}

#[test]
fn a_stop_hook_that_fails_is_followed_by_a_start_and_the_rotation_can_go_on() {
    let (world, _) = World::backed_up();
    let old = in_use(&world);
    let before = world.state_of("app");
    with_set_key(&world);
    let stop = world.script("stop.sh", "echo stop >>$W/log; test -e $W/may-stop");
    let start = world.script("start.sh", "echo start >>$W/log");
    world.configure(&format!("stop = [\"{}\"]\nstart = [\"{}\"]", stop.display(), start.display()));
    world.run("key rotate --yes", 1).says("stop hook failed").says("Nothing was changed. `key rotate --resume`");
    assert_eq!(std::fs::read_to_string(world.path("log")).expect("read"), "stop\nstart\n");
    assert_eq!(world.state_of("app"), before);
    std::fs::write(world.path("may-stop"), "").expect("written");
    world.run("key rotate --resume --yes", 0);
    assert_ne!(in_use(&world), old);
}

#[test]
fn a_rotation_whose_new_key_no_escrow_takes_leaves_nothing_pending() {
    let (world, _) = World::backed_up();
    with_set_key(&world);
    let world = world.owned_by_nobody();
    let keys = world.path("archive/keys/package-broker");
    let mode = |mode| std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(mode)).expect("set");
    mode(0o555);
    let ran = world.call_as_nobody("key rotate --yes").ends(21);
    ran.says("0 of 1 escrows hold key").says("archive/keys/package-broker").says("no rotation is pending");
    assert!(ran.stderr.contains("error: 0 of 1") && !ran.stderr.contains("hint: cannot"), "{}", ran.stderr);
    assert!(!world.path(PENDING).exists());
    mode(0o755);
    assert_eq!(codes(&world.call_as_nobody("backup --json").ends(0).json()), Vec::<String>::new());
    world.call_as_nobody("key rotate --yes").ends(0);
}

#[test]
fn a_rotation_that_one_escrow_of_two_took_can_be_given_up() {
    let (world, _) = World::backed_up();
    let old = in_use(&world);
    with_set_key(&world);
    let config = std::fs::read(world.path("strongroom.toml")).expect("read");
    world.configure("[[escrow]]\nkind = \"file\"\npath = \"/proc/nowhere\"\n[rules]\nescrow_min_copies = 2");
    world.run("key rotate --yes", 20).says("1 of 2 escrows").says("/proc/nowhere").says("key rotate --abort");
    let (new, _) = new_key(&world);
    std::fs::write(world.path("strongroom.toml"), config).expect("written");
    let given_up = world.json("key rotate --abort --reason later", 0);
    assert_eq!((text(&given_up["state"]), text(&given_up["old"])), ("aborted".to_owned(), old.clone()));
    assert!(!world.path(PENDING).exists());
    world.run("key history", 0).says(&format!("key {} retired: later", &new[..12]));
    // What it was kept for is over: it is removed like any key that nothing needs.
    world.run(&format!("key destroy {new} --yes"), 0);
    assert_eq!(codes(&world.json("backup", 0)), Vec::<String>::new());
    assert_eq!(in_use(&world), old);
}

#[test]
fn a_rotation_is_given_up_only_while_every_row_is_under_the_old_key() {
    let world = stopped();
    let (new, key) = new_key(&world);
    let mixed = world.copy();
    mixed.app.add_credential(90, &key);
    mixed.run("key rotate --abort", 12).says("1 credential is under the new key").says("--resume");
    assert_eq!(new_key(&mixed).0, new, "nothing was changed");
    assert_eq!(mixed.json("key rotate --resume --yes", 0)["state"], "done");
    mixed.run("prove", 0).says("all 5 credentials");

    let strange = world.copy();
    strange.app.add_credential(90, crate::app::WRONG);
    strange.run("key rotate --abort", 12).says("not under the old key").says("repo-90");
    assert!(strange.path(PENDING).exists());

    // An application that has the new key already would write with it.
    let early = world.copy();
    early.app.set_key(&key);
    early.run("key rotate --abort", 15).says("configure the old one again");
    assert!(early.path(PENDING).exists());

    world.run("key rotate --abort", 0).says(&format!("strongroom key destroy {}", &new[..12]));
    world.run("key rotate --abort", 10).says("no rotation to give up");
    world.run("key rotate --resume", 10);
    world.run(&format!("verify -i {IDENTITY}"), 0);
    assert_eq!(world.json("key rotate --yes", 0)["state"], "done");
}

#[test]
fn after_the_commit_a_rotation_is_not_given_up() {
    let (world, _) = World::backed_up();
    world.run("key rotate --yes", 3);
    let (new, key) = new_key(&world);
    world.run("key rotate --abort", 12).says("credentials are under the new key");
    assert_eq!(new_key(&world).0, new);
    world.app.set_key(&key);
    world.run("key rotate --abort", 12);
    assert_eq!(world.json("key rotate --resume", 0)["state"], "done");
}

/// Sets a row back to what it was under the old key, as an application does that has that one still.
fn write_under_the_old_key(world: &World) {
    let value = encrypt(KEY, &secret(1));
    world.app.execute(&format!("UPDATE repositories SET auth_credentials = '{value}' WHERE id = 'repo-1'"));
}

#[test]
fn what_was_written_under_the_old_key_after_the_commit_is_put_under_the_new_one() {
    let (world, _) = World::backed_up();
    let old = in_use(&world);
    world.run("key rotate --yes", 3);
    let (_, key) = new_key(&world);
    let under_new = |world: &World| world.call("prove --key env:NEW").env("NEW", &key).run().code;
    write_under_the_old_key(&world);
    assert_eq!(under_new(&world), Some(12));
    world.run("key rotate --abort", 12).says("3 credentials are under the new key");
    world.run(&format!("key rotate --from {old} --yes -i {IDENTITY}"), 15).says("under way");
    let strange = world.copy();
    assert_eq!(codes(&world.json("key rotate --resume --yes", 3)), ["not-configured"]);
    assert_eq!(under_new(&world), Some(0));

    // Once the new key is configured, the old one comes from a copy.
    write_under_the_old_key(&world);
    world.app.set_key(&key);
    let before = world.state_of("app");
    let said = world.run("key rotate --resume", 12);
    said.says("1 credential is not under the new key").says("--resume -i FILE").says("Nothing was changed");
    assert_eq!(world.state_of("app"), before);
    // The older bundle's copy will do.
    std::fs::remove_dir_all(world.path("archive/keys/package-broker").join(&old)).expect("removed");
    assert_eq!(world.json(&format!("key rotate --resume -i {IDENTITY}"), 0)["state"], "done");
    world.run("prove", 0);

    // What is under neither key stays, and is named as long as it is there.
    strange.app.add_credential(90, crate::app::WRONG);
    let waiting = strange.run("key rotate --resume --yes", 3);
    waiting.says("1 credential is under neither key").keeps_quiet_about("every credential");
    strange.app.set_key(&key);
    strange.run("key rotate --resume", 12).says("--resume -i FILE");
    let left = strange.run(&format!("key rotate --resume -i {IDENTITY}"), 12);
    left.says("repo-90").says("key doctor").says("enter what is under neither anew");
    strange.app.execute("DELETE FROM repositories WHERE id = 'repo-90'");
    assert_eq!(strange.json("key rotate --resume", 0)["state"], "done");
}

#[test]
fn one_row_of_many_under_the_old_key_is_found() {
    let (world, _) = World::backed_up();
    for n in 100..160 {
        world.app.add_credential(n, KEY);
    }
    with_set_key(&world);
    let start = world.script("start.sh", "test -e $W/well");
    world.configure(&format!("start = [\"{}\"]", start.display()));
    world.run("key rotate --yes", 1).says("under the new key, which is configured");
    write_under_the_old_key(&world);
    std::fs::write(world.path("well"), "").expect("written");
    world.run("key rotate --resume --yes", 12).says("1 credential is not under the new key");
    world.run(&format!("key rotate --resume --yes -i {IDENTITY}"), 0);
    world.run("prove", 0).says("all 64 credentials");
}

#[test]
fn with_no_credential_left_a_rotation_is_given_up_too() {
    let world = stopped();
    world.app.execute("DELETE FROM repositories");
    world.run("key rotate --resume", 15);
    world.run("key rotate --abort", 0);
    assert!(!world.path(PENDING).exists());
}

#[test]
fn a_database_that_may_not_be_written_is_named_and_the_rotation_can_be_given_up() {
    let (world, _) = World::backed_up();
    with_set_key(&world);
    let world = world.owned_by_nobody();
    let mode = |path: &str, mode| {
        std::fs::set_permissions(world.path(path), std::fs::Permissions::from_mode(mode)).expect("set");
    };
    for (file, folder) in [(0o444, 0o555), (0o644, 0o555)] {
        mode("app/database.sqlite", file);
        mode("app", folder);
        for line in ["key rotate --yes", "key rotate --resume"] {
            let ran = world.call_as_nobody(line).ends(21);
            ran.says("may not write").says("app/database.sqlite").says("key rotate --abort");
        }
        world.call_as_nobody("key rotate --abort").ends(0);
        mode("app", 0o755);
    }
}

#[cfg(feature = "failpoints")]
mod killed {
    use super::*;
    use crate::killing::{at_each, covers, numbered, own, small, trace};

    #[test]
    fn a_rotation_killed_anywhere_is_given_up_or_has_taken_place() {
        let template = small();
        template.backup(0);
        with_set_key(&template);
        template.script("log", "echo \"$1\" >>\"$(dirname \"$0\")/log.txt\"");
        template.configure("stop = [\"./log\", \"stop\"]\nstart = [\"./log\", \"start\"]");
        let line = "key rotate --yes";
        let names = trace(&template, line, 0);
        let kinds = ["rotation", "new credentials", "new key", "/archive/keys/"];
        covers(&names, &kinds);
        at_each(&template, line, &own(&names, &kinds, 40), &|world| {
            let given_up = world.call("key rotate --abort").run();
            match given_up.code {
                // Given up; or it never began, or was over.
                Some(0 | 10) => {}
                Some(12) => drop(world.run("key rotate --resume", 0)),
                other => panic!("{other:?}: {}", given_up.stderr),
            }
            assert!(!world.path(PENDING).exists());
            let log = std::fs::read_to_string(world.path("log.txt")).unwrap_or_default();
            assert!(!log.ends_with("stop\n"), "the application is left stopped: {}", given_up.stderr);
            world.run("prove", 0);
            world.run("check --all", 0);
            assert!(codes(&world.json("backup", 0)).is_empty());
        });
    }

    /// A rotation that was killed when a file of the new key's deposit stood; the ledger does not name that key.
    fn killed_after(end: &str) -> (World, String) {
        let world = small();
        world.backup(0);
        let names = trace(&world, "key rotate --yes", 3);
        let of_deposit = |name: &String| name.starts_with("after rename /archive/keys/") && name.ends_with(end);
        let place = names.iter().position(of_deposit).expect("a place") + 1;
        world.call("key rotate --yes").env("STRONGROOM_KILL_AT", place.to_string()).run();
        let (new, _) = new_key(&world);
        assert!(world.files("archive/keys").iter().any(|file| file.contains(&new) && file.ends_with(end)));
        world.run("key history", 0).keeps_quiet_about(&new[..12]);
        (world, new)
    }

    #[test]
    fn a_deposit_that_no_entry_names_is_seen_after_the_rotation_was_given_up() {
        let (world, new) = killed_after(".json");
        world.run("key rotate --abort", 0).says("stays in the archive");
        let keys = world.json("key status", 0);
        let retired = keys.as_array().expect("keys").iter().find(|key| key["fingerprint"] == new.as_str());
        assert_eq!(retired.expect("it is known")["escrows"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn what_a_killed_deposit_left_can_be_destroyed_after_the_rotation_was_given_up() {
        let (world, new) = killed_after(".age");
        world.run("key rotate --abort", 0).says(&format!("strongroom key destroy {}", &new[..12]));
        world.run("key history", 0).says(&format!("key {} retired", &new[..12]));
        // Nothing needs it, so that it has no copy is nothing to look at.
        world.run("key status", 0);
        world.run(&format!("key destroy {new} --yes"), 0);
        assert!(world.files("archive/keys").iter().all(|file| !file.contains(&new)));
    }

    #[test]
    fn giving_up_killed_anywhere_is_entered_once_and_goes_on() {
        let template = stopped();
        let (new, _) = new_key(&template);
        let names = trace(&template, "key rotate --abort", 0);
        covers(&names, &["/archive/ledger/", "before the end of the rotation", "after the end of the rotation"]);
        at_each(&template, "key rotate --abort", &numbered(&names), &|world| {
            let again = world.call("key rotate --abort").run();
            assert!(matches!(again.code, Some(0 | 10)), "{:?}: {}", again.code, again.stderr);
            assert!(!world.path(PENDING).exists());
            let retired = format!("key {} retired", &new[..12]);
            assert_eq!(world.run("key history", 0).stdout.matches(&retired).count(), 1);
            world.run("prove", 0);
        });
    }
}
