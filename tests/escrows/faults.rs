//! A Vault that is away, sealed, somebody else's or not what it should be: the bundle is made, and the fault is named.

use std::time::Duration;

use serde_json::{Value, json};

use crate::app::secret_file;
use crate::bao::{Bao, ROOT, text};
use crate::world::{World, codes};
use crate::{by_approle, role};

/// The message of the escrow that was missed.
fn missed(json: &Value) -> String {
    let problems = json["problems"].as_array().expect("problems");
    let found = problems.iter().find(|p| p["code"] == "escrow-missed").unwrap_or_else(|| panic!("{json}"));
    format!("{} {}", text(&found["message"]), found["hint"].as_str().unwrap_or_default())
}

/// A backup that is stored and misses the Vault; why it did.
fn backup_without(world: &World) -> String {
    let json = world.json("backup", 3);
    assert_eq!(json["verdict"], "proved");
    assert_eq!(text(&json["bundle"]).len(), 25);
    missed(&json)
}

#[test]
fn a_dead_vault_stops_no_backup_and_gets_the_key_when_it_is_back() {
    let Some(mut bao) = Bao::dev() else { return };
    let world = World::ready();
    world.configure(&format!("{}\n[rules]\nescrow_min_copies = 2", by_approle(&bao)));
    role(&bao, &world, "backup-host");
    bao.down();
    let said = world.json("backup", 3);
    assert!(missed(&said).contains("does not answer"), "{said}");
    assert!(codes(&said).contains(&"escrow-too-few".to_owned()));
    world.run("config check", 20);
    world.run("key status", 3);
    // A development server forgets everything; so here is its role again.
    bao.up();
    bao.until(|bao| bao.api("GET", "secret/config", ROOT, &Value::Null).0 == 200);
    bao.ok("POST", "sys/auth/approle", &json!({ "type": "approle" }));
    role(&bao, &world, "backup-host");
    assert_eq!(world.json("backup", 0)["escrows"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_vault_with_tls_is_sealed_open_restarted_and_believed_only_with_its_authority() {
    let Some(mut bao) = Bao::production() else { return };
    let (unseal, root) = bao.initialise();
    let world = World::ready();
    secret_file(&world.path("token"), &root);
    std::fs::copy(bao.folder.path().join("ca.pem"), world.path("ca.pem")).expect("copied");
    let address = bao.address.clone();
    let escrow = |ca: &str| {
        format!(
            "[[escrow]]\nkind = \"vault\"\naddress = \"{address}\"\nmount = \"team/kv\"\n{ca}\n\
             auth = {{ method = \"token\", token = \"file:token\" }}"
        )
    };
    let before = std::fs::read_to_string(world.path("strongroom.toml")).expect("a configuration");
    let configure = |ca: &str| {
        secret_file(&world.path("strongroom.toml"), &before);
        world.configure(&escrow(ca));
    };
    configure("ca_file = \"ca.pem\"");
    assert!(backup_without(&world).contains("is sealed"));
    bao.unseal(&unseal);
    let mount = json!({ "type": "kv", "options": { "version": "2" } });
    bao.until(|bao| bao.api("POST", "sys/mounts/team/kv", &root, &mount).0 == 204);
    bao.until(|bao| bao.api("GET", "team/kv/config", &root, &Value::Null).0 == 200);

    // Nobody's authority, another's, and a file that is none.
    configure("");
    assert!(backup_without(&world).contains("certificate"));
    std::fs::create_dir(world.path("other")).expect("made");
    let other = Bao::production().expect("a second server");
    std::fs::copy(other.folder.path().join("ca.pem"), world.path("other/ca.pem")).expect("copied");
    configure("ca_file = \"other/ca.pem\"");
    assert!(backup_without(&world).contains("certificate"));
    world.run("config check", 21);
    configure("ca_file = \"token\"");
    let said = backup_without(&world);
    assert!(said.contains("holds no certificate") && !said.contains(&root), "{said}");

    configure("ca_file = \"ca.pem\"");
    world.backup(0);
    world.run("key status", 0);
    bao.down();
    bao.up();
    bao.until(|bao| bao.api("GET", "sys/seal-status", "", &Value::Null).0 == 200);
    assert!(backup_without(&world).contains("is sealed"));
    bao.unseal(&unseal);
    bao.until(|bao| bao.api("GET", "team/kv/config", &root, &Value::Null).0 == 200);
    world.backup(0);
    // The environment says where the authority is, as for Vault's own program.
    configure("");
    world.call("config check").env("VAULT_CACERT", world.path("ca.pem")).ends(0);
}

#[test]
fn a_restart_in_the_middle_of_a_session_is_named_and_survived() {
    use strongroom::escrow::{Escrow as _, Login, Vault, VaultEscrow};
    let Some(mut bao) = Bao::production() else { return };
    let (unseal, root) = bao.initialise();
    bao.unseal(&unseal);
    let mount = json!({ "type": "kv", "options": { "version": "2" } });
    bao.until(|bao| bao.api("POST", "sys/mounts/secret", &root, &mount).0 == 204);
    bao.until(|bao| bao.api("GET", "secret/config", &root, &Value::Null).0 == 200);
    let ca = bao.folder.path().join("ca.pem");
    let token = root.clone();
    let login = Login::Token(Box::new(move || Ok(zeroize::Zeroizing::new(token.clone()))));
    let vault = Vault::new(&bao.address, None, Some(ca), login).expect("a Vault");
    let escrow = VaultEscrow::new(vault, "secret", "strongroom");
    let app = "package-broker".parse().expect("a name");
    assert!(escrow.list(&app).expect("listed").is_empty());
    let (sealed, _) = bao.api("PUT", "sys/seal", &root, &Value::Null);
    assert_eq!(sealed, 204);
    let error = escrow.list(&app).expect_err("sealed");
    assert!(error.kind() == strongroom::ground::Kind::Unreachable && error.chain().contains("sealed"), "{error:?}");
    bao.unseal(&unseal);
    bao.until(|bao| bao.api("GET", "secret/config", &root, &Value::Null).0 == 200);
    assert!(escrow.list(&app).expect("open again").is_empty());
    bao.down();
    std::thread::scope(|scope| {
        // It comes back while the question is being asked again.
        let asked = scope.spawn(|| escrow.list(&app));
        std::thread::sleep(Duration::from_millis(300));
        bao.up();
        bao.until(|bao| bao.api("GET", "sys/seal-status", "", &Value::Null).0 == 200);
        bao.unseal(&unseal);
        drop(asked.join().expect("it ends"));
    });
    bao.until(|bao| bao.api("GET", "secret/config", &root, &Value::Null).0 == 200);
    assert!(escrow.list(&app).expect("back").is_empty());
}

#[test]
fn a_token_that_is_revoked_while_a_backup_runs_is_named() {
    let Some(bao) = Bao::dev() else { return };
    let world = World::ready();
    let policy = world.json("policy print vault backup-host", 0)["policy"].clone();
    bao.ok("PUT", "sys/policies/acl/backup-host", &json!({ "policy": policy }));
    let token = bao.token("backup-host", &json!({ "num_uses": 100 }));
    secret_file(&world.path("token"), &token);
    let line = format!(
        "[[escrow]]\nkind = \"vault\"\naddress = \"{}\"\nauth = {{ method = \"token\", token = \"file:token\" }}",
        bao.address
    );
    world.configure(&line);
    // A file that takes a while to be read: the session is open by then, and the deposit is not made.
    let slow = std::fs::File::create(world.path("app/storage/large")).expect("made");
    slow.set_len(1 << 30).expect("long");
    let mut call = world.call("backup --json");
    let child = call.command().spawn().expect("started");
    let used =
        |bao: &Bao| bao.api("POST", "auth/token/lookup", ROOT, &json!({ "token": token })).1["data"]["num_uses"] != 100;
    bao.until(used);
    bao.ok("POST", "auth/token/revoke", &json!({ "token": token }));
    let out = child.wait_with_output().expect("it ends");
    let json: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!((out.status.code(), &json["verdict"]), (Some(3), &"proved".into()));
    let said = missed(&json);
    assert!(said.contains("expired or was revoked") && !said.contains(&token), "{said}");
    std::fs::remove_file(world.path("app/storage/large")).expect("removed");
    // One that ends soon is said and is no reason to get up.
    secret_file(&world.path("token"), &bao.token("backup-host", &json!({ "ttl": "5m", "renewable": false })));
    let json = world.json("backup", 0);
    assert!(codes(&json).contains(&"escrow-login-short".to_owned()), "{json}");
}

#[test]
fn a_mount_that_is_wrong_or_forgets_is_a_matter_of_configuration() {
    let Some(bao) = Bao::dev() else { return };
    for (mount, says) in [("nowhere", "no mount nowhere"), ("old", "KV version 1"), ("cubbyhole", "no KV")] {
        let world = World::ready();
        let line = format!("[[escrow]]\nkind = \"vault\"\naddress = \"{}\"\nmount = \"{mount}\"", bao.address);
        world.configure(&line);
        let said = world.call("key escrow --json").env("VAULT_TOKEN", ROOT).ends(3);
        assert!(missed(&said.json()).contains(says), "{}", said.stdout);
        let checked = world.call("config check").env("VAULT_TOKEN", ROOT).run();
        assert!(matches!(checked.code, Some(2 | 21)), "{}", checked.stdout);
    }
    assert_eq!(bao.api("GET", "old/?list=true", ROOT, &Value::Null).0, 404, "nothing was written");
}

#[test]
fn a_configuration_that_says_nonsense_about_a_vault_is_refused_by_name() {
    let world = World::ready();
    let before = std::fs::read_to_string(world.path("strongroom.toml")).expect("a configuration");
    for (lines, code, says) in [
        ("address = \"http://vault.example:8200\"", 15, "no TLS"),
        ("address = \"vault\"", 2, "no URL"),
        ("path = \"/x\"", 2, "no field `path`"),
        ("mount = \"../sys\"", 2, "mount"),
        ("prefix = \"a/*\"", 2, "prefix"),
        ("auth = { method = \"ldap\" }", 2, "known"),
        ("auth = { method = \"approle\", role_id = \"env:R\" }", 2, "secret_id"),
        ("auth = { method = \"token\", token = \"hvs.secretsecret\" }", 2, "reference"),
        ("auth = { method = \"token\", token = \"vault:secret/a#b\" }", 2, "in a Vault itself"),
        ("auth = { method = \"token\", role = \"x\" }", 2, "no field `role`"),
        ("auth = { method = \"token\", tokn = \"x\" }", 2, "tokn"),
        ("", 2, "where is the Vault"),
    ] {
        secret_file(&world.path("strongroom.toml"), &before);
        world.configure(&format!("[[escrow]]\nkind = \"vault\"\n{lines}"));
        world.run("config check", code).says(says).keeps_quiet_about("hvs.secretsecret");
    }
}
