//! A compressed member, read from its beginning, and beside that from anywhere.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::digest::DigestReader;
use super::frames::{FrameReader, Position};
use crate::archive::Object;
use crate::database::{Content, Landmark, Places};
use crate::ground::beside::Stop;
use crate::ground::{Error, Kind, Result};
use crate::sealing::stream::SealedReader;

/// How much is read before it is looked whether that is still wanted.
const STEP: usize = 256 << 10;

/// Where frames begin in the compressed stream, by how much content stands before them; as far as anybody has read.
#[derive(Clone, Default)]
struct Known(Arc<Mutex<BTreeMap<u64, u64>>>);

impl Known {
    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes where a frame begins, and how much content stands before it; `false` when that contradicts what is known.
    fn note(&self, at: u64, frame: u64) -> bool {
        let mut all = self.all();
        let before = all.range(..at).next_back().is_none_or(|(_, before)| *before < frame);
        let after = all.range(at + 1..).next().is_none_or(|(_, after)| frame < *after);
        before && after && *all.entry(at).or_insert(frame) == frame
    }

    /// The frame that holds the byte with so much content before it.
    fn position(&self, at: u64) -> Option<Position> {
        self.all().range(..=at).next_back().map(|(begin, frame)| Position { frame: *frame, skip: at - begin })
    }
}

/// What was seen of a compressed member that was read from its beginning.
#[derive(Clone, Default)]
pub struct Seen {
    known: Known,
    ended: Arc<AtomicBool>,
}

impl Seen {
    /// Whether a block begins where its landmark says; right once the member was read to there.
    pub fn agrees(&self, landmark: &Landmark) -> bool {
        self.known.position(landmark.begin) == Some(Position { frame: landmark.frame, skip: landmark.skip })
    }

    /// Whether somebody has read it to its end, where its digest was compared.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// A member that tells what was seen of it.
pub(super) struct Watched<R> {
    told: Told<R>,
    ended: Arc<AtomicBool>,
}

impl<R: Read> Watched<R> {
    pub(super) fn new(input: R, what: &str, seen: &Seen) -> Result<Self> {
        Ok(Self { told: Told::new(input, what, seen.known.clone())?, ended: Arc::clone(&seen.ended) })
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.told.read(out)?;
        if read == 0 && !out.is_empty() {
            self.ended.store(true, Ordering::Relaxed);
        }
        Ok(read)
    }
}

/// Content that says where its frames are.
struct Told<R> {
    frames: FrameReader<R>,
    what: String,
    known: Known,
    /// How much content stands before the next byte.
    at: u64,
    /// The frame that was told last.
    frame: Option<u64>,
}

impl<R: Read> Told<R> {
    fn new(input: R, what: &str, known: Known) -> Result<Self> {
        Ok(Self { frames: FrameReader::new(input, what)?, what: what.to_owned(), known, at: 0, frame: None })
    }
}

impl<R: Read> Read for Told<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.frames.read(out)?;
        self.at += read as u64;
        if read > 0 {
            let last = self.frames.last();
            if self.frame != Some(last.frame) {
                self.frame = Some(last.frame);
                if !self.known.note(self.at - last.skip - 1, last.frame) {
                    return Err(misplaced(&self.what).into_io());
                }
            }
        }
        Ok(read)
    }
}

fn misplaced(what: &str) -> Error {
    Error::damaged(format!("{what}: its frames are not where the proof says"))
}

impl<R: Read + Seek> Seek for Told<R> {
    /// Goes to a place, by way of the nearest frame before it that is known; nobody knows how far it is from the end.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(_) => None,
        };
        let to = to.ok_or(io::ErrorKind::Unsupported)?;
        let Position { frame, skip } = self.known.position(to).unwrap_or(Position { frame: 0, skip: to });
        if to < self.at || to - skip > self.at {
            self.frames.enter(Position { frame, skip: 0 })?;
            (self.at, self.frame) = (to - skip, None);
        }
        let left = to - self.at;
        io::copy(&mut self.by_ref().take(left), &mut io::sink())?;
        if self.at == to {
            return Ok(to);
        }
        Err(Error::damaged(format!("{} is shorter than it should be", self.what)).into_io())
    }
}

/// A member from its beginning; its digest is compared at the end.
pub(super) struct MemberContent(Told<SealedReader<DigestReader<Box<dyn Object>>>>);

impl MemberContent {
    pub(super) fn new(sealed: SealedReader<DigestReader<Box<dyn Object>>>, what: &str) -> Result<Self> {
        Ok(Self(Told::new(sealed, what, Known::default())?))
    }
}

impl Read for MemberContent {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Content for MemberContent {
    /// One key opens this reader and those beside it: with the digest of this one, header included, all of them are the listed file.
    fn beside(&self) -> Result<Box<dyn Places>> {
        let sealed = self.0.frames.get_ref();
        let object = sealed.get_ref().get_ref().again()?;
        let failed = |e| Error::from_io(Kind::Failed, format!("cannot read {}", self.0.what), e);
        let sealed = sealed.beside(object).map_err(failed)?;
        Ok(Box::new(Told::new(sealed, &self.0.what, self.0.known.clone())?))
    }

    fn learn(&self, landmark: &Landmark) -> Result<()> {
        let at = landmark.begin.checked_sub(landmark.skip);
        if at.is_some_and(|at| self.0.known.note(at, landmark.frame)) { Ok(()) } else { Err(misplaced(&self.0.what)) }
    }

    fn settle(self: Box<Self>, stop: &Stop) -> Result<bool> {
        let (what, sealed) = (self.0.what, self.0.frames.into_inner());
        let failed = |e| Error::from_io(Kind::Failed, format!("cannot read {what}"), e);
        // Who uses a chunk looks at its tag; that all of them are the listed file's is for the digest to say.
        let mut object = sealed.into_inner();
        let mut buffer = vec![0; STEP];
        loop {
            if stop.is_set() {
                return Ok(false);
            }
            match object.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(e)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::archive::Archive as _;
    use crate::archive::memory::Memory;
    use crate::bundle::frames::FrameWriter;
    use crate::ground::names::{ObjectName, Sha256Hex};
    use crate::sealing::{SealingKey, stream};

    const SIZE: usize = 11 << 20;

    /// Two frames and a part of one, and what they become.
    fn stored(key: &SealingKey) -> (Vec<u8>, Vec<u8>) {
        let byte = |n: usize| u8::try_from((n / 7 + (n >> 16)) % 251).expect("below 251");
        let plain: Vec<u8> = (0..SIZE).map(byte).collect();
        let mut out = FrameWriter::new(stream::seal(key.recipient(), Vec::new()).expect("begun")).expect("begun");
        out.write_all(&plain).expect("written");
        (plain, out.finish().expect("finished").finish().expect("finished"))
    }

    fn content(key: &SealingKey, bytes: &[u8], digest: Sha256Hex) -> MemberContent {
        let (archive, name) = (Memory::default(), "bundles/a/b".parse::<ObjectName>().expect("a name"));
        archive.put_new(&name, bytes).expect("written");
        let object = archive.open(&name).expect("opened");
        let sealed = stream::open(key, DigestReader::new(object, digest, "it"), "it").expect("begun");
        MemberContent::new(sealed, "it").expect("begun")
    }

    #[test]
    fn readers_beside_go_anywhere_and_learn_from_each_other() {
        let key = SealingKey::generate();
        let (plain, bytes) = stored(&key);
        let whole = content(&key, &bytes, Sha256Hex::of(&bytes));
        let mut readers = [0, 1].map(|_| whole.beside().expect("a reader"));
        let frame = 4 << 20;
        for (turn, at) in [5_000_000, 3, frame, frame - 1, SIZE - 1, 2 * frame + 9, 0, SIZE].into_iter().enumerate() {
            let reader = &mut readers[turn % 2];
            assert_eq!(reader.seek(SeekFrom::Start(at as u64)).expect("there"), at as u64);
            let mut some = Vec::new();
            reader.take(70_000).read_to_end(&mut some).expect("read");
            assert!(some == plain[at..SIZE.min(at + 70_000)], "{at}");
            assert_eq!(reader.stream_position().expect("known"), (at + some.len()) as u64);
        }
        assert_eq!(whole.0.known.all().len(), 3);
        assert!(readers[0].seek(SeekFrom::Start(SIZE as u64 + 1)).is_err());
        assert!(Box::new(whole).settle(&Stop::default()).expect("whole"));
    }

    #[test]
    fn a_reader_that_was_told_of_a_frame_reads_nothing_before_it() {
        let key = SealingKey::generate();
        let (plain, bytes) = stored(&key);
        let whole = content(&key, &bytes, Sha256Hex::of(&bytes));
        whole.beside().expect("a reader").seek(SeekFrom::Start(SIZE as u64)).expect("there");
        let frames: Vec<_> = whole.0.known.all().iter().map(|(at, frame)| (*at, *frame)).collect();
        let landmark = |begin, (at, frame): (u64, u64)| Landmark { entry: 1, begin, end: 0, frame, skip: begin - at };
        let told = |landmark| {
            let whole = content(&key, &bytes, Sha256Hex::of(&bytes));
            whole.learn(&landmark).map_err(Error::into_io)?;
            let mut reader = whole.beside().expect("a reader");
            let mut byte = [0];
            reader
                .seek(SeekFrom::Start(landmark.begin))
                .and_then(|_| reader.read_exact(&mut byte))
                .map(|()| byte[0])?;
            assert!(whole.0.known.all().keys().all(|at| *at == landmark.begin - landmark.skip), "{landmark:?}");
            io::Result::Ok(byte[0])
        };
        let begin = 9 << 20;
        assert_eq!(told(landmark(begin, frames[2])).expect("read"), plain[9 << 20]);
        // Where no frame begins, and behind the end.
        for frame in [frames[2].1 + 1, bytes.len() as u64, u64::MAX] {
            assert!(told(landmark(begin, (frames[2].0, frame))).is_err(), "{frame}");
        }
        assert!(told(landmark(u64::MAX, (0, 0))).is_err());
    }

    #[test]
    fn what_was_seen_agrees_with_landmarks_that_are_right_alone() {
        let key = SealingKey::generate();
        let (plain, bytes) = stored(&key);
        let seen = Seen::default();
        let mut watched =
            Watched::new(stream::open(&key, bytes.as_slice(), "it").expect("begun"), "it", &seen).expect("begun");
        let mut read = vec![0; SIZE];
        watched.read_exact(&mut read).expect("read");
        assert!(read == plain && !seen.ended());
        assert_eq!(watched.read(&mut [0]).expect("the end"), 0);
        assert!(seen.ended());
        let frames: Vec<u64> = seen.known.all().values().copied().collect();
        let landmark = |frame, skip| Landmark { entry: 1, begin: 9 << 20, end: 10 << 20, frame, skip };
        assert!(seen.agrees(&landmark(frames[2], 1 << 20)));
        for (frame, skip) in
            [(frames[1], 1 << 20), (frames[2], (1 << 20) + 1), (frames[1], 5 << 20), (bytes.len() as u64, 0)]
        {
            assert!(!seen.agrees(&landmark(frame, skip)), "{frame} {skip}");
        }
    }

    #[test]
    fn landmarks_that_contradict_each_other_or_what_is_read_are_damage() {
        let key = SealingKey::generate();
        let (_, bytes) = stored(&key);
        let landmark = |begin, frame| Landmark { entry: 1, begin, end: 0, frame, skip: 0 };
        let kind = |result: Result<()>| result.map_err(|error| error.kind());
        let whole = content(&key, &bytes, Sha256Hex::of(&bytes));
        assert_eq!(kind(whole.learn(&landmark(8 << 20, 500))), Ok(()));
        assert_eq!(kind(whole.learn(&landmark(8 << 20, 500))), Ok(()));
        for (begin, frame) in [(8 << 20, 501), (4 << 20, 500), (4 << 20, 501), (9 << 20, 499)] {
            assert_eq!(kind(whole.learn(&landmark(begin, frame))), Err(Kind::Damaged), "{begin} {frame}");
        }
        // No frame is so short, as whoever comes to the next one sees.
        let read = io::copy(&mut whole.beside().expect("a reader"), &mut io::sink());
        assert!(read.expect_err("found").to_string().contains("not where the proof says"));
    }

    #[test]
    fn what_is_not_the_listed_file_is_never_settled() {
        let key = SealingKey::generate();
        let (_, bytes) = stored(&key);
        let settle = |bytes: &[u8], digest, stop| {
            let asked = Stop::default();
            if stop {
                asked.set();
            }
            Box::new(content(&key, bytes, digest)).settle(&asked).map_err(|error| error.kind())
        };
        let right = || Sha256Hex::of(&bytes);
        assert_eq!(settle(&bytes, right(), false), Ok(true));
        assert_eq!(settle(&bytes, right(), true), Ok(false), "stopped, nothing is known");
        // Somebody who knows the recipient can make a whole file, and it is another one.
        assert_eq!(settle(&bytes, Sha256Hex::of(b"another"), false), Err(Kind::Damaged));
        for cut in [bytes.len() - 1, bytes.len() / 2] {
            assert_eq!(settle(&bytes[..cut], right(), false), Err(Kind::Damaged));
        }
        for at in [bytes.len() - 1, bytes.len() / 2] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert_eq!(settle(&wrong, right(), false), Err(Kind::Damaged));
        }
    }
}
