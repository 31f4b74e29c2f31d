//! What tests of keys share: the key in use, the hook that sets one, and one that nothing needs any more.

use std::path::PathBuf;

use strongroom::archive;
use strongroom::archive::folder::Folder;
use strongroom::config::Config;
use strongroom::ledger::{Event, Ledger, PruneEvent};
use strongroom::signer::Signer;

use crate::app::secret_file;
use crate::world::{World, text};

/// The fingerprint of the key in use.
pub(crate) fn in_use(world: &World) -> String {
    let keys = world.json("key status", 0);
    let keys = keys.as_array().expect("keys");
    text(&keys.iter().find(|k| k["state"] == "in-use").expect("one is in use")["fingerprint"])
}

/// A hook that puts the key that it reads into the application's configuration; it works in a copy of the world too.
pub(crate) fn with_set_key(world: &World) {
    world.script("set-key", "umask 077; { printf 'ENCRYPTION_KEY='; cat; echo; } >new.env && mv new.env app/.env");
    let path = world.path("strongroom.toml");
    let config = std::fs::read_to_string(&path).expect("a configuration");
    assert!(config.contains("[app]\n"), "{config}");
    secret_file(&path, &config.replace("[app]\n", "[app]\nset_key = [\"./set-key\"]\n"));
}

pub(crate) fn config(world: &World) -> Config {
    Config::load(&world.path("strongroom.toml"), &[]).expect("a configuration")
}

/// The file of the one deposit in the archive whose name ends so.
pub(crate) fn deposit(world: &World, end: &str) -> PathBuf {
    let name = world.files("archive/keys").into_iter().find(|file| file.ends_with(end)).expect("a deposit");
    world.path("archive/keys").join(name)
}

/// Prunes a bundle as a rule would: a signed entry, then its objects.
fn prune(world: &World, bundle: &str) {
    let config = config(world);
    let folder = Folder::open(&world.path("archive")).expect("an archive");
    let id = archive::identify(&folder).expect("its id");
    let mut ledger = Ledger::open(&folder, &id, &config.app, &config.trusted()).expect("a ledger");
    let signer = Signer::load(&world.path("strongroom-signing.key")).expect("a signer");
    let event = Event::Prune(PruneEvent { bundles: vec![bundle.parse().expect("an id")], parts: Vec::new() });
    let now = strongroom::ground::clock::now();
    ledger.append(&signer, event, now).expect("entered");
    std::fs::remove_dir_all(world.bundle(bundle)).expect("removed");
}

/// A key that was in use, and that no bundle needs any more.
pub(crate) fn outlived() -> (World, String) {
    let world = World::ready();
    let old = outlive(&world);
    (world, old)
}

/// Rotates the key of a world, and prunes what was made with it; the key.
pub(crate) fn outlive(world: &World) -> String {
    let first = world.backup(0);
    let old = in_use(world);
    with_set_key(world);
    world.run("key rotate --yes", 0);
    let list = world.json("list", 0);
    let of_old: Vec<_> =
        list.as_array().expect("bundles").iter().filter(|b| b["fingerprint"] == old.as_str()).collect();
    assert_eq!((of_old.len(), text(&of_old[0]["bundle"])), (2, first));
    world.run(&format!("key destroy {old} --yes"), 15).says("2 bundles need key");
    for bundle in of_old {
        prune(world, &text(&bundle["bundle"]));
    }
    old
}
