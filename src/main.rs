//! Start: nothing of this process may reach a core file or another user; then the command line.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use rustix::process::{DumpableBehavior, Resource, Rlimit};

fn main() -> ExitCode {
    let core = rustix::process::getrlimit(Resource::Core);
    // Keys pass through this memory. Where the system refuses, the run goes on: a backup is worth more.
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: core.maximum });
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let umask = rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    strongroom::cli::run(&move || {
        // The program that `guard` becomes gets what it would have had without us.
        let _ = rustix::process::setrlimit(Resource::Core, core);
        rustix::process::umask(umask);
    })
}
