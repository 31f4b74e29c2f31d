use super::*;
use crate::archive::folder::Folder;

#[test]
fn two_writers_never_take_one_number_and_lose_nothing() {
    fn race(archive: &dyn Archive, id: &Uuid, app: &AppName, signers: [&Signer; 2]) {
        let trusted = Trusted::new(signers.iter().map(|s| *s.public()).collect());
        std::thread::scope(|scope| {
            for signer in signers {
                let trusted = &trusted;
                scope.spawn(move || {
                    let mut ledger = Ledger::open(archive, id, app, trusted).expect("good");
                    for _ in 0..50 {
                        ledger.append(signer, tested(), clock::now()).expect("appended");
                    }
                });
            }
        });
        let ledger = Ledger::open(archive, id, app, &trusted).expect("the chain verifies");
        assert_eq!(ledger.entries().len(), 100);
        for signer in signers {
            assert_eq!(ledger.entries().iter().filter(|e| e.signer == *signer.public()).count(), 50);
        }
    }
    let world = World::new();
    let other = Signer::generate().expect("random");
    race(&world.archive, &world.id, &world.app, [&world.signer, &other]);
    let place = tempfile::tempdir().expect("a folder");
    let folder = Folder::create(place.path()).expect("an archive");
    race(&folder, &world.id, &world.app, [&world.signer, &other]);
}

#[test]
fn a_signature_that_a_killed_run_left_blocks_nobody() {
    let world = World::with(2);
    let another = world.archive.objects()["ledger/app/0000000002.json.minisig"].clone();
    for left in [b"half".to_vec(), Vec::new(), another] {
        let seq = world.open().expect("good").entries().len() as u64 + 1;
        world.put(&signature_name(&world.app, seq).expect("a name"), &left);
        let mut ledger = world.open().expect("an orphan at the end is a killed run");
        assert_eq!(ledger.append(&world.signer, tested(), clock::now()).expect("appended"), seq);
        assert_eq!(world.open().expect("good").entries().len() as u64, seq);
    }
    world.put(&signature_name(&world.app, 9).expect("a name"), b"stray");
    assert!(world.refusal().contains("0000000009.json.minisig"));
}

#[test]
fn somebody_who_keeps_changing_the_next_signature_holds_nobody_for_ever() {
    let world = World::with(2);
    let mut ledger = world.open().expect("opened");
    let name = signature_name(&world.app, 3).expect("a name");
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0_u64;
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                n += 1;
                world.put(&name, n.to_string().as_bytes());
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        // Theirs may be the last word over and over: that is an error, and no waiting.
        let appended = ledger.append(&world.signer, tested(), clock::now());
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Err(error) = appended {
            assert_eq!(error.kind(), Kind::NotAuthentic, "{}", error.chain());
        }
    });
}

#[test]
fn a_writer_that_was_overtaken_reads_on() {
    let world = World::with(1);
    let (mut one, mut two) = (world.open().expect("good"), world.open().expect("good"));
    assert_eq!(one.append(&world.signer, tested(), clock::now()).expect("appended"), 2);
    assert_eq!(two.append(&world.signer, tested(), clock::now()).expect("appended"), 3);
    assert_eq!(one.append(&world.signer, tested(), clock::now()).expect("appended"), 4);
    assert_eq!(two.entries().len(), 3);
    assert_eq!(world.open().expect("good").entries().len(), 4);
}

#[test]
fn our_own_signer_must_be_trusted_before_anything_is_written() {
    let world = World::with(1);
    let before = world.archive.objects().len();
    let stranger = Signer::generate().expect("random");
    let mut ledger = world.open().expect("good");
    assert_eq!(ledger.append(&stranger, tested(), clock::now()).expect_err("refused").kind(), Kind::Usage);
    assert_eq!(world.archive.objects().len(), before);
}

#[test]
fn an_entry_that_is_too_long_is_not_written() {
    let world = World::with(1);
    let mut ledger = world.open().expect("good");
    let part: ObjectName = "parts/app/ZZ/01ARZ3NDEKTSV4RRFFQ69G5FZZ.tar.zst.age".parse().expect("a name");
    let prune = |count| Event::Prune(PruneEvent { bundles: Vec::new(), parts: vec![part.clone(); count] });
    assert!(ledger.append(&world.signer, prune(2000), clock::now()).is_err());
    assert_eq!(world.archive.objects().len(), 2);
    assert!(ledger.append(&world.signer, prune(1000), clock::now()).is_ok());
}

type Happening<'a> = Box<dyn FnOnce(&Memory) + Send + 'a>;

/// An archive in which something else happens just before one object is begun.
struct Interleaved<'a> {
    archive: &'a Memory,
    name: &'static str,
    happens: std::sync::Mutex<Option<Happening<'a>>>,
}

impl<'a> Interleaved<'a> {
    fn new(archive: &'a Memory, name: &'static str, happens: impl FnOnce(&Memory) + Send + 'a) -> Self {
        Self { archive, name, happens: std::sync::Mutex::new(Some(Box::new(happens))) }
    }
}

impl Archive for Interleaved<'_> {
    fn describe(&self) -> String {
        self.archive.describe()
    }
    fn open(&self, name: &ObjectName) -> Result<Box<dyn crate::archive::Object>> {
        self.archive.open(name)
    }
    fn create(&self, name: &ObjectName) -> Result<Box<dyn crate::archive::NewObject>> {
        if name.as_str().ends_with(self.name)
            && let Some(happens) = self.happens.lock().expect("not poisoned").take()
        {
            happens(self.archive);
        }
        self.archive.create(name)
    }
    fn length(&self, name: &ObjectName) -> Result<Option<u64>> {
        self.archive.length(name)
    }
    fn list(&self, folder: &ObjectName) -> Result<Vec<crate::archive::Listed>> {
        self.archive.list(folder)
    }
    fn children(&self, folder: &ObjectName) -> Result<Vec<String>> {
        self.archive.children(folder)
    }
    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        self.archive.replace(name, bytes)
    }
    fn remove(&self, name: &ObjectName) -> Result<()> {
        self.archive.remove(name)
    }
    fn hold(&self, _: &ObjectName) -> Result<Box<dyn Send>> {
        Err(Error::locked("somebody holds it"))
    }
}

const SECOND: &str = "ledger/app/0000000002.json";

/// Entry and signature of another writer who would be second.
fn rival(world: &World) -> (Vec<u8>, Vec<u8>) {
    let copy = World {
        archive: Memory::default(),
        id: world.id.clone(),
        app: world.app.clone(),
        signer: Signer::generate().expect("random"),
    };
    copy.archive.objects().extend(world.archive.objects().clone());
    let trusted = Trusted::new(vec![*world.signer.public(), *copy.signer.public()]);
    let mut ledger = Ledger::open(&copy.archive, &copy.id, &copy.app, &trusted).expect("good");
    let time = "2026-01-01T00:00:00Z".parse().expect("a time");
    assert_eq!(ledger.append(&copy.signer, tested(), time).expect("appended"), 2);
    let objects = copy.archive.objects();
    (objects[SECOND].clone(), objects[&format!("{SECOND}.minisig")].clone())
}

/// Opens the ledger that results, trusting whoever signed it: what counts is that the chain is whole.
fn signers(world: &World) -> Vec<PublicKey> {
    let said = |bytes: &Vec<u8>| serde_json::from_slice::<Value>(bytes).expect("JSON")["signer"].clone();
    let keys =
        world.archive.objects().iter().filter(|(name, _)| !name.ends_with(".minisig")).map(|(_, b)| said(b)).collect();
    serde_json::from_value(Value::Array(keys)).expect("keys")
}

fn chain(world: &World) -> usize {
    let trusted = Trusted::new(signers(world));
    Ledger::open(&world.archive, &world.id, &world.app, &trusted).expect("the chain is whole").entries().len()
}

#[test]
fn a_loser_that_overwrote_our_signature_does_no_harm() {
    let world = World::with(1);
    let (_, minisig) = rival(&world);
    let archive = Interleaved::new(&world.archive, SECOND, |archive| {
        archive.objects().insert(format!("{SECOND}.minisig"), minisig);
    });
    let mut ledger = Ledger::open(&archive, &world.id, &world.app, &world.trusted()).expect("good");
    assert_eq!(ledger.append(&world.signer, tested(), clock::now()).expect("appended"), 2);
    assert_eq!(chain(&world), 2);
}

#[test]
fn a_winner_that_was_thought_dead_gets_its_signature_back() {
    let world = World::with(1);
    let (entry, minisig) = rival(&world);
    let trusted = {
        let said: Value = serde_json::from_slice(&entry).expect("JSON");
        let rival: PublicKey = serde_json::from_value(said["signer"].clone()).expect("a key");
        Trusted::new(vec![*world.signer.public(), rival])
    };
    world.archive.objects().insert(format!("{SECOND}.minisig"), minisig.clone());
    let archive = Interleaved::new(&world.archive, SECOND, move |archive| {
        archive.objects().insert(SECOND.to_owned(), entry);
    });
    let mut ledger = Ledger::open(&archive, &world.id, &world.app, &trusted).expect("good");
    assert_eq!(ledger.append(&world.signer, tested(), clock::now()).expect("appended"), 3);
    assert_eq!(world.archive.objects()[&format!("{SECOND}.minisig")], minisig);
    assert_eq!(chain(&world), 3);
}

#[test]
fn a_winner_that_comes_while_we_wait_keeps_its_number() {
    let world = World::with(1);
    let (entry, minisig) = rival(&world);
    world.archive.objects().insert(format!("{SECOND}.minisig"), minisig.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            world.archive.objects().insert(SECOND.to_owned(), entry.clone());
        });
        let said: Value = serde_json::from_slice(&entry).expect("JSON");
        let rival: PublicKey = serde_json::from_value(said["signer"].clone()).expect("a key");
        let trusted = Trusted::new(vec![*world.signer.public(), rival]);
        let mut ledger = Ledger::open(&world.archive, &world.id, &world.app, &trusted).expect("good");
        assert_eq!(ledger.append(&world.signer, tested(), clock::now()).expect("appended"), 3);
    });
    assert_eq!(world.archive.objects()[&format!("{SECOND}.minisig")], minisig);
    assert_eq!(chain(&world), 3);
}
