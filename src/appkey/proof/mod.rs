//! The proof: every credential decrypted with the key, counted, and judged.

mod memory;
mod prover;

use serde::{Deserialize, Serialize};

use super::credential::RowId;
use crate::ground::names::Fingerprint;

pub use memory::Memory;
pub use prover::{ProverOptions, prove_with};

/// How many failing rows are named; the rest is counted.
pub const NAMED_FAILURES: usize = 1000;

/// What a proof says of a key and a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// At least one credential proved, none failed, none merely plausible.
    Proved,
    /// None failed, but the cipher of some proves little.
    Plausible,
    /// Some decrypt and some do not.
    Mixed,
    /// None decrypts.
    WrongKey,
    /// There was nothing to try.
    Unproven,
    /// The key could not be read.
    NoKey,
}

impl Verdict {
    /// The word for it in headers and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proved => "proved",
            Self::Plausible => "plausible",
            Self::Mixed => "mixed",
            Self::WrongKey => "wrong-key",
            Self::Unproven => "unproven",
            Self::NoKey => "no-key",
        }
    }
}

/// How many credentials came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// A tag or MAC matched.
    pub proved: u64,
    /// The right form, under a cipher that authenticates nothing.
    pub plausible: u64,
    /// It does not decrypt.
    pub failed: u64,
    /// The application itself stores plaintext there.
    pub plaintext: u64,
}

impl Counts {
    /// The verdict of these counts.
    pub fn verdict(&self) -> Verdict {
        match (self.proved, self.plausible, self.failed) {
            (0, 0, 0) => Verdict::Unproven,
            (_, 0, 0) => Verdict::Proved,
            (_, _, 0) => Verdict::Plausible,
            (0, 0, _) => Verdict::WrongKey,
            _ => Verdict::Mixed,
        }
    }

    fn add(&mut self, other: &Self) {
        self.proved += other.proved;
        self.plausible += other.plausible;
        self.failed += other.failed;
        self.plaintext += other.plaintext;
    }
}

/// The counts of one column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnCounts {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// Its counts.
    pub counts: Counts,
}

/// One credential that does not decrypt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// The row.
    pub id: RowId,
    /// Why it failed.
    pub reason: String,
    /// Other known keys that decrypt it; more than one is reported and never chosen from.
    pub fits: Vec<Fingerprint>,
}

/// What came of trying a key on credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Counts of all columns together.
    pub total: Counts,
    /// Counts of each column.
    pub columns: Vec<ColumnCounts>,
    /// Failing rows by table, column and row, the first [`NAMED_FAILURES`].
    pub failures: Vec<Failure>,
    /// How many of the proved were remembered from an earlier proof and not decrypted again.
    pub remembered: u64,
}

impl Proof {
    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        self.total.verdict()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_never_better_than_its_counts() {
        let counts = |proved, plausible, failed, plaintext| Counts { proved, plausible, failed, plaintext }.verdict();
        assert_eq!(counts(0, 0, 0, 0), Verdict::Unproven);
        assert_eq!(counts(0, 0, 0, 9), Verdict::Unproven);
        assert_eq!(counts(1, 0, 0, 9), Verdict::Proved);
        assert_eq!(counts(5, 1, 0, 0), Verdict::Plausible);
        assert_eq!(counts(0, 1, 0, 0), Verdict::Plausible);
        assert_eq!(counts(9, 0, 1, 0), Verdict::Mixed);
        assert_eq!(counts(0, 1, 1, 0), Verdict::Mixed);
        assert_eq!(counts(0, 0, 1, 9), Verdict::WrongKey);
    }
}
