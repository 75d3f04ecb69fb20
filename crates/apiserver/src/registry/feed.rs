//! The feed of all watch caches: one list and one watch of the whole store.
//!
//! One watch rather than one a kind: a write wakes one task, whatever the number of kinds, and there is one answer to
//! how far the caches are.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use rand::Rng;
use skiff_store::{Event, KeyValue, Range, Revision, Store, WatchBatch};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cache::{Cache, Incoming};
use super::entry::Entry;
use super::handoff::Handoff;
use crate::error::{ApiError, ApiResult};

/// What every key begins with.
const ROOT: &str = "/registry/";
/// How many objects one read of the store brings while listing.
const PAGE: usize = 2000;
/// How long a reader waits for the caches to reach a revision (upstream's `blockTimeout`).
const PATIENCE: Duration = Duration::from_secs(3);

/// An object with its key below its kind's prefix.
type Keyed = (Arc<str>, Arc<Entry>);

/// The feed of all watch caches.
#[derive(Debug)]
pub(super) struct Feed {
    store: StoreRef,
    caches: BTreeMap<String, Arc<Cache>>,
    handoff: Arc<Handoff>,
    /// All changes up to and with this revision are in the caches.
    reached: watch::Sender<Revision>,
}

/// A store that can be shown.
#[derive(Clone)]
pub(super) struct StoreRef(pub(super) Arc<dyn Store>);

impl std::fmt::Debug for StoreRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Feed {
    pub(super) fn new(store: StoreRef, caches: impl IntoIterator<Item = Arc<Cache>>) -> Self {
        Self {
            store,
            caches: caches
                .into_iter()
                .map(|cache| (cache.prefix().to_string(), cache))
                .collect(),
            handoff: Arc::default(),
            reached: watch::Sender::new(0),
        }
    }

    /// Where writers announce what they put.
    pub(super) fn handoff(&self) -> &Arc<Handoff> {
        &self.handoff
    }

    /// All changes up to and with this revision are in the caches.
    pub(super) fn reached(&self) -> Revision {
        *self.reached.borrow()
    }

    /// Waits until the caches have reached a revision.
    pub(super) async fn wait_for(&self, revision: Revision) -> ApiResult<()> {
        if self.reached() >= revision {
            return Ok(());
        }
        let mut reached = self.reached.subscribe();
        match tokio::time::timeout(PATIENCE, reached.wait_for(|reached| *reached >= revision)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ApiError::too_large_resource_version(revision, self.reached())),
        }
    }

    /// Waits until the caches have reached the store's present revision.
    pub(super) async fn catch_up(&self) -> ApiResult<()> {
        let revision = self.store.0.revision().await?;
        self.wait_for(revision).await
    }

    /// Fills the caches from the store; the revision of what they hold then.
    pub(super) async fn list(&self) -> ApiResult<Revision> {
        let mut range = Range {
            prefix: ROOT.into(),
            limit: PAGE,
            ..Range::default()
        };
        let mut found: BTreeMap<&str, Vec<Keyed>> = BTreeMap::new();
        let revision = loop {
            let page = self.store.0.range(range.clone()).await?;
            for stored in &page.items {
                if let Some((cache, entry)) = self.read(stored) {
                    let below = stored.key.strip_prefix(cache.prefix()).unwrap_or_default();
                    found
                        .entry(cache.prefix())
                        .or_default()
                        .push((below.into(), entry));
                }
            }
            match page.items.last() {
                Some(last) if page.remaining > 0 => {
                    range.after = Some(last.key.to_string());
                    range.revision = Some(page.revision);
                }
                _ => break page.revision,
            }
        };
        self.handoff.clear();
        for (prefix, cache) in &self.caches {
            cache.restart(found.remove(prefix.as_str()).unwrap_or_default(), revision);
        }
        self.reached.send_replace(revision);
        Ok(revision)
    }

    /// Follows the store's changes until `shutdown`. Whatever goes wrong, it lists and watches anew, as at the start.
    pub(super) async fn follow(self: Arc<Self>, from: Revision, shutdown: CancellationToken) {
        let mut from = Some(from);
        let mut failures: u32 = 0;
        loop {
            let outcome = tokio::select! {
                outcome = self.once(from.take(), &mut failures) => outcome,
                () = shutdown.cancelled() => return,
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, "the store's watch has failed, listing anew");
            }
            failures += 1;
            // The store says when it fails, not when it works again; so it is asked, ever more rarely.
            let most = 50 << failures.min(7);
            let pause = Duration::from_millis(rand::rng().random_range(0..most));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn once(&self, from: Option<Revision>, failures: &mut u32) -> ApiResult<()> {
        let from = match from {
            Some(from) => from,
            None => self.list().await?,
        };
        let mut changes = self.store.0.watch(ROOT, from).await?;
        while let Some(batch) = changes.next().await {
            self.apply(batch?);
            *failures = 0;
        }
        Ok(())
    }

    fn apply(&self, batch: WatchBatch) {
        // Consecutive changes of a kind go into its cache under one lock.
        let mut run: Option<(&Arc<Cache>, Vec<Incoming>)> = None;
        for event in &batch.events {
            let Some((cache, incoming)) = self.incoming(event) else {
                continue;
            };
            match &mut run {
                Some((current, changes)) if Arc::ptr_eq(current, cache) => changes.push(incoming),
                _ => {
                    if let Some((current, changes)) = run.replace((cache, vec![incoming])) {
                        current.apply(changes);
                    }
                }
            }
        }
        if let Some((current, changes)) = run {
            current.apply(changes);
        }
        self.reached.send_replace(batch.revision);
    }

    fn incoming(&self, event: &Event) -> Option<(&Arc<Cache>, Incoming)> {
        let stored = event.current.as_ref().or(event.previous.as_ref())?;
        let cache = self.cache(&stored.key)?;
        let key: Arc<str> = stored.key.strip_prefix(cache.prefix())?.into();
        let entry = match &event.current {
            None => None,
            Some(stored) => Some(self.read(stored)?.1),
        };
        let revision = event.revision;
        Some((cache, Incoming { key, revision, entry }))
    }

    fn cache(&self, key: &str) -> Option<&Arc<Cache>> {
        // No prefix begins another, so the one that this key begins with is the last that does not come after it.
        let (prefix, cache) = self
            .caches
            .range::<str, _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()?;
        key.starts_with(prefix.as_str()).then_some(cache)
    }

    /// The entry of a stored object; `None` for a kind that is not served, and for what cannot be read.
    fn read(&self, stored: &KeyValue) -> Option<(&Arc<Cache>, Arc<Entry>)> {
        let cache = self.cache(&stored.key)?;
        let entry = match self.handoff.take(&stored.key, &stored.value) {
            Some(parcel) => parcel.entry(stored.mod_revision),
            None => cache.read(stored),
        };
        match entry {
            Ok(entry) => Some((cache, entry)),
            Err(error) => {
                tracing::error!(key = %stored.key, %error, "a stored object cannot be read; it is not served");
                None
            }
        }
    }
}
