//! A lane: one thread that reads files and writes them into its own open parts.

use std::io::Write as _;

use crossbeam_channel::Sender;

use super::tar::{padding, write_headers};
use super::writer::{Closing, PartWriter};
use super::{BUFFER, sniff};
use crate::archive::Archive;
use crate::bundle::filelist::Place;
use crate::ground::names::AppName;
use crate::ground::{Error, Kind, Result};
use crate::sealing::Recipient;
use crate::storage::{Entry, Opened, Reader};

/// A part is closed when its tar file has grown past this.
const AIM: u64 = 256 << 20;
/// What BLAKE3 hashes fastest: sixteen of its chunks side by side, from a multiple of their length on.
const GROUP: usize = 16 << 10;

/// Where a file was stored, and what was stored of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The entry as it was when it was read.
    pub entry: Entry,
    /// BLAKE3 of the content.
    pub blake3: [u8; 32],
    /// Where it lies.
    pub place: Place,
    /// It changed while it was read, each time.
    pub changed: bool,
}

/// What came of storing a file.
pub enum Attempt {
    /// It was stored.
    Stored(Stored),
    /// It is gone, or no file any more.
    Gone,
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// One lane; up to two parts are open, one for content that compresses and one for the rest.
pub struct Lane<'a> {
    archive: &'a dyn Archive,
    app: &'a AppName,
    recipient: &'a Recipient,
    reader: Box<dyn Reader>,
    closing: Sender<Closing>,
    parts: [Option<PartWriter>; 2],
    buffer: Vec<u8>,
    headers: Vec<u8>,
}

impl<'a> Lane<'a> {
    /// A lane whose full parts go to `closing`.
    pub fn new(
        archive: &'a dyn Archive,
        app: &'a AppName,
        recipient: &'a Recipient,
        reader: Box<dyn Reader>,
        closing: Sender<Closing>,
    ) -> Self {
        let (buffer, headers) = (vec![0; BUFFER], Vec::with_capacity(1024));
        Self { archive, app, recipient, reader, closing, parts: [None, None], buffer, headers }
    }

    /// BLAKE3 of a file's content now, and its entry; `None` when it changed meanwhile or cannot be read.
    pub fn digest(&mut self, path: &[u8]) -> Option<([u8; 32], Entry)> {
        let mut file = self.reader.open(path).ok()?;
        let mut hash = blake3::Hasher::new();
        loop {
            match read_full(file.as_mut(), &mut self.buffer).ok()? {
                0 => break,
                read => hash.update(&self.buffer[..read]),
            };
        }
        file.unchanged().ok()?.then(|| (*hash.finalize().as_bytes(), file.entry().clone()))
    }

    /// Stores a file, read again once if it changed meanwhile. `advance` is told of bytes as they are read.
    pub fn store(
        &mut self,
        path: &[u8],
        names: (Option<&str>, Option<&str>),
        advance: &dyn Fn(u64),
    ) -> Result<Attempt> {
        match self.store_once(path, names, advance)? {
            Attempt::Stored(first) if first.changed => self.store_once(path, names, &|_| {}),
            attempt => Ok(attempt),
        }
    }

    fn store_once(
        &mut self,
        path: &[u8],
        names: (Option<&str>, Option<&str>),
        advance: &dyn Fn(u64),
    ) -> Result<Attempt> {
        let mut file = match self.reader.open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == Kind::NotFound => return Ok(Attempt::Gone),
            Err(e) => return Ok(Attempt::Unreadable(e.chain())),
        };
        let entry = file.entry().clone();
        let filled = match read_full(file.as_mut(), &mut self.buffer) {
            Ok(filled) => filled,
            Err(e) => return Ok(Attempt::Unreadable(e.to_string())),
        };
        let compress = sniff::worth_compressing(&self.buffer[..filled.min(sniff::TRIAL)]);
        let slot = usize::from(compress);
        let part = match &mut self.parts[slot] {
            Some(part) => part,
            none => none.insert(PartWriter::begin(self.archive, self.app, self.recipient, compress)?),
        };
        let place = part.place();
        let failed = |e| Error::from_io(Kind::Failed, format!("cannot write part {}", place.part.file_name()), e);
        write_headers(part, &mut self.headers, &entry, names.0, names.1).map_err(failed)?;
        let ends = part.content() + entry.size + padding(entry.size) as u64;

        // What grew is cut and what shrank is filled: a member is as long as its header says, or the tar file is broken.
        let mut hash = blake3::Hasher::new();
        let mut left = entry.size;
        let mut read = usize::try_from(left).map_or(filled, |left| filled.min(left));
        put(part, &mut hash, &self.buffer[..read]).map_err(failed)?;
        loop {
            advance(read as u64);
            left -= read as u64;
            if left == 0 || read == 0 {
                break;
            }
            match pass_on(file.as_mut(), left, part, &mut self.buffer, &mut hash) {
                Ok(passed) => read = passed,
                Err(Failed::Write(e)) => return Err(failed(e)),
                Err(Failed::Read(e)) => {
                    // The member is made whole, and no list names it.
                    fill(part, &mut hash, left, padding(entry.size)).map_err(failed)?;
                    debug_assert_eq!(part.content(), ends, "a member is as long as its header says");
                    return Ok(Attempt::Unreadable(e.to_string()));
                }
            }
        }
        fill(part, &mut hash, left, padding(entry.size)).map_err(failed)?;
        debug_assert_eq!(part.content(), ends, "a member is as long as its header says");
        // Some file systems say less of a file's size than they give of it.
        let torn = left > 0
            || filled as u64 > entry.size
            || match file.unchanged() {
                Ok(unchanged) => !unchanged,
                Err(e) => return Ok(Attempt::Unreadable(e.chain())),
            };
        if part.content() >= AIM
            && let Some(full) = self.parts[slot].take()
        {
            self.hand_over(full)?;
        }
        Ok(Attempt::Stored(Stored { entry, blake3: *hash.finalize().as_bytes(), place, changed: torn }))
    }

    fn hand_over(&self, part: PartWriter) -> Result<()> {
        let closing = part.close()?;
        self.closing.send(closing).map_err(|_| Error::failed("the thread that closes parts has ended early"))
    }

    /// Closes what is open.
    pub fn finish(mut self) -> Result<()> {
        for slot in 0..self.parts.len() {
            if let Some(part) = self.parts[slot].take() {
                self.hand_over(part)?;
            }
        }
        Ok(())
    }
}

enum Failed {
    Read(std::io::Error),
    Write(std::io::Error),
}

/// Reads on, at most `left` bytes, and hashes and writes what was read; answers how much, 0 at the file's end.
///
/// Where nothing is compressed it is read where it will be sealed; only a group that two chunks share is copied.
fn pass_on(
    file: &mut dyn Opened,
    left: u64,
    part: &mut PartWriter,
    buffer: &mut [u8],
    hash: &mut blake3::Hasher,
) -> Result<usize, Failed> {
    let most = |room: usize| usize::try_from(left).map_or(room, |left| left.min(room));
    let room = match part.room().map_err(Failed::Write)? {
        Some(room) if room.len() >= GROUP => {
            let whole = room.len() / GROUP * GROUP;
            let read = read_full(file, &mut room[..most(whole)]).map_err(Failed::Read)?;
            hash.update(&room[..read]);
            part.filled(read);
            return Ok(read);
        }
        Some(_) => GROUP,
        None => buffer.len(),
    };
    let read = read_full(file, &mut buffer[..most(room)]).map_err(Failed::Read)?;
    put(part, hash, &buffer[..read]).map_err(Failed::Write)?;
    Ok(read)
}

/// Writes content, which is hashed.
fn put(part: &mut PartWriter, hash: &mut blake3::Hasher, bytes: &[u8]) -> std::io::Result<()> {
    hash.update(bytes);
    part.write_all(bytes)
}

/// Zeros for the content that is missing, and for the rest of the last block.
fn fill(part: &mut PartWriter, hash: &mut blake3::Hasher, mut missing: u64, padding: usize) -> std::io::Result<()> {
    let zeros = [0; 4096];
    while missing > 0 {
        let length = usize::try_from(missing).map_or(zeros.len(), |n| n.min(zeros.len()));
        put(part, hash, &zeros[..length])?;
        missing -= length as u64;
    }
    part.write_all(&zeros[..padding])
}

/// Fills the buffer as far as the file goes.
fn read_full(file: &mut dyn Opened, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Cursor, Read};

    use super::*;
    use crate::archive::memory::Memory;
    use crate::bundle::filelist::FileLine;
    use crate::bundle::part::{PartReader, file_entry};
    use crate::sealing::SealingKey;

    /// Files `SIZE` or `SIZE-WHAT`: a file of that size, which may not be what it was when it was opened.
    struct Files;

    struct File {
        entry: Entry,
        content: Cursor<Vec<u8>>,
        fails: bool,
    }

    /// Bytes that zstd makes nothing of.
    fn content(size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        blake3::Hasher::new().update(&size.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    impl Reader for Files {
        fn open(&self, path: &[u8]) -> Result<Box<dyn Opened>> {
            let (size, what) = path.split_at(path.iter().position(|b| *b == b'-').unwrap_or(path.len()));
            let size: usize = String::from_utf8_lossy(size).parse().expect("a size");
            let length = match what {
                b"-shorter" => size - size / 3,
                b"-longer" => size + 7,
                b"-fails" => size / 2,
                _ => size,
            };
            let mut content = content(size);
            content.resize(length, b'x');
            let entry = file_entry(path.to_vec(), size as u64);
            Ok(Box::new(File { entry, content: Cursor::new(content), fails: what == b"-fails" }))
        }
    }

    impl Read for File {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            // Never as much as is asked for.
            let most = buffer.len().min(50_001);
            match self.content.read(&mut buffer[..most])? {
                0 if self.fails => Err(io::Error::other("the disk is broken")),
                read => Ok(read),
            }
        }
    }

    impl Opened for File {
        fn entry(&self) -> &Entry {
            &self.entry
        }

        fn unchanged(&self) -> Result<bool> {
            if self.entry.path.ends_with(b"-stale") {
                return Err(Error::failed("the handle is stale"));
            }
            Ok(self.content.get_ref().len() as u64 == self.entry.size)
        }
    }

    #[test]
    fn files_are_stored_as_they_are_read_whatever_becomes_of_them_meanwhile() {
        let (archive, app, key) = (Memory::default(), "shop".parse().expect("a name"), SealingKey::generate());
        let (close, closing) = crossbeam_channel::unbounded();
        let mut lane = Lane::new(&archive, &app, key.recipient(), Box::new(Files), close);
        // Around the buffer, a chunk, and what is hashed at once; each begins where the one before has ended.
        let near = [1, 511, GROUP, 64 << 10, BUFFER, BUFFER + GROUP, 256 << 10, 1 << 20];
        let sizes: Vec<usize> = near.iter().flat_map(|size| [size - 1, *size, size + 1]).chain([3_333_333]).collect();
        let what = ["", "-shorter", "-longer", "-fails", "-stale"];
        let mut lines = Vec::new();
        for (size, what) in sizes.iter().flat_map(|size| what.map(|what| (*size, what))).filter(|(size, _)| *size > 64)
        {
            let path = format!("{size}{what}").into_bytes();
            let told = std::cell::Cell::new(0);
            match lane.store(&path, (None, None), &|by| told.set(told.get() + by)).expect("stored") {
                Attempt::Stored(Stored { entry, blake3, place, changed }) => {
                    assert_eq!(changed, !what.is_empty(), "{size}{what}");
                    let mut expected = content(size);
                    if what == "-shorter" {
                        expected[size - size / 3..].fill(0);
                    } else {
                        assert_eq!(told.get(), size as u64, "{size}{what}");
                    }
                    assert_eq!(blake3, *blake3::hash(&expected).as_bytes(), "{size}{what}");
                    let Entry { path, kind, size, mtime, mode, uid, gid, target, .. } = entry;
                    let (blake3, place) = (Some(blake3), Some(place));
                    let (user, group) = (None, None);
                    lines.push(FileLine {
                        path,
                        kind,
                        size,
                        mtime,
                        mode,
                        uid,
                        gid,
                        user,
                        group,
                        target,
                        blake3,
                        place,
                    });
                }
                Attempt::Unreadable(reason) => {
                    let expected = if what == "-stale" { "the handle is stale" } else { "the disk is broken" };
                    assert!(matches!(what, "-fails" | "-stale"), "{size}{what}");
                    assert_eq!(reason, expected);
                }
                Attempt::Gone => panic!("{size}{what} is gone"),
            }
        }
        lane.finish().expect("closed");
        for part in &closing {
            let part = part.commit().expect("committed").name;
            let sealed = archive.objects()[part.object(&app).expect("a name").as_str()].clone();
            let mut reader = PartReader::begin(Cursor::new(sealed), part.kind, &key, "it").expect("begun");
            for line in &lines {
                let place = line.place.as_ref().expect("a place");
                if place.part == part {
                    reader.advance_to(place).expect("found");
                    reader.member(line, &mut |_| Ok(())).expect("the same content");
                }
            }
            reader.drain().expect("whole to its end");
        }
    }
}
