//! What people read: counts with their noun, and names from elsewhere that a terminal can bear.

use std::fmt::{Display, Write as _};

/// A number and what it counts: `1 file`, `2 files`.
pub fn counted<N: Copy + Display + PartialEq + From<u8>>(number: N, one: &str, many: &str) -> String {
    let noun = if number == N::from(1) { one } else { many };
    format!("{number} {noun}")
}

/// A name for a terminal: what is no text and what a terminal would obey is escaped, quotes are left as they are.
pub fn shown(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let mut shown = String::with_capacity(name.len());
    // Between quotes as a whole: an accent that stands behind its letter is no reason to escape it.
    for piece in name.split_inclusive(['\'', '"']) {
        let quote = piece.chars().next_back().filter(|c| matches!(c, '\'' | '"'));
        let text = piece.strip_suffix(['\'', '"']).unwrap_or(piece);
        let _ = write!(shown, "{}", text.escape_debug());
        shown.extend(quote);
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
}
