//! Dumps that are hostile or cut; whole ones come from real servers in `tests/postgres`.

mod directory;

use super::*;

#[test]
fn what_is_cut_or_nonsense_is_damage_and_never_a_panic() {
    let mut head = b"PGDMP\x01\x0e\x00\x04\x08\x01".to_vec();
    head.extend([0; 5]);
    for length in 0..head.len() {
        assert!(custom(&head[..length], "a test", &mut Nobody).is_err());
    }
    for (at, value) in [(5, 9), (8, 0), (8, 200), (9, 0), (10, 77)] {
        let mut bad = head.clone();
        bad[at] = value;
        assert!(custom(&bad[..], "a test", &mut Nobody).is_err());
    }
    // A text that says it is very long costs nothing but what is there.
    head.extend([0; 35]);
    head.extend([0, 255, 255, 255, 127]);
    assert_eq!(custom(&head[..], "a test", &mut Nobody).expect_err("refused").kind(), Kind::Damaged);
}

#[test]
fn a_script_that_does_not_say_that_it_is_whole_is_cut_off() {
    let text = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nCREATE TABLE public.t (\n    a text\n);\n\n\
                COPY public.t (a) FROM stdin;\nx\n\\N\n\\.\n\n\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n";
    let read = |text: &str| script::scan(text.as_bytes(), "a test", &mut Nobody);
    assert_eq!(read(text).expect("whole").counts()["public.t"], 2);
    for cut in ["\\.\n", "-- PostgreSQL database dump complete"] {
        let at = text.find(cut).expect("there");
        assert_eq!(read(&text[..at]).expect_err("cut").kind(), Kind::Damaged, "{cut}");
    }
}

/// Writes a dump of version 1.14 of the format.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: i32) {
        self.0.push(u8::from(number < 0));
        self.0.extend(number.unsigned_abs().to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(i32::try_from(text.len()).expect("short"));
        self.0.extend(text.as_bytes());
    }

    fn head(entries: &[(i32, &str, &str)]) -> Self {
        let mut writer = Self(b"PGDMP\x01\x0e\x00\x04\x08\x01".to_vec());
        for _ in 0..8 {
            writer.number(0);
        }
        for text in ["db", "15.14", "15.14"] {
            writer.text(text);
        }
        writer.number(i32::try_from(entries.len()).expect("few"));
        for (id, kind, tag) in entries {
            writer.number(*id);
            writer.number(1);
            for text in ["0", "0", tag, kind] {
                writer.text(text);
            }
            writer.number(3);
            for text in ["", "", "COPY …", "public", "", "", "app", "false"] {
                writer.text(text);
            }
            writer.number(-1);
            writer.0.extend([2, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        writer
    }

    fn chunks(&mut self, chunks: &[&str]) {
        for chunk in chunks {
            self.text(chunk);
        }
        self.number(0);
    }
}

/// A dump with four tables and large objects.
fn some_dump() -> Vec<u8> {
    let entries = [
        (9, "TABLE DATA", "a"),
        (2, "TABLE DATA", "b"),
        (3, "TABLE DATA", "c"),
        (4, "TABLE DATA", "d"),
        (300, "BLOBS", "BLOBS"),
    ];
    let mut writer = Writer::head(&entries);
    for (id, _, tag) in &entries[..4] {
        writer.0.push(1);
        writer.number(*id);
        writer.chunks(&[&tag.repeat(3), &tag.repeat(70_000), tag]);
    }
    writer.0.push(3);
    writer.number(300);
    for object in [16_400, 16_401] {
        writer.number(object);
        writer.chunks(&["object", "s"]);
    }
    writer.number(0);
    writer.0
}

/// What each entry of a dump has: its bytes, or how many large objects.
fn contents_of(dump: &[u8]) -> Vec<(i64, usize)> {
    let mut archive = Archive::begin(dump, "a test").expect("begun");
    let mut found = Vec::new();
    while let Some(block) = archive.next_block().expect("a block") {
        found.push(match block {
            Block::Table(place) => {
                let mut bytes = Vec::new();
                archive.data().expect("data").read_to_end(&mut bytes).expect("read");
                (archive.head.entries[place].id, bytes.len())
            }
            Block::Objects(place) => (
                archive.head.entries[place].id,
                usize::try_from(archive.skip_objects().expect("objects")).expect("few"),
            ),
        });
    }
    found
}

fn lanes_of(dump: &[u8], sizes: &[(&str, u64)], most: usize) -> Vec<Vec<(i64, usize)>> {
    let (beginning, _) = Beginning::read(Box::new(std::io::Cursor::new(dump.to_vec())), "a test").expect("begun");
    let sizes = sizes.iter().map(|(table, size)| (("public".to_owned(), (*table).to_owned()), *size)).collect();
    let shares = Shares::new(&beginning, &sizes, most);
    let read = |number| {
        let mut bytes = Vec::new();
        let lane = Lane::new(dump, "a test", &beginning, &shares, number);
        lane.expect("a lane").read_to_end(&mut bytes).expect("read");
        contents_of(&bytes)
    };
    (0..shares.count()).map(read).collect()
}

#[test]
fn lanes_have_each_data_once_and_what_is_no_rows_is_the_first_s() {
    let dump = some_dump();
    let whole = contents_of(&dump);
    assert_eq!(whole, [(9, 70_004), (2, 70_004), (3, 70_004), (4, 70_004), (300, 2)]);
    let sizes = [("a", 5), ("b", 4), ("c", 3), ("d", 2)];
    // Small tables alone are not worth a second lane.
    for (known, most) in [(0, 4), (1, 4), (4, 1)] {
        assert_eq!(lanes_of(&dump, &sizes[..known], most), std::slice::from_ref(&whole));
    }
    for count in 2..=4 {
        let lanes = lanes_of(&dump, &sizes, count);
        assert_eq!(lanes.len(), count);
        // The first has every entry in its order, the others have only what is theirs.
        let ids = |lane: &[(i64, usize)]| lane.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        assert_eq!(ids(&lanes[0]), ids(&whole));
        let mut all: Vec<_> = lanes.iter().flatten().copied().filter(|(_, size)| *size > 0).collect();
        all.sort_by_key(|(id, _)| whole.iter().position(|(other, _)| other == id));
        assert_eq!(all, whole);
        assert!(lanes[1..].iter().flatten().all(|(id, size)| *size > 0 && *id != 300), "{lanes:?}");
    }
}

#[test]
fn the_largest_table_has_a_lane_for_itself() {
    let lanes = lanes_of(&some_dump(), &[("c", 90 << 20), ("a", 30 << 20), ("d", 20 << 20), ("b", 10 << 20)], 2);
    let with_data =
        |lane: &[(i64, usize)]| lane.iter().filter(|(_, size)| *size > 0).map(|(id, _)| *id).collect::<Vec<_>>();
    assert_eq!(with_data(&lanes[0]), [3, 300]);
    assert_eq!(with_data(&lanes[1]), [9, 2, 4]);
}

#[test]
fn a_lane_of_what_is_cut_or_given_up_is_an_error() {
    let dump = some_dump();
    let (beginning, _) = Beginning::read(Box::new(std::io::Cursor::new(dump.clone())), "a test").expect("begun");
    let sizes = ["a", "b"].map(|table| (("public".to_owned(), table.to_owned()), 1));
    let shares = Shares::new(&beginning, &BTreeMap::from(sizes), 2);
    let read = |dump: &[u8], number| {
        let mut lane = Lane::new(dump, "a test", &beginning, &shares, number).expect("a lane");
        std::io::copy(&mut lane, &mut std::io::sink()).map(drop).map_err(|e| Error::from_io(Kind::Failed, "", e).kind())
    };
    for number in 0..2 {
        for length in beginning.head.len()..dump.len() {
            // Chunks are long; not every length of them is worth its time.
            if length % 1000 < 30 || dump.len() - length < 100 {
                assert_eq!(read(&dump[..length], number), Err(Kind::Damaged), "{length}");
            }
        }
        assert_eq!(read(&dump, number), Ok(()));
    }
    shares.give_up();
    assert_eq!(read(&dump, 0), Err(Kind::Failed));
}

/// Fails where others end.
struct Wrong;

impl Read for Wrong {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(Error::damaged("another digest").into_io())
    }
}

#[test]
fn the_end_of_a_lane_comes_after_the_end_of_its_input_and_what_follows_never() {
    let dump = some_dump();
    let (beginning, _) = Beginning::read(Box::new(std::io::Cursor::new(dump.clone())), "a test").expect("begun");
    // More behind the dump than any buffer holds.
    let garbage = vec![0; 3 << 20];
    for shares in [Shares::one(), Shares::new(&beginning, &BTreeMap::new(), 4)] {
        let mut all = Vec::new();
        let input = dump.as_slice().chain(garbage.as_slice());
        let mut lane = Lane::new(input, "a test", &beginning, &shares, 0).expect("a lane");
        lane.read_to_end(&mut all).expect("read");
        assert!(all == dump);
        for size in [1000, 1 << 18, 1 << 22] {
            let input = dump.as_slice().chain(garbage.as_slice()).chain(Wrong);
            let mut lane = Lane::new(input, "a test", &beginning, &shares, 0).expect("a lane");
            let (mut buffer, mut held, mut given) = (vec![0; size], 0, 0);
            while let Ok(read @ 1..) = lane.read(&mut buffer) {
                given += held;
                held = read;
            }
            assert!(given < dump.len(), "{given} bytes in pieces of {size}");
        }
    }
}

/// The dump without large objects, with what its entries need.
pub(crate) fn tables_only() -> Vec<u8> {
    let mut writer = Writer::head(&[(9, "TABLE DATA", "a"), (2, "TABLE DATA", "b"), (5, "TABLE DATA", "c")]);
    for (id, tag) in [(9, "a"), (2, "b"), (5, "c")] {
        writer.0.push(1);
        writer.number(id);
        writer.chunks(&[&tag.repeat(3), &tag.repeat(1_300_000), tag]);
    }
    writer.0
}
