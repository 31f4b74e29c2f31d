//! `custody.json`: who the custodians of a sealing key are, authenticated by the key itself.

use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::Custodian;
use crate::ground::names::{Label, SealingId, hex, unhex};
use crate::ground::{Error, Result, clock, json};
use crate::sealing::SealingKey;

/// What can be done about a record that somebody changed.
pub const NEXT: &str = "Whoever can write to the archive may have changed it, and its list of custodians is not to be relied on. Nothing is opened with it: take custody.json from another copy of the archive, or move it out of its folder, and run this again.";

/// What `custody.json` says; it names custodians by label and holds no recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustodyRecord {
    /// The record's format, 1.
    pub format: u64,
    /// The sealing key that it is about.
    pub sealing: SealingId,
    /// 1 when custody was established, one more with every re-wrapping.
    pub generation: u64,
    /// How many custodians it takes, 1.
    pub threshold: u64,
    /// The custodians, in the operator's order.
    pub labels: Vec<Label>,
    /// When this generation was written.
    #[serde(with = "clock::text")]
    pub created: Timestamp,
    /// HMAC-SHA-256 in lowercase hex; see [`CustodyRecord::verify`].
    pub mac: String,
}

/// The record without its MAC; the order of these fields is the canonical form's.
#[derive(Serialize)]
struct Canonical<'a> {
    format: u64,
    sealing: &'a SealingId,
    generation: u64,
    threshold: u64,
    labels: &'a [Label],
    created: String,
}

/// What is read before anything else, so that a newer record is named as such.
#[derive(Deserialize)]
struct Shape {
    format: u64,
    threshold: u64,
    #[serde(default)]
    critical: Vec<String>,
}

impl CustodyRecord {
    /// The record of a generation, with its MAC.
    pub(super) fn new(key: &SealingKey, generation: u64, custodians: &[Custodian], created: Timestamp) -> Result<Self> {
        let mut record = Self {
            format: 1,
            sealing: key.id().clone(),
            generation,
            threshold: 1,
            labels: custodians.iter().map(|custodian| custodian.label().clone()).collect(),
            // Whole seconds, as the text holds it.
            created: Timestamp::from_second(created.as_second())
                .map_err(|e| Error::failed("the clock shows no time that a record can hold").because(e))?,
            mac: String::new(),
        };
        record.mac = hex(&record.mac(key)?.finalize().into_bytes());
        Ok(record)
    }

    /// Reads a record; one of a newer format, or of k custodians of n, is damaged, as nobody signed that it is one, and says so.
    pub(super) fn parse(bytes: &[u8], what: &str) -> Result<Self> {
        let newer =
            |why: String| Error::damaged(format!("{what} {why}")).hint("Use a newer strongroom, if one wrote it.");
        let shape: Shape = json::parse(bytes, what)?;
        if shape.format != 1 {
            return Err(newer(format!("has format {}, and this program reads format 1", shape.format)));
        }
        if shape.threshold != 1 {
            return Err(newer(format!(
                "takes {} custodians at once: k of n custody needs a newer strongroom",
                shape.threshold
            )));
        }
        if !shape.critical.is_empty() {
            return Err(newer("names fields as critical that this program does not know".to_owned()));
        }
        json::parse(bytes, what)
    }

    /// The file's bytes.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        json::pretty(self)
    }

    /// Checks the MAC with the sealing key, in constant time; [`crate::ground::Kind::NotAuthentic`] when it is another's.
    ///
    /// The MAC is HMAC-SHA-256 under HKDF-SHA-256(identity text, info `strongroom custody v1`), over the record as one JSON
    /// object without white space, UTF-8, with exactly these members in this order: `format`, `sealing`, `generation`,
    /// `threshold`, `labels`, `created`. None of the values can hold a character that JSON escapes, so the bytes are unique:
    /// `{"format":1,"sealing":"…","generation":1,"threshold":1,"labels":["alice"],"created":"2026-11-23T02:00:00Z"}`.
    pub fn verify(&self, key: &SealingKey) -> Result<()> {
        let wrong = |why: &str| Error::not_authentic(format!("custody/{}/custody.json {why}", self.sealing)).hint(NEXT);
        if self.sealing != *key.id() {
            return Err(wrong("is about another sealing key"));
        }
        let mac = unhex::<32>(&self.mac).ok_or_else(|| wrong("holds no MAC"))?;
        self.mac(key)?.verify_slice(&mac).map_err(|_| wrong("does not carry the sealing key's MAC"))
    }

    /// The custodians for a message: `alice, bob`.
    pub(super) fn labels_text(&self) -> String {
        self.labels.iter().map(Label::as_str).collect::<Vec<_>>().join(", ")
    }

    fn canonical(&self) -> Result<Vec<u8>> {
        json::line(&Canonical {
            format: self.format,
            sealing: &self.sealing,
            generation: self.generation,
            threshold: self.threshold,
            labels: &self.labels,
            created: clock::rfc3339(self.created),
        })
    }

    fn mac(&self, key: &SealingKey) -> Result<Hmac<Sha256>> {
        let mac_key = key.custody_mac_key();
        let mut mac = Hmac::<Sha256>::new_from_slice(mac_key.as_ref()).expect("HMAC takes keys of any length");
        mac.update(&self.canonical()?);
        Ok(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &SealingKey) -> CustodyRecord {
        let bob = Custodian::new("bob".parse().expect("a label"), &key.recipient().to_string()).expect("a custodian");
        let time = clock::parse_rfc3339("2026-11-23T02:00:00Z").expect("a time");
        CustodyRecord::new(key, 3, &[bob], time).expect("a record")
    }

    #[test]
    fn the_canonical_form_is_what_the_documentation_says() {
        let key = SealingKey::generate();
        let expected = format!(
            r#"{{"format":1,"sealing":"{}","generation":3,"threshold":1,"labels":["bob"],"created":"2026-11-23T02:00:00Z"}}"#,
            key.id()
        );
        assert_eq!(record(&key).canonical().expect("bytes"), expected.as_bytes());
    }

    #[test]
    fn a_record_reads_back_and_verifies() {
        let key = SealingKey::generate();
        let made = record(&key);
        let read = CustodyRecord::parse(&made.to_bytes().expect("bytes"), "a test").expect("it reads back");
        assert_eq!(read, made);
        read.verify(&key).expect("it verifies");
    }

    #[test]
    fn every_field_is_under_the_mac() {
        let key = SealingKey::generate();
        let changes: [fn(&mut CustodyRecord); 6] = [
            |r| r.generation += 1,
            |r| r.threshold = 2,
            |r| r.format = 2,
            |r| r.labels.push("mallory".parse().expect("a label")),
            |r| r.created = Timestamp::from_second(0).expect("a time"),
            |r| r.mac = "0".repeat(64),
        ];
        for change in changes {
            let mut forged = record(&key);
            change(&mut forged);
            let error = forged.verify(&key).expect_err("refused");
            assert_eq!(error.kind(), crate::ground::Kind::NotAuthentic);
        }
        assert!(record(&key).verify(&SealingKey::generate()).is_err());
    }

    #[test]
    fn a_quorum_is_named_as_something_newer() {
        let key = SealingKey::generate();
        let text = String::from_utf8(record(&key).to_bytes().expect("bytes")).expect("text");
        for (from, to, says) in [
            (r#""threshold": 1"#, r#""threshold": 2"#, "k of n custody needs a newer strongroom"),
            (r#""format": 1"#, r#""format": 2"#, "format 2"),
            (r#""format": 1"#, r#""critical": ["shares"], "format": 1"#, "critical"),
        ] {
            let error = CustodyRecord::parse(text.replace(from, to).as_bytes(), "a test").expect_err("refused");
            assert!(error.chain().contains(says), "{}", error.chain());
        }
    }
}
