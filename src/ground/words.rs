//! What people read: counts with their noun, and names from elsewhere that a terminal can bear.

use std::fmt::{Display, Write as _};

/// A number and what it counts: `1 file`, `2 files`.
pub fn counted<N: Copy + Display + PartialEq + From<u8>>(number: N, one: &str, many: &str) -> String {
    let noun = if number == N::from(1) { one } else { many };
    format!("{number} {noun}")
}

/// A name for a terminal: what is no text and what a terminal would obey is escaped, quotes are left as they are.
pub fn shown(name: &[u8]) -> String {
    let mut shown = String::with_capacity(name.len());
    for c in String::from_utf8_lossy(name).chars() {
        if matches!(c, '\'' | '"') {
            shown.push(c);
        } else {
            let _ = write!(shown, "{}", c.escape_debug());
        }
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
    }
}
