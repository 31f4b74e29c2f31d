//! `strongroom.toml`, application profiles and policies: parsed once into types that cannot be wrong.

mod column;
mod escrow;
mod file;
pub mod overlap;
mod postgres;
pub mod profile;
mod secrets_manager;
pub mod url;

use std::path::{Path, PathBuf};

use crate::appkey::source::Reference;
use crate::ground::names::{AppName, Uuid};
use crate::ground::words::counted;
use crate::ground::{Error, Result, durable};
use crate::sealing::Recipient;
use crate::signer::{PublicKey, Trusted};
pub(crate) use escrow::folder;
pub use escrow::{EscrowPlace, VaultAuth, VaultPlace};
pub use file::{Health, HookTable, known_variables};
use profile::Profile;
pub use secrets_manager::SecretsManagerPlace;
use url::{DatabaseUrl, PlaceUrl};

/// The name looked for in the current folder.
pub const FILE_NAME: &str = "strongroom.toml";

/// A whole configuration, every path absolute or relative to the current folder as the file's own path is.
#[derive(Clone)]
pub struct Config {
    /// Where it was read from.
    pub path: PathBuf,
    /// The file's exact text, which goes sealed into every bundle.
    pub text: String,
    /// The application's name.
    pub app: AppName,
    /// What is known of the application.
    pub profile: Profile,
    /// This installation's name; it salts fingerprints.
    pub installation: Uuid,
    /// Where the application's key comes from.
    pub key: Reference,
    /// The application's database.
    pub database: Option<DatabaseUrl>,
    /// Where the database's password comes from, when it needs one.
    pub database_password: Option<Reference>,
    /// What stands in front of the database's own programs, such as `docker exec -i NAME`.
    pub command_prefix: Vec<String>,
    /// The folder of the database's own programs; without it they are looked for on `PATH`.
    pub database_programs: Option<PathBuf>,
    /// The longest time that a backup may keep others from writing, in seconds.
    pub max_lock_seconds: u64,
    /// The application's storage.
    pub storage: Option<PlaceUrl>,
    /// Where bundles go.
    pub archive: PlaceUrl,
    /// Which archive that has to be; any, where nothing is said.
    pub archive_id: Option<Uuid>,
    /// What everything is sealed to.
    pub recipient: Recipient,
    /// This host's signing key, if it signs.
    pub signing_key: Option<PathBuf>,
    /// Signers that are believed.
    pub trusted: Vec<PublicKey>,
    /// Where sealed application keys are kept, besides every bundle.
    pub escrows: Vec<EscrowPlace>,
    /// How many escrows must hold the key before a backup counts as whole.
    pub escrow_min_copies: usize,
    /// Whether bundles carry the sealed application key.
    pub key_in_bundle: bool,
    /// Told the result, as JSON on standard input.
    pub on_result: Option<Vec<String>>,
    /// Variables that child programs get beyond `PATH`, `HOME` and `LANG`.
    pub pass: Vec<String>,
    /// How to stop, start and ask the application.
    pub hooks: HookTable,
    /// Where this host remembers what it stored; mode 0700.
    pub state: PathBuf,
    /// Where plaintext may lie unlinked for the length of a run; mode 0700.
    pub scratch: PathBuf,
    /// A recovery identity that was made here and must leave this host.
    pub recovery_identity: PathBuf,
}

impl Config {
    /// Reads a configuration file; `variables` are the `STRONGROOM_<SECTION>_<FIELD>` overrides.
    pub fn load(path: &Path, variables: &[(String, String)]) -> Result<Self> {
        durable::named_as_file(path, "configuration")?;
        let bytes = durable::read_believed_file(path, 1 << 20).map_err(|e| {
            if e.kind() == crate::ground::Kind::NotFound {
                // A name alone says nothing to who reads this in cron's mail.
                let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
                Error::usage(format!("there is no configuration at {}", whole.display()))
                    .hint("`strongroom init` writes one; --config or STRONGROOM_CONFIG names another.")
            } else {
                e
            }
        })?;
        let text =
            String::from_utf8(bytes).map_err(|_| Error::usage(format!("{} is not UTF-8 text", path.display())))?;
        Self::parse(&text, path, variables)
    }

    /// Reads a configuration's text as if it stood at `path`.
    pub fn parse(text: &str, path: &Path, variables: &[(String, String)]) -> Result<Self> {
        let base = path.parent().map(Path::to_owned).unwrap_or_default();
        Self::with_profile(text, path, variables, &|app| Profile::find(app, &base))
    }

    /// The same for a text that comes from elsewhere: what stands beside `path` is nobody's profile,
    pub fn foreign(text: &str, path: &Path, variables: &[(String, String)]) -> Result<Self> {
        Self::with_profile(text, path, variables, &Profile::named)
    }

    fn with_profile(
        text: &str,
        path: &Path,
        variables: &[(String, String)],
        find: &dyn Fn(&str) -> Result<Profile>,
    ) -> Result<Self> {
        let raw = file::read(text, path, variables)?;
        let base = path.parent().map(Path::to_owned).unwrap_or_default();
        let within = |p: &Path| if p.is_absolute() { p.to_owned() } else { base.join(p) };
        let shown = path.display().to_string();
        let here = |field: &str| format!("{shown}: {field}");
        let (app, hooks) = raw.app.split();
        let app: AppName = app.parse().map_err(|e: Error| e.context(here("app")))?;
        let profile = match raw.profile {
            Some(profile) => Profile::from_table(profile, &here("[profile]"))?,
            None => find(app.as_str())?,
        };
        let escrows: Vec<_> = raw
            .escrow
            .into_iter()
            .map(|escrow| EscrowPlace::parse(escrow, &base))
            .collect::<Result<_>>()
            .map_err(|e| e.context(shown.clone()))?;
        if let Some(health) = &hooks.health
            && !["http://", "https://"].iter().any(|scheme| health.url.starts_with(scheme))
        {
            return Err(Error::usage(here(&format!(
                "[app] health url {:?} begins with no scheme",
                url::redact(&health.url)
            )))
            .hint("It looks like http://localhost:3000/health."));
        }
        let state = within(&raw.state.folder.unwrap_or_else(|| PathBuf::from("strongroom-state")));
        Ok(Self {
            app,
            profile,
            installation: raw.installation.parse().map_err(|e: Error| e.context(here("installation")))?,
            key: raw.key.source.parse().map_err(|e: Error| e.context(here("[key] source")))?,
            database: raw
                .database
                .as_ref()
                .map(|d| DatabaseUrl::parse(&d.url, &base))
                .transpose()
                .map_err(|e| e.context(here("[database] url")))?,
            database_password: raw
                .database
                .as_ref()
                .and_then(|d| d.password.as_ref())
                .map(|text| text.parse())
                .transpose()
                .map_err(|e: Error| e.context(here("[database] password")))?,
            command_prefix: raw.database.as_ref().map(|d| d.command_prefix.clone()).unwrap_or_default(),
            database_programs: raw.database.as_ref().and_then(|d| d.programs.clone()),
            max_lock_seconds: raw.database.as_ref().and_then(|d| d.max_lock_seconds).unwrap_or(5),
            storage: raw
                .storage
                .as_ref()
                .map(|s| PlaceUrl::parse(&s.url, &base))
                .transpose()
                .map_err(|e| e.context(here("[storage] url")))?,
            archive: PlaceUrl::parse(&raw.archive.url, &base).map_err(|e| e.context(here("[archive] url")))?,
            archive_id: (raw.archive.id.as_deref().map(str::parse).transpose())
                .map_err(|e: Error| e.context(here("[archive] id")))?,
            recipient: Recipient::parse(&raw.sealing.recipient).map_err(|e| e.context(here("[sealing] recipient")))?,
            signing_key: raw.signing.key.as_deref().map(within),
            trusted: raw
                .signing
                .trusted
                .iter()
                .map(|t| t.parse())
                .collect::<Result<_>>()
                .map_err(|e| e.context(here("[signing] trusted")))?,
            escrow_min_copies: raw.rules.escrow_min_copies.unwrap_or_else(|| usize::from(!escrows.is_empty())),
            escrows,
            key_in_bundle: raw.rules.key_in_bundle.unwrap_or(true),
            on_result: raw.notify.on_result.filter(|argv| !argv.is_empty()),
            pass: raw.env.pass,
            hooks,
            scratch: raw.scratch.folder.as_deref().map_or_else(|| state.join("scratch"), within),
            state,
            recovery_identity: base.join("recovery-identity.txt"),
            text: text.to_owned(),
            path: path.to_owned(),
        })
    }

    /// Fails when fewer escrows are configured than must hold the key.
    pub fn enough_escrows(&self) -> Result<()> {
        let (asked, there) = (self.escrow_min_copies, self.escrows.len());
        if asked <= there {
            return Ok(());
        }
        let are = counted(there, "[[escrow]] is configured", "[[escrow]] are configured");
        Err(Error::usage(format!(
            "[rules] escrow_min_copies asks for {} of the key in escrow, and {are}",
            counted(asked, "copy", "copies")
        ))
        .hint("It can never be met: add an [[escrow]], or lower escrow_min_copies."))
    }

    /// The folder that the file stands in; relative references are relative to it.
    pub fn base(&self) -> PathBuf {
        self.path.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// The signers that verify and restore believe.
    pub fn trusted(&self) -> Trusted {
        Trusted::new(self.trusted.clone())
    }

    /// How children are started.
    pub fn environment(&self) -> crate::ground::child::Environment {
        crate::ground::child::Environment { pass: self.pass.clone() }
    }
}
