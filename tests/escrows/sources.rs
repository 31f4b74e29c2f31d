//! Keys that come from a Vault or from a container, and the ways to log in.

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::{Value, json};

use crate::app::{KEY, WRONG, secret_file};
use crate::bao::{Bao, ROOT};
use crate::world::{Call, World};

/// A Vault with the application's key in it.
fn with_key() -> Option<(Bao, World)> {
    let bao = Bao::dev()?;
    bao.ok("POST", "secret/data/apps/broker", &json!({ "data": { "key": KEY, "wrong": WRONG } }));
    Some((bao, World::ready()))
}

/// A call with what Vault's own program takes from the environment.
fn by_environment(bao: &Bao, world: &World, line: &str) -> Call {
    world.call(line).env("VAULT_ADDR", &bao.address).env("VAULT_TOKEN", ROOT)
}

#[test]
fn a_key_in_a_vault_is_proved_without_any_set_up() {
    let Some((bao, world)) = with_key() else { return };
    let line = |key: &str| format!("prove sqlite:app/database.sqlite --app package-broker --key {key}");
    by_environment(&bao, &world, &line("vault:secret/apps/broker#key")).ends(0).says("proved").keeps_quiet_about(KEY);
    by_environment(&bao, &world, &line("vault:secret/apps/broker#wrong")).ends(12);
    by_environment(&bao, &world, &line("vault:secret/apps/broker#none")).ends(10).says("wrong").keeps_quiet_about(KEY);
    by_environment(&bao, &world, &line("vault:secret/apps/none#key")).ends(10);
    by_environment(&bao, &world, &line("vault:secret#key")).ends(2);
    world.call(&line("vault:secret/apps/broker#key")).ends(2).says("VAULT_ADDR");
    world.call(&line("vault:secret/apps/broker#key")).env("VAULT_ADDR", &bao.address).ends(21).says("vault login");
    by_environment(&bao, &world, &line("vault:secret/apps/broker#key")).env("VAULT_TOKEN", "no\nbody").ends(21);
    by_environment(&bao, &world, &line("vault:secret/apps/broker#key"))
        .env("VAULT_NAMESPACE", "nowhere")
        .run()
        .keeps_quiet_about(KEY);
    // What `vault login` left counts when nobody else may read it.
    secret_file(&world.path("home/.vault-token"), ROOT);
    world.call(&line("vault:secret/apps/broker#key")).env("VAULT_ADDR", &bao.address).ends(0);
    std::fs::set_permissions(world.path("home/.vault-token"), Permissions::from_mode(0o644)).expect("set");
    world.call(&line("vault:secret/apps/broker#key")).env("VAULT_ADDR", &bao.address).ends(15).says("chmod 600");
}

#[test]
fn a_token_that_a_container_mounts_may_be_readable_and_not_writable() {
    let Some((bao, world)) = with_key() else { return };
    // As Kubernetes does it: token -> ..data/token, ..data -> ..2026_11_25_01_00_00.1/
    let real = world.path("mount/..2026_11_25_01_00_00.1");
    std::fs::create_dir_all(&real).expect("made");
    std::fs::write(real.join("token"), ROOT).expect("written");
    symlink("..2026_11_25_01_00_00.1", world.path("mount/..data")).expect("linked");
    symlink("..data/token", world.path("mount/token")).expect("linked");
    let address = &bao.address;
    world.configure(&format!(
        "[[escrow]]\nkind = \"vault\"\naddress = \"{address}\"\nauth = {{ method = \"token\", token = \"file:mount/token\" }}"
    ));
    for (mode, code) in [(0o444, 0), (0o644, 0), (0o440, 0), (0o646, 15), (0o664, 15)] {
        std::fs::set_permissions(real.join("token"), Permissions::from_mode(mode)).expect("set");
        let ran = world.run("config check", code);
        if code != 0 {
            ran.says("mount/token").says("chmod 600");
        }
    }
}

#[test]
fn one_session_serves_the_source_of_the_key_and_the_escrow() {
    let Some((bao, world)) = with_key() else { return };
    let policy = "path \"secret/data/apps/broker\" { capabilities = [\"read\"] }\n\
                  path \"secret/data/strongroom/sealed/*\" { capabilities = [\"create\"] }\n\
                  path \"secret/data/strongroom/public/*\" { capabilities = [\"create\", \"read\"] }";
    bao.ok("PUT", "sys/policies/acl/host", &json!({ "policy": policy }));
    let path = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    secret_file(&path, &text.replace("dotenv:app/.env#ENCRYPTION_KEY", "vault:secret/apps/broker#key"));
    let line = format!(
        "[[escrow]]\nkind = \"vault\"\naddress = \"{}\"\nauth = {{ method = \"token\", token = \"file:token\" }}",
        bao.address
    );
    world.configure(&line);
    secret_file(&world.path("token"), &bao.token("host", &Value::Null));
    assert_eq!(world.json("backup", 0)["escrows"].as_array().map(Vec::len), Some(2));
    // Login, the mount and the key, the public record: with one login there are four requests, and not one more.
    secret_file(&world.path("token"), &bao.token("host", &json!({ "num_uses": 4 })));
    world.run("backup", 0);
    // The bundle is made without a key when the Vault is the only place that has it.
    secret_file(&world.path("token"), "hvs.nobody");
    assert_eq!(world.json("backup", 3)["verdict"], "no-key");
}

#[test]
fn a_host_in_another_namespace_finds_its_own_keys_only() {
    let Some((bao, world)) = with_key() else { return };
    bao.ok("POST", "sys/namespaces/team", &json!({}));
    let mount = json!({ "type": "kv", "options": { "version": "2" } });
    bao.ok("POST", "team/sys/mounts/secret", &mount);
    bao.until(|bao| bao.api("GET", "team/secret/config", ROOT, &Value::Null).0 == 200);
    let line = format!("[[escrow]]\nkind = \"vault\"\naddress = \"{}\"\nnamespace = \"team\"", bao.address);
    world.configure(&line);
    let said = world.call("backup --json").env("VAULT_TOKEN", ROOT).ends(0).json();
    assert!(said["escrows"].to_string().contains("namespace team"), "{said}");
    assert!(bao.secrets("strongroom").is_empty());
    assert_eq!(bao.api("GET", "team/secret/metadata/strongroom?list=true", ROOT, &Value::Null).0, 200);
}

/// What the API of a cluster says of every token that it is asked about; it stands for a cluster, which cannot run here.
fn cluster() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut asked = Vec::new();
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut chunk) {
                asked.extend_from_slice(&chunk[..n]);
                if String::from_utf8_lossy(&asked).contains("\"token\"") {
                    break;
                }
            }
            let ours = String::from_utf8_lossy(&asked).contains("the-service-account");
            let user = "system:serviceaccount:apps:strongroom";
            let answer = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                "status": { "authenticated": ours, "user": { "username": user, "uid": "1", "groups": [] } } })
            .to_string();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
                answer.len()
            );
        }
    });
    address
}

#[test]
fn a_service_account_of_kubernetes_logs_in() {
    let Some((bao, world)) = with_key() else { return };
    let policy = world.json("policy print vault backup-host", 0)["policy"].clone();
    bao.ok("PUT", "sys/policies/acl/backup-host", &json!({ "policy": policy }));
    bao.ok("POST", "sys/auth/cluster", &json!({ "type": "kubernetes" }));
    crate::bao::certificates(&world.path("safe"));
    let authority = std::fs::read_to_string(world.path("safe/ca.pem")).expect("a certificate");
    let config = json!({ "kubernetes_host": cluster(), "disable_local_ca_jwt": true, "kubernetes_ca_cert": authority,
        "token_reviewer_jwt": token("reviewer") });
    bao.ok("POST", "auth/cluster/config", &config);
    let role = json!({ "bound_service_account_names": "strongroom", "bound_service_account_namespaces": "apps",
        "token_policies": ["backup-host"], "token_ttl": "10m" });
    bao.ok("POST", "auth/cluster/role/backup", &role);
    let lines = format!(
        "[[escrow]]\nkind = \"vault\"\naddress = \"{}\"\nauth = {{ method = \"kubernetes\", mount = \"cluster\", role = \"backup\", jwt = \"jwt\" }}",
        bao.address
    );
    world.configure(&lines);
    // Kubernetes makes it readable for all in its container.
    std::fs::write(world.path("jwt"), token("the-service-account")).expect("written");
    assert_eq!(world.json("backup", 0)["escrows"].as_array().map(Vec::len), Some(2));
    std::fs::write(world.path("jwt"), token("somebody")).expect("written");
    world.run("config check", 21).says("does not let us log in at auth/cluster/login");
}

/// A JSON web token that nobody signed; the cluster is asked whether it is good.
fn token(name: &str) -> String {
    use base64::Engine as _;
    let part = |value: Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({ "iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:apps:strongroom", "id": name,
        "kubernetes.io/serviceaccount/namespace": "apps", "kubernetes.io/serviceaccount/service-account.name": "strongroom",
        "kubernetes.io/serviceaccount/service-account.uid": "1" });
    // The cluster that stands in looks for the name in what it is asked.
    format!("{}.{}.{name}", part(json!({ "alg": "RS256", "typ": "JWT" })), part(claims))
}

#[test]
fn a_key_of_a_containers_configuration_is_read_by_docker_itself() {
    let world = World::ready();
    // No container can run here: a program of that name answers as Docker does, to exactly the question that it should get.
    let answer = json!(["PATH=/bin", format!("ENCRYPTION_KEY={KEY}")]).to_string();
    world.script(
        "bin-docker",
        &format!(
            "test \"$*\" = 'container inspect --format {{{{json .Config.Env}}}} broker' || {{ echo No such container >&2; exit 1; }}\n\
             echo '{answer}'"
        ),
    );
    std::fs::create_dir(world.path("bin")).expect("made");
    std::fs::rename(world.path("bin-docker"), world.path("bin/docker")).expect("moved");
    let prove = |key: &str| {
        let path = format!("{}:/usr/bin:/bin", world.path("bin").display());
        world.call(&format!("prove --key {key}")).env("PATH", path)
    };
    prove("docker:broker#ENCRYPTION_KEY").ends(0).keeps_quiet_about(KEY);
    prove("docker:broker#NOTHING").ends(10).says("no variable NOTHING").keeps_quiet_about(KEY);
    prove("docker:other#ENCRYPTION_KEY").ends(10).says("No such container");
    prove("docker:-x#ENCRYPTION_KEY").ends(2);
}
