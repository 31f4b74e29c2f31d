//! The recovery identity: what a person keeps who has no other custodian.

use std::io::Write as _;

use age::armor::{ArmoredWriter, Format};
use age::secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::ground::{Error, Result, clock};

/// The scrypt work factor of `age -p`: 2¹⁸, 256 MiB and about a second.
const WORK_FACTOR: u8 = 18;

/// Makes a new age identity: the bytes of its identity file, and its recipient.
///
/// With a passphrase the file is an armored age file that `age -d` opens and `age -i` takes; without one it is as
/// `age-keygen` writes it. [`crate::ground::Kind::Usage`] for an empty passphrase.
pub fn new_recovery_identity(passphrase: Option<&str>) -> Result<(Zeroizing<Vec<u8>>, String)> {
    with_work_factor(passphrase, WORK_FACTOR)
}

pub(super) fn with_work_factor(passphrase: Option<&str>, factor: u8) -> Result<(Zeroizing<Vec<u8>>, String)> {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    // Room for all of it, so that growing leaves no unwiped copy behind.
    let mut file = Zeroizing::new(Vec::with_capacity(512));
    file.extend_from_slice(
        format!("# created: {}\n# public key: {recipient}\n", clock::rfc3339(clock::now())).as_bytes(),
    );
    file.extend_from_slice(identity.to_string().expose_secret().as_bytes());
    file.push(b'\n');
    let Some(passphrase) = passphrase else { return Ok((file, recipient)) };
    if passphrase.is_empty() {
        return Err(Error::usage("an empty passphrase protects nothing").hint("Give one, or none at all."));
    }
    let mut locked = age::scrypt::Recipient::new(SecretString::from(passphrase));
    locked.set_work_factor(factor);
    let failed =
        |e: &dyn std::fmt::Display| Error::failed("cannot encrypt the recovery identity").because(e.to_string());
    let encryptor =
        age::Encryptor::with_recipients(std::iter::once(&locked as &dyn age::Recipient)).map_err(|e| failed(&e))?;
    let mut armored = Vec::new();
    ArmoredWriter::wrap_output(&mut armored, Format::AsciiArmor)
        .and_then(|out| encryptor.wrap_output(out))
        .and_then(|mut out| out.write_all(&file).and_then(|()| out.finish()))
        .and_then(ArmoredWriter::finish)
        .map_err(|e| failed(&e))?;
    Ok((Zeroizing::new(armored), recipient))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_passphrase_it_is_what_age_keygen_writes() {
        let (file, recipient) = new_recovery_identity(None).expect("made");
        let key = crate::sealing::SealingKey::parse(&file).expect("an identity file");
        assert_eq!(key.recipient().to_string(), recipient);
    }

    #[test]
    fn with_a_passphrase_nothing_of_it_is_readable() {
        let (file, _) = with_work_factor(Some("correct horse"), 5).expect("made");
        let text = std::str::from_utf8(&file).expect("armored text");
        assert!(text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----\n"), "{text}");
        assert!(text.ends_with("-----END AGE ENCRYPTED FILE-----\n"), "{text}");
        assert!(!text.contains("AGE-SECRET-KEY"));
        assert!(new_recovery_identity(Some("")).is_err());
    }
}
