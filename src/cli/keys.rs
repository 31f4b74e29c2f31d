//! The verbs of `key`: their arguments, and the calls they are.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::args::{Global, Opener, Place, Unseal};
use super::{End, elsewhere, flags, print};
use crate::commands::shelf::Shelf;
use crate::commands::{Desk, key};
use crate::ground::{Error, Result};

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "one a flag")]
pub(super) struct Rotate {
    // Not a doc comment: a lint takes file:PATH there for an address.
    #[arg(
        long,
        value_name = "REF",
        help = "The new key: env:NAME, file:PATH, vault:MOUNT/PATH#FIELD or another reference [default: a random one]"
    )]
    pub(super) new: Option<String>,
    /// Why, for the ledger
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Print the plan and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Go on with a rotation that did not end
    #[arg(long, conflicts_with_all = ["new", "reason", "dry_run", "from", "online"])]
    pub(super) resume: bool,
    /// Give up a rotation that did not end, when every credential is under the old key still
    #[arg(long, conflicts_with_all = ["new", "dry_run", "from", "online", "resume"])]
    pub(super) abort: bool,
    /// Make no new key: put rows that are under this one, by the beginning of its fingerprint, under the one in use
    #[arg(long, value_name = "FINGERPRINT", conflicts_with = "new")]
    pub(super) from: Option<String>,
    /// Go on while the application runs, and look a second time for what it wrote meanwhile
    #[arg(long)]
    pub(super) online: bool,
    #[command(flatten)]
    pub(super) unseal: Unseal,
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
    /// Run no stop, `set_key`, start and health hooks
    #[arg(long)]
    pub(super) no_hooks: bool,
}

/// A key with copies in escrow, and who opens them.
#[derive(Args)]
pub(super) struct WhichKey {
    /// The beginning of its fingerprint [default: the key in use]
    pub(super) key: Option<String>,
    #[command(flatten)]
    pub(super) unseal: Opener,
    #[command(flatten)]
    pub(super) place: Place,
}

#[derive(Subcommand)]
pub(super) enum KeyVerb {
    /// The key's fingerprint, which is safe to print
    Fingerprint {
        /// Where the key is [default: the configured one]
        reference: Option<String>,
        /// The installation that salts it, when there is no configuration
        #[arg(long, value_name = "UUID")]
        installation: Option<String>,
        /// The application, when there is no configuration
        #[arg(long, value_name = "NAME")]
        app: Option<String>,
    },
    /// Every key: in use or not, when last proved, which escrows hold it, how many bundles need it
    Status {
        #[command(flatten)]
        place: Place,
    },
    /// Which key a bundle needs, and where copies of it are
    Needed {
        /// An id, a unique prefix, `latest` or `latest-proved`
        #[arg(default_value = "latest")]
        bundle: String,
        /// Every bundle
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        place: Place,
    },
    /// What happened to keys, from the signed ledger
    History {
        #[command(flatten)]
        place: Place,
    },
    /// Put the configured key into every escrow that lacks it
    Escrow {
        /// Replace what is damaged or not ours in an escrow; takes more than write-only rights
        #[arg(long)]
        repair: bool,
    },
    /// Open every copy of a key, and try the one in use on the live database
    Verify {
        #[command(flatten)]
        which: WhichKey,
    },
    /// Write a key to a new file that only its owner can read
    Fetch {
        #[command(flatten)]
        which: WhichKey,
        /// The file; - for standard output
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Run a command with a key in its environment, and nowhere else
    Exec {
        #[command(flatten)]
        which: WhichKey,
        /// The command and its arguments
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<std::ffi::OsString>,
    },
    /// Which rows of the live database are under other keys than the configured one
    Doctor {
        #[command(flatten)]
        unseal: Opener,
    },
    /// Put every credential under a new key, which is escrowed first
    Rotate(Rotate),
    /// Enter that a key is in use no more; its copies stay
    Retire {
        /// The beginning of its fingerprint
        key: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Remove a key that no bundle needs any more from every escrow, for good
    Destroy {
        /// The beginning of its fingerprint
        key: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        unseal: Unseal,
    },
    /// Is it a good key, and what does the application really use of it?
    Lint {
        /// Where the key is [default: the configured one]
        reference: Option<String>,
        /// The application, when there is no configuration
        #[arg(long, value_name = "NAME")]
        app: Option<String>,
    },
}

/// Runs a verb of `key`.
pub(super) fn run(desk: &Desk<'_>, global: &Global, verb: KeyVerb) -> Result<End> {
    let shelf = |place: &Place| Shelf::open(desk, &flags(place), || global.config_of_the_shelf(desk));
    let config = |place: &Place| if elsewhere(place) { Ok(None) } else { global.config_if_any(desk) };
    let outcome = match verb {
        KeyVerb::Fingerprint { reference, installation, app } => {
            let config = global.config_if_any(desk)?;
            key::fingerprint(desk, config, reference.as_deref(), installation.as_deref(), app.as_deref())
        }
        KeyVerb::Lint { reference, app } => {
            key::lint(desk, global.config_if_any(desk)?, reference.as_deref(), app.as_deref())
        }
        KeyVerb::Status { place } => key::status(desk, &shelf(&place)?, config(&place)?),
        KeyVerb::Needed { bundle, all, place } => key::needed(desk, &shelf(&place)?, (!all).then_some(bundle.as_str())),
        KeyVerb::History { place } => key::history(&shelf(&place)?),
        KeyVerb::Escrow { repair } => key::escrow(desk, global.config(desk)?, repair),
        KeyVerb::Verify { which } => {
            key::verify(desk, &shelf(&which.place)?, config(&which.place)?, &copy_request(&which))
        }
        KeyVerb::Fetch { output, .. } if global.json && output.as_os_str() == "-" => {
            return Err(
                Error::usage("--json and `-o -` both want standard output").hint("Name a file for the key: -o FILE.")
            );
        }
        KeyVerb::Fetch { which, output } => {
            let config = config(&which.place)?;
            let mut out = print::Pipe::new();
            let shelf = shelf(&which.place)?;
            key::fetch(desk, &shelf, config.as_ref(), &copy_request(&which), &output, &mut out)
        }
        KeyVerb::Exec { which, command } => {
            let config = config(&which.place)?;
            let shelf = shelf(&which.place)?;
            return key::exec(desk, &shelf, config.as_ref(), &copy_request(&which), command).map(End::Become);
        }
        KeyVerb::Doctor { unseal } => key::doctor(desk, global.config(desk)?, &unseal.identity),
        KeyVerb::Rotate(a) => {
            let request = key::RotateRequest {
                new: a.new,
                reason: a.reason,
                dry_run: a.dry_run,
                resume: a.resume,
                abort: a.abort,
                from: a.from,
                identity: a.unseal.identity,
                online: a.online,
                yes: a.yes,
                hooks: !a.no_hooks,
            };
            key::rotate(desk, global.config(desk)?, &request)
        }
        KeyVerb::Destroy { key, reason, yes, unseal } => {
            let identity = unseal.identity;
            key::destroy(desk, global.config(desk)?, &key::DestroyRequest { key, reason, yes, identity })
        }
        KeyVerb::Retire { key, reason } => key::retire(desk, global.config(desk)?, &key, reason.as_deref()),
    };
    outcome.map(End::Outcome)
}

fn copy_request(which: &WhichKey) -> key::CopyRequest<'_> {
    key::CopyRequest { key: which.key.as_deref(), identity: &which.unseal.identity }
}
