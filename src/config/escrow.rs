//! `[[escrow]]`: one place that keeps sealed application keys, and how it is reached.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::file::Escrow as Raw;
use super::secrets_manager::{self, SecretsManagerPlace};
use crate::appkey::source::Reference;
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
    /// A KV v2 mount of HashiCorp Vault or OpenBao.
    Vault(Box<VaultPlace>),
}

/// How a Vault is reached, and where in it the sealed keys are; it holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultPlace {
    /// Its URL; `VAULT_ADDR` when missing.
    pub address: Option<String>,
    /// Its namespace; `VAULT_NAMESPACE` when missing.
    pub namespace: Option<String>,
    /// The KV v2 mount.
    pub mount: String,
    /// The folder in it.
    pub prefix: String,
    /// The certificate that its own must descend from; `VAULT_CACERT` when missing.
    pub ca_file: Option<PathBuf>,
    /// How we log in.
    pub auth: VaultAuth,
    /// The folder that references are relative to.
    pub base: PathBuf,
}

/// How to log in to a Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultAuth {
    /// With a token; `VAULT_TOKEN`, else `~/.vault-token`, when no reference names one.
    Token(Option<Reference>),
    /// With the ids of an application's role.
    AppRole {
        /// Where the method is mounted below `auth/`.
        mount: String,
        /// Where the role id is.
        role_id: Reference,
        /// Where the secret id is.
        secret_id: Reference,
    },
    /// With the token of a Kubernetes service account.
    Kubernetes {
        /// Where the method is mounted below `auth/`.
        mount: String,
        /// The role.
        role: String,
        /// The file with the service account's token.
        jwt: PathBuf,
    },
}

/// Where Kubernetes puts a service account's token.
const JWT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// `auth = { method = "…", … }` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Auth {
    method: String,
    mount: Option<String>,
    token: Option<String>,
    role_id: Option<String>,
    secret_id: Option<String>,
    role: Option<String>,
    jwt: Option<PathBuf>,
}

impl VaultPlace {
    /// What the environment alone says, as it does for Vault's own program.
    pub fn of_the_environment() -> Self {
        Self {
            address: None,
            namespace: None,
            mount: "secret".to_owned(),
            prefix: "strongroom".to_owned(),
            ca_file: None,
            auth: VaultAuth::Token(None),
            base: PathBuf::new(),
        }
    }

    /// Whether one login serves both.
    pub fn is_same_session(&self, other: &Self) -> bool {
        let place = |p: &Self| Self { mount: String::new(), prefix: String::new(), ..p.clone() };
        place(self) == place(other)
    }
}

impl EscrowPlace {
    /// Its folder, where it is one.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }

    /// Fails when two are one place, as far as the configuration says: a copy there would count twice.
    pub(super) fn all_differ(places: &[Self]) -> Result<()> {
        for (n, place) in places.iter().enumerate() {
            if places[..n].iter().any(|other| place.is_place_of(other)) {
                return Err(Error::usage(format!("two [[escrow]] are one place, {}", place.shown()))
                    .hint("A copy there is one copy: take one of the two out, or name another place."));
            }
        }
        Ok(())
    }

    fn is_place_of(&self, other: &Self) -> bool {
        let plain = |text: &Option<String>| text.as_ref().map(|text| text.trim_matches('/').to_ascii_lowercase());
        match (self, other) {
            (Self::Archive, Self::Archive) => true,
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Vault(one), Self::Vault(other)) => {
                (plain(&one.address), plain(&one.namespace), &one.mount, &one.prefix)
                    == (plain(&other.address), plain(&other.namespace), &other.mount, &other.prefix)
            }
            (Self::SecretsManager(one), Self::SecretsManager(other)) => {
                (&one.region, plain(&one.endpoint), &one.profile, &one.prefix)
                    == (&other.region, plain(&other.endpoint), &other.profile, &other.prefix)
            }
            _ => false,
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Archive => "the archive".to_owned(),
            Self::File(path) => format!("the folder {}", path.display()),
            Self::SecretsManager(place) => format!("{}/ in AWS Secrets Manager", place.prefix),
            Self::Vault(place) => format!("{}/{} in a Vault", place.mount, place.prefix),
        }
    }

    /// Reads one `[[escrow]]` of a configuration that stands in `base`.
    pub(super) fn parse(raw: Raw, base: &Path) -> Result<Self> {
        let set = [
            ("path", raw.path.is_some()),
            ("address", raw.address.is_some()),
            ("namespace", raw.namespace.is_some()),
            ("mount", raw.mount.is_some()),
            ("prefix", raw.prefix.is_some()),
            ("ca_file", raw.ca_file.is_some()),
            ("auth", raw.auth.is_some()),
            ("region", raw.region.is_some()),
            ("endpoint", raw.endpoint.is_some()),
            ("profile", raw.profile.is_some()),
            ("kms_key", raw.kms_key.is_some()),
            ("recovery_window_days", raw.recovery_window_days.is_some()),
        ];
        let known: &[&str] = match raw.kind.as_str() {
            "archive" => &[],
            "file" => &["path"],
            "vault" => &["address", "namespace", "mount", "prefix", "ca_file", "auth"],
            "aws-secrets-manager" => &secrets_manager::FIELDS,
            other => {
                return Err(Error::usage(format!("[[escrow]] kind {other:?} is not one that is known"))
                    .hint("Known kinds: archive, file, vault, aws-secrets-manager."));
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
            "aws-secrets-manager" => SecretsManagerPlace::parse(raw).map(Self::SecretsManager),
            _ => Ok(Self::Vault(Box::new(VaultPlace {
                mount: folder("mount", raw.mount.as_deref().unwrap_or("secret"))?,
                prefix: folder("prefix", raw.prefix.as_deref().unwrap_or("strongroom"))?,
                address: raw.address,
                namespace: raw.namespace,
                ca_file: raw.ca_file.map(within),
                auth: raw.auth.map_or(Ok(VaultAuth::Token(None)), |auth| auth.parse(&within))?,
                base: base.to_owned(),
            }))),
        }
    }
}

impl Auth {
    fn parse(self, within: &dyn Fn(PathBuf) -> PathBuf) -> Result<VaultAuth> {
        let set = [
            ("mount", self.mount.is_some()),
            ("token", self.token.is_some()),
            ("role_id", self.role_id.is_some()),
            ("secret_id", self.secret_id.is_some()),
            ("role", self.role.is_some()),
            ("jwt", self.jwt.is_some()),
        ];
        let known: &[&str] = match self.method.as_str() {
            "token" => &["token"],
            "approle" => &["mount", "role_id", "secret_id"],
            "kubernetes" => &["mount", "role", "jwt"],
            other => {
                return Err(Error::usage(format!("[[escrow]] auth: the method {other:?} is not one that is known"))
                    .hint("Known methods: token, approle, kubernetes."));
            }
        };
        if let Some((field, _)) = set.iter().find(|(field, set)| *set && !known.contains(field)) {
            return Err(Error::usage(format!("[[escrow]] auth: the method {:?} has no field `{field}`", self.method)));
        }
        let missing = |field: &str| {
            Error::usage(format!("[[escrow]] auth: the method {:?} needs the field `{field}`", self.method))
        };
        let mount = folder("auth: mount", self.mount.as_deref().unwrap_or(&self.method))?;
        match self.method.as_str() {
            "token" => Ok(VaultAuth::Token(self.token.as_deref().map(|t| login("token", t)).transpose()?)),
            "approle" => Ok(VaultAuth::AppRole {
                mount,
                role_id: login("role_id", &self.role_id.ok_or_else(|| missing("role_id"))?)?,
                secret_id: login("secret_id", &self.secret_id.ok_or_else(|| missing("secret_id"))?)?,
            }),
            _ => Ok(VaultAuth::Kubernetes {
                mount,
                role: self.role.ok_or_else(|| missing("role"))?,
                jwt: within(self.jwt.unwrap_or_else(|| PathBuf::from(JWT))),
            }),
        }
    }
}

/// A reference that can be read before anybody is logged in, and while nobody is there.
fn login(field: &str, text: &str) -> Result<Reference> {
    let reference: Reference = text.parse().map_err(|e: Error| e.context(format!("[[escrow]] auth: {field}")))?;
    match reference {
        Reference::Vault(..) => Err(Error::usage(format!("[[escrow]] auth: {field} is in a Vault itself"))
            .hint("What opens the Vault has to be somewhere else: env:NAME or file:PATH.")),
        Reference::Prompt => Err(Error::usage(format!("[[escrow]] auth: {field} cannot be asked for"))
            .hint("Put it into a file with mode 0600: file:PATH.")),
        reference => Ok(reference),
    }
}

/// A name, or several with slashes, that mean the same in every URL and policy.
pub(crate) fn folder(field: &str, text: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let text = text.trim_matches('/');
    if text.split('/').all(|part| !matches!(part, "" | "." | "..") && part.chars().all(plain)) {
        return Ok(text.to_owned());
    }
    Err(Error::usage(format!("{field} {text:?} is no name, nor several with slashes between them"))
        .hint("Letters, digits and `-`, `_`, `.` are allowed."))
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
    fn two_that_are_one_place_are_noticed() {
        let differ = |one: &str, other: &str| {
            EscrowPlace::all_differ(&[
                read("kind = 'file'\npath = 'x'").expect(one),
                read(one).expect(one),
                read(other).expect(other),
            ])
        };
        let (vault, aws) = ("kind = 'vault'", "kind = 'aws-secrets-manager'");
        for (one, other) in [
            ("kind = 'archive'".to_owned(), "kind = 'archive'".to_owned()),
            ("kind = 'file'\npath = 'y'".to_owned(), "kind = 'file'\npath = '/base/./x/'".to_owned()),
            (vault.to_owned(), format!("{vault}\nmount = 'secret'\nprefix = '/strongroom/'\nca_file = 'ca'")),
            (
                format!("{vault}\naddress = 'https://a'"),
                format!("{vault}\naddress = 'https://A/'\nauth = {{ method = 'kubernetes', role = 'r' }}"),
            ),
            (aws.to_owned(), format!("{aws}\nprefix = 'strongroom'\nkms_key = 'k'\nrecovery_window_days = 7")),
            (format!("{aws}\nendpoint = 'https://a'"), format!("{aws}\nendpoint = 'https://a/'")),
        ] {
            let error = differ(&one, &other).expect_err(&other);
            assert_eq!(error.kind(), crate::ground::Kind::Usage);
        }
        for (one, other) in [
            ("kind = 'archive'".to_owned(), "kind = 'file'\npath = 'y'".to_owned()),
            (vault.to_owned(), format!("{vault}\nprefix = 'other'")),
            (vault.to_owned(), format!("{vault}\nmount = 'other'")),
            (vault.to_owned(), format!("{vault}\naddress = 'https://a'")),
            (vault.to_owned(), format!("{vault}\nnamespace = 'a'")),
            (vault.to_owned(), aws.to_owned()),
            (aws.to_owned(), format!("{aws}\nprefix = 'other'")),
            (aws.to_owned(), format!("{aws}\nregion = 'eu-west-1'")),
            (aws.to_owned(), format!("{aws}\nprofile = 'b'")),
        ] {
            differ(&one, &other).expect(&other);
        }
    }

    #[test]
    fn a_prefix_a_region_and_an_endpoint_are_what_aws_takes() {
        for wrong in [
            "prefix = ''",
            "prefix = 'a//b'",
            "prefix = 'a b'",
            "region = 'eu-west-1.evil.example'",
            "region = ''",
            "endpoint = 'http://aws.example'",
            "endpoint = 'aws.example'",
        ] {
            read(&format!("kind = 'aws-secrets-manager'\n{wrong}")).expect_err(wrong);
        }
        for fine in ["prefix = 'team/strong_room.-'", "region = 'us-gov-west-1'", "endpoint = 'https://vpce.example'"] {
            read(&format!("kind = 'aws-secrets-manager'\n{fine}")).expect(fine);
        }
    }
}
