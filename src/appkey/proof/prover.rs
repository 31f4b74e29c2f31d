//! Trying a key on credentials, on all cores.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, bounded};

use super::{ColumnCounts, Counts, Failure, Memory, NAMED_FAILURES, Proof};
use crate::appkey::EffectiveKey;
use crate::appkey::credential::{Credential, MAX_CIPHERTEXT};
use crate::appkey::schemes::{Outcome, Scheme};
use crate::config::profile::Profile;
use crate::ground::names::Fingerprint;
use crate::ground::progress::{Progress, Unit};
use crate::ground::{Error, Result, interrupt};

/// After so many failures and no success the key is called wrong, before the full count is known.
const EARLY: u64 = 32;

/// What a proof needs.
pub struct ProverOptions<'a> {
    /// How the application encrypts.
    pub scheme: &'a dyn Scheme,
    /// The key to try.
    pub key: &'a EffectiveKey,
    /// Says which values are plaintext by design.
    pub profile: &'a Profile,
    /// Other known keys, tried on what fails.
    pub others: &'a [(Fingerprint, EffectiveKey)],
    /// What was proved before under this fingerprint, and is to be remembered from now on.
    pub memory: Option<(&'a Memory, &'a Fingerprint)>,
    /// Whether what is remembered is believed; if not, everything is decrypted again.
    pub believe_memory: bool,
    /// The key is only tried: that nothing decrypts with it is an answer as good as another.
    pub only_tried: bool,
    /// How many threads decrypt.
    pub threads: usize,
    /// Who watches.
    pub progress: &'a dyn Progress,
}

impl<'a> ProverOptions<'a> {
    /// All cores, no other keys, nothing remembered.
    pub fn new(
        scheme: &'a dyn Scheme,
        key: &'a EffectiveKey,
        profile: &'a Profile,
        progress: &'a dyn Progress,
    ) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let (others, memory) = (&[], None);
        Self { scheme, key, profile, others, memory, believe_memory: false, only_tried: false, threads, progress }
    }
}

/// What one thread found out.
#[derive(Default)]
struct Share {
    columns: BTreeMap<(String, String), Counts>,
    failures: Vec<Failure>,
    remembered: u64,
}

/// Tries the key on every credential that `produce` hands to its sink, and answers the proof and what `produce` answered.
///
/// `produce` runs on the calling thread and waits in the sink while all threads are busy, so memory stays bounded.
pub fn prove_with<T>(
    options: &ProverOptions<'_>,
    produce: impl FnOnce(&dyn Fn(Credential) -> Result<()>) -> Result<T>,
) -> Result<(Proof, T)> {
    options.progress.stage("prove credentials", None, Unit::Items);
    let threads = options.threads.max(1);
    let (sender, receiver) = bounded::<Credential>(threads * 4);
    let early = Early::default();
    let (produced, shares) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let (receiver, options, early) = (receiver.clone(), options, &early);
                scope.spawn(move || work(options, &receiver, early))
            })
            .collect();
        drop(receiver);
        let produced = produce(&|credential| {
            sender.send(credential).map_err(|_| Error::failed("the threads that prove have ended early"))
        });
        drop(sender);
        let shares: Vec<Result<Share>> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(Error::failed("a thread that proves has panicked"))))
            .collect();
        (produced, shares)
    });
    // A worker's error is the reason why the producer could not hand on.
    let shares = shares.into_iter().collect::<Result<Vec<_>>>()?;
    Ok((sum(shares), produced?))
}

/// Whether the key is known to be wrong before the full count is.
#[derive(Default)]
struct Early {
    failed: AtomicU64,
    any_good: AtomicBool,
    told: AtomicBool,
}

impl Early {
    fn note(&self, good: bool, options: &ProverOptions<'_>) {
        if good {
            self.any_good.store(true, Ordering::Relaxed);
        } else if self.failed.fetch_add(1, Ordering::Relaxed) + 1 >= EARLY
            && !self.any_good.load(Ordering::Relaxed)
            && !self.told.swap(true, Ordering::Relaxed)
        {
            options.progress.note(&if options.only_tried {
                format!("none of the first {EARLY} credentials is under the key that is tried; counting the rest")
            } else {
                format!("the key is wrong: none of the first {EARLY} credentials decrypts with it; counting the rest")
            });
        }
    }
}

fn work(options: &ProverOptions<'_>, receiver: &Receiver<Credential>, early: &Early) -> Result<Share> {
    let mut share = Share::default();
    while let Ok(credential) = receiver.recv() {
        interrupt::check()?;
        one(options, credential, early, &mut share)?;
        options.progress.advance(1);
    }
    Ok(share)
}

fn one(options: &ProverOptions<'_>, credential: Credential, early: &Early, share: &mut Share) -> Result<()> {
    let Credential { table, column, id, ciphertext } = credential;
    let plaintext = options.profile.is_plaintext(&table, &column, &ciphertext);
    let mut counts = Counts::default();
    let mut failed = None;
    if plaintext {
        counts.plaintext = 1;
    } else if ciphertext.len() > MAX_CIPHERTEXT {
        counts.failed = 1;
        failed = Some((format!("longer than {} KiB", MAX_CIPHERTEXT >> 10), Vec::new()));
    } else if remembered(options, &ciphertext)? {
        counts.proved = 1;
        share.remembered += 1;
    } else {
        match options.scheme.decrypt(options.key, &ciphertext) {
            Outcome::Proved(_) => {
                counts.proved = 1;
                if let Some((memory, fingerprint)) = options.memory {
                    memory.remember(fingerprint, &ciphertext)?;
                }
            }
            Outcome::Plausible(_) => counts.plausible = 1,
            Outcome::Failed => {
                counts.failed = 1;
                let form = if options.scheme.looks_like(&ciphertext) {
                    "does not decrypt with this key"
                } else {
                    "does not look like a ciphertext of this application"
                };
                failed = Some((form.to_owned(), fitting(options, &ciphertext)));
            }
        }
    }
    if counts.plaintext == 0 {
        early.note(counts.failed == 0, options);
    }
    if let Some((reason, fits)) = failed
        && share.failures.len() < NAMED_FAILURES
    {
        share.failures.push(Failure { table: table.clone(), column: column.clone(), id, reason, fits });
    }
    share.columns.entry((table, column)).or_default().add(&counts);
    Ok(())
}

fn remembered(options: &ProverOptions<'_>, ciphertext: &[u8]) -> Result<bool> {
    match options.memory {
        Some((memory, fingerprint)) if options.believe_memory => memory.knows(fingerprint, ciphertext),
        _ => Ok(false),
    }
}

fn fitting(options: &ProverOptions<'_>, ciphertext: &[u8]) -> Vec<Fingerprint> {
    options
        .others
        .iter()
        .filter(|(_, key)| matches!(options.scheme.decrypt(key, ciphertext), Outcome::Proved(_)))
        .map(|(fingerprint, _)| fingerprint.clone())
        .collect()
}

fn sum(shares: Vec<Share>) -> Proof {
    let mut proof = Proof::default();
    let mut columns = BTreeMap::<(String, String), Counts>::new();
    for share in shares {
        for (name, counts) in share.columns {
            proof.total.add(&counts);
            columns.entry(name).or_default().add(&counts);
        }
        proof.failures.extend(share.failures);
        proof.remembered += share.remembered;
    }
    proof.columns =
        columns.into_iter().map(|((table, column), counts)| ColumnCounts { table, column, counts }).collect();
    proof.failures.sort_by(|a, b| (&a.table, &a.column, &a.id).cmp(&(&b.table, &b.column, &b.id)));
    proof.failures.truncate(NAMED_FAILURES);
    proof
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::appkey::credential::{KeyPart, RowId};
    use crate::appkey::proof::Verdict;
    use crate::appkey::{KeyText, schemes};

    fn scheme() -> &'static dyn Scheme {
        schemes::by_name("package-broker").expect("a scheme")
    }

    fn key(text: &str) -> EffectiveKey {
        scheme().effective_key(&KeyText::new(text.as_bytes().to_vec().into())).expect("a key")
    }

    fn row(n: i64, ciphertext: Vec<u8>) -> Credential {
        Credential {
            table: "repositories".into(),
            column: "auth_credentials".into(),
            id: RowId::One(KeyPart::Integer(n)),
            ciphertext,
        }
    }

    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Progress for Notes {
        fn stage(&self, _: &str, _: Option<u64>, _: Unit) {}
        fn advance(&self, _: u64) {}
        fn note(&self, line: &str) {
            self.0.lock().expect("notes").push(line.to_owned());
        }
        fn finish(&self) {}
    }

    fn prove(key: &EffectiveKey, others: &[(Fingerprint, EffectiveKey)], rows: Vec<Credential>) -> (Proof, usize) {
        let profile = Profile::embedded("package-broker").expect("a profile");
        let notes = Notes::default();
        let options = ProverOptions {
            scheme: scheme(),
            key,
            profile: &profile,
            others,
            memory: None,
            believe_memory: false,
            only_tried: false,
            threads: 2,
            progress: &notes,
        };
        let (proof, ()) = prove_with(&options, |sink| rows.into_iter().try_for_each(sink)).expect("proved");
        let told = notes.0.lock().expect("notes").len();
        (proof, told)
    }

    #[test]
    fn right_wrong_mixed_and_nothing_are_told_apart() {
        let good = key("good");
        let value = scheme().encrypt(&good, b"{}").expect("encrypted");
        let other = scheme().encrypt(&key("other"), b"{}").expect("encrypted");
        let verdict = |key: &EffectiveKey, rows| prove(key, &[], rows).0.verdict();
        assert_eq!(verdict(&good, vec![row(1, value.clone()), row(2, b"{}".to_vec())]), Verdict::Proved);
        assert_eq!(verdict(&key("bad"), vec![row(1, value.clone())]), Verdict::WrongKey);
        assert_eq!(verdict(&good, vec![row(1, value), row(2, other)]), Verdict::Mixed);
        assert_eq!(verdict(&good, vec![row(2, b"{}".to_vec())]), Verdict::Unproven);
        assert_eq!(verdict(&good, vec![]), Verdict::Unproven);
    }

    #[test]
    fn a_failing_row_is_named_with_every_key_that_fits() {
        let value = scheme().encrypt(&key("old"), b"{}").expect("encrypted");
        let name = |n: u8| Fingerprint::from_bytes(&[n; 16]);
        let others = [(name(1), key("old")), (name(2), key("none")), (name(3), key("old"))];
        let (proof, _) = prove(&key("new"), &others, vec![row(7, value)]);
        assert_eq!(proof.failures.len(), 1);
        assert_eq!(proof.failures[0].id, RowId::One(KeyPart::Integer(7)));
        assert_eq!(proof.failures[0].fits, [name(1), name(3)]);
    }

    #[test]
    fn a_wrong_key_is_told_after_a_sample_and_once() {
        let value = scheme().encrypt(&key("a"), b"{}").expect("encrypted");
        let rows = (0..40).map(|n| row(n, value.clone())).collect();
        let (proof, told) = prove(&key("b"), &[], rows);
        assert_eq!((proof.total.failed, told), (40, 1));
    }

    #[test]
    fn a_key_that_is_only_tried_is_not_called_wrong() {
        let (good, tried) = (key("a"), key("b"));
        let value = scheme().encrypt(&good, b"{}").expect("encrypted");
        let profile = Profile::embedded("package-broker").expect("a profile");
        for (only_tried, says) in [(false, "the key is wrong"), (true, "under the key that is tried")] {
            let notes = Notes::default();
            let options = ProverOptions { only_tried, ..ProverOptions::new(scheme(), &tried, &profile, &notes) };
            prove_with(&options, |sink| (0..40).try_for_each(|n| sink(row(n, value.clone())))).expect("tried");
            let told = notes.0.lock().expect("notes").join("");
            assert!(told.contains(says), "{told}");
        }
    }

    #[test]
    fn a_value_too_long_to_try_fails() {
        let (proof, _) = prove(&key("a"), &[], vec![row(1, vec![b'A'; MAX_CIPHERTEXT + 1])]);
        assert_eq!(proof.verdict(), Verdict::WrongKey);
        assert!(proof.failures[0].reason.contains("longer"));
    }

    #[test]
    fn an_error_of_the_producer_comes_through() {
        let profile = Profile::embedded("package-broker").expect("a profile");
        let key = key("a");
        let options = ProverOptions {
            scheme: scheme(),
            key: &key,
            profile: &profile,
            others: &[],
            memory: None,
            believe_memory: false,
            only_tried: false,
            threads: 2,
            progress: &crate::ground::progress::Silent,
        };
        let result: Result<(Proof, ())> = prove_with(&options, |_| Err(Error::damaged("the dump ends early")));
        assert!(result.is_err());
    }
}
