//! How the database's own programs are reached: here or behind a prefix, with which connection and which environment.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::appkey::KeyText;
use crate::config::url::PostgresUrl;
use crate::ground::child::Environment;
use crate::ground::{Error, Result, child};

/// Everything that libpq reads from the environment and that is not ours to set; most people have none of them.
const PASSED: [&str; 18] = [
    "PGCHANNELBINDING",
    "PGGSSENCMODE",
    "PGGSSLIB",
    "PGHOST",
    "PGHOSTADDR",
    "PGKRBSRVNAME",
    "PGPASSFILE",
    "PGPASSWORD",
    "PGPORT",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSSLCERT",
    "PGSSLCRL",
    "PGSSLKEY",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PGSYSCONFDIR",
    "PGUSER",
];

/// What a database needs to be reached, besides its URL.
#[derive(Clone, Default)]
pub struct PostgresOptions {
    /// The password, when neither `.pgpass` nor the URL has it.
    pub password: Option<Arc<KeyText>>,
    /// What stands in front of every program, such as `docker exec -i NAME`.
    pub prefix: Vec<String>,
    /// Where the programs are; `PATH` when missing.
    pub programs: Option<PathBuf>,
    /// What the programs get of our environment.
    pub environment: Environment,
    /// Names this host's sessions in `pg_stat_activity`, so that the next run can end what a killed one left.
    pub host: String,
    /// A restore may run as a superuser.
    pub as_superuser: bool,
    /// A restore gives everything to the user who runs it, and leaves grants out.
    pub no_owner: bool,
    /// A restore changes the live database itself, in one transaction.
    pub in_place: bool,
}

/// A way to run `psql`, `pg_dump` and `pg_restore` on one database.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) url: PostgresUrl,
    pub(super) options: PostgresOptions,
}

impl Link {
    /// The same server and user, another database.
    pub(super) fn with_database(&self, database: &str) -> Self {
        Self { url: self.url.with_database(database), options: self.options.clone() }
    }

    /// What sessions of this kind are called.
    pub(super) fn application(&self, purpose: &str) -> String {
        format!("strongroom/{}/{purpose}", self.options.host)
    }

    /// A program by its name, connected to the database; every argument may be seen by others and holds no secret.
    pub(super) fn command(&self, program: &str, purpose: &str, arguments: &[&str]) -> Command {
        let mut command = self.bare(program);
        let conninfo = self.url.conninfo(&[("application_name", &self.application(purpose))]);
        command.arg("--no-password").args(arguments).arg("--dbname").arg(conninfo);
        command
    }

    /// A program that gets what comes on standard input as a file, which is its last argument: a shell there writes it and removes it.
    ///
    /// For what reads a file more than once, where only a pipe leads. Never for rows.
    pub(super) fn with_file(&self, program: &str, purpose: &str, arguments: &[&str]) -> Command {
        const SCRIPT: &str =
            "f=$(mktemp) || exit 126; trap 'rm -f \"$f\"' EXIT; cat >\"$f\" || exit 126; \"$@\" \"$f\"";
        let inner = self.command(program, purpose, arguments);
        let mut argv: Vec<OsString> = self.options.prefix.iter().map(OsString::from).collect();
        argv.extend(["sh", "-c", SCRIPT, "sh"].map(OsString::from));
        let own = self.options.prefix.len();
        argv.extend(std::iter::once(inner.get_program()).chain(inner.get_args()).skip(own).map(OsString::from));
        self.of(&argv)
    }

    /// Whether [`Link::with_file`] works behind the prefix.
    pub(super) fn has_files(&self) -> bool {
        let mut argv = self.options.prefix.clone();
        argv.extend(["sh", "-c", "f=$(mktemp) && rm -f \"$f\""].map(str::to_owned));
        child::run(&argv, &self.options.environment, b"", Duration::from_mins(1)).is_ok()
    }

    fn argv(&self, program: &str) -> Vec<OsString> {
        let mut argv: Vec<OsString> = self.options.prefix.iter().map(OsString::from).collect();
        argv.push(self.options.programs.as_ref().map_or_else(|| program.into(), |folder| folder.join(program).into()));
        argv
    }

    fn bare(&self, program: &str) -> Command {
        self.of(&self.argv(program))
    }

    fn of(&self, argv: &[OsString]) -> Command {
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).env_clear().envs(self.options.environment.variables());
        for name in PASSED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        // Messages in English, because the reasons for a failed connection have no codes.
        command.env("LC_ALL", "C");
        if let Some(password) = self.options.password.as_ref().or_else(|| self.url.password()) {
            command.env("PGPASSWORD", OsString::from_vec(password.expose().to_vec()));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The version of a program, as `15.14`.
    pub(super) fn version(&self, program: &str) -> Result<String> {
        let mut argv: Vec<String> = Vec::new();
        for word in self.argv(program) {
            argv.push(word.into_string().map_err(|_| Error::usage("the path of a program is not UTF-8"))?);
        }
        argv.push("--version".to_owned());
        let said = child::run(&argv, &self.options.environment, b"", Duration::from_mins(1))
            .map_err(|e| missing(program, &e.chain()).unwrap_or(e))?;
        let said = String::from_utf8_lossy(&said);
        let version = said.split_whitespace().nth(2).unwrap_or_default();
        if version.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(version.to_owned());
        }
        Err(Error::failed(format!("{program} --version says {:?}", said.trim().chars().take(80).collect::<String>())))
    }

    /// The version of a program that must not be older than the server, whose `server_version_num` is given.
    pub(super) fn not_older(&self, program: &str, server: u32) -> Result<String> {
        let version = self.version(program)?;
        if major(&version) >= server / 10_000 {
            return Ok(version);
        }
        Err(Error::usage(format!("{program} is of version {version}, and the server of {}", server / 10_000)).hint(
            format!(
                "Install the client programs of PostgreSQL {} or newer, and name their folder as [database] programs.",
                server / 10_000
            ),
        ))
    }

    /// `pg_restore` must not be older than what it reads and where it writes to, nor set what the server does not know.
    ///
    /// `dump` is the version of the `pg_dump` that made what is read.
    pub(super) fn restores(&self, from: u32, server: u32, dump: Option<&str>) -> Result<()> {
        let version = self.not_older("pg_restore", server.max(from))?;
        let major = major(&version);
        let server = server / 10_000;
        if let Some(dump) = dump.filter(|dump| self::major(dump) > major) {
            let (new, old) = (
                self::major(dump),
                if server < 17 { " Such a dump fits into servers of 17 or newer only." } else { "" },
            );
            return Err(Error::usage(format!(
                "pg_restore is of version {version}, and the dump was made by pg_dump {dump}"
            ))
            .hint(format!(
                "Name the folder of the client programs of PostgreSQL {new} or newer as [database] programs.{old}"
            )));
        }
        // Since 17 it begins with `SET transaction_timeout`, whatever the server.
        if major >= 17 && server < 17 {
            return Err(Error::usage(format!(
                "pg_restore is of version {version}, and writes what a server of {server} does not understand"
            ))
            .hint(format!(
                "Name the folder of the client programs of PostgreSQL {server} as [database] programs; up to 16 fit."
            )));
        }
        Ok(())
    }

    /// The error for a program that did not start.
    pub(super) fn not_started(&self, program: &str, error: std::io::Error) -> Error {
        let first = self.options.prefix.first().map_or(program, String::as_str);
        let found = error.kind() == std::io::ErrorKind::NotFound;
        let result = if found {
            Error::usage(format!("there is no program {first}"))
        } else {
            Error::failed(format!("cannot start {first}"))
        };
        result.because(error).hint(INSTALL)
    }
}

const INSTALL: &str =
    "PostgreSQL's own client programs are needed (postgresql-client); [database] programs names their folder.";

/// `15` of `15.14`, and of `18beta1`.
pub(super) fn major(version: &str) -> u32 {
    version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("").parse().unwrap_or(0)
}

/// Lets more lie in a pipe, so that both its ends work on while the other does something else; whether it could be.
///
/// A user has a limit on all pipes together, and everything works with less.
pub(super) fn widen(pipe: &impl std::os::fd::AsFd) -> bool {
    rustix::pipe::fcntl_setpipe_size(pipe, 1 << 20).is_ok()
}

/// The error when a program is not there, here or behind the prefix.
pub(super) fn missing(program: &str, said: &str) -> Option<Error> {
    let absent = ["No such file or directory (os error 2)", "executable file not found", "command not found"];
    let named = said.contains(program) || said.contains("cannot start");
    (named && absent.iter().any(|a| said.contains(a)))
        .then(|| Error::usage(format!("there is no program {program}")).because(said.to_owned()).hint(INSTALL))
}
