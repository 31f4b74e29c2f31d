//! The file list: one line a file, in segments that later bundles refer to while nothing in them changes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::members::{PartKind, PartName};
use crate::ground::names::{hex, unhex};
use crate::ground::{Error, Result, json};
use crate::storage::{EntryKind, FileTime, is_own};

/// A segment has at least so many lines before it is cut where a path says so.
pub const SEGMENT_MIN: u64 = 10_000;
/// A segment is cut here in any case.
pub const SEGMENT_MAX: u64 = 100_000;
/// The longest line that is read.
pub const LINE_LIMIT: usize = 64 << 10;

/// Where a file's content lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The part, `<ulid>.tar.age` or `<ulid>.tar.zst.age`.
    pub part: PartName,
    /// The offset of the zstd frame in the decrypted part; in `.tar.age` that of the member's first header.
    pub frame: u64,
    /// Bytes of content before the member's first header in that frame; 0 in `.tar.age`.
    pub skip: u64,
}

/// One file, folder or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLine {
    /// The path: raw bytes, relative, `/` between components.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of content.
    pub size: u64,
    /// When the content changed.
    pub mtime: FileTime,
    /// Permission bits.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The owner's name, where it has one.
    pub user: Option<String>,
    /// The group's name, where it has one.
    pub group: Option<String>,
    /// The target of a link.
    pub target: Option<Vec<u8>>,
    /// BLAKE3 of the content, of files only.
    pub blake3: Option<[u8; 32]>,
    /// Where the content lies, of files only.
    pub place: Option<Place>,
}

/// The line as JSON has it.
#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    kind: EntryKind,
    size: u64,
    mtime: String,
    mode: String,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skip: Option<u64>,
}

/// Bytes as text where they are UTF-8, else as base64 under the other name.
pub(super) fn to_pair(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// The bytes of such a pair; `None` when both or neither is there, or base64 hides text.
pub(super) fn from_pair(text: Option<String>, base64: Option<&str>) -> Option<Vec<u8>> {
    match (text, base64) {
        (Some(text), None) => Some(text.into_bytes()),
        (None, Some(base64)) => STANDARD.decode(base64).ok().filter(|bytes| std::str::from_utf8(bytes).is_err()),
        _ => None,
    }
}

/// Whether these bytes are a path that stays below its root, and out of the folder in which a restore keeps what it replaces.
pub fn is_path(path: &[u8]) -> bool {
    !path.is_empty()
        && path.len() <= 8192
        && !is_own(path)
        && !path.contains(&0)
        && path.split(|b| *b == b'/').all(|part| !part.is_empty() && part != b"." && part != b"..")
}

/// `seconds.nanoseconds`, nine digits after the point.
fn time_text(time: FileTime) -> String {
    format!("{}.{:09}", time.seconds, time.nanoseconds)
}

fn time_of(text: &str) -> Option<FileTime> {
    let (seconds, nanoseconds) = text.split_once('.')?;
    if nanoseconds.len() != 9 || !nanoseconds.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let time = FileTime { seconds: seconds.parse().ok()?, nanoseconds: nanoseconds.parse().ok()? };
    // A reader must not take two texts for one time.
    (time_text(time) == text && time.seconds.unsigned_abs() < 1 << 40).then_some(time)
}

impl FileLine {
    /// The line's JSON, without a newline.
    pub fn to_line(&self) -> Result<Vec<u8>> {
        let (path, path_b64) = to_pair(&self.path);
        let (target, target_b64) = self.target.as_deref().map_or((None, None), to_pair);
        json::line(&Wire {
            path,
            path_b64,
            kind: self.kind,
            size: self.size,
            mtime: time_text(self.mtime),
            mode: format!("{:04o}", self.mode),
            uid: self.uid,
            gid: self.gid,
            user: self.user.clone(),
            group: self.group.clone(),
            target,
            target_b64,
            blake3: self.blake3.as_ref().map(|b| hex(b)),
            part: self.place.as_ref().map(|p| p.part.file_name()),
            frame: self.place.as_ref().map(|p| p.frame),
            skip: self.place.as_ref().map(|p| p.skip),
        })
    }

    /// Reads a line and everything that a line must be by itself; the order of lines is for who reads them all.
    pub fn parse(line: &[u8]) -> Result<Self> {
        let wire: Wire = json::parse(line, "a line of the file list")?;
        Self::check(wire).ok_or_else(|| Error::damaged("a line of the file list is not what a file list holds"))
    }

    fn check(wire: Wire) -> Option<Self> {
        let path = from_pair(wire.path, wire.path_b64.as_deref()).filter(|p| is_path(p))?;
        let target = match (wire.target, wire.target_b64) {
            (None, None) => None,
            (text, base64) => Some(from_pair(text, base64.as_deref())?),
        };
        let mode =
            u32::from_str_radix(&wire.mode, 8).ok().filter(|m| *m <= 0o7777 && format!("{m:04o}") == wire.mode)?;
        let blake3 = match wire.blake3 {
            Some(text) => Some(unhex::<32>(&text)?),
            None => None,
        };
        let place = match (wire.part, wire.frame, wire.skip) {
            (Some(part), Some(frame), Some(skip)) => Some(Place { part: PartName::parse(&part)?, frame, skip }),
            (None, None, None) => None,
            _ => return None,
        };
        if place.as_ref().is_some_and(out_of_range) {
            return None;
        }
        let well = match wire.kind {
            EntryKind::File => target.is_none() && blake3.is_some() && place.is_some(),
            EntryKind::Dir => target.is_none() && blake3.is_none() && place.is_none() && wire.size == 0,
            EntryKind::Symlink => {
                target.as_ref().is_some_and(|t| !t.is_empty() && t.len() <= 4096 && !t.contains(&0))
                    && blake3.is_none()
                    && place.is_none()
                    && wire.size == 0
            }
        };
        well.then_some(Self {
            path,
            kind: wire.kind,
            size: wire.size,
            mtime: time_of(&wire.mtime)?,
            mode,
            uid: wire.uid,
            gid: wire.gid,
            user: wire.user,
            group: wire.group,
            target,
            blake3,
            place,
        })
    }

    /// The mode as `ls -l` begins a line.
    pub fn mode_text(&self) -> String {
        let kind = match self.kind {
            EntryKind::File => '-',
            EntryKind::Dir => 'd',
            EntryKind::Symlink => 'l',
        };
        let bits = (0..9).map(|i| if self.mode & (0o400 >> i) != 0 { ['r', 'w', 'x'][i % 3] } else { '-' });
        std::iter::once(kind).chain(bits).collect()
    }
}

impl Serialize for FileLine {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let line = self.to_line().map_err(serde::ser::Error::custom)?;
        serde_json::from_slice::<serde_json::Value>(&line).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// Whether a place cannot be: a frame holds 4 MiB at most, and a tar file without frames has none to skip in.
fn out_of_range(place: &Place) -> bool {
    match place.part.kind {
        PartKind::TarZst => place.skip > 4 << 20,
        PartKind::Tar => place.skip != 0,
        PartKind::Files => true,
    }
}

/// Whether a segment that has so many lines is cut after this path.
pub fn cut_after(path: &[u8], lines: u64) -> bool {
    if lines >= SEGMENT_MAX {
        return true;
    }
    let digest = Sha256::digest(path);
    lines >= SEGMENT_MIN && digest[30] == 0 && digest[31] == 0
}

/// One line of `files.jsonl.zst.age`: a segment and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentLine {
    /// The segment's file name: `<ulid>.files.zst.age`.
    pub segment: String,
    /// How many lines it has.
    pub lines: u64,
    /// How many of them are files.
    pub files: u64,
    /// Bytes of content of its files.
    pub bytes: u64,
    /// BLAKE3 of its lines, each with its newline.
    pub blake3: String,
}

impl SegmentLine {
    /// The segment's object.
    pub fn name(&self) -> Result<PartName> {
        PartName::parse(&self.segment).ok_or_else(|| Error::damaged(format!("{:?} is no segment", self.segment)))
    }

    /// Reads a line.
    pub fn parse(line: &[u8]) -> Result<Self> {
        let read: Self = json::parse(line, "a line of the list of segments")?;
        let well = PartName::parse(&read.segment).is_some_and(|name| name.kind == PartKind::Files)
            && unhex::<32>(&read.blake3).is_some()
            && (1..=SEGMENT_MAX).contains(&read.lines)
            && read.files <= read.lines;
        if well {
            Ok(read)
        } else {
            Err(Error::damaged("a line of the list of segments is not what such a list holds"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &[u8]) -> FileLine {
        FileLine {
            path: path.to_vec(),
            kind: EntryKind::File,
            size: 7,
            mtime: FileTime { seconds: -3, nanoseconds: 5 },
            mode: 0o640,
            uid: 1,
            gid: 2,
            user: Some("root".into()),
            group: None,
            target: None,
            blake3: Some([7; 32]),
            place: PartName::parse("01ARZ3NDEKTSV4RRFFQ69G5FAV.tar.zst.age").map(|part| Place {
                part,
                frame: 9,
                skip: 512,
            }),
        }
    }

    #[test]
    fn lines_read_back_whatever_the_name() {
        for path in [b"a".as_slice(), b"a/b c/\xc3\xa4", b"bad \xff name", "new\nline".as_bytes()] {
            let line = file(path);
            assert_eq!(FileLine::parse(&line.to_line().expect("written")).expect("read"), line);
        }
        let link = FileLine {
            kind: EntryKind::Symlink,
            size: 0,
            target: Some(b"../\xff".to_vec()),
            blake3: None,
            place: None,
            ..file(b"l")
        };
        assert_eq!(FileLine::parse(&link.to_line().expect("written")).expect("read"), link);
    }

    #[test]
    fn what_a_hostile_list_would_say_is_refused() {
        let good = String::from_utf8(file(b"a").to_line().expect("written")).expect("text");
        assert!(FileLine::parse(good.as_bytes()).is_ok());
        let path = |p: &str| good.replace("\"path\":\"a\"", &format!("\"path\":{p}"));
        for right in ["\".strongrooms\"", "\"a/.strongroom/x\""] {
            assert!(FileLine::parse(path(right).as_bytes()).is_ok(), "{right}");
        }
        for own in ["\".strongroom\"", "\".strongroom/x\""] {
            assert!(FileLine::parse(path(own).as_bytes()).is_err(), "{own}");
        }
        for wrong in ["\"/a\"", "\"../a\"", "\"a/..\"", "\"a//b\"", "\"a/\"", "\"./a\"", "\"\"", "\"a\\u0000b\""] {
            assert!(FileLine::parse(path(wrong).as_bytes()).is_err(), "{wrong}");
        }
        for (from, to) in [
            ("\"kind\":\"file\"", "\"kind\":\"device\""),
            ("\"kind\":\"file\"", "\"kind\":\"dir\""),
            ("\"mode\":\"0640\"", "\"mode\":\"640\""),
            ("\"mode\":\"0640\"", "\"mode\":\"10640\""),
            ("\"size\":7", "\"size\":-7"),
            ("\"size\":7", "\"size\":9007199254740992"),
            ("\"mtime\":\"-3.000000005\"", "\"mtime\":\"-3.5\""),
            ("\"mtime\":\"-3.000000005\"", "\"mtime\":\"+3.000000005\""),
            ("01ARZ3NDEKTSV4RRFFQ69G5FAV.tar.zst.age", "../../x.tar.zst.age"),
            ("\"skip\":512", "\"skip\":99999999"),
            ("\"path\":\"a\"", "\"path\":\"a\",\"path_b64\":\"YQ==\""),
            ("\"path\":\"a\"", "\"path_b64\":\"YQ==\""),
            ("\"path\":\"a\"", "\"path\":\"a\",\"path\":\"b\""),
            ("\"blake3\":\"07", "\"blake3\":\"G7"),
        ] {
            assert!(good.contains(from), "{from}");
            assert!(FileLine::parse(good.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn segments_are_cut_by_the_path_between_their_bounds() {
        assert!(cut_after(b"x", SEGMENT_MAX));
        let cutting = (0_u64..10_000_000)
            .map(|n| n.to_string())
            .find(|p| cut_after(p.as_bytes(), SEGMENT_MIN))
            .expect("one cuts");
        assert!(!cut_after(cutting.as_bytes(), SEGMENT_MIN - 1));
    }
}
