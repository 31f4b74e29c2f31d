//! Exit codes: one table, from which the help, the reference and the process take them.

use crate::ground::Kind;

/// Done, but a person should look.
pub const ATTENTION: u8 = 3;

/// Every exit code and its meaning.
pub const CODES: [(u8, &str); 14] = [
    (0, "done; what was to be proved is proved"),
    (Kind::Failed.exit_code(), "failed, for a reason of our own"),
    (Kind::Usage.exit_code(), "usage or configuration"),
    (
        ATTENTION,
        "done, but a person should look: stored and not proved, nothing to prove with, files left out, an escrow missed, state lost",
    ),
    (Kind::NotFound.exit_code(), "no such archive, bundle, key or file"),
    (Kind::Locked.exit_code(), "another run holds the lock"),
    (
        Kind::WrongKey.exit_code(),
        "wrong key: some credential does not decrypt with it (a backup that was stored ends with 3)",
    ),
    (Kind::Damaged.exit_code(), "damaged: a digest, an age payload, a tar, a dump"),
    (
        Kind::NotAuthentic.exit_code(),
        "not authentic: signature missing, unknown or wrong; ledger with a gap or fork; nobody trusted",
    ),
    (
        Kind::Refused.exit_code(),
        "refused by a rule: a key still needed, the last proved bundle, a target that would be overwritten",
    ),
    (Kind::Sealed.exit_code(), "sealed: none of the identities opens it, or not enough custodians"),
    (Kind::Unreachable.exit_code(), "a system does not answer (worth trying again)"),
    (Kind::Denied.exit_code(), "a system says no: credentials or permissions"),
    (Kind::Interrupted.exit_code(), "interrupted"),
];

/// The codes that a verb can end with besides 0, 1 and 2.
pub fn of_verb(path: &[&str]) -> &'static [u8] {
    match path {
        ["prove"] => &[3, 10, 12, 13, 15, 20],
        ["init"] => &[10, 12, 15, 16],
        ["backup"] => &[3, 10, 11, 13, 14, 15, 20],
        ["list"] => &[10, 14],
        ["show" | "cat"] => &[10, 13, 14, 16],
        ["check"] => &[10, 13, 14],
        ["verify"] => &[3, 10, 12, 13, 14, 16],
        ["restore"] => &[3, 10, 11, 12, 13, 14, 15, 16, 20],
        ["guard"] => &[3, 10, 12, 20],
        ["custody", "list"] => &[10],
        ["custody", "test"] => &[10, 14, 16],
        ["config", "check"] => &[3, 10, 12, 14, 15, 20],
        ["key", "fingerprint"] => &[10, 15],
        ["key", "lint"] => &[3, 10, 15],
        _ => &[],
    }
}

/// The meaning of a code.
pub fn meaning(code: u8) -> &'static str {
    CODES.iter().find(|(c, _)| *c == code).map_or("unknown", |(_, meaning)| meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_documented_code() {
        for kind in Kind::ALL {
            assert!(CODES.iter().any(|(code, _)| *code == kind.exit_code()), "{kind:?}");
        }
    }
}
