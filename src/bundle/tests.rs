//! Bundles written, read, and tampered with, in an archive whose owner may do anything.

use std::collections::HashSet;
use std::io::{Read, Write};

use super::header::tests::sample;
use super::*;
use crate::archive::Archive as _;
use crate::archive::memory::Memory;
use crate::ground::beside::Stop;
use crate::ground::names::{Sha256Hex, Ulid};
use crate::ground::progress::Silent;
use crate::ground::{Error, Kind, clock};
use crate::sealing::{SealingKey, stream};
use crate::signer::{Signer, Trusted};

/// Everything that a bundle is made with.
struct World {
    archive: Memory,
    archive_id: Uuid,
    app: AppName,
    id: BundleId,
    key: SealingKey,
    signer: Signer,
    trusted: Trusted,
}

fn world() -> World {
    let signer = Signer::generate().expect("random");
    World {
        archive: Memory::default(),
        archive_id: Uuid::new().expect("random"),
        app: "shop".parse().expect("a name"),
        id: BundleId::new(clock::now()).expect("random"),
        key: SealingKey::generate(),
        trusted: Trusted::new(vec![*signer.public()]),
        signer,
    }
}

fn database() -> Member {
    Member::Database("database.sqlite".to_owned())
}

fn content() -> Vec<u8> {
    (0..5_000_000_u32).map(|n| (n % 251) as u8).collect()
}

impl World {
    fn draft(&self) -> Draft<'_> {
        Draft::begin(&self.archive, &self.archive_id, &self.app, &self.id, self.key.recipient())
    }

    fn header(&self) -> Header {
        sample(&self.id, &self.archive_id, self.signer.public(), self.key.id())
    }

    fn part(&self, content: &[u8]) -> (PartName, Sha256Hex) {
        let part = PartName { ulid: Ulid::new(clock::now()).expect("random"), kind: PartKind::Tar };
        self.archive.put_new(&part.object(&self.app).expect("a name"), content).expect("stored");
        (part, Sha256Hex::of(content))
    }

    /// Writes a bundle with a part, and answers the digest of its list.
    fn bundle(&self) -> Sha256Hex {
        let draft = self.draft();
        draft.put(Member::Proof, b"proof").expect("written");
        draft.put(Member::Files, b"").expect("written");
        draft.put(Member::Key, b"key").expect("written");
        draft.put_raw(Member::Identity, b"wrapped").expect("written");
        let mut dump = draft.member(database()).expect("begun");
        for chunk in content().chunks(99_999) {
            dump.write_all(chunk).expect("written");
        }
        dump.finish().expect("finished");
        let (part, digest) = self.part(b"a part");
        draft.stored(&part, &digest, 6).expect("listed");
        draft.close(&self.header(), &self.signer).expect("closed")
    }

    fn open(&self, sums: Option<&Sha256Hex>) -> crate::ground::Result<Opened<'_>> {
        Opened::open(&self.archive, &self.archive_id, &self.app, &self.id, sums, &self.trusted)
    }

    fn object(&self, name: &str) -> String {
        folder(&self.app, &self.id).expect("a name").join(name).expect("a name").to_string()
    }
}

fn read(mut reader: impl Read) -> crate::ground::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|e| Error::from_io(Kind::Failed, "read", e))?;
    Ok(bytes)
}

fn kind<T>(result: crate::ground::Result<T>) -> Option<Kind> {
    result.err().map(|e| e.kind())
}

#[test]
fn a_bundle_reads_back_as_it_was_written() {
    let world = world();
    let digest = world.bundle();
    let opened = world.open(Some(&digest)).expect("opened");
    assert_eq!(*opened.header(), world.header());
    assert_eq!(*opened.digest(), digest);
    assert!(read(opened.read(&database(), &world.key).expect("opened")).expect("read") == content());
    assert_eq!(read(opened.read(&Member::Files, &world.key).expect("opened")).expect("read"), b"");
    assert_eq!(*opened.read_secret(&Member::Key, &world.key, 3).expect("read"), b"key");
    assert_eq!(kind(opened.read_secret(&Member::Key, &world.key, 2)), Some(Kind::Damaged));
    assert_eq!(opened.wrapped_identity().expect("read"), Some(b"wrapped".to_vec()));
    assert_eq!(opened.database_member(), Some(database()));
    assert_eq!(opened.member_named("database.sqlite").expect("there"), database());
    for absent in ["globals.sql", "key", "../x"] {
        assert_eq!(kind(opened.member_named(absent)), Some(Kind::NotFound));
    }
    assert_eq!(kind(opened.read(&Member::Config, &world.key).map(drop)), Some(Kind::NotFound));
    let (part, _) = opened.sums().parts().next().expect("a part");
    assert_eq!(read(opened.read_part(&part).expect("opened")).expect("read"), b"a part");
}

#[test]
fn a_list_without_what_the_header_promises_is_damage_and_so_is_a_database_that_it_keeps_quiet() {
    type Change = fn(&mut Header);
    let cases: [(&[&str], Change, bool); 8] = [
        (&[], |_| {}, true),
        (&["key.age"], |_| {}, true),
        (&[], |h| h.contains.push("key".to_owned()), true),
        (&["key.age"], |h| h.contains.push("key".to_owned()), false),
        (&["database.sqlite.zst.age"], |_| {}, false),
        (&[], |h| h.database = None, false),
        (&[], |h| (h.database, h.contains) = (None, Vec::new()), false),
        (&[], |h| h.database = Some("postgres".to_owned()), false),
    ];
    for (n, (left_out, change, good)) in cases.into_iter().enumerate() {
        let world = world();
        world.bundle();
        let mut header = world.header();
        change(&mut header);
        let bytes = header.to_bytes().expect("bytes");
        let mut objects = world.archive.objects();
        let list = String::from_utf8(objects[&world.object(SUMS)].clone()).expect("text");
        let mut lines: Vec<_> = list
            .lines()
            .map(|line| match line.split_once("  ").expect("a line").1 {
                "bundle.json" => format!("{}  bundle.json\n", Sha256Hex::of(&bytes)),
                _ => format!("{line}\n"),
            })
            .collect();
        lines.retain(|line| !left_out.iter().any(|name| line.contains(name)));
        let list = lines.concat().into_bytes();
        let signature =
            world.signer.sign(&list, &trusted_comment(&world.archive_id, &world.app, &world.id)).expect("signed");
        for (name, bytes) in [("bundle.json", bytes), (SUMS, list), (SIGNATURE, signature)] {
            objects.insert(world.object(name), bytes);
        }
        drop(objects);
        let expected = if good { None } else { Some(Kind::Damaged) };
        assert_eq!(kind(world.open(None).map(drop)), expected, "case {n}");
    }
}

#[test]
fn members_are_what_the_programs_open() {
    let world = world();
    world.bundle();
    let objects = world.archive.objects().clone();
    let sealed = &objects[&world.object("database.sqlite.zst.age")];
    let frames = age::decrypt(world.key.age(), sealed).expect("age opens it");
    assert!(zstd::stream::decode_all(frames.as_slice()).expect("zstd opens it") == content());
    assert_eq!(age::decrypt(world.key.age(), &objects[&world.object("key.age")]).expect("age opens it"), b"key");
    assert_eq!(objects[&world.object("identity.age")], b"wrapped");
    let sums = String::from_utf8(objects[&world.object(SUMS)].clone()).expect("text");
    for line in sums.lines() {
        let (digest, name) = line.split_once("  ").expect("a line");
        let path = name.strip_prefix("../../../").map_or_else(|| world.object(name), str::to_owned);
        assert_eq!(Sha256Hex::of(&objects[&path]).as_str(), digest, "{name}");
    }
    assert_eq!(sums.lines().count(), 7);
    assert_eq!(objects.len(), 9);
}

#[test]
fn several_threads_write_members_of_one_bundle() {
    let world = world();
    let draft = world.draft();
    std::thread::scope(|scope| {
        for member in [Member::Proof, Member::Files, Member::Config, database()] {
            let draft = &draft;
            scope.spawn(move || draft.put(member.clone(), member.file_name().as_bytes()).expect("written"));
        }
    });
    let sealed: usize = world.archive.objects().values().map(Vec::len).sum();
    assert_eq!(draft.bytes(), sealed as u64);
    draft.close(&world.header(), &world.signer).expect("closed");
    let opened = world.open(None).expect("opened");
    assert_eq!(read(opened.read(&Member::Config, &world.key).expect("opened")).expect("read"), b"config.toml.age");
}

#[test]
fn an_unfinished_member_is_no_member_and_none_is_written_twice() {
    let world = world();
    let draft = world.draft();
    let mut dropped = draft.member(Member::Config).expect("begun");
    dropped.write_all(&content()).expect("written");
    drop(dropped);
    assert_eq!((draft.bytes(), world.archive.objects().len()), (0, 0));
    draft.put(Member::Key, b"1").expect("written");
    assert_eq!(kind(draft.put(Member::Key, b"2")), Some(Kind::Failed));
    assert!(draft.member(Member::Database("../../x".to_owned())).is_err());
    assert!(draft.refer("../../../parts/blog/EF/01JDQ8ZK3V9W5X6Y7Z8A9BCDEF.tar.age", &Sha256Hex::of(b"")).is_err());
    assert!(draft.refer("key.age", &Sha256Hex::of(b"")).is_err());
}

#[test]
fn nothing_is_signed_that_a_reader_would_refuse() {
    type Change = fn(&mut Header);
    let changes: [Change; 6] = [
        |h| h.id = "20261123T020000Z-1a2b3c4d".parse().expect("an id"),
        |h| h.signer = *Signer::generate().expect("random").public(),
        |h| h.sealing = SealingKey::generate().id().clone(),
        |h| h.created = "today".to_owned(),
        |h| h.critical = vec!["flux".to_owned()],
        |h| h.format = 2,
    ];
    for change in changes {
        let world = world();
        let draft = world.draft();
        for member in [Member::Proof, Member::Files, database()] {
            draft.put(member, b"").expect("written");
        }
        let mut header = world.header();
        change(&mut header);
        assert!(draft.close(&header, &world.signer).is_err());
        assert_eq!(world.archive.objects().len(), 3);
    }
    for members in [vec![Member::Proof], vec![Member::Files], vec![Member::Proof, Member::Files]] {
        let world = world();
        let draft = world.draft();
        for member in members {
            draft.put(member, b"").expect("written");
        }
        assert!(draft.close(&world.header(), &world.signer).is_err());
    }
}

#[test]
fn every_object_that_is_changed_or_missing_is_found_and_named() {
    let world = world();
    let digest = world.bundle();
    let whole = world.archive.objects().clone();
    let total: usize = whole.values().map(Vec::len).sum();
    let apart = whole[&world.object(SUMS)].len() + whole[&world.object(SIGNATURE)].len();
    let check = |scope: Scope<'_>| world.open(Some(&digest)).and_then(|opened| opened.check(scope, &Silent));
    assert_eq!(check(Scope::Everything).expect("whole"), (total - apart) as u64);
    for (name, bytes) in &whole {
        for change in ["flip", "cut", "grow", "remove"] {
            let mut other = bytes.clone();
            match change {
                "flip" => other[bytes.len() / 2] ^= 1,
                "cut" => drop(other.pop()),
                _ => other.push(0),
            }
            if change == "remove" {
                world.archive.objects().remove(name);
            } else {
                world.archive.objects().insert(name.clone(), other);
            }
            let error = check(Scope::Everything).expect_err("found");
            assert!(matches!(error.kind(), Kind::Damaged | Kind::NotAuthentic), "{name} {change}: {error:?}");
            assert!(error.chain().contains(name.trim_end_matches(".minisig")), "{name} {change}: {error:?}");
            let members_only = check(Scope::MembersBut(None)).is_err();
            assert_eq!(members_only, !name.starts_with("parts/"), "{name} {change}");
            world.archive.objects().insert(name.clone(), bytes.clone());
        }
    }
    assert_eq!(check(Scope::Everything).expect("whole again"), (total - apart) as u64);
}

#[test]
fn no_byte_of_a_bundle_can_be_changed_and_no_object_cut() {
    let world = world();
    let draft = world.draft();
    for member in [Member::Proof, Member::Files, Member::Key, Member::Config, database()] {
        draft.put(member, b"content").expect("written");
    }
    draft.put_raw(Member::Identity, b"wrapped").expect("written");
    let (part, digest) = world.part(b"a part");
    draft.stored(&part, &digest, 6).expect("listed");
    let digest = draft.close(&world.header(), &world.signer).expect("closed");
    let whole = world.archive.objects().clone();
    let refused = |name: &str, bytes: Vec<u8>, what: &str| {
        world.archive.objects().insert(name.to_owned(), bytes);
        let found = world.open(Some(&digest)).and_then(|opened| opened.check(Scope::Everything, &Silent));
        let kind = kind(found);
        assert!(matches!(kind, Some(Kind::Damaged | Kind::NotAuthentic)), "{name}, {what}: {kind:?}");
    };
    for (name, bytes) in &whole {
        // What stands in the first line of a signature is not signed; its form is checked all the same.
        let free = if name.ends_with(SIGNATURE) { bytes.iter().position(|b| *b == b'\n').unwrap_or(0) } else { 0 };
        for at in free..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1 << (at % 8);
            refused(name, other, &format!("byte {at} flipped"));
        }
        for length in free..bytes.len() {
            refused(name, bytes[..length].to_vec(), &format!("cut to {length}"));
        }
        world.archive.objects().insert(name.clone(), bytes.clone());
    }
    assert!(world.open(Some(&digest)).and_then(|opened| opened.check(Scope::Everything, &Silent)).is_ok());
}

#[test]
fn all_damage_is_reported_at_once() {
    let world = world();
    world.bundle();
    for name in ["key.age", "proof.jsonl.zst.age", "identity.age"] {
        world.archive.objects().insert(world.object(name), Vec::new());
    }
    let error = world.open(None).and_then(|o| o.check(Scope::Everything, &Silent)).expect_err("damaged");
    assert!(error.chain().contains("identity.age"));
    let hints = error.hints().concat();
    assert!(hints.contains("2 more") && hints.contains("key.age") && hints.contains("proof"), "{hints}");
    let opened = world.open(None).expect("opened");
    assert!(
        opened.check(Scope::Only(&[database(), Member::Config]), &Silent).is_ok(),
        "those two are whole or not listed"
    );
    assert!(opened.check(Scope::Only(&[Member::Key]), &Silent).is_err());
    // Told to stop it reads nothing on, so it knows of no damage, and calls nothing whole either.
    let stop = Stop::default();
    stop.set();
    let stopped = opened.check_unless(&stop, Scope::Everything, &Silent).expect_err("stopped");
    assert_eq!(stopped.kind(), Kind::Failed);
}

#[test]
fn a_part_that_bundles_share_is_read_once() {
    let world = world();
    world.bundle();
    let opened = world.open(None).expect("opened");
    let mut seen = HashSet::new();
    assert!(opened.check(Scope::EverythingBut(&mut seen), &Silent).expect("whole") > 0);
    assert_eq!(seen.len(), 7);
    assert_eq!(opened.check(Scope::EverythingBut(&mut seen), &Silent).expect("nothing left"), 0);
}

#[test]
fn damage_is_noticed_while_a_member_is_read() {
    let world = world();
    world.bundle();
    // The owner of the archive knows the recipient, and can seal what he likes.
    let forged = stream::seal_bytes(world.key.recipient(), b"another key").expect("sealed");
    world.archive.objects().insert(world.object("key.age"), forged);
    world.archive.objects().insert(world.object("identity.age"), b"forged".to_vec());
    let opened = world.open(None).expect("opened");
    assert_eq!(kind(opened.read_secret(&Member::Key, &world.key, 100)), Some(Kind::Damaged));
    assert_eq!(kind(opened.wrapped_identity()), Some(Kind::Damaged));
    let (part, _) = opened.sums().parts().next().expect("a part");
    world.archive.objects().insert(part.object(&world.app).expect("a name").to_string(), b"A part".to_vec());
    assert_eq!(kind(read(opened.read_part(&part).expect("opened"))), Some(Kind::Damaged));
    world.archive.objects().remove(&world.object("database.sqlite.zst.age"));
    assert_eq!(kind(opened.read(&database(), &world.key).map(drop)), Some(Kind::Damaged));
}

#[test]
fn another_sealing_key_is_told_before_anything_is_read() {
    let world = world();
    world.bundle();
    let opened = world.open(None).expect("opened");
    assert_eq!(kind(opened.read(&database(), &SealingKey::generate()).map(drop)), Some(Kind::Sealed));
}

#[test]
fn a_bundle_that_is_not_the_one_asked_for_is_not_authentic() {
    let world = world();
    let digest = world.bundle();
    assert_eq!(kind(world.open(Some(&Sha256Hex::of(b"another")))), Some(Kind::NotAuthentic));
    let strangers = Trusted::new(vec![*Signer::generate().expect("random").public()]);
    let open = |archive_id: &Uuid, app: &AppName, id: &BundleId, trusted: &Trusted| {
        kind(Opened::open(&world.archive, archive_id, app, id, Some(&digest), trusted))
    };
    assert_eq!(open(&world.archive_id, &world.app, &world.id, &world.trusted), None);
    assert_eq!(open(&world.archive_id, &world.app, &world.id, &strangers), Some(Kind::NotAuthentic));
    assert_eq!(open(&world.archive_id, &world.app, &world.id, &Trusted::default()), Some(Kind::NotAuthentic));
    let other_archive = Uuid::new().expect("random");
    assert_eq!(open(&other_archive, &world.app, &world.id, &world.trusted), Some(Kind::NotAuthentic));

    // The same objects under another application and another id.
    let (app, id): (AppName, BundleId) =
        ("blog".parse().expect("a name"), BundleId::new(clock::now()).expect("random"));
    let moved: Vec<_> = world.archive.objects().clone().into_iter().collect();
    for (name, bytes) in moved {
        let there = name.replace("/shop/", "/blog/");
        world.archive.objects().insert(there.clone(), bytes.clone());
        world.archive.objects().insert(name.replace(world.id.as_str(), id.as_str()), bytes);
    }
    assert_eq!(open(&world.archive_id, &app, &world.id, &world.trusted), Some(Kind::NotAuthentic));
    assert_eq!(open(&world.archive_id, &world.app, &id, &world.trusted), Some(Kind::NotAuthentic));
    assert_eq!(kind(world.open(Some(&digest))), None);
    let none = BundleId::new(clock::now()).expect("random");
    assert_eq!(open(&world.archive_id, &world.app, &none, &world.trusted), Some(Kind::NotAuthentic));
    let unexpected = Opened::open(&world.archive, &world.archive_id, &world.app, &none, None, &world.trusted);
    assert_eq!(kind(unexpected), Some(Kind::NotFound));
}
