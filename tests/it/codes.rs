//! Exit codes, each brought about, and each named in the help of the verb that ended with it.

use std::os::unix::fs::PermissionsExt as _;

use crate::keyring::{deposit, in_use, outlived};
use crate::world::{IDENTITY, INIT, World, flip};

/// Runs a line; its verb's help names the code that it ends with.
fn ends(world: &World, line: &str, code: i32) -> crate::world::Ran {
    let words: Vec<&str> = line.split_whitespace().collect();
    let verb = &words[..if ["key", "custody", "config"].contains(&words[0]) { 2 } else { 1 }];
    let help = world.run(&format!("{} -h", verb.join(" ")), 0);
    let named = help.stdout.lines().any(|line| line.starts_with(&format!("{code:>5}  ")));
    assert!(named, "{} ends with {code}, and its help does not say so:\n{}", verb.join(" "), help.stdout);
    world.run(line, code)
}

#[test]
fn what_key_destroy_ends_with_is_in_its_help() {
    let (world, old) = outlived();
    ends(&world, "key destroy beefbeef --yes", 10);
    ends(&world, &format!("key destroy {} --yes", in_use(&world)), 15);
    ends(&world, &format!("key destroy {old}"), 15).says("--yes");
    let lock = std::fs::File::open(world.path("strongroom-state/lock")).expect("opened");
    lock.lock().expect("held");
    ends(&world, &format!("key destroy {old} --yes"), 11);
    drop(lock);
    ends(&world, &format!("key destroy {old} --yes"), 0);
}

#[test]
fn a_configuration_that_others_can_write_to_is_15_and_every_reader_says_so() {
    let (world, _) = World::backed_up();
    let path = world.path("strongroom.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("set");
    for line in ["list", "check", "show", "custody list", "key status", "key needed", "key history", "key lint"] {
        ends(&world, line, 15).says("others can write");
    }
}

#[test]
fn a_secret_that_gpg_does_not_open_is_16_wherever_the_key_is_read() {
    let (world, _) = World::backed_up();
    let home = world.path("gnupg");
    std::fs::create_dir(&home).expect("made");
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).expect("set");
    std::fs::write(world.path("plain"), crate::app::KEY).expect("written");
    let line = "--batch --pinentry-mode loopback --passphrase words --symmetric --output sealed.gpg plain";
    let gpg = crate::world::Call::new("gpg", &world.path(""), line).env("GNUPGHOME", &home);
    gpg.ends(0);
    let config = std::fs::read_to_string(world.path("strongroom.toml")).expect("read");
    let config = config.replace("dotenv:app/.env#ENCRYPTION_KEY", "gpg:sealed.gpg");
    crate::app::secret_file(&world.path("strongroom.toml"), &config);
    // An agent that remembers the passphrase would open it.
    std::fs::remove_dir_all(world.path("home")).expect("removed");
    std::fs::create_dir(world.path("home")).expect("made");
    for line in ["key fingerprint", "key lint", "key escrow", "key rotate --yes", "config check", "guard -- /bin/true"]
    {
        ends(&world, line, 16);
    }
}

#[test]
fn what_is_no_file_or_no_folder_where_one_is_named_is_2() {
    let (world, _) = World::backed_up();
    std::fs::write(world.path("file"), "").expect("written");
    let init = INIT.replace("init --yes", "init --yes --config new.toml").replace("file:archive", "file:file");
    for (line, says) in [
        ("list --config safe", "safe is a folder, and no configuration"),
        ("list --card safe", "safe is a folder, and no recovery card"),
        ("man /dev/null", "/dev/null is there already, and is no folder"),
        ("man file/below", "file is there already, and is no folder"),
        (&init, "file is there already, and is no folder"),
    ] {
        world.run(line, 2).says(says);
    }
    assert!(!world.path("new.toml").exists());
}

#[test]
fn a_folder_that_may_not_be_written_is_21_before_a_restore_begins() {
    let (world, _) = World::backed_up();
    let world = world.owned_by_nobody();
    std::fs::set_permissions(world.path("app"), std::fs::Permissions::from_mode(0o555)).expect("set");
    let before = world.state_of("app");
    for line in ["restore --dry-run", "restore --yes"] {
        world.call_as_nobody(&format!("{line} -i {IDENTITY}")).ends(21).says("may not write in");
    }
    assert_eq!(world.state_of("app"), before);
    std::fs::set_permissions(world.path("app"), std::fs::Permissions::from_mode(0o755)).expect("set");
}

#[test]
fn what_keeps_every_copy_of_a_key_shut_is_what_the_verbs_end_with() {
    let world = World::ready();
    let every = |world: &World, identity: &str, code: i32| {
        for line in ["key verify", "key fetch -o never", "key exec"] {
            let line = format!("{line} -i {identity}{}", if line == "key exec" { " -- /bin/true" } else { "" });
            ends(world, &line, code).says("no copy of key");
        }
        assert!(!world.path("never").exists());
    };
    let bundle = world.backup(0);
    let bare = world.copy();
    let other = std::process::Command::new("age-keygen").arg("-o").arg(world.path("other.txt")).output();
    assert!(other.expect("age-keygen runs").status.success());
    every(&world, "other.txt", 16);

    flip(&world.bundle(&bundle).join("key.age"));
    std::fs::remove_file(deposit(&world, ".age")).expect("removed");
    every(&world, IDENTITY, 13);
    std::fs::write(deposit(&world, ".json"), "{}").expect("written");
    every(&world, IDENTITY, 14);

    // No bundle has it, the archive has lost it, and the other escrow is away.
    bare.configure("[[escrow]]\nkind = \"file\"\npath = \"stick\"\n[rules]\nkey_in_bundle = false");
    bare.backup(3);
    std::fs::remove_dir_all(bare.path("archive/keys")).expect("removed");
    every(&bare, IDENTITY, 20);
}
