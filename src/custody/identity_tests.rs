//! Identity files: each kind that `age -i` takes, when a passphrase is asked for, and what is refused.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use zeroize::Zeroizing;

use super::tests::{custodian, file, nobody, person};
use super::*;
use crate::archive::memory::Memory;

const ED25519: &str = include_str!("../../tests/vectors/custody/ed25519.pub");
const LOCKED: &str = include_str!("../../tests/vectors/custody/ed25519-locked.pub");
const RSA: &str = include_str!("../../tests/vectors/custody/rsa.pub");
const ED25519_KEY: &[u8] = include_bytes!("../../tests/vectors/custody/ed25519");
const LOCKED_KEY: &[u8] = include_bytes!("../../tests/vectors/custody/ed25519-locked");
const RSA_KEY: &[u8] = include_bytes!("../../tests/vectors/custody/rsa");
const ECDSA_KEY: &[u8] = include_bytes!("../../tests/vectors/custody/ecdsa");

/// Answers every question with one passphrase and counts them.
struct Asked {
    passphrase: &'static str,
    times: Cell<u32>,
}

impl Asked {
    fn new(passphrase: &'static str) -> Self {
        Self { passphrase, times: Cell::new(0) }
    }
}

impl Ask for Asked {
    fn passphrase(&self, what: &str) -> Result<Zeroizing<String>> {
        assert!(what.starts_with("passphrase of /"), "{what}");
        self.times.set(self.times.get() + 1);
        Ok(Zeroizing::new(self.passphrase.to_owned()))
    }
}

fn kept(key: &SealingKey, custodians: &[Custodian]) -> Memory {
    let archive = Memory::default();
    establish(&archive, key, custodians).expect("established");
    archive
}

fn load_error(path: &Path) -> Error {
    Identities::load(&[path.to_owned()], &nobody).err().expect("refused")
}

#[test]
fn ssh_keys_open_it() {
    let (folder, key) = (tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let archive = kept(&key, &[custodian("a", ED25519), custodian("b", RSA), custodian("c", LOCKED)]);
    for bytes in [ED25519_KEY, RSA_KEY] {
        let paths = [file(&folder, "id", bytes)];
        let identities = Identities::load(&paths, &nobody).expect("loaded");
        assert_eq!(open(&archive, key.id(), &identities).expect("opened").id(), key.id());
    }
    let paths = [file(&folder, "id", LOCKED_KEY)];
    let asked = Asked::new("correct horse");
    let identities = Identities::load(&paths, &asked).expect("loaded");
    assert_eq!(asked.times.get(), 0);
    for _ in 0..2 {
        assert_eq!(open(&archive, key.id(), &identities).expect("opened").id(), key.id());
    }
    assert_eq!(asked.times.get(), 1);
}

#[test]
fn a_locked_ssh_key_that_is_no_custodian_is_not_asked_about() {
    let (folder, key) = (tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let archive = kept(&key, &[custodian("a", ED25519)]);
    let (paths, asked) = ([file(&folder, "id", LOCKED_KEY)], Asked::new("correct horse"));
    let identities = Identities::load(&paths, &asked).expect("loaded");
    assert_eq!(open(&archive, key.id(), &identities).err().expect("sealed").kind(), Kind::Sealed);
    assert_eq!(asked.times.get(), 0);
}

#[test]
fn a_protected_file_is_asked_about_last_and_once() {
    let (folder, key) = (tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let (bytes, recipient) = recovery::with_work_factor(Some("correct horse"), 4).expect("made");
    let locked = file(&folder, "locked", &bytes);
    let (alice, alices) = person(&folder, "alice");
    let archive = kept(&key, &[custodian("me", &recipient), alice]);

    let asked = Asked::new("correct horse");
    let paths = [locked.clone(), alices];
    open(&archive, key.id(), &Identities::load(&paths, &asked).expect("loaded")).map(drop).expect("opened");
    assert_eq!(asked.times.get(), 0, "alice's file needs nobody");

    for (passphrase, opens) in [("correct horse", true), ("wrong", false)] {
        let asked = Asked::new(passphrase);
        let identities = Identities::load(&paths[..1], &asked).expect("loaded");
        for _ in 0..2 {
            match open(&archive, key.id(), &identities) {
                Ok(opened) => assert!(opens && opened.id() == key.id()),
                Err(error) => {
                    assert!(!opens && error.kind() == Kind::Sealed, "{}", error.chain());
                    assert!(error.chain().contains("the passphrase is wrong"), "{}", error.chain());
                }
            }
        }
        assert_eq!(asked.times.get(), 1, "{passphrase}");
    }

    let identities = Identities::load(&paths[..1], &nobody).expect("loaded");
    let error = open(&archive, key.id(), &identities).err().expect("nobody answers");
    assert_eq!(error.kind(), Kind::Sealed);
    assert!(error.chain().contains("no terminal"), "{}", error.chain());
}

#[test]
fn an_interrupted_question_ends_everything() {
    let (folder, key) = (tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let (bytes, recipient) = recovery::with_work_factor(Some("x"), 4).expect("made");
    let archive = kept(&key, &[custodian("me", &recipient)]);
    let paths = [file(&folder, "locked", &bytes)];
    let stop = |_: &str| Err(Error::new(Kind::Interrupted, "interrupted"));
    let identities = Identities::load(&paths, &stop).expect("loaded");
    assert_eq!(open(&archive, key.id(), &identities).err().expect("stopped").kind(), Kind::Interrupted);
}

#[test]
fn a_binary_protected_file_with_comments_and_several_identities_opens() {
    let (folder, key) = (tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let (one, _) = new_recovery_identity(None).expect("made");
    let (two, recipient) = new_recovery_identity(None).expect("made");
    let mut plain = b"\r\n# mine\r\n".to_vec();
    plain.extend_from_slice(&one);
    plain.extend_from_slice(&two);
    let mut lock = age::scrypt::Recipient::new(SecretString::from("correct horse"));
    lock.set_work_factor(4);
    let paths = [file(&folder, "locked", &age::encrypt(&lock, &plain).expect("encrypted"))];
    let archive = kept(&key, &[custodian("me", &recipient)]);
    let asked = Asked::new("correct horse");
    let identities = Identities::load(&paths, &asked).expect("loaded");
    assert_eq!(open(&archive, key.id(), &identities).expect("opened").id(), key.id());
    let paths = [file(&folder, "plain", &plain)];
    assert!(open(&archive, key.id(), &Identities::load(&paths, &nobody).expect("loaded")).is_ok());
}

#[test]
fn an_excessive_work_factor_is_not_tried() {
    let (folder, key) = (tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let (bytes, recipient) = recovery::with_work_factor(Some("x"), 4).expect("made");
    let archive = kept(&key, &[custodian("me", &recipient)]);
    let mut binary = Vec::new();
    std::io::Read::read_to_end(&mut age::armor::ArmoredReader::new(&bytes[..]), &mut binary).expect("armored");
    // The header's MAC is not reached: the work comes first.
    let end = binary.iter().position(|b| *b == b'\n').expect("a line") + 1;
    let line = binary[end..].iter().position(|b| *b == b'\n').expect("a line") + end;
    assert_eq!(&binary[line - 2..line], b" 4");
    for factor in ["23", "63"] {
        let mut greedy = binary.clone();
        greedy.splice(line - 1..line, factor.bytes());
        let paths = [file(&folder, "greedy", &greedy)];
        let asked = Asked::new("x");
        let error = open(&archive, key.id(), &Identities::load(&paths, &asked).expect("loaded")).err().expect("greedy");
        assert!(error.chain().contains(&format!("work factor {factor}")), "{}", error.chain());
    }
}

#[test]
fn files_that_others_can_read_or_that_are_not_there_are_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, "id", ED25519_KEY);
    for mode in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        let error = load_error(&path);
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.hints()[0].starts_with("chmod 600 "), "{:?}", error.hints());
    }
    assert_eq!(load_error(&folder.path().join("nothing")).kind(), Kind::NotFound);
    assert_eq!(load_error(folder.path()).kind(), Kind::Refused);
}

#[test]
fn what_is_no_identity_is_refused_without_being_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = SealingKey::generate();
    let text = String::from_utf8(key.to_identity_file().to_vec()).expect("text");
    let secret = text.lines().last().expect("a line");
    let broken = secret.replace("AGE-SECRET-KEY-1", "AGE-SECRET-KEY-1Q");
    let sealed = age::encrypt(key.recipient().age(), b"x").expect("encrypted");
    for (bytes, says) in [
        (broken.as_bytes(), "line 1"),
        (b"# only a comment\n".as_slice(), "holds no identity"),
        (b"".as_slice(), "holds no identity"),
        (b"\xff\xfe".as_slice(), "not text"),
        (ED25519.as_bytes(), "is a public key"),
        (ECDSA_KEY, "ecdsa-sha2-nistp256"),
        (b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n-----END PRIVATE KEY-----\n".as_slice(), "no private key"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n".as_slice(), "no private key"),
        (&sealed, "not with a passphrase"),
    ] {
        let error = load_error(&file(&folder, "id", bytes));
        assert_eq!(error.kind(), Kind::Usage, "{}", error.chain());
        assert!(error.chain().contains(says), "{}", error.chain());
        assert!(!format!("{error:?}{:?}", error.hints()).contains(&secret[20..40]));
    }
    let error = load_error(&file(&folder, "id", b"-----BEGIN AGE ENCRYPTED FILE-----\nnonsense\n"));
    assert_eq!(error.kind(), Kind::Damaged, "{}", error.chain());
}

#[test]
fn the_refusal_names_every_file_and_why() {
    let (folder, key) = (tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let archive = kept(&key, &[custodian("a", ED25519)]);
    let (_, alices) = person(&folder, "alice");
    let (bytes, _) = recovery::with_work_factor(Some("x"), 4).expect("made");
    let plugin = bech32::encode_upper::<bech32::Bech32>(
        bech32::Hrp::parse("age-plugin-nobody-has-it-").expect("an hrp"),
        &[7; 8],
    )
    .expect("encoded");
    let paths: Vec<PathBuf> = vec![
        file(&folder, "locked", &bytes),
        alices,
        file(&folder, "rsa", RSA_KEY),
        file(&folder, "plugin", plugin.as_bytes()),
    ];
    let asked = Asked::new("wrong");
    let error = open(&archive, key.id(), &Identities::load(&paths, &asked).expect("loaded")).err().expect("sealed");
    assert_eq!(error.kind(), Kind::Sealed);
    let chain = error.chain();
    for says in [
        "none of 4 identities",
        "/locked: the passphrase is wrong\n",
        "/alice: it is none of the key's custodians\n",
        "/rsa: it is none of the key's custodians\n",
        "/plugin: the program age-plugin-nobody-has-it is not on PATH",
    ] {
        assert!(chain.contains(says), "{says:?} is not in {chain}");
    }
    let nobody_given = Identities::load(&[], &nobody).expect("loaded");
    assert_eq!(open(&archive, key.id(), &nobody_given).err().expect("sealed").kind(), Kind::Sealed);
}
