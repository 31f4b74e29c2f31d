//! Dumps as `sqlite3 .dump`, `wrangler d1 export` and enemies write them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use crate::appkey::credential::{Credential, KeyPart, MAX_CIPHERTEXT, RowId};
use crate::config::profile::Profile;
use crate::database::sqlite::tests::{collect, kind_of, listing, profile, sqlite, text_id, world};
use crate::database::{Database as _, Snapshot, open_dump, open_stream};
use crate::ground::progress::Silent;
use crate::ground::scratch::Scratch;
use crate::ground::{Kind, Result};

const DOT_DUMP: &str = r#"PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE IF NOT EXISTS "repositories" (
  id TEXT PRIMARY KEY, -- a comment, with 'a quote
  [vcs type] TEXT CHECK ([vcs type] IN ('git','manual')),
  `auth_credentials` TEXT NOT NULL DEFAULT (printf('%s;', 'x')),
  vcs_type NUMERIC(10, 2),
  CONSTRAINT "c" UNIQUE (id, vcs_type),
  FOREIGN KEY (id) REFERENCES other(id)
);
INSERT INTO repositories VALUES('r1','git','it''s;one',NULL);
INSERT INTO repositories VALUES('r2','git',replace('two\nlines','\n',char(10)),-1.5);
INSERT INTO repositories VALUES('r3','manual',X'6162',1),('r4','git',unistr('\u00e9'),2);
CREATE TABLE other(x);
INSERT INTO other VALUES('repositories; DROP TABLE x');
CREATE TRIGGER t AFTER INSERT ON other BEGIN
  UPDATE other SET x = CASE WHEN x THEN 1 ELSE 2 END; DELETE FROM other;
END;
CREATE TABLE artifacts(id, repo_id, file_key);
INSERT INTO artifacts VALUES(1,'r3','private/a.zip');
INSERT INTO artifacts VALUES(2,'r1','private/b.zip');
CREATE INDEX i ON repositories(id);
COMMIT;
"#;

struct Place {
    folder: tempfile::TempDir,
    scratch: Scratch,
}

fn place() -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let scratch = Scratch::at(&folder.path().join("scratch")).expect("scratch");
    Place { folder, scratch }
}

impl Place {
    fn write(&self, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join("a-dump-under-any-name");
        std::fs::write(&path, bytes).expect("written");
        path
    }

    fn open(&self, bytes: &[u8]) -> Result<Box<dyn Snapshot>> {
        open_dump(&self.write(bytes), &self.scratch)
    }

    fn read(&self, bytes: &[u8]) -> Result<(u64, Vec<Credential>)> {
        collect(&mut *self.open(bytes)?, None)
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("whole")
}

#[test]
fn what_sqlite3_dumps_is_read() {
    let place = place();
    for packed in [
        DOT_DUMP.as_bytes().to_vec(),
        gzip(DOT_DUMP.as_bytes()),
        zstd::encode_all(DOT_DUMP.as_bytes(), 1).expect("packed"),
    ] {
        let (count, all) = place.read(&packed).expect("it reads");
        assert_eq!(count, 4);
        let values: Vec<_> = all.iter().map(|c| (text_id(c), &c.ciphertext[..])).collect();
        let expected: [(&str, &[u8]); 4] =
            [("r1", b"it's;one"), ("r2", b"two\nlines"), ("r3", b"ab"), ("r4", "é".as_bytes())];
        assert_eq!(values, expected);
    }
    let mut opened = place.open(DOT_DUMP.as_bytes()).expect("opens");
    let facts = opened.facts(&Silent).expect("facts");
    assert_eq!((facts.tables["repositories"], facts.tables["other"]), (4, 1));
    assert_eq!(collect(&mut *opened, Some(2)).map(|(n, all)| (n, all.len())).expect("sampled"), (4, 2));
    let mut named = Vec::new();
    let mut profile = profile();
    if let Some(storage) = &mut profile.storage {
        storage.query = storage.query.replace("r.vcs_type", "r.\"vcs type\"");
    }
    opened
        .named_objects(&profile, &mut |n| {
            named.push((n.path, n.fetchable));
            Ok(())
        })
        .expect("objects");
    named.sort();
    assert_eq!(named, [(b"private/a.zip".to_vec(), false), (b"private/b.zip".to_vec(), true)]);
    assert!(listing(place.scratch.folder()).is_empty());
}

#[test]
fn what_d1_exports_is_read() {
    let sql = "PRAGMA defer_foreign_keys=TRUE;\n\
        CREATE TABLE d1_migrations(\n\t\tid INTEGER PRIMARY KEY AUTOINCREMENT,\n\t\tname TEXT UNIQUE\n);\n\
        INSERT INTO \"d1_migrations\" (\"id\",\"name\") VALUES(1,'0000_init.sql');\n\
        CREATE TABLE `repositories` (\n\t`id` text PRIMARY KEY NOT NULL,\n\t`org` text REFERENCES `organizations`(`id`),\n\t`auth_credentials` text NOT NULL\n);\n\
        INSERT INTO \"repositories\" (\"auth_credentials\",\"id\",\"org\") VALUES('c1','a',NULL);\n\
        CREATE TABLE `organizations` (`id` text);\n\
        DELETE FROM sqlite_sequence;\nINSERT INTO \"sqlite_sequence\" (\"name\",\"seq\") VALUES('d1_migrations',1);\n";
    let (count, all) = place().read(sql.as_bytes()).expect("it reads");
    assert_eq!((count, text_id(&all[0]), &all[0].ciphertext[..]), (1, "a", &b"c1"[..]));
}

#[test]
fn a_dump_cut_anywhere_is_damaged_and_never_a_smaller_result() {
    let place = place();
    let end = DOT_DUMP.len() - "COMMIT;\n".len();
    for cut in (1..=end).step_by(7).chain([end]) {
        if let Err(error) = place.read(&DOT_DUMP.as_bytes()[..cut]) {
            assert!(matches!(error.kind(), Kind::Damaged | Kind::Usage), "{cut}: {}", error.chain());
        } else {
            assert!(cut < "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;".len(), "cut at {cut} reads as whole");
        }
    }
    let packed = gzip(DOT_DUMP.as_bytes());
    for cut in [packed.len() - 1, packed.len() / 2, 30] {
        assert_eq!(kind_of(place.read(&packed[..cut])), Kind::Damaged, "gzip cut at {cut}");
    }
    let packed = zstd::encode_all(DOT_DUMP.as_bytes(), 1).expect("packed");
    assert_eq!(kind_of(place.read(&packed[..packed.len() - 5])), Kind::Damaged);
    assert_eq!(kind_of(place.read(b"BEGIN;\nROLLBACK; -- due to errors\n")), Kind::Damaged);
}

#[test]
fn hostile_sql_is_never_acted_on() {
    let place = place();
    let target = place.folder.path().join("made-by-the-dump");
    let sql = format!(".shell touch {0}\n.output {0}\nATTACH '{0}' AS x;\n{DOT_DUMP}\n.quit\n", target.display());
    assert_eq!(place.read(sql.as_bytes()).expect("it reads").0, 4);
    assert!(!target.exists());
    let table = "CREATE TABLE repositories(id TEXT PRIMARY KEY, auth_credentials TEXT);";
    for (sql, kind) in [
        ("CREATE VIEW repositories AS SELECT 1 AS id, 'c' AS auth_credentials;".to_owned(), Kind::NotAuthentic),
        ("CREATE VIRTUAL TABLE repositories USING fts5(id, auth_credentials);".to_owned(), Kind::NotAuthentic),
        (
            format!("{table} INSERT INTO repositories VALUES('a','c'); UPDATE repositories SET auth_credentials='d';"),
            Kind::Usage,
        ),
        (format!("{table} INSERT INTO repositories VALUES('a','c'); DELETE FROM main.repositories;"), Kind::Usage),
        (format!("{table} INSERT INTO repositories VALUES('a',readfile('/etc/passwd'));"), Kind::Damaged),
        (format!("{table} INSERT INTO repositories SELECT 'a','c';"), Kind::Damaged),
        (format!("{table} INSERT INTO repositories VALUES('a');"), Kind::Damaged),
        (format!("{table} INSERT INTO repositories VALUES('a','b','c');"), Kind::Damaged),
        (format!("INSERT INTO repositories VALUES('a','b'); {table}"), Kind::Damaged),
        (format!("{table} INSERT INTO repositories VALUES{}", "(".repeat(100_000)), Kind::Damaged),
        ("CREATE TABLE other(x);".to_owned(), Kind::Usage),
        ("CREATE TABLE repositories(id);".to_owned(), Kind::Usage),
    ] {
        assert_eq!(kind_of(place.read(sql.as_bytes())), kind, "{}", &sql[..sql.len().min(200)]);
    }
}

#[test]
fn a_value_too_long_to_be_tried_is_counted() {
    let sql = format!(
        "CREATE TABLE repositories(id INTEGER PRIMARY KEY, auth_credentials TEXT);
         INSERT INTO repositories VALUES(7,'{}');INSERT INTO repositories VALUES(8,NULL);",
        "a".repeat(2_000_000)
    );
    let (count, all) = place().read(sql.as_bytes()).expect("it reads");
    assert_eq!((count, all.len()), (1, 1));
    assert_eq!((all[0].ciphertext.len(), &all[0].id), (MAX_CIPHERTEXT + 1, &RowId::One(KeyPart::Integer(7))));
}

#[test]
fn dumps_of_other_systems_are_named() {
    let place = place();
    for (bytes, says) in [
        (&b"CREATE TABLE public.x (id text);\nCOPY public.x (id) FROM stdin;\n1\n\\.\n"[..], "PostgreSQL"),
        (b"-- MySQL dump 10.13\n", "MySQL"),
    ] {
        let error = place.read(bytes).err().expect("refused");
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.chain().contains(&format!("{says} dumps are not read")), "{}", error.chain());
    }
    for (bytes, kind) in [
        (&b""[..], Kind::Damaged),
        (b"PGDMP\x01\x0e\x00", Kind::Damaged),
        (b"--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\n", Kind::Damaged),
        (b"SET statement_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n", Kind::Usage),
        (b"\x00\x01\x02garbage\xff\xfe", Kind::Damaged),
        (b"age-encryption.org/v1\n-> X25519", Kind::Sealed),
        (b"<html><body>502 Bad Gateway</body></html>", Kind::Damaged),
        (b"{\"error\": \"not found\"}", Kind::Damaged),
    ] {
        assert_eq!(kind_of(place.read(bytes)), kind);
    }
    assert_eq!(kind_of(open_dump(&place.folder.path().join("none"), &place.scratch)), Kind::NotFound);
}

#[test]
fn a_database_file_is_known_by_its_content_packed_or_streamed() {
    let world = world("wal", 40);
    let place = place();
    let bytes = std::fs::read(&world.path).expect("read");
    assert_eq!(place.read(&bytes).expect("plain").0, 40);
    assert_eq!(place.read(&gzip(&bytes)).expect("packed").0, 40);
    let stream = Box::new(std::io::Cursor::new(bytes.clone()));
    let mut opened = open_stream(stream, "database.sqlite", &place.scratch).expect("opens");
    assert_eq!(collect(&mut *opened, None).expect("credentials").0, 40);
    let facts = opened.facts(&Silent).expect("facts");
    assert_eq!((facts.tables["repositories"], facts.settings["journal_mode"].as_str()), (40, "wal"));
    assert!(facts.faults.is_empty());
    assert!(listing(place.scratch.folder()).is_empty(), "nothing has a name");
    for cut in [bytes.len() - 4096, bytes.len() / 2, 4096, 60] {
        assert_eq!(kind_of(place.read(&bytes[..cut])), Kind::Damaged, "cut at {cut}");
        let stream = Box::new(std::io::Cursor::new(bytes[..cut].to_vec()));
        assert_eq!(kind_of(open_stream(stream, "database.sqlite", &place.scratch)), Kind::Damaged, "cut at {cut}");
    }
}

#[test]
fn both_readers_see_the_same() {
    let world = world("delete", 200);
    let mut sql =
        "CREATE TABLE repositories (id TEXT PRIMARY KEY, vcs_type TEXT, auth_credentials TEXT NOT NULL, note TEXT);"
            .to_owned();
    for n in 0..200 {
        writeln!(sql, "INSERT INTO repositories VALUES('r{n:06}','git','cipher-{n}',NULL);").expect("written");
    }
    let place = place();
    let mut dump = place.open(sql.as_bytes()).expect("opens");
    let (count, from_dump) = collect(&mut *dump, None).expect("credentials");
    let (same, from_file) = collect(&mut *sqlite(&world.path).look().expect("a look"), None).expect("credentials");
    assert!(count == same && from_dump == from_file);
    let looks_like = |bytes: &[u8]| bytes == b"git";
    let suspects =
        dump.suspects(&Profile::embedded("package-broker").expect("embedded"), &looks_like).expect("suspects");
    assert_eq!(suspects.len(), 1);
    assert_eq!(suspects[0].column, "vcs_type");
}
