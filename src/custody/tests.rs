//! Custody as a whole: put there, opened, wrapped anew, tampered with, killed half-way.

use std::process::Command;

use super::*;
use crate::archive::memory::Memory;
use crate::ground::names::Label;
use zeroize::Zeroizing;

/// Writes an identity file, mode 0600.
pub(super) fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.path().join(name);
    crate::ground::durable::write_file(&path, bytes, 0o600, crate::ground::durable::Existing::Replace)
        .expect("written");
    path
}

/// Nobody is there to answer.
pub(super) fn nobody(_: &str) -> Result<Zeroizing<String>> {
    Err(Error::usage("there is no terminal to ask for a passphrase on"))
}

pub(super) fn custodian(label: &str, recipient: &str) -> Custodian {
    Custodian::new(label.parse::<Label>().expect("a label"), recipient).expect("a custodian")
}

/// A custodian and the path of its identity file.
pub(super) fn person(folder: &tempfile::TempDir, label: &str) -> (Custodian, std::path::PathBuf) {
    let (identity, recipient) = new_recovery_identity(None).expect("made");
    (custodian(label, &recipient), file(folder, label, &identity))
}

fn opens(archive: &Memory, sealing: &SealingId, path: &std::path::Path) -> Result<SealingKey> {
    open(archive, sealing, &Identities::load(&[path.to_owned()], &nobody)?)
}

#[test]
fn every_custodian_opens_it_alone_and_nobody_else_does() {
    let (archive, folder, key) = (Memory::default(), tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let (alice, alices) = person(&folder, "alice");
    let (bob, bobs) = person(&folder, "bob");
    let (_, mallorys) = person(&folder, "mallory");
    establish(&archive, &key, &[alice, bob]).expect("established");
    for path in [&alices, &bobs] {
        assert_eq!(opens(&archive, key.id(), path).expect("opened").id(), key.id());
    }
    let error = opens(&archive, key.id(), &mallorys).err().expect("sealed");
    assert_eq!(error.kind(), Kind::Sealed);
    assert!(error.chain().contains("mallory"), "{}", error.chain());
    assert!(error.hints().iter().any(|hint| hint.contains("alice, bob")), "{:?}", error.hints());

    let records = list(&archive).expect("listed");
    assert_eq!(records.len(), 1);
    records[0].verify(&key).expect("authentic");
    assert_eq!((records[0].generation, records[0].threshold), (1, 1));
}

#[test]
fn the_distributions_age_opens_what_we_wrap() {
    let (archive, folder, key) = (Memory::default(), tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let (alice, alices) = person(&folder, "alice");
    let ssh = include_str!("../../tests/vectors/custody/ed25519.pub");
    establish(&archive, &key, &[alice, custodian("bob", ssh)]).expect("established");
    let wrapped = wrapped(&archive, key.id()).expect("read").expect("it is there");
    let age = file(&folder, "identity.age", &wrapped);
    let bobs = file(&folder, "id_ed25519", include_bytes!("../../tests/vectors/custody/ed25519"));
    for path in [&alices, &bobs] {
        let output = match Command::new("age").arg("-d").arg("-i").arg(path).arg(&age).output() {
            Ok(output) => output,
            Err(e) => {
                let required = std::env::var_os("STRONGROOM_TEST_TOOLS").is_some_and(|v| v == "required");
                assert!(!required, "age is needed: {e}");
                #[expect(clippy::print_stderr, reason = "a skipped test says so")]
                {
                    eprintln!("skipped: age is not installed ({e})");
                }
                return;
            }
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(SealingKey::parse(&output.stdout).expect("an identity file").id(), key.id());
    }
}

#[test]
fn the_sealing_identity_itself_opens_even_where_nothing_is_wrapped() {
    let (archive, folder, key) = (Memory::default(), tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let itself = file(&folder, "sealing.key", &key.to_identity_file());
    assert_eq!(opens(&archive, key.id(), &itself).expect("opened").id(), key.id());
    let (_, other) = person(&folder, "other");
    let error = opens(&archive, key.id(), &other).err().expect("sealed");
    assert_eq!(error.kind(), Kind::Sealed);
    assert!(error.hints().iter().any(|hint| hint.contains("for nobody")), "{:?}", error.hints());
}

#[test]
fn custody_is_established_once() {
    let (archive, folder, key) = (Memory::default(), tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let (alice, alices) = person(&folder, "alice");
    let (bob, bobs) = person(&folder, "bob");
    establish(&archive, &key, &[alice]).expect("established");
    assert_eq!(establish(&archive, &key, &[bob]).expect_err("refused").kind(), Kind::Refused);
    assert!(opens(&archive, key.id(), &alices).is_ok());
    assert!(opens(&archive, key.id(), &bobs).is_err());
}

#[test]
fn a_killed_establishing_opens_and_is_finished_by_the_next() {
    let (archive, folder, key) = (Memory::default(), tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let (alice, alices) = person(&folder, "alice");
    establish(&archive, &key, std::slice::from_ref(&alice)).expect("established");
    let json = format!("custody/{}/custody.json", key.id());
    archive.objects().remove(&json).expect("it was there");
    assert!(opens(&archive, key.id(), &alices).is_ok());
    assert!(list(&archive).expect("listed").is_empty());
    establish(&archive, &key, &[alice]).expect("finished");
    assert!(opens(&archive, key.id(), &alices).is_ok());
    assert_eq!(list(&archive).expect("listed").len(), 1);
}

#[test]
fn wrapping_anew_changes_who_opens_and_counts_generations() {
    let (archive, folder, key) = (Memory::default(), tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let (alice, alices) = person(&folder, "alice");
    let (bob, bobs) = person(&folder, "bob");
    assert_eq!(rewrap(&archive, &key, std::slice::from_ref(&bob), 1).expect_err("none").kind(), Kind::NotFound);
    establish(&archive, &key, &[alice]).expect("established");
    let before = archive.objects()[&format!("custody/{}/custody.json", key.id())].clone();
    rewrap(&archive, &key, std::slice::from_ref(&bob), 1).expect("wrapped");
    assert!(opens(&archive, key.id(), &bobs).is_ok());
    assert_eq!(opens(&archive, key.id(), &alices).err().expect("sealed").kind(), Kind::Sealed);
    assert_eq!(record(&archive, key.id()).expect("read").expect("there").generation, 2);
    assert_eq!(rewrap(&archive, &key, std::slice::from_ref(&bob), 1).expect_err("stale").kind(), Kind::Refused);

    // Killed between the two objects: the older record stands beside the newer identity.age.
    archive.objects().insert(format!("custody/{}/custody.json", key.id()), before);
    assert!(opens(&archive, key.id(), &bobs).is_ok());
    rewrap(&archive, &key, &[bob], 1).expect("the same call finishes");
    assert_eq!(record(&archive, key.id()).expect("read").expect("there").generation, 2);
}

#[test]
fn a_forged_record_is_not_authentic() {
    let (archive, folder, key) = (Memory::default(), tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let (alice, alices) = person(&folder, "alice");
    establish(&archive, &key, std::slice::from_ref(&alice)).expect("established");
    let json = format!("custody/{}/custody.json", key.id());
    let text = String::from_utf8(archive.objects()[&json].clone()).expect("text");
    archive.objects().insert(json.clone(), text.replace("alice", "mallory").into_bytes());
    assert_eq!(opens(&archive, key.id(), &alices).err().expect("forged").kind(), Kind::NotAuthentic);
    // Nor is anything wrapped on the word of a forged record.
    assert_eq!(rewrap(&archive, &key, &[alice], 1).expect_err("forged").kind(), Kind::NotAuthentic);

    let other = SealingKey::generate();
    archive.objects().insert(json.clone(), text.replace(key.id().as_str(), other.id().as_str()).into_bytes());
    assert_eq!(record(&archive, key.id()).expect_err("another's").kind(), Kind::NotAuthentic);
    archive.objects().insert(json, text.replace("\"threshold\": 1", "\"threshold\": 2").into_bytes());
    assert!(list(&archive).expect_err("newer").chain().contains("k of n custody needs a newer strongroom"));
}

#[test]
fn another_key_under_this_ones_name_is_not_authentic() {
    let (archive, folder) = (Memory::default(), tempfile::tempdir().expect("a folder"));
    let (key, mallorys) = (SealingKey::generate(), SealingKey::generate());
    let (alice, alices) = person(&folder, "alice");
    establish(&archive, &mallorys, std::slice::from_ref(&alice)).expect("established");
    let wrapped = wrapped(&archive, mallorys.id()).expect("read").expect("there");
    archive.objects().insert(format!("custody/{}/identity.age", key.id()), wrapped.clone());
    assert_eq!(opens(&archive, key.id(), &alices).err().expect("another key").kind(), Kind::NotAuthentic);
    let paths = [alices];
    let identities = Identities::load(&paths, &nobody).expect("loaded");
    let error = open_wrapped(&wrapped, key.id(), &identities, "identity.age").err().expect("another key");
    assert_eq!(error.kind(), Kind::NotAuthentic);
    assert!(open_wrapped(&wrapped, mallorys.id(), &identities, "identity.age").is_ok());
}

#[test]
fn a_damaged_wrapping_is_damage_and_not_somebody_elses() {
    let (archive, folder, key) = (Memory::default(), tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let (alice, alices) = person(&folder, "alice");
    establish(&archive, &key, &[alice]).expect("established");
    let good = wrapped(&archive, key.id()).expect("read").expect("there");
    let paths = [alices];
    let identities = Identities::load(&paths, &nobody).expect("loaded");
    let mac = good.windows(4).position(|w| w == b"--- ").expect("a header") + 10;
    for (at, name) in [(0, "version"), (mac, "header MAC"), (good.len() - 1, "payload")] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let error = open_wrapped(&bad, key.id(), &identities, "identity.age").err().expect(name);
        assert_eq!(error.kind(), Kind::Damaged, "{name}: {}", error.chain());
    }
    for length in [0, 10, good.len() - 1] {
        let error = open_wrapped(&good[..length], key.id(), &identities, "identity.age").err().expect("short");
        assert_eq!(error.kind(), Kind::Damaged, "{length}: {}", error.chain());
    }
}

#[test]
fn post_quantum_and_other_custodians_are_not_mixed_in_silence() {
    let (archive, key) = (Memory::default(), SealingKey::generate());
    let pq = custodian("dora", include_str!("../../tests/vectors/custody/tagpq.pub"));
    let other = custodian("alice", &SealingKey::generate().recipient().to_string());
    let error = establish(&archive, &key, &[pq.clone(), other]).expect_err("incompatible");
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.chain().contains("dora post-quantum, alice not"), "{}", error.chain());
    assert!(archive.objects().is_empty());
    establish(&archive, &key, &[pq]).expect("alone it goes");
}
