//! The program is killed at every place before and after something becomes lasting; whatever was lasting stays whole.

use std::collections::BTreeSet;
use std::path::Path;

use crate::app::{KEY, OBJECTS, number, object, zip};
use crate::killing::{at_each, covers, numbered, small, trace};
use crate::world::{IDENTITY, World, codes};

/// The next backup, after one that was killed: proved, and with nothing lost of what was remembered.
fn next_backup(world: &World) {
    let ran = world.call("backup --json").run();
    let json = ran.json();
    assert_eq!(codes(&json), Vec::<String>::new(), "{json}");
    assert_eq!(ran.code, Some(0), "{json}");
    assert_eq!(json["verdict"], "proved");
}

/// Every file of the storage, and the rows of the database, are in the newest bundle.
fn newest_is_whole(world: &World) {
    world.run(&format!("restore latest --target whole -i {IDENTITY}"), 0);
    let files = world.files("app/storage");
    assert_eq!(world.files("whole/storage"), files);
    for file in files {
        let bytes = std::fs::read(world.path("whole/storage").join(&file)).expect("read");
        assert!(bytes == world.app.stored(&file), "{file} is another one in the bundle");
    }
    let count = "SELECT count(*) FROM repositories";
    assert_eq!(number(&world.path("whole/database.sqlite"), count), world.app.number(count));
}

#[test]
fn a_first_backup_killed_anywhere_is_followed_by_a_whole_one() {
    let template = small();
    let names = trace(&template, "backup", 0);
    covers(
        &names,
        &[
            "before fsync /archive/parts/",
            "before rename /archive/parts/",
            "after rename /archive/parts/",
            "after fsync of the folder /archive/parts/",
            "before fsync of the new folder",
            "after rename /archive/keys/",
            "before rename /archive/bundles/",
            "database.sqlite.zst.age",
            "SHA256SUMS.minisig",
            "before rename /archive/ledger/",
            "before the ledger entry",
            "after the ledger entry",
            "before the commit of a new state",
            "before the commit of what is pending",
            "after the commit of what is pending",
            "before the commit of the state",
            "after the commit of the state",
            "before the commit of what was proved",
            "after the commit of what was proved",
        ],
    );
    at_each(&template, "backup", &numbered(&names), &|world| {
        world.run("check --all", 0);
        next_backup(world);
        newest_is_whole(world);
    });
}

#[test]
fn a_later_backup_killed_anywhere_hurts_no_earlier_bundle() {
    let template = small();
    let first = template.backup(0);
    template.app.store("private/manual/acme/new/1.0.0.zip", &zip("new", 40));
    template.app.store(&object("manual", "acme/tools", "1.1.0"), &zip("changed", 70));
    std::fs::remove_file(template.app.storage().join(object("repo-1", "acme/lib", "2.0.0"))).expect("removed");
    template.app.execute("DELETE FROM artifacts WHERE repo_id = 'repo-1'");
    template.app.add_credential(60, KEY);
    let names = trace(&template, "backup", 0);
    covers(&names, &["before the commit of the state", "after the ledger entry", "before rename /archive/parts/"]);
    at_each(&template, "backup", &numbered(&names), &|world| {
        world.run("check --all", 0);
        next_backup(world);
        world.run(&format!("verify {first} --deep -i {IDENTITY}"), 0);
        newest_is_whole(world);
    });
}

/// One proved bundle, then a disaster: credentials gone, a package lost, another changed, one more beside them.
pub(crate) fn disaster() -> (World, String) {
    let world = small();
    let id = world.backup(0);
    world.app.execute("DELETE FROM repositories WHERE id = 'manual'");
    std::fs::remove_file(world.app.storage().join(lost())).expect("removed");
    world.app.store(&changed(), b"not what it was");
    world.app.store("private/new.zip", b"made since");
    (world, id)
}

fn lost() -> String {
    let (repo, package, version) = OBJECTS[0];
    object(repo, package, version)
}

fn changed() -> String {
    let (repo, package, version) = OBJECTS[1];
    object(repo, package, version)
}

/// The rows of the live database: 1 before the restore, 2 after it, nothing between.
pub(crate) fn rows(world: &World) -> i64 {
    let rows = world.app.number("SELECT count(*) FROM repositories");
    assert!([1, 2].contains(&rows), "{rows} rows");
    rows
}

/// The same restore run again ends well, and nothing of the killed one is in the way or lost.
fn next_restore(world: &World, id: &str, line: &str) {
    rows(world);
    world.run(line, 0);
    assert_eq!(rows(world), 2);
    let intact = World::files(world, "app/storage");
    assert!(intact.contains(&lost()), "{intact:?}");
    assert!(world.app.stored(&lost()) == zip(&lost(), 64));
    assert!(world.app.stored(&changed()) == zip(&changed(), 64));
    assert_eq!(world.app.stored("private/new.zip"), b"made since");
    // A restore that was killed when its files were done was finished: the next one keeps what it replaces apart.
    let kept = ["", ".1"].map(|n| world.app.storage().join(format!(".strongroom/rollback-{id}{n}/{}", changed())));
    let kept = kept.iter().filter_map(|path| std::fs::read(path).ok()).collect::<Vec<_>>();
    assert_eq!(kept, [b"not what it was"], "what was replaced is kept");
    let beside = world.files("app");
    assert!(
        !beside.iter().any(|f| f.contains("strongroom-tmp") || f.contains(".database.sqlite.strongroom")),
        "{beside:?}"
    );
    let before = beside.iter().filter(|f| f.starts_with("database.sqlite.before-"));
    let count = "SELECT count(*) FROM repositories";
    let old = before.filter(|f| number(&world.path("app").join(f), count) == 1).count();
    assert_eq!(old, 1, "the replaced database is kept: {beside:?}");
    world.run("prove", 0);
}

#[test]
fn a_restore_killed_anywhere_leaves_the_old_or_the_new_and_can_be_run_again() {
    let (template, id) = disaster();
    let line = format!("restore --yes -i {IDENTITY}");
    let names = trace(&template, &line, 0);
    covers(
        &names,
        &[
            "before fsync /app/.database.sqlite",
            "before link /app/database.sqlite.before-",
            "after link /app/database.sqlite.before-",
            "before rename /app/database.sqlite",
            "after rename /app/database.sqlite",
            "after fsync of the folder /app",
            "before the rename of a restored file",
            "after the rename of a restored file",
            "before a replaced file is moved away",
            "after a replaced file was moved away",
            "before the first sync of restored files",
            "after the last sync of restored files",
        ],
    );
    at_each(&template, &line, &numbered(&names), &|world| next_restore(world, &id, &line));
}

#[test]
fn a_restore_killed_while_it_is_undone_can_be_run_again() {
    let (template, id) = disaster();
    let line = format!("restore --yes -i {IDENTITY}");
    // One that ends well removes its mark then.
    let ended = "before the mark of a restore is removed";
    let forwards = trace(&template, &line, 0).iter().position(|name| name == ended).expect("its end");
    // Nobody listens there, so the restore is undone.
    template.configure("health = { url = \"http://127.0.0.1:9/\", within_seconds = 0 }");
    let names = trace(&template, &line, 20);
    covers(
        &names[forwards..],
        &["before a replaced file is put back", "before what a restore made is removed", "rename"],
    );
    let places = numbered(&names);
    let again = format!("{line} --no-hooks");
    at_each(&template, &line, &places[forwards..], &|world| next_restore(world, &id, &again));
}

#[test]
fn a_restore_to_a_folder_killed_anywhere_can_be_run_again() {
    let template = small();
    template.backup(0);
    let line = format!("restore --target whole -i {IDENTITY}");
    let names = trace(&template, &line, 0);
    covers(&names, &["before rename whole/database.sqlite", "before the marker of a restore is removed"]);
    at_each(&template, &line, &numbered(&names), &|world| {
        // Once everything is there and its marker gone, the folder is the person's and no longer ours.
        if world.path("whole/database.sqlite").exists() && !world.path("whole/.strongroom-restore").exists() {
            world.run(&line, 15);
            std::fs::remove_dir_all(world.path("whole")).expect("removed");
        }
        newest_is_whole(world);
        assert!(!world.files("whole").iter().any(|f| f.contains("strongroom")), "{:?}", world.files("whole"));
    });
}

#[test]
fn a_rotation_killed_anywhere_is_all_old_or_all_new_and_goes_on() {
    let template = small();
    let first = template.backup(0);
    crate::keyring::with_set_key(&template);
    let line = "key rotate --yes";
    let names = trace(&template, line, 0);
    let own = ["rotation", "new credentials", "new key", "/archive/keys/", "/archive/ledger/"];
    covers(&names, &own);
    // The two backups inside are killed everywhere elsewhere; here some of their places are enough.
    let some = |(place, name): &(usize, &String)| own.iter().any(|o| name.contains(o)) || place % 9 == 0;
    let places: Vec<_> = numbered(&names).into_iter().filter(some).collect();
    at_each(&template, line, &places, &|world| {
        world.run("check --all", 0);
        // Killed before its file stood it never began, and after its file was gone it was over.
        let resumed = world.call("key rotate --resume").run();
        assert!(matches!(resumed.code, Some(0 | 10)), "{:?}: {}", resumed.code, resumed.stderr);
        world.run("prove", 0);
        assert!(!world.path("strongroom-state/rotation.json").exists());
        world.run(&format!("verify {first} -i {IDENTITY}"), 0);
        assert_eq!(rows(world), 2);
    });
}

/// Steps that make something lasting, and files where none of them is one.
const LASTING: [&str; 8] =
    ["sync_all()", "fs::rename(", "renameat(", "renameat_with(", "hard_link(", "syncfs(", "\"COMMIT", "remove_file("];
const NOT_LASTING: [(&str, &str); 11] = [
    ("src/commands/demo.rs", "a sample that nobody keeps"),
    ("src/database/sqlite/copy.rs", "ends a read transaction on the live database"),
    ("src/database/sqlite/holders.rs", "takes a lock and writes nothing"),
    ("src/database/dump/script.rs", "words in a dump"),
    ("src/database/postgres/preflight.rs", "words in a hint"),
    ("src/database/postgres/session.rs", "ends a transaction that only read"),
    ("src/database/postgres/pipes/mod.rs", "pipes, which hold nothing"),
    ("src/bundle/extract/todo.rs", "a private file that is unlinked"),
    ("src/ground/scratch.rs", "plaintext that is unlinked"),
    ("src/storage/filesystem/target.rs", "syncfs has its places in bundle/extract/run.rs"),
    ("src/appkey/proof/memory.rs", "the places stand around the transaction"),
];

#[test]
fn every_lasting_step_of_the_source_has_a_place_near_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = BTreeSet::new();
    crate::architecture::each_file(&root.join("src"), &mut |path| {
        let shown = path.strip_prefix(root).expect("below").display().to_string();
        if NOT_LASTING.iter().any(|(file, _)| *file == shown) || shown.contains("test") || shown.contains("conformance")
        {
            return;
        }
        let text = std::fs::read_to_string(path).expect("read");
        let body = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines: Vec<&str> = body.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            let lasting = LASTING.iter().any(|step| line.contains(step));
            let near = &lines[n.saturating_sub(8)..(n + 9).min(lines.len())];
            // What is thrown away with `let _ =` is tidying: losing it is losing nothing.
            let tidying = line.contains("let _ =") || line.trim_start().starts_with("//");
            if lasting && !tidying && !near.iter().any(|l| l.contains("failpoint::pass")) {
                wrong.insert(format!("{shown}:{}: {}", n + 1, line.trim()));
            }
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}
