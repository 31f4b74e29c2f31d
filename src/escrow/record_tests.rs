//! Records: what is written, what is read back, what is refused.

use super::super::conformance::{record, signer};
use super::*;
use crate::ground::Kind;

#[test]
fn a_record_keeps_the_keys_exact_bytes_and_all_it_says() {
    let key = SealingKey::generate();
    let mut made = record(1);
    made.predecessor = Some(Fingerprint::from_bytes(&[9; 16]));
    made.reason = Some("a \"leak\"\n".to_owned());
    let read = open_record(&key, &seal_record(&made, key.recipient()).expect("sealed")).expect("opened");
    assert_eq!(read.key, made.key);
    assert_eq!((&read.scheme, &read.source, &read.app), (&made.scheme, &made.source, &made.app));
    assert_eq!((&read.predecessor, &read.reason), (&made.predecessor, &made.reason));
    assert_eq!((read.created, &read.fingerprint), (made.created, &made.fingerprint));
    let sealed = seal_record(&made, key.recipient()).expect("sealed");
    assert_eq!(open_record(&SealingKey::generate(), &sealed).err().expect("another's").kind(), Kind::Sealed);
}

#[test]
fn several_records_are_lines_and_written_in_one_allocation() {
    let (one, two) = (record(1), record(2));
    let lines = to_lines([&one, &two]).expect("lines");
    assert!(lines.len() <= one.room() + two.room() + 2);
    let read = from_lines(&lines, "a test").expect("read");
    assert_eq!(read.len(), 2);
    assert_eq!(read[1].fingerprint, two.fingerprint);
    assert_eq!(std::str::from_utf8(&lines).expect("text").lines().count(), 2);
}

#[test]
fn the_bound_on_a_lines_length_holds_for_what_json_escapes() {
    let mut worst = record(1);
    worst.reason = Some("\u{1}".repeat(500));
    worst.source = "\u{7f}\"\\".repeat(100);
    assert!(to_lines([&worst]).expect("a line").len() <= worst.room() + 1);
}

#[test]
fn a_bad_record_is_damage_that_shows_no_value() {
    let line = String::from_utf8(to_lines([&record(1)]).expect("a line").to_vec()).expect("text");
    let key = STANDARD.encode(&*record(1).key);
    for (from, to) in [
        (key.as_str(), "not base64!"),
        (key.as_str(), ""),
        (r#""key_b64":"#, r#""key_b64":1,"x":"#),
        (r#""scheme":"#, r#""scheme":5,"secretive":"#),
        (r#""created":"20"#, r#""created":"9"#),
        ("{", r#"{"app":"a","#),
    ] {
        let error = from_lines(line.replacen(from, to, 1).as_bytes(), "a test").err().expect("refused");
        assert_eq!(error.kind(), Kind::Damaged);
        assert!(!error.chain().contains(&key) && !error.chain().contains("package"), "{}", error.chain());
    }
}

#[test]
fn keys_and_texts_have_bounds() {
    let mut empty = record(1);
    empty.key = Zeroizing::new(Vec::new());
    let mut large = record(1);
    large.key = Zeroizing::new(vec![0; KEY_LIMIT + 1]);
    let mut wordy = record(1);
    wordy.reason = Some("x".repeat(TEXT_LIMIT + 1));
    for bad in [empty, large, wordy] {
        assert_eq!(to_lines([&bad]).expect_err("refused").kind(), Kind::Refused);
    }
    let mut largest = record(1);
    largest.key = Zeroizing::new(vec![0; KEY_LIMIT]);
    let sealed = seal_record(&largest, SealingKey::generate().recipient()).expect("sealed");
    assert!((sealed.len() as u64) < SEALED_LIMIT);
}

#[test]
fn the_trusted_comment_is_what_the_format_says() {
    let (signer, trusted) = signer();
    let key = SealingKey::generate();
    let prepared = prepare(&record(1), key.recipient(), &signer).expect("prepared");
    let comment = format!(
        "strongroom escrow v1 app=package-broker fingerprint={} sealing={} sha256={}",
        "01".repeat(16),
        key.id(),
        Sha256Hex::of(&prepared.sealed)
    );
    let message = prepared.public.to_bytes().expect("bytes");
    trusted.verify(&message, &prepared.minisig, &comment, "a test").expect("it verifies");
}
