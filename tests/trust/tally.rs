//! What came of the cases, by class.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What came of one case.
pub(crate) enum Verdict {
    /// The verb ended with this exit code, and it was not 0.
    Refused(u8),
    /// It ended with 0, and may: the reason.
    Same(&'static str),
    /// It ended with 0, and must not.
    Believed,
    /// It ended with a code that says nothing about the damage, panicked, or touched what it must not touch.
    Lost(String),
}

/// What came of the cases of one class.
#[derive(Default)]
struct Row {
    refused: BTreeMap<u8, usize>,
    same: BTreeMap<&'static str, usize>,
    believed: usize,
    lost: usize,
}

/// What came of all of them.
#[derive(Default)]
pub(crate) struct Tally {
    rows: BTreeMap<&'static str, Row>,
    wrong: Vec<String>,
}

impl Tally {
    pub(crate) fn take(&mut self, class: &'static str, what: &str, verdict: Verdict) {
        let row = self.rows.entry(class).or_default();
        match verdict {
            Verdict::Refused(code) => *row.refused.entry(code).or_default() += 1,
            Verdict::Same(reason) => *row.same.entry(reason).or_default() += 1,
            Verdict::Believed => {
                row.believed += 1;
                self.wrong.push(format!("{class}: {what}: believed"));
            }
            Verdict::Lost(why) => {
                row.lost += 1;
                self.wrong.push(format!("{class}: {what}: {why}"));
            }
        }
    }

    /// The table as a document shows it; then why what passed may pass.
    fn render(&self) -> String {
        let mut text = String::from(
            "| class | tried | refused, by exit code | good, and why | lost | wrongly good |\n|---|--:|---|---|--:|--:|\n",
        );
        let mut sums = [0; 5];
        for (class, row) in &self.rows {
            let refused: usize = row.refused.values().sum();
            let same: usize = row.same.values().sum();
            let tried = refused + same + row.believed + row.lost;
            let codes: Vec<_> = row.refused.iter().map(|(code, count)| format!("{code}: {count}")).collect();
            let reasons: Vec<_> = row.same.iter().map(|(reason, count)| format!("{count}: {reason}")).collect();
            let or = |list: Vec<String>, by: &str| if list.is_empty() { "0".to_owned() } else { list.join(by) };
            let _ = writeln!(
                text,
                "| {class} | {tried} | {} | {} | {} | {} |",
                or(codes, ", "),
                or(reasons, "; "),
                row.lost,
                row.believed
            );
            for (sum, count) in sums.iter_mut().zip([tried, refused, same, row.lost, row.believed]) {
                *sum += count;
            }
        }
        let [tried, refused, same, lost, believed] = sums;
        let _ = writeln!(text, "| **all** | **{tried}** | **{refused}** | **{same}** | **{lost}** | **{believed}** |");
        text
    }

    /// Shows the table where it is asked for, and insists that nothing was believed or lost.
    #[expect(clippy::print_stdout, reason = "the table is what a whole run is for")]
    pub(crate) fn close(&self, at_least: usize) {
        if crate::stage::all() {
            println!("\n{}", self.render());
        }
        let tried: usize = self
            .rows
            .values()
            .map(|r| r.refused.values().sum::<usize>() + r.same.values().sum::<usize>() + r.believed + r.lost)
            .sum();
        assert!(tried >= at_least, "only {tried} cases were tried");
        let shown = self.wrong.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
        assert!(self.wrong.is_empty(), "{} of {tried} cases:\n{shown}", self.wrong.len());
    }
}
