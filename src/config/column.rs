//! Where a credential stands: a column, or a place in the JSON that a column holds, written as SQL has it.

use crate::appkey::credential::MAX_CIPHERTEXT;

/// One step into JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A member of an object: `->'name'`.
    Member(String),
    /// An element of an array: `->0`.
    Element(usize),
}

/// Reads `data->'smtp'->>'password'`: the column, and the steps from there; none for a column alone.
///
/// As in SQL, the last arrow is `->>`, because it yields text. Says what is wrong.
pub(super) fn parse(text: &str) -> Result<(String, Vec<Step>), &'static str> {
    let Some(first) = text.find("->") else { return Ok((text.to_owned(), Vec::new())) };
    let (column, mut rest) = (text[..first].trim(), &text[first..]);
    let mut steps = Vec::new();
    loop {
        rest = rest.strip_prefix("->").ok_or("has something else than an arrow behind a step")?;
        let last = rest.starts_with('>');
        rest = rest.strip_prefix('>').unwrap_or(rest).trim_start();
        let step;
        (step, rest) = one(rest)?;
        steps.push(step);
        rest = rest.trim_start();
        match (last, rest.is_empty()) {
            (true, true) if column.is_empty() => return Err("names no column"),
            (true, true) => return Ok((column.to_owned(), steps)),
            (true, false) => return Err("goes on behind ->>, which yields text"),
            (false, true) => return Err("ends with -> and not with ->>, which yields text"),
            (false, false) => {}
        }
    }
}

fn one(rest: &str) -> Result<(Step, &str), &'static str> {
    if let Some(quoted) = rest.strip_prefix('\'') {
        let end = quoted.find('\'').ok_or("has a quote without its end")?;
        let (name, behind) = (&quoted[..end], &quoted[end + 1..]);
        if behind.starts_with('\'') {
            return Err("has a quote in a name, which is not possible");
        }
        return Ok((Step::Member(name.to_owned()), behind));
    }
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let number = rest[..end].parse().map_err(|_| "has a step that is neither 'a name' nor a number")?;
    Ok((Step::Element(number), &rest[end..]))
}

/// The text at a place in a JSON document; `None` where there is none, or null.
///
/// What is no JSON, or is longer than a credential may be, is answered as it is: it must count as a value that fails, because
/// nothing may hide a row.
pub(super) fn inside(document: &[u8], steps: &[Step]) -> Option<Vec<u8>> {
    if document.len() > MAX_CIPHERTEXT {
        return Some(vec![0; MAX_CIPHERTEXT + 1]);
    }
    let Ok(root) = serde_json::from_slice::<serde_json::Value>(document) else { return Some(document.to_vec()) };
    let mut value = &root;
    for step in steps {
        value = match step {
            Step::Member(name) => value.as_object()?.get(name)?,
            Step::Element(number) => value.as_array()?.get(*number)?,
        };
    }
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone().into_bytes()),
        other => Some(other.to_string().into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_as_in_sql() {
        let member = |name: &str| Step::Member(name.to_owned());
        assert_eq!(parse("data"), Ok(("data".to_owned(), vec![])));
        assert_eq!(parse("data->>'x'"), Ok(("data".to_owned(), vec![member("x")])));
        let long = parse("my data -> 'a b' -> 12 ->> 'c->d'");
        assert_eq!(long, Ok(("my data".to_owned(), vec![member("a b"), Step::Element(12), member("c->d")])));
        for wrong in [
            "->>'x'",
            "d->'x'",
            "d->>'x'->>'y'",
            "d->>",
            "d->>'x",
            "d->>x",
            "d->>'it''s'",
            "d->-1->>'x'",
            "d->'x''y'->>'z'",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_there_is_found_and_what_is_no_json_is_not_hidden() {
        let look = |document: &str, place: &str| {
            let steps = parse(place).expect("a place").1;
            inside(document.as_bytes(), &steps).map(|bytes| String::from_utf8(bytes).expect("text"))
        };
        let document = r#"{"a": [{"b": "x\u0041"}, 7, null], "n": {"t": true}}"#;
        for (place, found) in [
            ("d->'a'->0->>'b'", Some("xA")),
            ("d->'a'->>1", Some("7")),
            ("d->'a'->>2", None),
            ("d->'a'->>3", None),
            ("d->'a'->>'0'", None),
            ("d->>'n'", Some("{\"t\":true}")),
            ("d->'n'->>0", None),
        ] {
            assert_eq!(look(document, place).as_deref(), found, "{place}");
        }
        for broken in ["", "{", "nope", "{} {}"] {
            assert_eq!(look(broken, "d->>'x'").as_deref(), Some(broken));
        }
        assert_eq!(inside(&vec![b' '; MAX_CIPHERTEXT + 1], &[]).map(|b| b.len()), Some(MAX_CIPHERTEXT + 1));
    }
}
