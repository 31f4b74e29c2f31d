//! A real moto server, which keeps secrets and enforces policies as AWS does; stopped when the test ends.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const REGION: &str = "eu-west-1";

/// A running server.
pub(crate) struct Moto {
    child: Child,
    pub(crate) port: u16,
}

/// A program of moto's own Python environment.
fn tool(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/moto/bin").join(name);
    assert!(path.exists(), "{} is missing; tests/run installs it", path.display());
    path
}

impl Moto {
    /// Starts one in which everybody may do everything.
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let child = Command::new(tool("moto_server"))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto starts");
        let server = Self { child, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_mins(1), "moto does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on nobody may do what no policy allows.
    pub(crate) fn enforce(&self) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        write!(
            stream,
            "POST /moto-api/reset-auth HTTP/1.1\r\nHost: moto\r\nContent-Length: 1\r\nConnection: close\r\n\r\n0"
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// One operation of Secrets Manager where everybody may do everything; by hand, because a Python that starts takes a second.
    pub(crate) fn call(&self, operation: &str, body: &serde_json::Value) -> serde_json::Value {
        let scope = format!("admin/20260101/{REGION}/secretsmanager/aws4_request");
        let request = ureq::post(self.url())
            .header("Content-Type", "application/x-amz-json-1.1")
            .header("X-Amz-Target", format!("secretsmanager.{operation}"))
            .header("Authorization", format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"));
        let mut answer = request.send(body.to_string()).unwrap_or_else(|e| panic!("{operation}: {e}"));
        serde_json::from_str(&answer.body_mut().read_to_string().expect("an answer")).expect("JSON")
    }

    /// Makes a user with a role's policy, on all resources because the server knows none; its access key.
    pub(crate) fn user(&self, role: &str, mut policy: serde_json::Value) -> (String, String) {
        for statement in policy["Statement"].as_array_mut().expect("statements") {
            statement["Resource"] = "*".into();
        }
        let made = self.admin(&format!(
            "iam.create_user(UserName='{role}')\n\
             iam.put_user_policy(UserName='{role}', PolicyName='p', PolicyDocument='''{policy}''')\n\
             k = iam.create_access_key(UserName='{role}')['AccessKey']\nprint(k['AccessKeyId'], k['SecretAccessKey'])"
        ));
        let (id, secret) = made.split_once(' ').expect("a key");
        (id.to_owned(), secret.to_owned())
    }

    /// What gives lines of Python `sm` and `iam`, clients of AWS's own library, as this user.
    fn prelude(&self, (id, secret): (&str, &str)) -> String {
        format!(
            "import boto3, json, sys, base64\nfrom botocore.config import Config\n\
             def client(name): return boto3.client(name, endpoint_url='{}', region_name='{REGION}', aws_access_key_id='{id}', aws_secret_access_key='{secret}', config=Config(retries={{'total_max_attempts': 1}}))\n\
             sm, iam = client('secretsmanager'), client('iam')\n\
             def refused(call, **args):\n\
             \x20   try: call(**args)\n\
             \x20   except Exception as e: return '403' in str(e) or 'AccessDenied' in str(e)\n\
             \x20   return False\n",
            self.url()
        )
    }

    /// Runs lines of Python with these clients; what they print.
    pub(crate) fn python(&self, user: (&str, &str), lines: &str) -> String {
        let script = format!("{}{lines}\n", self.prelude(user));
        let out = Command::new(tool("python")).arg("-c").arg(&script).env_clear().output().expect("python runs");
        assert!(out.status.success(), "{lines}\n{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text").trim().to_owned()
    }

    /// A shell script that runs its argument so.
    #[allow(dead_code, reason = "for the documents' commands")]
    pub(crate) fn shell(&self, user: (&str, &str)) -> String {
        let python = tool("python");
        format!("exec env -i {} - \"$1\" <<'END'\n{}exec(sys.argv[1])\nEND", python.display(), self.prelude(user))
    }

    /// The same where everybody may do everything.
    pub(crate) fn admin(&self, lines: &str) -> String {
        self.python(("admin", "admin"), lines)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
