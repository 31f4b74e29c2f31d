//! The identities that a person brings along.

use std::io::Read as _;
use std::path::PathBuf;

use age::armor::ArmoredReader;

use super::identity_file::{Attempt, IdentityFile, Sought, Why, reason};
use super::{Ask, WRAPPED_LIMIT};
use crate::ground::names::SealingId;
use crate::ground::{Error, Result};
use crate::sealing::SealingKey;

/// Identity files, read and not yet unlocked. No `Debug`, no `Clone`.
///
/// A passphrase is asked for when its file is tried, and once a file at most, whether it was right or wrong.
pub struct Identities<'a> {
    files: Vec<IdentityFile>,
    ask: &'a dyn Ask,
}

impl<'a> Identities<'a> {
    /// Reads files as `age -i` takes them.
    ///
    /// These are: identities one a line among comments (`AGE-SECRET-KEY-1…`, `AGE-PLUGIN-…`), such a file encrypted with a
    /// passphrase (armored or not, scrypt work factor at most 22), and OpenSSH private keys (ed25519 and RSA, encrypted ones
    /// too). Nobody is asked for anything yet. A file wider than 0600 is [`crate::ground::Kind::Refused`], one that is not
    /// there [`crate::ground::Kind::NotFound`], one that is something else [`crate::ground::Kind::Usage`].
    pub fn load(paths: &[PathBuf], ask: &'a dyn Ask) -> Result<Self> {
        let files = paths.iter().map(|path| IdentityFile::load(path)).collect::<Result<_>>()?;
        Ok(Self { files, ask })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Finds the sealing key of this id; those that need nobody are tried first, then the others in their order.
    pub(super) fn open(&self, sealing: &SealingId, wrapped: Option<&[u8]>, what: &str) -> Result<SealingKey> {
        if self.files.is_empty() {
            return Err(Error::sealed(format!("sealing key {sealing} takes an identity to open, and none was given"))
                .hint("Name a custodian's identity file with -i FILE or STRONGROOM_IDENTITY."));
        }
        let wrapped = wrapped.map(|bytes| unarmored(bytes, what)).transpose()?;
        let sought = Sought { sealing, wrapped: wrapped.as_deref(), what };
        let mut reasons: Vec<(usize, String)> = Vec::new();
        let mut passphrase = false;
        let quiet = self.files.iter().enumerate().filter(|(_, file)| file.is_quiet());
        let others = self.files.iter().enumerate().filter(|(_, file)| !file.is_quiet());
        for (index, file) in quiet.chain(others) {
            match file.attempt(&sought, self.ask)? {
                Attempt::Opened(key) => return Ok(key),
                Attempt::No(why) => {
                    passphrase |= why == Why::Passphrase;
                    reasons.push((index, format!("{}: {why}", file.shown())));
                }
            }
        }
        reasons.sort_by_key(|(index, _)| *index);
        let list = reasons.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
        let message = match self.files.len() {
            1 => format!("the identity does not open sealing key {sealing}"),
            n => format!("none of {n} identities opens sealing key {sealing}"),
        };
        Err(Error::sealed(message).because(NotOpened { list, passphrase }))
    }
}

/// Why none of the identities opens a key.
#[derive(Debug)]
pub(super) struct NotOpened {
    /// Each file and its reason, a line each.
    list: String,
    /// Whether a wrong passphrase was one of the reasons.
    pub(super) passphrase: bool,
}

impl std::fmt::Display for NotOpened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.list)
    }
}

impl std::error::Error for NotOpened {}

/// Takes armor off; the header is checked, so that what is damaged is not taken for somebody else's.
fn unarmored(bytes: &[u8], what: &str) -> Result<Vec<u8>> {
    let damaged = |why: String| Error::damaged(format!("{what} is damaged")).because(why);
    let mut binary = Vec::new();
    ArmoredReader::new(bytes).take(WRAPPED_LIMIT + 1).read_to_end(&mut binary).map_err(|e| damaged(e.to_string()))?;
    let header = age::Decryptor::new(&binary[..]).map_err(|e| damaged(reason(&e)))?;
    if header.is_scrypt() {
        return Err(damaged("it is encrypted with a passphrase and not to custodians".to_owned()));
    }
    Ok(binary)
}
