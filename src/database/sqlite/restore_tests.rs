//! Restores over real files: swap, undo, kills in the middle, places where it cannot be done.

use std::io::{Cursor, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rusqlite::Connection;

use super::halfway::{self, Action, Halfway, SIDE};
use super::open::beside;
use super::tests::{World, collect, kind_of, listing, sqlite, world};
use crate::database::{Content, Database as _, DatabasePlan, Facts, Places, Replacement};
use crate::ground::beside::Stop;
use crate::ground::progress::Silent;
use crate::ground::{Kind, Result};

/// A bundle of a database with this many rows.
fn bundle(journal: &str, rows: u32) -> (Facts, Vec<u8>) {
    let world = world(journal, rows);
    let mut snapshot = sqlite(&world.path).snapshot(&world.scratch, &Silent).expect("a copy");
    let facts = snapshot.facts(&Silent).expect("facts");
    let mut bytes = Vec::new();
    snapshot.dumps().expect("dumps")[0].bytes.read_to_end(&mut bytes).expect("whole");
    (facts, bytes)
}

impl Content for Cursor<Vec<u8>> {
    fn beside(&self) -> Result<Box<dyn Places>> {
        Ok(Box::new(Self::new(self.get_ref().clone())))
    }

    fn settle(self: Box<Self>, _: &Stop) -> Result<bool> {
        Ok(true)
    }
}

fn build(path: &Path, plan: &DatabasePlan, facts: &Facts, bytes: &[u8]) -> Result<Box<dyn Replacement>> {
    let bytes = bytes.to_vec();
    let mut member = |name: &str| -> Result<Box<dyn Content>> {
        assert_eq!(name, "database.sqlite");
        Ok(Box::new(Cursor::new(bytes.clone())))
    };
    sqlite(path).build(plan, facts, &mut member, &Silent)
}

fn rows(path: &Path) -> i64 {
    Connection::open(path)
        .expect("open")
        .query_row("SELECT count(*) FROM repositories", (), |r| r.get(0))
        .expect("rows")
}

fn kept(world: &World) -> Vec<PathBuf> {
    listing(world.folder.path())
        .iter()
        .filter(|n| n.contains(".before-"))
        .map(|n| world.folder.path().join(n))
        .collect()
}

fn ours(world: &World) -> Vec<String> {
    listing(world.folder.path()).into_iter().filter(|n| n.contains("strongroom")).collect()
}

#[test]
fn a_restore_takes_the_place_keeps_the_old_one_and_can_be_undone() {
    for journal in ["wal", "delete"] {
        let (facts, bytes) = bundle(journal, 7);
        let world = world("wal", 3);
        std::fs::set_permissions(&world.path, std::fs::Permissions::from_mode(0o640)).expect("set");
        let plan = sqlite(&world.path).plan(&facts).expect("a plan");
        assert!(plan.replaces && plan.reversible);
        let mut replacement = build(&world.path, &plan, &facts, &bytes).expect("built");
        assert_eq!(rows(&world.path), 3, "nothing is swapped yet");
        let (count, _) = collect(&mut *replacement.snapshot().expect("a snapshot"), None).expect("credentials");
        assert_eq!(count, 7);
        replacement.swap().expect("swapped");
        assert_eq!(rows(&world.path), 7);
        assert_eq!(std::fs::metadata(&world.path).expect("there").mode() & 0o7777, 0o640);
        let mode: String = Connection::open(&world.path)
            .expect("open")
            .query_row("PRAGMA journal_mode", (), |r| r.get(0))
            .expect("a mode");
        assert_eq!(mode, journal, "the journal mode of the backup comes back");
        assert_eq!(
            kept(&world).iter().map(|p| p.display().to_string()).collect::<Vec<_>>(),
            [plan.kept_as.clone().expect("kept")]
        );
        replacement.undo().expect("undone");
        assert_eq!(rows(&world.path), 3);
        drop(replacement);
        assert_eq!(listing(world.folder.path()), ["app.sqlite", "scratch"].map(str::to_owned).into(), "{journal}");
    }
}

#[test]
fn a_kept_restore_names_the_old_database_and_leaves_nothing_else() {
    let (facts, bytes) = bundle("delete", 7);
    let world = world("delete", 3);
    let plan = sqlite(&world.path).plan(&facts).expect("a plan");
    let mut replacement = build(&world.path, &plan, &facts, &bytes).expect("built");
    replacement.swap().expect("swapped");
    let old = replacement.keep().expect("kept").expect("there was one");
    assert_eq!((rows(&old), rows(&world.path)), (3, 7));
    assert!(ours(&world).is_empty());
}

#[test]
fn a_swap_that_was_refused_has_nothing_to_undo() {
    let (facts, bytes) = bundle("delete", 7);
    let world = world("delete", 3);
    let plan = sqlite(&world.path).plan(&facts).expect("a plan");
    let mut replacement = build(&world.path, &plan, &facts, &bytes).expect("built");
    let holder = Connection::open(&world.path).expect("open");
    holder.execute_batch("BEGIN EXCLUSIVE").expect("locked");
    assert_eq!(replacement.swap().expect_err("in use").kind(), Kind::Refused);
    replacement.undo().expect("nothing was swapped");
    drop((holder, replacement));
    assert_eq!(rows(&world.path), 3);
    assert!(ours(&world).is_empty() && kept(&world).is_empty());
}

#[test]
fn where_there_was_none_undo_leaves_none() {
    let (facts, bytes) = bundle("wal", 7);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("new.sqlite");
    let plan = sqlite(&path).plan(&facts).expect("a plan");
    assert!(!plan.replaces && plan.kept_as.is_none());
    let mut replacement = build(&path, &plan, &facts, &bytes).expect("built");
    replacement.swap().expect("swapped");
    assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o7777, 0o644);
    replacement.undo().expect("undone");
    assert!(listing(folder.path()).is_empty());
}

#[test]
fn a_dump_that_is_damaged_never_gets_near_the_live_database() {
    let (facts, bytes) = bundle("delete", 3_000);
    let world = world("delete", 3);
    let plan = sqlite(&world.path).plan(&facts).expect("a plan");
    let mut torn = bytes.clone();
    let half = torn.len() / 2 / 4096 * 4096;
    torn[half..half + 1024].fill(0x5a);
    for bad in [&torn[..], &bytes[..bytes.len() / 2], &bytes[..50], b"", b"CREATE TABLE x (y);"] {
        assert_eq!(kind_of(build(&world.path, &plan, &facts, bad)), Kind::Damaged);
        assert!(ours(&world).is_empty(), "what was begun is removed");
    }
    assert_eq!(rows(&world.path), 3);
}

#[test]
fn a_database_that_somebody_has_open_is_not_replaced() {
    let (facts, bytes) = bundle("delete", 7);
    let world = world("delete", 3);
    let plan = sqlite(&world.path).plan(&facts).expect("a plan");
    // Another process, seen by its descriptor; it holds no lock at all.
    let mut child = Command::new("sh")
        .args(["-c", "exec 3<\"$1\"; echo ready; exec sleep 60", "sh"])
        .arg(&world.path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    child.stdout.as_mut().expect("piped").read_exact(&mut [0; 6]).expect("ready");
    let refused = build(&world.path, &plan, &facts, &bytes).err();
    child.kill().and_then(|()| child.wait()).expect("ended");
    let error = refused.expect("refused");
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.chain().contains(&format!("({})", child.id())), "{}", error.chain());
    // A holder that /proc does not show is known by its lock.
    let holder = Connection::open(&world.path).expect("open");
    holder.execute_batch("BEGIN; SELECT * FROM repositories LIMIT 1").expect("a shared lock");
    assert_eq!(kind_of(build(&world.path, &plan, &facts, &bytes)), Kind::Refused);
    drop(holder);
    assert!(build(&world.path, &plan, &facts, &bytes).is_ok());
}

#[test]
fn an_idle_reader_of_a_wal_database_is_known_by_its_lock() {
    let (facts, bytes) = bundle("delete", 7);
    let world = world("wal", 3);
    let plan = sqlite(&world.path).plan(&facts).expect("a plan");
    let holder = Connection::open(&world.path).expect("open");
    holder.query_row("SELECT count(*) FROM repositories", (), |_| Ok(())).expect("read");
    assert_eq!(kind_of(build(&world.path, &plan, &facts, &bytes)), Kind::Refused);
}

#[test]
fn a_damaged_live_database_can_be_replaced_and_comes_back_as_it_was() {
    let (facts, bytes) = bundle("delete", 7);
    let world = world("delete", 3);
    std::fs::write(&world.path, b"overwritten by something").expect("written");
    std::fs::write(beside(&world.path, "-wal"), b"a log").expect("written");
    let plan = sqlite(&world.path).plan(&facts).expect("a plan");
    let mut replacement = build(&world.path, &plan, &facts, &bytes).expect("built");
    replacement.swap().expect("swapped");
    assert_eq!(rows(&world.path), 7, "the old log is not played into the new database");
    replacement.undo().expect("undone");
    assert_eq!(std::fs::read(&world.path).expect("read"), b"overwritten by something");
    assert_eq!(std::fs::read(beside(&world.path, "-wal")).expect("read"), b"a log");
}

/// Every state in which a kill may leave the files of a swap, by doing its steps up to there.
#[test]
fn a_swap_killed_anywhere_is_finished_or_taken_back_by_the_next_restore() {
    let (facts, bytes) = bundle("delete", 7);
    for killed_after in 0..5 {
        let world = world("delete", 3);
        let live = &world.path;
        let half =
            Halfway { action: Action::Swap, new: "0123456789ab".to_owned(), kept: Some("20261123T020000Z".to_owned()) };
        let (new, old) = (halfway::new_path(live, &half.new), halfway::kept_path(live, "20261123T020000Z"));
        std::fs::write(&new, &bytes).expect("built");
        let marker = serde_json::to_vec(&half).expect("json");
        std::fs::write(world.folder.path().join(".app.sqlite.strongroom-swap"), marker).expect("marked");
        match killed_after {
            0 => {}
            1 => std::fs::hard_link(live, &old).expect("linked"),
            2 => std::fs::rename(live, &old).expect("renamed, where there are no links"),
            3 => {
                std::fs::hard_link(live, &old).expect("linked");
                std::fs::rename(&new, live).expect("renamed");
            }
            _ => {
                std::fs::hard_link(live, &old).expect("linked");
                std::fs::rename(&new, live).expect("renamed");
                std::fs::remove_file(world.folder.path().join(".app.sqlite.strongroom-swap")).expect("unmarked");
            }
        }
        if killed_after == 2 {
            let error = sqlite(live).look().err().expect("it is missing");
            assert!(error.chain().contains("restore"), "{}", error.chain());
        }
        let plan = sqlite(live).plan(&facts).expect("a plan");
        assert!(plan.replaces);
        assert_eq!(plan.steps[0].contains("earlier restore"), killed_after != 4);
        let replacement = build(live, &plan, &facts, &bytes).expect("built");
        assert_eq!(rows(live), if killed_after < 3 { 3 } else { 7 }, "killed after step {killed_after}");
        assert_eq!(old.exists(), killed_after >= 3, "killed after step {killed_after}");
        drop(replacement);
        assert!(ours(&world).is_empty(), "{:?}", ours(&world));
    }
}

#[test]
fn an_undo_killed_anywhere_is_finished() {
    for killed_after in 0..3 {
        let world = world("delete", 3);
        let half =
            Halfway { action: Action::Undo, new: "0123456789ab".to_owned(), kept: Some("20261123T020000Z".to_owned()) };
        let old = halfway::kept_path(&world.path, "20261123T020000Z");
        std::fs::rename(&world.path, &old).expect("kept");
        std::fs::write(beside(&old, "-wal"), b"its log").expect("written");
        std::fs::write(&world.path, b"the restored one").expect("written");
        for suffix in SIDE {
            std::fs::write(beside(&world.path, suffix), b"of the restored one").expect("written");
        }
        if killed_after > 0 {
            for suffix in SIDE {
                std::fs::remove_file(beside(&world.path, suffix)).expect("removed");
            }
        }
        if killed_after > 1 {
            std::fs::rename(&old, &world.path).expect("renamed");
        }
        half.recover(&world.path).expect("finished");
        assert_eq!(std::fs::read(beside(&world.path, "-wal")).expect("read"), b"its log");
        std::fs::remove_file(beside(&world.path, "-wal")).expect("removed");
        assert_eq!(rows(&world.path), 3);
        half.recover(&world.path).expect("may be repeated");
        assert_eq!(rows(&world.path), 3);
    }
}

#[test]
fn files_of_killed_builds_are_swept_and_those_of_running_ones_are_not() {
    let (facts, bytes) = bundle("delete", 7);
    let world = world("delete", 3);
    let dead = halfway::new_path(&world.path, "0123456789ab");
    std::fs::write(&dead, b"half").expect("written");
    let plan = sqlite(&world.path).plan(&facts).expect("a plan");
    let running = build(&world.path, &plan, &facts, &bytes).expect("built");
    assert!(!dead.exists());
    let second = build(&world.path, &plan, &facts, &bytes).expect("built");
    assert_eq!(ours(&world).len(), 2);
    drop((running, second));
}

#[test]
fn a_place_where_the_swap_would_fail_is_refused_by_the_plan() {
    let (facts, _) = bundle("delete", 1);
    let world = world("delete", 1);
    assert_eq!(kind_of(sqlite(&world.folder.path().join("no/such/db.sqlite")).plan(&facts)), Kind::NotFound);
    assert_eq!(kind_of(sqlite(world.folder.path()).plan(&facts)), Kind::Refused);
    let huge = Facts { bytes: u64::MAX / 2, ..facts.clone() };
    assert_eq!(kind_of(sqlite(&world.path).plan(&huge)), Kind::Failed);
    let link = world.folder.path().join("link.sqlite");
    std::os::unix::fs::symlink(&world.path, &link).expect("linked");
    let plan = sqlite(&link).plan(&facts).expect("a plan");
    assert!(plan.target.ends_with("app.sqlite"), "the file is replaced and not the link");
    let forged = world.folder.path().join(".app.sqlite.strongroom-swap");
    std::fs::write(&forged, br#"{"action":"undo","new":"../../x","kept":null}"#).expect("written");
    assert_eq!(kind_of(sqlite(&world.path).plan(&facts)), Kind::Damaged);
}
