//! `restore --cleanup`: what earlier restores kept or left behind, listed, and removed when that is wanted.

use serde_json::json;

use super::{live, unended};
use crate::commands::host::Host;
use crate::commands::{DatabaseOptions, Desk, Outcome, human_bytes};
use crate::config::Config;
use crate::database::Database;
use crate::ground::kept::Kept;
use crate::ground::{Error, Result};
use crate::storage::Target;

/// Where to look, instead of where the configuration says.
pub struct Places<'a> {
    /// The database.
    pub database: Option<&'a str>,
    /// The storage.
    pub storage: Option<&'a str>,
}

/// One thing that is kept, and where.
struct Found<'a> {
    kept: Kept,
    place: Place<'a>,
}

enum Place<'a> {
    Database(&'a dyn Database),
    Storage(&'a dyn Target),
}

impl Found<'_> {
    fn shown(&self) -> String {
        let size = self.kept.bytes.map_or_else(String::new, |bytes| format!(" ({})", human_bytes(bytes)));
        match self.place {
            Place::Database(_) => format!("{}{size}", self.kept.name),
            Place::Storage(target) => format!("{}/.strongroom/{}{size}", target.describe(), self.kept.name),
        }
    }

    fn json(&self) -> serde_json::Value {
        let what = if matches!(self.place, Place::Database(_)) { "database" } else { "storage" };
        json!({ "what": what, "name": self.kept.name, "bytes": self.kept.bytes })
    }

    fn remove(&self) -> Result<()> {
        match self.place {
            Place::Database(database) => database.remove_kept(&self.kept.name),
            Place::Storage(target) => target.remove_kept(&self.kept.name),
        }
    }
}

/// Lists what is kept beside the database and in the storage, and removes it after a yes.
pub fn run(desk: &Desk<'_>, config: Config, places: &Places<'_>, dry_run: bool, yes: bool) -> Result<Outcome> {
    let host = Host::new(config)?;
    let _lock = if dry_run { None } else { Some(host.lock()?) };
    let database = match (places.database, &host.config.database) {
        (None, None) => None,
        (url, _) => Some(live::open_database(desk, &host, url, &DatabaseOptions::default())?),
    };
    let storage = match (places.storage, &host.config.storage) {
        (None, None) => None,
        (url, _) => Some(live::open_target(desk, &host, url)?),
    };
    let mut found = Vec::new();
    if let Some(database) = database.as_deref() {
        found.extend(database.kept()?.into_iter().map(|kept| Found { kept, place: Place::Database(database) }));
    }
    if let Some(storage) = storage.as_deref() {
        found.extend(storage.kept()?.into_iter().map(|kept| Found { kept, place: Place::Storage(storage) }));
    }
    let rows: Vec<_> = found.iter().map(Found::json).collect();
    let left = unended::find(&host.config.state);
    let told = |kept: &[serde_json::Value], removed: &[serde_json::Value], text: Vec<String>| {
        let problems: Vec<_> = left.iter().map(unended::Unended::problem).collect();
        let json = json!({ "kept": kept, "removed": removed, "problems": problems });
        Ok(Outcome { exit: 0, json, line: String::new(), text, problems })
    };
    if found.is_empty() {
        let beside = database.iter().map(|d| format!("beside {}", d.describe()));
        let places: Vec<_> = beside.chain(storage.iter().map(|s| format!("in {}", s.describe()))).collect();
        return told(&[], &[], vec![format!("nothing is kept {}", places.join(" or "))]);
    }
    if dry_run {
        return told(&rows, &[], found.iter().map(|found| format!("kept: {}", found.shown())).collect());
    }
    let way_back: Vec<_> = found.iter().filter(|found| found.kept.way_back).map(Found::shown).collect();
    if let Some(left) = left.as_ref().filter(|_| !way_back.is_empty()) {
        left.keeps(&way_back.join(", "))?;
    }
    if !yes {
        let shown: Vec<_> = found.iter().map(Found::shown).collect();
        if !desk.ask.interactive() {
            return Err(Error::refused(format!(
                "{} would be removed and nobody is there to be asked",
                shown.join(", ")
            ))
            .hint("Look at them with --dry-run, then give --yes."));
        }
        for shown in &shown {
            desk.ask.say(&format!("kept: {shown}"));
        }
        if !desk.ask.confirm("Remove them for good?")? {
            return Err(Error::refused("nothing was removed: you said no"));
        }
    }
    for found in &found {
        found.remove()?;
    }
    told(&[], &rows, found.iter().map(|found| format!("removed {}", found.shown())).collect())
}
