//! The sample application on PostgreSQL, and the program run on it from outside.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use strongroom::appkey::{KeyText, schemes};
use tempfile::TempDir;

use super::server::Server;

pub(crate) const KEY: &str = "hV3kQ8s1Zr5tYw7bN0cMxJ2dLgF6aPuE9iRoTqSvKnU=";
/// The same key: only its first 32 characters count.
pub(crate) const SAME: &str = "hV3kQ8s1Zr5tYw7bN0cMxJ2dLgF6aPuEanything";
pub(crate) const WRONG: &str = "Zz3kQ8s1Zr5tYw7bN0cMxJ2dLgF6aPuE9iRoTqSvKnU=";

/// A value that the application would have written.
pub(crate) fn encrypted(plain: &str) -> String {
    encrypted_with(KEY, plain)
}

/// The same under another key.
pub(crate) fn encrypted_with(key: &str, plain: &str) -> String {
    let scheme = schemes::by_name("package-broker").expect("a scheme");
    let key = scheme.effective_key(&KeyText::new(key.as_bytes().to_vec().into())).expect("a key");
    String::from_utf8(scheme.encrypt(&key, plain.as_bytes()).expect("encrypted")).expect("text")
}

pub(crate) const SCHEMA: &str = "
CREATE TABLE repositories (id text PRIMARY KEY, vcs_type text, auth_credentials text NOT NULL, note text);
CREATE TABLE artifacts (id text PRIMARY KEY, repo_id text REFERENCES repositories(id), file_key text);
CREATE TABLE counters (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
";

/// The application's tables with so many credentials and the plaintext row.
pub(crate) fn fill(server: &Server, database: &str, rows: usize) {
    let mut sql = SCHEMA.to_owned();
    for n in 0..rows {
        let value = encrypted(&format!("{{\"token\":\"secret-{n}\"}}"));
        writeln!(sql, "INSERT INTO repositories VALUES ('r{n:03}', 'git', '{value}', E'tab\\there');")
            .expect("written");
    }
    sql.push_str("INSERT INTO repositories VALUES ('manual', 'manual', '{}', NULL);");
    sql.push_str("INSERT INTO artifacts VALUES ('a1', 'manual', 'private/manual/x/y/1.zip'), ('a2', 'r000', 'private/r000/gone.zip');");
    sql.push_str("INSERT INTO counters (v) SELECT 'v' || g FROM generate_series(1, 500) g;");
    server.sql("app", database, &sql);
}

/// A host with its configuration, on a server.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) programs: PathBuf,
}

impl World {
    pub(crate) fn new(programs: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let world = Self { folder, programs: programs.to_owned() };
        world.set_key(KEY);
        std::fs::create_dir_all(world.path("storage/private/manual/x/y")).expect("made");
        std::fs::write(world.path("storage/private/manual/x/y/1.zip"), b"PK\x03\x04 a package").expect("written");
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn set_key(&self, key: &str) {
        let path = self.path(".env");
        std::fs::write(&path, format!("ENCRYPTION_KEY={key}\n")).expect("written");
        private(&path);
    }

    /// The configuration, written by `init`; then `more` goes into its `[database]`.
    pub(crate) fn init(&self, url: &str, more: &str) {
        let arguments = format!(
            "init --yes --database {url} --storage file:storage --archive file:archive --key-source dotenv:.env#ENCRYPTION_KEY"
        );
        // The rehearsal with cron's environment has no PATH to these programs: what it says is not looked at.
        let out = self.run(&arguments);
        assert!(matches!(out.status.code(), Some(0 | 3)), "{}", said(&out));
        self.configure(more);
    }

    /// Adds lines to `[database]`.
    pub(crate) fn configure(&self, more: &str) {
        let path = self.path("strongroom.toml");
        let text = std::fs::read_to_string(&path).expect("read");
        std::fs::write(&path, text.replace("[database]\n", &format!("[database]\n{more}\n"))).expect("written");
    }

    /// Runs a line of arguments.
    pub(crate) fn run(&self, line: &str) -> Output {
        self.command(line).output().expect("it runs")
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command
            .args(line.split_whitespace())
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.programs.display()))
            .env("HOME", self.folder.path())
            .env("KEY", KEY)
            .env("SAME", SAME)
            .env("WRONG", WRONG)
            .current_dir(self.folder.path());
        command
    }

    /// Runs a line that must end with this code; answers everything that it said.
    pub(crate) fn ends(&self, line: &str, code: i32) -> String {
        let out = self.run(line);
        assert_eq!(out.status.code(), Some(code), "{line}\n{}", said(&out));
        said(&out)
    }

    /// Runs a line with `--json`; answers the exit code and the document.
    pub(crate) fn json(&self, line: &str) -> (i32, serde_json::Value) {
        let out = self.run(&format!("{line} --json"));
        let value = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{line}: {}", said(&out)));
        (out.status.code().unwrap_or(-1), value)
    }
}

pub(crate) fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("set");
}

pub(crate) fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// A prefix that is to a program what `docker exec` is: another environment, and where this user may, other processes.
pub(crate) fn prefix(server: &Server) -> String {
    let path = format!("\"PATH={}:/usr/bin:/bin\"", server.programs.display());
    let isolated = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let may = Command::new("unshare").args(isolated).arg("true").status().is_ok_and(|status| status.success());
    if may {
        let words: Vec<_> = isolated.iter().map(|word| format!("\"{word}\"")).collect();
        format!("command_prefix = [\"unshare\", {}, \"/usr/bin/env\", \"-i\", {path}]", words.join(", "))
    } else {
        format!("command_prefix = [\"/usr/bin/env\", \"-i\", {path}]")
    }
}

/// A program in front of another: `script` runs first, with `$REAL` for the real one.
pub(crate) fn wrapper(folder: &Path, program: &str, real: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(folder).expect("made");
    let path = folder.join(program);
    let text = format!("#!/bin/sh\nREAL={}\n{script}\n", real.join(program).display());
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
}
