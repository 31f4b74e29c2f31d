//! `[[escrow]]`: where sealed application keys are kept.

use std::path::{Path, PathBuf};

use super::file;
use crate::ground::{Error, Result, endpoint};

/// One `[[escrow]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EscrowPlace {
    /// The archive itself.
    Archive,
    /// A folder.
    File(PathBuf),
    /// AWS Secrets Manager.
    SecretsManager(SecretsManagerPlace),
}

/// Secrets of one region of one account of AWS, below a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsManagerPlace {
    /// What the secrets' names begin with; no slash at its ends.
    pub prefix: String,
    /// The region; otherwise the environment's or the profile's.
    pub region: Option<String>,
    /// Another address than the region's own.
    pub endpoint: Option<String>,
    /// The profile in the AWS configuration files.
    pub profile: Option<String>,
    /// The KMS key for secrets that are created; otherwise the account's own for Secrets Manager.
    pub kms_key: Option<String>,
}

/// The kinds, for hints.
const KINDS: &str = "Known kinds: archive, file, aws-secrets-manager.";

impl EscrowPlace {
    /// Reads a table; `within` makes paths absolute, `here` says where in the file something is wrong.
    pub(super) fn read(
        raw: file::Escrow,
        within: &dyn Fn(&Path) -> PathBuf,
        here: &dyn Fn(&str) -> String,
    ) -> Result<Self> {
        let file::Escrow { kind, path, prefix, region, endpoint, profile, kms_key } = raw;
        let given = [
            ("path", path.is_some()),
            ("prefix", prefix.is_some()),
            ("region", region.is_some()),
            ("endpoint", endpoint.is_some()),
            ("profile", profile.is_some()),
            ("kms_key", kms_key.is_some()),
        ];
        let only = |fields: &[&str]| match given.iter().find(|(name, given)| *given && !fields.contains(name)) {
            Some((name, _)) => Err(Error::usage(here(&format!("an [[escrow]] of kind {kind:?} has no field {name}")))),
            None => Ok(()),
        };
        match kind.as_str() {
            "archive" => only(&[]).map(|()| Self::Archive),
            "file" => {
                only(&["path"])?;
                let missing = || Error::usage(here("an [[escrow]] of kind \"file\" has no path"));
                Ok(Self::File(within(path.as_deref().ok_or_else(missing)?)))
            }
            "aws-secrets-manager" => {
                only(&["prefix", "region", "endpoint", "profile", "kms_key"])?;
                let prefix = prefix.unwrap_or_else(|| "strongroom".to_owned());
                if !is_prefix(&prefix) {
                    return Err(Error::usage(here(&format!(
                        "[[escrow]] prefix {prefix:?} is no beginning of a secret's name"
                    )))
                    .hint("It has letters, digits and /_+=.@- and no slash at its ends."));
                }
                if let Some(region) = region.as_deref().filter(|region| !is_region(region)) {
                    return Err(Error::usage(here(&format!("[[escrow]] region {region:?} is no region of AWS")))
                        .hint("Write it like eu-west-1."));
                }
                if let Some(url) = &endpoint {
                    endpoint::private(url, "the endpoint").map_err(|e| e.context(here("[[escrow]] endpoint")))?;
                }
                Ok(Self::SecretsManager(SecretsManagerPlace { prefix, region, endpoint, profile, kms_key }))
            }
            other => {
                Err(Error::usage(here(&format!("[[escrow]] kind {other:?} is not one that is known"))).hint(KINDS))
            }
        }
    }
}

/// What a secret's name may begin with, and leaves room for the rest (names have at most 512 characters).
fn is_prefix(prefix: &str) -> bool {
    (1..=256).contains(&prefix.len())
        && prefix.split('/').all(|part| !part.is_empty())
        && prefix.chars().all(|c| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c))
}

/// It becomes part of a host's name.
fn is_region(region: &str) -> bool {
    (1..=32).contains(&region.len()) && region.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str) -> Result<EscrowPlace> {
        let raw = toml::from_str(table).expect("a table");
        EscrowPlace::read(raw, &|path| Path::new("/base").join(path), &str::to_owned)
    }

    #[test]
    fn each_kind_has_its_fields_and_no_others() {
        assert_eq!(read("kind = 'archive'").expect("read"), EscrowPlace::Archive);
        assert_eq!(read("kind = 'file'\npath = 'x'").expect("read"), EscrowPlace::File("/base/x".into()));
        let EscrowPlace::SecretsManager(place) = read("kind = 'aws-secrets-manager'").expect("read") else {
            panic!("another kind")
        };
        assert_eq!((place.prefix.as_str(), place.region), ("strongroom", None));
        for wrong in [
            "kind = 'file'",
            "kind = 'archive'\npath = 'x'",
            "kind = 'file'\npath = 'x'\nregion = 'eu-west-1'",
            "kind = 'aws-secrets-manager'\npath = 'x'",
            "kind = 'aws'",
        ] {
            read(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn a_prefix_a_region_and_an_endpoint_are_what_aws_takes() {
        for wrong in [
            "prefix = ''",
            "prefix = '/a'",
            "prefix = 'a//b'",
            "prefix = 'a b'",
            "region = 'eu-west-1.evil.example'",
            "region = ''",
            "endpoint = 'http://aws.example'",
            "endpoint = 'aws.example'",
        ] {
            read(&format!("kind = 'aws-secrets-manager'\n{wrong}")).expect_err(wrong);
        }
        for fine in
            ["prefix = 'team/strong_room+=.@-'", "region = 'us-gov-west-1'", "endpoint = 'https://vpce.example'"]
        {
            read(&format!("kind = 'aws-secrets-manager'\n{fine}")).expect(fine);
        }
    }
}
