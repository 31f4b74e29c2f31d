//! A dump's table of contents taken off its stream, and the whole stream all the same.

use std::io::{Cursor, Read};

use super::archive::Archive;
use super::head::Head;
use crate::ground::Result;

/// The beginning of a dump in custom format.
pub(crate) struct Beginning {
    /// Header and table of contents: a dump without data, as `pg_restore` sees it.
    pub(crate) head: Vec<u8>,
    /// The same, read.
    pub(super) contents: Head,
}

/// Remembers what passes.
struct Tee<'a> {
    input: &'a mut (dyn Read + Send),
    seen: &'a mut Vec<u8>,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.seen.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

impl Beginning {
    /// Reads the table of contents; gives back the dump from its first byte, too.
    pub(crate) fn read(mut input: Box<dyn Read + Send>, what: &str) -> Result<(Self, Box<dyn Read + Send>)> {
        let mut seen = Vec::new();
        let archive = Archive::begin(Tee { input: input.as_mut(), seen: &mut seen }, what)?;
        let length = usize::try_from(archive.place()).unwrap_or(usize::MAX);
        let contents = archive.head;
        let head = seen[..length.min(seen.len())].to_vec();
        Ok((Self { head, contents }, Box::new(Cursor::new(seen).chain(input))))
    }
}
