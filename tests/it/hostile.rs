//! Archives and bundles that somebody made to do harm: what each ends with, and that nothing was written.
//!
//! Who owns an archive can forge everything but a signature. What a signer of ours signed is believed to come from us, and
//! still must not reach outside its place: those bundles are made here with the world's own keys.

use std::io::{Read as _, Write as _};

use crate::app::{KEY, WRONG, encrypt, secret, zip};
use crate::forge::{APP, Forge, identity, read_text, sealed_to, whole};
use crate::world::{IDENTITY, INIT, World};

fn line_of<'a>(lines: &'a mut [serde_json::Value], kind: &str) -> &'a mut serde_json::Value {
    lines.iter_mut().find(|l| l["kind"] == kind).expect("a line")
}

#[test]
fn the_forge_makes_bundles_that_are_believed() {
    let forge = Forge::new();
    forge.list(&|_| {});
    forge.world.run(&format!("verify --deep -i {IDENTITY}"), 0);
    forge.world.run(&format!("restore --target out -i {IDENTITY}"), 0);
}

#[test]
fn a_signed_file_list_reaches_nowhere_outside_its_place() {
    type Change = &'static dyn Fn(&mut Vec<serde_json::Value>);
    let cases: [(&str, Change); 15] = [
        ("an absolute path", &|l| line_of(l, "file")["path"] = "/tmp/escaped".into()),
        ("a path with ..", &|l| line_of(l, "file")["path"] = "../escaped".into()),
        ("a path with .. inside", &|l| line_of(l, "file")["path"] = "private/../../../escaped".into()),
        ("an empty component", &|l| line_of(l, "file")["path"] = "private//x".into()),
        ("a NUL byte", &|l| line_of(l, "file")["path"] = "private/\0x".into()),
        ("a path twice", &|l| {
            let again = l.last().expect("a line").clone();
            l.push(again);
        }),
        ("not sorted", &|l| l.reverse()),
        ("a device", &|l| line_of(l, "file")["kind"] = "device".into()),
        ("a size that nothing has", &|l| line_of(l, "file")["size"] = (1_u64 << 52).into()),
        ("another size", &|l| {
            let size = line_of(l, "file")["size"].as_u64().expect("a size");
            line_of(l, "file")["size"] = (size + 1).into();
        }),
        ("a wrong frame", &|l| {
            let frame = line_of(l, "file")["frame"].as_u64().expect("a frame");
            line_of(l, "file")["frame"] = (frame + 512).into();
        }),
        ("a frame beyond the end", &|l| line_of(l, "file")["frame"] = (1_u64 << 50).into()),
        ("a part that is not listed", &|l| line_of(l, "file")["part"] = "01JDQ8ZK3V9W5X6Y7Z8A9BCDEF.tar.age".into()),
        ("a part that is a path", &|l| line_of(l, "file")["part"] = "../../x.tar.age".into()),
        ("another content", &|l| line_of(l, "file")["blake3"] = "00".repeat(32).into()),
    ];
    let forge = Forge::new();
    std::fs::remove_dir_all(forge.world.app.storage()).expect("removed");
    std::fs::create_dir(forge.world.app.storage()).expect("made");
    for (what, change) in cases {
        let forge = forge.copy();
        forge.list(change);
        // There is no room for the one that claims to be huge: that is seen first.
        forge.harmless(what, if what.contains("nothing has") { &[1, 13] } else { &[13] });
    }
}

#[test]
fn nothing_in_a_signed_list_lies_below_a_link() {
    let forge = Forge::new();
    let outside = forge.world.path("outside");
    std::fs::create_dir(&outside).expect("made");
    let target = outside.display().to_string();
    forge.list(&|lines| {
        // The folder `private` becomes a link, and everything below it stays where it was.
        let folder = lines.iter_mut().find(|l| l["path"] == "private").expect("a folder");
        folder["kind"] = "symlink".into();
        folder["target"] = target.clone().into();
        lines.retain(|l| l["kind"] != "dir");
    });
    forge.harmless("files below a link", &[13]);
}

#[test]
fn bombs_and_foreign_age_files_in_a_signed_bundle_are_damage() {
    let forge = Forge::new();
    let zeros = zstd::encode_all(std::io::repeat(0).take(1 << 30), 1).expect("packed");
    let stranger = age::x25519::Identity::generate();
    let ours = forge.sealing.to_public();
    let proof = forge.open(&forge.member("proof.jsonl.zst.age"));
    let pass = {
        let encryptor = age::Encryptor::with_user_passphrase("x".repeat(9).into());
        let mut out = Vec::new();
        let mut writer = encryptor.wrap_output(&mut out).expect("begun");
        writer.write_all(&proof).expect("written");
        writer.finish().expect("finished");
        out
    };
    let long_line = zstd::encode_all(std::io::repeat(b'{').take(64 << 20), 1).expect("packed");
    let cases: [(&str, &str, Vec<u8>, &[i32]); 8] = [
        ("a zstd bomb as proof", "proof.jsonl.zst.age", forge.seal(&zeros), &[13]),
        ("an endless line as proof", "proof.jsonl.zst.age", forge.seal(&long_line), &[13]),
        ("a zstd bomb as file list", "files.jsonl.zst.age", forge.seal(&zeros), &[13]),
        ("a zstd bomb as database", "database.sqlite.zst.age", forge.seal(&zeros), &[13]),
        ("a proof for two", "proof.jsonl.zst.age", sealed_to(&[&ours, &stranger.to_public()], &proof), &[13, 14, 16]),
        (
            "a proof for somebody else",
            "proof.jsonl.zst.age",
            sealed_to(&[&stranger.to_public()], &proof),
            &[13, 14, 16],
        ),
        ("a proof under a passphrase", "proof.jsonl.zst.age", pass, &[13, 14, 16]),
        ("no age at all", "proof.jsonl.zst.age", proof.clone(), &[13]),
    ];
    for (what, member, bytes, codes) in cases {
        let forge = forge.copy();
        forge.put(member, &bytes);
        forge.sign();
        forge.harmless(what, codes);
    }
    // The key that the application has is the one that a restore over it proves; this one is for those who have none.
    forge.put("key.age", &forge.seal(&vec![b'x'; 9 << 20]));
    forge.sign();
    forge.world.run(&format!("verify -i {IDENTITY}"), 13);
    std::fs::remove_dir_all(forge.world.path("archive/keys")).expect("removed");
    forge.world.run(&format!("restore --target out -i {IDENTITY}"), 13);
    assert!(!forge.world.path("out").exists());
}

#[test]
fn a_signed_list_of_digests_has_one_form_only() {
    let forge = Forge::new();
    let list = read_text(&forge.sums());
    let first = list.lines().next().expect("a line").to_owned();
    let without = |name: &str| whole(list.lines().filter(|l| !l.ends_with(name)).map(str::to_owned));
    let cases = [
        ("garbage at the end", format!("{list}garbage\n")),
        ("garbage before", format!("# comment\n{list}")),
        ("a line twice", format!("{first}\n{list}")),
        ("one space", list.replacen("  ", " ", 1)),
        ("capital digits", list.replacen(&first[..64], &first[..64].to_ascii_uppercase(), 1)),
        ("no last newline", list.trim_end().to_owned()),
        ("carriage returns", list.replace('\n', "\r\n")),
        ("a path", format!("{list}{}  ../../../../etc/passwd\n", "0".repeat(64))),
        ("no header", without("bundle.json")),
        ("no proof", without("proof.jsonl.zst.age")),
        ("nothing", String::new()),
    ];
    for (what, list) in cases {
        let forge = forge.copy();
        forge.sign_list(&list);
        forge.harmless(what, &[13, 14]);
        let ran = forge.world.call("check").run();
        assert!(matches!(ran.code, Some(13 | 14)), "{what}: check ends with {:?}", ran.code);
    }
}

#[test]
fn a_header_says_what_its_place_says() {
    let forge = Forge::new();
    let header = read_text(&forge.member("bundle.json"));
    let other = "20200101T000000Z-1a2b3c4d";
    let cases = [
        ("another id", header.replace(&forge.id, other), 14),
        ("another app", header.replace("\"app\": \"package-broker\"", "\"app\": \"other-app\""), 14),
        ("another archive", header.replace(&forge.archive, "00000000-0000-4000-8000-000000000000"), 14),
        ("a newer format", header.replace("\"format\": 1", "\"format\": 2"), 1),
    ];
    for (what, changed, code) in cases {
        assert_ne!(changed, header, "{what}");
        let forge = forge.copy();
        forge.put("bundle.json", changed.as_bytes());
        forge.sign();
        forge.harmless(what, &[code]);
    }
}

#[test]
fn times_in_the_future_are_refused_even_when_signed() {
    let forge = Forge::new();
    let future = |entry: &str| {
        let at = entry.find("\"time\"").expect("a time");
        let at = at + entry[at..].find("20").expect("a year");
        format!("{}2099{}", &entry[..at], &entry[at + 4..])
    };
    forge.enter(&future);
    for line in ["list", "check", "backup"] {
        forge.world.run(line, 14).says("future");
    }
    forge.harmless("an entry from the future", &[14]);
}

#[test]
fn a_forged_archive_that_our_custodians_could_open_is_14() {
    // A stranger's archive, wrapped to our custodian and put in the place of ours.
    let ours = Forge::new();
    let stranger = World::new();
    let recipient = identity(&read_text(&ours.world.path(IDENTITY))).to_public();
    stranger.call(&format!("{INIT} --custodian owner={recipient}")).ends(0);
    let id = stranger.backup(0);
    let place = ours.world.path("archive");
    std::fs::remove_dir_all(&place).expect("removed");
    let copied = std::process::Command::new("cp").arg("-a").arg(stranger.path("archive")).arg(&place).status();
    assert!(copied.expect("cp runs").success());
    let world = &ours.world;
    let before = world.state_of("app");
    for line in ["list".to_owned(), "check --all".to_owned()] {
        world.run(&line, 14);
    }
    for bundle in ["latest", &id] {
        world.run(&format!("verify {bundle} -i {IDENTITY}"), 14);
        world.run(&format!("restore {bundle} --yes -i {IDENTITY}"), 14);
        world.run(&format!("restore {bundle} --target out -i {IDENTITY}"), 14);
    }
    world.run("backup", 14);
    assert_eq!(world.state_of("app"), before);
    assert!(!world.path("out").exists());
}

#[test]
fn a_bundle_of_another_archive_is_14_here() {
    let (ours, _) = World::backed_up();
    let (other, id) = World::backed_up();
    // With its ledger, under our archive's name.
    for folder in ["bundles", "ledger", "parts"] {
        let place = ours.path("archive").join(folder);
        std::fs::remove_dir_all(&place).expect("removed");
        let copied =
            std::process::Command::new("cp").arg("-a").arg(other.path("archive").join(folder)).arg(&place).status();
        assert!(copied.expect("cp runs").success());
    }
    let signer = read_text(&other.path("strongroom-signing.pub")).lines().nth(1).expect("a key").to_owned();
    ours.run("list", 14);
    // Even the signer being believed, it belongs to the archive that it names.
    ours.run(&format!("check {id} --signer {signer}"), 14);
    ours.run(&format!("restore {id} --signer {signer} --target out -i {IDENTITY}"), 14);
    assert!(!ours.path("out").exists());
}

#[test]
fn a_ledger_that_was_forked_is_14() {
    let (ours, _) = World::backed_up();
    let other = ours.copy();
    other.app.store("private/other.zip", &zip("other", 9));
    for world in [&ours, &other, &other] {
        world.backup(0);
    }
    // Our next entry comes from the other branch, signed by the same signer, under the right number.
    let newest = format!("{:010}", other.files(&format!("archive/ledger/{APP}")).len() / 2);
    for end in [".json", ".json.minisig"] {
        let name = format!("archive/ledger/{APP}/{newest}{end}");
        assert!(!ours.path(&name).exists());
        std::fs::copy(other.path(&name), ours.path(&name)).expect("copied");
    }
    for line in ["list", "check --all", "backup"] {
        ours.run(line, 14);
    }
    ours.run(&format!("restore --yes -i {IDENTITY}"), 14);
}

#[test]
fn a_sealing_key_that_was_exchanged_in_the_archive_is_taken_from_a_bundle() {
    let forge = Forge::new();
    let world = &forge.world;
    let custody = world.files("archive/custody").into_iter().find(|f| f.ends_with("identity.age")).expect("custody");
    let custody = world.path("archive/custody").join(custody);
    // Another key, wrapped to our custodian: whoever can write to the archive knows the recipient.
    let other = age::x25519::Identity::generate();
    let ours = identity(&read_text(&world.path(IDENTITY))).to_public();
    let secret = age::secrecy::ExposeSecret::expose_secret(&other.to_string()).to_owned();
    std::fs::write(&custody, sealed_to(&[&ours], format!("{secret}\n").as_bytes())).expect("written");
    world.run(&format!("verify -i {IDENTITY}"), 0);
    world.run(&format!("key verify -i {IDENTITY}"), 0);
    // The newest bundle's own copy is spoilt too, and an older one has it still.
    let second = world.backup(3);
    crate::world::flip(&world.bundle(&second).join("identity.age"));
    world.run(&format!("verify {second} -i {IDENTITY}"), 0);
    world.run(&format!("restore {second} --target out -i {IDENTITY}"), 0);
    // With no copy left, it is said what is wrong.
    crate::world::flip(&forge.member("identity.age"));
    world.run(&format!("verify {second} -i {IDENTITY}"), 14);
}

#[test]
fn credentials_of_a_dump_that_are_not_the_proofs_are_tried_themselves() {
    let forge = Forge::new();
    let dump = "database.sqlite.zst.age";
    let change = |value: &str, code: i32| {
        let forge = forge.copy();
        let path = forge.world.path("dump.sqlite");
        let sealed = forge.open(&forge.member(dump));
        std::fs::write(&path, zstd::decode_all(&*sealed).expect("zstd")).expect("written");
        let connection = rusqlite::Connection::open(&path).expect("opened");
        let sql = "UPDATE repositories SET auth_credentials = ?1 WHERE id = 'repo-1'";
        assert_eq!(connection.execute(sql, [value]).expect("changed"), 1);
        drop(connection);
        let content = zstd::encode_all(&*std::fs::read(&path).expect("read"), 3).expect("zstd");
        forge.put(dump, &forge.seal(&content));
        forge.sign();
        let before = forge.world.state_of("app");
        let ran = forge.world.run(&format!("restore {} --yes -i {IDENTITY}", forge.id), code);
        assert_eq!(forge.world.state_of("app") == before, code != 0);
        ran
    };
    change(&encrypt(WRONG, &secret(1)), 13).says("the restored database proves").says("Nothing was changed");
    change(&encrypt(KEY, "another, under the same key"), 0);
}
