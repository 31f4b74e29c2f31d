//! A dump as a [`Snapshot`]: read from its beginning for everything that is asked of it.

use std::ops::Range;

use super::listen::{Credentials, Suspects};
use super::{Nobody, Outline, Place, scan};
use crate::appkey::credential::Credential;
use crate::config::profile::Profile;
use crate::database::spread::{Chosen, in_passes};
use crate::database::{Dump, Facts, NamedObject, Snapshot, Suspect};
use crate::ground::progress::{Progress, Unit};
use crate::ground::{Error, Result};

/// A dump of PostgreSQL.
pub(crate) struct DumpSnapshot<'a> {
    place: Place<'a>,
    what: String,
    /// What an earlier pass found, so that counting costs no pass of its own.
    outline: Option<Outline>,
}

impl<'a> DumpSnapshot<'a> {
    /// The dump at this place, called `what` in messages.
    pub(crate) fn new(place: Place<'a>, what: &str) -> Self {
        Self { place, what: what.to_owned(), outline: None }
    }
}

impl Snapshot for DumpSnapshot<'_> {
    fn credentials(
        &mut self,
        profile: &Profile,
        sample: Option<usize>,
        visit: &mut dyn FnMut(Credential) -> Result<()>,
    ) -> Result<u64> {
        in_passes(profile.credentials.len(), sample, &mut |spreads| {
            let mut listener = Credentials::new(profile, Chosen::new(spreads, visit));
            let outline = scan(&self.place, &self.what, &mut listener)?;
            let counts = listener.counts(&outline)?;
            self.outline = Some(outline);
            Ok(counts)
        })
    }

    fn suspects(&mut self, profile: &Profile, looks_like: &dyn Fn(&[u8]) -> bool) -> Result<Vec<Suspect>> {
        let mut listener = Suspects::new(profile, looks_like, &self.what);
        scan(&self.place, &self.what, &mut listener)?;
        Ok(listener.found())
    }

    fn named_objects(&mut self, _: &Profile, _: &mut dyn FnMut(NamedObject) -> Result<()>) -> Result<()> {
        Err(Error::usage(format!("{}: the profile's query needs a server to run on", self.what))
            .hint("Restore the dump into a scratch database and ask that."))
    }

    fn facts(&mut self, progress: &dyn Progress) -> Result<Facts> {
        progress.stage("counting rows", None, Unit::Items);
        let outline = match self.outline.take() {
            Some(outline) => outline,
            None => scan(&self.place, &self.what, &mut Nobody)?,
        };
        let mut facts = Facts { system: "postgres".to_owned(), tables: outline.counts(), ..Facts::default() };
        for (name, version) in [("server", &outline.server), ("pg_dump", &outline.tool)] {
            if !version.is_empty() {
                facts.tools.insert(name.to_owned(), version.clone());
            }
        }
        self.outline = Some(outline);
        Ok(facts)
    }

    fn blocks(&mut self) -> Vec<(i64, Range<u64>)> {
        self.outline.as_ref().map(|outline| outline.blocks.clone()).unwrap_or_default()
    }

    fn dumps(&mut self) -> Result<Vec<Dump>> {
        let (name, open) = match &self.place {
            Place::Custom(open) => ("database.pgdump", open),
            Place::Script(open) => ("database.sql", open),
            Place::Tar(open) => ("database.tar", open),
            Place::Directory(_) => return Err(Error::usage(format!("{} is a folder and no file", self.what))),
        };
        Ok(vec![Dump { name: name.to_owned(), bytes: open()? }])
    }
}
