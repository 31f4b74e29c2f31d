//! Who can open the sealing key, and how.
