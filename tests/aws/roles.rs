//! The shipped policies, enforced: what each role may do, and what it is refused.
//!
//! The server knows actions and users; it knows neither resources nor conditions, so those are compared with what they must be.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::server::Moto;
use crate::stage::{call, call_as, host, secret_name};
use crate::world::{IDENTITY, World};

const ROLES: [&str; 4] = ["backup-host", "restore-operator", "auditor", "rotation"];

fn policy(role: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("policies/aws/{role}.json"));
    serde_json::from_slice(&std::fs::read(path).expect("a policy")).expect("JSON")
}

/// Makes a user who may do everything with secrets.
fn administrator(moto: &Moto) -> (String, String) {
    let made = moto.admin(
        "iam.create_user(UserName='administrator')\n\
         iam.put_user_policy(UserName='administrator', PolicyName='p', PolicyDocument='{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"secretsmanager:*\",\"Resource\":\"*\"}]}')\n\
         k = iam.create_access_key(UserName='administrator')['AccessKey']\nprint(k['AccessKeyId'], k['SecretAccessKey'])",
    );
    let (id, secret) = made.split_once(' ').expect("a key");
    (id.to_owned(), secret.to_owned())
}

/// A host with one bundle and a deposit, and users of all roles on a server that now enforces.
fn prepared() -> (Moto, World, String, impl Fn(&str) -> (String, String)) {
    let moto = Moto::start();
    let world = host(&moto.url());
    call(&world, "backup").ends(0);
    let name = secret_name(&moto);
    let mut keys: Vec<_> = ROLES.iter().map(|role| (*role, moto.user(role, policy(role)))).collect();
    keys.push(("administrator", administrator(&moto)));
    moto.enforce();
    let key = move |role: &str| keys.iter().find(|(r, _)| *r == role).expect("a role").1.clone();
    (moto, world, name, key)
}

fn pair((id, secret): &(String, String)) -> (&str, &str) {
    (id, secret)
}

/// Of everything that can be done to yesterday's deposit, what this role is allowed.
fn allowed(moto: &Moto, key: &(String, String), name: &str) -> BTreeSet<String> {
    let said = moto.python(
        pair(key),
        &format!(
            "tries = dict(\n\
             see=lambda: refused(sm.describe_secret, SecretId='{name}'),\n\
             read=lambda: refused(sm.get_secret_value, SecretId='{name}'),\n\
             list=lambda: refused(sm.list_secrets),\n\
             create=lambda: refused(sm.create_secret, Name='strongroom/package-broker/new', SecretBinary=b'x', Tags=[{{'Key':'strongroom-record-1','Value':'x'}}]),\n\
             overwrite=lambda: refused(sm.put_secret_value, SecretId='{name}', SecretBinary=b'x'),\n\
             update=lambda: refused(sm.update_secret, SecretId='{name}', SecretBinary=b'x'),\n\
             untag=lambda: refused(sm.untag_resource, SecretId='{name}', TagKeys=['other']),\n\
             stage=lambda: refused(sm.update_secret_version_stage, SecretId='{name}', VersionStage='AWSCURRENT'),\n\
             policy=lambda: refused(sm.put_resource_policy, SecretId='{name}', ResourcePolicy='{{}}'),\n\
             delete=lambda: refused(sm.delete_secret, SecretId='{name}', RecoveryWindowInDays=30))\n\
             print(' '.join(what for what, is_refused in tries.items() if not is_refused()))"
        ),
    );
    said.split_whitespace().map(str::to_owned).collect()
}

fn set(words: &str) -> BTreeSet<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn each_role_may_do_its_part_and_nothing_else() {
    let (moto, _, name, key) = prepared();
    for (role, may) in [
        ("backup-host", "see create"),
        ("restore-operator", "see read list"),
        ("auditor", "see list"),
        ("rotation", "see read list create"),
    ] {
        assert_eq!(allowed(&moto, &key(role), &name), set(may), "{role}");
    }
}

#[test]
fn a_whole_backup_runs_as_backup_host_and_reads_no_key() {
    let (moto, old, _, key) = prepared();
    let backup_host = key("backup-host");
    call_as(&old, pair(&backup_host), "backup").ends(0).says("proved");
    // A key that is not there yet is stored too.
    let new = host(&moto.url());
    let run = |line: &str, code: i32| call_as(&new, pair(&backup_host), line).ends(code);
    run("backup", 0).says("proved");
    run("key status", 0).says("AWS Secrets Manager");
    run("key escrow", 0);
    run("config check", 0).says("AWS Secrets Manager");
    // Yesterday's key is not for it, and the answer says what is missing.
    run(&format!("key verify -i {IDENTITY}"), 3).says("secretsmanager:ListSecrets").says("policy print aws");
}

#[test]
fn a_repair_is_an_administrators() {
    let (moto, world, name, key) = prepared();
    let spoil = format!("sm.put_secret_value(SecretId='{name}', SecretBinary=b'planted')");
    moto.python(pair(&key("administrator")), &spoil);
    for role in ["backup-host", "rotation"] {
        let refused = call_as(&world, pair(&key(role)), "key escrow --repair").ends(3);
        refused.says("secretsmanager:UntagResource").says("AccessDenied");
    }
    call_as(&world, pair(&key("administrator")), "key escrow --repair").ends(0);
    call_as(&world, pair(&key("rotation")), &format!("key verify -i {IDENTITY}")).ends(0).says("AWS Secrets Manager");
}

#[test]
fn a_restore_operator_opens_the_copy() {
    let (_moto, world, _, key) = prepared();
    let operator = key("restore-operator");
    let run = |line: &str, code: i32| call_as(&world, pair(&operator), line).ends(code);
    run(&format!("key verify -i {IDENTITY}"), 0).says("AWS Secrets Manager");
    run(&format!("key fetch -i {IDENTITY} -o fetched"), 0);
}

#[test]
fn an_auditor_sees_where_every_key_is_and_opens_none() {
    let (_moto, world, _, key) = prepared();
    let auditor = key("auditor");
    call_as(&world, pair(&auditor), "key status").ends(0).says("AWS Secrets Manager");
    call_as(&world, pair(&auditor), "key needed --all").ends(0).says("AWS Secrets Manager");
    let refused = call_as(&world, pair(&auditor), &format!("key verify -i {IDENTITY}")).ends(3);
    refused.says("secretsmanager:GetSecretValue");
}

#[test]
fn an_old_bundle_comes_back_under_the_new_key_through_the_role_that_reads() {
    let (_moto, world, _, key) = prepared();
    world.configure("[rules]\nkey_in_bundle = false");
    let run = |role: &str, line: &str, code: i32| call_as(&world, pair(&key(role)), line).ends(code);
    let first = crate::world::text(&run("backup-host", "backup --json", 0).json()["bundle"]);
    world.script("set-key", "umask 077; { printf 'ENCRYPTION_KEY='; cat; echo; } >new.env && mv new.env app/.env");
    let path = world.path("strongroom.toml");
    let config = std::fs::read_to_string(&path).expect("a configuration");
    crate::app::secret_file(&path, &config.replace("[app]\n", "[app]\nset_key = [\"./set-key\"]\n"));
    run("backup-host", "key rotate --yes", 0);
    run("backup-host", "backup", 0).says("proved");
    let back = format!("restore {first} --only database --rekey --yes -i {IDENTITY}");
    run("backup-host", &back, 21).keeps_quiet_about(crate::app::KEY);
    run("restore-operator", &back, 0).says("put under key");
    run("restore-operator", "prove", 0);
    run("auditor", "key status", 0).says("AWS Secrets Manager");
    run("auditor", "key needed --all", 0).says(&first);
}

/// What a policy cannot be tried for here: resources and conditions.
#[test]
fn policies_name_their_secrets_and_let_tags_be_written_once() {
    let below = "arn:{{partition}}:secretsmanager:{{region}}:{{account}}:secret:{{prefix}}/*";
    for role in ROLES {
        let policy = policy(role);
        assert_eq!(policy["Version"], "2012-10-17");
        for statement in policy["Statement"].as_array().expect("statements") {
            assert_eq!(statement["Effect"], "Allow");
            let actions: Vec<_> =
                statement["Action"].as_array().expect("actions").iter().map(crate::world::text).collect();
            assert!(
                actions.iter().all(|a| a.starts_with("secretsmanager:") && !a.contains('*')),
                "{role}: {actions:?}"
            );
            // Only listing knows no resource (AWS Service Authorization Reference).
            let expected = if actions == ["secretsmanager:ListSecrets"] { "*" } else { below };
            assert_eq!(statement["Resource"], expected, "{role}: {actions:?}");
            if actions.contains(&"secretsmanager:TagResource".to_owned()) {
                let once = statement["Condition"]["StringEqualsIfExists"].as_object().expect("a condition");
                let keys: Vec<_> = statement["Condition"]["ForAllValues:StringEquals"]["aws:TagKeys"]
                    .as_array()
                    .expect("keys")
                    .iter()
                    .map(crate::world::text)
                    .collect();
                assert_eq!(keys.len(), 5);
                assert_eq!(once.len(), 5);
                for name in keys {
                    // A tag is not there yet, or is asked to become what it is.
                    assert_eq!(once[&format!("aws:ResourceTag/{name}")], format!("${{aws:RequestTag/{name}}}"));
                }
            }
        }
    }
}
