//! Killed at every place while a key is repaired, destroyed or replaced in a Vault; `tests/it/kills_outside.rs` says what has to hold.

use std::sync::Mutex;

use base64::Engine as _;
use serde_json::{Value, json};
use strongroom::ground::names::Sha256Hex;

use crate::app::secret_file;
use crate::bao::{Bao, ROOT, text};
use crate::killing::small;
use crate::kills_outside::Outside;
use crate::world::World;
use crate::{by_approle, nowhere_else, role};

/// A host whose keys are in the Vault only, with an account that may replace and remove.
fn host(bao: &Bao) -> World {
    let world = small();
    nowhere_else(&world);
    secret_file(&world.path("token"), ROOT);
    world.configure(&format!(
        "[[escrow]]\nkind = \"vault\"\naddress = \"{}\"\nauth = {{ method = \"token\", token = \"file:token\" }}",
        bao.address
    ));
    world
}

/// The fields of a secret.
fn fields(bao: &Bao, path: &str) -> Value {
    bao.api("GET", &format!("secret/data/{path}"), ROOT, &Value::Null).1["data"]["data"].clone()
}

fn put(bao: &Bao, path: &str, fields: &Value) {
    bao.ok("POST", &format!("secret/data/{path}"), &json!({ "data": fields }));
}

fn sealed(bao: &Bao) -> Vec<(String, String)> {
    let digest = |path: String| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text(&fields(bao, &path)["sealed"]));
        let digest = Sha256Hex::of(&bytes.expect("base64")).as_str().to_owned();
        (path, digest)
    };
    bao.secrets("strongroom/sealed").into_iter().map(digest).collect()
}

/// Hands out a Vault that can be put back.
fn outside(bao: &Bao, work: impl Fn(&Outside<'_>)) {
    let kept = Mutex::new(Vec::new());
    work(&Outside {
        keep: &|| {
            let all = bao.secrets("strongroom").into_iter();
            *kept.lock().expect("the list") = all.map(|path| (fields(bao, &path), path)).collect();
        },
        put_back: &|| {
            for path in bao.secrets("strongroom") {
                bao.ok("DELETE", &format!("secret/metadata/{path}"), &Value::Null);
            }
            for (fields, path) in kept.lock().expect("the list").iter() {
                put(bao, path, fields);
            }
        },
        sealed: &|| sealed(bao),
        left: &|key| bao.secrets("strongroom").iter().filter(|path| path.contains(key)).count(),
    });
}

#[test]
fn a_repair_killed_anywhere_calls_nothing_good_that_is_not_and_goes_on() {
    let Some(bao) = Bao::dev() else { return };
    let world = host(&bao);
    world.backup(0);
    let good: Vec<_> = bao.secrets("strongroom").into_iter().map(|path| (fields(&bao, &path), path)).collect();
    let planted = json!({ "sealed": base64::engine::general_purpose::STANDARD.encode("planted") });
    let forged = json!({ "record": "{}", "minisig": "" });
    for (kind, fields) in [("sealed", planted), ("public", forged)] {
        for (fields, path) in &good {
            put(&bao, path, fields);
        }
        put(&bao, &bao.secrets(&format!("strongroom/{kind}"))[0], &fields);
        outside(&bao, |outside| {
            let places = [
                "before a deposit in a Vault is replaced",
                "after the record of a deposit in a Vault was taken off",
                "before the record of a replaced deposit comes back",
                "after the record of a deposit in a Vault came back",
                "/archive/ledger/",
            ];
            outside.repair(&world, &places);
        });
    }
}

#[test]
fn a_destruction_killed_anywhere_takes_nothing_unsaid_and_goes_on() {
    let Some(bao) = Bao::dev() else { return };
    let places = [
        "before a deposit in a Vault is destroyed",
        "before the record of a destroyed deposit goes",
        "after a deposit in a Vault was destroyed",
        "/archive/ledger/",
    ];
    outside(&bao, |outside| outside.destroy(&host(&bao), &places));
}

#[test]
fn a_rotation_killed_anywhere_has_both_keys_in_the_vault_and_goes_on() {
    let Some(bao) = Bao::dev() else { return };
    let places = [
        "before the new key is escrowed",
        "before a sealed key goes to a Vault",
        "before the record of a sealed key goes to a Vault",
        "after the record of a sealed key went to a Vault",
        "before the ledger entry",
        "new credentials",
        "of the rotation",
    ];
    outside(&bao, |outside| outside.rotate(&host(&bao), &places));
}

#[test]
fn a_rotation_killed_between_its_two_writes_waits_for_an_administrator_where_it_may_only_create() {
    let Some(bao) = Bao::dev() else { return };
    let world = small();
    nowhere_else(&world);
    world.configure(&by_approle(&bao));
    role(&bao, &world, "rotation");
    world.backup(0);
    crate::keyring::with_set_key(&world);
    let before = world.state_of("app");
    let place = "before the record of a sealed key goes to a Vault";
    world.call("key rotate --yes").env("STRONGROOM_KILL_AT", place).run();
    let half: Vec<_> = bao.secrets("strongroom/sealed");
    assert_eq!((half.len(), bao.secrets("strongroom/public").len()), (2, 1));
    // Nobody vouches for what lies there, and this account may not replace it.
    let refused = world.run("key rotate --resume", 14);
    refused.says("nothing is put under it").says("no signed record vouches for it");
    assert_eq!(world.state_of("app"), before);
    let complete = bao.secrets("strongroom/public")[0].replace("/public/", "/sealed/");
    let left = half.iter().find(|path| **path != complete).expect("half a deposit");
    bao.ok("DELETE", &format!("secret/metadata/{left}"), &Value::Null);
    world.run("key rotate --resume", 0);
    world.run("prove", 0);
}
