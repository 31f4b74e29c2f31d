//! The person at the terminal: questions, progress bars, and narration on standard error.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use zeroize::Zeroizing;

use crate::commands::Ask;
use crate::ground::progress::{Progress, Unit};
use crate::ground::words::harmless;
use crate::ground::{Error, Result, interrupt};

/// Writes one line to standard error; nobody is told when nobody reads it.
pub(super) fn narrate(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", harmless(line));
}

/// Asks on the terminal, when there is one.
pub(super) struct Person {
    pub(super) quiet: bool,
}

impl Ask for Person {
    fn interactive(&self) -> bool {
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    fn secret(&self, prompt: &str) -> Result<Zeroizing<String>> {
        // rpassword talks to /dev/tty, so this works with a redirected standard input too.
        let answer = interrupt::while_asking_a_secret(|| rpassword::prompt_password(format!("{prompt}: ")));
        interrupt::check()?;
        answer.map(Zeroizing::new).map_err(|e| {
            Error::usage(format!("nobody can be asked for: {prompt}"))
                .because(e)
                .hint("Run this on a terminal, or use a file (file:PATH) with mode 0600.")
        })
    }

    fn text(&self, prompt: &str) -> Result<String> {
        let mut err = std::io::stderr().lock();
        let _ = write!(err, "{prompt}: ");
        let _ = err.flush();
        let mut line = String::new();
        let read = interrupt::while_asking(|| std::io::stdin().lock().read_line(&mut line))
            .map_err(|e| Error::usage(format!("nobody answered: {prompt}")).because(e))?;
        if read == 0 {
            return Err(Error::usage(format!("nobody answered: {prompt}")));
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn confirm(&self, question: &str) -> Result<bool> {
        Ok(matches!(self.text(&format!("{question} [y/N]"))?.trim(), "y" | "Y" | "yes" | "Yes"))
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            narrate(line);
        }
    }
}

/// A bar on standard error; only notes when there is no terminal.
pub(super) struct Bars {
    bar: Mutex<Option<ProgressBar>>,
    draw: bool,
    quiet: bool,
    verbose: bool,
}

impl Bars {
    pub(super) fn new(draw: bool, quiet: bool, verbose: bool) -> Self {
        Self { bar: Mutex::new(None), draw: draw && std::io::stderr().is_terminal(), quiet, verbose }
    }

    fn with(&self, f: impl FnOnce(&mut Option<ProgressBar>)) {
        f(&mut self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

fn style(unit: Unit, sized: bool) -> ProgressStyle {
    let template = match (unit, sized) {
        (Unit::Bytes, true) => "{msg:<28} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        (Unit::Bytes, false) => "{msg:<28} {spinner} {bytes} {bytes_per_sec}",
        (Unit::Items, true) => "{msg:<28} {wide_bar} {pos}/{len} {eta}",
        (Unit::Items, false) => "{msg:<28} {spinner} {pos}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for Bars {
    fn stage(&self, name: &str, total: Option<u64>, unit: Unit) {
        if self.verbose && !self.draw {
            narrate(name);
        }
        if !self.draw {
            return;
        }
        self.with(|bar| {
            if let Some(old) = bar.take() {
                old.finish_and_clear();
            }
            let new = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
            new.set_style(style(unit, total.is_some()));
            new.set_message(name.to_owned());
            new.enable_steady_tick(Duration::from_millis(200));
            *bar = Some(new);
        });
    }

    fn advance(&self, by: u64) {
        if self.draw {
            self.with(|bar| {
                if let Some(bar) = bar {
                    bar.inc(by);
                }
            });
        }
    }

    fn note(&self, line: &str) {
        if self.quiet {
            return;
        }
        self.with(|bar| match bar {
            Some(bar) => bar.suspend(|| narrate(line)),
            None => narrate(line),
        });
    }

    fn finish(&self) {
        self.with(|bar| {
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
        });
    }
}
