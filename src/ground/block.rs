//! Memory that is filled, handed over and written as it is, so that bytes are not copied from buffer to buffer.

use std::io::{self, Write};

use zeroize::Zeroize as _;

/// Bytes of a whole block.
pub const BLOCK: usize = 1 << 20;
/// What the place of a direct write is a multiple of, in memory and in the file.
pub(super) const ALIGNMENT: usize = 4096;

/// A MiB of memory; what it holds, or has held, is wiped when it goes: it may be a chunk that was not sealed yet.
///
/// Its first byte stands in memory where a direct write at its place in the file wants it.
pub struct Block {
    memory: Vec<u8>,
    from: usize,
    filled: usize,
    /// Nothing beyond was ever written.
    used: usize,
}

impl Default for Block {
    fn default() -> Self {
        Self::new()
    }
}

impl Block {
    /// An empty one, for a place in a file that is a multiple of what direct writes want.
    pub fn new() -> Self {
        let mut block = Self { memory: vec![0; BLOCK + 2 * ALIGNMENT], from: 0, filled: 0, used: 0 };
        block.clear_for(0);
        block
    }

    /// Empties it, for a place in the file that is so far behind a multiple.
    pub(super) fn clear_for(&mut self, behind: usize) {
        self.filled = 0;
        self.from = self.front() + behind % ALIGNMENT;
    }

    /// Where in memory a multiple lies. Where there is none, direct writes are refused, and the cache is used.
    fn front(&self) -> usize {
        self.memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT)
    }

    /// What it holds.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.from..self.from + self.filled]
    }

    /// What it holds, to be changed where it lies.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.from..self.from + self.filled]
    }

    /// How many bytes it still takes.
    pub fn room(&self) -> usize {
        BLOCK - self.filled
    }

    /// Where at most so many of the next bytes go; they count when [`Block::grow`] says so.
    pub fn room_mut(&mut self, most: usize) -> &mut [u8] {
        let at = self.from + self.filled;
        let end = at + most.min(self.room());
        self.used = self.used.max(end);
        &mut self.memory[at..end]
    }

    /// So many bytes were put into its room.
    pub fn grow(&mut self, bytes: usize) {
        self.filled += bytes.min(self.room());
    }

    /// Takes as many bytes as it has room for.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let room = self.room_mut(bytes.len());
        room.copy_from_slice(&bytes[..room.len()]);
        let taken = room.len();
        self.filled += taken;
        taken
    }

    /// Forgets what it holds.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// Puts what comes before its first byte in front, if it stands where that is possible.
    pub(super) fn put_in_front(&mut self, bytes: &[u8]) -> bool {
        let possible = self.front() + bytes.len() == self.from;
        if possible {
            self.from -= bytes.len();
            self.memory[self.from..self.from + bytes.len()].copy_from_slice(bytes);
            self.filled += bytes.len();
        }
        possible
    }

    /// Keeps whole multiples of what direct writes want, and gives the rest to `rest`.
    pub(super) fn cut(&mut self, rest: &mut Self) {
        let whole = self.filled / ALIGNMENT * ALIGNMENT;
        rest.clear_for(0);
        rest.fill(&self.bytes()[whole..]);
        self.filled = whole;
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // Also what was put into its room and never counted; the rest of a small one is not touched.
        self.memory[..self.used].zeroize();
    }
}

/// A writer that takes whole blocks, without copying them if it can.
pub trait TakeBlocks: Write {
    /// Is shown the beginning, or more, of what will be given next, while it is still in the processor's cache.
    fn show(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// Writes what the block holds, and gives back an empty one.
    fn give(&mut self, mut block: Block) -> io::Result<Block> {
        self.write_all(block.bytes())?;
        block.clear();
        Ok(block)
    }
}

impl<W: TakeBlocks + ?Sized> TakeBlocks for Box<W> {
    fn show(&mut self, bytes: &[u8]) -> io::Result<()> {
        (**self).show(bytes)
    }

    fn give(&mut self, block: Block) -> io::Result<Block> {
        (**self).give(block)
    }
}

impl TakeBlocks for Vec<u8> {}
impl TakeBlocks for io::Sink {}
