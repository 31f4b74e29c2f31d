//! Real files, real writers, hostile files.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::{Sqlite, SqliteOptions};
use crate::appkey::credential::{Credential, KeyPart, RowId};
use crate::config::profile::Profile;
use crate::database::{Database as _, Snapshot};
use crate::ground::progress::Silent;
use crate::ground::scratch::Scratch;
use crate::ground::{Kind, Result};

const SCHEMA: &str =
    "CREATE TABLE repositories (id TEXT PRIMARY KEY, vcs_type TEXT, auth_credentials TEXT NOT NULL, note TEXT);
    CREATE TABLE artifacts (id TEXT PRIMARY KEY, repo_id TEXT REFERENCES repositories(id), file_key TEXT);";

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) scratch: Scratch,
    pub(crate) path: PathBuf,
}

pub(crate) fn world(journal: &str, rows: u32) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let scratch = Scratch::at(&folder.path().join("scratch")).expect("scratch");
    let path = folder.path().join("app.sqlite");
    let connection = Connection::open(&path).expect("made");
    connection.pragma_update(None, "journal_mode", journal).expect("journal");
    connection.execute_batch(SCHEMA).expect("schema");
    connection.execute_batch("BEGIN").expect("begun");
    for n in 0..rows {
        let values = (format!("r{n:06}"), format!("cipher-{n}"));
        connection.execute("INSERT INTO repositories VALUES (?1, 'git', ?2, NULL)", values).expect("a row");
    }
    connection.execute_batch("COMMIT").expect("committed");
    World { folder, scratch, path }
}

pub(crate) fn profile() -> Profile {
    Profile::embedded("package-broker").expect("embedded")
}

pub(crate) fn collect(snapshot: &mut dyn Snapshot, sample: Option<usize>) -> Result<(u64, Vec<Credential>)> {
    let mut all = Vec::new();
    let count = snapshot.credentials(&profile(), sample, &mut |c| {
        all.push(c);
        Ok(())
    })?;
    Ok((count, all))
}

pub(crate) fn text_id(credential: &Credential) -> &str {
    match &credential.id {
        RowId::One(KeyPart::Text(text)) => text,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn sqlite(path: &Path) -> Sqlite {
    Sqlite::new(path.to_owned(), SqliteOptions::default())
}

pub(crate) fn kind_of<T>(result: Result<T>) -> Kind {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(e) => e.kind(),
    }
}

pub(crate) fn listing(folder: &Path) -> HashSet<String> {
    std::fs::read_dir(folder).expect("listed").flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// Ends a writer even when an assertion fails before its end.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes pairs of rows in one transaction all the time; a copy that holds one of a pair is torn.
fn under_a_writer(journal: &str) {
    let world = world(journal, 20_000);
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let database = sqlite(&world.path);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let connection = Connection::open(&world.path).expect("open");
            connection.busy_timeout(Duration::from_secs(20)).expect("set");
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                let sql = format!(
                    "BEGIN IMMEDIATE; INSERT INTO artifacts VALUES ('a{n}', NULL, '{0}'); \
                     UPDATE repositories SET note = '{0}' WHERE id = 'r000000' OR id = 'r019999'; \
                     INSERT INTO artifacts VALUES ('b{n}', NULL, NULL); COMMIT;",
                    "x".repeat(200)
                );
                connection.execute_batch(&sql).expect("written");
                n += 1;
                written.store(n, Ordering::Relaxed);
            }
        });
        let _ends = Ends(&stop);
        while written.load(Ordering::Relaxed) < 5 {
            std::thread::yield_now();
        }
        for _ in 0..5 {
            let before = written.load(Ordering::Relaxed);
            let mut snapshot = database.snapshot(&world.scratch, &Silent).expect("a backup always happens");
            let after = written.load(Ordering::Relaxed);
            let facts = snapshot.facts(&Silent).expect("facts");
            assert_eq!(facts.faults, Vec::<String>::new());
            let artifacts = facts.tables["artifacts"];
            assert_eq!(artifacts % 2, 0, "half a transaction was copied");
            assert!(artifacts >= before * 2 && artifacts <= (after + 1) * 2);
            assert_eq!(facts.tables["repositories"], 20_000);
            if journal == "wal" {
                assert_eq!(facts.longest_lock_ms, 0);
            }
            assert!(facts.longest_lock_ms < 5_000);
        }
    });
    assert!(listing(world.scratch.folder()).is_empty(), "plaintext stays in the scratch folder");
}

#[test]
fn a_copy_under_a_writer_with_a_rollback_journal_is_one_moment() {
    under_a_writer("delete");
}

#[test]
fn a_copy_under_a_writer_in_wal_mode_is_one_moment() {
    under_a_writer("wal");
}

#[test]
fn a_copy_that_would_keep_writers_out_too_long_says_so() {
    let world = world("delete", 100_000);
    let stop = AtomicBool::new(false);
    let options = SqliteOptions { max_lock: Duration::ZERO, ..SqliteOptions::default() };
    let database = Sqlite::new(world.path.clone(), options);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let connection = Connection::open(&world.path).expect("open");
            connection.busy_timeout(Duration::from_secs(20)).expect("set");
            while !stop.load(Ordering::Relaxed) {
                let _ = connection.execute_batch("UPDATE repositories SET note = random() WHERE id = 'r000000'");
            }
        });
        let _ends = Ends(&stop);
        std::thread::sleep(Duration::from_millis(50));
        // A copy may end by luck between two writes, but not every time.
        let error = (0..20).find_map(|_| database.snapshot(&world.scratch, &Silent).err()).expect("too long");
        assert_eq!(error.kind(), Kind::Failed);
        assert!(error.hints()[0].contains("max_lock"), "{}", error.chain());
    });
}

#[test]
fn the_dump_is_a_plain_file_without_a_log_beside_it() {
    for journal in ["wal", "delete"] {
        let world = world(journal, 50);
        let mut snapshot = sqlite(&world.path).snapshot(&world.scratch, &Silent).expect("a copy");
        let facts = snapshot.facts(&Silent).expect("facts");
        assert_eq!(facts.settings["journal_mode"], journal);
        assert_eq!(facts.settings["encoding"], "UTF-8");
        let mut dumps = snapshot.dumps().expect("dumps");
        assert_eq!(dumps[0].name, "database.sqlite");
        let mut bytes = Vec::new();
        dumps[0].bytes.read_to_end(&mut bytes).expect("whole");
        assert_eq!(bytes.len() as u64, facts.bytes);
        let out = world.folder.path().join("out").join("database.sqlite");
        std::fs::create_dir(out.parent().expect("a folder")).expect("made");
        std::fs::write(&out, &bytes).expect("written");
        let opened = Connection::open(&out).expect("opens");
        let rows: i64 = opened.query_row("SELECT count(*) FROM repositories", (), |r| r.get(0)).expect("reads");
        assert_eq!(rows, 50);
        assert_eq!(listing(out.parent().expect("a folder")).len(), 1, "{journal}");
    }
}

#[test]
fn a_locked_database_is_named_as_such() {
    let world = world("delete", 1);
    let holder = Connection::open(&world.path).expect("open");
    holder.execute_batch("BEGIN EXCLUSIVE").expect("locked");
    let options = SqliteOptions { busy: Duration::from_millis(50), ..SqliteOptions::default() };
    let database = Sqlite::new(world.path.clone(), options);
    assert_eq!(kind_of(database.snapshot(&world.scratch, &Silent)), Kind::Unreachable);
    assert_eq!(kind_of(database.look()), Kind::Unreachable);
    drop(holder);
    assert!(database.look().is_ok());
}

#[test]
fn a_look_leaves_no_trace() {
    for journal in ["wal", "delete"] {
        let world = world(journal, 20);
        let (before, bytes) = (listing(world.folder.path()), std::fs::read(&world.path).expect("read"));
        let mut look = sqlite(&world.path).look().expect("a look");
        assert_eq!(collect(&mut *look, None).expect("credentials").0, 20);
        assert_eq!(kind_of(look.dumps()), Kind::Usage);
        drop(look);
        assert_eq!(listing(world.folder.path()), before, "{journal}");
        assert_eq!(std::fs::read(&world.path).expect("read"), bytes);
    }
}

#[test]
fn a_look_sees_what_is_only_in_the_log() {
    let world = world("wal", 1);
    let writer = Connection::open(&world.path).expect("open");
    writer.execute("INSERT INTO repositories VALUES ('new', 'git', 'c', NULL)", ()).expect("written");
    let mut look = sqlite(&world.path).look().expect("a look");
    assert_eq!(collect(&mut *look, None).expect("credentials").0, 2);
    writer.execute("INSERT INTO repositories VALUES ('newer', 'git', 'c', NULL)", ()).expect("a look keeps nobody out");
    assert_eq!(collect(&mut *look, None).expect("credentials").0, 2, "one moment");
}

#[test]
fn a_link_to_a_database_is_that_database_with_its_log() {
    let world = world("wal", 1);
    let writer = Connection::open(&world.path).expect("open");
    writer.execute("INSERT INTO repositories VALUES ('new', 'git', 'c', NULL)", ()).expect("written");
    let link = world.folder.path().join("elsewhere.sqlite");
    std::os::unix::fs::symlink(&world.path, &link).expect("linked");
    assert_eq!(collect(&mut *sqlite(&link).look().expect("a look"), None).expect("credentials").0, 2);
    let mut copy = sqlite(&link).snapshot(&world.scratch, &Silent).expect("a copy");
    assert_eq!(collect(&mut *copy, None).expect("credentials").0, 2);
}

#[test]
fn an_untouched_look_that_somebody_else_joins_is_no_answer() {
    let world = world("wal", 5);
    let mut look = sqlite(&world.path).look().expect("a look");
    let writer = Connection::open(&world.path).expect("open");
    writer.execute("INSERT INTO repositories VALUES ('new', 'git', 'c', NULL)", ()).expect("written");
    assert_eq!(kind_of(collect(&mut *look, None)), Kind::Unreachable);
}

#[test]
fn a_journal_left_by_a_crash_is_played_back_by_a_backup_and_named_by_a_look() {
    let world = world("delete", 2_000);
    let crashed = world.folder.path().join("crashed.sqlite");
    let writer = Connection::open(&world.path).expect("open");
    // A cache of one page makes the open transaction spill into the file.
    writer
        .execute_batch("PRAGMA cache_size = 1; BEGIN; UPDATE repositories SET auth_credentials = 'torn'")
        .expect("open");
    std::fs::copy(&world.path, &crashed).expect("copied");
    std::fs::copy(world.folder.path().join("app.sqlite-journal"), world.folder.path().join("crashed.sqlite-journal"))
        .expect("copied");
    drop(writer);
    let database = sqlite(&crashed);
    let error = database.look().err().expect("nothing can be read yet");
    assert_eq!(error.kind(), Kind::Refused, "{}", error.chain());
    let mut snapshot = database.snapshot(&world.scratch, &Silent).expect("a backup always happens");
    let (_, all) = collect(&mut *snapshot, None).expect("credentials");
    assert!(all.iter().all(|c| c.ciphertext.starts_with(b"cipher-")) && all.len() == 2_000);
}

#[test]
fn everything_that_is_no_database_has_its_own_answer() {
    let world = world("delete", 1);
    let make = |name: &str, bytes: &[u8]| {
        let path = world.folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    };
    let garbage: Vec<u8> = (0..4096_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let cases = [
        (world.folder.path().join("missing"), Kind::NotFound, "no database"),
        (world.folder.path().to_owned(), Kind::Usage, "is a folder, and no database"),
        (make("empty", b""), Kind::Damaged, "empty"),
        (make("text", b"hello, this is a text file\n"), Kind::Damaged, "not an SQLite"),
        (make("garbage", &garbage), Kind::Damaged, "not an SQLite"),
        (make("short", b"SQLite format 3\0\x10\0\x01\x01"), Kind::Damaged, "cut off"),
    ];
    for (path, kind, says) in cases {
        for error in [sqlite(&path).look().err(), sqlite(&path).snapshot(&world.scratch, &Silent).err()] {
            let error = error.expect("refused");
            assert_eq!(error.kind(), kind, "{}", error.chain());
            assert!(error.chain().contains(says), "{}", error.chain());
        }
    }
    if !rustix::process::geteuid().is_root() {
        std::fs::set_permissions(&world.path, std::fs::Permissions::from_mode(0o000)).expect("set");
        assert_eq!(kind_of(sqlite(&world.path).look()), Kind::Denied);
    }
}

#[test]
fn a_damaged_page_is_a_fault_of_a_backup_and_not_its_end() {
    let world = world("delete", 5_000);
    let mut bytes = std::fs::read(&world.path).expect("read");
    let half = bytes.len() / 2 / 4096 * 4096;
    bytes[half..half + 2048].fill(0xa5);
    std::fs::File::create(&world.path).and_then(|mut f| f.write_all(&bytes)).expect("written");
    let mut snapshot = sqlite(&world.path).snapshot(&world.scratch, &Silent).expect("a backup always happens");
    let facts = snapshot.facts(&Silent).expect("facts");
    assert!(!facts.faults.is_empty() && facts.faults.len() <= 100);
    let mut copied = Vec::new();
    snapshot.dumps().expect("dumps")[0].bytes.read_to_end(&mut copied).expect("whole");
    assert_eq!(copied.len(), bytes.len());
}

#[test]
fn a_broken_reference_is_a_fault() {
    let world = world("delete", 1);
    let connection = Connection::open(&world.path).expect("open");
    connection
        .execute_batch("PRAGMA foreign_keys = OFF; INSERT INTO artifacts VALUES ('a', 'nobody', 'k')")
        .expect("written");
    drop(connection);
    let mut snapshot = sqlite(&world.path).snapshot(&world.scratch, &Silent).expect("a copy");
    let faults = snapshot.facts(&Silent).expect("facts").faults;
    assert!(faults.len() == 1 && faults[0].contains("artifacts") && faults[0].contains("repositories"), "{faults:?}");
}
