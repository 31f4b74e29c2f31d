//! Bytes that were flipped, cut, swapped or added where nobody signed them anew.

use strongroom::ground::clock;
use strongroom::ground::names::{Label, SealingId};

use crate::desk::Verb;
use crate::stage::{APP, Case, Puts, SHUT, Stage, is};
use crate::tally::Tally;

const COMMENT: &str = "an untrusted comment, which minisign does not sign";
const UNREAD: &str = "the list of custodians cannot be read, and opens nothing: the signed copy in the bundle does";
const ELSE: &str = "the list of custodians names another key, and opens nothing: `custody list` refuses it";
const NEWLINE: &str = "the newline at the end of JSON whose fields are what counts";
const COPY: &str = "the signed copy in the bundle opens instead";

/// Every object of the archive that is text: read first, and read by everybody.
fn is_text(name: &str) -> bool {
    ["json", "minisig", "SHA256SUMS"].iter().any(|end| name.ends_with(end))
}

/// How long an age header is, its payload's nonce included.
fn age_header(bytes: &[u8]) -> usize {
    let mac = bytes.windows(5).position(|w| w == b"\n--- ").expect("an age header") + 1;
    mac + bytes[mac..].iter().position(|b| *b == b'\n').expect("its end") + 1 + 16
}

fn flipped(bytes: &[u8], at: usize, mask: u8) -> Vec<u8> {
    let mut other = bytes.to_vec();
    other[at] ^= mask;
    other
}

/// Why a flip at this place may be called good.
fn may(name: &str, bytes: &[u8], at: usize) -> Option<&'static str> {
    let first_line = bytes.iter().position(|b| *b == b'\n').unwrap_or(0);
    if name.ends_with(".minisig") && ("untrusted comment: ".len()..first_line).contains(&at) {
        return Some(COMMENT);
    }
    (name.starts_with("custody/") && name.ends_with("identity.age")).then_some(COPY)
}

/// Whether this is one of two objects that nobody signs: the first is repeated in all that is signed, the other carries a MAC over its
/// fields.
fn is_fields(name: &str) -> bool {
    name == "strongroom.json" || name.ends_with("custody.json")
}

/// Why `custody.json` may be like this: nobody can read it, or it is about another key, and then it is as if it were gone.
fn unread(name: &str, bytes: &[u8]) -> Option<&'static str> {
    if !name.ends_with("custody.json") {
        return None;
    }
    let fields = ["format", "sealing", "generation", "threshold", "labels", "created", "mac"];
    let json = serde_json::from_slice::<serde_json::Value>(bytes).unwrap_or_default();
    let text = |field: &str| json[field].as_str().unwrap_or_default().to_owned();
    let read = {
        let label = |label: &serde_json::Value| label.as_str().is_some_and(|l| l.parse::<Label>().is_ok());
        fields.iter().all(|field| json.get(field).is_some())
            && text("sealing").parse::<SealingId>().is_ok()
            && clock::parse_rfc3339(&text("created")).is_some()
            && json["labels"].as_array().is_some_and(|labels| labels.iter().all(label))
    };
    if !read {
        return Some(UNREAD);
    }
    (!name.contains(&format!("/{}/", text("sealing")))).then_some(ELSE)
}

/// What a reader of the newest bundle reads: not the escrow's copy of a key that the bundle holds itself, nor older bundles.
fn is_read(stage: &Stage, name: &str) -> bool {
    let bundle = name.starts_with("bundles/");
    let part = name.starts_with("parts/");
    let listed = || stage.listed().iter().any(|line| line.trim_end().ends_with(name));
    (!bundle || name.contains(stage.newest())) && (!part || listed()) && !name.starts_with("keys/")
}

/// What is asked about damage to a sealed object, whose digest is what shows it: `check` looks at that alone, and of some the whole
/// of `verify --deep` is asked, which derives a key slowly and opens everything.
fn verb(name: &str, at: usize) -> Verb {
    // A comment that nobody signed is read by `check` too, and changes nothing there either.
    let comment = name.ends_with(".minisig") && at < 80 && !at.is_multiple_of(16);
    if at.is_multiple_of(47) || (is_text(name) && !comment) { Verb::Deep } else { Verb::Check }
}

fn flips<'a>(
    stage: &'a Stage,
    wanted: &dyn Fn(&str) -> bool,
    ends: &dyn Fn(&[u8]) -> usize,
    masks: &[u8],
) -> Vec<Case<'a>> {
    let mut cases = Vec::new();
    for (name, bytes) in stage.objects.iter().filter(|(name, _)| wanted(name) && is_read(stage, name)) {
        for at in 0..ends(bytes) {
            for mask in masks {
                let mask = mask.rotate_left(u32::try_from(at % 8).expect("small"));
                let puts = move || vec![(name.clone(), Some(flipped(bytes, at, mask)))];
                let mut case = stage.case(format!("{name}: byte {at} ^ {mask:#04x}"), verb(name, at), puts);
                case.may = may(name, bytes, at).or_else(|| unread(name, &flipped(bytes, at, mask)));
                // Another number in the place of a format asks for a newer program.
                if is_fields(name) {
                    case.codes = &[1, 13, 14];
                }
                if case.may == Some(ELSE) || case.may == Some(UNREAD) {
                    let puts = move || vec![(name.clone(), Some(flipped(bytes, at, mask)))];
                    let mut listed =
                        stage.case(format!("{name}: byte {at} ^ {mask:#04x}, listed"), Verb::Custody, puts);
                    listed.codes = case.codes;
                    cases.push(listed);
                }
                cases.push(case);
            }
        }
    }
    cases
}

pub(crate) fn classes(stage: &Stage, tally: &mut Tally) {
    each_byte(stage, tally);
    cut_and_spoilt(stage, tally);
    escrowed(tally);
    swapped(stage, tally);
    digests(stage, tally);
}

fn each_byte(stage: &Stage, tally: &mut Tally) {
    let whole = |bytes: &[u8]| bytes.len();
    let each = |class: &'static str, wanted: &dyn Fn(&str) -> bool, masks: &[u8], tally: &mut Tally| {
        stage.run(tally, class, flips(stage, wanted, &whole, masks));
    };
    each("each byte of bundle.json flipped", &|n| n.ends_with("bundle.json"), &[1, 16, 96], tally);
    each("each byte of SHA256SUMS flipped", &|n| n.ends_with("SHA256SUMS"), &[1, 16, 96], tally);
    each("each byte of a bundle's signature flipped", &|n| n.ends_with("SUMS.minisig"), &[1, 32], tally);
    let entry = |name: &str| name.starts_with("ledger/");
    each("each byte of each ledger entry flipped", &|n| entry(n) && is(n, "json"), &[1], tally);
    each("each byte of each ledger signature flipped", &|n| entry(n) && is(n, "minisig"), &[1], tally);
    each("each byte of strongroom.json flipped", &|n| n == "strongroom.json", &[1, 32], tally);
    let custody = flips(stage, &|name| name.ends_with("custody.json"), &whole, &[1]);
    stage.run_slow(tally, "bytes of custody.json flipped", custody);
    let headers = flips(stage, &|name| is(name, "age"), &age_header, &[1]);
    stage.run(tally, "each byte of the age header of each kind of object flipped", headers);
}

fn cut_and_spoilt(stage: &Stage, tally: &mut Tally) {
    let (mut cuts, mut spoilt) = (Vec::new(), Vec::new());
    for (name, bytes) in stage.objects.iter().filter(|(name, _)| is_read(stage, name)) {
        let places = |most: usize| (0..bytes.len()).step_by(bytes.len().div_ceil(most).max(1));
        // Whoever cannot read the list of custodians goes on, and opens everything.
        let most = if name.ends_with("custody.json") { 10 } else { 100 };
        let last = Some(bytes.len() - 1).filter(|last| !places(most).any(|at| at == *last));
        for length in places(most).chain(last) {
            let puts = move || vec![(name.clone(), Some(bytes[..length].to_vec()))];
            let mut case = stage.case(format!("{name} cut to {length}"), verb(name, length), puts);
            case.may = may(name, bytes, bytes.len()).or_else(|| unread(name, &bytes[..length]));
            if is_fields(name) && bytes[length..] == *b"\n" {
                case.may = Some(NEWLINE);
            }
            cuts.push(case);
        }
        for more in [&b"x"[..], b"\n", &[0; 4096]] {
            let puts = move || vec![(name.clone(), Some([bytes, more].concat()))];
            let mut case = stage.case(format!("{name} with {} bytes more", more.len()), Verb::Deep, puts);
            case.may = may(name, bytes, bytes.len()).or_else(|| unread(name, &[bytes, more].concat()));
            if more == b"\n" && is_fields(name) {
                case.may = Some(NEWLINE);
            }
            cuts.push(case);
        }
        for at in places(120).filter(|_| !is_text(name)) {
            let puts = move || vec![(name.clone(), Some(flipped(bytes, at, 1 << (at % 8))))];
            let mut case = stage.case(format!("{name}: byte {at} spoilt"), verb(name, at), puts);
            case.may = may(name, bytes, at);
            spoilt.push(case);
        }
        let mut case = stage.case(format!("{name} is gone"), Verb::Deep, move || vec![(name.clone(), None)]);
        case.may = may(name, bytes, bytes.len()).or_else(|| unread(name, b""));
        case.codes = &[10, 13, 14];
        if *name == stage.last_entry().1 {
            let gone = move || vec![(name.clone(), None)];
            let mut known = stage.case(format!("{name} is gone, and a card knows it"), Verb::Deep, gone);
            known.asked.card = Some(stage.card());
            known.codes = &[14];
            cuts.push(known);
            case.may = Some(crate::chain::CUT);
        }
        cuts.push(case);
    }
    stage.run(tally, "each object cut, longer, or gone", cuts);
    stage.run(tally, "each sealed object with a byte spoilt", spoilt);
}

fn escrowed(tally: &mut Tally) {
    // Without the key in the bundle a verification needs the escrow's.
    let stage = Stage::new("[rules]\nkey_in_bundle = false");
    let mut cases = Vec::new();
    for (name, bytes) in stage.objects.iter().filter(|(name, _)| name.starts_with("keys/")) {
        for at in 0..bytes.len() {
            let puts = move || vec![(name.clone(), Some(flipped(bytes, at, 1 << (at % 8))))];
            let mut case = stage.case(format!("{name}: byte {at} flipped"), Verb::Verify, puts);
            case.may = may(name, bytes, at);
            // A record that nobody we believe signed is left alone, and then there is no key.
            case.codes = &[10, 13, 14];
            cases.push(case);
        }
        for length in (0..bytes.len()).step_by(7) {
            let puts = move || vec![(name.clone(), Some(bytes[..length].to_vec()))];
            let mut case = stage.case(format!("{name} cut to {length}"), Verb::Verify, puts);
            case.codes = &[10, 13, 14];
            cases.push(case);
        }
    }
    stage.run(tally, "an escrowed key, its record and signature, each byte flipped and cut", cases);
}

fn swapped(stage: &Stage, tally: &mut Tally) {
    let other = &Stage::new("");
    let (newest, older) = (stage.newest().to_owned(), stage.bundles[0].clone());
    let own: Vec<_> =
        stage.objects.keys().filter(|n| n.contains(&newest) || n.starts_with("parts/")).cloned().collect();
    let mut cases = Vec::new();
    for name in own.iter().filter(|name| is_read(stage, name)) {
        for (from, bytes) in stage.objects.iter().filter(|(_, bytes)| **bytes != stage.objects[name]) {
            let puts = move || vec![(name.clone(), Some(bytes.clone()))];
            cases.push(stage.case(format!("{from} in the place of {name}"), verb(name, cases.len()), puts));
        }
    }
    stage.run(tally, "an object in the place of another of the same archive", cases);

    let mut cases = Vec::new();
    for name in own.iter().filter(|name| is_read(stage, name)) {
        for (from, bytes) in &other.objects {
            let puts = move || vec![(name.clone(), Some(bytes.clone()))];
            let mut case =
                stage.case(format!("{from} of another archive in the place of {name}"), verb(name, cases.len()), puts);
            case.asked.signers.push(other.signer.public().to_string());
            cases.push(case);
        }
    }
    stage.run(tally, "an object of another archive, both signers believed", cases);

    // Whole bundles under another id, another application, another archive.
    let moved = |from: &str, to: &str| -> Puts {
        let found = stage.objects.iter().filter(|(name, _)| name.contains(from));
        found.map(|(name, bytes)| (name.replace(from, to), Some(bytes.clone()))).collect()
    };
    let mut cases = Vec::new();
    let marker = |archive: &str| {
        let text = String::from_utf8(stage.objects["strongroom.json"].clone()).expect("text");
        vec![("strongroom.json".to_owned(), Some(text.replace(&stage.archive, archive).into_bytes()))]
    };
    for verb in [Verb::List, Verb::Check, Verb::Verify, Verb::Deep, Verb::Target] {
        for (what, puts) in [
            ("an older bundle in the place of the newest", moved(&older, &newest)),
            ("another archive's name", marker(&other.archive)),
        ] {
            // What bundles there are is the ledger's word, which such a move does not touch.
            if verb != Verb::List || what.starts_with("another") {
                cases.push(stage.case(format!("{what}, {verb:?}"), verb, move || puts.clone()));
            }
        }
        let mut case = stage.case(format!("another application, {verb:?}"), verb, || moved(APP, "other-app"));
        case.asked.app = "other-app";
        cases.push(case);
    }
    stage.run(tally, "whole bundles moved to another id, application or archive", cases);
}

fn digests(stage: &Stage, tally: &mut Tally) {
    let (mut unsigned, mut signed) = (Vec::new(), Vec::new());
    for (what, list) in lists(&stage.listed()) {
        let same = list.clone();
        let puts = move || vec![(stage.object("SHA256SUMS"), Some(same.clone().into_bytes()))];
        unsigned.push(stage.case(what.clone(), Verb::Deep, puts));
        let changed = list.clone();
        let mut case = stage.case(what, Verb::Deep, move || stage.resigned_list(changed.as_bytes()));
        case.codes = SHUT;
        // One that a bundle need not have, left out by its own signer.
        let optional = |line: &String| ["config.toml.age", "identity.age"].iter().any(|n| line.contains(n));
        if stage.listed().iter().filter(|line| !list.contains(*line)).all(optional) && case.what.ends_with("missing") {
            case.may = Some("the signer's own word, for an object that no bundle must have");
        }
        signed.push(case);
    }
    stage.run(tally, "SHA256SUMS with lines of garbage, twice, or missing", unsigned);
    stage.run(tally, "SHA256SUMS with lines of garbage, twice, or missing, signed by our signer", signed);
}

/// Every way of spoiling a list that comes to mind, at every line.
fn lists(lines: &[String]) -> Vec<(String, String)> {
    let mut lists = Vec::new();
    let zeros = "0".repeat(64);
    let garbage = [
        "\n".to_owned(),
        "garbage\n".to_owned(),
        "# a comment\n".to_owned(),
        "\0\n".to_owned(),
        "\u{feff}\n".to_owned(),
        format!("{zeros}  ../../../../etc/passwd\n"),
        format!("{zeros}  /etc/passwd\n"),
        format!("{zeros}  ./bundle.json\n"),
        format!("{zeros}  bundle.json\n"),
        format!("{zeros}  nothing.age\n"),
        format!("{zeros}  ../../../parts/other-app/EF/01JDQ8ZK3V9W5X6Y7Z8A9BCDEF.tar.age\n"),
        format!("{zeros}  ../../../parts/{APP}/EF/01JDQ8ZK3V9W5X6Y7Z8A9BCDEG.tar.age\n"),
        format!("\\{zeros}  bundle.json\n"),
        format!("{zeros} *bundle.json\n"),
    ];
    for at in 0..=lines.len() {
        for extra in &garbage {
            let mut other = lines.to_vec();
            other.insert(at, extra.clone());
            lists.push((format!("{extra:?} before line {at}"), other.concat()));
        }
        for again in lines {
            let mut other = lines.to_vec();
            other.insert(at, again.clone());
            lists.push((format!("{again:?} again before line {at}"), other.concat()));
        }
    }
    for at in 0..lines.len() {
        let with = |change: &dyn Fn(&str) -> String| {
            let mut other = lines.to_vec();
            other[at] = change(&lines[at]);
            other.concat()
        };
        for (what, changed) in [
            ("one space", with(&|line| line.replacen("  ", " ", 1))),
            ("three spaces", with(&|line| line.replacen("  ", "   ", 1))),
            ("capitals", with(&|line| line[..64].to_uppercase() + &line[64..])),
            ("a carriage return", with(&|line| line.replace('\n', "\r\n"))),
            ("no newline", with(&|line| line.trim_end().to_owned())),
            ("a space at its end", with(&|line| line.replace('\n', " \n"))),
            ("a digit less", with(&|line| line[1..].to_owned())),
            ("a digit more", with(&|line| format!("0{line}"))),
            ("another digest", with(&|line| format!("{zeros}{}", &line[64..]))),
            ("another name", with(&|line| line.replace('\n', "x\n"))),
        ] {
            if changed != lines.concat() {
                lists.push((format!("line {at} with {what}"), changed));
            }
        }
        for other in at + 1..lines.len() {
            let mut swapped = lines.to_vec();
            swapped.swap(at, other);
            lists.push((format!("lines {at} and {other} swapped"), swapped.concat()));
        }
        let mut without = lines.to_vec();
        without.remove(at);
        lists.push((format!("line {at} is missing"), without.concat()));
    }
    lists
}
