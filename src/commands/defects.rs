//! What a backup found wrong with what it stored: words in the bundle, told again to whoever verifies or restores it.

use super::Problem;
use super::restore::unended::PENDING;
use crate::bundle::Header;
use crate::ground::names::Label;

/// What of a bundle a defect lies in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Database,
    Storage,
    Any,
}

/// The code of a backup's problem, what it lies in, what it means for the bundle, and what to do.
type Defect = (&'static str, Part, &'static str, &'static str);

const OLDER: &str = "An older or a newer bundle may have them: `strongroom list`.";
const NO_PROFILE: &str = "Add them to the profile if the application encrypts them, and make another backup.";

/// The problems of a backup that stay with its bundle; all others are of the host or of that night.
const DEFECTS: [Defect; 10] = [
    ("changed-while-read", Part::Storage, "a file changed while it was read, and may be stored torn", OLDER),
    (
        "database-damaged",
        Part::Database,
        "the database's own check found faults in it",
        "`strongroom show -i FILE` names them; look whether an older bundle is without.",
    ),
    ("left-out", Part::Storage, "files of the storage were left out", OLDER),
    ("missing-lost", Part::Storage, "the storage lacked files that the database names", OLDER),
    ("missing-unreadable", Part::Storage, "files that the database names could not be read", OLDER),
    (
        PENDING,
        Part::Any,
        "a restore had not ended, so database and storage may not go together",
        "Take a bundle from before that restore, or one from after it was made good.",
    ),
    (
        "storage-empty",
        Part::Storage,
        "the storage had no file, where an earlier bundle has some: it may not have been mounted",
        "Take the files from a bundle before: `strongroom list` names it, `strongroom restore BUNDLE --only storage` restores them.",
    ),
    (
        "storage-shrunk",
        Part::Storage,
        "the storage had lost more files than it still had: a part of it may not have been mounted",
        "Look for them in a bundle before: `strongroom list` names it, `strongroom restore BUNDLE --only storage` restores them.",
    ),
    (
        "storage-unreachable",
        Part::Any,
        "the storage could not be reached, so its files are those of an older bundle, or none",
        "Take a bundle from before, or one from after it was there again: `strongroom list`.",
    ),
    ("unknown-ciphertext", Part::Database, "columns that look encrypted were not proved", NO_PROFILE),
];

/// The words of a backup's problems that stay with its bundle, each once.
pub(super) fn of(problems: &[Problem]) -> Vec<Label> {
    let found = |(code, ..): &&Defect| problems.iter().any(|problem| problem.code == *code);
    DEFECTS.iter().filter(found).filter_map(|(code, ..)| code.parse().ok()).collect()
}

/// Whether it was made while a restore had not ended.
pub(super) fn in_doubt(header: &Header) -> bool {
    header.problems.iter().any(|code| code.as_str() == PENDING)
}

/// The words in a line; a hyphen for none.
pub(super) fn words(problems: &[Label]) -> String {
    match problems {
        [] => "-".to_owned(),
        problems => problems.iter().map(Label::as_str).collect::<Vec<_>>().join(", "),
    }
}

/// What a backup said of what is used of its bundle; the codes are its words with `bundle-` before them, so that none means what
/// stands now.
pub(super) fn told(header: &Header, database: bool, storage: bool) -> Vec<Problem> {
    let mut told = Vec::new();
    for code in &header.problems {
        let known = DEFECTS.iter().find(|(known, ..)| *known == code.as_str());
        let (part, sentence, hint) = known.map_or_else(
            // Another version's word.
            || (Part::Any, format!("its backup said {code}"), "A newer strongroom knows what that is."),
            |(_, part, sentence, hint)| (*part, format!("when it was made, {sentence}"), *hint),
        );
        let used = match part {
            Part::Database => database,
            Part::Storage => storage,
            Part::Any => true,
        };
        if used {
            told.push(Problem::new(&format!("bundle-{code}"), format!("bundle {}: {sentence}", header.id), hint));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_in_the_bundle_stays_with_it_and_each_word_once() {
        let problem = |code: &str| Problem::new(code, "x", "y");
        let problems = ["left-out", "key-short", "restore-pending", "left-out", "left-out-more", "ledger-cut"];
        let words = of(&problems.map(problem));
        assert_eq!(words.iter().map(Label::as_str).collect::<Vec<_>>(), ["left-out", "restore-pending"]);
        assert_eq!(of(&DEFECTS.map(|(code, ..)| problem(code))).len(), DEFECTS.len(), "each is a word");
        assert!(DEFECTS.iter().all(|(code, ..)| !problem(code).is_advice()));
    }
}
