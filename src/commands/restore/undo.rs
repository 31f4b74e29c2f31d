//! The way back of a restore over the live system: everything as it was, and the application started again.

use super::mark::Mark;
use super::{Plan, in_place};
use crate::bundle::Opened;
use crate::bundle::extract::{self, ExtractPlan};
use crate::commands::Desk;
use crate::commands::hooks::Hooks;
use crate::commands::host::Host;
use crate::database::Replacement;
use crate::ground::{Error, Result};
use crate::storage::Target;

/// How it stands before anything is replaced.
pub(super) const UNCHANGED: &str = "Nothing was changed";

/// What has been replaced so far, and how it comes back.
pub(super) struct Undo<'a> {
    pub(super) desk: &'a Desk<'a>,
    pub(super) database: Option<Box<dyn Replacement>>,
    pub(super) storage: Option<(&'a dyn Target, &'a ExtractPlan)>,
    pub(super) bundle: &'a Opened<'a>,
}

impl Undo<'_> {
    /// Whether anything may be another than before; until then the application was not started either.
    fn begun(&self) -> bool {
        self.database.is_some() || self.storage.is_some()
    }

    fn everything(&mut self) -> Result<()> {
        self.desk.ask.say("putting everything back");
        let storage = match self.storage {
            Some((target, plan)) => extract::undo(target, &self.bundle.header().id, plan),
            None => Ok(()),
        };
        let database = match self.database.as_mut() {
            Some(replacement) => replacement.undo(),
            None => Ok(()),
        };
        storage.and(database)
    }
}

/// Stops the application, puts everything back and starts it again; what comes of it is the error's last hint.
pub(super) fn take_back(hooks: &Hooks<'_>, undo: &mut Undo<'_>, mark: &mut Mark, error: Error) -> Error {
    if !undo.begun() {
        return start_again(hooks, mark, error, UNCHANGED);
    }
    // The application may be running on what is about to go away again.
    if let Err(second) = mark.stop(hooks) {
        return mark.unended(error.hint(format!(
            "Nothing was put back, because the application could not be stopped: {}. Stop it by hand and run the restore again.",
            second.chain()
        )));
    }
    if let Err(second) = undo.everything() {
        let started = match mark.start(hooks) {
            Ok(()) => String::new(),
            Err(third) => format!("; and the application does not start: {}", third.chain()),
        };
        return mark.unended(error.hint(format!("Putting everything back failed too: {}{started}", second.chain())));
    }
    start_again(hooks, mark, error, "Everything was put back as it was before")
}

/// Starts the application on what it had; `state` says what that is.
pub(super) fn start_again(hooks: &Hooks<'_>, mark: &mut Mark, error: Error, state: &str) -> Error {
    let said = match mark.start(hooks) {
        Ok(()) if hooks.can_start() => format!("{state}, and the application was started again."),
        Ok(()) if mark.stopped() => {
            format!("{state}. The application may be stopped, and no hook has started it: start it by hand.")
        }
        Ok(()) => format!("{state}."),
        Err(second) => {
            format!("{state}, but the application was not started again: {}. Start it by hand.", second.chain())
        }
    };
    mark.undone(error.hint(said))
}

/// Where the database cannot be rolled back, what is there is a bundle first; the id of the way back.
pub(super) fn backed_up_before(
    desk: &Desk<'_>,
    host: &Host,
    plan: &Plan,
    hooks: &Hooks<'_>,
    mark: &mut Mark,
) -> Result<Option<String>> {
    if plan.database.as_ref().is_none_or(|database| database.reversible) {
        return Ok(None);
    }
    in_place::back_up(desk, host, mark.doubt_before())
        .and_then(|id| mark.backed_up(&id).map(Some))
        .map_err(|error| start_again(hooks, mark, error, UNCHANGED))
}
