//! Files that are not there this time and were stored before: their parts stay named, so that they are not stored again.

use rusqlite::params;

use super::Loss;
use super::rows::COLUMNS;
use crate::archive::state::State;
use crate::ground::Result;
use crate::storage::LeftOut;

/// Fewer files than this may go, as long as one is left.
pub const FEW: u64 = 10;

/// Goes on remembering what was left out, once the list is written, which has none of it; and all files that are gone, unless that
/// is accepted, when none is left or more are gone than are listed, or when it was so in the bundle before. Answers how many went
/// so, which is for a person to look at.
///
/// Such rows are racy: the next run that finds one reads it again, and that touches the row, so that the list has it again.
pub(super) fn remember(state: &State, left_out: &[LeftOut], listed: u64, loss: Loss) -> Result<u64> {
    let failed = |e: rusqlite::Error| state.failed(&e);
    let connection = state.connection();
    for LeftOut { raw, .. } in left_out {
        // What begins with a folder's `a/` stands before `a0`, the next byte's.
        let after = match raw.strip_suffix(b"/") {
            Some(folder) => [folder, b"0"].concat(),
            None => [raw.as_slice(), b"\0"].concat(),
        };
        connection
            .prepare_cached("INSERT OR IGNORE INTO temp.unread VALUES (?1, ?2)")
            .and_then(|mut s| s.execute(params![raw, after]))
            .map_err(failed)?;
    }
    let values = COLUMNS.replace("racy", "1");
    // What the archive has lost this bundle cannot name, so no later one may: not even when it comes back.
    let again = format!(
        "INSERT OR IGNORE INTO files ({COLUMNS}) SELECT {values} FROM files_before
         WHERE part NOT IN (SELECT name FROM temp.lost)"
    );
    let unread = "path < (SELECT after FROM temp.unread WHERE first <= path ORDER BY first DESC LIMIT 1)";
    connection.execute(&format!("{again} AND {unread}"), []).map_err(failed)?;
    let gone = "SELECT count(*) FROM files_before b WHERE kind = 0 AND NOT EXISTS (SELECT 1 FROM files f WHERE f.path = b.path)";
    let gone = connection.query_row(gone, [], |row| row.get::<_, i64>(0)).map_err(failed)?.cast_unsigned();
    let few = gone <= listed || gone < FEW && listed > 0;
    if loss == Loss::Accepted || gone == 0 || few && loss == Loss::Told {
        return Ok(0);
    }
    connection.execute(&again, []).map_err(failed)?;
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::super::rows;
    use super::*;

    #[test]
    fn what_lies_below_comes_back_to_be_read_and_nothing_that_is_lost_or_lies_beside() {
        let folder = tempfile::tempdir().expect("a folder");
        let archive = "11111111-2222-4333-8444-555555555555".parse().expect("a uuid");
        let state = State::open(&folder.path().join("s"), &archive, &"app".parse().expect("a name")).expect("begun");
        rows::prepare(&state).expect("prepared");
        let run = |sql: &str| state.connection().execute_batch(sql).expect("written");
        let before = |path: &str, part: &str| {
            let place = if part.is_empty() { "NULL".to_owned() } else { format!("'{part}'") };
            run(&format!(
                "INSERT INTO files_before VALUES (CAST('{path}' AS BLOB), 0, 7, 0,0,0,0,0,0,0,0,NULL,NULL,{place},0,0,0)"
            ));
        };
        for path in ["a", "a-b", "a/b", "a/b/c", "a0", "one", "one/two", "onetwo"] {
            before(path, "kept");
        }
        before("a/lost", "gone");
        before("a/folder", "");
        run("INSERT INTO temp.lost VALUES ('gone');
             INSERT INTO files SELECT * FROM files_before WHERE path = CAST('a/b/c' AS BLOB)");
        let left_out = [b"a/".as_slice(), b"never", b"one"].map(|path| LeftOut::new(path.to_vec(), "it is shut"));
        assert_eq!(remember(&state, &left_out, 9, Loss::Told).expect("remembered"), 0);
        let mut statement =
            state.connection().prepare("SELECT CAST(path AS TEXT), racy FROM files ORDER BY path").expect("prepared");
        let found: Vec<(String, i64)> =
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).and_then(Iterator::collect).expect("read");
        // What is in the list stays as it is.
        assert_eq!(found, [("a/b".to_owned(), 1), ("a/b/c".to_owned(), 0), ("one".to_owned(), 1)]);
    }

    #[test]
    fn many_files_that_are_gone_are_kept_until_somebody_accepts_it() {
        let (told, doubted, accepted) = (Loss::Told, Loss::Doubted, Loss::Accepted);
        for (gone, listed, loss, expected) in [
            (0, 0, told, 0),
            (1, 0, told, 1),
            (9, 1, told, 0),
            (10, 9, told, 10),
            (10, 10, told, 0),
            (0, 9, doubted, 0),
            (1, 9, doubted, 1),
            (1, 0, accepted, 0),
            (99, 9, accepted, 0),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let archive = "11111111-2222-4333-8444-555555555555".parse().expect("a uuid");
            let state =
                State::open(&folder.path().join("s"), &archive, &"app".parse().expect("a name")).expect("begun");
            rows::prepare(&state).expect("prepared");
            for n in 0..gone {
                let sql =
                    "INSERT INTO files_before VALUES (CAST(?1 AS BLOB), 0, 7, 0,0,0,0,0,0,0,0,NULL,NULL,'part',0,0,0)";
                state.connection().execute(sql, params![n.to_string()]).expect("written");
            }
            let found = remember(&state, &[], listed, loss).expect("remembered");
            let count = "SELECT count(*) FROM files";
            let kept: i64 = state.connection().query_row(count, [], |row| row.get(0)).expect("counted");
            assert_eq!((found, kept.cast_unsigned()), (expected, expected), "{gone} {listed} {loss:?}");
        }
    }
}
