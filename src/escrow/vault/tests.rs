//! The promises of every escrow, and what only a Vault has, on a real server.
#![expect(clippy::print_stderr, reason = "a skipped test must be seen")]
#![allow(dead_code, reason = "the servers are shared with tests/escrows")]

#[path = "../../../tests/escrows/bao.rs"]
mod bao;

use serde_json::{Value, json};

use self::bao::{Bao, ROOT};
use super::super::conformance::{keeps_its_promises, record, signer};
use super::super::{Deposit, Prepared, prepare};
use super::*;
use crate::sealing::SealingKey;

fn escrow(bao: &Bao, token: &str) -> VaultEscrow {
    let token = token.to_owned();
    let login = Login::Token(Box::new(move || Ok(Zeroizing::new(token.clone()))));
    let vault = Vault::new(&bao.address, None, None, login).expect("a Vault");
    VaultEscrow::new(vault, "secret", "strongroom")
}

fn put(escrow: &VaultEscrow, deposit: &Prepared, trusted: &Trusted) -> Result<Deposit> {
    escrow.deposit(&deposit.sealed, &deposit.public, &deposit.minisig, trusted)
}

#[test]
fn a_vault_keeps_its_promises() {
    let Some(bao) = Bao::dev() else { return };
    keeps_its_promises(&escrow(&bao, ROOT));
}

/// A deposit of ours and where it goes.
struct Stage {
    bao: Bao,
    trusted: Trusted,
    key: SealingKey,
    deposit: Prepared,
    again: Prepared,
    paths: Paths,
}

fn stage() -> Option<Stage> {
    let bao = Bao::dev()?;
    let (signer, trusted) = signer();
    let (key, record) = (SealingKey::generate(), record(1));
    let prepare = || prepare(&record, key.recipient(), &signer).expect("prepared");
    let paths = escrow(&bao, ROOT).paths(&record.app, &record.fingerprint, key.id());
    Some(Stage { deposit: prepare(), again: prepare(), bao, trusted, key, paths })
}

impl Stage {
    fn has(&self, token: &str) -> Result<Option<PublicRecord>> {
        let public = &self.deposit.public;
        escrow(&self.bao, token).has(&public.app, &public.fingerprint, self.key.id(), &self.trusted)
    }

    fn inspect(&self, token: &str) -> Result<Option<PublicRecord>> {
        let public = &self.deposit.public;
        escrow(&self.bao, token).inspect(&public.app, &public.fingerprint, self.key.id(), &self.trusted)
    }

    fn write(&self, path: &str, data: &Value) {
        self.bao.ok("POST", &format!("secret/data/{path}"), &json!({ "data": data }));
    }

    fn token(&self, policy: &str) -> String {
        self.bao.ok("PUT", "sys/policies/acl/role", &json!({ "policy": policy }));
        self.bao.token("role", &Value::Null)
    }

    /// A token with the rights of the host that backs up.
    fn host(&self) -> String {
        self.role(include_str!("../../../policies/vault/backup-host.hcl"))
    }

    /// A token with the rights of an auditor.
    fn auditor(&self) -> String {
        self.role(include_str!("../../../policies/vault/auditor.hcl"))
    }

    fn role(&self, policy: &str) -> String {
        self.token(&policy.replace("{{mount}}", "secret").replace("{{prefix}}", "strongroom"))
    }
}

#[test]
fn what_a_killed_run_left_is_taken_over_by_who_may_and_named_by_who_may_not() {
    let Some(stage) = stage() else { return };
    stage.write(&stage.paths.sealed, &json!({ "sealed": STANDARD.encode(&stage.again.sealed) }));
    assert_eq!(stage.has(&stage.host()).expect("looked"), None);
    let error = put(&escrow(&stage.bao, &stage.host()), &stage.deposit, &stage.trusted).expect_err("taken");
    assert_eq!(error.kind(), Kind::NotAuthentic, "{}", error.chain());
    assert_eq!(stage.bao.secrets("strongroom/public"), Vec::<String>::new(), "nobody vouches for what is there");
    let stored = put(&escrow(&stage.bao, ROOT), &stage.deposit, &stage.trusted).expect("taken over");
    assert_eq!(stored, Deposit::Stored);
    stage.inspect(ROOT).expect("looked").expect("complete");
}

#[test]
fn a_path_that_somebody_took_is_neither_a_copy_nor_overwritten() {
    let Some(stage) = stage() else { return };
    for squatted in [
        json!({ "x": "1" }),
        json!({ "record": "{}", "minisig": "no" }),
        json!({ "record": 5 }),
        json!({ "record": String::from_utf8(stage.deposit.public.to_bytes().expect("bytes")).expect("text") }),
    ] {
        stage.write(&stage.paths.public, &squatted);
        for token in [ROOT.to_owned(), stage.host()] {
            let error = stage.has(&token).expect_err("not ours");
            assert_eq!(error.kind(), Kind::NotAuthentic, "{squatted}");
            let error = put(&escrow(&stage.bao, &token), &stage.deposit, &stage.trusted).expect_err("not ours");
            assert_eq!(error.kind(), Kind::NotAuthentic, "{squatted}");
        }
        let (_, kept) = stage.bao.api("GET", &format!("secret/data/{}", stage.paths.public), ROOT, &Value::Null);
        assert_eq!(kept["data"]["data"], squatted);
    }
    let Prepared { sealed, public, minisig } = &stage.deposit;
    escrow(&stage.bao, ROOT).repair(sealed, public, minisig, &stage.trusted).expect("repaired");
    stage.inspect(&stage.host()).expect("looked").expect("complete");
}

#[test]
fn sealed_bytes_that_differ_or_are_gone_are_seen_by_who_may_look() {
    let Some(stage) = stage() else { return };
    put(&escrow(&stage.bao, ROOT), &stage.deposit, &stage.trusted).expect("stored");
    let at = &stage.paths.sealed;
    stage.write(at, &json!({ "sealed": STANDARD.encode(&stage.again.sealed) }));
    assert_eq!(stage.inspect(ROOT).expect_err("replaced").kind(), Kind::NotAuthentic);
    let public = &stage.deposit.public;
    let fetched =
        escrow(&stage.bao, ROOT).fetch_signed(&public.app, &public.fingerprint, stage.key.id(), &stage.trusted);
    assert_eq!(fetched.expect_err("replaced").kind(), Kind::NotAuthentic);
    stage.write(at, &json!({ "sealed": "not base64!" }));
    assert_eq!(stage.inspect(ROOT).expect_err("spoilt").kind(), Kind::NotAuthentic);
    assert!(stage.inspect(&stage.host()).expect("may not look").is_some());
    // Who may read the history alone sees what is gone by it.
    let auditor = stage.auditor();
    assert!(stage.inspect(&auditor).expect("there").is_some());
    for gone in ["data", "metadata"] {
        stage.bao.ok("DELETE", &format!("secret/{gone}/{at}"), &Value::Null);
        for token in [ROOT, &auditor] {
            let error = stage.inspect(token).expect_err("gone");
            assert_eq!(error.kind(), Kind::Damaged);
            assert_eq!(error.hints()[0].contains("undelete"), gone == "data", "{:?}", error.hints());
        }
    }
    assert!(stage.inspect(&stage.host()).expect("may not look").is_some());
}

#[test]
fn a_record_that_was_deleted_is_said_and_its_number_is_not_free() {
    let Some(stage) = stage() else { return };
    put(&escrow(&stage.bao, ROOT), &stage.deposit, &stage.trusted).expect("stored");
    stage.bao.ok("DELETE", &format!("secret/data/{}", stage.paths.public), &Value::Null);
    for token in [ROOT.to_owned(), stage.host()] {
        assert_eq!(stage.has(&token).expect_err("deleted").kind(), Kind::Damaged);
        let error = put(&escrow(&stage.bao, &token), &stage.again, &stage.trusted).expect_err("deleted");
        assert_eq!(error.kind(), Kind::Damaged);
    }
}

#[test]
fn a_mount_that_forgets_is_refused_before_anything_is_written() {
    let Some(stage) = stage() else { return };
    let on = |mount: &str, token: &str| {
        let vault = Arc::clone(&escrow(&stage.bao, token).vault);
        VaultEscrow::new(vault, mount, "strongroom")
    };
    let error = put(&on("old", ROOT), &stage.deposit, &stage.trusted).expect_err("version 1");
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.chain().contains("version 1"), "{}", error.chain());
    assert!(on("old", ROOT).list(&stage.deposit.public.app).is_err());
    let (status, _) = stage.bao.api("GET", "old/data/strongroom?list=true", ROOT, &Value::Null);
    assert_eq!(status, 404, "nothing was written");
    for (mount, kind) in [("nowhere", Kind::Usage), ("secret/below", Kind::Usage), ("cubbyhole", Kind::Usage)] {
        let error = put(&on(mount, ROOT), &stage.deposit, &stage.trusted).expect_err(mount);
        assert_eq!(error.kind(), kind, "{mount}: {}", error.chain());
    }
    let error = put(&on("nowhere", &stage.host()), &stage.deposit, &stage.trusted).expect_err("not ours");
    assert_eq!(error.kind(), Kind::Denied);
}

#[test]
fn a_denial_names_path_and_capability_and_never_repeats_the_answer() {
    let Some(stage) = stage() else { return };
    let blind = stage.token("path \"secret/metadata/strongroom/*\" { capabilities = [\"list\"] }");
    let error = stage.has(&blind).expect_err("denied");
    assert_eq!(error.kind(), Kind::Denied);
    let said = format!("{} {}", error.chain(), error.hints().join(" "));
    assert!(said.contains(&stage.paths.public) && said.contains("\"read\""), "{said}");
    assert!(!said.contains("permission denied"), "{said}");
    let reader = stage.token("path \"secret/data/strongroom/public/*\" { capabilities = [\"read\"] }");
    let error = put(&escrow(&stage.bao, &reader), &stage.deposit, &stage.trusted).expect_err("denied");
    assert_eq!(error.kind(), Kind::Denied);
    let said = format!("{} {}", error.chain(), error.hints().join(" "));
    assert!(said.contains(&stage.paths.sealed) && said.contains("\"create\""), "{said}");
}

#[test]
fn a_token_that_ends_is_renewed_said_or_named() {
    let Some(stage) = stage() else { return };
    let policy = stage.host();
    drop(policy);
    // Renewed: it outlives the life that it began with.
    let renewable = stage.bao.token("role", &json!({ "ttl": "3s" }));
    let lasting = escrow(&stage.bao, &renewable);
    assert_eq!(lasting.begin().expect("in"), None);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(put(&lasting, &stage.deposit, &stage.trusted).expect("stored"), Deposit::Stored);
    // Said: nobody can renew it.
    let short = stage.bao.token("role", &json!({ "ttl": "2s", "renewable": false }));
    let ending = escrow(&stage.bao, &short);
    assert!(ending.begin().expect("in").is_some_and(|said| said.contains("1 min")));
    let few = stage.bao.token("role", &json!({ "num_uses": 5 }));
    assert!(escrow(&stage.bao, &few).begin().expect("in").is_some_and(|said| said.contains("times more")));
    // Named: expired, revoked in the middle, never known.
    std::thread::sleep(Duration::from_millis(2500));
    let error = put(&ending, &stage.deposit, &stage.trusted).expect_err("expired");
    assert!(error.kind() == Kind::Denied && error.chain().contains("expired or was revoked"), "{}", error.chain());
    stage.bao.ok("POST", "auth/token/revoke", &json!({ "token": renewable }));
    let error = lasting.fetch(&stage.deposit.public.app, &stage.deposit.public.fingerprint, stage.key.id());
    assert!(error.expect_err("revoked").chain().contains("expired or was revoked"));
    assert_eq!(stage.has("hvs.nobody").expect_err("unknown").kind(), Kind::Denied);
    // A token that may not look at itself does its work all the same.
    let plain = stage.bao.token("role", &json!({ "no_default_policy": true }));
    assert!(stage.has(&plain).expect("looked").is_some());
}

#[test]
fn a_token_of_our_own_that_is_revoked_is_forgotten_and_a_new_one_is_taken() {
    let Some(stage) = stage() else { return };
    let policy = "path \"secret/*\" { capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\"] }";
    stage.bao.ok("PUT", "sys/policies/acl/all", &json!({ "policy": policy }));
    stage.bao.ok("POST", "auth/approle/role/all", &json!({ "token_policies": ["all"], "token_ttl": "1h" }));
    let role_id = bao::text(&stage.bao.ok("GET", "auth/approle/role/all/role-id", &Value::Null)["data"]["role_id"]);
    let made = stage.bao.ok("POST", "auth/approle/role/all/secret-id", &json!({}));
    let secret_id = bao::text(&made["data"]["secret_id"]);
    let give = |text: String| -> Secret { Box::new(move || Ok(Zeroizing::new(text.clone()))) };
    let login = Login::AppRole { mount: "approle".to_owned(), role_id: give(role_id), secret_id: give(secret_id) };
    let vault = Vault::new(&stage.bao.address, None, None, login).expect("a Vault");
    let escrow = VaultEscrow::new(vault, "secret", "strongroom");
    let revoke = || stage.bao.ok("POST", "sys/leases/revoke-prefix/auth/approle", &json!({}));
    let Prepared { sealed, public, minisig } = &stage.deposit;
    escrow.begin().expect("in");
    revoke();
    // What only looks does not notice; a deposit looks first.
    assert_eq!(put(&escrow, &stage.deposit, &stage.trusted).expect("stored"), Deposit::Stored);
    revoke();
    assert!(escrow.list(&public.app).is_ok_and(|listed| listed.len() == 1));
    // What writes first is not asked twice, and the next call logs in.
    revoke();
    let error = escrow.repair(sealed, public, minisig, &stage.trusted).expect_err("revoked");
    assert!(error.kind() == Kind::Denied && error.chain().contains("expired or was revoked"), "{}", error.chain());
    escrow.repair(sealed, public, minisig, &stage.trusted).expect("repaired");
    stage.inspect(ROOT).expect("looked").expect("complete");
}

#[test]
fn a_known_key_costs_a_host_two_requests() {
    let Some(stage) = stage() else { return };
    let host = stage.host();
    put(&escrow(&stage.bao, &host), &stage.deposit, &stage.trusted).expect("stored");
    // A token that may be used twice is enough to log in and to see that the key is there.
    stage.bao.ok("PUT", "sys/policies/acl/twice", &stage.bao.ok("GET", "sys/policies/acl/role", &Value::Null)["data"]);
    let twice = stage.bao.token("twice", &json!({ "num_uses": 2 }));
    assert!(stage.has(&twice).expect("two requests").is_some());
    assert!(stage.has(&twice).is_err(), "both are used up");
}

#[test]
fn a_server_that_is_throttled_or_gone_is_given_time_and_then_named() {
    let Some(mut stage) = stage() else { return };
    let busy = escrow(&stage.bao, ROOT);
    busy.begin().expect("in");
    stage.bao.ok("POST", "sys/quotas/rate-limit/all", &json!({ "rate": 0.5, "interval": "2s" }));
    let public = stage.deposit.public.clone();
    let look = |escrow: &VaultEscrow| escrow.has(&public.app, &public.fingerprint, stage.key.id(), &stage.trusted);
    for _ in 0..3 {
        look(&busy).expect("after a while");
    }
    // Without patience there is nothing to be had.
    let asked = (0..3).map(|_| stage.bao.api("GET", "secret/config", ROOT, &Value::Null).0);
    assert!(asked.collect::<Vec<_>>().contains(&429));
    stage.bao.down();
    let begun = std::time::Instant::now();
    assert_eq!(look(&busy).expect_err("gone").kind(), Kind::Unreachable);
    assert!(begun.elapsed() > Duration::from_secs(2), "it was given time");
    let begun = std::time::Instant::now();
    assert_eq!(look(&busy).expect_err("still gone").kind(), Kind::Unreachable);
    assert!(begun.elapsed() < Duration::from_secs(2), "once is enough");
}

#[test]
fn a_field_of_a_secret_is_read_from_mounts_of_both_versions() {
    let Some(stage) = stage() else { return };
    let vault = Arc::clone(&escrow(&stage.bao, ROOT).vault);
    stage.write("apps/broker", &json!({ "key": "a key\u{e9}", "n": 5 }));
    stage.bao.ok("POST", "old/apps/broker", &json!({ "key": "older" }));
    let read =
        |path: &str, field: &str| vault.read_field(path, field).map(|text| String::from_utf8_lossy(&text).into_owned());
    assert_eq!(read("secret/apps/broker", "key").expect("read"), "a key\u{e9}");
    assert_eq!(read("old/apps/broker", "key").expect("read"), "older");
    for (path, field, kind) in [
        ("secret/apps/broker", "nothing", Kind::NotFound),
        ("secret/apps/broker", "n", Kind::Usage),
        ("secret/apps/none", "key", Kind::NotFound),
        ("old/apps/none", "key", Kind::NotFound),
        ("nowhere/apps/none", "key", Kind::Denied),
    ] {
        assert_eq!(read(path, field).expect_err(path).kind(), kind, "{path}#{field}");
    }
    stage.bao.ok("DELETE", "secret/data/apps/broker", &Value::Null);
    assert!(read("secret/apps/broker", "key").expect_err("deleted").chain().contains("deleted"));
}
