//! age streams to and from the sealing key.
