//! Every command of the guide, of its chapters about servers, and of the README is run, and prints what they say.

use std::path::Path;

use crate::bao::Bao;
use crate::console;
use crate::server::Moto;
use crate::stage::{Stage, tools};

/// What the commands of both documents use.
const TOOLS: [&str; 7] = ["bash", "age", "age-keygen", "ssh-keygen", "sqlite3", "jq", "gzip"];

#[test]
fn the_guide_is_true() {
    if tools(&TOOLS) {
        console::run("docs/guide.md");
    }
}

#[test]
fn the_readme_is_true() {
    if tools(&TOOLS) {
        console::run("README.md");
    }
}

#[test]
fn the_chapter_about_vault_is_true() {
    if !tools(&TOOLS) {
        return;
    }
    let Some(bao) = Bao::bare() else { return };
    let mut stage = Stage::new();
    stage.serve("localhost:8200", bao.address.strip_prefix("http://").expect("no TLS"));
    // It is the client too, and takes the variables of Vault's.
    stage.program("vault", bao.program());
    console::run_on(&stage, "docs/vault.md");
}

#[test]
fn the_chapter_about_secrets_manager_is_true() {
    if !tools(&TOOLS) {
        return;
    }
    let moto = Moto::start();
    let mut stage = Stage::new();
    let folder = stage.root().join("home/.aws");
    std::fs::create_dir(&folder).expect("made");
    let profiles = ["backup-host", "restore-operator"].map(|role| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("policies/aws/{role}.json"));
        let policy = serde_json::from_slice(&std::fs::read(path).expect("a policy")).expect("JSON");
        let (id, secret) = moto.user(role, policy);
        format!("[{role}]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")
    });
    std::fs::write(folder.join("credentials"), profiles.concat()).expect("written");
    stage.serve("localhost:5000", &moto.url().replace("http://", ""));
    let all = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    let (id, secret) = moto.user("administrator", serde_json::from_str(all).expect("JSON"));
    stage.script("account", &moto.shell((&id, &secret)));
    moto.enforce();
    console::run_on(&stage, "docs/secrets-manager.md");
}
