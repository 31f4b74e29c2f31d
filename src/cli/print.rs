//! How an ending is printed: data to standard output, narration to standard error, an exit code.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::json;

use super::args::Global;
use super::terminal::narrate;
use crate::commands::{Outcome, Problem};
use crate::ground::words::harmless;
use crate::ground::{Error, Kind, Result};

/// Writes to standard output; a reader that went away (`| head`) is a quiet end, a full disk is not.
pub(super) fn data(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::failed("cannot write the result to standard output")
                .because(e)
                .hint("What was done is done; only its result could not be written out."))
        }
        _ => Ok(()),
    }
}

/// Standard output, which remembers that its reader went away.
pub(super) struct Pipe {
    out: std::io::StdoutLock<'static>,
    gone: bool,
}

impl Pipe {
    pub(super) fn new() -> Self {
        Self { out: std::io::stdout().lock(), gone: false }
    }

    pub(super) fn gone(&self) -> bool {
        self.gone
    }
}

impl std::io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.out.write(bytes).inspect_err(|e| self.gone |= e.kind() == std::io::ErrorKind::BrokenPipe)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush().inspect_err(|e| self.gone |= e.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

/// Prints an outcome.
pub(super) fn outcome(global: &Global, outcome: &Outcome) -> ExitCode {
    let mut written = Ok(());
    if global.json {
        written = data(&format!("{:#}\n", outcome.json));
    } else if !global.quiet {
        written = outcome.text.iter().try_for_each(|line| data(&format!("{}\n", harmless(line))));
        for (n, problem) in outcome.problems.iter().enumerate() {
            narrate(&format!("warning: {}", problem.message));
            // What helps against several alike is said once, after the last of them.
            let again = outcome.problems.get(n + 1).is_some_and(|next| next.hint == problem.hint);
            if let Some(hint) = problem.hint.as_ref().filter(|_| !again) {
                narrate(&format!("   hint: {hint}"));
            }
        }
    }
    if global.quiet && outcome.exit != 0 && !global.json {
        narrate(&in_one_line(outcome));
    }
    match written {
        // How the work itself ended says more, where it did not end well.
        Err(failed) if outcome.exit == 0 => error(&Global { json: false, ..global.clone() }, &failed),
        _ => ExitCode::from(outcome.exit),
    }
}

/// Why all is not well: how it ended, and what a person should look at, the first few of it.
fn in_one_line(outcome: &Outcome) -> String {
    const SHOWN: usize = 4;
    let mut parts: Vec<&str> = outcome
        .problems
        .iter()
        // That a key is the wrong one is how it ended.
        .filter(|p| !p.is_advice() && p.code != "wrong-key" && !outcome.line.contains(&p.message))
        .map(|problem| problem.message.as_str())
        .collect();
    let rest = match parts.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("and {more} more"),
    };
    parts.truncate(SHOWN);
    let line = std::iter::once(outcome.line.as_str()).chain(parts).chain([rest.as_str()]);
    // What another program said may have several.
    line.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ").replace('\n', " ")
}

/// Prints what is wrong with the command line itself, or the help that was asked for.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    let code = u8::try_from(error.exit_code()).unwrap_or(Kind::Usage.exit_code());
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::from(code);
    }
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let message = lines.collect::<Vec<_>>().join(" ");
    let sealed =
        message.contains("--identity").then_some("Give an identity with -i FILE, or name it in STRONGROOM_IDENTITY.");
    let mut own = Error::usage(message.strip_prefix("error: ").unwrap_or(&message));
    if let Some(hint) = sealed {
        own = own.hint(hint);
    }
    // No flag is parsed yet; behind `--` stands somebody else's command.
    if std::env::args_os().take_while(|argument| argument != "--").any(|argument| argument == "--json") {
        let _ = data(&format!("{:#}\n", error_json(&own)));
    }
    let _ = error.print();
    if let Some(hint) = sealed {
        narrate(&format!(" hint: {hint}"));
    }
    ExitCode::from(code)
}

fn error_json(error: &Error) -> serde_json::Value {
    let problem = Problem::from_error(error);
    json!({ "error": problem, "hints": error.hints(), "exit": error.kind().exit_code() })
}

/// Prints an error.
pub(super) fn error(global: &Global, error: &Error) -> ExitCode {
    if global.json {
        let _ = data(&format!("{:#}\n", error_json(error)));
    }
    narrate(&format!("error: {}", error.chain()));
    if !global.quiet {
        for hint in error.hints() {
            narrate(&format!(" hint: {hint}"));
        }
    }
    ExitCode::from(error.kind().exit_code())
}
