//! What each role may do and what not, and that the program needs no more.

use serde_json::{Value, json};

use crate::app::KEY;
use crate::bao::{Bao, text};
use crate::world::{IDENTITY, World, codes};
use crate::{become_role, by_approle, nowhere_else, role};

/// The path of a deposit, below `sealed` and `public`.
fn deposit(bao: &Bao) -> String {
    let all = bao.secrets("strongroom/public");
    all.first().expect("a deposit").strip_prefix("strongroom/public/").expect("below").to_owned()
}

#[test]
fn each_role_may_do_its_work_and_nothing_else() {
    let Some(bao) = Bao::dev() else { return };
    let world = World::ready();
    for (kind, path) in [("sealed", "app/old"), ("public", "app/old")] {
        bao.ok("POST", &format!("secret/data/strongroom/{kind}/{path}"), &json!({ "data": { "x": "1" } }));
    }
    bao.ok("POST", "secret/data/elsewhere", &json!({ "data": { "x": "1" } }));
    let create = json!({ "options": { "cas": 0 }, "data": { "x": "1" } });
    let replace = json!({ "data": { "x": "2" } });
    let none = Value::Null;
    // Method, path, body, and the roles that may; each creation is of a name of its own.
    let table: [(&str, &str, &Value, &[&str]); 14] = [
        (
            "GET",
            "secret/data/strongroom/public/app/old",
            &none,
            &["backup-host", "restore-operator", "auditor", "rotation"],
        ),
        ("GET", "secret/data/strongroom/sealed/app/old", &none, &["restore-operator", "rotation"]),
        ("POST", "secret/data/strongroom/sealed/app/ROLE", &create, &["backup-host", "rotation"]),
        ("POST", "secret/data/strongroom/public/app/ROLE", &create, &["backup-host", "rotation"]),
        ("POST", "secret/data/strongroom/sealed/app/old", &replace, &[]),
        ("POST", "secret/data/strongroom/public/app/old", &replace, &[]),
        ("DELETE", "secret/data/strongroom/sealed/app/old", &none, &[]),
        ("DELETE", "secret/metadata/strongroom/public/app/old", &none, &[]),
        ("PUT", "secret/destroy/strongroom/sealed/app/old", &json!({ "versions": [1] }), &[]),
        ("GET", "secret/metadata/strongroom/public/app?list=true", &none, &["restore-operator", "auditor", "rotation"]),
        ("GET", "secret/metadata/strongroom/sealed/app?list=true", &none, &["auditor"]),
        ("GET", "secret/metadata/strongroom/sealed/app/old", &none, &["auditor"]),
        ("GET", "secret/data/elsewhere", &none, &[]),
        ("GET", "sys/policies/acl", &none, &[]),
    ];
    for name in ["backup-host", "restore-operator", "auditor", "rotation"] {
        role(&bao, &world, name);
        let file = |name: &str| std::fs::read_to_string(world.path(name)).expect("written").trim().to_owned();
        let ids = json!({ "role_id": file("role-id"), "secret_id": file("secret-id") });
        let (_, session) = bao.api("POST", "auth/approle/login", "", &ids);
        let token = text(&session["auth"]["client_token"]);
        for (method, path, body, may) in &table {
            let (status, _) = bao.api(method, &path.replace("ROLE", name), &token, body);
            let expected = if may.contains(&name) { 200 } else { 403 };
            assert_eq!(status, expected, "{name}: {method} {path}");
        }
    }
}

#[test]
fn a_whole_backup_needs_no_more_than_the_role_of_its_host_and_a_restore_no_more_than_its_own() {
    let Some(bao) = Bao::dev() else { return };
    let world = World::ready();
    nowhere_else(&world);
    world.configure(&by_approle(&bao));
    role(&bao, &world, "backup-host");
    world.run("config check", 0);
    let first = world.json("backup", 0);
    assert_eq!(first["escrows"], json!([format!("the Vault {} (secret/strongroom)", bao.address)]));
    assert_eq!(bao.secrets("strongroom").len(), 2);
    world.backup(0);
    assert_eq!(bao.secrets("strongroom").len(), 2, "a key that is known is left alone");
    // Neither this host nor anybody with its ids gets a key back, or spoils one.
    world.run(&format!("key fetch -i {IDENTITY} -o never"), 21).keeps_quiet_about(KEY).says("does not let us list");
    let escrowed = world.run("key escrow --repair", 0);
    escrowed.says("held by");

    role(&bao, &world, "restore-operator");
    world.run(&format!("key fetch -i {IDENTITY} -o fetched"), 0);
    assert_eq!(std::fs::read(world.path("fetched")).expect("written"), KEY.as_bytes());
    world.run(&format!("key verify -i {IDENTITY}"), 0);
    world.run(&format!("verify -i {IDENTITY}"), 0);
    world.run(&format!("restore -i {IDENTITY} --target out"), 0).says("proved");
    world.run("key status", 0);

    role(&bao, &world, "auditor");
    assert_eq!(world.json("key status", 0)[0]["escrows"].as_array().map(Vec::len), Some(1));
    world.run(&format!("key fetch -i {IDENTITY} -o never"), 21).says("does not let us read");

    // A forged record is noticed by the host that may only look, and replaced by an administrator alone.
    let at = deposit(&bao);
    bao.ok(
        "POST",
        &format!("secret/data/strongroom/public/{at}"),
        &json!({ "data": { "record": "{}", "minisig": "" } }),
    );
    become_role(&bao, &world, "backup-host");
    assert!(codes(&world.json("key escrow", 3)).contains(&"escrow-missed".to_owned()));
    assert!(codes(&world.json("key escrow --repair", 3)).contains(&"escrow-missed".to_owned()));
    let policy = "path \"secret/data/strongroom/*\" { capabilities = [\"create\", \"read\", \"update\", \"delete\"] }";
    bao.ok("PUT", "sys/policies/acl/backup-host", &json!({ "policy": policy }));
    assert!(codes(&world.json("key escrow --repair", 0)).is_empty());
    become_role(&bao, &world, "restore-operator");
    world.run(&format!("key verify -i {IDENTITY}"), 0);
}

#[test]
fn a_key_is_rotated_by_a_host_that_may_only_write_and_the_old_one_stays() {
    let Some(bao) = Bao::dev() else { return };
    let world = World::ready();
    nowhere_else(&world);
    world.configure(&by_approle(&bao));
    role(&bao, &world, "backup-host");
    let first = world.backup(0);
    world.script("set-key", "umask 077; { printf 'ENCRYPTION_KEY='; cat; echo; } >new.env && mv new.env app/.env");
    let path = world.path("strongroom.toml");
    let config = std::fs::read_to_string(&path).expect("a configuration");
    crate::app::secret_file(&path, &config.replace("[app]\n", "[app]\nset_key = [\"./set-key\"]\n"));
    assert_eq!(world.json("key rotate --yes", 0)["state"], "done");
    assert_eq!(bao.secrets("strongroom").len(), 4);
    world.backup(0);
    let old = text(&world.json("key status", 0)[0]["fingerprint"]);
    // Whoever took this host over gets no key back, with an identity at hand, too.
    world
        .run(&format!("key fetch {old} -i {IDENTITY} -o never"), 21)
        .says("does not let us list")
        .keeps_quiet_about(KEY);
    world.run(&format!("restore {first} --only database --rekey --yes -i {IDENTITY}"), 21).keeps_quiet_about(KEY);

    role(&bao, &world, "restore-operator");
    world.run(&format!("key fetch {old} -i {IDENTITY} -o old"), 0);
    assert_eq!(std::fs::read(world.path("old")).expect("written"), KEY.as_bytes());
    world.run(&format!("verify {first} --deep -i {IDENTITY}"), 0);
    world.run(&format!("restore {first} --only database --rekey --yes -i {IDENTITY}"), 0).says("put under key");
    world.run("prove", 0);
    world.run("key needed --all", 0).says(&first).says(&old[..12]);
}

#[test]
fn what_is_in_the_vault_opens_with_its_own_tools() {
    let Some(bao) = Bao::dev() else { return };
    let world = World::ready();
    world.configure(&by_approle(&bao));
    role(&bao, &world, "backup-host");
    world.backup(0);
    let at = deposit(&bao);
    let script = format!(
        "set -e\nget() {{ {} kv get -field=\"$1\" secret/strongroom/\"$2\"; }}\n\
         age -d -i safe/recovery-identity.txt archive/custody/*/identity.age >sealing-key.txt\n\
         get sealed sealed/{at} | base64 -d >sealed.age\n\
         age -d -i sealing-key.txt sealed.age | jq -r .key_b64 | base64 -d\n\
         get record public/{at} >record.json\nget minisig public/{at} >record.json.minisig\n\
         minisign -Vqm record.json -p strongroom-signing.pub >&2\n\
         test \"$(jq -r .sha256 record.json)\" = \"$(sha256sum <sealed.age | cut -c 1-64)\"\n",
        bao.program().display()
    );
    let out = std::process::Command::new("/bin/sh")
        .args(["-c", &script])
        .current_dir(world.path(""))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", world.path("home"))
        .env("BAO_ADDR", &bao.address)
        .env("BAO_TOKEN", crate::bao::ROOT)
        .output()
        .expect("sh runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(String::from_utf8_lossy(&out.stdout), KEY);
}
