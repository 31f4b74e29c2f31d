//! Application profiles: where an application keeps its key and its credentials, as data.

use serde::Deserialize;

use crate::ground::names::AppName;
use crate::ground::{Error, Result};

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

/// One column of credentials.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialColumn {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// The columns that name a row, in order.
    pub primary_key: Vec<String>,
    /// The application may not have this table or column (an older version, a feature never used).
    #[serde(default)]
    pub optional: bool,
    /// Values that the application itself stores unencrypted, exactly.
    #[serde(default)]
    pub plaintext: Vec<String>,
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
    /// Reads a profile's text.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let profile: Self = toml::from_str(text)
            .map_err(|e| Error::usage(format!("{origin} is not a profile")).because(e.message().to_owned()))?;
        if profile.credentials.is_empty() || profile.credentials.iter().any(|c| c.primary_key.is_empty()) {
            return Err(Error::usage(format!("{origin} names no credential, or one without a primary key")));
        }
        Ok(profile)
    }

    /// The embedded profile of this application.
    pub fn embedded(app: &str) -> Result<Self> {
        let Some((name, text)) = EMBEDDED.iter().find(|(name, _)| *name == app) else {
            let known: Vec<_> = EMBEDDED.iter().map(|(name, _)| *name).collect();
            return Err(Error::usage(format!("there is no profile for {app:?}"))
                .hint(format!("Known: {}. Another application is described under [profile].", known.join(", "))));
        };
        Self::parse(text, &format!("policies/apps/{name}.toml"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_profile_reads() {
        for (name, _) in EMBEDDED {
            assert_eq!(Profile::embedded(name).expect("it reads").app.as_str(), name);
        }
    }
}
