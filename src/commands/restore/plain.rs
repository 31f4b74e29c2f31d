//! `restore --target`: plain files and an importable dump in an empty folder, no live system touched.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde_json::json;

use super::report::{exit, planned};
use super::{Plan, Request, Source, prove};
use crate::bundle::extract::{self, Digests, ExtractOptions};
use crate::bundle::{Header, Member};
use crate::commands::shelf::Shelf;
use crate::commands::{Desk, Outcome, proof};
use crate::config::{Config, overlap};
use crate::database::DatabasePlan;
use crate::ground::beside::Stop;
use crate::ground::durable::{self, Existing, NewFile};
use crate::ground::names::{BundleId, Fingerprint};
use crate::ground::progress::Unit;
use crate::ground::scratch::Scratch;
use crate::ground::{Error, Kind, Result, failpoint};

/// Says which bundle a folder is being filled from, so that a run that was killed can go on.
const MARKER: &str = ".strongroom-restore";

pub(super) fn run(
    desk: &Desk<'_>,
    shelf: &Shelf,
    config: Option<&Config>,
    source: &Source<'_>,
    request: &Request,
    folder: &Path,
) -> Result<Outcome> {
    let header = source.opened.header();
    let begun = must_be_ours(folder, header.id.as_str())?;
    overlap::outside(
        folder,
        overlap::path_of(&shelf.place),
        config.and_then(|c| c.storage.as_ref()).map(overlap::path_of),
    )?;
    let proved = prove::bundle(desk, shelf, config, source, request, sealed_or_given(desk, config, source, request)?)?;
    let member = source.opened.database_member().filter(|_| request.database);
    let storage_folder = folder.join("storage");
    let with_storage = request.storage && source.has_storage();

    let options = ExtractOptions {
        include: request.include.clone(),
        owner: request.owner,
        delete_extra: false,
        bundle: header.id.clone(),
        rollback: false,
        digests: Digests::Along,
    };
    let storage = if with_storage {
        // Planning makes nothing: where there is no folder yet, an empty one stands for it.
        let empty = Scratch::temporary()?;
        let there = if storage_folder.is_dir() { storage_folder.as_path() } else { empty.folder() };
        let target = desk.systems.folder(there)?;
        Some(extract::plan(source.files(), &source.sealing, target.as_ref(), &options, desk.progress.as_ref())?)
    } else {
        None
    };
    let plan = Plan {
        bundle: header.id.clone(),
        storage_from: source.storage.as_ref().map(|s| s.header().id.clone()),
        fingerprint: header.keys.first().cloned(),
        rekey: None,
        database: member.as_ref().map(|member| DatabasePlan {
            target: folder.join(member.base_name()).display().to_string(),
            replaces: false,
            kept_as: None,
            steps: vec!["written as a file that the database's own tool opens".to_owned()],
            reversible: true,
        }),
        storage,
        hooks: Vec::new(),
        rollback: "no live system is touched".to_owned(),
        signer: None,
    };
    if request.dry_run {
        return planned(&plan, source.defects(request));
    }
    if storage_folder.is_symlink() {
        return Err(Error::refused(format!(
            "{} is a symbolic link that this restore did not make",
            storage_folder.display()
        ))
        .hint("Name an empty folder, or one that does not exist yet."));
    }
    let stood = folder.symlink_metadata().is_ok();
    durable::create_folders(folder, 0o700)?;
    let _claim = claim(folder, header.id.as_str(), begun)?;
    if let Err(error) = fill(desk, source, &plan, member.as_ref(), &proved, &options, folder) {
        if error.kind() != Kind::Damaged {
            let goes_on = format!(
                "What is there stays. The same command goes on with it: strongroom restore {} --target {} -i FILE",
                header.id,
                folder.display()
            );
            return Err(error.hint(goes_on));
        }
        // Nothing of a bundle that is damaged stays, but for what an earlier run had made whole.
        if begun {
            let swept = sweep(folder).and_then(|()| swept_below(desk, &storage_folder));
            if let Err(second) = swept {
                desk.ask.say(&format!("warning: {}", second.chain()));
            }
        } else {
            clear(folder, stood, member.as_ref());
        }
        // The first fault ended it; this names them all.
        desk.progress.stage("check every digest", None, Unit::Bytes);
        source.authenticate(request, &Stop::default(), desk.progress.as_ref())?;
        if let Some(storage) = &plan.storage {
            source.authenticate_parts(&storage.parts()?, &Stop::default(), desk.progress.as_ref())?;
        }
        return Err(error);
    }

    let text = done(header, folder, &proved, config.is_some());
    let problems = source.defects(request);
    Ok(Outcome {
        exit: exit(proved.exit(header), &problems),
        json: json!({
            "bundle": header.id,
            "target": folder,
            "verdict": proved.verdict,
            "credentials": proof::counts_json(&proved.counts),
            "plan": plan,
            "problems": problems,
        }),
        line: proved.line(header, &text[0]),
        text,
        problems,
    })
}

/// What was written, and which key the application needs; without a configuration the card says where the archive is.
fn done(header: &Header, folder: &Path, proved: &prove::Proved, configured: bool) -> Vec<String> {
    let card = if configured { "" } else { " --card CARD" };
    let fetch =
        |key: &Fingerprint| format!("strongroom key fetch {} -i FILE -o KEYFILE{card} writes it out", key.short());
    let mut text = vec![format!("bundle {} restored to {}", header.id, folder.display())];
    text.push(format!("  {}", proof::sentence(proved.verdict, &proved.counts)));
    text.push(match header.keys.first() {
        Some(key) => format!("  the application needs key {}: {}", key.short(), fetch(key)),
        None => proved.candidate.as_ref().map_or_else(
            || "  the bundle names no key".to_owned(),
            |key| {
                let needs = format!(
                    "  the application needs key {}, which was proved; the bundle names none",
                    key.fingerprint.short()
                );
                if proved.in_escrow { format!("{needs}: {}", fetch(&key.fingerprint)) } else { needs }
            },
        ),
    });
    text
}

/// Writes what was planned; every digest is compared on the way, and what was not read to its end has no name yet.
fn fill(
    desk: &Desk<'_>,
    source: &Source<'_>,
    plan: &Plan,
    member: Option<&Member>,
    proved: &prove::Proved,
    options: &ExtractOptions,
    folder: &Path,
) -> Result<()> {
    sweep(folder)?;
    let marker = folder.join(MARKER);
    if let Some(member) = member {
        desk.progress.stage("write the database", Some(proved.summary.facts.bytes), Unit::Bytes);
        let path = folder.join(member.base_name());
        let mut bytes = source.opened.read(member, &source.sealing)?;
        let mut file = NewFile::create(&path, 0o600)?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            let read = bytes
                .read(&mut buffer)
                .map_err(|e| Error::from_io(Kind::Damaged, format!("cannot read {}", member.file_name()), e))?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read])
                .map_err(|e| Error::from_io(Kind::Failed, format!("cannot write {}", path.display()), e))?;
            desk.progress.advance(read as u64);
        }
        file.commit(Existing::Replace)?;
    }
    if let Some(storage) = &plan.storage {
        let storage_folder = folder.join("storage");
        durable::create_folders(&storage_folder, 0o755)?;
        let target = desk.systems.folder(&storage_folder)?;
        extract::run(source.files(), &source.sealing, target.as_ref(), storage, options, desk.progress.as_ref())?;
    }
    // A run that ended early may have begun what this one was not asked for.
    swept_below(desk, &folder.join("storage"))?;
    failpoint::pass("before the marker of a restore is removed");
    std::fs::remove_file(&marker).map_err(|e| Error::io("remove", &marker, e))?;
    failpoint::pass("after the marker of a restore was removed");
    durable::sync_folder(folder)
}

/// Removes temporary files of a storage that was restored, if there is one.
fn swept_below(desk: &Desk<'_>, storage: &Path) -> Result<()> {
    if storage.is_dir() { desk.systems.folder(storage)?.sweep() } else { Ok(()) }
}

/// Takes a folder for this run alone, and looks again whether it may: a person may have been asked for something since the first look.
fn claim(folder: &Path, bundle: &str, begun: bool) -> Result<File> {
    let path = folder.join(MARKER);
    let made = !begun && durable::write_file(&path, bundle.as_bytes(), 0o600, Existing::Keep)?;
    let marker = File::open(&path).map_err(|e| Error::io("open", &path, e))?;
    if let Err(TryLockError::WouldBlock) = marker.try_lock() {
        return Err(Error::new(Kind::Locked, format!("another run is restoring into {}", folder.display()))
            .hint("Wait until it has ended, or name another folder."));
    }
    let others = |entry: std::fs::DirEntry| entry.file_name() != MARKER && !leaves_empty(&entry.file_name());
    if made && std::fs::read_dir(folder).is_ok_and(|listing| listing.flatten().any(others)) {
        let _ = std::fs::remove_file(&path);
        return Err(not_empty(folder));
    }
    if !made && !must_be_ours(folder, bundle)? {
        return Err(not_empty(folder));
    }
    Ok(marker)
}

fn not_empty(folder: &Path) -> Error {
    Error::refused(format!("{} is not empty", folder.display()))
        .hint("Name an empty folder, or one that does not exist yet.")
}

/// Takes away what [`fill`] made in a folder that was empty before, and the folder too if it was not there.
///
/// What cannot be removed stays: why the restore ended says more than that.
fn clear(folder: &Path, stood: bool, member: Option<&Member>) {
    let _ = std::fs::remove_dir_all(folder.join("storage"));
    for file in member.map(Member::base_name).into_iter().chain([MARKER.to_owned()]) {
        let _ = std::fs::remove_file(folder.join(file));
    }
    if !stood {
        let _ = std::fs::remove_dir(folder);
    }
}

/// The key given on the command line, named for the bundle's installation.
fn sealed_or_given(
    desk: &Desk<'_>,
    config: Option<&Config>,
    source: &Source<'_>,
    request: &Request,
) -> Result<Option<crate::commands::host::NamedKey>> {
    let Some(reference) = &request.key else { return Ok(None) };
    let header = source.opened.header();
    let scheme = crate::appkey::schemes::by_name(&header.scheme)?;
    let text = crate::commands::host::read_key(desk, config, reference)?;
    crate::commands::host::NamedKey::new(text, scheme, &header.installation).map(Some)
}

/// Whether a name does not make a folder less empty: `lost+found` is what an empty disk has.
fn leaves_empty(name: &OsStr) -> bool {
    name == "lost+found" || is_temporary(name)
}

/// Whether a name is one of a file that a killed run did not finish.
fn is_temporary(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".") && name.as_bytes().ends_with(durable::TEMPORARY.as_bytes())
}

/// Removes what a killed run did not finish.
fn sweep(folder: &Path) -> Result<()> {
    let listing = std::fs::read_dir(folder).map_err(|e| Error::io("list", folder, e))?;
    for entry in listing.flatten().filter(|entry| is_temporary(&entry.file_name())) {
        let _ = std::fs::remove_file(entry.path());
    }
    Ok(())
}

/// Refuses what somebody else owns or can write to: secrets would be written where others choose, and a marker that they made
/// would be believed.
fn nobody_elses(path: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::symlink_metadata(path).map_err(|e| Error::io("look at", path, e))?;
    // The folder itself may be reached through a link; what it leads to is what counts.
    let meta = if meta.is_symlink() && !path.ends_with(MARKER) {
        std::fs::metadata(path).map_err(|e| Error::io("look at", path, e))?
    } else {
        meta
    };
    let ours = meta.uid() == rustix::process::geteuid().as_raw();
    if ours && (meta.is_dir() || meta.is_file()) && meta.mode() & 0o022 == 0 {
        return Ok(());
    }
    let why = if ours { "others can write to it" } else { "it belongs to another user" };
    Err(Error::refused(format!("{} cannot be restored into: {why}", path.display()))
        .hint("Name a folder that does not exist yet, in a place of your own."))
}

/// An empty or missing folder, or one that an earlier run began to fill from the same bundle; whether it is that.
fn must_be_ours(folder: &Path, bundle: &str) -> Result<bool> {
    let listing = match std::fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(Error::refused(format!("{} is no folder", folder.display()))
                .hint("Name an empty folder, or one that does not exist yet."));
        }
        Err(e) => return Err(Error::io("list", folder, e)),
    };
    nobody_elses(folder)?;
    let occupied = listing.flatten().any(|entry| !leaves_empty(&entry.file_name()));
    let marker = folder.join(MARKER);
    let begun = occupied && marker.symlink_metadata().is_ok();
    if begun {
        nobody_elses(&marker)?;
    }
    let of = if begun { durable::read_file(&marker, 1024).ok() } else { None };
    if occupied && of.as_deref() != Some(bundle.as_bytes()) {
        let other = of.and_then(|of| String::from_utf8(of).ok()?.parse::<BundleId>().ok());
        return Err(match other {
            Some(other) => not_empty(folder).hint(format!(
                "A restore of bundle {other} was begun there: the same command with that id goes on with it."
            )),
            None => not_empty(folder),
        });
    }
    Ok(occupied)
}
