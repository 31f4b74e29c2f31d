//! Signers: the minisign keys that bundles and ledger entries are accepted from.
