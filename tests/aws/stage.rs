//! A host whose escrow is Secrets Manager, and calls of the program with credentials of AWS.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::server::{Moto, REGION};
use crate::world::{Call, Ran, World};

/// A world whose only escrow is at this address.
pub(crate) fn host(endpoint: &str) -> World {
    let world = World::ready();
    at(&world, endpoint);
    world
}

/// Makes Secrets Manager at this address the only escrow of a world.
pub(crate) fn at(world: &World, endpoint: &str) {
    let path = world.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let place = format!("kind = \"aws-secrets-manager\"\nregion = \"{REGION}\"\nendpoint = \"{endpoint}\"");
    let text = text.replace("kind = \"archive\"", &place);
    assert!(text.contains(&place), "{text}");
    crate::app::secret_file(&path, &text);
}

/// A call with these credentials, and with no others to be found.
pub(crate) fn call_as(world: &World, (id, secret): (&str, &str), line: &str) -> Call {
    world
        .call(line)
        .env("AWS_ACCESS_KEY_ID", id)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .env("AWS_EC2_METADATA_DISABLED", "true")
}

/// A call by whom everything is allowed.
pub(crate) fn call(world: &World, line: &str) -> Call {
    call_as(world, ("admin", "admin"), line)
}

pub(crate) fn run(world: &World, line: &str, code: i32) -> Ran {
    call(world, line).ends(code)
}

pub(crate) fn json(world: &World, line: &str, code: i32) -> Value {
    run(world, &format!("{line} --json"), code).json()
}

/// The name of the only secret.
pub(crate) fn secret_name(moto: &Moto) -> String {
    let name = moto.admin("print('\\n'.join(s['Name'] for s in sm.list_secrets()['SecretList']))");
    assert!(!name.is_empty() && !name.contains('\n'), "one secret, not {name:?}");
    name
}

/// Stands in front of a server and writes down which operations pass.
pub(crate) struct Counter {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Counter {
    pub(crate) fn before(moto: &Moto) -> Self {
        let to = moto.port;
        let (url, seen) = serve(move |request| {
            let mut behind = TcpStream::connect(("127.0.0.1", to)).expect("connected");
            behind.write_all(request.replace("\r\nhost:", "\r\nConnection: close\r\nhost:").as_bytes()).expect("sent");
            let mut answer = Vec::new();
            behind.read_to_end(&mut answer).expect("an answer");
            answer
        });
        Self { url, seen }
    }

    /// The operations since the last time.
    pub(crate) fn operations(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().expect("not poisoned"))
    }
}

/// Answers each request with what `answer` makes of it; writes down the operations.
pub(crate) fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let Some(request) = read_request(&mut stream) else { continue };
            let target = request.lines().find_map(|l| l.strip_prefix("x-amz-target: secretsmanager."));
            kept.lock().expect("not poisoned").push(target.unwrap_or("?").to_owned());
            let _ = stream.write_all(&answer(&request));
        }
    });
    (url, seen)
}

fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        let n = stream.read(&mut chunk).ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text.into_owned());
            }
        }
    }
}
