//! What every archive promises, checked; each implementation's tests run all of it.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Archive;
use crate::ground::Kind;
use crate::ground::names::ObjectName;

fn name(text: &str) -> ObjectName {
    text.parse().expect("a name")
}

/// Runs the suite; `make` gives a new empty archive each time.
pub(crate) fn run(make: &dyn Fn() -> Box<dyn Archive>) {
    whole_or_not_at_all(&*make());
    created_once(&*make());
    one_of_many_is_first(&*make());
    read_whole_and_anywhere(&*make());
    limits(&*make());
    listed_in_order(&*make());
    replaced_and_removed(&*make());
    held(&*make());
    established_once(&*make());
}

fn whole_or_not_at_all(archive: &dyn Archive) {
    let object = name("bundles/app/x");
    let mut new = archive.create(&object).expect("begun");
    new.write_all(b"half").expect("written");
    new.flush().expect("flushed");
    assert_eq!(archive.length(&object).expect("looked"), None, "nobody sees half of one");
    assert!(archive.list(&name("bundles")).expect("listed").is_empty());
    assert!(archive.children(&name("bundles/app")).expect("listed").is_empty());
    drop(new);
    assert_eq!(archive.open(&object).err().expect("absent").kind(), Kind::NotFound);
    assert_eq!(archive.get(&object, 9).expect_err("absent").kind(), Kind::NotFound);
    assert!(archive.put_new(&object, b"whole").expect("a name that was given up is free"));
}

fn created_once(archive: &dyn Archive) {
    let object = name("a/b");
    let mut late = archive.create(&object).expect("begun");
    late.write_all(b"late").expect("written");
    assert!(archive.put_new(&object, b"first").expect("written"));
    assert!(!archive.put_new(&object, b"second").expect("answered"));
    assert!(!late.commit().expect("answered"));
    assert_eq!(archive.get(&object, 99).expect("read"), b"first");
    assert_eq!(archive.list(&name("a")).expect("listed").len(), 1, "the losers leave nothing");
}

fn one_of_many_is_first(archive: &dyn Archive) {
    let object = name("ledger/app/0000000001.json");
    let first = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for writer in 0..8_u8 {
            let (first, object) = (&first, &object);
            scope.spawn(move || {
                if archive.put_new(object, &[writer; 100]).expect("answered") {
                    first.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(first.into_inner(), 1);
    let bytes = archive.get(&object, 100).expect("read");
    assert_eq!(bytes, [bytes[0]; 100]);
}

fn read_whole_and_anywhere(archive: &dyn Archive) {
    let object = name("parts/app/ZZ/big");
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| u8::try_from(i % 251).expect("small")).collect();
    let mut new = archive.create(&object).expect("begun");
    for chunk in bytes.chunks(70_001) {
        new.write_all(chunk).expect("written");
    }
    assert!(new.commit().expect("committed"));
    assert_eq!(archive.length(&object).expect("looked"), Some(300_000));
    let mut open = archive.open(&object).expect("opened");
    assert_eq!(open.length(), 300_000);
    let mut tail = Vec::new();
    open.seek(SeekFrom::End(-5)).expect("sought");
    open.read_to_end(&mut tail).expect("read");
    assert_eq!(tail, &bytes[299_995..]);
    let mut all = Vec::new();
    open.again().expect("opened").seek(SeekFrom::Start(3)).expect("sought");
    open.seek(SeekFrom::Start(0)).expect("sought");
    open.read_to_end(&mut all).expect("read");
    assert!(all == bytes);
    assert!(archive.put_new(&name("empty"), b"").expect("written"));
    assert!(archive.get(&name("empty"), 0).expect("read").is_empty());
    assert_eq!(archive.length(&name("empty")).expect("looked"), Some(0));
}

fn limits(archive: &dyn Archive) {
    archive.put_new(&name("a"), b"12345").expect("written");
    assert_eq!(archive.get(&name("a"), 5).expect("read"), b"12345");
    assert_eq!(archive.get(&name("a"), 4).expect_err("too long").kind(), Kind::Damaged);
}

fn listed_in_order(archive: &dyn Archive) {
    let names = ["x/a-b", "x/a.b", "x/a/b", "x/a/c/d", "x/a0", "x/aa", "x/B", "xy/z", "w"];
    for object in names {
        archive.put_new(&name(object), object.as_bytes()).expect("written");
    }
    let listed = archive.list(&name("x")).expect("listed");
    let found: Vec<&str> = listed.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(found, ["x/B", "x/a-b", "x/a.b", "x/a/b", "x/a/c/d", "x/a0", "x/aa"], "by raw bytes of the name");
    assert!(listed.iter().all(|l| l.length == l.name.as_str().len() as u64));
    assert_eq!(archive.children(&name("x")).expect("listed"), ["B", "a", "a-b", "a.b", "a0", "aa"]);
    assert!(archive.list(&name("nothing")).expect("listed").is_empty());
    assert!(archive.children(&name("nothing/here")).expect("listed").is_empty());
}

fn replaced_and_removed(archive: &dyn Archive) {
    let object = name("custody/x/custody.json");
    archive.replace(&object, b"1").expect("created");
    archive.replace(&object, b"22").expect("replaced");
    assert_eq!(archive.get(&object, 9).expect("read"), b"22");
    archive.remove(&object).expect("removed");
    archive.remove(&object).expect("gone already is no error");
    archive.remove(&name("never/was")).expect("gone already is no error");
    assert_eq!(archive.length(&object).expect("looked"), None);
    assert!(archive.put_new(&object, b"3").expect("a removed name is free"));
}

fn held(archive: &dyn Archive) {
    let lock = name("ledger/app/.lock");
    drop(archive.hold(&lock).expect("held"));
    let _held = archive.hold(&lock).expect("free again");
    assert!(archive.list(&name("ledger")).expect("listed").is_empty(), "a lock is no object");
    assert!(archive.children(&name("ledger/app")).expect("listed").is_empty(), "a lock is no object");
}

fn established_once(archive: &dyn Archive) {
    let error = super::identify(archive).expect_err("an empty place is no archive");
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().starts_with("no archive at"));
    let uuid = super::establish(archive).expect("established");
    assert_eq!(super::establish(archive).expect("established before"), uuid);
    assert_eq!(super::identify(archive).expect("identified"), uuid);
}
