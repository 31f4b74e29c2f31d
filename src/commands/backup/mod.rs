//! `backup`: prove the key, store database, storage and sealed key as one bundle.
//!
//! A wrong or unreadable key never stops the dump; it only keeps the bundle from being called proved.

mod prove;
mod report;

use std::io::Write as _;
use std::thread::ScopedJoinHandle;

use super::deposits::{self, Depositor, Origin};
use super::host::Host;
use super::shelf::Shelf;
use super::{Desk, Outcome, Problem, defects};
use crate::appkey::KeyText;
use crate::appkey::proof::{Counts, Memory, Verdict};
use crate::archive::state::{self, State};
use crate::bundle::store::{Loss, Store, StoreOptions, StoreReport};
use crate::bundle::{Draft, Header, Member, StorageSummary, StoredMember};
use crate::config::Config;
use crate::ground::beside::Stop;
use crate::ground::names::{BundleId, Sha256Hex};
use crate::ground::words::counted;
use crate::ground::{Error, Kind, Result, clock, failpoint};
use crate::ledger::{BundleEvent, Event, Ledger};
use crate::signer::Signer;

/// What is backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// Everything that is configured.
    All,
    /// The database, and the key with it.
    Database,
    /// The storage.
    Storage,
    /// The key, proved on the live database.
    Key,
}

impl Only {
    fn database(self) -> bool {
        matches!(self, Self::All | Self::Database)
    }

    fn storage(self) -> bool {
        matches!(self, Self::All | Self::Storage)
    }

    fn key(self) -> bool {
        self != Self::Storage
    }
}

/// What is asked.
pub struct Request {
    /// What to back up.
    pub only: Only,
    /// Prove every credential again.
    pub prove_all: bool,
    /// The storage may have lost all or most of its files.
    pub allow_empty: bool,
    /// What it is a part of: that has not ended then, and is no problem.
    pub within: Within,
}

/// What a backup is a part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Within {
    /// Nothing: it is made for its own sake.
    Nothing,
    /// A rotation of the key.
    Rotation,
    /// A restore over the live system, and what an earlier one has left in doubt.
    Restore(Option<Problem>),
}

/// Makes one bundle.
pub fn run(desk: &Desk<'_>, config: Config, request: &Request) -> Result<Outcome> {
    let host = Host::new(config)?;
    // Before the lock, which makes the state folder where the configuration says.
    let result = host.config.places_apart().and_then(|()| host.lock()).and_then(|_lock| make(desk, &host, request));
    desk.progress.finish();
    host.told("backup", result)
}

#[expect(clippy::too_many_lines, reason = "one backup from start to end, in the order that its promises need")]
/// Makes one bundle; whoever calls this holds the host's lock.
pub(super) fn make(desk: &Desk<'_>, host: &Host, request: &Request) -> Result<Outcome> {
    let only = request.only;
    let signer = host.signer()?;
    if !host.config.trusted.contains(signer.public()) {
        return Err(Error::usage(format!("this host's signer {} is not among [signing] trusted", signer.public()))
            .hint("Add it there: nobody would believe the bundle."));
    }
    let shelf = host.shelf(desk)?;
    let mut ledger = shelf.ledger()?;
    let scratch = host.scratch()?;
    let mut state = State::open(&host.config.state.join(state::NAME), &shelf.id, &shelf.app)?;

    let (text, mut problems) = read_key(desk, host, only);
    // The database does not wait for a better place of its key.
    problems.extend(host.config.escrows_apart().err().as_ref().map(Problem::from_error));
    problems.extend(host.pending_rotation().filter(|_| request.within != Within::Rotation));
    problems.extend(match &request.within {
        Within::Restore(doubt) => doubt.clone(),
        _ => host.pending_restore(),
    });
    problems.extend(report::lost_entries(&state, &ledger)?);
    let depositor = Depositor { desk, host, shelf: &shelf, signer: &signer };
    if text.is_some() {
        problems.extend(depositor.begin());
    }
    let id = BundleId::new(clock::now())?;
    let mut draft = Draft::begin(shelf.archive.as_ref(), &shelf.id, &shelf.app, &id, &host.config.recipient);

    problems.extend(swept(desk, &shelf)?);
    let newest = ledger.newest_storage();
    let loss = match newest {
        _ if request.allow_empty => Loss::Accepted,
        Some(newest) if report::has_lost(&newest) => Loss::Doubted,
        _ => Loss::Told,
    };
    let base = newest.map(|newest| (newest.bundle.clone(), newest.sealing.clone()));
    let storage = match (&host.config.storage, only.storage()) {
        (Some(place), true) => Some(desk.systems.storage(place)?),
        _ => None,
    };
    let reached = storage.as_ref().map_or(Ok(()), |storage| storage.reachable());
    let storage = match reached {
        // The database does not wait for a storage that is not mounted.
        Err(error) if only == Only::All && host.config.database.is_some() => {
            problems.push(report::unreachable(&error, base.as_ref().map(|(id, _)| id)));
            None
        }
        reached => reached.map(|()| storage)?,
    };
    let mut store = match &storage {
        Some(storage) => Some(Store::begin(StoreOptions {
            archive: shelf.archive.as_ref(),
            app: &shelf.app,
            recipient: &host.config.recipient,
            storage: storage.as_ref(),
            state: &mut state,
            base: base.as_ref().map(|(id, sealing)| (id, sealing)),
            loss,
            lanes: super::prove::threads(),
        })?),
        None => None,
    };
    // A key's name is a slow hash, of which the first walk needs nothing.
    let (named, passed) = std::thread::scope(|scope| {
        let naming = text.map(|text| scope.spawn(|| host.named(text)));
        let passed = store.as_mut().map_or(Ok(()), |store| store.pass(desk.progress.as_ref(), &Stop::default()));
        let ended = |naming: ScopedJoinHandle<'_, _>| {
            naming.join().unwrap_or_else(|_| Err(Error::failed("the thread that names the key has panicked")))
        };
        (naming.map(ended), passed)
    });
    passed?;
    let key = named.and_then(|named| named.map_err(|error| problems.push(no_key(&error))).ok());

    let memory = Memory::open(&host.config.state.join("proved.sqlite"))?;
    let proved = prove::database(
        &prove::Inputs {
            desk,
            host,
            key: key.as_ref(),
            only,
            id: &id,
            prove_all: request.prove_all,
            scratch: &scratch,
        },
        &memory,
        &draft,
        store.as_mut(),
    )?;
    problems.extend(proved.problems);

    let stored = finish_storage(store.as_mut(), &mut draft)?;
    problems.extend(stored.iter().flat_map(report::storage_problems));
    // Before all that comes of it.
    let emptied = stored.as_ref().and_then(|stored| report::lost_files(&shelf, &ledger, stored, loss));
    problems.splice(0..0, emptied);

    let escrows = match &key {
        Some(key) if only.key() => {
            let held = depositor.make(&mut ledger, key, &Origin::default(), deposits::Look::Record)?;
            problems.extend(held.problems());
            held.places
        }
        _ => Vec::new(),
    };
    if let Some(key) = key.as_ref().filter(|_| host.config.key_in_bundle && only.key()) {
        draft.put(Member::Key, &deposits::record_lines(host, key)?)?;
    }
    let (wrapped, changed) = super::custody::wrapped_identity(&shelf, &ledger, host.config.recipient.id())?;
    problems.extend(changed);
    problems.extend(super::custody::record_changed(&shelf, &ledger, host.config.recipient.id()));
    if let Some(wrapped) = wrapped {
        draft.put_raw(Member::Identity, &wrapped)?;
    }
    draft.put(Member::Config, host.config.text.as_bytes())?;

    let storage_from = match (&stored, &base) {
        (None, Some((base, _))) if host.config.storage.is_some() => Some(base.clone()),
        _ => None,
    };
    let header = Header {
        format: 1,
        critical: Vec::new(),
        archive: shelf.id.clone(),
        installation: host.config.installation.clone(),
        app: shelf.app.clone(),
        id: id.clone(),
        created: clock::rfc3339(clock::now()),
        signer: *signer.public(),
        sealing: host.config.recipient.id().clone(),
        scheme: host.scheme.name().to_owned(),
        keys: key.iter().map(|k| k.fingerprint.clone()).collect(),
        verdict: proved.verdict,
        storage_from,
        contains: contains(only, host, stored.is_some(), key.is_some()),
        database: proved.database.clone(),
        bytes: draft.bytes(),
        generator: concat!("strongroom ", env!("CARGO_PKG_VERSION")).to_owned(),
        storage: stored.as_ref().map(|s| StorageSummary { files: s.files, bytes: s.bytes, missing: proved.missing }),
        problems: defects::of(&problems),
    };
    let sums = draft.close(&header, &signer)?;
    if stored.is_some() {
        state.pend(&id)?;
    }
    let seq = commit(&mut ledger, &signer, &header, sums)?;
    let newest = ledger.newest();
    // Killed here, the next run sees the bundle in the ledger and takes what is pending over.
    let mut remember = || {
        if stored.is_some() {
            state.commit(&id)?;
        }
        if let Some((seq, digest)) = &newest {
            state.remember_entry(*seq, digest)?;
        }
        memory.commit(proved.full.then(clock::now))
    };
    // The bundle is made, whatever becomes of this.
    problems.extend(remember().err().map(|e| report::not_remembered(&e)));
    failpoint::pass("after the state commit");

    Ok(report::outcome(report::Facts {
        host,
        header: &header,
        seq,
        digest: newest.map(|(_, digest)| digest),
        counts: proved.counts,
        stored,
        missing: proved.missing,
        escrows,
        problems,
        proof_failures: proved.failure_lines,
        tried_live: only != Only::Storage,
    }))
}

/// Removes what killed runs left unfinished: with a disk that is nearly full it may be what is missing.
fn swept(desk: &Desk<'_>, shelf: &Shelf) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for room in ["parts", "bundles"] {
        match shelf.archive.sweep(&format!("{room}/{}", shelf.app).parse()?) {
            Ok(0) => {}
            Ok(n) => desk
                .progress
                .note(&format!("{} of killed runs removed", counted(n, "unfinished file", "unfinished files"))),
            // A host may have the right to write and none to remove.
            Err(error) if error.kind() == Kind::Denied => desk.progress.note(&error.chain()),
            // An archive whose folders cannot be read may hold less than its ledger says.
            Err(error) => problems.push(Problem::from_error(&error)),
        }
    }
    Ok(problems)
}

/// Makes the bundle exist: its ledger entry; answers the entry's number.
fn commit(ledger: &mut Ledger<'_>, signer: &Signer, header: &Header, sums: Sha256Hex) -> Result<u64> {
    failpoint::pass("before the ledger entry");
    let event = BundleEvent {
        bundle: header.id.clone(),
        sums,
        verdict: header.verdict.as_str().to_owned(),
        keys: header.keys.clone(),
        sealing: header.sealing.clone(),
        storage_from: header.storage_from.clone(),
        contains: header.contains.clone(),
        bytes: header.bytes,
        problems: header.problems.clone(),
    };
    let seq = ledger.append(signer, Event::Bundle(event), clock::now())?;
    failpoint::pass("after the ledger entry");
    Ok(seq)
}

fn contains(only: Only, host: &Host, storage: bool, key: bool) -> Vec<String> {
    let mut contains = Vec::new();
    if only.database() && host.config.database.is_some() {
        contains.push("database".to_owned());
    }
    if storage {
        contains.push("storage".to_owned());
    }
    if key && only.key() && host.config.key_in_bundle {
        contains.push("key".to_owned());
    }
    contains
}

/// The key's text, if the key is wanted and can be read, and what is wrong with it.
fn read_key(desk: &Desk<'_>, host: &Host, only: Only) -> (Option<KeyText>, Vec<Problem>) {
    let read = only.key().then(|| host.key_text(desk, None)).transpose();
    let (text, problem) = match read {
        Ok(text) => (text, None),
        Err(error) => (None, Some(no_key(&error))),
    };
    let mut problems = host.standing_problems(text.as_ref());
    problems.extend(problem);
    (text, problems)
}

fn no_key(error: &Error) -> Problem {
    let mut problem = Problem::from_error(error);
    "no-key".clone_into(&mut problem.code);
    problem
}

fn finish_storage(store: Option<&mut Store<'_>>, draft: &mut Draft<'_>) -> Result<Option<StoreReport>> {
    let Some(store) = store else {
        // A bundle without storage has an empty file list: every bundle has the same mandatory members.
        let list = draft.member(Member::Files)?;
        list.finish()?;
        return Ok(None);
    };
    store.finish(draft).map(Some)
}

/// Copies a stream into a member of the bundle.
fn copy_member(
    draft: &Draft<'_>,
    member: Member,
    mut bytes: Box<dyn std::io::Read + Send>,
    desk: &Desk<'_>,
) -> Result<StoredMember> {
    let name = member.file_name();
    let mut out = draft.member(member)?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = bytes
            .read(&mut buffer)
            .map_err(|e| Error::from_io(Kind::Failed, format!("the dump for {name} ended early"), e))?;
        if read == 0 {
            break;
        }
        out.write_all(&buffer[..read]).map_err(|e| Error::from_io(Kind::Failed, format!("cannot write {name}"), e))?;
        desk.progress.advance(read as u64);
    }
    out.finish()
}

/// What the proof of the database brought.
struct Proved {
    verdict: Verdict,
    counts: Counts,
    database: Option<String>,
    missing: u64,
    problems: Vec<Problem>,
    failure_lines: Vec<String>,
    full: bool,
}
