//! The application, its archive, and how cases are tried: each in a copy of everything.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::app::{KEY, OBJECTS, object, zip};
use crate::tally::{Tally, Verdict};
use crate::world::{IDENTITY, World};

/// Runs wait on the disk and on Argon2id; two at a time keep two cores busy.
const THREADS: usize = 2;

/// Whether every case is asked for.
pub(crate) fn all() -> bool {
    std::env::var("STRONGROOM_TRUST").is_ok_and(|wanted| wanted == "all")
}

/// An application as small as it can be, with one bundle, and with something new for the next.
pub(crate) fn backed_up() -> (World, String) {
    let world = World::ready();
    world.app.execute("DELETE FROM repositories WHERE id NOT IN ('manual', 'repo-1')");
    let id = world.backup(0);
    world.app.store("private/manual/acme/new/1.0.0.zip", &zip("new", 40));
    world.app.store(&object("manual", "acme/tools", "1.1.0"), &zip("changed", 70));
    world.app.store("private/manual/acme/new/1.0.0.readme.md", b"# new\n");
    world.app.add_credential(60, KEY);
    (world, id)
}

/// The same after a disaster: rows are gone, a package is lost, another changed, one more stands beside them.
pub(crate) fn disaster() -> (World, String) {
    let (world, _) = backed_up();
    let id = world.backup(0);
    world.app.execute("DELETE FROM repositories WHERE id = 'manual'");
    std::fs::remove_file(world.app.storage().join(lost())).expect("removed");
    world.app.store(&changed(), b"not what it was");
    world.app.store("private/new.zip", b"made since");
    (world, id)
}

/// The package that the disaster took.
pub(crate) fn lost() -> String {
    object(OBJECTS[0].0, OBJECTS[0].1, OBJECTS[0].2)
}

/// The package that the disaster changed.
pub(crate) fn changed() -> String {
    object(OBJECTS[1].0, OBJECTS[1].1, OBJECTS[1].2)
}

/// How the restores of these tests are called.
pub(crate) fn restore(to: &str) -> String {
    format!("restore {to} -i {IDENTITY}")
}

/// `None` where nothing met the fault.
type Trial<'a> = Box<dyn Fn(&World) -> Option<Verdict> + Send + Sync + 'a>;

/// One case: what it is, and its trial in a copy of the world.
pub(crate) struct Case<'a> {
    pub(crate) what: String,
    pub(crate) trial: Trial<'a>,
}

/// Tries the cases of a class, or `some` of them where not all are asked for; answers how many met their fault.
pub(crate) fn run(tally: &mut Tally, class: &'static str, some: usize, template: &World, cases: &[Case<'_>]) -> usize {
    assert!(!cases.is_empty(), "{class} has no case");
    let step = cases.len().div_ceil(if all() { usize::MAX } else { some });
    let cases: Vec<_> = cases.iter().step_by(step).collect();
    let next = AtomicUsize::new(0);
    let told = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let world = template.copy();
                    let verdict = catch_unwind(AssertUnwindSafe(|| (case.trial)(&world))).unwrap_or_else(|panic| {
                        let why = panic.downcast_ref::<String>().cloned();
                        Some(Verdict::Lost(why.unwrap_or_else(|| "the trial panicked".to_owned())))
                    });
                    told.lock().expect("the list").push((case, verdict));
                }
            });
        }
    });
    let told = told.into_inner().expect("the list");
    let met = told.iter().filter(|(_, verdict)| verdict.is_some()).count();
    for (case, verdict) in told {
        if let Some(verdict) = verdict {
            tally.take(class, &case.what, verdict);
        }
    }
    met
}
