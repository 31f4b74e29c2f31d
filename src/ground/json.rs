//! JSON as the format takes it: no duplicate keys, no floats, no integer of 2⁵³ or more.
//!
//! Two readers that disagree about a document are an attack surface; these are the places where JSON readers disagree
//! (RFC 8259 §4 and §6).

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{Error, Result};

/// The largest integer that every JSON reader keeps exactly, 2⁵³ − 1.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Reads one strict document; `what` names it in the error ([`super::Kind::Damaged`]).
pub fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    let damaged = |e: serde_json::Error| Error::damaged(format!("{what} is not the JSON it should be")).because(e);
    serde_json::from_slice::<Strict>(bytes).map_err(damaged)?;
    serde_json::from_slice(bytes).map_err(damaged)
}

/// Writes one document on one line, without a newline at its end.
pub fn line<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::failed("cannot write a record as JSON").because(e))
}

/// Writes one document for people: indented, with a newline at its end.
pub fn pretty<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut bytes =
        serde_json::to_vec_pretty(value).map_err(|e| Error::failed("cannot write a record as JSON").because(e))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Walks a document and keeps nothing; exists for what it refuses.
struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("strict JSON")
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> std::result::Result<Strict, E> {
        if n > MAX_INTEGER { Err(E::custom("an integer of 2^53 or more")) } else { Ok(Strict) }
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> std::result::Result<Strict, E> {
        if n.unsigned_abs() > MAX_INTEGER { Err(E::custom("an integer of 2^53 or more")) } else { Ok(Strict) }
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> std::result::Result<Strict, E> {
        Err(E::custom("a number that is not an integer below 2^53"))
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_unit<E>(self) -> std::result::Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Strict, A::Error> {
        while seq.next_element::<Strict>()?.is_some() {}
        Ok(Strict)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Strict, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<Strict>()?;
            if !seen.insert(key) {
                return Err(de::Error::custom("a duplicate key"));
            }
        }
        Ok(Strict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> bool {
        parse::<serde_json::Value>(text.as_bytes(), "a test").is_err()
    }

    #[test]
    fn what_json_readers_disagree_about_is_refused() {
        assert!(refused(r#"{"a":1,"a":2}"#));
        assert!(refused(r#"{"a":[{"b":1,"b":1}]}"#));
        assert!(refused("[1.5]"));
        assert!(refused("[1e3]"));
        assert!(refused("[9007199254740992]"));
        assert!(refused("[-9007199254740992]"));
        assert!(refused("[1] [2]"));
        assert!(!refused(r#"{"a":[9007199254740991,-1,null,true,"x"],"b":{"a":1}}"#));
    }
}
