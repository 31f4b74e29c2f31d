//! `pg_restore`, and what it is fed with.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write as _};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use super::fault;
use super::link::Link;
use super::session::Said;
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
    /// The whole dump as it comes out of the bundle.
    Stream(Box<dyn Read + Send + 'a>),
}

/// Restores the data of a dump, several tables at once: a program a core, each of which reads the dump for itself.
///
/// Every one reads it to its end, where the digest is compared, so each sees a whole dump or fails.
pub(super) fn data(
    link: &Link,
    (dump, whole): (&Beginning, Box<dyn Read + Send>),
    sizes: &BTreeMap<(String, String), u64>,
    again: &mut dyn FnMut() -> Result<Box<dyn Read + Send>>,
    progress: &dyn Progress,
) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let shares = Shares::new(dump, sizes, cores.min(MOST));
    if shares.count() == 1 {
        return run(link, &["--section=data"], Input::Stream(whole), progress);
    }
    let mut streams: Vec<Box<dyn Read + Send>> = vec![whole];
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

/// Runs `pg_restore`; the last of a stream reaches it only after the end of the stream was read without an error.
pub(super) fn run(link: &Link, arguments: &[&str], input: Input<'_>, progress: &dyn Progress) -> Result<()> {
    let mut all = vec!["--exit-on-error"];
    if link.options.no_owner {
        all.extend(["--no-owner", "--no-privileges"]);
    }
    all.extend(arguments);
    let mut command = match input {
        Input::Beyond(_) => link.with_file("pg_restore", "restore", &all),
        _ => link.command("pg_restore", "restore", &all),
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
    let mut fed = Ok(());
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
            if stdin.write_all(&held).is_err() || read == 0 {
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
    if status.success() {
        return Ok(());
    }
    Err(fault::ended(&link.url.to_string(), "pg_restore", &said.text(), &status.to_string()))
}
