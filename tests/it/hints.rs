//! What errors say to do next, and what is no longer taken in silence.

use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;

use crate::app::{KEY, WRONG, secret_file};
use crate::world::{Call, IDENTITY, PROGRAM, World, text};

#[test]
fn what_is_no_identity_is_named_for_what_it_is() {
    let (world, _) = World::backed_up();
    std::fs::copy(world.path("strongroom-signing.pub"), world.path("k.pub")).expect("copied");
    let vectors = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/custody");
    std::fs::copy(vectors.join("ed25519.pub"), world.path("ssh.pub")).expect("copied");
    assert!(std::process::Command::new("mkfifo").arg(world.path("pipe")).status().expect("mkfifo").success());
    for (file, code, says) in [
        ("safe/recovery-card.txt", 2, "is a recovery card"),
        ("k.pub", 2, "it signs, and opens nothing"),
        ("ssh.pub", 2, "the file without .pub"),
        ("pipe", 15, "not a regular file"),
        ("nowhere", 10, "hint: Name the file that opens the archive"),
    ] {
        let ran = world.run(&format!("verify -i {file}"), code);
        ran.says(says).keeps_quiet_about("chmod").keeps_quiet_about("keeps no modes");
    }
    std::fs::set_permissions(world.path(IDENTITY), std::fs::Permissions::from_mode(0o644)).expect("set");
    world.run(&format!("verify -i {IDENTITY}"), 15).says("chmod 600");
}

#[test]
fn a_file_in_the_place_of_another_is_named_for_what_it_is() {
    let (world, _) = World::backed_up();
    for (file, says) in [
        (IDENTITY, "is an age identity, and no recovery card"),
        ("strongroom-signing.pub", "is a minisign public key, and no recovery card"),
        ("strongroom.toml", "is a strongroom configuration, and no recovery card"),
    ] {
        world.run(&format!("list --card {file}"), 2).says(says).keeps_quiet_about("has no line");
    }
    world.run("verify -i strongroom.toml", 2).says("is a strongroom configuration, and no identity");
    // A public half may be read by everybody, and `chmod` does not make it a secret one.
    for (file, says) in [
        (IDENTITY, "is an age identity, and no minisign secret key"),
        ("strongroom-signing.pub", "is a minisign public key, and no minisign secret key"),
        ("safe/recovery-card.txt", "is a recovery card, and no minisign secret key"),
    ] {
        let ran = world.call("backup").env("STRONGROOM_SIGNING_KEY", file).ends(2);
        ran.says(says).says("not its .pub").keeps_quiet_about("chmod");
    }
}

#[test]
fn a_profile_may_have_any_name_and_its_faults_have_a_line() {
    let world = World::ready();
    let line = "prove sqlite:app/database.sqlite --key dotenv:app/.env#ENCRYPTION_KEY";
    let profile = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/apps/package-broker.toml");
    let profile = std::fs::read_to_string(profile).expect("read");
    for name in ["mine.conf", "./mine", "mine.toml"] {
        secret_file(&world.path(name), &profile);
        world.run(&format!("{line} --app {name}"), 0);
    }
    // A bare name is an application's, whatever lies in the current folder.
    world.run(&format!("{line} --app mine"), 2).says("--app ./mine");
    world.run(&format!("{line} --app ./gone"), 10);
    world.run(&format!("{line} --app strongroom.toml"), 2).says("is a strongroom configuration, and no profile");
    let at = profile.lines().position(|line| line.starts_with("key_variable")).expect("the field") + 1;
    secret_file(&world.path("mine.toml"), &profile.replace("key_variable", "key_varable"));
    let ran = world.run(&format!("{line} --app mine.toml"), 2);
    ran.says(&format!("mine.toml line {at}: unknown field")).says("Did you mean `key_variable`?");
}

#[test]
fn more_copies_in_escrow_than_escrows_are_a_fault_of_the_configuration() {
    let world = World::ready();
    world.configure("[rules]\nescrow_min_copies = 2");
    world.run("config check", 2).says("escrow_min_copies asks for 2 copies of the key in escrow, and 1 [[escrow]] is");
    // A backup is made all the same.
    world.run("backup", 3).says("1 escrow holds the key").says("It can never be met");
}

#[test]
fn a_reference_to_a_person_is_told_in_words() {
    let world = World::new();
    // Without a terminal, wherever the test runs.
    let line = format!("--wait {PROGRAM} prove sqlite:app/database.sqlite --key prompt:");
    let ran = Call::new("/usr/bin/setsid", &world.path(""), &line).ends(2);
    ran.says("from the prompt: ").keeps_quiet_about("prompt::");
}

#[test]
fn a_misspelt_variable_is_an_error_that_names_the_nearest() {
    let world = World::ready();
    world.call("list").env("STRONGROOM_ARCHIV_URL", "file:x").ends(2).says("STRONGROOM_ARCHIVE_URL");
    world.call("list").env("STRONGROOM_IDENTTY", "x").ends(2).says("Did you mean STRONGROOM_IDENTITY?");
    // A secret may stand in a variable of any name.
    world.call("prove sqlite:app/database.sqlite --key env:STRONGROOM_MY_KEY").env("STRONGROOM_MY_KEY", KEY).ends(0);
    world.call("list").env("STRONGROOM_MY_KEY", KEY).ends(2);
    let config = std::fs::read_to_string(world.path("strongroom.toml")).expect("read");
    secret_file(
        &world.path("strongroom.toml"),
        &config.replace("dotenv:app/.env#ENCRYPTION_KEY", "env:STRONGROOM_MY_KEY"),
    );
    world.call("backup").env("STRONGROOM_MY_KEY", KEY).ends(0);
}

#[test]
fn a_result_that_cannot_be_written_out_is_no_success() {
    let (world, _) = World::backed_up();
    for line in ["list", "list --json", "show", "completions bash"] {
        let call = Call::new("/bin/sh", &world.path(""), "-c").arg(format!("exec {PROGRAM} {line} >/dev/full"));
        call.ends(1).says("cannot write the result to standard output");
    }
}

#[test]
fn nothing_is_sampled_from_nothing() {
    let world = World::ready();
    world.run("prove --sample 0", 2).says("at least 1");
    world.call("guard --sample 0 -- /bin/true").ends(2);
}

#[test]
fn a_missing_identity_is_told_in_json_too() {
    let (world, _) = World::backed_up();
    let json = world.json("verify", 2);
    assert_eq!(json["error"]["code"], "usage");
    assert!(text(&json["error"]["message"]).contains("--identity"), "{json}");
    assert!(text(&json["hints"][0]).contains("STRONGROOM_IDENTITY"), "{json}");
    world.run("verify", 2).says("Usage:").says("STRONGROOM_IDENTITY");
    world.run("--help", 0).says("Exit codes");
}

#[test]
fn a_value_of_the_wrong_form_in_the_configuration_says_which_form_is_right() {
    let world = World::ready();
    let path = world.path("strongroom.toml");
    let config = std::fs::read_to_string(&path).expect("read");
    for (to, says) in [("url = file:archive", "Text stands in quotes: url"), ("url = 3", "Text stands in quotes")] {
        secret_file(&path, &config.replace("url = \"file:archive\"", to));
        world.run("list", 2).says(says);
    }
}

#[test]
fn an_archive_that_is_elsewhere_can_be_named() {
    let world = World::ready();
    std::fs::rename(world.path("archive"), world.path("moved")).expect("moved");
    world.run("list", 10).says("--archive URL").says("[archive] url");
    for verb in ["backup", "config check", "key escrow", "key rotate --yes", "key retire abc", "key destroy abc --yes"]
    {
        let ran = world.call(verb).run();
        assert_eq!(ran.code, Some(10), "{verb}: {}", ran.stderr);
        ran.says("[archive] url").keeps_quiet_about("--archive");
    }
    // What is said of one that is gone leads on, and not back.
    let gone = world.run("backup", 10);
    gone.says("move strongroom.toml and recovery-identity.txt away").says("`strongroom init`");
    std::fs::rename(world.path("strongroom.toml"), world.path("old.toml")).expect("moved away");
    world.run(crate::world::INIT, 0);
    world.run("backup", 0);
}

#[test]
fn a_check_that_tried_a_sample_says_so() {
    let world = World::ready();
    world.run("config check", 0).says("all 4 credentials").keeps_quiet_about("sample");
    world.app.execute(
        "WITH RECURSIVE n (i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 399)
         INSERT INTO repositories SELECT 'repo-' || i, url, vcs_type, credential_type, auth_credentials, composer_json_path,
         package_filter, status, error_message, last_synced_at, created_at FROM n, repositories WHERE id = 'repo-1'",
    );
    let said = world.run("config check", 0);
    said.says(" of 305 values; `strongroom prove` tries all)").keeps_quiet_about("all 304");
    world.run("prove", 0).says("all 304 credentials");
}

#[test]
fn a_quiet_run_says_why_it_does_not_end_well() {
    let (world, id) = World::backed_up();
    let line = |line: &str, code: i32| {
        let ran = world.run(line, code);
        assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 1), "{}{}", ran.stdout, ran.stderr);
        ran
    };
    assert_eq!(world.run("backup -q", 0).stderr, "");
    std::fs::rename(world.path("app/.env"), world.path("away")).expect("moved");
    line("backup -q", 3).says("bundle 2").says("cannot read the application key from dotenv:");
    line("config check -q", 10).says("cannot read the application key");
    line(&format!("verify {id} -q -i {IDENTITY} --key dotenv:app/.env#ENCRYPTION_KEY"), 10).says("cannot read");
    // The bundle's own key proves it; that the application's was not read is said all the same.
    let restore = format!("--yes --accept-unproved --only database -i {IDENTITY}");
    assert_eq!(crate::world::codes(&world.json(&format!("restore {id} {restore}"), 0)), ["no-key"]);
    // The newest bundle was made without a key.
    std::fs::rename(world.path("archive/keys"), world.path("keys")).expect("moved");
    let restored = line(&format!("restore -q {restore}"), 3);
    restored.says("restored; no key").says("cannot read the application key");
    std::fs::rename(world.path("keys"), world.path("archive/keys")).expect("moved back");
    std::fs::rename(world.path("away"), world.path("app/.env")).expect("moved back");
    world.app.set_key(WRONG);
    world.configure("[[escrow]]\nkind = \"file\"\npath = \"/proc/nowhere\"");
    line("backup -q", 3).says("wrong key: none of the 4").says("; ").says("/proc/nowhere");
}

#[test]
fn a_check_of_nothing_says_so_and_one_fault_is_told_once() {
    let world = World::ready();
    world.run("check --all", 0).says("has no bundle of package-broker yet");
    for _ in 0..3 {
        world.backup(0);
    }
    let part = world.files("archive/parts").into_iter().find(|name| name.ends_with(".tar.age")).expect("a part");
    crate::world::flip(&world.path("archive/parts").join(part));
    let ran = world.run("check --all", 13);
    assert_eq!(ran.stderr.matches("warning:").count(), 1, "{}", ran.stderr);
    assert_eq!(ran.stdout.matches("does not have the SHA-256").count(), 3, "each bundle is listed: {}", ran.stdout);
}

#[test]
fn show_prints_the_installation_that_a_fingerprint_needs() {
    let (world, _) = World::backed_up();
    let installation = text(&world.json("show", 0)["installation"]);
    world.run("show", 0).says(&format!("installation  {installation}"));
    let ran = world.call(&format!("key fingerprint dotenv:.env#ENCRYPTION_KEY --installation {installation}"));
    let print = ran.cwd(world.path("app")).ends(0);
    assert_eq!(print.stdout.trim(), text(&world.json("show", 0)["keys"][0]));
}

#[test]
fn a_restore_with_a_newer_key_says_how_to_get_the_older_one() {
    let (world, first) = World::backed_up();
    crate::keyring::with_set_key(&world);
    world.run("key rotate --yes", 0);
    let ran = world.run(&format!("restore {first} --yes -i {IDENTITY}"), 12);
    let key = text(&world.json(&format!("show {first}"), 0)["keys"][0]);
    let hint = format!("strongroom key fetch {} -i FILE -o KEYFILE", &key[..12]);
    ran.says(&hint);
    world.run(&format!("key fetch {} -i {IDENTITY} -o old.key", &key[..12]), 0);
    world.run(&format!("restore {first} --yes -i {IDENTITY} --key file:old.key"), 0);
    world.run(&format!("key doctor -i {IDENTITY}"), 12).says(&hint);
    let restored = world.run(&format!("restore {first} -i {IDENTITY} --target whole"), 0);
    restored.says(&hint);
}

#[test]
fn a_rotation_that_did_not_end_is_told_until_it_ends() {
    let (world, _) = World::backed_up();
    // No hook puts the new key into the application, so a person has to.
    world.run("key rotate --yes", 3);
    let pending = "strongroom key rotate --resume";
    let json = world.json("backup", 3);
    assert!(crate::world::codes(&json).contains(&"rotation-pending".to_owned()), "{json}");
    for (line, code) in [("key status", 3), ("config check", 12), ("guard -- /bin/true", 12), ("backup", 3)] {
        world.run(line, code).says("rotation.json").says(pending).says("strongroom key rotate --abort");
    }
    world.run(&format!("key doctor -i {IDENTITY}"), 12).says(pending).says("strongroom key rotate --abort");
    let new = std::fs::read(world.path("strongroom-state/rotation.json")).expect("read");
    let record: serde_json::Value = serde_json::from_slice(&new).expect("JSON");
    let key = base64::prelude::BASE64_STANDARD.decode(text(&record["key_b64"])).expect("base64");
    world.app.set_key(std::str::from_utf8(&key).expect("text"));
    world.run("key rotate --resume", 0).keeps_quiet_about("did not end");
    assert_eq!(crate::world::codes(&world.json("backup", 0)), Vec::<String>::new());
}

#[test]
fn a_missing_or_wrong_key_is_not_blamed_on_cron() {
    let world = World::new();
    world.app.set_key(WRONG);
    let ran = world.run(crate::world::INIT, 3);
    ran.says("wrong key").keeps_quiet_about("cron would give").keeps_quiet_about("/usr/bin/env");
    let world = World::new();
    let line = crate::world::INIT.replace("dotenv:app/.env#ENCRYPTION_KEY", "file:app/no.key");
    world.run(&line, 3).says("no.key").keeps_quiet_about("cron would give");
}
