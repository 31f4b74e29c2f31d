//! The later life of a key: rows of another one come under it, the application runs on meanwhile, a restore adopts it, it is destroyed.

use std::path::PathBuf;

use strongroom::archive::folder::Folder;
use strongroom::escrow::{self, ArchiveEscrow, Escrow as _, Record};
use strongroom::ground::names::Fingerprint;
use strongroom::signer::{Signer, Trusted};
use zeroize::Zeroizing;

use crate::app::{CREDENTIALS, KEY, WRONG, number, secret_file};
use crate::keyring::{config, in_use, outlived, with_set_key};
use crate::world::{IDENTITY, World, text};

fn fingerprint(world: &World, key: &str) -> String {
    let said = world.call("key fingerprint env:CANDIDATE --json").env("CANDIDATE", key).ends(0).json();
    text(&said["fingerprint"])
}

fn state(world: &World, fingerprint: &str, code: i32) -> String {
    let keys = world.json("key status", code);
    let keys = keys.as_array().expect("keys");
    text(&keys.iter().find(|k| k["fingerprint"] == fingerprint).expect("the key is known")["state"])
}

fn copies(world: &World, fingerprint: &str) -> usize {
    world.files("archive/keys").iter().filter(|file| file.contains(fingerprint)).count()
}

#[test]
fn a_key_is_destroyed_when_nothing_needs_it_and_not_before() {
    let (world, old) = outlived();
    let new = in_use(&world);
    world.run(&format!("key destroy {new} --yes"), 15).says("in use");
    world.run(&format!("key destroy {old}"), 15).says("--yes");
    assert_eq!(copies(&world, &old), 3);

    // A row that the key in use does not open may be under that one.
    world.app.add_credential(70, KEY);
    world.run(&format!("key destroy {old} --yes"), 15).says("key doctor");
    world.app.execute("DELETE FROM repositories WHERE id = 'repo-70'");
    assert_eq!(copies(&world, &old), 3);

    let done = world.json(&format!("key destroy {old} --yes --reason outlived"), 0);
    assert_eq!(done["gone"].as_array().map(Vec::len), Some(1));
    assert!(done["remaining"].to_string().contains("key.age of bundles that were pruned"), "{done}");
    assert_eq!((copies(&world, &old), copies(&world, &new)), (0, 3));
    assert_eq!(state(&world, &old, 0), "destroyed");
    world.run("key history", 0).says("destroyed: outlived");
    world.run(&format!("key fetch {old} -i {IDENTITY} -o never"), 10);
    // Once more is no harm, and enters nothing.
    assert!(world.json(&format!("key destroy {old} --yes"), 0)["seq"].is_null());
    world.run("check --all", 0);
    world.run("prove", 0);
}

#[test]
fn a_destruction_that_was_entered_and_not_done_shows_and_goes_on() {
    let (world, old) = outlived();
    let before = world.copy();
    world.run(&format!("key destroy {old} --yes"), 0);
    // The entry without the removal, as a run that was killed leaves it.
    let from = before.path("archive/keys");
    let status = std::process::Command::new("/bin/cp").arg("-a").arg(from).arg(world.path("archive")).status();
    assert!(status.expect("cp runs").success());
    world.run("key status", 3).says("was to be destroyed").says("key destroy");
    // A bundle that came since, and names no key, may need what is there.
    let env = std::fs::read(world.path("app/.env")).expect("read");
    std::fs::remove_file(world.path("app/.env")).expect("removed");
    world.app.add_credential(90, KEY);
    let since = world.copy();
    since.backup(3);
    since.app.execute("DELETE FROM repositories WHERE id = 'repo-90'");
    secret_file(&since.path("app/.env"), std::str::from_utf8(&env).expect("text"));
    since.run(&format!("key destroy {old} --yes"), 15).says("-i FILE");
    since.run(&format!("key destroy {old} --yes -i {IDENTITY}"), 15).says("opens 1 credential of bundle");
    assert_eq!(copies(&since, &old), 3);
    world.app.execute("DELETE FROM repositories WHERE id = 'repo-90'");
    secret_file(&world.path("app/.env"), std::str::from_utf8(&env).expect("text"));
    world.run(&format!("key destroy {old} --yes"), 0).says("gone from");
    assert_eq!((copies(&world, &old), state(&world, &old, 0)), (0, "destroyed".to_owned()));
}

#[test]
fn a_key_is_not_destroyed_while_a_bundle_that_names_none_may_need_it() {
    let world = World::ready();
    let old = fingerprint(&world, KEY);
    world.run("key escrow", 0);
    std::fs::remove_file(world.path("app/.env")).expect("removed");
    let unnamed = world.backup(3);
    // All begins anew under another key.
    world.app.execute("DELETE FROM artifacts; DELETE FROM repositories WHERE id <> 'manual'");
    world.app.set_key(WRONG);
    world.app.add_credential(80, WRONG);
    world.backup(0);
    let destroy = format!("key destroy {old} --yes");
    world.run(&destroy, 15).says(&unnamed).says("-i FILE");
    world.run(&format!("{destroy} -i {IDENTITY}"), 15).says(&unnamed).says("opens");
    // Once somebody has found it out, the ledger says it.
    world.run(&format!("verify {unnamed} --deep -i {IDENTITY}"), 0);
    world.run(&destroy, 15).says("1 bundle needs key").says(&unnamed);
    assert_eq!(copies(&world, &old), 3);
}

#[test]
fn nothing_is_destroyed_by_a_ledger_that_lost_its_end() {
    let (world, old) = outlived();
    world.backup(0);
    let entries = world.files("archive/ledger");
    let newest = entries.iter().filter(|file| !file.ends_with(".minisig")).max().expect("an entry").clone();
    for file in [newest.clone(), format!("{newest}.minisig")] {
        std::fs::remove_file(world.path("archive/ledger").join(file)).expect("removed");
    }
    world.run(&format!("key destroy {old} --yes"), 14).says("remembered");
    // What this host remembers is not made anew by looking at it.
    let state = world.path("strongroom-state/state.sqlite");
    std::fs::write(&state, vec![7; 5000]).expect("damaged");
    for _ in 0..2 {
        world.run(&format!("key destroy {old} --yes"), 15).says("cannot be read from").says("state.sqlite");
    }
    std::fs::remove_file(&state).expect("removed");
    world.run(&format!("key destroy {old} --yes"), 15).says("has made bundles").says("the next backup");
    assert!(!state.exists());
    assert_eq!(copies(&world, &old), 3);
    // That is told, and then a person has seen it.
    world.backup(3);
    world.run(&format!("key destroy {old} --yes"), 0);
}

#[test]
fn a_key_is_tried_on_bundles_of_a_wrong_key_before_it_is_destroyed() {
    let (world, _) = World::backed_up();
    let third = "dGhlIHRoaXJkIGtleSBvZiBhIHRlc3QsIG5ldmVyIHU=";
    let (right, unused) = (fingerprint(&world, KEY), fingerprint(&world, third));
    world.app.set_key(third);
    world.run("key escrow", 0);
    world.app.set_key(WRONG);
    let wrong = world.backup(3);
    world.app.set_key(KEY);
    world.backup(0);
    world.run(&format!("key destroy {unused} --yes"), 15).says(&wrong).says("-i FILE");
    world.run(&format!("key destroy {unused} --yes -i {IDENTITY}"), 0);
    assert_eq!((copies(&world, &unused), copies(&world, &right)), (0, 3));
}

#[test]
fn a_key_that_is_escrowed_again_is_destroyed_no_more() {
    let world = World::ready();
    let other = fingerprint(&world, WRONG);
    // Configured by mistake, and never used.
    world.app.set_key(WRONG);
    world.run("key escrow", 0);
    world.run(&format!("key destroy {other} --yes"), 15).says("configured");
    world.app.set_key(KEY);
    world.backup(0);
    world.run(&format!("key destroy {other} --yes"), 0);
    assert_eq!(state(&world, &other, 0), "destroyed");
    world.app.set_key(WRONG);
    world.run("key escrow", 0);
    assert_eq!(state(&world, &other, 0), "kept");
}

#[test]
fn an_escrow_that_does_not_answer_keeps_a_key_from_being_destroyed_in_the_others() {
    let (world, old) = outlived();
    world.configure("[[escrow]]\nkind = \"file\"\npath = \"stick\"");
    world.run(&format!("key destroy {old} --yes"), 20).says("stick");
    assert_eq!((copies(&world, &old), state(&world, &old, 3)), (3, "kept".to_owned()));
}

#[test]
fn rows_under_another_known_key_come_under_the_one_in_use() {
    let (world, _) = World::backed_up();
    let old = in_use(&world);
    // Somebody changed the key, and the application went on with the new one.
    world.app.set_key(WRONG);
    world.app.add_credential(90, WRONG);
    // And one row is under a key that nobody knows.
    world.app.add_credential(91, "a key that nobody knows, not even us at all");
    let line = format!("key rotate --from {} -i {IDENTITY}", &old[..8]);
    let plan = world.json(&format!("{line} --dry-run"), 0);
    assert_eq!((&plan["moved"], &plan["state"]), (&CREDENTIALS.into(), &"planned".into()));
    world.run(&line, 15).says("--yes");
    world.run(&format!("key rotate --from {} --yes", &old[..8]), 2).says("-i FILE");
    world.run("key rotate --from 0000 --yes", 10);

    let done = world.json(&format!("{line} --yes"), 3);
    assert_eq!((&done["moved"], &done["credentials"]["failed"]), (&CREDENTIALS.into(), &1.into()), "{done}");
    world.app.execute("DELETE FROM repositories WHERE id = 'repo-91'");
    world.run("prove", 0);
    assert_eq!(text(&done["new"]), fingerprint(&world, WRONG));
    world.run("key history", 0).says(&format!("re-encrypted after {}", &old[..12]));
    world.run(&format!("key doctor -i {IDENTITY}"), 0);
    // Nothing is left to do.
    assert_eq!(world.json(&format!("{line} --yes"), 0)["moved"], 0);
    world.app.set_key(KEY);
    world.run(&format!("{line} --yes"), 2).says("the one in use");
}

#[test]
fn a_rotation_beside_a_running_application_looks_a_second_time() {
    let (world, _) = World::backed_up();
    let open = rusqlite::Connection::open(world.app.database()).expect("opened");
    open.execute_batch("PRAGMA journal_mode = WAL; SELECT count(*) FROM repositories").expect("in use");
    world.run("key rotate --yes", 15).says("open");
    std::fs::remove_file(world.path("strongroom-state/rotation.json")).expect("given up");

    let waiting = world.run("key rotate --online --yes", 3);
    let waiting = waiting.says("start the application anew").says("head -n 1");
    waiting.keeps_quiet_about(KEY);
    world.call("prove --key env:OLD").env("OLD", KEY).ends(12);
    // The application has the old key still, and writes with it.
    world.app.add_credential(92, KEY);
    world.app.add_credential(93, KEY);
    world.app.set_key(&pending_key(&world));
    let done = world.run("key rotate --resume", 0);
    done.says("2 of them were written under the old key meanwhile");
    world.run("prove", 0).says(&format!("all {} credentials", CREDENTIALS + 2));
    assert!(!world.path("strongroom-state/rotation.json").exists());
    drop(open);
}

/// The new key of a rotation under way, as its file holds it on the first line.
fn pending_key(world: &World) -> String {
    let file = std::fs::read_to_string(world.path("strongroom-state/rotation.json")).expect("the new key is there");
    let record: serde_json::Value = serde_json::from_str(file.lines().next().expect("a line")).expect("JSON");
    let key = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text(&record["key_b64"]));
    String::from_utf8(key.expect("base64")).expect("text")
}

#[test]
fn with_hooks_a_rotation_beside_the_application_starts_it_anew_and_ends() {
    let (world, _) = World::backed_up();
    world.script("log", "echo \"$1\" >>\"$W/log.txt\"");
    with_set_key(&world);
    world.configure("stop = [\"./log\", \"stop\"]\nstart = [\"./log\", \"start\"]");
    world.run("key rotate --online --dry-run", 0).says("look a second time");
    assert_eq!(world.json("key rotate --online --yes", 0)["state"], "done");
    assert_eq!(std::fs::read_to_string(world.path("log.txt")).expect("written"), "stop\nstart\n");
    world.run("prove", 0);
}

/// A bundle under the old key, and an application that is configured with another one.
fn moved_on(in_bundle: bool) -> (World, String) {
    let world = World::ready();
    let backup = world.call("backup --json").env("STRONGROOM_RULES_KEY_IN_BUNDLE", in_bundle.to_string());
    let id = text(&backup.ends(0).json()["bundle"]);
    world.app.set_key(WRONG);
    world.app.execute("UPDATE repositories SET auth_credentials = '{}'");
    (world, id)
}

#[test]
fn a_restore_puts_the_credentials_under_the_configured_key_before_the_swap() {
    for in_bundle in [true, false] {
        let (world, id) = moved_on(in_bundle);
        let line = format!("restore {id} -i {IDENTITY}");
        world.run(&format!("{line} --yes"), 12);
        let before = world.state_of("app");
        let plan = world.json(&format!("{line} --rekey --dry-run"), 0);
        assert_eq!(text(&plan["rekey"]["to"]), fingerprint(&world, WRONG));
        assert_eq!(
            (&plan["rekey"]["from"], &plan["rekey"]["credentials"]),
            (&plan["fingerprint"], &CREDENTIALS.into())
        );
        assert_eq!(world.state_of("app"), before);
        world.run(&format!("{line} --rekey --dry-run"), 0).says("before the swap");
        world.run(&format!("{line} --rekey --yes"), 0).says("put under key");
        world.run("prove", 0).says(&format!("all {CREDENTIALS} credentials"));
        world.backup(0);
        // What stood there is kept as it was; once more there is nothing to re-encrypt.
        let kept = world.files("app").into_iter().find(|f| f.starts_with("database.sqlite.before-")).expect("kept");
        let unencrypted = "SELECT count(*) FROM repositories WHERE auth_credentials = '{}'";
        assert_eq!(number(&world.path("app").join(kept), unencrypted), i64::try_from(CREDENTIALS).expect("few") + 1);
        world.app.set_key(KEY);
        assert!(world.json(&format!("{line} --rekey --yes"), 0)["plan"]["rekey"].is_null());
        world.run("prove", 0);
    }
}

#[test]
fn a_restore_that_re_encrypts_is_put_back_as_a_whole_when_it_fails() {
    let (world, id) = moved_on(true);
    world.configure("health = { url = \"http://127.0.0.1:9/\", within_seconds = 0 }");
    let before = world.app.number("SELECT count(*) FROM repositories WHERE auth_credentials = '{}'");
    world.run(&format!("restore {id} --rekey --yes --only database -i {IDENTITY}"), 20).says("put back");
    assert_eq!(world.app.number("SELECT count(*) FROM repositories WHERE auth_credentials = '{}'"), before);
}

#[test]
fn re_encrypting_where_there_is_no_database_to_do_it_in_is_refused() {
    let (world, id) = moved_on(true);
    world.run(&format!("restore {id} --rekey --target out -i {IDENTITY}"), 2).says("--database URL");
    world.run(&format!("restore {id} --rekey --only storage --yes -i {IDENTITY}"), 2);
    world.run(&format!("restore {id} --rekey --accept-unproved --yes -i {IDENTITY}"), 2);
    assert!(!world.path("out").exists());
    // But into a new database, which is what is to be done instead.
    let fresh = format!("restore {id} --rekey --yes --only database --database sqlite:fresh.sqlite -i {IDENTITY}");
    world.run(&fresh, 0);
    world.run("prove sqlite:fresh.sqlite --key dotenv:app/.env#ENCRYPTION_KEY", 0);
}

/// Puts a record into the archive's escrow in the place of the bundle's key.
fn plant(world: &World, key: &str, named: &str, signer: &Signer) {
    let config = config(world);
    let record = Record {
        key: Zeroizing::new(key.as_bytes().to_vec()),
        scheme: "package-broker".to_owned(),
        fingerprint: named.parse::<Fingerprint>().expect("a fingerprint"),
        app: config.app.clone(),
        created: strongroom::ground::clock::now(),
        source: "env:ENCRYPTION_KEY".to_owned(),
        predecessor: None,
        reason: None,
    };
    let planted = escrow::prepare(&record, &config.recipient, signer).expect("prepared");
    let folder = Folder::open(&world.path("archive")).expect("an archive");
    let own = Trusted::new(vec![*signer.public()]);
    ArchiveEscrow::new(&folder).repair(&planted.sealed, &planted.public, &planted.minisig, &own).expect("planted");
}

#[test]
fn a_planted_record_is_never_adopted() {
    let (world, id) = moved_on(false);
    let real = fingerprint(&world, KEY);
    let line = format!("restore {id} --rekey --yes -i {IDENTITY}");
    let before = world.state_of("app");
    let mallory = Signer::generate().expect("random");
    let host = Signer::load(&world.path("strongroom-signing.key")).expect("a signer");
    // The right key under the right name, signed by nobody whom we believe; then, signed, another key under that name.
    for (key, signer) in [(KEY, &mallory), (WRONG, &mallory), (WRONG, &host)] {
        plant(&world, key, &real, signer);
        world.run(&line, 14).says("vouches for it");
        assert_eq!(world.state_of("app"), before);
        let from = format!("key rotate --from {} --yes -i {IDENTITY}", &real[..8]);
        let said = world.run(&from, 14);
        said.says("no copy of key");
        assert_eq!(world.state_of("app"), before);
    }
    // The real record, put back by whoever has the key.
    plant(&world, KEY, &real, &host);
    world.run(&line, 0);
    world.run("prove", 0);
}

#[test]
fn a_new_key_given_by_a_file_is_taken_and_the_old_key_is_written_nowhere() {
    let (world, _) = World::backed_up();
    with_set_key(&world);
    let given: PathBuf = world.path("given");
    secret_file(&given, WRONG);
    world.run("key rotate --yes --new file:given", 0).keeps_quiet_about(WRONG);
    assert_eq!(in_use(&world), fingerprint(&world, WRONG));
    assert!(world.files("strongroom-state").iter().all(|f| !f.contains("rotation")));
}
