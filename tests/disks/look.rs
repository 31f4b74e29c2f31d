//! What must hold after a fault: what was said of it, and what is left.

use std::path::{Path, PathBuf};

use crate::app::number;
use crate::stage::{changed, lost, restore};
use crate::strace::{is_pipe, known};
use crate::tally::Verdict;
use crate::world::{IDENTITY, Ran, World, codes};

/// What an ending with an error must say: a cause that names the file, and what to do next.
pub(crate) fn said(world: &World, ran: &Ran, codes: &[u8], files: &[PathBuf], hint: bool) -> Verdict {
    let stderr = &ran.stderr;
    let Some(code) = ran.code.and_then(|code| u8::try_from(code).ok()) else {
        return Verdict::Lost(format!("a signal ended it: {stderr}"));
    };
    if stderr.contains("panicked") {
        return Verdict::Lost(format!("it panicked: {stderr}"));
    }
    if !codes.contains(&code) {
        return Verdict::Lost(format!("ends with {code}: {stderr}"));
    }
    if !files.is_empty() && !files.iter().any(|file| names(world, stderr, file)) {
        return Verdict::Lost(format!("does not name {files:?}: {stderr}"));
    }
    if hint && !stderr.contains("hint: ") {
        return Verdict::Lost(format!("has no hint: {stderr}"));
    }
    Verdict::Refused(code)
}

/// Whether a message names a file, or the folder of one that has no name.
fn names(world: &World, message: &str, file: &Path) -> bool {
    if is_pipe(file) {
        return message.contains("standard output");
    }
    // Without the slash that joining leaves at its end.
    let root: PathBuf = world.path("").components().collect();
    let nameless = file.display().to_string().contains("deleted");
    let file = known(file);
    let file = if nameless { file.parent().unwrap_or(&file).to_owned() } else { file };
    let relative = file.strip_prefix(&root).unwrap_or(&file);
    // A storage's files are named as the application names them.
    let named = relative.strip_prefix("app/storage").ok().filter(|named| !named.as_os_str().is_empty());
    let relative = named.unwrap_or(relative);
    // The world's own folder is named by its whole path only.
    let relative = if relative.as_os_str().is_empty() { root.as_path() } else { relative };
    message.contains(&relative.display().to_string())
}

/// The archive has lost nothing, the next backup is proved and without a word, and all of the application is in it.
pub(crate) fn goes_on(world: &World, first: &str) {
    world.run("check --all", 0);
    let ran = world.call("backup --json").run();
    let json = ran.json();
    assert_eq!(codes(&json), Vec::<String>::new(), "{json}");
    assert_eq!(ran.code, Some(0), "{json}");
    assert_eq!(json["verdict"], "proved");
    world.run(&format!("verify {first} --deep -i {IDENTITY}"), 0);
    newest_is_whole(world);
}

/// Every file of the storage, and the rows of the database, are in the newest bundle.
pub(crate) fn newest_is_whole(world: &World) {
    world.run(&restore("latest --target whole"), 0);
    is_whole(world);
}

/// They are in the folder that was restored to.
pub(crate) fn is_whole(world: &World) {
    let files = world.files("app/storage");
    assert_eq!(world.files("whole/storage"), files);
    for file in files {
        let bytes = std::fs::read(world.path("whole/storage").join(&file)).expect("read");
        assert!(bytes == world.app.stored(&file), "{file} is another one in the bundle");
    }
    let count = "SELECT count(*) FROM repositories";
    assert_eq!(number(&world.path("whole/database.sqlite"), count), world.app.number(count));
    assert!(!world.files("whole").iter().any(|f| f.contains("strongroom")), "{:?}", world.files("whole"));
}

/// The live database is the old one or the new one.
pub(crate) fn old_or_new(world: &World) -> i64 {
    let rows = world.app.number("SELECT count(*) FROM repositories");
    assert!([2, 3].contains(&rows), "{rows} rows");
    rows
}

/// The same live restore ends well now, and nothing of the one that failed is in the way or lost.
pub(crate) fn restores(world: &World, id: &str) {
    old_or_new(world);
    world.run(&restore("--yes"), 0);
    assert_eq!(old_or_new(world), 3);
    assert_eq!(world.app.stored(&lost()), crate::app::zip(&lost(), 64));
    assert_eq!(world.app.stored(&changed()), crate::app::zip("changed", 70));
    assert_eq!(world.app.stored("private/new.zip"), b"made since");
    let kept = ["", ".1", ".2"];
    let kept = kept.map(|n| world.app.storage().join(format!(".strongroom/rollback-{id}{n}/{}", changed())));
    let kept = kept.iter().filter_map(|path| std::fs::read(path).ok()).collect::<Vec<_>>();
    assert_eq!(kept, [b"not what it was"], "what was replaced is kept");
    let beside = world.files("app");
    assert!(
        !beside.iter().any(|f| f.contains("strongroom-tmp") || f.contains(".database.sqlite.strongroom")),
        "{beside:?}"
    );
    let before = beside.iter().filter(|f| f.starts_with("database.sqlite.before-"));
    let old = before.filter(|f| number(&world.path("app").join(f), "SELECT count(*) FROM repositories") == 2).count();
    assert_eq!(old, 1, "the replaced database is kept: {beside:?}");
    world.run("prove", 0);
}
