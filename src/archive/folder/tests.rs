use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::archive::conformance;
use crate::ground::Kind;

fn name(text: &str) -> ObjectName {
    text.parse().expect("a name")
}

fn fresh() -> (tempfile::TempDir, Folder) {
    let place = tempfile::tempdir().expect("a folder");
    let folder = Folder::create(&place.path().join("backups/here")).expect("an archive");
    (place, folder)
}

#[test]
fn a_folder_keeps_the_contract() {
    let place = tempfile::tempdir().expect("a folder");
    let count = std::cell::Cell::new(0);
    conformance::run(&|| {
        count.set(count.get() + 1);
        Box::new(Folder::create(&place.path().join(count.get().to_string())).expect("an archive"))
    });
}

#[test]
fn a_missing_root_is_no_archive_then_and_later() {
    let (place, folder) = fresh();
    let error = Folder::open(&place.path().join("elsewhere")).expect_err("missing");
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().starts_with("no archive at file:/"));
    std::fs::remove_dir(&folder.root).expect("removed");
    let object = name("ledger/app/0000000001.json");
    assert!(folder.open(&object).err().expect("gone").to_string().starts_with("no archive at"));
    assert_eq!(folder.list(&name("ledger")).expect_err("gone").kind(), Kind::NotFound);
    assert_eq!(folder.children(&name("ledger")).expect_err("gone").kind(), Kind::NotFound);
    assert_eq!(folder.length(&object).expect_err("gone").kind(), Kind::NotFound);
    assert_eq!(folder.put_new(&object, b"x").expect_err("gone").kind(), Kind::NotFound);
    assert!(!folder.root.exists(), "a disk that went away is not replaced by a folder");
}

#[test]
fn what_is_written_is_private() {
    let (_place, folder) = fresh();
    folder.put_new(&name("a/b/c"), b"x").expect("written");
    let mode = |path: &str| std::fs::metadata(folder.root.join(path)).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("a"), mode("a/b"), mode("a/b/c")), (0o700, 0o700, 0o700, 0o600));
}

#[test]
fn symbolic_links_below_the_root_are_followed_by_nothing() {
    let (place, folder) = fresh();
    let outside = place.path().join("outside");
    std::fs::create_dir(&outside).expect("made");
    std::fs::write(outside.join("secret"), b"secret").expect("written");
    symlink(&outside, folder.root.join("linked")).expect("linked");
    std::fs::create_dir(folder.root.join("real")).expect("made");
    symlink(outside.join("secret"), folder.root.join("real/file")).expect("linked");

    for object in ["linked/secret", "real/file"] {
        assert_eq!(folder.open(&name(object)).err().expect("refused").kind(), Kind::Damaged, "{object}");
        assert!(folder.length(&name(object)).is_err(), "{object}");
    }
    assert!(folder.list(&name("linked")).is_err());
    assert!(folder.children(&name("linked")).is_err());
    assert!(folder.list(&name("real")).expect("listed").is_empty());
    assert_eq!(folder.children(&name("real")).expect("listed"), ["file"], "it is no object, and it is seen");
    assert!(folder.put_new(&name("linked/new"), b"x").is_err());
    assert!(folder.replace(&name("linked/secret"), b"x").is_err());
    assert!(folder.remove(&name("linked/secret")).is_err());
    assert!(folder.hold(&name("linked/new/.lock")).is_err());
    assert!(!folder.put_new(&name("real/file"), b"x").expect("taken"));
    folder.replace(&name("real/file"), b"ours").expect("the link is replaced, not followed");
    assert_eq!(folder.get(&name("real/file"), 9).expect("read"), b"ours");
    let inside: Vec<_> = std::fs::read_dir(&outside).expect("listed").flatten().collect();
    assert_eq!(inside.len(), 1);
    assert_eq!(std::fs::read(outside.join("secret")).expect("read"), b"secret");
}

#[test]
fn an_archive_may_be_reached_through_a_link() {
    let (place, folder) = fresh();
    symlink(&folder.root, place.path().join("link")).expect("linked");
    let linked = Folder::open(&place.path().join("link")).expect("opened");
    linked.put_new(&name("a/b"), b"x").expect("written");
    assert_eq!(folder.get(&name("a/b"), 9).expect("read"), b"x");
}

#[test]
fn a_fifo_or_a_folder_is_no_object_and_nobody_waits_for_one() {
    let (_place, folder) = fresh();
    std::fs::create_dir_all(folder.root.join("a/folder")).expect("made");
    let fifo = folder.root.join("a/fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    for object in ["a/fifo", "a/folder"] {
        assert!(folder.open(&name(object)).is_err(), "{object}");
    }
    assert!(folder.list(&name("a")).expect("listed").is_empty());
    assert_eq!(folder.children(&name("a")).expect("listed"), ["fifo", "folder"]);
}

#[test]
fn unfinished_and_hidden_files_are_not_objects_and_old_ones_are_swept() {
    let (_place, folder) = fresh();
    folder.put_new(&name("a/object"), b"x").expect("written");
    let mut unfinished = folder.create(&name("a/unfinished")).expect("begun");
    unfinished.write_all(b"half").expect("written");
    let _held = folder.hold(&name("a/.lock")).expect("held");
    let abandoned = folder.root.join(format!("a/.left.abc{}", durable::TEMPORARY));
    std::fs::write(&abandoned, b"left").expect("written");
    let long_ago = SystemTime::now() - Duration::from_hours(25);
    File::options().write(true).open(&abandoned).and_then(|f| f.set_modified(long_ago)).expect("made old");
    File::options().write(true).open(folder.root.join("a/object")).and_then(|f| f.set_modified(long_ago)).expect("old");

    assert_eq!(folder.children(&name("a")).expect("listed"), ["object"]);
    assert_eq!(folder.list(&name("a")).expect("listed").len(), 1);
    assert_eq!(folder.sweep(&name("b")).expect("nothing there"), 0);
    assert_eq!(folder.sweep(&name("a")).expect("swept"), 1);
    assert!(!abandoned.exists());
    assert!(unfinished.commit().expect("still there"));
    assert!(folder.put_new(&name("a/.hidden"), b"x").is_err());
}

#[test]
fn removing_the_last_object_leaves_no_folder_behind() {
    let (_place, folder) = fresh();
    for object in ["bundles/app/one/x", "bundles/app/one/y", "bundles/app/two/x"] {
        folder.put_new(&name(object), b"x").expect("written");
    }
    folder.remove(&name("bundles/app/one/x")).expect("removed");
    assert_eq!(folder.children(&name("bundles/app")).expect("listed"), ["one", "two"]);
    folder.remove(&name("bundles/app/one/y")).expect("removed");
    assert_eq!(folder.children(&name("bundles/app")).expect("listed"), ["two"]);
    folder.remove(&name("bundles/app/two/x")).expect("removed");
    assert!(folder.root.is_dir());
    assert_eq!(std::fs::read_dir(&folder.root).expect("listed").count(), 0);
}

#[test]
fn two_runs_hold_one_after_the_other() {
    let (_place, mut folder) = fresh();
    folder.wait = Duration::from_millis(100);
    let lock = name("ledger/app/.lock");
    let held = folder.hold(&lock).expect("held");
    assert_eq!(folder.hold(&lock).err().expect("taken").kind(), Kind::Locked);
    folder.wait = Duration::from_secs(30);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| folder.hold(&lock).is_ok());
        std::thread::sleep(Duration::from_millis(50));
        drop(held);
        assert!(second.join().expect("it ran"));
    });
}
