//! The units of `docs/install.md` are ones that systemd takes, and its calls ones that the program takes.

use std::path::Path;
use std::process::Command;

use crate::stage::tools;

fn text() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/install.md")).expect("the document")
}

/// Every unit with its name: "This is `NAME`:" and the block after it.
fn units(text: &str) -> Vec<(String, String)> {
    text.split("his is `")
        .skip(1)
        .map(|rest| {
            let (name, rest) = rest.split_once('`').expect("a name");
            let unit = rest.split_once("```ini\n").expect("a block").1.split_once("```").expect("its end").0;
            (name.to_owned(), unit.to_owned())
        })
        .collect()
}

#[test]
fn systemd_takes_the_units() {
    if !tools(&["systemd-analyze"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let units = units(&text());
    assert_eq!(units.len(), 4);
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify").arg("--man=no");
    for (name, unit) in &units {
        let path = folder.path().join(name);
        // The program is looked for, and here it lies elsewhere.
        let unit = unit.replace("/usr/local/bin/strongroom", env!("CARGO_BIN_EXE_strongroom"));
        std::fs::write(&path, unit).expect("written");
        verify.arg(path);
    }
    let output = verify.output().expect("systemd-analyze runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<_> = said.lines().filter(|line| line.contains("strongroom-")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn the_program_takes_what_cron_and_the_units_call() {
    let text = text();
    let calls = text.lines().filter_map(|line| line.split_once("/usr/local/bin/strongroom ")).map(|(_, call)| call);
    let calls: Vec<_> = calls.collect();
    assert_eq!(calls.len(), 4, "{calls:?}");
    for call in calls {
        let call = call.replace("/etc/strongroom/strongroom.toml", "/nowhere/strongroom.toml");
        let output = Command::new(env!("CARGO_BIN_EXE_strongroom"))
            .args(call.split_whitespace())
            .env_clear()
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        // The arguments are right, and the configuration is not there.
        assert!(said.starts_with("error: there is no configuration at /nowhere/"), "{call}: {said}");
    }
}
