//! The recovery card: what a person needs beside an identity to restore on an empty machine.
//!
//! The card holds no secret. It is what makes an archive believable where no configuration is left: its signers are trusted,
//! and its newest ledger entry shows when an archive has lost its end. So it must not be kept with the archive.

use std::fmt::Write as _;

use crate::ground::names::{AppName, SealingId, Sha256Hex, Uuid};
use crate::ground::{Error, Result};
use crate::signer::PublicKey;

/// How long a card's text may be.
const LIMIT: usize = 64 << 10;

/// What stands on a recovery card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Where the archive is, without secrets.
    pub archive_url: String,
    /// Which archive it is.
    pub archive: Uuid,
    /// The application.
    pub app: AppName,
    /// The sealing key that an identity must open.
    pub sealing: SealingId,
    /// The signers to trust, at least one.
    pub signers: Vec<PublicKey>,
    /// Sequence number and digest of the newest ledger entry when the card was made.
    pub newest: Option<(u64, Sha256Hex)>,
}

const VERSION: &str = "recovery-card";
const URL: &str = "archive-url";
const ARCHIVE: &str = "archive";
const APP: &str = "app";
const SEALING: &str = "sealing";
const SIGNER: &str = "signer";
const NEWEST: &str = "newest-entry";

/// Every key that a line can have.
const KEYS: [&str; 7] = [VERSION, URL, ARCHIVE, APP, SEALING, SIGNER, NEWEST];

impl Card {
    /// The card as text to print: sentences for a person, and one `key: value` line for each thing that matters.
    pub fn render(&self) -> String {
        let mut text = String::from(
            "strongroom recovery card\n\
             ========================\n\
             \n\
             Keep this card with the identity that opens the sealing key, on paper or on a\n\
             device that is not the machine being backed up, and not in the archive.\n\
             There is no secret on it. With it and the identity, on an empty machine:\n\
             \n\
             \x20   strongroom list --card recovery-card.txt\n\
             \x20   strongroom restore --card recovery-card.txt -i IDENTITY --target DIR\n\
             \n\
             Signatures of nobody else than the signers below are to be believed.\n\
             \n",
        );
        let mut line = |key: &str, value: &str| {
            // One line whatever it holds, so that no value can pass for another line.
            let value: String = value.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            let _ = writeln!(text, "{:<14} {value}", format!("{key}:"));
        };
        line(VERSION, "1");
        line(URL, &self.archive_url);
        line(ARCHIVE, self.archive.as_str());
        line(APP, self.app.as_str());
        line(SEALING, self.sealing.as_str());
        for signer in &self.signers {
            line(SIGNER, &signer.to_string());
        }
        if let Some((seq, digest)) = &self.newest {
            line(NEWEST, &format!("{seq} {digest}"));
        }
        text.push_str(
            "\n\
             The newest entry is the end of the archive's ledger on the day this card was made.\n\
             An archive that ends before it has lost something, or is not the right one.\n",
        );
        text
    }

    /// Reads a card; what stands around the `key: value` lines is left alone.
    ///
    /// A line counts when it begins, after white space and `>`, with one of the keys and a colon. Each key stands once, only
    /// `signer` may repeat. [`crate::ground::Kind::Usage`] names what is missing, doubled or not what it should be.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > LIMIT {
            return Err(Error::usage("this is too long for a recovery card"));
        }
        let fields = Fields(text.lines().filter_map(field).collect());
        let version = fields.one(VERSION)?;
        if version != "1" {
            return Err(Error::usage(format!("the recovery card has version {version:?}, and this program reads 1"))
                .hint("Use a newer strongroom."));
        }
        let mut signers: Vec<PublicKey> = Vec::new();
        for value in fields.all(SIGNER) {
            let signer = value.parse().map_err(|e: Error| wrong(SIGNER, e))?;
            if !signers.contains(&signer) {
                signers.push(signer);
            }
        }
        if signers.is_empty() {
            return Err(missing(SIGNER));
        }
        Ok(Self {
            archive_url: fields.one(URL)?.to_owned(),
            archive: fields.one(ARCHIVE)?.parse().map_err(|e| wrong(ARCHIVE, e))?,
            app: fields.one(APP)?.parse().map_err(|e| wrong(APP, e))?,
            sealing: fields.one(SEALING)?.parse().map_err(|e| wrong(SEALING, e))?,
            signers,
            newest: fields.at_most_one(NEWEST)?.map(newest).transpose()?,
        })
    }
}

/// The key and value of a line, if it has one of ours.
fn field(line: &str) -> Option<(&'static str, &str)> {
    let line = line.trim_start_matches(|c: char| c.is_whitespace() || c == '>' || c == '\u{feff}');
    let (name, value) = line.split_once(':')?;
    let key = KEYS.into_iter().find(|key| *key == name)?;
    Some((key, value.trim()))
}

fn newest(value: &str) -> Result<(u64, Sha256Hex)> {
    let form = || Error::usage("it is a sequence number and a SHA-256 digest");
    let (seq, digest) = value.split_once(char::is_whitespace).ok_or_else(|| wrong(NEWEST, form()))?;
    let plain = !seq.is_empty() && seq.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = seq.parse().map_err(|_| wrong(NEWEST, form()))?;
    if !plain || number == 0 || number > crate::ground::json::MAX_INTEGER {
        return Err(wrong(NEWEST, form()));
    }
    Ok((number, digest.trim().parse().map_err(|e| wrong(NEWEST, e))?))
}

struct Fields<'a>(Vec<(&'static str, &'a str)>);

impl<'a> Fields<'a> {
    fn all(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| *name == key).map(|(_, value)| *value)
    }

    fn at_most_one(&self, key: &str) -> Result<Option<&'a str>> {
        let mut values = self.all(key);
        let first = values.next();
        if values.next().is_some() {
            return Err(Error::usage(format!("the recovery card says {key} twice"))
                .hint("Take one card; of two, the newer has the higher newest-entry."));
        }
        Ok(first.filter(|value| !value.is_empty()))
    }

    fn one(&self, key: &str) -> Result<&'a str> {
        self.at_most_one(key)?.ok_or_else(|| missing(key))
    }
}

fn missing(key: &str) -> Error {
    Error::usage(format!("the recovery card has no line {key:?}"))
        .hint("It is one line, as `strongroom init` printed it.")
}

fn wrong(key: &str, error: Error) -> Error {
    Error::usage(format!("the recovery card's line {key:?} is not right"))
        .because(error)
        .hint("Compare it with the paper, letter by letter.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::Signer;

    fn card() -> Card {
        Card {
            archive_url: "file:/mnt/my backups".to_owned(),
            archive: Uuid::new().expect("random"),
            app: "package-broker".parse().expect("a name"),
            sealing: SealingId::from_bytes(&[7; 16]),
            signers: (0..2).map(|_| *Signer::generate().expect("a signer").public()).collect(),
            newest: Some((17, Sha256Hex::of(b"entry"))),
        }
    }

    #[test]
    fn a_card_reads_back() {
        let mut card = card();
        assert_eq!(Card::parse(&card.render()).expect("it reads back"), card);
        card.newest = None;
        assert_eq!(Card::parse(&card.render()).expect("it reads back"), card);
    }

    #[test]
    fn prose_and_quoting_around_the_lines_are_left_alone() {
        let card = card();
        let mailed: String = card.render().lines().flat_map(|l| ["> ", l, "\r\n"]).collect();
        let text = format!("\u{feff}Dear Bob,\nthe app: it broke\nsigned: Alice\n{mailed}-- \nAlice: bye\n");
        assert!(Card::parse(&text).is_ok_and(|read| read == card), "{text}");
    }

    #[test]
    fn every_line_is_needed_and_only_signers_repeat() {
        let text = card().render();
        for key in [VERSION, URL, ARCHIVE, APP, SEALING] {
            let ours = |line: &&str| line.starts_with(&format!("{key}:"));
            let without: String = text.lines().filter(|l| !ours(l)).flat_map(|l| [l, "\n"]).collect();
            let error = Card::parse(&without).expect_err("missing");
            assert!(error.to_string().contains(key), "{error}");
            let line = text.lines().find(ours).expect("the line");
            assert!(Card::parse(&format!("{text}{line}\n")).expect_err("doubled").to_string().contains("twice"));
        }
        let unsigned: String = text.lines().filter(|l| !l.starts_with(SIGNER)).flat_map(|l| [l, "\n"]).collect();
        assert!(Card::parse(&unsigned).is_err());
    }

    #[test]
    fn a_mistyped_line_is_named() {
        let card = card();
        let text = card.render();
        let digest = card.newest.as_ref().map(|(_, digest)| digest.to_string()).expect("a digest");
        for (from, to, key) in [
            (card.archive.to_string(), "not-a-uuid".to_owned(), ARCHIVE),
            (card.sealing.to_string(), "07O7".to_owned(), SEALING),
            (card.signers[0].to_string(), "RWQnonsense".to_owned(), SIGNER),
            (digest, "00".to_owned(), NEWEST),
            ("17 ".to_owned(), "+17 ".to_owned(), NEWEST),
        ] {
            let error = Card::parse(&text.replace(&from, &to)).expect_err("refused");
            assert!(error.to_string().contains(&format!("{key:?}")), "{error}");
        }
    }

    #[test]
    fn a_value_cannot_pass_for_another_line() {
        let mut card = card();
        let mallory = *Signer::generate().expect("a signer").public();
        card.archive_url = format!("file:/x\nsigner: {mallory}");
        let read = Card::parse(&card.render()).expect("a card");
        assert!(!read.signers.contains(&mallory));
    }
}
