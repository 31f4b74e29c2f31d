//! `[[escrow]]`: one place that keeps sealed application keys, and how it is reached.

use std::path::{Path, PathBuf};

use super::file::Escrow as Raw;
use super::secrets_manager::{self, SecretsManagerPlace};
use crate::ground::{Error, Result};

/// One `[[escrow]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EscrowPlace {
    /// The archive itself.
    Archive,
    /// A folder.
    File(PathBuf),
    /// Secrets in AWS Secrets Manager.
    SecretsManager(SecretsManagerPlace),
}

impl EscrowPlace {
    /// Reads one `[[escrow]]` of a configuration that stands in `base`.
    pub(super) fn parse(raw: Raw, base: &Path) -> Result<Self> {
        let set = [
            ("path", raw.path.is_some()),
            ("prefix", raw.prefix.is_some()),
            ("region", raw.region.is_some()),
            ("endpoint", raw.endpoint.is_some()),
            ("profile", raw.profile.is_some()),
            ("kms_key", raw.kms_key.is_some()),
        ];
        let known: &[&str] = match raw.kind.as_str() {
            "archive" => &[],
            "file" => &["path"],
            "aws-secrets-manager" => &secrets_manager::FIELDS,
            other => {
                return Err(Error::usage(format!("[[escrow]] kind {other:?} is not one that is known"))
                    .hint("Known kinds: archive, file, aws-secrets-manager."));
            }
        };
        if let Some((field, _)) = set.iter().find(|(field, set)| *set && !known.contains(field)) {
            return Err(Error::usage(format!("an [[escrow]] of kind {:?} has no field `{field}`", raw.kind)));
        }
        let within = |path: PathBuf| if path.is_absolute() { path } else { base.join(path) };
        match raw.kind.as_str() {
            "archive" => Ok(Self::Archive),
            "file" => match raw.path {
                Some(path) => Ok(Self::File(within(path))),
                None => Err(Error::usage("an [[escrow]] of kind \"file\" has no path")),
            },
            _ => SecretsManagerPlace::parse(raw).map(Self::SecretsManager),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str) -> Result<EscrowPlace> {
        let raw = toml::from_str(table).expect("a table");
        EscrowPlace::parse(raw, Path::new("/base"))
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
