//! The shape of `strongroom.toml`, with the overrides of the environment and hints for misspelt fields.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::ground::{Error, Result};

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) app: App,
    pub(super) installation: String,
    pub(super) profile: Option<toml::Table>,
    pub(super) key: Key,
    pub(super) database: Option<Database>,
    pub(super) storage: Option<Place>,
    pub(super) archive: ArchivePlace,
    pub(super) sealing: Sealing,
    #[serde(default)]
    pub(super) signing: Signing,
    #[serde(default)]
    pub(super) escrow: Vec<Escrow>,
    #[serde(default)]
    pub(super) rules: Rules,
    #[serde(default)]
    pub(super) notify: Notify,
    #[serde(default)]
    pub(super) env: Env,
    #[serde(default)]
    pub(super) state: Folder,
    #[serde(default)]
    pub(super) scratch: Folder,
}

/// `app = "name"`, or a table `[app]` with the name and the hooks: TOML has no room for both under one key.
pub(super) enum App {
    /// The name alone.
    Name(String),
    /// The name and the hooks.
    Table(AppTable),
}

impl<'de> Deserialize<'de> for App {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        // By hand, because an untagged enum would swallow the message about an unknown field.
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(name) => Ok(Self::Name(name)),
            value => AppTable::deserialize(value).map(Self::Table).map_err(serde::de::Error::custom),
        }
    }
}

impl App {
    pub(super) fn split(self) -> (String, HookTable) {
        match self {
            Self::Name(name) => (name, HookTable::default()),
            Self::Table(table) => {
                let AppTable { name, stop, start, health, set_key } = table;
                (name, HookTable { stop, start, health, set_key })
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppTable {
    name: String,
    stop: Option<Vec<String>>,
    start: Option<Vec<String>>,
    health: Option<Health>,
    set_key: Option<Vec<String>>,
}

/// How to stop, start and ask the application.
#[derive(Debug, Clone, Default)]
pub struct HookTable {
    /// The program that stops it, with its arguments.
    pub stop: Option<Vec<String>>,
    /// The program that starts it.
    pub start: Option<Vec<String>>,
    /// How to ask whether it is well.
    pub health: Option<Health>,
    /// The program that puts a new key, read from standard input, into the application's configuration.
    pub set_key: Option<Vec<String>>,
}

/// A health check that looks at what the answer says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Where to ask.
    pub url: String,
    /// Fields of the JSON answer (`a.b` goes down) and the text that each must have.
    #[serde(default)]
    pub expect: BTreeMap<String, String>,
    /// How long the application may take to become well, in seconds.
    #[serde(default = "sixty")]
    pub within_seconds: u64,
}

fn sixty() -> u64 {
    60
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub(super) source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Database {
    pub(super) url: String,
    pub(super) password: Option<String>,
    #[serde(default)]
    pub(super) command_prefix: Vec<String>,
    pub(super) programs: Option<PathBuf>,
    pub(super) max_lock_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    pub(super) url: String,
}

/// An archive, and which one it has to be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArchivePlace {
    pub(super) url: String,
    pub(super) id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sealing {
    pub(super) recipient: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Signing {
    pub(super) key: Option<PathBuf>,
    #[serde(default)]
    pub(super) trusted: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Escrow {
    pub(super) kind: String,
    pub(super) path: Option<PathBuf>,
    pub(super) address: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) mount: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) auth: Option<super::escrow::Auth>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) profile: Option<String>,
    pub(super) kms_key: Option<String>,
    pub(super) recovery_window_days: Option<u8>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    pub(super) escrow_min_copies: Option<usize>,
    pub(super) key_in_bundle: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Notify {
    pub(super) on_result: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Env {
    #[serde(default)]
    pub(super) pass: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Folder {
    pub(super) folder: Option<PathBuf>,
}

/// Fields that an environment variable may override: section, field, and whether the value is text.
const OVERRIDES: [(&str, &str); 16] = [
    ("key", "source"),
    ("database", "url"),
    ("database", "password"),
    ("database", "programs"),
    ("database", "max_lock_seconds"),
    ("storage", "url"),
    ("archive", "url"),
    ("archive", "id"),
    ("sealing", "recipient"),
    ("signing", "key"),
    ("rules", "escrow_min_copies"),
    ("rules", "key_in_bundle"),
    ("state", "folder"),
    ("scratch", "folder"),
    ("signing", "trusted"),
    ("env", "pass"),
];

/// Reads the text, applies the overrides, and explains what is wrong with it.
pub(super) fn read(text: &str, path: &Path, variables: &[(String, String)]) -> Result<File> {
    let shown = path.display();
    let mut table: toml::Table = toml::from_str(text).map_err(|e| explain(&e, text, &shown.to_string()))?;
    for (section, field) in OVERRIDES {
        let name = variable(section, field);
        let Some((_, value)) = variables.iter().find(|(n, _)| *n == name) else { continue };
        let value = match field {
            "trusted" | "pass" => {
                toml::Value::Array(value.split(',').map(|v| toml::Value::String(v.trim().to_owned())).collect())
            }
            "max_lock_seconds" | "escrow_min_copies" => toml::Value::Integer(
                value.parse().map_err(|_| Error::usage(format!("{name} is {value:?}, which is no number")))?,
            ),
            "key_in_bundle" => toml::Value::Boolean(
                value.parse().map_err(|_| Error::usage(format!("{name} is {value:?}, neither true nor false")))?,
            ),
            _ => toml::Value::String(value.clone()),
        };
        let entry = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let Some(section) = entry.as_table_mut() {
            section.insert(field.to_owned(), value);
        }
    }
    // From text once more when nothing was overridden, so that errors know their line.
    if variables.is_empty() {
        toml::from_str(text).map_err(|e| explain(&e, text, &shown.to_string()))
    } else {
        File::deserialize(toml::Value::Table(table)).map_err(|e| explain(&e, text, &shown.to_string()))
    }
}

/// A message about a type or value, without the value: ``invalid type: integer `7`, expected a string`` loses its 7.
fn without_value(message: &str) -> String {
    let told = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|kind| message.strip_prefix(kind).map(|rest| (*kind, rest)));
    match told.and_then(|(kind, rest)| Some((kind, rest, rest.find(['`', '"'])?, rest.rfind(", expected")?))) {
        Some((kind, rest, value, expected)) if value < expected => {
            format!("{kind}{}{}", rest[..value].trim_end(), &rest[expected..])
        }
        _ => message.to_owned(),
    }
}

/// Says file, line and what is wrong, as in `strongroom.toml line 7: unknown field ulr`, with the nearest known field as hint.
pub(super) fn explain(error: &toml::de::Error, text: &str, shown: &str) -> Error {
    let place = error.span().map_or_else(String::new, |span| {
        let line = text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1);
        format!(" line {line}")
    });
    // The message names fields and types, never a value; values may be secrets that landed in the wrong place.
    let message = without_value(error.message().lines().next().unwrap_or_default());
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown field");
    let result = Error::usage(format!("{shown}{place}: {message}"));
    let line = error.span().and_then(|span| text.get(..span.start)).map_or(0, |before| before.matches('\n').count());
    if let Some((field, _)) = text.lines().nth(line).and_then(|line| line.split_once('=')).filter(|(_, v)| bare(v)) {
        return result.hint(format!("Text stands in quotes: {} = \"…\"", field.trim()));
    }
    if message.starts_with("invalid type") {
        return result.hint("Text stands in quotes, numbers and true or false do not, and lists stand in [ ].");
    }
    let Some(wrong) = quoted.next().filter(|_| unknown) else { return result };
    let nearest = quoted.max_by(|a, b| strsim::jaro_winkler(a, wrong).total_cmp(&strsim::jaro_winkler(b, wrong)));
    match nearest {
        Some(field) => result.hint(format!("Did you mean `{field}`?")),
        None => result,
    }
}

/// Whether a value is text without quotes.
fn bare(value: &str) -> bool {
    let value = value.trim();
    value.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '.' | '~'))
        && !["true", "false", "inf", "nan"].contains(&value)
}

/// Fails for a variable that looks like ours and is none; `mentioned` says whether somebody names it as the place of a secret.
pub fn known_variables(variables: &[(String, String)], mentioned: &dyn Fn(&str) -> bool) -> Result<()> {
    let overrides = OVERRIDES.iter().map(|(section, field)| variable(section, field));
    let known: Vec<String> = overrides.chain(["STRONGROOM_CONFIG", "STRONGROOM_IDENTITY"].map(str::to_owned)).collect();
    for (name, _) in variables {
        // Those with which tests kill and bless.
        let ours = ["STRONGROOM_KILL_", "STRONGROOM_TEST_", "STRONGROOM_BLESS"].iter().any(|own| name.starts_with(own));
        if ours || known.contains(name) || mentioned(name) {
            continue;
        }
        let nearest =
            known.iter().max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
        return Err(Error::usage(format!("the environment variable {name} is none that strongroom knows")).hint(
            format!("Did you mean {}? Otherwise unset it.", nearest.map_or("STRONGROOM_CONFIG", String::as_str)),
        ));
    }
    Ok(())
}

/// The variable that overrides a field.
fn variable(section: &str, field: &str) -> String {
    format!("STRONGROOM_{}_{}", section.to_uppercase(), field.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
app = "package-broker"
installation = "11111111-2222-4333-8444-555555555555"
[key]
source = "env:ENCRYPTION_KEY"
[archive]
url = "file:/backups"
[sealing]
recipient = "age1x"
"#;

    #[test]
    fn a_misspelt_field_names_the_nearest_known_one() {
        let text = WHOLE.replace("url =", "ulr =");
        let error = read(&text, Path::new("strongroom.toml"), &[]).err().expect("refused");
        assert!(error.chain().contains("line 7"), "{}", error.chain());
        assert_eq!(error.hints(), ["Did you mean `url`?"]);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_not_shown() {
        for value in ["20261127", "1.5", "true", "[\"hunter2\"]"] {
            let text = WHOLE.replace("\"env:ENCRYPTION_KEY\"", value);
            let error = read(&text, Path::new("strongroom.toml"), &[]).err().expect("refused").chain();
            assert!(error.contains("invalid type") && error.contains("expected a string"), "{error}");
            assert!(!error.contains(value) && !error.contains("hunter2"), "{error}");
        }
        let text = WHOLE.to_owned() + "[rules]\nescrow_min_copies = \"hunter2, expected\"\n";
        let error = read(&text, Path::new("strongroom.toml"), &[]).err().expect("refused").chain();
        assert!(error.contains("invalid type: string") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn the_application_is_a_name_or_a_table_with_hooks() {
        let (name, hooks) = read(WHOLE, Path::new("x"), &[]).expect("read").app.split();
        assert_eq!((name.as_str(), hooks.stop), ("package-broker", None));
        let text = WHOLE.replace("app = \"package-broker\"", "") + "[app]\nname = \"x\"\nstop = [\"a\"]\n";
        let (name, hooks) = read(&text, Path::new("x"), &[]).expect("read").app.split();
        assert_eq!((name.as_str(), hooks.stop), ("x", Some(vec!["a".to_owned()])));
        let wrong = text.replace("stop", "stpo");
        assert!(read(&wrong, Path::new("x"), &[]).err().expect("refused").chain().contains("stpo"));
    }

    #[test]
    fn the_environment_overrides_a_field() {
        let set = [("STRONGROOM_ARCHIVE_URL".to_owned(), "file:/other".to_owned())];
        assert_eq!(read(WHOLE, Path::new("x"), &set).expect("read").archive.url, "file:/other");
    }
}
