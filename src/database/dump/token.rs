//! SQL text cut into tokens, with bounded memory whatever the text is (<https://www.sqlite.org/lang.html>).

use std::io::BufRead;

use crate::appkey::credential::MAX_CIPHERTEXT;
use crate::ground::{Error, Kind, Result};

/// The longest literal that is kept whole: every byte of a value may be written as six (`\u0041`).
pub(super) const MAX_LITERAL: usize = MAX_CIPHERTEXT * 6 + 1024;
/// The longest word or identifier.
const MAX_WORD: usize = 1024;

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A keyword, a function or a bare identifier.
    Word(String),
    /// An identifier in `"…"`, `` `…` `` or `[…]`.
    Quoted(String),
    /// A number as it is written.
    Number(String),
    /// A text literal, cut after [`MAX_LITERAL`] bytes, or empty when nobody wanted it.
    Text(Literal),
    /// A blob literal, decoded.
    Blob(Literal),
    /// Anything else, one byte at a time.
    Sign(u8),
}

/// A literal's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Literal {
    pub(super) bytes: Vec<u8>,
    /// It is longer than what was kept.
    pub(super) cut: bool,
}

impl Token {
    /// Whether it is this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// Cuts a stream into tokens.
pub(super) struct Tokens<R> {
    input: R,
    line: u64,
    what: String,
}

impl<R: BufRead> Tokens<R> {
    pub(super) fn new(input: R, what: &str) -> Self {
        Self { input, line: 1, what: what.to_owned() }
    }

    /// An error that says where.
    pub(super) fn damaged(&self, why: &str) -> Error {
        Error::damaged(format!("{}, line {}: {why}", self.what, self.line)).hint(
            "Look at that line: the file is damaged, was edited, or is no dump of SQLite or D1. Take another copy.",
        )
    }

    /// The error for an end that is none.
    pub(super) fn truncated(&self) -> Error {
        Error::damaged(format!("{} is cut off: it ends in the middle of a statement, at line {}", self.what, self.line))
            .hint("The program that wrote it was stopped, or the disk was full. Take another copy.")
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        loop {
            return match self.input.fill_buf() {
                Ok(buffer) => Ok(buffer.first().copied()),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => Err(unreadable(&self.what, e)),
            };
        }
    }

    fn bump(&mut self, byte: u8) {
        self.line += u64::from(byte == b'\n');
        self.input.consume(1);
    }

    fn next_byte(&mut self) -> Result<Option<u8>> {
        let byte = self.peek()?;
        if let Some(byte) = byte {
            self.bump(byte);
        }
        Ok(byte)
    }

    /// Skips to the end of the line.
    pub(super) fn skip_line(&mut self) -> Result<()> {
        while let Some(byte) = self.next_byte()? {
            if byte == b'\n' {
                break;
            }
        }
        Ok(())
    }

    /// The next token, `None` at the end; the bytes of literals are kept only with `keep`.
    pub(super) fn next(&mut self, keep: bool) -> Result<Option<Token>> {
        loop {
            let Some(byte) = self.next_byte()? else { return Ok(None) };
            let token = match byte {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0c => continue,
                // A byte order mark at the very beginning, as some editors leave it.
                0xef if self.line == 1 && self.peek()? == Some(0xbb) => {
                    self.bump(0xbb);
                    self.next_byte()?;
                    continue;
                }
                b'-' if self.peek()? == Some(b'-') => {
                    self.skip_line()?;
                    continue;
                }
                b'/' if self.peek()? == Some(b'*') => {
                    self.bump(b'*');
                    self.skip_comment()?;
                    continue;
                }
                b'\'' => Token::Text(self.literal(b'\'', if keep { MAX_LITERAL } else { 0 })?),
                b'"' | b'`' => Token::Quoted(self.identifier(byte)?),
                b'[' => Token::Quoted(self.bracketed()?),
                b'x' | b'X' if self.peek()? == Some(b'\'') => {
                    self.bump(b'\'');
                    Token::Blob(self.blob(keep)?)
                }
                b'0'..=b'9' => Token::Number(self.word(byte, true)?),
                b'.' if self.peek()?.is_some_and(|b| b.is_ascii_digit()) => Token::Number(self.word(byte, true)?),
                b if b.is_ascii_alphabetic() || b == b'_' || b >= 0x80 => Token::Word(self.word(byte, false)?),
                b => Token::Sign(b),
            };
            return Ok(Some(token));
        }
    }

    fn skip_comment(&mut self) -> Result<()> {
        let mut last = 0;
        loop {
            let byte = self.next_byte()?.ok_or_else(|| self.truncated())?;
            if last == b'*' && byte == b'/' {
                return Ok(());
            }
            last = byte;
        }
    }

    fn word(&mut self, first: u8, number: bool) -> Result<String> {
        let mut bytes = vec![first];
        while let Some(byte) = self.peek()? {
            let exponent = number && matches!(byte, b'+' | b'-') && matches!(bytes.last(), Some(b'e' | b'E'));
            let hex = bytes.get(1).is_some_and(|b| matches!(b, b'x' | b'X'));
            let part = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80;
            if !(part || (number && byte == b'.') || (exponent && !hex)) {
                break;
            }
            if bytes.len() >= MAX_WORD {
                return Err(self.damaged("a word of more than 1024 bytes"));
            }
            bytes.push(byte);
            self.bump(byte);
        }
        String::from_utf8(bytes).map_err(|_| self.damaged("a word that is not UTF-8"))
    }

    /// The rest of something in quotes, where a doubled quote stands for one; at most `limit` bytes are kept.
    fn literal(&mut self, quote: u8, limit: usize) -> Result<Literal> {
        let mut literal = Literal::default();
        loop {
            let buffer = match self.input.fill_buf() {
                Ok([]) => return Err(self.truncated()),
                Ok(buffer) => buffer,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(unreadable(&self.what, e)),
            };
            let end = buffer.iter().position(|b| *b == quote);
            let plain = &buffer[..end.unwrap_or(buffer.len())];
            let room = (limit - literal.bytes.len()).min(plain.len());
            literal.bytes.extend_from_slice(&plain[..room]);
            literal.cut |= room < plain.len();
            self.line += plain.iter().map(|b| u64::from(*b == b'\n')).sum::<u64>();
            let used = plain.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_none() {
                continue;
            }
            if self.peek()? != Some(quote) {
                return Ok(literal);
            }
            self.bump(quote);
            if literal.bytes.len() < limit && !literal.cut { literal.bytes.push(quote) } else { literal.cut = true }
        }
    }

    fn identifier(&mut self, quote: u8) -> Result<String> {
        let literal = self.literal(quote, MAX_WORD)?;
        self.name(literal)
    }

    fn bracketed(&mut self) -> Result<String> {
        let mut literal = Literal::default();
        loop {
            match self.next_byte()?.ok_or_else(|| self.truncated())? {
                b']' => return self.name(literal),
                byte if literal.bytes.len() < MAX_WORD => literal.bytes.push(byte),
                _ => literal.cut = true,
            }
        }
    }

    fn name(&self, literal: Literal) -> Result<String> {
        if literal.cut {
            return Err(self.damaged("an identifier of more than 1024 bytes"));
        }
        String::from_utf8(literal.bytes).map_err(|_| self.damaged("an identifier that is not UTF-8"))
    }

    fn blob(&mut self, keep: bool) -> Result<Literal> {
        let limit = if keep { MAX_CIPHERTEXT + 1 } else { 0 };
        let (mut literal, mut half) = (Literal::default(), None);
        loop {
            let byte = self.next_byte()?.ok_or_else(|| self.truncated())?;
            let digit = match byte {
                b'\'' if half.is_none() => return Ok(literal),
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                b'A'..=b'F' => byte - b'A' + 10,
                _ => return Err(self.damaged("a blob that is not hexadecimal")),
            };
            match half.take() {
                None => half = Some(digit),
                Some(high) if literal.bytes.len() < limit => literal.bytes.push(high << 4 | digit),
                Some(_) => literal.cut = true,
            }
        }
    }
}

/// The error for a stream that does not read on; one that ends too early is cut off.
pub(super) fn unreadable(what: &str, error: std::io::Error) -> Error {
    let short = error.kind() == std::io::ErrorKind::UnexpectedEof;
    // flate2 and zstd say what is wrong with their own streams in these kinds.
    let damaged = short || matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput);
    let message = if short { format!("{what} is cut off") } else { format!("cannot read {what}") };
    let error = Error::from_io(if damaged { Kind::Damaged } else { Kind::Failed }, message, error);
    if damaged && error.hints().is_empty() {
        return error
            .hint("The file is damaged or not all there: compare its size with the original, and take another copy.");
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        let mut tokens = Tokens::new(text.as_bytes(), "a test");
        std::iter::from_fn(|| tokens.next(true).expect("it reads")).collect()
    }

    fn text(bytes: &str) -> Token {
        Token::Text(Literal { bytes: bytes.as_bytes().to_vec(), cut: false })
    }

    #[test]
    fn quotes_comments_and_blobs_are_read_as_sqlite_reads_them() {
        let got = tokens("a -- x ' \n/* ; ' */ 'it''s' \"q\"\"q\" `b` [c d] X'00fF' 1e-5 -.5 x");
        let word = |w: &str| Token::Word(w.to_owned());
        let quoted = |w: &str| Token::Quoted(w.to_owned());
        assert_eq!(
            got,
            vec![
                word("a"),
                text("it's"),
                quoted("q\"q"),
                quoted("b"),
                quoted("c d"),
                Token::Blob(Literal { bytes: vec![0, 255], cut: false }),
                Token::Number("1e-5".to_owned()),
                Token::Sign(b'-'),
                Token::Number(".5".to_owned()),
                word("x"),
            ]
        );
    }

    #[test]
    fn a_literal_split_over_buffers_is_one() {
        let value = "ab''cd;--".repeat(50);
        let sql = format!("'{value}'");
        let small = std::io::BufReader::with_capacity(3, sql.as_bytes());
        let token = Tokens::new(small, "a test").next(true).expect("it reads");
        assert_eq!(token, Some(text(&value.replace("''", "'"))));
    }

    #[test]
    fn memory_is_bounded_by_the_limit_and_not_by_the_literal() {
        let long = format!("'{}'", "a".repeat(MAX_LITERAL + 5));
        match Tokens::new(long.as_bytes(), "a test").next(true).expect("it reads") {
            Some(Token::Text(literal)) => assert!(literal.cut && literal.bytes.len() == MAX_LITERAL),
            other => panic!("{other:?}"),
        }
        let word = "a".repeat(5000);
        assert!(Tokens::new(word.as_bytes(), "a test").next(true).is_err());
    }

    #[test]
    fn an_end_inside_a_token_is_damage() {
        for cut in ["'abc", "\"abc", "[abc", "X'00", "/* abc", "'a''"] {
            let error = Tokens::new(cut.as_bytes(), "a test").next(true).expect_err(cut);
            assert_eq!(error.kind(), Kind::Damaged, "{cut}");
        }
        assert!(Tokens::new(&b"X'0'"[..], "a test").next(true).is_err());
    }
}
