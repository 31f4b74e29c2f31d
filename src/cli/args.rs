//! The command line, as `docs/cli.md` shows it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::keys::KeyVerb;

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
        what: String,
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

/// A number of credentials to try.
fn at_least_one(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is tried".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("this is no number".to_owned()),
    }
}

#[derive(Args)]
pub(super) struct Prove {
    /// A database URL (`sqlite:PATH`, `postgres://user@host/db`) or a dump: .sqlite, .sql, .sql.gz, `pg_dump` [default: the configured database]
    pub(super) target: Option<String>,
    // Not a doc comment: a lint takes file:PATH there for an address.
    #[arg(
        long,
        value_name = "REF",
        help = "Where the key is: env:NAME, file:PATH, vault:MOUNT/PATH#FIELD or another reference [default: the configured one]"
    )]
    pub(super) key: Option<String>,
    /// The application, or a file that describes it: where its credentials are, how it encrypts them
    #[arg(long, value_name = "NAME|FILE")]
    pub(super) app: Option<String>,
    /// Try every credential (the default)
    #[arg(long, conflicts_with = "sample")]
    pub(super) all: bool,
    /// Try about this many, spread over all of them
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) sample: Option<usize>,
}

#[derive(Args)]
pub(super) struct Init {
    /// The application, or a file that describes it
    #[arg(long, value_name = "NAME|FILE")]
    pub(super) app: Option<String>,
    /// Its database: sqlite:PATH, `postgres://user@host/db`
    #[arg(long, value_name = "URL")]
    pub(super) database: Option<String>,
    #[arg(
        long,
        value_name = "REF",
        help = "Where the database's password is, if not in ~/.pgpass: file:PATH, env:NAME"
    )]
    pub(super) database_password: Option<String>,
    #[arg(long, value_name = "URL", help = "Its storage: file:PATH")]
    pub(super) storage: Option<String>,
    #[arg(long, value_name = "URL", help = "Where bundles go: file:PATH")]
    pub(super) archive: Option<String>,
    #[arg(long, value_name = "REF", help = "Where its key is: env:NAME, file:PATH or dotenv:PATH#NAME")]
    pub(super) key_source: Option<String>,
    /// Who can open the sealing key: a label and an age or SSH recipient; may repeat
    #[arg(long, value_name = "LABEL=RECIPIENT", conflicts_with = "recipient")]
    pub(super) custodian: Vec<String>,
    /// The public half of a sealing key that was made elsewhere
    #[arg(long, value_name = "age1…")]
    pub(super) recipient: Option<String>,
    /// A signer of the archive that is there already, when this host goes on after another; may repeat
    #[arg(long, value_name = "RW…")]
    pub(super) signer: Vec<String>,
    /// Take what is given and ask nothing
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Args)]
pub(super) struct Backup {
    /// Only this: database, storage or key
    #[arg(long, value_name = "WHAT", value_parser = ["database", "storage", "key"])]
    pub(super) only: Option<String>,
    /// Try every credential again, also those that were proved before
    #[arg(long)]
    pub(super) prove_all: bool,
}

#[derive(Args)]
pub(super) struct Verify {
    /// An id, a unique prefix, `latest` or `latest-proved`
    #[arg(default_value = "latest")]
    pub(super) bundle: String,
    #[command(flatten)]
    pub(super) unseal: Opener,
    /// Stream everything, check every digest, and prove the credentials in the dump itself
    #[arg(long)]
    pub(super) deep: bool,
    /// Try this key instead of the sealed one
    #[arg(long, value_name = "REF")]
    pub(super) key: Option<String>,
    #[command(flatten)]
    pub(super) place: Place,
}

#[expect(clippy::struct_excessive_bools, reason = "one a flag")]
#[derive(Args)]
pub(super) struct Restore {
    /// An id, a unique prefix, `latest` or `latest-proved`
    #[arg(default_value = "latest")]
    pub(super) bundle: String,
    /// An age identity file, as `age -i` takes it (passphrase-protected and SSH keys too); may repeat
    #[arg(
        short,
        long = "identity",
        value_name = "FILE",
        env = "STRONGROOM_IDENTITY",
        hide_env_values = true,
        value_delimiter = ':',
        required_unless_present = "cleanup"
    )]
    pub(super) identity: Vec<PathBuf>,
    /// Print the plan and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
    /// Restore nothing: list what earlier restores kept (replaced databases and files), and remove it
    #[arg(long, conflicts_with_all = ["target", "only"])]
    pub(super) cleanup: bool,
    /// Only this: database or storage
    #[arg(long, value_name = "WHAT", value_parser = ["database", "storage"])]
    pub(super) only: Option<String>,
    /// Write plain files and an importable dump to this empty folder, and touch no live system
    #[arg(long, value_name = "DIR")]
    pub(super) target: Option<PathBuf>,
    /// Only storage files that match; may repeat
    #[arg(long, value_name = "GLOB")]
    pub(super) include: Vec<String>,
    /// Restore the database here instead
    #[arg(long, value_name = "URL")]
    pub(super) database: Option<String>,
    /// Restore the storage here instead
    #[arg(long, value_name = "URL")]
    pub(super) storage: Option<String>,
    /// The key that the application will be started with [default: the configured one]
    #[arg(long, value_name = "REF")]
    pub(super) key: Option<String>,
    /// Put the restored credentials under that key, when the bundle's are under another one, before anything is swapped
    #[arg(long, conflicts_with = "accept_unproved")]
    pub(super) rekey: bool,
    /// Restore although the key is not proved
    #[arg(long)]
    pub(super) accept_unproved: bool,
    /// Build the database although this user is a superuser (PostgreSQL: a dump runs with all rights of whoever restores it)
    #[arg(long)]
    pub(super) as_superuser: bool,
    /// Leave owners and grants out, where the server lacks the roles (PostgreSQL)
    #[arg(long)]
    pub(super) no_owner: bool,
    /// Change the live database itself, in one transaction that cannot be rolled back, after a backup of it (PostgreSQL, for a user without CREATEDB)
    #[arg(long, conflicts_with_all = ["target", "cleanup", "database"])]
    pub(super) in_place: bool,
    /// Run no stop, start and health hooks
    #[arg(long)]
    pub(super) no_hooks: bool,
    /// Move files away that the bundle does not have
    #[arg(long)]
    pub(super) delete_extra: bool,
    /// Without a configuration here: use the one that is sealed in the bundle; paths in it are relative to this folder
    #[arg(long, conflicts_with = "target")]
    pub(super) config_from_bundle: bool,
    /// Who owns restored files: target (the folder's owner), keep (as recorded) or UID:GID
    #[arg(long, value_name = "OWNER", default_value = "target")]
    pub(super) owner: String,
    #[command(flatten)]
    pub(super) place: Place,
}

#[derive(Args)]
pub(super) struct Guard {
    /// How many credentials to try
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = at_least_one)]
    pub(super) sample: usize,
    /// How long trying them may take
    #[arg(long, default_value = "5s", value_name = "TIME")]
    pub(super) max_time: String,
    /// How long to wait for the database to be there
    #[arg(long, default_value = "30s", value_name = "TIME")]
    pub(super) wait: String,
    /// Do not start when some credentials fail
    #[arg(long)]
    pub(super) strict: bool,
    /// Do not start when there is nothing to prove with
    #[arg(long)]
    pub(super) require_proof: bool,
    /// The command to start
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<std::ffi::OsString>,
}

#[derive(Subcommand)]
pub(super) enum CustodyVerb {
    /// The sealing keys of the archive and who can open them
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Does this identity open the sealing key?
    Test {
        #[command(flatten)]
        unseal: Opener,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Subcommand)]
pub(super) enum PolicyVerb {
    /// Print a policy, ready to be given to the system
    Print(PolicyPrint),
}

#[derive(Args)]
pub(super) struct PolicyPrint {
    /// The system
    #[arg(value_parser = ["vault", "aws"])]
    pub(super) system: String,
    /// What somebody is to do there
    #[arg(value_parser = ["backup-host", "restore-operator", "auditor", "rotation"])]
    pub(super) role: String,
    /// Vault: the KV v2 mount
    #[arg(long, value_name = "NAME", default_value = "secret")]
    pub(super) mount: String,
    /// The folder below which the keys are
    #[arg(long, value_name = "NAME", default_value = "strongroom")]
    pub(super) prefix: String,
    /// AWS: the region, or * for every one
    #[arg(long, value_name = "NAME", default_value = "*")]
    pub(super) region: String,
    /// AWS: the number of the account, or * for the one that the policy is in
    #[arg(long, value_name = "NUMBER", default_value = "*")]
    pub(super) account: String,
}

#[derive(Subcommand)]
pub(super) enum ConfigVerb {
    /// Read the configuration and try everything that it names
    Check,
}
