//! Makes bundles with a world's own keys: what they say is signed, and need not be true.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use strongroom::ground::names::Sha256Hex;
use strongroom::signer::Signer;

use crate::world::{IDENTITY, World, text};

/// The only application here.
pub(crate) const APP: &str = "package-broker";

pub(crate) fn read_text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Lines, each with its newline.
pub(crate) fn whole(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| line + "\n").collect()
}

/// An identity as a file of age's has it.
pub(crate) fn identity(file: &str) -> age::x25519::Identity {
    let line = file.lines().find(|l| l.starts_with("AGE-SECRET-KEY-1")).expect("an identity");
    line.parse().expect("an identity")
}

pub(crate) fn sealed_to(recipients: &[&dyn age::Recipient], content: &[u8]) -> Vec<u8> {
    let encryptor = age::Encryptor::with_recipients(recipients.iter().copied()).expect("recipients");
    let mut out = Vec::new();
    let mut writer = encryptor.wrap_output(&mut out).expect("begun");
    writer.write_all(content).expect("written");
    writer.finish().expect("finished");
    out
}

/// One proved bundle, the secret of its sealing key, and the signer that signed it.
pub(crate) struct Forge {
    pub(crate) world: World,
    pub(crate) id: String,
    pub(crate) sealing: age::x25519::Identity,
    pub(crate) archive: String,
}

impl Forge {
    pub(crate) fn new() -> Self {
        let (world, id) = World::backed_up();
        Self::over(world, id)
    }

    pub(crate) fn over(world: World, id: String) -> Self {
        let custody =
            world.files("archive/custody").into_iter().find(|f| f.ends_with("identity.age")).expect("custody");
        let wrapped = std::fs::read(world.path("archive/custody").join(custody)).expect("read");
        let opened = age::decrypt(&identity(&read_text(&world.path(IDENTITY))), &wrapped).expect("it opens");
        let sealing = identity(std::str::from_utf8(&opened).expect("text"));
        let marker: serde_json::Value =
            serde_json::from_str(&read_text(&world.path("archive/strongroom.json"))).expect("JSON");
        Self { world, id, sealing, archive: text(&marker["archive"]) }
    }

    pub(crate) fn copy(&self) -> Self {
        Self::over(self.world.copy(), self.id.clone())
    }

    pub(crate) fn signer(&self) -> Signer {
        Signer::load(&self.world.path("strongroom-signing.key")).expect("a signer")
    }

    pub(crate) fn member(&self, name: &str) -> PathBuf {
        self.world.bundle(&self.id).join(name)
    }

    pub(crate) fn sums(&self) -> PathBuf {
        self.member("SHA256SUMS")
    }

    /// The path of an object by its name in `SHA256SUMS`.
    pub(crate) fn object(&self, name: &str) -> PathBuf {
        match name.strip_prefix("../../../") {
            Some(part) => self.world.path("archive").join(part),
            None => self.member(name),
        }
    }

    pub(crate) fn open(&self, path: &Path) -> Vec<u8> {
        age::decrypt(&self.sealing, &std::fs::read(path).expect("read")).expect("it opens")
    }

    pub(crate) fn seal(&self, content: &[u8]) -> Vec<u8> {
        sealed_to(&[&self.sealing.to_public()], content)
    }

    /// Puts a member of these bytes in the place of another.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.object(name), bytes).expect("written");
    }

    /// Lists, signs and enters the bundle as it is now, as its own host would.
    pub(crate) fn sign(&self) {
        let listed = read_text(&self.sums());
        let lines = listed.lines().map(|line| {
            let name = &line[66..];
            format!("{}  {name}", Sha256Hex::of(&std::fs::read(self.object(name)).expect("read")))
        });
        self.sign_list(&whole(lines));
    }

    /// The same for a list that is written as it is.
    pub(crate) fn sign_list(&self, list: &str) {
        let old = Sha256Hex::of(&std::fs::read(self.sums()).expect("read"));
        std::fs::write(self.sums(), list).expect("written");
        let comment = format!("strongroom bundle v1 archive={} app={APP} id={}", self.archive, self.id);
        let signature = self.signer().sign(list.as_bytes(), &comment).expect("signed");
        std::fs::write(self.member("SHA256SUMS.minisig"), signature).expect("written");
        self.enter(&|entry| entry.replace(old.as_str(), Sha256Hex::of(list.as_bytes()).as_str()));
    }

    /// Changes the newest entry of the ledger and signs it.
    pub(crate) fn enter(&self, change: &dyn Fn(&str) -> String) {
        let folder = self.world.path("archive/ledger").join(APP);
        let count = self
            .world
            .files(&format!("archive/ledger/{APP}"))
            .iter()
            .filter(|f| Path::new(f).extension().is_some_and(|e| e == "json"))
            .count();
        let path = folder.join(format!("{count:010}.json"));
        let entry = change(&read_text(&path));
        let comment = format!("strongroom ledger v1 archive={} app={APP} seq={count}", self.archive);
        let signature = self.signer().sign(entry.as_bytes(), &comment).expect("signed");
        std::fs::write(&path, entry).expect("written");
        std::fs::write(folder.join(format!("{count:010}.json.minisig")), signature).expect("written");
    }

    /// Rewrites the lines of the file list, each as JSON, and everything that follows from them.
    pub(crate) fn list(&self, change: &dyn Fn(&mut Vec<serde_json::Value>)) {
        let unpack = |path: &Path| -> Vec<serde_json::Value> {
            let frames = self.open(path);
            let text = zstd::decode_all(&frames[..]).expect("unpacked");
            let lines = std::str::from_utf8(&text).expect("text").lines();
            lines.map(|l| serde_json::from_str(l).expect("JSON")).collect()
        };
        let pack = |lines: &[serde_json::Value]| -> (String, Vec<u8>) {
            let text = whole(lines.iter().map(ToString::to_string));
            let frames = zstd::encode_all(text.as_bytes(), 1).expect("packed");
            (text, self.seal(&frames))
        };
        let mut segments = unpack(&self.member("files.jsonl.zst.age"));
        assert_eq!(segments.len(), 1);
        let name = text(&segments[0]["segment"]);
        let path = self.world.files("archive/parts").into_iter().find(|p| p.ends_with(&name)).expect("a segment");
        let path = self.world.path("archive/parts").join(path);
        let mut lines = unpack(&path);
        change(&mut lines);
        let (text, bytes) = pack(&lines);
        std::fs::write(&path, bytes).expect("written");
        let files: Vec<_> = lines.iter().filter(|l| l["kind"] == "file").collect();
        segments[0]["lines"] = lines.len().into();
        segments[0]["files"] = files.len().into();
        segments[0]["bytes"] = files.iter().map(|l| l["size"].as_u64().unwrap_or(0)).sum::<u64>().into();
        segments[0]["blake3"] = blake3::hash(text.as_bytes()).to_hex().as_str().into();
        self.put("files.jsonl.zst.age", &pack(&segments).1);
        self.sign();
    }

    /// Every way of using the bundle ends with one of these codes and writes nothing, neither here nor outside.
    pub(crate) fn harmless(&self, what: &str, codes: &[i32]) {
        let world = &self.world;
        std::fs::create_dir_all(world.path("outside")).expect("made");
        let before = world.state_of("app");
        for line in ["verify --deep", "restore --target out", "restore --yes"] {
            let ran = world.call(&format!("{line} -i {IDENTITY}")).run();
            assert!(
                ran.code.is_some_and(|code| codes.contains(&code)),
                "{what}: {line} ends with {:?}\n{}{}",
                ran.code,
                ran.stdout,
                ran.stderr
            );
            assert!(!ran.stderr.contains("panicked"), "{what}: {}", ran.stderr);
        }
        assert_eq!(world.state_of("app"), before, "{what}");
        assert!(world.files("outside").is_empty(), "{what}: {:?}", world.files("outside"));
        assert!(!world.path("escaped").exists(), "{what}");
        // Files that were whole may lie below the target that was named, under their own names, and nothing else.
        let stray = world
            .files("out")
            .into_iter()
            .find(|f| !f.starts_with("storage/") && !f.starts_with(".strongroom") && f != "database.sqlite");
        assert_eq!(stray, None, "{what}");
    }
}
