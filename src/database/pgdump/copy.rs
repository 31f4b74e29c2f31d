//! Rows in COPY's text format (<https://www.postgresql.org/docs/current/sql-copy.html>).

use std::io::BufRead;

use super::tables::MAX_COLUMNS;
use crate::appkey::credential::MAX_CIPHERTEXT;
use crate::ground::{Error, Result};

/// How much of one field is kept: more than the longest credential, even as `bytea` in hex.
const KEPT: usize = MAX_CIPHERTEXT * 2 + 16;
/// How much of a row is looked at.
const MAX_ROW: usize = 64 << 20;

/// The fields of one row; NULL is `None`. A field that is longer than can matter is cut.
#[derive(Default)]
pub(crate) struct Fields {
    bytes: Vec<u8>,
    places: Vec<Option<(usize, usize)>>,
}

impl Fields {
    /// Takes a line apart, without its newline.
    pub(crate) fn read(&mut self, line: &[u8]) -> Result<()> {
        self.bytes.clear();
        self.places.clear();
        for field in line.split(|b| *b == b'\t') {
            if self.places.len() > MAX_COLUMNS {
                return Err(Error::damaged(format!("a row has more than {MAX_COLUMNS} values")));
            }
            if field == b"\\N" {
                self.places.push(None);
                continue;
            }
            let start = self.bytes.len();
            let mut rest = field;
            while let Some((&first, after)) = rest.split_first() {
                rest = after;
                if self.bytes.len() - start >= KEPT {
                    break;
                }
                if first != b'\\' {
                    self.bytes.push(first);
                    continue;
                }
                let Some((&escaped, after)) = rest.split_first() else {
                    return Err(Error::damaged("a row ends in the middle of an escape"));
                };
                rest = after;
                match escaped {
                    b'b' => self.bytes.push(8),
                    b'f' => self.bytes.push(12),
                    b'n' => self.bytes.push(b'\n'),
                    b'r' => self.bytes.push(b'\r'),
                    b't' => self.bytes.push(b'\t'),
                    b'v' => self.bytes.push(11),
                    b'x' => rest = self.number(rest, 16, 2),
                    b'0'..=b'7' => {
                        let from = &field[field.len() - rest.len() - 1..];
                        rest = self.number(from, 8, 3);
                    }
                    other => self.bytes.push(other),
                }
            }
            self.places.push(Some((start, self.bytes.len())));
        }
        Ok(())
    }

    fn number<'a>(&mut self, from: &'a [u8], radix: u32, digits: usize) -> &'a [u8] {
        let length = from.iter().take(digits).take_while(|b| char::from(**b).is_digit(radix)).count();
        let value = std::str::from_utf8(&from[..length]).ok().and_then(|t| u32::from_str_radix(t, radix).ok());
        self.bytes.push(value.map_or(b'x', |v| u8::try_from(v & 0xff).unwrap_or(0)));
        &from[length..]
    }

    /// Puts values in place of a line.
    pub(super) fn set(&mut self, values: &[Option<Vec<u8>>]) {
        self.bytes.clear();
        self.places.clear();
        for value in values {
            self.places.push(value.as_ref().map(|value| {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(&value[..value.len().min(KEPT)]);
                (start, self.bytes.len())
            }));
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// One of them; `None` for NULL, and for one that is not there.
    pub(crate) fn get(&self, number: usize) -> Option<&[u8]> {
        self.places.get(number).copied().flatten().map(|(start, end)| &self.bytes[start..end])
    }
}

/// Bytes of a `bytea` as it is written in hex; `None` when they are not.
pub(crate) fn bytea(text: &[u8]) -> Option<Vec<u8>> {
    let hex = text.strip_prefix(b"\\x")?;
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    hex.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// What is done with a row.
pub(super) type Line<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// Reads rows up to the line `\.`, or to the end where a format has none; answers how many there were.
///
/// With `line` each row is handed over; without, rows are only counted.
pub(super) fn rows<R: BufRead>(input: &mut R, what: &str, mut line: Option<Line<'_>>, must_end: bool) -> Result<u64> {
    let (mut count, mut kept, mut begun) = (0, Vec::new(), false);
    loop {
        let buffer = match input.fill_buf() {
            Ok(buffer) => buffer,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(super::unreadable(what, e)),
        };
        if buffer.is_empty() {
            if begun || must_end {
                return Err(Error::damaged(format!("{what} is cut off: it ends in the middle of a table's rows")));
            }
            return Ok(count);
        }
        let newline = memchr::memchr(b'\n', buffer);
        let piece = &buffer[..newline.unwrap_or(buffer.len())];
        // Two bytes are enough to know the end from a row.
        let room = if line.is_some() { MAX_ROW } else { 3 };
        kept.extend_from_slice(&piece[..piece.len().min(room.saturating_sub(kept.len()))]);
        let used = piece.len() + usize::from(newline.is_some());
        input.consume(used);
        begun = newline.is_none();
        if begun {
            continue;
        }
        if kept == b"\\." {
            return Ok(count);
        }
        count += 1;
        if let Some(line) = &mut line {
            line(&kept)?;
        }
        kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_escape_is_its_byte() {
        let mut fields = Fields::default();
        fields.read(b"a\\tb\\nc\\\\\t\\N\t\t\\x41\\101\\.").expect("read");
        assert_eq!(fields.get(0), Some(&b"a\tb\nc\\"[..]));
        assert_eq!((fields.get(1), fields.get(2), fields.get(3)), (None, Some(&b""[..]), Some(&b"AA."[..])));
        assert_eq!(fields.len(), 4);
        assert!(fields.read(b"a\\").is_err());
        assert_eq!(bytea(b"\\x00fF"), Some(vec![0, 255]));
        assert_eq!((bytea(b"\\x0"), bytea(b"00")), (None, None));
    }

    #[test]
    fn rows_end_where_they_say() {
        let count = |text: &str, must: bool| rows(&mut text.as_bytes(), "a test", None, must).ok();
        assert_eq!(count("a\nb\n\\.\n", true), Some(2));
        assert_eq!(count("\n\n\\.\n", true), Some(2));
        assert_eq!(count("\\.\n", true), Some(0));
        assert_eq!((count("a\nb", true), count("a\n", true), count("a\n", false)), (None, None, Some(1)));
        assert_eq!(count("\\.x\n\\..\n\\.\n", true), Some(2));
    }
}
