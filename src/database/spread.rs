//! Samples that are spread over everything there is.

use crate::appkey::credential::Credential;
use crate::ground::{Result, names};

/// A column's share of a sample, at least one when there is anything.
pub(crate) fn share_of(sample: usize, count: u64, total: u64) -> u64 {
    if count == 0 {
        return 0;
    }
    let share = u128::from(count) * sample as u128 / u128::from(total.max(1));
    u64::try_from(share).unwrap_or(u64::MAX).clamp(1, count)
}

/// Which rows of a column are taken: all, or one at random of each of as many equal stretches as were asked for.
pub(crate) struct Spread {
    count: u64,
    parts: Option<u64>,
    part: u64,
    next: u64,
    random: u64,
}

impl Spread {
    pub(crate) fn new(count: u64, parts: Option<u64>) -> Result<Self> {
        let random = u64::from_le_bytes(names::random()?);
        let mut spread = Self { count, parts, part: 0, next: 0, random };
        spread.choose();
        Ok(spread)
    }

    /// Whether the row of this number is taken; numbers come in order from 0.
    pub(crate) fn takes(&mut self, number: u64) -> bool {
        if self.parts.is_none() {
            return true;
        }
        if number != self.next {
            return false;
        }
        self.part += 1;
        self.choose();
        true
    }

    fn choose(&mut self) {
        let Some(parts) = self.parts else { return };
        if self.part >= parts {
            self.next = u64::MAX;
            return;
        }
        let at = |part: u64| u64::try_from(u128::from(part) * u128::from(self.count) / u128::from(parts)).unwrap_or(0);
        let (from, to) = (at(self.part), at(self.part + 1));
        // A splitmix64 step: no secret hangs on which rows are looked at.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.next = from + (mixed ^ (mixed >> 31)) % (to - from).max(1);
    }
}

/// Hands on the credentials that a pass over a dump takes, and counts all of them.
pub(crate) struct Chosen<'a> {
    /// For each column of the profile, which of its values are taken.
    spreads: Vec<Spread>,
    /// For each column of the profile, the values seen.
    counts: Vec<u64>,
    visit: &'a mut dyn FnMut(Credential) -> Result<()>,
}

impl<'a> Chosen<'a> {
    /// Begins a pass with one choice for each column of the profile.
    pub(crate) fn new(spreads: Vec<Spread>, visit: &'a mut dyn FnMut(Credential) -> Result<()>) -> Self {
        Self { counts: vec![0; spreads.len()], spreads, visit }
    }

    /// The next value of the column of this number.
    pub(crate) fn next(&mut self, number: usize, credential: impl FnOnce() -> Credential) -> Result<()> {
        let taken = self.spreads[number].takes(self.counts[number]);
        self.counts[number] += 1;
        if taken { (self.visit)(credential()) } else { Ok(()) }
    }

    /// How many values there were of each column.
    pub(crate) fn counts(&self) -> Vec<u64> {
        self.counts.clone()
    }
}

/// Takes all values of so many columns, or a sample of them; answers how many there are.
///
/// `pass` reads everything and answers how many there were of each column. A sample takes two passes, because only at the end of a
/// stream is it known how many there are to choose from.
pub(crate) fn in_passes(
    columns: usize,
    sample: Option<usize>,
    pass: &mut dyn FnMut(Vec<Spread>) -> Result<Vec<u64>>,
) -> Result<u64> {
    let mut choose = |shares: Vec<(u64, Option<u64>)>| {
        let spreads: Result<_> = shares.into_iter().map(|(count, share)| Spread::new(count, share)).collect();
        pass(spreads?)
    };
    let Some(sample) = sample else {
        return Ok(choose(vec![(0, None); columns])?.iter().sum());
    };
    let counts = choose(vec![(0, Some(0)); columns])?;
    let total = counts.iter().sum();
    choose(counts.iter().map(|count| (*count, Some(share_of(sample, *count, total)))).collect())?;
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_takes_one_of_each_stretch_and_never_more_than_there_is() {
        for (count, parts) in [(1, 1), (7, 3), (1000, 50), (5, 5), (u64::from(u32::MAX) * 4, 2)] {
            let mut spread = Spread::new(count, Some(parts)).expect("random");
            if count <= 1000 {
                let taken = (0..count).filter(|n| spread.takes(*n)).count() as u64;
                assert_eq!(taken, parts, "{count} {parts}");
            } else {
                assert!(spread.next < count / 2, "no overflow at large counts");
            }
        }
        let mut all = Spread::new(3, None).expect("random");
        assert!((0..3).all(|n| all.takes(n)));
        let mut none = Spread::new(9, Some(0)).expect("random");
        assert!(!(0..9).any(|n| none.takes(n)));
        assert_eq!((share_of(10, 0, 5), share_of(10, 1, 1_000_000), share_of(10, 500_000, 1_000_000)), (0, 1, 5));
    }
}
