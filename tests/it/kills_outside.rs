//! Killed while a key is repaired, destroyed or replaced in an escrow outside of the archive; the tests of each such escrow call this.

use crate::app::KEY;
use crate::keyring::{in_use, outlive, with_set_key};
use crate::killing::{covers, numbered, one_by_one, own, trace};
use crate::world::{IDENTITY, World, text};

/// What a test does to a server behind the program's back.
pub(crate) struct Outside<'a> {
    /// Remembers what is there.
    pub(crate) keep: &'a (dyn Fn() + Sync),
    /// Puts that back, and nothing else.
    pub(crate) put_back: &'a (dyn Fn() + Sync),
    /// The sealed bytes that are there: the path of each, and its SHA-256.
    pub(crate) sealed: &'a (dyn Fn() -> Vec<(String, String)> + Sync),
    /// How many objects there are of a key.
    pub(crate) left: &'a (dyn Fn(&str) -> usize + Sync),
}

impl Outside<'_> {
    /// The key in use opens from here, and what is here stands in the ledger, so that it will be found when it is to be destroyed.
    fn is_whole(&self, world: &World) {
        world.run("check --all", 0);
        world.run("key status", 0);
        let verified = world.json(&format!("key verify -i {IDENTITY}"), 0);
        assert_eq!(verified["copies"].as_array().map(Vec::len), Some(1), "{verified}");
        self.opens(world, &in_use(world), &configured(world));
        let ledger = world.path("archive/ledger/package-broker");
        let entries = world.files("archive/ledger/package-broker").into_iter();
        let entries: String = entries
            .filter(|name| !name.ends_with(".minisig"))
            .map(|name| std::fs::read_to_string(ledger.join(name)).expect("read"))
            .collect();
        for (path, digest) in (self.sealed)() {
            assert!(entries.contains(&digest), "{path} is in no entry of the ledger");
        }
    }

    fn opens(&self, world: &World, fingerprint: &str, key: &str) {
        let to = world.path("fetched");
        let _ = std::fs::remove_file(&to);
        world.run(&format!("key fetch {fingerprint} -i {IDENTITY} -o fetched"), 0);
        assert_eq!(std::fs::read_to_string(&to).expect("read"), key);
        assert!((self.left)(fingerprint) > 0);
    }

    /// `key escrow --repair` of a deposit that was spoiled: what is called good opens, and the next run mends the rest.
    pub(crate) fn repair(&self, template: &World, kinds: &[&str]) {
        (self.keep)();
        let line = "key escrow --repair";
        let names = trace(template, line, 0);
        covers(&names, kinds);
        one_by_one(template, line, &numbered(&names), self.put_back, &|world| {
            let good = world.call("key status").run().code == Some(0);
            let opened = world.call(&format!("key verify -i {IDENTITY}")).run();
            assert!(!good || opened.code == Some(0), "called good: {}{}", opened.stdout, opened.stderr);
            world.run(line, 0).says("held by");
            self.is_whole(world);
        });
    }

    /// `key destroy`: nothing goes that the ledger does not say, what is half gone is not called gone, and the next run ends it.
    pub(crate) fn destroy(&self, template: &World, kinds: &[&str]) {
        let old = outlive(template);
        (self.keep)();
        let line = format!("key destroy {old} --yes");
        let names = trace(template, &line, 0);
        covers(&names, kinds);
        one_by_one(template, &line, &numbered(&names), self.put_back, &|world| {
            if !world.run("key history", 0).stdout.contains(&format!("key {} destroyed", &old[..12])) {
                self.opens(world, &old, KEY);
            } else if (self.left)(&old) > 0 {
                world.run("key status", 3).says("was to be destroyed");
            }
            world.run(&line, 0);
            assert_eq!((self.left)(&old), 0);
            world.run("key status", 0).says("destroyed");
            self.is_whole(world);
            world.run("prove", 0);
        });
    }

    /// `key rotate`, with no copy of any key but the ones outside: all credentials are under a key that is there, and so are older bundles.
    pub(crate) fn rotate(&self, template: &World, kinds: &[&str]) {
        let first = template.backup(0);
        let old = in_use(template);
        with_set_key(template);
        (self.keep)();
        let line = "key rotate --yes";
        let names = trace(template, line, 0);
        covers(&names, kinds);
        // The backups inside are killed everywhere elsewhere.
        one_by_one(template, line, &own(&names, kinds, 60), self.put_back, &|world| {
            let resumed = world.call("key rotate --resume --json").run();
            match resumed.code {
                Some(0) => assert_eq!(text(&resumed.json()["state"]), "done"),
                // It had not begun, or it was over.
                Some(10) => {}
                code => panic!("{code:?}: {}", resumed.stderr),
            }
            assert!(!world.path("strongroom-state/rotation.json").exists());
            world.run("prove", 0);
            self.is_whole(world);
            self.opens(world, &old, KEY);
            world.run(&format!("verify {first} -i {IDENTITY}"), 0);
        });
    }
}

/// The key that the application is configured with.
fn configured(world: &World) -> String {
    let env = std::fs::read_to_string(world.path("app/.env")).expect("read");
    env.lines().find_map(|line| line.strip_prefix("ENCRYPTION_KEY=")).expect("a key").to_owned()
}
