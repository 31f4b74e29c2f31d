//! `docs/recover-by-hand.md`, run as it stands with the distribution's own tools and no strongroom on the `PATH`.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::stage::{Stage, tools};

const TOOLS: [&str; 12] =
    ["bash", "age", "age-keygen", "minisign", "zstd", "tar", "sha256sum", "b3sum", "jq", "base64", "sqlite3", "xargs"];

/// Every `sh` block of the document, one after the other.
fn script() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recover-by-hand.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let mut script = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            for line in lines.by_ref().take_while(|l| *l != "```") {
                script.push_str(line);
                script.push('\n');
            }
        }
    }
    script
}

/// Follows the document into an empty folder; answers what it said on standard error.
fn follow(stage: &Stage, out: &str) -> String {
    let root = stage.root();
    let out = root.join(out);
    std::fs::create_dir(&out).expect("made");
    assert!(!Path::new("/usr/bin/strongroom").exists() && !Path::new("/bin/strongroom").exists());
    let output = Command::new("bash")
        .args(["--norc", "--noprofile", "-c", &script()])
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/local/bin")
        .env("HOME", root.join("home"))
        .env("LANG", "C.UTF-8")
        .env("ARCHIVE", root.join("backups"))
        .env("CARD", root.join("safe/recovery-card.txt"))
        .env("IDENTITY", root.join("safe/recovery-identity.txt"))
        .env("OUT", &out)
        .current_dir(root.join("home"))
        .stdin(Stdio::null())
        .output()
        .expect("bash");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn must(stage: &Stage, command: &str) {
    let (printed, exit) = stage.shell(command);
    assert_eq!(exit, 0, "{command}\n{printed}");
}

/// A backed up application whose storage has every kind of name and file that a list can hold.
fn archive() -> Stage {
    let stage = Stage::new();
    must(&stage, "strongroom demo --app-only /data");
    let odd = stage.root().join("data/storage/odd");
    std::fs::create_dir(&odd).expect("made");
    let names: [&[u8]; 8] = [
        b"a b",
        b"-rf",
        b"back\\tslash",
        b"new\nline",
        b"*.zip",
        "umlaut-\u{e4}".as_bytes(),
        b"not-utf8-\xff\xfe",
        b"'$(x)\"",
    ];
    for name in names {
        std::fs::write(odd.join(std::ffi::OsStr::from_bytes(name)), name.repeat(50)).expect("written");
    }
    std::fs::create_dir(odd.join("empty folder")).expect("made");
    std::fs::write(odd.join("empty"), b"").expect("written");
    std::os::unix::fs::symlink("../no/such target", odd.join("link")).expect("linked");
    must(&stage, "mkdir -p /etc/strongroom && cd /etc/strongroom");
    must(
        &stage,
        "strongroom init --yes --database sqlite:/data/database.sqlite --storage file:/data/storage --archive file:/backups --key-source dotenv:/data/.env#ENCRYPTION_KEY",
    );
    must(&stage, "mv recovery-* /safe/");
    must(&stage, "strongroom backup");
    stage
}

/// What was recovered is what there was.
fn compare(stage: &Stage, out: &str) {
    must(stage, &format!("diff -r --no-dereference {}/{out}/storage /data/storage", stage.root().display()));
    let dump = |file: &str| stage.shell(&format!("sqlite3 {file} .dump")).0;
    let recovered = dump(&stage.root().join(out).join("database.sqlite").display().to_string());
    assert!(recovered.contains("INSERT INTO repositories"), "{recovered}");
    assert_eq!(recovered, dump("/data/database.sqlite"));
    let key = std::fs::read(stage.root().join(out).join("encryption-key.txt")).expect("the key");
    let dotenv = std::fs::read(stage.root().join("data/.env")).expect("the .env file");
    assert_eq!([b"ENCRYPTION_KEY=", key.as_slice(), b"\n"].concat(), dotenv);
    let parts = stage.shell("ls /backups/parts/*/*").0;
    assert!(parts.contains(".tar.age") && parts.contains(".tar.zst.age"), "both kinds of parts: {parts}");
}

#[test]
fn a_bundle_is_recovered_by_hand() {
    if !tools(&TOOLS) {
        return;
    }
    let stage = archive();
    assert_eq!(follow(&stage, "first"), "");
    compare(&stage, "first");

    // A bundle whose storage is another's, after files changed and went.
    must(&stage, "echo changed >/data/storage/odd/empty; rm /data/storage/odd/-rf; strongroom backup");
    must(&stage, "strongroom backup --only database");
    assert_eq!(follow(&stage, "second"), "");
    compare(&stage, "second");
}

#[test]
fn what_is_not_as_it_should_be_is_said_by_hand_too() {
    if !tools(&TOOLS) {
        return;
    }
    let stage = archive();
    must(&stage, "cp -a /backups /safe/copy");
    let cases = [
        (
            "printf damaged | dd of=$(ls /backups/parts/*/*/*.tar.age | head -n 1) bs=1 seek=500 conv=notrunc status=none",
            "is damaged",
        ),
        ("sed -i s/proved/no-key/ /backups/ledger/*/0000000003.json", "0000000003.json is not authentic"),
        ("rm /backups/ledger/*/0000000003.json*", "STOP"),
        (
            "cd /backups/ledger/* && cp 0000000001.json 0000000004.json && cp 0000000001.json.minisig 0000000004.json.minisig; cd /etc/strongroom",
            "0000000004.json is not authentic",
        ),
        (
            "printf %s '{\"format\":1,\"archive\":\"00000000-0000-4000-8000-000000000000\"}' >/backups/strongroom.json",
            "another archive",
        ),
    ];
    for (number, (damage, says)) in cases.iter().enumerate() {
        must(&stage, damage);
        let said = follow(&stage, &format!("out-{number}"));
        assert!(said.contains("STOP: ") && said.contains(says), "{damage}\n{said}");
        must(&stage, "rm -r /backups && cp -a /safe/copy /backups");
    }
}
