//! Child programs: an environment of our choosing, no shell, their failure is ours.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::{Error, Result};

/// How much of what a child said is kept for the message.
const TAIL: usize = 4096;
/// How much of its output is kept.
const OUTPUT: usize = 1 << 20;
/// How much is read at once.
const CHUNK: usize = 4096;
/// How long a child's pipes are listened to after its end.
const LINGER: Duration = Duration::from_secs(1);

/// What the `docker` program says, in small letters, when nobody answers it.
pub const DOCKER_IS_AWAY: [&str; 3] =
    ["cannot connect to the docker daemon", "failed to connect to the docker api", "error during connect"];

/// What children get of our environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Names beyond `PATH`, `HOME` and `LANG` that are passed on.
    pub pass: Vec<String>,
}

impl Environment {
    /// The variables that a child gets.
    pub fn variables(&self) -> BTreeMap<OsString, OsString> {
        ["PATH", "HOME", "LANG"]
            .into_iter()
            .chain(self.pass.iter().map(String::as_str))
            .filter_map(|name| std::env::var_os(name).map(|value| (OsString::from(name), value)))
            .collect()
    }
}

/// A program that ended, well or not.
pub struct Ended {
    /// Whether it says that all is well.
    pub success: bool,
    /// How it ended, in words.
    pub status: String,
    /// Its standard output; it may be a secret.
    pub out: Zeroizing<Vec<u8>>,
    /// The end of its standard error; it may hold a part of one.
    pub err: Zeroizing<String>,
}

/// Runs a program to its end; anything but success within `limit` is an error that holds the end of its stderr.
///
/// `argv` holds no secret, ever; `input` goes to its standard input.
pub fn run(argv: &[String], environment: &Environment, input: &[u8], limit: Duration) -> Result<Vec<u8>> {
    let mut ended = run_to_end(argv, environment, input, limit)?;
    if ended.success {
        return Ok(std::mem::take(&mut *ended.out));
    }
    let program = argv.first().map(String::as_str).unwrap_or_default();
    let error = Error::failed(format!("{program} failed ({})", ended.status));
    let said = ended.err.trim();
    Err(if said.is_empty() { error } else { error.because(said.to_owned()) })
}

/// The same for one that is handed a secret: what it said is not shown, because it may hold that in any form, as what `set -x` prints does.
pub fn run_with_secret(argv: &[String], environment: &Environment, secret: &[u8], limit: Duration) -> Result<()> {
    let ended = run_to_end(argv, environment, secret, limit)?;
    if ended.success {
        return Ok(());
    }
    let program = argv.first().map(String::as_str).unwrap_or_default();
    let error = Error::failed(format!("{program} failed ({})", ended.status));
    let said = !ended.err.trim().is_empty();
    Err(if said { error.because("what it said is not shown: it was given the key".to_owned()) } else { error })
}

/// The same for callers who look at how it ended; only that it did not start or end is an error.
pub fn run_to_end(argv: &[String], environment: &Environment, input: &[u8], limit: Duration) -> Result<Ended> {
    let (program, arguments) = argv.split_first().ok_or_else(|| Error::usage("an empty command"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment.variables())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| {
            Error::failed(format!("cannot start {program}")).because(e).hint(
                "Name the program by its whole path, see that it is there, and that this user may execute it (chmod +x).",
            )
        })?;
    // In one allocation, so that no unwiped copy of a secret is left behind.
    let (out, err) = (Kept::with_room(OUTPUT + CHUNK), Kept::with_room(TAIL + CHUNK));
    let input = Zeroizing::new(input.to_vec());
    if let Some(mut pipe) = child.stdin.take() {
        // A child that does not read its input is no failure of ours.
        std::thread::spawn(move || drop(pipe.write_all(&input)));
    }
    let listeners = [
        child.stdout.take().map(|pipe| out.listen(pipe, |kept| kept.truncate(OUTPUT))),
        child.stderr.take().map(|pipe| {
            err.listen(pipe, |kept| {
                let excess = kept.len().saturating_sub(TAIL);
                kept.drain(..excess);
            })
        }),
    ];
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() > limit => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::failed(format!("{program} did not end within {} s", limit.as_secs())));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Err(e) => return Err(Error::failed(format!("cannot wait for {program}")).because(e)),
        }
    };
    // What it left running in the background may hold our pipes for ever: nobody waits for that.
    let ended = Instant::now();
    while listeners.iter().flatten().any(|listener| !listener.is_finished()) && ended.elapsed() < LINGER {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(Ended {
        success: status.success(),
        status: status.to_string(),
        out: out.bytes(),
        err: Zeroizing::new(String::from_utf8_lossy(&err.bytes()).into_owned()),
    })
}

/// What a child said, collected beside its run.
#[derive(Clone)]
struct Kept(Arc<Mutex<Zeroizing<Vec<u8>>>>);

impl Kept {
    fn with_room(room: usize) -> Self {
        Self(Arc::new(Mutex::new(Zeroizing::new(Vec::with_capacity(room)))))
    }

    fn listen(
        &self,
        mut pipe: impl Read + Send + 'static,
        bound: impl Fn(&mut Vec<u8>) + Send + 'static,
    ) -> std::thread::JoinHandle<()> {
        let kept = Arc::clone(&self.0);
        std::thread::spawn(move || {
            let mut chunk = Zeroizing::new([0; CHUNK]);
            while let Ok(n @ 1..) = pipe.read(&mut *chunk) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&chunk[..n]);
                bound(&mut kept);
            }
        })
    }

    fn bytes(&self) -> Zeroizing<Vec<u8>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn a_failing_child_is_an_error_with_its_last_words() {
        let error = run(
            &argv(&["sh", "-c", "echo the disk is on fire >&2; exit 3"]),
            &Environment::default(),
            b"",
            Duration::from_secs(9),
        )
        .expect_err("it failed");
        assert!(error.chain().contains("the disk is on fire"), "{}", error.chain());
    }

    #[test]
    fn what_a_child_says_of_its_secret_is_not_shown() {
        let secret = b"q2Vw0N9m7yQk3rT5uX8zB1dF4hJ6lP0sA2cE4gI6kM8=";
        for script in ["set -x; k=$(cat); test \"$k\" = nothing", "od -An -tx1 >&2; exit 1", "base64 -w0 >&2; exit 1"] {
            let argv = argv(&["sh", "-c", script]);
            let ran = run_with_secret(&argv, &Environment::default(), secret, Duration::from_secs(9));
            let said = ran.expect_err("it failed").chain();
            assert_eq!(said, "sh failed (exit status: 1): what it said is not shown: it was given the key", "{script}");
        }
    }

    #[test]
    fn a_child_sees_only_what_it_should() {
        let out = run(&argv(&["env"]), &Environment::default(), b"", Duration::from_secs(9)).expect("it ran");
        let names: Vec<_> = out.split(|b| *b == b'\n').filter_map(|l| l.split(|b| *b == b'=').next()).collect();
        assert!(!names.contains(&b"CARGO_MANIFEST_DIR".as_slice()));
        assert!(names.contains(&b"PATH".as_slice()));
    }

    #[test]
    fn a_child_that_does_not_end_is_ended() {
        let begun = Instant::now();
        assert!(run(&argv(&["sleep", "60"]), &Environment::default(), b"", Duration::from_millis(50)).is_err());
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
