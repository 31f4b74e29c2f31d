//! What a file is by its first bytes, before it is read as an identity.

use std::io::Read as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::ground::{Error, Result, durable};

/// Fails for what lies beside an identity and is none: a public half, a recovery card.
pub(super) fn mistaken(path: &Path) -> Result<()> {
    let Ok(file) = durable::open_regular(path, true) else { return Ok(()) };
    // One allocation that is wiped: it may be an identity after all.
    let mut begins = Zeroizing::new(Vec::with_capacity(BEGINNING));
    if (&file).take(BEGINNING as u64).read_to_end(&mut begins).is_err() {
        return Ok(());
    }
    let shown = path.display();
    let text = String::from_utf8_lossy(&begins);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with("strongroom recovery card") {
        return Err(Error::usage(format!("{shown} is a recovery card, and no identity"))
            .hint("Give the card with --card, and with -i the file of the identity that it belongs to."));
    }
    if text.starts_with("ssh-") || text.starts_with("ecdsa-") || text.starts_with("age1") {
        return Err(Error::usage(format!("{shown} is a public key, and a public key opens nothing"))
            .hint("Give the private half: for an SSH key the file without .pub, for age the file with AGE-SECRET-KEY-1 in it."));
    }
    if text.starts_with("untrusted comment:") {
        return Err(Error::usage(format!("{shown} is a minisign key: it signs, and opens nothing"))
            .hint("Give a custodian's identity, or the recovery identity, with -i."));
    }
    Ok(())
}

/// How much of a file says what it is.
const BEGINNING: usize = 256;

/// Whether a file is an identity under a passphrase, by its first bytes.
pub(super) fn is_protected(path: &Path) -> bool {
    let mut begins = Vec::with_capacity(64);
    durable::open_regular(path, true).is_ok_and(|file| (&file).take(64).read_to_end(&mut begins).is_ok())
        && [&b"-----BEGIN AGE ENCRYPTED FILE-----"[..], b"age-encryption.org/"]
            .iter()
            .any(|head| begins.starts_with(head))
}
