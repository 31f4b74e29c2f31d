//! SHA-256 of bytes on their way.

use std::io::{self, Read, Write};

use ring::digest::{Context, SHA256};

use crate::ground::block::{Block, TakeBlocks};
use crate::ground::names::Sha256Hex;
use crate::ground::{Error, Result, interrupt};

fn hex(context: Context) -> Result<Sha256Hex> {
    let digest = context.finish();
    let bytes = digest.as_ref().try_into().map_err(|_| Error::failed("a SHA-256 digest does not have 32 bytes"))?;
    Ok(Sha256Hex::from_bytes(bytes))
}

/// Takes the digest of what is written through it.
pub struct DigestWriter<W> {
    inner: W,
    context: Context,
    bytes: u64,
    /// So much of the next block is in the digest.
    shown: usize,
}

impl<W> DigestWriter<W> {
    /// Begins with nothing written.
    pub fn new(inner: W) -> Self {
        Self { inner, context: Context::new(&SHA256), bytes: 0, shown: 0 }
    }

    /// How many bytes were written.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What was written to, the digest of it, and how many bytes it was.
    pub fn finish(self) -> Result<(W, Sha256Hex, u64)> {
        Ok((self.inner, hex(self.context)?, self.bytes))
    }
}

impl<W: Write> Write for DigestWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        interrupt::check().map_err(Error::into_io)?;
        debug_assert_eq!(self.shown, 0, "what was shown is given before anything else is written");
        let written = self.inner.write(bytes)?;
        self.context.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: TakeBlocks> TakeBlocks for DigestWriter<W> {
    fn show(&mut self, bytes: &[u8]) -> io::Result<()> {
        interrupt::check().map_err(Error::into_io)?;
        self.context.update(bytes);
        self.shown += bytes.len();
        Ok(())
    }

    fn give(&mut self, block: Block) -> io::Result<Block> {
        self.context.update(&block.bytes()[self.shown..]);
        self.shown = 0;
        self.bytes += block.bytes().len() as u64;
        self.inner.give(block)
    }
}

/// Compares what is read through it with a digest; at its end a difference is an error ([`crate::ground::Kind::Damaged`]).
///
/// Who stops before the end has compared nothing.
pub struct DigestReader<R> {
    inner: R,
    context: Option<Context>,
    expected: Sha256Hex,
    what: String,
    wrong: bool,
}

impl<R: Read> DigestReader<R> {
    /// Expects this digest of everything that `inner` gives; `what` names it in errors.
    pub fn new(inner: R, expected: Sha256Hex, what: impl Into<String>) -> Self {
        Self { inner, context: Some(Context::new(&SHA256)), expected, what: what.into(), wrong: false }
    }

    /// What is read from.
    pub fn get_ref(&self) -> &R {
        &self.inner
    }

    /// Whether the end was reached and the digest is the expected one.
    pub fn matched(&self) -> bool {
        self.context.is_none() && !self.wrong
    }

    /// Reads what is left, and fails unless all of it has the expected digest.
    pub fn finish(mut self) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let message = format!("cannot read {}", self.what);
                    return Err(Error::from_io(crate::ground::Kind::Failed, message, e));
                }
            }
        }
    }
}

impl<R: Read> Read for DigestReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        interrupt::check().map_err(Error::into_io)?;
        let read = self.inner.read(buffer)?;
        if read > 0 {
            if let Some(context) = self.context.as_mut() {
                context.update(&buffer[..read]);
            } else {
                // An object that grows after its end is not the one that was compared.
                self.wrong = true;
            }
        } else if let Some(context) = self.context.take() {
            self.wrong = hex(context).map_err(Error::into_io)? != self.expected;
        }
        if self.wrong {
            let message = format!("{} does not have the SHA-256 that its bundle lists", self.what);
            return Err(Error::damaged(message).hint("Take this object from another copy of the archive.").into_io());
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::Kind;

    #[test]
    fn what_is_written_and_what_is_read_have_the_same_digest() {
        let content: Vec<u8> = (0..200_000_u32).map(|n| (n % 253) as u8).collect();
        let mut writer = DigestWriter::new(Vec::new());
        for chunk in content.chunks(777) {
            writer.write_all(chunk).expect("written");
        }
        let (stored, digest, bytes) = writer.finish().expect("finished");
        assert_eq!(digest, Sha256Hex::of(&content));
        assert_eq!(bytes, content.len() as u64);
        assert!(DigestReader::new(stored.as_slice(), digest, "it").finish().is_ok());
    }

    #[test]
    fn another_digest_is_damage_at_the_end_and_stays_so() {
        for wrong in [&b"content!"[..], b"conten", b"", b"Content"] {
            let mut reader = DigestReader::new(wrong, Sha256Hex::of(b"content"), "it");
            let error = std::io::copy(&mut reader, &mut io::sink()).expect_err("damaged");
            assert_eq!(Error::from_io(Kind::Failed, "", error).kind(), Kind::Damaged);
            assert!(!reader.matched());
            assert!(reader.read(&mut [0; 8]).is_err());
        }
    }
}
