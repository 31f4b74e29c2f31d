//! What can happen: each kind of event with its facts.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ground::names::{BundleId, Fingerprint, Label, ObjectName, SealingId, Sha256Hex};
use crate::ground::{Error, Result};

/// A bundle was committed; enough of it that listing bundles needs the ledger only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleEvent {
    /// The bundle's id.
    pub bundle: BundleId,
    /// The digest of its `SHA256SUMS`.
    pub sums: Sha256Hex,
    /// The verdict of its proof, as in its header.
    pub verdict: String,
    /// The keys that it was proved with and holds.
    pub keys: Vec<Fingerprint>,
    /// What it is sealed to.
    pub sealing: SealingId,
    /// The bundle that its storage is taken from, when it stores none itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_from: Option<BundleId>,
    /// What it holds: `database`, `storage`, `key`.
    #[serde(default)]
    pub contains: Vec<String>,
    /// Bytes that it added to the archive.
    pub bytes: u64,
    /// What its backup found wrong with what it holds, as in its header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Label>,
}

/// A sealed application key was put into an escrow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EscrowEvent {
    /// The key.
    pub fingerprint: Fingerprint,
    /// What it is sealed to.
    pub sealing: SealingId,
    /// Where it was put, without secrets.
    pub place: String,
    /// The digest of the sealed bytes.
    pub sha256: Sha256Hex,
}

/// Who can open a sealing key was set or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustodyEvent {
    /// The sealing key.
    pub sealing: SealingId,
    /// The generation of its `custody.json`.
    pub generation: u64,
    /// How many custodians it takes.
    pub threshold: u64,
    /// The custodians' labels.
    pub labels: Vec<Label>,
}

/// A custodian showed that an identity opens a sealing key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustodyTestEvent {
    /// The sealing key.
    pub sealing: SealingId,
    /// The custodian, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
}

/// A bundle was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationEvent {
    /// The bundle.
    pub bundle: BundleId,
    /// The digest of the `SHA256SUMS` that was verified.
    pub sums: Sha256Hex,
    /// The verdict that this verification came to.
    pub verdict: String,
    /// Whether everything was streamed and the credentials were taken from the dump.
    pub deep: bool,
    /// The key that it was verified with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
}

/// Bundles, or parts that no bundle names, were removed by a rule.
///
/// Some hundred names fit into an entry ([`super::LIMIT`]); more go into several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneEvent {
    /// The bundles.
    pub bundles: Vec<BundleId>,
    /// The parts and segments of file lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<ObjectName>,
}

/// A full restore into a scratch place was tried and timed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillEvent {
    /// The bundle.
    pub bundle: BundleId,
    /// Whether it restored and its credentials decrypted.
    pub passed: bool,
    /// How long it took.
    pub seconds: u64,
    /// Bytes restored.
    pub bytes: u64,
}

/// Something happened to an application key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEvent {
    /// The key.
    pub fingerprint: Fingerprint,
    /// What happened: `rotated`, `re-encrypted` (rows under the predecessor came under this one), `retired`, `destroyed`.
    pub action: String,
    /// The key before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<Fingerprint>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An event; in an entry the word stands in the field `event` and the facts beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `bundle`
    Bundle(BundleEvent),
    /// `escrow`
    Escrow(EscrowEvent),
    /// `custody`
    Custody(CustodyEvent),
    /// `custody-test`
    CustodyTest(CustodyTestEvent),
    /// `verification`
    Verification(VerificationEvent),
    /// `prune`
    Prune(PruneEvent),
    /// `drill`
    Drill(DrillEvent),
    /// `key`
    Key(KeyEvent),
    /// A kind that this program does not know, kept as it is.
    Unknown {
        /// Its word.
        event: String,
        /// Every field beside those of all entries.
        facts: Map<String, Value>,
    },
}

impl Event {
    /// Its word in the field `event`.
    pub fn word(&self) -> &str {
        match self {
            Self::Bundle(_) => "bundle",
            Self::Escrow(_) => "escrow",
            Self::Custody(_) => "custody",
            Self::CustodyTest(_) => "custody-test",
            Self::Verification(_) => "verification",
            Self::Prune(_) => "prune",
            Self::Drill(_) => "drill",
            Self::Key(_) => "key",
            Self::Unknown { event, .. } => event,
        }
    }

    /// Its facts, in the order in which an entry holds them.
    pub(super) fn facts(&self) -> Result<Map<String, Value>> {
        let value = match self {
            Self::Bundle(facts) => serde_json::to_value(facts),
            Self::Escrow(facts) => serde_json::to_value(facts),
            Self::Custody(facts) => serde_json::to_value(facts),
            Self::CustodyTest(facts) => serde_json::to_value(facts),
            Self::Verification(facts) => serde_json::to_value(facts),
            Self::Prune(facts) => serde_json::to_value(facts),
            Self::Drill(facts) => serde_json::to_value(facts),
            Self::Key(facts) => serde_json::to_value(facts),
            Self::Unknown { facts, .. } => return Ok(facts.clone()),
        };
        match value {
            Ok(Value::Object(facts)) => Ok(facts),
            _ => Err(Error::failed(format!("cannot write the facts of a {} event", self.word()))),
        }
    }

    /// Reads the facts of an event from the fields of its entry.
    pub(super) fn read(word: &str, facts: Map<String, Value>) -> Result<Self, serde_json::Error> {
        let value = Value::Object(facts);
        Ok(match word {
            "bundle" => Self::Bundle(serde_json::from_value(value)?),
            "escrow" => Self::Escrow(serde_json::from_value(value)?),
            "custody" => Self::Custody(serde_json::from_value(value)?),
            "custody-test" => Self::CustodyTest(serde_json::from_value(value)?),
            "verification" => Self::Verification(serde_json::from_value(value)?),
            "prune" => Self::Prune(serde_json::from_value(value)?),
            "drill" => Self::Drill(serde_json::from_value(value)?),
            "key" => Self::Key(serde_json::from_value(value)?),
            _ => match value {
                Value::Object(facts) => Self::Unknown { event: word.to_owned(), facts },
                _ => Self::Unknown { event: word.to_owned(), facts: Map::new() },
            },
        })
    }
}
