//! What every escrow promises, run against each.

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{ArchiveEscrow, Deposit, Destroyed, Escrow, FileEscrow, Prepared, Record, open_record, prepare};
use crate::archive::Archive;
use crate::archive::folder::Folder;
use crate::archive::memory::Memory;
use crate::ground::names::Fingerprint;
use crate::ground::{Kind, clock};
use crate::sealing::SealingKey;
use crate::signer::{Signer, Trusted};

/// A record of a key.
pub(super) fn record(fingerprint: u8) -> Record {
    Record {
        key: Zeroizing::new(b"an application key \xff\n".to_vec()),
        scheme: "package-broker".to_owned(),
        fingerprint: Fingerprint::from_bytes(&[fingerprint; 16]),
        app: "package-broker".parse().expect("a name"),
        created: Timestamp::from_second(clock::now().as_second()).expect("a time"),
        source: "env:ENCRYPTION_KEY".to_owned(),
        predecessor: None,
        reason: None,
    }
}

/// A signer, and the list that trusts it.
pub(super) fn signer() -> (Signer, Trusted) {
    let signer = Signer::generate().expect("random");
    let trusted = Trusted::new(vec![*signer.public()]);
    (signer, trusted)
}

fn in_folder(path: &std::path::Path) -> FileEscrow {
    FileEscrow::new(path, |path| Ok(Box::new(Folder::open(path)?)))
}

fn put(escrow: &dyn Escrow, deposit: &Prepared, trusted: &Trusted) -> crate::ground::Result<Deposit> {
    escrow.deposit(&deposit.sealed, &deposit.public, &deposit.minisig, trusted)
}

/// The suite; `escrow` is empty.
pub(super) fn keeps_its_promises(escrow: &dyn Escrow) {
    let (signer, trusted) = signer();
    let (key, record) = (SealingKey::generate(), record(1));
    let (app, fingerprint) = (&record.app, &record.fingerprint);
    let first = prepare(&record, key.recipient(), &signer).expect("prepared");

    // Nothing is there.
    assert_eq!(escrow.has(app, fingerprint, key.id(), &trusted).expect("looked"), None);
    assert!(escrow.list(app).expect("listed").is_empty());
    assert_eq!(escrow.fetch(app, fingerprint, key.id()).expect_err("nothing").kind(), Kind::NotFound);
    assert_eq!(escrow.fetch_signed(app, fingerprint, key.id(), &trusted).expect_err("nothing").kind(), Kind::NotFound);

    // A deposit is stored, found and opened.
    assert_eq!(put(escrow, &first, &trusted).expect("stored"), Deposit::Stored);
    assert_eq!(escrow.has(app, fingerprint, key.id(), &trusted).expect("looked").as_ref(), Some(&first.public));
    let sealed = escrow.fetch_signed(app, fingerprint, key.id(), &trusted).expect("fetched");
    assert_eq!(sealed, first.sealed);
    let opened = open_record(&key, &sealed).expect("opened");
    assert_eq!((&opened.key, &opened.fingerprint), (&record.key, fingerprint));

    // It is created once: the same again, or sealed anew, changes nothing.
    let again = prepare(&record, key.recipient(), &signer).expect("prepared");
    assert_ne!(again.sealed, first.sealed);
    for deposit in [&first, &again] {
        assert_eq!(put(escrow, deposit, &trusted).expect("there"), Deposit::Already);
    }
    assert_eq!(escrow.fetch(app, fingerprint, key.id()).expect("fetched"), first.sealed);

    // Other keys, and the same key under another sealing key, have places of their own.
    let (other_key, other_record) = (SealingKey::generate(), self::record(2));
    for (record, key) in [(&record, &other_key), (&other_record, &key)] {
        assert_eq!(escrow.has(app, &record.fingerprint, key.id(), &trusted).expect("looked"), None);
        let deposit = prepare(record, key.recipient(), &signer).expect("prepared");
        assert_eq!(put(escrow, &deposit, &trusted).expect("stored"), Deposit::Stored);
    }
    let mut expected = vec![
        (fingerprint.clone(), key.id().clone()),
        (fingerprint.clone(), other_key.id().clone()),
        (other_record.fingerprint.clone(), key.id().clone()),
    ];
    expected.sort();
    assert_eq!(escrow.list(app).expect("listed"), expected);
    assert!(escrow.list(&"another-app".parse().expect("a name")).expect("listed").is_empty());

    // Who is not trusted has deposited nothing, and takes no place either.
    let (mallory, mallorys) = self::signer();
    for nobodys in [&mallorys, &Trusted::default()] {
        let error = escrow.has(app, fingerprint, key.id(), nobodys).expect_err("not trusted");
        assert_eq!(error.kind(), Kind::NotAuthentic);
        assert_eq!(put(escrow, &first, nobodys).expect_err("not trusted").kind(), Kind::NotAuthentic);
    }
    let planted = prepare(&self::record(3), key.recipient(), &mallory).expect("prepared");
    assert_eq!(put(escrow, &planted, &trusted).expect_err("not trusted").kind(), Kind::NotAuthentic);
    assert_eq!(put(escrow, &planted, &mallorys).expect("stored"), Deposit::Stored);
    let ours = prepare(&self::record(3), key.recipient(), &signer).expect("prepared");
    assert_eq!(put(escrow, &ours, &trusted).expect_err("taken").kind(), Kind::NotAuthentic);
    assert_eq!(escrow.fetch(app, &planted.public.fingerprint, key.id()).expect("fetched"), planted.sealed);

    // What does not belong together is not stored.
    let error = escrow.deposit(&first.sealed, &again.public, &again.minisig, &trusted).expect_err("not its bytes");
    assert_eq!(error.kind(), Kind::Failed);
    let error = escrow.deposit(&again.sealed, &again.public, &first.minisig, &trusted).expect_err("not its signature");
    assert_eq!(error.kind(), Kind::NotAuthentic);

    // A repair replaces, whoever took the place.
    escrow.repair(&ours.sealed, &ours.public, &ours.minisig, &trusted).expect("repaired");
    escrow.repair(&again.sealed, &again.public, &again.minisig, &trusted).expect("repaired");
    assert_eq!(escrow.fetch_signed(app, &ours.public.fingerprint, key.id(), &trusted).expect("fetched"), ours.sealed);
    assert_eq!(escrow.fetch_signed(app, fingerprint, key.id(), &trusted).expect("fetched"), again.sealed);
    assert_eq!(put(escrow, &first, &trusted).expect("there"), Deposit::Already);

    // What is destroyed is gone, whoever put it there; the others stay, and its place can be taken again.
    escrow.repair(&planted.sealed, &planted.public, &planted.minisig, &mallorys).expect("planted again");
    let listed = escrow.list(app).expect("listed");
    let theirs = &planted.public.fingerprint;
    for fingerprint in [fingerprint, theirs] {
        assert_ne!(escrow.destroy(app, fingerprint, key.id()).expect("destroyed"), Destroyed::Nothing);
        assert_eq!(escrow.destroy(app, fingerprint, key.id()).expect("nothing left"), Destroyed::Nothing);
        assert_eq!(escrow.has(app, fingerprint, key.id(), &trusted).expect("looked"), None);
        assert_eq!(escrow.fetch(app, fingerprint, key.id()).expect_err("gone").kind(), Kind::NotFound);
    }
    let rest: Vec<_> =
        listed.into_iter().filter(|(named, id)| !(id == key.id() && [fingerprint, theirs].contains(&named))).collect();
    assert_eq!(escrow.list(app).expect("listed"), rest);
    assert!(escrow.has(app, fingerprint, other_key.id(), &trusted).expect("looked").is_some());
    assert_eq!(put(escrow, &first, &trusted).expect("stored"), Deposit::Stored);
    assert_eq!(put(escrow, &ours, &trusted).expect("stored"), Deposit::Stored);
}

#[test]
fn an_archive_in_memory_keeps_its_promises() {
    keeps_its_promises(&ArchiveEscrow::new(&Memory::default()));
}

#[test]
fn an_archive_that_somebody_holds_for_ever_keeps_its_promises() {
    let archive = Memory::default();
    archive.objects().insert("keys/package-broker/.lock".to_owned(), Vec::new());
    keeps_its_promises(&ArchiveEscrow::new(&archive));
}

#[test]
fn an_archive_in_a_folder_keeps_its_promises() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = Folder::open(folder.path()).expect("opened");
    keeps_its_promises(&ArchiveEscrow::new(&archive));
    let keys = archive.list(&"keys".parse().expect("a name")).expect("listed");
    assert_eq!(keys.len(), 4 * 3);
}

#[test]
fn a_plain_folder_keeps_its_promises() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    keeps_its_promises(&in_folder(folder.path()));
    let listing = std::fs::read_dir(folder.path().join("keys/package-broker/01010101010101010101010101010101"));
    for entry in listing.expect("listed") {
        let meta = entry.expect("an entry").metadata().expect("its metadata");
        assert_eq!(meta.mode() & 0o777, 0o600);
    }
}

#[test]
fn a_folder_that_is_not_mounted_is_no_empty_escrow() {
    let folder = tempfile::tempdir().expect("a folder");
    let escrow = in_folder(&folder.path().join("stick"));
    let (signer, trusted) = signer();
    let (key, record) = (SealingKey::generate(), record(1));
    let deposit = prepare(&record, key.recipient(), &signer).expect("prepared");
    assert_eq!(put(&escrow, &deposit, &trusted).expect_err("not there").kind(), Kind::Unreachable);
    let looked = escrow.has(&record.app, &record.fingerprint, key.id(), &trusted);
    assert_eq!(looked.expect_err("not there").kind(), Kind::Unreachable);
    assert_eq!(escrow.list(&record.app).expect_err("not there").kind(), Kind::Unreachable);
    assert!(!folder.path().join("stick").exists());
}

#[test]
fn a_link_or_a_pipe_in_a_files_place_is_neither_followed_nor_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let escrow = in_folder(folder.path());
    let (signer, trusted) = signer();
    let (key, record) = (SealingKey::generate(), record(1));
    let deposit = prepare(&record, key.recipient(), &signer).expect("prepared");
    assert_eq!(put(&escrow, &deposit, &trusted).expect("stored"), Deposit::Stored);
    let json = folder.path().join(format!("keys/{}/{}/{}.json", record.app, record.fingerprint, key.id()));
    let aside = folder.path().join("aside");
    std::fs::rename(&json, &aside).expect("renamed");
    std::os::unix::fs::symlink(&aside, &json).expect("linked");
    assert!(escrow.has(&record.app, &record.fingerprint, key.id(), &trusted).is_err());
    std::fs::remove_file(&json).expect("removed");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &json, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
    assert!(escrow.has(&record.app, &record.fingerprint, key.id(), &trusted).is_err());
}

#[test]
fn a_linked_folder_in_a_folder_leads_nowhere() {
    use std::os::unix::fs::symlink;
    let (signer, trusted) = signer();
    let (key, record, other) = (SealingKey::generate(), record(1), record(2));
    let (place, elsewhere) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let theirs = prepare(&other, key.recipient(), &signer).expect("prepared");
    put(&in_folder(elsewhere.path()), &theirs, &trusted).expect("stored");
    let files = || {
        let mut paths: Vec<_> = walk(&elsewhere.path().join("keys"));
        paths.sort();
        paths
    };
    let before = files();
    let ours = prepare(&record, key.recipient(), &signer).expect("prepared");
    let (app, fingerprint) = (&record.app, &record.fingerprint);
    let keys = place.path().join("keys");
    let escrow = in_folder(place.path());
    // Each folder on the way in turn, as whoever owns the stick can make it.
    for (link, to) in [
        (keys.join(app.as_str()).join(fingerprint.to_string()), format!("keys/{app}/{}", other.fingerprint)),
        (keys.join(app.as_str()), format!("keys/{app}")),
        (keys.clone(), "keys".to_owned()),
    ] {
        let _ = std::fs::remove_dir_all(&keys);
        std::fs::create_dir_all(link.parent().expect("a folder")).expect("made");
        symlink(elsewhere.path().join(to), &link).expect("linked");
        let at = link.display();
        for named in [fingerprint, &other.fingerprint] {
            let destroyed = escrow.destroy(app, named, key.id());
            assert!(!matches!(destroyed, Ok(Destroyed::Gone)), "{at}");
        }
        let found = [
            escrow.has(app, fingerprint, key.id(), &trusted).map(drop),
            put(&escrow, &ours, &trusted).map(drop),
            escrow.repair(&ours.sealed, &ours.public, &ours.minisig, &trusted),
        ];
        assert!(found.into_iter().all(|found| found.is_err_and(|e| e.kind() == Kind::Damaged)), "{at}");
        assert!(escrow.list(app).is_ok_and(|listed| listed.is_empty()) || escrow.list(app).is_err(), "{at}");
        assert_eq!(files(), before, "{at}");
        let _ = std::fs::remove_file(&link);
    }
}

/// Every path below a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("listed").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_folder_that_one_may_only_write_to_takes_keys_all_the_same() {
    use std::os::unix::fs::PermissionsExt as _;
    if rustix::process::geteuid().is_root() {
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: root may read every folder");
        }
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let escrow = in_folder(folder.path());
    let (signer, trusted) = signer();
    let (key, record) = (SealingKey::generate(), record(1));
    let below = folder.path().join(format!("keys/{}/{}", record.app, record.fingerprint));
    std::fs::create_dir_all(&below).expect("made");
    let modes = |mode: u32| {
        for path in below.ancestors().take(4) {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
        }
    };
    modes(0o300);
    let deposit = prepare(&record, key.recipient(), &signer).expect("prepared");
    let stored = put(&escrow, &deposit, &trusted);
    let again = put(&escrow, &deposit, &trusted);
    let listed = escrow.list(&record.app);
    modes(0o700);
    assert_eq!(stored.expect("stored"), Deposit::Stored);
    assert_eq!(again.expect("there"), Deposit::Already);
    assert_eq!(listed.expect_err("not for us").kind(), Kind::Denied);
}
