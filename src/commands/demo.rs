//! `demo`: the whole story on a sample application, each command shown as it is run.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::appkey::{KeyText, schemes};
use crate::ground::durable::{self, Existing};
use crate::ground::scratch::Scratch;
use crate::ground::{Error, Result};

/// The key of the sample application; it protects nothing.
const KEY: &str = "hV3kQ8s1Zr5tYw7bN0cMxJ2dLgF6aPuE9iRoTqSvKnU=";
/// Another one, as somebody might paste it by mistake.
const WRONG: &str = "Zz3kQ8s1Zr5tYw7bN0cMxJ2dLgF6aPuE9iRoTqSvKnU=";

/// Prints what happens and what it means.
pub struct Stage<'a> {
    /// Where lines go.
    pub say: &'a mut dyn FnMut(&str),
    /// This program.
    pub program: PathBuf,
}

/// Plays the story in a folder, or in a temporary one that is removed at the end.
pub fn run(stage: Stage<'_>, dir: Option<&Path>) -> Result<()> {
    let temporary = if dir.is_none() { Some(Scratch::temporary()?) } else { None };
    let folder = match (dir, &temporary) {
        (Some(dir), _) => {
            empty_folder(dir)?;
            dir.to_owned()
        }
        (None, Some(scratch)) => scratch.folder().to_owned(),
        (None, None) => return Err(Error::failed("there is no folder to play in")),
    };
    let mut story = Story { stage, folder: folder.clone() };
    story.play()?;
    if dir.is_some() {
        story.say(&format!("Everything is in {} for you to look at.", folder.display()));
    }
    Ok(())
}

/// Makes the sample application alone: `database.sqlite`, `storage` and `.env` in an empty folder.
pub fn application(dir: &Path) -> Result<()> {
    empty_folder(dir)?;
    sample_application(dir)?;
    set_key(dir, KEY)
}

fn empty_folder(dir: &Path) -> Result<()> {
    if std::fs::read_dir(dir).is_ok_and(|mut listing| listing.next().is_some()) {
        return Err(Error::refused(format!("{} is not empty", dir.display()))
            .hint("Name an empty folder, or one that does not exist yet."));
    }
    durable::create_folders(dir, 0o700)
}

fn set_key(app: &Path, key: &str) -> Result<()> {
    let line = format!("ENCRYPTION_KEY={key}\n");
    durable::write_file(&app.join(".env"), line.as_bytes(), 0o600, Existing::Replace).map(drop)
}

struct Story<'a> {
    stage: Stage<'a>,
    folder: PathBuf,
}

impl Story<'_> {
    fn say(&mut self, line: &str) {
        (self.stage.say)(line);
    }

    fn title(&mut self, line: &str) {
        self.say("");
        self.say(&format!("# {line}"));
    }

    fn play(&mut self) -> Result<()> {
        self.title("A small application: a database with encrypted credentials, a storage, and its key in a .env file");
        let app = self.folder.join("app");
        durable::create_folders(&app, 0o700)?;
        sample_application(&app)?;
        set_key(&app, KEY)?;

        self.title("Does this key open that database? No set-up needed");
        self.run("prove sqlite:app/database.sqlite --key dotenv:app/.env#ENCRYPTION_KEY", 0)?;

        self.title("Set up: configuration, archive, sealing key, signer, recovery card");
        self.run(
            "init --yes --database sqlite:app/database.sqlite --storage file:app/storage --archive file:archive --key-source dotenv:app/.env#ENCRYPTION_KEY",
            0,
        )?;

        self.title("The recovery identity must leave this host; here it moves to another folder");
        let safe = self.folder.join("safe");
        durable::create_folders(&safe, 0o700)?;
        for name in ["recovery-identity.txt", "recovery-card.txt"] {
            let (from, to) = (self.folder.join(name), safe.join(name));
            std::fs::rename(&from, &to).map_err(|e| Error::io("move", &from, e))?;
        }

        self.title("The nightly backup: the key is proved against every credential first");
        self.run("backup", 0)?;

        self.title("Somebody pastes a wrong key. The application would start and look healthy");
        set_key(&app, WRONG)?;
        self.title("The next backup is still made, and says so the same night (exit code 3)");
        self.run("backup", 3)?;
        self.run("list", 0)?;

        self.title("Would the newest bundle restore? No (exit code 12). The newest proved one? Yes");
        self.run("verify latest -i safe/recovery-identity.txt", 12)?;
        self.run("verify latest-proved --deep -i safe/recovery-identity.txt", 0)?;

        self.title("Disaster: the credentials and a package are gone");
        self.damage()?;
        self.title("A restore with the wrong key is refused before it touches anything (exit code 12)");
        self.run("restore latest-proved -i safe/recovery-identity.txt --yes", 12)?;
        self.title("With the right key it proves, builds beside, swaps, and can be rolled back until then");
        set_key(&app, KEY)?;
        self.run("restore latest-proved -i safe/recovery-identity.txt --dry-run", 0)?;
        self.run("restore latest-proved -i safe/recovery-identity.txt --yes", 0)?;
        self.run("prove --key dotenv:app/.env#ENCRYPTION_KEY", 0)?;

        self.title("On an empty machine: the archive, an identity and the recovery card are enough");
        self.run(
            "restore --card safe/recovery-card.txt -i safe/recovery-identity.txt --target elsewhere latest-proved",
            0,
        )?;
        self.say("");
        self.say("And without strongroom: docs/recover-by-hand.md needs age, zstd, tar, sha256sum and minisign.");
        Ok(())
    }

    fn damage(&mut self) -> Result<()> {
        let path = self.folder.join("app/database.sqlite");
        sqlite(&path, "PRAGMA foreign_keys = OFF; DELETE FROM repositories;")?;
        let lost = self.folder.join("app/storage/private/manual/acme/tools/1.0.0.zip");
        std::fs::remove_file(&lost).map_err(|e| Error::io("remove", &lost, e))
    }

    /// Shows a command, runs it, shows what it says, and insists on how it ends.
    fn run(&mut self, arguments: &str, expected: u8) -> Result<()> {
        self.say(&format!("$ strongroom {arguments}"));
        let mut child = Command::new(&self.stage.program);
        child
            .args(arguments.split(' '))
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null());
        // Both streams in one, as a terminal shows them.
        let (mut reader, writer) = std::io::pipe().map_err(|e| Error::failed("cannot make a pipe").because(e))?;
        let second = writer.try_clone().map_err(|e| Error::failed("cannot make a pipe").because(e))?;
        child.stdout(writer).stderr(second);
        let mut running = child
            .spawn()
            .map_err(|e| Error::failed(format!("cannot start {}", self.stage.program.display())).because(e))?;
        drop(child);
        let mut output = String::new();
        std::io::Read::read_to_string(&mut reader, &mut output)
            .map_err(|e| Error::failed("cannot read what the command says").because(e))?;
        let status = running.wait().map_err(|e| Error::failed("cannot wait for the command").because(e))?;
        for line in output.lines() {
            self.say(&format!("  {line}"));
        }
        if status.code() == Some(i32::from(expected)) {
            if expected != 0 {
                self.say(&format!("  (exit code {expected})"));
            }
            return Ok(());
        }
        Err(Error::failed(format!("strongroom {arguments} ended with {status}, and {expected} was expected")))
    }
}

fn sqlite(path: &Path, statements: &str) -> Result<()> {
    let failed = |e: rusqlite::Error| Error::failed(format!("cannot change the sample {}", path.display())).because(e);
    rusqlite::Connection::open(path).map_err(failed)?.execute_batch(statements).map_err(failed)
}

/// A database and a storage such as PACKAGE.broker has them.
fn sample_application(app: &Path) -> Result<()> {
    let path = app.join("database.sqlite");
    let scheme = schemes::by_name("package-broker")?;
    let key = scheme.effective_key(&KeyText::new(zeroize::Zeroizing::new(KEY.as_bytes().to_vec())))?;
    let mut sql = String::from(
        "CREATE TABLE repositories (id TEXT PRIMARY KEY, url TEXT, vcs_type TEXT, credential_type TEXT, auth_credentials TEXT NOT NULL);
         CREATE TABLE artifacts (id TEXT PRIMARY KEY, repo_id TEXT REFERENCES repositories(id), package_name TEXT, version TEXT, file_key TEXT);
         INSERT INTO repositories VALUES ('manual', '', 'manual', 'none', '{}');\n",
    );
    for n in 1..=24 {
        let secret = format!("{{\"username\":\"team-{n}\",\"password\":\"sample-{n}\"}}");
        let value = String::from_utf8_lossy(&scheme.encrypt(&key, secret.as_bytes())?).into_owned();
        let _ = writeln!(
            sql,
            "INSERT INTO repositories VALUES ('repo-{n}', 'https://git.example/{n}', 'git', 'http-basic', '{value}');"
        );
    }
    for (repo, package, version) in
        [("manual", "acme/tools", "1.0.0"), ("manual", "acme/tools", "1.1.0"), ("repo-1", "acme/lib", "2.0.0")]
    {
        let name = format!("private/{repo}/{package}/{version}.zip");
        let file = app.join("storage").join(&name);
        if let Some(parent) = file.parent() {
            durable::create_folders(parent, 0o755)?;
        }
        // The first bytes of a ZIP, then bytes that do not compress.
        let noise: Vec<u8> =
            (0u32..2048).flat_map(|i| blake3::hash(format!("{name} {i}").as_bytes()).as_bytes().to_vec()).collect();
        durable::write_file(&file, &[b"PK\x03\x04".as_slice(), &noise].concat(), 0o644, Existing::Replace)?;
        durable::write_file(&file.with_extension("readme.md"), b"# A sample package\n", 0o644, Existing::Replace)?;
        let _ = writeln!(
            sql,
            "INSERT INTO artifacts VALUES ('{repo}-{version}', '{repo}', '{package}', '{version}', '{name}');"
        );
    }
    sqlite(&path, &format!("BEGIN;\n{sql}\nCOMMIT;"))
}
