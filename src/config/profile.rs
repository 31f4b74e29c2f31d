//! Application profiles: where an application keeps its key and its credentials, as data.

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize;

use super::column::{self, Step};
use crate::ground::names::AppName;
use crate::ground::recognise::Seems;
use crate::ground::{Error, Kind, Result, durable};

/// What is known of an application; a file in `policies/apps/`, or `[profile]` in `strongroom.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The application's name.
    pub app: AppName,
    /// How it encrypts; a name that [`crate::appkey::schemes::by_name`] knows.
    pub scheme: String,
    /// The environment variable that holds its key.
    pub key_variable: String,
    /// The columns that hold credentials.
    #[serde(rename = "credential")]
    pub credentials: Vec<CredentialColumn>,
    /// How to learn which storage objects the database names.
    pub storage: Option<StorageObjects>,
}

/// One column of credentials, or one place in the JSON of a column.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Written")]
pub struct CredentialColumn {
    /// The table.
    pub table: String,
    /// The column as the profile writes it, `data->'smtp'->>'password'` for a place in JSON; what people and the proof see.
    pub column: String,
    /// The column that is stored.
    pub(crate) stored: String,
    /// The way from there into JSON; empty where the column itself is the credential.
    pub(crate) steps: Vec<Step>,
    /// The columns that name a row, in order.
    pub primary_key: Vec<String>,
    /// The application may not have this table or column (an older version, a feature never used).
    pub optional: bool,
    /// Values that the application itself stores unencrypted, exactly.
    pub plaintext: Vec<String>,
}

/// A column of credentials as a profile writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    table: String,
    column: String,
    primary_key: Vec<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    plaintext: Vec<String>,
}

impl TryFrom<Written> for CredentialColumn {
    type Error = String;

    fn try_from(written: Written) -> std::result::Result<Self, String> {
        let Written { table, column, primary_key, optional, plaintext } = written;
        let (stored, steps) = column::parse(&column).map_err(|why| format!("column {column:?} {why}"))?;
        Ok(Self { table, column, stored, steps, primary_key, optional, plaintext })
    }
}

impl CredentialColumn {
    /// The credential in what the column holds; `None` where its JSON has none.
    pub fn within<'a>(&self, value: Cow<'a, [u8]>) -> Option<Cow<'a, [u8]>> {
        if self.steps.is_empty() { Some(value) } else { column::inside(&value, &self.steps).map(Cow::Owned) }
    }
}

/// How the database names the objects in the storage.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageObjects {
    /// A query with two columns: the object's path in the storage, and 1 if it can be fetched again, else 0.
    pub query: String,
    /// The tables it needs; without one of them there is nothing to ask.
    pub tables: Vec<String>,
}

/// The profiles that come with the program.
const EMBEDDED: [(&str, &str); 1] = [("package-broker", include_str!("../../policies/apps/package-broker.toml"))];

impl Profile {
    /// Fails where a credential stands inside JSON, which nothing here can write.
    pub fn writable(&self) -> Result<()> {
        match self.credentials.iter().find(|c| !c.steps.is_empty()) {
            None => Ok(()),
            Some(c) => Err(Error::usage(format!(
                "{}.{} stands inside JSON, and this version re-encrypts whole columns only",
                c.table, c.column
            ))
            .hint("Re-enter the credentials under the new key in the application.")),
        }
    }

    /// Whether the application itself stores this value unencrypted.
    pub fn is_plaintext(&self, table: &str, column: &str, value: &[u8]) -> bool {
        // A table of another schema than the usual one is called `schema.table`.
        let bare = table.split_once('.').map_or(table, |(_, bare)| bare);
        self.credentials
            .iter()
            .filter(|c| (c.table == table || c.table == bare) && c.column == column)
            .any(|c| c.plaintext.iter().any(|p| p.as_bytes() == value))
    }

    /// Reads a profile's text.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        if Seems::of(text.as_bytes()) == Some(Seems::Configuration) {
            return Err(Error::usage(format!("{origin} is a strongroom configuration, and no profile"))
                .hint("A configuration is given with --config; a profile is what stands under [profile] in one, in a file of its own."));
        }
        Self::read(toml::from_str(text), text, origin)
    }

    /// Reads `[profile]` of a configuration, where nothing is known of lines any more.
    pub(super) fn from_table(table: toml::Table, origin: &str) -> Result<Self> {
        Self::read(Self::deserialize(toml::Value::Table(table)), "", origin)
    }

    fn read(read: std::result::Result<Self, toml::de::Error>, text: &str, origin: &str) -> Result<Self> {
        let profile = read.map_err(|e| super::file::explain(&e, text, origin))?;
        if profile.credentials.is_empty() || profile.credentials.iter().any(|c| c.primary_key.is_empty()) {
            return Err(Error::usage(format!("{origin} names no credential, or one without a primary key")));
        }
        Ok(profile)
    }

    /// The profile that a name or a file's path means, where nobody vouches for the folder that one happens to be in: a name is
    /// that of an embedded profile.
    ///
    /// A profile says which columns are tried, so one that somebody left there could make a wrong key look proved.
    pub fn named(app: &str) -> Result<Self> {
        if is_file(app) { Self::find(app, Path::new("")) } else { Self::embedded(app) }
    }

    /// The same in a configured place: a file `policies/apps/<name>.toml` below `base` goes before an embedded profile.
    pub fn find(app: &str, base: &Path) -> Result<Self> {
        let named = is_file(app);
        let path = if named { base.join(app) } else { base.join(format!("policies/apps/{app}.toml")) };
        match durable::read_believed_file(&path, 1 << 20) {
            Ok(bytes) => Self::parse(&String::from_utf8_lossy(&bytes), &path.display().to_string()),
            Err(error) if error.kind() == Kind::NotFound && !named => Self::embedded(app),
            Err(error) => Err(error),
        }
    }

    /// The profile's text where it is named by its file; `None` where it has another name.
    pub fn described(app: &str, base: &Path) -> Result<Option<String>> {
        if !is_file(app) {
            return Ok(None);
        }
        let bytes = durable::read_believed_file(&base.join(app), 1 << 20)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The embedded profile of this application.
    pub fn embedded(app: &str) -> Result<Self> {
        let Some((name, text)) = EMBEDDED.iter().find(|(name, _)| *name == app) else {
            let known: Vec<_> = EMBEDDED.iter().map(|(name, _)| *name).collect();
            return Err(Error::usage(format!("there is no profile for {app:?}"))
                .hint(format!("Known: {}. Another application is described in a file that is named by its path (--app ./{app}), in policies/apps/{app}.toml beside strongroom.toml, or under [profile] in it.", known.join(", "))));
        };
        Self::parse(text, &format!("policies/apps/{name}.toml"))
    }
}

/// Whether an application is named by its profile's file: no name has a slash or a dot in it.
fn is_file(app: &str) -> bool {
    app.contains(['/', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_before_an_embedded_profile_and_its_faults_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let find = |app: &str| Profile::find(app, folder.path());
        assert_eq!(find("package-broker").expect("embedded").credentials[0].table, "repositories");
        assert_eq!(find("other.toml").expect_err("missing").kind(), Kind::NotFound);
        assert_eq!(find("other").expect_err("unknown").kind(), Kind::Usage);
        let other = EMBEDDED[0].1.replace("\"repositories\"\ncolumn", "\"sources\"\ncolumn");
        std::fs::create_dir_all(folder.path().join("policies/apps")).expect("a folder");
        std::fs::write(folder.path().join("policies/apps/package-broker.toml"), &other).expect("written");
        std::fs::write(folder.path().join("mine.toml"), &other).expect("written");
        for app in ["package-broker", "mine.toml"] {
            assert_eq!(find(app).expect("the file").credentials[0].table, "sources");
        }
        std::fs::write(folder.path().join("mine.toml"), "app = 1").expect("written");
        assert_eq!(find("mine.toml").expect_err("no profile").kind(), Kind::Usage);
    }

    #[test]
    fn every_embedded_profile_reads() {
        for (name, _) in EMBEDDED {
            assert_eq!(Profile::embedded(name).expect("it reads").app.as_str(), name);
        }
    }
}
