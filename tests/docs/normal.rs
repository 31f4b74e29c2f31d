//! When two outputs are the same, though ids, times and sizes differ from run to run.
//!
//! | what | when two are the same |
//! |---|---|
//! | ids and keys: bundle ids, UUIDs, 64, 32 or 12 hex digits, `RW…`, `age1…`, ULIDs | each id of the document stands for one id of the run, everywhere |
//! | times (`2026-11-23T02:00:00Z`, `20261123T020000Z`), sizes (`1.4 GiB`) | always |
//! | spaces between words | always; spaces that begin a line count |
//! | everything else | letter by letter |
//!
//! A line `…` in the document stands for any number of lines.

use std::collections::HashMap;

/// Which id of the run each id of the document stands for.
#[derive(Clone, Default)]
pub(crate) struct Bound {
    actual: HashMap<String, String>,
    document: HashMap<String, String>,
}

impl Bound {
    fn bind(&mut self, document: &str, actual: &str) -> bool {
        match (self.actual.get(document), self.document.get(actual)) {
            (None, None) => {
                self.actual.insert(document.to_owned(), actual.to_owned());
                self.document.insert(actual.to_owned(), document.to_owned());
                true
            }
            (Some(a), Some(d)) => a == actual && d == document,
            _ => false,
        }
    }

    /// A command of the document with the ids of this run.
    pub(crate) fn to_actual(&self, command: &str) -> String {
        translate(command, &self.actual)
    }

    /// A line of this run with the ids of the document.
    pub(crate) fn to_document(&self, line: &str) -> String {
        translate(line, &self.document)
    }
}

fn translate(text: &str, names: &HashMap<String, String>) -> String {
    tokens(text).into_iter().map(|t| names.get(t.text).map_or(t.text, String::as_str)).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Id,
    Time,
    Size,
}

struct Token<'a> {
    kind: Kind,
    text: &'a str,
}

/// Whether the document's lines show what was printed; ids that are seen for the first time are remembered.
pub(crate) fn same(expected: &[String], printed: &[String], bound: &mut Bound) -> bool {
    let mut trial = bound.clone();
    let same = matches(expected, printed, &mut trial);
    if same {
        *bound = trial;
    }
    same
}

fn matches(expected: &[String], printed: &[String], bound: &mut Bound) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first.trim() == "…" => (0..=printed.len()).any(|skipped| {
            let mut trial = bound.clone();
            let fits = matches(rest, &printed[skipped..], &mut trial);
            if fits {
                *bound = trial;
            }
            fits
        }),
        Some((first, rest)) => {
            printed.first().is_some_and(|line| same_line(first, line, bound)) && matches(rest, &printed[1..], bound)
        }
    }
}

fn same_line(expected: &str, printed: &str, bound: &mut Bound) -> bool {
    let (expected, printed) = (squeezed(expected), squeezed(printed));
    let (expected, printed) = (tokens(&expected), tokens(&printed));
    expected.len() == printed.len()
        && expected.iter().zip(&printed).all(|(e, p)| {
            e.kind == p.kind
                && match e.kind {
                    Kind::Text => e.text == p.text,
                    Kind::Id => bound.bind(e.text, p.text),
                    Kind::Time | Kind::Size => true,
                }
        })
}

/// Runs of spaces within a line as one; those at its end are gone.
fn squeezed(line: &str) -> String {
    let body = line.trim_start();
    let indent = &line[..line.len() - body.len()];
    format!("{indent}{}", body.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let (mut plain, mut at) = (0, 0);
    while at < text.len() {
        let inside = text[..at].chars().next_back().is_some_and(char::is_alphanumeric);
        let special = if inside { None } else { special(&text[at..]) };
        if let Some((kind, length)) = special {
            if plain < at {
                found.push(Token { kind: Kind::Text, text: &text[plain..at] });
            }
            found.push(Token { kind, text: &text[at..at + length] });
            at += length;
            plain = at;
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    if plain < text.len() {
        found.push(Token { kind: Kind::Text, text: &text[plain..] });
    }
    found
}

/// An id, a time or a size that begins here, and how long it is.
fn special(text: &str) -> Option<(Kind, usize)> {
    let shapes: [(Kind, &str); 10] = [
        (Kind::Id, "dddddddd'T'dddddd'Z'-hhhhhhhh"),
        (Kind::Time, "dddddddd'T'dddddd'Z'"),
        (Kind::Time, "dddd-dd-dd'T'dd:dd:dd'Z'"),
        (Kind::Id, "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh"),
        (Kind::Id, "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"),
        (Kind::Id, "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"),
        (Kind::Id, "hhhhhhhhhhhh"),
        (Kind::Id, "uu/uuuuuuuuuuuuuuuuuuuuuuuuuu"),
        (Kind::Id, "uuuuuuuuuuuuuuuuuuuuuuuuuu"),
        (Kind::Id, "'R''W'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"),
    ];
    let ends = |length: usize| !text[length..].starts_with(|c: char| c.is_ascii_alphanumeric());
    if let Some((kind, length)) =
        shapes.iter().find_map(|(kind, shape)| Some((*kind, fits(shape, text)?)).filter(|(_, n)| ends(*n)))
    {
        return Some((kind, length));
    }
    let word = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    if text.starts_with("age1") && word == 62 {
        return Some((Kind::Id, word));
    }
    let number = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = ["B", "KiB", "MiB", "GiB"].iter().find(|u| {
        text[number..]
            .strip_prefix(' ')
            .and_then(|rest| rest.strip_prefix(**u))
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    })?;
    (number > 0 && text.starts_with(|c: char| c.is_ascii_digit())).then_some((Kind::Size, number + 1 + unit.len()))
}

/// `d` a digit, `h` a hex digit, `u` one of a ULID, `b` one of base64, `'x'` x itself, anything else itself; the length if it fits.
fn fits(shape: &str, text: &str) -> Option<usize> {
    let (mut shape, mut bytes, mut length) = (shape.bytes(), text.bytes(), 0);
    while let Some(want) = shape.next() {
        let byte = bytes.next()?;
        length += 1;
        let fits = match want {
            b'd' => byte.is_ascii_digit(),
            b'h' => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            b'u' => byte.is_ascii_digit() || byte.is_ascii_uppercase(),
            b'b' => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='),
            b'\'' => {
                let literal = shape.next()?;
                shape.next()?;
                byte == literal
            }
            other => byte == other,
        };
        if !fits {
            return None;
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(document: &str, printed: &str, bound: &mut Bound) -> bool {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        same(&lines(document), &lines(printed), bound)
    }

    #[test]
    fn an_id_of_the_document_stands_for_one_id_of_the_run() {
        let mut bound = Bound::default();
        let (a, b) = ("20261123T020000Z-1a2b3c4d", "20270101T000000Z-00000000");
        assert!(says(&format!("bundle {a}: stored"), &format!("bundle {b}: stored"), &mut bound));
        assert_eq!(bound.to_actual(&format!("verify {a}")), format!("verify {b}"));
        assert_eq!(bound.to_document(&format!("the {b}")), format!("the {a}"));
        assert!(!says(a, "20270101T000000Z-00000001", &mut bound));
        assert!(!says("20261123T020000Z-ffffffff", b, &mut bound));
    }

    #[test]
    fn times_and_sizes_differ_and_words_do_not() {
        let mut bound = Bound::default();
        assert!(says("6 files, 192.1 KiB;  10 B stored", "6 files, 3 GiB; 0 B stored", &mut bound));
        assert!(says("made 2026-11-23T02:00:00Z", "made 2030-01-01T00:00:00Z", &mut bound));
        for wrong in ["7 files, 1 KiB; 1 B stored", "6 files, 1 KiB; 1 B kept", "  6 files, 1 KiB; 1 B stored"] {
            assert!(!says("6 files, 192.1 KiB; 10 B stored", wrong, &mut bound), "{wrong}");
        }
        assert!(!says("made 2026-11-23T02:00:00Z", "made yesterday", &mut bound));
    }

    #[test]
    fn only_a_line_of_dots_elides() {
        let mut bound = Bound::default();
        assert!(says("a\n…\nz", "a\nb\nc\nz", &mut bound));
        assert!(says("a\n…\nz", "a\nz", &mut bound));
        assert!(!says("a\n…\nz", "a\nb", &mut bound));
        assert!(!says("a", "a\nb", &mut bound));
        assert!(!says("a\nb", "a", &mut bound));
    }
}
