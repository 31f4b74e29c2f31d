//! `console` blocks of a document: commands, what they print, how they end.
//!
//! ```text
//! $ a command that goes on \
//! >     in the next line
//! what it prints, standard output and standard error as a terminal shows them
//! …
//! (exit code 12)
//! ```
//!
//! * `$ ` begins a command, `> ` continues it, as the shell's own prompts do; here-documents are continued so too.
//! * All that a command prints is shown; a line `…` stands for any number of lines.
//! * `(exit code N)` ends the output of a command that ends with N; without it, it ends with 0.
//! * `<!-- $ a command -->` outside of blocks is run too, and its output is not looked at.
//! * The commands of one document share a folder and their variables, from the first to the last.

use std::ops::Range;
use std::path::Path;

use crate::normal::{self, Bound};
use crate::stage::Stage;

/// One command of a document.
struct Step {
    /// The line it begins in, from 1.
    line: usize,
    command: String,
    /// The lines that show its output, as indices.
    shown: Range<usize>,
    expected: Vec<String>,
    exit: i32,
    /// Whether its output is to be looked at.
    compared: bool,
}

/// Runs every command of a document in order; panics where one prints or ends other than it says.
pub(crate) fn run(document: &str) {
    run_on(&Stage::new(), document);
}

/// The same on a stage that has more than the usual.
pub(crate) fn run_on(stage: &Stage, document: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = std::fs::read_to_string(&path).expect("the document");
    let lines: Vec<&str> = text.lines().collect();
    let steps = steps(&lines);
    assert!(!steps.is_empty(), "{document} has no console block");

    let bless = std::env::var_os("STRONGROOM_BLESS").is_some();
    let (mut bound, mut failures, mut corrected) = (Bound::default(), Vec::new(), Vec::new());
    for step in &steps {
        let (printed, exit) = stage.shell(&bound.to_actual(&step.command));
        let printed: Vec<String> = printed.lines().map(str::to_owned).collect();
        if !step.compared {
            assert_eq!(exit, 0, "{document}:{}: {}\n{}", step.line, step.command, printed.join("\n"));
            continue;
        }
        let same = exit == step.exit && normal::same(&step.expected, &printed, &mut bound);
        if same {
            continue;
        }
        if bless {
            // Lines that fit as they are say which id is which, so that the document keeps its ids.
            for line in &printed {
                let fits = |old| normal::same(std::slice::from_ref(old), std::slice::from_ref(line), &mut bound);
                step.expected.iter().any(fits);
            }
            let mut shown: Vec<String> = printed.iter().map(|line| bound.to_document(line)).collect();
            normal::same(&shown, &printed, &mut bound);
            shown = normal::elided(&step.expected, shown);
            if exit != 0 {
                shown.push(format!("(exit code {exit})"));
            }
            corrected.push((step.shown.clone(), shown));
        } else {
            failures.push(format!(
                "{document}:{}: $ {}\n--- the document says (exit code {}):\n{}\n--- it printed (exit code {exit}):\n{}\n",
                step.line,
                step.command,
                step.exit,
                step.expected.join("\n"),
                printed.join("\n"),
            ));
        }
    }
    if !corrected.is_empty() {
        let mut lines: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
        for (shown, new) in corrected.into_iter().rev() {
            lines.splice(shown, new);
        }
        std::fs::write(&path, lines.join("\n") + "\n").expect("the document is written");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn steps(lines: &[&str]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        at += 1;
        if let Some(command) = line.strip_prefix("<!-- $ ").and_then(|rest| rest.strip_suffix(" -->")) {
            let (command, expected) = (command.to_owned(), Vec::new());
            steps.push(Step { line: at, command, shown: at..at, expected, exit: 0, compared: false });
        } else if line == "```console" {
            let end = at + lines[at..].iter().position(|l| *l == "```").expect("a block ends");
            assert!(lines[at].starts_with("$ "), "line {}: a console block begins with a command", at + 1);
            while at < end {
                let begins = at + 1;
                let mut command = lines[at].strip_prefix("$ ").expect("a command").to_owned();
                at += 1;
                while at < end && (lines[at].starts_with("> ") || lines[at] == ">") {
                    command.push('\n');
                    command.push_str(lines[at].strip_prefix("> ").unwrap_or_default());
                    at += 1;
                }
                let from = at;
                while at < end && !lines[at].starts_with("$ ") {
                    at += 1;
                }
                steps.push(step(begins, command, from..at, &lines[from..at]));
            }
            at = end + 1;
        } else if line.starts_with("```") {
            at += 1 + lines[at..].iter().position(|l| *l == "```").expect("a block ends");
        }
    }
    steps
}

fn step(line: usize, command: String, shown: Range<usize>, output: &[&str]) -> Step {
    let code = output.last().and_then(|l| l.strip_prefix("(exit code ")?.strip_suffix(')')?.parse().ok());
    let output = if code.is_some() { &output[..output.len() - 1] } else { output };
    let expected = output.iter().map(|l| (*l).to_owned()).collect();
    Step { line, command, shown, expected, exit: code.unwrap_or(0), compared: true }
}

#[test]
fn a_block_is_read_as_the_conventions_say() {
    let text =
        "x\n<!-- $ true -->\n```text\n$ not run\n```\n```console\n$ a \\\n> b\none\n…\n(exit code 12)\n$ c\n```\n";
    let lines: Vec<&str> = text.lines().collect();
    let steps = steps(&lines);
    let read: Vec<_> = steps.iter().map(|s| (s.command.as_str(), s.expected.len(), s.exit, s.compared)).collect();
    assert_eq!(read, [("true", 0, 0, false), ("a \\\nb", 2, 12, true), ("c", 0, 0, true)]);
    assert_eq!(steps[1].shown, 8..11);
}
