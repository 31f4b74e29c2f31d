//! The last step of `init`: what was set up, tried as cron will run it.

use std::path::Path;
use std::time::Duration;

use crate::commands::{Desk, Problem};
use crate::ground::child;

/// Tries everything again as cron would: a bare environment, another folder, nobody to ask.
pub(super) fn rehearse(desk: &Desk<'_>, path: &Path) -> Option<Problem> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let argv: Vec<String> = [
        "/usr/bin/env",
        "-i",
        "PATH=/usr/bin:/bin",
        "HOME=/",
        &desk.program.display().to_string(),
        "--config",
        &absolute.display().to_string(),
        "config",
        "check",
        "--quiet",
    ]
    .map(str::to_owned)
    .to_vec();
    match child::run(&argv, &child::Environment::default(), b"", Duration::from_mins(2)) {
        Ok(_) => None,
        Err(error) => Some(Problem::new(
            "rehearsal",
            format!(
                "everything works from here and not as cron would run it: {}",
                // What `config check` said, without the name of the program in front of it.
                std::error::Error::source(&error).map_or_else(|| error.chain(), ToString::to_string)
            ),
            "`strongroom config check` shows it all; a key in a file (file:, dotenv:) is there for cron too.",
        )),
    }
}
