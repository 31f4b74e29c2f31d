//! Ledgers with gaps, forks and replays, times that cannot be, and archives that somebody else made for our custodians.

use strongroom::signer::Signer;

use crate::desk::Verb;
use crate::signed::sealed_to;
use crate::stage::{APP, Case, Puts, Stage, identity};
use crate::tally::Tally;
use crate::world::{IDENTITY, INIT, World};

const OTHER_CUSTODY: &str = "only custody and escrow are a stranger's; the bundle's own signed copies are used";

/// What cutting the ledger's end leaves is a ledger of its own (docs/threat-model.md, "Who owns the archive").
pub(crate) const CUT: &str =
    "the newest entries are gone, which only a card or a host's own memory shows: an older bundle is the latest";

const PARTS: &str =
    "the parts are a stranger's, which `verify` does not read; `check`, `verify --deep` and a restore do";

const VERBS: [Verb; 5] = [Verb::List, Verb::Check, Verb::Verify, Verb::Deep, Verb::Target];

fn entry(seq: u64) -> String {
    format!("ledger/{APP}/{seq:010}.json")
}

impl Stage {
    /// The same change, asked about with each verb.
    fn all_verbs(&self, what: &str, puts: &Puts, cases: &mut Vec<Case<'_>>) {
        for verb in VERBS {
            let puts = puts.clone();
            cases.push(self.case(format!("{what}, {verb:?}"), verb, move || puts.clone()));
        }
    }

    fn pair(&self, seq: u64) -> [(String, Vec<u8>); 2] {
        ["", ".minisig"].map(|end| {
            let name = entry(seq) + end;
            let bytes = self.objects[&name].clone();
            (name, bytes)
        })
    }

    /// An entry's text, signed as that number by our signer.
    fn signed_entry(&self, seq: u64, text: &str) -> Puts {
        let comment = format!("strongroom ledger v1 archive={} app={APP} seq={seq}", self.archive);
        let signature = self.signer.sign(text.as_bytes(), &comment).expect("signed");
        vec![(entry(seq), Some(text.as_bytes().to_vec())), (entry(seq) + ".minisig", Some(signature))]
    }
}

pub(crate) fn classes(stage: &Stage, tally: &mut Tally) {
    entries(stage, tally);
    times(stage, tally);
    strangers(stage, tally);
}

fn entries(stage: &Stage, tally: &mut Tally) {
    let (newest, _) = stage.last_entry();
    assert!(newest >= 3);
    let card = stage.card();
    let mut gaps = Vec::new();
    // Every set of entries and signatures that is missing.
    for without in 1..(1_u32 << (2 * newest)) {
        let puts: Puts = (0..2 * newest)
            .filter(|n| without & (1 << n) != 0)
            .map(|n| (entry(n / 2 + 1) + if n % 2 == 0 { "" } else { ".minisig" }, None))
            .collect();
        // What is left is a ledger of its own when entries are missing from some number on, with or without their signatures,
        // at most one of which may be there without its entry. Only a card remembers more.
        let left = (1..=newest).take_while(|seq| without & (1 << (2 * (seq - 1))) == 0).count() as u64;
        let later = (left + 1..=newest).all(|seq| without & (1 << (2 * (seq - 1))) != 0);
        let signed = (1..=left).all(|seq| without & (1 << (2 * (seq - 1) + 1)) == 0);
        let stray = (left + 2..=newest).any(|seq| without & (1 << (2 * (seq - 1) + 1)) == 0);
        let cut = later && signed && !stray;
        let same = puts.clone();
        let mut case = stage.case(format!("without {without:b}"), Verb::Deep, move || same.clone());
        case.asked.card = Some(card.clone());
        case.codes = &[14];
        if cut {
            let mut blind = stage.case(format!("cut to {left}, no card"), Verb::Deep, move || puts.clone());
            blind.codes = &[10];
            blind.may = Some(CUT);
            gaps.push(blind);
        }
        gaps.push(case);
    }
    stage.run(tally, "a ledger with entries or signatures missing", gaps);

    let mut others = Vec::new();
    let text = |seq: u64| String::from_utf8(stage.objects[&entry(seq)].clone()).expect("text");
    for to in 1..=newest + 2 {
        for from in (1..=newest).filter(|from| *from != to) {
            let [(_, bytes), (_, signature)] = stage.pair(from);
            let puts = vec![(entry(to), Some(bytes)), (entry(to) + ".minisig", Some(signature))];
            stage.all_verbs(&format!("entry {from} again as {to}"), &puts, &mut others);
            stage.all_verbs(
                &format!("entry {from} signed again as {to}"),
                &stage.signed_entry(to, &text(from)),
                &mut others,
            );
            let renumbered = text(from).replace(&format!("\"seq\":{from}"), &format!("\"seq\":{to}"));
            assert_ne!(renumbered, text(from));
            let puts = stage.signed_entry(to, &renumbered);
            stage.all_verbs(&format!("entry {from} renumbered and signed as {to}"), &puts, &mut others);
        }
    }
    // An entry that our own signer signed for another archive, another application, or nowhere.
    for (what, from, into) in [
        ("archive", stage.archive.as_str(), "00000000-0000-4000-8000-000000000000"),
        ("app", APP, "other-app"),
        ("previous", "\"previous\"", "\"precious\""),
    ] {
        for seq in 1..=newest {
            let changed = text(seq).replace(from, into);
            if changed != text(seq) {
                let puts = stage.signed_entry(seq, &changed);
                stage.all_verbs(&format!("entry {seq} with another {what}, signed"), &puts, &mut others);
            }
        }
    }
    for stray in
        ["x.json", "0000000000.json", "1.json", "0000000001.JSON", "0000000001.json.bak", "sub/0000000009.json"]
    {
        let puts = vec![(format!("ledger/{APP}/{stray}"), Some(stage.objects[&entry(1)].clone()))];
        stage.all_verbs(&format!("{stray} in the ledger"), &puts, &mut others);
    }
    // Two branches of one ledger, both signed by us.
    let fork = World::copy(&stage.world);
    fork.app.store("private/other.zip", b"another branch");
    fork.backup(0);
    fork.backup(0);
    let fork = Stage::over(fork, stage.bundles.clone());
    for seq in newest + 1..=fork.last_entry().0 {
        let puts: Puts = fork.pair(seq).into_iter().map(|(name, bytes)| (name, Some(bytes))).collect();
        if seq > newest + 1 {
            stage.all_verbs(&format!("entry {seq} of another branch"), &puts, &mut others);
        }
    }
    for case in &mut others {
        case.codes = &[13, 14];
    }
    stage.run(tally, "a ledger with replayed, forked, renumbered or foreign entries", others);
}

fn times(stage: &Stage, tally: &mut Tally) {
    let (newest, _) = stage.last_entry();
    let mut cases = Vec::new();
    let year = &stage.newest()[..4];
    let later = |years: i32| format!("{:04}", year.parse::<i32>().expect("a year") + years);
    let header = String::from_utf8(stage.objects[&stage.object("bundle.json")].clone()).expect("text");
    let created = header.find("\"created\": \"").expect("a time") + 12;
    for years in [1, 10, 1000, 7000] {
        for seq in 1..=newest {
            let text = String::from_utf8(stage.objects[&entry(seq)].clone()).expect("text");
            let at = text.find("\"time\"").expect("a time");
            let at = at + text[at..].find("20").expect("a year");
            let text = format!("{}{}{}", &text[..at], later(years), &text[at + 4..]);
            stage.all_verbs(&format!("entry {seq} in {years} years"), &stage.signed_entry(seq, &text), &mut cases);
        }
        let mut header = header.clone();
        header.replace_range(created..created + 4, &later(years));
        let puts = stage.resigned(&[("bundle.json", header.into_bytes())]);
        for verb in VERBS.into_iter().filter(|verb| *verb != Verb::List) {
            let puts = puts.clone();
            cases.push(stage.case(format!("a bundle made in {years} years, {verb:?}"), verb, move || puts.clone()));
        }
    }
    // Re-dated: the older bundle under a newer name, or the newest under an older one, each without our signature.
    for (from, to) in [(0, "2099"), (0, "2020"), (1, "2099"), (1, "2020")] {
        let id = &stage.bundles[from];
        let other = format!("{to}{}", &id[4..]);
        let mut puts = Puts::new();
        for (name, bytes) in stage.objects.iter().filter(|(name, _)| name.contains(id.as_str())) {
            puts.push((name.clone(), None));
            puts.push((name.replace(id.as_str(), &other), Some(bytes.clone())));
        }
        for seq in 1..=newest {
            let text = String::from_utf8(stage.objects[&entry(seq)].clone()).expect("text");
            if text.contains(id.as_str()) {
                puts.push((entry(seq), Some(text.replace(id.as_str(), &other).into_bytes())));
            }
        }
        stage.all_verbs(&format!("bundle {from} re-dated to {to}"), &puts, &mut cases);
    }
    for text in ["", "yesterday", "2026-11-23", "2026-11-23T02:00:00+00:00", "2026-13-23T02:00:00Z", "9999999999"] {
        let mut header = header.clone();
        header.replace_range(created..created + 20, text);
        let puts = stage.resigned(&[("bundle.json", header.into_bytes())]);
        cases.push(stage.case(format!("a bundle made at {text:?}"), Verb::Deep, move || puts.clone()));
    }
    stage.run(tally, "times in the future, times that are none, and a re-dated latest", cases);
}

fn strangers(stage: &Stage, tally: &mut Tally) {
    let stranger = World::new();
    let ours = identity(&std::fs::read_to_string(stage.world.path(IDENTITY)).expect("an identity"));
    stranger.call(&format!("{INIT} --custodian owner={}", ours.to_public())).ends(0);
    let id = stranger.backup(0);
    let theirs = crate::stage::objects(&stranger.path("archive"));
    let marker = stage.objects["strongroom.json"].clone();
    let mut cases = Vec::new();
    // All of it, or one room of it, or its bundle entered under our name; each as it is, and under our archive's name.
    let rooms = ["ledger/", "bundles/", "parts/", "custody/", "keys/", "strongroom.json"];
    for chosen in 1..(1_u32 << rooms.len()) {
        let mut puts = Puts::new();
        let taken =
            |name: &str| rooms.iter().enumerate().any(|(n, room)| chosen & (1 << n) != 0 && name.starts_with(room));
        puts.extend(stage.objects.keys().filter(|name| taken(name)).map(|name| (name.clone(), None)));
        puts.extend(theirs.iter().filter(|(name, _)| taken(name)).map(|(n, bytes)| (n.clone(), Some(bytes.clone()))));
        let mut ours_again = puts.clone();
        ours_again.push(("strongroom.json".to_owned(), Some(marker.clone())));
        for bundle in ["latest", id.as_str(), stage.newest()] {
            for verb in [Verb::Check, Verb::Verify, Verb::Deep, Verb::Target] {
                for (named, puts) in [("", &puts), (", our archive's name", &ours_again)] {
                    let puts = puts.clone();
                    let what = format!("rooms {chosen:06b}{named}, {bundle}, {verb:?}");
                    let mut case = stage.case(what, verb, move || puts.clone());
                    bundle.clone_into(&mut case.asked.bundle);
                    case.codes = &[10, 13, 14];
                    // Ledger and bundles are ours: only custody and escrow, and maybe parts, are not.
                    let foreign = |room| rooms.iter().position(|r| *r == room).is_some_and(|n| chosen & (1 << n) != 0);
                    let other_name = foreign("strongroom.json") && named.is_empty();
                    if bundle != id && !foreign("ledger/") && !foreign("bundles/") && !other_name {
                        case.may = match (foreign("parts/"), verb) {
                            (false, _) => Some(OTHER_CUSTODY),
                            (true, Verb::Verify) => Some(PARTS),
                            (true, _) => None,
                        };
                    }
                    cases.push(case);
                }
            }
        }
    }
    stage.run(tally, "a stranger's archive, wrapped to our custodian, whole or in part", cases);

    // Our bundle signed by nobody we know, by a signer with our key id's look, or not at all.
    let mut cases = Vec::new();
    let list = stage.objects[&stage.object("SHA256SUMS")].clone();
    let comment = format!("strongroom bundle v1 archive={} app={APP} id={}", stage.archive, stage.newest());
    let good = String::from_utf8(stage.objects[&stage.object("SHA256SUMS.minisig")].clone()).expect("text");
    let lines: Vec<_> = good.lines().collect();
    let mut signatures: Vec<(String, Option<Vec<u8>>)> =
        vec![("no signature".to_owned(), None), ("empty".to_owned(), Some(Vec::new()))];
    for n in 0..40 {
        let unknown = Signer::generate().expect("random");
        signatures.push((format!("unknown signer {n}"), Some(unknown.sign(&list, &comment).expect("signed"))));
    }
    for other in ["", "x", &comment.replace("bundle", "ledger"), &format!("{comment}/"), &comment.to_uppercase()] {
        signatures.push((format!("comment {other:?}"), Some(stage.signer.sign(&list, other).expect("signed"))));
    }
    for without in 0..lines.len() {
        let mut rest = lines.clone();
        rest.remove(without);
        let rest = rest.join("\n") + "\n";
        signatures.push((format!("without line {without}"), Some(rest.into_bytes())));
    }
    signatures.push(("twice".to_owned(), Some(good.repeat(2).into_bytes())));
    signatures.push(("too long".to_owned(), Some(vec![b'x'; 8192])));
    for (what, signature) in signatures {
        let puts = vec![(stage.object("SHA256SUMS.minisig"), signature)];
        for verb in VERBS.into_iter().filter(|verb| *verb != Verb::List) {
            let puts = puts.clone();
            cases.push(stage.case(format!("{what}, {verb:?}"), verb, move || puts.clone()));
        }
    }
    // Nobody is trusted, or somebody else.
    for signers in [Vec::new(), vec![Signer::generate().expect("random").public().to_string()]] {
        for verb in VERBS {
            let mut case = stage.case(format!("{} signers, {verb:?}", signers.len()), verb, Vec::new);
            case.asked.signers.clone_from(&signers);
            cases.push(case);
        }
    }
    // A wrapped key that opens for us and is another one, and none left to take its place.
    let other = age::x25519::Identity::generate();
    let secret = age::secrecy::ExposeSecret::expose_secret(&other.to_string()).to_owned();
    let wrapped = sealed_to(&[&ours.to_public()], format!("{secret}\n").as_bytes());
    let puts: Puts = stage
        .objects
        .keys()
        .filter(|n| n.ends_with("identity.age"))
        .map(|n| (n.clone(), Some(wrapped.clone())))
        .collect();
    for verb in [Verb::Verify, Verb::Deep, Verb::Target] {
        let puts = puts.clone();
        cases.push(stage.case(format!("another sealing key everywhere, {verb:?}"), verb, move || puts.clone()));
    }
    stage.run(tally, "no signature, unknown signers, nobody trusted, another sealing key", cases);
}
