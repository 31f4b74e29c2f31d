//! Whether content is worth compressing: what its first bytes say, and a trial of them.

/// Beginnings of formats that are compressed already: offset and bytes.
const COMPRESSED: [(usize, &[u8]); 24] = [
    (0, b"PK\x03\x04"),
    (0, b"PK\x05\x06"),
    (0, b"\x1f\x8b"),
    (0, b"\x28\xb5\x2f\xfd"),
    (0, b"\xfd7zXZ\0"),
    (0, b"BZh"),
    (0, b"7z\xbc\xaf\x27\x1c"),
    (0, b"Rar!\x1a\x07"),
    (0, b"\x04\x22\x4d\x18"),
    (0, b"\x89PNG"),
    (0, b"\xff\xd8\xff"),
    (0, b"GIF8"),
    (8, b"WEBP"),
    (4, b"ftyp"),
    (0, b"\x1a\x45\xdf\xa3"),
    (0, b"OggS"),
    (0, b"fLaC"),
    (0, b"ID3"),
    (0, b"\xff\xfb"),
    (0, b"wOF2"),
    (0, b"wOFF"),
    (0, b"age-encryption.org/"),
    (0, b"!<arch>\ndebian-binary"),
    (0, b"\xed\xab\xee\xdb"),
];

/// How much of a file is tried.
pub(super) const TRIAL: usize = 64 << 10;

/// Whether content that begins so would shrink by 3 % at least.
pub(super) fn worth_compressing(beginning: &[u8]) -> bool {
    if beginning.len() < 64 {
        return true;
    }
    let known = COMPRESSED.iter().any(|(at, magic)| beginning.get(*at..).is_some_and(|b| b.starts_with(magic)));
    if known {
        return false;
    }
    let trial = &beginning[..beginning.len().min(TRIAL)];
    zstd::bulk::compress(trial, 1).is_ok_and(|small| small.len() * 100 < trial.len() * 97)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_worth_it_and_archives_and_noise_are_not() {
        assert!(worth_compressing(&b"the same again and ".repeat(1000)));
        assert!(!worth_compressing(&[b"PK\x03\x04".as_slice(), &[0; 1000]].concat()));
        let noise: Vec<u8> = (0_u32..4096).flat_map(|i| *blake3::hash(&i.to_le_bytes()).as_bytes()).collect();
        assert!(!worth_compressing(&noise));
    }
}
