//! What restores over the live system have left to be told: `restore.json` in the state folder, and what is said of it.
//!
//! It holds no secret, and two facts: which places are in doubt, because they may be restored in part, and whether the application
//! may be stopped. One thing is decided by it: while places are in doubt, `restore --cleanup` removes no way back. The next restore
//! looks for itself at what is there.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::commands::Problem;
use crate::ground::durable;
use crate::ground::names::BundleId;
use crate::ground::words::shown;
use crate::ground::{Error, Kind, Result, clock, json};

/// Its name in the state folder.
const NAME: &str = "restore.json";

/// The word for places in doubt: what is backed up meanwhile may not go together.
pub(in crate::commands) const PENDING: &str = "restore-pending";

/// How long the file may be.
const LIMIT: u64 = 1 << 20;

/// A restore that has begun, and what is in doubt since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) bundle: BundleId,
    #[serde(with = "clock::text")]
    pub(super) begun: Timestamp,
    /// The database that may be restored in part, redacted.
    pub(super) database: Option<String>,
    /// The storage that may be.
    pub(super) storage: Option<String>,
    /// The patterns of files, where it does not touch all of them.
    #[serde(default)]
    pub(super) include: Vec<String>,
    /// The database is changed in place, and cannot be rolled back.
    pub(super) in_place: bool,
    /// The bundle that was made of what stood in the database.
    #[serde(default)]
    pub(super) before: Option<String>,
    /// A stop hook has run, even in vain, and no start hook has succeeded since; also where nobody wrote it down.
    #[serde(default = "may_be")]
    pub(super) stopped: bool,
    /// One that did not end either, in what this one does not touch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) earlier: Option<Box<Facts>>,
}

fn may_be() -> bool {
    true
}

impl Facts {
    /// This one, and those before it of which something is in doubt still.
    pub(super) fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |facts| facts.earlier.as_deref())
    }

    /// Whether places are.
    pub(super) fn in_doubt(&self) -> bool {
        self.database.is_some() || self.storage.is_some()
    }

    pub(super) fn places(&self) -> String {
        self.database.iter().chain(&self.storage).map(|place| shown(place.as_bytes())).collect::<Vec<_>>().join(" and ")
    }

    /// The bundles of what stood in databases that are in doubt.
    pub(super) fn ways_back(&self) -> impl Iterator<Item = String> {
        self.all().filter_map(|facts| facts.before.as_ref()).map(|id| shown(id.as_bytes()))
    }

    /// What is in doubt still once `later` has succeeded.
    pub(super) fn without(mut self, later: &Self) -> Option<Self> {
        let earlier = self.earlier.take().and_then(|earlier| earlier.without(later));
        if self.database == later.database {
            (self.database, self.in_place, self.before) = (None, false, None);
        }
        if self.storage == later.storage && (later.include.is_empty() || later.include == self.include) {
            self.storage = None;
        }
        if !self.in_doubt() {
            return earlier;
        }
        self.earlier = earlier.map(Box::new);
        Some(self)
    }

    /// Nothing is in doubt but whether the application runs.
    pub(super) fn only_stopped(&self) -> Self {
        Self {
            bundle: self.bundle.clone(),
            begun: self.begun,
            database: None,
            storage: None,
            include: Vec::new(),
            in_place: false,
            before: None,
            stopped: true,
            earlier: None,
        }
    }
}

/// A restore of which something is left to be told.
pub(in crate::commands) struct Unended {
    pub(super) path: PathBuf,
    pub(super) facts: Result<Facts>,
    /// The file, where it could be read.
    pub(super) bytes: Option<Vec<u8>>,
}

/// Whole, because a person is told to remove it, from wherever the message is read.
pub(super) fn path_in(state: &Path) -> PathBuf {
    let path = state.join(NAME);
    std::path::absolute(&path).unwrap_or(path)
}

/// The one that was left in a state folder; one that cannot be read is one too.
pub(in crate::commands) fn find(state: &Path) -> Option<Unended> {
    let path = path_in(state);
    match durable::read_file(&path, LIMIT) {
        Ok(bytes) => {
            Some(Unended { facts: json::parse(&bytes, &path.display().to_string()), bytes: Some(bytes), path })
        }
        Err(error) if error.kind() == Kind::NotFound => None,
        Err(error) => Some(Unended { facts: Err(error), bytes: None, path }),
    }
}

impl Unended {
    /// Whether places may be restored in part, as far as anybody knows.
    pub(super) fn in_doubt(&self) -> bool {
        self.facts.as_ref().map_or(true, Facts::in_doubt)
    }

    /// The same, unless this user may not look.
    pub(in crate::commands) fn is_seen_in_doubt(&self) -> bool {
        self.facts.as_ref().err().is_none_or(|error| error.kind() != Kind::Denied) && self.in_doubt()
    }

    /// What the next restore says of it.
    pub(super) fn sentence(&self) -> String {
        let Ok(facts) = &self.facts else {
            return format!("an earlier restore did not end, and {} cannot be read", self.path.display());
        };
        let how = if facts.in_doubt() { "did not end" } else { "ended without starting the application" };
        let back = |id| format!("; what stood in the database before it is bundle {id}");
        let back: String = facts.ways_back().map(back).collect();
        format!("an earlier restore of bundle {}, begun {}, {how}{back}", facts.bundle, clock::rfc3339(facts.begun))
    }

    /// What everybody else says of it until it is made good.
    pub(in crate::commands) fn problem(&self) -> Problem {
        let path = self.path.display();
        let by_hand = format!("If you have made it good by hand, remove {path}.");
        let (code, message, hint) = match &self.facts {
            Err(error) => (
                PENDING,
                format!(
                    "a restore has not ended, the application may be stopped, and {path}, which tells of it, cannot be read: {}",
                    error.chain()
                ),
                format!("Run the same restore again, with the flags that it had. {by_hand}"),
            ),
            Ok(facts) if !facts.in_doubt() => (
                "application-stopped",
                format!(
                    "the application may be stopped: the restore of bundle {}, begun {}, ended without starting it",
                    facts.bundle,
                    clock::rfc3339(facts.begun)
                ),
                format!("Start the application, and remove {path}. A restore that starts it removes that too."),
            ),
            Ok(facts) => {
                let bundle = &facts.bundle;
                let stopped = if facts.stopped { ", and the application may be stopped" } else { "" };
                let earlier = |e: &Facts| format!("; nor has one of bundle {} before it, of {}", e.bundle, e.places());
                let back = |id| format!(" What stood in the database before is bundle {id}.");
                let back: String = facts.ways_back().map(back).collect();
                (
                    PENDING,
                    format!(
                        "a restore of bundle {bundle}, begun {}, has not ended: {} may be restored{} in part or not at all{stopped}{}",
                        clock::rfc3339(facts.begun),
                        facts.places(),
                        if facts.in_place { " in place" } else { "" },
                        facts.all().skip(1).map(earlier).collect::<String>(),
                    ),
                    format!(
                        "Run the same restore again, with the flags that it had: strongroom restore {bundle} -i FILE.{back} {by_hand}"
                    ),
                )
            }
        };
        Problem::new(code, message, hint)
    }

    /// Why nothing that is kept is removed meanwhile; nothing where no place is in doubt.
    pub(super) fn keeps(&self, kept: &str) -> Result<()> {
        if !self.in_doubt() {
            return Ok(());
        }
        let problem = self.problem();
        Err(Error::refused(format!("{kept} may be the way back: {}", problem.message))
            .hint(problem.hint.unwrap_or_default()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::commands::restore) fn facts(
        database: Option<&str>,
        storage: Option<&str>,
        include: &[&str],
    ) -> Facts {
        Facts {
            bundle: "20261123T020000Z-1a2b3c4d".parse().expect("an id"),
            begun: clock::parse_rfc3339("2026-11-23T02:00:00Z").expect("a time"),
            database: database.map(str::to_owned),
            storage: storage.map(str::to_owned),
            include: include.iter().map(|glob| (*glob).to_owned()).collect(),
            in_place: false,
            before: None,
            stopped: false,
            earlier: None,
        }
    }

    pub(in crate::commands::restore) fn both() -> Facts {
        facts(Some("d"), Some("s"), &[])
    }

    #[test]
    fn a_later_restore_makes_good_what_it_touched_itself() {
        assert_eq!(both().without(&both()), None);
        assert_eq!(both().without(&facts(Some("d"), None, &[])), Some(facts(None, Some("s"), &[])));
        assert_eq!(both().without(&facts(None, Some("s"), &[])), Some(facts(Some("d"), None, &[])));
        assert_eq!(both().without(&facts(Some("other"), Some("other"), &[])), Some(both()));
        let one = || facts(None, Some("s"), &["*.zip"]);
        assert_eq!(facts(None, Some("s"), &[]).without(&one()), Some(facts(None, Some("s"), &[])));
        assert_eq!(one().without(&one()), None);
        assert_eq!(one().without(&both()), None);
        // Of that no place is in doubt.
        assert_eq!(both().only_stopped().without(&one()), None);
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped_wherever_it_stands() {
        let state = tempfile::tempdir().expect("a folder");
        let evil = "x\u{1b}[2J\nproblem: none";
        let facts = Facts { before: Some(evil.to_owned()), ..facts(Some(evil), Some(evil), &[evil]) };
        let facts = Facts { earlier: Some(Box::new(facts.clone())), ..facts };
        std::fs::write(state.path().join(NAME), json::pretty(&facts).expect("written")).expect("written");
        let left = find(state.path()).expect("it stands");
        let problem = left.problem();
        for said in [left.sentence(), problem.message, problem.hint.expect("a hint")] {
            assert!(!said.contains(char::is_control) && said.contains("\\u{1b}[2J\\n"), "{said:?}");
        }
    }
}
