//! The first hour of somebody who makes the mistakes of a first hour: each is said with what to do instead.

use crate::app::{KEY, secret_file};
use crate::world::{Call, IDENTITY, PROGRAM, World};

#[test]
fn a_wrong_answer_to_init_is_asked_for_again() {
    let world = World::new();
    let answers = [
        "app/database.sqlite",
        "./app/database.sqlite",
        "sqlite:app/databse.sqlite",
        "sqlite:app/database.sqlite",
        "file:app/storag",
        "file:app/storage",
        "",
        "./archive",
        "file:archive",
        "ENCRYPTION_KEY",
        "./app/.env",
        "file:app/.env",
        "dotenv:app/.env#ENCRYPTION_KEI",
        "dotenv:app/.env#ENCRYPTION_KEY",
        // No passphrase.
        "",
    ];
    std::fs::write(world.path("answers"), format!("{}\n", answers.join("\n"))).expect("written");
    let script = format!("(cat answers; sleep 2) | script -qec '{PROGRAM} init' /dev/null");
    let ran = Call::new("bash", &world.path(""), "-o pipefail -c").arg(script).ends(0);
    for says in [
        "\"app/database.sqlite\" is no database URL",
        "named as sqlite:./app/database.sqlite",
        "there is no database at",
        "app/storag is no folder",
        "where do bundles go?",
        "named as file:./archive",
        "the reference to the key is of no known kind",
        "the reference to the key is a path alone",
        "looks like a line of a .env file",
        "has no variable ENCRYPTION_KEI",
        "all is well",
    ] {
        ran.says(says);
    }
    world.run("backup", 0).says("proved");
}

#[test]
fn a_mistake_of_the_first_minutes_says_what_to_do_instead() {
    let world = World::new();
    secret_file(&world.path("with-name"), &format!("ENCRYPTION_KEY={KEY}\n"));
    for (line, code, says) in [
        ("prove app/database.sqlite", 2, "--key dotenv:PATH#ENCRYPTION_KEY"),
        ("prove app/database.sqlite --key ./app/.env", 2, "dotenv:PATH#NAME if it has a line NAME=…"),
        ("prove app/database.sqlite --key file:with-name", 12, "Name the variable in the file: dotenv:PATH#NAME."),
        ("prove app --key dotenv:app/.env#ENCRYPTION_KEY", 2, "is a folder, and no database"),
        ("prove sqlite:app --key dotenv:app/.env#ENCRYPTION_KEY", 2, "Name the database's own file."),
        ("list --archive ./archive", 2, "A folder is named as file:./archive"),
    ] {
        world.run(line, code).says(says).keeps_quiet_about(KEY);
    }
    let here = world.path("strongroom.toml");
    let here = here.to_str().expect("text");
    for line in ["backup -q", "list", "guard -- true"] {
        world.run(line, 2).says(here);
    }
    for line in ["list", "key status", "key fetch -i x -o y"] {
        world.run(line, 2).says("--card recovery-card.txt");
    }
}

#[test]
fn a_mistake_of_a_restore_at_night_says_what_to_do_instead() {
    let (world, _) = World::backed_up();
    let night = |line: &str| world.call(&format!("{line} --card ../safe/recovery-card.txt")).cwd(world.path("night"));
    std::fs::create_dir(world.path("night")).expect("made");
    let identity = format!("-i ../{IDENTITY}");
    // The folder above the archive, or another one.
    night(&format!("list --archive file:{}", world.path("app").display())).ends(10).says("holds strongroom.json");
    // Before anybody is asked for anything.
    night("restore -i nowhere --target out --key old.key").ends(2).says("of no known kind");
    night(&format!("restore {identity} --target out")).ends(0).says("-o KEYFILE --card CARD writes it out");
    std::fs::rename(world.path("app"), world.path("gone")).expect("moved");
    let live = format!("restore {identity} --config-from-bundle --yes");
    night(&live).ends(10).says("key fetch -i FILE -o KEYFILE");
    night(&format!("key fetch {identity} -o app.key")).ends(0);
    std::fs::create_dir(world.path("app")).expect("made");
    let live = format!("{live} --key file:app.key");
    night(&live).ends(10).says("mkdir -p");
}

#[test]
fn a_wrong_passphrase_is_not_blamed_on_the_custodians() {
    let world = World::new();
    let typed = |lines: &str, line: &str| {
        let script = format!("(sleep 1; printf '{lines}'; sleep 2) | script -qec '{PROGRAM} {line}' /dev/null");
        Call::new("bash", &world.path(""), "-o pipefail -c").arg(script)
    };
    let init = "init --database sqlite:app/database.sqlite --storage file:app/storage --archive file:archive --key-source dotenv:app/.env#ENCRYPTION_KEY";
    typed("hunter2\\nhunter2\\n", init).ends(0);
    world.run("backup", 0);
    typed("hunter3\\n", "verify -i recovery-identity.txt").ends(16).says("Try again").keeps_quiet_about("custodian");
    std::fs::remove_file(world.path("recovery-identity.txt")).expect("removed");
    // Somebody else's identity is another matter.
    let other = std::process::Command::new("age-keygen").output().expect("age-keygen runs");
    secret_file(&world.path("other.txt"), &String::from_utf8_lossy(&other.stdout));
    world.run("verify -i other.txt", 16).says("Use the identity of one of its custodians: recovery-");
}

#[test]
fn a_check_with_a_wrong_key_says_where_it_is_named() {
    let world = World::ready();
    world.app.set_key(crate::app::WRONG);
    world.run("config check", 12).says("[key] source has to name the key that the application runs with");
}

#[test]
fn a_terminal_is_what_it_was_after_ctrl_c_at_a_secret() {
    let world = World::ready();
    let shell =
        format!("stty -a >before; {PROGRAM} prove app/database.sqlite --key prompt: ; echo \\$? >code; stty -a >after");
    let script = format!("(sleep 2; printf '\\003'; sleep 1) | script -qec \"{shell}\" /dev/null");
    Call::new("bash", &world.path(""), "-c").arg(script).run();
    let read = |name: &str| std::fs::read_to_string(world.path(name)).expect(name);
    assert_eq!(read("code").trim(), "130");
    assert!(read("before").contains("isig icanon"), "{}", read("before"));
    assert_eq!(read("after"), read("before"));
    // Somebody who waits no longer does not wait for an answer either.
    let shell =
        format!("timeout --preserve-status 2 {PROGRAM} prove app/database.sqlite --key prompt: ; echo \\$? >code");
    let script = format!("sleep 8 | script -qec \"{shell}\" /dev/null");
    Call::new("bash", &world.path(""), "-c").arg(script).run();
    assert_eq!(std::fs::read_to_string(world.path("code")).expect("a code").trim(), "130");
}
