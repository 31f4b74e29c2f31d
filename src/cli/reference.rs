//! What is generated from the command line's definition: help texts, `docs/cli.md`, `docs/exit-codes.md`.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Command, CommandFactory as _};

use super::args::Cli;
use super::exit;
use crate::ground::Result;
use crate::ground::durable::{self, Existing};

/// The command line with the exit codes of each verb at the end of its help.
pub(super) fn command() -> Command {
    with_codes(Cli::command(), &[])
}

fn with_codes(command: Command, path: &[String]) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    let mut command = command.after_help(codes_help(&words, names.is_empty()));
    for name in names {
        let mut below = path.to_vec();
        below.push(name.clone());
        command = command.mut_subcommand(name, |sub| with_codes(sub, &below));
    }
    command
}

/// The codes that a verb can end with; the whole table for the program itself.
fn codes_help(path: &[&str], verb: bool) -> String {
    if !verb && !path.is_empty() {
        return "Each command's own -h lists its exit codes.".to_owned();
    }
    let mut text = String::from("Exit codes:\n");
    for (code, meaning) in exit::table(path) {
        let mut lines = wrapped(meaning, 72).into_iter();
        let _ = writeln!(text, "  {code:>3}  {}", lines.next().unwrap_or_default());
        for line in lines {
            let _ = writeln!(text, "       {line}");
        }
    }
    if let Some(note) = exit::note(path) {
        let _ = writeln!(text, "{note}");
    }
    text
}

/// Lines of at most `width` characters, so that the text behind a code stays behind it.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Writes `cli.md` and `exit-codes.md`.
pub(super) fn write(dir: &Path) -> Result<()> {
    durable::create_folders(dir, 0o755)?;
    durable::write_file(&dir.join("cli.md"), cli().as_bytes(), 0o644, Existing::Replace)?;
    durable::write_file(&dir.join("exit-codes.md"), exit_codes().as_bytes(), 0o644, Existing::Replace)?;
    Ok(())
}

fn cli() -> String {
    let mut text = String::from(
        "# The command line\n\nGenerated from the program's own definition (`strongroom reference docs`). \
         Exit codes are explained in [exit-codes.md](exit-codes.md).\n",
    );
    let mut command = command().disable_help_subcommand(true).term_width(100);
    command.build();
    section(&mut text, &mut command, "");
    text
}

fn section(text: &mut String, command: &mut Command, parent: &str) {
    let name =
        if parent.is_empty() { command.get_name().to_owned() } else { format!("{parent} {}", command.get_name()) };
    let help = command.clone().bin_name(name.clone()).render_help().to_string();
    let body: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(text, "\n## `{name}`\n\n```text\n{}\n```\n", body.join("\n").trim_end());
    let mut subs: Vec<Command> = command.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect();
    for sub in &mut subs {
        section(text, sub, &name);
    }
}

fn exit_codes() -> String {
    let mut text = String::from(
        "# Exit codes\n\nGenerated from the program's own table (`strongroom reference docs`). \
         `strongroom VERB -h` lists those that a verb can end with, in the words of that verb.\n\n| code | meaning |\n|---|---|\n",
    );
    for (code, meaning) in exit::CODES {
        let _ = writeln!(text, "| {code} | {meaning} |");
    }
    text.push_str("\n## By verb\n\n");
    text.push_str("Every verb can end with 0, 1, 2 and 130. Beyond these:\n\n| verb | codes |\n|---|---|\n");
    by_verb(&mut text, &Cli::command(), &[]);
    text.push_str(
        "\nErrors of the command line itself (an unknown flag, a missing argument) are 2. \
         `guard` becomes the command that it starts: from then on the exit code is the command's own.\n",
    );
    text
}

fn by_verb(text: &mut String, command: &Command, path: &[&str]) {
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        let path: Vec<&str> = path.iter().copied().chain([sub.get_name()]).collect();
        if sub.has_subcommands() {
            by_verb(text, sub, &path);
            continue;
        }
        let codes: Vec<String> = exit::of_verb(&path).iter().map(u8::to_string).collect();
        let codes = if codes.is_empty() { "none".to_owned() } else { codes.join(", ") };
        let _ = writeln!(text, "| `{}` | {codes} |", path.join(" "));
    }
}
