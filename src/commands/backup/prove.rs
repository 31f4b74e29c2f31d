//! The database's share of a backup: one snapshot, from which proof, object names and dump are taken.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::ops::Range;

use crate::appkey::canary;
use crate::appkey::proof::{Memory, ProverOptions, Verdict, prove_with};
use crate::bundle::frames::{Frames, Position};
use crate::bundle::store::Store;
use crate::bundle::{Draft, Member, ProofHead, ProofSummary, ProofWriter};
use crate::commands::host::{Host, NamedKey};
use crate::commands::{Desk, Problem, proof, prove as prove_command};
use crate::database::{Facts, Landmark, Snapshot};
use crate::ground::beside::{Stop, beside};
use crate::ground::names::BundleId;
use crate::ground::progress::{Silent, Unit};
use crate::ground::scratch::Scratch;
use crate::ground::words::{counted, shown};
use crate::ground::{Result, clock};

use super::{Only, Proved, copy_member};

/// How many objects of a kind are named.
const SHOWN: usize = 20;

/// What the proof needs to know.
pub(super) struct Inputs<'a> {
    pub(super) desk: &'a Desk<'a>,
    pub(super) host: &'a Host,
    pub(super) key: Option<&'a NamedKey>,
    pub(super) only: Only,
    pub(super) id: &'a BundleId,
    pub(super) prove_all: bool,
    pub(super) scratch: &'a Scratch,
}

/// Takes the snapshot, proves, compares with the storage, and stores proof and dump.
pub(super) fn database(
    inputs: &Inputs<'_>,
    memory: &Memory,
    draft: &Draft<'_>,
    mut store: Option<&mut Store<'_>>,
) -> Result<Proved> {
    let Inputs { desk, host, key, only, id, .. } = *inputs;
    let mut snapshot = snapshot(inputs)?;
    let head = ProofHead {
        bundle: id.clone(),
        installation: host.config.installation.clone(),
        scheme: host.scheme.name().to_owned(),
        fingerprint: key.map(|k| k.fingerprint.clone()),
        canary: key.map(|k| canary::make(host.scheme, &k.effective, id)).transpose()?,
    };
    let mut record = ProofWriter::begin(draft.member(Member::Proof)?, &head)?;
    // The differences since the first pass, at once: every object that the snapshot names is stored then, unless it was deleted
    // before the first pass reached it. Walking waits for the disk, and proving for the processor.
    let walks = store.is_some();
    let pass = |stop: &Stop| store.as_deref_mut().map_or(Ok(()), |store| store.pass(&Silent, stop));
    let mut looked = beside(pass, || {
        let looked = snapshot.as_deref_mut().map(|snapshot| look(inputs, memory, snapshot, &mut record)).transpose()?;
        if walks {
            desk.progress.stage("store what changed meanwhile", None, Unit::Bytes);
        }
        Ok(looked.unwrap_or_default())
    })?;

    let (summary, problems) = (&mut looked.summary, &mut looked.problems);
    if let Some(snapshot) = snapshot.as_mut() {
        if let Some(store) = store.as_deref() {
            let (count, found) = missing_objects(snapshot.as_mut(), host, store)?;
            summary.missing = count;
            problems.extend(found);
        }
        if only.database() {
            desk.progress.stage("store the database", Some(summary.facts.bytes), Unit::Bytes);
            for dump in snapshot.dumps()? {
                let member = Member::Database(dump.name);
                let of_database = member.is_database();
                let stored = copy_member(draft, member, dump.bytes, desk)?;
                if of_database {
                    summary.facts.landmarks = landmarks(snapshot.blocks(), &stored.frames);
                }
            }
            problems.extend(snapshot.remarks().into_iter().map(|remark| {
                Problem::new(
                    "database-remark",
                    remark,
                    "The dump is whole; the program that made it wants this to be known.",
                )
            }));
        }
    }
    let verdict = looked.verdict.unwrap_or(Verdict::Unproven);
    summary.verdict = Some(verdict);
    let database = snapshot.is_some().then(|| summary.facts.system.clone());
    record.finish(summary)?.finish()?;
    Ok(Proved {
        verdict,
        counts: summary.counts,
        database,
        missing: summary.missing,
        problems: looked.problems,
        failure_lines: looked.failure_lines,
        full: looked.full,
    })
}

/// What a look at the snapshot brought.
#[derive(Default)]
struct Looked {
    verdict: Option<Verdict>,
    summary: ProofSummary,
    problems: Vec<Problem>,
    failure_lines: Vec<String>,
    /// Every credential was tried, and none believed.
    full: bool,
}

/// Proves the credentials of the snapshot, and writes each into the record.
fn look(
    inputs: &Inputs<'_>,
    memory: &Memory,
    snapshot: &mut dyn Snapshot,
    record: &mut ProofWriter<impl Write>,
) -> Result<Looked> {
    let Inputs { desk, host, key, .. } = *inputs;
    let profile = &host.config.profile;
    let mut looked = Looked::default();
    if let Some(key) = key {
        looked.full = inputs.prove_all || memory.full_due(clock::now())?;
        let options = ProverOptions {
            memory: Some((memory, &key.fingerprint)),
            believe_memory: !looked.full,
            ..ProverOptions::new(host.scheme, &key.effective, profile, desk.progress.as_ref())
        };
        let (proved, _) = prove_with(&options, |sink| {
            snapshot.credentials(profile, None, &mut |credential| {
                record.credential(&credential)?;
                sink(credential)
            })
        })?;
        looked.verdict = Some(proved.verdict());
        looked.summary.counts = proved.total;
        looked.failure_lines = proof::failure_lines(&proved);
        looked.summary.columns = proved.columns;
    } else {
        looked.verdict = Some(Verdict::NoKey);
        snapshot.credentials(profile, None, &mut |credential| record.credential(&credential))?;
    }
    let summary = &mut looked.summary;
    summary.suspects = snapshot.suspects(profile, &|value| host.scheme.looks_like(value))?;
    looked.problems.extend(summary.suspects.iter().map(prove_command::suspect_problem));
    summary.facts = snapshot.facts(desk.progress.as_ref())?;
    looked.problems.extend(fault_problems(&summary.facts));
    Ok(looked)
}

/// Where a restore finds the long blocks of a dump.
fn landmarks(blocks: Vec<(i64, Range<u64>)>, frames: &Frames) -> Vec<Landmark> {
    let found = blocks.into_iter().filter_map(|(entry, block)| {
        let Position { frame, skip } = frames.position(block.start)?;
        Some(Landmark { entry, begin: block.start, end: block.end, frame, skip })
    });
    found.collect()
}

fn snapshot(inputs: &Inputs<'_>) -> Result<Option<Box<dyn Snapshot>>> {
    if inputs.only == Only::Storage {
        // Nothing is proved; but the names of its objects are still worth a look at the live database.
        return Ok(None);
    }
    let Some(database) = inputs.host.database(inputs.desk)? else { return Ok(None) };
    if inputs.only.database() {
        database.snapshot(inputs.scratch, inputs.desk.progress.as_ref()).map(Some)
    } else {
        database.look().map(Some)
    }
}

fn fault_problems(facts: &Facts) -> Vec<Problem> {
    if facts.faults.is_empty() {
        return Vec::new();
    }
    vec![Problem::new(
        "database-damaged",
        format!(
            "the database's own check found {}: {}",
            counted(facts.faults.len(), "fault", "faults"),
            facts.faults[0]
        ),
        "The database is damaged as it stands; restore an older bundle to a --target and compare.",
    )]
}

/// Objects of one kind that the database names and nobody has.
struct Missing {
    code: &'static str,
    /// Of those that are not named.
    more: &'static str,
    hint: &'static str,
    named: Vec<String>,
    rest: u64,
}

impl Missing {
    fn add(&mut self, path: String) {
        if self.named.len() < SHOWN { self.named.push(path) } else { self.rest += 1 }
    }

    fn problems(self) -> impl Iterator<Item = Problem> {
        let Self { code, more, hint, named, rest } = self;
        let one = |path| format!("the database names {path} and the storage does not have it");
        let others = (rest > 0).then(|| {
            let message = format!("{} missing from the storage", counted(rest, "more object is", "more objects are"));
            Problem::new(more, message, "The bundle's proof has the number; `show -i` prints it.")
        });
        named.into_iter().map(move |path| Problem::new(code, one(path), hint)).chain(others)
    }
}

/// Objects that the database names and the bundle will not have.
fn missing_objects(snapshot: &mut dyn Snapshot, host: &Host, store: &Store<'_>) -> Result<(u64, Vec<Problem>)> {
    let mut count = 0;
    let mut lost = Missing {
        code: "missing-lost",
        more: "missing-more",
        hint: "It cannot be fetched again from anywhere; look for it in older bundles.",
        named: Vec::new(),
        rest: 0,
    };
    let mut fetchable = Missing {
        code: "missing-fetchable",
        more: "missing-fetchable",
        hint: "It will be fetched again when it is asked for.",
        named: Vec::new(),
        rest: 0,
    };
    let left_out: HashMap<&str, &str> =
        store.left_out().iter().map(|left| (left.path.as_str(), left.reason.as_str())).collect();
    let mut unreadable: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    snapshot.named_objects(&host.config.profile, &mut |object| {
        if !store.lacks(&object.path)? {
            return Ok(());
        }
        count += 1;
        let path = shown(&object.path);
        // It is there, or may be: nothing is said of whether it can be fetched again.
        match covering(&left_out, &path) {
            Some((place, reason)) => unreadable.entry(place).or_insert((0, reason)).0 += 1,
            None if object.fetchable => fetchable.add(path),
            None => lost.add(path),
        }
        Ok(())
    })?;
    let mut problems: Vec<_> = lost.problems().chain(fetchable.problems()).collect();
    let places = unreadable.len();
    problems.extend(unreadable.into_iter().take(SHOWN).map(|(place, (objects, reason))| {
        let what = if place.ends_with('/') {
            format!("{} below {place}, which cannot be read", counted(objects, "object", "objects"))
        } else {
            format!("{place}, which the database names")
        };
        Problem::new(
            "missing-unreadable",
            format!("the bundle lacks {what}: {reason}"),
            "Give this user the right to read it, and make another backup.",
        )
    }));
    if places > SHOWN {
        problems.push(Problem::new(
            "missing-more",
            format!("objects in {} cannot be read", counted(places - SHOWN, "more place", "more places")),
            "They are the same kind of thing, most likely.",
        ));
    }
    Ok((count, problems))
}

/// The file or folder that could not be read and that a path is, or lies in, and why.
fn covering<'a>(left_out: &HashMap<&'a str, &'a str>, path: &str) -> Option<(&'a str, &'a str)> {
    let folders = path.match_indices('/').map(|(at, _)| &path[..=at]);
    folders.chain([path]).find_map(|place| left_out.get_key_value(place)).map(|(place, reason)| (*place, *reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_covered_by_itself_or_by_a_folder_above_it() {
        let left_out = HashMap::from([("a/b/", "denied"), ("c/d", "a fault")]);
        for (path, place) in [
            ("a/b/c", Some("a/b/")),
            ("a/b/c/d", Some("a/b/")),
            ("c/d", Some("c/d")),
            ("a/b", None),
            ("a/bc", None),
            ("c/de", None),
            ("c/d/e", None),
        ] {
            assert_eq!(covering(&left_out, path).map(|(place, _)| place), place, "{path}");
        }
    }
}
