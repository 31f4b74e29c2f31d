//! `verify`: would this bundle restore, with the escrowed key or with this one?

use crate::app::{CREDENTIALS, KEY, WRONG, secret_file};
use crate::init::identity;
use crate::world::{IDENTITY, World, flip, text};

fn with_keys(world: &World) {
    secret_file(&world.path("right"), KEY);
    secret_file(&world.path("wrong"), WRONG);
}

#[test]
fn a_bundle_is_verified_with_its_sealed_key() {
    let (world, id) = World::backed_up();
    std::fs::remove_file(world.path("app/.env")).expect("removed");
    let json = world.json(&format!("verify -i {IDENTITY}"), 0);
    assert_eq!(json["bundle"], id.as_str());
    assert_eq!(json["verdict"], "proved");
    assert_eq!(json["credentials"]["proved"], CREDENTIALS);
    assert_eq!(json["authentic"], true);
    assert_eq!(json["deep"], false);
    assert_eq!(json["failures"], serde_json::json!([]));
    assert_eq!(text(&json["fingerprint"]).len(), 32);
}

#[test]
fn a_wrong_candidate_is_12_and_the_right_one_0() {
    let (world, _) = World::backed_up();
    with_keys(&world);
    let json = world.json(&format!("verify -i {IDENTITY} --key file:wrong"), 12);
    assert_eq!(json["verdict"], "wrong-key");
    let failures = json["failures"].as_array().expect("failures");
    assert_eq!(failures.len(), CREDENTIALS);
    let sealed = world.json("list", 0)[0]["fingerprint"].clone();
    assert_eq!(failures[0]["fits"], serde_json::json!([sealed]), "the escrowed key that fits is named");
    world.run(&format!("verify -i {IDENTITY} --key file:right"), 0);
    world.run(&format!("verify -i {IDENTITY} --key file:gone"), 10);
}

#[test]
fn a_bundle_of_a_wrong_key_is_12_and_latest_proved_is_0() {
    let (world, first) = World::backed_up();
    with_keys(&world);
    world.app.set_key(WRONG);
    world.backup(3);
    let json = world.json(&format!("verify -i {IDENTITY}"), 12);
    assert_eq!(json["verdict"], "wrong-key");
    assert!(!json["failures"][0]["fits"].as_array().expect("fits").is_empty(), "{json}");
    assert_eq!(world.json(&format!("verify latest-proved -i {IDENTITY}"), 0)["bundle"], first.as_str());
    world.run(&format!("verify -i {IDENTITY} --key file:right"), 0);
}

#[test]
fn a_deep_verification_reads_everything_and_is_signed() {
    let (world, id) = World::backed_up();
    let json = world.json(&format!("verify --deep -i {IDENTITY}"), 0);
    assert_eq!(json["deep"], true);
    let listed = world.json("list", 0);
    assert_eq!(listed[0]["confirmed"], false, "a host does not confirm itself");
    assert_eq!(listed[0]["bundle"], id.as_str());
    assert!(world.path("archive/ledger/package-broker/0000000004.json").exists());
    world.run("check --all", 0);
}

#[test]
fn damage_is_found_by_the_verification_that_reads_it() {
    let (world, id) = World::backed_up();
    let database = world.bundle(&id).join("database.sqlite.zst.age");
    flip(&database);
    world.run(&format!("verify -i {IDENTITY}"), 0);
    world.run(&format!("verify --deep -i {IDENTITY}"), 13).says("database.sqlite.zst.age");
    flip(&database);
    for end in [".tar.age", ".tar.zst.age", ".files.zst.age"] {
        let part = world.files("archive/parts").into_iter().find(|p| p.ends_with(end)).expect("a part");
        let path = world.path("archive/parts").join(part);
        flip(&path);
        world.run(&format!("verify --deep -i {IDENTITY}"), 13);
        flip(&path);
    }
    for name in ["proof.jsonl.zst.age", "key.age"] {
        flip(&world.bundle(&id).join(name));
        world.run(&format!("verify -i {IDENTITY}"), 13).says(name);
        flip(&world.bundle(&id).join(name));
    }
    world.run(&format!("verify --deep -i {IDENTITY}"), 0);
}

#[test]
fn an_unknown_identity_is_16_and_a_missing_one_10() {
    let (world, _) = World::backed_up();
    identity(&world, "eve.txt");
    world.run("verify -i eve.txt", 16);
    world.run("verify -i gone.txt", 10);
    world.run("verify", 2).says("-i");
    world.run(&format!("verify -i eve.txt -i {IDENTITY}"), 0);
    secret_file(&world.path("noise"), "this is no identity\n");
    world.run("verify -i noise", 2);
}

#[test]
fn an_identity_that_others_can_read_still_opens_what_it_is_for() {
    use std::os::unix::fs::PermissionsExt as _;
    let (world, _) = World::backed_up();
    std::fs::set_permissions(world.path(IDENTITY), std::fs::Permissions::from_mode(0o644)).expect("set");
    let ran = world.call(&format!("verify -i {IDENTITY}")).run();
    assert!([Some(0), Some(15)].contains(&ran.code), "{:?} {}", ran.code, ran.stderr);
}

#[test]
fn nobody_trusted_is_14() {
    let (world, _) = World::backed_up();
    let config = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&config).expect("read");
    let kept = |line: &&str| !line.starts_with("trusted =") && !line.starts_with("key = ");
    let without = text.lines().filter(kept).collect::<Vec<_>>().join("\n");
    secret_file(&config, &without);
    world.run(&format!("verify -i {IDENTITY}"), 14);
    world.run("list", 14);
    let card = world.run(&format!("verify --card safe/recovery-card.txt -i {IDENTITY}"), 0);
    card.says("proved");
}

#[test]
fn a_forged_custody_record_is_14() {
    let (world, _) = World::backed_up();
    let file = world.files("archive/custody").into_iter().find(|f| f.ends_with("custody.json")).expect("a record");
    let path = world.path("archive/custody").join(file);
    let forged = std::fs::read_to_string(&path).expect("read").replace("recovery", "somebody");
    std::fs::write(&path, forged).expect("written");
    world.run(&format!("verify -i {IDENTITY}"), 14);
    world.run(&format!("custody test -i {IDENTITY}"), 14);
}

#[test]
fn without_custody_in_the_archive_the_bundles_own_copy_opens_it() {
    let (world, _) = World::backed_up();
    let wrapped = world.files("archive/custody").into_iter().find(|f| f.ends_with("identity.age")).expect("a copy");
    flip(&world.path("archive/custody").join(wrapped));
    world.run(&format!("verify -i {IDENTITY}"), 0);
    std::fs::remove_dir_all(world.path("archive/custody")).expect("removed");
    world.run(&format!("verify --deep -i {IDENTITY}"), 0);
    identity(&world, "eve.txt");
    world.run("verify -i eve.txt", 16);
}

#[test]
fn a_key_left_out_of_bundles_comes_from_the_escrow() {
    let world = World::ready();
    world.configure("[rules]\nkey_in_bundle = false");
    let id = world.backup(0);
    assert!(!world.bundle(&id).join("key.age").exists());
    world.run(&format!("verify --deep -i {IDENTITY}"), 0);
    std::fs::remove_dir_all(world.path("archive/keys")).expect("removed");
    world.run(&format!("verify -i {IDENTITY}"), 10).says("--key");
    with_keys(&world);
    world.run(&format!("verify -i {IDENTITY} --key file:right"), 0);
}

#[test]
fn a_bundle_made_without_a_key_is_tried_with_those_in_escrow_and_the_configured_one() {
    let (world, first) = World::backed_up();
    let right = world.json("list", 0)[0]["fingerprint"].clone();
    world.app.set_key(WRONG);
    world.backup(3);
    std::fs::remove_file(world.path("app/.env")).expect("removed");
    let id = world.backup(3);
    assert!(!world.bundle(&id).join("key.age").exists());

    // Two keys are in escrow, the newer one opens nothing, and none is configured that can be read.
    let json = world.json(&format!("verify --deep -i {IDENTITY}"), 0);
    assert_eq!(
        (&json["bundle"], &json["verdict"], &json["fingerprint"]),
        (&id.clone().into(), &"proved".into(), &right)
    );
    assert_eq!((&json["key_from"], &json["problems"]), (&"escrow".into(), &serde_json::json!([])));
    let short = &text(&right)[..12];
    let said = world.run(&format!("verify -i {IDENTITY}"), 0);
    said.says(&format!("the bundle names no key; tried with {short}, which the archive file:"));
    said.says("the configured key is not tried");
    world.run(&format!("verify --card safe/recovery-card.txt -i {IDENTITY}"), 0).says(short);
    assert_eq!(world.json(&format!("verify {first} -i {IDENTITY}"), 0)["key_from"], "bundle");
    world.run(&format!("restore --target out -i {IDENTITY}"), 0).says(&format!("needs key {short}, which was proved"));
    let fetch = format!("strongroom key fetch {short} -i FILE -o KEYFILE");
    world.run(&format!("restore --target out2 -i {IDENTITY}"), 0).says(&format!("{fetch} writes it out"));
    world.run(&format!("key fetch {short} -i {IDENTITY} -o key"), 0);
    world.run(&format!("restore --target out3 --key file:key -i {IDENTITY}"), 0).keeps_quiet_about(&fetch);
    let proved = world.json("key status", 0);
    let row = proved.as_array().expect("rows").iter().find(|row| row["fingerprint"] == right).expect("the key");
    assert!(row["last_proved"].is_string(), "{proved}");

    std::fs::remove_dir_all(world.path("archive/keys")).expect("removed");
    world.run(&format!("verify -i {IDENTITY}"), 10).says("--key");
    world.app.set_key(WRONG);
    world.run(&format!("verify -i {IDENTITY}"), 10).says("nor the configured one, opens");
    world.app.set_key(KEY);
    let json = world.json(&format!("verify -i {IDENTITY}"), 0);
    assert_eq!((&json["key_from"], &json["fingerprint"]), (&"configuration".into(), &right));
}

#[test]
fn rows_under_no_key_do_not_hide_those_that_a_key_opens() {
    let world = World::ready();
    world.run("key escrow", 0);
    world.app.execute("DELETE FROM artifacts; DELETE FROM repositories WHERE id <> 'manual'");
    for n in 100..205 {
        world.app.add_credential(n, WRONG);
    }
    world.app.add_credential(900, KEY);
    std::fs::remove_file(world.path("app/.env")).expect("removed");
    world.backup(3);
    let json = world.json(&format!("verify -i {IDENTITY}"), 12);
    assert_eq!((&json["verdict"], &json["credentials"]["proved"]), (&"mixed".into(), &1.into()), "{json}");
}

#[test]
fn a_storage_bundle_alone_has_nothing_to_prove_and_is_read_all_the_same() {
    let world = World::ready();
    world.run("backup --only storage", 0);
    assert_eq!(world.json(&format!("verify -i {IDENTITY}"), 0)["verdict"], "unproven");
    world.run(&format!("verify --deep -i {IDENTITY}"), 0).says("nothing to prove");
    let part = world.files("archive/parts").into_iter().find(|p| p.ends_with(".tar.age")).expect("a part");
    flip(&world.path("archive/parts").join(part));
    world.run(&format!("verify --deep -i {IDENTITY}"), 13);
}
