//! One file that `age -i` would take: what it holds, and how each thing in it opens a wrapped sealing key.

use std::cell::OnceCell;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use age::armor::ArmoredReader;
use age::plugin::IdentityPluginV1;
use age::secrecy::{ExposeSecret as _, SecretString};
use age::ssh::UnsupportedKey;
use age::{DecryptError, Decryptor};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::bridge::{plain, with_questions};
use super::{Ask, custodian, look};
use crate::ground::names::SealingId;
use crate::ground::{Error, Kind, Result, durable};
use crate::sealing::SealingKey;

/// How long an identity file may be.
const FILE_LIMIT: u64 = 1 << 20;

/// The largest scrypt work factor that is tried, `age`'s own bound.
const MAX_WORK_FACTOR: u8 = 22;

/// How long a sealing key's identity file may be.
const KEY_LIMIT: u64 = 16 << 10;

/// An identity file.
pub(super) struct IdentityFile {
    path: PathBuf,
    content: Content,
}

enum Content {
    Lines(Vec<Identity>),
    /// Encrypted with a passphrase; what was in it, or why that is unknown, is kept, so nobody is asked twice.
    Protected {
        sealed: Zeroizing<Vec<u8>>,
        opened: OnceCell<std::result::Result<Vec<Identity>, Why>>,
    },
    Ssh(Box<age::ssh::Identity>),
    ProtectedSsh {
        key: Box<age::ssh::EncryptedKey>,
        /// Kind and tag of the stanzas that it can open.
        tag: Option<(&'static str, String)>,
        opened: OnceCell<std::result::Result<Box<age::ssh::Identity>, Why>>,
    },
}

enum Identity {
    X25519(age::x25519::Identity),
    Plugin(age::plugin::Identity),
}

/// The sealing key that is looked for.
pub(super) struct Sought<'a> {
    /// Its id.
    pub(super) sealing: &'a SealingId,
    /// Its wrapped form, not armored, if there is one.
    pub(super) wrapped: Option<&'a [u8]>,
    /// What the wrapped form is called.
    pub(super) what: &'a str,
}

/// What came of trying an identity.
pub(super) enum Attempt {
    /// It opened the key.
    Opened(SealingKey),
    /// It did not, for this reason.
    No(Why),
}

/// Why an identity does not open a key.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// The passphrase that was given for it is wrong.
    Passphrase,
    /// Something else, in words.
    Other(String),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase => "the passphrase is wrong",
            Self::Other(words) => words,
        })
    }
}

impl Attempt {
    fn no(why: impl Into<String>) -> Self {
        Self::No(Why::Other(why.into()))
    }
}

impl IdentityFile {
    /// Reads a file; see [`super::Identities::load`] for what it takes and refuses.
    pub(super) fn load(path: &Path) -> Result<Self> {
        look::mistaken(path)?;
        let bytes = durable::read_secret_file(path, FILE_LIMIT).map_err(|error| match error.kind() {
            Kind::NotFound => Error::not_found(format!("no identity file at {}", path.display()))
                .hint("Name the file that opens the archive: a custodian's age or SSH identity, or the recovery-identity.txt that `init` made and that you moved to a safe place."),
            Kind::Refused if error.hints().iter().any(|hint| hint.starts_with("chmod")) => {
                error.hint("On a device that keeps no modes, copy it into a folder of your own first.")
            }
            _ => error,
        })?;
        Ok(Self { path: path.to_owned(), content: read(&bytes, path)? })
    }

    /// The path, for messages.
    pub(super) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// Whether trying it asks nobody for anything.
    pub(super) fn is_quiet(&self) -> bool {
        match &self.content {
            Content::Lines(identities) => !identities.iter().any(|i| matches!(i, Identity::Plugin(_))),
            Content::Ssh(_) => true,
            Content::Protected { .. } | Content::ProtectedSsh { .. } => false,
        }
    }

    /// Tries everything in the file.
    pub(super) fn attempt(&self, sought: &Sought<'_>, ask: &dyn Ask) -> Result<Attempt> {
        match &self.content {
            Content::Lines(identities) => attempt_all(identities, sought, ask),
            Content::Ssh(identity) => sought.attempt(&**identity),
            Content::Protected { sealed, opened } => {
                match once(opened, || unlock(sealed, &self.passphrase(ask)?, &self.path))? {
                    Ok(identities) => attempt_all(identities, sought, ask),
                    Err(why) => Ok(Attempt::No(why.clone())),
                }
            }
            Content::ProtectedSsh { key, tag, opened } => {
                if let (Some(wrapped), Some((kind, tag))) = (sought.wrapped, tag)
                    && !has_stanza(wrapped, kind, tag)
                {
                    return Ok(Attempt::no(NOT_A_CUSTODIAN));
                }
                if sought.wrapped.is_none() {
                    return Ok(Attempt::no(NOTHING_WRAPPED));
                }
                match once(opened, || {
                    let passphrase = SecretString::from(self.passphrase(ask)?.as_str());
                    Ok(key.decrypt(passphrase).map(|key| Box::new(key.into())).map_err(|_| Why::Passphrase))
                })? {
                    Ok(identity) => sought.attempt(&**identity),
                    Err(why) => Ok(Attempt::No(why.clone())),
                }
            }
        }
    }

    fn passphrase(&self, ask: &dyn Ask) -> Result<Zeroizing<String>> {
        ask.passphrase(&format!("passphrase of {}", self.path.display()))
    }
}

const NOT_A_CUSTODIAN: &str = "it is none of the key's custodians";
const NOTHING_WRAPPED: &str = "it is not that key, and there is no wrapped one for it to open";

/// Does the work once and keeps the answer; a failure to ask is an answer too, except an interruption.
fn once<T>(
    cell: &OnceCell<std::result::Result<T, Why>>,
    work: impl FnOnce() -> Result<std::result::Result<T, Why>>,
) -> Result<&std::result::Result<T, Why>> {
    if let Some(known) = cell.get() {
        return Ok(known);
    }
    let outcome = match work() {
        Ok(outcome) => outcome,
        Err(error) if error.kind() == Kind::Interrupted => return Err(error),
        Err(error) => Err(Why::Other(error.chain())),
    };
    Ok(cell.get_or_init(|| outcome))
}

/// Finds out what a file is.
fn read(bytes: &Zeroizing<Vec<u8>>, path: &Path) -> Result<Content> {
    let shown = path.display();
    if bytes.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----") || bytes.starts_with(b"age-encryption.org/") {
        let decryptor = Decryptor::new(ArmoredReader::new(&bytes[..]))
            .map_err(|e| Error::damaged(format!("{shown} is a damaged age file")).because(plain(&reason(&e))))?;
        if !decryptor.is_scrypt() {
            return Err(Error::usage(format!("{shown} is encrypted, and not with a passphrase"))
                .hint("Decrypt it with age first, into a file with mode 0600."));
        }
        return Ok(Content::Protected { sealed: bytes.clone(), opened: OnceCell::new() });
    }
    if bytes.starts_with(b"-----BEGIN ") {
        return read_ssh(bytes, path);
    }
    read_lines(bytes, path).map(Content::Lines)
}

fn read_ssh(bytes: &[u8], path: &Path) -> Result<Content> {
    use age::ssh::{Identity, Recipient};
    let shown = path.display();
    let identity = Identity::from_buffer(bytes, Some(shown.to_string())).map_err(|_| {
        Error::usage(format!("{shown} is no private key that age takes"))
            .hint("It takes OpenSSH's ssh-ed25519 and ssh-rsa keys; `ssh-keygen -p -f FILE` rewrites an older form.")
    })?;
    let tag = match Recipient::try_from(identity.clone()) {
        Ok(Recipient::SshRsa(key, _)) => Some(("ssh-rsa", tag_of(&key))),
        Ok(Recipient::SshEd25519(key, _)) => Some(("ssh-ed25519", tag_of(&key))),
        Err(_) => None,
    };
    match identity {
        Identity::Unencrypted(_) => Ok(Content::Ssh(Box::new(identity))),
        Identity::Encrypted(key) => Ok(Content::ProtectedSsh { key: Box::new(key), tag, opened: OnceCell::new() }),
        Identity::Unsupported(kind) => Err(match kind {
            UnsupportedKey::EncryptedPem => {
                Error::usage(format!("{shown} is encrypted in an old way that age does not take"))
                    .hint(format!("ssh-keygen -p -f {shown}"))
            }
            UnsupportedKey::EncryptedSsh(cipher) => {
                Error::usage(format!("{shown} is encrypted with {}, which age does not take", plain(&cipher)))
                    .hint(format!("ssh-keygen -p -Z aes256-ctr -f {shown}"))
            }
            UnsupportedKey::Hardware(kind) | UnsupportedKey::Type(kind) => {
                Error::usage(format!("{shown} is an SSH key of type {}, which age does not take", plain(&kind)))
                    .hint("It takes ssh-ed25519 and ssh-rsa; hardware keys work through an age plugin.")
            }
        }),
    }
}

/// The tag by which a stanza names an SSH key: base64 of the first four bytes of SHA-256 of the public key.
fn tag_of(public: &[u8]) -> String {
    BASE64_STANDARD_NO_PAD.encode(&Sha256::digest(public)[..4])
}

/// Whether an age file's header has a stanza of this kind for this tag (<https://c2sp.org/age>).
fn has_stanza(file: &[u8], kind: &str, tag: &str) -> bool {
    let begins = format!("-> {kind} {tag}");
    file.split(|b| *b == b'\n')
        .take_while(|line| !line.starts_with(b"---"))
        .any(|line| line.strip_prefix(begins.as_bytes()).is_some_and(|rest| matches!(rest.first(), None | Some(b' '))))
}

/// What an identity looks like, for hints.
const FORM: &str = "An identity begins with AGE-SECRET-KEY-1 or AGE-PLUGIN-; OpenSSH private keys are taken too.";

/// Reads identities, one a line, among comments; nothing of a line is ever in an error.
fn read_lines(bytes: &[u8], path: &Path) -> Result<Vec<Identity>> {
    let shown = path.display();
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Error::usage(format!("{shown} is no identity file: it is not text")).hint(FORM))?;
    let mut identities = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Ok(identity) = line.parse::<age::x25519::Identity>() {
            identities.push(Identity::X25519(identity));
        } else if let Ok(identity) = line.parse::<age::plugin::Identity>() {
            identities.push(Identity::Plugin(identity));
        } else {
            let error = Error::usage(format!("{shown} holds something else than an identity on line {}", index + 1));
            return Err(if line.starts_with("age1") || line.starts_with("ssh-") {
                error.hint("That is a recipient, the public half; what opens is the identity that it was made from.")
            } else if line.starts_with("AGE-SECRET-KEY-PQ-1") {
                error.hint("That is a post-quantum identity; `age-plugin-pq -identity` makes a plugin identity of it.")
            } else {
                error.hint(FORM)
            });
        }
    }
    if identities.is_empty() {
        return Err(Error::usage(format!("{shown} holds no identity")).hint(FORM));
    }
    Ok(identities)
}

/// Decrypts a passphrase-protected file and reads what is in it.
fn unlock(sealed: &[u8], passphrase: &str, path: &Path) -> Result<std::result::Result<Vec<Identity>, Why>> {
    let mut identity = age::scrypt::Identity::new(SecretString::from(passphrase));
    identity.set_max_work_factor(MAX_WORK_FACTOR);
    match decrypt(ArmoredReader::new(sealed), &identity, FILE_LIMIT) {
        Ok(plaintext) => read_lines(&plaintext, path).map(Ok),
        Err(DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed | DecryptError::NoMatchingKeys) => {
            Ok(Err(Why::Passphrase))
        }
        Err(error) => Ok(Err(Why::Other(reason(&error)))),
    }
}

fn attempt_all(identities: &[Identity], sought: &Sought<'_>, ask: &dyn Ask) -> Result<Attempt> {
    let mut reasons: Vec<String> = Vec::new();
    let plugins_last = identities
        .iter()
        .filter(|i| matches!(i, Identity::X25519(_)))
        .chain(identities.iter().filter(|i| matches!(i, Identity::Plugin(_))));
    for identity in plugins_last {
        let attempt = match identity {
            Identity::X25519(identity) => sought.attempt_native(identity)?,
            Identity::Plugin(identity) => sought.attempt_plugin(identity, ask)?,
        };
        match attempt {
            Attempt::Opened(key) => return Ok(Attempt::Opened(key)),
            Attempt::No(why) if reasons.contains(&why.to_string()) => {}
            Attempt::No(why) => reasons.push(why.to_string()),
        }
    }
    Ok(Attempt::no(reasons.join("; ")))
}

impl Sought<'_> {
    fn attempt_native(&self, identity: &age::x25519::Identity) -> Result<Attempt> {
        let itself = SealingKey::parse(identity.to_string().expose_secret().as_bytes())?;
        if itself.id() == self.sealing { Ok(Attempt::Opened(itself)) } else { self.attempt(identity) }
    }

    fn attempt_plugin(&self, identity: &age::plugin::Identity, ask: &dyn Ask) -> Result<Attempt> {
        let Some(wrapped) = self.wrapped else { return Ok(Attempt::no(NOTHING_WRAPPED)) };
        let outcome = with_questions(ask, |bridge| {
            let plugin = IdentityPluginV1::new(identity.plugin(), std::slice::from_ref(identity), bridge)
                .map_err(DecryptError::PluginResolve)?;
            decrypt(wrapped, &plugin, KEY_LIMIT)
        });
        match outcome {
            // The plugin's pipe, not the wrapped key, has broken.
            Ok(Err(error @ DecryptError::Io(_))) if broke(&error) => Ok(Attempt::no(reason(&error))),
            Ok(outcome) => self.judge(outcome),
            Err(error) if error.kind() == Kind::Interrupted => Err(error),
            Err(error) => Ok(Attempt::no(error.chain())),
        }
    }

    fn attempt(&self, identity: &dyn age::Identity) -> Result<Attempt> {
        let Some(wrapped) = self.wrapped else { return Ok(Attempt::no(NOTHING_WRAPPED)) };
        self.judge(decrypt(wrapped, identity, KEY_LIMIT))
    }

    fn judge(&self, outcome: std::result::Result<Zeroizing<Vec<u8>>, DecryptError>) -> Result<Attempt> {
        match outcome {
            Ok(plaintext) => {
                let key = SealingKey::parse(&plaintext)
                    .map_err(|error| error.context(format!("cannot read {}", self.what)))?;
                if key.id() == self.sealing {
                    return Ok(Attempt::Opened(key));
                }
                Err(Error::not_authentic(format!("{} holds sealing key {}, not {}", self.what, key.id(), self.sealing))
                    .hint("Somebody who can write there has put another key in its place; take an older copy."))
            }
            Err(error @ (DecryptError::InvalidHeader | DecryptError::InvalidMac | DecryptError::Io(_))) => {
                Err(Error::damaged(format!("{} is damaged", self.what)).because(reason(&error)))
            }
            Err(error) => Ok(Attempt::no(reason(&error))),
        }
    }
}

/// Whether a plugin went away or did not speak its protocol.
fn broke(error: &DecryptError) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, NotFound, PermissionDenied};
    matches!(error, DecryptError::Io(e) if matches!(e.kind(), BrokenPipe | ConnectionAborted | NotFound | PermissionDenied))
}

/// Decrypts all of a small age file.
pub(super) fn decrypt(
    file: impl std::io::Read,
    identity: &dyn age::Identity,
    limit: u64,
) -> std::result::Result<Zeroizing<Vec<u8>>, DecryptError> {
    let payload = Decryptor::new(file)?.decrypt(std::iter::once(identity))?;
    // One allocation, so that growing leaves no unwiped copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(limit).unwrap_or(0) + 1));
    payload.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(DecryptError::Io(std::io::Error::other("it is longer than it can be")));
    }
    Ok(bytes)
}

/// Why age did not decrypt, in our words.
pub(super) fn reason(error: &DecryptError) -> String {
    match error {
        DecryptError::NoMatchingKeys => NOT_A_CUSTODIAN.to_owned(),
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
            "what is addressed to it does not decrypt".to_owned()
        }
        // age's own text for this one computes 2^(required − target) and can overflow.
        DecryptError::ExcessiveWork { required, .. } => {
            format!(
                "its passphrase takes scrypt work factor {required}, more than the {MAX_WORK_FACTOR} that age allows"
            )
        }
        DecryptError::PluginResolve(error) => custodian::missing_plugin(error).to_string(),
        other => plain(&other.to_string()),
    }
}
