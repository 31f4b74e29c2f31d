//! The signature file: four lines, taken exactly or not at all.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Longer signature files are refused unread; ours have about 400 bytes.
const LIMIT: usize = 4096;

const UNTRUSTED: &str = "untrusted comment: ";
const TRUSTED: &str = "trusted comment: ";

/// A signature file, parsed; nothing in it is verified yet.
pub(super) struct Minisig<'a> {
    /// The id of the key that it says made it.
    pub(super) key_id: [u8; 8],
    /// The signature of the message's BLAKE2b-512 digest.
    pub(super) signature: [u8; 64],
    /// The trusted comment.
    pub(super) comment: &'a str,
    /// The signature of the first signature's bytes and the comment's.
    pub(super) global: [u8; 64],
}

impl<'a> Minisig<'a> {
    /// Parses the file: four lines, each ended by LF, canonical base64, prehashed algorithm; the error says what is wrong.
    ///
    /// Stricter than the `minisign` program, which skips white space and takes what follows the fourth line: here one
    /// signature has one form.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, &'static str> {
        if bytes.len() > LIMIT {
            return Err("the signature file is longer than 4096 bytes");
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "the signature file is not text")?;
        if text.bytes().any(|b| b.is_ascii_control() && b != b'\n') {
            return Err("the signature file holds control characters");
        }
        let mut lines = text.strip_suffix('\n').ok_or("the signature file does not end its last line")?.split('\n');
        let (Some(first), Some(second), Some(third), Some(fourth), None) =
            (lines.next(), lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err("the signature file does not have four lines");
        };
        if !first.starts_with(UNTRUSTED) {
            return Err("the first line of the signature file is no untrusted comment");
        }
        let comment = third.strip_prefix(TRUSTED).ok_or("the signature file has no trusted comment")?;
        let algorithm_id_signature: [u8; 74] =
            decode(second).ok_or("the second line of the signature file is no signature")?;
        let global: [u8; 64] = decode(fourth).ok_or("the fourth line of the signature file is no signature")?;
        match &algorithm_id_signature[..2] {
            b"ED" => {}
            b"Ed" => return Err("the signature is of the legacy kind that is not prehashed"),
            _ => return Err("the signature's algorithm is unknown"),
        }
        let (mut key_id, mut signature) = ([0; 8], [0; 64]);
        key_id.copy_from_slice(&algorithm_id_signature[2..10]);
        signature.copy_from_slice(&algorithm_id_signature[10..]);
        Ok(Self { key_id, signature, comment, global })
    }
}

/// Canonical base64 of exactly `N` bytes.
fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> String {
        let signature = STANDARD.encode([b"ED".as_slice(), &[7; 72]].concat());
        let global = STANDARD.encode([9; 64]);
        format!("untrusted comment: any\n{signature}\ntrusted comment: said\n{global}\n")
    }

    #[test]
    fn the_exact_form_is_taken() {
        let text = sample();
        let parsed = Minisig::parse(text.as_bytes()).expect("it parses");
        assert_eq!((parsed.comment, parsed.key_id), ("said", [7; 8]));
    }

    #[test]
    fn every_other_form_is_refused() {
        let good = sample();
        let legacy = good.replacen("RUQ", "RWQ", 1);
        assert_ne!(legacy, good);
        for (what, bad) in [
            ("CRLF", good.replace('\n', "\r\n")),
            ("no last LF", good.trim_end().to_owned()),
            ("a fifth line", format!("{good}\n")),
            ("three lines", good.lines().take(3).fold(String::new(), |t, l| t + l + "\n")),
            ("white space before base64", good.replacen("\nRUQ", "\n RUQ", 1)),
            ("padding cut off", good.replace("=\n", "\n")),
            ("another first line", good.replacen("untrusted", "Untrusted", 1)),
            ("another third line", good.replacen("\ntrusted", "\nTrusted", 1)),
            ("legacy", legacy),
            ("unknown algorithm", good.replacen("RUQ", "RUU", 1)),
            ("too long", good.replacen("any", &"a".repeat(LIMIT), 1)),
            ("empty", String::new()),
        ] {
            assert!(Minisig::parse(bad.as_bytes()).is_err(), "{what}");
        }
        assert!(Minisig::parse(&[good.as_bytes(), &[0xff]].concat()).is_err());
        for length in 0..good.len() {
            assert!(Minisig::parse(&good.as_bytes()[..length]).is_err(), "cut to {length}");
        }
    }
}
