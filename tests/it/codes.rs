//! Exit codes, each brought about.

use std::os::unix::fs::PermissionsExt as _;

use crate::world::{IDENTITY, INIT, World};

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
