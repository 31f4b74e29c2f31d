//! What others left in the way: links, other names, pipes, folders that anybody can write to.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::app::{OBJECTS, object, secret_file};
use crate::world::{IDENTITY, World};

fn first() -> String {
    object(OBJECTS[0].0, OBJECTS[0].1, OBJECTS[0].2)
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).expect("there").mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
}

/// Makes something at a path.
type Maker<'a> = &'a dyn Fn(&Path);

fn make_fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
}

/// A stop hook that leaves a trace; whether it ran.
fn with_stop_hook(world: &World) -> impl Fn() -> bool {
    let script = world.script("stop.sh", "touch $W/stopped");
    world.configure(&format!("stop = [\"{}\"]\nstart = [\"/bin/true\"]", script.display()));
    let trace = world.path("stopped");
    move || trace.exists()
}

#[test]
fn a_file_with_another_name_elsewhere_is_written_anew_and_the_other_name_is_left_alone() {
    let (world, _) = World::backed_up();
    let live = world.app.storage().join(first());
    let before = mode(&live);
    let elsewhere = world.path("elsewhere");
    std::fs::hard_link(&live, &elsewhere).expect("linked");
    set_mode(&elsewhere, 0o600);
    let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000);
    std::fs::File::open(&elsewhere).and_then(|f| f.set_modified(time)).expect("set");
    let plan = world.json(&format!("restore --dry-run --only storage -i {IDENTITY}"), 0);
    assert_eq!((&plan["storage"]["write"], &plan["storage"]["replaced"]), (&1.into(), &1.into()), "{plan}");
    world.run(&format!("restore --yes --only storage -i {IDENTITY}"), 0);
    assert_eq!((mode(&elsewhere), mode(&live)), (0o600, before));
    let meta = std::fs::metadata(&elsewhere).expect("there");
    assert_eq!(meta.mtime(), 1_000_000);
    assert_ne!(meta.ino(), std::fs::metadata(&live).expect("there").ino());
    assert!(std::fs::read(&elsewhere).expect("read") == world.app.stored(&first()));
}

#[test]
fn something_in_the_place_of_our_own_folder_is_found_before_the_application_is_stopped() {
    let (world, id) = World::backed_up();
    let stopped = with_stop_hook(&world);
    std::fs::create_dir(world.path("outside")).expect("made");
    let own = world.app.storage().join(".strongroom");
    let kept = own.join(format!("rollback-{id}"));
    world.app.store(&first(), b"changed");
    for (what, path) in [("link", &own), ("file", &own), ("link", &kept)] {
        if path == &kept {
            std::fs::create_dir(&own).expect("made");
        }
        match what {
            "link" => symlink(world.path("outside"), path).expect("linked"),
            _ => std::fs::write(path, b"x").expect("written"),
        }
        for line in ["--dry-run", "--yes"] {
            world.run(&format!("restore {line} -i {IDENTITY}"), 15).says(".strongroom");
        }
        assert!(!stopped(), "{what} at {}", path.display());
        assert_eq!(world.app.stored(&first()), b"changed");
        assert!(world.files("outside").is_empty());
        std::fs::remove_file(path).expect("removed");
    }
    world.run(&format!("restore --yes -i {IDENTITY}"), 0);
    assert!(stopped());
}

#[test]
fn a_restore_that_is_undone_gives_what_it_did_not_write_its_modes_and_times_back() {
    let (world, _) = World::backed_up();
    world.configure("start = [\"/bin/false\"]");
    let live = world.app.storage().join(first());
    let folder = live.parent().expect("a folder").to_owned();
    set_mode(&live, 0o604);
    set_mode(&folder, 0o705);
    let time = std::time::UNIX_EPOCH + Duration::new(1_000_000, 7);
    std::fs::File::open(&live).and_then(|f| f.set_modified(time)).expect("set");
    std::fs::File::open(&folder).and_then(|f| f.set_modified(time)).expect("set");
    let root = rustix::process::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(&live, Some(1234), Some(4321)).expect("given away");
        set_mode(&live, 0o4604);
    }
    world.app.store(&object(OBJECTS[1].0, OBJECTS[1].1, OBJECTS[1].2), b"changed");
    let before = world.state_of("app/storage");
    let look = |path: &Path| {
        let meta = std::fs::metadata(path).expect("there");
        (meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec())
    };
    let looked = [look(&live), look(&folder)];
    world.run(&format!("restore --yes --only storage --owner keep -i {IDENTITY}"), 1).says("putting everything back");
    assert_eq!(world.state_of("app/storage"), before);
    assert_eq!([look(&live), look(&folder)].map(|l| (l.0, l.1, l.2)), looked.map(|l| (l.0, l.1, l.2)));
    assert_eq!(look(&live), looked[0]);
    assert!(!world.app.storage().join(".strongroom").exists());
}

#[test]
fn a_target_where_others_can_write_is_not_restored_into_whatever_its_marker_says() {
    let (world, id) = World::backed_up();
    let out = world.path("out");
    let line = format!("restore --target out -i {IDENTITY}");
    std::fs::create_dir(&out).expect("made");
    for wide in [0o777, 0o1777, 0o770] {
        set_mode(&out, wide);
        world.run(&line, 15).says("others can write to it");
        assert!(world.files("out").is_empty());
    }
    // A marker from a time when others could write there.
    set_mode(&out, 0o700);
    std::fs::write(out.join("planted"), b"x").expect("written");
    std::fs::write(out.join(".strongroom-restore"), &id).expect("written");
    set_mode(&out.join(".strongroom-restore"), 0o666);
    world.run(&line, 15);
    assert_eq!(world.files("out"), [".strongroom-restore", "planted"]);
    std::fs::remove_file(out.join(".strongroom-restore")).expect("removed");
    std::fs::write(world.path("id"), &id).expect("written");
    symlink(world.path("id"), out.join(".strongroom-restore")).expect("linked");
    world.run(&line, 15);
    std::fs::remove_file(out.join(".strongroom-restore")).expect("removed");
    std::fs::remove_file(out.join("planted")).expect("removed");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&out, Some(65534), Some(65534)).expect("given away");
        world.run(&line, 15).says("belongs to another user");
        std::os::unix::fs::chown(&out, Some(0), Some(0)).expect("taken back");
    }
    world.run(&line, 0);
}

#[test]
fn a_linked_storage_in_a_target_is_not_written_through() {
    let (world, id) = World::backed_up();
    std::fs::create_dir(world.path("outside")).expect("made");
    let out = world.path("out");
    std::fs::create_dir(&out).expect("made");
    set_mode(&out, 0o700);
    secret_file(&out.join(".strongroom-restore"), &id);
    symlink(world.path("outside"), out.join("storage")).expect("linked");
    world.run(&format!("restore --target out -i {IDENTITY}"), 15).says("symbolic link");
    assert!(world.files("outside").is_empty());
    std::fs::remove_file(out.join("storage")).expect("removed");
    world.run(&format!("restore --target out -i {IDENTITY}"), 0);
}

#[test]
fn a_configuration_or_state_that_others_can_write_is_refused() {
    let (world, _) = World::backed_up();
    let config = world.path("strongroom.toml");
    for wide in [0o666, 0o620, 0o602] {
        set_mode(&config, wide);
        for line in ["list", "backup", "prove", "config check"] {
            world.run(line, 15).says("chmod go-w").says("strongroom.toml");
        }
    }
    set_mode(&config, 0o644);
    let state = world.path("strongroom-state");
    set_mode(&state, 0o770);
    world.run("backup", 15).says("chmod go-w").says("strongroom-state");
    set_mode(&state, 0o700);
    world.run("backup", 0);
    // Whoever can write to the folder of the signing key can put another one there.
    std::fs::create_dir(world.path("keys")).expect("made");
    let text = std::fs::read_to_string(&config).expect("read");
    let name = "strongroom-signing.key";
    std::fs::rename(world.path(name), world.path("keys").join(name)).expect("moved");
    let moved = text.replace(&format!("key = \"{name}\""), &format!("key = \"keys/{name}\""));
    assert_ne!(moved, text);
    secret_file(&config, &moved);
    set_mode(&world.path("keys"), 0o777);
    let ran = world.call("backup").run();
    assert_eq!(ran.code, Some(15), "{}{}", ran.stdout, ran.stderr);
    ran.says("chmod go-w");
    set_mode(&world.path("keys"), 0o1777);
    world.run("backup", 0);
}

#[test]
fn a_configuration_of_another_user_is_used_only_when_it_is_named() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (world, _) = World::backed_up();
    std::os::unix::fs::chown(world.path("strongroom.toml"), Some(65534), None).expect("given away");
    for line in ["list", "prove", "guard -- /bin/true"] {
        world.run(line, 15).says("belongs to another user").says("--config");
    }
    world.run("list --config strongroom.toml", 0);
}

#[test]
fn what_is_no_object_does_not_stand_in_a_ledger() {
    let (world, _) = World::backed_up();
    let ledger = world.path("archive/ledger/package-broker");
    let next = ledger.join("0000000004.json");
    let makers: [(&str, Maker); 5] = [
        ("link", &|p| symlink("0000000003.json", p).expect("linked")),
        ("dangling link", &|p| symlink("/nowhere", p).expect("linked")),
        ("pipe", &make_fifo),
        ("folder", &|p| std::fs::create_dir(p).expect("made")),
        ("strange name", &|p| std::fs::write(p, b"x").expect("written")),
    ];
    for (what, make) in makers {
        let path = if what == "strange name" { ledger.join("a b") } else { next.clone() };
        make(&path);
        for line in ["list", "check", "backup"] {
            let ran = world.call(line).run();
            assert_eq!(ran.code, Some(14), "{what}, {line}: {}{}", ran.stdout, ran.stderr);
        }
        if path.is_dir() && !path.is_symlink() {
            std::fs::remove_dir(&path).expect("removed");
        } else {
            std::fs::remove_file(&path).expect("removed");
        }
    }
    // In the place of an object: no waiting, no reading through.
    for name in ["0000000002.json", "0000000002.json.minisig"] {
        let (path, aside) = (ledger.join(name), world.path("aside"));
        std::fs::rename(&path, &aside).expect("moved");
        make_fifo(&path);
        world.run("list", 14);
        std::fs::remove_file(&path).expect("removed");
        symlink(&aside, &path).expect("linked");
        world.run("list", 14);
        std::fs::remove_file(&path).expect("removed");
        std::fs::rename(&aside, &path).expect("put back");
    }
    world.run("list", 0);
}

#[test]
fn an_object_that_is_a_hole_of_a_terabyte_is_damage_at_once() {
    let (world, id) = World::backed_up();
    let part = world.files("archive/parts").into_iter().find(|p| p.ends_with(".tar.age")).expect("a part");
    for path in [world.path("archive/parts").join(part), world.bundle(&id).join("database.sqlite.zst.age")] {
        let whole = std::fs::read(&path).expect("read");
        std::fs::OpenOptions::new().write(true).open(&path).and_then(|f| f.set_len(1 << 40)).expect("made long");
        let begun = Instant::now();
        world.run("check", 13).says("holes");
        world.run(&format!("restore --target out -i {IDENTITY}"), 13);
        assert!(begun.elapsed() < Duration::from_mins(1), "it was read");
        std::fs::write(&path, whole).expect("put back");
    }
    world.run("check", 0);
}

#[test]
fn a_hook_whose_children_hold_our_pipes_is_not_waited_for() {
    let (world, _) = World::backed_up();
    let stop = world.script("stop.sh", "sleep 300 &\necho $! >$W/sleeper");
    world.configure(&format!("stop = [\"{}\"]\nstart = [\"/bin/true\"]", stop.display()));
    let begun = Instant::now();
    world.run(&format!("restore --yes -i {IDENTITY}"), 0);
    assert!(begun.elapsed() < Duration::from_mins(2), "it waited for a child of the hook");
    let sleeper = std::fs::read_to_string(world.path("sleeper")).expect("its number");
    let _ = std::process::Command::new("kill").arg(sleeper.trim()).status();
}

#[test]
fn a_guard_without_any_time_starts_nothing() {
    let world = World::ready();
    for time in ["0", "0ms"] {
        world
            .call(&format!("guard --max-time {time} -- /bin/touch"))
            .arg(world.path("ran"))
            .ends(12)
            .says("--max-time");
        assert!(!world.path("ran").exists());
    }
}
