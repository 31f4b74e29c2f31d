//! Dumps and database files that anybody made: opened by their content, never by their name, and never executed.

use std::io::Read;
use std::path::Path;

use super::Snapshot;
use crate::ground::scratch::Scratch;
use crate::ground::{Error, Result};

pub(super) fn open(path: &Path, _scratch: &Scratch) -> Result<Box<dyn Snapshot>> {
    Ok(Box::new(super::sqlite::open_file(path)?))
}

/// Opens a dump that comes as a stream, such as a bundle's member, by way of an unlinked file in `scratch`.
pub fn open_stream(bytes: Box<dyn Read + Send>, base_name: &str, scratch: &Scratch) -> Result<Box<dyn Snapshot>> {
    let _ = (bytes, scratch);
    Err(Error::failed(format!("cannot read {base_name}")))
}
