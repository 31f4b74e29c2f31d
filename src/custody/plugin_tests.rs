//! Custodians whose key is behind an age plugin: a program on `PATH` that speaks age's plugin protocol.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use zeroize::Zeroizing;

use super::tests::{custodian, file};
use super::*;
use crate::archive::memory::Memory;

/// A plugin that hides nothing: its stanza is the file key. It asks for a PIN, which must be 1234, before it opens.
/// Bodies of the protocol are base64 without padding.
const PLUGIN: &str = r#"#!/bin/sh
case "$1" in
--age-plugin=recipient-v1)
    while read -r arrow command rest; do
        [ "$arrow" = "->" ] || continue
        read -r body
        case "$command" in
        wrap-file-key) key=$body ;;
        done) break ;;
        esac
    done
    printf -- '-> recipient-stanza 0 strongroom-test\n%s\n' "$key"
    read -r answer; read -r body
    printf -- '-> done\n\n'
    ;;
--age-plugin=identity-v1)
    while read -r arrow command index tag rest; do
        [ "$arrow" = "->" ] || continue
        [ "$command" = done ] && break
        read -r body
        [ "$tag" = strongroom-test ] && key=$body
    done
    read -r body
    printf -- '-> msg\n%s\n' "$(printf 'touch your key' | base64 | tr -d =)"
    read -r answer; read -r body
    printf -- '-> request-secret\n%s\n' "$(printf PIN | base64 | tr -d =)"
    read -r arrow answer; read -r pin
    if [ "$pin" = "$(printf 1234 | base64 | tr -d =)" ]; then
        printf -- '-> file-key 0\n%s\n' "$key"
    else
        printf -- '-> error identity 0\n%s\n' "$(printf 'wrong PIN' | base64 | tr -d =)"
    fi
    read -r answer; read -r body
    printf -- '-> done\n\n'
    ;;
esac
"#;

/// Runs an ignored test of this file in a process whose `PATH` begins with a folder that holds the plugin.
fn with_plugin(test: &str, script: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("age-plugin-strongroomtest");
    std::fs::write(&program, script).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("set");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", &format!("custody::plugin_tests::{test}"), "--ignored"])
        .env("PATH", path)
        .output()
        .expect("it ran");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

fn texts() -> (String, String) {
    let encode = |prefix: &str| {
        bech32::encode::<bech32::Bech32>(bech32::Hrp::parse(prefix).expect("an hrp"), &[7; 8]).expect("encoded")
    };
    (encode("age1strongroomtest"), encode("age-plugin-strongroomtest-").to_uppercase())
}

/// Knows the PIN, or a wrong one, and notes what it was told.
struct Person(&'static str, std::cell::RefCell<Vec<String>>);

impl Ask for Person {
    fn passphrase(&self, what: &str) -> Result<Zeroizing<String>> {
        assert_eq!(what, "PIN");
        Ok(Zeroizing::new(self.0.to_owned()))
    }

    fn tell(&self, line: &str) {
        self.1.borrow_mut().push(line.to_owned());
    }
}

#[test]
fn a_plugin_wraps_and_opens() {
    with_plugin("inside_wraps_and_opens", PLUGIN);
}

#[test]
#[ignore = "run by a_plugin_wraps_and_opens, with the plugin on PATH"]
fn inside_wraps_and_opens() {
    let (archive, folder, key) = (Memory::default(), tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let (recipient, identity) = texts();
    let other = custodian("other", &SealingKey::generate().recipient().to_string());
    establish(&archive, &key, &[other, custodian("hardware", &recipient)]).expect("established");
    let paths = [file(&folder, "plugin", identity.as_bytes())];

    let person = Person("1234", Vec::new().into());
    let opened = open(&archive, key.id(), &Identities::load(&paths, &person).expect("loaded")).expect("opened");
    assert_eq!(opened.id(), key.id());
    assert_eq!(*person.1.borrow(), ["touch your key"]);

    let person = Person("9999", Vec::new().into());
    let error = open(&archive, key.id(), &Identities::load(&paths, &person).expect("loaded")).err().expect("sealed");
    assert_eq!(error.kind(), Kind::Sealed);
    assert!(error.chain().contains("wrong PIN"), "{}", error.chain());

    let identities = Identities::load(&paths, &super::tests::nobody).expect("loaded");
    let error = open(&archive, key.id(), &identities).err().expect("sealed");
    assert!(error.chain().contains("no terminal"), "{}", error.chain());
}

#[test]
fn a_plugin_that_dies_is_a_reason_and_not_damage() {
    with_plugin("inside_dies", "#!/bin/sh\nexit 1\n");
}

#[test]
#[ignore = "run by a_plugin_that_dies_is_a_reason_and_not_damage, with the plugin on PATH"]
fn inside_dies() {
    let (archive, folder, key) = (Memory::default(), tempfile::tempdir().expect("a folder"), SealingKey::generate());
    let (recipient, identity) = texts();
    let error = establish(&archive, &key, &[custodian("hardware", &recipient)]).expect_err("the plugin died");
    assert_eq!(error.kind(), Kind::Failed);
    assert!(archive.objects().is_empty());
    let other = SealingKey::generate().recipient().to_string();
    establish(&archive, &key, &[custodian("other", &other)]).expect("established");
    let paths = [file(&folder, "plugin", identity.as_bytes())];
    let identities = Identities::load(&paths, &super::tests::nobody).expect("loaded");
    let error = open(&archive, key.id(), &identities).err().expect("sealed");
    assert_eq!(error.kind(), Kind::Sealed, "{}", error.chain());
}
