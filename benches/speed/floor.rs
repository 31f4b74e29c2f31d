//! The floor below a backup and a restore: what is done to each byte, and nothing else.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::path::Path;

use strongroom::bundle::digest::DigestWriter;
use strongroom::ground::durable::{Existing, NewFile};
use strongroom::sealing::{SealingKey, stream};

use super::{CHUNK, best, cores, noise, wall};

/// Does something to each core's file at once.
fn on_all_cores(work: impl Fn(usize) + Sync) {
    let work = &work;
    std::thread::scope(|scope| {
        for number in 0..cores() {
            scope.spawn(move || work(number));
        }
    });
}

/// Hands a stream's bytes on as a lane reads them.
fn pieces(mut input: impl std::io::Read, mut take: impl FnMut(&[u8])) {
    let mut buffer = vec![0; CHUNK];
    loop {
        match input.read(&mut buffer).expect("read") {
            0 => return,
            read => take(&buffer[..read]),
        }
    }
}

/// Times both on files of half a GiB.
pub(super) fn floor() {
    const EACH: usize = 512 << 20;
    let folder = tempfile::tempdir().expect("a folder");
    let place = |what: &str, number: usize| folder.path().join(format!("{what}-{number}"));
    let open = |path: &Path| File::open(path).expect("opened");
    let bytes = noise(EACH);
    on_all_cores(|number| {
        let mut file = File::create(place("plain", number)).expect("created");
        file.write_all(&bytes).and_then(|()| file.sync_all()).expect("written");
    });
    drop(bytes);
    let key = SealingKey::generate();
    let store = |number| {
        let file = NewFile::create(&place("sealed", number), 0o600).expect("created");
        let mut out = stream::seal(key.recipient(), DigestWriter::new(file)).expect("begun");
        let mut hash = blake3::Hasher::new();
        let (mut plain, mut left) = (open(&place("plain", number)), EACH);
        while left > 0 {
            // As a lane does it with what is not compressed: read where it is sealed.
            let room = out.room().expect("room");
            let read = plain.read(room).expect("read");
            hash.update(&room[..read]);
            out.filled(read);
            left -= read;
        }
        let (file, digest, _) = out.finish().expect("finished").finish().expect("a digest");
        file.commit(Existing::Replace).expect("made durable");
        black_box((hash.finalize(), digest));
    };
    let fetch = |number| {
        let mut digest = DigestWriter::new(std::io::sink());
        pieces(open(&place("sealed", number)), |piece| digest.write_all(piece).expect("taken"));
        let mut file = NewFile::create(&place("fetched", number), 0o600).expect("created");
        let mut hash = blake3::Hasher::new();
        pieces(stream::open(&key, open(&place("sealed", number)), "it").expect("opened"), |piece| {
            hash.update(piece);
            file.write_all(piece).expect("written");
        });
        file.commit(Existing::Replace).expect("made durable");
        black_box((hash.finalize(), digest.finish().expect("a digest").1));
    };
    println!("\non {} cores at once, by the wall, durable at the end", cores());
    let tell = |name: &str, work: &dyn Fn()| {
        let time = best(wall, &mut [(name, Box::new(work))])[0];
        #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
        let rate = (EACH * cores()) as f64 / time / 1e6;
        println!("  {name:<44} {rate:8.0} MB/s");
    };
    tell("a backup: read, BLAKE3, seal, SHA-256, write", &|| on_all_cores(store));
    // It was written past the cache, and everything here is about what costs processor time.
    on_all_cores(|number| pieces(open(&place("sealed", number)), |_| {}));
    tell("a restore: SHA-256; read, open, BLAKE3, write", &|| on_all_cores(fetch));
}
