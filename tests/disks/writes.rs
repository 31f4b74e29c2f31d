//! Every call that writes, makes durable or renames fails once, in a backup and in a restore.

use std::collections::BTreeSet;

use crate::look::{goes_on, is_whole, newest_is_whole, restores, said};
use crate::stage::{Case, all, backed_up, disaster, restore, run};
use crate::strace::{Fault, Sys, faulty, is_pipe, known, traced, works};
use crate::tally::{Tally, Verdict};
use crate::world::World;

/// Calls that need room.
const ROOM: &str = "write,pwrite64,writev,pwritev,pwritev2,copy_file_range,sendfile,fallocate,ftruncate,openat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat";
/// Calls that make something last.
const LAST: &str = "fsync,fdatasync,syncfs,sync_file_range,msync";

/// The faults that meet each call of a run once: those of the first thread alone, those of the others as often as any has made one.
fn once_each(calls: &[Sys], error: &'static str) -> Vec<(String, Fault)> {
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    for call in calls.iter().filter(|call| call.name != "openat" || call.creates) {
        let others = call.thread > 0;
        if seen.insert((others, call.name.clone(), call.nth)) {
            let fault =
                Fault { calls: call.name.clone(), error, when: call.nth.to_string(), threads: others, path: None };
            let file = call.paths.last().map(|path| known(path).display().to_string()).unwrap_or_default();
            faults.push((format!("{error} {} {} of {file}", call.name, call.nth), fault));
        }
    }
    faults
}

/// Why a run may end well although this call failed.
fn harmless(call: &Sys) -> Option<&'static str> {
    let path = call.paths.last()?.display().to_string();
    match call.name.as_str() {
        "openat" if path.ends_with("/.lock") => Some("a lock that saves work and protects nothing"),
        "fsync" if path.ends_with("/strongroom-state") => {
            Some("SQLite goes on where a folder's name may not last; what this host remembers can be lost without harm")
        }
        "linkat" if path.contains("/database.sqlite.before-") => {
            Some("the replaced database cannot get a second name, and is moved instead")
        }
        _ => None,
    }
}

/// What is said when all that counts is done.
const DONE: [&str; 2] = ["the bundle is made", "the restore is done"];

/// Cases of a run in which each call fails once.
fn cases<'a>(
    line: &'a str,
    calls: &[Sys],
    error: &'static str,
    after: &'a (dyn Fn(&World) + Send + Sync),
) -> Vec<Case<'a>> {
    let one = |(what, fault): (String, Fault)| Case {
        what,
        trial: Box::new(move |world| {
            let (ran, met) = faulty(world, line, &fault);
            // Threads share work out anew in each run: another call than was meant may have that number.
            if met.iter().any(|call| call.name == "openat" && !call.creates) {
                return None;
            }
            let first = met.first()?;
            let verdict = match ran.code {
                Some(0) => harmless(first).map_or(Verdict::Believed, Verdict::Same),
                // The bundle is in the ledger, or all is back: what fails then is what this host remembers of it.
                Some(3) if DONE.iter().any(|done| ran.stderr.contains(done)) => {
                    said(world, &ran, &[3], &first.paths, true)
                }
                _ => {
                    let mut files: Vec<_> = met.iter().flat_map(|call| call.paths.clone()).collect();
                    // The message itself was hit, by the number that a call of another thread had.
                    if files.iter().any(|file| is_pipe(file)) && met.iter().any(|call| call.thread > 0) {
                        files.clear();
                    }
                    said(world, &ran, &[1], &files, !files.is_empty())
                }
            };
            after(world);
            Some(verdict)
        }),
    };
    once_each(calls, error).into_iter().map(one).collect()
}

#[test]
fn a_write_that_fails_loses_nothing() {
    if !works() {
        return;
    }
    let mut tally = Tally::default();
    let (world, first) = backed_up();
    let some = 5;
    let backup = |world: &World| goes_on(world, &first);
    let (ran, room) = traced(&world.copy(), "backup", ROOM);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let (_, last) = traced(&world.copy(), "backup", LAST);
    run(&mut tally, "a backup, each call that needs room", some, &world, &cases("backup", &room, "ENOSPC", &backup));
    run(&mut tally, "a backup, each call that makes durable", some, &world, &cases("backup", &last, "EIO", &backup));

    // A sample: what differs is how the error is worded.
    let quota: Vec<_> = cases("backup", &room, "EDQUOT", &backup).into_iter().step_by(5).collect();
    run(&mut tally, "a backup, each fifth of these calls, a quota used up", some, &world, &quota);

    let (hurt, id) = disaster();
    let line = restore("--yes");
    let after = |world: &World| restores(world, &id);
    let (ran, room) = traced(&hurt.copy(), &line, ROOM);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let (_, last) = traced(&hurt.copy(), &line, LAST);
    run(&mut tally, "a live restore, each call that needs room", some, &hurt, &cases(&line, &room, "ENOSPC", &after));
    run(&mut tally, "a live restore, each call that makes durable", some, &hurt, &cases(&line, &last, "EIO", &after));

    let (whole, _) = backed_up();
    whole.backup(0);
    let line = restore("--target whole");
    let after = |world: &World| {
        // Once everything is there and its marker gone, the folder is the person's and no longer ours.
        if world.path("whole/database.sqlite").exists() && !world.path("whole/.strongroom-restore").exists() {
            world.run(&line, 15);
            is_whole(world);
        } else {
            newest_is_whole(world);
        }
    };
    let (ran, room) = traced(&whole.copy(), &line, ROOM);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let (_, last) = traced(&whole.copy(), &line, LAST);
    run(
        &mut tally,
        "a restore to a folder, each call that needs room",
        some,
        &whole,
        &cases(&line, &room, "ENOSPC", &after),
    );
    run(
        &mut tally,
        "a restore to a folder, each call that makes durable",
        some,
        &whole,
        &cases(&line, &last, "EIO", &after),
    );
    tally.close(if all() { 250 } else { 20 });
}
