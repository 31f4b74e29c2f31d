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
}

/// A policy, ready to be given to the system.
pub fn print(request: &Request) -> Result<Outcome> {
    let roles = match request.system.as_str() {
        "vault" => &VAULT,
        other => {
            return Err(
                Error::usage(format!("there are no policies for {other:?}")).hint("Systems that there are: vault.")
            );
        }
    };
    let Some((_, template)) = roles.iter().find(|(role, _)| *role == request.role) else {
        let known: Vec<_> = roles.iter().map(|(role, _)| *role).collect();
        return Err(Error::usage(format!("there is no role {:?}", request.role))
            .hint(format!("Roles that there are: {}.", known.join(", "))));
    };
    let policy = template
        .replace("{{mount}}", &config::folder("--mount", &request.mount)?)
        .replace("{{prefix}}", &config::folder("--prefix", &request.prefix)?);
    let text = policy.lines().map(str::to_owned).collect();
    Outcome::done(json!({ "system": request.system, "role": request.role, "policy": policy }), text)
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
        })
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
