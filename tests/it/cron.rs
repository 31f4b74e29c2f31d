//! Nights as cron gives them: a bare environment, another folder, nobody there.

use serde_json::Value;

use crate::app::{CREDENTIALS, WRONG};
use crate::world::{IDENTITY, PROGRAM, World, text};

/// One night: `env -i` with a short PATH and HOME, in `/`, the configuration named by its whole path.
fn night(world: &World, code: i32) {
    let output = std::process::Command::new("/usr/bin/env")
        .arg("-i")
        .arg("PATH=/usr/bin:/bin")
        .arg(format!("HOME={}", world.path("home").display()))
        .arg(PROGRAM)
        .arg("--config")
        .arg(world.path("strongroom.toml"))
        .arg("backup")
        .arg("--quiet")
        .current_dir("/")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("env runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(output.stdout.is_empty());
    assert_eq!(said.lines().count(), usize::from(code != 0), "one line when not all is well: {said}");
}

#[test]
fn a_wrong_key_two_nights_running_loses_nothing_and_is_told_both_times() {
    let world = World::ready();
    let told = world.script("told.sh", "cat >>$W/told.jsonl; echo >>$W/told.jsonl");
    world.configure(&format!("[notify]\non_result = [\"{}\"]", told.display()));
    night(&world, 0);
    world.app.set_key(WRONG);
    night(&world, 3);
    night(&world, 3);

    let listed = world.json("list", 0);
    let verdicts: Vec<String> = listed.as_array().expect("rows").iter().map(|r| text(&r["verdict"])).collect();
    assert_eq!(verdicts, ["proved", "wrong-key", "wrong-key"]);
    let lines = std::fs::read_to_string(world.path("told.jsonl")).expect("told");
    let told: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(told.len(), 3);
    for (n, told) in told.iter().enumerate() {
        assert_eq!(told["verb"], "backup");
        assert_eq!(told["result"]["bundle"], listed[n]["bundle"]);
        assert_eq!(told["result"]["verdict"], listed[n]["verdict"]);
    }
    assert_eq!(told[2]["result"]["credentials"]["failed"], CREDENTIALS);

    world.run("check --all", 0);
    world.run(&format!("verify latest -i {IDENTITY}"), 12);
    world.run(&format!("restore latest-proved --target back -i {IDENTITY}"), 0);
    let rows = crate::app::number(&world.path("back/database.sqlite"), "SELECT count(*) FROM repositories");
    assert_eq!(rows, i64::try_from(CREDENTIALS + 1).expect("few"));
}

#[test]
fn a_night_that_fails_is_told_too() {
    let world = World::ready();
    let told = world.script("told.sh", "cat >$W/told.json");
    world.configure(&format!("[notify]\non_result = [\"{}\"]", told.display()));
    std::fs::rename(world.app.database(), world.path("away")).expect("moved");
    night(&world, 10);
    let told: Value = serde_json::from_slice(&std::fs::read(world.path("told.json")).expect("told")).expect("JSON");
    assert_eq!(told["exit"], 10);
    assert!(text(&told["result"]["error"]["message"]).contains("database.sqlite"));
}

#[test]
fn a_teller_that_fails_is_a_problem_and_no_lost_backup() {
    let world = World::ready();
    let told = world.script("told.sh", "echo the pager is off >&2; exit 1");
    world.configure(&format!("[notify]\non_result = [\"{}\"]", told.display()));
    night(&world, 3);
    // Whoever reads one line of it knows that the backup was made.
    world.run("backup -q", 3).says(": stored; ").says("the result was not told");
    world.run("check", 0);
}
