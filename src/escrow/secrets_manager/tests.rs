//! The promises of every escrow, kept against a real server.

use std::sync::Arc;

use super::super::conformance::keeps_its_promises;
use super::{Access, SecretsManager, Service};

#[expect(dead_code, reason = "shared with a test binary, which uses all of it")]
#[path = "../../../tests/aws/server.rs"]
mod server;

/// The variable that tells the inner run where the server is.
const ENDPOINT: &str = "STRONGROOM_TEST_MOTO";

#[test]
fn secrets_manager_keeps_its_promises() {
    let moto = server::Moto::start();
    // Credentials come from the environment, which a test cannot change for itself: it runs itself once more.
    let inner = "escrow::secrets_manager::tests::inner";
    let out = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", inner, "--ignored", "--nocapture"])
        .env(ENDPOINT, moto.url())
        .env("AWS_ACCESS_KEY_ID", "admin")
        .env("AWS_SECRET_ACCESS_KEY", "admin")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.contains("1 passed"), "{said}\n{}", String::from_utf8_lossy(&out.stderr));
    let secrets = moto.admin("print(len(sm.list_secrets()['SecretList']))");
    assert_eq!(secrets, "4");
}

#[test]
#[ignore = "run by the test above, with an environment of its own"]
fn inner() {
    let endpoint = std::env::var(ENDPOINT).expect("run by the test above");
    let access = Access { region: Some(server::REGION.to_owned()), endpoint: Some(endpoint), profile: None };
    keeps_its_promises(&SecretsManager::new(Arc::new(Service::new(access)), "team/strongroom", None, None));
}
