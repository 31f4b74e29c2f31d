//! The test vectors of age (C2SP CCTV), as the `age` crate carries them, through our own reading of a sealed stream.
//!
//! We read less than age does: binary files, to one X25519 recipient. What that leaves must be read as the vector says, and all
//! else refused, whatever age makes of it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Command;

use strongroom::ground::Kind;
use strongroom::ground::names::Sha256Hex;
use strongroom::sealing::{SealingKey, stream};

/// Where cargo keeps the source of the `age` crate.
fn age_source() -> PathBuf {
    let version = Command::new(env!("CARGO")).arg("-vV").output().expect("cargo runs").stdout;
    let version = String::from_utf8(version).expect("text");
    // Only what this platform needs has been fetched.
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let out = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--locked",
            "--filter-platform",
            host,
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let age = packages.iter().find(|package| package["name"] == "age").expect("the age crate");
    let manifest = PathBuf::from(age["manifest_path"].as_str().expect("a path"));
    manifest.parent().expect("a folder").to_owned()
}

/// One vector: its header fields, and the file.
struct Vector {
    fields: BTreeMap<String, String>,
    file: Vec<u8>,
}

impl Vector {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(2).position(|two| two == b"\n\n").expect("a header");
        let header = std::str::from_utf8(&bytes[..end]).expect("text");
        let fields: BTreeMap<_, _> = header
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let body = &bytes[end + 2..];
        let file = if fields.contains_key("compressed") {
            let mut file = Vec::new();
            flate2::read::ZlibDecoder::new(body).read_to_end(&mut file).expect("unpacked");
            file
        } else {
            body.to_vec()
        };
        Self { fields, file }
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.fields.get(name).is_some_and(|found| found == value)
    }
}

/// Vectors that age opens and that are not what we seal: another stanza beside ours, or one that is not ours.
const MORE_THAN_OURS: [&str; 6] = [
    "scrypt",
    "stanza_empty_body",
    "stanza_empty_last_line",
    "stanza_valid_characters",
    "x25519_grease",
    "x25519_multiple_recipients",
];

#[test]
fn the_vectors_of_age_are_read_as_they_say_or_refused() {
    let folder = age_source().join("tests/testdata/testkit");
    let listing = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let (mut opened, mut refused, mut broken, mut narrower) = (0, 0, 0, Vec::new());
    for entry in listing.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let vector = Vector::parse(&std::fs::read(entry.path()).expect("read"));
        let key = vector.fields.get("identity").map_or_else(SealingKey::generate, |identity| {
            SealingKey::parse(identity.as_bytes()).unwrap_or_else(|e| panic!("{name}: {}", e.chain()))
        });
        let result = stream::open_bytes(&key, &vector.file, &name);
        let success = vector.is("expect", "success");
        match &result {
            Ok(plain) => {
                assert!(success, "{name} is opened, and should not be: {}", vector.fields["expect"]);
                assert_eq!(Sha256Hex::of(plain).as_str(), vector.fields["payload"], "{name}");
                opened += 1;
            }
            Err(error) if success => {
                assert!(matches!(error.kind(), Kind::Damaged | Kind::Sealed), "{name}: {}", error.chain());
                if !vector.fields.contains_key("armored") {
                    narrower.push(name.clone());
                }
            }
            Err(error) => {
                assert!(matches!(error.kind(), Kind::Damaged | Kind::Sealed), "{name}: {}", error.chain());
                refused += 1;
            }
        }
        // One that stops in the middle gives authentic bytes before it does: what the vector has, or whole chunks of it.
        if vector.is("expect", "payload failure")
            && let Ok(mut reader) = stream::open(&key, vector.file.as_slice(), &name)
        {
            let mut plain = Vec::new();
            assert!(reader.read_to_end(&mut plain).is_err(), "{name}");
            let chunks = plain.len() % 65536 == 0;
            assert!(chunks || Sha256Hex::of(&plain).as_str() == vector.fields["payload"], "{name}: {}", plain.len());
            broken += 1;
        }
    }
    narrower.sort();
    assert_eq!(narrower, MORE_THAN_OURS);
    assert_eq!((opened, refused, broken), (9, 103, 18), "vectors came or went: look at each");
}
