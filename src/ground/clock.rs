//! The time, in the one form that names and records use.

use jiff::Timestamp;

/// Now; a test build may be given another time in `STRONGROOM_TEST_CLOCK` (RFC 3339).
///
/// Several, with spaces between, are told one after the other, and the last from then on; `now` among them is the real one.
pub fn now() -> Timestamp {
    #[cfg(feature = "failpoints")]
    if let Some(told) = told() {
        return told;
    }
    Timestamp::now()
}

#[cfg(feature = "failpoints")]
fn told() -> Option<Timestamp> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static LOOKS: AtomicUsize = AtomicUsize::new(0);

    let times = std::env::var("STRONGROOM_TEST_CLOCK").ok()?;
    let look = LOOKS.fetch_add(1, Ordering::Relaxed);
    times.split(' ').take(look + 1).last()?.parse().ok()
}

/// The time as records hold it: UTC, whole seconds, `2026-11-23T02:00:00Z`.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The time as names hold it: `20261123T020000Z`.
pub fn compact(time: Timestamp) -> String {
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Reads a record's time back; anything but the exact form of [`rfc3339`] is `None`.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let time: Timestamp = text.parse().ok()?;
    (rfc3339(time) == text).then_some(time)
}

/// The form of [`rfc3339`] as serde takes it: `#[serde(with = "clock::text")]`.
pub mod text {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Writes the time.
    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::rfc3339(*time))
    }

    /// Reads the time, in exactly that form.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_rfc3339(&text).ok_or_else(|| D::Error::custom("a time that is not like 2026-11-23T02:00:00Z"))
    }
}
