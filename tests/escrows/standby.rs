//! Two servers on one storage: what the standby says is followed, and it is the active one when the other has gone.
//!
//! A standby answers with a redirect when it may not forward, which is a matter of `disable_clustering`; so their storage is PostgreSQL, where
//! no cluster of their own is needed.

use serde_json::{Value, json};

use crate::app::secret_file;
use crate::bao::Bao;
use crate::server::Server;
use crate::world::{IDENTITY, World};

#[test]
fn a_standby_sends_us_to_the_active_one_and_takes_its_place() {
    let Some(postgres) = Server::start(15) else { return };
    let url = postgres.url("postgres", "postgres");
    let storage = format!("storage \"postgresql\" {{\n  connection_url = \"{url}\"\n  ha_enabled = \"true\"\n}}");
    let Some(mut active) = Bao::sharing(&storage) else { return };
    let (unseal, root) = active.initialise();
    active.unseal(&unseal);
    let mount = json!({ "type": "kv", "options": { "version": "2" } });
    active.until(|bao| bao.api("POST", "sys/mounts/secret", &root, &mount).0 == 204);
    active.until(|bao| bao.api("GET", "secret/config", &root, &Value::Null).0 == 200);
    let standby = Bao::sharing(&storage).expect("a second server");
    standby.until(|bao| bao.api("PUT", "sys/unseal", "", &json!({ "key": unseal })).0 == 200);
    standby.until(|bao| bao.api("GET", "sys/health", "", &Value::Null).0 == 429);
    assert_eq!(standby.api("GET", "secret/config", &root, &Value::Null).0, 307);

    let world = World::ready();
    secret_file(&world.path("token"), &root);
    world.configure(&format!(
        "[[escrow]]\nkind = \"vault\"\naddress = \"{}\"\nauth = {{ method = \"token\", token = \"file:token\" }}",
        standby.address
    ));
    world.run("config check", 0);
    assert_eq!(world.json("backup", 0)["escrows"].as_array().map(Vec::len), Some(2));
    let there = |bao: &Bao| bao.api("GET", "secret/metadata/strongroom/sealed?list=true", &root, &Value::Null);
    assert_eq!(there(&active).1["data"]["keys"], json!(["package-broker/"]));
    let copies = |world: &World| world.json(&format!("key verify -i {IDENTITY}"), 0)["copies"].to_string();
    assert!(copies(&world).contains(&standby.address));

    active.down();
    // Somewhere between two active ones a night may go without; it is said, and the bundle is made.
    assert!(matches!(world.call("backup").run().code, Some(0 | 3)));
    standby.until(|bao| bao.api("GET", "sys/health", "", &Value::Null).0 == 200);
    standby.until(|bao| there(bao).0 == 200);
    world.backup(0);
    assert!(copies(&world).contains(&standby.address));
}
