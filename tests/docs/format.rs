//! `docs/bundle-format.md` names every field and every object of a real archive.

use std::collections::BTreeSet;
use std::path::Path;

use crate::stage::{Stage, tools};

/// The words between backticks in a section of the document.
fn named(section: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/bundle-format.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let mut inside = false;
    let mut words = BTreeSet::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")) {
            inside = title == section;
        } else if inside {
            for code in line.split('`').skip(1).step_by(2) {
                // `{"credential":{…}}` names what stands in quotes.
                words.extend(code.split('"').map(str::to_owned));
            }
        }
    }
    assert!(!words.is_empty(), "docs/bundle-format.md has no section {section}");
    words
}

#[test]
fn every_field_of_a_real_archive_is_in_the_format() {
    if !tools(&["bash", "age", "zstd", "jq", "sqlite3"]) {
        return;
    }
    let stage = Stage::new();
    for command in [
        "strongroom demo --app-only /data && ln -s nowhere /data/storage/link && mkdir -p /etc/strongroom && cd /etc/strongroom",
        "strongroom init --yes --database sqlite:/data/database.sqlite --storage file:/data/storage --archive file:/backups --key-source dotenv:/data/.env#ENCRYPTION_KEY",
        "strongroom backup",
        "strongroom custody test -i recovery-identity.txt",
        "strongroom verify --deep -i recovery-identity.txt",
        "cd /backups/bundles/*/*/ && age -d -i /etc/strongroom/recovery-identity.txt -o /safe/key identity.age",
        "opened() { age -d -i /safe/key $1 | zstd -dq; }; opened proof.jsonl.zst.age >/safe/proof; opened files.jsonl.zst.age >/safe/list; opened /backups/parts/*/*/*.files.zst.age >/safe/files",
        "age -d -i /safe/key key.age >/safe/record; cd /backups",
    ] {
        let (printed, exit) = stage.shell(command);
        assert_eq!(exit, 0, "{command}\n{printed}");
    }
    let mut missing = Vec::new();
    // Names of tables, tools and settings are data.
    let keys =
        "jq -r 'del(.summary.facts.tables?, .summary.facts.tools?, .summary.facts.settings?) | .. | objects | keys[]'";
    for (section, files) in [
        ("Layout", "strongroom.json"),
        ("bundle.json", "bundles/*/*/bundle.json"),
        ("The ledger", "ledger/*/*.json"),
        ("custody.json", "custody/*/custody.json"),
        ("The application key", "/safe/record keys/*/*/*.json"),
        ("The proof", "/safe/proof"),
        ("Storage", "/safe/list /safe/files"),
    ] {
        let (printed, exit) = stage.shell(&format!("cat {files} | {keys} | sort -u"));
        assert_eq!(exit, 0, "{files}\n{printed}");
        assert!(printed.lines().count() > 1, "{files}: {printed}");
        let named = named(section);
        missing.extend(printed.lines().filter(|key| !named.contains(*key)).map(|key| format!("{section}: {key}")));
    }
    assert!(missing.is_empty(), "not in docs/bundle-format.md:\n{}", missing.join("\n"));

    // Every object has a place in the layout.
    let (objects, _) = stage.shell("find . -type f -not -name '.*' | sort");
    let layout =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/bundle-format.md")).expect("read");
    let layout = layout.split("## Layout").nth(1).and_then(|rest| rest.split("## Names").next()).expect("the layout");
    for object in objects.lines() {
        let (folder, name) = object.rsplit_once('/').expect("a path");
        // Of `<ulid>.tar.age` and `<seq, 10 digits>.json` what follows the id.
        let kind = if folder.starts_with("./bundles") || folder == "." {
            name
        } else {
            name.split_once('.').expect("a name").1
        };
        assert!(layout.contains(kind), "{object} has no place in the layout");
    }
}
