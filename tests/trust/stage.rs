//! An archive with two bundles, held in memory; cases are written over copies of it, asked, and taken away again.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use strongroom::custody::card::Card;
use strongroom::ground::names::Sha256Hex;
use strongroom::signer::Signer;

use crate::app::{KEY, zip};
use crate::desk::{Asked, Verb, ask};
use crate::tally::{Tally, Verdict};
use crate::world::{IDENTITY, World, text};

/// The only application here.
pub(crate) const APP: &str = "package-broker";

/// Refusals of a ledger that does not settle wait, so more threads than cores have something to do.
const THREADS: usize = 48;

/// How many cases of a class every run tries.
pub(crate) const SOME: usize = 10;

/// Damage, and what is not authentic.
pub(crate) const BAD: &[u8] = &[13, 14];
/// The same, and what does not open.
pub(crate) const SHUT: &[u8] = &[13, 14, 16];

/// How many cases of a class that is slow are tried where all are asked for.
const SLOW: usize = 40;

/// Whether every case is asked for.
pub(crate) fn all() -> bool {
    std::env::var("STRONGROOM_TRUST").is_ok_and(|wanted| wanted == "all")
}

/// Every object of an archive by its name.
pub(crate) type Objects = BTreeMap<String, Vec<u8>>;

/// Objects that are written, or removed.
pub(crate) type Puts = Vec<(String, Option<Vec<u8>>)>;

/// One change, and what may come of it.
pub(crate) struct Case<'a> {
    pub(crate) what: String,
    /// Makes the change: there are thousands, and few of them are tried in most runs.
    pub(crate) puts: Box<dyn Fn() -> Puts + Send + Sync + 'a>,
    pub(crate) asked: Asked,
    /// Exit codes that refuse it.
    pub(crate) codes: &'static [u8],
    /// Why it may be called good all the same.
    pub(crate) may: Option<&'static str>,
}

/// An archive, who signed it, and who opens it.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) objects: Objects,
    /// Ids, oldest first.
    pub(crate) bundles: Vec<String>,
    pub(crate) signer: Signer,
    pub(crate) sealing: age::x25519::Identity,
    pub(crate) archive: String,
    /// The application's files, as they were backed up.
    storage: Objects,
}

/// Whether a name ends in a dot and this.
pub(crate) fn is(name: &str, end: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, found)| found == end)
}

/// An identity as a file of age's has it.
pub(crate) fn identity(file: &str) -> age::x25519::Identity {
    let line = file.lines().find(|l| l.starts_with("AGE-SECRET-KEY-1")).expect("an identity");
    line.parse().expect("an identity")
}

/// Everything below a folder.
pub(crate) fn objects(folder: &Path) -> Objects {
    let mut found = Objects::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(here) = folders.pop() {
        for entry in std::fs::read_dir(&here).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below").display().to_string();
                found.insert(name, std::fs::read(&path).unwrap_or_default());
            }
        }
    }
    // Locks are nobody's objects.
    found.retain(|name, _| !name.rsplit('/').next().is_some_and(|last| last.starts_with('.')));
    found
}

/// Names, lengths and times of everything below a folder, to see that nothing was written.
fn looks(folder: &Path) -> Vec<(std::path::PathBuf, u64, std::time::SystemTime)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let meta = entry.metadata().expect("there");
        if meta.is_dir() {
            found.extend(looks(&entry.path()));
        } else {
            found.push((entry.path(), meta.len(), meta.modified().expect("a time")));
        }
    }
    found.sort();
    found
}

fn put(folder: &Path, name: &str, bytes: Option<&Vec<u8>>) {
    let path = folder.join(name);
    match bytes {
        Some(bytes) => {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, bytes).expect("written");
        }
        None => drop(std::fs::remove_file(path)),
    }
}

impl Stage {
    /// An application as small as it can be, backed up twice; `rules` are more lines of the configuration.
    pub(crate) fn new(rules: &str) -> Self {
        let world = World::ready();
        world.app.execute("DELETE FROM repositories WHERE id NOT IN ('manual', 'repo-1')");
        if !rules.is_empty() {
            world.configure(rules);
        }
        let first = world.backup(0);
        world.app.store("private/manual/acme/new/1.0.0.zip", &zip("new", 40));
        world.app.add_credential(60, KEY);
        let second = world.backup(0);
        Self::over(world, vec![first, second])
    }

    pub(crate) fn over(world: World, bundles: Vec<String>) -> Self {
        let objects = objects(&world.path("archive"));
        let custody = objects.keys().find(|n| n.starts_with("custody/") && n.ends_with("identity.age"));
        let wrapped = &objects[custody.expect("custody")];
        let own = std::fs::read_to_string(world.path(IDENTITY)).expect("an identity");
        let opened = age::decrypt(&identity(&own), wrapped).expect("it opens");
        let sealing = identity(std::str::from_utf8(&opened).expect("text"));
        let marker: serde_json::Value = serde_json::from_slice(&objects["strongroom.json"]).expect("JSON");
        let signer = Signer::load(&world.path("strongroom-signing.key")).expect("a signer");
        let storage = self::objects(&world.app.storage());
        Self { archive: text(&marker["archive"]), world, objects, bundles, signer, sealing, storage }
    }

    pub(crate) fn newest(&self) -> &str {
        self.bundles.last().expect("a bundle")
    }

    /// An object of the newest bundle by its name in `SHA256SUMS`.
    pub(crate) fn object(&self, name: &str) -> String {
        name.strip_prefix("../../../").map_or_else(|| format!("bundles/{APP}/{}/{name}", self.newest()), str::to_owned)
    }

    /// The lines of the newest bundle's `SHA256SUMS`.
    pub(crate) fn listed(&self) -> Vec<String> {
        let list = String::from_utf8(self.objects[&self.object("SHA256SUMS")].clone()).expect("text");
        list.lines().map(|line| format!("{line}\n")).collect()
    }

    /// The names of objects that the newest bundle lists: one a kind, parts and segments included.
    pub(crate) fn kinds(&self) -> Vec<String> {
        let mut kinds = BTreeMap::new();
        for line in self.listed() {
            let name = line[66..].trim_end().to_owned();
            let kind =
                name.strip_prefix("../../../").map_or(name.as_str(), |part| part.split_once('.').expect("a kind").1);
            kinds.insert(kind.to_owned(), name.clone());
        }
        kinds.into_values().collect()
    }

    /// Asks of the newest bundle what its owner would.
    pub(crate) fn asked(&self, verb: Verb) -> Asked {
        Asked {
            verb,
            bundle: "latest".to_owned(),
            app: APP,
            signers: vec![self.signer.public().to_string()],
            card: None,
            identity: self.world.path(IDENTITY),
        }
    }

    /// A card that remembers the newest entry of the ledger.
    pub(crate) fn card(&self) -> std::path::PathBuf {
        let path = self.world.path("safe/newest-card.txt");
        let old = std::fs::read_to_string(self.world.path("safe/recovery-card.txt")).expect("a card");
        let (seq, name) = self.last_entry();
        let newest = Some((seq, Sha256Hex::of(&self.objects[&name])));
        std::fs::write(&path, Card { newest, ..Card::parse(&old).expect("a card") }.render()).expect("written");
        path
    }

    /// Number and name of the newest entry of the ledger.
    pub(crate) fn last_entry(&self) -> (u64, String) {
        let name = self.objects.keys().rfind(|n| n.starts_with("ledger/") && is(n, "json")).expect("an entry");
        let digits = &name[name.len() - 15..name.len() - 5];
        (digits.parse().expect("a number"), name.clone())
    }

    /// A change that is asked about with this verb, and must be refused as damage or as not authentic.
    pub(crate) fn case<'a>(
        &self,
        what: impl Into<String>,
        verb: Verb,
        puts: impl Fn() -> Puts + Send + Sync + 'a,
    ) -> Case<'a> {
        Case { what: what.into(), puts: Box::new(puts), asked: self.asked(verb), codes: BAD, may: None }
    }

    /// Tries the cases of a class, each on an archive that is whole but for it.
    pub(crate) fn run(&self, tally: &mut Tally, class: &'static str, cases: Vec<Case<'_>>) {
        self.run_at_most(usize::MAX, tally, class, cases);
    }

    /// The same where each case opens everything and derives a key, which is slow: some of them stand for the class.
    pub(crate) fn run_slow(&self, tally: &mut Tally, class: &'static str, cases: Vec<Case<'_>>) {
        self.run_at_most(SLOW, tally, class, cases);
    }

    fn run_at_most(&self, most: usize, tally: &mut Tally, class: &'static str, cases: Vec<Case<'_>>) {
        assert!(!cases.is_empty(), "{class} has no case");
        let step = cases.len().div_ceil(if all() { most } else { SOME });
        let cases: Vec<_> = cases.into_iter().step_by(step).collect();
        let next = AtomicUsize::new(0);
        let told = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..THREADS.min(cases.len()) {
                scope.spawn(|| {
                    let folder = tempfile::Builder::new().prefix("strongroom-trust-").tempdir().expect("a folder");
                    let archive = folder.path().join("archive");
                    self.objects.iter().for_each(|(name, bytes)| put(&archive, name, Some(bytes)));
                    while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let verdict = self.one(folder.path(), case);
                        told.lock().expect("the list").push((case, verdict));
                    }
                });
            }
        });
        for (case, verdict) in told.into_inner().expect("the list") {
            tally.take(class, &case.what, verdict);
        }
    }

    fn one(&self, folder: &Path, case: &Case<'_>) -> Verdict {
        let archive = folder.join("archive");
        let puts = (case.puts)();
        for (name, bytes) in &puts {
            put(&archive, name, bytes.as_ref());
        }
        let before = looks(&archive);
        let ended = catch_unwind(AssertUnwindSafe(|| ask(&archive, &folder.join("out"), &case.asked)));
        let touched = looks(&archive) != before;
        for (name, _) in &puts {
            put(&archive, name, self.objects.get(name));
        }
        // A restore may write below its target, and nowhere else.
        let names = |path: &Path| -> Vec<String> {
            let listing = std::fs::read_dir(path).into_iter().flatten().flatten();
            listing.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let strays: Vec<_> = names(folder)
            .into_iter()
            .filter(|name| name != "archive" && name != "out")
            .chain(names(&folder.join("out")).into_iter().filter(|name| {
                !["storage", "database.sqlite"].contains(&name.as_str()) && !name.starts_with(".strongroom")
            }))
            .collect();
        let links = crate::signed::odd_things(&folder.join("out"));
        // A restore that is called good wrote what the application had, whatever was changed.
        let other = case.asked.verb == Verb::Target && objects(&folder.join("out/storage")) != self.storage;
        drop(std::fs::remove_dir_all(folder.join("out")));
        match ended {
            Err(_) => Verdict::Lost("it panicked".to_owned()),
            _ if touched => Verdict::Lost("the archive was written to".to_owned()),
            _ if !strays.is_empty() => Verdict::Lost(format!("it wrote {strays:?}")),
            _ if !links.is_empty() => Verdict::Lost(format!("it made {links:?}")),
            Ok((0, _)) if other => Verdict::Believed,
            Ok((0, _)) => case.may.map_or(Verdict::Believed, Verdict::Same),
            Ok((code, _)) if case.codes.contains(&code) => Verdict::Refused(code),
            Ok((code, said)) => Verdict::Lost(format!("ends with {code}: {said}")),
        }
    }
}
