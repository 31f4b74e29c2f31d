//! Custodians: people and devices that a sealing key is wrapped for.

use std::collections::HashSet;
use std::io::Write as _;
use std::str::FromStr;

use age::plugin::{RecipientPluginV1, ResolveError};
use age::ssh::ParseRecipientKeyError;
use age::{EncryptError, NoCallbacks};

use super::bridge::plain;
use crate::ground::names::Label;
use crate::ground::{Error, Result};
use crate::sealing::SealingKey;

/// How many custodians a sealing key may have; what they add up to stays far below [`super::WRAPPED_LIMIT`].
const MOST: usize = 200;

/// Somebody whom a sealing key is wrapped for: a label, and a recipient that age knows or a plugin of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Custodian {
    label: Label,
    recipient: String,
}

/// The kinds of recipients.
enum Recipient {
    Native(Box<dyn age::Recipient>),
    Plugin(age::plugin::Recipient),
}

impl Custodian {
    /// A custodian; the recipient is `age1…`, `ssh-ed25519 …`, `ssh-rsa …` or a plugin's `age1<plugin>1…`.
    ///
    /// [`crate::ground::Kind::Usage`] for anything else. No plugin program is started; an SSH key's comment is dropped.
    pub fn new(label: Label, recipient: &str) -> Result<Self> {
        let recipient = recipient.trim();
        let recipient = match recipient.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            [kind @ ("ssh-ed25519" | "ssh-rsa"), key, ..] => format!("{kind} {key}"),
            _ => recipient.to_owned(),
        };
        parse(&label, &recipient)?;
        Ok(Self { label, recipient })
    }

    /// What people call it.
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// The recipient's text.
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// Whether age lets it stand beside post-quantum recipients only.
    fn is_post_quantum(&self) -> bool {
        self.recipient.starts_with("age1pq1") || self.recipient.starts_with("age1tagpq1")
    }
}

impl FromStr for Custodian {
    type Err = Error;

    /// Reads `LABEL=RECIPIENT`.
    fn from_str(text: &str) -> Result<Self> {
        // What was given may be a secret by mistake, so it is not shown.
        let (label, recipient) = text.split_once('=').ok_or_else(|| {
            Error::usage("a custodian is given as LABEL=RECIPIENT")
                .hint("For example alice=age1… or bob=\"ssh-ed25519 …\".")
        })?;
        Self::new(label.trim().parse()?, recipient)
    }
}

fn parse(label: &Label, text: &str) -> Result<Recipient> {
    let usage = |why: String| Error::usage(format!("custodian {label}: {why}"));
    let upper = text.to_ascii_uppercase();
    if upper.starts_with("AGE-SECRET-KEY-") || upper.starts_with("AGE-PLUGIN-") || upper.starts_with("-----BEGIN") {
        return Err(usage("this is an identity, the secret half; a custodian is named by the public half".to_owned())
            .hint("It begins with age1 or ssh-; `age-keygen -y FILE` prints it. Take the secret out of your shell's history."));
    }
    if let Ok(native) = text.parse::<age::x25519::Recipient>() {
        return Ok(Recipient::Native(Box::new(native)));
    }
    if let Ok(native) = text.parse::<age::tag::Recipient>() {
        return Ok(Recipient::Native(Box::new(native)));
    }
    if let Ok(native) = text.parse::<age::tagpq::Recipient>() {
        return Ok(Recipient::Native(Box::new(native)));
    }
    match text.parse::<age::ssh::Recipient>() {
        Ok(native) => return Ok(Recipient::Native(Box::new(native))),
        Err(ParseRecipientKeyError::RsaModulusTooLarge) => {
            return Err(usage("the RSA key is too long for age".to_owned()));
        }
        Err(ParseRecipientKeyError::RsaModulusTooSmall) => {
            return Err(usage("the RSA key is shorter than 2048 bits, which is too weak".to_owned()));
        }
        Err(ParseRecipientKeyError::Unsupported(kind)) => {
            return Err(usage(format!("age does not encrypt to SSH keys of type {}", plain(&kind)))
                .hint("It takes ssh-ed25519 and ssh-rsa; hardware keys work through an age plugin."));
        }
        Err(_) => {}
    }
    match text.parse::<age::plugin::Recipient>() {
        Ok(plugin) => Ok(Recipient::Plugin(plugin)),
        Err(why) => {
            Err(usage(format!("{:?} is no recipient that age knows", text.chars().take(60).collect::<String>()))
                .because(why.to_owned())
                .hint("It begins with age1, ssh-ed25519 or ssh-rsa; a plugin prints its own."))
        }
    }
}

/// Encrypts the key's identity file to every custodian.
pub(super) fn wrap(key: &SealingKey, custodians: &[Custodian]) -> Result<Vec<u8>> {
    check(custodians)?;
    let recipients = custodians.iter().map(age_recipient).collect::<Result<Vec<_>>>()?;
    let encryptor = age::Encryptor::with_recipients(recipients.iter().map(|recipient| &**recipient))
        .map_err(|error| explain(error, custodians))?;
    let plaintext = key.to_identity_file();
    let mut wrapped = Vec::new();
    encryptor
        .wrap_output(&mut wrapped)
        .and_then(|mut out| out.write_all(&plaintext).and_then(|()| out.finish()))
        .map_err(|e| Error::failed("cannot wrap the sealing key").because(e))?;
    Ok(wrapped)
}

/// Fails unless a sealing key can be wrapped for these together: at least one, no label and no recipient twice.
pub fn check(custodians: &[Custodian]) -> Result<()> {
    if custodians.is_empty() {
        return Err(
            Error::usage("a sealing key without a custodian could never be opened").hint("--custodian LABEL=RECIPIENT")
        );
    }
    if custodians.len() > MOST {
        return Err(Error::usage(format!("{} custodians are more than the {MOST} there may be", custodians.len())));
    }
    let (mut labels, mut recipients) = (HashSet::new(), HashSet::new());
    for custodian in custodians {
        if !labels.insert(&custodian.label) {
            return Err(Error::usage(format!("two custodians are called {}", custodian.label))
                .hint("Give each custodian a label of their own: --custodian LABEL=RECIPIENT."));
        }
        if !recipients.insert(&custodian.recipient) {
            return Err(Error::usage(format!("custodian {} has the recipient of another one", custodian.label))
                .hint("Each custodian has a key of their own: ask for the public half of theirs, or leave one of the two out."));
        }
    }
    Ok(())
}

fn age_recipient(custodian: &Custodian) -> Result<Box<dyn age::Recipient>> {
    let plugin = match parse(&custodian.label, &custodian.recipient)? {
        Recipient::Native(native) => return Ok(native),
        Recipient::Plugin(plugin) => plugin,
    };
    // One by one, so that what a plugin says can be laid at one custodian's door.
    match RecipientPluginV1::new(plugin.plugin(), std::slice::from_ref(&plugin), &[], NoCallbacks) {
        Ok(recipient) => Ok(Box::new(recipient)),
        Err(error) => {
            Err(missing_plugin(&error)
                .context(format!("cannot wrap the sealing key for custodian {}", custodian.label)))
        }
    }
}

/// Says which plugin program is not there.
pub(super) fn missing_plugin(error: &ResolveError) -> Error {
    match error {
        ResolveError::MissingPlugin { binary_name } => {
            Error::failed(format!("the program {binary_name} is not on PATH"))
                .hint(format!("Install {binary_name}, or run where it is installed."))
        }
        ResolveError::InvalidPluginName { name } => {
            Error::usage(format!("{:?} is no name of an age plugin", plain(name)))
        }
        _ => Error::failed("an age plugin cannot be found"),
    }
}

fn explain(error: EncryptError, custodians: &[Custodian]) -> Error {
    let failed = "cannot wrap the sealing key";
    match error {
        EncryptError::IncompatibleRecipients { .. } => {
            let (pq, other): (Vec<_>, Vec<_>) = custodians.iter().partition(|custodian| custodian.is_post_quantum());
            let names = |some: &[&Custodian]| some.iter().map(|c| c.label.as_str()).collect::<Vec<_>>().join(", ");
            let error = if pq.is_empty() || other.is_empty() {
                Error::usage("age refuses to encrypt to these custodians together")
            } else {
                Error::usage(format!(
                    "age refuses to encrypt to these custodians together: {} post-quantum, {} not",
                    names(&pq),
                    names(&other)
                ))
            };
            error
                .hint("One weaker recipient would undo the others' protection: make all of them post-quantum, or none.")
        }
        EncryptError::PluginResolve(error) => missing_plugin(&error).context(failed),
        other => {
            let mut said = other.to_string();
            for custodian in custodians {
                said = said.replace(&custodian.recipient, custodian.label.as_str());
            }
            Error::failed(failed).because(plain(&said))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::Kind;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHFliOyIZs1gxGF3fmDxFykQhE88wy6AKDGFBfn0R6ZuvRmENABZQa9+pj9hMki+LX0qDJbmHTiWDbYv/cmFt/Q=";

    fn label(text: &str) -> Label {
        text.parse().expect("a label")
    }

    /// A recipient of a plugin that nobody has.
    fn plugin(name: &str) -> String {
        bech32::encode::<bech32::Bech32>(bech32::Hrp::parse(&format!("age1{name}")).expect("an hrp"), &[7; 32])
            .expect("encoded")
    }

    #[test]
    fn every_kind_of_recipient_is_taken() {
        let native = SealingKey::generate().recipient().to_string();
        for good in [native.as_str(), ED25519, &plugin("nobody-has-it")] {
            assert!(Custodian::new(label("a"), good).is_ok(), "{good}");
        }
        let commented = format!("bob={ED25519} bob@example");
        assert_eq!(commented.parse::<Custodian>().expect("a custodian").recipient(), ED25519);
    }

    #[test]
    fn what_is_no_recipient_is_refused() {
        for bad in ["", "age1", "alice", "ssh-ed25519 AAAA", "age1qqqqqqq", ECDSA] {
            let error = Custodian::new(label("a"), bad).expect_err("refused");
            assert_eq!(error.kind(), Kind::Usage, "{bad}");
        }
        assert!("age1…".parse::<Custodian>().is_err());
    }

    #[test]
    fn a_secret_given_by_mistake_is_not_repeated() {
        let file = SealingKey::generate().to_identity_file();
        let secret = std::str::from_utf8(&file).expect("text").lines().last().expect("a line").to_owned();
        for given in [format!("alice={secret}"), secret.clone(), format!("alice={}", secret.to_lowercase())] {
            let error = given.parse::<Custodian>().expect_err("refused");
            let said = format!("{} {:?}", error.chain(), error.hints()).to_uppercase();
            assert!(!said.contains(&secret[16..40]), "{said}");
        }
    }

    #[test]
    fn labels_and_recipients_are_taken_once() {
        let (a, b) = (SealingKey::generate().recipient().to_string(), SealingKey::generate().recipient().to_string());
        let custodian = |name: &str, recipient: &str| Custodian::new(label(name), recipient).expect("a custodian");
        let key = SealingKey::generate();
        for set in [vec![], vec![custodian("a", &a), custodian("a", &b)], vec![custodian("a", &a), custodian("b", &a)]]
        {
            assert_eq!(wrap(&key, &set).expect_err("refused").kind(), Kind::Usage);
        }
        assert!(wrap(&key, &[custodian("a", &a), custodian("b", &b)]).is_ok());
    }

    #[test]
    fn a_missing_plugin_program_is_named_with_its_custodian() {
        let custodian = Custodian::new(label("carol"), &plugin("nobody-has-it")).expect("a custodian");
        let error = wrap(&SealingKey::generate(), &[custodian]).expect_err("no such program");
        assert!(error.chain().contains("carol"), "{}", error.chain());
        assert!(error.chain().contains("age-plugin-nobody-has-it"), "{}", error.chain());
    }
}
