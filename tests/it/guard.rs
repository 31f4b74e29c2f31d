//! `guard`: the application starts only if its key opens its database.

use crate::app::{KEY, WRONG, secret_file};
use crate::world::{Ran, World};

/// Starts something that says which key it got and ends with 7.
fn guard(world: &World, flags: &str, code: i32) -> Ran {
    world
        .call(&format!("guard {flags} -- /bin/sh -c"))
        .arg(format!(
            "printf 'key=[%s] arg=[%s]' \"$ENCRYPTION_KEY\" \"$1\"; touch {}; exit 7",
            world.path("ran").display()
        ))
        .arg("sh")
        .arg("a b")
        .ends(code)
}

fn ran(world: &World) -> bool {
    world.path("ran").exists()
}

#[test]
fn the_right_key_starts_the_command_with_exactly_that_key() {
    let world = World::ready();
    let said = guard(&world, "", 7);
    assert_eq!(said.stdout, format!("key=[{KEY}] arg=[a b]"));
    assert!(said.stderr.is_empty(), "{}", said.stderr);
}

#[test]
fn the_proved_key_replaces_one_that_the_environment_has() {
    let world = World::ready();
    let said = world
        .call("guard -- /bin/sh -c")
        .arg("printf %s \"$ENCRYPTION_KEY $OTHER\"; umask >&2")
        .env("ENCRYPTION_KEY", WRONG)
        .env("OTHER", "kept")
        .ends(0);
    assert_eq!(said.stdout, format!("{KEY} kept"));
    assert!(!said.stderr.contains("0077"), "the command gets the umask that it would have had: {}", said.stderr);
}

#[test]
fn a_key_from_a_file_loses_one_newline_and_nothing_else() {
    let world = World::ready();
    let config = std::fs::read_to_string(world.path("strongroom.toml")).expect("read");
    secret_file(&world.path("key"), &format!("{KEY} \n\n"));
    secret_file(&world.path("strongroom.toml"), &config.replace("dotenv:app/.env#ENCRYPTION_KEY", "file:key"));
    let said = world.call("guard -- /bin/sh -c").arg("printf '%s' \"[$ENCRYPTION_KEY]\"").ends(0);
    assert_eq!(said.stdout, format!("[{KEY} \n]"));
}

#[test]
fn a_wrong_key_is_12_and_nothing_is_started() {
    let world = World::ready();
    world.app.set_key(WRONG);
    guard(&world, "", 12).says("not started");
    assert!(!ran(&world));
}

#[test]
fn an_unreadable_key_or_database_starts_nothing() {
    let world = World::ready();
    let env = std::fs::read(world.path("app/.env")).expect("read");
    std::fs::remove_file(world.path("app/.env")).expect("removed");
    guard(&world, "", 10);
    std::fs::write(world.path("app/.env"), env).expect("written");
    guard(&world, "", 15);
    world.app.set_key(KEY);
    std::fs::rename(world.app.database(), world.path("away")).expect("moved");
    guard(&world, "--wait 0s", 10);
    assert!(!world.app.database().exists() && !ran(&world));
    std::fs::rename(world.path("away"), world.app.database()).expect("moved back");
    guard(&world, "", 7);
}

#[test]
fn mixed_warns_and_strict_stops() {
    let world = World::ready();
    world.app.add_credential(90, WRONG);
    guard(&world, "--strict", 12);
    assert!(!ran(&world));
    guard(&world, "", 7).says("warning");
    assert!(ran(&world));
}

#[test]
fn an_empty_database_warns_and_require_proof_stops() {
    let world = World::ready();
    world.app.execute("DELETE FROM repositories WHERE id <> 'manual'");
    let said = world.call("guard --require-proof -- /bin/true").run();
    assert!(said.code.is_some_and(|code| code != 0), "{:?}", said.code);
    assert!(!ran(&world));
    guard(&world, "", 7).says("warning");
}

#[test]
fn a_command_that_is_not_there_is_our_failure() {
    let world = World::ready();
    world.run("guard -- /no/such/program", 10).says("/no/such/program");
    world.run("guard", 2);
    world.run("guard --sample 2 --max-time forever -- /bin/true", 2);
}

#[test]
fn a_database_that_comes_later_is_waited_for() {
    let world = World::ready();
    let away = world.path("away");
    std::fs::rename(world.app.database(), &away).expect("moved");
    let mut call = world.call("guard --wait 60s -- /bin/true");
    let mut child = call.command().spawn().expect("started");
    let mut said = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("its errors"));
    // It says that it waits; only then is the database put there.
    std::io::BufRead::read_line(&mut stderr, &mut said).expect("a line");
    assert!(said.contains("waiting"), "{said}");
    std::fs::rename(&away, world.app.database()).expect("moved back");
    assert!(child.wait().expect("ended").success());
}
