//! PBKDF2-HMAC-SHA-256 for one block of output (RFC 8018), as fast as one core does SHA-256.
//!
//! A proof is nothing but this: a hundred thousand iterations for every credential. Each is two calls of SHA-256's compression
//! function on a block whose second half never changes, from a state that was keyed once. Implementations that go through a
//! general HMAC fill, pad and copy more than they hash (`benches/speed.rs` compares them).

use hmac::{Hmac, Mac as _};
use sha2::digest::consts::U64;
use sha2::digest::generic_array::GenericArray;
use sha2::{Digest as _, Sha256, compress256};
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes that the compression function takes.
const BLOCK: usize = 64;

type State = [u32; 8];

/// The initial hash value (FIPS 180-4, section 5.3.3).
const INITIAL: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// A key of 32 bytes from a password.
pub(super) fn pbkdf2(password: &[u8], salt: &[u8], iterations: u32) -> Zeroizing<[u8; 32]> {
    // Plain copies stay in registers; wiping them at the end would pin them in memory, for a quarter of the speed. The key
    // itself is in memory all that time.
    let (inner, outer) = (*keyed(password, 0x36), *keyed(password, 0x5c));
    // A digest of 32 bytes after the key's block: a one bit, zeros, and the length of both in bits.
    let mut block: GenericArray<u8, U64> = GenericArray::default();
    block[32] = 0x80;
    block[BLOCK - 8..].copy_from_slice(&((BLOCK as u64 + 32) * 8).to_be_bytes());

    let mut state = first(password, salt);
    let mut sum = state;
    for _ in 1..iterations {
        let middle = hash(&mut block, &inner, &state);
        state = hash(&mut block, &outer, &middle);
        sum.iter_mut().zip(state).for_each(|(sum, word)| *sum ^= word);
    }
    let out = Zeroizing::new(to_bytes(&sum));
    block.zeroize();
    state.zeroize();
    sum.zeroize();
    out
}

/// SHA-256 of a key's block and a digest, from the state after that block.
#[inline]
fn hash(block: &mut GenericArray<u8, U64>, key: &State, digest: &State) -> State {
    // As one array: bytes that are stored word by word cannot be loaded as a vector without waiting for them.
    block[..32].copy_from_slice(&to_bytes(digest));
    let mut state = *key;
    compress256(&mut state, std::slice::from_ref(block));
    state
}

#[inline]
fn to_bytes(state: &State) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// The state after the block of a key, for the inner (`0x36`) or outer (`0x5c`) hash of HMAC (RFC 2104).
fn keyed(password: &[u8], pad: u8) -> Zeroizing<State> {
    let mut block: GenericArray<u8, U64> = GenericArray::default();
    if password.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(password));
    } else {
        block[..password.len()].copy_from_slice(password);
    }
    block.iter_mut().for_each(|byte| *byte ^= pad);
    let mut state = Zeroizing::new(INITIAL);
    compress256(&mut state, std::slice::from_ref(&block));
    block.zeroize();
    state
}

/// The first iteration: HMAC of the salt and the number of the only block of output.
fn first(password: &[u8], salt: &[u8]) -> State {
    let mut hmac = Hmac::<Sha256>::new_from_slice(password).expect("HMAC takes keys of any length");
    hmac.update(salt);
    hmac.update(&1_u32.to_be_bytes());
    let mut digest = hmac.finalize().into_bytes();
    let mut state = [0; 8];
    for (word, bytes) in state.iter_mut().zip(digest.chunks_exact(4)) {
        *word = u32::from_be_bytes(bytes.try_into().expect("four bytes"));
    }
    digest.zeroize();
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::names::hex;

    #[test]
    fn it_is_what_the_well_known_implementation_gives() {
        // Passwords shorter than a block, as long as one, and longer; salts that fill one and more.
        for length in [0, 1, 31, 32, 63, 64, 65, 96, 200] {
            for salt in [0, 8, 16, 51, 52, 60, 64, 100] {
                for iterations in [1, 2, 3, 77] {
                    let (password, salt) = (vec![b'p'; length], vec![b's'; salt]);
                    let mut expected = [0; 32];
                    pbkdf2::pbkdf2_hmac::<Sha256>(&password, &salt, iterations, &mut expected);
                    assert_eq!(*pbkdf2(&password, &salt, iterations), expected, "{length} {} {iterations}", salt.len());
                }
            }
        }
    }

    #[test]
    fn published_vectors_come_out() {
        // RFC 7914, section 11, the first 32 bytes.
        assert_eq!(
            hex(pbkdf2(b"passwd", b"salt", 1).as_ref()),
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
        );
        assert_eq!(
            hex(pbkdf2(b"Password", b"NaCl", 80_000).as_ref()),
            "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
        );
    }
}
