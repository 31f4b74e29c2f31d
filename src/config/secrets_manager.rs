//! `[[escrow]]` of kind `aws-secrets-manager`.

use super::escrow::folder;
use super::file::Escrow as Raw;
use crate::ground::{Error, Result, endpoint};

/// The fields that it may have.
pub(super) const FIELDS: [&str; 6] = ["prefix", "region", "endpoint", "profile", "kms_key", "recovery_window_days"];

/// Days of a recovery window that AWS takes.
const WINDOW: std::ops::RangeInclusive<u8> = 7..=30;

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
    /// Days in which a destroyed secret can be brought back, 7 to 30; otherwise none.
    pub recovery_window_days: Option<u8>,
}

impl SecretsManagerPlace {
    pub(super) fn parse(raw: Raw) -> Result<Self> {
        let Raw { prefix, region, endpoint, profile, kms_key, recovery_window_days, .. } = raw;
        let prefix = folder("[[escrow]] prefix", prefix.as_deref().unwrap_or("strongroom"))?;
        if let Some(region) = region.as_deref().filter(|region| !is_region(region)) {
            return Err(Error::usage(format!("[[escrow]] region {region:?} is no region of AWS"))
                .hint("Write it like eu-west-1."));
        }
        if let Some(url) = &endpoint {
            endpoint::private(url, "[[escrow]] endpoint")?;
        }
        if recovery_window_days.is_some_and(|days| !WINDOW.contains(&days)) {
            return Err(Error::usage("[[escrow]] recovery_window_days is from 7 to 30, as AWS takes it")
                .hint("Leave it out, and what `key destroy` deletes is gone at once."));
        }
        Ok(Self { prefix, region, endpoint, profile, kms_key, recovery_window_days })
    }
}

/// It becomes part of a host's name.
fn is_region(region: &str) -> bool {
    (1..=32).contains(&region.len()) && region.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}
