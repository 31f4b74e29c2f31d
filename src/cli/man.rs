//! Man pages, generated from the command line's definition.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::Cli;
use super::exit;
use crate::ground::durable::{self, Existing};
use crate::ground::{Error, Result};

/// Writes a page for each command into a folder.
pub(super) fn write(dir: &Path) -> Result<()> {
    durable::create_folders(dir, 0o755)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    pages(dir, &command, &[])
}

fn pages(dir: &Path, command: &Command, path: &[&str]) -> Result<()> {
    let below: Vec<&Command> = command.get_subcommands().filter(|c| !c.is_hide_set()).collect();
    for sub in &below {
        let path: Vec<&str> = path.iter().copied().chain([sub.get_name()]).collect();
        pages(dir, sub, &path)?;
    }
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    let rendered = man
        .render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| man.render_options_section(&mut page))
        .and_then(|()| if below.is_empty() { Ok(()) } else { man.render_subcommands_section(&mut page) })
        .and_then(|()| exit_status(path, below.is_empty()).to_writer(&mut page));
    let file = dir.join(man.get_filename());
    rendered.map_err(|e| Error::io("write", &file, e))?;
    durable::write_file(&file, ascii(&String::from_utf8_lossy(&page)).as_bytes(), 0o644, Existing::Replace).map(drop)
}

fn exit_status(path: &[&str], verb: bool) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    if !verb && !path.is_empty() {
        roff.text([roman("Each command's own page lists its exit codes.")]);
        return roff;
    }
    for (code, meaning) in exit::table(path) {
        roff.control("TP", []);
        roff.text([bold(code.to_string())]);
        roff.text([roman(meaning)]);
    }
    if let Some(note) = exit::note(path) {
        roff.control("PP", []);
        roff.text([roman(note)]);
    }
    roff
}

/// The page with every other character as an escape that each formatter knows.
fn ascii(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    for c in page.chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            let _ = write!(text, "\\[u{:04X}]", c as u32);
        }
    }
    text
}
