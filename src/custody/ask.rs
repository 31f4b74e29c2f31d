//! The person whom identities may need something from.

use zeroize::Zeroizing;

use crate::ground::Result;

/// Asks whoever runs the program; a closure that gives passphrases is one.
///
/// Every method may be called more than once, always from the thread that opens. Without a terminal,
/// [`Ask::passphrase`] answers with an error, which is then the reason why the identity opens nothing.
pub trait Ask {
    /// A secret, typed without echo: `what` is `passphrase of /path`, or a plugin's own words.
    fn passphrase(&self, what: &str) -> Result<Zeroizing<String>>;

    /// Shows a line, such as a plugin's "please touch your key".
    fn tell(&self, _line: &str) {}

    /// A question with two answers; `None` when nobody can answer it.
    fn confirm(&self, _question: &str, _yes: &str, _no: Option<&str>) -> Option<bool> {
        None
    }

    /// A text that is no secret; `None` when nobody can give it.
    fn text(&self, _what: &str) -> Option<String> {
        None
    }
}

impl<F: Fn(&str) -> Result<Zeroizing<String>>> Ask for F {
    fn passphrase(&self, what: &str) -> Result<Zeroizing<String>> {
        self(what)
    }
}
