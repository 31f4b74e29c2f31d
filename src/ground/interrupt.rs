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

/// From now on the two signals are heard here; a second one ends the process at once.
pub fn listen() -> Result<()> {
    let failed = |e: std::io::Error| Error::failed("cannot listen to signals").because(e);
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, Kind::Interrupted.exit_code().into(), Arc::clone(&AT_ONCE))
            .map_err(failed)?;
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
