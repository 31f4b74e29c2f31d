//! The archive's signed, append-only record of events.
