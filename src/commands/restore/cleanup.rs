//! `restore --cleanup`: what earlier restores kept or left behind, listed, and removed when that is wanted.

use serde_json::json;

use super::live;
use crate::commands::host::Host;
use crate::commands::{DatabaseOptions, Desk, Outcome};
use crate::config::Config;
use crate::ground::{Error, Result};

/// Lists what is kept beside the database, and removes it after a yes.
pub fn run(desk: &Desk<'_>, config: Config, url: Option<&str>, dry_run: bool, yes: bool) -> Result<Outcome> {
    let host = Host::new(config)?;
    let _lock = if dry_run { None } else { Some(host.lock()?) };
    let database = live::open_database(desk, &host, url, DatabaseOptions::default())?;
    let kept = database.kept()?;
    if kept.is_empty() {
        let text = vec![format!("nothing is kept beside {}", database.describe())];
        return Outcome::done(json!({ "kept": kept, "removed": [] }), text);
    }
    if dry_run {
        let text = kept.iter().map(|name| format!("kept: {name}")).collect();
        return Outcome::done(json!({ "kept": kept, "removed": [] }), text);
    }
    if !yes {
        if !desk.ask.interactive() {
            return Err(Error::refused(format!(
                "{} would be removed and nobody is there to be asked",
                kept.join(", ")
            ))
            .hint("Look at them with --dry-run, then give --yes."));
        }
        for name in &kept {
            desk.ask.say(&format!("kept: {name}"));
        }
        if !desk.ask.confirm("Remove them for good?")? {
            return Err(Error::refused("nothing was removed: you said no"));
        }
    }
    for name in &kept {
        database.remove_kept(name)?;
    }
    let text = kept.iter().map(|name| format!("removed {name}")).collect();
    Outcome::done(json!({ "kept": [], "removed": kept }), text)
}
