//! One resource: what the verbs of one kind work with.
//!
//! The verbs stand in files of their own: reading in `read`, create, update and patch in `write`, delete in `delete`.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use skiff_api::owners::Split;
use skiff_api::{Catalogue, KindInfo, Object, Strategy};
use skiff_store::Expect;
use tokio_util::sync::CancellationToken;

use super::admit::Admission;
use super::cache::{Cache, Page};
use super::decode::Decoder;
use super::entry::{Entry, EventType, Facts};
use super::feed::{Feed, StoreRef};
use super::leases::Leases;
use super::selection::Selection;
use crate::error::{ApiError, ApiResult};
use crate::patch::apply::Versions;

/// The verbs of one kind.
pub struct Resource {
    /// The version that is served here; the cache has the stored one.
    pub(super) served: Arc<dyn Strategy>,
    /// All of the kind's versions, where there are several.
    pub(super) versions: Versions,
    pub(super) cache: Arc<Cache>,
    pub(super) feed: Arc<Feed>,
    pub(super) store: StoreRef,
    pub(super) admission: Arc<dyn Admission>,
    pub(super) leases: Arc<Leases>,
    pub(super) decoder: Decoder,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) shutdown: CancellationToken,
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resource")
            .field("prefix", &self.cache.prefix())
            .finish_non_exhaustive()
    }
}

/// An object as a write finds it, and apart from it who owns its fields.
#[derive(Debug)]
pub(super) struct Live<'a> {
    pub(super) entry: &'a Entry,
    /// The object, without its owners.
    pub(super) object: Box<dyn Object>,
    /// The same as it is stored.
    pub(super) json: Cow<'a, [u8]>,
    /// The text of its `managedFields`; empty when it has none.
    pub(super) owners: &'a [u8],
}

/// What came of a write to the store.
#[derive(Debug)]
pub(super) enum Put {
    /// It is durable.
    Done(Arc<Entry>),
    /// The key is not in the expected state but in this one.
    Conflict(Option<Arc<Entry>>),
}

impl Resource {
    /// What is particular about the kind, in the version that is served here.
    pub fn strategy(&self) -> &Arc<dyn Strategy> {
        &self.served
    }

    /// The plain facts of the kind, in the version that is served here.
    pub fn info(&self) -> &KindInfo {
        self.served.info()
    }

    /// What a write begins from.
    pub(super) fn live<'a>(&self, entry: &'a Entry) -> ApiResult<Live<'a>> {
        let Split { rest, owners } = Split::of(entry.json());
        let object = self.served.stored().decode(&rest);
        Ok(Live {
            entry,
            object: object.map_err(ApiError::internal)?,
            json: rest,
            owners,
        })
    }

    /// The facts of an object, as the cache keeps them.
    pub(super) fn facts(&self, object: &dyn Object) -> Facts {
        Facts::of(self.served.stored(), object)
    }

    /// The entry that the cache has for a key of the store; it may be behind.
    pub(super) fn cached(&self, key: &str) -> Option<Arc<Entry>> {
        self.cache.get(key)
    }

    /// The object as the cache has it: at no cost, but perhaps a moment behind.
    pub(crate) fn at_hand(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.cached(&self.cache.key(namespace, name))
    }

    /// All objects of a namespace (empty for all) as the cache has them.
    pub(crate) fn all_at_hand(&self, namespace: &str) -> Vec<Arc<Entry>> {
        let namespace = (!namespace.is_empty()).then_some(namespace);
        match Selection::of(self.strategy().as_ref(), namespace, "", "") {
            Ok(selection) => self.cache.select(&selection, Page::default()).items,
            Err(_) => Vec::new(),
        }
    }

    /// The present state of a key of the store.
    pub(super) async fn stored(&self, key: &str) -> ApiResult<Option<Arc<Entry>>> {
        let read = self.store.0.get(key).await?;
        read.value
            .as_ref()
            .map(|stored| self.stored_entry(stored))
            .transpose()
    }

    /// Whether what the cache had for a key is the present state; if not, it becomes that.
    pub(super) async fn is_present(&self, key: &str, current: &mut Option<Arc<Entry>>) -> ApiResult<bool> {
        let revision = |entry: &Option<Arc<Entry>>| entry.as_ref().map(|entry| entry.revision());
        let found = self.stored(key).await?;
        let same = revision(&found) == revision(current);
        *current = found;
        Ok(same)
    }

    /// Puts an object into the store.
    pub(super) async fn put(
        &self,
        key: &str,
        facts: Facts,
        value: Vec<u8>,
        expect: Expect,
    ) -> ApiResult<Put> {
        let announced = match expect {
            Expect::Absent => EventType::Added,
            Expect::Any | Expect::Revision(_) => EventType::Modified,
        };
        let value = Bytes::from(value);
        let mut second = false;
        loop {
            let lease = match self.info().ttl {
                Some(ttl) => Some(self.leases.lease(self.store.0.as_ref(), ttl).await?),
                None => None,
            };
            let ticket =
                self.feed
                    .handoff()
                    .announce(key, self.cache.head(), facts.clone(), value.clone(), announced);
            return match self.store.0.put(key, value.clone(), expect, lease).await {
                Ok(written) => Ok(Put::Done(ticket.written(written.revision)?)),
                Err(skiff_store::Error::Conflict { current }) => Ok(Put::Conflict(
                    current.map(|stored| self.stored_entry(&stored)).transpose()?,
                )),
                // The shared lease has ended, as it may when the store was out of reach for an hour.
                Err(skiff_store::Error::LeaseNotFound) if !second => {
                    if let Some(ttl) = self.info().ttl {
                        self.leases.forget(ttl);
                    }
                    second = true;
                    continue;
                }
                Err(error) => Err(error.into()),
            };
        }
    }

    /// An entry of what a dry run did not write.
    pub(super) fn unwritten(
        &self,
        facts: Facts,
        value: &[u8],
        revision: i64,
    ) -> Result<Arc<Entry>, ApiError> {
        let entry = Entry::new(
            self.cache.head(),
            Arc::new(facts),
            value,
            revision,
            EventType::Modified,
        )?;
        Ok(Arc::new(entry))
    }
}
