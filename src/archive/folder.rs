//! A folder as an archive.
