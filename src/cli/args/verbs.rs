//! What each verb takes.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Opener, Place};

/// A number of credentials to try.
fn at_least_one(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is tried".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("this is no number".to_owned()),
    }
}

#[derive(Args)]
pub(in crate::cli) struct Prove {
    /// A database URL (`sqlite:PATH`, `postgres://user@host/db`) or a dump: .sqlite, .sql, .sql.gz, `pg_dump` [default: the configured database]
    pub(in crate::cli) target: Option<String>,
    // Not a doc comment: a lint takes file:PATH there for an address.
    #[arg(
        long,
        value_name = "REF",
        help = "Where the key is: env:NAME, file:PATH, vault:MOUNT/PATH#FIELD or another reference [default: the configured one]"
    )]
    pub(in crate::cli) key: Option<String>,
    /// The application, or the path of a file that describes it (`./mine.toml`): where its credentials are, how it encrypts them
    #[arg(long, value_name = "NAME|FILE")]
    pub(in crate::cli) app: Option<String>,
    /// Try every credential (the default)
    #[arg(long, conflicts_with = "sample")]
    pub(in crate::cli) all: bool,
    /// Try about this many, spread over all of them
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(in crate::cli) sample: Option<usize>,
}

#[derive(Args)]
pub(in crate::cli) struct Init {
    /// The application, or the path of a file that describes it (`./mine.toml`)
    #[arg(long, value_name = "NAME|FILE")]
    pub(in crate::cli) app: Option<String>,
    /// Its database: sqlite:PATH, `postgres://user@host/db`
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) database: Option<String>,
    #[arg(
        long,
        value_name = "REF",
        help = "Where the database's password is, if not in ~/.pgpass: file:PATH, env:NAME"
    )]
    pub(in crate::cli) database_password: Option<String>,
    #[arg(long, value_name = "URL", help = "Its storage: file:PATH")]
    pub(in crate::cli) storage: Option<String>,
    #[arg(long, value_name = "URL", help = "Where bundles go: file:PATH")]
    pub(in crate::cli) archive: Option<String>,
    #[arg(long, value_name = "REF", help = "Where its key is: env:NAME, file:PATH or dotenv:PATH#NAME")]
    pub(in crate::cli) key_source: Option<String>,
    /// Who can open the sealing key: a label and an age or SSH recipient; may repeat
    #[arg(long, value_name = "LABEL=RECIPIENT", conflicts_with = "recipient")]
    pub(in crate::cli) custodian: Vec<String>,
    /// The public half of a sealing key that was made elsewhere
    #[arg(long, value_name = "age1…")]
    pub(in crate::cli) recipient: Option<String>,
    /// A signer of the archive that is there already, when this host goes on after another; may repeat
    #[arg(long, value_name = "RW…")]
    pub(in crate::cli) signer: Vec<String>,
    /// Take what is given and ask nothing
    #[arg(long)]
    pub(in crate::cli) yes: bool,
}

#[derive(Args)]
pub(in crate::cli) struct Backup {
    /// Only this: database, storage or key
    #[arg(long, value_name = "WHAT", value_parser = ["database", "storage", "key"])]
    pub(in crate::cli) only: Option<String>,
    /// Try every credential again, also those that were proved before
    #[arg(long)]
    pub(in crate::cli) prove_all: bool,
    /// It is right that the storage has lost all or most of its files
    #[arg(long)]
    pub(in crate::cli) allow_empty: bool,
}

#[derive(Args)]
pub(in crate::cli) struct Verify {
    /// An id, a unique prefix, `latest` or `latest-proved`
    #[arg(default_value = "latest")]
    pub(in crate::cli) bundle: String,
    #[command(flatten)]
    pub(in crate::cli) unseal: Opener,
    /// Stream everything, check every digest, and prove the credentials in the dump itself
    #[arg(long)]
    pub(in crate::cli) deep: bool,
    /// Try this key instead of the sealed one
    #[arg(long, value_name = "REF")]
    pub(in crate::cli) key: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) place: Place,
}

#[expect(clippy::struct_excessive_bools, reason = "one a flag")]
#[derive(Args)]
pub(in crate::cli) struct Restore {
    /// An id, a unique prefix, `latest` or `latest-proved`
    #[arg(default_value = "latest")]
    pub(in crate::cli) bundle: String,
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
    pub(in crate::cli) identity: Vec<PathBuf>,
    /// Print the plan and change nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(in crate::cli) yes: bool,
    /// Restore nothing: list what earlier restores kept (replaced databases and files), and remove it
    #[arg(long, conflicts_with_all = ["target", "only"])]
    pub(in crate::cli) cleanup: bool,
    /// Only this: database or storage
    #[arg(long, value_name = "WHAT", value_parser = ["database", "storage"])]
    pub(in crate::cli) only: Option<String>,
    /// Write plain files and an importable dump to this empty folder, and touch no live system
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) target: Option<PathBuf>,
    /// Only storage files that match; may repeat
    #[arg(long, value_name = "GLOB")]
    pub(in crate::cli) include: Vec<String>,
    /// Restore the database here instead
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) database: Option<String>,
    /// Restore the storage here instead
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) storage: Option<String>,
    /// The key that the application will be started with [default: the configured one]
    #[arg(long, value_name = "REF")]
    pub(in crate::cli) key: Option<String>,
    /// Put the restored credentials under that key, when the bundle's are under another one, before anything is swapped
    #[arg(long, conflicts_with = "accept_unproved")]
    pub(in crate::cli) rekey: bool,
    /// Restore although the key is not proved
    #[arg(long)]
    pub(in crate::cli) accept_unproved: bool,
    /// Build the database although this user is a superuser (PostgreSQL: a dump runs with all rights of whoever restores it)
    #[arg(long)]
    pub(in crate::cli) as_superuser: bool,
    /// Leave owners and grants out, where the server lacks the roles (PostgreSQL)
    #[arg(long)]
    pub(in crate::cli) no_owner: bool,
    /// Change the live database itself, in one transaction that cannot be rolled back, after a backup of it (PostgreSQL, for a user without CREATEDB)
    #[arg(long, conflicts_with_all = ["target", "cleanup", "database"])]
    pub(in crate::cli) in_place: bool,
    /// Run no stop, start and health hooks
    #[arg(long)]
    pub(in crate::cli) no_hooks: bool,
    /// Move files away that the bundle does not have
    #[arg(long)]
    pub(in crate::cli) delete_extra: bool,
    /// Without a configuration here: use the one that is sealed in the bundle; paths in it are relative to this folder
    #[arg(long, conflicts_with = "target")]
    pub(in crate::cli) config_from_bundle: bool,
    /// Who owns restored files: target (the folder's owner), keep (as recorded) or UID:GID
    #[arg(long, value_name = "OWNER", default_value = "target")]
    pub(in crate::cli) owner: String,
    #[command(flatten)]
    pub(in crate::cli) place: Place,
}

#[derive(Args)]
pub(in crate::cli) struct Guard {
    /// How many credentials to try
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = at_least_one)]
    pub(in crate::cli) sample: usize,
    /// How long trying them may take
    #[arg(long, default_value = "5s", value_name = "TIME")]
    pub(in crate::cli) max_time: String,
    /// How long to wait for the database to be there
    #[arg(long, default_value = "30s", value_name = "TIME")]
    pub(in crate::cli) wait: String,
    /// Do not start when some credentials fail
    #[arg(long)]
    pub(in crate::cli) strict: bool,
    /// Do not start when there is nothing to prove with
    #[arg(long)]
    pub(in crate::cli) require_proof: bool,
    /// The command to start
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(in crate::cli) command: Vec<std::ffi::OsString>,
}

#[derive(Subcommand)]
pub(in crate::cli) enum CustodyVerb {
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
pub(in crate::cli) enum PolicyVerb {
    /// Print a policy, ready to be given to the system
    Print(PolicyPrint),
}

#[derive(Args)]
pub(in crate::cli) struct PolicyPrint {
    /// The system
    #[arg(value_parser = ["vault", "aws"])]
    pub(in crate::cli) system: String,
    /// What somebody is to do there
    #[arg(value_parser = ["backup-host", "restore-operator", "auditor", "rotation"])]
    pub(in crate::cli) role: String,
    /// Vault: the KV v2 mount
    #[arg(long, value_name = "NAME", default_value = "secret")]
    pub(in crate::cli) mount: String,
    /// The folder below which the keys are
    #[arg(long, value_name = "NAME", default_value = "strongroom")]
    pub(in crate::cli) prefix: String,
    /// AWS: the region, or * for every one
    #[arg(long, value_name = "NAME", default_value = "*")]
    pub(in crate::cli) region: String,
    /// AWS: the number of the account, or * for the one that the policy is in
    #[arg(long, value_name = "NUMBER", default_value = "*")]
    pub(in crate::cli) account: String,
}

#[derive(Subcommand)]
pub(in crate::cli) enum ConfigVerb {
    /// Read the configuration and try everything that it names
    Check,
}
