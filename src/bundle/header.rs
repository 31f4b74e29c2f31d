//! `bundle.json`: what everybody may know of a bundle.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::FOREIGN;
use super::members::Member;
use super::sums::Sums;
use crate::appkey::proof::Verdict;
use crate::ground::names::{AppName, BundleId, Fingerprint, Label, SealingId, Uuid};
use crate::ground::{Error, Result, clock, json};
use crate::signer::PublicKey;

/// How long a header may be in bytes.
pub const LIMIT: u64 = 1 << 20;

/// The format that this program reads and writes.
pub const FORMAT: u64 = 1;

/// How far in the future a time may lie: clocks differ.
const AHEAD: Duration = Duration::from_mins(10);

/// The fields that this program understands; whatever else `critical` names, it does not.
const FIELDS: [&str; 18] = [
    "format",
    "critical",
    "archive",
    "installation",
    "app",
    "id",
    "created",
    "signer",
    "sealing",
    "scheme",
    "keys",
    "verdict",
    "storage_from",
    "contains",
    "database",
    "bytes",
    "storage",
    "problems",
];

/// What everybody may know of a bundle; plain, listed in `SHA256SUMS`, and signed with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The bundle format, 1.
    pub format: u64,
    /// Fields that a reader must understand or give up; empty in format 1.
    pub critical: Vec<String>,
    /// The archive that it was made for; copies keep it.
    pub archive: Uuid,
    /// The installation of the application.
    pub installation: Uuid,
    /// The application.
    pub app: AppName,
    /// The bundle's own name.
    pub id: BundleId,
    /// When it was finished, as [`clock::rfc3339`] writes it.
    pub created: String,
    /// Who signed it.
    pub signer: PublicKey,
    /// The sealing key that opens it.
    pub sealing: SealingId,
    /// How the application turns its key into ciphertext.
    pub scheme: String,
    /// The application keys that its credentials belong to.
    pub keys: Vec<Fingerprint>,
    /// What the proof came to.
    pub verdict: Verdict,
    /// The bundle that holds the storage that belongs to this one, when it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_from: Option<BundleId>,
    /// What parts of a backup it holds: `database`, `storage`, `key`.
    pub contains: Vec<String>,
    /// The database system: `sqlite`, later `postgres`, `d1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// How many bytes this bundle added to the archive, without header, sums and signature.
    pub bytes: u64,
    /// The program that made it, for people.
    #[serde(default)]
    pub generator: String,
    /// What the storage came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSummary>,
    /// What its backup found wrong with what it holds, as words; a newer program may know more of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Label>,
}

/// What the storage in a bundle came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageSummary {
    /// Files in the list.
    pub files: u64,
    /// Objects that the database names and the storage lacked.
    pub missing: u64,
    /// Bytes of all files' content.
    pub bytes: u64,
}

/// What is read first, because all else may look different in another format.
#[derive(Deserialize)]
struct Preamble {
    format: u64,
    #[serde(default)]
    critical: Vec<String>,
}

impl Header {
    /// Reads a header strictly; `what` names it in errors.
    ///
    /// A format or a critical field that this program does not know is [`crate::ground::Kind::Failed`] with a hint, everything
    /// else that is not as it should be is [`crate::ground::Kind::Damaged`].
    pub fn parse(bytes: &[u8], what: &str) -> Result<Self> {
        let newer = |why: String| {
            Error::failed(format!("{what} needs a newer strongroom: {why}")).hint("Use a newer strongroom.")
        };
        let preamble: Preamble = json::parse(bytes, what)?;
        if preamble.format != FORMAT {
            return Err(newer(format!("it has format {}, and this program reads format {FORMAT}", preamble.format)));
        }
        if let Some(field) = preamble.critical.iter().find(|field| !FIELDS.contains(&field.as_str())) {
            let field: String = field.chars().take(80).collect();
            return Err(newer(format!("its field {field:?} is critical and not known to this one")));
        }
        let header: Self = json::parse(bytes, what)?;
        header.well_formed().map_err(|why| Error::damaged(format!("{what} is not as it should be: {why}")))?;
        Ok(header)
    }

    fn well_formed(&self) -> Result<(), &'static str> {
        if clock::parse_rfc3339(&self.created).is_none() {
            return Err("its time of creation is none");
        }
        if self.contains.iter().collect::<BTreeSet<_>>().len() != self.contains.len() {
            return Err("it contains something twice");
        }
        if self.keys.iter().collect::<BTreeSet<_>>().len() != self.keys.len() {
            return Err("it names a key twice");
        }
        if self.problems.iter().collect::<BTreeSet<_>>().len() != self.problems.len() {
            return Err("it names a problem twice");
        }
        if self.storage_from.as_ref() == Some(&self.id) {
            return Err("it takes its storage from itself");
        }
        Ok(())
    }

    /// The header's bytes.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        json::pretty(self)
    }

    /// Refuses a header that is not the one of this place, or that comes from the future.
    ///
    /// [`crate::ground::Kind::NotAuthentic`]: somebody moved a good bundle to where another one belongs.
    pub fn belongs(
        &self,
        archive: &Uuid,
        app: &AppName,
        id: &BundleId,
        signer: &PublicKey,
        now: Timestamp,
    ) -> Result<()> {
        let not = |field: &str, found: &dyn std::fmt::Display, expected: &dyn std::fmt::Display| {
            Err(Error::not_authentic(format!(
                "the header of bundle {id} has {field} {found}, and it stands where {expected} belongs"
            ))
            .hint(FOREIGN))
        };
        if self.archive != *archive {
            return not("archive", &self.archive, archive);
        }
        if self.app != *app {
            return not("app", &self.app, app);
        }
        if self.id != *id {
            return not("id", &self.id, id);
        }
        if self.signer != *signer {
            return Err(Error::not_authentic(format!(
                "the header of bundle {id} names signer {}, and {signer} signed it",
                self.signer
            ))
            .hint(FOREIGN));
        }
        let latest = now.checked_add(AHEAD).unwrap_or(Timestamp::MAX);
        let created = clock::parse_rfc3339(&self.created).unwrap_or(Timestamp::MAX);
        if created > latest || id.time() > latest {
            return Err(Error::not_authentic(format!("bundle {id}, created {}, comes from the future", self.created))
                .hint(format!("It is {} here: is the clock of this machine right?", clock::rfc3339(now))));
        }
        Ok(())
    }

    /// Whether a list has what the header promises, and no database that the header does not tell of; else why not.
    ///
    /// Who signs can leave out either: nothing would be proved then, or not what is restored, and all would look well.
    pub(super) fn agrees(&self, list: &Sums) -> Result<(), &'static str> {
        let listed = list.members().map(|(member, _)| member).find(Member::is_database);
        let right = match (&listed, self.database.as_deref()) {
            (None, _) => !self.has("database"),
            (Some(_), None) => false,
            (Some(member), Some("sqlite")) => *member == Member::Database("database.sqlite".to_owned()),
            (Some(member), Some("postgres")) => *member == Member::Database("database.pgdump".to_owned()),
            (Some(_), Some(_)) => true,
        };
        if !right || listed.is_some() != self.has("database") {
            return Err("tells of another database than is listed, or of none");
        }
        if self.has("key") && !list.has(&Member::Key) {
            return Err("tells of a key that is not listed");
        }
        Ok(())
    }

    /// Whether it holds this: `database`, `storage` or `key`.
    pub fn has(&self, what: &str) -> bool {
        self.contains.iter().any(|c| c == what)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ground::Kind;
    use crate::signer::Signer;

    /// A header for the tests of those who need one.
    pub(in crate::bundle) fn sample(id: &BundleId, archive: &Uuid, signer: &PublicKey, sealing: &SealingId) -> Header {
        Header {
            format: 1,
            critical: Vec::new(),
            archive: archive.clone(),
            installation: "7b1c8f10-3c1e-4f6a-9d57-0a4a5d1e2f30".parse().expect("a UUID"),
            app: "shop".parse().expect("a name"),
            id: id.clone(),
            created: clock::rfc3339(clock::now()),
            signer: *signer,
            sealing: sealing.clone(),
            scheme: "package-broker".to_owned(),
            keys: vec![Fingerprint::from_bytes(&[7; 16])],
            verdict: Verdict::Proved,
            storage_from: None,
            contains: vec!["database".to_owned()],
            database: Some("sqlite".to_owned()),
            bytes: 1234,
            generator: "a test".to_owned(),
            storage: None,
            problems: Vec::new(),
        }
    }

    fn good() -> Header {
        let signer = *Signer::generate().expect("random").public();
        let id = BundleId::new(clock::now()).expect("random");
        sample(&id, &Uuid::new().expect("random"), &signer, &SealingId::from_bytes(&[1; 16]))
    }

    fn changed(header: &Header, change: impl FnOnce(&mut Value)) -> Result<Header> {
        let mut value = serde_json::to_value(header).expect("it serializes");
        change(&mut value);
        Header::parse(value.to_string().as_bytes(), "it")
    }

    #[test]
    fn a_header_reads_back_and_every_field_of_it_is_a_known_one() {
        let mut header = good();
        header.storage_from = Some(BundleId::new(clock::now()).expect("random"));
        header.storage = Some(StorageSummary { files: 1, missing: 0, bytes: 2 });
        header.problems = vec!["left-out".parse().expect("a word")];
        assert_eq!(Header::parse(&header.to_bytes().expect("bytes"), "it").expect("read"), header);
        let value = serde_json::to_value(&header).expect("it serializes");
        for field in value.as_object().expect("an object").keys().filter(|f| *f != "generator") {
            assert!(FIELDS.contains(&field.as_str()), "{field}");
            assert!(changed(&header, |v| v["critical"] = json!([field])).is_ok(), "{field}");
        }
    }

    #[test]
    fn what_a_newer_program_made_says_so_even_where_the_rest_is_unknown() {
        for bytes in [
            br#"{"format":2,"critical":[]}"#.as_slice(),
            br#"{"format":2}"#,
            br#"{"format":1,"critical":["compression"],"archive":7}"#,
        ] {
            let error = Header::parse(bytes, "it").expect_err("refused");
            assert_eq!(error.kind(), Kind::Failed);
            assert!(error.to_string().contains("needs a newer strongroom"), "{error}");
        }
        let header = good();
        assert!(changed(&header, |v| v["comment"] = json!("unknown, and not critical")).is_ok());
        assert!(changed(&header, |v| v["critical"] = json!(["comment"])).is_err());
    }

    #[test]
    fn what_is_no_header_is_damaged() {
        let header = good();
        let changes: [fn(&mut Value); 11] = [
            |v| v["created"] = json!("2026-11-23 02:00:00"),
            |v| v["created"] = json!("2026-11-23T02:00:00+00:00"),
            |v| v["id"] = json!("latest"),
            |v| v["app"] = json!("../x"),
            |v| v["verdict"] = json!("splendid"),
            |v| v["bytes"] = json!(-1),
            |v| v["contains"] = json!(["key", "key"]),
            |v| v["problems"] = json!(["left-out", "left-out"]),
            |v| v["problems"] = json!(["left\nout"]),
            |v| v["storage_from"] = v["id"].clone(),
            |v| drop(v.as_object_mut().map(|o| o.remove("sealing"))),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert_eq!(changed(&header, change).expect_err("refused").kind(), Kind::Damaged, "{number}");
        }
        let twice = String::from_utf8(header.to_bytes().expect("bytes")).expect("text");
        let twice = twice.replacen('{', r#"{"bytes":1,"#, 1);
        assert_eq!(Header::parse(twice.as_bytes(), "it").expect_err("refused").kind(), Kind::Damaged);
    }

    #[test]
    fn a_header_belongs_to_one_place_and_signer_and_not_to_the_future() {
        let header = good();
        let now = clock::now();
        let check = |h: &Header, now| h.belongs(&header.archive, &header.app, &header.id, &header.signer, now);
        assert!(check(&header, now).is_ok());
        let mut others = vec![header.clone(); 5];
        others[0].archive = Uuid::new().expect("random");
        others[1].app = "blog".parse().expect("a name");
        others[2].id = BundleId::new(now).expect("random");
        others[3].signer = *Signer::generate().expect("random").public();
        others[4].created = clock::rfc3339(now + Duration::from_mins(11));
        for other in &others {
            assert_eq!(check(other, now).expect_err("refused").kind(), Kind::NotAuthentic);
        }
        assert!(check(&others[4], now + Duration::from_mins(2)).is_ok());
        assert!(check(&header, now - Duration::from_mins(9)).is_ok());
        assert!(check(&header, now - Duration::from_mins(12)).is_err());
    }
}
