use std::collections::BTreeMap;
use std::sync::Mutex;

use super::super::conformance::{record, signer};
use super::super::{Prepared, prepare};
use super::*;
use crate::sealing::SealingKey;

/// What is done just before a write of a name that ends so.
type Meanwhile = (&'static str, Box<dyn Fn(&Scripted) + Send + Sync>);

/// A place in memory that pauses for nobody, can deny rights, and lets others act between two writes.
#[derive(Default)]
struct Scripted {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    may_not_read: Option<&'static str>,
    may_not_replace: bool,
    /// The number of writes after which the process is killed.
    dies_after: Option<usize>,
    writes: Mutex<usize>,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl Scripted {
    fn denied<T>(what: &str) -> Result<T> {
        Err(Error::io(what, std::path::Path::new("x"), std::io::ErrorKind::PermissionDenied.into()))
    }

    fn writes(&self, name: &ObjectName) -> Result<()> {
        let mut next = self.meanwhile.lock().expect("not poisoned");
        if next.as_ref().is_some_and(|(end, _)| name.as_str().ends_with(end)) {
            let (_, act) = next.take().expect("just seen");
            drop(next);
            act(self);
        }
        let mut writes = self.writes.lock().expect("not poisoned");
        if self.dies_after.is_some_and(|most| *writes >= most) {
            return Err(Error::failed("killed"));
        }
        *writes += 1;
        Ok(())
    }

    fn set(&self, name: &str, bytes: &[u8]) {
        self.objects.lock().expect("not poisoned").insert(name.to_owned(), bytes.to_vec());
    }

    fn ending(&self, end: &str) -> Option<Vec<u8>> {
        let objects = self.objects.lock().expect("not poisoned");
        objects.iter().find(|(name, _)| name.ends_with(end)).map(|(_, bytes)| bytes.clone())
    }
}

impl Place for Scripted {
    fn describe(&self) -> String {
        "a test".to_owned()
    }
    fn get(&self, name: &ObjectName, _: u64) -> Result<Vec<u8>> {
        if self.may_not_read.is_some_and(|end| name.as_str().ends_with(end)) {
            return Self::denied("read");
        }
        let objects = self.objects.lock().expect("not poisoned");
        objects.get(name.as_str()).cloned().ok_or_else(|| Error::not_found(format!("no {name}")))
    }
    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<bool> {
        self.writes(name)?;
        if self.objects.lock().expect("not poisoned").contains_key(name.as_str()) {
            return Ok(false);
        }
        self.set(name.as_str(), bytes);
        Ok(true)
    }
    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        if self.may_not_replace {
            return Self::denied("replace");
        }
        self.writes(name)?;
        self.set(name.as_str(), bytes);
        Ok(())
    }
    fn remove(&self, name: &ObjectName) -> Result<()> {
        self.writes(name)?;
        self.objects.lock().expect("not poisoned").remove(name.as_str());
        Ok(())
    }
    fn list(&self, _: &ObjectName) -> Result<Vec<ObjectName>> {
        Ok(Vec::new())
    }
    fn hold(&self, _: &ObjectName) -> Result<Box<dyn Send>> {
        Ok(Box::new(()))
    }
    fn pause(&self) -> Duration {
        Duration::ZERO
    }
}

struct Scene {
    key: SealingKey,
    signer: crate::signer::Signer,
    trusted: Trusted,
}

impl Scene {
    fn new() -> Self {
        let (signer, trusted) = signer();
        Self { key: SealingKey::generate(), signer, trusted }
    }

    fn prepared(&self) -> Prepared {
        prepare(&record(1), self.key.recipient(), &self.signer).expect("prepared")
    }

    fn deposit(&self, place: &Scripted, deposit: &Prepared) -> Result<Deposit> {
        place.deposit(&deposit.sealed, &deposit.public, &deposit.minisig, &self.trusted)
    }

    fn has(&self, place: &Scripted) -> Result<Option<PublicRecord>> {
        let record = record(1);
        place.has(&record.app, &record.fingerprint, self.key.id(), &self.trusted)
    }

    fn name(&self, end: &str) -> String {
        let record = record(1);
        format!("keys/{}/{}/{}{end}", record.app, record.fingerprint, self.key.id())
    }
}

#[test]
fn a_deposit_killed_anywhere_is_no_deposit_and_the_next_run_finishes_it() {
    let scene = Scene::new();
    for writes in 0..3 {
        let place = Scripted { dies_after: Some(writes), ..Scripted::default() };
        scene.deposit(&place, &scene.prepared()).expect_err("killed");
        assert_eq!(scene.has(&place).expect("looked"), None, "after {writes} writes");
        let place = Scripted { objects: place.objects, ..Scripted::default() };
        let next = scene.prepared();
        assert_eq!(scene.deposit(&place, &next).expect("finished"), Deposit::Stored);
        assert_eq!(scene.has(&place).expect("looked"), Some(next.public));
    }
}

#[test]
fn a_repair_killed_anywhere_leaves_no_lie_and_can_be_repeated() {
    let scene = Scene::new();
    for writes in 0..4 {
        let place = Scripted::default();
        scene.deposit(&place, &scene.prepared()).expect("stored");
        let place = Scripted { objects: place.objects, dies_after: Some(writes), ..Scripted::default() };
        let next = scene.prepared();
        let repair = |place: &Scripted| place.repair(&next.sealed, &next.public, &next.minisig, &scene.trusted);
        repair(&place).expect_err("killed");
        let seen = scene.has(&place).expect("whatever is there is consistent");
        assert_eq!(seen.is_some(), writes == 0, "after {writes} writes");
        let place = Scripted { objects: place.objects, ..Scripted::default() };
        repair(&place).expect("repaired");
        assert_eq!(scene.has(&place).expect("looked"), Some(next.public.clone()));
    }
}

#[test]
fn write_only_rights_suffice() {
    let scene = Scene::new();
    let place = Scripted { may_not_read: Some(".age"), may_not_replace: true, ..Scripted::default() };
    let deposit = scene.prepared();
    assert_eq!(scene.deposit(&place, &deposit).expect("stored"), Deposit::Stored);
    assert_eq!(scene.deposit(&place, &scene.prepared()).expect("there"), Deposit::Already);
    assert_eq!(scene.has(&place).expect("looked"), Some(deposit.public));
}

#[test]
fn an_unvouched_object_that_may_not_be_replaced_is_not_authentic() {
    let scene = Scene::new();
    for end in [".age", ".json.minisig"] {
        let place = Scripted { may_not_replace: true, ..Scripted::default() };
        place.set(&scene.name(end), b"planted");
        let error = scene.deposit(&place, &scene.prepared()).expect_err("taken");
        assert_eq!(error.kind(), Kind::NotAuthentic, "{}", error.chain());
        assert!(error.hints()[0].contains("remove it"), "{:?}", error.hints());
        assert_eq!(place.ending(end).expect("left alone"), b"planted");
        assert_eq!(scene.has(&place).expect("looked"), None);
    }
}

#[test]
fn a_public_record_without_a_good_signature_takes_the_place() {
    let scene = Scene::new();
    let ours = scene.prepared();
    let json = ours.public.to_bytes().expect("bytes");
    let (mallory, _) = signer();
    let forged = mallory.sign(&json, &ours.public.trusted_comment()).expect("signed");
    let of_another = prepare(&record(2), scene.key.recipient(), &scene.signer).expect("prepared");
    let nonsense = b"{\"app\":1}".to_vec();
    for (json, minisig) in [
        (json.clone(), None),
        (json.clone(), Some(forged)),
        (json, Some(b"nonsense".to_vec())),
        (of_another.public.to_bytes().expect("bytes"), Some(of_another.minisig)),
        (nonsense, Some(ours.minisig.clone())),
    ] {
        let place = Scripted::default();
        place.set(&scene.name(".json"), &json);
        if let Some(minisig) = minisig {
            place.set(&scene.name(".json.minisig"), &minisig);
        }
        for error in [scene.has(&place).expect_err("taken"), scene.deposit(&place, &ours).expect_err("taken")] {
            assert_eq!(error.kind(), Kind::NotAuthentic, "{}", error.chain());
        }
        assert_eq!(place.ending(".json").expect("left alone"), json);
        assert_eq!(place.ending(".age"), None);
    }
}

#[test]
fn sealed_bytes_that_changed_or_went_are_noticed_where_they_can_be_read() {
    let scene = Scene::new();
    let place = Scripted::default();
    let deposit = scene.prepared();
    scene.deposit(&place, &deposit).expect("stored");
    place.set(&scene.name(".age"), &scene.prepared().sealed);
    assert_eq!(scene.has(&place).expect_err("another").kind(), Kind::NotAuthentic);
    assert_eq!(scene.deposit(&place, &deposit).expect_err("another").kind(), Kind::NotAuthentic);
    place.objects.lock().expect("not poisoned").remove(&scene.name(".age"));
    assert_eq!(scene.has(&place).expect_err("gone").kind(), Kind::Damaged);
    place.repair(&deposit.sealed, &deposit.public, &deposit.minisig, &scene.trusted).expect("repaired");
    assert_eq!(scene.has(&place).expect("looked"), Some(deposit.public));
}

#[test]
fn two_runs_at_once_end_with_one_whole_deposit() {
    // The other run's writes fall before each of ours in turn: whole, or its last one only.
    for (before, theirs) in [
        (".age", &[".age", ".json.minisig", ".json"][..]),
        (".json.minisig", &[".age", ".json.minisig", ".json"]),
        (".json.minisig", &[".json.minisig", ".json"]),
        (".json", &[".age", ".json.minisig", ".json"]),
        (".json", &[".json"]),
    ] {
        for half_there in [&[][..], &[".age"], &[".age", ".json.minisig"]] {
            let scene = Scene::new();
            let (ours, other) = (scene.prepared(), scene.prepared());
            let bytes = |end: &str| match end {
                ".age" => other.sealed.clone(),
                ".json" => other.public.to_bytes().expect("bytes"),
                _ => other.minisig.clone(),
            };
            // Another run creates its record only after the two below it.
            let whole = half_there.len() + theirs.len() >= 3;
            if !whole {
                continue;
            }
            let place = Scripted::default();
            for end in half_there {
                place.set(&scene.name(end), &bytes(end));
            }
            let writes: Vec<_> = theirs.iter().map(|end| (scene.name(end), bytes(end))).collect();
            let act = move |place: &Scripted| writes.iter().for_each(|(name, bytes)| place.set(name, bytes));
            *place.meanwhile.lock().expect("not poisoned") = Some((before, Box::new(act)));
            let outcome = scene.deposit(&place, &ours);
            assert_eq!(outcome.expect("one of them is there"), Deposit::Already, "{before} {theirs:?} {half_there:?}");
            assert_eq!(
                scene.has(&place).expect("whole"),
                Some(other.public.clone()),
                "{before} {theirs:?} {half_there:?}"
            );
        }
    }
}

#[test]
fn the_run_whose_record_stands_puts_its_own_bytes_under_it() {
    let scene = Scene::new();
    let (ours, other) = (scene.prepared(), scene.prepared());
    let place = Scripted::default();
    let writes = [(scene.name(".age"), other.sealed.clone()), (scene.name(".json.minisig"), other.minisig.clone())];
    let act = move |place: &Scripted| writes.iter().for_each(|(name, bytes)| place.set(name, bytes));
    *place.meanwhile.lock().expect("not poisoned") = Some((".json", Box::new(act)));
    assert_eq!(scene.deposit(&place, &ours).expect("stored"), Deposit::Stored);
    assert_eq!(scene.has(&place).expect("whole"), Some(ours.public));
    assert_eq!(place.ending(".age").expect("there"), ours.sealed);
}
