//! Secrets stay where they belong: no file, stream, argument or child's environment has one that it should not have.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::app::{CREDENTIALS, KEY, WRONG, secret};
use crate::world::{IDENTITY, INIT, PROGRAM, Ran, World};

/// Where secrets are meant to be: the application's own configuration, and what has left the host.
const MEANT: [&str; 2] = ["app/.env", "safe/"];

/// Everything secret here in the forms in which it could slip out, each with a name.
pub(crate) fn secrets(world: &World) -> Vec<(String, Vec<u8>)> {
    let identity = std::fs::read_to_string(world.path(IDENTITY)).expect("an identity");
    let identity = identity.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).expect("a line").to_owned();
    let mut secrets = vec![("the recovery identity".to_owned(), identity.into_bytes())];
    for (name, key) in [("the key", KEY), ("the wrong key", WRONG)] {
        secrets.push((name.to_owned(), key.as_bytes()[..32].to_vec()));
        secrets.push((format!("{name} in base64"), STANDARD.encode(key).as_bytes()[..40].to_vec()));
        secrets.push((
            format!("{name} in hex"),
            key[..32].bytes().flat_map(|b| format!("{b:02x}").into_bytes()).collect(),
        ));
        secrets.push((format!("the bytes of {name}"), STANDARD.decode(key).expect("base64")));
    }
    secrets.extend((0..CREDENTIALS).map(|n| (format!("credential {n}"), secret(n).into_bytes())));
    secrets
}

/// The secrets that some bytes hold.
pub(crate) fn held<'a>(bytes: &[u8], secrets: &'a [(String, Vec<u8>)]) -> Vec<&'a str> {
    let holds = |secret: &[u8]| memchr::memmem::find(bytes, secret).is_some();
    secrets.iter().filter(|(_, secret)| holds(secret)).map(|(name, _)| name.as_str()).collect()
}

/// Insists that no file of the world holds a secret, but those that are meant to.
pub(crate) fn files_hold_none(world: &World, secrets: &[(String, Vec<u8>)], meant: &[&str]) {
    for name in world.files("") {
        if MEANT.iter().chain(meant).any(|m| name.starts_with(m)) {
            continue;
        }
        let bytes = std::fs::read(world.path(&name)).unwrap_or_default();
        assert_eq!(held(&bytes, secrets), Vec::<&str>::new(), "in {name}");
    }
}

fn says_none(ran: &Ran, secrets: &[(String, Vec<u8>)], line: &str) {
    assert_eq!(held(&ran.out, secrets), Vec::<&str>::new(), "on the standard output of {line}");
    assert_eq!(held(ran.stderr.as_bytes(), secrets), Vec::<&str>::new(), "on the standard error of {line}");
}

/// Hooks that write down what they and the program that calls them could be seen with.
fn watched() -> World {
    let world = World::ready();
    let look =
        "{ tr '\\0' '\\n' </proc/$PPID/cmdline; tr '\\0' '\\n' </proc/$PPID/environ; env; echo \"$@\"; } >>$W/seen";
    world.script("look", look);
    world.script("told", &format!("{look}; cat >>$W/seen"));
    world.script(
        "set-key",
        &format!("{look}; umask 077; {{ printf 'ENCRYPTION_KEY='; cat; echo; }} >new.env && mv new.env app/.env"),
    );
    world.configure(
        "stop = [\"./look\"]\nstart = [\"./look\"]\nset_key = [\"./set-key\"]\n[notify]\non_result = [\"./told\"]",
    );
    world
}

#[test]
fn no_output_file_argument_or_child_has_a_secret() {
    let world = watched();
    let secrets = secrets(&world);
    let id = world.backup(0);
    let lines = [
        ("backup -v".to_owned(), 0),
        ("backup -v --prove-all".to_owned(), 0),
        (format!("verify {id} -v -i {IDENTITY}"), 0),
        (format!("verify {id} -v --deep --json -i {IDENTITY}"), 0),
        (format!("show {id} -i {IDENTITY} --files"), 0),
        ("check --all -v".to_owned(), 0),
        ("key status --json".to_owned(), 0),
        (format!("key doctor -i {IDENTITY}"), 0),
        (format!("restore {id} -v --yes -i {IDENTITY}"), 0),
        (format!("restore {id} -v --target whole -i {IDENTITY}"), 0),
        ("key rotate -v --yes".to_owned(), 0),
        (format!("verify {id} -v -i {IDENTITY}"), 0),
        // The hooks here have relative paths, so that a copy of this world has its own.
        ("config check -v".to_owned(), 2),
    ];
    for (line, code) in lines {
        says_none(&world.run(&line, code), &secrets, &line);
    }
    files_hold_none(&world, &secrets, &[]);
    assert!(!held(&std::fs::read(world.path(IDENTITY)).expect("read"), &secrets).is_empty(), "it would be found");
    let seen = std::fs::read_to_string(world.path("seen")).expect("the hooks ran");
    assert!(seen.contains("backup") && seen.contains("rotate") && seen.contains("\"verdict\""), "{seen}");

    // With the wrong key most is said, and of the key nothing.
    world.app.set_key(WRONG);
    let lines = [
        ("backup -v".to_owned(), 3),
        ("prove -v --all".to_owned(), 12),
        (format!("verify latest -v -i {IDENTITY}"), 12),
        (format!("verify {id} -v -i {IDENTITY} --key file:wrong.txt"), 12),
        ("key lint".to_owned(), 0),
    ];
    crate::app::secret_file(&world.path("wrong.txt"), WRONG);
    for (line, code) in lines {
        says_none(&world.run(&line, code), &secrets, &line);
    }
    files_hold_none(&world, &secrets, &["wrong.txt"]);
}

#[test]
fn a_key_that_is_written_where_a_reference_belongs_is_not_repeated() {
    let world = World::ready();
    let secrets = secrets(&world);
    for line in [format!("prove --key {KEY}"), format!("key fingerprint {KEY}"), format!("prove --key env:{KEY}x=")] {
        let ran = world.call(&line).run();
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        says_none(&ran, &secrets, "a reference");
    }
}

/// Whatever the caller's umask: nothing can be written by others, and nothing secret can be read by them.
#[test]
fn the_umask_of_the_caller_opens_nothing() {
    let world = World::new();
    for line in [INIT, "backup"] {
        let status = Command::new("/bin/sh")
            .args(["-c", "umask 000; exec \"$0\" \"$@\"", PROGRAM])
            .args(line.split_whitespace())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", world.path("home"))
            .current_dir(world.path(""))
            .output()
            .expect("runs");
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    }
    for name in world.files("").iter().filter(|name| !name.starts_with("app/")) {
        let mode = std::fs::metadata(world.path(name)).expect("there").permissions().mode() & 0o777;
        assert_eq!(
            mode & 0o077,
            if std::path::Path::new(name).extension().is_some_and(|e| e == "pub") { 0o044 } else { 0 },
            "{name} has {mode:o}"
        );
    }
}

/// What a rotation leaves when it is killed: the new key is in its own private file, and nowhere else.
#[cfg(feature = "failpoints")]
#[test]
fn a_killed_rotation_has_the_new_key_in_its_own_file_only() {
    let template = watched();
    template.backup(0);
    let trace = template.copy();
    let names = trace.path("trace");
    trace.call("key rotate --yes").env("STRONGROOM_KILL_TRACE", &names).ends(0);
    let places = std::fs::read_to_string(&names).expect("a trace").lines().count();
    let secrets = secrets(&template);
    let mut pendings = 0;
    for place in (1..=places).step_by(places / 12) {
        let world = template.copy();
        world.call("key rotate --yes").env("STRONGROOM_KILL_AT", place.to_string()).run();
        let pending = world.path("strongroom-state/rotation.json");
        let mut secrets = secrets.clone();
        if let Ok(text) = std::fs::read_to_string(&pending) {
            assert_eq!(std::fs::metadata(&pending).expect("there").permissions().mode() & 0o777, 0o600);
            let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let key = json["key_b64"].as_str().or(json["record"]["key_b64"].as_str()).expect("the new key").to_owned();
            pendings += 1;
            let bytes = STANDARD.decode(&key).expect("base64");
            secrets.push(("the new key".to_owned(), bytes));
            secrets.push(("the new key in base64".to_owned(), key.into_bytes()));
        }
        files_hold_none(&world, &secrets, &["strongroom-state/rotation.json"]);
    }
    assert!(pendings > 2, "{pendings} of the kills left a rotation pending");
}
