//! A real disk that is full: a small `tmpfs` at the place of a folder, of every size between nothing and enough.

use std::path::Path;

use crate::look::{goes_on, is_whole, newest_is_whole, restores, said};
use crate::stage::{Case, all, backed_up, disaster, restore, run};
use crate::tally::{Tally, Verdict};
use crate::world::{Call, PROGRAM, Ran, World};

const PAGE: u64 = 4096;

/// Runs a line where a folder has so many pages, in a namespace of its own; the folder is left as the run left it.
fn squeezed(world: &World, folder: &str, pages: u64, line: &str) -> Ran {
    std::fs::create_dir_all(world.path(folder)).expect("made");
    let script = format!(
        "cp -a {folder} outside && mount -t tmpfs -o mode=700,size={} tmpfs {folder} && cp -a outside/. {folder}/ || exit 99; \
         {PROGRAM} --no-progress {line}; code=$?; rm -rf outside && cp -a {folder} outside || exit 98; exit $code",
        pages * PAGE
    );
    let ran = Call::new("unshare", &world.path(""), "--map-root-user --mount -- /bin/sh -c").arg(script).run();
    assert!(!matches!(ran.code, Some(98 | 99)), "{}", ran.stderr);
    std::fs::remove_dir_all(world.path(folder)).expect("removed");
    std::fs::rename(world.path("outside"), world.path(folder)).expect("moved back");
    ran
}

/// Whether a namespace with a `tmpfs` can be made here; where it cannot, the test fails if tools are required.
fn works() -> bool {
    let script = "mount -t tmpfs -o size=4096 tmpfs /mnt && exec true";
    let call = Call::new("unshare", Path::new("/"), "--map-root-user --mount -- /bin/sh -c").arg(script);
    if call.run().code == Some(0) {
        return true;
    }
    let required = std::env::var_os("STRONGROOM_TEST_TOOLS").is_some_and(|v| v == "required");
    assert!(!required, "unshare makes no namespace with a tmpfs here");
    false
}

/// How many pages the files of a folder take.
fn pages(folder: &Path) -> u64 {
    std::fs::read_dir(folder).into_iter().flatten().flatten().fold(0, |sum, entry| {
        let meta = entry.metadata().expect("there");
        sum + if meta.is_dir() { pages(&entry.path()) } else { meta.len().div_ceil(PAGE) }
    })
}

/// How many pages there are beyond what stands in the folder already; the last is enough for any of these runs.
fn sizes() -> impl Iterator<Item = u64> {
    (0..=24).chain([28, 32, 40, 48, 64, 128, 256, 512])
}

/// Cases of a run where a folder has each number of pages.
fn cases<'a>(
    template: &World,
    folder: &'a str,
    line: &'a str,
    after: &'a (dyn Fn(&World) + Send + Sync),
) -> Vec<Case<'a>> {
    let least = pages(&template.path(folder)).max(1);
    let one = |pages: u64| Case {
        what: format!("{pages} pages"),
        trial: Box::new(move |world| {
            let ran = squeezed(world, folder, pages, line);
            let verdict = match ran.code {
                Some(0) => Verdict::Same("there was room enough"),
                Some(3) if ran.stderr.contains("the bundle is made") => {
                    said(world, &ran, &[3], &[world.path(folder)], true)
                }
                _ => said(world, &ran, &[1], &[world.path(folder)], true),
            };
            after(world);
            Some(verdict)
        }),
    };
    sizes().map(|more| one(least + more)).collect()
}

#[test]
fn a_full_disk_loses_nothing() {
    if !works() {
        return;
    }
    let mut tally = Tally::default();
    let some = 3;
    let (world, first) = backed_up();
    let after = |world: &World| goes_on(world, &first);
    let archive = cases(&world, "archive", "backup", &after);
    run(&mut tally, "a backup into a full archive", some, &world, &archive);
    let state = cases(&world, "strongroom-state", "backup", &after);
    run(&mut tally, "a backup with a full state folder", some, &world, &state);

    let (whole, _) = backed_up();
    whole.backup(0);
    let line = restore("--target whole");
    let after = |world: &World| {
        if world.path("whole/database.sqlite").exists() && !world.path("whole/.strongroom-restore").exists() {
            is_whole(world);
        } else {
            newest_is_whole(world);
        }
    };
    run(&mut tally, "a restore to a full folder", some, &whole, &cases(&whole, "whole", &line, &after));

    let (hurt, id) = disaster();
    let line = restore("--yes");
    let after = |world: &World| restores(world, &id);
    run(&mut tally, "a live restore to a full disk", some, &hurt, &cases(&hurt, "app", &line, &after));
    tally.close(if all() { 120 } else { 10 });
}
