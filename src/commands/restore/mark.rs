//! What a restore over the live system writes down before it stops the application: one that is killed is told of until it is made good.
//!
//! It holds no secret. Nothing is decided by it: the next restore looks for itself at what is there.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::commands::Problem;
use crate::ground::durable::{self, Existing};
use crate::ground::names::BundleId;
use crate::ground::{Error, Kind, Result, clock, failpoint, json};

/// Its name in the state folder.
const NAME: &str = "restore.json";

/// How long the file may be.
const LIMIT: u64 = 1 << 20;

/// A restore that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) bundle: BundleId,
    #[serde(with = "clock::text")]
    pub(super) begun: Timestamp,
    /// The database that it touches, redacted.
    pub(super) database: Option<String>,
    /// The storage that it touches.
    pub(super) storage: Option<String>,
    /// The patterns of files, where it does not touch all of them.
    #[serde(default)]
    pub(super) include: Vec<String>,
    /// The database is changed in place, and cannot be rolled back.
    pub(super) in_place: bool,
    /// The bundle that was made of what stood in the database.
    #[serde(default)]
    pub(super) before: Option<String>,
    /// Everything is as it was; only the application was not started.
    #[serde(default)]
    pub(super) put_back: bool,
    /// One that did not end either, in what this one does not touch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) earlier: Option<Box<Facts>>,
}

impl Facts {
    fn places(&self) -> String {
        self.database.iter().chain(&self.storage).map(String::as_str).collect::<Vec<_>>().join(" and ")
    }

    /// What is left to be made good of this one once `later` has succeeded.
    fn without(mut self, later: &Self) -> Option<Self> {
        let earlier = self.earlier.take().and_then(|earlier| earlier.without(later));
        if self.put_back {
            return earlier;
        }
        if self.database == later.database {
            (self.database, self.in_place, self.before) = (None, false, None);
        }
        if self.storage == later.storage && (later.include.is_empty() || later.include == self.include) {
            self.storage = None;
        }
        if self.database.is_none() && self.storage.is_none() {
            return earlier;
        }
        self.earlier = earlier.map(Box::new);
        Some(self)
    }
}

/// A restore that did not end.
pub(in crate::commands) struct Unended {
    path: PathBuf,
    bytes: Option<Vec<u8>>,
    facts: Result<Facts>,
}

/// Whole, because a person is told to remove it, from wherever the message is read.
fn path_in(state: &Path) -> PathBuf {
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
    /// What the next restore says of it.
    pub(super) fn sentence(&self) -> String {
        let Ok(facts) = &self.facts else {
            return format!("an earlier restore did not end, and {} cannot be read", self.path.display());
        };
        let begun = clock::rfc3339(facts.begun);
        let before = facts
            .before
            .as_ref()
            .map_or_else(String::new, |id| format!("; what stood in the database before it is bundle {id}"));
        format!("an earlier restore of bundle {}, begun {begun}, did not end{before}", facts.bundle)
    }

    /// What everybody else says of it until it is made good.
    pub(in crate::commands) fn problem(&self) -> Problem {
        let path = self.path.display();
        let by_hand = format!("If you have made it good by hand, remove {path}.");
        let facts = match &self.facts {
            Ok(facts) => facts,
            Err(error) => {
                return Problem::new(
                    "restore-pending",
                    format!(
                        "a restore has not ended, the application may be stopped, and {path}, which tells of it, cannot be read: {}",
                        error.chain()
                    ),
                    format!("Run the same restore again, with the flags that it had. {by_hand}"),
                );
            }
        };
        let Facts { bundle, begun, before, put_back, .. } = facts;
        let begun = clock::rfc3339(*begun);
        let again = format!("strongroom restore {bundle} -i FILE");
        if *put_back {
            return Problem::new(
                "restore-pending",
                format!(
                    "a restore of bundle {bundle}, begun {begun}, was taken back, and the application was not started again"
                ),
                format!("Start the application, and remove {path}. Or run the same restore again: {again}"),
            );
        }
        let (done, back) = match (facts.in_place, before) {
            (true, Some(id)) => (" in place", format!(" What stood in the database before is bundle {id}.")),
            (true, None) => (" in place", String::new()),
            (false, _) => ("", String::new()),
        };
        Problem::new(
            "restore-pending",
            format!(
                "a restore of bundle {bundle}, begun {begun}, has not ended: {} may be restored{done} in part or not at all, and the application may be stopped{}",
                facts.places(),
                facts.earlier.as_ref().map_or_else(String::new, |earlier| format!(
                    "; nor has one of bundle {} before it, of {}",
                    earlier.bundle,
                    earlier.places()
                ))
            ),
            format!("Run the same restore again, with the flags that it had: {again}.{back} {by_hand}"),
        )
    }

    /// Whether it left everything as it was.
    pub(super) fn is_put_back(&self) -> bool {
        self.facts.as_ref().is_ok_and(|facts| facts.put_back)
    }

    /// Why nothing that is kept is removed meanwhile.
    pub(super) fn keeps(&self, kept: &str) -> Error {
        let problem = self.problem();
        Error::refused(format!("{kept} may be the way back: {}", problem.message))
            .hint(problem.hint.unwrap_or_default())
    }
}

/// The file of the restore that runs.
pub(super) struct Mark {
    path: PathBuf,
    facts: Facts,
    earlier: Option<Unended>,
}

impl Mark {
    /// Writes it; an earlier one is remembered until this one has ended.
    pub(super) fn begin(state: &Path, mut facts: Facts, earlier: Option<Unended>) -> Result<Self> {
        // Between the two nothing was made good: what stood there first is the way back.
        let first = earlier.as_ref().and_then(|earlier| earlier.facts.as_ref().ok());
        facts.before = first.filter(|first| first.database == facts.database).and_then(|first| first.before.clone());
        facts.earlier = first.cloned().and_then(|first| first.without(&facts)).map(Box::new);
        let mark = Self { path: path_in(state), facts, earlier };
        mark.write(&mark.facts)?;
        Ok(mark)
    }

    fn write(&self, facts: &Facts) -> Result<()> {
        durable::write_file(&self.path, &json::pretty(facts)?, 0o600, Existing::Replace).map(drop)
    }

    /// What stood in the database is a bundle now.
    pub(super) fn backed_up(&mut self, bundle: &str) -> Result<()> {
        self.facts.before.get_or_insert_with(|| bundle.to_owned());
        self.write(&self.facts)
    }

    /// The restore succeeded. Answers what an earlier one left that this one did not touch.
    pub(super) fn done(mut self) -> Result<Option<Unended>> {
        let Some(left) = self.facts.earlier.take() else {
            return self.remove().map(|()| None);
        };
        self.write(&left)?;
        Ok(Some(Unended { path: self.path, bytes: None, facts: Ok(*left) }))
    }

    /// A restore that failed, after which everything is as it was and the application runs: so is the file.
    pub(super) fn undone(&self, error: Error) -> Error {
        self.after(error, self.as_before())
    }

    /// The same where the application was not started: that is told instead.
    pub(super) fn put_back(&self, error: Error) -> Error {
        let told = match &self.earlier {
            None => self.write(&Facts { put_back: true, ..self.facts.clone() }),
            Some(_) => self.as_before(),
        };
        self.after(error, told)
    }

    fn as_before(&self) -> Result<()> {
        match &self.earlier {
            None => self.remove(),
            Some(Unended { bytes: Some(bytes), .. }) => {
                durable::write_file(&self.path, bytes, 0o600, Existing::Replace).map(drop)
            }
            // What it said is gone: this one says that there was one.
            Some(_) => Ok(()),
        }
    }

    fn after(&self, error: Error, written: Result<()>) -> Error {
        match written {
            Ok(()) => error,
            Err(second) => error.hint(format!(
                "{} still says that the restore has not ended: {}. Remove it by hand.",
                self.path.display(),
                second.chain()
            )),
        }
    }

    fn remove(&self) -> Result<()> {
        failpoint::pass("before the mark of a restore is removed");
        durable::remove(&self.path)?;
        failpoint::pass("after the mark of a restore was removed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(database: Option<&str>, storage: Option<&str>, include: &[&str]) -> Facts {
        Facts {
            bundle: "20261123T020000Z-1a2b3c4d".parse().expect("an id"),
            begun: clock::parse_rfc3339("2026-11-23T02:00:00Z").expect("a time"),
            database: database.map(str::to_owned),
            storage: storage.map(str::to_owned),
            include: include.iter().map(|glob| (*glob).to_owned()).collect(),
            in_place: false,
            before: None,
            put_back: false,
            earlier: None,
        }
    }

    #[test]
    fn a_later_restore_makes_good_what_it_touched_itself() {
        let both = || facts(Some("d"), Some("s"), &[]);
        assert_eq!(both().without(&both()), None);
        assert_eq!(both().without(&facts(Some("d"), None, &[])), Some(facts(None, Some("s"), &[])));
        assert_eq!(both().without(&facts(None, Some("s"), &[])), Some(facts(Some("d"), None, &[])));
        assert_eq!(both().without(&facts(Some("other"), Some("other"), &[])), Some(both()));
        let one = || facts(None, Some("s"), &["*.zip"]);
        assert_eq!(facts(None, Some("s"), &[]).without(&one()), Some(facts(None, Some("s"), &[])));
        assert_eq!(one().without(&one()), None);
        assert_eq!(one().without(&both()), None);
        // The application runs again, and there is nothing else to be made good.
        assert_eq!(Facts { put_back: true, ..both() }.without(&one()), None);
    }

    #[test]
    fn what_was_done_twice_over_is_removed_and_what_failed_leaves_the_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path();
        assert!(find(state).is_none());
        let mut first = Mark::begin(state, facts(Some("d"), Some("s"), &[]), None).expect("begun");
        first.backed_up("the first").expect("written");
        let left = std::fs::read(state.join(NAME)).expect("it stands");

        let mut second = Mark::begin(state, facts(Some("d"), None, &[]), find(state)).expect("begun");
        second.backed_up("the second").expect("written");
        assert!(find(state).expect("it stands").sentence().contains("before it is bundle the first"));
        second.undone(Error::failed("x"));
        assert_eq!(std::fs::read(state.join(NAME)).expect("it stands"), left);

        let third = Mark::begin(state, facts(Some("d"), None, &[]), find(state)).expect("begun");
        let rest = third.done().expect("written").expect("the storage");
        assert_eq!(rest.facts.expect("facts").places(), "s");
        let fourth = Mark::begin(state, facts(None, Some("s"), &[]), find(state)).expect("begun");
        assert!(fourth.done().expect("removed").is_none());
        assert!(find(state).is_none());
    }

    #[test]
    fn what_a_second_one_does_not_touch_outlives_it_however_it_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path();
        let begin = |facts| Mark::begin(state, facts, find(state)).expect("begun");
        drop(begin(facts(Some("d"), Some("s"), &[])));
        // Killed, then run again, as it is told.
        drop(begin(facts(Some("d"), None, &[])));
        let told = find(state).expect("it stands").problem().message;
        assert!(told.contains("nor has one of bundle") && told.ends_with("before it, of s"), "{told}");
        let left = begin(facts(Some("d"), None, &[])).done().expect("written").expect("the storage");
        assert_eq!(left.facts.expect("facts").places(), "s");
        assert!(begin(facts(None, Some("s"), &[])).done().expect("removed").is_none());
    }

    #[test]
    fn one_that_cannot_be_read_is_told_and_goes_with_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path();
        std::fs::write(state.join(NAME), "{\"bundle\":").expect("written");
        let told = find(state).expect("it stands").problem();
        assert!(told.message.contains("cannot be read"), "{}", told.message);
        let mark = Mark::begin(state, facts(Some("d"), None, &[]), find(state)).expect("begun");
        mark.undone(Error::failed("x"));
        assert_eq!(std::fs::read(state.join(NAME)).expect("it stands"), b"{\"bundle\":");
        let mark = Mark::begin(state, facts(Some("d"), None, &[]), find(state)).expect("begun");
        assert!(mark.done().expect("removed").is_none());
        assert!(find(state).is_none());
    }
}
