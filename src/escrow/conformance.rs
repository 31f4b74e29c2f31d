//! What every escrow promises, run against each.
