//! What cannot be read for a night: it is told and left out, and not stored again when it can be read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::app::{OBJECTS, object, zip};
use crate::world::{IDENTITY, World, codes, text};

#[test]
fn an_unreadable_file_is_left_out_by_name_and_3() {
    let world = World::ready().owned_by_nobody();
    world.app.store("private/secret.zip", &zip("secret", 3));
    let path = world.app.storage().join("private/secret.zip");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o000)).expect("set");
    world.give_to_nobody();
    let ran = world.call_as_nobody("backup --json").ends(3);
    let json = ran.json();
    assert_eq!(codes(&json), ["left-out"]);
    assert!(text(&json["problems"][0]["message"]).contains("private/secret.zip"));
    assert_eq!(json["verdict"], "proved");
    assert_eq!(json["storage"]["files"], OBJECTS.len() * 2);
    world.call_as_nobody("check").ends(0);
}

#[test]
fn what_lies_below_a_folder_that_cannot_be_read_is_not_told_as_lost() {
    let world = World::ready().owned_by_nobody();
    let (folder, file) = (object("manual", "acme/tools", "x"), object("repo-1", "acme/lib", "2.0.0"));
    let folder = folder.strip_suffix("x.zip").expect("a folder").to_owned();
    for (path, mode) in [(&folder, 0o600), (&file, 0o000)] {
        let path = world.app.storage().join(path);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
    }
    let without_search = world.call_as_nobody("backup --json").ends(3).json();
    std::fs::set_permissions(world.app.storage().join(&folder), std::fs::Permissions::from_mode(0o000)).expect("set");
    let without_rights = world.call_as_nobody("backup --json").ends(3).json();
    for json in [&without_search, &without_rights] {
        assert_eq!(json["storage"]["missing"], 3);
        assert!(codes(json).iter().all(|code| code == "left-out" || code == "missing-unreadable"), "{json}");
    }
    let messages: Vec<_> = without_rights["problems"].as_array().expect("problems").iter().collect();
    let told: Vec<_> = messages
        .iter()
        .filter(|problem| problem["code"] == "missing-unreadable")
        .map(|problem| text(&problem["message"]))
        .collect();
    assert_eq!(
        told,
        [
            format!("the bundle lacks 2 objects below {folder}, which cannot be read: Permission denied (os error 13)"),
            format!(
                "the bundle lacks {file}, which the database names: cannot read app/storage/{file}: Permission denied (os error 13)"
            ),
        ]
    );
    std::fs::set_permissions(world.app.storage().join(&folder), std::fs::Permissions::from_mode(0o700)).expect("set");
}

/// Parts of files, without the segments of lists.
fn parts(world: &World) -> usize {
    world.files("archive/parts").iter().filter(|part| part.contains(".tar.")).count()
}

fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
}

#[test]
fn what_could_not_be_read_for_two_nights_is_not_stored_again() {
    let world = World::ready().owned_by_nobody();
    world.app.store("deep/one.zip", &zip("one", 3));
    world.app.store("deep/er/two.zip", &zip("two", 3));
    world.app.store("deep/er/goes.zip", &zip("goes", 3));
    // Beside the folder in the order of bytes.
    world.app.store("deep-1.zip", &zip("before", 3));
    world.app.store("deep0.zip", &zip("after", 3));
    world.give_to_nobody();
    let first = world.call_as_nobody("backup --json").ends(0).json();
    let (files, stored) = (first["storage"]["files"].as_u64().expect("a number"), parts(&world));
    let (deep, single) =
        (world.app.storage().join("deep"), world.app.storage().join(object("repo-1", "acme/lib", "2.0.0")));

    allow(&deep, 0o000);
    allow(&single, 0o000);
    for _ in 0..2 {
        let lacking = world.call_as_nobody("backup --json").ends(3).json();
        assert_eq!(lacking["storage"]["files"], files - 4);
        assert_eq!(lacking["storage"]["reused"], files - 4);
        world.call_as_nobody("check --all").ends(0);
        world.call_as_nobody(&format!("verify --deep -i {IDENTITY}")).ends(3);
        world.call_as_nobody(&format!("cat latest deep/one.zip -i {IDENTITY}")).ends(10);
    }
    // Of what comes back, one file has other content of the same length and time, and one is gone.
    allow(&deep, 0o700);
    allow(&single, 0o600);
    let two = deep.join("er/two.zip");
    let (mut content, time) =
        (std::fs::read(&two).expect("read"), std::fs::metadata(&two).expect("there").modified().expect("a time"));
    content.reverse();
    std::fs::write(&two, &content).expect("written");
    std::fs::File::options().write(true).open(&two).and_then(|file| file.set_modified(time)).expect("set");
    std::fs::remove_file(deep.join("er/goes.zip")).expect("removed");
    let back = world.call_as_nobody("backup --json").ends(0).json();
    assert_eq!(back["storage"]["files"], files - 1);
    assert_eq!(back["storage"]["reused"], files - 2);
    assert_eq!(parts(&world), stored + 1);
    world.call_as_nobody(&format!("verify --deep -i {IDENTITY}")).ends(0);
    world.call_as_nobody(&format!("restore --target out -i {IDENTITY}")).ends(0);
    assert_eq!(std::fs::read(world.path("out/storage/deep/er/two.zip")).expect("read"), content);
    for path in ["deep/one.zip", "deep-1.zip", "deep0.zip"] {
        let read = |root: &Path| std::fs::read(root.join(path)).expect("read");
        assert_eq!(read(&world.path("out/storage")), read(&world.app.storage()));
    }
    assert!(!world.path("out/storage/deep/er/goes.zip").exists());
    // From then on it costs nothing.
    assert_eq!(world.call_as_nobody("backup --json").ends(0).json()["storage"]["reused"], files - 1);
}

#[test]
fn a_storage_that_has_lost_most_of_its_files_is_told_until_they_are_back_or_it_is_accepted() {
    let world = World::ready();
    for n in 0..20 {
        world.app.store(&format!("more/{n}.zip"), &zip(&n.to_string(), 3));
    }
    let first = world.json("backup", 0);
    let stored = parts(&world);
    let (more, aside) = (world.app.storage().join("more"), world.path("aside"));
    std::fs::rename(&more, &aside).expect("moved");
    for _ in 0..2 {
        let json = world.json("backup", 3);
        assert_eq!(codes(&json), ["storage-shrunk"]);
        assert!(
            text(&json["problems"][0]["message"])
                .contains(&format!("lost 20 files since bundle {}", text(&first["bundle"])))
        );
    }
    assert_eq!(world.json("list", 0)[2]["problems"], serde_json::json!(["storage-shrunk"]));
    world.run("check --all", 0);
    std::fs::rename(&aside, &more).expect("moved back");
    let back = world.json("backup", 0);
    assert_eq!(
        (&back["storage"]["files"], &back["storage"]["reused"]),
        (&first["storage"]["files"], &first["storage"]["files"])
    );
    assert_eq!(parts(&world), stored);
    world.run(&format!("verify --deep -i {IDENTITY}"), 0);
    std::fs::rename(&more, &aside).expect("moved");
    world.run("backup --allow-empty", 0);
    world.run("backup", 0);
    world.run(&format!("restore --target out -i {IDENTITY}"), 0);
    assert_eq!(world.files("out/storage"), world.files("app/storage"));
}

#[test]
fn without_its_storage_the_database_is_backed_up_and_goes_with_the_files_of_before() {
    let (world, first) = World::backed_up();
    let aside = world.path("aside");
    std::fs::rename(world.app.storage(), &aside).expect("moved");
    let json = world.json("backup", 3);
    assert_eq!(codes(&json), ["storage-unreachable"]);
    assert_eq!(json["verdict"], "proved");
    let line = world.run("backup -q", 3);
    assert!(line.stderr.contains("the storage is not in the bundle"), "{}", line.stderr);
    world.run("backup --only storage", 10);
    world.run(&format!("verify --deep -i {IDENTITY}"), 3).says("the storage could not be reached");
    world.run(&format!("restore --target out -i {IDENTITY}"), 3).says("the storage could not be reached");
    assert_eq!(world.json("list", 0)[1]["storage_from"], first.as_str());
    assert_eq!(world.files("out/storage").len(), world.files("aside").len());
    std::fs::rename(&aside, world.app.storage()).expect("moved back");
    let back = world.json("backup", 0);
    assert_eq!(back["storage"]["reused"], back["storage"]["files"]);
}

/// Moves all files of the storage but `left` away.
fn lose(world: &World, left: &str) -> std::path::PathBuf {
    let (storage, aside) = (world.app.storage(), world.path("aside"));
    std::fs::rename(&storage, &aside).expect("moved");
    std::fs::create_dir(&storage).expect("made");
    if !left.is_empty() {
        std::fs::rename(aside.join(left), storage.join(left)).expect("moved back");
    }
    aside
}

#[test]
fn what_went_is_told_when_this_host_has_forgotten_it_and_when_other_files_come() {
    let world = World::ready();
    for n in 0..40 {
        world.app.store(&format!("more/{n}.zip"), &zip(&n.to_string(), 3));
    }
    world.app.store("left/1.zip", &zip("left", 3));
    world.app.execute("DELETE FROM artifacts");
    let first = world.json("backup", 0);
    let told = |world: &World, code: &str| {
        let json = world.json("backup", 3);
        assert!(codes(&json).contains(&code.to_owned()), "{json}");
        assert!(json.to_string().contains(&text(&first["bundle"])), "{json}");
    };
    let forget = |world: &World| std::fs::remove_file(world.path("strongroom-state/state.sqlite")).expect("removed");
    for (left, code) in [("", "storage-empty"), ("left", "storage-shrunk")] {
        let copy = world.copy();
        lose(&copy, left);
        told(&copy, code);
        forget(&copy);
        told(&copy, code);
        told(&copy, code);
        copy.run("backup --allow-empty", 0);
        copy.run("backup", 0);
    }
    // As many others come; then what went is back.
    let copy = world.copy();
    copy.json("backup", 0);
    let aside = lose(&copy, "left");
    let bundle = copy.json("backup", 3);
    assert_eq!(codes(&bundle), ["storage-shrunk"]);
    for n in 0..60 {
        copy.app.store(&format!("other/{n}.zip"), &zip(&format!("other {n}"), 3));
    }
    assert_eq!(codes(&copy.json("backup", 3)), ["storage-shrunk"]);
    let files = first["storage"]["files"].as_u64().expect("a number") - 1;
    for name in std::fs::read_dir(&aside).expect("listed").flatten() {
        std::fs::rename(name.path(), copy.app.storage().join(name.file_name())).expect("moved back");
    }
    let back = copy.json("backup", 0);
    assert_eq!(back["storage"]["files"], files + 61);
    assert_eq!(back["storage"]["reused"], files + 61);
    copy.run(&format!("verify --deep -i {IDENTITY}"), 0);
}

#[test]
fn the_bundle_that_is_named_has_what_went() {
    let world = World::ready().owned_by_nobody();
    for n in 0..40 {
        world.app.store(&format!("more/{n}.zip"), &zip(&n.to_string(), 3));
    }
    world.give_to_nobody();
    let first = text(&world.call_as_nobody("backup --json").ends(0).json()["bundle"]);
    let more = world.app.storage().join("more");
    allow(&more, 0o000);
    world.call_as_nobody("backup").ends(3);
    std::fs::remove_dir_all(&more).expect("removed");
    let json = world.call_as_nobody("backup --json").ends(3).json();
    assert_eq!(codes(&json), ["storage-shrunk"]);
    assert!(text(&json["problems"][0]["message"]).contains(&format!("lost 40 files since bundle {first}")), "{json}");
}

#[test]
fn a_storage_whose_root_cannot_be_listed_is_one_that_cannot_be_reached() {
    let world = World::ready().owned_by_nobody();
    for mode in [0o000, 0o100, 0o300] {
        allow(&world.app.storage(), mode);
        let json = world.call_as_nobody("backup --json").ends(3).json();
        assert_eq!(codes(&json), ["storage-unreachable"], "{mode:o}");
        assert!(json["problems"][0]["hint"].to_string().contains("No bundle has any"), "{json}");
    }
    allow(&world.app.storage(), 0o700);
    world.call_as_nobody("backup").ends(0);
}
