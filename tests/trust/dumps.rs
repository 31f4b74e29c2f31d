//! Dumps that somebody spoilt or wrote to do harm: in a signed bundle, where the proof says what was counted, and on their own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::app::KEY;
use crate::desk::{Verb, prove};
use crate::stage::{SOME, Stage, all};
use crate::tally::{Tally, Verdict};

const ELSEWHERE: &str = "the bytes are outside of credentials and counts, and the host signed them";
const COUNTED: &str = "every credential that was there was decrypted, and none that was not";

pub(crate) fn classes(stage: &Stage, tally: &mut Tally) {
    databases(stage, tally);
    alone(stage, tally);
}

fn databases(stage: &Stage, tally: &mut Tally) {
    let name = "database.sqlite.zst.age";
    let plain = zstd::decode_all(&stage.open(&stage.object(name))[..]).expect("unpacked");
    let mut cases = Vec::new();
    let mut with = |what: String, database: &[u8], may| {
        let packed = zstd::encode_all(database, 1).expect("packed");
        let mut case = stage.case(what, Verb::Deep, move || stage.resigned(&[(name, stage.seal(&packed))]));
        // The first reader may refuse a table that it is to read (2, 14), or find a value that its key does not open (12).
        case.codes = &[2, 12, 13, 14];
        case.may = may;
        cases.push(case);
    };
    for at in (0..plain.len()).step_by(691) {
        let mut other = plain.clone();
        other[at] ^= 1 << (at % 8);
        with(format!("byte {at} flipped"), &other, Some(ELSEWHERE));
    }
    for length in (0..plain.len()).step_by(997) {
        with(format!("cut to {length}"), &plain[..length], None);
    }
    for sql in HOSTILE_SQL {
        with(sql.to_owned(), &changed(&plain, sql), None);
    }
    stage.run_slow(
        tally,
        "a signed SQLite database, flipped, cut, or with views, triggers and rows that are not there",
        cases,
    );
}

/// What makes another table of the credentials, or other rows, than the proof counted.
const HOSTILE_SQL: [&str; 14] = [
    "ALTER TABLE repositories RENAME TO r; CREATE VIEW repositories AS SELECT * FROM r",
    "ALTER TABLE repositories RENAME TO r; CREATE VIEW repositories AS SELECT * FROM r WHERE 0",
    "ALTER TABLE repositories RENAME TO r; CREATE TABLE repositories AS SELECT * FROM r WHERE id = 'manual'",
    "DELETE FROM repositories WHERE id = 'repo-1'",
    "DELETE FROM repositories",
    "DROP TABLE repositories",
    "UPDATE repositories SET auth_credentials = 'x' WHERE id = 'repo-1'",
    "UPDATE repositories SET auth_credentials = NULL_IF_NOT('x')",
    "INSERT INTO repositories SELECT 'copy', url, vcs_type, credential_type, auth_credentials, NULL, NULL, NULL, NULL, NULL, 1 FROM repositories WHERE id = 'repo-1'",
    "ALTER TABLE repositories RENAME COLUMN auth_credentials TO a; ALTER TABLE repositories ADD auth_credentials TEXT AS (a)",
    "ALTER TABLE repositories RENAME TO r; CREATE VIRTUAL TABLE repositories USING fts5(id, auth_credentials)",
    "DELETE FROM users",
    "DROP TABLE artifacts",
    "CREATE TABLE more (x)",
];

/// The database after these statements; those that SQLite refuses leave a file that is cut in half.
fn changed(plain: &[u8], sql: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("database.sqlite");
    std::fs::write(&path, plain).expect("written");
    let connection = rusqlite::Connection::open(&path).expect("opens");
    let done = connection.execute_batch(&format!("PRAGMA foreign_keys = OFF; PRAGMA legacy_alter_table = ON; {sql}"));
    drop(connection);
    match done {
        Ok(()) => std::fs::read(&path).expect("read"),
        Err(_) => plain[..plain.len() / 2].to_vec(),
    }
}

/// One dump that is whole, with the number of credentials that the key opens in it.
struct Dump {
    name: &'static str,
    bytes: Vec<u8>,
    proved: u64,
}

/// Dumps of the same database in every form that is read without a server.
fn dumps(stage: &Stage, key: &std::path::Path) -> Vec<Dump> {
    let sqlite = zstd::decode_all(&stage.open(&stage.object("database.sqlite.zst.age"))[..]).expect("unpacked");
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/dump");
    let read = |name: &str| std::fs::read(corpus.join(name)).expect("read");
    let credential = crate::app::encrypt(KEY, &crate::app::secret(1));
    let row = |id: &str| format!("INSERT INTO repositories VALUES('{id}','git','{credential}');\n");
    let sql = format!(
        "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE repositories (id TEXT PRIMARY KEY, vcs_type TEXT, auth_credentials TEXT);\n{}{}COMMIT;\n",
        row("a"),
        row("b")
    );
    let found = [
        ("SQLite file", sqlite),
        (".sql", sql.into_bytes()),
        ("pg_dump custom, compressed", read("taken-pg")),
        ("pg_dump custom, plain", read("taken-pg-plain")),
        ("pg_dump script", read("taken-pg.sql")),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    found
        .into_iter()
        .map(|(name, bytes)| {
            let path = folder.path().join("dump");
            std::fs::write(&path, &bytes).expect("written");
            let ((code, said), proved) = prove(&path, key);
            assert!(matches!(code, 0 | 3 | 12), "{name}: {code}: {said}");
            Dump { name, bytes, proved }
        })
        .collect()
}

/// Dumps without a signature: nothing is acted on, and nothing is proved that is not there.
fn alone(stage: &Stage, tally: &mut Tally) {
    let place = tempfile::tempdir().expect("a folder");
    let key = place.path().join("key");
    crate::app::secret_file(&key, KEY);
    let marks = place.path().join("marks");
    std::fs::create_dir(&marks).expect("made");
    for dump in dumps(stage, &key) {
        let (classes, cases) = spoilt(&dump, &marks);
        let next = AtomicUsize::new(0);
        let told = Mutex::new(Vec::new());
        let step = if all() { 1 } else { cases.len().div_ceil(SOME) };
        let cases: Vec<_> = cases.into_iter().step_by(step).collect();
        std::thread::scope(|scope| {
            for n in 0..4 {
                let (place, key, next, told, cases, dump, marks) =
                    (place.path(), &key, &next, &told, &cases, &dump, &marks);
                scope.spawn(move || {
                    while let Some((what, bytes)) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let path = place.join(format!("dump-{n}"));
                        std::fs::write(&path, bytes).expect("written");
                        let ended = std::panic::catch_unwind(|| prove(&path, key));
                        let made = std::fs::read_dir(marks).expect("a folder").count();
                        let verdict = match ended {
                            Err(_) => Verdict::Lost("it panicked".to_owned()),
                            Ok(_) if made > 0 => Verdict::Lost("the dump made a file".to_owned()),
                            Ok((_, proved)) if proved > dump.proved => Verdict::Believed,
                            Ok(((0, _), _)) => Verdict::Same(COUNTED),
                            Ok(((code @ (2 | 12 | 13 | 14), _), _)) => Verdict::Refused(code),
                            Ok(((code, said), _)) => Verdict::Lost(format!("ends with {code}: {said}")),
                        };
                        told.lock().expect("the list").push((what, verdict));
                    }
                });
            }
        });
        for (what, verdict) in told.into_inner().expect("the list") {
            tally.take(classes, what, verdict);
        }
    }
}

type Spoilt = Vec<(String, Vec<u8>)>;

/// The dump cut and flipped in many places, and, where it is text, with statements that would do something.
fn spoilt(dump: &Dump, marks: &std::path::Path) -> (&'static str, Spoilt) {
    let bytes = &dump.bytes;
    let mut cases = Spoilt::new();
    let step = bytes.len().div_ceil(40).max(1);
    for at in (0..bytes.len()).step_by(step) {
        let mut other = bytes.clone();
        other[at] ^= 1 << (at % 8);
        cases.push((format!("byte {at} flipped"), other));
    }
    for length in (0..bytes.len()).step_by(bytes.len().div_ceil(10).max(1)) {
        cases.push((format!("cut to {length}"), bytes[..length].to_vec()));
    }
    let mark = marks.join("made").display().to_string();
    if let Ok(text) = std::str::from_utf8(bytes) {
        let lines = text.matches('\n').count();
        for (n, _) in text.match_indices('\n').step_by(lines.div_ceil(3)) {
            for hostile in [
                format!("ATTACH '{mark}' AS x; CREATE TABLE x.y (z);"),
                format!("VACUUM INTO '{mark}';"),
                format!(".shell touch {mark}"),
                format!(".output {mark}"),
                format!(".once {mark}"),
                format!(".backup {mark}"),
                ".read /etc/passwd".to_owned(),
                format!("SELECT writefile('{mark}', 'x');"),
                format!("SELECT load_extension('{mark}');"),
                "PRAGMA writable_schema = ON;".to_owned(),
                format!("\\! touch {mark}"),
                format!("\\o {mark}"),
                format!("COPY repositories TO PROGRAM 'touch {mark}';"),
                format!("COPY repositories FROM PROGRAM 'touch {mark}';"),
                "CREATE VIEW repositories AS SELECT 1 AS id, 'x' AS auth_credentials;".to_owned(),
                "CREATE TRIGGER t AFTER INSERT ON repositories BEGIN DELETE FROM repositories; END;".to_owned(),
            ] {
                cases.push((
                    format!("{hostile} at {n}"),
                    [&text[..=n], &hostile, "\n", &text[n + 1..]].concat().into_bytes(),
                ));
            }
        }
    }
    let class = match dump.name {
        "SQLite file" => "prove: a SQLite file, flipped and cut",
        ".sql" => "prove: a .sql dump, flipped, cut, and with ATTACH, VACUUM INTO, dot commands, views, triggers",
        "pg_dump script" => "prove: a script of pg_dump, flipped, cut, and with psql's and the server's commands",
        _ => "prove: pg_dump's custom format, flipped and cut",
    };
    (class, cases)
}
