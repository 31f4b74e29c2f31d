//! Two pieces of work side by side, of which one answers.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Error, Result, interrupt};

/// Asks work that is done beside other work to end, because nobody wants it any more.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// From now on.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has asked.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error once somebody has asked, or a signal has come; called wherever the work may take long.
    ///
    /// It is nobody's answer: whoever asked knows why.
    pub fn check(&self) -> Result<()> {
        interrupt::check()?;
        if self.is_set() { Err(Error::failed("it was stopped, because what ran beside it has failed")) } else { Ok(()) }
    }
}

/// Asks for the end unless it was told that all is well: also when a panic passes.
struct Unless<'a>(&'a Stop, bool);

impl Drop for Unless<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.set();
        }
    }
}

/// Does `main` while another thread does `side`, which is asked to stop when `main` fails.
///
/// The error of `main` goes before that of `side`.
pub fn beside<T>(side: impl FnOnce(&Stop) -> Result<()> + Send, main: impl FnOnce() -> Result<T>) -> Result<T> {
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let side = scope.spawn(|| side(&stop));
        let mut well = Unless(&stop, false);
        let done = main();
        well.1 = done.is_ok();
        drop(well);
        let ended =
            side.join().unwrap_or_else(|_| Err(Error::failed("a thread that works beside another has panicked")));
        done.and_then(|done| ended.map(|()| done))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::Kind;

    #[test]
    fn who_fails_stops_the_other_and_is_the_answer() {
        // Without a stop this never ends.
        let endless = |stop: &Stop| {
            loop {
                stop.check()?;
                std::thread::yield_now();
            }
        };
        let failed = beside(endless, || Err::<(), _>(Error::damaged("x")));
        assert_eq!(failed.map_err(|e| e.kind()), Err(Kind::Damaged));
        let panicked = std::panic::catch_unwind(|| beside(endless, || -> Result<()> { panic!("as it must") }));
        assert!(panicked.is_err());
    }

    #[test]
    fn both_are_waited_for_and_the_first_of_two_errors_is_of_what_matters() {
        assert_eq!(beside(|_| Ok(()), || Ok(7)).ok(), Some(7));
        let kind = |result: Result<()>| result.map_err(|e| e.kind());
        let refused = |_: &Stop| Err(Error::refused("y"));
        assert_eq!(kind(beside(refused, || Ok(()))), Err(Kind::Refused));
        assert_eq!(kind(beside(refused, || Err(Error::damaged("x")))), Err(Kind::Damaged));
    }
}
