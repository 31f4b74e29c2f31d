//! How much of what a dump says of itself is remembered: names are the one thing whose memory could grow with a dump.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use crate::ground::{Error, Result};

/// Bytes for the names that one reading remembers: those of a hundred thousand ordinary tables.
const ROOM: usize = 64 << 20;
/// What remembering one name costs beside its bytes.
const EACH: usize = 96;

/// Room for names; when it is used up, the dump is refused.
#[derive(Debug)]
pub(crate) struct Room {
    left: usize,
    what: String,
}

impl Default for Room {
    fn default() -> Self {
        Self::in_reading("the dump")
    }
}

impl Room {
    /// Room for one reading of a dump that messages call `what`.
    pub(crate) fn in_reading(what: &str) -> Self {
        Self { left: ROOM, what: what.to_owned() }
    }

    /// Takes room for a name of so many bytes; [`crate::ground::Kind::Damaged`] when there is none.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<()> {
        match self.left.checked_sub(bytes.saturating_add(EACH)) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Error::damaged(format!(
                "{} names more tables and columns than any dump: {} MiB of names are remembered",
                self.what,
                ROOM >> 20
            ))
            .hint("If it is really so large, restore it into a scratch database and prove that.")),
        }
    }
}

/// What is counted by its name.
pub(crate) trait Named: Ord {
    /// The name's bytes.
    fn bytes(&self) -> usize;
}

impl Named for String {
    fn bytes(&self) -> usize {
        self.len()
    }
}

impl Named for (String, String) {
    fn bytes(&self) -> usize {
        self.0.len() + self.1.len()
    }
}

/// Counts by name, in bounded memory.
#[derive(Debug)]
pub(crate) struct Tally<K> {
    counts: BTreeMap<K, u64>,
    room: Room,
}

impl<K: Named> Tally<K> {
    /// Nothing counted yet in this reading of a dump.
    pub(crate) fn in_reading(what: &str) -> Self {
        Self { counts: BTreeMap::new(), room: Room::in_reading(what) }
    }

    /// Counts so many more under a name; none makes the name known. Answers how many there are now.
    pub(crate) fn add<Q>(&mut self, name: &Q, more: u64) -> Result<u64>
    where
        K: Borrow<Q>,
        Q: Ord + ToOwned<Owned = K> + ?Sized,
    {
        if let Some(count) = self.counts.get_mut(name) {
            *count += more;
            return Ok(*count);
        }
        let name = name.to_owned();
        self.room.take(name.bytes())?;
        self.counts.insert(name, more);
        Ok(more)
    }

    /// What was counted under a name.
    pub(crate) fn of<Q: Ord + ?Sized>(&self, name: &Q) -> u64
    where
        K: Borrow<Q>,
    {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// All counts.
    pub(crate) fn into_counts(self) -> BTreeMap<K, u64> {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::Kind;

    #[test]
    fn names_are_counted_until_there_is_no_room_for_another() {
        let mut tally = Tally::<String>::in_reading("a test");
        for _ in 0..3 {
            tally.add("a", 2).expect("room");
        }
        tally.add("none", 0).expect("room");
        assert_eq!((tally.of("a"), tally.of("none"), tally.of("b")), (6, 0, 0));
        let long = "x".repeat(ROOM / 2);
        tally.add(long.as_str(), 1).expect("room");
        let longer = "y".repeat(ROOM / 2);
        assert_eq!(tally.add(longer.as_str(), 1).expect_err("full").kind(), Kind::Damaged);
        assert_eq!(tally.add("a", 1).expect("known already"), 7);
    }
}
