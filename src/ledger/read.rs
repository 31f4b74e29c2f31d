//! Reading: every object of the ledger accounted for, every entry verified, many at once.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::{AHEAD, Entry, Event, LIMIT, Ledger, entry_name, folder, signature_name, trusted_comment};
use crate::ground::names::ObjectName;
use crate::ground::{Error, Kind, Result, clock};

/// How long what may be a moment between two steps of a writer is given to settle, each time.
const SETTLE: [Duration; 3] = [Duration::from_millis(if cfg!(test) { 1 } else { 250 }); 3];

/// Reading waits on the disk or on a bucket, verifying on a core: enough threads for both.
const THREADS: usize = 16;

const SIGNATURE_LIMIT: u64 = 4096;

impl Ledger<'_> {
    /// Reads the entries that came after those that are known.
    pub(super) fn read_on(&mut self) -> Result<()> {
        // A listing taken while others write may show an entry and not the signature written before it, and of two
        // writers who race for a number the winner corrects the signature last. So a refusal counts when it stays.
        let mut fresh = self.read_new();
        for pause in SETTLE {
            if !matches!(&fresh, Err(e) if e.kind() == Kind::NotAuthentic) {
                break;
            }
            std::thread::sleep(pause);
            fresh = self.read_new();
        }
        self.take(fresh?)
    }

    fn read_new(&self) -> Result<Vec<Entry>> {
        let count = self.count()?;
        let known = self.entries.len() as u64;
        if count < known {
            return Err(self.refuse(&entry_name(&self.app, count + 1)?, "it was there before and is missing now"));
        }
        let fresh = usize::try_from(count - known).map_err(|_| Error::failed("the ledger is too long"))?;
        let threads = fresh.div_ceil(8).clamp(1, THREADS);
        let now = clock::now();
        let read_lane = |lane: usize| -> Vec<Result<Entry>> {
            let mut entries = Vec::with_capacity(fresh / threads + 1);
            for i in (lane..fresh).step_by(threads) {
                let entry = self.read_entry(known + 1 + i as u64, now);
                let refused = entry.is_err();
                entries.push(entry);
                if refused {
                    break;
                }
            }
            entries
        };
        let lanes: Vec<Vec<Result<Entry>>> = if threads == 1 {
            vec![read_lane(0)]
        } else {
            std::thread::scope(|scope| {
                let running: Vec<_> = (0..threads).map(|lane| scope.spawn(move || read_lane(lane))).collect();
                running.into_iter().map(|lane| lane.join().unwrap_or_default()).collect()
            })
        };
        let mut lanes: Vec<_> = lanes.into_iter().map(Vec::into_iter).collect();
        let mut entries: Vec<Entry> = Vec::with_capacity(fresh);
        let mut previous = self.entries.last().map(|entry| entry.digest.clone());
        for i in 0..fresh {
            let entry = lanes[i % threads].next().ok_or_else(|| Error::failed("a reader of the ledger died"))??;
            if entry.previous != previous {
                return Err(self.refuse(
                    &entry_name(&self.app, entry.seq)?,
                    "it does not continue the entry before it: the ledger was forked or rewritten",
                ));
            }
            previous = Some(entry.digest.clone());
            entries.push(entry);
        }
        Ok(entries)
    }

    /// How many entries there are, every object of the ledger accounted for.
    fn count(&self) -> Result<u64> {
        let folder = folder(&self.app)?;
        let (mut entries, mut signatures) = (BTreeSet::new(), BTreeSet::new());
        // Before the listing, which then knows everything that stood here.
        let standing = self.archive.children(&folder)?;
        let mut objects = BTreeSet::new();
        for object in self.archive.list(&folder)? {
            let name = object.name.as_str().strip_prefix(folder.as_str()).unwrap_or_default();
            objects.insert(name.trim_start_matches('/').to_owned());
            let (kind, digits, limit) = match name.strip_suffix(".minisig") {
                Some(signed) => (&mut signatures, signed, SIGNATURE_LIMIT),
                None => (&mut entries, name, LIMIT),
            };
            let seq = digits.strip_prefix('/').and_then(|d| d.strip_suffix(".json")).and_then(|digits| {
                let plain = digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit());
                digits.parse::<u64>().ok().filter(|seq| plain && *seq > 0)
            });
            match seq {
                Some(_) if object.length > limit => {
                    return Err(self.refuse(&object.name, &format!("it is longer than {limit} bytes")));
                }
                Some(seq) => kind.insert(seq),
                None => return Err(self.refuse(&object.name, "no such object belongs into a ledger, move it away")),
            };
        }
        if let Some(foreign) = standing.iter().find(|name| !objects.contains(*name)) {
            return Err(Error::not_authentic(format!(
                "{folder}/{} in {} cannot be accepted: it is no object, and no such thing belongs into a ledger",
                foreign.escape_debug(),
                self.archive.describe()
            ))
            .hint("Find out who put it there, and move it away."));
        }
        let count = entries.len() as u64;
        if let Some(gap) = (1..=count).find(|seq| !entries.contains(seq)) {
            return Err(self.refuse(&entry_name(&self.app, gap)?, "it is missing, and later entries are there"));
        }
        if let Some(unsigned) = (1..=count).find(|seq| !signatures.contains(seq)) {
            return Err(self.refuse(&entry_name(&self.app, unsigned)?, "it has no signature"));
        }
        // The signature is written first, so a killed run may leave one without its entry.
        if let Some(stray) = signatures.iter().find(|seq| **seq > count + 1) {
            return Err(self.refuse(&signature_name(&self.app, *stray)?, "its entry and those before it are missing"));
        }
        Ok(count)
    }

    fn read_entry(&self, seq: u64, now: Timestamp) -> Result<Entry> {
        let name = entry_name(&self.app, seq)?;
        let what = format!("{name} in {}", self.archive.describe());
        let bytes = self.fetch(&name, LIMIT)?;
        let minisig = self.fetch(&signature_name(&self.app, seq)?, SIGNATURE_LIMIT)?;
        let comment = trusted_comment(&self.archive_id, &self.app, seq);
        let signer = self.trusted.verify(&bytes, &minisig, &comment, &what)?;
        let entry = Entry::parse(&bytes, &what)?;
        for (field, agrees) in [
            ("seq", entry.seq == seq),
            ("archive", entry.archive == self.archive_id),
            ("app", entry.app == self.app),
            ("signer", entry.signer == signer),
        ] {
            if !agrees {
                return Err(self.refuse(&name, &format!("its {field} is another one than its place and signature say")));
            }
        }
        let begun = match &entry.event {
            Event::Bundle(event) => event.bundle.time(),
            _ => entry.time,
        };
        if entry.time.max(begun).as_second() > now.as_second() + AHEAD {
            return Err(Error::not_authentic(format!(
                "{what} cannot be accepted: its time, {}, is in the future",
                clock::rfc3339(entry.time.max(begun))
            ))
            .hint(format!("It is {} here: is the clock of this machine right?", clock::rfc3339(now)))
            .hint(format!(
                "If it is, the clock of the host that signed it was not. Move this entry, those after it and their signatures out of ledger/{}: what was entered before is there again, and the next backup is whole.",
                self.app
            )));
        }
        Ok(entry)
    }

    fn fetch(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.archive.get(name, limit).map_err(|e| match e.kind() {
            Kind::NotFound | Kind::Damaged => self.refuse(name, "it cannot be read").because(e),
            _ => e,
        })
    }

    fn refuse(&self, name: &ObjectName, why: &str) -> Error {
        Error::not_authentic(format!("{name} in {} cannot be accepted: {why}", self.archive.describe()))
            .hint(format!(
                "Compare ledger/{} with another copy of the archive and take what is missing or changed from there; find out who can write to this one.",
                self.app
            ))
    }
}
