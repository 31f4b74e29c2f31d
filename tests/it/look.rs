//! `list`, `show`, `cat`: what bundles there are and what is in them.

use crate::app::{CREDENTIALS, OBJECTS, WRONG, object};
use crate::world::{IDENTITY, World, text};

#[test]
fn an_archive_without_bundles_lists_none() {
    let world = World::ready();
    assert_eq!(world.json("list", 0), serde_json::json!([]));
    world.run("show", 10);
    world.run("check", 10);
    world.run(&format!("verify -i {IDENTITY}"), 10);
    world.run(&format!("restore --yes -i {IDENTITY}"), 10);
    assert_eq!(world.json("check --all", 0), serde_json::json!([]));
}

#[test]
fn list_shows_every_bundle_oldest_first() {
    let (world, first) = World::backed_up();
    world.app.set_key(WRONG);
    let second = world.backup(3);
    let listed = world.json("list", 0);
    let column = |name: &str| [text(&listed[0][name]), text(&listed[1][name])];
    assert_eq!(column("bundle"), [first, second]);
    assert_eq!(column("verdict"), ["proved", "wrong-key"]);
    assert_eq!(column("sealing")[0], column("sealing")[1]);
    assert_ne!(column("fingerprint")[0], column("fingerprint")[1]);
    assert!(text(&listed[0]["created"]).ends_with('Z'));
    assert!(listed[0]["bytes"].as_u64().expect("a number") > 6000);
    world.run("list", 0).says("wrong-key").says("proved");
}

#[test]
fn a_bundle_is_found_by_id_prefix_latest_and_latest_proved() {
    let (world, first) = World::backed_up();
    world.app.set_key(WRONG);
    let second = world.backup(3);
    let shown = |selector: &str| text(&world.json(&format!("show {selector}"), 0)["id"]);
    assert_eq!(shown(&first), first);
    assert_eq!(shown(""), second);
    assert_eq!(shown("latest"), second);
    assert_eq!(shown("latest-proved"), first);
    let unique = first.bytes().zip(second.bytes()).take_while(|(a, b)| a == b).count() + 1;
    assert_eq!(shown(&first[..unique]), first);
    world.run(&format!("show {}", &first[..4]), 2).says("several");
    world.run("show 19990101T", 10);
    world.run("show nonsense/../x", 10);
}

#[test]
fn show_opens_proof_and_files_only_with_an_identity() {
    let (world, id) = World::backed_up();
    let plain = world.json("show", 0);
    assert_eq!(plain["id"], id.as_str());
    assert_eq!(plain["verdict"], "proved");
    assert_eq!(plain["proof"], serde_json::Value::Null);
    world.run("show --files", 2).says("-i");
    let whole = world.json(&format!("show --files -i {IDENTITY}"), 0);
    assert_eq!(whole["proof"]["counts"]["proved"], CREDENTIALS);
    assert_eq!(whole["proof"]["facts"]["tables"]["repositories"], CREDENTIALS + 1);
    let files = whole["files"].as_array().expect("files");
    assert_eq!(files.iter().filter(|f| f["kind"] == "file").count(), OBJECTS.len() * 2);
    crate::init::identity(&world, "eve.txt");
    world.run("show -i eve.txt", 16);
    world.run("show -i gone.txt", 10);
}

#[test]
fn cat_writes_exactly_what_was_stored() {
    let (world, _) = World::backed_up();
    let name = object("manual", "acme/tools", "1.0.0");
    assert!(world.run(&format!("cat latest {name} -i {IDENTITY}"), 0).out == world.app.stored(&name));
    let readme = name.replace(".zip", ".readme.md");
    assert!(world.run(&format!("cat latest {readme} -i {IDENTITY}"), 0).out == world.app.stored(&readme));
    let database = world.run(&format!("cat latest database -i {IDENTITY}"), 0).out;
    std::fs::write(world.path("out.sqlite"), database).expect("written");
    let rows = crate::app::number(&world.path("out.sqlite"), "SELECT count(*) FROM repositories");
    assert_eq!(rows, i64::try_from(CREDENTIALS + 1).expect("few"));
    world.run(&format!("cat latest no/such/file -i {IDENTITY}"), 10);
    world.run(&format!("cat latest private -i {IDENTITY}"), 2);
    world.run(&format!("cat latest {name}"), 2);
}

#[test]
fn cat_of_a_bundle_without_storage_takes_it_from_the_one_that_goes_with_it() {
    let (world, _) = World::backed_up();
    world.run("backup --only database", 0);
    let name = object("manual", "acme/tools", "1.0.0");
    assert!(world.run(&format!("cat latest {name} -i {IDENTITY}"), 0).out == world.app.stored(&name));
    world.run("backup --only storage", 0);
    world.run(&format!("cat latest database -i {IDENTITY}"), 10);
}

#[test]
fn a_reader_that_goes_away_is_a_quiet_end() {
    let (world, _) = World::backed_up();
    let script = world.script("pipe", &format!("{} list --json | head -c 1 >/dev/null", crate::world::PROGRAM));
    let ran = crate::world::Call::new("/bin/sh", &world.path(""), "").arg(script).ends(0);
    ran.keeps_quiet_about("panicked");
}
