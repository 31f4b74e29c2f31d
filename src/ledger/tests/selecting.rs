use super::*;

#[test]
fn selectors_find_by_id_beginning_and_seq() {
    let world = World::new();
    let mut ledger = world.open().expect("empty");
    assert_eq!(ledger.find(&Selector::Latest).expect_err("none").kind(), Kind::NotFound);
    let (first, second, third) =
        ("20261101T020000Z-aaaaaaaa", "20261001T020000Z-bbbbbbbb", "20261102T020000Z-cccccccc");
    for (id, verdict) in [(first, "proved"), (third, "proved"), (second, "wrong-key")] {
        ledger.append(&world.signer, Event::Bundle(bundle(id, verdict)), clock::now()).expect("appended");
    }
    let twice = ledger.append(&world.signer, Event::Bundle(bundle(first, "proved")), clock::now());
    assert_eq!(twice.expect_err("refused").kind(), Kind::Failed);
    let find = |ledger: &Ledger<'_>, text: &str| {
        ledger.find(&select(text)).map(|b| b.bundle.to_string()).map_err(|e| e.kind())
    };
    assert_eq!(find(&ledger, "latest").expect("found"), second, "by seq, not by the time in the name");
    assert_eq!(find(&ledger, "latest-proved").expect("found"), third);
    assert_eq!(find(&ledger, first).expect("found"), first);
    assert_eq!(find(&ledger, "20261001").expect("found"), second);
    assert_eq!(find(&ledger, "202611"), Err(Kind::Usage));
    assert_eq!(find(&ledger, "2025"), Err(Kind::NotFound));
    for bad in ["", "x", "../x", "LATEST", "latest ", "-", &"2".repeat(30)] {
        assert_eq!(bad.parse::<Selector>().expect_err("refused").kind(), Kind::NotFound, "{bad}");
    }

    let prune = PruneEvent { bundles: vec![third.parse().expect("an id")], parts: Vec::new() };
    ledger.append(&world.signer, Event::Prune(prune), clock::now()).expect("appended");
    for ledger in [ledger, world.open().expect("good")] {
        assert_eq!(find(&ledger, third), Err(Kind::NotFound));
        assert_eq!(find(&ledger, "latest-proved").expect("found"), first);
        assert_eq!(ledger.bundles().map(|b| b.seq).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(ledger.pruned().len(), 1);
    }
}

#[test]
fn a_bundle_is_confirmed_by_the_deep_verification_of_another_signer_only() {
    let world = World::new();
    let other = Signer::generate().expect("random");
    let trusted = Trusted::new(vec![*world.signer.public(), *other.public()]);
    let mut ledger = Ledger::open(&world.archive, &world.id, &world.app, &trusted).expect("empty");
    let facts = bundle("20261101T020000Z-aaaaaaaa", "proved");
    let id = facts.bundle.clone();
    let good = VerificationEvent {
        bundle: id.clone(),
        sums: facts.sums.clone(),
        verdict: "proved".into(),
        deep: true,
        fingerprint: None,
    };
    ledger.append(&world.signer, Event::Bundle(facts), clock::now()).expect("appended");
    let not_enough = [
        (&world.signer, good.clone()),
        (&other, VerificationEvent { deep: false, ..good.clone() }),
        (&other, VerificationEvent { verdict: "mixed".into(), ..good.clone() }),
        (&other, VerificationEvent { sums: Sha256Hex::of(b"other"), ..good.clone() }),
    ];
    for (signer, event) in not_enough {
        ledger.append(signer, Event::Verification(event), clock::now()).expect("appended");
        assert!(!ledger.confirmed(&id));
    }
    ledger.append(&other, Event::Verification(good), clock::now()).expect("appended");
    assert!(ledger.confirmed(&id));
    assert!(Ledger::open(&world.archive, &world.id, &world.app, &trusted).expect("good").confirmed(&id));
}

#[test]
fn a_bundle_entered_twice_or_from_the_future_is_refused() {
    let world = World::new();
    let mut ledger = world.open().expect("empty");
    let facts = bundle("20261101T020000Z-aaaaaaaa", "proved");
    ledger.append(&world.signer, Event::Bundle(facts), clock::now()).expect("appended");
    let mut fields = world.fields(1);
    fields["seq"] = json!(2);
    fields["previous"] = json!(Sha256Hex::of(&world.bytes(1)));
    world.forge(&world.signer, 2, &crate::ground::json::line(&fields).expect("JSON"));
    assert!(world.refusal().contains("both commit"));
    fields["bundle"] = json!("20991101T020000Z-aaaaaaaa");
    world.forge(&world.signer, 2, &crate::ground::json::line(&fields).expect("JSON"));
    assert!(world.refusal().contains("future"));
}
