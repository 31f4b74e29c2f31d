//! Large files, written past the system's cache.
//!
//! A copy in the cache costs processor time, as much as sealing the bytes or more, and pushes out what applications want to keep
//! there. Whole blocks go to the disk directly, on file systems that can. A file that is written piece by piece has a thread for it,
//! so that the disk works from the beginning and the last fsync has little left to wait for.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::block::{ALIGNMENT, Block};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstatfs};

/// Where the middle begins: smaller files are left to the cache.
pub(super) const HEAD: u64 = 4 << 20;

/// So many blocks are being filled, waiting or being written.
const BLOCKS: usize = 3;

/// So many bytes that went through the cache are made durable while more are written.
const STRETCH: u64 = 32 << 20;

/// File systems that take direct writes as they are, by their numbers in `linux/magic.h`: ext4 and XFS.
///
/// Others answer each of them only when a server has (NFS), or keep a copy all the same.
const DIRECT: [u64; 2] = [0xef53, 0x5846_5342];

/// How the bytes after the first [`HEAD`] get into the file.
pub(super) enum Bulk {
    Direct(Direct),
    Cached(Cached),
}

impl Bulk {
    /// Goes on behind [`HEAD`] bytes; `None` when the system gives no thread or handle for it, which costs time and nothing else.
    pub(super) fn begin(file: &File) -> Option<Self> {
        Direct::begin(file).map(Self::Direct).or_else(|| Cached::begin(file).map(Self::Cached))
    }

    /// Writes some of `bytes`, and says how many.
    pub(super) fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Direct(direct) => direct.write(bytes),
            Self::Cached(cached) => cached.write(file, bytes),
        }
    }

    /// Waits for everything that was written.
    pub(super) fn end(self) -> io::Result<()> {
        match self {
            Self::Direct(direct) => direct.end(),
            Self::Cached(cached) => cached.helper.end(),
        }
    }
}

/// A thread, and what it is asked with.
struct Helper<T> {
    ask: SyncSender<T>,
    thread: JoinHandle<io::Result<()>>,
}

impl<T: Send + 'static> Helper<T> {
    fn begin(waiting: usize, work: impl FnOnce(Receiver<T>) -> io::Result<()> + Send + 'static) -> Option<Self> {
        let (ask, asked) = sync_channel(waiting);
        let thread = std::thread::Builder::new().name("write".to_owned()).spawn(move || work(asked)).ok()?;
        Some(Self { ask, thread })
    }

    /// Waits for what was asked. The system tells of a failed write once for each open file, and this is the same one: an
    /// error here would not come again.
    fn end(self) -> io::Result<()> {
        drop(self.ask);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes it has panicked")))
    }
}

impl Block {
    /// Writes what it has to its place in a file that [`past_cache`] has prepared, and empties it.
    ///
    /// Only the last of a file may be less than full.
    pub(crate) fn put(&mut self, file: &File, at: &mut u64) -> io::Result<()> {
        let bytes = self.bytes();
        let whole = bytes.len() / ALIGNMENT * ALIGNMENT;
        match file.write_all_at(&bytes[..whole], *at) {
            // A disk with larger sectors, or a file system that cannot after all.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                cached_again(file)?;
                file.write_all_at(&bytes[..whole], *at)?;
            }
            other => other?,
        }
        if whole < bytes.len() {
            cached_again(file)?;
            file.write_all_at(&bytes[whole..], *at + whole as u64)?;
        }
        *at += bytes.len() as u64;
        self.clear();
        Ok(())
    }
}

/// Lets what is written to a file from now on go past the cache; `false` where that cannot be.
pub(crate) fn past_cache(file: &File) -> bool {
    let known = fstatfs(file).is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|number| DIRECT.contains(&number)));
    known && fcntl_getfl(file).and_then(|flags| fcntl_setfl(file, flags | OFlags::DIRECT)).is_ok()
}

fn cached_again(file: &File) -> io::Result<()> {
    Ok(fcntl_setfl(file, fcntl_getfl(file)? - OFlags::DIRECT)?)
}

/// Past the cache, block by block, by a thread.
pub(super) struct Direct {
    block: Block,
    spare: Receiver<Block>,
    helper: Option<Helper<Block>>,
}

impl Direct {
    fn begin(file: &File) -> Option<Self> {
        let (give, spare) = sync_channel(BLOCKS);
        for _ in 1..BLOCKS {
            give.send(Block::new()).ok()?;
        }
        let own = file.try_clone().ok()?;
        if !past_cache(file) {
            return None;
        }
        let work = move |asked: Receiver<Block>| {
            let mut at = HEAD;
            asked.iter().try_for_each(|mut block| {
                block.put(&own, &mut at)?;
                // Nobody wants it at the end.
                let _ = give.send(block);
                Ok(())
            })
        };
        let Some(helper) = Helper::begin(BLOCKS, work) else {
            cached_again(file).ok()?;
            return None;
        };
        Some(Self { block: Block::new(), spare, helper: Some(helper) })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.room() == 0 {
            let next = self.next()?;
            let full = std::mem::replace(&mut self.block, next);
            self.ask(full)?;
        }
        Ok(self.block.fill(bytes))
    }

    /// Writes a whole block; without copying it, if it was given out by this.
    pub(super) fn give(&mut self, mut full: Block) -> io::Result<Block> {
        if full.put_in_front(self.block.bytes()) {
            full.cut(&mut self.block);
            self.ask(full)?;
            let mut next = self.next()?;
            next.clear_for(self.block.bytes().len());
            return Ok(next);
        }
        let mut bytes = full.bytes();
        while !bytes.is_empty() {
            bytes = &bytes[self.write(bytes)?..];
        }
        let rest = self.next()?;
        let mut begun = std::mem::replace(&mut self.block, rest);
        begun.cut(&mut self.block);
        self.ask(begun)?;
        full.clear_for(self.block.bytes().len());
        Ok(full)
    }

    /// An empty block; without blocks the thread has ended, and says why.
    fn next(&mut self) -> io::Result<Block> {
        self.spare.recv().map_err(|_| self.failed())
    }

    fn ask(&mut self, block: Block) -> io::Result<()> {
        let asked = self.helper.as_ref().is_some_and(|helper| helper.ask.send(block).is_ok());
        if asked { Ok(()) } else { Err(self.failed()) }
    }

    /// Why the thread has ended.
    fn failed(&mut self) -> io::Error {
        let ended = self.helper.take().map_or(Ok(()), Helper::end);
        ended.err().unwrap_or_else(|| io::Error::other("the thread that writes it has ended"))
    }

    fn end(self) -> io::Result<()> {
        let Some(helper) = self.helper else { return Err(io::Error::other("an earlier write has failed")) };
        // When nobody takes it, the thread says why.
        let _ = helper.ask.send(self.block);
        helper.end()
    }
}

/// Through the cache, and made durable each time that enough was written.
pub(super) struct Cached {
    fresh: u64,
    helper: Helper<()>,
}

impl Cached {
    fn begin(file: &File) -> Option<Self> {
        let own = file.try_clone().ok()?;
        let helper = Helper::begin(1, move |asked| asked.iter().try_for_each(|()| own.sync_data()))?;
        Some(Self { fresh: HEAD, helper })
    }

    fn write(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        let written = io::Write::write(file, bytes)?;
        self.fresh += written as u64;
        if self.fresh >= STRETCH {
            self.fresh = 0;
            // Full: the thread is at it, and will be asked again. Ended: the end learns why.
            let _ = self.helper.ask.try_send(());
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};
    use std::path::Path;

    use super::*;
    use crate::ground::block::BLOCK;

    /// Writes so many bytes in pieces behind a head, and reads everything again.
    fn round(file: &mut File, begin: impl Fn(&File) -> Option<Bulk>, size: usize) {
        let head = usize::try_from(HEAD).expect("small");
        let content: Vec<u8> = (0..size).map(|n| u8::try_from(n / 7 % 256).expect("a byte")).collect();
        file.set_len(0).expect("emptied");
        file.rewind().expect("at the front");
        io::Write::write_all(file, &vec![1; head]).expect("the head");
        let mut bulk = begin(file).expect("begun");
        for mut piece in content.chunks(70_001) {
            while !piece.is_empty() {
                let written = bulk.write(file, piece).expect("written");
                piece = &piece[written..];
            }
        }
        bulk.end().expect("ended");
        cached_again(file).expect("readable at any place");
        file.rewind().expect("at the front");
        let mut read = Vec::new();
        file.read_to_end(&mut read).expect("read");
        assert!(read[..head].iter().all(|byte| *byte == 1));
        assert!(read[head..] == content, "{size} bytes have changed");
    }

    #[test]
    fn every_byte_arrives_in_its_place_directly_and_through_the_cache() {
        for folder in [std::env::temp_dir().as_path(), Path::new("/dev/shm"), Path::new(env!("CARGO_MANIFEST_DIR"))] {
            let Ok(mut file) = tempfile::tempfile_in(folder) else { continue };
            for size in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 9 * BLOCK, 9 * BLOCK + 4097] {
                round(&mut file, Bulk::begin, size);
                round(&mut file, |file| Cached::begin(file).map(Bulk::Cached), size);
            }
            round(&mut file, |file| Cached::begin(file).map(Bulk::Cached), 65 << 20);
        }
    }

    #[test]
    fn blocks_that_are_handed_over_arrive_in_their_place_among_other_writes() {
        let content: Vec<u8> = (0..23 * BLOCK).map(|n| u8::try_from(n / 7 % 253).expect("a byte")).collect();
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).expect("a file");
        io::Write::write_all(&mut file, &vec![1; usize::try_from(HEAD).expect("small")]).expect("the head");
        let Some(mut direct) = Direct::begin(&file) else { return };
        let (mut rest, mut block, mut lent) = (&content[..], Block::new(), 0);
        // All lengths of what is over, blocks that are nearly empty and full, and writes in between.
        for (round, length) in
            (1..).zip([1, 4095, 4096, 983_280, BLOCK, 70_001, 0, BLOCK - 4096, 15 * 65_552].iter().cycle())
        {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(rest.len().min(*length));
            assert_eq!(block.fill(piece), piece.len());
            lent += usize::from(!direct.block.bytes().is_empty());
            block = direct.give(block).expect("taken");
            assert!(block.bytes().is_empty());
            rest = after;
            if round % 5 == 0 && !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(100_003));
                let written = direct.write(piece).expect("written");
                rest = &rest[written.min(piece.len())..];
                assert!(rest.len() >= after.len());
            }
        }
        assert!(lent > 10, "hardly anything was over: {lent}");
        direct.end().expect("ended");
        cached_again(&file).expect("readable at any place");
        file.rewind().expect("at the front");
        let mut read = Vec::new();
        file.read_to_end(&mut read).expect("read");
        assert!(read[usize::try_from(HEAD).expect("small")..] == content, "bytes have changed");
    }

    #[test]
    fn a_write_that_failed_is_told_at_the_latest_at_the_end() {
        let path = tempfile::NamedTempFile::new().expect("a file").into_temp_path();
        let mut file = File::open(&path).expect("opened for reading");
        let Some(mut bulk) = Direct::begin(&file).map(Bulk::Direct) else { return };
        let told = (0..9 * BLOCKS).find_map(|_| {
            let mut piece = &vec![7; BLOCK][..];
            while !piece.is_empty() {
                match bulk.write(&mut file, piece) {
                    Ok(written) => piece = &piece[written..],
                    Err(e) => return Some(e),
                }
            }
            None
        });
        let told = told.expect("blocks do not come back");
        assert_eq!(told.raw_os_error(), Some(rustix::io::Errno::BADF.raw_os_error()), "{told}");
        assert!(bulk.end().is_err());
    }
}
