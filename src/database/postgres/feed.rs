//! `pg_restore`, and what it is fed with.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write as _};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use super::fault;
use super::link::Link;
use super::session::Said;
use crate::database::Content;
use crate::database::pgdump::{Beginning, Lane, Shares};
use crate::ground::progress::Progress;
use crate::ground::{Error, Kind, Result};

/// More programs than this would only wait for the disk of the server.
const MOST: usize = 4;

/// Where `pg_restore` reads from.
pub(super) enum Input<'a> {
    /// The table of contents alone.
    Head(File),
    /// The same where only a pipe leads, and `pg_restore` wants a file.
    Beyond(File),
    /// A lane over the dump as it comes out of the bundle.
    Stream(Box<dyn Read + Send + 'a>),
}

/// Restores the data of a dump, several tables at once: a program a core, each of which reads the dump for itself.
///
/// Every one reads it to its end, where the digest is compared, so each sees a whole dump or fails.
pub(super) fn data(
    link: &Link,
    (dump, whole): (&Beginning, Box<dyn Content>),
    sizes: &BTreeMap<(String, String), u64>,
    again: &mut dyn FnMut() -> Result<Box<dyn Content>>,
    progress: &dyn Progress,
) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let shares = Shares::new(dump, sizes, cores.min(MOST));
    let mut streams = vec![whole];
    for _ in 1..shares.count() {
        streams.push(again()?);
    }
    // The first that fails says why; the others were only told to stop.
    let first: Mutex<Option<Error>> = Mutex::new(None);
    let (shares, failed) = (&shares, &first);
    let work = move |number, stream| {
        let done = Lane::new(stream, "database.pgdump", dump, shares, number)
            .and_then(|lane| run(link, &["--section=data"], Input::Stream(Box::new(lane)), progress));
        if let Err(error) = done {
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            shares.give_up();
        }
    };
    std::thread::scope(|scope| {
        for (number, stream) in streams.into_iter().enumerate() {
            scope.spawn(move || work(number, stream));
        }
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn with_options<'a>(link: &Link, arguments: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["--exit-on-error"];
    if link.options.no_owner {
        all.extend(["--no-owner", "--no-privileges"]);
    }
    all.extend(arguments);
    all
}

/// `pg_restore` with everything that is always said to it.
pub(super) fn command(link: &Link, arguments: &[&str]) -> Command {
    link.command("pg_restore", "restore", &with_options(link, arguments))
}

/// Whether `pg_restore` has restored a dump of which it was to read everything.
pub(super) fn verdict(link: &Link, status: ExitStatus, said: &Said, whole: bool) -> Result<()> {
    if status.success() && whole {
        return Ok(());
    }
    if status.success() {
        // What it did not read was not compared with the digest either.
        return Err(Error::failed(format!("{}: pg_restore ended before it had read the whole dump", link.url))
            .hint("`strongroom check BUNDLE` says whether the dump is damaged; if it is not, please report this."));
    }
    Err(fault::ended(&link.url.to_string(), "pg_restore", &said.text(), &status.to_string()))
}

/// Runs `pg_restore`; the last of a stream reaches it only after the end of the stream was read without an error.
pub(super) fn run(link: &Link, arguments: &[&str], input: Input<'_>, progress: &dyn Progress) -> Result<()> {
    let mut command = match input {
        Input::Beyond(_) => link.with_file("pg_restore", "restore", &with_options(link, arguments)),
        _ => command(link, arguments),
    };
    let stream = match input {
        Input::Head(file) | Input::Beyond(file) => {
            command.stdin(Stdio::from(file));
            None
        }
        Input::Stream(stream) => {
            command.stdin(Stdio::piped());
            Some(stream)
        }
    };
    command.stdout(Stdio::null());
    let mut child = command.spawn().map_err(|e| link.not_started("pg_restore", e))?;
    let said = Said::default();
    let listener = child.stderr.take().map(|stderr| said.listen(stderr));
    let (mut fed, mut whole) = (Ok(()), stream.is_none());
    if let (Some(mut stream), Some(mut stdin)) = (stream, child.stdin.take()) {
        super::link::widen(&stdin);
        let (mut buffer, mut held) = (vec![0; 1 << 18], Vec::with_capacity(1 << 18));
        loop {
            let read = match stream.read(&mut buffer) {
                Ok(read) => read,
                Err(e) => {
                    let _ = child.kill();
                    fed = Err(Error::from_io(Kind::Damaged, "cannot read database.pgdump", e));
                    break;
                }
            };
            // When it stops reading, its own words say why.
            if stdin.write_all(&held).is_err() {
                break;
            }
            if read == 0 {
                whole = true;
                break;
            }
            held.clear();
            held.extend_from_slice(&buffer[..read]);
            progress.advance(read as u64);
        }
    }
    let status = child.wait().map_err(|e| Error::failed("cannot wait for pg_restore").because(e))?;
    if let Some(listener) = listener {
        let _ = listener.join();
    }
    fed?;
    verdict(link, status, &said, whole)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::link::PostgresOptions;
    use super::*;
    use crate::config::url::DatabaseUrl;
    use crate::ground::progress::Silent;

    /// Feeds 2 MiB to a `pg_restore` that is this script.
    fn feed(script: &str) -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("pg_restore");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("set");
        let DatabaseUrl::Postgres(url) = DatabaseUrl::parse("postgres://app@/app", folder.path()).expect("a URL")
        else {
            panic!("another kind of database")
        };
        let options = PostgresOptions { programs: Some(folder.path().to_owned()), ..PostgresOptions::default() };
        let dump = Box::new(Cursor::new(vec![7; 2 << 20]));
        run(&Link { url, options }, &["--section=data"], Input::Stream(dump), &Silent)
    }

    #[test]
    fn a_program_that_is_content_before_the_end_has_restored_nothing() {
        feed("exec cat >/dev/null").expect("it read everything");
        let error = feed("head -c 100000 >/dev/null").expect_err("it did not");
        assert!(error.chain().contains("before it had read the whole dump"), "{}", error.chain());
        let error = feed("echo 'pg_restore: error: no' >&2; exit 1").expect_err("it failed");
        assert!(error.chain().contains("pg_restore: error: no"), "{}", error.chain());
    }
}
