//! `policy print`: the rights that each role needs in a system that keeps keys, and none beyond them.

use serde_json::json;

use super::Outcome;
use crate::config;
use crate::ground::{Error, Result};

/// The roles of a system, with their templates.
type Roles = [(&'static str, &'static str); 4];

const VAULT: Roles = [
    ("backup-host", include_str!("../../policies/vault/backup-host.hcl")),
    ("restore-operator", include_str!("../../policies/vault/restore-operator.hcl")),
    ("auditor", include_str!("../../policies/vault/auditor.hcl")),
    ("rotation", include_str!("../../policies/vault/rotation.hcl")),
];

const AWS: Roles = [
    ("backup-host", include_str!("../../policies/aws/backup-host.json")),
    ("restore-operator", include_str!("../../policies/aws/restore-operator.json")),
    ("auditor", include_str!("../../policies/aws/auditor.json")),
    ("rotation", include_str!("../../policies/aws/rotation.json")),
];

/// What is to be printed.
pub struct Request {
    /// The system.
    pub system: String,
    /// The role.
    pub role: String,
    /// The mount of a Vault.
    pub mount: String,
    /// The folder, or the beginning of every name.
    pub prefix: String,
    /// The region of AWS, or `*`.
    pub region: String,
    /// The number of the AWS account, or `*`.
    pub account: String,
}

/// A policy, ready to be given to the system.
pub fn print(request: &Request) -> Result<Outcome> {
    let roles = match request.system.as_str() {
        "vault" => &VAULT,
        "aws" => &AWS,
        other => {
            return Err(Error::usage(format!("there are no policies for {other:?}"))
                .hint("Systems that there are: vault, aws."));
        }
    };
    let Some((_, template)) = roles.iter().find(|(role, _)| *role == request.role) else {
        let known: Vec<_> = roles.iter().map(|(role, _)| *role).collect();
        return Err(Error::usage(format!("there is no role {:?}", request.role))
            .hint(format!("Roles that there are: {}.", known.join(", "))));
    };
    let policy = template
        .replace("{{mount}}", &config::folder("--mount", &request.mount)?)
        .replace("{{prefix}}", &config::folder("--prefix", &request.prefix)?)
        .replace("{{partition}}", partition(&request.region))
        .replace(
            "{{region}}",
            plain("--region", &request.region, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')?,
        )
        .replace("{{account}}", plain("--account", &request.account, |c| c.is_ascii_digit())?);
    let text = policy.lines().map(str::to_owned).collect();
    Outcome::done(json!({ "system": request.system, "role": request.role, "policy": policy }), text)
}

/// The part of AWS that a region is in; names in one mean nothing in another.
fn partition(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "aws-cn",
        Some("us") if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// `*`, or a text of these characters only.
fn plain<'a>(flag: &str, text: &'a str, allowed: fn(char) -> bool) -> Result<&'a str> {
    if text == "*" || !text.is_empty() && text.chars().all(allowed) {
        return Ok(text);
    }
    Err(Error::usage(format!("{flag} {text:?} is none of AWS"))
        .hint("Write them like eu-west-1 and 111122223333, or *."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(role: &str, mount: &str, prefix: &str) -> Result<Outcome> {
        print(&Request {
            system: "vault".to_owned(),
            role: role.to_owned(),
            mount: mount.to_owned(),
            prefix: prefix.to_owned(),
            region: "*".to_owned(),
            account: "*".to_owned(),
        })
    }

    fn aws(role: &str, region: &str, account: &str) -> Result<Outcome> {
        print(&Request {
            system: "aws".to_owned(),
            role: role.to_owned(),
            mount: "secret".to_owned(),
            prefix: "team/broker".to_owned(),
            region: region.to_owned(),
            account: account.to_owned(),
        })
    }

    #[test]
    fn policies_of_aws_are_json_about_one_prefix_of_one_account() {
        for (region, partition) in [("eu-west-1", "aws"), ("us-gov-west-1", "aws-us-gov"), ("cn-north-1", "aws-cn")] {
            for (role, _) in AWS {
                let text = aws(role, region, "111122223333").expect("printed").text.join("\n");
                let policy: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                let arn = format!("arn:{partition}:secretsmanager:{region}:111122223333:secret:team/broker/*");
                assert_eq!(policy["Statement"][0]["Resource"], arn.as_str());
                assert!(!text.contains("{{"), "{text}");
            }
        }
        for (region, account) in [("eu-west-1", "1:*"), ("eu-*", "1"), ("", "1"), ("eu-west-1", "")] {
            assert!(aws("auditor", region, account).is_err(), "{region} {account}");
        }
    }

    #[test]
    fn every_role_is_printed_with_nothing_left_to_fill_in() {
        for (role, _) in VAULT {
            let policy = request(role, "kv", "team/broker").expect("printed").json["policy"].clone();
            let policy = policy.as_str().expect("text").to_owned();
            assert!(policy.contains("path \"kv/data/team/broker/public/*\"") && !policy.contains("{{"), "{policy}");
        }
    }

    #[test]
    fn a_name_that_would_widen_a_policy_is_refused() {
        for bad in ["", "*", "a\" { }", "a/+", "../sys", "a b"] {
            assert!(
                request("auditor", bad, "strongroom").is_err() && request("auditor", "secret", bad).is_err(),
                "{bad}"
            );
        }
        assert!(request("root", "secret", "strongroom").is_err());
    }
}
