//! Small damages to bytes, the same ones in every run.

/// Makes damages one after another.
pub(crate) struct Mutator {
    state: u64,
}

/// Bytes that parsers like to stumble over.
const LIKED: [&[u8]; 12] = [
    b"\0",
    b"\n",
    b"\xff\xff\xff\xff",
    b"\"",
    b"{",
    b"[",
    b"-1",
    b"18446744073709551615",
    b"../",
    b"'",
    b"\\",
    b"\r\n",
];

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 }
    }

    /// xorshift64* (Vigna 2016): good enough to choose places, and the same everywhere.
    fn below(&mut self, most: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let mixed = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(mixed).unwrap_or(0) % most.max(1)
    }

    /// One to four damages to `input`, some of which take bytes of `other`.
    pub(crate) fn mutate(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let to = (at + 1 + self.below(32)).min(bytes.len());
            match self.below(8) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at.min(to)..to)),
                2 => {
                    let again = bytes[at.min(to)..to].to_vec();
                    bytes.splice(at..at, again);
                }
                3 => {
                    let liked = LIKED[self.below(LIKED.len())];
                    bytes.splice(at..at, liked.iter().copied());
                }
                4 => {
                    let from = self.below(other.len());
                    let piece = other[from..(from + 1 + self.below(64)).min(other.len())].to_vec();
                    bytes.splice(at.min(to)..to, piece);
                }
                5 => {
                    let liked = LIKED[self.below(LIKED.len())];
                    bytes.splice(at.min(to)..to, liked.iter().copied());
                }
                _ => {
                    let flip = 1 << self.below(8);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= flip;
                    }
                }
            }
        }
        bytes
    }
}
