//! `restore --target`, and what every restore refuses before it touches anything.

use std::os::unix::fs::MetadataExt as _;

use crate::app::{CREDENTIALS, KEY, OBJECTS, WRONG, number, object, secret_file, zip};
use crate::world::{Call, IDENTITY, PROGRAM, World, flip};

#[test]
fn plain_files_and_an_importable_dump_go_to_an_empty_folder() {
    let (world, id) = World::backed_up();
    let before = world.state_of("app");
    let json = world.json(&format!("restore --target out -i {IDENTITY}"), 0);
    assert_eq!(json["bundle"], id.as_str());
    assert_eq!(json["verdict"], "proved");
    assert_eq!(world.files("out").len(), OBJECTS.len() * 2 + 1);
    for (repo, package, version) in OBJECTS {
        let name = object(repo, package, version);
        assert!(std::fs::read(world.path("out/storage").join(&name)).expect("read") == world.app.stored(&name));
    }
    let rows = number(&world.path("out/database.sqlite"), "SELECT count(*) FROM repositories");
    assert_eq!(rows, i64::try_from(CREDENTIALS + 1).expect("few"));
    assert_eq!(world.state_of("app"), before, "no live system is touched");
    secret_file(&world.path("key"), KEY);
    world.run("prove out/database.sqlite --key file:key", 0);
}

#[test]
fn a_target_that_is_not_empty_is_15() {
    let (world, _) = World::backed_up();
    std::fs::create_dir(world.path("out")).expect("made");
    world.run(&format!("restore --target out --dry-run -i {IDENTITY}"), 0);
    std::fs::write(world.path("out/precious"), b"x").expect("written");
    world.run(&format!("restore --target out -i {IDENTITY}"), 15).says("not empty");
    assert_eq!(world.files("out"), ["precious"]);
}

#[test]
fn a_dry_run_to_a_target_makes_not_even_the_folder() {
    let (world, _) = World::backed_up();
    let before = world.state_of("");
    let plan = world.json(&format!("restore --target out --dry-run -i {IDENTITY}"), 0);
    assert!(!world.path("out").exists());
    assert_eq!(world.state_of(""), before);
    assert_eq!(plan["storage"]["files"], OBJECTS.len() * 2);
    assert_eq!(plan["storage"]["write"], OBJECTS.len() * 2);
}

#[test]
fn only_and_include_choose_what_is_written() {
    let (world, _) = World::backed_up();
    world.run(&format!("restore --target a --only database -i {IDENTITY}"), 0);
    assert_eq!(world.files("a"), ["database.sqlite"]);
    world.run(&format!("restore --target b --only storage -i {IDENTITY}"), 0);
    assert_eq!(world.files("b").len(), OBJECTS.len() * 2);
    world.run(&format!("restore --target c --include private/manual/** -i {IDENTITY}"), 0);
    assert!(world.files("c").iter().all(|f| f.starts_with("storage/private/manual/")), "{:?}", world.files("c"));
    assert_eq!(world.files("c").len(), 4);
    world.run(&format!("restore --target d --include *.readme.md --include **/1.0.0.zip -i {IDENTITY}"), 0);
    assert_eq!(world.files("d").len(), OBJECTS.len() + 1);
    world.run(&format!("restore --target e --include [ -i {IDENTITY}"), 2);
}

#[test]
fn an_include_that_matches_nothing_is_not_a_quiet_success() {
    let (world, _) = World::backed_up();
    world.run(&format!("restore --target out --include no/such/** -i {IDENTITY}"), 10);
}

#[test]
fn modes_and_times_come_back_and_the_owner_is_chosen() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::ready();
    let name = object("manual", "acme/tools", "1.0.0");
    let live = world.app.storage().join(&name);
    std::fs::set_permissions(&live, std::fs::Permissions::from_mode(0o640)).expect("set");
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789);
    std::fs::File::options().write(true).open(&live).and_then(|f| f.set_modified(time)).expect("set");
    world.backup(0);
    let root = rustix::process::geteuid().is_root();
    let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let other = if root { (1234, 4321) } else { me };
    world.run(&format!("restore --target out --owner {}:{} -i {IDENTITY}", other.0, other.1), 0);
    let meta = std::fs::metadata(world.path("out/storage").join(&name)).expect("there");
    assert_eq!((meta.uid(), meta.gid()), other);
    assert_eq!(meta.mode() & 0o7777, 0o640);
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_700_000_000, 123_456_789));
    world.run(&format!("restore --target keep --owner keep -i {IDENTITY}"), 0);
    let meta = std::fs::metadata(world.path("keep/storage").join(&name)).expect("there");
    assert_eq!((meta.uid(), meta.gid()), me);
    world.run(&format!("restore --target bad --owner nobody -i {IDENTITY}"), 2);
}

#[test]
fn a_bundle_of_the_wrong_key_needs_an_explicit_word() {
    let world = World::ready();
    world.app.set_key(WRONG);
    world.backup(3);
    world.run(&format!("restore --target out -i {IDENTITY}"), 12).says("--accept-unproved");
    assert!(!world.path("out").exists());
    world.run(&format!("restore --target out --accept-unproved -i {IDENTITY}"), 3);
    assert!(world.path("out/database.sqlite").exists());
    secret_file(&world.path("key"), KEY);
    world.run(&format!("restore --target right --key file:key -i {IDENTITY}"), 0);
}

#[test]
fn nothing_of_a_damaged_bundle_stays() {
    let (world, id) = World::backed_up();
    let parts = world.files("archive/parts");
    let part = |end: &str| world.path("archive/parts").join(parts.iter().find(|p| p.ends_with(end)).expect("a part"));
    std::fs::create_dir(world.path("empty")).expect("made");
    let all = [part(".tar.age"), part(".tar.zst.age"), world.bundle(&id).join("database.sqlite.zst.age")];
    all[..2].iter().for_each(|path| flip(path));
    world.run(&format!("restore --target out -i {IDENTITY}"), 13).says("1 more object");
    all[..2].iter().for_each(|path| flip(path));
    for path in all {
        flip(&path);
        // Of the storage everything is to be written.
        let _ = std::fs::remove_dir_all(world.app.storage().join("private"));
        let before = world.state_of("app");
        world.run(&format!("restore --target out -i {IDENTITY}"), 13);
        assert!(!world.path("out").exists());
        world.run(&format!("restore --target empty -i {IDENTITY}"), 13);
        assert_eq!(std::fs::read_dir(world.path("empty")).expect("listed").count(), 0);
        world.run(&format!("restore --yes -i {IDENTITY}"), 13);
        assert_eq!(world.state_of("app"), before);
        flip(&path);
    }
}

#[test]
fn a_folder_is_filled_by_one_run_at_a_time_and_a_begun_one_says_of_which_bundle() {
    let (world, first) = World::backed_up();
    let second = world.backup(0);
    let out = world.path("out");
    std::fs::create_dir(&out).expect("made");
    let marker = out.join(".strongroom-restore");
    std::fs::write(&marker, &first).expect("written");
    std::fs::create_dir_all(out.join("storage/private")).expect("made");
    let left = out.join("storage/private/.0123456789abcdef.strongroom-tmp");
    std::fs::write(&left, b"begun").expect("written");

    let held = std::fs::File::open(&marker).expect("opened");
    held.try_lock().expect("locked");
    world.run(&format!("restore {first} --target out -i {IDENTITY}"), 11).says("another run");
    drop(held);
    world.run(&format!("restore {second} --target out -i {IDENTITY}"), 15).says(&first);
    world.run(&format!("restore {first} --target out --include **/1.0.0.zip -i {IDENTITY}"), 0);
    assert!(!left.exists() && !marker.exists(), "what the run before had begun is gone");
}

#[test]
fn damage_in_a_file_is_told_although_a_folder_cannot_be_made_either() {
    let (world, _) = World::backed_up();
    std::fs::create_dir(world.app.storage().join("private/empty")).expect("made");
    let id = world.backup(0);
    // What an earlier run has begun, and somebody put a file where a folder belongs.
    std::fs::create_dir_all(world.path("out/storage/private")).expect("made");
    std::fs::write(world.path("out/.strongroom-restore"), &id).expect("written");
    std::fs::write(world.path("out/storage/private/empty"), "in the way").expect("written");
    let line = format!("restore {id} --target out -i {IDENTITY}");
    world.run(&line, 15).says("private/empty");
    for part in world.files("archive/parts").iter().filter(|name| name.contains(".tar")) {
        flip(&world.path("archive/parts").join(part));
    }
    world.run(&line, 13).says(".tar").keeps_quiet_about("private/empty");
}

#[test]
fn a_damaged_key_in_a_bundle_keeps_nobody_out() {
    let (world, id) = World::backed_up();
    flip(&world.bundle(&id).join("key.age"));
    // The configured one, and the one in escrow.
    world.run(&format!("restore --yes -i {IDENTITY}"), 0);
    world.run(&format!("restore --target out -i {IDENTITY}"), 0).says("the key is taken from an escrow");
    world.run(&format!("verify -i {IDENTITY}"), 13).says("key.age");
    std::fs::remove_dir_all(world.path("archive/keys")).expect("removed");
    world.run(&format!("restore --target never -i {IDENTITY}"), 13).says("key.age");
}

#[test]
fn damage_in_what_is_not_wanted_does_not_keep_the_rest_from_being_restored() {
    let (world, id) = World::backed_up();
    let part = world.files("archive/parts").into_iter().find(|p| p.ends_with(".tar.age")).expect("a part");
    let path = world.path("archive/parts").join(part);
    flip(&path);
    world.run(&format!("restore --target a --only database -i {IDENTITY}"), 0);
    world.run(&format!("restore --target c --only storage --include **/*.readme.md -i {IDENTITY}"), 0);
    world.run(&format!("restore --target d --only storage --include **/*.zip -i {IDENTITY}"), 13);
    flip(&path);
    flip(&world.bundle(&id).join("database.sqlite.zst.age"));
    world.run(&format!("restore --target b --only storage -i {IDENTITY}"), 0);
}

#[test]
fn a_database_bundle_takes_its_storage_from_the_one_it_names() {
    let (world, first) = World::backed_up();
    world.run("backup --only database", 0);
    let json = world.json(&format!("restore --target out -i {IDENTITY}"), 0);
    assert_eq!(json["plan"]["storage_from"], first.as_str());
    assert_eq!(world.files("out").len(), OBJECTS.len() * 2 + 1);
}

#[test]
fn a_storage_bundle_is_restored_without_a_proof() {
    let world = World::ready();
    world.run("backup --only storage", 0);
    world.run(&format!("restore --target out -i {IDENTITY}"), 0);
    assert_eq!(world.files("out").len(), OBJECTS.len() * 2);
    let name = object("manual", "acme/tools", "1.0.0");
    let bytes = world.app.stored(&name);
    world.app.store(&name, b"broken");
    world.run(&format!("restore --yes -i {IDENTITY}"), 0);
    assert!(world.app.stored(&name) == bytes);
}

#[test]
fn on_an_empty_machine_archive_identity_and_card_are_enough() {
    let (world, id) = World::backed_up();
    let machine = tempfile::tempdir().expect("a folder");
    for name in ["home", "tmp"] {
        std::fs::create_dir(machine.path().join(name)).expect("made");
    }
    for (from, to) in [(IDENTITY, "identity"), ("safe/recovery-card.txt", "card"), ("archive", "archive")] {
        std::fs::rename(world.path(from), machine.path().join(to)).expect("moved");
    }
    let run = |line: &str, code: i32| crate::world::Call::new(crate::world::PROGRAM, machine.path(), line).ends(code);
    // The disk is mounted elsewhere here, so the card's URL does not hold and the flag wins.
    let place = "--card card --archive file:archive";
    run("list --card card", 10);
    run(&format!("list {place}"), 0).says("proved");
    run(&format!("check --all {place}"), 0);
    run(&format!("show {place} -i identity"), 0).says(&id);
    run(&format!("verify --deep {place} -i identity"), 0);
    run(&format!("custody test {place} -i identity"), 0);
    let name = object("repo-1", "acme/lib", "2.0.0");
    assert!(run(&format!("cat latest {name} {place} -i identity"), 0).out == world.app.stored(&name));
    run(&format!("restore {place} -i identity"), 2).says("--target");
    run(&format!("restore {place} -i identity --target back"), 0);
    assert!(std::fs::read(machine.path().join("back/storage").join(&name)).expect("read") == world.app.stored(&name));
    assert_eq!(std::fs::read_dir(machine.path().join("home")).expect("listed").count(), 0, "HOME stays empty");
    assert_eq!(std::fs::read_dir(machine.path().join("tmp")).expect("listed").count(), 0, "nothing is left in TMPDIR");
}

#[test]
fn a_card_of_another_archive_is_not_believed() {
    let (world, _) = World::backed_up();
    let (other, _) = World::backed_up();
    let card = other.path("safe/recovery-card.txt");
    let line = format!("--archive file:archive --card {}", card.display());
    world.run(&format!("list {line}"), 14);
    world.run(&format!("restore {line} --target out -i {IDENTITY}"), 14);
    assert!(!world.path("out").exists());
}

#[test]
fn names_that_are_no_utf8_are_found_by_patterns_and_written_out() {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let world = World::ready();
    let odd = std::ffi::OsString::from_vec(b"odd/latin1-\xe9\xff".to_vec());
    let path = world.app.storage().join(&odd);
    std::fs::create_dir(path.parent().expect("a parent")).expect("made");
    std::fs::write(&path, "content").expect("written");
    world.run("backup", 0);
    for pattern in ["odd/**", "odd/latin1-??", "**/latin1*"] {
        std::fs::remove_file(&path).expect("removed");
        world.call("restore --yes --only storage -i").arg(IDENTITY).arg("--include").arg(pattern).ends(0);
        assert_eq!(std::fs::read(&path).expect("it is back"), b"content");
    }
    let said = world.call("cat latest").arg(&odd).arg("-i").arg(IDENTITY).ends(0);
    assert_eq!(said.stdout, "content");
    let wrong = std::ffi::OsStr::from_bytes(b"odd/latin1-\xe9\xfe");
    world.call("cat latest").arg(wrong).arg("-i").arg(IDENTITY).ends(10);
}

#[test]
fn a_pattern_that_nothing_fits_is_told_before_anything_is_touched() {
    let (world, _) = World::backed_up();
    let line = format!("restore --target out -i {IDENTITY} --include *.zip --include **/*.zup");
    world.run(&line, 10).says("'**/*.zup'").keeps_quiet_about("'*.zip'");
    assert!(!world.path("out").exists());
    world.run(&format!("restore --target out -i {IDENTITY} --include **/*.zip --include **/*.md"), 0);
}

#[test]
fn a_target_in_the_storage_or_in_the_archive_is_refused_and_so_is_one_that_is_no_folder() {
    let (world, _) = World::backed_up();
    let (app, archive) = (world.state_of("app"), world.files("archive"));
    for place in ["app/storage/out", "archive/out"] {
        world.run(&format!("restore --target {place} -i {IDENTITY}"), 15).says("lies inside");
        assert!(!world.path(place).exists());
    }
    // Without the configuration, too.
    let card = "--card safe/recovery-card.txt";
    world.run(&format!("restore --target archive/out {card} -i {IDENTITY}"), 15).says("lies inside");
    std::fs::write(world.path("file"), "").expect("written");
    world.run(&format!("restore --target file -i {IDENTITY}"), 15).says("is no folder");
    assert_eq!((world.state_of("app"), world.files("archive")), (app, archive));
}

#[test]
fn a_folder_that_a_restore_made_before_it_failed_goes_away_with_what_is_unfinished_in_it() {
    let world = World::ready();
    let noise = zip("large", 30_000);
    assert!(noise.len() > 600_000, "{}", noise.len());
    world.app.store("deep/er/large.bin", &noise);
    std::fs::create_dir(world.app.storage().join("kind")).expect("made");
    world.app.store("kind/small.md", b"small");
    world.run("backup", 0);
    std::fs::remove_dir_all(world.app.storage().join("deep")).expect("removed");
    // A file stands where a folder of the bundle was.
    std::fs::remove_dir_all(world.app.storage().join("kind")).expect("removed");
    std::fs::write(world.app.storage().join("kind"), "a file").expect("written");
    // What is named like something unfinished and is the application's own.
    std::fs::create_dir(world.app.storage().join("weird.strongroom-tmp")).expect("made");
    world.app.store("own.strongroom-tmp", b"own");
    let before = world.state_of("app");
    // No file may be longer than this; the system says so in the middle of the large one.
    let line = format!("trap '' XFSZ; ulimit -f 256; exec {PROGRAM} restore --yes --only storage -i {IDENTITY}");
    let ran = Call::new("/bin/sh", &world.path(""), "-c").arg(line).ends(1);
    ran.says("large.bin").says("put back as it was before");
    assert_eq!(world.state_of("app"), before);
    assert!(!world.app.storage().join("deep").exists());
    world.run(&format!("restore --yes --only storage -i {IDENTITY}"), 0);
    assert_eq!(world.app.stored("deep/er/large.bin"), noise);
}

#[test]
fn files_are_chosen_only_where_some_are_restored() {
    let (world, _) = World::backed_up();
    world.run(&format!("restore --target out --only database --include *.zip -i {IDENTITY}"), 2).says("--include");
    assert!(!world.path("out").exists());
}
