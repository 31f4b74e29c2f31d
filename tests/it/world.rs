//! A world for one test: an empty home, an application, an archive, and the program with nothing else around it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::app::{App, KEY};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_strongroom");

/// How `init` is called for the application of the world.
pub(crate) const INIT: &str = "init --yes --database sqlite:app/database.sqlite --storage file:app/storage \
     --archive file:archive --key-source dotenv:app/.env#ENCRYPTION_KEY";

/// Where the recovery identity lies once it has left the host.
pub(crate) const IDENTITY: &str = "safe/recovery-identity.txt";

/// A world for one test.
pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) app: App,
}

impl World {
    /// An application, and nothing set up.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("strongroom-it-").tempdir().expect("a folder");
        for name in ["home", "tmp", "safe"] {
            std::fs::create_dir(folder.path().join(name)).expect("made");
        }
        let app = App::make(&folder.path().join("app"), KEY);
        Self { folder, app }
    }

    /// An application for which `init` has run; identity and card have left the host.
    pub(crate) fn ready() -> Self {
        let world = Self::new();
        world.run(INIT, 0);
        for name in ["recovery-identity.txt", "recovery-card.txt"] {
            std::fs::rename(world.path(name), world.path("safe").join(name)).expect("moved away");
        }
        world
    }

    /// The same with one proved bundle; its id.
    pub(crate) fn backed_up() -> (Self, String) {
        let world = Self::ready();
        let id = world.backup(0);
        (world, id)
    }

    /// A copy of everything, in a folder of its own.
    pub(crate) fn copy(&self) -> Self {
        let folder = tempfile::Builder::new().prefix("strongroom-it-").tempdir().expect("a folder");
        let status =
            Command::new("/bin/cp").arg("-a").arg(self.path(".")).arg(folder.path()).status().expect("cp runs");
        assert!(status.success());
        let app = App { folder: folder.path().join("app") };
        Self { folder, app }
    }

    /// A path in this world.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(path)
    }

    /// A call of the program, words separated by spaces.
    pub(crate) fn call(&self, line: &str) -> Call {
        Call::new(PROGRAM, self.folder.path(), line)
    }

    /// Runs the program and insists on how it ends.
    pub(crate) fn run(&self, line: &str, code: i32) -> Ran {
        self.call(line).ends(code)
    }

    /// Runs it with `--json` and reads what it says.
    pub(crate) fn json(&self, line: &str, code: i32) -> Value {
        let (verb, command) = line.split_once(" -- ").unwrap_or((line, ""));
        assert!(command.is_empty(), "give the command with `arg`");
        self.run(&format!("{verb} --json"), code).json()
    }

    /// Makes a bundle; its id.
    pub(crate) fn backup(&self, code: i32) -> String {
        text(&self.json("backup", code)["bundle"])
    }

    /// Adds lines to the configuration: hooks first, because the file ends with `[app]`, then whole sections.
    pub(crate) fn configure(&self, lines: &str) {
        let path = self.path("strongroom.toml");
        let old = std::fs::read_to_string(&path).expect("a configuration");
        crate::app::secret_file(&path, &format!("{old}\n{lines}\n"));
    }

    /// A script that the program can be told to run; `$W` is this world's folder.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path(name);
        std::fs::write(&path, format!("#!/bin/sh\nW={}\n{text}\n", self.path("").display())).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        path
    }

    /// Every regular file below a folder of this world, as sorted relative paths.
    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        let root = self.path(folder);
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_type().expect("a kind").is_dir() {
                    folders.push(entry.path());
                } else {
                    let path = entry.path();
                    found.push(path.strip_prefix(&root).expect("below").to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// Everything below a folder with content, mode and modification time, to see that nothing was touched.
    pub(crate) fn state_of(&self, folder: &str) -> Vec<(String, u32, i64, blake3::Hash)> {
        use std::os::unix::fs::MetadataExt as _;
        self.files(folder)
            .into_iter()
            .map(|name| {
                let path = self.path(folder).join(&name);
                let meta = std::fs::symlink_metadata(&path).expect("there");
                let content = blake3::hash(&std::fs::read(&path).unwrap_or_default());
                (name, meta.mode(), meta.mtime_nsec(), content)
            })
            .collect()
    }

    /// Gives everything to a user without rights, with a copy of the program that this user can start.
    pub(crate) fn owned_by_nobody(self) -> Self {
        std::fs::copy(PROGRAM, self.path("strongroom")).expect("copied");
        self.give_to_nobody();
        self
    }

    /// Gives what was made since to that user too.
    pub(crate) fn give_to_nobody(&self) {
        if rustix::process::geteuid().is_root() {
            let status = Command::new("chown").args(["-R", "65534:65534"]).arg(self.folder.path()).status();
            assert!(status.expect("chown runs").success());
        }
    }

    /// A call as a user for whom modes mean something: root reads everything.
    pub(crate) fn call_as_nobody(&self, line: &str) -> Call {
        let program = self.path("strongroom");
        if !rustix::process::geteuid().is_root() {
            return Call::new(program, self.folder.path(), line);
        }
        let mut call = Call::new("/usr/bin/setpriv", self.folder.path(), "--reuid=65534 --regid=65534 --clear-groups");
        call.command.arg(program).args(line.split_whitespace());
        line.clone_into(&mut call.shown);
        call
    }

    /// The bundle's folder in the archive.
    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.path(format!("archive/bundles/package-broker/{id}"))
    }
}

/// A text in JSON.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The codes of `problems`.
pub(crate) fn codes(json: &Value) -> Vec<String> {
    json["problems"].as_array().expect("problems").iter().map(|p| text(&p["code"])).collect()
}

/// Turns a byte in the middle of a file around.
pub(crate) fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(path, bytes).expect("written");
}

/// One call of the program, with an environment that holds nothing but what is said here.
pub(crate) struct Call {
    command: Command,
    shown: String,
}

impl Call {
    pub(crate) fn new(program: impl Into<OsString>, folder: &Path, line: &str) -> Self {
        let mut command = Command::new(program.into());
        command
            .args(line.split_whitespace())
            .current_dir(folder)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", folder.join("home"))
            .env("TMPDIR", folder.join("tmp"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { command, shown: line.to_owned() }
    }

    /// One more argument, whatever is in it.
    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.command.arg(arg.into());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    /// Starts it in another folder.
    pub(crate) fn cwd(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// The command itself, for a run that something happens during.
    pub(crate) fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Runs it to its end, however that is.
    pub(crate) fn run(mut self) -> Ran {
        let output = self.command.output().unwrap_or_else(|e| panic!("cannot start {}: {e}", self.shown));
        Ran {
            code: output.status.code(),
            out: output.stdout.clone(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            shown: self.shown,
        }
    }

    /// Runs it and insists on how it ends.
    pub(crate) fn ends(self, code: i32) -> Ran {
        let ran = self.run();
        assert_eq!(ran.code, Some(code), "strongroom {}\n{}\n{}", ran.shown, ran.stdout, ran.stderr);
        ran
    }
}

/// How a call ended and what it said.
pub(crate) struct Ran {
    /// The exit code; nothing when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    shown: String,
}

impl Ran {
    /// Standard output as one JSON document.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("strongroom {}: {e}\n{}\n{}", self.shown, self.stdout, self.stderr))
    }

    /// Insists that it said something, on either stream.
    pub(crate) fn says(&self, what: &str) -> &Self {
        let said = self.stdout.contains(what) || self.stderr.contains(what);
        assert!(said, "strongroom {} does not say {what:?}\n{}\n{}", self.shown, self.stdout, self.stderr);
        self
    }

    /// Insists that it did not.
    pub(crate) fn keeps_quiet_about(&self, what: &str) -> &Self {
        let said = self.stdout.contains(what) || self.stderr.contains(what);
        assert!(!said, "strongroom {} says {what:?}\n{}\n{}", self.shown, self.stdout, self.stderr);
        self
    }
}
