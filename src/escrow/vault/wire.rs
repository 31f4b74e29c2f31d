//! One request to a Vault and its answer: TLS, time limits, redirects of a standby. Nothing is decided here about retrying.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use zeroize::Zeroizing;

use crate::ground::{Error, Result, durable};

/// The longest answer that is read.
const LIMIT: u64 = 1 << 20;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a request may take altogether.
const WHOLE: Duration = Duration::from_secs(20);
/// How many times a standby may send us on.
const REDIRECTS: usize = 2;

/// Where a Vault is, and what is sent along with every request.
pub(super) struct Wire {
    address: String,
    namespace: Option<String>,
    ca_file: Option<PathBuf>,
    agent: OnceLock<ureq::Agent>,
}

/// What is asked.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) method: &'static str,
    /// Below `/v1/`; names in it are checked, so that nothing in it needs escapes.
    pub(super) path: &'a str,
    pub(super) body: Option<&'a [u8]>,
}

impl Call<'_> {
    /// Whether asking twice is as good as asking once.
    pub(super) fn only_looks(&self) -> bool {
        self.method == "GET"
    }
}

/// What came back. The body may hold a secret: it is wiped, never shown, and parts of it only where they are known.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    body: Zeroizing<Vec<u8>>,
}

#[derive(Deserialize, Default)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

impl Answer {
    /// The body as what it should be.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T> {
        // The reader's own message could show a value, so it is not passed on.
        serde_json::from_slice(&self.body)
            .map_err(|_| Error::failed("the Vault's answer is not what it should be").hint("Is it a Vault at all?"))
    }

    /// Whether one of its errors has these words; they are looked for and never shown.
    pub(super) fn complains_of(&self, words: &str) -> bool {
        let said: Errors = serde_json::from_slice(&self.body).unwrap_or_default();
        said.errors.iter().any(|line| line.contains(words))
    }

    /// Whether the token itself is unknown, and not only what it may do too little.
    ///
    /// A policy's denial is `1 error occurred: * permission denied`; a token that is not known gets the bare words, and from
    /// newer versions of HashiCorp's "invalid token" beside them.
    pub(super) fn knows_no_such_token(&self) -> bool {
        let said: Errors = serde_json::from_slice(&self.body).unwrap_or_default();
        said.errors.iter().any(|line| {
            let line = line.trim();
            line == "permission denied" || line.contains("invalid token") || line.contains("bad token")
        })
    }
}

/// Why there is no answer.
pub(super) enum Fault {
    /// Nothing has reached the server: asking again is safe.
    NotSent(Error),
    /// It may have arrived.
    Unclear(Error),
    /// Asking again changes nothing.
    Final(Error),
}

impl Wire {
    /// Checks the address and connects to nobody.
    pub(super) fn new(address: &str, namespace: Option<String>, ca_file: Option<PathBuf>) -> Result<Self> {
        let address = address.trim_end_matches('/');
        check_address(address)?;
        let plain = |c: char| c.is_ascii_graphic();
        if namespace.as_ref().is_some_and(|namespace| !namespace.chars().all(plain)) {
            return Err(Error::usage("the namespace of the Vault is no name"));
        }
        Ok(Self { address: address.to_owned(), namespace, ca_file, agent: OnceLock::new() })
    }

    /// The address, and the namespace where there is one.
    pub(super) fn describe(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} (namespace {namespace})", self.address),
            None => self.address.clone(),
        }
    }

    /// Asks once.
    pub(super) fn ask(&self, call: Call<'_>, token: Option<&str>) -> Result<Answer, Fault> {
        let agent = self.agent().map_err(Fault::Final)?;
        let mut url = format!("{}/v1/{}", self.address, call.path);
        for _ in 0..=REDIRECTS {
            let answer = self.once(agent, &url, call, token)?;
            match answer {
                Ok(answer) => return Ok(answer),
                Err(next) => url = self.followed(&next)?,
            }
        }
        Err(Fault::NotSent(Error::unreachable(format!("{} sends us from one standby to the next", self.what()))))
    }

    fn what(&self) -> String {
        format!("the Vault {}", self.describe())
    }

    /// The answer, or where a standby sends us.
    fn once(
        &self,
        agent: &ureq::Agent,
        url: &str,
        call: Call<'_>,
        token: Option<&str>,
    ) -> Result<Result<Answer, String>, Fault> {
        let broken = |e: http::Error| Fault::Final(Error::usage(format!("{} cannot be asked", self.what())).because(e));
        let mut request = http::Request::builder().method(call.method).uri(url).header("X-Vault-Request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(token) = token {
            let mut value = http::HeaderValue::from_str(token)
                .map_err(|_| Fault::Final(Error::denied(format!("the token for {} is no token", self.what()))))?;
            value.set_sensitive(true);
            request = request.header("X-Vault-Token", value);
        }
        let sent = match call.body {
            Some(body) => agent.run(request.header("Content-Type", "application/json").body(body).map_err(broken)?),
            None => agent.run(request.body(()).map_err(broken)?),
        };
        let mut answer = sent.map_err(|e| self.fault(e))?;
        let status = answer.status().as_u16();
        let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        if let (307, Some(location)) = (status, header("location")) {
            return Ok(Err(location));
        }
        let retry_after = header("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let body = answer
            .body_mut()
            .with_config()
            .limit(LIMIT)
            .read_to_vec()
            .map(Zeroizing::new)
            .map_err(|e| Fault::Unclear(self.silent(&e)))?;
        Ok(Ok(Answer { status, retry_after, body }))
    }

    /// A standby may name the active one, and never one without TLS where we asked with it.
    fn followed(&self, location: &str) -> Result<String, Fault> {
        let here = self.address.starts_with("https://");
        let base = location.split("/v1/").next().unwrap_or_default();
        if !location.contains("/v1/") || check_address(base).is_err() || here != location.starts_with("https://") {
            return Err(Fault::Final(
                Error::unreachable(format!(
                    "{} is a standby, and names an active one that we do not go to",
                    self.what()
                ))
                .hint("Give the address of the active one, or of what stands before all of them."),
            ));
        }
        Ok(location.to_owned())
    }

    fn silent(&self, error: &ureq::Error) -> Error {
        Error::unreachable(format!("{} does not answer", self.what())).because(error.to_string())
    }

    fn fault(&self, error: ureq::Error) -> Fault {
        use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, InvalidData, NetworkUnreachable};
        let untrusted = |why: String| {
            Fault::Final(
                Error::denied(format!("{} does not show a certificate that we believe", self.what()))
                    .because(why)
                    .hint("ca_file (or VAULT_CACERT) names the certificate of the authority that issued the server's; the address must be the name in it."),
            )
        };
        match error {
            ureq::Error::Rustls(why) => untrusted(why.to_string()),
            ureq::Error::Tls(why) => untrusted(why.to_owned()),
            ureq::Error::Io(why) if why.kind() == InvalidData => untrusted(why.to_string()),
            ureq::Error::Io(why) if matches!(why.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable) => {
                Fault::NotSent(self.silent(&ureq::Error::Io(why)))
            }
            ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::ConnectProxyFailed(_)
            | ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Fault::NotSent(self.silent(&error))
            }
            error => Fault::Unclear(self.silent(&error)),
        }
    }

    fn agent(&self) -> Result<&ureq::Agent> {
        if let Some(agent) = self.agent.get() {
            return Ok(agent);
        }
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(WHOLE))
            .user_agent(concat!("strongroom/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&self.address) {
            config = config.proxy(None);
        }
        if let Some(path) = &self.ca_file {
            config = config.tls_config(TlsConfig::builder().root_certs(authorities(path)?).build());
        }
        Ok(self.agent.get_or_init(|| config.build().into()))
    }
}

fn authorities(path: &std::path::Path) -> Result<RootCerts> {
    let shown = path.display();
    let pem = durable::read_file(path, LIMIT).map_err(|e| e.context("the authority of the Vault's certificate"))?;
    let found: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(Error::usage(format!("{shown} holds no certificate"))
            .hint("ca_file names a PEM file that begins with -----BEGIN CERTIFICATE-----."));
    }
    Ok(RootCerts::Specific(Arc::new(found)))
}

fn host(address: &str) -> Option<&str> {
    let rest = address.split_once("://")?.1.split('/').next()?;
    match rest.strip_prefix('[') {
        Some(six) => Some(six.split_once(']')?.0),
        None => Some(rest.rsplit_once(':').map_or(rest, |(host, _)| host)),
    }
}

fn is_loopback(address: &str) -> bool {
    let Some(host) = host(address) else { return false };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// `https://…`, or `http://` to this machine itself: anywhere else a token would travel in the clear.
fn check_address(address: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:/[]".contains(c);
    let scheme = address.split_once("://").map(|(scheme, _)| scheme);
    if !address.chars().all(plain) || host(address).is_none_or(str::is_empty) {
        return Err(Error::usage("the address of the Vault is no URL without user, query and fragment")
            .hint("Write it like https://vault.example:8200."));
    }
    match scheme {
        Some("https") => Ok(()),
        Some("http") if is_loopback(address) => Ok(()),
        Some("http") => Err(Error::refused(format!("{address} has no TLS: token and answers would be in the clear"))
            .hint("Use https://; http:// is accepted for this machine itself only.")),
        _ => {
            Err(Error::usage(format!("{address} is no https:// URL")).hint("Write it like https://vault.example:8200."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::Kind;

    #[test]
    fn a_token_never_goes_to_another_machine_in_the_clear() {
        for good in ["https://vault.example:8200", "https://[::2]:8200/base", "http://127.0.0.1:8200", "http://[::1]"] {
            assert!(Wire::new(good, None, None).is_ok(), "{good}");
        }
        for (bad, kind) in [
            ("http://vault.example:8200", Kind::Refused),
            ("http://127.0.0.1.example", Kind::Refused),
            ("http://localhost.example:8200", Kind::Refused),
            ("https://user:hunter2@vault", Kind::Usage),
            ("https://", Kind::Usage),
            ("unix:///run/vault.sock", Kind::Usage),
            ("vault.example:8200", Kind::Usage),
            ("https://vault?x=1", Kind::Usage),
        ] {
            let error = Wire::new(bad, None, None).err().unwrap_or_else(|| panic!("{bad} is accepted"));
            assert_eq!(error.kind(), kind, "{bad}");
            assert!(!error.chain().contains("hunter2"));
        }
    }

    #[test]
    fn a_standby_sends_us_to_no_place_that_we_would_not_go_to() {
        let wire = Wire::new("https://vault.example:8200", None, None).expect("an address");
        assert!(wire.followed("https://other.example:8200/v1/secret/data/a").is_ok());
        for bad in ["http://vault.example:8200/v1/a", "http://127.0.0.1:8200/v1/a", "/v1/a", "https://x@evil/v1/a"] {
            assert!(wire.followed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "nothing").expect("written");
        let error = authorities(&path).expect_err("refused");
        assert_eq!(error.kind(), Kind::Usage);
        assert_eq!(authorities(&folder.path().join("none")).expect_err("refused").kind(), Kind::NotFound);
    }
}
