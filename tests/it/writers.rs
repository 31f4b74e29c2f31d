//! A backup while the application keeps writing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::app::{KEY, encrypt, number, secret};
use crate::world::{IDENTITY, World};

/// Writes pairs of rows, each pair in one transaction, from before the backup starts until after it has ended.
fn backup_under_a_writer(journal: &str) {
    let world = World::ready();
    let value = encrypt(KEY, &secret(1));
    let connection = rusqlite::Connection::open(world.app.database()).expect("opens");
    connection.busy_timeout(Duration::from_mins(1)).expect("set");
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = {journal}; PRAGMA synchronous = OFF;
             CREATE TABLE pairs (id INTEGER PRIMARY KEY, half TEXT, filler TEXT);"
        ))
        .expect("set");
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = connection;
            let filler = "some words ".repeat(80);
            for n in 0_u64.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let transaction = connection.transaction().expect("begun");
                for half in ["left", "right"] {
                    transaction
                        .execute("INSERT INTO pairs (half, filler) VALUES (?1, ?2)", (half, &filler))
                        .expect("inserted");
                }
                transaction
                    .execute(
                        "INSERT INTO repositories VALUES (?1,'','git','http-basic',?2,NULL,NULL,'ok',NULL,NULL,1)",
                        (format!("busy-{n}"), &value),
                    )
                    .expect("inserted");
                // Old ones go, so that there is never more than the proof can do in a moment.
                transaction
                    .execute("DELETE FROM repositories WHERE id = ?1", [format!("busy-{}", n.wrapping_sub(4))])
                    .expect("deleted");
                transaction.commit().expect("committed");
                written.fetch_add(1, Ordering::SeqCst);
            }
        });
        while written.load(Ordering::SeqCst) < 20 {
            std::thread::yield_now();
        }
        let ran = world.call("backup --json").run();
        let after = written.load(Ordering::SeqCst);
        stop.store(true, Ordering::SeqCst);
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.json()["verdict"], "proved");
        assert!(after > 20, "the writer was kept out for the whole backup");
    });
    world.run(&format!("verify --deep -i {IDENTITY}"), 0);
    world.run(&format!("restore --target out -i {IDENTITY}"), 0);
    let restored = world.path("out/database.sqlite");
    let halves = |half: &str| number(&restored, &format!("SELECT count(*) FROM pairs WHERE half = '{half}'"));
    assert!(halves("left") >= 20);
    assert_eq!(halves("left"), halves("right"), "a transaction is there as a whole or not at all");
}

#[test]
fn a_rollback_journal_under_writes_gives_a_consistent_proved_bundle() {
    backup_under_a_writer("DELETE");
}

#[test]
fn a_write_ahead_log_under_writes_gives_a_consistent_proved_bundle() {
    backup_under_a_writer("WAL");
}

#[test]
fn a_writer_that_holds_its_lock_is_waited_for_and_not_broken() {
    let world = World::ready();
    let connection = rusqlite::Connection::open(world.app.database()).expect("opens");
    connection.execute_batch("BEGIN IMMEDIATE; UPDATE users SET email = 'b@example';").expect("begun");
    world.run("backup", 0);
    world.run(&format!("restore --target out -i {IDENTITY}"), 0);
    let old = number(&world.path("out/database.sqlite"), "SELECT count(*) FROM users WHERE email = 'a@example'");
    assert_eq!(old, 1, "what is not committed is not in the bundle");
    connection.execute_batch("COMMIT").expect("committed");
}
