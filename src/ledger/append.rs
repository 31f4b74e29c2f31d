//! Appending: the signature first, then the entry, created only if its number is free.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{AHEAD, Entry, Event, LIMIT, Ledger, entry_name, folder, signature_name, trusted_comment};
use crate::ground::names::ObjectName;
use crate::ground::{Error, Kind, Result, clock, interrupt};
use crate::signer::Signer;

/// How long a signature without its entry may be the work of a run that is alive.
const ORPHAN: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 2000 });

/// How long the winner of a number that was contended watches over its signature.
const WATCH: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 500 });

const POLL: Duration = Duration::from_millis(5);
/// How long somebody who keeps changing a signature holds a writer; who is alive and honest is done long before.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 1500 } else { 30_000 });

/// Losing a number means that somebody else got on, so this many losses in a row are no bad luck.
const ATTEMPTS: u32 = 10_000;

impl Ledger<'_> {
    /// Appends an event under the next free number and says which one it was.
    ///
    /// Safe without any lock: of two writers one gets a number, and the other one reads on and takes the next. When this
    /// returns, entry and signature are durable. [`Kind::Usage`] when the signer is not trusted itself, because nobody
    /// would accept the ledger afterwards.
    ///
    /// Takes the place's lock `ledger/<app>/.lock` while it works: whoever calls this must not hold that one.
    pub fn append(&mut self, signer: &Signer, event: Event, time: Timestamp) -> Result<u64> {
        if !self.trusted.keys().contains(signer.public()) {
            return Err(Error::usage(format!("this host's own signer, {}, is not trusted", signer.public()))
                .hint("Add it to [signing] trusted."));
        }
        if time.as_second() > clock::now().as_second() + AHEAD {
            return Err(Error::failed(format!("{} is in the future, no entry can have it", clock::rfc3339(time))));
        }
        // Waiting for each other saves work where the place can do it; nothing depends on it.
        let _courtesy = folder(&self.app)?.join(".lock").and_then(|lock| self.archive.hold(&lock));
        let mut entry = Entry {
            seq: 0,
            event,
            time: Timestamp::from_second(time.as_second()).unwrap_or(time),
            archive: self.archive_id.clone(),
            app: self.app.clone(),
            signer: *signer.public(),
            previous: None,
            digest: crate::ground::names::Sha256Hex::of(b""),
        };
        for _ in 0..ATTEMPTS {
            if let Event::Bundle(event) = &entry.event
                && self.bundles.contains_key(&event.bundle)
            {
                return Err(Error::failed(format!("bundle {} is in the ledger already", event.bundle)));
            }
            entry.seq = self.entries.len() as u64 + 1;
            entry.previous = self.entries.last().map(|last| last.digest.clone());
            let bytes = entry.encode()?;
            if bytes.len() as u64 > LIMIT {
                return Err(Error::failed(format!("a ledger entry of {} bytes is longer than {LIMIT}", bytes.len())));
            }
            // What we write we read as everybody will.
            let entry = Entry::parse(&bytes, "the new ledger entry")?;
            if self.write(signer, entry.seq, &bytes)? {
                self.take(vec![entry.clone()])?;
                return Ok(entry.seq);
            }
            self.read_on()?;
        }
        Err(Error::locked(format!("other writers took every number of the ledger in {}", self.archive.describe())))
    }

    /// Writes signature and entry; `false` when the number is another writer's.
    fn write(&self, signer: &Signer, seq: u64, bytes: &[u8]) -> Result<bool> {
        let (entry, signature) = (entry_name(&self.app, seq)?, signature_name(&self.app, seq)?);
        let minisig = signer.sign(bytes, &trusted_comment(&self.archive_id, &self.app, seq))?;
        let mut replaced = None;
        if !self.archive.put_new(&signature, &minisig)? {
            let Some(orphan) = self.orphan(&entry, &signature)? else { return Ok(false) };
            self.archive.replace(&signature, &minisig)?;
            replaced = Some(orphan);
        }
        if self.archive.put_new(&entry, bytes)? {
            self.keep_signature(&signature, &minisig, replaced.is_some())?;
            return Ok(true);
        }
        if let Some(theirs) = replaced {
            self.give_back(seq, &entry, &signature, &minisig, &theirs)?;
        }
        Ok(false)
    }

    /// The bytes of a signature that a killed run left without its entry; `None` when the entry comes after all.
    fn orphan(&self, entry: &ObjectName, signature: &ObjectName) -> Result<Option<Vec<u8>>> {
        let first = Instant::now();
        let mut begun = first;
        let mut seen = Vec::new();
        loop {
            interrupt::check()?;
            let now = match self.archive.get(signature, LIMIT) {
                Ok(bytes) => bytes,
                Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Damaged) => Vec::new(),
                Err(e) => return Err(e),
            };
            if self.archive.length(entry)?.is_some() {
                return Ok(None);
            }
            if now != seen && first.elapsed() < PATIENCE {
                // Somebody is alive and at it.
                seen = now;
                begun = Instant::now();
            } else if begun.elapsed() >= ORPHAN || first.elapsed() >= PATIENCE {
                return Ok(Some(now));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Sees that the signature beside our entry is ours: another writer who lost may have put its own there before.
    fn keep_signature(&self, signature: &ObjectName, minisig: &[u8], contended: bool) -> Result<()> {
        let begun = Instant::now();
        let mut watch = contended;
        loop {
            if self.archive.get(signature, LIMIT).ok().as_deref() != Some(minisig) {
                if begun.elapsed() >= PATIENCE {
                    return Err(Error::not_authentic(format!(
                        "another writer puts other bytes in the place of {signature} again and again, and our entry stands"
                    ))
                    .hint("Find out who can write to the archive, then do this again: each entry needs its signer's own signature."));
                }
                self.archive.replace(signature, minisig)?;
                watch = true;
            } else if !watch || begun.elapsed() >= WATCH {
                return Ok(());
            } else {
                std::thread::sleep(POLL);
            }
        }
    }

    /// Puts back the winner's signature if ours took its place between the winner's last look and our loss.
    fn give_back(
        &self,
        seq: u64,
        entry: &ObjectName,
        signature: &ObjectName,
        ours: &[u8],
        theirs: &[u8],
    ) -> Result<()> {
        let won = self.archive.get(entry, LIMIT)?;
        let comment = trusted_comment(&self.archive_id, &self.app, seq);
        if self.trusted.verify(&won, theirs, &comment, entry.as_str()).is_ok()
            && self.archive.get(signature, LIMIT)? == ours
        {
            self.archive.replace(signature, theirs)?;
        }
        Ok(())
    }
}
