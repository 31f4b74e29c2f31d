//! The one runtime that clients of networks wait on; made at their first use, so that verbs without them do not pay for it.

use std::future::Future;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

use super::{Error, Result};

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Waits for a future on this thread; several threads may wait at once.
pub fn wait<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    if RUNTIME.get().is_none() {
        let made = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::failed("cannot prepare for the network").because(e))?;
        // Of two threads that come first at once, one's runtime is dropped unused.
        let _ = RUNTIME.set(made);
    }
    match RUNTIME.get() {
        Some(runtime) => runtime.block_on(future),
        None => Err(Error::failed("cannot prepare for the network")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_wait_beside_each_other() {
        let wait_a_little = || {
            wait(async {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                Ok(7)
            })
        };
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(wait_a_little)).collect();
        for thread in threads {
            assert_eq!(thread.join().expect("it ends").expect("it waited"), 7);
        }
    }
}
