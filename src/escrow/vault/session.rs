//! A session with a Vault: logged in when first needed, kept alive while the run lasts, patient where that is safe.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::secret::Text;
use super::wire::{Answer, Call, Fault, Wire};
use crate::ground::{Error, Result, interrupt};

/// How long is waited before each further attempt.
const WAITS: [Duration; 3] = [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(2)];
/// The longest wait that a server may ask for.
const LONGEST: Duration = Duration::from_secs(5);
/// A token with less than this left, that nobody can renew, is mentioned.
const SHORT: Duration = Duration::from_hours(1);
/// Tokens with more than this left need no renewal during a run.
const LONG: Duration = Duration::from_hours(48);
/// A server may answer any number of seconds; nothing here lasts longer than this, and clocks count no further than they can.
const LONGEST_LIFE: Duration = Duration::from_hours(365 * 24);

/// Reads a part of what we log in with, when it is needed.
pub type Secret = Box<dyn Fn() -> Result<Zeroizing<String>> + Send + Sync>;

/// How we log in.
pub enum Login {
    /// With a token that somebody made.
    Token(Secret),
    /// With the ids of an application's role.
    AppRole {
        /// Where the method is mounted below `auth/`.
        mount: String,
        /// The role's id.
        role_id: Secret,
        /// Its secret.
        secret_id: Secret,
    },
    /// With the token of a Kubernetes service account.
    Kubernetes {
        /// Where the method is mounted below `auth/`.
        mount: String,
        /// The role's name.
        role: String,
        /// The service account's token.
        jwt: Secret,
    },
}

/// A Vault and how to log in to it; connects to nobody until something is asked.
pub struct Vault {
    wire: Wire,
    login: Login,
    state: Mutex<State>,
    itself: Weak<Self>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// It did not answer after all patience: the next request gets one attempt.
    given_up: bool,
    notice: Option<String>,
}

struct Token {
    text: Zeroizing<String>,
    /// Until when it is good, as far as we know.
    until: Option<Instant>,
    life: Duration,
    renewable: bool,
}

#[derive(Deserialize)]
struct LoggedIn {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: Text,
    lease_duration: u64,
    renewable: bool,
}

#[derive(Deserialize)]
struct LookedUp {
    data: Lookup,
}

#[derive(Deserialize)]
struct Lookup {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
    #[serde(default)]
    num_uses: u64,
}

#[derive(Deserialize)]
struct Renewed {
    auth: Lease,
}

#[derive(Deserialize)]
struct Lease {
    lease_duration: u64,
    renewable: bool,
}

impl Token {
    fn new(text: Zeroizing<String>, seconds: u64, renewable: bool) -> Self {
        let life = Duration::from_secs(seconds).min(LONGEST_LIFE);
        // No life at all is one without end: a root token's.
        Self { text, until: (seconds > 0).then(|| Instant::now() + life), life, renewable }
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }
}

impl Vault {
    /// A Vault at an address, in a namespace, whose certificate descends from the one in a file or from the usual ones.
    pub fn new(address: &str, namespace: Option<String>, ca_file: Option<PathBuf>, login: Login) -> Result<Arc<Self>> {
        let wire = Wire::new(address, namespace, ca_file)?;
        let state = Mutex::default();
        Ok(Arc::new_cyclic(|itself| Self { wire, login, state, itself: itself.clone() }))
    }

    /// The Vault, for messages.
    pub(super) fn describe(&self) -> String {
        format!("the Vault {}", self.wire.describe())
    }

    /// Logs in, if that has not happened; answers what a person should know about how long it will last.
    pub(super) fn begin(&self) -> Result<Option<String>> {
        let mut state = self.state();
        self.logged_in(&mut state)?;
        Ok(state.notice.clone())
    }

    /// Asks, logged in. Every status comes back but those of a server that is not able to answer.
    ///
    /// A token of our own that is not known any more is forgotten, and what only looks is asked again with a new one.
    pub(super) fn ask(&self, call: Call<'_>) -> Result<Answer> {
        let mut again = self.makes_its_own() && call.only_looks();
        loop {
            let mut state = self.state();
            let token = self.logged_in(&mut state)?;
            let answer = self.patiently(&mut state, call, Some(&token))?;
            if answer.status != 403 || !answer.knows_no_such_token() {
                return Ok(answer);
            }
            if self.makes_its_own() {
                state.token = None;
            }
            if !std::mem::take(&mut again) {
                return Err(self.dead_token());
            }
        }
    }

    /// Whether it logs in with something that gives a new token each time.
    fn makes_its_own(&self) -> bool {
        !matches!(self.login, Login::Token(_))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dead_token(&self) -> Error {
        Error::denied(format!("{} does not know our token: it has expired or was revoked", self.describe()))
            .hint("Log in anew, or make a token that lasts; with auth method approle strongroom logs in by itself.")
    }

    fn logged_in(&self, state: &mut State) -> Result<Zeroizing<String>> {
        if let Some(token) = state.token.as_ref().filter(|token| !(self.makes_its_own() && token.is_over())) {
            return Ok(token.text.clone());
        }
        let token = match &self.login {
            Login::Token(text) => self.look_up(state, text()?)?,
            Login::AppRole { mount, role_id, secret_id } => {
                let body = body(&[("role_id", &role_id()?), ("secret_id", &secret_id()?)]);
                self.log_in(state, mount, &body)?
            }
            Login::Kubernetes { mount, role, jwt } => {
                self.log_in(state, mount, &body(&[("role", role), ("jwt", &jwt()?)]))?
            }
        };
        let text = token.text.clone();
        if token.renewable && token.until.is_some() && token.life < LONG {
            keep_alive(self.itself.clone(), token.life);
        }
        state.token = Some(token);
        Ok(text)
    }

    fn log_in(&self, state: &mut State, mount: &str, body: &[u8]) -> Result<Token> {
        let path = format!("auth/{mount}/login");
        let answer = self.patiently(state, Call { method: "POST", path: &path, body: Some(body) }, None)?;
        let what = self.describe();
        match answer.status {
            200 => {
                let LoggedIn { auth } = answer.read()?;
                Ok(Token::new(auth.client_token.0, auth.lease_duration, auth.renewable))
            }
            404 => Err(Error::denied(format!("{what} has nothing to log in with at {path}")).hint(
                "Enable the method there, or name its mount: auth = { …, mount = \"…\" }; a namespace has its own.",
            )),
            status => Err(Error::denied(format!("{what} does not let us log in at {path} (status {status})"))
                .hint("The role or its secret is unknown, used up or bound to other addresses: make a new secret id.")),
        }
    }

    /// How long a token that somebody made will last.
    fn look_up(&self, state: &mut State, text: Zeroizing<String>) -> Result<Token> {
        let call = Call { method: "GET", path: "auth/token/lookup-self", body: None };
        let answer = self.patiently(state, call, Some(&text))?;
        match answer.status {
            200 => {
                let LookedUp { data } = answer.read()?;
                let token = Token::new(text, data.ttl, data.renewable);
                state.notice = self.notice(&token, data.num_uses);
                Ok(token)
            }
            403 if answer.knows_no_such_token() => Err(self.dead_token()),
            // Without the policy `default` a token may not look at itself, and may do its work all the same.
            _ => Ok(Token::new(text, 0, false)),
        }
    }

    fn notice(&self, token: &Token, uses: u64) -> Option<String> {
        let what = self.describe();
        if token.until.is_some() && !token.renewable && token.life < SHORT {
            let minutes = token.life.as_secs().div_ceil(60);
            return Some(format!("the token for {what} ends in {minutes} min and cannot be renewed"));
        }
        (1..10).contains(&uses).then(|| format!("the token for {what} may be used {uses} times more"))
    }

    /// Asks again where that is safe; what the server is not able to answer becomes an error.
    fn patiently(&self, state: &mut State, call: Call<'_>, token: Option<&str>) -> Result<Answer> {
        let mut waits = if state.given_up { [].iter() } else { WAITS.iter() };
        loop {
            let (error, safe, asked) = match self.wire.ask(call, token) {
                Ok(answer) if !matches!(answer.status, 429 | 472 | 473 | 500..=599) => {
                    state.given_up = false;
                    return Ok(answer);
                }
                // A sealed, standby or throttled server has done nothing; one that failed may have done something.
                Ok(answer) => {
                    let untouched = matches!(answer.status, 429 | 472 | 473 | 503);
                    (self.unable(call, &answer), untouched || call.only_looks(), answer.retry_after)
                }
                Err(Fault::NotSent(error)) => (error, true, None),
                Err(Fault::Unclear(error)) => (error, call.only_looks(), None),
                Err(Fault::Final(error)) => return Err(error),
            };
            let Some(wait) = waits.next().filter(|_| safe) else {
                state.given_up = true;
                return Err(error);
            };
            interrupt::check()?;
            std::thread::sleep(asked.map_or(*wait, |asked| asked.clamp(*wait, LONGEST)));
        }
    }

    fn unable(&self, call: Call<'_>, answer: &Answer) -> Error {
        let what = self.describe();
        match answer.status {
            503 if answer.complains_of("sealed") => Error::unreachable(format!("{what} is sealed"))
                .hint("Unseal it (`vault operator unseal`), then run this again."),
            429 => Error::unreachable(format!("{what} has too much to do (status 429)"))
                .hint("A rate limit or quota holds us off: try again later."),
            472 | 473 | 503 => {
                Error::unreachable(format!("{what} is a standby or not ready (status {})", answer.status))
                    .hint("Give the address of the active one, or of what stands before all of them.")
            }
            status => Error::unreachable(format!("{what} failed at {} (status {status})", call.path))
                .hint("Its own log says why."),
        }
    }

    /// Renews the token once; answers how long it lasts now, and nothing when it cannot be renewed again.
    fn renew(&self) -> Option<Duration> {
        let mut state = self.state();
        let text = state.token.as_ref()?.text.clone();
        let call = Call { method: "POST", path: "auth/token/renew-self", body: Some(b"{}") };
        let answer = self.patiently(&mut state, call, Some(&text)).ok().filter(|answer| answer.status == 200)?;
        let Renewed { auth } = answer.read().ok()?;
        let token = Token::new(text, auth.lease_duration, auth.renewable);
        let life = token.life;
        let again = token.renewable && token.until.is_some();
        state.token = Some(token);
        again.then_some(life)
    }
}

/// Renews the token when a third of its life is left, until the run is over or it reaches its end.
fn keep_alive(vault: Weak<Vault>, mut life: Duration) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep((life * 2 / 3).max(Duration::from_millis(500)));
            let Some(vault) = vault.upgrade() else { return };
            match vault.renew() {
                // Near its last end a token is given less each time.
                Some(next) if next > Duration::from_secs(1) => life = next,
                _ => return,
            }
        }
    });
}

/// A JSON object of texts, in one allocation that is wiped.
pub(super) fn body(fields: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    let room = fields.iter().map(|(name, text)| 6 * (name.len() + text.len()) + 6).sum::<usize>() + 2;
    let mut out = Zeroizing::new(Vec::with_capacity(room));
    out.push(b'{');
    for (n, (name, text)) in fields.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        for (part, end) in [(name, ":"), (text, "")] {
            // Writing a text into memory that is there does not fail.
            let _ = serde_json::to_writer(&mut *out, part);
            out.extend_from_slice(end.as_bytes());
        }
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_lasts_for_ever_and_a_day_is_a_token() {
        for seconds in [1, 40_000_000, u64::MAX / 2, u64::MAX] {
            let token = Token::new(Zeroizing::new("t".to_owned()), seconds, true);
            assert!(token.until.is_some_and(|until| until > Instant::now()) && !token.is_over(), "{seconds}");
            assert_eq!(token.life, Duration::from_secs(seconds).min(LONGEST_LIFE));
        }
        assert!(Token::new(Zeroizing::new("t".to_owned()), 0, false).until.is_none());
    }

    #[test]
    fn a_body_is_json_in_one_allocation() {
        let text = "\u{1}\"\\é".repeat(50);
        let made = body(&[("a", &text), ("b", "x")]);
        assert!(made.len() <= made.capacity());
        let read: std::collections::BTreeMap<String, String> = serde_json::from_slice(&made).expect("JSON");
        assert_eq!(read["a"], text);
        assert_eq!(read["b"], "x");
    }
}
