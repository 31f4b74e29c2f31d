//! What a restore keeps, moves away and takes back; and `restore --cleanup`, which removes what is kept.

use crate::world::{IDENTITY, World};

/// The names beside the database.
fn beside(world: &World) -> Vec<String> {
    world.files("app").into_iter().filter(|name| name.contains(".before-")).collect()
}

#[test]
fn a_cleanup_lists_and_removes_replaced_databases_and_files() {
    let (world, id) = World::backed_up();
    world.run("restore --cleanup", 0).says("nothing is kept beside sqlite:").says("or in file:");
    world.app.store("private/manual/acme/tools/1.0.0.zip", b"another");
    world.run(&format!("restore --yes -i {IDENTITY}"), 0).says("restore --cleanup");
    world.app.store(".strongroom/rollback-mine/keep", b"but the name is one of ours");
    std::fs::remove_dir_all(world.path("app/storage/.strongroom/rollback-mine")).expect("removed");
    assert_eq!(beside(&world).len(), 1);
    std::fs::write(world.path("app/database.sqlite.before-the-move"), "a person's").expect("written");
    let before = world.files("app");

    let listed = world.json("restore --cleanup --dry-run", 0);
    assert_eq!(listed["kept"][0]["what"], "database");
    assert!(listed["kept"][0]["bytes"].as_u64().is_some_and(|bytes| bytes > 4096), "{listed}");
    assert_eq!(listed["kept"][1]["name"], format!("rollback-{id}"));
    assert!(listed["kept"][1]["bytes"].as_u64().is_some_and(|bytes| bytes >= 7), "{listed}");
    world.run("restore --cleanup", 15).says("rollback-").says("--yes");
    assert_eq!(world.files("app"), before, "nothing goes without a yes");

    world.run("restore --cleanup --yes", 0).says("removed").says("KiB");
    assert_eq!(beside(&world), ["database.sqlite.before-the-move"]);
    assert!(!world.path("app/storage/.strongroom").exists());
    world.run("restore --cleanup", 0).says("nothing is kept");
    world.run("prove", 0);
}

#[test]
fn what_may_be_the_only_way_back_is_not_cleaned_up() {
    let (world, _) = World::backed_up();
    world.run(&format!("restore --yes -i {IDENTITY}"), 0);
    std::fs::rename(world.app.database(), world.path("elsewhere")).expect("moved");
    world.run("restore --cleanup --yes", 15).says("may be all there is");
    std::fs::rename(world.path("elsewhere"), world.app.database()).expect("moved");
    std::fs::write(world.path("app/.database.sqlite.strongroom-swap"), "{}").expect("written");
    world.run("restore --cleanup --yes", 15).says("was killed");
    assert_eq!(beside(&world).len(), 1);
}

#[test]
fn extra_files_that_are_moved_away_are_in_the_plan_and_in_the_result() {
    let (world, id) = World::backed_up();
    for n in 0..12 {
        world.app.store(&format!("private/extra-{n:02}.zip"), b"made since");
    }
    let line = format!("-i {IDENTITY} --only storage");
    world.run(&format!("restore --dry-run {line}"), 0).keeps_quiet_about("moved away");
    let plan = world.run(&format!("restore --dry-run --delete-extra {line}"), 0);
    plan.says("extra files that will be moved away (--delete-extra): 12").says("extra-00.zip").says("… and 2 more");
    let json = world.json(&format!("restore --yes {line}"), 0);
    assert_eq!(json["extra_moved"], 0);
    let done = world.run(&format!("restore --yes --delete-extra {line}"), 0);
    done.says(&format!("extra files moved to .strongroom/rollback-{id} of the storage: 12"))
        .says("moved: private/extra-00.zip");
    assert!(!world.path("app/storage/private/extra-00.zip").exists());
    assert!(world.path(format!("app/storage/.strongroom/rollback-{id}/private/extra-00.zip")).exists());
    let json = world.json(&format!("restore --yes --delete-extra {line}"), 0);
    assert_eq!(json["extra_moved"], 0, "they are gone");
}

#[test]
fn what_is_said_after_a_way_back_is_what_happened() {
    let nobody = "health = { url = \"http://127.0.0.1:9/\", within_seconds = 0 }";
    let line = format!("restore --yes -i {IDENTITY}");

    let (world, _) = World::backed_up();
    world.configure(nobody);
    world.run(&line, 20).says("Everything was put back as it was before.").keeps_quiet_about("started again");

    let (world, _) = World::backed_up();
    let start = world.script("start.sh", "test -e $W/may-start");
    world.configure(&format!("start = [\"{}\"]\n{nobody}", start.display()));
    let ran = world.run(&line, 1);
    ran.says("Everything was put back as it was before, but the application was not started again");
    ran.keeps_quiet_about("Putting everything back failed").says("Run it by hand to see why");
    std::fs::write(world.path("may-start"), "").expect("written");
    world.run(&line, 20).says("and the application was started again");

    let (world, _) = World::backed_up();
    let stop = world.script("stop.sh", "test ! -e $W/stopped && touch $W/stopped");
    world.configure(&format!("stop = [\"{}\"]\n{nobody}", stop.display()));
    let ran = world.run(&line, 20);
    ran.says("Nothing was put back, because the application could not be stopped")
        .keeps_quiet_about("as it was before");
}

#[test]
fn a_restore_that_fails_before_the_swap_says_that_nothing_was_changed() {
    let (world, id) = World::backed_up();
    let dump = world.bundle(&id).join("database.sqlite.zst.age");
    let stop = world.script("stop.sh", &format!("echo stop >>$W/log; : >{}", dump.display()));
    let start = world.script("start.sh", "echo start >>$W/log; test -e $W/may-start");
    world.configure(&format!("stop = [\"{}\"]\nstart = [\"{}\"]", stop.display(), start.display()));
    let (line, whole) = (format!("restore --yes -i {IDENTITY}"), std::fs::read(&dump).expect("read"));
    let before = world.state_of("app");
    let ran = world.run(&line, 13);
    ran.says("Nothing was changed, but the application was not started again").keeps_quiet_about("put back");
    std::fs::write(&dump, whole).expect("mended");
    std::fs::write(world.path("may-start"), "").expect("written");
    let ran = world.run(&line, 13);
    ran.says("Nothing was changed, and the application was started again.").keeps_quiet_about("everything back");
    assert_eq!(world.state_of("app"), before);
    // It never ran on anything else, so it was stopped once.
    assert_eq!(std::fs::read_to_string(world.path("log")).expect("they ran"), "stop\nstart\nstop\nstart\n");
}
