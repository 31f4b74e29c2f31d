//! Killed at every place while a key is repaired, destroyed or replaced in Secrets Manager; `tests/it/kills_outside.rs` says what has to hold.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use strongroom::ground::names::Sha256Hex;

use crate::killing::small;
use crate::kills_outside::Outside;
use crate::server::Moto;
use crate::stage::{at, secret_name};
use crate::world::{World, text};

/// A host whose keys are in Secrets Manager only; its credentials lie where AWS's own programs look for them.
pub(crate) fn host(moto: &Moto) -> World {
    let world = small();
    at(&world, &moto.url());
    world.configure("[rules]\nkey_in_bundle = false");
    std::fs::create_dir(world.path("home/.aws")).expect("made");
    let keys = "[default]\naws_access_key_id = admin\naws_secret_access_key = admin\n";
    std::fs::write(world.path("home/.aws/credentials"), keys).expect("written");
    world
}

/// The names of all secrets.
fn names(moto: &Moto) -> Vec<String> {
    let listed = moto.call("ListSecrets", &json!({}))["SecretList"].clone();
    listed.as_array().expect("secrets").iter().map(|secret| text(&secret["Name"])).collect()
}

/// What makes a secret anew.
fn keep(moto: &Moto, name: &str) -> Value {
    let value = moto.call("GetSecretValue", &json!({ "SecretId": name }));
    let tags = moto.call("DescribeSecret", &json!({ "SecretId": name }))["Tags"].clone();
    json!({ "Name": name, "SecretBinary": value["SecretBinary"], "ClientRequestToken": value["VersionId"], "Tags": tags })
}

fn sealed(moto: &Moto) -> Vec<(String, String)> {
    let digest = |name: String| {
        let value = moto.call("GetSecretValue", &json!({ "SecretId": name }));
        let bytes = STANDARD.decode(text(&value["SecretBinary"])).expect("base64");
        let digest = Sha256Hex::of(&bytes).as_str().to_owned();
        (name, digest)
    };
    names(moto).into_iter().map(digest).collect()
}

/// Hands out an account that can be put back.
fn outside(moto: &Moto, work: impl Fn(&Outside<'_>)) {
    let kept = Mutex::new(Vec::new());
    work(&Outside {
        keep: &|| *kept.lock().expect("the list") = names(moto).iter().map(|name| keep(moto, name)).collect(),
        put_back: &|| {
            for name in names(moto) {
                moto.call("DeleteSecret", &json!({ "SecretId": name, "ForceDeleteWithoutRecovery": true }));
            }
            for secret in kept.lock().expect("the list").iter() {
                moto.call("CreateSecret", secret);
            }
        },
        sealed: &|| sealed(moto),
        left: &|key| names(moto).iter().filter(|name| name.contains(key)).count(),
    });
}

#[test]
fn a_repair_killed_anywhere_calls_nothing_good_that_is_not_and_goes_on() {
    let places = [
        "before a secret's record is taken off",
        "before a secret's bytes are replaced",
        "before a secret's record comes back",
        "after a secret's record came back",
        "/archive/ledger/",
    ];
    for spoil in [
        "sm.put_secret_value(SecretId=name, SecretBinary=b'planted')",
        "sm.untag_resource(SecretId=name, TagKeys=['strongroom-signature-3'])",
    ] {
        let moto = Moto::start();
        let world = host(&moto);
        world.backup(0);
        moto.admin(&format!("name = '{}'\n{spoil}", secret_name(&moto)));
        outside(&moto, |outside| outside.repair(&world, &places));
    }
}

#[test]
fn a_destruction_killed_anywhere_takes_nothing_unsaid_and_goes_on() {
    let moto = Moto::start();
    let places = ["before a secret is destroyed", "after a secret is destroyed", "/archive/ledger/"];
    outside(&moto, |outside| outside.destroy(&host(&moto), &places));
}

#[test]
fn a_rotation_killed_anywhere_has_both_keys_in_the_account_and_goes_on() {
    let moto = Moto::start();
    let places = [
        "before the new key is escrowed",
        "before a secret is created",
        "after a secret is created",
        "before the ledger entry",
        "new credentials",
        "of the rotation",
    ];
    outside(&moto, |outside| outside.rotate(&host(&moto), &places));
}
