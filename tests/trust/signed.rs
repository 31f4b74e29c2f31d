//! What a signer of ours signed is believed to come from us, and still must not reach outside its place or be more than it says.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use strongroom::ground::names::Sha256Hex;

use crate::desk::Verb;
use crate::stage::{APP, Case, Puts, SHUT, Stage, is};
use crate::tally::Tally;
use crate::tars::tars;
use crate::world::text;

/// Links, pipes, sockets and devices below a folder: the application has none, so a restore makes none.
pub(crate) fn odd_things(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            found.extend(odd_things(&entry.path()));
        } else if !kind.is_file() || kind.is_fifo() {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

pub(crate) fn sealed_to(recipients: &[&dyn age::Recipient], content: &[u8]) -> Vec<u8> {
    let encryptor = age::Encryptor::with_recipients(recipients.iter().copied()).expect("recipients");
    written(encryptor, content)
}

fn written(encryptor: age::Encryptor, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = encryptor.wrap_output(&mut out).expect("begun");
    writer.write_all(content).expect("written");
    writer.finish().expect("finished");
    out
}

fn whole(lines: &[serde_json::Value]) -> String {
    lines.iter().fold(String::new(), |text, line| text + &line.to_string() + "\n")
}

pub(crate) fn packed(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("packed")
}

impl Stage {
    pub(crate) fn seal(&self, content: &[u8]) -> Vec<u8> {
        sealed_to(&[&self.sealing.to_public()], content)
    }

    pub(crate) fn open(&self, name: &str) -> Vec<u8> {
        age::decrypt(&self.sealing, &self.objects[name]).expect("it opens")
    }

    fn lines(&self, name: &str) -> Vec<serde_json::Value> {
        let text = zstd::decode_all(&self.open(name)[..]).expect("unpacked");
        std::str::from_utf8(&text).expect("text").lines().map(|l| serde_json::from_str(l).expect("JSON")).collect()
    }

    /// The newest bundle with these members, by their names in `SHA256SUMS`, listed, signed and entered as its host would.
    pub(crate) fn resigned(&self, members: &[(&str, Vec<u8>)]) -> Puts {
        let listed = self.listed().into_iter().map(|line| {
            let name = line[66..].trim_end();
            members
                .iter()
                .find(|(changed, _)| *changed == name)
                .map_or_else(|| line.clone(), |(_, bytes)| format!("{}  {name}\n", Sha256Hex::of(bytes)))
        });
        let mut puts = self.resigned_list(listed.collect::<String>().as_bytes());
        puts.extend(members.iter().map(|(name, bytes)| (self.object(name), Some(bytes.clone()))));
        puts
    }

    /// The newest bundle with this list, signed and entered.
    pub(crate) fn resigned_list(&self, list: &[u8]) -> Puts {
        let (name, id) = (self.object("SHA256SUMS"), self.newest());
        let old = Sha256Hex::of(&self.objects[&name]);
        let comment = format!("strongroom bundle v1 archive={} app={APP} id={id}", self.archive);
        let signature = self.signer.sign(list, &comment).expect("signed");
        let mut puts = self.entered(&|entry| entry.replace(old.as_str(), Sha256Hex::of(list).as_str()));
        puts.push((name, Some(list.to_vec())));
        puts.push((self.object("SHA256SUMS.minisig"), Some(signature)));
        puts
    }

    /// The newest entry of the ledger, changed and signed.
    pub(crate) fn entered(&self, change: &dyn Fn(&str) -> String) -> Puts {
        let (seq, name) = self.last_entry();
        let entry = change(std::str::from_utf8(&self.objects[&name]).expect("text"));
        let comment = format!("strongroom ledger v1 archive={} app={APP} seq={seq}", self.archive);
        let signature = self.signer.sign(entry.as_bytes(), &comment).expect("signed");
        vec![(name.clone(), Some(entry.into_bytes())), (format!("{name}.minisig"), Some(signature))]
    }

    /// The one segment of the newest bundle's file list, and its lines.
    fn segment(&self) -> (String, Vec<serde_json::Value>) {
        let segment = text(&self.lines(&self.object("files.jsonl.zst.age"))[0]["segment"]);
        let listed = self.listed();
        let name = listed.iter().find(|line| line.contains(&segment)).expect("a segment")[66..].trim_end();
        (name.to_owned(), self.lines(&self.object(name)))
    }

    /// The newest bundle with another file list, and everything that follows from it.
    fn relisted(&self, change: &dyn Fn(&mut Vec<serde_json::Value>)) -> Puts {
        let mut segments = self.lines(&self.object("files.jsonl.zst.age"));
        let (name, mut lines) = self.segment();
        change(&mut lines);
        let text = whole(&lines);
        let files: Vec<_> = lines.iter().filter(|l| l["kind"] == "file").collect();
        segments[0]["lines"] = lines.len().into();
        segments[0]["files"] = files.len().into();
        segments[0]["bytes"] =
            files.iter().map(|l| l["size"].as_u64().unwrap_or(0)).fold(0, u64::saturating_add).into();
        segments[0]["blake3"] = blake3::hash(text.as_bytes()).to_hex().as_str().into();
        self.resigned(&[
            ("files.jsonl.zst.age", self.seal(&packed(whole(&segments).as_bytes()))),
            (&name, self.seal(&packed(text.as_bytes()))),
        ])
    }
}

pub(crate) fn classes(stage: &Stage, tally: &mut Tally) {
    lists(stage, tally);
    bombs(stage, tally);
}

/// What the stage signs is believed: without this, refusals below would mean nothing.
pub(crate) fn unchanged(stage: &Stage, tally: &mut Tally) {
    let mut cases = vec![stage.case("the same list", Verb::Deep, || stage.relisted(&|_| {}))];
    for name in stage.kinds().into_iter().filter(|name| is(name, "age") && name != "identity.age") {
        let puts = {
            let name = name.clone();
            move || stage.resigned(&[(&name, stage.seal(&stage.open(&stage.object(&name))))])
        };
        cases.push(stage.case(format!("{name} sealed anew"), Verb::Deep, puts));
    }
    for case in &mut cases {
        (case.codes, case.may) = (&[], Some("nothing was changed but who sealed it"));
    }
    stage.run_slow(tally, "sealed and signed anew, unchanged", cases);
}

const DUMPED: &str = "restore --target writes the dump that was signed; what is in it is the question of verify --deep";
pub(crate) const LISTED: &str = "every file is restored as the signed list has it; these bytes are not read";

/// Names that reach somewhere, or look like another.
const NAMES: [&str; 24] = [
    "/tmp/escaped",
    "//escaped",
    "../escaped",
    "../../../../../../tmp/escaped",
    "private/../../escaped",
    "private/..",
    "private/../..",
    "..",
    ".",
    "./escaped",
    "private/./x",
    "private//x",
    "private/",
    "",
    "/",
    "private/\0x",
    "\0",
    "private/x\0/../../escaped",
    "..\\escaped/..",
    "private/manual/acme/new/1.0.0.zip/x",
    ".strongroom/rollback/x",
    ".strongroom",
    "private/../private/x",
    "a/../../../../../../../../etc/cron.d/x",
];

/// What is changed in a line of a file list.
type Change = (String, Box<dyn Fn(&mut serde_json::Value) + Send + Sync>);

fn lists(stage: &Stage, tally: &mut Tally) {
    let lines = stage.segment().1.len();
    assert!(lines > 8, "{lines}");
    let set = |field: &'static str, value: serde_json::Value| -> Change {
        (format!("{field} = {value}"), Box::new(move |line| line[field] = value.clone()))
    };
    let mut changes: Vec<Change> = NAMES.iter().map(|name| set("path", (*name).into())).collect();
    changes.push(set("path", "x".repeat(5000).into()));
    changes.push(set("path_b64", "L3RtcC9lc2NhcGVk".into()));
    for kind in ["device", "fifo", "socket", "hardlink", "block", "file ", "FILE", ""] {
        changes.push(set("kind", kind.into()));
    }
    for value in [-1_i64, 1 << 52, i64::MAX] {
        changes.push(set("size", value.into()));
    }
    for mode in ["99999", "-1", "0o644", "777777", "rwxr-xr-x", ""] {
        changes.push(set("mode", mode.into()));
    }
    for mtime in ["", "now", "1", "-", "1.0000000000", "99999999999999999999.0", "1.-5"] {
        changes.push(set("mtime", mtime.into()));
    }
    let mut cases = Vec::new();
    for (n, (what, change)) in changes.iter().enumerate() {
        for line in (n % 5..lines).step_by(5) {
            let verb = if line % 2 == 0 { Verb::Deep } else { Verb::Target };
            let puts = move || stage.relisted(&|lines| change(&mut lines[line]));
            let mut case = stage.case(format!("line {line}: {what}, {verb:?}"), verb, puts);
            // What claims to be huge finds no room, which is seen first.
            case.codes = &[1, 13];
            cases.push(case);
        }
    }
    // The first line sorts before all others with such a name, so that the name alone is what is wrong.
    let own = [".strongroom", ".strongroom/rollback/x"];
    for (name, verb) in own.into_iter().flat_map(|name| [Verb::Deep, Verb::Target].map(|verb| (name, verb))) {
        let puts = move || stage.relisted(&|lines| lines[0]["path"] = name.into());
        cases.push(stage.case(format!("line 0: path = {name}, {verb:?}"), verb, puts));
    }
    stage.run_slow(tally, "a signed file list with paths, kinds, sizes, modes and times that no list has", cases);
    stage.run_slow(tally, "a signed file list whose content lies elsewhere", places(stage));
}

/// Each file's place, content and neighbours changed.
fn places(stage: &Stage) -> Vec<Case<'_>> {
    type Change = fn(&mut Vec<serde_json::Value>, usize);
    let changes: [(&str, Change); 18] = [
        ("frame + 512", |l, n| l[n]["frame"] = (l[n]["frame"].as_u64().unwrap_or(0) + 512).into()),
        ("frame + 1", |l, n| l[n]["frame"] = (l[n]["frame"].as_u64().unwrap_or(0) + 1).into()),
        ("frame beyond the end", |l, n| l[n]["frame"] = (1_u64 << 50).into()),
        ("frame of a neighbour", |l, n| {
            let other = l.iter().rev().find(|o| o["kind"] == "file" && o["frame"] != l[n]["frame"]);
            l[n]["frame"] = other.map_or_else(|| (1_u64 << 40).into(), |o| o["frame"].clone());
        }),
        ("skip + 1", |l, n| l[n]["skip"] = (l[n]["skip"].as_u64().unwrap_or(0) + 1).into()),
        ("skip beyond the frame", |l, n| l[n]["skip"] = (1_u64 << 40).into()),
        ("skip of 8 MiB", |l, n| l[n]["skip"] = (8_u64 << 20).into()),
        ("size + 1", |l, n| l[n]["size"] = (l[n]["size"].as_u64().unwrap_or(0) + 1).into()),
        ("size - 1", |l, n| l[n]["size"] = (l[n]["size"].as_u64().unwrap_or(1) - 1).into()),
        ("size 0", |l, n| l[n]["size"] = 0.into()),
        ("another content", |l, n| l[n]["blake3"] = "00".repeat(32).into()),
        ("no digest", |l, n| drop(l[n].as_object_mut().expect("an object").remove("blake3"))),
        ("a part that is not listed", |l, n| l[n]["part"] = "01JDQ8ZK3V9W5X6Y7Z8A9BCDEF.tar.age".into()),
        ("a part that is a path", |l, n| l[n]["part"] = "../../x.tar.age".into()),
        ("a part that is a segment", |l, n| l[n]["part"] = "01JDQ8ZK3V9W5X6Y7Z8A9BCDEF.files.zst.age".into()),
        ("no part", |l, n| drop(l[n].as_object_mut().expect("an object").remove("part"))),
        ("twice", |l, n| {
            let again = l[n].clone();
            l.insert(n, again);
        }),
        ("a link in the place of its folder", |l, n| {
            let mut link = l[n].clone();
            let path = text(&link["path"]);
            link["path"] = path.rsplit_once('/').map_or("x", |(folder, _)| folder).into();
            link["kind"] = "symlink".into();
            link["target"] = "/tmp".into();
            for field in ["blake3", "part", "frame", "skip"] {
                link.as_object_mut().expect("an object").remove(field);
            }
            l.retain(|o| o["path"] != link["path"]);
            l.push(link);
            l.sort_by_key(|o| text(&o["path"]));
        }),
    ];
    let mut cases = Vec::new();
    let files = stage.segment().1.into_iter().enumerate().filter(|(_, line)| line["kind"] == "file");
    for line in files.map(|(line, _)| line) {
        for (n, (what, change)) in changes.into_iter().enumerate() {
            let verb = if (line + n) % 2 == 0 { Verb::Deep } else { Verb::Target };
            let puts = move || stage.relisted(&|lines| change(lines, line));
            let mut case = stage.case(format!("line {line}: {what}, {verb:?}"), verb, puts);
            case.codes = &[1, 13];
            cases.push(case);
        }
    }
    cases
}

fn bombs(stage: &Stage, tally: &mut Tally) {
    let stranger = age::x25519::Identity::generate();
    let ours = stage.sealing.to_public();
    let zeros = zstd::encode_all(std::io::repeat(0).take(300 << 20), 1).expect("packed");
    let line = zstd::encode_all(std::io::repeat(b'{').take(64 << 20), 1).expect("packed");
    let many = packed(&b"{}\n".repeat(1 << 20));
    let nested = packed(&zeros);
    let wide = {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("begun");
        encoder.window_log(27).expect("set");
        encoder.write_all(&vec![7; 1 << 20]).expect("written");
        encoder.finish().expect("packed")
    };
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4][..], &packed(b"")].concat();
    let kinds = stage.kinds();
    let (mut foreign, mut bombs, mut headers) = (Vec::new(), Vec::new(), Vec::new());
    for name in kinds.iter().filter(|name| is(name, "age") && *name != "identity.age") {
        let name = name.as_str();
        let plain = stage.open(&stage.object(name));
        let armored = {
            let mut out =
                age::armor::ArmoredWriter::wrap_output(Vec::new(), age::armor::Format::AsciiArmor).expect("begun");
            out.write_all(&stage.objects[&stage.object(name)]).expect("written");
            out.finish().expect("finished")
        };
        let phrase = {
            let mut recipient = age::scrypt::Recipient::new("x".repeat(9).into());
            recipient.set_work_factor(2);
            sealed_to(&[&recipient], &plain)
        };
        let header_end =
            stage.objects[&stage.object(name)].windows(5).position(|w| w == b"\n--- ").expect("a header") + 40;
        for (what, bytes) in [
            ("for two", sealed_to(&[&ours, &stranger.to_public()], &plain)),
            ("twice for us", sealed_to(&[&ours, &ours], &plain)),
            ("for somebody else", sealed_to(&[&stranger.to_public()], &plain)),
            ("under a passphrase", phrase),
            ("in armor", armored),
            ("not sealed at all", plain.clone()),
            ("empty", Vec::new()),
            ("a header alone", stage.objects[&stage.object(name)][..header_end].to_vec()),
            ("sealed twice", stage.seal(&stage.seal(&plain))),
        ] {
            let mut case =
                stage.case(format!("{name} {what}"), Verb::Deep, move || stage.resigned(&[(name, bytes.clone())]));
            case.codes = SHUT;
            // Nothing in a verification reads the configuration; a restore that wants it does.
            case.may =
                (name == "config.toml.age").then_some("the host's configuration, which a verification does not open");
            foreign.push(case);
        }
        let whole = &stage.objects[&stage.object(name)];
        for at in (0..header_end).step_by(23) {
            let puts = move || {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << (at % 8);
                stage.resigned(&[(name, bytes)])
            };
            let mut case = stage.case(format!("{name}: byte {at} of the header"), Verb::Deep, puts);
            case.codes = SHUT;
            case.may =
                (name == "config.toml.age").then_some("the host's configuration, which a verification does not open");
            headers.push(case);
        }
        if !name.contains(".zst") {
            continue;
        }
        for (what, bomb) in [
            ("300 MiB of zeros", zeros.clone()),
            ("an endless line", line.clone()),
            ("a million lines", many.clone()),
            ("zstd in zstd", nested.clone()),
            ("a window of 128 MiB", wide.clone()),
            ("a skippable frame", skippable.clone()),
            ("a frame cut off", plain[..plain.len() - 4].to_vec()),
            ("a frame and garbage", [&plain[..], b"garbage"].concat()),
        ] {
            for verb in [Verb::Deep, Verb::Target] {
                let bomb = bomb.clone();
                let puts = move || stage.resigned(&[(name, stage.seal(&bomb))]);
                let mut case = stage.case(format!("{name}: {what}, {verb:?}"), verb, puts);
                case.codes = &[1, 13];
                // A restore into a folder writes what was signed; the files are compared here, the database by `verify --deep`.
                case.may = (verb == Verb::Target).then_some(if name.contains("parts/") { LISTED } else { DUMPED });
                bombs.push(case);
            }
        }
    }
    stage.run_slow(tally, "age files with other recipients, signed", foreign);
    stage.run_slow(tally, "bytes of each age header flipped, and signed", headers);
    stage.run_slow(tally, "zstd bombs and frames that are none, signed", bombs);
    stage.run_slow(tally, "tar members that are no files, signed", tars(stage));
}
