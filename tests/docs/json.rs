//! `docs/json.md` names every field that `--json` prints, and no field that does not exist.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::stage::{Stage, tools};

/// The fields that a section of the document names.
fn documented(section: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let mut inside = false;
    let mut fields = BTreeSet::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            inside = title == section;
        } else if inside && (line.starts_with("| `") || !line.starts_with('|')) {
            // In a table only its first column names fields.
            let names = if line.starts_with('|') { line.split('|').nth(1).unwrap_or_default() } else { line };
            fields.extend(names.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    assert!(!fields.is_empty(), "docs/json.md has no section {section}");
    fields
}

/// Every field of a value, as the document writes them.
fn fields(value: &Value, at: &str, known: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let any = if at.is_empty() { "*".to_owned() } else { format!("{at}.*") };
                let path = if known.contains(&any) {
                    any
                } else if at.is_empty() {
                    name.clone()
                } else {
                    format!("{at}.{name}")
                };
                fields(value, &path, known, found);
                // A group that is named by its members only.
                if !value.is_object() || known.contains(&path) {
                    found.insert(path);
                }
            }
        }
        Value::Array(values) => {
            for value in values {
                fields(value, &format!("{at}[]"), known, found);
            }
        }
        _ => {}
    }
}

struct Checked {
    stage: Stage,
    wrong: Vec<String>,
}

impl Checked {
    /// Runs commands of one verb; together they must print what the section names.
    fn verb(&mut self, section: &str, commands: &[&str]) {
        let known = documented(section);
        let mut found = BTreeSet::new();
        for command in commands {
            let (printed, _) = self.stage.shell(&format!("{command} 2>/dev/null"));
            let value: Value = serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{command}: {e}\n{printed}"));
            // A plan stands alone or under `plan`.
            for value in [Some(&value), value.get("plan")].into_iter().flatten() {
                let mut value = value.clone();
                if let Some(plan) = value.get_mut("plan") {
                    *plan = Value::Null;
                }
                fields(&value, "", &known, &mut found);
            }
        }
        for field in found.difference(&known) {
            self.wrong.push(format!("{section}: {field} is printed and not documented"));
        }
        // What no run here brings about.
        let rare = |field: &String| {
            field.contains("suspects[]")
                || field.contains("landmarks[]")
                || field.ends_with("_b64")
                || field.ends_with("target") && section == "show"
                || matches!(field.as_str(), "files" | "bundle.json" | "custody.json")
                || section == "custody test" && field.starts_with("problems[]")
                || section == "show" && field == "storage_from"
                || section.starts_with("key ") && field.starts_with("problems[]")
        };
        let words = |field: &String| field.contains(['.', '[', '_']) || field.chars().all(|c| c.is_ascii_lowercase());
        for field in known.difference(&found).filter(|f| words(f) && !rare(f)) {
            self.wrong.push(format!("{section}: {field} is documented and was not printed"));
        }
    }
}

#[test]
fn the_documented_shapes_are_what_is_printed() {
    if !tools(&["bash", "sqlite3", "jq"]) {
        return;
    }
    let stage = Stage::new();
    let mut checked = Checked { stage, wrong: Vec::new() };
    let run = |checked: &Checked, command: &str| {
        let (printed, exit) = checked.stage.shell(command);
        assert_eq!(exit, 0, "{command}\n{printed}");
    };
    run(&checked, "strongroom demo --app-only /data && (umask 077; echo changeme >/safe/weak.key)");
    run(&checked, "mkdir -p /etc/strongroom && cd /etc/strongroom");
    checked.verb(
        "init",
        &["strongroom init --json --yes --database sqlite:/data/database.sqlite --storage file:/data/storage --archive file:/backups --key-source dotenv:/data/.env#ENCRYPTION_KEY"],
    );
    let identity = "-i /etc/strongroom/recovery-identity.txt";
    checked.verb("prove", &["strongroom prove --json", "strongroom prove --json --key file:/safe/weak.key"]);
    checked.verb("backup", &["strongroom backup --json", "strongroom backup --json --only database"]);
    checked.verb("list", &["strongroom list --json"]);
    checked.verb(
        "show",
        &[
            "mkfifo /data/storage/pipe; strongroom backup -q 2>&-; rm /data/storage/pipe; strongroom show --json",
            &format!("strongroom show --json --files {identity} $(strongroom list | sed -n '2s/ .*//p')"),
        ],
    );
    checked.verb(
        "verify",
        &[
            &format!("strongroom verify --json {identity}"),
            &format!("strongroom verify --json --key file:/safe/weak.key {identity}"),
        ],
    );
    checked.verb(
        "restore",
        &[
            &format!("strongroom restore --json --dry-run {identity}"),
            &format!("echo >strongroom-state/restore.json; strongroom restore --json --dry-run {identity}"),
            &format!("strongroom restore --json --yes {identity}"),
            &format!("strongroom restore --json --target /safe/out {identity}"),
            &format!("strongroom restore --json --dry-run --rekey --key file:/safe/weak.key {identity}"),
        ],
    );
    checked.verb("custody list", &["strongroom custody list --json"]);
    checked.verb("custody test", &[&format!("strongroom custody test --json {identity}")]);
    checked.verb("config check", &["strongroom config check --json"]);
    checked.verb("key fingerprint", &["strongroom key fingerprint --json"]);
    checked.verb("policy print", &["strongroom policy print vault auditor --json"]);
    checked.verb("key lint", &["strongroom key lint --json file:/safe/weak.key"]);
    checked.verb("key status", &["strongroom key status --json"]);
    checked.verb("key needed", &["strongroom key needed --json --all"]);
    checked.verb("key escrow", &["strongroom key escrow --json"]);
    checked.verb("key verify", &[&format!("strongroom key verify --json {identity}")]);
    checked.verb("key fetch", &[&format!("strongroom key fetch --json -o /safe/fetched {identity}")]);
    checked.verb("key doctor", &[&format!("strongroom key doctor --json {identity}")]);
    run(&checked, "STRONGROOM_KEY_SOURCE=file:/safe/weak.key strongroom key escrow");
    checked.verb(
        "key destroy",
        &["strongroom key destroy --json --yes $(strongroom key status --json | jq -r '.[-1].fingerprint')"],
    );
    // Another program has the database open: the rotation stops before its commit.
    let (_, exit) = checked
        .stage
        .shell("sleep 1000 3</data/database.sqlite & p=$!; strongroom key rotate --yes; r=$?; kill $p; (exit $r)");
    assert_eq!(exit, 15);
    checked.verb(
        "key rotate",
        &[
            "strongroom key rotate --json --abort",
            "strongroom key rotate --json --dry-run",
            "strongroom key rotate --json --yes",
        ],
    );
    checked.verb("Errors", &["strongroom verify --json", "strongroom show --json 1999"]);
    run(
        &checked,
        "printf damaged | dd of=$(ls /backups/parts/*/*/*.tar.age | head -n 1) bs=1 seek=500 conv=notrunc status=none; strongroom backup --only key -q || true",
    );
    checked.verb("check", &["strongroom check --json --all", "strongroom check --json"]);
    assert!(checked.wrong.is_empty(), "{}", checked.wrong.join("\n"));
}
