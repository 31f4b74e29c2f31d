//! Who can open the sealing key, and how.
//!
//! `custody/<sealing id>/identity.age` is the sealing key's identity file, encrypted with age to every custodian, so that any one
//! of them opens it (with this program, or with `age -d`). `custody.json` beside it says who they are. The contract:
//! * recipients come from the operator, never from an archive: nothing here reads one back and wraps for it;
//! * the sealing id is recomputed from whatever identity was opened, and `custody.json`'s MAC is checked with it;
//! * `custody.json` is written after `identity.age`, so a run that was killed in between leaves an `identity.age` that opens,
//!   without a record or beside the record of the generation before it. That record's MAC does not cover `identity.age`, so it
//!   still holds; the same call, made again, finishes the work;
//! * one custodian is enough (threshold 1). A record with another threshold belongs to `share-<n>.age` files, which this
//!   version does not know, and is an error that says so.

mod ask;
mod bridge;
pub mod card;
mod custodian;
mod identities;
mod identity_file;
#[cfg(test)]
mod identity_tests;
mod look;
#[cfg(test)]
mod plugin_tests;
mod record;
mod recovery;
#[cfg(test)]
mod tests;

pub use ask::Ask;
pub use custodian::{Custodian, check};
pub use identities::Identities;
pub use record::{CustodyRecord, NEXT as RECORD_NEXT};
pub use recovery::new_recovery_identity;

use crate::archive::Archive;
use crate::ground::names::{ObjectName, SealingId};
use crate::ground::{Context as _, Error, Kind, Result, clock};
use crate::sealing::SealingKey;

/// How long a wrapped sealing key may be; two hundred custodians with the longest recipients fit.
pub const WRAPPED_LIMIT: u64 = 1 << 20;

/// How long `custody.json` may be.
const RECORD_LIMIT: u64 = 64 << 10;

fn object(sealing: &SealingId, name: &str) -> Result<ObjectName> {
    format!("custody/{sealing}/{name}").parse()
}

/// `None` instead of [`Kind::NotFound`].
fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts a new sealing key into custody: `identity.age` to every custodian, then `custody.json`, generation 1.
///
/// [`Kind::Refused`] when the archive has custody of this key already; an `identity.age` without a record, as a killed run
/// leaves it, is replaced.
pub fn establish(archive: &dyn Archive, key: &SealingKey, custodians: &[Custodian]) -> Result<()> {
    let (identity, json) = (object(key.id(), "identity.age")?, object(key.id(), "custody.json")?);
    let _held = archive.hold(&object(key.id(), ".lock")?)?;
    if archive.length(&json)?.is_some() {
        return Err(taken(archive, key.id()));
    }
    let wrapped = custodian::wrap(key, custodians)?;
    let record = CustodyRecord::new(key, 1, custodians, clock::now())?;
    if !archive.put_new(&identity, &wrapped)? {
        // Without a record nobody vouches for it; we hold the key, so ours is as good as any.
        archive.replace(&identity, &wrapped)?;
    }
    if !archive.put_new(&json, &record.to_bytes()?)? {
        return Err(taken(archive, key.id()));
    }
    Ok(())
}

/// Takes back what [`establish`] did, for a key that nothing was sealed to yet.
pub fn abandon(archive: &dyn Archive, sealing: &SealingId) -> Result<()> {
    ["custody.json", "identity.age", ".lock"].iter().try_for_each(|name| archive.remove(&object(sealing, name)?))
}

fn taken(archive: &dyn Archive, sealing: &SealingId) -> Error {
    Error::refused(format!("{} has custody of sealing key {sealing} already", archive.describe()))
        .hint("Custodians of a key in custody are changed by wrapping it anew, not by establishing it twice.")
}

/// Wraps a key in custody anew, for these custodians and no others; not a byte of any bundle is touched.
///
/// `previous` is the generation that the operator saw; [`Kind::Refused`] when the archive holds another one. Replaces
/// `identity.age`, then `custody.json`; killed in between, the new custodians open it already, and the same call finishes.
/// Whoever could open the key once could have kept it: removing a custodian takes a new sealing key too.
pub fn rewrap(archive: &dyn Archive, key: &SealingKey, custodians: &[Custodian], previous: u64) -> Result<()> {
    let _held = archive.hold(&object(key.id(), ".lock")?)?;
    let Some(now) = record(archive, key.id())? else {
        return Err(Error::not_found(format!("{} has no custody of sealing key {}", archive.describe(), key.id())));
    };
    now.verify(key)?;
    if now.generation != previous {
        return Err(Error::refused(format!(
            "the custody of sealing key {} is at generation {}, not {previous}",
            key.id(),
            now.generation
        ))
        .hint("Somebody changed it meanwhile: look at `strongroom custody list`, then try again."));
    }
    let wrapped = custodian::wrap(key, custodians)?;
    let record = CustodyRecord::new(key, previous + 1, custodians, clock::now())?;
    archive.replace(&object(key.id(), "identity.age")?, &wrapped)?;
    archive.replace(&object(key.id(), "custody.json")?, &record.to_bytes()?)
}

/// Opens a sealing key in custody with whichever identity can.
///
/// An identity that is itself the sealing key is taken as it is, whether the archive wraps it or not. [`Kind::Sealed`] names
/// every identity file and why it does not open it; [`Kind::NotAuthentic`] when what it opens is another key or
/// `custody.json` does not carry this key's MAC.
pub fn open(archive: &dyn Archive, sealing: &SealingId, identities: &Identities<'_>) -> Result<SealingKey> {
    let name = object(sealing, "identity.age")?;
    let wrapped = optional(archive.get(&name, WRAPPED_LIMIT))?;
    let key = identities.open(sealing, wrapped.as_deref(), name.as_str()).map_err(|error| {
        if error.kind() != Kind::Sealed {
            return error;
        }
        match (&wrapped, record(archive, sealing)) {
            (None, _) => error.hint(format!(
                "{} wraps that key for nobody: only the identity that was made with it opens it.",
                archive.describe()
            )),
            (Some(_), Ok(Some(_))) if of_a_passphrase(&error) => {
                error.hint("Try again; a passphrase counts to the last capital letter and space.")
            }
            (Some(_), Ok(Some(record))) => {
                error.hint(format!(
                    "Use the identity of one of its custodians: {}. `strongroom custody list` says which host's sealing key it is.",
                    record.labels_text()
                ))
            }
            (Some(_), _) => error,
        }
    })?;
    if let Some(record) = record(archive, sealing)? {
        record.verify(&key)?;
    }
    Ok(key)
}

/// Whether a wrong passphrase is a reason why nothing opened.
fn of_a_passphrase(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<identities::NotOpened>());
    source.is_some_and(|not| not.passphrase)
}

/// Opens a wrapped sealing key that was copied elsewhere, such as the `identity.age` of a bundle; `what` names it.
///
/// The key must be the one of this id; there is no record beside such a copy, so no MAC is checked.
pub fn open_wrapped(
    wrapped: &[u8],
    sealing: &SealingId,
    identities: &Identities<'_>,
    what: &str,
) -> Result<SealingKey> {
    if wrapped.len() as u64 > WRAPPED_LIMIT {
        return Err(Error::damaged(format!("{what} is longer than a wrapped sealing key can be")));
    }
    identities.open(sealing, Some(wrapped), what)
}

/// Whether the identity in a file is protected by a passphrase.
pub fn is_protected(path: &std::path::Path) -> bool {
    look::is_protected(path)
}

/// The bytes of `identity.age`, to be copied into a bundle; `None` when the archive has none.
pub fn wrapped(archive: &dyn Archive, sealing: &SealingId) -> Result<Option<Vec<u8>>> {
    optional(archive.get(&object(sealing, "identity.age")?, WRAPPED_LIMIT))
}

/// What `custody.json` says of one key, not authenticated: [`CustodyRecord::verify`] needs the key.
pub fn record(archive: &dyn Archive, sealing: &SealingId) -> Result<Option<CustodyRecord>> {
    let name = object(sealing, "custody.json")?;
    let Some(bytes) = optional(archive.get(&name, RECORD_LIMIT))? else { return Ok(None) };
    let record = CustodyRecord::parse(&bytes, name.as_str())?;
    if record.sealing != *sealing {
        return Err(Error::not_authentic(format!("{name} is about another sealing key, {}", record.sealing)));
    }
    Ok(Some(record))
}

/// The wrapped key's name, where custody lacks it. Its record opens nothing, and may be gone.
pub fn lacks(archive: &dyn Archive, sealing: &SealingId) -> Result<Option<ObjectName>> {
    let name = object(sealing, "identity.age")?;
    Ok(archive.length(&name)?.is_none().then_some(name))
}

/// Every sealing key that custody has something of.
pub fn sealings(archive: &dyn Archive) -> Result<Vec<SealingId>> {
    let names = archive.children(&"custody".parse()?).context(|| "cannot list the keys in custody".to_owned())?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// The records of every sealing key in custody, sorted by sealing id and not authenticated.
///
/// A key whose record was never written (see the module) has none to show and is left out.
pub fn list(archive: &dyn Archive) -> Result<Vec<CustodyRecord>> {
    let mut records = Vec::new();
    for sealing in sealings(archive)? {
        records.extend(record(archive, &sealing)?);
    }
    Ok(records)
}
