//! Another sealing key: what was stored under the one before is not referred to any more.

use crate::app::{OBJECTS, secret_file};
use crate::world::{IDENTITY, World, codes};

#[test]
fn under_another_sealing_key_everything_is_stored_again_and_opens_with_it_alone() {
    let (world, first) = World::backed_up();
    let made = std::process::Command::new("age-keygen").arg("-o").arg(world.path("new.txt")).output().expect("it runs");
    assert!(made.status.success());
    let new = std::fs::read_to_string(world.path("new.txt")).expect("read");
    let recipient = new.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("a recipient");
    let config = std::fs::read_to_string(world.path("strongroom.toml")).expect("read");
    let old = config.lines().find(|line| line.starts_with("recipient = ")).expect("a recipient");
    secret_file(&world.path("strongroom.toml"), &config.replace(old, &format!("recipient = \"{recipient}\"")));

    let files = OBJECTS.len() * 2;
    let json = world.json("backup", 0);
    assert_eq!(codes(&json), ["other-sealing-key"]);
    assert_eq!((&json["storage"]["files"], &json["storage"]["reused"]), (&files.into(), &0.into()));
    let json = world.json("backup", 0);
    assert_eq!(codes(&json), Vec::<String>::new());
    assert_eq!(json["storage"]["reused"], files);
    world.run("check --all", 0);
    world.run("verify --deep -i new.txt", 0);
    world.run("restore --target out -i new.txt", 0);
    assert_eq!(world.files("out/storage"), world.files("app/storage"));
    world.run(&format!("verify --deep -i {IDENTITY}"), 16);
    world.run(&format!("verify {first} --deep -i {IDENTITY}"), 0);
}

#[test]
fn a_database_and_a_storage_under_different_keys_are_restored_one_after_the_other() {
    let (world, first) = World::backed_up();
    std::process::Command::new("age-keygen").arg("-o").arg(world.path("new.txt")).output().expect("it runs");
    let new = std::fs::read_to_string(world.path("new.txt")).expect("read");
    let recipient = new.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("a recipient");
    let config = std::fs::read_to_string(world.path("strongroom.toml")).expect("read");
    let old = config.lines().find(|line| line.starts_with("recipient = ")).expect("a recipient");
    secret_file(&world.path("strongroom.toml"), &config.replace(old, &format!("recipient = \"{recipient}\"")));
    world.run("backup --only database", 0);
    for line in ["verify", "verify --deep", "restore --target out", "cat latest x"] {
        world.run(&format!("{line} -i new.txt"), 15).says("--only database").says(&format!("{first} --only storage"));
    }
    world.run("restore --target out --only database -i new.txt", 0);
    world.run(&format!("restore {first} --target files --only storage -i {IDENTITY}"), 0);
}
