//! Where the commands of a document run: a temporary folder that stands for the whole machine, and the program on its `PATH`.
//!
//! Documents name real places; here each of [`PLACES`] stands under the temporary folder, in commands and, the other way round, in
//! what they print. `localhost:3000`, where the guide's application answers, is a port of this test, as are the addresses of servers. Its `/health` says `ok` while
//! `/data/running` is there and `/data/broken` is not.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Folders that documents name.
const PLACES: [&str; 7] = ["/data", "/backups", "/etc/strongroom", "/safe", "/srv", "/elsewhere", "/usr/local/bin"];

pub(crate) struct Stage {
    folder: TempDir,
    /// Addresses of documents, and what they are here.
    addresses: Vec<(&'static str, String)>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        for place in ["usr/local/bin", "home", "safe", "etc", "srv", "elsewhere", "stage"] {
            std::fs::create_dir_all(root.join(place)).expect("made");
        }
        symlink(env!("CARGO_BIN_EXE_strongroom"), root.join("usr/local/bin/strongroom")).expect("linked");
        std::fs::write(root.join("stage/cwd"), root.join("home").to_str().expect("text")).expect("written");
        let addresses = vec![("localhost:3000", health(root.to_owned()))];
        Self { folder, addresses }
    }

    /// From here on an address of the document is this one.
    pub(crate) fn serve(&mut self, document: &'static str, actual: &str) {
        self.addresses.push((document, actual.to_owned()));
    }

    /// Puts a program that is somewhere else on the `PATH`.
    pub(crate) fn program(&self, name: &str, at: &Path) {
        symlink(at, self.root().join("usr/local/bin").join(name)).expect("linked");
    }

    /// Puts a script on the `PATH`.
    pub(crate) fn script(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.root().join("usr/local/bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command as the next one of its shell; answers what it printed, and how it ended.
    pub(crate) fn shell(&self, command: &str) -> (String, i32) {
        let root = self.root();
        let stage = root.join("stage");
        // Folder and variables are carried from one command to the next.
        let script = format!(
            "set -a; [ ! -e {s}/env ] || . {s}/env\ncd \"$(cat {s}/cwd)\" || exit 99\n{{ {command}\n}}\ncode=$?\nexport -p >{s}/env; pwd >{s}/cwd; exit $code\n",
            s = stage.display(),
            command = self.to_actual(command),
        );
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut bash = Command::new("bash");
        bash.args(["--norc", "--noprofile", "-c", &script])
            .env_clear()
            .env("PATH", format!("{}/usr/local/bin:/usr/bin:/bin", root.display()))
            .env("HOME", root.join("home"))
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(writer.try_clone().expect("a pipe"))
            .stderr(writer);
        let mut child = bash.spawn().expect("bash");
        drop(bash);
        let mut printed = Vec::new();
        reader.read_to_end(&mut printed).expect("read");
        let status = child.wait().expect("it ends");
        (self.to_document(&String::from_utf8_lossy(&printed)), status.code().unwrap_or(-1))
    }

    /// A text of a document with the places of this stage.
    fn to_actual(&self, text: &str) -> String {
        let root = self.root().display().to_string();
        let mut actual = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('/') {
            let (before, from) = rest.split_at(at);
            actual.push_str(before);
            // Not where a longer path goes on.
            let already = text.len() - from.len();
            let begins = !text[..already].ends_with(|c: char| c.is_ascii_alphanumeric() || "._-/}".contains(c));
            let place = PLACES.iter().find(|place| {
                from.strip_prefix(**place)
                    .is_some_and(|r| !r.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_'))
            });
            let length = if let Some(place) = place.filter(|_| begins) {
                actual.push_str(&root);
                actual.push_str(place);
                place.len()
            } else {
                actual.push('/');
                1
            };
            rest = &from[length..];
        }
        actual.push_str(rest);
        self.addresses.iter().fold(actual, |text, (document, actual)| text.replace(document, actual))
    }

    fn to_document(&self, text: &str) -> String {
        let text = text.replace(&self.root().display().to_string(), "");
        self.addresses.iter().fold(text, |text, (document, actual)| text.replace(actual, document))
    }
}

/// Insists on programs that a test needs; missing ones fail it where `STRONGROOM_TEST_TOOLS=required`.
pub(crate) fn tools(names: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &&&str| std::env::split_paths(&path).any(|folder| folder.join(**name).is_file());
    let missing: Vec<_> = names.iter().filter(|name| !there(name)).collect();
    if missing.is_empty() {
        return true;
    }
    let required = std::env::var_os("STRONGROOM_TEST_TOOLS").is_some_and(|v| v == "required");
    assert!(!required, "these programs are needed: {missing:?}");
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    {
        eprintln!("SKIPPED: these programs are missing: {missing:?}");
    }
    false
}

/// The guide's application, as far as it answers; returns its address.
fn health(root: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let well = root.join("data/running").exists() && !root.join("data/broken").exists();
            let body = format!("{{\"status\":\"{}\"}}", if well { "ok" } else { "degraded" });
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    address
}
