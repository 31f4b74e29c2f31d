//! A run that is killed at places before and after something becomes lasting; shared with the tests of escrows.
//!
//! Each place is a world of its own: a copy of one that was prepared once. The numbers are those of one traced run.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::world::World;

/// Kills wait on the disk and on Argon2id; two at a time keep two cores busy.
const THREADS: usize = 2;

/// One in so many runs may end before its place comes: two lanes that find a folder missing at once both pass a place
/// for it, so runs of the same work differ by some places.
const SURVIVE: usize = 8;

/// An application that is as small as it can be, so that there is time for every place.
pub(crate) fn small() -> World {
    let world = World::ready();
    world.app.execute("DELETE FROM repositories WHERE id NOT IN ('manual', 'repo-1')");
    world
}

/// The names of the places that a run passes; it must end well.
pub(crate) fn trace(template: &World, line: &str, code: i32) -> Vec<String> {
    let world = template.copy();
    let trace = world.path("trace");
    world.call(line).env("STRONGROOM_KILL_TRACE", &trace).ends(code);
    let names = std::fs::read_to_string(trace).expect("a trace: is the program built with the feature failpoints?");
    let root = world.path("").display().to_string();
    names.lines().map(|l| l.split_once(' ').expect("a number").1.replace(&root, "/")).collect()
}

/// Kills a run at each of these places, each in its own copy, and looks at what is left.
pub(crate) fn at_each(template: &World, line: &str, places: &[(usize, &String)], look: &(dyn Fn(&World) + Sync)) {
    at_each_of(template, line, places, THREADS, &|| (), look);
}

/// The same where the worlds share something outside, which `before` puts back as it was: one at a time.
#[allow(dead_code, reason = "for the tests of escrows outside of the archive")]
pub(crate) fn one_by_one(
    template: &World,
    line: &str,
    places: &[(usize, &String)],
    before: &(dyn Fn() + Sync),
    look: &(dyn Fn(&World) + Sync),
) {
    at_each_of(template, line, places, 1, before, look);
}

fn at_each_of(
    template: &World,
    line: &str,
    places: &[(usize, &String)],
    threads: usize,
    before: &(dyn Fn() + Sync),
    look: &(dyn Fn(&World) + Sync),
) {
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    let survivors = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((place, name)) = places.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let one = || {
                        before();
                        let world = template.copy();
                        let trace = world.path("trace");
                        let call = world.call(line).env("STRONGROOM_KILL_AT", place.to_string());
                        let output = call.env("STRONGROOM_KILL_TRACE", &trace).command().output().expect("started");
                        let said = String::from_utf8_lossy(&output.stderr).into_owned();
                        if output.status.signal() != Some(9) {
                            let passed = std::fs::read_to_string(&trace).expect("a trace").lines().count();
                            assert!(passed < *place, "passed {passed}, {:?}: {said}", output.status);
                            survivors.fetch_add(1, Ordering::SeqCst);
                        }
                        look(&world);
                    };
                    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(one)) {
                        let why = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                        wrong.lock().expect("the list").push(format!("killed at {place} ({name}): {why}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("the list");
    assert!(wrong.is_empty(), "{} of {} places:\n{}", wrong.len(), places.len(), wrong.join("\n"));
    let survivors = survivors.into_inner();
    assert!(survivors * SURVIVE <= places.len(), "{survivors} of {} runs were not killed", places.len());
}

pub(crate) fn numbered(names: &[String]) -> Vec<(usize, &String)> {
    names.iter().enumerate().map(|(n, name)| (n + 1, name)).collect()
}

/// Insists that a trace has a place of each of these kinds.
pub(crate) fn covers(names: &[String], kinds: &[&str]) {
    for kind in kinds {
        assert!(names.iter().any(|n| n.contains(kind)), "no place {kind:?} in\n{}", names.join("\n"));
    }
}

/// The places of these kinds, and some of the others, which the backups inside have and are killed at elsewhere.
pub(crate) fn own<'a>(names: &'a [String], kinds: &[&str], one_in: usize) -> Vec<(usize, &'a String)> {
    let some = |(place, name): &(usize, &String)| kinds.iter().any(|kind| name.contains(kind)) || place % one_in == 0;
    numbered(names).into_iter().filter(some).collect()
}
