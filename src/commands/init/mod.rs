//! `init`: the configuration, the archive, the sealing key in its custody, the signer and the recovery card.

mod file;
mod made;
mod rehearsal;
mod settle;

use std::path::{Path, PathBuf};

use serde_json::json;
use zeroize::Zeroizing;

use super::host::Host;
use super::{Desk, Outcome, Problem};
use crate::appkey::source::Reference;
use crate::archive;
use crate::bundle::Opened;
use crate::config::Config;
use crate::config::overlap::{self, Places};
use crate::config::url::{DatabaseUrl, PlaceUrl};
use crate::custody::card::Card;
use crate::custody::{self, Custodian};
use crate::ground::durable::{self, Existing};
use crate::ground::names::{AppName, Label, Uuid};
use crate::ground::words::counted;
use crate::ground::{Error, Result, clock};
use crate::ledger::{CustodyEvent, Event, Ledger};
use crate::sealing::{Recipient, SealingKey};
use crate::signer::{PublicKey, Signer, Trusted};
use made::Made;
use settle::{Settled, settle};

/// What is asked.
#[derive(Default)]
pub struct Request {
    /// The application.
    pub app: Option<String>,
    /// Its database.
    pub database: Option<String>,
    /// Where its password is.
    pub database_password: Option<String>,
    /// Its storage.
    pub storage: Option<String>,
    /// Where bundles go.
    pub archive: Option<String>,
    /// Where its key is.
    pub key_source: Option<String>,
    /// Who can open the sealing key: `LABEL=RECIPIENT`.
    pub custodians: Vec<String>,
    /// The public half of a sealing key made elsewhere.
    pub recipient: Option<String>,
    /// Signers of an archive that is there already, to believe and to go on after.
    pub signers: Vec<String>,
    /// Ask nothing.
    pub yes: bool,
    /// Where the configuration goes.
    pub config: PathBuf,
}

/// What was set up.
struct SetUp {
    config: Config,
    archive: std::sync::Arc<dyn archive::Archive>,
    id: Uuid,
    recipient: Recipient,
    signer: Signer,
    signing_key: PathBuf,
    card: PathBuf,
    /// The recovery identity that was made here.
    recovery: Option<PathBuf>,
    /// How many bundles the archive had already.
    bundles: usize,
}

/// Sets everything up; what fails half way leaves nothing behind that this run made.
pub fn run(desk: &Desk<'_>, request: &Request) -> Result<Outcome> {
    let mut made = Made::default();
    let done = match set_up(desk, request, &mut made) {
        Ok(done) => done,
        Err(error) => return Err(made.take_back(error)),
    };
    report(desk, &request.config, done)
}

fn set_up(desk: &Desk<'_>, request: &Request, made: &mut Made) -> Result<SetUp> {
    let path = &request.config;
    if path.exists() {
        return Err(Error::refused(format!("{} exists already", path.display()))
            .hint("Edit it, or name another with --config; `strongroom config check` tries what it says."));
    }
    let here = std::env::current_dir().map_err(|e| Error::failed("there is no current folder").because(e))?;
    let base = here.join(path).parent().map(Path::to_owned).unwrap_or(here);
    // First of all: `../` leads out of a folder only where there is one.
    made.folder(&base)?;
    durable::create_folders(&base, 0o755)?;
    let settled = settle(desk, request, &base)?;
    let custodians = request.custodians.iter().map(|text| custodian(text)).collect::<Result<Vec<_>>>()?;
    if !custodians.is_empty() {
        custody::check(&custodians)?;
    }
    let elsewhere = request.recipient.as_deref().map(Recipient::parse).transpose()?;

    let others = request.signers.iter().map(|text| text.parse()).collect::<Result<Vec<PublicKey>>>()?;
    let (secret, public) = (base.join("strongroom-signing.key"), base.join("strongroom-signing.pub"));
    apart(&settled, &base, path, &secret)?;

    let PlaceUrl::File(folder) = &settled.place;
    made.folder(folder)?;
    let archive = desk.systems.archive(&settled.place, true)?;
    let known = archive.length(&archive::MARKER.parse()?)?.is_some();
    let id = archive::establish(archive.as_ref())?;
    if !known {
        made.archive(std::sync::Arc::clone(&archive), &settled.profile.app);
    }
    let signer = if secret.exists() { Signer::load(&secret)? } else { Signer::generate()? };
    let mut signers = vec![*signer.public()];
    signers.extend(others.into_iter().filter(|other| other != signer.public()));
    // Before anything else is made: whoever goes on after a ledger must believe it.
    let trusted = Trusted::new(signers.clone());
    let mut ledger = Ledger::open(archive.as_ref(), &id, &settled.profile.app, &trusted).map_err(|e| {
        e.hint("The archive has a ledger of this application by another signer. To go on after it, name that signer: init --signer RW…; its recovery card or strongroom-signing.pub has it. Or use an archive of your own.")
    })?;
    let installation = installation_of(archive.as_ref(), &id, &settled.profile.app, &ledger, &trusted)?;

    let recovery = base.join("recovery-identity.txt");
    let (recipient, labels, made_here) = if let Some(recipient) = elsewhere {
        (recipient, Vec::new(), false)
    } else {
        let own = || own_label(archive.as_ref(), &host_name());
        seal(desk, request, &archive, (custodians, &own), &recovery, made)?
    };
    if !secret.exists() {
        made.signer(&secret, &public);
        signer.save(&secret, &public)?;
    }

    let text = file::text(&file::Values {
        app: settled.profile.app.as_str(),
        installation: &installation,
        key_source: &settled.key_source,
        database: settled.database.as_deref(),
        password: settled.password.as_deref(),
        storage: settled.storage.as_deref(),
        archive: &settled.archive,
        archive_id: &id,
        recipient: &recipient.to_string(),
        trusted: &signers.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    let text = match &settled.described {
        // The file may be anywhere; what is needed every night stands with the rest, and is sealed with it.
        Some(described) => format!("{text}\n{}", file::profile(described)?),
        None => text,
    };
    let config = Config::parse(&text, path, &[])?;
    let card_path = base.join("recovery-card.txt");
    let bundles = ledger.bundles().count();
    ledger.append(&signer, custody_event(&recipient, &labels), clock::now())?;
    made.entered();

    let card = Card {
        archive_url: absolute(&settled.archive, &settled.place),
        archive: id.clone(),
        app: config.app.clone(),
        sealing: recipient.id().clone(),
        signers,
        newest: ledger.newest(),
    };
    made.file(&card_path);
    durable::write_file(&card_path, card.render().as_bytes(), 0o600, Existing::Replace)?;
    // Last: a configuration that stands is one whose every part stands.
    durable::write_file(path, text.as_bytes(), 0o600, Existing::Keep)?;
    drop(ledger);
    let recovery = made_here.then_some(recovery);
    Ok(SetUp { config, archive, id, recipient, signer, signing_key: secret, card: card_path, recovery, bundles })
}

/// Fails when a place would lie inside another, before anything is made.
fn apart(settled: &Settled, base: &Path, config: &Path, signing_key: &Path) -> Result<()> {
    let database = settled.database.as_ref().map(|url| DatabaseUrl::parse(url, base)).transpose()?;
    let storage = settled.storage.as_ref().map(|url| PlaceUrl::parse(url, base)).transpose()?;
    let state = base.join("strongroom-state");
    Places {
        archive: Some(overlap::path_of(&settled.place)),
        storage: storage.as_ref().map(overlap::path_of),
        database: database.as_ref().and_then(overlap::file_of),
        state: Some(&state),
        scratch: None,
        config: Some(config),
        signing_key: Some(signing_key),
        escrows: Vec::new(),
    }
    .apart()
}

/// The installation that the newest bundle was made of, so that its keys keep their fingerprints; a new one without a bundle.
fn installation_of(
    archive: &dyn archive::Archive,
    id: &Uuid,
    app: &AppName,
    ledger: &Ledger<'_>,
    trusted: &Trusted,
) -> Result<Uuid> {
    let Some(newest) = ledger.bundles().next_back() else { return Uuid::new() };
    let opened = Opened::open(archive, id, app, &newest.bundle, Some(&newest.sums), trusted)?;
    Ok(opened.header().installation.clone())
}

/// Says what was set up, and tries it again as cron would.
fn report(desk: &Desk<'_>, path: &Path, done: SetUp) -> Result<Outcome> {
    let SetUp { config, archive, id, recipient, signer, signing_key: secret, card: card_path, recovery, bundles } =
        done;
    let mut lines = vec![
        format!("wrote {}", path.display()),
        format!("archive {id} at {}", archive.describe()),
        format!("sealing key {}", recipient.id()),
        format!("signer {} in {}", signer.public(), secret.display()),
        format!("recovery card {}: print it, and keep it with the identity", card_path.display()),
    ];
    if bundles > 0 {
        lines.insert(
            2,
            format!(
                "  it has {} already; this host goes on after {}",
                counted(bundles, "bundle", "bundles"),
                if bundles == 1 { "it" } else { "them" }
            ),
        );
        lines.insert(
            3,
            "  older recovery cards do not know this host's signer: use the new card from now on".to_owned(),
        );
        lines.insert(4, "  other hosts that use the archive must add it to [signing] trusted".to_owned());
    }
    let mut problems = Vec::new();
    if let Some(recovery) = &recovery {
        lines.push(format!("recovery identity {}", recovery.display()));
        problems.push(Problem::new(
            "recovery-identity-here",
            if custody::is_protected(recovery) {
                format!("whoever reads {} and knows its passphrase can open every bundle", recovery.display())
            } else {
                format!("whoever reads {} can open every bundle", recovery.display())
            },
            "Move it to where this host cannot read it, now; every backup reminds you until you do.",
        ));
    }
    let host = Host::new(config)?;
    if host.config.key != Reference::Prompt
        && let Ok(key) = host.key_text(desk, None)
    {
        problems.extend(host.lint(&key));
    }
    let tried = super::config::check(desk, host.config.clone())?;
    // What fails here fails for cron too, and cron is not to blame.
    if tried.exit != 0 {
        problems.extend(tried.problems.into_iter().filter(|problem| !problem.is_advice()));
    }
    let rehearsal = if tried.exit == 0 { rehearsal::rehearse(desk, path) } else { None };
    match rehearsal {
        None if tried.exit != 0 => {
            lines.push("not everything works yet; `strongroom config check` tries it again".to_owned());
        }
        None => lines.push("tried everything again as cron would run it: all is well".to_owned()),
        Some(problem) => problems.push(problem),
    }
    Ok(Outcome {
        exit: if problems.iter().all(Problem::is_advice) { 0 } else { super::ATTENTION },
        json: json!({
            "config": path,
            "archive": id,
            "sealing": recipient.id(),
            "signer": signer.public(),
            "card": card_path,
            "recovery_identity": recovery,
            "bundles": bundles,
            "problems": problems,
        }),
        line: problems.first().map(|p| p.message.clone()).unwrap_or_default(),
        text: lines,
        problems,
    })
}

/// `LABEL=RECIPIENT`.
fn custodian(text: &str) -> Result<Custodian> {
    text.parse()
}

/// Makes the sealing key and wraps it; with no custodian a recovery identity is made for one.
fn seal(
    desk: &Desk<'_>,
    request: &Request,
    archive: &std::sync::Arc<dyn archive::Archive>,
    (mut custodians, own): (Vec<Custodian>, &dyn Fn() -> Result<Label>),
    recovery: &Path,
    made: &mut Made,
) -> Result<(Recipient, Vec<Label>, bool)> {
    let made_here = custodians.is_empty();
    if made_here {
        if recovery.exists() {
            return Err(Error::refused(format!("{} exists already", recovery.display()))
                .hint("It may open another archive: move it away first, or name custodians with --custodian."));
        }
        let passphrase = if desk.ask.interactive() && !request.yes { ask_passphrase(desk)? } else { None };
        let (identity, recipient) = custody::new_recovery_identity(passphrase.as_deref().map(String::as_str))?;
        made.file(recovery);
        durable::write_file(recovery, &identity, 0o600, Existing::Keep)?;
        custodians.push(Custodian::new(own()?, &recipient)?);
    }
    let key = SealingKey::generate();
    made.custody(std::sync::Arc::clone(archive), key.id());
    custody::establish(archive.as_ref(), &key, &custodians)?;
    Ok((key.recipient().clone(), custodians.iter().map(|c| c.label().clone()).collect(), made_here))
}

/// What a recovery identity that is made here is called: by this host, and as no custodian that the archive shows already.
fn own_label(archive: &dyn archive::Archive, host: &str) -> Result<Label> {
    // A record that cannot be read keeps nobody from joining: the name is only to be told from others.
    let known = custody::list(archive).unwrap_or_default();
    let taken: Vec<&str> = known.iter().flat_map(|record| &record.labels).map(Label::as_str).collect();
    // A label takes small letters, digits and dashes; what is longer is cut, so that a number fits behind it.
    let host: String =
        host.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let name = format!("recovery-{host}");
    let name = name.trim_end_matches('-');
    let names = std::iter::once(name.to_owned()).chain((2_u32..).map(|n| format!("{name}-{n}")));
    names.into_iter().find(|name| !taken.contains(&name.as_str())).unwrap_or_default().parse()
}

/// This machine's name, up to its first dot; empty when it has none to tell.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().split('.').next().unwrap_or_default().to_owned()
}

fn custody_event(recipient: &Recipient, labels: &[Label]) -> Event {
    Event::Custody(CustodyEvent {
        sealing: recipient.id().clone(),
        generation: 1,
        threshold: 1,
        labels: labels.to_vec(),
    })
}

fn ask_passphrase(desk: &Desk<'_>) -> Result<Option<Zeroizing<String>>> {
    loop {
        let first = desk.ask.secret("Passphrase for the recovery identity (empty for none)")?;
        if first.is_empty() {
            return Ok(None);
        }
        if *first == *desk.ask.secret("The same again")? {
            return Ok(Some(first));
        }
        desk.ask.say("these two differ");
    }
}

/// The archive's URL as another machine will read it: with an absolute path.
fn absolute(url: &str, place: &PlaceUrl) -> String {
    let PlaceUrl::File(path) = place;
    if path.is_absolute() { format!("file:{}", path.display()) } else { url.to_owned() }
}
