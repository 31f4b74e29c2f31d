//! The parsers of foreign bytes on the kept corpus and on mutations of it: none panics, hangs or says what is not so.
//!
//! The mutations are the same in every run. `fuzz/run` looks further, with libFuzzer and for as long as it is given.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::mutate::Mutator;
use crate::parsers::TARGETS;

mod mutate;
#[path = "../../fuzz/parsers.rs"]
mod parsers;

/// Mutations of each input; `STRONGROOM_FUZZ_ROUNDS` asks for more.
const ROUNDS: usize = 200;

/// The kept inputs of a target with their names, sorted; those named `taken-…` are what strongroom itself writes.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            (path.file_name().expect("a name").to_string_lossy().into_owned(), std::fs::read(&path).expect("read"))
        })
        .collect();
    inputs.sort();
    inputs
}

/// Gives a target its inputs and mutations of them; answers how many they were, and notes what went wrong.
fn tried(name: &str, target: fn(&[u8]) -> bool, rounds: usize, wrong: &Mutex<Vec<String>>) -> usize {
    let inputs = inputs(name);
    assert!(!inputs.is_empty(), "{name} has nothing to begin with");
    for (n, (file, input)) in inputs.iter().enumerate() {
        let mut mutator = Mutator::new(n as u64);
        for round in 0..=rounds {
            let other = &inputs[round % inputs.len()].1;
            let bytes = if round == 0 { input.clone() } else { mutator.mutate(input, other) };
            let Ok(taken) = std::panic::catch_unwind(|| target(&bytes)) else {
                let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).escape_debug().to_string();
                wrong
                    .lock()
                    .expect("no panic while it is held")
                    .push(format!("{name}, {file}, round {round}: {shown}"));
                continue;
            };
            assert!(taken || round > 0 || !file.starts_with("taken"), "{name} refuses {file}");
        }
    }
    inputs.len() * (rounds + 1)
}

#[test]
fn no_parser_of_foreign_bytes_panics_or_believes_too_much() {
    let rounds = std::env::var("STRONGROOM_FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let (wrong, all) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for (name, target) in TARGETS {
            let (wrong, all) = (&wrong, &all);
            scope.spawn(move || all.fetch_add(tried(name, target, rounds, wrong), Ordering::Relaxed));
        }
    });
    let (wrong, all) = (wrong.into_inner().expect("no panic while it was held"), all.into_inner());
    assert!(wrong.is_empty(), "{} of {all} inputs:\n{}", wrong.len(), wrong.join("\n"));
}
