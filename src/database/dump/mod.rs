//! Dumps and database files that anybody made.

use std::path::Path;

use super::Snapshot;
use crate::ground::scratch::Scratch;
use crate::ground::{Error, Result};

pub(super) fn open(path: &Path, _scratch: &Scratch) -> Result<Box<dyn Snapshot>> {
    Err(Error::failed(format!("cannot read {}", path.display())))
}
