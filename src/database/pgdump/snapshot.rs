//! A dump as a [`Snapshot`]: read from its beginning for everything that is asked of it.

use super::listen::{Credentials, Suspects};
use super::{Nobody, Outline, Place, scan};
use crate::appkey::credential::Credential;
use crate::config::profile::Profile;
use crate::database::spread::{Spread, share_of};
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

    fn pass(
        &mut self,
        profile: &Profile,
        shares: &[Option<u64>],
        counts: &[u64],
        visit: &mut dyn FnMut(Credential) -> Result<()>,
    ) -> Result<Vec<u64>> {
        let spreads: Result<_> = shares.iter().zip(counts).map(|(share, count)| Spread::new(*count, *share)).collect();
        let mut listener = Credentials::new(profile, spreads?, visit);
        let outline = scan(&self.place, &self.what, &mut listener)?;
        listener.check(&outline)?;
        let counts = listener.counts;
        self.outline = Some(outline);
        Ok(counts)
    }
}

impl Snapshot for DumpSnapshot<'_> {
    fn credentials(
        &mut self,
        profile: &Profile,
        sample: Option<usize>,
        visit: &mut dyn FnMut(Credential) -> Result<()>,
    ) -> Result<u64> {
        let nothing = vec![0; profile.credentials.len()];
        let Some(sample) = sample else {
            let all = vec![None; profile.credentials.len()];
            return Ok(self.pass(profile, &all, &nothing, visit)?.iter().sum());
        };
        // Twice, because only at the end of a stream is it known how many there are to choose from.
        let none = vec![Some(0); profile.credentials.len()];
        let counts = self.pass(profile, &none, &nothing, &mut |_| Ok(()))?;
        let total = counts.iter().sum();
        let shares: Vec<_> = counts.iter().map(|count| Some(share_of(sample, *count, total))).collect();
        self.pass(profile, &shares, &counts, visit)?;
        Ok(total)
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
