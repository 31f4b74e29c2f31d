//! Where the pipes are, and who takes them away when this process is killed.

use std::process::{Child, Command, Stdio};

use super::super::link::Link;
use crate::ground::scratch::Scratch;
use crate::ground::{Error, Result};

/// What is done when a run was killed, whose `pg_restore` would wait in `open` for ever: the pipes are where nobody looks for them,
/// and opened once for those who wait already.
const GUARD: &str = "trap '' INT TERM HUP; read -r _; mv \"$1\" \"$1-\" || exit; for f in \"$1-\"/*; do : <>\"$f\"; done; rm -rf \"$1-\"";

/// The folder of the pipes, and a process that clears it when this one is killed.
pub(super) struct Room {
    // In this order they end: where nothing is left, the process has nothing to do.
    pub(super) scratch: Scratch,
    _guard: Guard,
}

impl Room {
    pub(super) fn new(link: &Link) -> Result<Self> {
        let scratch = Scratch::temporary()?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GUARD, "sh"]).arg(scratch.folder());
        command.env_clear().envs(link.options.environment.variables());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = command.spawn().map_err(|e| Error::failed("cannot start /bin/sh").because(e))?;
        Ok(Self { scratch, _guard: Guard(guard) })
    }
}

/// Waits until its standard input ends, as it does with this process.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
