//! The digests of everything that a restore will use, compared beside what comes before the first change.
//!
//! The key's name, the proof and the plan take time and little of the disk's, and a person who reads the plan takes more. So the
//! digests are begun with them, those of the storage's parts as soon as the plan says which are needed, and awaited where they
//! always counted: before anything is touched.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};

use crossbeam_channel::{Sender, bounded};

use super::{Request, Source};
use crate::bundle::PartName;
use crate::commands::Desk;
use crate::ground::beside::Stop;
use crate::ground::progress::{Progress, Unit};
use crate::ground::{Error, Result};

/// A comparison on a thread of its own; ended when this is dropped, so that nobody who is refused waits for it.
pub(super) struct Comparison<'scope> {
    work: Option<ScopedJoinHandle<'scope, Result<()>>>,
    /// Who waits for the parts that are needed.
    parts: Option<Sender<HashSet<PartName>>>,
    shared: Arc<Shared>,
}

struct Shared {
    stop: Stop,
    /// Somebody waits for it; until then the progress is that of other things.
    awaited: AtomicBool,
    progress: Arc<dyn Progress>,
}

impl<'scope> Comparison<'scope> {
    /// Begins; what is found is told by [`Comparison::awaited`] alone.
    pub(super) fn begin<'env>(
        scope: &'scope Scope<'scope, 'env>,
        desk: &Desk<'_>,
        source: &'env Source<'_>,
        request: &'env Request,
    ) -> Self {
        let progress = Arc::clone(&desk.progress);
        let shared = Arc::new(Shared { stop: Stop::default(), awaited: AtomicBool::new(false), progress });
        let own = Arc::clone(&shared);
        let (parts, needed) = bounded(1);
        let work = scope.spawn(move || {
            source.authenticate(request, &own.stop, own.as_ref())?;
            // Nobody says which where there is no storage to restore, or the restore is refused.
            needed.iter().try_for_each(|parts| source.authenticate_parts(&parts, &own.stop, own.as_ref()))
        });
        Self { work: Some(work), parts: Some(parts), shared }
    }

    /// Goes on with these parts; said once.
    pub(super) fn need(&mut self, parts: HashSet<PartName>) {
        // A thread that has ended has failed, and says why when it is awaited.
        let _ = self.parts.take().map(|wanted| wanted.send(parts));
    }

    /// Waits until every digest was compared; nothing may be touched before that.
    pub(super) fn awaited(mut self) -> Result<()> {
        self.parts = None;
        self.shared.progress.stage("check every digest", None, Unit::Bytes);
        self.shared.awaited.store(true, Ordering::Relaxed);
        let ended = || Error::failed("a thread that compares digests has ended");
        self.work.take().ok_or_else(ended)?.join().map_err(|_| ended())?
    }
}

impl Drop for Comparison<'_> {
    fn drop(&mut self) {
        self.parts = None;
        self.shared.stop.set();
    }
}

impl Progress for Shared {
    fn stage(&self, _: &str, _: Option<u64>, _: Unit) {}

    fn advance(&self, by: u64) {
        if self.awaited.load(Ordering::Relaxed) {
            self.progress.advance(by);
        }
    }

    fn note(&self, line: &str) {
        self.progress.note(line);
    }

    fn finish(&self) {}
}
