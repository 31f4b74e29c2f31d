//! Which places may not lie inside which, and what `config check` tries of them.

use std::os::unix::fs::PermissionsExt as _;

use crate::app::secret_file;
use crate::world::{IDENTITY, INIT, World, codes};

#[test]
fn an_archive_in_the_storage_or_round_it_is_refused_before_anything_is_made() {
    let world = World::new();
    std::os::unix::fs::symlink(world.path("app/storage"), world.path("link")).expect("made");
    let before = world.files("");
    for archive in ["app/storage", "app/storage/archive", "link/archive", "app", "app/storage/../storage/x", "."] {
        world.run(&INIT.replace("file:archive", &format!("file:{archive}")), 2).says("lies inside");
    }
    let inside = INIT.replace("sqlite:app/database.sqlite", "sqlite:app/storage/database.sqlite");
    std::fs::copy(world.app.database(), world.app.storage().join("database.sqlite")).expect("copied");
    world.run(&inside, 2).says("a restore of the storage would write over it");
    std::fs::remove_file(world.app.storage().join("database.sqlite")).expect("removed");
    assert_eq!(world.files(""), before);
    assert!(!world.path("archive").exists());
}

#[test]
fn a_configuration_whose_places_overlap_backs_nothing_up_and_its_check_says_so() {
    let world = World::ready();
    let config = std::fs::read_to_string(world.path("strongroom.toml")).expect("read");
    for (more, says) in [
        ("[state]\nfolder = \"app/storage/state\"", "the state folder"),
        ("[scratch]\nfolder = \"archive/scratch\"", "the scratch folder"),
    ] {
        secret_file(&world.path("strongroom.toml"), &format!("{config}\n{more}\n"));
        world.run("backup", 2).says(says).says("Put it into a folder of its own");
        world.run("config check", 2).says(says);
    }
    assert!(!world.path("app/storage/state").exists());
    secret_file(&world.path("strongroom.toml"), &config);
    world.call("backup").env("STRONGROOM_STORAGE_URL", format!("file:{}", world.path("archive").display())).ends(2);
    world.backup(0);
}

#[test]
fn one_place_is_one_copy_however_often_it_is_named() {
    let world = World::ready();
    world.backup(0);
    let config = std::fs::read_to_string(world.path("strongroom.toml")).expect("read");
    let before = (world.state_of("archive"), world.state_of("app"));
    for folder in ["stick", "stick/below"] {
        std::fs::create_dir(world.path(folder)).expect("made");
    }
    std::os::unix::fs::symlink("stick", world.path("same-stick")).expect("made");
    let file = |path: &str| format!("[[escrow]]\nkind = \"file\"\npath = \"{path}\"\n");
    for (escrows, says) in [
        ("[[escrow]]\nkind = \"archive\"\n".to_owned(), "two [[escrow]] are one place, the archive"),
        (file("stick") + &file("stick/"), "two [[escrow]] are one place, the folder"),
        (file("archive"), "lies inside the archive"),
        (file("archive/escrow"), "lies inside the archive"),
        (file("app/storage/escrow"), "lies inside the storage"),
        (file("strongroom-state/escrow"), "lies inside the state folder"),
        (file("stick") + &file("same-stick"), "lies inside the escrow"),
        (file("stick/below") + &file("stick"), "lies inside the escrow"),
    ] {
        secret_file(&world.path("strongroom.toml"), &format!("{config}\n{escrows}[rules]\nescrow_min_copies = 2\n"));
        for line in ["config check", "key escrow"] {
            world.run(line, 2).says(says);
        }
        assert_eq!((world.state_of("archive"), world.state_of("app")), before);
        assert_eq!(world.files("stick"), Vec::<String>::new());
        // The database does not wait for that, nor does anybody who needs it back.
        let copy = world.copy();
        copy.run("backup", 3).says(says);
        copy.run(&format!("verify -i {IDENTITY}"), 0);
    }
    secret_file(
        &world.path("strongroom.toml"),
        &format!("{config}\n[[escrow]]\nkind = \"archive\"\n[rules]\nescrow_min_copies = 2\n"),
    );
    let copy = world.copy();
    assert!(codes(&copy.json("backup", 3)).contains(&"escrow-too-few".to_owned()), "one place is one copy");
    secret_file(
        &world.path("strongroom.toml"),
        &format!("{config}\n{}[rules]\nescrow_min_copies = 2\n", file("stick")),
    );
    world.backup(0);
}

#[test]
fn a_config_check_tries_to_write_and_leaves_nothing() {
    let world = World::ready();
    world.backup(0);
    let before = world.files("");
    world.run("config check", 0).says("write");
    assert_eq!(world.files(""), before);
    let world = world.owned_by_nobody();
    std::fs::set_permissions(world.path("archive/bundles/package-broker"), std::fs::Permissions::from_mode(0o500))
        .expect("set");
    world.call_as_nobody("config check").ends(21).says("FAILED  write").keeps_quiet_about("strongroom-tmp");
    world.call_as_nobody("backup").ends(21);
}

#[test]
fn a_health_url_without_a_scheme_is_refused() {
    let world = World::ready();
    world.configure("health = { url = \"localhost:3000/health\" }");
    world.run("config check", 2).says("begins with no scheme").says("http://localhost:3000/health");
}

#[test]
fn a_group_that_a_restore_cannot_give_files_to_is_named_before_the_application_is_stopped() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (world, _) = World::backed_up();
    world.configure("stop = [\"/bin/touch\", \"stopped\"]\nstart = [\"/bin/true\"]");
    let world = world.owned_by_nobody();
    std::os::unix::fs::chown(world.app.database(), None, Some(4321)).expect("given to a group");
    let line = format!("restore --yes -i {IDENTITY}");
    let ran = world.call_as_nobody(&line).ends(21);
    ran.says("belongs to group 4321").keeps_quiet_about("belongs to user");
    assert!(!world.path("stopped").exists());
    // A folder whose files are of that group gives it to ours too.
    std::os::unix::fs::chown(world.path("app"), None, Some(4321)).expect("given to a group");
    std::fs::set_permissions(world.path("app"), std::fs::Permissions::from_mode(0o2775)).expect("set");
    world.call_as_nobody(&line).ends(0);
}
