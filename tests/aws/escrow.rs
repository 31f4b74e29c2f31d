//! Deposits in Secrets Manager, from `backup` to `key fetch`, and what others do to them.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;

use crate::app::KEY;
use crate::server::Moto;
use crate::stage::{Counter, call, call_as, host, json, run, secret_name};
use crate::world::{IDENTITY, World, codes, text};

/// What a problem says.
fn problem(json: &serde_json::Value) -> String {
    json["problems"].to_string()
}

#[test]
fn a_backup_escrows_the_key_and_a_known_key_costs_one_call() {
    let moto = Moto::start();
    let counter = Counter::before(&moto);
    let world = host(&counter.url);
    assert_eq!(json(&world, "backup", 0)["escrows"].as_array().map(Vec::len), Some(1));
    assert_eq!(counter.operations(), ["DescribeSecret", "DescribeSecret", "CreateSecret"]);
    assert_eq!(json(&world, "backup", 0)["escrows"].as_array().map(Vec::len), Some(1));
    assert_eq!(counter.operations(), ["DescribeSecret"]);

    let status = json(&world, "key status", 0);
    assert!(text(&status[0]["escrows"][0]).contains("AWS Secrets Manager in eu-west-1"), "{status}");
    run(&world, "key escrow", 0).says("held by AWS Secrets Manager");
    let verified = json(&world, &format!("key verify -i {IDENTITY}"), 0);
    assert_eq!(verified["copies"].as_array().map(Vec::len), Some(2), "{verified}");
    run(&world, &format!("key fetch -i {IDENTITY} -o fetched"), 0).keeps_quiet_about(KEY);
    assert_eq!(std::fs::read(world.path("fetched")).expect("read"), KEY.as_bytes());
    run(&world, "config check", 0).says("AWS Secrets Manager in eu-west-1");
    run(&world, "key history", 0).says("AWS Secrets Manager");
}

#[test]
fn a_deposit_opens_with_programs_of_others() {
    let moto = Moto::start();
    let world = host(&moto.url());
    run(&world, "backup", 0);
    let name = secret_name(&moto);
    let sealed = moto
        .admin(&format!("print(base64.b64encode(sm.get_secret_value(SecretId='{name}')['SecretBinary']).decode())"));
    let tags = moto.admin(&format!("t={{t['Key']:t['Value'] for t in sm.describe_secret(SecretId='{name}')['Tags']}}\nprint(base64.b64decode(''.join(t[f'strongroom-record-{{n}}'] for n in (1,2))).decode())\nopen('{}','wb').write(base64.b64decode(''.join(t[f'strongroom-signature-{{n}}'] for n in (1,2,3))))", world.path("record.minisig").display()));
    std::fs::write(world.path("record"), &tags).expect("written");
    let script = format!(
        "age -d -i {IDENTITY} archive/custody/*/identity.age >sealing.txt && echo '{sealed}' | base64 -d >sealed.age \
         && [ $(sha256sum <sealed.age | cut -c 1-64) = $(jq -r .sha256 record) ] \
         && minisign -q -V -p strongroom-signing.pub -m record && age -d -i sealing.txt sealed.age | jq -r .key_b64 | base64 -d"
    );
    let out = std::process::Command::new("sh").arg("-c").arg(&script).current_dir(world.path("")).output().expect("sh");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.stdout, KEY.as_bytes());
}

/// A deposit to which something was done: noticed by the next backup, which goes on, and repaired when asked.
fn noticed_and_repaired(what: &str, says: &str) {
    let moto = Moto::start();
    let world = host(&moto.url());
    run(&world, "backup", 0);
    let name = secret_name(&moto);
    moto.admin(&format!("name = '{name}'\n{what}"));
    let found = json(&world, "backup", 3);
    assert_eq!(found["verdict"], "proved");
    assert!(problem(&found).contains(says), "{found}");
    assert!(problem(&json(&world, "key escrow", 3)).contains(says));
    run(&world, "key status", 3).says(says);
    // The bundle still has the key.
    run(&world, &format!("key fetch -i {IDENTITY} -o fetched"), 0);
    assert_eq!(codes(&json(&world, "key escrow --repair", 0)), Vec::<String>::new());
    let verified = json(&world, &format!("key verify -i {IDENTITY}"), 0);
    assert_eq!(verified["copies"].as_array().map(Vec::len), Some(2), "{verified}");
}

#[test]
fn replaced_bytes_show_without_the_right_to_read_them() {
    noticed_and_repaired("sm.put_secret_value(SecretId=name, SecretBinary=b'planted')", "other sealed bytes");
}

#[test]
fn a_record_that_was_taken_off_is_no_record() {
    noticed_and_repaired(
        "sm.untag_resource(SecretId=name, TagKeys=['strongroom-signature-3'])",
        "has no signed record in its tags",
    );
}

#[test]
fn a_record_that_was_changed_is_not_believed() {
    noticed_and_repaired(
        "old = next(t['Value'] for t in sm.describe_secret(SecretId=name)['Tags'] if t['Key']=='strongroom-record-1')\n\
         new = base64.b64encode(base64.b64decode(old).replace(b'package-broker', b'package-broken')).decode()\n\
         sm.tag_resource(SecretId=name, Tags=[{'Key':'strongroom-record-1','Value':new}])",
        "is about another key than the one it stands for",
    );
}

#[test]
fn a_name_that_somebody_took_before_us_is_not_adopted() {
    let moto = Moto::start();
    let world = host(&moto.url());
    run(&world, "backup", 0);
    let name = secret_name(&moto);
    moto.admin(&format!(
        "sm.delete_secret(SecretId='{name}', ForceDeleteWithoutRecovery=True)\nsm.create_secret(Name='{name}', SecretString='mine now')"
    ));
    let found = json(&world, "backup", 3);
    assert!(problem(&found).contains("has no signed record in its tags"), "{found}");
    let kept = moto.admin(&format!("print(sm.get_secret_value(SecretId='{name}')['SecretString'])"));
    assert_eq!(kept, "mine now");
    run(&world, "key escrow --repair", 0);
    run(&world, &format!("key verify -i {IDENTITY}"), 0).says("AWS Secrets Manager");
}

#[test]
fn a_secret_scheduled_for_deletion_comes_with_the_command_that_restores_it() {
    let moto = Moto::start();
    let world = host(&moto.url());
    run(&world, "backup", 0);
    let name = secret_name(&moto);
    moto.admin(&format!("sm.delete_secret(SecretId='{name}', RecoveryWindowInDays=7)"));
    let hint = format!("aws secretsmanager restore-secret --secret-id {name} --region eu-west-1");
    for line in ["backup", "key escrow", "key escrow --repair"] {
        let found = problem(&json(&world, line, 3));
        assert!(found.contains("scheduled for deletion") && found.contains(&hint), "{line}: {found}");
    }
    // A copy that can be brought back is worth being told of.
    let verified = problem(&json(&world, &format!("key verify -i {IDENTITY}"), 3));
    assert!(verified.contains(&hint), "{verified}");
    moto.admin(&format!("sm.restore_secret(SecretId='{name}')"));
    run(&world, "backup", 0);
    run(&world, &format!("key verify -i {IDENTITY}"), 0);
}

#[test]
fn a_bundle_is_made_when_aws_is_dead_and_the_next_run_makes_the_deposit() {
    let moto = Moto::start();
    let world = host(&moto.url());
    let path = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).expect("read");
    // A port that nobody listens on.
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    crate::app::secret_file(&path, &text.replace(&moto.url(), &format!("http://127.0.0.1:{nobody}")));
    let found = json(&world, "backup", 3);
    assert_eq!(found["verdict"], "proved");
    assert_eq!(codes(&found), ["escrow-missed", "escrow-too-few"]);
    assert!(problem(&found).contains("does not answer"), "{found}");
    crate::app::secret_file(&path, &text);
    assert_eq!(json(&world, "backup", 0)["escrows"].as_array().map(Vec::len), Some(1));
}

#[test]
fn of_two_escrows_one_that_is_dead_is_named_and_caught_up_with() {
    let moto = Moto::start();
    let world = host("http://127.0.0.1:9");
    world.configure("[[escrow]]\nkind = \"archive\"");
    let found = json(&world, "backup", 3);
    assert_eq!(codes(&found), ["escrow-missed"]);
    assert_eq!(found["escrows"].as_array().map(Vec::len), Some(1));
    let path = world.path("strongroom.toml");
    let text =
        std::fs::read_to_string(&path).expect("read").replace("http://127.0.0.1:9\"", &format!("{}\"", moto.url()));
    crate::app::secret_file(&path, &text);
    assert_eq!(json(&world, "backup", 0)["escrows"].as_array().map(Vec::len), Some(2));
}

/// The number of a place in a traced run.
fn number(trace: &std::path::Path, place: &str) -> String {
    let names = std::fs::read_to_string(trace).expect("a trace: is the program built with the feature failpoints?");
    let found = names.lines().find_map(|line| line.strip_suffix(place));
    found.unwrap_or_else(|| panic!("no {place:?} in {names}")).trim().to_owned()
}

/// Kills a run at a place.
fn kill_at(world: &World, line: &str, number: &str) {
    let out = call(world, line).env("STRONGROOM_KILL_AT", number).command().output().expect("started");
    assert_eq!(out.status.signal(), Some(9), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn a_deposit_that_was_killed_is_whole_or_not_there() {
    for (place, secrets) in [("before a secret is created", "0"), ("after a secret is created", "1")] {
        let (moto, tracing) = (Moto::start(), Moto::start());
        let world = host(&tracing.url());
        let traced = world.path("strongroom.toml");
        let text = std::fs::read_to_string(&traced).expect("read");
        let trace = world.path("trace");
        call(&world.copy(), "key escrow").env("STRONGROOM_KILL_TRACE", &trace).ends(0);
        crate::app::secret_file(&traced, &text.replace(&tracing.url(), &moto.url()));
        kill_at(&world, "key escrow", &number(&trace, place));
        assert_eq!(moto.admin("print(len(sm.list_secrets()['SecretList']))"), secrets);
        run(&world, "backup", 0);
        run(&world, &format!("key verify -i {IDENTITY}"), 0).says("AWS Secrets Manager");
    }
}

#[test]
fn verbs_that_need_no_escrow_ask_nobody() {
    let moto = Moto::start();
    let counter = Counter::before(&moto);
    let world = host(&counter.url);
    run(&world, "backup", 0);
    counter.operations();
    for line in ["list", "check", "--version", "key history"] {
        call_as(&world, ("", ""), line).ends(0);
    }
    assert_eq!(counter.operations(), Vec::<String>::new());
}
