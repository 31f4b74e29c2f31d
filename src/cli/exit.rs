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

/// The codes that a verb can end with besides 0, 1, 2 and 130.
#[expect(clippy::match_same_arms, reason = "one line a verb reads better than one a set of codes")]
pub fn of_verb(path: &[&str]) -> &'static [u8] {
    match path {
        ["prove"] => &[3, 10, 12, 13, 14, 15, 16, 20, 21],
        ["init"] => &[3, 10, 11, 13, 14, 15, 20, 21],
        ["backup"] => &[3, 10, 11, 13, 14, 15, 16, 20, 21],
        ["list" | "check"] | ["custody", "list"] => &[10, 13, 14, 15, 20, 21],
        ["show" | "cat"] => &[10, 13, 14, 15, 16, 20, 21],
        ["verify"] => &[3, 10, 12, 13, 14, 15, 16, 20, 21],
        ["restore"] => &[3, 10, 11, 12, 13, 14, 15, 16, 20, 21],
        ["guard"] => &[10, 12, 13, 14, 15, 16, 20, 21],
        ["demo"] => &[15, 21],
        ["custody", "test"] => &[3, 10, 11, 13, 14, 15, 16, 20, 21],
        ["config", "check"] => &[10, 12, 13, 14, 15, 16, 20, 21],
        ["key", "fingerprint"] => &[10, 13, 15, 16, 20, 21],
        ["key", "lint"] => &[3, 10, 13, 15, 16, 20, 21],
        ["key", "status" | "needed"] => &[3, 10, 13, 14, 15, 20, 21],
        ["key", "history"] => &[10, 13, 14, 15, 20, 21],
        ["key", "escrow"] => &[3, 10, 13, 14, 15, 16, 20, 21],
        ["key", "verify"] => &[3, 10, 12, 13, 14, 15, 16, 20, 21],
        ["key", "fetch" | "exec"] => &[10, 13, 14, 15, 16, 20, 21],
        ["key", "doctor"] => &[3, 10, 12, 13, 14, 15, 16, 20, 21],
        ["key", "rotate"] => &[3, 10, 11, 12, 13, 14, 15, 16, 20, 21],
        ["key", "destroy"] => &[3, 10, 11, 13, 14, 15, 16, 20, 21],
        ["key", "retire"] => &[10, 13, 14, 15, 20, 21],
        ["man" | "reference"] => &[21],
        _ => &[],
    }
}

/// What there is to say about a verb's exit codes beyond the table.
pub fn note(path: &[&str]) -> Option<&'static str> {
    match path {
        ["guard"] => Some("Once COMMAND has been started, the exit code is its own."),
        ["backup"] => Some("A wrong or unreadable key stops no backup: the bundle is stored, and the code is 3."),
        ["key", "verify" | "fetch" | "exec"] => {
            Some("Where no copy of the key opens, the gravest of the reasons decides: 14, 13, 16, 21, 20, then 10.")
        }
        _ => None,
    }
}

/// What a code means where a verb gives it a narrower sense than the table.
fn narrower(path: &[&str], code: u8) -> Option<&'static str> {
    const WIDE: &str = "refused: a file that holds a secret can be read by others, or is none";
    const BELIEVED: &str = "refused: others can write to the configuration, or it belongs to another user";
    Some(match (path, code) {
        (["init"], 0) => "done: everything stands, and works with the environment that cron would give",
        (["check"], 0) => "authentic and whole",
        (["custody", "test"], 3) => "an identity opens the sealing key, and the ledger could not be told",
        (["custody", "test"], 0) => "an identity opens the sealing key",
        (["config", "check"], 0) => "everything that the configuration names was tried and works",
        (["custody" | "key", ..] | ["list" | "show" | "cat" | "demo" | "completions" | "man"], 0) => "done",
        (["prove"], 3) => {
            "nothing failed and nothing was proved: there is nothing to try the key on, or its cipher proves little"
        }
        (["verify"], 3) => {
            "nothing failed, but a person should look: nothing was proved, or the backup found something wrong with what it stored"
        }
        (["backup"], 3) => {
            "stored, but a person should look: not proved, nothing to prove with, files left out, a part or an escrow missed, state lost, a rotation or a restore not ended, nobody could be told"
        }
        (["restore"], 3) => {
            "restored, but a person should look: the key was not proved (--accept-unproved), the backup had found something wrong with what it stored, or an earlier restore did not end in what this one did not touch"
        }
        (["init"], 3) => "set up, but something does not work, here or with the environment that cron would give",
        (["key", "status"], 3) => {
            "a key has no copy in escrow, an escrow could not be asked, or a rotation did not end"
        }
        (["key", "needed"], 3) => {
            "the key of a bundle has no copy, neither in escrow nor in the bundle, or an escrow could not be asked"
        }
        (["key", "escrow"], 3) => "an escrow was missed",
        (["key", "verify"], 3) => {
            "a copy does not open, or holds another key; or there is no credential to try it on, or its cipher proves little"
        }
        (["key", "doctor"], 3) => "there is no credential to try the key on",
        (["key", "rotate"], 3) => {
            "every credential is under the new key, and a person is needed: the application is not configured with it, or a bundle needs a look"
        }
        (["key", "lint"], 3) => "there is something to say against this key",
        (["guard"], 12) => "wrong key, or nothing to prove with under --require-proof: COMMAND was not started",
        (["restore"], 12) => "wrong key: some credential does not decrypt with it; nothing was touched",
        (["key", "rotate"], 12) => {
            "wrong key: some credential does not decrypt with the configured key; with --abort one is under the new key, with --resume one is not"
        }
        (["prove" | "verify" | "config" | "key", ..], 12) => "wrong key: some credential does not decrypt with it",
        (["init"], 15) => "refused: a configuration, a key or an identity stands there already, or a file is not 0600",
        (["restore"], 15) => {
            "refused by a rule: a target that would be overwritten, a database in use, nobody there to say yes, a file that is not 0600"
        }
        (["demo"], 15) => "refused: DIR is not empty",
        (["prove"], 15) => {
            "refused: a file that holds a secret can be read by others, or a crash left a database to be rolled back first"
        }
        (["key", "fetch"], 15) => "refused: the file exists, or a file that holds a secret can be read by others",
        (["key", "destroy"], 3) => "an escrow has a copy still",
        (["key", "destroy"], 15) => {
            "refused by a rule: a bundle, the application, its database or a rotation needs the key, what this host has seen of the ledger cannot be read, nobody there to say yes"
        }
        (["list" | "check"] | ["custody", "list"] | ["key", "status" | "needed" | "history"], 15) => BELIEVED,
        (["backup" | "guard"] | ["config", "check"] | ["key", "fingerprint" | "lint" | "escrow"], 16) => {
            "sealed: gpg has no key or passphrase that opens the secret"
        }
        (["key", "retire"], 15) => "refused by a rule: the key is in use, or retired already",
        (["key", "rotate"], 15) => {
            "refused by a rule: a rotation is under way, the new key is the old one, the database is in use, nobody there to say yes"
        }
        (["key" | "show" | "cat" | "verify" | "guard" | "backup" | "custody" | "config", ..], 15) => WIDE,
        _ => return None,
    })
}

/// The codes that a verb can end with and what they mean there; the whole table for the program itself.
pub fn table(path: &[&str]) -> Vec<(u8, &'static str)> {
    let ends_with = |code: u8| path.is_empty() || matches!(code, 0 | 1 | 2 | 130) || of_verb(path).contains(&code);
    CODES
        .into_iter()
        .filter(|(code, _)| ends_with(*code))
        .map(|(code, meaning)| (code, narrower(path, code).unwrap_or(meaning)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_lists_only_codes_of_the_table_and_ascending() {
        for path in [&["prove"][..], &["restore"], &["key", "lint"], &["completions"]] {
            let codes: Vec<u8> = table(path).iter().map(|(code, _)| *code).collect();
            assert!(codes.is_sorted(), "{path:?}");
            assert!(of_verb(path).iter().all(|code| codes.contains(code)), "{path:?}");
        }
        assert_eq!(table(&[]).len(), CODES.len());
    }

    #[test]
    fn every_kind_has_a_documented_code() {
        for kind in Kind::ALL {
            assert!(CODES.iter().any(|(code, _)| *code == kind.exit_code()), "{kind:?}");
        }
    }
}
