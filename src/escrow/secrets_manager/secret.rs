//! A secret that somebody else keeps in AWS Secrets Manager, such as the application's own key.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use zeroize::Zeroizing;

use super::access::Service;
use super::fault::Call;
use crate::ground::{Error, Result, json, runtime};

/// The current value of a secret, by name or ARN: its bytes as they are, or one member of its text when that is a JSON object.
pub fn read(service: &Service, id: &str, field: Option<&str>) -> Result<Zeroizing<Vec<u8>>> {
    let client = service.client()?;
    let call = Call { access: service.access(), action: "GetSecretValue", secret: id };
    let answer = runtime::wait(async {
        client.get_secret_value().secret_id(id).send().await.map_err(|e| call.error(call.fault(&e)))
    })?;
    let value = match (answer.secret_string, answer.secret_binary) {
        (Some(text), _) => Zeroizing::new(text.into_bytes()),
        (None, Some(bytes)) => Zeroizing::new(bytes.into_inner()),
        (None, None) => return Err(Error::not_found(format!("the secret {id} in {} has no value", service.access()))),
    };
    match field {
        Some(field) => member(&value, id, field),
        None => Ok(value),
    }
}

/// One text of a JSON object; errors show nothing of it.
fn member(object: &[u8], id: &str, field: &str) -> Result<Zeroizing<Vec<u8>>> {
    let what = format!("the secret {id}");
    let wrong = |why: &str| {
        Error::usage(format!("{what} {why}"))
            .hint("A reference like aws-sm:SECRET#FIELD reads a text in a JSON object; without #FIELD it is the whole secret.")
    };
    json::parse::<IgnoredAny>(object, &what).map_err(|_| wrong("is not JSON without duplicate keys and fractions"))?;
    let mut reader = serde_json::Deserializer::from_slice(object);
    match (Member { field }).deserialize(&mut reader) {
        Ok(Some(text)) => Ok(Zeroizing::new(text.as_bytes().to_vec())),
        Ok(None) => Err(Error::not_found(format!("{what} has no member {field}"))
            .hint("Look at its other members with `aws secretsmanager get-secret-value`.")),
        Err(_) => Err(wrong(&format!("is no JSON object in which {field} is a text"))),
    }
}

/// Takes one member and keeps nothing of the others.
struct Member<'a> {
    field: &'a str,
}

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = Option<Zeroizing<String>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<Zeroizing<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.field {
                found = Some(Zeroizing::new(map.next_value::<String>()?));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::Kind;

    #[test]
    fn one_member_of_an_object_is_taken_exactly() {
        let object = br#"{"user":"broker","key":"a \"b\"\u00e9\n","n":5,"deep":{"key":"x"}}"#;
        assert_eq!(&**member(object, "s", "key").expect("there"), "a \"b\"\u{e9}\n".as_bytes());
        assert_eq!(member(object, "s", "none").expect_err("missing").kind(), Kind::NotFound);
    }

    #[test]
    fn what_is_no_such_object_is_refused_without_showing_it() {
        for object in [
            "hunter2",
            r#""hunter2""#,
            r#"["hunter2"]"#,
            r#"{"key":1234}"#,
            r#"{"key":"hunter2","key":"b"}"#,
            r#"{"key":"hunter2""#,
        ] {
            let error = member(object.as_bytes(), "s", "key").expect_err(object);
            assert_eq!(error.kind(), Kind::Usage);
            assert!(!error.chain().contains("hunter2") && !error.chain().contains("1234"), "{}", error.chain());
        }
    }
}
