//! What people read: counts with their noun, and names from elsewhere that a terminal can bear.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

/// A number and what it counts: `1 file`, `2 files`.
pub fn counted<N: Copy + Display + PartialEq + From<u8>>(number: N, one: &str, many: &str) -> String {
    let noun = if number == N::from(1) { one } else { many };
    format!("{number} {noun}")
}

/// A name for a terminal: what is no text and what a terminal would obey is escaped, quotes are left as they are.
pub fn shown(name: &[u8]) -> String {
    escaped(&String::from_utf8_lossy(name), &['\'', '"'])
}

/// A text for a terminal, of which names may be a part: its lines and tabs stay, and what is escaped already.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\n' | b'\t')) {
        return text.into();
    }
    escaped(text, &['\'', '"', '\n', '\t', '\\']).into()
}

fn escaped(text: &str, kept: &[char]) -> String {
    let mut shown = String::with_capacity(text.len());
    // Between what is kept as a whole: an accent that stands behind its letter is no reason to escape it.
    for piece in text.split_inclusive(kept) {
        let end = piece.chars().next_back().filter(|c| kept.contains(c));
        let text = piece.strip_suffix(kept).unwrap_or(piece);
        let _ = write!(shown, "{}", text.escape_debug());
        shown.extend(end);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many_and_none_is() {
        let files = |n: u64| counted(n, "file", "files");
        assert_eq!([files(0), files(1), files(2)], ["0 files", "1 file", "2 files"]);
        assert_eq!(counted(1_usize, "entry", "entries"), "1 entry");
    }

    #[test]
    fn a_name_is_shown_as_it_is_unless_a_terminal_would_obey_it() {
        assert_eq!(shown("o'brien \"x\" ä".as_bytes()), "o'brien \"x\" ä");
        assert_eq!(shown(b"a\x1b[2J\n\\"), "a\\u{1b}[2J\\n\\\\");
        assert_eq!(shown(b"a\xff"), "a\u{fffd}");
        assert_eq!(shown("Gru\u{308}\u{df}e's".as_bytes()), "Gru\u{308}\u{df}e's");
        assert_eq!(shown("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }

    #[test]
    fn a_message_keeps_its_lines_and_nothing_that_commands() {
        for fine in ["o'brien \"x\"\n\ttwo …", "Gru\u{308}\u{df}e\\n", ""] {
            assert_eq!(harmless(fine), fine);
        }
        assert_eq!(harmless("a\x1b[2Jb\r\n"), "a\\u{1b}[2Jb\\r\n");
        assert_eq!(harmless("a\u{9b}b\u{202e}c"), "a\\u{9b}b\\u{202e}c");
        assert_eq!(harmless(&shown(b"a\x1b\\")), shown(b"a\x1b\\"));
    }
}
