//! Numbered places where a test can kill the process.
//!
//! Compiled in with the feature `failpoints` only. `STRONGROOM_KILL_AT=7` kills at the seventh place that the process
//! passes, as `kill -9` would: nothing is flushed, no destructor runs. Anything that is no number is the name of the place.
//! `STRONGROOM_KILL_TRACE=FILE` appends the name of every place passed to FILE, so a test knows how many there are.

/// Passes a place before or after a durable step; `what` names it in the trace.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn pass(_what: &str) {}

/// Passes a place before or after a durable step; `what` names it in the trace.
#[cfg(feature = "failpoints")]
pub fn pass(what: &str) {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicU64, Ordering};
    static PASSED: AtomicU64 = AtomicU64::new(0);

    let number = PASSED.fetch_add(1, Ordering::SeqCst) + 1;
    if let Some(trace) = std::env::var_os("STRONGROOM_KILL_TRACE")
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(trace)
    {
        // One write a line: other threads append too.
        let _ = file.write_all(format!("{number} {what}\n").as_bytes());
    }
    let at = std::env::var("STRONGROOM_KILL_AT").unwrap_or_default();
    if at == what || at.parse() == Ok(number) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}
