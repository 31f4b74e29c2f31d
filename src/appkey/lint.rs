//! What is wrong with a key text, said without showing it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::KeyText;
use super::schemes::Scheme;

/// One thing to say about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A word for scripts.
    pub code: &'static str,
    /// What is the matter.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// Whether what was read may be no key, or more than the key.
    pub misread: bool,
}

/// Keys and placeholders that stand in documents for everyone to read, lowercase.
const PUBLISHED: [&str; 14] = [
    "changeme",
    "change-me",
    "change_me",
    "your-encryption-key",
    "your_encryption_key",
    "your-secret-key",
    "your-32-character-encryption-key",
    "your-32-char-encryption-key-here",
    "encryption-key",
    "secret",
    "password",
    "example",
    "insert-key-here",
    "00000000000000000000000000000000",
];

/// Whether a line is `NAME=value`; the equals signs at the end of base64 are none.
fn is_assignment(line: &str) -> bool {
    let line = line.trim();
    let Some((name, value)) = line.strip_prefix("export ").unwrap_or(line).split_once('=') else { return false };
    name.len() > 2
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        && value.trim_matches('=').len() > 2
}

/// Everything there is to say about a key; nothing when all is well.
///
/// No finding holds any of the key's text.
pub fn lint(scheme: &dyn Scheme, key: &KeyText) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut say = |code, message: String, hint: &str| {
        let misread = ["variable", "unexpanded", "white-space", "quotes"].contains(&code);
        found.push(Finding { code, message, hint: hint.to_owned(), misread });
    };
    let bytes = key.expose();
    let recommended = scheme.recommended_bytes();
    let fresh = "A new key is a rotation: every credential has to be encrypted again under it.";

    let Ok(text) = std::str::from_utf8(bytes) else {
        say(
            "not-text",
            "the key is not UTF-8, so what the application sees of it is not what is written".into(),
            fresh,
        );
        return found;
    };
    if text.lines().any(is_assignment) {
        say(
            "variable",
            "the key looks like a line of a .env file, the variable's name and all".into(),
            "Name the variable in the file: dotenv:PATH#NAME.",
        );
        // Whatever else is wrong with such a text says nothing of the key.
        return found;
    }
    if text.contains("$(") || text.contains("${") || text.contains('`') {
        say(
            "unexpanded",
            "the key holds shell syntax such as $(…) that nothing has expanded; the text itself is the key".into(),
            "Everybody who reads the documentation knows this key. Rotate it.",
        );
    }
    let trimmed = text.trim();
    if trimmed.len() != text.len() {
        say(
            "white-space",
            "the key has white space or a newline around it".into(),
            "Find out whether the application sees it too: `strongroom prove` with and without it tells.",
        );
    }
    let quote = |q: char| trimmed.len() >= 2 && trimmed.starts_with(q) && trimmed.ends_with(q);
    if quote('"') || quote('\'') {
        say(
            "quotes",
            "the key has quotes around it that are part of it".into(),
            "Find out whether the application sees them too: `strongroom prove` with and without them tells.",
        );
    }
    let lower = trimmed.to_lowercase();
    let template =
        ["your-", "your_", "change-me", "changeme", "replace-", "example-"].iter().any(|p| lower.starts_with(p));
    if PUBLISHED.contains(&lower.as_str()) || template {
        say("published", "the key is an example from documentation".into(), "It protects nothing. Rotate it.");
    }
    let characters = text.encode_utf16().count();
    let decoded = STANDARD.decode(trimmed).ok().map(zeroize::Zeroizing::new);
    if decoded.as_ref().is_none_or(|d| d.len() != recommended) {
        say(
            "not-base64",
            format!("the key is not base64 of {recommended} bytes, which is what the application asks for"),
            "`openssl rand -base64 32` makes one. A new key is a rotation.",
        );
    }
    if let Some(counted) = scheme.key_characters() {
        if characters < counted {
            say(
                "short",
                format!("the key has {characters} characters; the application fills it up to {counted} with zeros"),
                fresh,
            );
        }
        if characters > counted && decoded.as_ref().is_none_or(|d| d.len() != recommended) {
            say(
                "cut",
                format!("only the first {counted} of the key's {characters} characters count"),
                "Two keys that begin alike are one key; what follows protects nothing.",
            );
        }
    }
    let counted: Vec<char> = text.chars().take(scheme.key_characters().unwrap_or(usize::MAX)).collect();
    if entropy_bits(&counted) < 64.0 {
        say(
            "low-entropy",
            "the key's characters repeat so much that it can be guessed".into(),
            "`openssl rand -base64 32` makes a good one. A new key is a rotation.",
        );
    }
    found
}

/// An upper bound of what a text can be worth: its own character frequencies, and nothing for runs and ladders.
fn entropy_bits(text: &[char]) -> f64 {
    let mut counts = std::collections::HashMap::new();
    for c in text {
        *counts.entry(*c).or_insert(0_u32) += 1;
    }
    // A step that repeats (aaaa, 1234, zyxw) adds nothing new.
    let steps = text.windows(3).filter(|w| {
        let step = |a: char, b: char| i64::from(u32::from(b)) - i64::from(u32::from(a));
        step(w[0], w[1]) == step(w[1], w[2])
    });
    let predictable = steps.count();
    #[expect(clippy::cast_precision_loss, reason = "an estimate of a short text")]
    let (length, fresh) = (text.len() as f64, text.len().saturating_sub(predictable) as f64);
    let per_character: f64 = counts.values().map(|n| f64::from(*n) / length).map(|p| -p * p.log2()).sum();
    per_character * fresh
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appkey::schemes;

    fn codes(text: &str) -> Vec<&'static str> {
        let scheme = schemes::by_name("package-broker").expect("a scheme");
        let findings = lint(scheme, &KeyText::new(text.as_bytes().to_vec().into()));
        for finding in &findings {
            assert!(text.len() < 5 || !finding.message.contains(text), "{finding:?} shows the key");
        }
        findings.into_iter().map(|f| f.code).collect()
    }

    #[test]
    fn a_key_made_as_documented_is_well() {
        assert_eq!(codes("q2Vw0N9m7yQk3rT5uX8zB1dF4hJ6lP0sA2cE4gI6kM8="), Vec::<&str>::new());
    }

    #[test]
    fn each_fault_has_its_name() {
        assert!(codes("$(openssl rand -base64 32)").contains(&"unexpanded"));
        assert!(codes("q2Vw0N9m7yQk3rT5uX8zB1dF4hJ6lP0sA2cE4gI6kM8=\n").contains(&"white-space"));
        assert!(codes("\"q2Vw0N9m7yQk3rT5uX8zB1dF4hJ6lP0sA2cE4gI6kM8=\"").contains(&"quotes"));
        assert!(codes("your-32-character-encryption-key").contains(&"published"));
        for line in
            ["ENCRYPTION_KEY=q2Vw0N9m7yQk", "# the app\nPORT=3000\nexport ENCRYPTION_KEY=\"q2Vw0N9m\"", "KEY=abc="]
        {
            assert_eq!(codes(line), ["variable"], "{line}");
        }
        for text in ["ABCDEFGHIJKLMNOP==", "Q2VWQ2VW=", "q2Vw=0N9m7y"] {
            assert!(!codes(text).contains(&"variable"), "{text}");
        }
        assert!(codes("short").contains(&"short"));
        assert!(codes("not base64 but long enough to be cut at thirty-two").contains(&"cut"));
        assert!(codes("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=").contains(&"low-entropy"));
        assert!(codes("abcdefghijklmnopqrstuvwxyz0123456789").contains(&"low-entropy"));
        assert!(codes("q2Vw0N9m7yQk3rT5uX8zB1dF4hJ6lP0s").contains(&"not-base64"));
    }
}
