//! `gpg:` as the source of a key: files to a public key and with a passphrase, by the user's own `gpg`.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::app::KEY;
use crate::world::{Call, World};

/// A keyring of its own; its agent ends with it.
struct Ring {
    world: World,
}

impl Ring {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let world = World::new();
        let home = world.path("gnupg");
        std::fs::create_dir(&home).expect("made");
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).expect("set");
        std::fs::write(world.path("key.txt"), format!("{KEY}\n")).expect("written");
        Self { world }
    }

    /// Runs gpg; it must do well.
    fn gpg(&self, line: &str) {
        let out = self.command("gpg", &format!("--batch --quiet --trust-model always {line}")).output();
        let out = out.expect("gpg runs; tests/run installs gnupg");
        assert!(out.status.success(), "gpg {line}\n{}", String::from_utf8_lossy(&out.stderr));
    }

    fn command(&self, program: &str, line: &str) -> Command {
        let mut command = Command::new(program);
        command
            .args(line.split_whitespace())
            .current_dir(self.world.path(""))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("GNUPGHOME", self.world.path("gnupg"))
            .stdin(Stdio::null());
        command
    }

    /// Makes a key without a passphrase, or with one.
    fn key(&self, name: &str, passphrase: &str) {
        let home = self.world.path("parameters");
        let protection =
            if passphrase.is_empty() { "%no-protection".to_owned() } else { format!("Passphrase: {passphrase}") };
        let text = format!(
            "Key-Type: eddsa\nKey-Curve: ed25519\nSubkey-Type: ecdh\nSubkey-Curve: cv25519\nName-Real: {name}\nExpire-Date: 0\n{protection}\n%commit\n"
        );
        std::fs::write(&home, text).expect("written");
        self.gpg("--pinentry-mode loopback --gen-key parameters");
    }

    /// The fingerprints of a key and of its subkeys.
    fn fingerprints(&self, name: &str) -> Vec<String> {
        let found =
            self.command("gpg", &format!("--batch --with-colons --list-keys {name}")).output().expect("gpg runs");
        let listed = String::from_utf8_lossy(&found.stdout).into_owned();
        let lines = listed.lines().filter_map(|line| line.strip_prefix("fpr:::::::::"));
        lines.map(|line| line.trim_end_matches(':').to_owned()).collect()
    }

    /// Forgets every passphrase.
    fn forget(&self) {
        let ended = self.command("gpgconf", "--kill gpg-agent").status();
        assert!(ended.expect("gpgconf runs").success());
    }

    fn prove(&self, file: &str) -> Call {
        let line = format!("prove sqlite:app/database.sqlite --key gpg:{file}");
        self.world.call(&line).env("GNUPGHOME", self.world.path("gnupg"))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let _ = self.command("gpgconf", "--kill all").status();
    }
}

#[test]
fn a_file_to_a_public_key_opens_with_the_users_keyring() {
    let ring = Ring::new();
    ring.key("open", "");
    ring.gpg("--recipient open --output open.gpg --encrypt key.txt");
    ring.gpg("--recipient open --armor --output open.asc --encrypt key.txt");
    for file in ["open.gpg", "open.asc"] {
        ring.prove(file).ends(0).says("proved").keeps_quiet_about(KEY);
    }
    // The newline at the file's end is not part of the key, as with file:.
    let plain = ring.world.call("key fingerprint --installation 11111111-2222-4333-8444-555555555555 file:key.txt");
    std::fs::set_permissions(ring.world.path("key.txt"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("set");
    let plain = plain.ends(0).stdout;
    let sealed = ring
        .world
        .call("key fingerprint --installation 11111111-2222-4333-8444-555555555555 gpg:open.gpg")
        .env("GNUPGHOME", ring.world.path("gnupg"))
        .ends(0)
        .stdout;
    assert_eq!(plain, sealed);
    // Nothing but the program's own output holds it.
    assert_eq!(ring.world.files("tmp"), Vec::<String>::new());
}

/// What GnuPG's clock is told when the keys of the next test are made and used, and when they ended.
const MADE: &str = "--faked-system-time 20240101T000000";
const USED: &str = "--faked-system-time 20240101T010000";
const ENDED: &str = "2024-01-02T00:00:00Z";

#[test]
fn an_expired_key_still_opens_what_was_encrypted_to_it_and_is_named() {
    let ring = Ring::new();
    let parameters = |name: &str, ends: &str| {
        let text = format!(
            "Key-Type: eddsa\nKey-Curve: ed25519\nSubkey-Type: ecdh\nSubkey-Curve: cv25519\nName-Real: {name}\nExpire-Date: {ends}\n%no-protection\n%commit\n"
        );
        std::fs::write(ring.world.path("parameters"), text).expect("written");
        ring.gpg(&format!("{MADE} --gen-key parameters"));
    };
    // A key as a whole, and one of which only the subkey has ended.
    parameters("whole", "20240102T000000");
    parameters("part", "0");
    ring.gpg(&format!("{USED} --quick-set-expire {} 20240102T000000 *", ring.fingerprints("part")[0]));
    for name in ["whole", "part"] {
        let fingerprints = ring.fingerprints(name);
        ring.gpg(&format!("{USED} --recipient {name} --output {name}.gpg --encrypt key.txt"));
        let never = format!("--batch --trust-model always --recipient {name} --output never.gpg --encrypt key.txt");
        assert!(!ring.command("gpg", &never).output().expect("gpg runs").status.success(), "the key has not expired");
        let said = ring.prove(&format!("{name}.gpg")).ends(0);
        said.says("proved").keeps_quiet_about(KEY);
        let warned = format!(
            "warning: {name}.gpg is encrypted to the GnuPG key {} (subkey {}), which expired at {ENDED}",
            fingerprints[0], fingerprints[1]
        );
        assert_eq!(said.stderr.matches(&warned).count(), 1, "{}", said.stderr);
        assert!(said.stderr.contains("gpg --quick-set-expire"), "{}", said.stderr);
    }
    // One that has not ended is not spoken of.
    ring.key("good", "");
    ring.gpg("--recipient good --output good.gpg --encrypt key.txt");
    ring.prove("good.gpg").ends(0).keeps_quiet_about("expired");
}

#[test]
fn what_does_not_open_says_why_and_shows_nothing() {
    let ring = Ring::new();
    ring.key("open", "");
    ring.gpg("--recipient open --output open.gpg --encrypt key.txt");
    ring.gpg("--output signed.gpg --sign key.txt");
    ring.gpg("--output stored.gpg --store key.txt");
    let mut damaged = std::fs::read(ring.world.path("open.gpg")).expect("read");
    let last = damaged.len() - 8;
    damaged[last] ^= 1;
    std::fs::write(ring.world.path("damaged.gpg"), &damaged).expect("written");
    std::fs::write(ring.world.path("cut.gpg"), &damaged[..damaged.len() / 2]).expect("written");
    std::fs::write(ring.world.path("empty.gpg"), "").expect("written");

    ring.prove("nowhere.gpg").ends(10).says("nowhere.gpg");
    ring.prove("key.txt").ends(13).says("is no file that GnuPG encrypted").keeps_quiet_about(KEY);
    ring.prove("empty.gpg").ends(13);
    ring.prove("signed.gpg").ends(13).says("is not encrypted").says("gpg --encrypt").keeps_quiet_about(KEY);
    ring.prove("stored.gpg").ends(13).says("is not encrypted").keeps_quiet_about(KEY);
    ring.prove("damaged.gpg").ends(13).says("damaged").keeps_quiet_about(KEY);
    ring.prove("cut.gpg").ends(13);
    // Another user, who has another keyring.
    std::fs::create_dir(ring.world.path("home/.gnupg")).expect("made");
    std::fs::set_permissions(ring.world.path("home/.gnupg"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .expect("set");
    let other = ring.world.call("prove sqlite:app/database.sqlite --key gpg:open.gpg").ends(16);
    other.says("no such secret key here").says("GNUPGHOME");
    let _ = ring.command("gpgconf", "--kill all").env("GNUPGHOME", ring.world.path("home/.gnupg")).status();
    // Without gpg at all.
    ring.prove("open.gpg").env("PATH", "/nowhere").ends(1).says("cannot start gpg").says("Install gnupg");
}

/// Answers a question on a terminal with this line.
fn typed(ring: &Ring, file: &str, line: &str) -> (Option<i32>, String) {
    let program = Path::new(crate::world::PROGRAM).display();
    // `script` gives the program a terminal of its own; its agent asks nobody there, because GPG_TTY is not set.
    let script = format!(
        "(sleep 3; echo '{line}'; sleep 1) | script -qec '{program} prove sqlite:app/database.sqlite --key gpg:{file}' /dev/null"
    );
    let out = ring.command("bash", "-c").arg(format!("set -o pipefail; {script}")).output().expect("script runs");
    (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
}

#[test]
fn a_passphrase_is_asked_for_on_a_terminal_only() {
    let ring = Ring::new();
    ring.key("locked", "hunter2");
    ring.gpg("--recipient locked --output locked.gpg --encrypt key.txt");
    std::fs::write(ring.world.path("sesame"), "sesame\n").expect("written");
    ring.gpg("--pinentry-mode loopback --passphrase-file sesame --output sym.gpg --symmetric key.txt");
    for (file, passphrase) in [("locked.gpg", "hunter2"), ("sym.gpg", "sesame")] {
        ring.forget();
        // Nobody is there, as at night.
        ring.prove(file).ends(16).says("wants a passphrase").says("gpg-agent");
        let (code, said) = typed(&ring, file, "wrong");
        assert_eq!(code, Some(16), "{said}");
        assert!(said.contains("the passphrase of") && said.contains("is wrong"), "{said}");
        ring.forget();
        let (code, said) = typed(&ring, file, passphrase);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("Passphrase of") && said.contains("proved") && !said.contains(passphrase), "{said}");
    }
}

#[test]
fn a_backup_runs_with_the_key_in_a_gpg_file() {
    let ring = Ring::new();
    ring.key("open", "");
    ring.gpg("--recipient open --output open.gpg --encrypt key.txt");
    let init = crate::world::INIT.replace("dotenv:app/.env#ENCRYPTION_KEY", "gpg:open.gpg");
    let call = |line: &str| ring.world.call(line).env("GNUPGHOME", ring.world.path("gnupg"));
    call(&init).run();
    assert_eq!(call("backup --json").run().json()["verdict"], "proved");
    // Without the keyring there is no key, and a bundle all the same.
    let found = ring.world.call("backup --json").run().json();
    assert_eq!(found["verdict"], "no-key");
    let _ = ring.command("gpgconf", "--kill all").env("GNUPGHOME", ring.world.path("home/.gnupg")).status();
}
