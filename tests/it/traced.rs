//! What the kernel is told: no call of the program or of its children writes a secret, or passes one on.

use std::path::Path;

use crate::app::KEY;
use crate::hygiene::{files_hold_none, held, secrets};
use crate::world::{Call, IDENTITY, PROGRAM, World};

/// Calls that start a program, name a file, or carry bytes out of the process.
const CALLS: &str = "trace=execve,openat,mkdir,rename,renameat2,linkat,symlinkat,write,pwrite64,writev,pwritev,pwritev2,sendto,sendmsg,sendmmsg";

/// Whether `strace` works here; where it does not, the test fails if tools are required.
pub(crate) fn strace() -> bool {
    let works = std::process::Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    if works.is_ok_and(|status| status.success()) {
        return true;
    }
    let required = std::env::var_os("STRONGROOM_TEST_TOOLS").is_some_and(|v| v == "required");
    assert!(!required, "strace is needed, and the right to use it");
    false
}

/// Runs a line under `strace`, every string whole and in hex, with the key in its environment; answers the calls after the first.
fn trace(world: &World, line: &str) -> Vec<String> {
    let file = world.path("trace");
    let strace = format!("-f -qq -v -xx -s 16777216 -e {CALLS} -o {} {PROGRAM} --no-progress {line}", file.display());
    Call::new("strace", &world.path(""), &strace)
        .env("ENCRYPTION_KEY", KEY)
        .env("STRONGROOM_KEY_SOURCE", "env:ENCRYPTION_KEY")
        .ends(0);
    let trace = std::fs::read_to_string(&file).expect("a trace");
    std::fs::remove_file(&file).expect("removed");
    let mut calls = trace.lines().map(str::to_owned);
    let first = calls.next().expect("a call");
    assert!(first.contains("execve("), "{first}");
    calls.collect()
}

/// The bytes of all strings of a call.
fn strings(call: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(call.len() / 4);
    for piece in call.split("\\x").skip(1) {
        let (digits, rest) = piece.split_at(piece.len().min(2));
        bytes.extend(u8::from_str_radix(digits, 16));
        if !rest.is_empty() {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// A world whose program writes down under which limits the one that calls it runs.
fn watched() -> World {
    let world = World::ready();
    let look = "cat >/dev/null; grep -h -e '^Umask' -e '^Max core' /proc/$PPID/status /proc/$PPID/limits >>$W/limits";
    world.script("look", look);
    world.configure("stop = [\"./look\"]\nstart = [\"./look\"]\n[notify]\non_result = [\"./look\"]");
    world
}

fn children(calls: &[String]) -> usize {
    calls.iter().filter(|call| call.contains("execve(") && call.ends_with("= 0")).count()
}

#[test]
fn no_call_of_a_backup_a_proof_or_a_restore_passes_a_secret_on() {
    if !strace() {
        return;
    }
    let world = watched();
    let secrets = secrets(&world);
    for (line, runs) in [
        ("prove".to_owned(), false),
        ("backup --prove-all".to_owned(), true),
        (format!("verify --deep -i {IDENTITY}"), true),
        (format!("restore --target out -i {IDENTITY}"), true),
        (format!("restore --yes -i {IDENTITY}"), true),
    ] {
        let calls = trace(&world, &line);
        assert!(calls.iter().any(|call| call.contains("write(")), "{line}: nothing was traced");
        assert_eq!(children(&calls) > 0, runs, "{line}: children");
        for call in &calls {
            let name: String = call.chars().take(60).collect();
            assert!(!call.contains("\"..."), "{line}: a string was cut: {name}");
            assert_eq!(held(&strings(call), &secrets), Vec::<&str>::new(), "{line}: {name}");
        }
    }
    files_hold_none(&world, &secrets, &[]);
    let limits = std::fs::read_to_string(world.path("limits")).expect("the hooks ran");
    let (mut umasks, mut cores) = (0, 0);
    for line in limits.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["Umask:", mask] => {
                assert_eq!(*mask, "0077");
                umasks += 1;
            }
            ["Max", "core", "file", "size", soft, ..] => {
                assert_eq!(*soft, "0");
                cores += 1;
            }
            _ => panic!("{line}"),
        }
    }
    assert!(umasks >= 5 && cores == umasks, "{limits}");
}

#[test]
fn a_trace_shows_the_key_where_it_is_meant_to_be() {
    if !strace() {
        return;
    }
    let (world, _) = World::backed_up();
    let secrets = secrets(&world);
    let found = |line: &str, kind: &str| {
        let calls = trace(&world, line);
        let holding: Vec<_> = calls.iter().filter(|call| !held(&strings(call), &secrets).is_empty()).collect();
        assert!(!holding.is_empty() && holding.iter().all(|call| call.contains(kind)), "{line}: {}", holding.len());
    };
    found(&format!("key fetch -i {IDENTITY} -o app.key"), "write(");
    assert!(Path::new(&world.path("app.key")).is_file());
    // Nothing but the environment of the application itself.
    found("guard -- /bin/true", "execve(");
    found(&format!("key exec -i {IDENTITY} -- /bin/true"), "execve(");
}
