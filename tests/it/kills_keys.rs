//! Killed before and after everything that becomes lasting in the life of a key; see `kills` for how.

use crate::app::{KEY, WRONG, encrypt, secret};
use crate::keyring::{in_use, outlived, with_set_key};
use crate::killing::{at_each, covers, numbered, own, small, trace};
use crate::kills::rows;
use crate::world::{IDENTITY, World, text};

#[test]
fn a_destruction_killed_anywhere_took_nothing_unsaid_and_goes_on() {
    let (template, old) = outlived();
    let line = format!("key destroy {old} --yes");
    let names = trace(&template, &line, 0);
    covers(&names, &["before remove /archive/keys/", "after remove /archive/keys/", "/archive/ledger/"]);
    at_each(&template, &line, &numbered(&names), &|world| {
        world.run("check --all", 0);
        let copies = || world.files("archive/keys").iter().filter(|file| file.contains(&old)).count();
        let said = world.run("key history", 0).stdout.contains(&format!("key {} destroyed", &old[..12]));
        assert!(said || copies() == 3, "removed and not said: {} are left", copies());
        world.run(&line, 0);
        assert_eq!(copies(), 0);
        world.run("key status", 0).says("destroyed");
        world.run("prove", 0);
    });
}

#[test]
fn a_restore_that_re_encrypts_killed_anywhere_leaves_the_old_or_the_new() {
    let template = small();
    template.backup(0);
    template.app.set_key(WRONG);
    template.app.execute("DELETE FROM repositories WHERE id = 'manual'");
    template.app.execute(&format!("UPDATE repositories SET auth_credentials = '{}'", encrypt(WRONG, &secret(1))));
    let line = format!("restore --yes --rekey --only database -i {IDENTITY}");
    let names = trace(&template, &line, 0);
    covers(&names, &["before the commit of new credentials", "after the commit of new credentials"]);
    at_each(&template, &line, &numbered(&names), &|world| {
        // Whatever stands there opens with the key that is configured.
        rows(world);
        world.run("prove", 0);
        world.run(&line, 0);
        assert_eq!(rows(world), 2);
        world.run("prove", 0);
        let beside = world.files("app");
        assert!(!beside.iter().any(|f| f.contains(".database.sqlite.strongroom")), "{beside:?}");
    });
}

#[test]
fn a_rotation_beside_the_application_killed_anywhere_goes_on() {
    let template = small();
    let first = template.backup(0);
    with_set_key(&template);
    let line = "key rotate --yes --online";
    let names = trace(&template, line, 0);
    let kinds = ["rotation", "new credentials", "new key"];
    covers(&names, &kinds);
    assert_eq!(names.iter().filter(|n| n.contains("before the commit of new credentials")).count(), 2, "two sweeps");
    at_each(&template, line, &own(&names, &kinds, 40), &|world| {
        // The application runs, and writes with the key that it has.
        let key = std::fs::read_to_string(world.path("app/.env")).expect("read");
        let key = key.lines().find_map(|l| l.strip_prefix("ENCRYPTION_KEY=")).expect("a key").to_owned();
        world.app.add_credential(50, &key);
        let resumed = world.call("key rotate --resume").run();
        assert!(matches!(resumed.code, Some(0 | 3 | 10)), "{:?}: {}", resumed.code, resumed.stderr);
        world.run("prove", 0).says("all 2 credentials");
        assert!(!world.path("strongroom-state/rotation.json").exists());
        world.run(&format!("verify {first} -i {IDENTITY}"), 0);
    });
}

/// How often the ledger says that rows of a key came under another one.
fn entered(world: &World, old: &str) -> usize {
    world.run("key history", 0).stdout.matches(&format!("re-encrypted after {}", &old[..12])).count()
}

/// An application whose rows are under an older key than the one in use; that key, and the line that puts them under the other.
fn under_an_older_key() -> (World, String, String) {
    let template = small();
    template.backup(0);
    let old = in_use(&template);
    template.app.set_key(WRONG);
    template.script("log", "echo \"$1\" >>\"$(dirname \"$0\")/log.txt\"");
    template.configure("stop = [\"./log\", \"stop\"]\nstart = [\"./log\", \"start\"]");
    let line = format!("key rotate --from {} --yes -i {IDENTITY}", &old[..8]);
    (template, old, line)
}

#[test]
fn rows_of_an_older_key_killed_anywhere_are_under_one_of_both_and_the_rest_follows() {
    let (template, old, line) = under_an_older_key();
    let names = trace(&template, &line, 0);
    let kinds = ["new credentials", "/archive/keys/", "re-encryption"];
    covers(&names, &kinds);
    let commit = names.iter().position(|name| name == "after the commit of new credentials").expect("the commit");
    // The entry in the ledger comes next.
    let next = commit + 1..commit + 12;
    assert!(names[next.clone()].iter().any(|name| name.contains("after rename /archive/ledger/")), "{names:?}");
    let mut places = own(&names, &kinds, 40);
    places.extend(&numbered(&names)[next]);
    at_each(&template, &line, &places, &|world: &World| {
        world.run("check --all", 0);
        let again = world.call(&format!("{line} --json")).run();
        assert!(matches!(again.code, Some(0 | 3)), "{:?}: {}", again.code, again.stderr);
        assert_eq!(text(&again.json()["state"]), "done");
        world.run("prove", 0);
        assert_eq!((rows(world), entered(world, &old)), (2, 1));
        assert!(!world.path("strongroom-state/re-encryption.json").exists());
        assert!(std::fs::read_to_string(world.path("log.txt")).expect("it ran").ends_with("start\n"));
    });
}

#[test]
fn what_a_killed_run_changed_and_did_not_enter_the_next_one_enters_whatever_it_is() {
    let (template, old, line) = under_an_older_key();
    for (place, changed) in
        [("before the commit of new credentials", false), ("after the commit of new credentials", true)]
    {
        let killed = template.copy();
        killed.call(&line).env("STRONGROOM_KILL_AT", place).run();
        assert!(killed.path("strongroom-state/re-encryption.json").exists());
        assert_eq!(entered(&killed, &old), 0);
        killed.run(&format!("{line} --dry-run"), 0);
        assert!(killed.path("strongroom-state/re-encryption.json").exists(), "a plan changes nothing");

        // Without an identity what was done is ended, and what was not is not begun.
        let world = killed.copy();
        let resumed = world.run("key rotate --resume --yes", if changed { 0 } else { 2 });
        resumed.says(if changed { "1 credential went from key" } else { "-i FILE" });
        assert_eq!(entered(&world, &old), usize::from(changed));
        world.run("key rotate --resume --yes", 10);
        world.run(&line, 0);
        assert_eq!(entered(&world, &old), 1);
        world.run("prove", 0);

        // What the application changed meanwhile is no re-encryption.
        if !changed {
            let world = killed.copy();
            let value = encrypt(KEY, &secret(7));
            world.app.execute(&format!("UPDATE repositories SET auth_credentials = '{value}' WHERE id = 'repo-1'"));
            world.run("key rotate --resume --yes", 2).says("-i FILE");
            assert_eq!(entered(&world, &old), 0);
        }

        // Another rotation enters it too.
        if changed {
            with_set_key(&killed);
            assert_eq!(killed.json("key rotate --yes", 0)["state"], "done");
            assert_eq!(entered(&killed, &old), 1);
            let history = killed.run("key history", 0).stdout.clone();
            assert!(history.find("re-encrypted after") < history.find("rotated after"), "{history}");
            killed.run("prove", 0);
        }
    }
}
