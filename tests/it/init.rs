//! `init`: what it writes, for whom, and what it refuses.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use age::secrecy::ExposeSecret as _;

use crate::app::{KEY, secret_file};
use crate::world::{Call, IDENTITY, INIT, PROGRAM, World, codes, text};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions().mode() & 0o7777
}

/// A new age identity in a file of the world; its recipient.
pub(crate) fn identity(world: &World, name: &str) -> String {
    let identity = age::x25519::Identity::generate();
    secret_file(&world.path(name), &format!("{}\n", identity.to_string().expose_secret()));
    identity.to_public().to_string()
}

#[test]
fn with_no_custodian_a_recovery_identity_is_made_and_must_leave() {
    let world = World::new();
    let json = world.json(INIT, 0);
    assert_eq!(codes(&json), ["recovery-identity-here"]);
    for secret in ["recovery-identity.txt", "strongroom-signing.key", "strongroom.toml"] {
        assert_eq!(mode(&world.path(secret)), 0o600, "{secret}");
    }
    assert_eq!(mode(&world.path("archive")), 0o700);
    assert!(world.path("strongroom-signing.pub").exists());
    let card = std::fs::read_to_string(world.path("recovery-card.txt")).expect("a card");
    assert!(card.contains(&text(&json["archive"])) && card.contains(&text(&json["sealing"])));
    assert!(!card.contains("AGE-SECRET-KEY"));
    let config = std::fs::read_to_string(world.path("strongroom.toml")).expect("a configuration");
    assert!(!config.contains("AGE-SECRET-KEY") && !config.contains(KEY));
    let reminded = world.json("backup", 0);
    assert_eq!(codes(&reminded), ["recovery-identity-here"], "every backup says so again");
}

#[test]
fn a_recovery_identity_is_in_no_file_but_its_own() {
    let world = World::new();
    world.run(INIT, 0);
    let identity = std::fs::read_to_string(world.path("recovery-identity.txt")).expect("read");
    let secret = identity.lines().find(|l| l.starts_with("AGE-SECRET-KEY-1")).expect("an identity").to_owned();
    world.run("backup", 0);
    for file in world.files("").iter().filter(|f| *f != "recovery-identity.txt") {
        let bytes = std::fs::read(world.path(file)).expect("read");
        assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{file} holds the identity");
    }
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    for umask in ["000", "077", "277"] {
        let world = World::new();
        let mut call = Call::new("/bin/sh", &world.path(""), "-c").arg(format!("umask {umask}; exec \"$@\"")).arg("sh");
        call = call.arg(PROGRAM);
        for word in INIT.split_whitespace() {
            call = call.arg(word);
        }
        call.ends(0);
        assert_eq!(mode(&world.path("recovery-identity.txt")), 0o600, "{umask}");
        assert_eq!(mode(&world.path("strongroom-signing.key")), 0o600, "{umask}");
        assert_eq!(mode(&world.path("archive")), 0o700, "{umask}");
        assert_eq!(mode(&world.path("archive/strongroom.json")), 0o600, "{umask}");
    }
}

#[test]
fn each_of_several_custodians_opens_every_bundle_alone() {
    let world = World::new();
    let (anna, ben) = (identity(&world, "anna.txt"), identity(&world, "ben.txt"));
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/custody");
    let ssh = std::fs::read_to_string(vectors.join("ed25519.pub")).expect("read");
    secret_file(&world.path("ssh"), &std::fs::read_to_string(vectors.join("ed25519")).expect("read"));
    let json = world
        .call(&format!("{INIT} --json --custodian anna={anna} --custodian ben={ben}"))
        .arg("--custodian")
        .arg(format!("ssh={}", ssh.trim()))
        .ends(0)
        .json();
    assert_eq!(codes(&json), Vec::<String>::new());
    assert!(!world.path("recovery-identity.txt").exists());
    world.backup(0);
    for name in ["anna.txt", "ben.txt", "ssh"] {
        assert_eq!(world.json(&format!("verify -i {name}"), 0)["verdict"], "proved", "{name}");
    }
    identity(&world, "eve.txt");
    world.run("verify -i eve.txt", 16).says("eve.txt");
    let listed = world.json("custody list", 0);
    assert_eq!(listed[0]["labels"].as_array().map(Vec::len), Some(3), "{listed}");
}

#[test]
fn a_sealing_key_that_was_made_elsewhere_never_meets_this_host() {
    let world = World::new();
    let recipient = identity(&world, "safe/sealing.txt");
    let json = world.json(&format!("{INIT} --recipient {recipient}"), 0);
    assert_eq!(json["recovery_identity"], serde_json::Value::Null);
    assert!(!world.path("archive/custody").exists());
    world.backup(0);
    world.run("verify --deep -i safe/sealing.txt", 0);
    identity(&world, "eve.txt");
    world.run("verify -i eve.txt", 16);
}

#[test]
fn a_second_init_overwrites_nothing() {
    let (world, _) = World::backed_up();
    let before = world.state_of("");
    world.run(INIT, 15).says("exists already");
    assert_eq!(world.state_of(""), before);
}

#[test]
fn a_recovery_identity_that_stands_there_is_not_overwritten() {
    let world = World::new();
    secret_file(&world.path("recovery-identity.txt"), "precious\n");
    world.run(INIT, 15);
    assert_eq!(std::fs::read_to_string(world.path("recovery-identity.txt")).expect("read"), "precious\n");
    assert!(!world.path("strongroom.toml").exists());
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_written() {
    let world = World::new();
    let before = world.files("");
    let recipient = identity(&world, "home/eve.txt");
    for (bad, code) in [
        ("--recipient age1nonsense".to_owned(), 2),
        ("--recipient AGE-SECRET-KEY-1QQQQ".to_owned(), 2),
        ("--custodian anna".to_owned(), 2),
        ("--custodian anna=age1nonsense".to_owned(), 2),
        (format!("--custodian Anna={recipient}"), 2),
        (format!("--custodian a={recipient} --custodian a={recipient}"), 2),
        (format!("--custodian a={recipient} --recipient {recipient}"), 2),
        ("--app nobody-knows-it".to_owned(), 2),
    ] {
        let ran = world.call(&format!("{INIT} {bad}")).run();
        assert_eq!(ran.code, Some(code), "{bad}: {}", ran.stderr);
    }
    for (from, to, code) in [
        ("sqlite:app/database.sqlite", "sqlite:app/gone.sqlite", 10),
        ("sqlite:app/database.sqlite", "mysql:x", 2),
        ("file:app/storage", "file:app/gone", 10),
        ("dotenv:app/.env#ENCRYPTION_KEY", "nonsense:x", 2),
    ] {
        world.run(&INIT.replace(from, to), code);
    }
    std::fs::remove_file(world.path("home/eve.txt")).expect("removed");
    assert_eq!(world.files(""), before);
}

#[test]
fn without_a_terminal_what_is_missing_is_a_usage_error() {
    let world = World::new();
    world.run("init --database sqlite:app/database.sqlite", 2).says("--archive");
    world.run("init --archive file:archive", 2).says("--database");
    assert!(!world.path("archive").exists());
}

#[test]
fn paths_are_relative_to_the_configuration_and_it_works_from_anywhere() {
    let world = World::new();
    world.run(
        &format!("{INIT} --config app/strongroom.toml")
            .replace("app/database", "database")
            .replace("file:app/storage", "file:storage")
            .replace("dotenv:app/.env", "dotenv:.env")
            .replace("file:archive", "file:../archive"),
        0,
    );
    assert!(world.path("app/recovery-identity.txt").exists());
    assert!(world.path("archive/strongroom.json").exists());
    let config = world.path("app/strongroom.toml");
    world.call("backup").cwd("/").arg("--config").arg(&config).ends(0);
    world.call("list").cwd("/").env("STRONGROOM_CONFIG", &config).ends(0).says("proved");
    let card = std::fs::read_to_string(world.path("app/recovery-card.txt")).expect("a card");
    let url = card.lines().find_map(|l| l.strip_prefix("archive-url:")).expect("a url");
    assert!(url.trim().starts_with("file:/"), "{url}");
}

#[test]
fn a_configuration_goes_into_a_folder_that_is_not_there_yet() {
    let world = World::new();
    let line = format!("{INIT} --config new/deep/strongroom.toml").replace(":app/", ":../../app/");
    world.run(&line.replace("database.sqlite", "none.sqlite"), 10).says("none.sqlite");
    assert!(!world.path("new").exists(), "the folders of a run that failed are gone");
    world.run(&line, 0);
    let config = world.path("new/deep/strongroom.toml");
    assert!(config.exists() && world.path("new/deep/archive/strongroom.json").exists());
    world.call("backup").arg("--config").arg(&config).ends(0);
}

#[test]
fn a_key_that_cron_would_not_have_is_found_by_the_rehearsal() {
    let world = World::new();
    let line = INIT.replace("dotenv:app/.env#ENCRYPTION_KEY", "env:ENCRYPTION_KEY");
    let ran = world.call(&format!("{line} --json")).env("ENCRYPTION_KEY", KEY).ends(3);
    assert!(codes(&ran.json()).contains(&"rehearsal".to_owned()));
    world.call("backup").env("ENCRYPTION_KEY", KEY).ends(0);
}

#[test]
fn init_takes_a_wrong_key_and_says_so() {
    let world = World::new();
    world.app.set_key(crate::app::WRONG);
    let json = world.json(INIT, 3);
    assert!(json["problems"].to_string().contains("wrong key"), "{json}");
}

#[test]
fn a_second_host_of_the_same_application_is_told_about_the_ledgers_signer() {
    let world = World::ready();
    let other = World::new();
    let line = INIT.replace("file:archive", &format!("file:{}", world.path("archive").display()));
    other.run(&line, 14).says("trusted");
    assert!(!other.path("strongroom.toml").exists());
    world.run("check --all", 0);
    world.backup(0);
}

#[test]
fn an_identity_in_the_environment_is_used() {
    let (world, _) = World::backed_up();
    world.call("verify").env("STRONGROOM_IDENTITY", world.path(IDENTITY)).ends(0);
}

#[test]
fn a_failed_init_leaves_nothing_that_it_made_and_can_be_run_again() {
    let world = World::ready();
    let other = World::new();
    let before = other.files("");
    let archive = world.state_of("archive");
    let line = INIT.replace("file:archive", &format!("file:{}", world.path("archive").display()));
    other.run(&line, 14).says("--signer RW");
    assert_eq!(other.files(""), before);
    assert_eq!(world.state_of("archive"), archive, "what stood before is as it was");

    // The card cannot be written where a folder stands: by then everything else is made.
    std::fs::create_dir(other.path("recovery-card.txt")).expect("made");
    let ran = other.run(INIT, 1);
    ran.says("recovery-card.txt").says("removed again").keeps_quiet_about("strongroom-tmp");
    assert!(!other.path("recovery-identity.txt").exists() && !other.path("strongroom.toml").exists());
    assert_eq!(other.files("archive/custody"), Vec::<String>::new());
    // The ledger has an entry by then and is never cut, so its signer stays.
    assert!(other.path("strongroom-signing.key").exists() && other.path("archive/strongroom.json").exists());
    std::fs::remove_dir(other.path("recovery-card.txt")).expect("removed");
    other.run(INIT, 0);
    other.json("backup", 0);
    other.run("check --all", 0);
}

#[test]
fn an_init_that_fails_before_the_ledger_leaves_no_archive() {
    let world = World::new();
    // Nothing can be written beside the configuration: a folder stands where the signing key's public half goes.
    std::fs::create_dir(world.path("strongroom-signing.pub")).expect("made");
    let before = world.files("");
    world.run(INIT, 15).says("removed again");
    assert_eq!(world.files(""), before);
    assert!(!world.path("archive").exists() && !world.path("recovery-identity.txt").exists());
    std::fs::remove_dir(world.path("strongroom-signing.pub")).expect("removed");
    world.run(INIT, 0);
}

#[test]
fn a_rebuilt_host_goes_on_after_the_one_before() {
    let (old, first) = World::backed_up();
    let card = std::fs::read_to_string(old.path("safe/recovery-card.txt")).expect("a card");
    let signer = card.lines().find_map(|line| line.strip_prefix("signer:")).expect("a signer").trim().to_owned();
    let fingerprint = text(&old.json("list", 0)[0]["fingerprint"]);
    let new = World::new();
    let line = INIT.replace("file:archive", &format!("file:{}", old.path("archive").display()));
    let json = new.json(&format!("{line} --signer {signer}"), 0);
    assert_eq!(json["bundles"], 1);
    let backup = new.json("backup", 3);
    assert!(codes(&backup).contains(&"state-lost".to_owned()), "its own memory begins anew: {backup}");
    assert_eq!(backup["fingerprint"], fingerprint.as_str(), "the same key keeps its name");
    new.json("backup", 0);
    assert_eq!(new.json("list", 0).as_array().map(Vec::len), Some(3));
    new.run("check --all", 0);
    let old_identity = old.path(IDENTITY);
    new.call(&format!("verify {first} --deep")).arg("-i").arg(&old_identity).ends(0);
    new.run("verify -i recovery-identity.txt", 0);
    let card = std::fs::read_to_string(new.path("recovery-card.txt")).expect("a card");
    assert_eq!(card.matches("signer:").count(), 2, "the new card believes both");
}

#[test]
fn an_application_of_ones_own_is_described_in_a_file_and_stays_known() {
    let world = World::new();
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/apps/package-broker.toml");
    let described = std::fs::read_to_string(embedded).expect("read").replace("\"package-broker\"", "\"notes\"");
    let scheme = described.replace("scheme = \"notes\"", "scheme = \"package-broker\"");
    std::fs::write(world.path("notes.toml"), scheme).expect("written");
    world.run(&format!("{INIT} --app notes.toml"), 0);
    std::fs::remove_file(world.path("notes.toml")).expect("removed");
    std::fs::rename(world.path("recovery-identity.txt"), world.path(IDENTITY)).expect("moved away");
    assert_eq!(world.json("backup", 0)["verdict"], "proved");
    world.run(&format!("verify --deep -i {IDENTITY}"), 0).says("proved");
    assert!(world.path("archive/bundles/notes").is_dir());
}
