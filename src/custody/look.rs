//! What a file is by its first bytes, before it is read as an identity.

use std::io::Read as _;
use std::path::Path;

use crate::ground::recognise::Seems;
use crate::ground::{Error, Result, durable};

/// Fails for what lies beside an identity and is none: a public half, a recovery card.
pub(super) fn mistaken(path: &Path) -> Result<()> {
    let Some(seems) = Seems::file(path) else { return Ok(()) };
    let shown = path.display();
    let (told, hint) = match seems {
        Seems::Identity | Seems::SshIdentity => return Ok(()),
        Seems::Card => (
            "is a recovery card, and no identity",
            "Give the card with --card, and with -i the file of the identity that it belongs to.",
        ),
        Seems::Recipient => (
            "is a public key, and a public key opens nothing",
            "Give the private half: for an SSH key the file without .pub, for age the file with AGE-SECRET-KEY-1 in it.",
        ),
        Seems::Signer | Seems::SignerPublic => (
            "is a minisign key: it signs, and opens nothing",
            "Give a custodian's identity, or the recovery identity, with -i.",
        ),
        Seems::Configuration => (
            "is a strongroom configuration, and no identity",
            "Give the configuration with --config, and with -i a custodian's identity, or the recovery identity.",
        ),
    };
    Err(Error::usage(format!("{shown} {told}")).hint(hint))
}

/// Whether a file is an identity under a passphrase, by its first bytes.
pub(super) fn is_protected(path: &Path) -> bool {
    let mut begins = Vec::with_capacity(64);
    durable::open_regular(path, true).is_ok_and(|file| (&file).take(64).read_to_end(&mut begins).is_ok())
        && [&b"-----BEGIN AGE ENCRYPTED FILE-----"[..], b"age-encryption.org/"]
            .iter()
            .any(|head| begins.starts_with(head))
}
