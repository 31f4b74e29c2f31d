//! What this host remembers of the storage that it backed up.
