//! Names that cannot be wrong: parsed once, then trusted.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Error, Result, clock};

/// Fills a fixed array with random bytes from the operating system.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| Error::failed("the system gives no random bytes").because(e))?;
    Ok(bytes)
}

/// Lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads exactly `N` bytes of lowercase hex.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 || !digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Gives a parsed text type its `Display`, `Debug`, `FromStr` and serde forms from `parse` and `as_str`.
macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Error::usage(format!("{:?} is not {}", text.chars().take(80).collect::<String>(), $what)))
                }
            }
        }
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_label(text: &str) -> bool {
    let mut bytes = text.bytes();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= 63 && bytes.next().is_some_and(plain) && bytes.all(|b| plain(b) || b == b'-')
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
}

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

fn is_ulid(text: &str) -> bool {
    text.len() == 26 && text.as_bytes()[0] <= b'7' && text.bytes().all(|b| CROCKFORD.contains(&b))
}

text_name!(
    /// An application's name, a custodian's label, or the word for a problem: `[a-z0-9][a-z0-9-]{0,62}`.
    Label,
    "a name of lowercase letters, digits and hyphens, at most 63, beginning with a letter or digit",
    is_label
);

text_name!(
    /// A UUID in lowercase: an archive's or an installation's (RFC 9562, version 4).
    Uuid,
    "a UUID in lowercase",
    is_uuid
);

text_name!(
    /// The name of a part or of a segment of a file list: a ULID in uppercase Crockford base 32.
    Ulid,
    "a ULID",
    is_ulid
);

text_name!(
    /// A bundle's id: `20261123T020000Z-1a2b3c4d`, UTC.
    BundleId,
    "a bundle id such as 20261123T020000Z-1a2b3c4d",
    |text| split_bundle_id(text).is_some()
);

text_name!(
    /// The name of an effective key: 32 hex digits of a slow hash; safe to print.
    Fingerprint,
    "a fingerprint of 32 hex digits",
    |text| unhex::<16>(text).is_some()
);

text_name!(
    /// The name of a sealing key: the first 32 hex digits of SHA-256 of its `age1…` recipient.
    SealingId,
    "a sealing id of 32 hex digits",
    |text| unhex::<16>(text).is_some()
);

text_name!(
    /// A SHA-256 digest in lowercase hex.
    Sha256Hex,
    "a SHA-256 digest of 64 hex digits",
    |text| unhex::<32>(text).is_some()
);

text_name!(
    /// An object's path inside an archive: relative, `/`, plain ASCII components, no `.` or `..`.
    ObjectName,
    "an object's path in an archive",
    |text| {
        text.len() <= 512
            && text.split('/').all(|part| {
                !part.is_empty()
                    && part != "."
                    && part != ".."
                    && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
            })
    }
);

/// An application's name.
pub type AppName = Label;

fn split_bundle_id(text: &str) -> Option<Timestamp> {
    let (time, random) = text.split_once('-')?;
    unhex::<4>(random)?;
    let digit = |i: usize| time.as_bytes().get(i).is_some_and(u8::is_ascii_digit);
    if time.len() != 16 || !(0..8).chain(9..15).all(digit) {
        return None;
    }
    let (y, mo, d) = (&time[0..4], &time[4..6], &time[6..8]);
    let (h, mi, s) = (&time[9..11], &time[11..13], &time[13..15]);
    let parsed: Timestamp = format!("{y}-{mo}-{d}T{h}:{mi}:{s}Z").parse().ok()?;
    (clock::compact(parsed) == time).then_some(parsed)
}

impl BundleId {
    /// A new id for a bundle begun at this time.
    pub fn new(time: Timestamp) -> Result<Self> {
        Ok(Self(format!("{}-{}", clock::compact(time), hex(&random::<4>()?))))
    }

    /// When the bundle was begun, by its name.
    pub fn time(&self) -> Timestamp {
        split_bundle_id(&self.0).unwrap_or_default()
    }
}

impl Uuid {
    /// A new random UUID (version 4).
    pub fn new() -> Result<Self> {
        let mut b = random::<16>()?;
        b[6] = (b[6] & 0x0f) | 0x40;
        b[8] = (b[8] & 0x3f) | 0x80;
        let h = hex(&b);
        Ok(Self(format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])))
    }
}

impl Ulid {
    /// A new ULID at this time (<https://github.com/ulid/spec>): 48 bits of milliseconds, 80 random bits.
    pub fn new(time: Timestamp) -> Result<Self> {
        let mut low = [0; 16];
        low[6..].copy_from_slice(&random::<10>()?);
        let millis = u128::try_from(time.as_millisecond()).unwrap_or_default() & 0xffff_ffff_ffff;
        let value = (millis << 80) | u128::from_be_bytes(low);
        let text = (0..26).rev().map(|i| char::from(CROCKFORD[((value >> (i * 5)) & 31) as usize]));
        Ok(Self(text.collect()))
    }

    /// The folder of parts that it lies in: its last two characters.
    pub fn shelf(&self) -> &str {
        &self.0[24..]
    }
}

impl Fingerprint {
    /// From the sixteen bytes of the slow hash.
    pub fn from_bytes(bytes: &[u8; 16]) -> Self {
        Self(hex(bytes))
    }

    /// What people see: the first twelve digits.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl SealingId {
    /// From the first sixteen bytes of the recipient's SHA-256.
    pub fn from_bytes(bytes: &[u8; 16]) -> Self {
        Self(hex(bytes))
    }
}

impl Sha256Hex {
    /// From a digest.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(hex(bytes))
    }

    /// Of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::from_bytes(&sha2::Sha256::digest(bytes).into())
    }
}

impl ObjectName {
    /// The object of this name below this one.
    pub fn join(&self, name: &str) -> Result<Self> {
        format!("{self}/{name}").parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_their_pattern() {
        for good in ["a", "package-broker", "0", &"a".repeat(63)] {
            assert!(good.parse::<Label>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a_b", "a/b", "a.b", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<Label>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bundle_id_is_a_real_time_and_eight_hex_digits() {
        let id: BundleId = "20261123T020000Z-1a2b3c4d".parse().expect("an id");
        assert_eq!(clock::rfc3339(id.time()), "2026-11-23T02:00:00Z");
        for bad in ["20261323T020000Z-1a2b3c4d", "20261123T020000Z-1A2b3c4d", "20261123T020000-1a2b3c4d", "x"] {
            assert!(bad.parse::<BundleId>().is_err(), "{bad}");
        }
        let now = clock::now();
        assert_eq!(clock::compact(BundleId::new(now).expect("random").time()), clock::compact(now));
    }

    #[test]
    fn an_object_name_never_leaves_its_archive() {
        for bad in ["", "/a", "a//b", "../a", "a/..", "a/./b", "a\\b", "a b", "a/\0"] {
            assert!(bad.parse::<ObjectName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn new_names_have_their_form() {
        let ulid = Ulid::new(clock::now()).expect("random");
        assert!(ulid.as_str().parse::<Ulid>().is_ok());
        assert_eq!(ulid.shelf().len(), 2);
        assert!(Uuid::new().expect("random").as_str().parse::<Uuid>().is_ok());
    }
}
