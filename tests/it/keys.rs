//! `key …`: which keys there are, who needs them, their copies, and a new one in an old one's place.

use std::path::Path;

use crate::app::{CREDENTIALS, KEY, WRONG, secret_file};
use crate::keyring::{deposit, in_use, with_set_key};
use crate::world::{IDENTITY, World, codes, text};

#[test]
fn status_needed_and_history_tell_the_life_of_two_keys() {
    let (world, first) = World::backed_up();
    let right = in_use(&world);
    world.app.set_key(WRONG);
    let second = world.backup(3);
    let keys = world.json("key status", 0);
    assert_eq!((&keys[0]["state"], &keys[1]["state"]), (&"kept".into(), &"in-use".into()));
    assert_eq!(keys[0]["fingerprint"], right.as_str());
    assert_eq!(keys[0]["bundles"], serde_json::json!([first]));
    assert!(keys[0]["last_proved"].is_string() && keys[1]["last_proved"].is_null());
    assert_eq!(keys[0]["escrows"].as_array().map(Vec::len), Some(1));

    let needed = world.json("key needed --all", 0);
    assert_eq!((&needed[0]["bundle"], &needed[1]["bundle"]), (&first.as_str().into(), &second.as_str().into()));
    assert_eq!(needed[0]["copies"][0], "the bundle");
    assert_eq!(world.json(&format!("key needed {first}"), 0).as_array().map(Vec::len), Some(1));
    world.run("key history", 0).says("put into").says("used from bundle");
    // Without a configuration the card is enough.
    world.call("key status --card safe/recovery-card.txt").cwd(world.path("")).ends(0).says(&right[..12]);
}

#[test]
fn a_key_without_a_copy_in_escrow_is_for_a_person_to_look_at() {
    let (world, _) = World::backed_up();
    let fingerprint = in_use(&world);
    std::fs::remove_dir_all(world.path(format!("archive/keys/package-broker/{fingerprint}"))).expect("removed");
    assert_eq!(world.run("key status", 3).stderr.matches("no escrow holds").count(), 1);
    world.run("key escrow", 0);
    world.run("key status", 0);
}

#[test]
fn a_bundle_whose_key_has_no_copy_left_is_for_a_person_to_look_at() {
    let (world, whole) = World::backed_up();
    world.configure("[rules]\nkey_in_bundle = false");
    let bare = world.backup(0);
    std::fs::remove_dir_all(world.path("archive/keys")).expect("removed");
    let needed = world.run("key needed --all", 3);
    needed.says(&format!("which bundle {bare} needs")).says("key escrow");
    needed.keeps_quiet_about(&format!("which bundle {whole} needs"));
    assert_eq!(world.json("key needed", 3)[0]["copies"], serde_json::json!([]));
    world.run(&format!("key needed {whole}"), 0);
    world.run("key escrow", 0);
    world.run("key needed --all", 0);
}

#[test]
fn a_deposit_that_somebody_changed_is_repaired_only_when_asked() {
    let (world, _) = World::backed_up();
    for record in world.files("archive/keys").iter().filter(|f| Path::new(f).extension().is_some_and(|e| e == "json")) {
        std::fs::write(world.path("archive/keys").join(record), "{}").expect("written");
    }
    assert!(codes(&world.json("key escrow", 3)).contains(&"escrow-missed".to_owned()));
    assert_eq!(world.backup(3).len(), 25);
    assert!(codes(&world.json("key escrow --repair", 0)).is_empty());
    world.run(&format!("key verify -i {IDENTITY}"), 0);
}

#[test]
fn copies_are_opened_and_the_one_in_use_is_tried_on_the_live_database() {
    let (world, _) = World::backed_up();
    let fingerprint = in_use(&world);
    let good = world.json(&format!("key verify -i {IDENTITY}"), 0);
    assert_eq!(good["copies"].as_array().map(Vec::len), Some(2));
    assert_eq!(good["live"]["verdict"], "proved");
    world.run("key verify", 2);
    world.run(&format!("key verify beefbeef -i {IDENTITY}"), 10);
    world.run(&format!("key verify xyz -i {IDENTITY}"), 2);
    world.app.add_credential(90, WRONG);
    assert_eq!(world.json(&format!("key verify {} -i {IDENTITY}", &fingerprint[..8]), 12)["live"]["verdict"], "mixed");
}

#[test]
fn copies_of_a_key_that_there_is_nothing_to_try_on_are_for_a_person_to_look_at() {
    let (world, _) = World::backed_up();
    let old = in_use(&world);
    world.app.execute("DELETE FROM repositories WHERE id <> 'manual'");
    let looked = world.json(&format!("key verify -i {IDENTITY}"), 3);
    assert_eq!((&looked["live"]["verdict"], codes(&looked).len()), (&"unproven".into(), 0));
    world.run(&format!("key doctor -i {IDENTITY}"), 3);
    // Another one than the key in use is only opened.
    world.app.set_key(WRONG);
    world.backup(3);
    world.run(&format!("key verify {old} -i {IDENTITY}"), 0);
}

#[test]
fn fetch_writes_the_exact_bytes_for_their_owner_and_overwrites_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let (world, _) = World::backed_up();
    world.run(&format!("key fetch -i {IDENTITY} -o fetched"), 0).keeps_quiet_about(KEY);
    assert_eq!(std::fs::read(world.path("fetched")).expect("read"), KEY.as_bytes());
    let mode = std::fs::metadata(world.path("fetched")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    world.run(&format!("key fetch -i {IDENTITY} -o fetched"), 15);
    assert_eq!(world.run(&format!("key fetch -i {IDENTITY} -o -"), 0).out, KEY.as_bytes());
    world.run(&format!("key fetch -i {IDENTITY} -o - --json"), 2).says("both want standard output");
    let other = world.path("other.txt");
    let stranger = std::process::Command::new("age-keygen").arg("-o").arg(&other).output().expect("age-keygen runs");
    assert!(stranger.status.success());
    world.run("key fetch -i other.txt -o never", 16);
    assert!(!world.path("never").exists());
}

#[test]
fn exec_gives_the_key_to_the_command_alone() {
    let (world, _) = World::backed_up();
    let said =
        world.call(&format!("key exec -i {IDENTITY} -- /bin/sh -c")).arg("printf %s \"$ENCRYPTION_KEY\"; exit 5");
    assert_eq!(said.ends(5).stdout, KEY);
}

#[test]
fn doctor_names_the_keys_that_rows_are_under() {
    let (world, _) = World::backed_up();
    let old = in_use(&world);
    world.run(&format!("key doctor -i {IDENTITY}"), 0);
    world.app.set_key(WRONG);
    world.app.add_credential(90, WRONG);
    let found = world.json(&format!("key doctor -i {IDENTITY}"), 12);
    assert_eq!(found["under"][&old[..12]], CREDENTIALS);
    assert_eq!(found["credentials"]["proved"], 1);
}

#[test]
fn a_key_in_use_is_not_retired_and_one_that_was_is() {
    let (world, _) = World::backed_up();
    let old = in_use(&world);
    world.run(&format!("key retire {old}"), 15);
    world.app.set_key(WRONG);
    world.backup(3);
    world.run(&format!("key retire {}", &old[..6]), 0).says("1 bundle needs it still");
    assert_eq!(world.json("key status", 0)[0]["state"], "retired");
    world.run(&format!("key retire {old}"), 15);
}

#[test]
fn a_rotation_puts_every_credential_under_a_new_key_and_strands_no_bundle() {
    let (world, before) = World::backed_up();
    let old = in_use(&world);
    with_set_key(&world);
    world.run("key rotate --dry-run", 0).says("re-encrypt 4 credentials");
    world.run("key rotate", 15).says("--yes");
    assert_eq!(in_use(&world), old, "nothing has happened yet");

    let done = world.json("key rotate --yes --reason leaked", 0);
    assert_eq!((text(&done["old"]), text(&done["state"])), (old.clone(), "done".to_owned()));
    let new = text(&done["new"]);
    assert_eq!(in_use(&world), new);
    assert!(!world.path("strongroom-state/rotation.json").exists());
    assert_eq!(world.app.number("SELECT count(*) FROM repositories WHERE auth_credentials = '{}'"), 1);
    world.run("prove", 0);
    world.call("prove --key env:OLD").env("OLD", KEY).ends(12);
    world.run("key history", 0).says("leaked");
    // Bundles of both keys open, each with its own.
    for bundle in [before.as_str(), "latest"] {
        world.run(&format!("verify {bundle} --deep -i {IDENTITY}"), 0);
    }
    world.run(&format!("key verify {} -i {IDENTITY}", &old[..8]), 0);
    world.run("key rotate --resume", 10);
}

#[test]
fn a_rotation_without_a_hook_waits_for_the_configuration() {
    let (world, _) = World::backed_up();
    let waiting = world.json("key rotate --yes", 3);
    assert_eq!(codes(&waiting), ["not-configured"]);
    world.run("key rotate --yes", 15).says("--resume");
    world.run("key rotate --resume", 3);
    let file = std::fs::read(world.path("strongroom-state/rotation.json")).expect("the new key is there");
    let record: serde_json::Value = serde_json::from_slice(&file).expect("JSON");
    let key = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text(&record["key_b64"]));
    world.app.set_key(&String::from_utf8(key.expect("base64")).expect("text"));
    assert_eq!(world.json("key rotate --resume", 0)["state"], "done");
}

#[test]
fn a_configured_key_that_cannot_be_read_is_no_other_key_and_runs_no_hook() {
    use std::os::unix::fs::PermissionsExt as _;
    let (world, _) = World::backed_up();
    let hook = world.script("set-key.sh", "cat >>$W/given; exit 1");
    world.configure(&format!("set_key = [\"{}\"]", hook.display()));
    assert_eq!(codes(&world.json("key rotate --yes", 3)), ["not-configured", "set-key-failed"]);
    let given = std::fs::read(world.path("given")).expect("given");
    let env = world.path("app/.env");
    let mode = |mode| std::fs::set_permissions(&env, std::fs::Permissions::from_mode(mode)).expect("set");
    mode(0o640);
    world.run("key rotate --resume", 15).says(".env").says("under the new key").says("--resume");
    mode(0o600);
    assert_eq!(std::fs::read(world.path("given")).expect("given"), given, "the hook has not run");
    // A place that is gone may be gone with the application that was stopped: the hook makes it anew.
    std::fs::rename(&env, world.path("aside")).expect("moved");
    world.run("key rotate --resume", 10).says(".env").keeps_quiet_about("another one");
    assert_eq!(std::fs::read(world.path("given")).expect("given"), [given.clone(), given].concat());
    std::fs::rename(world.path("aside"), &env).expect("moved back");
    world.run("key rotate --resume", 3).says("still gives another one");
}

#[test]
fn a_row_that_does_not_decrypt_stops_a_rotation_before_anything_is_changed() {
    let (world, _) = World::backed_up();
    with_set_key(&world);
    world.app.add_credential(90, WRONG);
    let before = world.state_of("app");
    world.run("key rotate --yes", 12).says("repo-90");
    assert_eq!(world.state_of("app"), before);
    assert!(!world.path("strongroom-state/rotation.json").exists());
}

#[test]
fn a_new_key_that_is_the_old_one_or_cannot_be_escrowed_is_refused() {
    let (world, _) = World::backed_up();
    with_set_key(&world);
    // The application counts 32 characters of it.
    secret_file(&world.path("same"), &KEY[..32]);
    world.run("key rotate --yes --new file:same", 15);
    let before = world.state_of("app");
    world.configure("[[escrow]]\nkind = \"file\"\npath = \"/proc/nowhere\"\n[rules]\nescrow_min_copies = 2");
    world.run("key rotate --yes", 20).says("1 of 2 escrows");
    assert_eq!(world.state_of("app"), before);
}

#[test]
fn an_old_key_that_no_escrow_has_whole_is_not_rotated_away() {
    let world = World::ready();
    world.configure("[rules]\nkey_in_bundle = false");
    world.backup(0);
    let old = in_use(&world);
    with_set_key(&world);
    let before = world.state_of("app");
    let sealed = deposit(&world, ".age");
    let whole = std::fs::read(&sealed).expect("read");
    std::fs::write(&sealed, [&whole[..], b"x"].concat()).expect("written");
    let said = world.run("key rotate --yes", 14);
    said.says("0 of 1 escrows hold the old key").says("key escrow --repair").says("--resume").says("--abort");
    assert_eq!(world.state_of("app"), before, "neither rows nor key were touched");
    // In the bundle it is safe, too.
    let other = world.copy();
    let path = other.path("strongroom.toml");
    let config = std::fs::read_to_string(&path).expect("read");
    secret_file(&path, &config.replace("key_in_bundle = false", "key_in_bundle = true"));
    other.run("key rotate --resume --yes", 3).says("took the place of");
    other.run(&format!("key verify {old} -i {IDENTITY}"), 3).says("opens, and is that key");

    world.run("key escrow --repair", 0);
    assert_eq!(world.json("key rotate --resume --yes", 0)["state"], "done");
    world.run("key needed --all", 0).keeps_quiet_about("none");
}

#[test]
fn a_new_key_that_can_be_guessed_or_is_more_than_a_key_is_refused_and_one_that_is_odd_is_told() {
    let (world, _) = World::backed_up();
    with_set_key(&world);
    let before = world.state_of("app");
    for (key, said) in [
        ("short", "fills it up"),
        ("changeme", "example"),
        (&format!("PORT=3000\nENCRYPTION_KEY=\"{KEY}\"\n"), "dotenv:"),
    ] {
        secret_file(&world.path("given"), key);
        for verb in ["key rotate --dry-run --new file:given", "key rotate --yes --new file:given"] {
            world.run(verb, 15).says(said).says("Nothing was changed").keeps_quiet_about("short\"");
        }
    }
    assert_eq!(world.state_of("app"), before);
    assert!(!world.path("strongroom-state/rotation.json").exists());
    secret_file(&world.path("given"), "qLw8-vKe2-Tn6x-Zb9r-Hd4c-Pm7y-Js3u");
    let ran = world.run("key rotate --yes --new file:given", 0);
    ran.says("warning: the key is not base64");
}

#[test]
fn a_rotation_that_goes_on_looks_first_whether_the_application_can_be_started() {
    let (world, _) = World::backed_up();
    with_set_key(&world);
    let (stop, start) = (
        world.script("stop.sh", "echo stop >>$W/told; test ! -e $W/busy"),
        world.script("start.sh", "echo start >>$W/told"),
    );
    world.configure(&format!("stop = [\"{}\"]\nstart = [\"{}\"]", stop.display(), start.display()));
    std::fs::write(world.path("busy"), "").expect("written");
    world.run("key rotate --yes", 1).says("--resume");
    std::fs::remove_file(world.path("busy")).expect("removed");
    std::fs::rename(&start, world.path("aside.sh")).expect("moved");
    let told = || std::fs::read_to_string(world.path("told")).expect("told");
    let before = told();
    for verb in ["--resume", "--abort"] {
        world.run(&format!("key rotate {verb} --yes"), 10).says("the start hook").says("start.sh");
    }
    let copy = world.copy();
    std::fs::rename(copy.path("aside.sh"), &start).expect("moved");
    std::fs::rename(&stop, world.path("stop.aside")).expect("moved");
    copy.run("key rotate --abort --yes", 0);
    std::fs::rename(world.path("stop.aside"), &stop).expect("moved back");
    std::fs::remove_file(&start).expect("removed");
    std::fs::write(world.path("told"), &before).expect("written");
    assert_eq!(told(), before, "no hook has run");
    std::fs::create_dir(&start).expect("made");
    world.run("key rotate --resume --yes", 10).says("cannot be executed");
    std::fs::remove_dir(&start).expect("removed");
    // Started in vain, the application has the new key, and the next run starts it.
    std::fs::rename(world.path("aside.sh"), &start).expect("moved back");
    let script = std::fs::read_to_string(&start).expect("read");
    world.script("start.sh", "exit 1");
    world.run("key rotate --resume --yes", 1).says("under the new key").says("--resume");
    std::fs::write(&start, script).expect("written");
    assert_eq!(world.json("key rotate --resume --yes", 0)["state"], "done");
}

#[test]
fn an_application_that_has_the_database_open_is_not_rotated_under() {
    let (world, _) = World::backed_up();
    with_set_key(&world);
    let ready = world.path("ready");
    let mut holder = std::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("exec 3<{}; touch {}; read x", world.app.database().display(), ready.display()))
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    while !ready.exists() {
        std::thread::yield_now();
    }
    let before = world.app.number("SELECT sum(length(auth_credentials)) FROM repositories");
    world.run("key rotate --yes", 15).says("open");
    drop(holder.stdin.take());
    holder.wait().expect("ended");
    assert_eq!(world.app.number("SELECT sum(length(auth_credentials)) FROM repositories"), before);
    assert_eq!(world.json("key rotate --resume", 0)["state"], "done");
}
