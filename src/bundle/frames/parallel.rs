//! Compression into frames on several cores, for one long stream.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use zstd::bulk::Compressor;
use zstd::zstd_safe::{self, CParameter};

use super::{FRAME, LEVEL, Position, WINDOW_LOG};
use crate::ground::{Error, Kind, Result};

/// More threads than this would only wait for the program that makes the dump, and each costs two frames of memory.
const MOST: usize = 4;

/// Compresses into the same frames as [`super::FrameWriter`], several at once; what is written keeps its order.
///
/// Memory is bounded by the threads: two frames' worth each, and one more of each kind. Content of less than a frame starts no
/// thread. Without [`ParallelWriter::finish`] the last frames are missing.
pub struct ParallelWriter<W: Write> {
    out: W,
    frames: Frames,
    /// Compressed bytes so far.
    compressed: u64,
    content: Vec<u8>,
    threads: usize,
    workers: Option<Workers>,
    /// Frames that are being compressed, the oldest first.
    pending: VecDeque<Receiver<Done>>,
    /// Buffers that were used before.
    spare: Vec<Buffers>,
}

/// Where the frames of a stream begin, all of which are full but the last.
#[derive(Debug, Default)]
pub struct Frames(Vec<u64>);

impl Frames {
    /// Where a reader finds the byte with so much content before it; `None` behind the last frame.
    pub fn position(&self, at: u64) -> Option<Position> {
        let number = usize::try_from(at / FRAME).ok()?;
        self.0.get(number).map(|frame| Position { frame: *frame, skip: at % FRAME })
    }
}

struct Buffers {
    content: Vec<u8>,
    packed: Vec<u8>,
}

struct Job {
    buffers: Buffers,
    reply: Sender<Done>,
}

type Done = io::Result<Buffers>;

struct Workers {
    jobs: Sender<Job>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    fn start(threads: usize) -> io::Result<Self> {
        let (jobs, received) = bounded::<Job>(threads + 1);
        let started: io::Result<Vec<_>> = (0..threads)
            .map(|_| {
                let received = received.clone();
                let mut compressor = compressor()?;
                std::thread::Builder::new().name("compress".to_owned()).spawn(move || {
                    for Job { mut buffers, reply } in received {
                        let done = compress(&mut compressor, &buffers.content, &mut buffers.packed).map(|()| buffers);
                        // Nobody listens when the writer was given up.
                        let _ = reply.send(done);
                    }
                })
            })
            .collect();
        Ok(Self { jobs, threads: started? })
    }
}

fn compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
    // As in the other writer: it notices what the memory did between compression and the tags of age.
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    Ok(compressor)
}

fn compress(compressor: &mut Compressor<'_>, content: &[u8], packed: &mut Vec<u8>) -> io::Result<()> {
    packed.clear();
    packed.reserve(zstd_safe::compress_bound(content.len()));
    compressor.compress_to_buffer(content, packed).map(drop)
}

fn frame() -> usize {
    usize::try_from(FRAME).unwrap_or(usize::MAX)
}

impl<W: Write> ParallelWriter<W> {
    /// Begins a stream, with as many threads as there are cores.
    pub fn new(out: W) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with_threads(out, cores.min(MOST))
    }

    /// Begins a stream with so many threads.
    pub(super) fn with_threads(out: W, threads: usize) -> Self {
        Self {
            out,
            frames: Frames::default(),
            compressed: 0,
            content: Vec::new(),
            threads,
            workers: None,
            pending: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// Hands the content at hand to the threads, and writes what they have ready.
    fn submit(&mut self) -> io::Result<()> {
        while self.pending.len() > self.threads {
            self.take()?;
        }
        let mut buffers = self.spare.pop().unwrap_or_else(|| Buffers { content: Vec::new(), packed: Vec::new() });
        std::mem::swap(&mut buffers.content, &mut self.content);
        self.content.clear();
        let workers = match &self.workers {
            Some(workers) => workers,
            None => self.workers.insert(Workers::start(self.threads)?),
        };
        let (reply, done) = bounded(1);
        workers.jobs.send(Job { buffers, reply }).map_err(|_| gone())?;
        self.pending.push_back(done);
        Ok(())
    }

    /// Waits for the oldest frame and writes it.
    fn take(&mut self) -> io::Result<()> {
        let Some(oldest) = self.pending.pop_front() else { return Ok(()) };
        let buffers = oldest.recv().map_err(|_| gone())??;
        self.put(&buffers.packed)?;
        self.spare.push(buffers);
        Ok(())
    }

    /// Writes a frame.
    fn put(&mut self, packed: &[u8]) -> io::Result<()> {
        self.frames.0.push(self.compressed);
        self.compressed += packed.len() as u64;
        self.out.write_all(packed)
    }

    fn end(&mut self) -> io::Result<()> {
        if self.workers.is_none() {
            let mut packed = Vec::new();
            compress(&mut compressor()?, &self.content, &mut packed)?;
            return self.put(&packed);
        }
        if !self.content.is_empty() {
            self.submit()?;
        }
        while !self.pending.is_empty() {
            self.take()?;
        }
        if let Some(Workers { jobs, threads }) = self.workers.take() {
            drop(jobs);
            for thread in threads {
                thread.join().map_err(|_| gone())?;
            }
        }
        Ok(())
    }

    /// Ends the stream, and gives back what was written to, and where its frames are.
    ///
    /// A stream without content is one empty frame, because `zstd -d` refuses a file without any.
    pub fn finish(mut self) -> Result<(W, Frames)> {
        self.end().map_err(|e| Error::from_io(Kind::Failed, "cannot end a compressed stream", e))?;
        Ok((self.out, self.frames))
    }
}

fn gone() -> io::Error {
    Error::failed("a thread that compresses has ended").into_io()
}

impl<W: Write> Write for ParallelWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.content.len() == frame() {
            self.submit()?;
        }
        let taken = bytes.len().min(frame() - self.content.len());
        self.content.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Does nothing: a flush in the middle of a frame would only cost space.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
