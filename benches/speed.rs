//! Speed of what the bulk of all work goes through, each against what could be used instead.
//!
//! `cargo bench --bench speed`, with a word to run one group only (`proof`, `digest`, `seal`, `frames`, `floor`). Candidates of a group
//! run in turn, several rounds, and the best of each is printed: everything else that happens on a machine only adds to it. Where the
//! system tells a thread's processor time (Linux), that is what counts. Ratios are to strongroom's own way, the first of a group.
//! `floor` is timed by the wall: what is done to each byte of a backup and a restore, on all cores, on the disk of `TMPDIR`.

#![expect(clippy::print_stdout, reason = "a benchmark's output")]

#[path = "speed/floor.rs"]
mod floor;

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::process::Command;
use std::time::Instant;

use strongroom::appkey::credential::{Credential, KeyPart, RowId};
use strongroom::appkey::proof::{ProverOptions, Verdict, prove_with};
use strongroom::appkey::schemes::Outcome;
use strongroom::appkey::{EffectiveKey, KeyText, schemes};
use strongroom::bundle::digest::DigestWriter;
use strongroom::bundle::frames::{FrameReader, FrameWriter, LEVEL};
use strongroom::config::profile::Profile;
use strongroom::ground::progress::Silent;
use strongroom::sealing::{SealingKey, stream};

/// Bytes that go through a stream in one go.
const BYTES: usize = 64 << 20;
/// Bytes of one write, as a lane makes them.
const CHUNK: usize = 256 << 10;
/// Rounds of each group.
const ROUNDS: usize = 7;

/// A name and what to time.
type Candidate<'a> = (&'a str, Box<dyn FnMut() + 'a>);

/// Seconds on some clock.
type Clock = fn() -> f64;

/// Processor time of this thread.
fn processor() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse::<f64>().ok().map(|nanoseconds| nanoseconds / 1e9)
}

/// Processor time of all threads of this process, in steps of ten milliseconds; those that ended are counted.
fn processors() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = text.rsplit(") ").next()?.split(' ').collect();
    Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / 100.0)
}

/// Time on the wall.
fn wall() -> f64 {
    static BEGUN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    BEGUN.elapsed().as_secs_f64()
}

/// The best time of each candidate in seconds, all run in turn.
fn best(clock: Clock, candidates: &mut [Candidate<'_>]) -> Vec<f64> {
    let mut times = vec![f64::INFINITY; candidates.len()];
    for _ in 0..ROUNDS {
        for (time, (_, run)) in times.iter_mut().zip(candidates.iter_mut()) {
            let begun = clock();
            run();
            *time = time.min(clock() - begun);
        }
    }
    times
}

/// The clock for what runs on this thread alone.
fn own() -> f64 {
    processor().unwrap_or_else(wall)
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn throughput(title: &str, bytes: usize, mut candidates: Vec<Candidate<'_>>) {
    println!("\n{title}");
    let times = best(own, &mut candidates);
    for ((name, _), time) in candidates.iter().zip(&times) {
        println!("  {name:<44} {:8.0} MB/s   × {:.2}", bytes as f64 / time / 1e6, times[0] / time);
    }
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// Lines such as a file list or a dump has.
fn text(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 200);
    let mut line = 0_u64;
    while bytes.len() < length {
        let hash = blake3::hash(&line.to_le_bytes()).to_hex();
        bytes.extend_from_slice(
            format!("{{\"path\":\"private/repo-{}/{line}.zip\",\"mode\":\"0644\",\"blake3\":\"{hash}\"}}\n", line % 40)
                .as_bytes(),
        );
        line += 1;
    }
    bytes.truncate(length);
    bytes
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// OpenSSL's PBKDF2 on one core, through Python, where there is one: seconds for one credential.
fn openssl() -> Option<f64> {
    let program = "import hashlib, time\nbest = 9\nfor _ in range(9):\n  t = time.thread_time()\n  \
                   hashlib.pbkdf2_hmac('sha256', b'k' * 32, b's' * 16, 100000)\n  \
                   best = min(best, time.thread_time() - t)\nprint(best)";
    let output = Command::new("python3").args(["-c", program]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

fn proof() {
    let scheme = schemes::by_name("package-broker").expect("a scheme");
    let key = key_of("hV3kQ8s1Zr5tYw7bN0cMxJ2dLgF6aPuE9iRoTqSvKnU=");
    let profile = Profile::embedded("package-broker").expect("a profile");
    let value = scheme.encrypt(&key, b"{\"username\":\"team\"}").expect("encrypted");
    let rows = 64 * cores();
    let prove = |threads: usize, rows: usize| {
        let options = ProverOptions { threads, ..ProverOptions::new(scheme, &key, &profile, &Silent) };
        let (proof, ()) = prove_with(&options, |sink| {
            (0..rows).try_for_each(|n| {
                sink(Credential {
                    table: "repositories".into(),
                    column: "auth_credentials".into(),
                    id: RowId::One(KeyPart::Text(n.to_string())),
                    ciphertext: value.clone(),
                })
            })
        })
        .expect("proved");
        assert_eq!(proof.verdict(), Verdict::Proved);
    };
    let iterations = NonZero::new(100_000).expect("not zero");
    let mut out = [0; 32];
    let mut other = [0; 32];
    let mut candidates: Vec<Candidate<'_>> = vec![
        (
            "strongroom, one credential",
            Box::new(|| assert!(matches!(scheme.decrypt(&key, &value), Outcome::Proved(_)))),
        ),
        (
            "ring",
            Box::new(|| {
                ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA256, iterations, &[7; 16], &[8; 32], &mut out);
            }),
        ),
        (
            "RustCrypto",
            Box::new(|| pbkdf2::pbkdf2_hmac::<sha2::Sha256>(&[8; 32], &[7; 16], iterations.get(), &mut other)),
        ),
    ];
    println!("\none credential: PBKDF2-HMAC-SHA-256 with 100,000 iterations, and AES-256-GCM");
    let mut times = best(own, &mut candidates);
    let mut names: Vec<String> = candidates.iter().map(|(name, _)| (*name).to_owned()).collect();
    drop(candidates);
    match openssl() {
        Some(time) => {
            times.push(time);
            names.push("OpenSSL, through Python".to_owned());
        }
        None => println!("  OpenSSL is not measured: there is no python3"),
    }
    for (name, time) in names.iter().zip(&times) {
        println!("  {name:<44} {:8.2} ms     × {:.2}", time * 1e3, times[0] / time);
    }
    let single = times[1..].iter().copied().fold(f64::INFINITY, f64::min);
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let ideal = rows as f64 * single;
    #[expect(clippy::cast_precision_loss, reason = "few cores")]
    let on_wall = ideal / cores() as f64 / best(wall, &mut [("all", Box::new(|| prove(cores(), rows)))])[0];
    println!(
        "  {rows} credentials on {} cores: {:.0} % of cores × the fastest of the others",
        cores(),
        on_wall * 100.0
    );
    if processors().is_some() {
        let clock: Clock = || processors().unwrap_or_default();
        let used = best(clock, &mut [("all", Box::new(|| prove(cores(), rows)))])[0];
        println!("  and by processor time, whatever else the machine does: {:.0} %", ideal / used * 100.0);
    }
}

fn key_of(text: &str) -> EffectiveKey {
    let scheme = schemes::by_name("package-broker").expect("a scheme");
    scheme.effective_key(&KeyText::new(text.as_bytes().to_vec().into())).expect("a key")
}

fn digest() {
    use sha2::Digest as _;
    let bytes = noise(BYTES);
    let bytes = &bytes;
    throughput(
        "SHA-256 of what is stored",
        BYTES,
        vec![
            (
                "strongroom (digest of what is written)",
                Box::new(move || {
                    let mut out = DigestWriter::new(std::io::sink());
                    bytes.chunks(CHUNK).for_each(|chunk| out.write_all(chunk).expect("written"));
                    black_box(out.finish().expect("a digest").1);
                }),
            ),
            (
                "RustCrypto",
                Box::new(move || {
                    let mut hash = sha2::Sha256::new();
                    bytes.chunks(CHUNK).for_each(|chunk| hash.update(chunk));
                    black_box(hash.finalize());
                }),
            ),
        ],
    );
    throughput(
        "BLAKE3 of content",
        BYTES,
        vec![(
            "blake3, one thread",
            Box::new(move || {
                let mut hash = blake3::Hasher::new();
                bytes.chunks(CHUNK).for_each(|chunk| {
                    hash.update(chunk);
                });
                black_box(hash.finalize());
            }),
        )],
    );
}

fn seal() {
    let bytes = noise(BYTES);
    let bytes = &bytes;
    let key = SealingKey::generate();
    let recipient = key.recipient();
    let text = recipient.to_string();
    let theirs: age::x25519::Recipient = text.parse().expect("a recipient");
    throughput(
        "sealing",
        BYTES,
        vec![
            (
                "strongroom",
                Box::new(move || {
                    let mut out = stream::seal(recipient, std::io::sink()).expect("begun");
                    bytes.chunks(CHUNK).for_each(|chunk| out.write_all(chunk).expect("written"));
                    out.finish().expect("finished");
                }),
            ),
            (
                "strongroom, with the digest of it",
                Box::new(move || {
                    let mut out = stream::seal(recipient, DigestWriter::new(std::io::sink())).expect("begun");
                    bytes.chunks(CHUNK).for_each(|chunk| out.write_all(chunk).expect("written"));
                    black_box(out.finish().expect("finished").finish().expect("a digest").1);
                }),
            ),
            (
                "the age crate",
                Box::new(move || {
                    let recipients = std::iter::once(&theirs as &dyn age::Recipient);
                    let encryptor = age::Encryptor::with_recipients(recipients).expect("a recipient");
                    let mut out = encryptor.wrap_output(std::io::sink()).expect("begun");
                    bytes.chunks(CHUNK).for_each(|chunk| out.write_all(chunk).expect("written"));
                    out.finish().expect("finished");
                }),
            ),
        ],
    );
    let mut sealed = stream::seal(recipient, Vec::with_capacity(BYTES + (BYTES >> 10))).expect("begun");
    sealed.write_all(bytes).expect("written");
    let sealed = sealed.finish().expect("finished");
    let (key, sealed) = (&key, &sealed);
    let identity: age::x25519::Identity = std::str::from_utf8(&key.to_identity_file())
        .expect("text")
        .lines()
        .find(|line| line.starts_with("AGE"))
        .expect("an identity")
        .parse()
        .expect("an identity");
    throughput(
        "opening",
        BYTES,
        vec![
            (
                "strongroom",
                Box::new(move || {
                    let mut input = stream::open(key, sealed.as_slice(), "it").expect("opened");
                    let mut buffer = vec![0; CHUNK];
                    while input.read(&mut buffer).expect("read") > 0 {}
                }),
            ),
            (
                "the age crate",
                Box::new(move || {
                    let decryptor = age::Decryptor::new(sealed.as_slice()).expect("begun");
                    let identities = std::iter::once(&identity as &dyn age::Identity);
                    let mut input = decryptor.decrypt(identities).expect("opened");
                    let mut buffer = vec![0; CHUNK];
                    while input.read(&mut buffer).expect("read") > 0 {}
                }),
            ),
        ],
    );
}

fn frames() {
    let bytes = text(BYTES);
    let bytes = &bytes;
    let compress = move || {
        let mut out = FrameWriter::new(Vec::with_capacity(BYTES)).expect("begun");
        bytes.chunks(CHUNK).for_each(|chunk| out.write_all(chunk).expect("written"));
        out.finish().expect("finished")
    };
    let framed = compress();
    let framed = &framed;
    let whole = zstd::bulk::compress(bytes, LEVEL).expect("compressed").len();
    throughput(
        "compressing lines of a file list",
        BYTES,
        vec![
            ("strongroom, frames of 4 MiB", Box::new(move || drop(black_box(compress())))),
            (
                "zstd at the same level, one frame",
                Box::new(move || drop(black_box(zstd::bulk::compress(bytes, LEVEL).expect("compressed")))),
            ),
        ],
    );
    println!("  size: {} bytes in frames, {whole} in one", framed.len());
    throughput(
        "decompressing them",
        BYTES,
        vec![(
            "strongroom",
            Box::new(move || {
                let mut input = FrameReader::new(framed.as_slice(), "it").expect("begun");
                let mut buffer = vec![0; CHUNK];
                while input.read(&mut buffer).expect("read") > 0 {}
            }),
        )],
    );
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let groups: [(&str, fn()); 5] =
        [("proof", proof), ("digest", digest), ("seal", seal), ("frames", frames), ("floor", floor::floor)];
    for (name, group) in groups {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            group();
        }
    }
}
