//! What is generated from the command line's definition: help texts, man pages, `docs/cli.md`, `docs/exit-codes.md`.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Command, CommandFactory as _};

use super::args::Cli;
use super::exit;
use crate::ground::durable::{self, Existing};
use crate::ground::{Error, Result};

/// The command line with the exit codes of each verb at the end of its help.
pub(super) fn command() -> Command {
    with_codes(Cli::command(), &[])
}

fn with_codes(command: Command, path: &[String]) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    let mut command = command.after_help(codes_help(&words));
    for name in names {
        let mut below = path.to_vec();
        below.push(name.clone());
        command = command.mut_subcommand(name, |sub| with_codes(sub, &below));
    }
    command
}

fn codes_help(path: &[&str]) -> String {
    let mut text = String::from("Exit codes:\n");
    for code in [0, 1, 2].iter().chain(exit::of_verb(path)) {
        let _ = writeln!(text, "  {code:>3}  {}", exit::meaning(*code));
    }
    text
}

/// Writes the man pages.
pub(super) fn man(dir: &Path) -> Result<()> {
    durable::create_folders(dir, 0o755)?;
    clap_mangen::generate_to(command().disable_help_subcommand(true), dir)
        .map_err(|e| Error::io("write man pages to", dir, e))
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
         `strongroom VERB -h` lists those that a verb can end with.\n\n| code | meaning |\n|---|---|\n",
    );
    for (code, meaning) in exit::CODES {
        let _ = writeln!(text, "| {code} | {meaning} |");
    }
    text
}
