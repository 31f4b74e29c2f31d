//! The mark of the restore that runs over the live system: written before the application is stopped, and brought up to date when it ends.
//!
//! | when | places in doubt | the application may be stopped |
//! |---|---|---|
//! | it begins | its own, and of an earlier one those that it does not touch | there is a stop hook, or it was so before |
//! | a stop hook runs, even in vain | | yes |
//! | a start hook succeeds | | no |
//! | a start hook fails | | yes |
//! | it succeeds | of an earlier one those that it did not touch | as it is |
//! | it fails, and all is as it was | those of an earlier one, all of them | as it is |
//! | it fails, and cannot go back | as when it began | as it is |
//! | it is killed | as when it began | as when it began |
//!
//! A bundle that was made while places were in doubt makes none good, and of a file that cannot be read only a restore of everything does.
//! The file goes when neither is left. Without a stop hook somebody else looks after the application, and nothing is known of it.

use std::path::{Path, PathBuf};

use super::unended::{Facts, Unended, path_in};
use crate::commands::Problem;
use crate::commands::hooks::Hooks;
use crate::ground::durable::{self, Existing};
use crate::ground::{Error, Result, failpoint, json};

/// The file of the restore that runs, and what it knows of the application.
pub(super) struct Mark {
    path: PathBuf,
    facts: Facts,
    /// What an earlier one left, as it was found.
    found: Option<Unended>,
    /// Its bundle was made while a restore had not ended: it makes nothing good.
    doubtful: bool,
}

impl Mark {
    /// Writes it; what an earlier one left is remembered until this one has ended.
    pub(super) fn begin(state: &Path, mut facts: Facts, found: Option<Unended>, doubtful: bool) -> Result<Self> {
        if let Some(found) = &found {
            let first = found.facts.as_ref().ok();
            facts.stopped |= first.is_none_or(|first| first.stopped);
            // Between the two nothing was made good: what stood there first is the way back.
            let same = first.and_then(|first| first.all().find(|first| first.database == facts.database));
            facts.before = same.and_then(|first| first.before.clone());
            let left = |first: Facts| if doubtful { Some(first) } else { first.without(&facts) };
            facts.earlier = first.cloned().filter(Facts::in_doubt).and_then(left).map(Box::new);
        }
        let mark = Self { path: path_in(state), facts, found, doubtful };
        mark.write(&mark.facts)?;
        Ok(mark)
    }

    fn write(&self, facts: &Facts) -> Result<()> {
        durable::write_file(&self.path, &json::pretty(facts)?, 0o600, Existing::Replace).map(drop)
    }

    /// Stops the application. Where there is a hook for it, the file has said so since it was begun.
    pub(super) fn stop(&mut self, hooks: &Hooks<'_>) -> Result<()> {
        self.facts.stopped |= hooks.can_stop();
        hooks.stop()
    }

    /// Starts the application; whether it may be stopped still is written with how the restore ends.
    pub(super) fn start(&mut self, hooks: &Hooks<'_>) -> Result<()> {
        let started = hooks.start();
        self.facts.stopped = started.is_err() || (self.facts.stopped && !hooks.can_start());
        started
    }

    /// Whether the application may be stopped.
    pub(super) fn stopped(&self) -> bool {
        self.facts.stopped
    }

    /// What stands in the database is a bundle now. Answers the way back: the bundle of what stood there first.
    pub(super) fn backed_up(&mut self, bundle: &str) -> Result<String> {
        let way_back = self.facts.before.get_or_insert_with(|| bundle.to_owned()).clone();
        self.write(&self.facts).map(|()| way_back)
    }

    /// What is wrong with what stands there, because of an earlier one.
    pub(super) fn doubt_before(&self) -> Option<Problem> {
        self.found.as_ref().filter(|found| found.in_doubt()).map(Unended::problem)
    }

    /// The restore succeeded. Answers what is left to be told: of an earlier one, or that nobody has started the application.
    pub(super) fn done(mut self) -> Result<Option<Unended>> {
        // Of what cannot be read nobody knows what it was about: only a restore of everything makes it good.
        let whole = self.facts.database.is_some() && self.facts.storage.is_some() && self.facts.include.is_empty();
        if let Some(kept) = self.unread().filter(|_| self.doubtful || !whole) {
            return kept.map(|()| self.found);
        }
        let left = self.facts.earlier.take().map(|earlier| *earlier);
        let left = self.leave(left)?;
        Ok(left.map(|left| Unended { path: self.path, facts: Ok(left), bytes: None }))
    }

    /// A restore that failed, after which every place is as it was: in doubt is what was in doubt before.
    pub(super) fn undone(&self, error: Error) -> Error {
        let found = self.found.as_ref().and_then(|found| found.facts.as_ref().ok());
        let told = self.unread().unwrap_or_else(|| self.leave(found.cloned()).map(drop));
        self.after(error, told)
    }

    /// Puts back an earlier one that could not be read, if it was such a one.
    fn unread(&self) -> Option<Result<()>> {
        let found = self.found.as_ref().filter(|found| found.facts.is_err())?;
        Some(match &found.bytes {
            Some(bytes) => durable::write_file(&self.path, bytes, 0o600, Existing::Replace).map(drop),
            // What it said is gone: this one says that there was one.
            None => Ok(()),
        })
    }

    /// A restore that failed and could not be taken back: its places stay in doubt.
    pub(super) fn unended(&self, error: Error) -> Error {
        self.after(error, self.write(&self.facts))
    }

    /// Leaves what is still to be told, and no file where that is nothing.
    fn leave(&self, in_doubt: Option<Facts>) -> Result<Option<Facts>> {
        let stopped = self.facts.stopped;
        let only_stopped = || stopped.then(|| self.facts.only_stopped());
        let Some(left) = in_doubt.filter(Facts::in_doubt).or_else(only_stopped) else {
            return self.remove().map(|()| None);
        };
        let left = Facts { stopped, ..left };
        self.write(&left)?;
        Ok(Some(left))
    }

    fn after(&self, error: Error, written: Result<()>) -> Error {
        match written {
            Ok(()) => error,
            Err(second) => error.hint(format!(
                "{} could not be brought up to date, and may say more of this restore than is true: {}. Remove it by hand when all is well.",
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
    use super::super::unended::find;
    use super::super::unended::tests::{both, facts};
    use super::*;

    /// A state folder, and restores that begin in it.
    fn folder() -> (tempfile::TempDir, impl Fn(Facts) -> Mark) {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().to_owned();
        (folder, move |facts| Mark::begin(&state, facts, find(&state), false).expect("begun"))
    }

    #[test]
    fn what_was_done_twice_over_is_removed_and_what_failed_leaves_the_first() {
        let (state, begin) = folder();
        let left = || find(state.path()).expect("it stands");
        assert!(find(state.path()).is_none());
        let mut first = begin(both());
        first.backed_up("the first").expect("written");
        let facts_of_first = left().facts.expect("facts");

        let mut second = begin(facts(Some("d"), None, &[]));
        second.backed_up("the second").expect("written");
        assert!(left().sentence().contains("before it is bundle the first"));
        second.undone(Error::failed("x"));
        assert_eq!(left().facts.expect("facts"), facts_of_first);

        let rest = begin(facts(Some("d"), None, &[])).done().expect("written").expect("the storage");
        assert_eq!(rest.facts.expect("facts").places(), "s");
        assert!(begin(facts(None, Some("s"), &[])).done().expect("removed").is_none());
        assert!(find(state.path()).is_none());
    }

    #[test]
    fn what_a_second_one_does_not_touch_outlives_it_however_it_ends() {
        let (state, begin) = folder();
        drop(begin(both()));
        // Killed, then run again, as it is told.
        drop(begin(facts(Some("d"), None, &[])));
        let told = find(state.path()).expect("it stands").problem().message;
        assert!(told.contains("nor has one of bundle") && told.ends_with("before it, of s"), "{told}");
        let left = begin(facts(Some("d"), None, &[])).done().expect("written").expect("the storage");
        assert_eq!(left.facts.expect("facts").places(), "s");
        assert!(begin(facts(None, Some("s"), &[])).done().expect("removed").is_none());
    }

    #[test]
    fn that_the_application_may_be_stopped_is_told_until_somebody_has_started_it() {
        let (state, begin) = folder();
        let told = || find(state.path()).map(|left| left.problem().message);
        let only_stopped =
            |told: Option<String>| told.is_some_and(|told| told.starts_with("the application may be stopped"));
        let stops = || Facts { stopped: true, ..both() };
        // Killed; then one that runs no hook succeeds, and one fails.
        drop(begin(stops()));
        assert!(told().is_some_and(|told| told.ends_with("and the application may be stopped")));
        let left = begin(both()).done().expect("written").expect("it is stopped");
        assert!(left.keeps("it").is_ok() && left.sentence().contains("without starting"));
        begin(both()).undone(Error::failed("x"));
        assert!(only_stopped(told()));
        // One that fails has started it.
        let mut mark = begin(stops());
        mark.facts.stopped = false;
        mark.undone(Error::failed("x"));
        assert_eq!(told(), None);
        // Its places are in doubt still, and it runs.
        let mut mark = begin(stops());
        mark.facts.stopped = false;
        mark.unended(Error::failed("x"));
        assert!(told().is_some_and(|told| told.ends_with("in part or not at all")));
        let mut mark = begin(facts(Some("d"), None, &[]));
        mark.facts.stopped = true;
        mark.undone(Error::failed("x"));
        assert!(told().is_some_and(|told| told.contains("d and s may be") && told.ends_with("may be stopped")));
        let mut mark = begin(both());
        mark.facts.stopped = false;
        assert!(mark.done().expect("removed").is_none() && told().is_none());
    }

    #[test]
    fn what_stood_in_the_database_before_is_known_as_long_as_it_is_in_doubt() {
        let (state, begin) = folder();
        let before = || find(state.path()).expect("it stands").facts.expect("facts").ways_back().collect::<Vec<_>>();
        let database = || facts(Some("d"), None, &[]);
        begin(database()).backed_up("the first").expect("written");
        // Another restore between the two.
        drop(begin(facts(None, Some("s"), &[])));
        assert_eq!(before(), ["the first"]);
        drop(begin(both()));
        assert_eq!(before(), ["the first"]);
        // What is as it was before stands there now, and is backed up anew.
        assert!(begin(both()).done().expect("removed").is_none());
        let mut mark = begin(Facts { stopped: true, ..database() });
        mark.backed_up("the second").expect("written");
        mark.undone(Error::failed("x"));
        assert!(before().is_empty());
        drop(begin(database()));
        assert!(before().is_empty());
    }

    #[test]
    fn a_bundle_that_is_in_doubt_itself_makes_nothing_good() {
        let (state, begin) = folder();
        begin(both()).backed_up("the first").expect("written");
        let doubtful = Mark::begin(state.path(), both(), find(state.path()), true).expect("begun");
        assert!(doubtful.doubt_before().is_some());
        let left = doubtful.done().expect("written").expect("it is told still").facts.expect("facts");
        assert_eq!(
            (left.places(), left.ways_back().collect::<Vec<_>>()),
            ("d and s".to_owned(), vec!["the first".to_owned()])
        );
        assert!(begin(both()).done().expect("removed").is_none());
    }

    #[test]
    fn what_was_not_written_down_counts_as_stopped() {
        let (state, begin) = folder();
        let old = r#"{"bundle":"20261123T020000Z-1a2b3c4d","begun":"2026-11-23T02:00:00Z","database":"d","storage":null,"in_place":false,"put_back":true}"#;
        std::fs::write(path_in(state.path()), old).expect("written");
        let told = find(state.path()).expect("it stands").problem().message;
        assert!(told.contains(": d may be") && told.ends_with("may be stopped"), "{told}");
        assert!(begin(both()).done().expect("written").is_some());
    }

    #[test]
    fn one_that_cannot_be_read_is_told_and_goes_with_the_next_that_starts_the_application() {
        let (state, begin) = folder();
        let path = path_in(state.path());
        std::fs::write(&path, "{\"bundle\":").expect("written");
        let told = find(state.path()).expect("it stands");
        assert!(told.problem().message.contains("cannot be read") && told.keeps("it").is_err());
        begin(both()).undone(Error::failed("x"));
        assert_eq!(std::fs::read(&path).expect("it stands"), b"{\"bundle\":");
        for part in [facts(Some("d"), None, &[]), facts(Some("d"), Some("s"), &["*.zip"])] {
            assert!(begin(part).done().expect("written").expect("it is told still").facts.is_err());
            assert_eq!(std::fs::read(&path).expect("it stands"), b"{\"bundle\":");
        }
        let left = begin(both()).done().expect("written").expect("it may be stopped");
        assert!(left.problem().message.starts_with("the application may be stopped"));
        let mut mark = begin(both());
        mark.facts.stopped = false;
        assert!(mark.done().expect("removed").is_none());
        assert!(!path.exists());
    }
}
