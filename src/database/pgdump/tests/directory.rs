//! A dump as a directory, given by several readers.

use super::*;
use crate::database::Landmark;

fn beginning(dump: &[u8]) -> Beginning {
    Beginning::read(Box::new(std::io::Cursor::new(dump.to_vec())), "a test").expect("begun").0
}

fn sizes(of: &[(&str, u64)]) -> BTreeMap<Name, u64> {
    of.iter().map(|(table, size)| (("public".to_owned(), (*table).to_owned()), *size)).collect()
}

#[test]
fn a_directory_has_the_entries_of_the_dump_and_the_largest_tables_first() {
    let dump = beginning(&tables_only());
    let directory = Directory::of(&dump, &sizes(&[("c", 7 << 20), ("b", 9 << 20)]), &[]).expect("tables alone");
    // The numbers are the same ones, dealt out again.
    let read = archive::contents(directory.contents.as_slice(), "a test").expect("read");
    let entry = |entry: &Entry| (entry.tag.clone(), entry.id, entry.file.clone());
    let entries: Vec<_> = read.entries.iter().map(entry).collect();
    let expected = [("a", 9, "9.dat"), ("b", 2, "2.dat"), ("c", 5, "5.dat")];
    assert_eq!(entries, expected.map(|(tag, id, file)| (tag.to_owned(), id, file.to_owned())));
    let files = |directory: &Directory| directory.data.iter().map(|d| (d.file.clone(), d.place)).collect::<Vec<_>>();
    assert_eq!(files(&directory), [("2.dat".to_owned(), 1), ("5.dat".to_owned(), 2), ("9.dat".to_owned(), 0)]);
    let other = Directory::of(&dump, &sizes(&[("a", 7 << 20)]), &[]).expect("tables alone");
    assert_eq!(files(&other), [("2.dat".to_owned(), 0), ("5.dat".to_owned(), 1), ("9.dat".to_owned(), 2)]);
    assert!(
        Directory::of(&beginning(&some_dump()), &BTreeMap::new(), &[]).is_none(),
        "large objects are in no file of ours"
    );
}

#[test]
fn what_depends_on_rows_depends_on_them_under_their_new_number() {
    let mut writer = Writer::head(&[(7, "TABLE DATA", "a"), (3, "TABLE DATA", "b")]);
    // As the last entry stands in the dump, but that it needs others.
    let head = writer.0.len() - 9 - 5;
    writer.0.truncate(head);
    for needed in ["7", "3", "1"] {
        writer.text(needed);
    }
    writer.number(-1);
    writer.0.extend([2, 0, 0, 0, 0, 0, 0, 0, 0]);
    let dump = beginning(&writer.0);
    let needs = |contents: &[u8]| archive::contents(contents, "a test").expect("read").entries[1].needs.clone();
    let directory = Directory::of(&dump, &sizes(&[("a", 9)]), &[]).expect("tables alone");
    assert_eq!(needs(&directory.contents), [3, 7, 1]);
    assert_eq!(needs(&Directory::of(&dump, &sizes(&[("b", 9)]), &[]).expect("tables alone").contents), [7, 3, 1]);
}

/// What a reader gives of an entry; its length stands for it where it is right.
fn given(reader: &mut Reader<'_>, directory: &Directory, place: usize) -> std::result::Result<usize, Kind> {
    let data = directory.data.iter().find(|data| data.place == place).expect("there");
    let mut bytes = Vec::new();
    let gather = &mut |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    reader.give(data, gather).map_err(|e| e.kind())?;
    assert!(bytes.iter().all(|byte| *byte == b"abc"[place]));
    Ok(bytes.len())
}

/// The directory of a dump of whose blocks the proof tells these.
fn directory(dump: &[u8], blocks: &[(i64, Range<u64>)]) -> Directory {
    let landmark = |(entry, block): &(i64, Range<u64>)| Landmark {
        entry: *entry,
        begin: block.start,
        end: block.end,
        frame: 0,
        skip: 0,
    };
    let landmarks: Vec<_> = blocks.iter().map(landmark).collect();
    Directory::of(&beginning(dump), &BTreeMap::new(), &landmarks).expect("tables alone")
}

fn open(bytes: &[u8]) -> Box<dyn crate::database::Places> {
    Box::new(std::io::Cursor::new(bytes.to_vec()))
}

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1], [0, 2, 1], [1, 2, 0]];

#[test]
fn readers_find_data_in_any_order_and_what_is_cut_is_damage_where_it_is_cut() {
    let dump = tables_only();
    let blocks = custom_blocks(&dump);
    // The proof tells of all blocks, of some, or of none.
    for told in [&blocks[..], &blocks[1..], &blocks[2..], &blocks[..2], &blocks[..1], &[]] {
        let directory = directory(&dump, told);
        for order in ORDERS {
            let known = Known::of(&directory);
            let mut readers = [0, 1].map(|_| Reader::new(open(&dump), "a test", &known).expect("a reader"));
            for (turn, place) in order.into_iter().enumerate() {
                assert!(!known.whole(&directory), "{order:?}");
                assert_eq!(given(&mut readers[turn % 2], &directory, place), Ok(1_300_004), "{order:?}");
            }
            assert!(known.whole(&directory), "{order:?}");
        }
    }
    let (head, none) = (beginning(&dump).head.len(), directory(&dump, &[]));
    for (lost, cut) in [(0, head), (0, head + 1), (0, head + 900_000), (1, head + 1_300_100), (2, dump.len() - 1)] {
        let known = Known::of(&none);
        for place in [2, 1, 0, 1] {
            let mut reader = Reader::new(open(&dump[..cut]), "a test", &known).expect("a reader");
            let expected = if place < lost { Ok(1_300_004) } else { Err(Kind::Damaged) };
            assert_eq!(given(&mut reader, &none, place), expected, "{place} of what is cut at {cut}");
        }
    }
}

/// A dump; when somebody has read to a place in it, something else happens first.
struct Meanwhile {
    dump: std::io::Cursor<Vec<u8>>,
    at: u64,
    then: Option<Box<dyn FnOnce() + Send>>,
}

impl Read for Meanwhile {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.dump.position() >= self.at
            && let Some(then) = self.then.take()
        {
            then();
        }
        self.dump.read(&mut out[..9])
    }
}

impl std::io::Seek for Meanwhile {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.dump.seek(to)
    }
}

#[test]
fn a_block_that_others_pass_while_one_before_it_is_read_is_found() {
    let dump = tables_only();
    let first = custom_blocks(&dump)[0].1.clone();
    let directory = directory(&dump, &[]);
    // The others give the first table, or the one that is wanted, or all of them.
    for others in [vec![2], vec![0, 2], vec![2, 1], vec![1]] {
        let known = Known::of(&directory);
        std::thread::scope(|scope| {
            let (there, wanted) = std::sync::mpsc::channel::<()>();
            let (done, wait) = std::sync::mpsc::channel::<()>();
            let then = move || {
                there.send(()).expect("somebody waits");
                wait.recv().expect("they have ended");
            };
            let (known, directory, dump) = (&known, &directory, &dump);
            let theirs = others.clone();
            scope.spawn(move || {
                wanted.recv().expect("begun");
                let mut reader = Reader::new(open(dump), "a test", known).expect("a reader");
                for place in theirs {
                    assert_eq!(given(&mut reader, directory, place), Ok(1_300_004));
                }
                done.send(()).expect("somebody waits");
            });
            let slow = Meanwhile {
                dump: std::io::Cursor::new(dump.clone()),
                at: first.start + 99,
                then: Some(Box::new(then)),
            };
            let mut reader = Reader::new(Box::new(slow), "a test", known).expect("a reader");
            assert_eq!(given(&mut reader, directory, 1), Ok(1_300_004), "{others:?}");
        });
    }
}

fn custom_blocks(dump: &[u8]) -> Vec<(i64, Range<u64>)> {
    // These tables have no rows that could be counted; where they are is found on the way to that.
    let mut archive = Archive::begin(dump, "a test").expect("begun");
    let mut blocks = Vec::new();
    loop {
        let begin = archive.place();
        let Some(Block::Table(place)) = archive.next_block().expect("a block") else { break };
        archive.skip_chunks().expect("skipped");
        blocks.push((archive.head.entries[place].id, begin..archive.place()));
    }
    blocks
}

#[test]
fn blocks_that_are_not_where_the_proof_says_are_damage_and_never_another_s_rows() {
    let dump = tables_only();
    let blocks = custom_blocks(&dump);
    let block = |n: usize| blocks[n].1.clone();
    let lies = [
        // Another's place, a place in a block, behind the end, and a block that is shorter or longer than it is.
        vec![(9, block(1))],
        vec![(9, block(1)), (2, block(0))],
        vec![(5, block(2).start + 1..block(2).end)],
        vec![(5, block(2).end..block(2).end + 9)],
        vec![(2, block(1).start..block(1).end - 1)],
        vec![(2, block(1).start..block(2).end)],
    ];
    for told in &lies {
        let directory = directory(&dump, told);
        for order in ORDERS {
            let known = Known::of(&directory);
            let mut reader = Reader::new(open(&dump), "a test", &known).expect("a reader");
            let all: Vec<_> = order.into_iter().map(|place| given(&mut reader, &directory, place)).collect();
            assert!(all.contains(&Err(Kind::Damaged)), "{told:?} {all:?}");
            assert!(!known.whole(&directory), "{told:?}");
        }
    }
    // A row that looks like a block is read as one where the proof sends us, and then two blocks have the same place.
    let mut writer = Writer::default();
    writer.0.push(1);
    writer.number(5);
    writer.chunks(&["ccc"]);
    let forged = String::from_utf8(writer.0).expect("text");
    let mut writer = Writer::head(&[(9, "TABLE DATA", "a"), (5, "TABLE DATA", "c")]);
    let begin = writer.0.len() as u64 + 1 + 5 + 5;
    for (id, rows) in [(9, forged.as_str()), (5, "ccc")] {
        writer.0.push(1);
        writer.number(id);
        writer.chunks(&[rows]);
    }
    let directory = directory(&writer.0, &[(5, begin..begin + forged.len() as u64)]);
    let known = Known::of(&directory);
    let mut reader = Reader::new(open(&writer.0), "a test", &known).expect("a reader");
    for data in &directory.data {
        reader.give(data, &mut |_| Ok(())).expect("a block");
    }
    assert!(!known.whole(&directory));
}
