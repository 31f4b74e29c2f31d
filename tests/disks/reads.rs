//! A disk that does not give back what it holds: each file, wherever a verb reads it, answers with a read error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::look::{goes_on, is_whole, newest_is_whole, restores, said};
use crate::stage::{Case, all, backed_up, disaster, restore, run};
use crate::strace::{Fault, faulty, traced, works};
use crate::tally::{Tally, Verdict};
use crate::world::{IDENTITY, World};

const READS: &str = "read,pread64,readv,preadv,preadv2,getdents64";

/// Which reads of which files a run makes, by their paths in the world: those that stood there before it.
fn reads(template: &World, line: &str, code: i32) -> Vec<(PathBuf, String, usize)> {
    let world = template.copy();
    let root = std::fs::canonicalize(world.path("")).expect("there");
    let (ran, calls) = traced(&world, line, READS);
    assert_eq!(ran.code, Some(code), "{}", ran.stderr);
    let mut counts = BTreeMap::new();
    for call in calls {
        let Some(file) = call.paths.first().and_then(|path| path.strip_prefix(&root).ok()) else { continue };
        if template.path(file).exists() {
            *counts.entry((file.to_owned(), call.name)).or_insert(0) += 1;
        }
    }
    counts.into_iter().map(|((file, name), count)| (file, name, count)).collect()
}

/// Why a run may end well although this file could not be read.
fn harmless(line: &str, file: &Path, when: &str) -> Option<&'static str> {
    if line == "backup" && file.starts_with("app/storage") && !when.ends_with('+') {
        return Some("the file is read whole the second time");
    }
    if line == "backup" && file.ends_with("scratch") {
        return Some("what killed runs left in the scratch folder is looked for, and nothing lies there");
    }
    let opens = ["verify", "restore"].iter().any(|verb| line.starts_with(verb));
    if opens && file.starts_with("archive/keys") {
        return Some("keys beside the bundle's own are looked for, for rows that fail, and none does");
    }
    if line.starts_with("restore --yes") && file.starts_with("app") {
        return Some("what stands there is replaced or stays, whether it can be read or not");
    }
    if opens && file.starts_with("strongroom-signing.key") {
        return Some("what was verified is not entered into the ledger, and a warning says so");
    }
    if file.starts_with("archive/custody") {
        return Some("the signed copy in the bundle opens instead");
    }
    None
}

/// Cases of a run: each file that it reads gives nothing back, or not its end.
fn cases<'a>(
    template: &World,
    line: &'a str,
    codes: &'a [u8],
    after: &'a (dyn Fn(&World) + Send + Sync),
) -> Vec<Case<'a>> {
    let mut cases = Vec::new();
    for (file, name, count) in reads(template, line, 0) {
        let mut whens = vec!["1+".to_owned()];
        whens.extend((count > 1).then(|| count.to_string()));
        for when in whens {
            let (file, name) = (file.clone(), name.clone());
            let what = format!("EIO {name} {when} of {}", file.display());
            let trial = move |world: &World| {
                let path = std::fs::canonicalize(world.path(&file)).expect("there");
                let fault = Fault {
                    calls: name.clone(),
                    error: "EIO",
                    when: when.clone(),
                    threads: true,
                    path: Some(path.clone()),
                };
                let (ran, met) = faulty(world, line, &fault);
                if met.is_empty() {
                    return None;
                }
                let verdict = match ran.code {
                    Some(0) => harmless(line, &file, &when).map_or(Verdict::Believed, Verdict::Same),
                    _ => said(world, &ran, codes, &[path], true),
                };
                after(world);
                Some(verdict)
            };
            cases.push(Case { what, trial: Box::new(trial) });
        }
    }
    cases
}

#[test]
fn what_cannot_be_read_is_not_called_good() {
    if !works() {
        return;
    }
    let mut tally = Tally::default();
    let some = 3;
    let (world, first) = backed_up();
    let backup = |world: &World| goes_on(world, &first);
    run(&mut tally, "a backup, each file that it reads", some, &world, &cases(&world, "backup", &[1, 3], &backup));

    let (whole, _) = backed_up();
    whole.backup(0);
    for (class, line) in [
        ("list, each file that it reads", "list".to_owned()),
        ("check --all, each file that it reads", "check --all".to_owned()),
        ("prove, each file that it reads", "prove".to_owned()),
        ("key status, each file that it reads", "key status".to_owned()),
        ("verify, each file that it reads", format!("verify -i {IDENTITY}")),
        ("verify --deep, each file that it reads", format!("verify --deep -i {IDENTITY}")),
    ] {
        let after = |world: &World| drop(world.run(&line, 0));
        run(&mut tally, class, some, &whole, &cases(&whole, &line, &[1, 3, 13], &after));
    }
    let line = restore("--target whole");
    let after = |world: &World| {
        if world.path("whole/database.sqlite").exists() && !world.path("whole/.strongroom-restore").exists() {
            is_whole(world);
        } else {
            newest_is_whole(world);
        }
    };
    run(
        &mut tally,
        "a restore to a folder, each file that it reads",
        some,
        &whole,
        &cases(&whole, &line, &[1], &after),
    );
    let (hurt, id) = disaster();
    let line = restore("--yes");
    let after = |world: &World| restores(world, &id);
    run(&mut tally, "a live restore, each file that it reads", some, &hurt, &cases(&hurt, &line, &[1], &after));
    tally.close(if all() { 300 } else { 20 });
}
