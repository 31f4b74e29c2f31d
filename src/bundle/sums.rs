//! `SHA256SUMS`: every object of a bundle and its digest, as `sha256sum -c` takes it.
//!
//! A line is 64 hex digits, two spaces, a name, LF. Names are sorted by bytes, unique, and on a closed list; the header, the
//! proof and the file list are always there. There is one way to write a list, so there is one signature of it.

use std::collections::BTreeMap;

use super::members::{Listed, Member, PartName};
use crate::ground::names::{AppName, Sha256Hex, hex, unhex};
use crate::ground::{Error, Result};

/// How long a list may be in bytes; about 600,000 parts, of which each aims at 256 MiB.
pub const LIMIT: u64 = 64 << 20;

/// Digits and spaces before the name.
const BEFORE: usize = 66;

/// The digests of a bundle's objects.
#[derive(Clone, PartialEq, Eq)]
pub struct Sums {
    app: AppName,
    // Raw digests: half a million of them should not take twice the room.
    entries: BTreeMap<Box<str>, [u8; 32]>,
}

impl Sums {
    /// An empty list, to be filled.
    pub fn new(app: &AppName) -> Self {
        Self { app: app.clone(), entries: BTreeMap::new() }
    }

    /// Reads a list strictly; `what` names it in errors ([`crate::ground::Kind::Damaged`]).
    pub fn parse(bytes: &[u8], app: &AppName, what: &str) -> Result<Self> {
        let wrong = |number: usize, why: &str| Error::damaged(format!("{what}, line {number}: {why}"));
        if bytes.len() as u64 > LIMIT {
            return Err(Error::damaged(format!("{what} is longer than {LIMIT} bytes")));
        }
        let mut entries = BTreeMap::new();
        let mut last = "";
        let Some(text) = bytes.strip_suffix(b"\n") else {
            return Err(Error::damaged(format!("{what} does not end its last line")));
        };
        for (number, line) in (1..).zip(text.split(|b| *b == b'\n')) {
            let line = str::from_utf8(line).map_err(|_| wrong(number, "it is not text"))?;
            let (digest, name) =
                line.split_at_checked(BEFORE).ok_or_else(|| wrong(number, "it is no digest and name"))?;
            let digest = digest
                .strip_suffix("  ")
                .and_then(unhex::<32>)
                .ok_or_else(|| wrong(number, "it does not begin with 64 hex digits and two spaces"))?;
            if Listed::parse(name, app).is_none() {
                return Err(wrong(number, "no bundle of this application has an object of that name"));
            }
            if name <= last {
                return Err(wrong(number, "the names are not sorted, or one is there twice"));
            }
            last = name;
            entries.insert(name.into(), digest);
        }
        let sums = Self { app: app.clone(), entries };
        match sums.lacking() {
            None => Ok(sums),
            Some(member) => Err(Error::damaged(format!("{what} does not list {}", member.file_name()))),
        }
    }

    /// A mandatory member that is not listed.
    pub fn lacking(&self) -> Option<Member> {
        [Member::Header, Member::Proof, Member::Files].into_iter().find(|member| !self.has(member))
    }

    /// The list's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.keys().map(|name| name.len() + BEFORE + 1).sum());
        for (name, digest) in &self.entries {
            bytes.extend_from_slice(hex(digest).as_bytes());
            bytes.extend_from_slice(b"  ");
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(b'\n');
        }
        bytes
    }

    /// Adds an object by its name in the list; one that is there with the same digest stays, with another it is an error.
    pub(super) fn add(&mut self, name: &str, digest: &Sha256Hex) -> Result<()> {
        if Listed::parse(name, &self.app).is_none() {
            return Err(Error::failed(format!("no bundle of {} lists an object {name:?}", self.app)));
        }
        let bytes = unhex::<32>(digest.as_str()).ok_or_else(|| Error::failed("a digest does not have 64 digits"))?;
        let listed = self.entries.entry(name.into()).or_insert(bytes);
        if *listed == bytes { Ok(()) } else { Err(Error::failed(format!("{name} would be listed with two digests"))) }
    }

    /// How many objects are listed.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a member is listed.
    pub fn has(&self, member: &Member) -> bool {
        self.entries.contains_key(member.file_name().as_str())
    }

    /// A member's digest.
    pub fn member(&self, member: &Member) -> Option<Sha256Hex> {
        self.entries.get(member.file_name().as_str()).map(Sha256Hex::from_bytes)
    }

    /// A part's digest.
    pub fn part(&self, part: &PartName) -> Option<Sha256Hex> {
        self.entries.get(part.relative(&self.app).as_str()).map(Sha256Hex::from_bytes)
    }

    /// Everything that is listed, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (Listed, Sha256Hex)> + '_ {
        self.entries
            .iter()
            .filter_map(|(name, digest)| Some((Listed::parse(name, &self.app)?, Sha256Hex::from_bytes(digest))))
    }

    /// The members that are listed.
    pub fn members(&self) -> impl Iterator<Item = (Member, Sha256Hex)> + '_ {
        self.iter().filter_map(|(listed, digest)| match listed {
            Listed::Member(member) => Some((member, digest)),
            Listed::Part(_) => None,
        })
    }

    /// The parts and segments that are listed.
    pub fn parts(&self) -> impl Iterator<Item = (PartName, Sha256Hex)> + '_ {
        self.iter().filter_map(|(listed, digest)| match listed {
            Listed::Part(part) => Some((part, digest)),
            Listed::Member(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::Kind;

    const PART: &str = "../../../parts/shop/EF/01JDQ8ZK3V9W5X6Y7Z8A9BCDEF.tar.age";

    fn app() -> AppName {
        "shop".parse().expect("a name")
    }

    fn lines() -> Vec<String> {
        let names = [PART, "bundle.json", "database.sqlite.zst.age", "files.jsonl.zst.age", "proof.jsonl.zst.age"];
        names.iter().map(|name| format!("{}  {name}\n", Sha256Hex::of(name.as_bytes()))).collect()
    }

    fn parse(text: &str) -> Result<Sums> {
        Sums::parse(text.as_bytes(), &app(), "it")
    }

    fn refused(text: &str) -> bool {
        parse(text).err().is_some_and(|e| e.kind() == Kind::Damaged)
    }

    #[test]
    fn a_list_is_written_as_it_is_read() {
        let text = lines().concat();
        let sums = parse(&text).expect("good");
        assert_eq!(sums.to_bytes(), text.as_bytes());
        assert_eq!(sums.len(), 5);
        assert_eq!(sums.member(&Member::Proof), Some(Sha256Hex::of(b"proof.jsonl.zst.age")));
        assert_eq!(sums.member(&Member::Key), None);
        let (part, digest) = sums.parts().next().expect("a part");
        assert_eq!(digest, Sha256Hex::of(PART.as_bytes()));
        assert_eq!(sums.part(&part), Some(digest));
        assert_eq!((sums.parts().count(), sums.members().count()), (1, 4));
    }

    #[test]
    fn a_list_without_its_mandatory_members_is_refused() {
        for leave_out in 0..5 {
            let mut some = lines();
            some.remove(leave_out);
            assert_eq!(refused(&some.concat()), matches!(leave_out, 1 | 3 | 4), "{leave_out}");
        }
        assert!(refused(""));
        assert!(refused("\n"));
    }

    #[test]
    fn no_other_way_to_write_a_list_is_accepted() {
        let good = lines();
        let text = good.concat();
        assert!(refused(text.trim_end()), "no LF at its end");
        assert!(refused(&text.replace('\n', "\r\n")), "CRLF");
        assert!(refused(&format!("{text}\n")), "an empty line");
        assert!(refused(&format!("# comment\n{text}")), "a comment");
        assert!(refused(&text.replace("  ", " *")), "binary mark");
        assert!(refused(&text.replace("  ", " ")), "one space");
        assert!(refused(&text.replace("  ", "   ")), "three spaces");
        assert!(refused(&text.replace("  ", "\t ")), "a tab");
        assert!(refused(&text.replace("bundle.json", "./bundle.json")));
        assert!(refused(&text.replace("bundle.json\n", "bundle.json \n")));
        assert!(refused(&text.replace("bundle.json\n", "bundle.json\0\n")));
        assert!(refused(&text.replace("/shop/", "/blog/")), "another application's part");
        assert!(refused(&text.replace("database.sqlite", "database.other")));
        assert!(refused(&format!("\\{text}")), "an escaped name");
        assert!(refused(&format!("\u{feff}{text}")), "a byte order mark");
        let upper = good[1].to_uppercase().replace("BUNDLE.JSON", "bundle.json");
        assert!(refused(&[&good[0], &upper, &good[2], &good[3], &good[4]].map(String::as_str).concat()));
        assert!(Sums::parse(&[text.as_bytes(), b"\xff\n"].concat(), &app(), "it").is_err());
        // A multi-byte character where the name begins.
        assert!(refused(&format!("{text}{}é\n", "a".repeat(65))));
    }

    #[test]
    fn order_and_uniqueness_are_checked_for_every_pair() {
        let good = lines();
        for a in 0..good.len() {
            for b in 0..good.len() {
                let mut other = good.clone();
                if a == b {
                    other.insert(a, good[a].clone());
                } else {
                    other.swap(a, b);
                }
                assert!(refused(&other.concat()), "{a} {b}");
            }
        }
    }

    #[test]
    fn no_changed_byte_is_the_same_list() {
        let text = lines().concat().into_bytes();
        let good = Sums::parse(&text, &app(), "it").expect("good");
        for at in 0..text.len() {
            for change in [1, 0x20, 0x80] {
                let mut other = text.clone();
                other[at] ^= change;
                match Sums::parse(&other, &app(), "it") {
                    Ok(sums) => assert!(sums != good && sums.to_bytes() == other, "{at}"),
                    Err(error) => assert_eq!(error.kind(), Kind::Damaged),
                }
            }
        }
        for cut in 0..text.len() {
            assert!(Sums::parse(&text[..cut], &app(), "it").is_err(), "{cut}");
        }
    }

    #[test]
    fn one_name_never_gets_two_digests() {
        let mut sums = Sums::new(&app());
        sums.add("key.age", &Sha256Hex::of(b"1")).expect("added");
        sums.add("key.age", &Sha256Hex::of(b"1")).expect("the same again");
        assert!(sums.add("key.age", &Sha256Hex::of(b"2")).is_err());
        assert!(sums.add("../../../parts/shop/x", &Sha256Hex::of(b"1")).is_err());
        assert_eq!(sums.len(), 1);
    }
}
