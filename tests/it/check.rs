//! `check`: signature, ledger and digests, without a secret.

use std::path::PathBuf;

use crate::app::zip;
use crate::world::{Call, IDENTITY, PROGRAM, World, flip, text};

/// Every object of the archive that belongs to the bundle or the ledger.
fn objects(world: &World) -> Vec<String> {
    world.files("archive").into_iter().filter(|f| !f.contains("/.")).collect()
}

/// What a damaged object is: not authentic where a signature covers it directly, damaged where a digest does.
fn expected(name: &str, line: &str) -> &'static [i32] {
    if name.starts_with("ledger/") || name.ends_with("SHA256SUMS.minisig") {
        return &[14];
    }
    if name.ends_with("SHA256SUMS") {
        // The ledger's digest of it and the signature over it both say no.
        return &[13, 14];
    }
    if name.starts_with("bundles/") || name.starts_with("parts/") {
        return &[13];
    }
    // The archive's own name: another name, or none that reads.
    if name == "strongroom.json" {
        return &[13, 14];
    }
    // `check --all` compares what the ledger says of it, which leaves out when it was made.
    if name.ends_with("custody.json") {
        return &[0, 13, 14];
    }
    // A sealed key in escrow belongs to no bundle.
    if name.starts_with("keys/") && line.ends_with("--all") {
        return &[13, 14];
    }
    &[0]
}

#[test]
fn a_byte_flipped_in_any_object_is_found() {
    let (world, _) = World::backed_up();
    let names = objects(&world);
    for class in [
        "bundle.json",
        "proof.jsonl.zst.age",
        "files.jsonl.zst.age",
        "key.age",
        "identity.age",
        "config.toml.age",
        "database.sqlite.zst.age",
        "SHA256SUMS",
        "SHA256SUMS.minisig",
        ".tar.age",
        ".tar.zst.age",
        ".files.zst.age",
    ] {
        assert!(names.iter().any(|n| n.ends_with(class)), "no {class} in {names:?}");
    }
    for name in names {
        let path = world.path("archive").join(&name);
        let whole = std::fs::read(&path).expect("read");
        flip(&path);
        for line in ["check", "check --all"] {
            let ran = world.call(line).run();
            let code = ran.code.expect("a code");
            assert!(
                expected(&name, line).contains(&code),
                "{line} ends with {code} over a damaged {name}\n{}{}",
                ran.stdout,
                ran.stderr
            );
        }
        std::fs::write(&path, whole).expect("put back");
    }
    world.run("check --all", 0);
}

#[test]
fn a_deleted_object_is_found() {
    let (world, _) = World::backed_up();
    let (mut damaged, mut distrusted) = (0, 0);
    for name in objects(&world) {
        if name.starts_with("keys/") || name.starts_with("custody/") || name == "strongroom.json" {
            continue;
        }
        let (path, aside) = (world.path("archive").join(&name), world.path("tmp/aside"));
        std::fs::rename(&path, &aside).expect("moved");
        let ran = world.call("check").run();
        match ran.code {
            Some(13) => damaged += 1,
            // The end of the ledger may be missing without a trace in it: `check` then knows of no bundle.
            Some(14) => distrusted += 1,
            Some(10) => assert!(name.ends_with("0000000003.json"), "{name}: {}", ran.stderr),
            other => panic!("{other:?} without {name}: {}", ran.stderr),
        }
        std::fs::rename(&aside, &path).expect("put back");
    }
    assert!(damaged >= 8 && distrusted >= 4, "{damaged} {distrusted}");
    world.run("check --all", 0);
}

#[test]
fn the_message_names_the_object() {
    let (world, id) = World::backed_up();
    flip(&world.bundle(&id).join("database.sqlite.zst.age"));
    world.run("check", 13).says("database.sqlite.zst.age");
    let part = world.files("archive/parts").into_iter().find(|p| p.ends_with(".tar.age")).expect("a part");
    std::fs::remove_file(world.path("archive/parts").join(&part)).expect("removed");
    world.run("check", 13).says(part.rsplit('/').next().expect("a name"));
}

#[test]
fn one_damaged_bundle_does_not_hide_the_others() {
    let (world, first) = World::backed_up();
    let second = world.backup(0);
    flip(&world.bundle(&first).join("database.sqlite.zst.age"));
    world.run("check", 0);
    let json = world.json("check --all", 13);
    let row = |id: &str| json.as_array().expect("rows").iter().find(|r| r["bundle"] == id).expect("a row").clone();
    assert_eq!(row(&first)["whole"], false);
    assert_eq!(row(&first)["authentic"], true);
    assert_eq!(row(&second)["whole"], true);
}

#[test]
fn a_bundle_that_was_not_read_is_not_called_broken() {
    if !crate::traced::strace() {
        return;
    }
    let (world, first) = World::backed_up();
    let (second, third) = (world.backup(0), world.backup(0));
    // The signal comes while the second one's database is read.
    let database = world.bundle(&second).join("database.sqlite.zst.age");
    let strace = format!(
        "-f -qq -o /dev/null -P {} -e trace=pread64 -e inject=pread64:signal=SIGINT:when=1 {PROGRAM} check --all --json",
        database.display()
    );
    let json = Call::new("strace", &world.path(""), &strace).ends(130).json();
    let row = |id: &str| json.as_array().expect("rows").iter().find(|r| r["bundle"] == id).expect("a row").clone();
    assert_eq!((&row(&first)["read"], &row(&first)["whole"]), (&true.into(), &true.into()));
    for id in [second, third] {
        assert_eq!((&row(&id)["read"], &row(&id)["whole"]), (&false.into(), &serde_json::Value::Null), "{json}");
    }
}

#[test]
fn a_damaged_part_hurts_every_bundle_that_needs_it() {
    let (world, first) = World::backed_up();
    let second = world.backup(0);
    let part = world.files("archive/parts").into_iter().find(|p| p.ends_with(".tar.age")).expect("a part");
    flip(&world.path("archive/parts").join(part));
    world.run(&format!("check {first}"), 13);
    world.run(&format!("check {second}"), 13);
    let json = world.json("check --all", 13);
    let whole = json.as_array().expect("rows").iter().filter(|r| r["whole"] == true).count();
    assert_eq!(whole, 0, "a part that is read once counts for every bundle: {json}");
}

#[test]
fn a_swapped_bundle_is_not_authentic() {
    let (world, first) = World::backed_up();
    world.app.store("new.zip", &zip("new", 9));
    let second = world.backup(0);
    let (a, b, aside) = (world.bundle(&first), world.bundle(&second), world.path("tmp/aside"));
    std::fs::rename(&a, &aside).expect("moved");
    std::fs::rename(&b, &a).expect("moved");
    std::fs::rename(&aside, &b).expect("moved");
    world.run(&format!("check {first}"), 14);
    world.run("check --all", 14);
    world.run(&format!("restore --yes -i {IDENTITY}"), 14);
}

#[test]
fn an_older_bundle_under_the_newest_name_is_not_authentic() {
    let (world, first) = World::backed_up();
    let second = world.backup(0);
    std::fs::remove_dir_all(world.bundle(&second)).expect("removed");
    let status =
        std::process::Command::new("cp").arg("-a").arg(world.bundle(&first)).arg(world.bundle(&second)).status();
    assert!(status.expect("cp runs").success());
    world.run("check", 14);
    world.run(&format!("verify -i {IDENTITY}"), 14);
}

fn ledger(world: &World, seq: u64, end: &str) -> PathBuf {
    world.path(format!("archive/ledger/package-broker/{seq:010}{end}"))
}

#[test]
fn a_gap_in_the_ledger_is_14() {
    let (world, _) = World::backed_up();
    std::fs::remove_file(ledger(&world, 2, ".json")).expect("removed");
    std::fs::remove_file(ledger(&world, 2, ".json.minisig")).expect("removed");
    for line in ["list", "check", "check --all", "show", "backup"] {
        world.run(line, 14);
    }
    world.run(&format!("restore --yes -i {IDENTITY}"), 14);
}

#[test]
fn an_unsigned_entry_is_14() {
    let (world, _) = World::backed_up();
    let forged = std::fs::read_to_string(ledger(&world, 3, ".json")).expect("read").replace("\"seq\": 3", "\"seq\": 4");
    std::fs::write(ledger(&world, 4, ".json"), &forged).expect("written");
    world.run("list", 14).says("signature");
    std::fs::copy(ledger(&world, 3, ".json.minisig"), ledger(&world, 4, ".json.minisig")).expect("copied");
    world.run("list", 14);
}

#[test]
fn a_copied_entry_under_another_number_is_14() {
    let (world, _) = World::backed_up();
    for end in [".json", ".json.minisig"] {
        std::fs::copy(ledger(&world, 3, end), ledger(&world, 4, end)).expect("copied");
    }
    world.run("list", 14);
}

#[test]
fn a_ledger_that_lost_its_end_is_noticed_by_a_newer_card_only() {
    let (world, _) = World::backed_up();
    world.run("list --card safe/recovery-card.txt", 0);
    for seq in 1..=3 {
        for end in [".json", ".json.minisig"] {
            std::fs::remove_file(ledger(&world, seq, end)).expect("removed");
        }
    }
    world.run("list --card safe/recovery-card.txt", 14);
    world.run("list", 0);
}

#[test]
fn a_bundle_that_is_gone_without_a_signed_reason_is_not_accepted() {
    let (world, first) = World::backed_up();
    world.backup(0);
    std::fs::remove_dir_all(world.bundle(&first)).expect("removed");
    world.run("check --all", 14).says(&first);
}

#[test]
fn a_host_notices_that_the_end_of_the_ledger_was_cut_off() {
    let (world, _) = World::backed_up();
    let lost = world.json("backup", 0);
    let seq = lost["seq"].as_u64().expect("a number");
    assert_eq!(lost["entry"].as_str().map(str::len), Some(64));
    for end in [".json", ".json.minisig"] {
        std::fs::remove_file(ledger(&world, seq, end)).expect("removed");
    }
    for line in ["check", "check --all"] {
        world.run(line, 14).says("is remembered");
    }
    // Who looks without this host's configuration has seen nothing.
    let public = std::fs::read_to_string(world.path("strongroom-signing.pub")).expect("read");
    let signer = public.lines().nth(1).expect("a key");
    world.run(&format!("check --all --archive file:archive --signer {signer}"), 0);
    let noticed = world.json("backup", 3);
    assert!(crate::world::codes(&noticed).contains(&"ledger-cut".to_owned()), "{noticed}");
    assert_eq!(noticed["verdict"], "proved", "a backup is made all the same");
    world.run("check --all", 0);
}

#[test]
fn another_archive_in_the_place_of_ours_is_no_new_beginning() {
    let (world, _) = World::backed_up();
    let marker = world.path("archive/strongroom.json");
    let ours = std::fs::read_to_string(&marker).expect("read");
    let id = text(&serde_json::from_str::<serde_json::Value>(&ours).expect("JSON")["archive"]);
    let other = "11111111-2222-4333-8444-555555555555";
    for room in ["ledger", "bundles", "parts", "keys"] {
        std::fs::remove_dir_all(world.path("archive").join(room)).expect("removed");
    }
    std::fs::write(&marker, ours.replace(&id, other)).expect("written");
    for line in ["backup", "check --all", "list", "config check", "key status"] {
        world.run(line, 14).says(other).says(&id).says("put another archive there");
    }
    // Whoever means it says so.
    let toml = world.path("strongroom.toml");
    let configured = std::fs::read_to_string(&toml).expect("read");
    assert!(configured.contains(&format!("id = \"{id}\"")), "{configured}");
    std::fs::write(&toml, configured.replace(&id, other)).expect("written");
    world.run("backup", 0);
}

#[test]
fn a_sealed_key_in_the_archive_that_was_changed_is_found() {
    let (world, _) = World::backed_up();
    world.run("check --all", 0);
    for ending in [".age", ".json.minisig", ".json"] {
        let names = world.files("archive/keys");
        let copy = world.path("archive/keys").join(names.iter().find(|name| name.ends_with(ending)).expect("a copy"));
        let whole = std::fs::read(&copy).expect("read");
        flip(&copy);
        let json = world.json("check --all", 14);
        assert_eq!(json[0]["whole"], true, "{json}");
        std::fs::write(&copy, &whole).expect("written");
    }
    world.run("check --all", 0);
    // One that is gone is missed where nothing else has the key.
    let keys = world.path("archive/keys");
    std::fs::rename(&keys, world.path("aside")).expect("moved");
    world.run("check --all", 0);
    std::fs::rename(world.path("aside"), &keys).expect("moved back");
    world.configure("[rules]\nkey_in_bundle = false");
    world.run("backup", 0);
    world.run("check --all", 0);
    std::fs::remove_dir_all(&keys).expect("removed");
    world.run("check --all", 13).says("is gone from the archive").says("does not hold");
}

#[test]
fn a_deep_verification_reads_the_storage_that_another_bundle_holds() {
    let (world, _) = World::backed_up();
    world.run("backup --only database", 0);
    world.run(&format!("verify --deep -i {IDENTITY}"), 0).says("match the list");
    for part in world.files("archive/parts").iter().filter(|f| f.ends_with(".tar.age")) {
        flip(&world.path("archive/parts").join(part));
    }
    world.run(&format!("verify --deep -i {IDENTITY}"), 13);
}

#[test]
fn signers_that_nobody_trusts_are_14() {
    let (world, _) = World::backed_up();
    let url = format!("file:{}", world.path("archive").display());
    world.run(&format!("list --archive {url}"), 14);
    let other = World::ready();
    let foreign = std::fs::read_to_string(other.path("strongroom-signing.pub")).expect("read");
    let foreign = foreign.lines().nth(1).expect("a key");
    world.run(&format!("check --archive {url} --signer {foreign}"), 14);
    let ours = std::fs::read_to_string(world.path("strongroom-signing.pub")).expect("read");
    let ours = ours.lines().nth(1).expect("a key");
    world.run(&format!("check --archive {url} --signer {ours}"), 0);
    world.run(&format!("check --archive {url} --signer nonsense"), 2);
    let listed = world.json(&format!("list --archive {url} --signer {ours} --signer {foreign}"), 0);
    assert!(!text(&listed[0]["bundle"]).is_empty());
}

#[test]
fn an_archive_that_is_not_there_is_10() {
    let world = World::new();
    world.run("list --archive file:nowhere --signer RWQ", 10);
    world.run("list", 2).says("configuration");
}
