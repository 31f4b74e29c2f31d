//! `strace` as the disk that fails: it answers chosen calls of the program with an error, and tells which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::world::{Call, PROGRAM, Ran, World};

/// Whether `strace` works here; where it does not, the test fails if tools are required.
pub(crate) fn works() -> bool {
    let works = std::process::Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    if works.is_ok_and(|status| status.success()) {
        return true;
    }
    let required = std::env::var_os("STRONGROOM_TEST_TOOLS").is_some_and(|v| v == "required");
    assert!(!required, "strace is needed, and the right to use it");
    false
}

/// One call of the program to the system.
#[derive(Clone, Debug)]
pub(crate) struct Sys {
    /// 0 for the first thread.
    pub(crate) thread: usize,
    pub(crate) name: String,
    /// The how-many-th of this name in its thread, from 1.
    pub(crate) nth: usize,
    /// The files it is about, as the system names them.
    pub(crate) paths: Vec<PathBuf>,
    /// Whether it makes a file.
    pub(crate) creates: bool,
    /// Whether `strace` answered it in the system's place.
    pub(crate) injected: bool,
}

/// What is answered, and to which calls.
pub(crate) struct Fault {
    pub(crate) calls: String,
    pub(crate) error: &'static str,
    /// As `strace` takes it: `7`, `7+`.
    pub(crate) when: String,
    /// Calls of all threads, not only of the first.
    pub(crate) threads: bool,
    /// Only calls about this file.
    pub(crate) path: Option<PathBuf>,
}

/// The calls of a run, in their order.
pub(crate) fn traced(world: &World, line: &str, calls: &str) -> (Ran, Vec<Sys>) {
    run(world, line, &format!("-f -e trace={calls}"))
}

/// A run with a fault, and the calls that met it.
pub(crate) fn faulty(world: &World, line: &str, fault: &Fault) -> (Ran, Vec<Sys>) {
    let Fault { calls, error, when, .. } = fault;
    let threads = if fault.threads { "-f " } else { "" };
    let path = fault.path.as_ref().map(|path| format!("-P {} ", path.display())).unwrap_or_default();
    let (ran, calls) =
        run(world, line, &format!("{threads}{path}-e trace={calls} -e inject={calls}:error={error}:when={when}"));
    (ran, calls.into_iter().filter(|call| call.injected).collect())
}

fn run(world: &World, line: &str, options: &str) -> (Ran, Vec<Sys>) {
    let file = world.path("strace.txt");
    let strace = format!("-qq -y -s 0 {options} -o {} {PROGRAM} --no-progress {line}", file.display());
    let ran = Call::new("strace", &world.path(""), &strace).run();
    let text = std::fs::read_to_string(&file).expect("a trace");
    std::fs::remove_file(&file).expect("removed");
    (ran, parse(&text))
}

fn parse(text: &str) -> Vec<Sys> {
    let (mut threads, mut begun, mut counts) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    let mut calls = Vec::new();
    for line in text.lines() {
        // Without -f no thread is told.
        let (thread, call) = match line.split_once(' ') {
            Some((id, rest)) if id.bytes().all(|b| b.is_ascii_digit()) => (id, rest.trim_start()),
            _ => ("", line),
        };
        let whole = if let Some(first) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(thread.to_owned(), first.to_owned());
            continue;
        } else if let Some((_, rest)) = call.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            begun.remove(thread).unwrap_or_default() + rest
        } else {
            call.to_owned()
        };
        let Some((name, arguments)) = whole.split_once('(') else { continue };
        if !threads.iter().any(|known| known == thread) {
            threads.push(thread.to_owned());
        }
        let thread = threads.iter().position(|known| known == thread).expect("just put there");
        let nth = counts.entry((thread, name.to_owned())).or_insert(0);
        *nth += 1;
        calls.push(Sys {
            thread,
            name: name.to_owned(),
            nth: *nth,
            paths: paths(name, arguments),
            creates: arguments.contains("O_CREAT"),
            injected: whole.ends_with("(INJECTED)"),
        });
    }
    calls
}

/// The files of a call: those that its descriptors are open on, and those that are named relative to one.
fn paths(name: &str, arguments: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut folder: Option<PathBuf> = None;
    let mut rest = arguments;
    let data = name.contains("write") || name.contains("read");
    while let Some(at) = rest.find(['<', '"']) {
        let close = if rest.as_bytes()[at] == b'<' { '>' } else { '"' };
        let Some(end) = rest[at + 1..].find(close) else { break };
        let text = &rest[at + 1..at + 1 + end];
        rest = &rest[at + end + 2..];
        if close == '>' {
            folder.take().into_iter().for_each(|unused| found.push(unused));
            folder = Some(PathBuf::from(text));
        } else if !data {
            let path = folder.take().map_or_else(|| PathBuf::from(text), |folder| folder.join(text));
            found.push(path);
        }
    }
    found.extend(folder);
    found
}

/// A file's name as a person knows it: without what is temporary about it.
pub(crate) fn known(path: &Path) -> PathBuf {
    let text = path.display().to_string();
    let text = text.trim_end_matches(" (deleted)").trim_end_matches("(deleted)");
    let path = Path::new(text);
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else { return path.to_owned() };
    let name = match name.strip_suffix(".strongroom-tmp") {
        Some(temporary) => {
            let temporary = temporary.strip_prefix('.').unwrap_or(temporary);
            temporary.rsplit_once('.').map_or(temporary, |(name, _)| name)
        }
        None => name,
    };
    let name = ["-journal", "-wal", "-shm"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    path.with_file_name(name)
}

/// Whether it is no file, but one of the program's own streams.
pub(crate) fn is_pipe(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().starts_with(b"pipe:")
}
