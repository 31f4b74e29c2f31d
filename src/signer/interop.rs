//! What we sign, the distribution's `minisign` verifies, and the other way round.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{PublicKey, Signer, Trusted};
use crate::ground::Kind;

/// Runs `minisign` in a folder; `None` when it is not installed, which is a failure where `tests/run` runs.
fn minisign(folder: &Path, arguments: &[&str]) -> Option<std::process::Output> {
    match Command::new("minisign").args(arguments).current_dir(folder).env("HOME", folder).output() {
        Ok(output) => Some(output),
        Err(e) => {
            let required = std::env::var_os("STRONGROOM_TEST_TOOLS").is_some_and(|v| v == "required");
            assert!(!required, "minisign is needed: {e}");
            #[expect(clippy::print_stderr, reason = "a skipped test says so")]
            {
                eprintln!("skipped: minisign is not installed ({e})");
            }
            None
        }
    }
}

fn succeeded(output: &std::process::Output) -> bool {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

#[test]
fn the_program_verifies_our_signatures_and_signs_with_our_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let signer = Signer::generate().expect("random");
    signer.save(&at("our.key"), &at("our.pub")).expect("saved");
    std::fs::write(at("message"), b"a message\n").expect("written");
    std::fs::write(at("message.minisig"), signer.sign(b"a message\n", "a comment").expect("signed")).expect("written");

    let Some(by_file) = minisign(folder.path(), &["-V", "-p", "our.pub", "-m", "message"]) else { return };
    assert!(succeeded(&by_file));
    assert!(String::from_utf8_lossy(&by_file.stdout).contains("a comment"));
    let key = signer.public().to_string();
    assert!(succeeded(&minisign(folder.path(), &["-V", "-H", "-P", &key, "-m", "message"]).expect("it ran")));

    std::fs::write(at("message"), b"another message\n").expect("written");
    let refused = minisign(folder.path(), &["-V", "-p", "our.pub", "-m", "message"]).expect("it ran");
    assert!(!refused.status.success());

    let arguments = ["-S", "-s", "our.key", "-m", "message", "-x", "theirs.minisig", "-t", "theirs"];
    assert!(succeeded(&minisign(folder.path(), &arguments).expect("it ran")));
    let minisig = std::fs::read(at("theirs.minisig")).expect("read");
    let trusted = Trusted::new(vec![*signer.public()]);
    assert!(trusted.verify(b"another message\n", &minisig, "theirs", "message").is_ok());
}

#[test]
fn a_key_that_the_program_made_signs_for_us_and_its_legacy_signatures_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let Some(made) = minisign(folder.path(), &["-G", "-W", "-p", "their.pub", "-s", "their.key"]) else { return };
    assert!(succeeded(&made));
    let signer = Signer::load(&at("their.key")).expect("it loads");
    let public = PublicKey::parse_file(&std::fs::read(at("their.pub")).expect("read")).expect("a key");
    assert_eq!(*signer.public(), public);
    assert!(String::from_utf8_lossy(&std::fs::read(at("their.pub")).expect("read")).contains(&public.id()));

    std::fs::write(at("message"), b"").expect("written");
    std::fs::write(at("message.minisig"), signer.sign(b"", "empty").expect("signed")).expect("written");
    assert!(succeeded(&minisign(folder.path(), &["-V", "-p", "their.pub", "-m", "message"]).expect("it ran")));

    let trusted = Trusted::new(vec![public]);
    for (flags, good) in [(vec!["-S"], true), (vec!["-S", "-l"], false)] {
        let arguments = [flags, vec!["-s", "their.key", "-m", "message", "-t", "said"]].concat();
        assert!(succeeded(&minisign(folder.path(), &arguments).expect("it ran")));
        let minisig = std::fs::read(at("message.minisig")).expect("read");
        let verdict = trusted.verify(b"", &minisig, "said", "message");
        assert_eq!(verdict.as_ref().err().map(crate::ground::Error::kind), (!good).then_some(Kind::NotAuthentic));
    }
}

#[test]
fn the_program_prints_an_id_that_begins_with_zeros_as_we_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    if minisign(folder.path(), &["-v"]).is_none() {
        return;
    }
    let mut bytes = STANDARD.decode(THEIR_KEY).expect("base64");
    bytes[8..10].copy_from_slice(&[0x0c, 0]);
    let key: PublicKey = STANDARD.encode(bytes).parse().expect("a key");
    assert_eq!(key.id(), "C86FACEFCCF09");

    let signer = Signer::generate().expect("random");
    std::fs::write(at("message"), b"").expect("written");
    std::fs::write(at("message.minisig"), signer.sign(b"", "ours").expect("signed")).expect("written");
    let refused = minisign(folder.path(), &["-V", "-P", &key.to_string(), "-m", "message"]).expect("it ran");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains(&key.id()) && said.contains(&signer.public().id()), "{said}");
}

/// Made by minisign 0.11, so that the format is checked where the program is missing.
const THEIR_KEY: &str = "RWQJz/zO+oZELL26XXHTU9eK1OyF/oVRhk0JMar151FnWeAb5/703VL5";
const THEIR_SIGNATURE: &str = "\
untrusted comment: signature from minisign secret key
RUQJz/zO+oZELCfK6G8TShljx2zw1Ds8C/klTvjAGZcEfONSiD+DrKf1+lNHzwIye1inTK1iT95Jf1TZftC4/PWrC/Eq6G5Teg8=
trusted comment: a trusted comment
n65pY0r0VpFiQV9TSnPhsRyGllnWL3CPgyR56L0OuiK5/j53cBrpNLAPsPnVLVbKBJTxE33BaD9MUClse9UxCQ==
";

#[test]
fn a_signature_of_the_program_verifies_without_it() {
    let trusted = Trusted::new(vec![THEIR_KEY.parse().expect("a key")]);
    assert!(trusted.verify(b"test", THEIR_SIGNATURE.as_bytes(), "a trusted comment", "test").is_ok());
    assert!(trusted.verify(b"Test", THEIR_SIGNATURE.as_bytes(), "a trusted comment", "test").is_err());
}
