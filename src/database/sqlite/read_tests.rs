//! What is read of a database: values of every kind, samples, and files that lie.

use rusqlite::Connection;

use super::tests::{collect, kind_of, profile, sqlite, text_id, world};
use crate::appkey::credential::{KeyPart, MAX_CIPHERTEXT, RowId};
use crate::database::{Database as _, open_dump};
use crate::ground::Kind;
use crate::ground::scratch::Scratch;

#[test]
fn a_sample_is_spread_and_the_count_is_exact() {
    let world = world("delete", 1_000);
    let mut look = sqlite(&world.path).look().expect("a look");
    let (count, all) = collect(&mut *look, Some(10)).expect("credentials");
    assert_eq!((count, all.len()), (1_000, 10));
    for (tenth, credential) in all.iter().enumerate() {
        let number: usize = text_id(credential)[1..].parse().expect("a number");
        assert_eq!(number / 100, tenth, "one of each tenth");
    }
    assert_eq!(collect(&mut *look, Some(5_000)).expect("credentials").1.len(), 1_000);
}

#[test]
fn values_of_every_type_and_length_come_through() {
    let world = world("delete", 0);
    let connection = Connection::open(&world.path).expect("open");
    let long = "a".repeat(MAX_CIPHERTEXT + 1);
    connection
        .execute_batch(&format!(
            "DROP TABLE repositories; CREATE TABLE \"Repositories\" (id INTEGER PRIMARY KEY, auth_credentials);
             INSERT INTO repositories VALUES (-1, x'00ff'), (2, NULL), (9007199254740993, 'c'), (4, '{long}'), (5, 7),
             (6, substr('{long}', 2));"
        ))
        .expect("made");
    drop(connection);
    let mut look = sqlite(&world.path).look().expect("a look");
    let (count, all) = collect(&mut *look, None).expect("credentials");
    assert_eq!((count, all.len()), (5, 5));
    assert_eq!(all[0].ciphertext, [0, 255]);
    assert_eq!(all[0].id, RowId::One(KeyPart::Integer(-1)));
    assert_eq!(all[1].ciphertext.len(), MAX_CIPHERTEXT + 1, "too long to be tried, and seen to be");
    assert_eq!(all[2].ciphertext, b"7");
    assert_eq!(all[3].ciphertext.len(), MAX_CIPHERTEXT);
    assert_eq!(all[4].id, RowId::One(KeyPart::Text("9007199254740993".to_owned())));
}

#[test]
fn what_only_poses_as_the_table_is_refused() {
    for (pretence, kind) in [
        ("CREATE VIEW repositories AS SELECT 'a' AS id, 'c' AS auth_credentials", Kind::NotAuthentic),
        ("CREATE VIRTUAL TABLE repositories USING fts5(id, auth_credentials)", Kind::NotAuthentic),
        ("CREATE TABLE repositories (id TEXT PRIMARY KEY, x, auth_credentials AS (x || 'y'))", Kind::NotAuthentic),
        ("CREATE TABLE repositories (id TEXT PRIMARY KEY)", Kind::Usage),
        ("CREATE TABLE other (id TEXT PRIMARY KEY)", Kind::Usage),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let scratch = Scratch::at(&folder.path().join("scratch")).expect("scratch");
        let path = folder.path().join("hostile.sqlite");
        Connection::open(&path).expect("made").execute_batch(pretence).expect(pretence);
        let mut opened = open_dump(&path, &scratch).expect("opens");
        assert_eq!(kind_of(collect(&mut *opened, None)), kind, "{pretence}");
    }
}

#[test]
fn an_index_that_hides_rows_is_damage() {
    let world = world("delete", 30);
    let connection = Connection::open(&world.path).expect("open");
    // The same trick that an attacker would use: an index whose definition is changed after it was filled.
    connection
        .execute_batch(
            "CREATE TABLE t (id TEXT, auth_credentials TEXT); INSERT INTO t SELECT id, auth_credentials FROM repositories;
             DROP TABLE artifacts; DROP TABLE repositories; ALTER TABLE t RENAME TO repositories;
             CREATE INDEX i ON repositories (id) WHERE id > 'r000010'; PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON repositories (id)' WHERE name = 'i';",
        )
        .expect("forged");
    drop(connection);
    let mut look = sqlite(&world.path).look().expect("a look");
    assert_eq!(kind_of(collect(&mut *look, None)), Kind::Damaged);
}

#[test]
fn named_objects_say_what_can_be_fetched_again_and_a_query_cannot_do_more() {
    let world = world("delete", 1);
    let connection = Connection::open(&world.path).expect("open");
    connection
        .execute_batch(
            "INSERT INTO repositories VALUES ('manual', 'manual', '{}', NULL);
             INSERT INTO artifacts VALUES ('1', 'r000000', 'private/a.zip'), ('2', 'manual', 'private/b.zip'), ('3', 'manual', NULL);",
        )
        .expect("written");
    drop(connection);
    let mut look = sqlite(&world.path).look().expect("a look");
    let mut named = Vec::new();
    look.named_objects(&profile(), &mut |n| {
        named.push((String::from_utf8(n.path).expect("text"), n.fetchable));
        Ok(())
    })
    .expect("objects");
    named.sort();
    assert_eq!(named, [("private/a.zip".to_owned(), true), ("private/b.zip".to_owned(), false)]);
    for hostile in [
        "DELETE FROM artifacts",
        "SELECT 1",
        "ATTACH '/tmp/x' AS y",
        "SELECT load_extension('x'), 1",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT 'x', 1 FROM r WHERE n < 0",
    ] {
        let mut profile = profile();
        if let Some(storage) = &mut profile.storage {
            hostile.clone_into(&mut storage.query);
        }
        assert!(look.named_objects(&profile, &mut |_| Ok(())).is_err(), "{hostile}");
    }
}

#[test]
fn suspects_are_found_outside_the_profile_only() {
    let world = world("delete", 2_000);
    let connection = Connection::open(&world.path).expect("open");
    connection
        .execute_batch("UPDATE repositories SET note = 'cipher-x' WHERE id IN ('r000003', 'r001999', 'r001000')")
        .expect("written");
    drop(connection);
    let mut look = sqlite(&world.path).look().expect("a look");
    let suspects = look.suspects(&profile(), &|bytes| bytes.starts_with(b"cipher-")).expect("suspects");
    assert_eq!(suspects.len(), 1, "{suspects:?}");
    assert_eq!((suspects[0].table.as_str(), suspects[0].column.as_str()), ("repositories", "note"));
    assert_eq!(suspects[0].values, 2, "the oldest and the newest rows are looked at");
}

#[test]
fn names_with_quotes_are_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a b?c#%.sqlite");
    let connection = Connection::open(&path).expect("made");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE \"t\"\"; DROP\" (\"i d\" PRIMARY KEY, \"c'\"\"\");
             INSERT INTO \"t\"\"; DROP\" VALUES (1, 'x');",
        )
        .expect("made");
    drop(connection);
    let mut profile = profile();
    profile.credentials[0].table = "t\"; DROP".to_owned();
    profile.credentials[0].column = "c'\"".to_owned();
    profile.credentials[0].stored = "c'\"".to_owned();
    profile.credentials[0].primary_key = vec!["i d".to_owned()];
    let mut look = sqlite(&path).look().expect("a look");
    let mut seen = 0;
    let count = look.credentials(&profile, None, &mut |_| {
        seen += 1;
        Ok(())
    });
    assert_eq!((count.expect("credentials"), seen), (1, 1));
}
