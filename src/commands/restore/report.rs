//! What a restore over the live system says, planned and done.

use std::path::PathBuf;

use serde_json::json;

use super::mark::Mark;
use super::prove::Proved;
use super::unended::Unended;
use super::{Plan, Source};
use crate::commands::{ATTENTION, Outcome, Problem, proof, to_json};
use crate::ground::Result;

/// The plan alone, and what is to be said of the key and of an earlier restore.
pub(super) fn planned(plan: &Plan, problems: Vec<Problem>) -> Result<Outcome> {
    let mut json = to_json(plan)?;
    json["problems"] = to_json(&problems)?;
    Ok(Outcome { exit: 0, json, line: String::new(), text: plan.lines(), problems })
}

/// The exit code of a restore that is done, of which there is something to say; a key that could not be read was accepted before.
pub(super) fn exit(proved: u8, problems: &[Problem]) -> u8 {
    match proved {
        0 if problems.iter().any(|problem| problem.code != "no-key") => ATTENTION,
        exit => exit,
    }
}

/// Nothing is to be told any more, unless an earlier restore left what this one did not touch, or nobody has started the application.
pub(super) fn ended(mark: Mark) -> Vec<Problem> {
    match mark.done() {
        Ok(left) => left.iter().map(Unended::problem).collect(),
        Err(error) => {
            vec![Problem::from_error(&error.context("the restore is done, and what tells that it runs stays"))]
        }
    }
}

/// A restore that is done.
pub(super) struct Done<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) plan: &'a Plan,
    pub(super) proved: &'a Proved,
    /// Where the database is kept that stood there.
    pub(super) kept: Option<PathBuf>,
    /// The bundle that was made of it.
    pub(super) before: Option<String>,
    /// What there is to say of the key.
    pub(super) problems: Vec<Problem>,
}

impl Done<'_> {
    /// How it ended; `unended` is what is left to be told.
    pub(super) fn outcome(self, unended: Vec<Problem>) -> Outcome {
        let Self { source, plan, proved, kept, before, mut problems } = self;
        let header = source.opened.header();
        let storage = plan.storage.as_ref();
        let moved = storage.filter(|s| s.delete_extra).map_or(0, |s| s.extra_count);
        let mut text = vec![format!("bundle {} restored", header.id)];
        text.extend(plan.signer.map(|signer| format!("  it was made by another host, signer {signer}")));
        text.push(format!("  {}", proof::sentence(proved.verdict, &proved.counts)));
        if let Some(id) = &before {
            text.push(format!("  what stood in the database before is bundle {id}"));
        }
        text.extend(
            plan.rekey.as_ref().map(|rekey| format!("  put under key {}, which is configured", rekey.to.short())),
        );
        if let Some(kept) = &kept {
            text.push(format!(
                "  the database that stood there is kept as {}; remove it when all is well",
                kept.display()
            ));
        }
        if storage.is_some_and(|s| s.replaced > 0) {
            text.push(format!(
                "  replaced files are kept in .strongroom/rollback-{} of the storage",
                source.files().header().id
            ));
        }
        if let Some(storage) = storage.filter(|_| moved > 0) {
            text.push(format!(
                "  extra files moved to .strongroom/rollback-{} of the storage: {moved}",
                source.files().header().id
            ));
            text.extend(storage.extra_lines("moved"));
        }
        if kept.is_some() || moved > 0 || storage.is_some_and(|s| s.replaced > 0) {
            text.push("  `strongroom restore --cleanup` removes what is kept".to_owned());
        }
        problems.extend(unended);
        let exit = exit(proved.exit(header), &problems);
        Outcome {
            exit,
            json: json!({
                "bundle": header.id,
                "verdict": proved.verdict,
                "credentials": proof::counts_json(&proved.counts),
                "kept": kept,
                "before": before,
                "extra_moved": moved,
                "plan": plan,
                "problems": problems,
            }),
            line: proved.line(header, &text[0]),
            text,
            problems,
        }
    }
}
