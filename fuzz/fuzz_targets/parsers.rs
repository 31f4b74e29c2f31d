//! One binary for all targets: `STRONGROOM_FUZZ` names the one that gets the bytes.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

#[path = "../parsers.rs"]
mod parsers;

fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<fn(&[u8]) -> bool> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let wanted = std::env::var("STRONGROOM_FUZZ").expect("STRONGROOM_FUZZ names a target");
        parsers::TARGETS.iter().find(|(name, _)| *name == wanted).expect("a target of that name").1
    });
    target(bytes);
});
