use super::*;
use crate::ground::names::Fingerprint;

fn key(n: u8) -> Fingerprint {
    Fingerprint::from_bytes(&[n; 16])
}

fn with_key(id: &str, verdict: &str, n: u8) -> Event {
    Event::Bundle(BundleEvent { keys: vec![key(n)], ..bundle(id, verdict) })
}

fn about(n: u8, action: &str, predecessor: Option<u8>) -> Event {
    Event::Key(KeyEvent {
        fingerprint: key(n),
        action: action.to_owned(),
        predecessor: predecessor.map(key),
        reason: predecessor.map(|_| "leaked".to_owned()),
    })
}

#[test]
fn the_life_of_keys_is_read_from_the_entries() {
    let world = World::new();
    let mut ledger = world.open().expect("empty");
    assert!(ledger.keys().is_empty());
    let mut enter = |event| ledger.append(&world.signer, event, clock::now()).expect("appended");
    enter(with_key("20261101T020000Z-aaaaaaaa", "proved", 1));
    enter(with_key("20261102T020000Z-bbbbbbbb", "wrong-key", 2));
    enter(about(3, "rotated", Some(1)));
    enter(with_key("20261103T020000Z-cccccccc", "proved", 3));
    enter(about(1, "retired", None));
    let keys = world.open().expect("good").keys();
    let states: Vec<_> = keys.iter().map(|k| (k.fingerprint.clone(), k.state, k.bundles.len())).collect();
    assert_eq!(states, [(key(1), KeyState::Retired, 1), (key(2), KeyState::Kept, 1), (key(3), KeyState::InUse, 1)]);
    assert!(keys[0].last_proved.is_some() && keys[1].last_proved.is_none());
    assert_eq!((keys[2].predecessor.clone(), keys[2].reason.as_deref()), (Some(key(1)), Some("leaked")));
}

#[test]
fn a_retired_key_that_is_used_again_is_in_use_and_a_pruned_bundle_needs_none() {
    let world = World::new();
    let mut ledger = world.open().expect("empty");
    let mut enter = |event| ledger.append(&world.signer, event, clock::now()).expect("appended");
    enter(with_key("20261101T020000Z-aaaaaaaa", "proved", 1));
    enter(about(1, "retired", None));
    enter(with_key("20261102T020000Z-bbbbbbbb", "proved", 1));
    let pruned = vec!["20261101T020000Z-aaaaaaaa".parse().expect("an id")];
    enter(Event::Prune(PruneEvent { bundles: pruned, parts: Vec::new() }));
    let keys = world.open().expect("good").keys();
    assert_eq!((keys[0].state, keys[0].bundles.len()), (KeyState::InUse, 1));
}
