//! The two records of a deposit: the sealed one, which holds the key, and the public one, which names it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use super::Deposit;
use crate::ground::names::{AppName, Fingerprint, SealingId, Sha256Hex};
use crate::ground::{Error, Result, clock, json};
use crate::sealing::{Recipient, SealingKey, stream};
use crate::signer::{Signer, Trusted};

/// How long an application key may be.
const KEY_LIMIT: usize = 64 << 10;

/// How long a record's other texts may be, each.
const TEXT_LIMIT: usize = 4 << 10;

/// How long the sealed bytes of one record may be.
pub(super) const SEALED_LIMIT: u64 = 256 << 10;

/// How long a public record or a signature may be.
pub(super) const PUBLIC_LIMIT: u64 = 16 << 10;

/// An application key in escrow, with what one has to know to use it. No `Debug`, no `Clone`.
pub struct Record {
    /// The key's exact bytes; `key_b64` in JSON.
    pub key: Zeroizing<Vec<u8>>,
    /// The scheme that the application uses it with.
    pub scheme: String,
    /// The fingerprint of its effective key.
    pub fingerprint: Fingerprint,
    /// The application.
    pub app: AppName,
    /// When the record was made, whole seconds.
    pub created: Timestamp,
    /// Where the key came from: the reference's text, such as `env:ENCRYPTION_KEY`.
    pub source: String,
    /// The key that this one replaced.
    pub predecessor: Option<Fingerprint>,
    /// Why it replaced it, in the operator's words.
    pub reason: Option<String>,
}

/// The JSON form; its members stand in this order.
#[derive(Serialize)]
struct Out<'a> {
    key_b64: &'a str,
    scheme: &'a str,
    fingerprint: &'a Fingerprint,
    app: &'a AppName,
    created: String,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor: Option<&'a Fingerprint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Deserialize)]
struct In {
    #[serde(deserialize_with = "zeroizing")]
    key_b64: Zeroizing<String>,
    scheme: String,
    fingerprint: Fingerprint,
    app: AppName,
    #[serde(with = "clock::text")]
    created: Timestamp,
    source: String,
    #[serde(default)]
    predecessor: Option<Fingerprint>,
    #[serde(default)]
    reason: Option<String>,
}

fn zeroizing<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

impl Record {
    fn check(&self) -> Result<()> {
        let texts = [Some(&self.scheme), Some(&self.source), self.reason.as_ref()];
        if self.key.is_empty() || self.key.len() > KEY_LIMIT {
            return Err(Error::refused(format!(
                "an application key has 1 to {KEY_LIMIT} bytes, and this has {}",
                self.key.len()
            )));
        }
        if texts.into_iter().flatten().any(|text| text.len() > TEXT_LIMIT) {
            return Err(Error::refused(format!("a text in an escrow record has more than {TEXT_LIMIT} bytes")));
        }
        Ok(())
    }

    /// One line of JSON without its newline, in one allocation so that no unwiped copy is left behind.
    fn append_to(&self, line: &mut Zeroizing<Vec<u8>>) -> Result<()> {
        let mut key_b64 = Zeroizing::new(String::with_capacity(self.key.len().div_ceil(3) * 4 + 4));
        STANDARD.encode_string(&*self.key, &mut key_b64);
        let out = Out {
            key_b64: &key_b64,
            scheme: &self.scheme,
            fingerprint: &self.fingerprint,
            app: &self.app,
            created: clock::rfc3339(self.created),
            source: &self.source,
            predecessor: self.predecessor.as_ref(),
            reason: self.reason.as_deref(),
        };
        serde_json::to_writer(&mut **line, &out).map_err(|e| Error::failed("cannot write an escrow record").because(e))
    }

    /// An upper bound of its line's length; JSON escapes make six bytes of one at most.
    fn room(&self) -> usize {
        let texts = self.scheme.len() + self.source.len() + self.reason.as_ref().map_or(0, String::len);
        self.key.len().div_ceil(3) * 4 + texts * 6 + 512
    }

    fn parse(line: &[u8], what: &str) -> Result<Self> {
        // The reader's own message could show a value, so it is not passed on.
        let wrong = || Error::damaged(format!("{what} is not an escrow record"));
        let read: In = json::parse(line, what).map_err(|_| wrong())?;
        let key = Zeroizing::new(STANDARD.decode(read.key_b64.as_bytes()).map_err(|_| wrong())?);
        let record = Self {
            key,
            scheme: read.scheme,
            fingerprint: read.fingerprint,
            app: read.app,
            created: read.created,
            source: read.source,
            predecessor: read.predecessor,
            reason: read.reason,
        };
        record.check().map_err(|e| wrong().because(e))?;
        Ok(record)
    }
}

/// Writes records as JSON lines: the plaintext of a bundle's `key.age`, and with one record that of a deposit.
pub fn to_lines<'a>(records: impl IntoIterator<Item = &'a Record> + Clone) -> Result<Zeroizing<Vec<u8>>> {
    let room = records.clone().into_iter().map(|record| record.room() + 1).sum();
    let mut lines = Zeroizing::new(Vec::with_capacity(room));
    for record in records {
        record.check()?;
        record.append_to(&mut lines)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// Reads JSON lines of records; `what` names them in errors, which never show a value.
pub fn from_lines(bytes: &[u8], what: &str) -> Result<Vec<Record>> {
    bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(|line| Record::parse(line, what)).collect()
}

/// Seals one record to the sealing key; sealing twice gives different bytes.
pub fn seal_record(record: &Record, recipient: &Recipient) -> Result<Vec<u8>> {
    stream::seal_bytes(recipient, &to_lines([record])?)
}

/// Opens a sealed record; [`crate::ground::Kind::Sealed`] when it is for another key, [`crate::ground::Kind::Damaged`] when it is not one record.
///
/// That the key in it has the fingerprint it claims is for the caller to check, who knows scheme and installation.
pub fn open_record(key: &SealingKey, sealed: &[u8]) -> Result<Record> {
    let what = "the sealed escrow record";
    let mut records = from_lines(&stream::open_bytes(key, sealed, what)?, what)?;
    match (records.pop(), records.is_empty()) {
        (Some(record), true) => Ok(record),
        _ => Err(Error::damaged(format!("{what} does not hold one record"))),
    }
}

/// What a host may read of a deposit without the right to read the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicRecord {
    /// The application.
    pub app: AppName,
    /// The fingerprint of the key's effective key.
    pub fingerprint: Fingerprint,
    /// The sealing key that it is sealed to.
    pub sealing: SealingId,
    /// SHA-256 of the sealed bytes.
    pub sha256: Sha256Hex,
    /// When the record was made.
    #[serde(with = "clock::text")]
    pub created: Timestamp,
    /// The scheme that the application uses the key with.
    pub scheme: String,
}

impl PublicRecord {
    /// The public record of these sealed bytes.
    pub fn of(record: &Record, sealing: &SealingId, sealed: &[u8]) -> Self {
        Self {
            app: record.app.clone(),
            fingerprint: record.fingerprint.clone(),
            sealing: sealing.clone(),
            sha256: Sha256Hex::of(sealed),
            created: record.created,
            scheme: record.scheme.clone(),
        }
    }

    /// The file's bytes, which are the message that is signed.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        json::line(self)
    }

    /// The signature's trusted comment.
    pub fn trusted_comment(&self) -> String {
        format!(
            "strongroom escrow v1 app={} fingerprint={} sealing={} sha256={}",
            self.app, self.fingerprint, self.sealing, self.sha256
        )
    }

    /// Reads a signed record that stands where a deposit of this key belongs; `what` names the place.
    ///
    /// [`crate::ground::Kind::NotAuthentic`] when no trusted signer signed it or it is about something else.
    pub fn verify(
        bytes: &[u8],
        minisig: &[u8],
        (app, fingerprint, sealing): (&AppName, &Fingerprint, &SealingId),
        trusted: &Trusted,
        what: &str,
    ) -> Result<Self> {
        let record: Self = json::parse(bytes, what).map_err(|error| {
            Error::not_authentic(format!("{what} is taken by something that is no escrow record")).because(error)
        })?;
        if (&record.app, &record.fingerprint, &record.sealing) != (app, fingerprint, sealing) {
            return Err(Error::not_authentic(format!("{what} is about another key than the one it stands for")));
        }
        trusted.verify(bytes, minisig, &record.trusted_comment(), what)?;
        Ok(record)
    }
}

/// A deposit, ready for any number of escrows.
pub struct Prepared {
    /// The sealed record.
    pub sealed: Vec<u8>,
    /// What it is, for all to read.
    pub public: PublicRecord,
    /// The signature over the public record's bytes.
    pub minisig: Vec<u8>,
}

/// Seals a record, describes and signs it.
pub fn prepare(record: &Record, recipient: &Recipient, signer: &Signer) -> Result<Prepared> {
    let sealed = seal_record(record, recipient)?;
    let public = PublicRecord::of(record, recipient.id(), &sealed);
    let minisig = signer.sign(&public.to_bytes()?, &public.trusted_comment())?;
    Ok(Prepared { sealed, public, minisig })
}

/// Refuses to store what nobody would accept afterwards.
pub(super) fn check(sealed: &[u8], public: &PublicRecord, minisig: &[u8], trusted: &Trusted) -> Result<Vec<u8>> {
    if sealed.len() as u64 > SEALED_LIMIT || public.sha256 != Sha256Hex::of(sealed) {
        return Err(Error::failed("the public record is not about the sealed bytes that it came with"));
    }
    let bytes = public.to_bytes()?;
    let stand = (&public.app, &public.fingerprint, &public.sealing);
    PublicRecord::verify(&bytes, minisig, stand, trusted, "the escrow record to be stored")?;
    Ok(bytes)
}

/// What was found where a deposit's sealed bytes belong.
pub(super) enum Found {
    /// Bytes, opaque.
    Bytes(Vec<u8>),
    /// Something that cannot be ours.
    Other,
    /// There was something once, or never: how it may be brought back, if the place knows a way.
    Nothing(Option<&'static str>),
    /// Not for this account to see.
    MayNotLook,
}

/// Whether a signed record's deposit is whole, as far as one may look; `at` names where its sealed bytes belong in `place`.
pub(super) fn whole(
    record: PublicRecord,
    found: Found,
    place: &str,
    at: &dyn std::fmt::Display,
) -> Result<PublicRecord> {
    match found {
        Found::Bytes(bytes) if Sha256Hex::of(&bytes) == record.sha256 => Ok(record),
        Found::MayNotLook => Ok(record),
        Found::Bytes(_) | Found::Other => Err(replaced(place, &record.fingerprint)),
        Found::Nothing(back) => {
            let error = Error::damaged(format!("{at} is gone from {place}, and its record is still there"));
            Err(error.hint(match back {
                Some(back) => format!("{back}; {STORES_ANEW}"),
                None => STORES_ANEW.to_owned(),
            }))
        }
    }
}

const STORES_ANEW: &str = "`strongroom key escrow --repair` stores the key anew.";

/// The steps of a deposit that are the same everywhere: nothing is stored that nobody would accept, over nothing that is complete.
///
/// `write` stores it and answers `true`, or `false` when another run was first, whose deposit then has to be there, seen by `look`;
/// `at` names it.
pub(super) fn deposit(
    (sealed, public, minisig): (&[u8], &PublicRecord, &[u8]),
    trusted: &Trusted,
    look: &dyn Fn() -> Result<Option<PublicRecord>>,
    at: &str,
    write: impl FnOnce(Vec<u8>) -> Result<bool>,
) -> Result<Deposit> {
    let json = check(sealed, public, minisig, trusted)?;
    if look()?.is_some() {
        return Ok(Deposit::Already);
    }
    if write(json)? {
        return Ok(Deposit::Stored);
    }
    match look()? {
        Some(_) => Ok(Deposit::Already),
        None => Err(Error::unreachable(format!("{at} is taken, and what stands there cannot be seen yet"))
            .hint("Another run may be making it: run this again.")),
    }
}

/// The error for sealed bytes that are not the ones their signed record names.
pub(super) fn replaced(place: &str, fingerprint: &Fingerprint) -> Error {
    Error::not_authentic(format!("{place} has other sealed bytes for key {} than its signed record names", fingerprint.short()))
        .hint("`strongroom key escrow --repair` stores the key anew, with an account that may replace; other escrows and bundles still hold it.")
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
