//! One entry: its bytes, and what they say.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::Event;
use crate::ground::names::{AppName, Sha256Hex, Uuid};
use crate::ground::{Error, Result, clock, json};
use crate::signer::PublicKey;

/// The fields of every entry; all others are the event's facts.
const HEAD: [&str; 8] = ["seq", "event", "time", "archive", "app", "signer", "previous", "critical"];

/// One event of an archive's life, verified.
///
/// Serialized, it has the fields of the object in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1.
    pub seq: u64,
    /// What happened.
    pub event: Event,
    /// When, by the signer's clock; it may run backwards from one entry to the next.
    pub time: Timestamp,
    /// The archive.
    pub archive: Uuid,
    /// The app.
    pub app: AppName,
    /// Who signed it.
    pub signer: PublicKey,
    /// The digest of the entry before; none for the first.
    pub previous: Option<Sha256Hex>,
    /// The digest of this entry's bytes.
    pub digest: Sha256Hex,
}

#[derive(Deserialize)]
struct Head {
    seq: u64,
    event: String,
    #[serde(with = "clock::text")]
    time: Timestamp,
    archive: Uuid,
    app: AppName,
    signer: PublicKey,
    #[serde(default)]
    previous: Option<Sha256Hex>,
    #[serde(default)]
    critical: Vec<String>,
}

impl Entry {
    /// Reads an entry whose signature was verified before; `what` names it.
    pub(super) fn parse(bytes: &[u8], what: &str) -> Result<Self> {
        let mut fields: Map<String, Value> = json::parse(bytes, what)?;
        let mut head = Map::new();
        for field in HEAD {
            if let Some(value) = fields.shift_remove(field) {
                head.insert(field.to_owned(), value);
            }
        }
        let damaged = |e: serde_json::Error| Error::damaged(format!("{what} is no ledger entry")).because(e);
        let head: Head = serde_json::from_value(Value::Object(head)).map_err(damaged)?;
        let event = Event::read(&head.event, fields).map_err(damaged)?;
        // What a writer calls critical must not be passed over by one who does not know it.
        let known = event.facts()?;
        let known = |field: &String| {
            HEAD.contains(&field.as_str()) || known.contains_key(field) && !matches!(event, Event::Unknown { .. })
        };
        if let Some(field) = head.critical.iter().find(|field| !known(field)) {
            return Err(Error::failed(format!(
                "{what} has the critical field {field:?}, which this program does not know"
            ))
            .hint("Use a newer strongroom."));
        }
        Ok(Self {
            seq: head.seq,
            event,
            time: head.time,
            archive: head.archive,
            app: head.app,
            signer: head.signer,
            previous: head.previous,
            digest: Sha256Hex::of(bytes),
        })
    }

    /// The bytes of a new entry: one line of JSON with the head's fields first, ended by LF.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = json::line(&self.fields()?)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn fields(&self) -> Result<Map<String, Value>> {
        let mut fields = Map::new();
        fields.insert("seq".into(), self.seq.into());
        fields.insert("event".into(), self.event.word().into());
        fields.insert("time".into(), clock::rfc3339(self.time).into());
        fields.insert("archive".into(), self.archive.as_str().into());
        fields.insert("app".into(), self.app.as_str().into());
        fields.insert("signer".into(), self.signer.to_string().into());
        if let Some(previous) = &self.previous {
            fields.insert("previous".into(), previous.as_str().into());
        }
        fields.extend(self.event.facts()?);
        Ok(fields)
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.fields().map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}
