//! Members of a tar file in pax format (POSIX.1-2001), written without copies and read from any header.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use crate::bundle::filelist::FileLine;
use crate::ground::{Error, Result};
use crate::storage::{Entry, FileTime};

/// The unit that everything in a tar file is a multiple of.
pub(super) const BLOCK: u64 = BLOCK_LEN as u64;
const BLOCK_LEN: usize = 512;

/// The longest extended header that is read; ours have a path and little else.
const EXTENDED_LIMIT: u64 = 64 << 10;

/// Zero bytes after content of this size.
pub(super) fn padding(size: u64) -> usize {
    usize::try_from((BLOCK - size % BLOCK) % BLOCK).unwrap_or(0)
}

/// What a member's headers say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// The path.
    pub(super) path: Vec<u8>,
    /// Bytes of content.
    pub(super) size: u64,
}

/// Appends one record of an extended header: its own length in decimal, the key, the value.
fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    // The length counts its own digits.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Splits the first record of an extended header off: key, value, the rest. By its length, because a value may hold newlines.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let line = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = line.iter().position(|b| *b == b'=')?;
    Some((&line[..equals], &line[equals + 1..], &bytes[length..]))
}

fn time_text(time: FileTime) -> String {
    // pax counts the fraction upwards from a more negative second: -1.5 is -2 and half a second.
    if time.nanoseconds == 0 {
        return time.seconds.to_string();
    }
    if time.seconds >= 0 {
        return format!("{}.{:09}", time.seconds, time.nanoseconds);
    }
    let (whole, fraction) = (-(time.seconds + 1), 1_000_000_000 - time.nanoseconds);
    format!("-{whole}.{fraction:09}")
}

/// Writes the headers of a file's member: an extended one for what the old header cannot hold, then that.
pub(super) fn write_headers(
    out: &mut impl Write,
    scratch: &mut Vec<u8>,
    entry: &Entry,
    user: Option<&str>,
    group: Option<&str>,
) -> io::Result<()> {
    scratch.clear();
    let path = entry.path.as_slice();
    let binary = std::str::from_utf8(path).is_err();
    if binary {
        // GNU tar and bsdtar take the bytes as they are then.
        record(scratch, "hdrcharset", b"BINARY");
    }
    if path.len() > 100 || binary || !path.is_ascii() {
        record(scratch, "path", path);
    }
    if entry.mtime.nanoseconds != 0 || entry.mtime.seconds < 0 || entry.mtime.seconds >= 0o77_777_777_777 {
        record(scratch, "mtime", time_text(entry.mtime).as_bytes());
    }
    if entry.size > 0o77_777_777_777 {
        record(scratch, "size", entry.size.to_string().as_bytes());
    }
    for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if id > 0o7_777_777 {
            record(scratch, key, id.to_string().as_bytes());
        }
    }
    if !scratch.is_empty() {
        let mut header = Header::new_ustar();
        header.set_path("pax_header")?;
        header.set_entry_type(EntryType::XHeader);
        header.set_size(scratch.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        out.write_all(header.as_bytes())?;
        out.write_all(scratch)?;
        out.write_all(&[0; BLOCK_LEN][..padding(scratch.len() as u64)])?;
    }
    let mut header = Header::new_ustar();
    // The name field of the old header is written as bytes: the crate would refuse what pax carries.
    let name = &mut header.as_old_mut().name;
    let shown = &path[..path.len().min(name.len())];
    name[..shown.len()].copy_from_slice(shown);
    header.set_entry_type(EntryType::Regular);
    header.set_size(entry.size.min(0o77_777_777_777));
    header.set_mode(entry.mode);
    header.set_uid(u64::from(entry.uid.min(0o7_777_777)));
    header.set_gid(u64::from(entry.gid.min(0o7_777_777)));
    header.set_mtime(u64::try_from(entry.mtime.seconds).unwrap_or(0).min(0o77_777_777_777));
    for (name, field) in [(user, true), (group, false)] {
        if let Some(name) = name.filter(|n| n.len() < 32) {
            let _ = if field { header.set_username(name) } else { header.set_groupname(name) };
        }
    }
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// Reads a member's headers from where its first one begins; the content follows.
pub(super) fn read_member(input: &mut impl Read, what: &str) -> Result<Member> {
    let damaged = |why: &str| Error::damaged(format!("{what}: {why}"));
    let read_block = |input: &mut dyn Read| -> Result<Header> {
        let mut header = Header::new_ustar();
        input
            .read_exact(header.as_mut_bytes())
            .map_err(|e| Error::from_io(crate::ground::Kind::Damaged, format!("{what}: a tar header is cut"), e))?;
        let sum: u64 = header
            .as_bytes()
            .iter()
            .enumerate()
            .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u64::from(*b) })
            .sum();
        if header.cksum().ok().map(u64::from) != Some(sum) {
            return Err(damaged("there is no tar header where the list says"));
        }
        Ok(header)
    };
    let mut header = read_block(input)?;
    let (mut path, mut size) = (None, None);
    if header.entry_type() == EntryType::XHeader {
        let length =
            header.size().ok().filter(|n| *n <= EXTENDED_LIMIT).ok_or_else(|| damaged("a tar header is absurd"))?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0) + padding(length)];
        input
            .read_exact(&mut bytes)
            .map_err(|e| Error::from_io(crate::ground::Kind::Damaged, format!("{what}: a tar header is cut"), e))?;
        bytes.truncate(usize::try_from(length).unwrap_or(0));
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (key, value, after) = split_record(rest).ok_or_else(|| damaged("a tar header is absurd"))?;
            match key {
                b"path" => path = Some(value.to_vec()),
                b"size" => size = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()),
                _ => {}
            }
            rest = after;
        }
        header = read_block(input)?;
    }
    if !matches!(header.entry_type(), EntryType::Regular) {
        return Err(damaged("a member is no file"));
    }
    let size = match size {
        Some(size) => size,
        None => header.size().map_err(|_| damaged("a tar header is absurd"))?,
    };
    Ok(Member { path: path.unwrap_or_else(|| header.path_bytes().into_owned()), size })
}

impl Member {
    /// Fails unless this is the member that a line of the file list names.
    pub(super) fn must_be(&self, line: &FileLine, what: &str) -> Result<()> {
        if self.path == line.path && self.size == line.size {
            return Ok(());
        }
        Err(Error::damaged(format!("{what}: another member stands where the list says")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::EntryKind;

    fn entry(path: &[u8], size: u64) -> Entry {
        Entry {
            path: path.to_vec(),
            kind: EntryKind::File,
            size,
            mtime: FileTime { seconds: 1_700_000_000, nanoseconds: 123_456_789 },
            ctime: FileTime::default(),
            inode: 1,
            mode: 0o644,
            uid: 1000,
            gid: 5_000_000_000_u64.try_into().unwrap_or(4_000_000_000),
            target: None,
            hard_linked: false,
            sparse: false,
        }
    }

    #[test]
    fn members_read_back_with_any_name_and_size() {
        let long = vec![b'x'; 300];
        for (path, size) in [
            (b"a/b".as_slice(), 0),
            (&long, 5),
            (b"bad \xff name".as_slice(), 9_000_000_000),
            ("\u{e4}/\u{1f511}".as_bytes(), 1 << 40),
            (&[b'y'; 100], 77),
        ] {
            let mut bytes = Vec::new();
            write_headers(&mut bytes, &mut Vec::new(), &entry(path, size), Some("user"), None).expect("written");
            assert_eq!(bytes.len() % 512, 0);
            let member = read_member(&mut bytes.as_slice(), "it").expect("read");
            assert_eq!(member, Member { path: path.to_vec(), size });
        }
    }

    #[test]
    fn garbage_is_no_member() {
        for bytes in [vec![0; 512], vec![0xff; 2048], Vec::new(), vec![b'a'; 100]] {
            assert!(read_member(&mut bytes.as_slice(), "it").is_err());
        }
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for length in 0..120 {
            let mut out = Vec::new();
            record(&mut out, "path", &vec![b'p'; length]);
            let text = String::from_utf8(out.clone()).expect("text");
            assert_eq!(text.split(' ').next().and_then(|n| n.parse().ok()), Some(out.len()));
        }
    }

    #[test]
    fn records_are_split_by_length_and_not_by_newlines() {
        let mut out = Vec::new();
        record(&mut out, "path", b"a\n12 path=b\n\xff");
        record(&mut out, "size", b"7");
        let (key, value, rest) = split_record(&out).expect("a record");
        assert_eq!((key, value), (b"path".as_slice(), b"a\n12 path=b\n\xff".as_slice()));
        assert_eq!(split_record(rest), Some((b"size".as_slice(), b"7".as_slice(), b"".as_slice())));
        for absurd in [&b"9 a=b\n"[..], b"0 a=b\n", b"5 a=b\n", b"6 a=bc", b"-6 a=b\n", b"6 abcd\n", b"3 a", b""] {
            assert_eq!(split_record(absurd), None, "{}", String::from_utf8_lossy(absurd));
        }
    }

    #[test]
    fn times_before_1970_are_written_as_pax_counts_them() {
        assert_eq!(time_text(FileTime { seconds: -2, nanoseconds: 500_000_000 }), "-1.500000000");
        assert_eq!(time_text(FileTime { seconds: 5, nanoseconds: 0 }), "5");
    }
}
