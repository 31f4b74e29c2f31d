//! One error with a kind, a cause and hints; each kind ends in one documented exit code.

use std::fmt;
use std::path::Path;

/// The result of anything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What helps when a device is full.
pub const FULL: &str = "Free some space on the device it goes to, then run this again.";
/// What helps when a device fails.
pub const FAULT: &str =
    "The device reports a fault: see the system's log (`dmesg`), and run this again when it is mended.";

/// What helps where nothing can be written.
pub const READ_ONLY: &str =
    "It is mounted read-only here: mount it for writing, or run this on the machine that writes to it.";

/// SQLite tells no more of a write that failed.
pub const QUOTA: &str = "A quota of this user's that is used up looks the same from here.";

/// What sort of failure it was; scripts see it as the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Failed for a reason of our own, or of the machine's.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// No such archive, bundle, key or file.
    NotFound,
    /// Another run holds the lock.
    Locked,
    /// Some credential does not decrypt with the key.
    WrongKey,
    /// A digest, an age payload, a tar or a dump is damaged.
    Damaged,
    /// A signature is missing, unknown or wrong, or the ledger has a gap or a fork.
    NotAuthentic,
    /// A rule of ours forbids it.
    Refused,
    /// None of the identities opens it.
    Sealed,
    /// A system does not answer.
    Unreachable,
    /// A system says no.
    Denied,
    /// Interrupted by a signal.
    Interrupted,
}

impl Kind {
    /// Every kind, in the order of its exit code.
    pub const ALL: [Self; 12] = [
        Self::Failed,
        Self::Usage,
        Self::NotFound,
        Self::Locked,
        Self::WrongKey,
        Self::Damaged,
        Self::NotAuthentic,
        Self::Refused,
        Self::Sealed,
        Self::Unreachable,
        Self::Denied,
        Self::Interrupted,
    ];

    /// The process's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 10,
            Self::Locked => 11,
            Self::WrongKey => 12,
            Self::Damaged => 13,
            Self::NotAuthentic => 14,
            Self::Refused => 15,
            Self::Sealed => 16,
            Self::Unreachable => 20,
            Self::Denied => 21,
            Self::Interrupted => 130,
        }
    }

    /// The word for it in JSON (`problems[].code`).
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not-found",
            Self::Locked => "locked",
            Self::WrongKey => "wrong-key",
            Self::Damaged => "damaged",
            Self::NotAuthentic => "not-authentic",
            Self::Refused => "refused",
            Self::Sealed => "sealed",
            Self::Unreachable => "unreachable",
            Self::Denied => "denied",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What failed, on which object, why, and what to do next.
///
/// The message is lowercase and fits "failed to …" or stands alone; it names the object (a path, a redacted URL,
/// a bundle) and never holds a secret. Hints are whole sentences for the person who reads them.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    hints: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident),* $(,)?) => {
        impl Error { $( $(#[$doc])* pub fn $name(message: impl Into<String>) -> Self { Self::new(Kind::$kind, message) } )* }
    };
}

constructors! {
    /// An error of [`Kind::Failed`].
    failed => Failed,
    /// An error of [`Kind::Usage`].
    usage => Usage,
    /// An error of [`Kind::NotFound`].
    not_found => NotFound,
    /// An error of [`Kind::Locked`].
    locked => Locked,
    /// An error of [`Kind::WrongKey`].
    wrong_key => WrongKey,
    /// An error of [`Kind::Damaged`].
    damaged => Damaged,
    /// An error of [`Kind::NotAuthentic`].
    not_authentic => NotAuthentic,
    /// An error of [`Kind::Refused`].
    refused => Refused,
    /// An error of [`Kind::Sealed`].
    sealed => Sealed,
    /// An error of [`Kind::Unreachable`].
    unreachable => Unreachable,
    /// An error of [`Kind::Denied`].
    denied => Denied,
}

impl Error {
    /// An error of a kind, without a cause.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), hints: Vec::new(), source: None }))
    }

    /// An input or output error on a path: `cannot read /a/b: permission denied`.
    ///
    /// `NotFound` becomes [`Kind::NotFound`], a missing right or a read-only mount [`Kind::Denied`]; everything else is [`Kind::Failed`], a disk that
    /// is full or fails with its own hint.
    pub fn io(verb: &str, path: &Path, source: std::io::Error) -> Self {
        let source = match source.downcast::<Self>() {
            // It knows its path, and what helps.
            Ok(own) => return own,
            Err(source) => source,
        };
        let kind = match source.kind() {
            std::io::ErrorKind::NotFound => Kind::NotFound,
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => Kind::Denied,
            _ => Kind::Failed,
        };
        Self::new(kind, format!("cannot {verb} {}", path.display())).help_with(&source).because(source)
    }

    /// What helps when a device is full, and when it fails.
    fn help_with(self, source: &std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => self.hint(FULL),
            std::io::ErrorKind::ReadOnlyFilesystem => self.hint(READ_ONLY),
            _ if is_fault(source) => self.hint(FAULT),
            _ => self,
        }
    }

    /// Whether a device did not do what it was asked, somewhere below: what it holds may be whole all the same.
    pub fn is_fault(&self) -> bool {
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            if cause.downcast_ref::<std::io::Error>().is_some_and(is_fault) {
                return true;
            }
            next = cause.source();
        }
        false
    }

    /// The same error with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error with one more sentence about what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// The same error as the cause of what the caller was doing; kind and hints stay.
    #[must_use]
    pub fn context(mut self, message: impl Into<String>) -> Self {
        let (kind, hints) = (self.0.kind, std::mem::take(&mut self.0.hints));
        let mut outer = Self::new(kind, message);
        outer.0.hints = hints;
        outer.because(self)
    }

    /// The same error under another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What to do next, one sentence each.
    pub fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// The message and every cause below it, joined by `: `.
    pub fn chain(&self) -> String {
        let mut text = self.0.message.clone();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.chain())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}

impl Error {
    /// Wraps this error so that it can travel through [`std::io`] traits; [`Error::from_io`] takes it out again.
    pub fn into_io(self) -> std::io::Error {
        std::io::Error::other(self)
    }

    /// What [`Write`](std::io::Write) and [`Read`](std::io::Read) answer of a file that has a name: their callers do not know it.
    pub fn on_its_way(verb: &str, path: &Path, source: std::io::Error) -> std::io::Error {
        // Whoever asks again when a signal came in between must see that.
        if source.kind() == std::io::ErrorKind::Interrupted { source } else { Self::io(verb, path, source).into_io() }
    }

    /// Whether an I/O error carries an [`Error`].
    pub fn travels_in(error: &std::io::Error) -> bool {
        error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Self>)
    }

    /// Takes an [`Error`] back out of an I/O error that carried it, or makes one from the I/O error.
    pub fn from_io(kind: Kind, message: impl Into<String>, error: std::io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(error) => Self::new(kind, message).help_with(&error).because(error),
        }
    }
}

fn is_fault(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Says what was being done when something failed.
pub trait Context<T> {
    /// Puts what the caller was doing in front of the error.
    fn context(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.context(message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_distinct() {
        let mut codes: Vec<u8> = Kind::ALL.iter().map(|k| k.exit_code()).collect();
        codes.dedup();
        assert_eq!(codes.len(), Kind::ALL.len());
    }

    #[test]
    fn an_error_that_knows_its_path_is_told_as_it_is() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let travels = Error::on_its_way("write", Path::new("/a/b"), full());
        let error = Error::io("write", Path::new("elsewhere"), travels);
        assert_eq!((error.to_string().as_str(), error.hints()), ("cannot write /a/b", &[FULL.to_owned()][..]));
    }

    #[test]
    fn what_is_mounted_read_only_is_denied_and_says_what_helps() {
        let error = Error::io("create", Path::new("/a"), std::io::ErrorKind::ReadOnlyFilesystem.into());
        assert_eq!((error.kind(), error.hints()), (Kind::Denied, &[READ_ONLY.to_owned()][..]));
    }

    #[test]
    fn context_keeps_kind_and_hints() {
        let error = Error::damaged("tag does not match").hint("Take another copy.").context("failed to open x");
        assert_eq!(error.kind(), Kind::Damaged);
        assert_eq!(error.hints(), ["Take another copy."]);
        assert_eq!(error.chain(), "failed to open x: tag does not match");
    }

    #[test]
    fn an_error_survives_the_way_through_io() {
        let back = Error::from_io(Kind::Failed, "read", Error::not_authentic("unknown signer").into_io());
        assert_eq!(back.kind(), Kind::NotAuthentic);
    }
}
