//! Which parts are left to die: their live files are stored again from the source, where they still are.

use rusqlite::params;

use crate::archive::state::State;
use crate::ground::Result;

/// A part is small below this, in bytes of content.
const SMALL: u64 = 64 << 20;
/// So many small parts may be.
const SMALL_PARTS: usize = 64;
/// At most one byte in so many of the storage is stored again a run.
const SHARE: u64 = 20;

/// Marks parts as dying: those less than half live, and small ones when there are too many, within the share of a run.
pub(super) fn choose(state: &State) -> Result<()> {
    let failed = |e: rusqlite::Error| state.failed(&e);
    let connection = state.connection();
    let total: i64 =
        connection.query_row("SELECT coalesce(sum(size), 0) FROM files", [], |row| row.get(0)).map_err(failed)?;
    let mut statement = connection
        .prepare(
            "SELECT p.name, p.content, coalesce(sum(f.size), 0) FROM parts p LEFT JOIN files f ON f.part = p.name
             GROUP BY p.name ORDER BY 3",
        )
        .map_err(failed)?;
    let parts: Vec<(String, u64, u64)> = statement
        .query_map([], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned(), row.get::<_, i64>(2)?.cast_unsigned()))
        })
        .and_then(Iterator::collect)
        .map_err(failed)?;
    let small = parts.iter().filter(|(_, content, _)| *content < SMALL).count();
    let mut budget = total.cast_unsigned() / SHARE;
    let mut merge = if small > SMALL_PARTS { small } else { 0 };
    for (name, content, live) in &parts {
        let half_dead = live.saturating_mul(2) < *content;
        let merged = *content < SMALL && merge > 0;
        if !(half_dead || merged) || *live > budget {
            continue;
        }
        budget -= live;
        merge = merge.saturating_sub(usize::from(merged));
        connection.execute("INSERT OR IGNORE INTO temp.dying VALUES (?1)", params![name]).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::store::rows;

    fn state_with(parts: &[(&str, u64, u64)]) -> (tempfile::TempDir, State) {
        let folder = tempfile::tempdir().expect("a folder");
        let archive = "11111111-2222-4333-8444-555555555555".parse().expect("a uuid");
        let state = State::open(&folder.path().join("s"), &archive, &"app".parse().expect("a name")).expect("begun");
        for (name, content, live) in parts {
            let insert = "INSERT INTO parts VALUES (?1, '', 0, ?2)";
            state.connection().execute(insert, params![name, content.cast_signed()]).expect("written");
            state
                .connection()
                .execute(
                    "INSERT INTO files VALUES (CAST(?1 AS BLOB), 0, ?2, 0,0,0,0,0,0,0,0,NULL,NULL,?1,0,0,0)",
                    params![name, live.cast_signed()],
                )
                .expect("written");
        }
        rows::prepare(&state).expect("prepared");
        (folder, state)
    }

    fn dying(state: &State) -> Vec<String> {
        choose(state).expect("chosen");
        let mut statement = state.connection().prepare("SELECT part FROM temp.dying ORDER BY 1").expect("prepared");
        statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).expect("read")
    }

    #[test]
    fn a_part_less_than_half_live_dies_within_the_share() {
        let (_folder, state) =
            state_with(&[("a", 100 << 20, 90 << 20), ("b", 100 << 20, 2 << 20), ("c", 300 << 20, 70 << 20)]);
        assert_eq!(dying(&state), ["b"]);
    }

    #[test]
    fn small_parts_are_merged_only_when_there_are_many() {
        let names: Vec<String> = (0..80).map(|n| format!("p{n:02}")).collect();
        let many: Vec<(&str, u64, u64)> = names.iter().map(|n| (n.as_str(), 1 << 20, 1 << 20)).collect();
        let (_folder, state) = state_with(&many[..64]);
        assert!(dying(&state).is_empty());
        let (_folder, state) = state_with(&many);
        assert_eq!(dying(&state).len(), 4);
    }
}
