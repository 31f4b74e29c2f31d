//! SIGINT and SIGTERM ask the run to end, and it ends where that is safe: nothing half-written stays, a restore goes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::{Error, Kind, Result};

/// Somebody has asked.
static ASKED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
/// A signal ends the process where it is: it is the second one, or a person is being asked and nothing is under way.
static AT_ONCE: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
/// SIGTERM does, while a secret is asked for.
static TERM_AT_ONCE: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on the two signals are heard here; a second one ends the process at once.
pub fn listen() -> Result<()> {
    let failed = |e: std::io::Error| Error::failed("cannot listen to signals").because(e);
    let code = Kind::Interrupted.exit_code().into();
    flag::register_conditional_shutdown(SIGTERM, code, Arc::clone(&TERM_AT_ONCE)).map_err(failed)?;
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, code, Arc::clone(&AT_ONCE)).map_err(failed)?;
        flag::register(signal, Arc::clone(&AT_ONCE)).map_err(failed)?;
        flag::register(signal, Arc::clone(&ASKED)).map_err(failed)?;
    }
    Ok(())
}

/// [`Kind::Interrupted`] once a signal has come; called wherever much is read or written.
pub fn check() -> Result<()> {
    if ASKED.load(Ordering::Relaxed) { Err(Error::new(Kind::Interrupted, "interrupted")) } else { Ok(()) }
}

/// Waits for a person; a signal meanwhile ends the process at once.
pub fn while_asking<T>(ask: impl FnOnce() -> T) -> T {
    AT_ONCE.store(true, Ordering::Relaxed);
    let answer = ask();
    AT_ONCE.store(ASKED.load(Ordering::Relaxed), Ordering::Relaxed);
    answer
}

/// Waits for a person's secret: whoever asks takes Ctrl-C for itself, and makes the terminal what it was before it answers, so SIGINT
/// is only noted; SIGTERM ends the process at once.
pub fn while_asking_a_secret<T>(ask: impl FnOnce() -> T) -> T {
    TERM_AT_ONCE.store(true, Ordering::Relaxed);
    let answer = ask();
    TERM_AT_ONCE.store(false, Ordering::Relaxed);
    answer
}
