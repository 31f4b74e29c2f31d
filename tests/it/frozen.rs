//! The first version's archive, as it was made then (`tests/vectors/v1`), is read for ever.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::world::{World, text};

/// Every bundle, the oldest first, and the key that it needs.
const BUNDLES: [(&str, &str); 3] = [
    ("20261125T145652Z-c649c813", "44d0ce2af6c4947659719a747b51d6ed"),
    ("20261125T145653Z-b726a0fa", "44d0ce2af6c4947659719a747b51d6ed"),
    ("20261125T145654Z-d358bc47", "eea9e4348750338bde1e9f77a6a68203"),
];
const CARD: &str = "--card v1/recovery-card.txt --archive file:v1/archive";
const KEY: &str = "q2Vw0N9m7yQk3rT5uX8zB1dF4hJ6lP0sA2cE4gI6kM8=";
/// Digest of all names and contents of the archive.
const FROZEN: &str = "8e5379717e7bee6a340be9e5293ecff96a43feb62f6c6104f64944cca271ebdf";

/// A world with a copy of the folder, in which the identity is its owner's alone.
fn world() -> World {
    let world = World::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/v1");
    let status = std::process::Command::new("cp").arg("-R").arg(from).arg(world.path("v1")).status();
    assert!(status.expect("cp runs").success());
    let identity = world.path("v1/recovery-identity.txt");
    std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o600)).expect("closed");
    world
}

#[test]
fn nobody_has_changed_the_first_versions_archive() {
    let world = world();
    let mut all = blake3::Hasher::new();
    for name in world.files("v1/archive") {
        all.update(format!("{}\n", blake3::hash(name.as_bytes())).as_bytes());
        all.update(blake3::hash(&std::fs::read(world.path("v1/archive").join(&name)).expect("read")).as_bytes());
    }
    assert_eq!(all.finalize().to_string(), FROZEN);
}

#[test]
fn the_first_versions_bundles_are_listed_proved_and_restored() {
    let world = world();
    let listed = world.json(&format!("list {CARD}"), 0);
    let ids: Vec<_> = listed.as_array().expect("bundles").iter().map(|b| text(&b["bundle"])).collect();
    assert_eq!(ids, BUNDLES.map(|(id, _)| id));
    world.run(&format!("check --all {CARD}"), 0);
    for (id, key) in BUNDLES {
        world.run(&format!("show {id} {CARD}"), 0);
        let proved = world.json(&format!("verify {id} --deep -i v1/recovery-identity.txt {CARD}"), 0);
        assert_eq!((&proved["verdict"], &proved["credentials"]["proved"]), (&"proved".into(), &3.into()), "{proved}");
        world.run(&format!("restore {id} -i v1/recovery-identity.txt --target {id} {CARD}"), 0);
        world.run(&format!("key fetch {key} -i v1/recovery-identity.txt -o {id}.key {CARD}"), 0);
        world.run(&format!("prove sqlite:{id}/database.sqlite --key file:{id}.key"), 0);
    }
    assert_eq!(std::fs::read_to_string(world.path(format!("{}.key", BUNDLES[0].0))).expect("a key").trim(), KEY);

    let storage = |id: &str, name: &str| world.path(id).join("storage").join(name);
    let (first, last) = (BUNDLES[0].0, BUNDLES[2].0);
    let read = |id, name| std::fs::read(storage(id, name)).expect("restored");
    let line = "a text that compresses, ".repeat(3);
    assert_eq!(String::from_utf8_lossy(&read(first, "text.md")), format!("{}\n", line.trim_end_matches(", ")));
    assert_eq!(read(last, "text.md"), b"a second version\n");
    let dense = blake3::hash(&read(last, "deep/dense.zip"));
    assert_eq!(dense, blake3::hash(&read(first, "deep/dense.zip")));
    assert_eq!(dense.to_string(), "7eb39351b06b844be9fa997f37e5bef917119b231eb778ebfe2bdbe091438ad9");
    assert_eq!(read(last, "empty"), b"");
    assert_eq!(std::fs::read_link(storage(last, "link")).expect("a link"), Path::new("text.md"));
    let odd = std::ffi::OsStr::from_bytes(b"n\xffme");
    assert_eq!(std::fs::read(world.path(last).join("storage").join(odd)).expect("read"), b"a name that is no text\n");
}
