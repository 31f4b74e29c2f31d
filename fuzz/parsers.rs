//! Every parser of bytes that somebody else may have written, as functions that must not panic, hang, or believe too much.
//!
//! `tests/fuzz` runs them on the kept corpus and on mutations of it with a stable compiler; `fuzz/run` hands them to libFuzzer.

use std::io::{Cursor, Read as _};
use std::sync::OnceLock;

use strongroom::appkey::schemes;
use strongroom::bundle::filelist::{FileLine, SegmentLine, is_path};
use strongroom::bundle::frames::FrameReader;
use strongroom::bundle::part::PartReader;
use strongroom::bundle::{Header, PartKind, ProofReader, Sums};
use strongroom::config::Config;
use strongroom::config::profile::Profile;
use strongroom::custody::card::Card;
use strongroom::database::open_stream;
use strongroom::escrow;
use strongroom::ground::names::AppName;
use strongroom::ground::scratch::Scratch;
use strongroom::sealing::{SealingKey, stream};
use strongroom::signer::{PublicKey, Trusted};

/// A target: the folder of its corpus, and what is done with the bytes; it answers whether they were taken.
pub(crate) type Target = (&'static str, fn(&[u8]) -> bool);

/// All of them.
pub(crate) const TARGETS: [Target; 13] = [
    ("header", header),
    ("sums", sums),
    ("file-line", file_line),
    ("proof", proof),
    ("frames", frames),
    ("part", part),
    ("signature", signature),
    ("card", card),
    ("config", config),
    ("escrow-record", escrow_record),
    ("sealed", sealed),
    ("ciphertext", ciphertext),
    ("dump", dump),
];

/// More than this is never taken out of one input: it is what a parser must be able to give out piece by piece.
const MOST: u64 = 64 << 20;

fn app() -> AppName {
    "package-broker".parse().expect("a name")
}

/// A key that belongs to nobody; one a process, because making one draws random bytes.
fn key() -> &'static SealingKey {
    static KEY: OnceLock<SealingKey> = OnceLock::new();
    KEY.get_or_init(SealingKey::generate)
}

fn header(bytes: &[u8]) -> bool {
    Header::parse(bytes, "the header").is_ok()
}

fn sums(bytes: &[u8]) -> bool {
    let Ok(sums) = Sums::parse(bytes, &app(), "SHA256SUMS") else { return false };
    assert_eq!(sums.to_bytes(), bytes, "there is one way to write a list");
    true
}

fn file_line(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if let Ok(segment) = SegmentLine::parse(bytes) {
        let _ = segment.name();
    }
    let Ok(line) = FileLine::parse(bytes) else { return false };
    assert!(is_path(&line.path));
    let written = line.to_line().expect("what was read can be written");
    let again = FileLine::parse(written.strip_suffix(b"\n").unwrap_or(&written)).expect("and read again");
    assert_eq!((again.path, again.size), (line.path, line.size));
    true
}

fn proof(bytes: &[u8]) -> bool {
    ProofReader::begin(bytes).is_ok_and(|reader| reader.finish().is_ok())
}

fn frames(bytes: &[u8]) -> bool {
    let reader = FrameReader::new(bytes, "frames").expect("begun");
    std::io::copy(&mut reader.take(MOST), &mut std::io::sink()).is_ok()
}

/// A file line, a zero byte, and a part's payload: sealed here, because nobody but a holder of the recipient gets further.
fn part(bytes: &[u8]) -> bool {
    let Some(at) = bytes.iter().position(|b| *b == 0) else { return false };
    let Ok(line) = FileLine::parse(&bytes[..at]) else { return false };
    let sealed = stream::seal_bytes(key().recipient(), &bytes[at + 1..]).expect("sealed");
    let mut taken = false;
    for kind in [PartKind::Tar, PartKind::TarZst] {
        let Ok(mut reader) = PartReader::begin(Cursor::new(&sealed), kind, key(), "a part") else { continue };
        if let Some(place) = &line.place
            && reader.advance_to(place).is_err()
        {
            continue;
        }
        let mut got = 0;
        let outcome = reader.member(&line, &mut |piece| {
            got += piece.len() as u64;
            Ok(())
        });
        assert!(outcome.is_err() || got == line.size);
        taken |= outcome.is_ok();
    }
    taken
}

fn signature(bytes: &[u8]) -> bool {
    let signer: PublicKey = match PublicKey::parse_file(bytes) {
        Ok(signer) => signer,
        Err(_) => "RWS7GHDnrbhopIWOzpznjzXGh1KTAG5sg9HeoofrcsHrKcVD3enPIgdt".parse().expect("a key"),
    };
    let good = Trusted::new(vec![signer]).verify(b"a message that nobody signed", bytes, "a comment", "a signature");
    assert!(good.is_err());
    PublicKey::parse_file(bytes).is_ok()
}

fn card(bytes: &[u8]) -> bool {
    let Ok(card) = Card::parse(&String::from_utf8_lossy(bytes)) else { return false };
    Card::parse(&card.render()).expect("what is printed can be read");
    true
}

fn config(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let profile = Profile::parse(&text, "a profile").is_ok();
    Config::parse(&text, std::path::Path::new("/nowhere/strongroom.toml"), &[]).is_ok() || profile
}

fn escrow_record(bytes: &[u8]) -> bool {
    escrow::from_lines(bytes, "a record").is_ok()
}

fn sealed(bytes: &[u8]) -> bool {
    assert!(stream::open_bytes(key(), bytes, "a sealed object").is_err(), "nobody sealed it to this key");
    false
}

fn ciphertext(bytes: &[u8]) -> bool {
    let scheme = schemes::by_name("package-broker").expect("a scheme");
    // Where something does not look so it is not tried: a try costs 100,000 rounds.
    scheme.looks_like(bytes)
}

fn dump(bytes: &[u8]) -> bool {
    let scratch = Scratch::temporary().expect("a folder");
    let profile = Profile::embedded("package-broker").expect("a profile");
    let Ok(mut snapshot) = open_stream(Box::new(Cursor::new(bytes.to_vec())), "a dump", &scratch) else { return false };
    let mut seen = 0;
    let said = snapshot.credentials(&profile, None, &mut |_| {
        seen += 1;
        Ok(())
    });
    let _ = snapshot.named_objects(&profile, &mut |_| Ok(()));
    let Ok(said) = said else { return false };
    assert_eq!(said, seen, "as many as were said");
    true
}
