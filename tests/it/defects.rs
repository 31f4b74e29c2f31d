//! What a backup found wrong with what it stored is told of its bundle, by every verb and for ever.

use std::os::unix::net::UnixListener;

use crate::app::object;
use crate::forge::{Forge, read_text};
use crate::world::{IDENTITY, World, codes, text};

#[test]
fn files_that_were_left_out_are_told_of_their_bundle_and_of_no_other() {
    let (world, clean) = World::backed_up();
    let socket = world.app.storage().join("socket");
    let listening = UnixListener::bind(&socket).expect("bound");
    let lacking = text(&world.json("backup", 3)["bundle"]);
    drop(listening);
    std::fs::remove_file(socket).expect("removed");

    let listed = world.json("list", 0);
    assert_eq!(listed[0]["problems"], serde_json::json!([]));
    assert_eq!(listed[1]["problems"], serde_json::json!(["left-out"]));
    let said = world.run("list", 0);
    let row = |id: &str| said.stdout.lines().find(|line| line.starts_with(id)).expect("a row").to_owned();
    assert!(row(&lacking).ends_with("  left-out") && row(&clean).ends_with("  -"));
    world.run(&format!("show {lacking}"), 0).says("problems      left-out");
    world.run(&format!("show {clean}"), 0).keeps_quiet_about("problems");

    let mut calls = vec![
        (format!("verify {lacking} -i {IDENTITY}"), 3),
        (format!("verify {lacking} --deep -i {IDENTITY}"), 3),
        (format!("restore {lacking} --dry-run -i {IDENTITY}"), 0),
        (format!("restore {lacking} --target lacking --dry-run -i {IDENTITY}"), 0),
        (format!("restore {lacking} --target lacking -i {IDENTITY}"), 3),
        (format!("restore {lacking} --yes -i {IDENTITY}"), 3),
    ];
    for (line, code) in &calls {
        assert_eq!(codes(&world.json(line, *code)), ["bundle-left-out"], "{line}");
    }
    let quiet = world.run(&format!("verify {lacking} -q -i {IDENTITY}"), 3);
    quiet.says(&format!("bundle {lacking}: when it was made, files of the storage were left out"));
    // It says nothing of what is not used.
    calls = vec![
        (format!("restore {lacking} --only database --target database -i {IDENTITY}"), 0),
        (format!("verify {clean} -i {IDENTITY}"), 0),
        (format!("restore {clean} --target clean -i {IDENTITY}"), 0),
    ];
    for (line, code) in &calls {
        assert_eq!(codes(&world.json(line, *code)), Vec::<String>::new(), "{line}");
    }
    let after = text(&world.json("backup", 0)["bundle"]);
    world.run(&format!("verify {after} -i {IDENTITY}"), 0);
}

#[test]
fn a_bundle_whose_storage_is_anothers_tells_of_that_one() {
    let (world, _) = World::backed_up();
    let (stored, aside) = (world.app.storage(), world.path("aside"));
    world.app.execute("DELETE FROM artifacts");
    std::fs::rename(&stored, &aside).expect("moved");
    std::fs::create_dir(&stored).expect("made");
    let empty = text(&world.json("backup", 3)["bundle"]);
    std::fs::remove_dir(&stored).expect("removed");
    std::fs::rename(&aside, &stored).expect("moved back");
    let database = text(&world.json("backup --only database", 0)["bundle"]);
    let listed = world.json("list", 0);
    assert_eq!(listed[1]["problems"], serde_json::json!(["storage-empty"]));
    assert_eq!(listed[2]["storage_from"], empty);
    for line in
        [format!("verify {database}"), format!("verify {database} --deep"), format!("restore {database} --target out")]
    {
        let json = world.json(&format!("{line} -i {IDENTITY}"), 3);
        assert_eq!(codes(&json), ["bundle-storage-empty"], "{line}");
        assert!(text(&json["problems"][0]["message"]).contains(&empty), "{json}");
    }
    // Nothing of that night is taken over.
    world.run("backup", 0);
    world.run(&format!("verify -i {IDENTITY}"), 0);
}

#[test]
fn what_is_lost_is_told_however_much_can_be_fetched_again() {
    let world = World::ready();
    let rows: Vec<_> = (0..25)
        .map(|n| {
            format!(
                "('gone-{n}','repo-1','acme/gone','{n}','{}',9,0,1,NULL)",
                object("repo-1", "acme/gone", &n.to_string())
            )
        })
        .collect();
    world.app.execute(&format!("INSERT INTO artifacts VALUES {}", rows.join(",")));
    let json = world.json("backup", 0);
    assert_eq!(json["storage"]["missing"], 25);
    assert!(codes(&json).iter().all(|code| code == "missing-fetchable"), "{json}");
    assert!(json["problems"].to_string().contains("5 more objects are missing"), "{json}");
    // What helps is said once for all of them.
    let told = world.run("backup", 0).stderr;
    assert_eq!(told.matches("It will be fetched again when it is asked for.").count(), 1, "{told}");
    assert_eq!(told.matches("the storage does not have it").count(), 20, "{told}");
    world.run(&format!("verify -i {IDENTITY}"), 0);
    std::fs::remove_file(world.app.storage().join(object("manual", "acme/tools", "1.0.0"))).expect("removed");
    let json = world.json("backup", 3);
    assert_eq!(codes(&json)[0], "missing-lost");
    assert_eq!(codes(&world.json(&format!("verify -i {IDENTITY}"), 3)), ["bundle-missing-lost"]);
}

#[test]
fn a_word_that_only_a_newer_program_knows_is_told_and_none_that_is_no_word() {
    let forge = Forge::new();
    let header = read_text(&forge.member("bundle.json"));
    let with = |problems: &str| header.replacen('{', &format!("{{\"problems\": {problems},"), 1);
    forge.put("bundle.json", with(r#"["eaten-by-a-fish"]"#).as_bytes());
    forge.sign();
    let line = format!("verify {} -i {IDENTITY}", forge.id);
    forge.world.run(&line, 3).says("its backup said eaten-by-a-fish").says("newer strongroom");
    forge.put("bundle.json", with(r#"["eaten by\u001b[2J"]"#).as_bytes());
    forge.sign();
    forge.world.run(&line, 13).keeps_quiet_about("\u{1b}");
}
