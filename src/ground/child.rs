//! Child programs: an environment of our choosing, no shell, their failure is ours.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Error, Result};

/// How much of what a child said is kept for the message.
const TAIL: usize = 4096;
/// How much of its output is kept.
const OUTPUT: usize = 1 << 20;
/// How long a child's pipes are listened to after its end.
const LINGER: Duration = Duration::from_secs(1);

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

/// Runs a program to its end; anything but success within `limit` is an error that holds the end of its stderr.
///
/// `argv` holds no secret, ever; `input` goes to its standard input.
pub fn run(argv: &[String], environment: &Environment, input: &[u8], limit: Duration) -> Result<Vec<u8>> {
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
    let (out, err) = (Kept::default(), Kept::default());
    let input = zeroize::Zeroizing::new(input.to_vec());
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
    if status.success() {
        return Ok(out.bytes());
    }
    let said = err.bytes();
    let said = String::from_utf8_lossy(&said);
    let said = said.trim();
    let error = Error::failed(format!("{program} failed ({status})"));
    Err(if said.is_empty() { error } else { error.because(said.to_owned()) })
}

/// What a child said, collected beside its run.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn listen(
        &self,
        mut pipe: impl Read + Send + 'static,
        bound: impl Fn(&mut Vec<u8>) + Send + 'static,
    ) -> std::thread::JoinHandle<()> {
        let kept = Arc::clone(&self.0);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut chunk) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&chunk[..n]);
                bound(&mut kept);
            }
        })
    }

    fn bytes(&self) -> Vec<u8> {
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
