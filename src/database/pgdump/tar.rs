//! A tar of `pg_dump`: the table of contents first, then a file for each table's data (`pg_backup_tar.c`).

use std::collections::BTreeMap;
use std::io::{BufReader, Read};

use super::{Listener, Outline, archive, table_data, unreadable};
use crate::ground::{Error, Result};

/// Reads it to its end.
pub(super) fn scan(input: impl Read, what: &str, listener: &mut dyn Listener) -> Result<Outline> {
    let mut tar = tar::Archive::new(BufReader::with_capacity(256 << 10, input));
    let failed = |e| unreadable(what, e);
    let mut files = tar.entries().map_err(failed)?;
    let first = files.next().ok_or_else(|| Error::damaged(format!("{what} is empty")))?.map_err(failed)?;
    if &*first.path_bytes() != b"toc.dat" {
        return Err(Error::damaged(format!("{what} does not begin with a table of contents")));
    }
    let head = archive::contents(first, what)?;
    let mut outline = Outline::of(&head, what)?;
    let mut wanted: BTreeMap<&[u8], _> = (head.entries.iter())
        .filter(|entry| entry.data && entry.kind == "TABLE DATA")
        .map(|entry| (entry.file.as_bytes(), entry))
        .collect();
    for file in files {
        let file = file.map_err(failed)?;
        let name = file.path_bytes().into_owned();
        // Large objects, and a script that repeats everything.
        let Some(entry) = wanted.remove(name.as_slice()) else { continue };
        let length = file.size();
        let mut counted = BufReader::with_capacity(256 << 10, Counted { file, left: length });
        table_data(entry, &mut counted, what, &mut outline, listener)?;
    }
    match wanted.values().next() {
        None => Ok(outline),
        Some(entry) => {
            Err(Error::damaged(format!("{what} is cut off: the data of {} is missing", entry.tag.escape_debug()))
                .hint("The program that wrote it was stopped, or the disk was full. Take another copy."))
        }
    }
}

/// A file in the tar that must be as long as its header says.
struct Counted<R> {
    file: R,
    left: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}
