//! The command line, as `docs/cli.md` shows it.

mod verbs;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::keys::KeyVerb;
pub(super) use verbs::{Backup, ConfigVerb, CustodyVerb, Guard, Init, PolicyPrint, PolicyVerb, Prove, Restore, Verify};

/// A backup you know you can open: database, storage and the key that makes them readable, proved together.
#[derive(Parser)]
#[command(
    name = "strongroom",
    version,
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// The heading of flags that every verb takes.
const EVERYWHERE: &str = "Options of every command";
/// The heading of flags that stand in for a configuration.
const ELSEWHERE: &str = "Without a configuration";

/// Flags that every verb takes.
#[expect(clippy::struct_excessive_bools, reason = "one a flag")]
#[derive(Args, Clone)]
pub(super) struct Global {
    /// The configuration [default: ./strongroom.toml]
    #[arg(long, global = true, value_name = "FILE", env = "STRONGROOM_CONFIG", hide_env_values = true, help_heading = EVERYWHERE)]
    pub(super) config: Option<PathBuf>,
    /// Print one JSON document to standard output
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(super) json: bool,
    /// Print nothing when all is well, one line when not
    #[arg(short, long, global = true, help_heading = EVERYWHERE)]
    pub(super) quiet: bool,
    /// Say more about what is being done
    #[arg(short, long, global = true, help_heading = EVERYWHERE)]
    pub(super) verbose: bool,
    /// Draw no progress bars
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(super) no_progress: bool,
}

/// Where bundles are, for machines that have no configuration.
#[derive(Args, Clone, Default)]
pub(super) struct Place {
    /// Where the archive is: its URL
    #[arg(long, help_heading = ELSEWHERE, value_name = "URL")]
    pub(super) archive: Option<String>,
    /// A signer to believe (its minisign public key), beside those of the configuration or the card; may repeat
    #[arg(long, help_heading = ELSEWHERE, value_name = "RW…")]
    pub(super) signer: Vec<String>,
    /// The recovery card, which names archive, application and signer
    #[arg(long, help_heading = ELSEWHERE, value_name = "FILE")]
    pub(super) card: Option<PathBuf>,
    /// The application, when the archive holds several
    #[arg(long, help_heading = ELSEWHERE, value_name = "NAME")]
    pub(super) app: Option<String>,
}

/// Who opens what is sealed.
#[derive(Args, Clone, Default)]
pub(super) struct Unseal {
    /// An age identity file, as `age -i` takes it (passphrase-protected and SSH keys too); may repeat
    #[arg(
        short,
        long = "identity",
        value_name = "FILE",
        env = "STRONGROOM_IDENTITY",
        hide_env_values = true,
        value_delimiter = ':'
    )]
    pub(super) identity: Vec<PathBuf>,
}

/// The same where nothing is done without.
#[derive(Args, Clone, Default)]
pub(super) struct Opener {
    /// An age identity file, as `age -i` takes it (passphrase-protected and SSH keys too); may repeat
    #[arg(
        short,
        long = "identity",
        value_name = "FILE",
        env = "STRONGROOM_IDENTITY",
        hide_env_values = true,
        value_delimiter = ':',
        required = true
    )]
    pub(super) identity: Vec<PathBuf>,
}

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Does this key open the credentials in this database, or in this dump? No set-up needed
    Prove(Prove),
    /// Write the configuration, the archive and the keys
    Init(Init),
    /// Back up: prove the key, store database, storage and sealed key as one bundle
    Backup(Backup),
    /// List the bundles of the archive
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Show one bundle: its header, and with an identity its proof and files
    Show {
        /// An id, a unique prefix, `latest` or `latest-proved`
        #[arg(default_value = "latest")]
        bundle: String,
        #[command(flatten)]
        unseal: Unseal,
        /// List the files too (needs an identity)
        #[arg(long)]
        files: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Write one thing out of a bundle to standard output: the database dump, or a file of the storage
    Cat {
        /// An id, a unique prefix, `latest` or `latest-proved`
        bundle: String,
        /// `database`, or a path in the storage
        what: OsString,
        #[command(flatten)]
        unseal: Opener,
        #[command(flatten)]
        place: Place,
    },
    /// Check signatures, ledger and digests; needs no secret
    Check {
        /// An id, a unique prefix, `latest` or `latest-proved`
        #[arg(default_value = "latest", conflicts_with = "all")]
        bundle: String,
        /// Every bundle
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Would this bundle restore, with the escrowed key or with this one?
    Verify(Verify),
    /// Restore a bundle: prove the key, build beside, swap, check, or roll back
    Restore(Restore),
    /// Start a command only if the key opens the database, with exactly that key in its environment
    Guard(Guard),
    /// The whole story on a sample application, each command shown
    Demo {
        /// An empty folder to work in [default: a temporary one, removed at the end]
        dir: Option<PathBuf>,
        /// Make the sample application in DIR and play nothing: something to try commands on
        #[arg(long, requires = "dir")]
        app_only: bool,
    },
    /// Who can open the sealing key
    Custody {
        #[command(subcommand)]
        verb: CustodyVerb,
    },
    /// The configuration itself
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// The application's key
    Key {
        #[command(subcommand)]
        verb: KeyVerb,
    },
    /// The rights that a role needs in a system that keeps keys
    Policy {
        #[command(subcommand)]
        verb: PolicyVerb,
    },
    /// Print shell completions
    Completions {
        /// The shell that reads them
        shell: Shell,
    },
    /// Write the man pages into a folder
    Man {
        /// The folder, made when it is not there
        dir: PathBuf,
    },
    /// Write docs/cli.md and docs/exit-codes.md into a folder
    #[command(hide = true)]
    Reference {
        /// The folder, made when it is not there
        dir: PathBuf,
    },
}
