//! Vaults as escrows and as the source of a key: real servers, the built program from outside.
#![expect(clippy::print_stderr, reason = "a skipped test must be seen")]

#[path = "../it/app.rs"]
#[allow(dead_code, reason = "the application is shared with tests/it")]
mod app;
mod bao;
mod faults;
#[cfg(feature = "failpoints")]
#[path = "../it/keyring.rs"]
#[allow(dead_code, reason = "shared with tests/it")]
mod keyring;
#[cfg(feature = "failpoints")]
#[path = "../it/killing.rs"]
#[allow(dead_code, reason = "shared with tests/it")]
mod killing;
#[cfg(feature = "failpoints")]
mod kills;
#[cfg(feature = "failpoints")]
#[path = "../it/kills_outside.rs"]
mod kills_outside;
mod roles;
#[path = "../postgres/server.rs"]
#[allow(dead_code, reason = "shared with tests/postgres")]
mod server;
mod sources;
mod standby;
#[path = "../it/world.rs"]
#[allow(dead_code, reason = "the world is shared with tests/it")]
mod world;

use serde_json::json;

use app::secret_file;
use bao::Bao;
use world::World;

/// Makes a role of `AppRole` with a policy as `policy print` prints it, and puts its ids where the configuration looks for them.
fn role(bao: &Bao, world: &World, role: &str) {
    let policy = world.json(&format!("policy print vault {role}"), 0)["policy"].clone();
    bao.ok("PUT", &format!("sys/policies/acl/{role}"), &json!({ "policy": policy }));
    bao.ok("POST", &format!("auth/approle/role/{role}"), &json!({ "token_policies": [role], "token_ttl": "1h" }));
    become_role(bao, world, role);
}

/// Puts new ids of a role that is there where the configuration looks for them.
fn become_role(bao: &Bao, world: &World, role: &str) {
    let at = format!("auth/approle/role/{role}");
    let id = &bao.ok("GET", &format!("{at}/role-id"), &serde_json::Value::Null)["data"]["role_id"];
    let secret = &bao.ok("POST", &format!("{at}/secret-id"), &json!({}))["data"]["secret_id"];
    secret_file(&world.path("role-id"), &format!("{}\n", bao::text(id)));
    secret_file(&world.path("secret-id"), &bao::text(secret));
}

/// The lines of an escrow that logs in with these ids.
fn by_approle(bao: &Bao) -> String {
    format!(
        "[[escrow]]\nkind = \"vault\"\naddress = \"{}\"\n\
         auth = {{ method = \"approle\", role_id = \"file:role-id\", secret_id = \"file:secret-id\" }}",
        bao.address
    )
}

/// Makes the Vault the only place where the key is kept.
fn nowhere_else(world: &World) {
    let path = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let (before, after) = text.split_once("[[escrow]]").expect("an escrow");
    let (_, after) = after.split_once("kind = \"archive\"\n").expect("the archive");
    secret_file(&path, &format!("{before}{after}"));
    world.configure("[rules]\nkey_in_bundle = false");
}
