//! One value of an INSERT, in every form that `.dump` and `d1 export` write.

use std::io::BufRead;

use super::token::{Literal, MAX_LITERAL, Token, Tokens};
use crate::appkey::credential::MAX_CIPHERTEXT;
use crate::ground::Result;

/// How deep function calls and parentheses may stand in each other.
const MAX_DEPTH: u32 = 16;

/// A value; text and blobs are cut after one byte more than a credential may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// NULL.
    Null,
    /// A number as it is written.
    Number(String),
    /// Text.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
    /// Not kept, because nobody wanted it.
    Unread,
}

impl Value {
    /// How many bytes of it are kept.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Null | Self::Unread => 0,
            Self::Number(text) => text.len(),
            Self::Text(bytes) | Self::Blob(bytes) => bytes.len(),
        }
    }
}

/// Reads one value and the `,` or `)` behind it.
pub(super) fn read<R: BufRead>(tokens: &mut Tokens<R>, keep: bool) -> Result<(Value, u8)> {
    if !keep {
        return skip(tokens).map(|end| (Value::Unread, end));
    }
    let (value, end) = expression(tokens, 0)?;
    let value = match value {
        Part::Null => Value::Null,
        Part::Number(n) => Value::Number(n),
        Part::Text(literal) => Value::Text(whole(literal)),
        Part::Blob(literal) => Value::Blob(whole(literal)),
    };
    Ok((value, end))
}

/// A literal as it is handed on: whatever was cut must be seen to be too long.
fn whole(literal: Literal) -> Vec<u8> {
    let mut bytes = literal.bytes;
    let cut = literal.cut;
    bytes.resize(if cut { MAX_CIPHERTEXT + 1 } else { bytes.len().min(MAX_CIPHERTEXT + 1) }, 0);
    bytes
}

fn skip<R: BufRead>(tokens: &mut Tokens<R>) -> Result<u8> {
    let mut depth = 0_u32;
    loop {
        match next(tokens, false)? {
            Token::Sign(end @ (b',' | b')')) if depth == 0 => return Ok(end),
            Token::Sign(b')') => depth -= 1,
            Token::Sign(b'(') => depth += 1,
            Token::Sign(b';') => return Err(tokens.damaged("a row without its closing parenthesis")),
            _ => {}
        }
    }
}

enum Part {
    Null,
    Number(String),
    Text(Literal),
    Blob(Literal),
}

fn next<R: BufRead>(tokens: &mut Tokens<R>, keep: bool) -> Result<Token> {
    tokens.next(keep)?.ok_or_else(|| tokens.truncated())
}

/// `part [|| part]…`, up to the `,` or `)` behind it, which is answered too.
fn expression<R: BufRead>(tokens: &mut Tokens<R>, depth: u32) -> Result<(Part, u8)> {
    if depth > MAX_DEPTH {
        return Err(tokens.damaged("a value of too many parts"));
    }
    let first = next(tokens, true)?;
    let mut value = part(tokens, first, depth)?;
    loop {
        match next(tokens, false)? {
            Token::Sign(end @ (b',' | b')')) => return Ok((value, end)),
            Token::Sign(b'|') if next(tokens, false)? == Token::Sign(b'|') => {
                let token = next(tokens, true)?;
                let more = part(tokens, token, depth)?;
                let (mut left, right) = (text_of(tokens, value)?, text_of(tokens, more)?);
                left.cut |= right.cut;
                append(&mut left, &right.bytes);
                value = Part::Text(left);
            }
            _ => return Err(not_plain(tokens)),
        }
    }
}

fn append(literal: &mut Literal, bytes: &[u8]) {
    let room = (MAX_LITERAL - literal.bytes.len().min(MAX_LITERAL)).min(bytes.len());
    literal.bytes.extend_from_slice(&bytes[..room]);
    literal.cut |= room < bytes.len();
}

fn text_of<R: BufRead>(tokens: &Tokens<R>, part: Part) -> Result<Literal> {
    match part {
        Part::Text(literal) | Part::Blob(literal) => Ok(literal),
        Part::Number(text) => Ok(Literal { bytes: text.into_bytes(), cut: false }),
        Part::Null => Err(not_plain(tokens)),
    }
}

fn not_plain<R: BufRead>(tokens: &Tokens<R>) -> crate::ground::Error {
    tokens
        .damaged("a value that is neither a literal nor what `.dump` writes")
        .hint("Import the dump into an empty database with `sqlite3`, and use that file.")
}

fn part<R: BufRead>(tokens: &mut Tokens<R>, token: Token, depth: u32) -> Result<Part> {
    Ok(match token {
        Token::Text(literal) => Part::Text(literal),
        Token::Blob(literal) => Part::Blob(literal),
        Token::Number(text) => Part::Number(text),
        Token::Sign(sign @ (b'-' | b'+')) => match next(tokens, true)? {
            Token::Number(text) if sign == b'-' => Part::Number(format!("-{text}")),
            Token::Number(text) => Part::Number(text),
            _ => return Err(not_plain(tokens)),
        },
        Token::Word(word) => match word.to_ascii_lowercase().as_str() {
            "null" => Part::Null,
            "true" => Part::Number("1".to_owned()),
            "false" => Part::Number("0".to_owned()),
            name @ ("replace" | "unistr" | "char") => call(tokens, name, depth + 1)?,
            _ => return Err(not_plain(tokens)),
        },
        _ => return Err(not_plain(tokens)),
    })
}

/// `replace('…','\n',char(10))`, `unistr('…\u000a…')` and `char(…)`.
fn call<R: BufRead>(tokens: &mut Tokens<R>, name: &str, depth: u32) -> Result<Part> {
    if next(tokens, false)? != Token::Sign(b'(') {
        return Err(not_plain(tokens));
    }
    let mut arguments = Vec::new();
    loop {
        let (argument, end) = expression(tokens, depth)?;
        arguments.push(text_of(tokens, argument)?);
        if end == b')' {
            break;
        }
        if arguments.len() >= 8 {
            return Err(not_plain(tokens));
        }
    }
    let made = match (name, &mut arguments[..]) {
        ("replace", [text, from, to]) => Some(replace(text, &from.bytes, &to.bytes)),
        ("unistr", [text]) => unistr(text),
        ("char", points) => points.iter().map(point).collect::<Option<String>>().map(String::into_bytes).map(plain),
        _ => None,
    };
    made.map(Part::Text).ok_or_else(|| not_plain(tokens))
}

fn plain(bytes: Vec<u8>) -> Literal {
    Literal { bytes, cut: false }
}

fn point(number: &Literal) -> Option<char> {
    std::str::from_utf8(&number.bytes).ok()?.parse().ok().and_then(char::from_u32)
}

fn replace(text: &Literal, from: &[u8], to: &[u8]) -> Literal {
    let mut made = Literal { bytes: Vec::with_capacity(text.bytes.len()), cut: text.cut };
    if from.is_empty() {
        return text.clone();
    }
    let mut rest = &text.bytes[..];
    while let Some((first, after)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(from) {
            append(&mut made, to);
            rest = behind;
        } else {
            append(&mut made, std::slice::from_ref(first));
            rest = after;
        }
        if made.cut && made.bytes.len() >= MAX_LITERAL {
            break;
        }
    }
    made
}

/// `\\`, `\XXXX`, `\+XXXXXX`, `\uXXXX`, `\UXXXXXXXX` (<https://www.sqlite.org/lang_corefunc.html#unistr>).
fn unistr(text: &Literal) -> Option<Literal> {
    let mut made = Literal { bytes: Vec::with_capacity(text.bytes.len()), cut: text.cut };
    let mut rest = &text.bytes[..];
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'\\' {
            made.bytes.push(first);
            continue;
        }
        let (skip, digits) = match rest.first() {
            Some(b'\\') => {
                made.bytes.push(b'\\');
                rest = &rest[1..];
                continue;
            }
            Some(b'u') => (1, 4),
            Some(b'+') => (1, 6),
            Some(b'U') => (1, 8),
            _ => (0, 4),
        };
        let Some(hex) = rest.get(skip..skip + digits) else {
            // The literal was cut inside an escape.
            return text.cut.then_some(made);
        };
        let point = u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?;
        let mut buffer = [0; 4];
        made.bytes.extend_from_slice(char::from_u32(point)?.encode_utf8(&mut buffer).as_bytes());
        rest = &rest[skip + digits..];
    }
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<(Value, u8)> {
        read(&mut Tokens::new(text.as_bytes(), "a test"), true)
    }

    #[test]
    fn every_form_that_dumps_write_is_its_value() {
        let text = |t: &str| Value::Text(t.as_bytes().to_vec());
        for (sql, expected) in [
            ("NULL)", Value::Null),
            ("-3)", Value::Number("-3".to_owned())),
            ("1.0e+300)", Value::Number("1.0e+300".to_owned())),
            ("-9.0e+999)", Value::Number("-9.0e+999".to_owned())),
            ("''',;')", text("',;")),
            ("x'0aFF')", Value::Blob(vec![10, 255])),
            ("replace('a\\nb','\\n',char(10)))", text("a\nb")),
            ("replace(replace('a\\nb\\rc','\\r',char(13)),'\\n',char(10)))", text("a\nb\rc")),
            ("unistr('a\\u000ab\\\\c\\u00e9\\+01F511'))", text("a\nb\\cé🔑")),
            ("'a'||char(0)||'b')", text("a\0b")),
        ] {
            assert_eq!(value(sql).expect(sql), (expected, b')'), "{sql}");
        }
    }

    #[test]
    fn what_is_no_value_is_never_computed() {
        for sql in
            ["(SELECT 1))", "load_extension('x'))", "1+1)", "a)", "readfile('/etc/passwd'))", "unistr('\\uD800'))"]
        {
            assert!(value(sql).is_err(), "{sql}");
        }
        let deep = format!("{}'a'{}", "replace(".repeat(100), ",'b','c')".repeat(100));
        assert!(value(&deep).is_err());
    }

    #[test]
    fn a_value_longer_than_a_credential_stays_longer() {
        for length in [MAX_CIPHERTEXT, MAX_CIPHERTEXT + 1, MAX_LITERAL + 100] {
            let (Value::Text(bytes), _) = value(&format!("'{}')", "a".repeat(length))).expect("it reads") else {
                panic!("text")
            };
            assert_eq!(bytes.len(), length.min(MAX_CIPHERTEXT + 1));
        }
    }

    #[test]
    fn an_unwanted_value_is_passed_over_whatever_it_is() {
        let mut tokens = Tokens::new(&b"f(1,(2),'a)b'), 5)"[..], "a test");
        assert_eq!(read(&mut tokens, false).expect("it reads"), (Value::Unread, b','));
        assert_eq!(read(&mut tokens, true).expect("it reads"), (Value::Number("5".to_owned()), b')'));
    }
}
