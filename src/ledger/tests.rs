mod keys;
mod selecting;
mod writing;

use serde_json::{Value, json};

use super::*;
use crate::archive::memory::Memory;
use crate::ground::names::{SealingId, random};
use crate::ground::{Kind, clock};
use crate::signer::{PublicKey, Signer};

struct World {
    archive: Memory,
    id: Uuid,
    app: AppName,
    signer: Signer,
}

impl World {
    fn new() -> Self {
        Self {
            archive: Memory::default(),
            id: Uuid::new().expect("random"),
            app: "app".parse().expect("a name"),
            signer: Signer::generate().expect("random"),
        }
    }

    fn trusted(&self) -> Trusted {
        Trusted::new(vec![*self.signer.public()])
    }

    fn open(&self) -> Result<Ledger<'_>> {
        Ledger::open(&self.archive, &self.id, &self.app, &self.trusted())
    }

    /// A ledger of so many entries.
    fn with(entries: u64) -> Self {
        let world = Self::new();
        let mut ledger = world.open().expect("an empty ledger");
        for seq in 1..=entries {
            assert_eq!(ledger.append(&world.signer, tested(), clock::now()).expect("appended"), seq);
        }
        world
    }

    /// Puts bytes under a number, signed by a signer for that number as it should be.
    fn forge(&self, signer: &Signer, seq: u64, bytes: &[u8]) {
        let minisig = signer.sign(bytes, &trusted_comment(&self.id, &self.app, seq)).expect("signed");
        self.put(&entry_name(&self.app, seq).expect("a name"), bytes);
        self.put(&signature_name(&self.app, seq).expect("a name"), &minisig);
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) {
        self.archive.objects().insert(name.to_string(), bytes.to_vec());
    }

    fn bytes(&self, seq: u64) -> Vec<u8> {
        self.archive.objects()[entry_name(&self.app, seq).expect("a name").as_str()].clone()
    }

    fn fields(&self, seq: u64) -> Value {
        serde_json::from_slice(&self.bytes(seq)).expect("JSON")
    }

    /// What opening says; it must be a refusal that is called not authentic.
    fn refusal(&self) -> String {
        let error = self.open().err().expect("it must be refused");
        assert_eq!(error.kind(), Kind::NotAuthentic, "{error:?}");
        error.chain()
    }
}

fn tested() -> Event {
    Event::CustodyTest(CustodyTestEvent { sealing: SealingId::from_bytes(&[1; 16]), label: None })
}

fn bundle(id: &str, verdict: &str) -> BundleEvent {
    BundleEvent {
        bundle: id.parse().expect("an id"),
        sums: Sha256Hex::of(id.as_bytes()),
        verdict: verdict.to_owned(),
        keys: Vec::new(),
        sealing: SealingId::from_bytes(&[1; 16]),
        storage_from: None,
        contains: vec!["database".to_owned()],
        bytes: 7,
        problems: Vec::new(),
    }
}

fn select(text: &str) -> Selector {
    text.parse().expect("a selector")
}

#[test]
fn a_ledger_reads_back_what_was_appended() {
    let world = World::with(3);
    let ledger = world.open().expect("good");
    let entries = ledger.entries();
    assert_eq!(entries.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(entries[0].previous, None);
    assert_eq!(entries[2].previous, Some(Sha256Hex::of(&world.bytes(2))));
    assert_eq!(ledger.newest(), Some((3, Sha256Hex::of(&world.bytes(3)))));
    assert_eq!(serde_json::to_value(&entries[2]).expect("serialized"), world.fields(3));
}

#[test]
fn an_entry_has_the_form_that_the_format_fixes() {
    let world = World::new();
    let time = clock::parse_rfc3339("2026-11-23T02:00:00Z").expect("a time");
    let mut ledger = world.open().expect("empty");
    ledger.append(&world.signer, tested(), time).expect("appended");
    let expected = format!(
        "{{\"seq\":1,\"event\":\"custody-test\",\"time\":\"2026-11-23T02:00:00Z\",\"archive\":\"{}\",\"app\":\"app\",\
         \"signer\":\"{}\",\"sealing\":\"01010101010101010101010101010101\"}}\n",
        world.id,
        world.signer.public()
    );
    assert_eq!(String::from_utf8(world.bytes(1)).expect("text"), expected);
    let names: Vec<_> = world.archive.objects().keys().cloned().collect();
    assert_eq!(names, ["ledger/app/0000000001.json", "ledger/app/0000000001.json.minisig"]);
    let minisig = world.archive.objects()["ledger/app/0000000001.json.minisig"].clone();
    let comment = format!("strongroom ledger v1 archive={} app=app seq=1", world.id);
    assert!(world.trusted().verify(expected.as_bytes(), &minisig, &comment, "it").is_ok());
}

#[test]
fn gaps_and_strangers_among_the_objects_are_named() {
    for (gone, named) in [
        ("ledger/app/0000000002.json", "0000000002.json"),
        ("ledger/app/0000000001.json", "0000000001.json"),
        ("ledger/app/0000000002.json.minisig", "0000000002.json"),
    ] {
        let world = World::with(3);
        world.archive.objects().remove(gone).expect("it was there");
        assert!(world.refusal().contains(named), "{gone}");
    }
    for extra in ["0000000000.json", "00000000004.json", "000000004.json", "readme.txt", "0000000001.json.bak", "x/y"] {
        let world = World::with(3);
        world.put(&format!("ledger/app/{extra}").parse().expect("a name"), b"x");
        assert!(world.refusal().contains(extra), "{extra}");
    }
}

#[test]
fn no_changed_bit_and_no_cut_is_accepted() {
    let world = World::with(2);
    for seq in [1, 2] {
        let (name, good) = (entry_name(&world.app, seq).expect("a name"), world.bytes(seq));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            world.put(&name, &bad);
            assert!(world.refusal().contains(name.as_str()), "byte {at}");
        }
        for length in [0, 1, good.len() - 1] {
            world.put(&name, &good[..length]);
            assert!(world.refusal().contains(name.as_str()), "cut to {length}");
        }
        world.put(&name, &good);
    }
    assert!(world.open().is_ok());
    world.put(&entry_name(&world.app, 2).expect("a name"), &vec![b' '; 70_000]);
    assert!(world.refusal().contains("longer"));
}

#[test]
fn a_fork_signed_by_a_trusted_signer_is_refused() {
    let world = World::with(3);
    let mut fields = world.fields(2);
    fields["previous"] = json!(Sha256Hex::of(b"another past"));
    world.forge(&world.signer, 2, &crate::ground::json::line(&fields).expect("JSON"));
    assert!(world.refusal().contains("0000000002.json"));

    // The past rewritten: entry 2 continues entry 1, and entry 3 does not continue this entry 2.
    let world = World::with(3);
    let mut fields = world.fields(2);
    fields["time"] = json!("2026-01-01T00:00:00Z");
    world.forge(&world.signer, 2, &crate::ground::json::line(&fields).expect("JSON"));
    assert!(world.refusal().contains("0000000003.json"));
}

#[test]
fn the_end_is_compared_with_what_is_remembered() {
    let world = World::with(3);
    let (seq, digest) = world.open().expect("good").newest().expect("entries");
    assert!(world.open().expect("good").remembered(seq, &digest).is_ok());
    for suffix in [".json", ".json.minisig"] {
        world.archive.objects().remove(&format!("ledger/app/0000000003{suffix}"));
    }
    let cut = world.open().expect("the loss of the newest entry does not show by itself");
    assert_eq!(cut.remembered(seq, &digest).expect_err("lost").kind(), Kind::NotAuthentic);
    assert_eq!(cut.remembered(0, &digest).expect_err("no such number").kind(), Kind::NotAuthentic);
    let mut cut = cut;
    cut.append(&world.signer, tested(), "2026-01-01T00:00:00Z".parse().expect("a time")).expect("appended");
    assert_eq!(cut.remembered(seq, &digest).expect_err("replaced").kind(), Kind::NotAuthentic);
}

#[test]
fn an_entry_that_vanishes_while_we_look_is_noticed() {
    let world = World::with(2);
    let mut ledger = world.open().expect("good");
    world.archive.objects().clear();
    assert_eq!(ledger.read_on().expect_err("gone").kind(), Kind::NotAuthentic);
}

#[test]
fn only_trusted_signers_count_and_they_must_name_themselves() {
    let world = World::with(2);
    let stranger = Signer::generate().expect("random");
    world.forge(&stranger, 2, &world.bytes(2));
    assert!(world.refusal().contains("not trusted"));

    // A trusted signer that signs in another one's name.
    let both = Trusted::new(vec![*world.signer.public(), *stranger.public()]);
    let error = Ledger::open(&world.archive, &world.id, &world.app, &both).err().expect("refused");
    assert!(error.to_string().contains("signer"), "{error}");

    let nobody = Ledger::open(&world.archive, &world.id, &world.app, &Trusted::default()).err().expect("refused");
    assert_eq!(nobody.kind(), Kind::NotAuthentic);
    let empty = Memory::default();
    let ledger = Ledger::open(&empty, &world.id, &world.app, &world.trusted()).expect("no ledger is an empty one");
    assert_eq!(ledger.newest(), None);
    assert!(Ledger::open(&empty, &world.id, &world.app, &Trusted::default()).is_err(), "an empty list trusts nobody");
}

#[test]
fn entries_of_another_archive_app_or_number_are_refused() {
    let world = World::with(2);
    for (field, value) in
        [("seq", json!(3)), ("archive", json!("00000000-0000-4000-8000-000000000000")), ("app", json!("other"))]
    {
        let good = world.bytes(2);
        let mut fields = world.fields(2);
        fields[field] = value;
        world.forge(&world.signer, 2, &crate::ground::json::line(&fields).expect("JSON"));
        assert!(world.refusal().contains(field), "{field}");
        world.forge(&world.signer, 2, &good);
    }
    // Entry and signature moved together from one place to another.
    let (entry, minisig) = (world.bytes(1), world.archive.objects()["ledger/app/0000000001.json.minisig"].clone());
    world.put(&entry_name(&world.app, 3).expect("a name"), &entry);
    world.put(&signature_name(&world.app, 3).expect("a name"), &minisig);
    assert!(world.refusal().contains("0000000003.json"));
    let elsewhere = Uuid::new().expect("random");
    let world = World::with(1);
    assert!(Ledger::open(&world.archive, &elsewhere, &world.app, &world.trusted()).is_err());
}

#[test]
fn the_future_is_refused_and_a_clock_that_runs_backwards_is_not() {
    let world = World::with(1);
    let mut ledger = world.open().expect("good");
    let ahead = |seconds| clock::now() + jiff::SignedDuration::from_secs(seconds);
    ledger.append(&world.signer, tested(), ahead(500)).expect("ten minutes are allowed");
    ledger.append(&world.signer, tested(), "2020-01-01T00:00:00Z".parse().expect("a time")).expect("appended");
    assert!(ledger.append(&world.signer, tested(), ahead(700)).is_err());
    assert_eq!(world.open().expect("good").entries().len(), 3);

    let mut fields = world.fields(3);
    fields["time"] = json!(clock::rfc3339(ahead(700)));
    world.forge(&world.signer, 3, &crate::ground::json::line(&fields).expect("JSON"));
    assert!(world.refusal().contains("future"));
}

#[test]
fn unknown_kinds_of_events_are_kept_and_unknown_critical_fields_stop_us() {
    let world = World::with(1);
    let mut fields = world.fields(1);
    fields["seq"] = json!(2);
    fields["previous"] = json!(Sha256Hex::of(&world.bytes(1)));
    fields["event"] = json!("merger");
    fields["with"] = json!({"name": "x", "number": 3});
    world.forge(&world.signer, 2, &crate::ground::json::line(&fields).expect("JSON"));
    let mut ledger = world.open().expect("an older program reads newer ledgers");
    assert_eq!(ledger.entries()[1].event.word(), "merger");
    assert_eq!(serde_json::to_value(&ledger.entries()[1]).expect("serialized"), fields);
    assert_eq!(ledger.append(&world.signer, tested(), clock::now()).expect("appended"), 3);

    let mut fields = world.fields(3);
    fields["more"] = json!(true);
    world.forge(&world.signer, 3, &crate::ground::json::line(&fields).expect("JSON"));
    assert!(world.open().is_ok(), "a field that is not critical is passed over");
    fields["critical"] = json!(["sealing", "more"]);
    world.forge(&world.signer, 3, &crate::ground::json::line(&fields).expect("JSON"));
    let error = world.open().err().expect("refused");
    assert!(error.to_string().contains("more") && error.hints()[0].contains("newer"), "{error}");
    world.forge(&world.signer, 3, br#"{"seq":3,"seq":3}"#);
    assert_eq!(world.open().err().expect("refused").kind(), Kind::Damaged);
}

#[test]
fn two_thousand_entries_are_read_in_parallel_and_one_bad_one_is_found() {
    let world = World::new();
    let mut previous = None;
    for seq in 1..=2000 {
        let entry = Entry {
            seq,
            event: Event::Bundle(bundle(
                &format!("20260101T020000Z-{}", crate::ground::names::hex(&random::<4>().expect("random"))),
                "proved",
            )),
            time: clock::now(),
            archive: world.id.clone(),
            app: world.app.clone(),
            signer: *world.signer.public(),
            previous: previous.take(),
            digest: Sha256Hex::of(b""),
        };
        let bytes = entry.encode().expect("encoded");
        world.forge(&world.signer, seq, &bytes);
        previous = Some(Sha256Hex::of(&bytes));
    }
    let ledger = world.open().expect("good");
    assert_eq!(ledger.bundles().count(), 2000);
    assert!(ledger.entries().iter().map(|e| e.seq).eq(1..=2000));
    let mut bad = world.bytes(1234);
    bad[30] ^= 1;
    world.put(&entry_name(&world.app, 1234).expect("a name"), &bad);
    assert!(world.refusal().contains("0000001234.json"));
}

#[test]
fn apps_are_those_with_a_ledger() {
    let world = World::with(1);
    world.put(&"ledger/Not-An-App/x".parse().expect("a name"), b"x");
    assert_eq!(apps(&world.archive).expect("listed"), std::slice::from_ref(&world.app));
    let key: &PublicKey = world.signer.public();
    assert!(world.open().expect("good").entries().iter().all(|e| e.signer == *key));
}
