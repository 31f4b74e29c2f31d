//! The secret half: minisign's own file format, without a passphrase, because nobody is there at night to type it.

use std::io::Cursor;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::PublicKey;
use crate::ground::durable::{self, Existing};
use crate::ground::recognise::Seems;
use crate::ground::{Error, Result};

/// Bytes of a secret key: algorithms 2+2+2, salt 32, limits 8+8, key id 8, seed and public key 64, checksum 32.
const LENGTH: usize = 158;

/// A key that signs. No `Debug`, no `Clone`; wiped when dropped.
///
/// The `minisign` crate does not wipe its own type, so that one is made for each signature and kept no longer.
pub struct Signer {
    secret: Zeroizing<[u8; LENGTH]>,
    public: PublicKey,
}

impl Signer {
    /// A new signer.
    pub fn generate() -> Result<Self> {
        let pair = minisign::KeyPair::generate_unencrypted_keypair()
            .map_err(|e| Error::failed("cannot make a signing key").because(e))?;
        Self::from_bytes(&Zeroizing::new(pair.sk.to_bytes())).map_err(Error::failed)
    }

    /// Reads a secret key file, as `minisign -G -W` or [`Signer::save`] wrote it.
    ///
    /// [`crate::ground::Kind::Refused`] when others can read it or it has a passphrase, `Damaged` when it is no key, and
    /// `Usage` when it seems to be another file.
    pub fn load(path: &Path) -> Result<Self> {
        let shown = path.display();
        if let Some(seems) = Seems::file(path).filter(|seems| *seems != Seems::Signer) {
            return Err(Error::usage(format!("{shown} is {}, and no minisign secret key", seems.name()))
                .hint("[signing] key names the file that `strongroom init` or `minisign -G -W` made, not its .pub."));
        }
        let file = durable::read_secret_file(path, 4096)?;
        durable::unmoved(path)?;
        let damaged = |why: &str| Error::damaged(format!("{shown} is no minisign secret key: {why}"));
        let mut lines = file.strip_suffix(b"\n").unwrap_or(&file).split(|b| *b == b'\n');
        let (Some(comment), Some(key), None) = (lines.next(), lines.next(), lines.next()) else {
            return Err(damaged("it does not have two lines"));
        };
        if !comment.starts_with(b"untrusted comment: ") {
            return Err(damaged("its first line is no comment"));
        }
        // Room for what the decoder reckons with, so that nothing grows and leaves a copy.
        let mut bytes = Zeroizing::new([0; LENGTH + 2]);
        let length = STANDARD.decode_slice(key, bytes.as_mut()).map_err(|_| damaged("its second line is no key"))?;
        if bytes.get(2..4) == Some(b"Sc") {
            return Err(Error::refused(format!("{shown} has a passphrase, and backups sign when nobody is there"))
                .hint("Make a signing key with `strongroom init` or `minisign -G -W`."));
        }
        Self::from_bytes(&bytes[..length]).map_err(damaged)
    }

    /// Writes the secret key file (0600) and the public one (0644), durably; what is there already is refused.
    pub fn save(&self, secret: &Path, public: &Path) -> Result<()> {
        let mut text = Zeroizing::new(Vec::with_capacity(512));
        text.extend_from_slice(b"untrusted comment: strongroom signing key, no passphrase\n");
        let begin = text.len();
        text.resize(begin + LENGTH.div_ceil(3) * 4, 0);
        STANDARD
            .encode_slice(self.secret.as_slice(), &mut text[begin..])
            .map_err(|e| Error::failed("cannot write a signing key").because(e))?;
        text.push(b'\n');
        let taken = |path: &Path| {
            Error::refused(format!("{} is there already and would be lost", path.display()))
                .hint("Move it away, or use it as [signing] key.")
        };
        if let Some(path) = [secret, public].into_iter().find(|path| path.symlink_metadata().is_ok()) {
            return Err(taken(path));
        }
        for (path, bytes, mode) in [(secret, text.as_slice(), 0o600), (public, self.public.to_file().as_bytes(), 0o644)]
        {
            if !durable::write_file(path, bytes, mode, Existing::Keep)? {
                return Err(taken(path));
            }
        }
        Ok(())
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message: the bytes of a signature file, prehashed, verified once before they are given out.
    ///
    /// The comment is part of what is signed; it is one line.
    pub fn sign(&self, message: &[u8], trusted_comment: &str) -> Result<Vec<u8>> {
        if trusted_comment.chars().any(char::is_control) || trusted_comment.trim() != trusted_comment {
            return Err(Error::failed("a trusted comment is one line without white space around it"));
        }
        let failed = |e: minisign::PError| Error::failed("cannot sign").because(e);
        let secret = minisign::SecretKey::from_bytes(&*self.secret).map_err(failed)?;
        let public = minisign::PublicKey::from_secret_key(&secret).map_err(failed)?;
        let untrusted = format!("signature from strongroom signer {}", self.public.id());
        let signature =
            minisign::sign(Some(&public), &secret, Cursor::new(message), Some(trusted_comment), Some(&untrusted))
                .map_err(failed)?;
        Ok(signature.to_bytes())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, &'static str> {
        let secret: Zeroizing<[u8; LENGTH]> =
            Zeroizing::new(bytes.try_into().map_err(|_| "it does not have 158 bytes")?);
        if !secret.starts_with(b"Ed\0\0B2") {
            return Err("its algorithms are unknown");
        }
        // A public half of another key would make signatures that give the secret one away.
        ring::signature::Ed25519KeyPair::from_seed_and_public_key(&secret[62..94], &secret[94..126])
            .map_err(|_| "its two halves do not belong together")?;
        // The program leaves the checksum of a key without passphrase at zero. Under a passphrase's algorithm the crate's
        // `is_encrypted` means "the checksum does not fit"; every other way to its checksum goes through an unwiped `String`.
        let mut marked = secret.clone();
        marked[2..4].copy_from_slice(b"Sc");
        match minisign::SecretKey::from_bytes(&*marked) {
            Ok(key) if !key.is_encrypted() || secret[126..] == [0; 32] => {}
            _ => return Err("its checksum does not fit"),
        }
        let mut public = [0; 42];
        public[..2].copy_from_slice(b"Ed");
        public[2..10].copy_from_slice(&secret[54..62]);
        public[10..].copy_from_slice(&secret[94..126]);
        let public = PublicKey::from_bytes(public).ok_or("its algorithms are unknown")?;
        Ok(Self { secret, public })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::Trusted;
    use super::*;
    use crate::ground::Kind;

    #[test]
    fn a_signer_reads_back_and_is_never_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let (secret, public) = (folder.path().join("k.key"), folder.path().join("k.pub"));
        let signer = Signer::generate().expect("random");
        signer.save(&secret, &public).expect("saved");
        assert_eq!(std::fs::metadata(&secret).expect("there").permissions().mode() & 0o777, 0o600);
        let again = Signer::load(&secret).expect("it reads back");
        assert_eq!(again.public(), signer.public());
        assert_eq!(PublicKey::parse_file(&std::fs::read(&public).expect("read")).expect("a key"), *signer.public());
        let minisig = again.sign(b"m", "c").expect("signed");
        assert!(Trusted::new(vec![*signer.public()]).verify(b"m", &minisig, "c", "it").is_ok());
        let error = Signer::generate().expect("random").save(&secret, &public).expect_err("refused");
        assert_eq!(error.kind(), Kind::Refused);
        assert_eq!(Signer::load(&secret).expect("unchanged").public(), signer.public());
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("k.key");
        Signer::generate().expect("random").save(&secret, &folder.path().join("k.pub")).expect("saved");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o640)).expect("changed");
        assert_eq!(Signer::load(&secret).err().map(|e| e.kind()), Some(Kind::Refused));
    }

    #[test]
    fn no_damaged_key_file_is_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("k.key");
        Signer::generate().expect("random").save(&secret, &folder.path().join("k.pub")).expect("saved");
        let good = std::fs::read(&secret).expect("read");
        let begin = good.iter().position(|b| *b == b'\n').expect("a line") + 1;
        // Salt and limits mean nothing without a passphrase and are not in the checksum: bytes 6 to 54 of the key.
        let meaningless = begin + 8..begin + 72;
        for at in (begin..good.len() - 1).filter(|at| !meaningless.contains(at)) {
            let mut bad = good.clone();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            std::fs::write(&secret, &bad).expect("written");
            let error = Signer::load(&secret).err().expect("refused");
            assert!(matches!(error.kind(), Kind::Damaged | Kind::Refused), "byte {at}");
            let text = std::str::from_utf8(&good[begin..good.len() - 1]).expect("text");
            assert!(!error.chain().contains(&text[80..]), "the message holds the key");
        }
        for length in 0..good.len() - 1 {
            std::fs::write(&secret, &good[..length]).expect("written");
            assert!(Signer::load(&secret).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_comment_of_two_lines_is_not_signed() {
        let signer = Signer::generate().expect("random");
        for bad in ["a\nb", "a\r", " a", "a "] {
            assert!(signer.sign(b"m", bad).is_err(), "{bad:?}");
        }
    }
}
