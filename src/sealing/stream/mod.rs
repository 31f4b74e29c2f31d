//! age streams to and from the sealing key (<https://age-encryption.org/v1>).
//!
//! The header is written and read by the `age` crate; the payload, which is the bulk of all work, goes through `ring`. The
//! file key is caught on its way: a recipient sees it when it wraps it, an identity when it unwraps it.

mod payload;

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{Read, Write};

use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use age_core::secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::{Recipient, SealingKey};
use crate::ground::block::TakeBlocks;
use crate::ground::{Error, Kind, Result};
use payload::{NONCE, PayloadKey};
pub use payload::{SealedReader, SealedWriter};

/// How long a header may be; ours have about 200 bytes, and grease adds little.
const HEADER_LIMIT: usize = 16 << 10;

type CaughtKey = Zeroizing<[u8; FILE_KEY_BYTES]>;

/// A recipient or an identity that keeps the file key it has seen.
struct Catching<'a, T> {
    inner: &'a T,
    caught: RefCell<Option<CaughtKey>>,
}

impl<'a, T> Catching<'a, T> {
    fn new(inner: &'a T) -> Self {
        Self { inner, caught: RefCell::new(None) }
    }

    fn keep(&self, key: &FileKey) {
        *self.caught.borrow_mut() = Some(Zeroizing::new(*key.expose_secret()));
    }
}

impl age::Recipient for Catching<'_, age::x25519::Recipient> {
    fn wrap_file_key(&self, key: &FileKey) -> std::result::Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        self.keep(key);
        self.inner.wrap_file_key(key)
    }
}

impl age::Identity for Catching<'_, age::x25519::Identity> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<std::result::Result<FileKey, age::DecryptError>> {
        let unwrapped = self.inner.unwrap_stanza(stanza);
        if let Some(Ok(key)) = &unwrapped {
            self.keep(key);
        }
        unwrapped
    }
}

/// Begins a sealed stream; what is written before [`SealedWriter::finish`] is no whole age file.
pub fn seal<W: TakeBlocks>(recipient: &Recipient, mut out: W) -> Result<SealedWriter<W>> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| Error::failed("cannot begin an age stream").because(e);
    let catching = Catching::new(recipient.age());
    let mut header = Vec::with_capacity(512);
    age::Encryptor::with_recipients(std::iter::once(&catching as &dyn age::Recipient))
        .map_err(|e| failed(e.into()))?
        .wrap_output(&mut header)
        .map_err(|e| failed(e.into()))?;
    let key = catching.caught.take().ok_or_else(|| Error::failed("age gave no file key"))?;
    let nonce = nonce_of(&header).ok_or_else(|| Error::failed("age gave no nonce"))?;
    out.write_all(&header).map_err(|e| Error::from_io(Kind::Failed, "cannot begin an age stream", e))?;
    Ok(SealedWriter::new(PayloadKey::derive(&key, nonce), out))
}

/// Opens a sealed stream; `what` names it in errors.
///
/// [`Kind::Sealed`] when it is sealed to another key, [`Kind::Damaged`] when it is no age file of ours: armor, a passphrase or
/// other recipients included. Reading gives authenticated bytes only, and an error ([`Kind::Damaged`]) where it was cut.
pub fn open<R: Read>(key: &SealingKey, mut input: R, what: &str) -> Result<SealedReader<R>> {
    let mut seen = Seen { inner: &mut input, bytes: Vec::with_capacity(512) };
    let decryptor = age::Decryptor::new(&mut seen).map_err(|e| match e {
        age::DecryptError::Io(e) if Error::travels_in(&e) => {
            Error::from_io(Kind::Failed, format!("cannot read {what}"), e)
        }
        e => Error::damaged(format!("{what} does not begin as an age file")).because(e),
    })?;
    let catching = Catching::new(key.age());
    // Only the header is of interest: the stream that this gives is dropped.
    drop(decryptor.decrypt(std::iter::once(&catching as &dyn age::Identity)).map_err(|e| match e {
        age::DecryptError::NoMatchingKeys => {
            Error::sealed(format!("{what} is sealed to another key than {}", key.id()))
        }
        e => Error::damaged(format!("the age header of {what} is damaged")).because(e),
    })?);
    let header = seen.bytes;
    only_one_recipient(&header, what)?;
    let file_key = catching.caught.take().ok_or_else(|| Error::failed("age gave no file key"))?;
    let nonce = nonce_of(&header).ok_or_else(|| Error::damaged(format!("{what} does not begin as an age file")))?;
    Ok(SealedReader::new(PayloadKey::derive(&file_key, nonce), input, header.len() as u64, what.to_owned()))
}

/// Seals a few bytes.
pub fn seal_bytes(recipient: &Recipient, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut writer = seal(recipient, Vec::with_capacity(bytes.len() + 512))?;
    writer.write_all(bytes).map_err(|e| Error::from_io(Kind::Failed, "cannot seal", e))?;
    writer.finish()
}

/// Opens a few bytes, which come zeroized on drop.
pub fn open_bytes(key: &SealingKey, sealed: &[u8], what: &str) -> Result<Zeroizing<Vec<u8>>> {
    let mut reader = open(key, sealed, what)?;
    // The plaintext is never longer than what it was sealed to: one allocation, no unwiped copy.
    let mut bytes = Zeroizing::new(Vec::with_capacity(sealed.len()));
    reader.read_to_end(&mut bytes).map_err(|e| Error::from_io(Kind::Damaged, format!("cannot open {what}"), e))?;
    Ok(bytes)
}

/// The nonce: the sixteen bytes after the header.
fn nonce_of(header: &[u8]) -> Option<&[u8; NONCE]> {
    header.last_chunk()
}

/// Refuses every header but the one with a single X25519 stanza, and grease.
fn only_one_recipient(header: &[u8], what: &str) -> Result<()> {
    let mut count = 0;
    for line in header.split(|b| *b == b'\n') {
        let Some(stanza) = line.strip_prefix(b"-> ") else { continue };
        let kind = stanza.split(|b| *b == b' ').next().unwrap_or_default();
        if kind == b"X25519" {
            count += 1;
        } else if !kind.ends_with(b"-grease") {
            count = usize::MAX;
            break;
        }
    }
    if count == 1 {
        return Ok(());
    }
    Err(Error::damaged(format!("{what} is sealed to others than the sealing key alone")))
}

/// Reads on, and remembers what was read, up to a limit.
struct Seen<R> {
    inner: R,
    bytes: Vec<u8>,
}

impl<R: Read> Read for &mut Seen<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let room = buffer.len().min(HEADER_LIMIT - self.bytes.len());
        let read = self.inner.read(&mut buffer[..room])?;
        self.bytes.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Seek as _, SeekFrom};

    use super::*;

    const SIZES: [usize; 7] = [0, 1, 65535, 65536, 65537, 131_072, 1 << 20];

    fn content(size: usize) -> Vec<u8> {
        (0..size).map(|i| u8::try_from(i * 31 % 251).expect("below 251")).collect()
    }

    fn sealed_here(key: &SealingKey, bytes: &[u8]) -> Vec<u8> {
        let mut writer = seal(key.recipient(), Vec::new()).expect("begun");
        for chunk in bytes.chunks(7001) {
            writer.write_all(chunk).expect("written");
        }
        writer.finish().expect("finished")
    }

    #[test]
    fn what_we_seal_age_opens() {
        let key = SealingKey::generate();
        for size in SIZES {
            let sealed = sealed_here(&key, &content(size));
            assert_eq!(age::decrypt(key.age(), &sealed).expect("age opens it"), content(size), "{size}");
        }
    }

    #[test]
    fn what_is_put_into_the_room_is_sealed_as_what_is_written() {
        let key = SealingKey::generate();
        for (size, step) in [(1, 1), (65536, 65536), (65537, 999), (131_072, 40_000), (3_000_000, 70_001)] {
            let plain = content(size);
            let mut writer = seal(key.recipient(), Vec::new()).expect("begun");
            let mut left = plain.as_slice();
            while !left.is_empty() {
                let room = writer.room().expect("room");
                assert!(!room.is_empty());
                let taken = room.len().min(left.len()).min(step);
                room[..taken].copy_from_slice(&left[..taken]);
                writer.filled(taken);
                let (more, rest) = left[taken..].split_at((left.len() - taken).min(step / 3));
                writer.write_all(more).expect("written");
                left = rest;
            }
            let sealed = writer.finish().expect("finished");
            assert_eq!(age::decrypt(key.age(), &sealed).expect("age opens it"), plain, "{size} {step}");
        }
    }

    #[test]
    fn what_age_seals_we_open() {
        let key = SealingKey::generate();
        for size in SIZES {
            let sealed = age::encrypt(key.recipient().age(), &content(size)).expect("sealed");
            assert_eq!(*open_bytes(&key, &sealed, "it").expect("we open it"), content(size), "{size}");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let key = SealingKey::generate();
        // A batch of four chunks, and what crosses it.
        for size in [0, 1, 65536, 70000, 131_072, 262_144, 300_000] {
            let sealed = sealed_here(&key, &content(size));
            let interesting = (0..sealed.len()).filter(|n| *n < 300 || n % 997 == 0 || *n + 40 > sealed.len());
            let payload = sealed.len() - (size + size.div_ceil(65536).max(1) * 16);
            for cut in interesting.chain([
                payload,
                payload + 65552,
                payload + 4 * 65552,
                payload + 4 * 65552 + 1,
                sealed.len() - 16,
            ]) {
                if cut < sealed.len() {
                    assert!(open_bytes(&key, &sealed[..cut], "it").is_err(), "{size} cut at {cut}");
                }
            }
            let longer = [sealed.as_slice(), b"x"].concat();
            assert!(open_bytes(&key, &longer, "it").is_err(), "{size} with a byte more");
        }
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let key = SealingKey::generate();
        let sealed = sealed_here(&key, &content(70000));
        for at in (0..sealed.len()).filter(|n| *n < 400 || n % 499 == 0) {
            let mut broken = sealed.clone();
            broken[at] ^= 1;
            assert!(open_bytes(&key, &broken, "it").is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn other_keys_and_other_recipients_are_refused() {
        let (key, other) = (SealingKey::generate(), SealingKey::generate());
        let sealed = sealed_here(&key, b"x");
        assert_eq!(open_bytes(&other, &sealed, "it").expect_err("sealed").kind(), Kind::Sealed);
        let mut both = Vec::new();
        let recipients = [key.recipient().age() as &dyn age::Recipient, other.recipient().age()];
        let mut writer = age::Encryptor::with_recipients(recipients.into_iter())
            .expect("recipients")
            .wrap_output(&mut both)
            .expect("begun");
        writer.write_all(b"x").expect("written");
        writer.finish().expect("finished");
        assert_eq!(open_bytes(&key, &both, "it").expect_err("refused").kind(), Kind::Damaged);
    }

    #[test]
    fn a_stream_can_be_entered_anywhere() {
        let key = SealingKey::generate();
        let plain = content(700_000);
        let mut reader = open(&key, Cursor::new(sealed_here(&key, &plain)), "it").expect("opened");
        for at in [0_usize, 1, 65535, 65536, 131_072, 262_143, 262_144, 600_001, 699_999, 700_000] {
            reader.seek(SeekFrom::Start(at as u64)).expect("sought");
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).expect("read");
            assert_eq!(rest, &plain[at..], "{at}");
        }
        assert!(reader.seek(SeekFrom::Start(700_001)).is_err());
    }
}
