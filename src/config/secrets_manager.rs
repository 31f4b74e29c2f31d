//! `[[escrow]]` of kind `aws-secrets-manager`.

use super::escrow::folder;
use super::file::Escrow as Raw;
use crate::ground::{Error, Result, endpoint};

/// The fields that it may have.
pub(super) const FIELDS: [&str; 5] = ["prefix", "region", "endpoint", "profile", "kms_key"];

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

impl SecretsManagerPlace {
    pub(super) fn parse(raw: Raw) -> Result<Self> {
        let Raw { prefix, region, endpoint, profile, kms_key, .. } = raw;
        let prefix = folder("[[escrow]] prefix", prefix.as_deref().unwrap_or("strongroom"))?;
        if let Some(region) = region.as_deref().filter(|region| !is_region(region)) {
            return Err(Error::usage(format!("[[escrow]] region {region:?} is no region of AWS"))
                .hint("Write it like eu-west-1."));
        }
        if let Some(url) = &endpoint {
            endpoint::private(url, "[[escrow]] endpoint")?;
        }
        Ok(Self { prefix, region, endpoint, profile, kms_key })
    }
}

/// It becomes part of a host's name.
fn is_region(region: &str) -> bool {
    (1..=32).contains(&region.len()) && region.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}
