//! Round trips, the `zstd` program, and inputs that somebody made to hurt.

use std::io::{self, Cursor, Read, Write};
use std::process::{Command, Stdio};

use zstd::zstd_safe;

use super::*;
use crate::ground::{Error, Kind, Result};

/// Content that compresses by about half.
fn content(size: usize) -> Vec<u8> {
    let mut state = 1_u32;
    (0..size)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 28) as u8
        })
        .collect()
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut writer = FrameWriter::new(Vec::new()).expect("begun");
    writer.write_all(bytes).expect("written");
    writer.finish().expect("finished")
}

/// Written by several threads, in pieces that end nowhere near a frame's end.
fn parallel(bytes: &[u8], threads: usize) -> Vec<u8> {
    let mut writer = ParallelWriter::with_threads(Vec::new(), threads);
    for piece in bytes.chunks(300_007) {
        writer.write_all(piece).expect("written");
    }
    let (stored, frames) = writer.finish().expect("finished");
    for at in [0, bytes.len() / 3, bytes.len() - bytes.len().min(1), bytes.len()] {
        let mut rest = Vec::new();
        match frames.position(at as u64) {
            Some(position) => {
                let mut reader = FrameReader::new(Cursor::new(&stored), "it").expect("begun");
                reader.enter(position).expect("there");
                reader.read_to_end(&mut rest).expect("read");
            }
            None => assert!(at == bytes.len() && at % (4 << 20) == 0, "{at}"),
        }
        assert!(rest == bytes[at..], "{at} of {}", bytes.len());
    }
    stored
}

fn read(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut reader = FrameReader::new(bytes, "it")?;
    reader.read_to_end(&mut content).map_err(|e| Error::from_io(Kind::Failed, "read", e))?;
    Ok(content)
}

fn frames(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while !bytes.is_empty() {
        let length = zstd_safe::find_frame_compressed_size(bytes).expect("a frame");
        lengths.push(length);
        bytes = &bytes[length..];
    }
    lengths
}

#[test]
fn content_of_every_size_reads_back_from_frames_of_4_mib() {
    for size in [0, 1, 1 << 20, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 9 << 20] {
        let stored = compressed(&content(size));
        assert_eq!(frames(&stored).len(), size.div_ceil(4 << 20).max(1), "{size}");
        assert!(read(&stored).expect("read") == content(size), "{size}");
    }
}

#[test]
fn several_threads_write_the_frames_that_one_does() {
    for size in [0, 1, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 43 << 20] {
        let plain = content(size);
        for threads in [1, 2, 4] {
            let stored = parallel(&plain, threads);
            assert_eq!(frames(&stored).len(), size.div_ceil(4 << 20).max(1), "{size} {threads}");
            assert!(read(&stored).expect("read") == plain, "{size} {threads}");
            assert!(stored.len() <= compressed(&plain).len() * 101 / 100 + 8, "{size} {threads}");
        }
    }
}

#[test]
fn a_place_that_takes_no_more_is_an_error_with_several_threads_too() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let plain = content(20 << 20);
    for room in [0, 3 << 20, 9 << 20] {
        let mut writer = ParallelWriter::with_threads(Full(room), 2);
        let failed = writer.write_all(&plain).is_err() || writer.finish().is_err();
        assert!(failed, "{room}");
    }
}

#[test]
fn the_zstd_program_opens_what_we_write_and_we_what_it_writes_in_small_frames() {
    let run = |argument: &str, input: Vec<u8>| {
        let piped = || Stdio::piped();
        let spawned = Command::new("zstd").args([argument, "-c", "-q"]).stdin(piped()).stdout(piped()).spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(e) => {
                let required = std::env::var_os("STRONGROOM_TEST_TOOLS").is_some_and(|v| v == "required");
                assert!(!required, "zstd is needed: {e}");
                #[expect(clippy::print_stderr, reason = "a skipped test says so")]
                {
                    eprintln!("skipped: zstd is not installed ({e})");
                }
                return None;
            }
        };
        let mut stdin = child.stdin.take().expect("a pipe");
        let feeder = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("it ran");
        feeder.join().expect("no panic").expect("fed");
        assert!(output.status.success());
        Some(output.stdout)
    };
    for size in [0, 1, 9 << 20] {
        for stored in [compressed(&content(size)), parallel(&content(size), 2)] {
            let Some(opened) = run("-d", stored) else { return };
            assert!(opened == content(size), "{size}");
        }
    }
    assert!(read(&run("-3", content(3 << 20)).expect("compressed")).expect("read") == content(3 << 20));
    assert!(read(&run("-3", content(5 << 20)).expect("compressed")).is_err());
}

#[test]
fn a_position_is_where_a_reader_finds_the_next_byte() {
    let plain = content(10 << 20);
    let mut writer = FrameWriter::new(Vec::new()).expect("begun");
    let mut places = Vec::new();
    for (number, chunk) in plain.chunks(700_001).enumerate() {
        if number % 4 == 3 {
            writer.end_frame().expect("ended");
            assert_eq!(writer.position().skip, 0);
        }
        places.push(writer.position());
        writer.write_all(chunk).expect("written");
    }
    let stored = writer.finish().expect("finished");
    let mut reader = FrameReader::new(Cursor::new(stored), "it").expect("begun");
    for (number, place) in places.iter().enumerate().rev() {
        assert!(place.skip < FRAME);
        reader.enter(*place).expect("entered");
        let mut bytes = vec![0; 1000];
        reader.read_exact(&mut bytes).expect("read");
        assert!(bytes == plain[number * 700_001..][..1000], "{number}");
    }
    let beyond = Position { frame: 0, skip: 11 << 20 };
    assert!(reader.enter(beyond).is_err());
}

#[test]
fn every_cut_and_every_addition_is_noticed() {
    let stored = compressed(&content(300_000));
    for cut in (0..stored.len()).filter(|n| *n < 40 || n % 1009 == 0 || n + 20 > stored.len()) {
        assert_eq!(read(&stored[..cut]).expect_err("cut").kind(), Kind::Damaged, "{cut}");
    }
    for tail in [&b"x"[..], b"\0", &MAGIC, b"\x50\x2a\x4d\x18\x00\x00\x00\x00", &stored[..9]] {
        let longer = [&stored, tail].concat();
        assert_eq!(read(&longer).expect_err("longer").kind(), Kind::Damaged);
    }
}

#[test]
fn frames_that_hold_or_claim_too_much_are_refused() {
    // Two frames are fine where one of the same content is not, whether it says its size or not.
    let zeros = vec![0; (4 << 20) + 1];
    let declared = zstd::bulk::compress(&zeros, 3).expect("compressed");
    let undeclared = zstd::stream::encode_all(zeros.as_slice(), 3).expect("compressed");
    for bomb in [declared, undeclared] {
        assert_eq!(read(&bomb).expect_err("refused").kind(), Kind::Damaged);
    }
    // A window of 16 MiB, declared in the header: descriptor byte 0, window byte 14 << 3.
    let wide = [MAGIC.as_slice(), &[0, 14 << 3, 1, 0, 0]].concat();
    assert_eq!(read(&wide).expect_err("refused").kind(), Kind::Damaged);
    let eight_mib = [MAGIC.as_slice(), &[0, 13 << 3, 1, 0, 0]].concat();
    assert_eq!(read(&eight_mib).expect("an empty frame"), b"");
}

#[test]
fn no_flipped_bit_is_read_as_other_content() {
    let plain = content(20_000);
    let stored = compressed(&plain);
    for at in 0..stored.len() {
        let mut broken = stored.clone();
        broken[at] ^= 0x10;
        assert!(read(&broken).map_or(true, |bytes| bytes == plain), "{at}");
    }
}

#[test]
fn a_slow_reader_and_a_slow_input_give_the_same() {
    struct Slow<'a>(&'a [u8]);
    impl Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let most = out.len().min(7);
            self.0.read(&mut out[..most])
        }
    }
    let plain = content(50_000);
    let stored = compressed(&plain);
    let mut reader = FrameReader::new(Slow(&stored), "it").expect("begun");
    let (mut got, mut small) = (Vec::new(), [0; 11]);
    loop {
        match reader.read(&mut small).expect("read") {
            0 => break,
            n => got.extend_from_slice(&small[..n]),
        }
    }
    assert!(got == plain);
}
