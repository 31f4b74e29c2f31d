//! A folder to restore into: what it writes, keeps and refuses.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;
use crate::ground::Kind;
use crate::storage::{EntryKind, FileTime, Look, Owner, Target as _};

fn look(mode: u32) -> Look {
    let mtime = FileTime { seconds: 1_700_000_000, nanoseconds: 5 };
    Look { kind: EntryKind::File, mtime, mode, uid: 0, gid: 0, target: None }
}

fn write(target: &FilesystemTarget, path: &[u8], bytes: &[u8], rollback: Option<&str>) -> Result<()> {
    let mut file = target.create(path, bytes.len() as u64)?;
    file.write_all(bytes).expect("written");
    file.close(&look(0o4640), Owner::Target)?;
    target.publish(path, rollback)
}

#[test]
fn a_file_gets_name_mode_and_time_and_no_set_user_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = FilesystemTarget::new(folder.path()).expect("a target");
    write(&target, b"a/b/c", b"x", None).expect("written");
    let meta = std::fs::metadata(folder.path().join("a/b/c")).expect("it is there");
    assert_eq!(meta.permissions().mode() & 0o7777, 0o640);
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_700_000_000, 5));
    assert_eq!(std::fs::read_dir(folder.path().join("a/b")).expect("listed").count(), 1);
}

#[test]
fn a_folder_keeps_its_set_group_bit_and_loses_its_set_user_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = FilesystemTarget::new(folder.path()).expect("a target");
    target.folder(b"shared", None).expect("made");
    target.dress(b"shared", &Look { kind: EntryKind::Dir, ..look(0o6770) }, Owner::Target).expect("dressed");
    let meta = std::fs::metadata(folder.path().join("shared")).expect("it is there");
    assert_eq!(meta.permissions().mode() & 0o7777, 0o2770);
}

#[test]
fn what_is_replaced_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |p: &str| folder.path().join(p);
    std::fs::create_dir(at("d")).expect("made");
    std::fs::write(at("d/f"), b"old").expect("written");
    std::fs::write(at("extra"), b"extra").expect("written");
    let target = FilesystemTarget::new(folder.path()).expect("a target");
    write(&target, b"d/f", b"new", Some("rollback-1")).expect("written");
    write(&target, b"d/f", b"newer", Some("rollback-1")).expect("written");
    target.put_away(b"extra", "rollback-1").expect("moved away");
    assert_eq!(std::fs::read(at("d/f")).expect("read"), b"newer");
    assert!(!at("extra").exists());
    target.roll_back("rollback-1").expect("rolled back");
    assert_eq!(std::fs::read(at("d/f")).expect("read"), b"old");
    assert_eq!(std::fs::read(at("extra")).expect("read"), b"extra");
    assert!(!at(".strongroom").exists());
}

#[test]
fn what_was_made_is_discarded_and_a_folder_in_use_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = FilesystemTarget::new(folder.path()).expect("a target");
    write(&target, b"a/f", b"x", None).expect("written");
    target.discard(b"a").expect("in use");
    assert!(folder.path().join("a/f").exists());
    for path in [b"a/f".as_slice(), b"a", b"a", b"b/c"] {
        target.discard(path).expect("discarded");
    }
    assert!(!folder.path().join("a").exists());
}

#[test]
fn nothing_is_written_through_a_link() {
    let folder = tempfile::tempdir().expect("a folder");
    let outside = tempfile::tempdir().expect("a folder");
    symlink(outside.path(), folder.path().join("d")).expect("linked");
    symlink(outside.path().join("f"), folder.path().join("f")).expect("linked");
    let target = FilesystemTarget::new(folder.path()).expect("a target");
    assert_eq!(write(&target, b"d/f", b"x", None).expect_err("refused").kind(), Kind::Refused);
    assert_eq!(target.folder(b"d", None).expect_err("refused").kind(), Kind::Refused);
    write(&target, b"f", b"x", None).expect("the link itself is replaced");
    assert!(folder.path().join("f").symlink_metadata().expect("there").is_file());
    assert_eq!(std::fs::read_dir(outside.path()).expect("listed").count(), 0);
    target.folder(b"d", Some("r")).expect("the link is moved away");
    write(&target, b"d/f", b"x", None).expect("written");
    assert_eq!(std::fs::read_dir(outside.path()).expect("listed").count(), 0);
}
