//! `custody`, `config check`, `key`, and what is generated from the command line's definition.

use std::os::unix::fs::PermissionsExt as _;

use crate::app::{CREDENTIALS, KEY, WRONG, secret_file};
use crate::init::identity;
use crate::world::{IDENTITY, INIT, World, codes, text};

#[test]
fn custody_lists_who_can_open_the_sealing_key() {
    let (world, _) = World::backed_up();
    let listed = world.json("custody list", 0);
    let label = text(&listed[0]["labels"][0]);
    assert!(label.starts_with("recovery-"), "{label}");
    assert_eq!(listed[0]["bundles"], 1);
    assert_eq!(listed[0]["threshold"], 1);
    assert_eq!(listed[0]["generation"], 1);
    assert_eq!(listed[0]["sealing"], world.json("list", 0)[0]["sealing"]);
}

#[test]
fn hosts_that_share_an_archive_have_custodians_that_can_be_told_apart() {
    let (old, _) = World::backed_up();
    let signer = |world: &World| {
        let public = std::fs::read_to_string(world.path("strongroom-signing.pub")).expect("read");
        public.lines().nth(1).expect("a key").to_owned()
    };
    let new = World::new();
    let line = INIT.replace("file:archive", &format!("file:{}", old.path("archive").display()));
    new.run(&format!("{line} --signer {}", signer(&old)), 0);
    new.run("backup", 3);

    let listed = new.json("custody list", 0);
    let rows = listed.as_array().expect("sealing keys");
    let of = |world: &World| rows.iter().find(|row| row["signer"] == signer(world).as_str()).expect("its host's");
    let (first, second) = (text(&of(&old)["labels"][0]), text(&of(&new)["labels"][0]));
    assert_eq!(second, format!("{first}-2"), "both are hosts of one name");
    assert_eq!((&of(&old)["bundles"], &of(&new)["bundles"]), (&1.into(), &1.into()));
    new.run("custody list", 0).says("what this host backs up is sealed to it").says(&signer(&old));
    // An identity that is the other host's: the hint names one that it is not.
    let other = old.path(IDENTITY);
    let ran = new.call("custody test").arg("-i").arg(&other).ends(16);
    ran.says(&format!("custodians: {second}.")).says("strongroom custody list");

    // The host before does not believe the new one yet. Where a flag helps it is named, and it adds to the configuration.
    let both = format!("--signer {}", signer(&new));
    old.run("list", 14).says("--signer");
    assert_eq!(old.json(&format!("list {both}"), 0).as_array().map(Vec::len), Some(2));
    old.run(&format!("check --all {both}"), 0);
    for line in ["backup", "config check", "key escrow", "guard -- /bin/true"] {
        let ran = old.call(line).run();
        assert_eq!(ran.code, Some(if line.starts_with("guard") { 0 } else { 14 }), "{line}: {}", ran.stderr);
        ran.keeps_quiet_about("--signer").keeps_quiet_about("--card");
    }

    // Some of what is asked takes the sealing keys of both.
    let doctor = |identities: &[&std::path::Path]| {
        identities.iter().fold(new.call("key doctor"), |call, identity| call.arg("-i").arg(*identity))
    };
    let own = new.path("recovery-identity.txt");
    doctor(&[&own]).ends(16).says("It takes 2 sealing keys").says("-i FILE -i FILE");
    doctor(&[&own, &other]).ends(0).keeps_quiet_about("sealing keys");

    // What the hint says to add is what is missing.
    let public = std::fs::read_to_string(new.path("strongroom-signing.pub")).expect("read");
    let id = public.lines().next().and_then(|line| line.rsplit(' ').next()).expect("an id");
    old.run("backup", 14)
        .says(&format!("strongroom-signing.pub ends in {id}: add the second, RW…, to [signing] trusted"));
    let toml = old.path("strongroom.toml");
    let text = std::fs::read_to_string(&toml).expect("read");
    secret_file(&toml, &text.replace("trusted = [", &format!("trusted = [\"{}\", ", signer(&new))));
    let again = old.call("backup").run();
    assert!(matches!(again.code, Some(0 | 3)), "{}", again.stderr);
}

#[test]
fn a_record_of_custody_that_was_changed_is_found_without_a_secret() {
    let (world, _) = World::backed_up();
    let file = world.files("archive/custody").into_iter().find(|f| f.ends_with("custody.json")).expect("a record");
    let path = world.path("archive/custody").join(file);
    let good = std::fs::read_to_string(&path).expect("read");
    for bad in [good.replacen("recovery-", "recoverx-", 1), good.replacen('{', "[", 1)] {
        std::fs::write(&path, &bad).expect("written");
        world.run("custody list", if bad.starts_with('{') { 14 } else { 13 });
        let ran = world.call("check --all --json").run();
        assert!(matches!(ran.code, Some(13 | 14)), "{:?} {}", ran.code, ran.stdout);
        assert!(codes(&world.json("backup", 3)).contains(&"custody-changed".to_owned()));
    }
    let restore = format!("restore --target out --only storage -i {IDENTITY}");
    std::fs::write(&path, good.replacen("recovery-", "recoverx-", 1)).expect("written");
    world.run(&restore, 14).says("move it out of its folder");
    std::fs::remove_file(&path).expect("removed");
    world.run(&restore, 0);
}

#[test]
fn a_sealing_key_that_is_gone_from_custody_is_told_before_anybody_needs_it() {
    let world = World::ready();
    std::fs::rename(world.path("archive/custody"), world.path("aside")).expect("moved");
    // No bundle has a copy yet, and none will: only now is there time to do something.
    let json = world.json("backup", 3);
    assert!(codes(&json).contains(&"custody-changed".to_owned()), "{json}");
    assert!(json["problems"].to_string().contains("no custodian can open what is made now"), "{json}");
    for line in ["check --all", "config check", "custody list"] {
        world.run(line, 14).says("identity.age is gone").keeps_quiet_about("made elsewhere");
    }
    std::fs::rename(world.path("aside"), world.path("archive/custody")).expect("moved back");
    world.run("backup", 0);
    world.run("check --all", 0);
    // The signed copy in the bundle opens; that the archive's is gone is told all the same. The record opens nothing.
    for (gone, code) in [("identity.age", 14), ("custody.json", 0)] {
        let folder =
            std::fs::read_dir(world.path("archive/custody")).expect("read").next().expect("a key").expect("read");
        let (place, aside) = (folder.path().join(gone), world.path("aside"));
        std::fs::rename(&place, &aside).expect("moved");
        let json = world.json("check --all", code);
        let rows = json.as_array().expect("rows");
        assert!(rows.len() >= 2 && rows.iter().all(|row| row["whole"] == true), "every bundle has its row: {json}");
        let told = codes(&world.json("backup", if code == 0 { 0 } else { 3 }));
        assert_eq!(told, if code == 0 { vec![] } else { vec!["custody-changed".to_owned()] });
        world.run("custody list", code).says(if code == 0 { "keeps no sealing key" } else { "identity.age is gone" });
        world.run(&format!("verify -i {IDENTITY}"), 0);
        std::fs::rename(&aside, &place).expect("moved back");
        world.run("check --all", 0);
    }
}

#[test]
fn who_only_seals_to_a_key_takes_nothing_out_of_custody() {
    let (old, _) = World::backed_up();
    let configured = std::fs::read_to_string(old.path("strongroom.toml")).expect("read");
    let recipient = configured.lines().find_map(|line| line.strip_prefix("recipient = ")).expect("a recipient");
    let public = std::fs::read_to_string(old.path("strongroom-signing.pub")).expect("read");
    let signer = public.lines().nth(1).expect("a key");
    let new = World::new();
    let line = INIT.replace("file:archive", &format!("file:{}", old.path("archive").display()));
    new.run(&format!("{line} --signer {signer} --recipient {}", recipient.trim_matches('"')), 0);
    for line in ["check --all", "config check", "custody list"] {
        new.run(line, 0).keeps_quiet_about("made elsewhere");
    }
    std::fs::remove_dir_all(old.path("archive/custody")).expect("removed");
    for line in ["check --all", "config check", "custody list"] {
        new.run(line, 14).says("identity.age is gone").keeps_quiet_about("made elsewhere");
    }
}

#[test]
fn a_record_of_custody_that_nobody_can_read_hides_nothing() {
    let (world, _) = World::backed_up();
    world.run("backup", 0);
    let planted = world.path("archive/custody/00000000000000000000000000000000");
    std::fs::create_dir(&planted).expect("made");
    std::fs::write(planted.join("custody.json"), br#"{"format":2,"threshold":1}"#).expect("written");
    let json = world.json("check --all", 13);
    assert_eq!(json.as_array().map(Vec::len), Some(2), "{json}");
    world.run("config check", 0);
    // Nor does it pass for none where nobody's word is believed.
    for line in ["custody list", "custody list --archive file:archive"] {
        world.run(line, 13).says("has format 2").keeps_quiet_about("made elsewhere");
    }
    std::fs::remove_dir_all(planted).expect("removed");
    // Nor does one of our own key that was changed into what only a newer program could read.
    let folder = std::fs::read_dir(world.path("archive/custody")).expect("read").next().expect("a key").expect("read");
    let record = folder.path().join("custody.json");
    let text = std::fs::read_to_string(&record).expect("read");
    std::fs::write(&record, text.replace("\"threshold\": 1", "\"threshold\": 2")).expect("written");
    world.run("check --all", 13).says("k of n custody");
    world.run(&format!("verify -i {IDENTITY}"), 0);
    world.run(&format!("restore -i {IDENTITY} --target out"), 0);
}

#[test]
fn a_custodians_identity_is_tested_and_the_test_is_recorded() {
    let (world, _) = World::backed_up();
    let json = world.json(&format!("custody test -i {IDENTITY}"), 0);
    assert_eq!(json["opens"], true);
    assert_eq!(json["seq"], 4);
    assert!(world.path("archive/ledger/package-broker/0000000004.json").exists());
    identity(&world, "eve.txt");
    world.run("custody test -i eve.txt", 16);
    world.run("custody test", 2);
    world.run("check --all", 0);
    assert!(!world.path("archive/ledger/package-broker/0000000005.json").exists(), "a failed test is no entry");
}

#[test]
fn an_identity_that_opens_is_told_where_the_ledger_cannot_be_written_or_read() {
    let world = World::backed_up().0.owned_by_nobody();
    let ledger = world.path("archive/ledger/package-broker");
    let set = |mode| std::fs::set_permissions(&ledger, std::fs::Permissions::from_mode(mode)).expect("set");
    for mode in [0o500, 0o000] {
        set(mode);
        let ran = world.call_as_nobody(&format!("custody test --json -i {IDENTITY}")).ends(3);
        assert_eq!((&ran.json()["opens"], &ran.json()["seq"]), (&true.into(), &serde_json::Value::Null));
        world
            .call_as_nobody(&format!("custody test -i {IDENTITY}"))
            .ends(3)
            .says("this identity opens")
            .says("not recorded");
    }
    set(0o700);
}

#[test]
fn config_check_tries_everything_and_changes_nothing() {
    let (world, _) = World::backed_up();
    let before = world.state_of("archive");
    let json = world.json("config check", 0);
    assert_eq!(json["ok"], true);
    for name in
        ["configuration", "archive", "signer", "ledger", "custody", "escrow", "storage", "key", "database", "proof"]
    {
        let found = json["checks"].as_array().expect("checks").iter().find(|c| c["name"] == name);
        assert_eq!(found.unwrap_or_else(|| panic!("no {name}"))["ok"], true, "{name}");
    }
    assert_eq!(world.state_of("archive"), before);
}

#[test]
fn config_check_names_what_is_wrong() {
    let world = World::ready();
    world.app.set_key(WRONG);
    world.run("config check", 12).says("wrong key");
    world.app.set_key(KEY);
    std::fs::rename(world.app.storage(), world.path("away")).expect("moved");
    world.run("config check", 10).says("storage");
    std::fs::rename(world.path("away"), world.app.storage()).expect("moved back");
    world.configure("stop = [\"docker\", \"stop\", \"it\"]");
    world.run("config check", 2).says("absolute");
}

#[test]
fn a_misspelt_configuration_is_2_with_line_and_suggestion() {
    let world = World::ready();
    let path = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).expect("read");
    secret_file(&path, &text.replace("recipient =", "recipiant ="));
    world.run("config check", 2).says("line").says("Did you mean `recipient`?");
    world.run("backup", 2);
    secret_file(&path, "this is = not [toml");
    world.run("list", 2);
    world.run("backup --config gone.toml", 2).says("gone.toml");
}

#[test]
fn a_variable_overrides_a_field() {
    let (world, _) = World::backed_up();
    world.call("list").env("STRONGROOM_ARCHIVE_URL", "file:nowhere").ends(10);
    let ran = world.call("backup --json").env("STRONGROOM_KEY_SOURCE", "env:OTHER").env("OTHER", WRONG).ends(3);
    assert_eq!(ran.json()["verdict"], "wrong-key");
}

#[test]
fn a_fingerprint_names_the_effective_key() {
    let (world, _) = World::backed_up();
    let listed = world.json("list", 0);
    let configured = world.json("key fingerprint", 0);
    assert_eq!(configured["fingerprint"], listed[0]["fingerprint"]);
    secret_file(&world.path("same"), &KEY[..32]);
    assert_eq!(world.json("key fingerprint file:same", 0)["fingerprint"], configured["fingerprint"]);
    secret_file(&world.path("wrong"), WRONG);
    assert_ne!(world.json("key fingerprint file:wrong", 0)["fingerprint"], configured["fingerprint"]);
    world.run("key fingerprint file:gone", 10);
    let installation = text(&configured["installation"]);
    let elsewhere = World::new();
    secret_file(&elsewhere.path("key"), KEY);
    let line = format!("key fingerprint file:key --installation {installation}");
    assert_eq!(elsewhere.json(&line, 0)["fingerprint"], configured["fingerprint"]);
    elsewhere.run("key fingerprint file:key", 2).says("installation");
    elsewhere.run("key fingerprint", 2);
}

#[test]
fn a_weak_key_is_described_and_never_shown() {
    let world = World::new();
    for (key, word) in
        [("$(openssl rand -base64 32)", "$("), ("\"quoted\"", "quote"), ("short", "32"), ("password\n\n", "newline")]
    {
        secret_file(&world.path("key"), key);
        let ran = world.run("key lint file:key", 3);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains(word), "{key:?}: {said}");
        assert!(!said.contains("short\n") && !said.contains("quoted\""), "{said}");
    }
    secret_file(&world.path("key"), KEY);
    world.run("key lint file:key", 0);
    world.run("key lint file:gone", 10);
}

#[test]
fn a_weak_key_is_told_by_init_and_backup_and_is_no_reason_to_fail() {
    let world = World::new();
    world.app.execute("DELETE FROM repositories WHERE id <> 'manual'");
    for n in 1..=CREDENTIALS {
        world.app.add_credential(n, "short");
    }
    world.app.set_key("short");
    let json = world.json(INIT, 0);
    assert!(codes(&json).iter().any(|c| c.starts_with("key-")), "{json}");
    let json = world.json("backup", 0);
    assert_eq!(json["verdict"], "proved");
    assert!(codes(&json).iter().any(|c| c.starts_with("key-")), "{json}");
}

#[test]
fn completions_and_manual_pages_are_written() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        world.run(&format!("completions {shell}"), 0).says("custody");
    }
    world.run("completions tcsh", 2);
    world.run("man pages", 0);
    for page in ["strongroom.1", "strongroom-backup.1", "strongroom-restore.1", "strongroom-key-lint.1"] {
        let text = std::fs::read_to_string(world.path("pages").join(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
        assert!(text.contains(".TH"), "{page}");
    }
}

#[test]
fn help_names_the_exit_codes_of_each_verb() {
    let world = World::new();
    world.run("--version", 0).says(env!("CARGO_PKG_VERSION"));
    world.run("backup -h", 0).says("  3  ").says(" 11  ");
    world.run("verify --help", 0).says(" 12  ").says(" 16  ");
    world.run("no-such-verb", 2);
    world.run("", 2);
}
