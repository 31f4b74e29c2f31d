//! A folder of files as storage.
