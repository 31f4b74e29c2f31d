//! A restore over the live system that did not end is told until another one makes it good.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::app::OBJECTS;
use crate::world::{IDENTITY, World, codes};

const MARK: &str = "strongroom-state/restore.json";
const PENDING: &str = "restore-pending";
const STOPPED: &str = "application-stopped";

/// Hooks that leave a file while the application runs; they work in every copy of a world.
#[cfg(feature = "failpoints")]
const HOOKS: &str = "stop = [\"/bin/rm\", \"-f\", \"running\"]\nstart = [\"/bin/touch\", \"running\"]";

/// Whether the verbs that should tell of it do; they all must say the same.
fn told(world: &World) -> bool {
    let says = ["backup", "config check"].map(|verb| {
        let json = world.call(&format!("{verb} --json")).run().json();
        codes(&json).iter().any(|code| code == PENDING || code == STOPPED)
    });
    assert_eq!(says[0], says[1]);
    says[0]
}

#[cfg(feature = "failpoints")]
#[test]
fn a_restore_killed_anywhere_is_told_until_it_is_run_again() {
    use std::os::unix::process::ExitStatusExt as _;

    let (template, id) = crate::kills::disaster();
    template.configure(HOOKS);
    let line = format!("restore {id} --yes -i {IDENTITY}");
    let at = |step: &str, file: &str| (format!("{step} "), file.to_owned());
    let named = |name: &str| (name.to_owned(), String::new());
    for ((step, file), stands, stopped) in [
        (at("before rename", MARK), false, false),
        (at("after rename", MARK), true, false),
        (named("after the stop hook"), true, true),
        (at("before rename", "app/database.sqlite"), true, true),
        (at("after rename", "app/database.sqlite"), true, true),
        (named("before the rename of a restored file"), true, true),
        (named("after the last sync of restored files"), true, true),
        (named("before the mark of a restore is removed"), true, false),
        (at("before remove", MARK), true, false),
        (at("after remove", MARK), false, false),
    ] {
        let world = template.copy();
        std::fs::write(world.path("running"), "").expect("written");
        let place = if file.is_empty() { step } else { format!("{step}{}", world.path(file).display()) };
        let mut call = world.call(&line).env("STRONGROOM_KILL_AT", &*place);
        let status = call.command().status().expect("started");
        assert_eq!(status.signal(), Some(9), "{place}: {status}");
        assert_eq!(!world.path("running").exists(), stopped, "{place}");
        assert_eq!(told(&world), stands, "{place}");
        if stands {
            assert_eq!(std::fs::metadata(world.path(MARK)).expect("it stands").permissions().mode() & 0o7777, 0o600);
            let said = world.run("backup", 3);
            said.says(&format!("a restore of bundle {id}, begun ")).says(&format!("strongroom restore {id} -i FILE"));
            said.says("the application may be stopped").says("database.sqlite and file:");
            world.run("backup -q", 3).says("has not ended");
        }
        let again = world.run(&line, 0);
        if stands {
            again.says(&format!("an earlier restore of bundle {id}, begun "));
        } else {
            again.keeps_quiet_about("an earlier restore");
        }
        assert!(world.path("running").exists(), "{place}");
        assert!(!world.path(MARK).exists(), "{place}");
        assert!(!told(&world), "{place}");
        world.run("backup", 0).keeps_quiet_about("has not ended");
    }
}

/// A bundle, and a mark that an earlier restore of it left.
fn left_by(world: &World, id: &str) -> Value {
    let root = world.path("").canonicalize().expect("a folder");
    let (database, storage) = (root.join("app/database.sqlite"), root.join("app/storage"));
    let text = format!(
        r#"{{"bundle":"{id}","begun":"2026-11-23T02:00:00Z","database":"sqlite:{}","storage":"file:{}","in_place":false,"stopped":false}}"#,
        database.display(),
        storage.display()
    );
    crate::app::secret_file(&world.path(MARK), &text);
    mark(world)
}

/// What the mark says, without what it leaves unsaid.
fn mark(world: &World) -> Value {
    let mut mark: Value = serde_json::from_slice(&std::fs::read(world.path(MARK)).expect("it stands")).expect("JSON");
    mark.as_object_mut().expect("an object").retain(|_, value| !value.is_null() && *value != serde_json::json!([]));
    mark
}

#[test]
fn a_bundle_that_was_made_meanwhile_makes_nothing_good() {
    let (world, id) = World::backed_up();
    left_by(&world, &id);
    world.run("backup", 3);
    assert_eq!(world.json("list", 0)[1]["problems"], serde_json::json!([PENDING]));
    let json = world.json(&format!("restore latest --yes -i {IDENTITY}"), 3);
    assert_eq!(codes(&json), ["bundle-restore-pending", PENDING]);
    assert!(told(&world));
    world.run("restore --cleanup --yes", 15).says("may be the way back");
    world.run("guard -- /bin/true", 0).says("guard: warning: a restore of bundle").says("has not ended");
    world.run(&format!("restore {id} --yes -i {IDENTITY}"), 0);
    assert!(!told(&world));
}

#[test]
fn a_guard_says_nothing_of_a_state_folder_that_it_may_not_read() {
    let (world, id) = World::backed_up();
    left_by(&world, &id);
    let world = world.owned_by_nobody();
    world.call_as_nobody("guard -- /bin/true").ends(0).says("guard: warning").says("has not ended");
    std::os::unix::fs::chown(world.path("strongroom-state"), Some(0), Some(0)).expect("given back");
    world.call_as_nobody("guard -- /bin/true").ends(0).keeps_quiet_about("guard: warning");
    // What cannot be read for another reason is told.
    let mark = world.path("strongroom-state/restore.json");
    std::fs::remove_file(&mark).expect("removed");
    std::fs::create_dir(&mark).expect("made");
    for path in [world.path("strongroom-state"), mark] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).expect("given");
    }
    world.call_as_nobody("guard -- /bin/true").ends(0).says("guard: warning").says("cannot be read");
}

#[test]
fn a_restore_makes_good_what_it_touches_and_one_that_fails_makes_nothing_good() {
    let (world, id) = World::backed_up();
    let left = left_by(&world, &id);
    let restore = format!("restore {id} -i {IDENTITY}");

    // What touches no live system, or nothing yet.
    let dry = world.json(&format!("{restore} --dry-run"), 0);
    assert_eq!(codes(&dry), [PENDING]);
    world.run(&format!("{restore} --dry-run"), 0).says("has not ended: sqlite:");
    world.run(&format!("{restore} --target out"), 0).keeps_quiet_about("has not ended");
    world.run(&format!("key doctor -i {IDENTITY}"), 0).says("has not ended");
    assert_eq!(mark(&world), left);

    // What is taken back is the state that the earlier one left.
    let toml = std::fs::read(world.path("strongroom.toml")).expect("read");
    world.configure("health = { url = \"http://127.0.0.1:9/\", within_seconds = 0 }");
    world.run(&format!("{restore} --yes"), 20).says("begun 2026-11-23T02:00:00Z, did not end").says("put back");
    assert_eq!(mark(&world), left);
    std::fs::write(world.path("strongroom.toml"), toml).expect("written");

    let one = crate::app::object(OBJECTS[0].0, OBJECTS[0].1, OBJECTS[0].2);
    let part = world.json(&format!("{restore} --yes --include {one}"), 3);
    assert_eq!(codes(&part), [PENDING]);
    let part = world.run(&format!("{restore} --yes --only database"), 3);
    part.says("has not ended: file:").keeps_quiet_about("has not ended: sqlite:");
    let rest = world.run(&format!("{restore} --yes --only storage"), 0);
    rest.says("did not end").keeps_quiet_about("has not ended");
    assert!(!world.path(MARK).exists() && !told(&world));
}

#[test]
fn a_mark_that_cannot_be_read_stops_nothing() {
    let (world, id) = World::backed_up();
    for spoiled in ["", "{\"bundle\":", "{\"bundle\":\"../x\",\"begun\":1}"] {
        crate::app::secret_file(&world.path(MARK), spoiled);
        assert!(told(&world));
        world.run("backup", 3).says("restore.json, which tells of it, cannot be read").says("restore.json.");
        world.run(&format!("restore {id} --dry-run -i {IDENTITY}"), 0).says("cannot be read");
        // It may have said that the application is stopped, and nothing starts it here.
        let ran = world.run(&format!("restore {id} --yes -i {IDENTITY}"), 3);
        ran.says("an earlier restore did not end").says("the application may be stopped: the restore of bundle");
        std::fs::remove_file(world.path(MARK)).expect("removed");
        assert!(!told(&world));
    }
}

#[test]
fn an_application_that_does_not_run_again_is_told_of() {
    let line = format!("restore latest-proved --yes -i {IDENTITY}");
    let nobody = "health = { url = \"http://127.0.0.1:9/\", within_seconds = 0 }";

    // All was put back, and only the start fails.
    let (world, id) = World::backed_up();
    let start = world.script("start.sh", "test -e $W/may-start");
    world.configure(&format!("start = [\"{}\"]", start.display()));
    world.run(&line, 1).says("not started again");
    assert!(told(&world));
    world.run("backup", 3).says(&format!("the application may be stopped: the restore of bundle {id}, begun "));
    std::fs::write(world.path("may-start"), "").expect("written");
    world.run("restore --cleanup --yes", 0);
    world.run(&line, 0).says("ended without starting the application");
    assert!(!told(&world));

    // It could not be stopped, so nothing was put back.
    let (world, id) = World::backed_up();
    let stop = world.script("stop.sh", "test ! -e $W/stopped && touch $W/stopped");
    world.configure(&format!("stop = [\"{}\"]\n{nobody}", stop.display()));
    world.run(&line, 20).says("Nothing was put back");
    world.run("backup", 3).says(&format!("a restore of bundle {id}, begun ")).says("has not ended");
}

/// Hooks of an application that runs while there is a file `running`; what `script` adds decides whether it starts.
fn running(world: &World, stop: &str, start: &str, more: &str) {
    std::fs::write(world.path("running"), "").expect("written");
    let stop = world.script("stop.sh", &format!("rm -f $W/running; {stop}"));
    let start = world.script("start.sh", &format!("{start}\ntouch $W/running"));
    world.configure(&format!("stop = [\"{}\"]\nstart = [\"{}\"]\n{more}", stop.display(), start.display()));
}

#[test]
fn an_application_that_a_restore_has_stopped_is_told_of_until_one_has_started_it() {
    let line = format!("restore latest-proved --yes -i {IDENTITY}");
    let (world, _) = World::backed_up();
    running(&world, "", "test -e $W/may-start || exit 1", "");
    world.run(&line, 1).says("not started again");
    // What is restored without hooks is whole, and nothing runs on it.
    let json = world.json(&format!("{line} --no-hooks"), 3);
    assert_eq!(codes(&json), [STOPPED]);
    assert!(told(&world) && !world.path("running").exists());
    world.run("guard -- /bin/true", 0).keeps_quiet_about("guard: warning");
    let cleaned = world.json("restore --cleanup --yes", 0);
    assert_eq!((codes(&cleaned), cleaned["removed"].as_array().map(Vec::len)), (vec![STOPPED.to_owned()], Some(1)));
    world.run("backup", 3).says("ended without starting it").keeps_quiet_about("in part");
    // Of what was backed up meanwhile nothing is wrong.
    world.run(&format!("verify -i {IDENTITY}"), 0);
    std::fs::write(world.path("may-start"), "").expect("written");
    world.run(&line, 0);
    assert!(!told(&world) && world.path("running").exists());

    // Nothing starts it.
    let (world, _) = World::backed_up();
    world.configure("stop = [\"/bin/true\"]");
    let check = world.json("config check", 0);
    assert_eq!(codes(&check), ["hook-alone"]);
    world.run(&line, 3).says("ended without starting it").says("bundle").says("restored");
    assert!(told(&world));
    world.run(&format!("{line} --database sqlite:no/such/folder"), 10).keeps_quiet_about("started again");
    assert!(told(&world));
    world.configure("start = [\"/bin/true\"]");
    world.run(&line, 0);
    assert!(!told(&world));
    assert!(codes(&world.json("config check", 0)).is_empty());
}

#[test]
fn a_stop_hook_that_fails_halfway_is_followed_by_a_start() {
    let line = format!("restore latest-proved --yes -i {IDENTITY}");
    let (world, _) = World::backed_up();
    running(&world, "exit 1", "test -e $W/may-start || exit 1", "");
    let before = world.state_of("app");
    world.run(&line, 1).says("stop hook failed").says("Nothing was changed, but the application was not started again");
    assert!(told(&world) && !world.path("running").exists());
    std::fs::write(world.path("may-start"), "").expect("written");
    world.run(&line, 1).says("stop hook failed").says("Nothing was changed, and the application was started again");
    assert!(!told(&world) && world.path("running").exists());
    assert_eq!(world.state_of("app"), before);

    let (world, _) = World::backed_up();
    world.configure("stop = [\"/bin/false\"]");
    world.run(&line, 1).says("stop hook failed").says("Nothing was changed. The application may be stopped");
    assert!(told(&world));
}

#[test]
fn an_application_that_a_failing_restore_has_started_is_told_of_no_more() {
    let line = format!("restore latest-proved --yes -i {IDENTITY}");
    let (world, id) = World::backed_up();
    let nobody = "health = { url = \"http://127.0.0.1:9/\", within_seconds = 0 }";
    running(&world, "", "test -e $W/may-start || exit 1", nobody);
    world.run(&line, 1).says("not started again");
    assert!(told(&world));
    std::fs::write(world.path("may-start"), "").expect("written");
    world.run(&line, 20).says("and the application was started again");
    assert!(!told(&world));
    // What an earlier one left in part is told still, and not that the application may be stopped.
    left_by(&world, &id);
    let text =
        std::fs::read_to_string(world.path(MARK)).expect("read").replace("\"stopped\":false", "\"stopped\":true");
    crate::app::secret_file(&world.path(MARK), &text);
    world.run("backup", 3).says("has not ended").says("the application may be stopped");
    world.run(&line, 20).says("and the application was started again");
    world.run("backup", 3).says("has not ended").keeps_quiet_about("the application may be stopped");
}

#[test]
fn the_way_back_is_not_cleaned_up_before_a_restore_is_made_good() {
    let (world, id) = World::backed_up();
    let restore = format!("restore {id} --yes -i {IDENTITY}");
    world.run(&restore, 0);
    left_by(&world, &id);
    let before = world.files("app");
    let refused = world.run("restore --cleanup --yes", 15);
    refused.says("may be the way back").says(&format!("strongroom restore {id} -i FILE"));
    let listed = world.json("restore --cleanup --dry-run", 0);
    assert_eq!((codes(&listed), listed["kept"].as_array().map(Vec::len)), (vec![PENDING.to_owned()], Some(1)));
    assert_eq!(world.files("app"), before);
    world.run(&restore, 0);
    world.run("restore --cleanup --yes", 0).says("removed");
    assert!(!world.files("app").iter().any(|name| name.contains(".before-")));
}
