//! The verbs of the program, called in this process, with nobody there to answer.

use std::path::{Path, PathBuf};

use strongroom::commands::shelf::{PlaceFlags, Shelf};
use strongroom::commands::{Ask, Desk, Outcome, bundles, custody, prove, restore, verify};
use strongroom::ground::{Error, Result, progress};
use strongroom::storage::Owner;
use strongroom::wiring::Wiring;
use zeroize::Zeroizing;

/// What is asked of the archive or the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// `list`: the ledger alone.
    List,
    /// `custody list`: who can open the sealing key, as the archive says.
    Custody,
    /// `check`: signatures and digests, no secret.
    Check,
    /// `verify`: header, proof, key.
    Verify,
    /// `verify --deep`: everything.
    Deep,
    /// `restore --target`: everything, and files are written.
    Target,
}

/// Where the archive is, and whom to believe about it.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) verb: Verb,
    pub(crate) bundle: String,
    pub(crate) app: &'static str,
    pub(crate) signers: Vec<String>,
    pub(crate) card: Option<PathBuf>,
    pub(crate) identity: PathBuf,
}

struct Nobody;

impl Ask for Nobody {
    fn interactive(&self) -> bool {
        false
    }
    fn secret(&self, _: &str) -> Result<Zeroizing<String>> {
        Err(Error::usage("nobody is there"))
    }
    fn text(&self, _: &str) -> Result<String> {
        Err(Error::usage("nobody is there"))
    }
    fn confirm(&self, _: &str) -> Result<bool> {
        Ok(false)
    }
    fn say(&self, _: &str) {}
}

fn desk<'a>(systems: &'a Wiring, nobody: &'a Nobody) -> Desk<'a> {
    Desk {
        systems,
        progress: progress::silent(),
        ask: nobody,
        program: PathBuf::from("/nowhere/strongroom"),
        variables: Vec::new(),
    }
}

/// How a verb ended: its exit code, and what it said.
pub(crate) type Ended = (u8, String);

fn ended(result: Result<Outcome>) -> Ended {
    match result {
        Ok(outcome) => (outcome.exit, outcome.text.join("; ")),
        Err(error) => (error.kind().exit_code(), error.chain()),
    }
}

/// Asks one thing of the archive in a folder; `out` is where a restore writes.
pub(crate) fn ask(archive: &Path, out: &Path, asked: &Asked) -> Ended {
    let (systems, nobody) = (Wiring::default(), Nobody);
    let desk = desk(&systems, &nobody);
    let flags = PlaceFlags {
        archive: Some(format!("file:{}", archive.display())),
        signers: asked.signers.clone(),
        card: asked.card.clone(),
        app: Some(asked.app.to_owned()),
    };
    let identity = vec![asked.identity.clone()];
    let bundle = asked.bundle.clone();
    let shelf = Shelf::open(&desk, &flags, || Err(Error::usage("there is no configuration")));
    ended(shelf.and_then(|shelf| match asked.verb {
        Verb::List => bundles::list(&shelf),
        Verb::Custody => custody::list(&shelf, None),
        Verb::Check => bundles::check(&desk, &shelf, None, Some(&bundle)),
        Verb::Verify | Verb::Deep => {
            let request = verify::Request { bundle, identity, deep: asked.verb == Verb::Deep, key: None };
            verify::run(&desk, &shelf, None, &request)
        }
        Verb::Target => restore::run(&desk, &shelf, None, &to(out, bundle, identity)),
    }))
}

fn to(out: &Path, bundle: String, identity: Vec<PathBuf>) -> restore::Request {
    restore::Request {
        bundle,
        identity,
        config_from_bundle: false,
        dry_run: false,
        yes: true,
        database: true,
        storage: true,
        target: Some(out.to_owned()),
        include: Vec::new(),
        database_url: None,
        storage_url: None,
        key: None,
        rekey: false,
        accept_unproved: false,
        as_superuser: false,
        no_owner: false,
        in_place: false,
        hooks: true,
        delete_extra: false,
        owner: Owner::Target,
    }
}

/// Does the key open the credentials in this file? Answers how many it proved, too.
pub(crate) fn prove(dump: &Path, key: &Path) -> (Ended, u64) {
    let (systems, nobody) = (Wiring::default(), Nobody);
    let request = prove::Request {
        target: Some(dump.display().to_string()),
        key: Some(format!("file:{}", key.display())),
        app: None,
        sample: None,
    };
    let result = prove::run(&desk(&systems, &nobody), &request, None);
    let proved = result.as_ref().ok().and_then(|outcome| outcome.json["credentials"]["proved"].as_u64()).unwrap_or(0);
    (ended(result), proved)
}
