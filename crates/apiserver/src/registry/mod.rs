//! The generic registry: every verb, for every kind, the same code.
//!
//! A [`Resource`] serves one kind: reads come from its watch cache's shared bytes, writes go through the kind's
//! strategy to the store.
//!
//! *Architecture invariant:* an object is encoded once. The bytes that a write made are the bytes of every get, list
//! and watch event of that version.

mod admit;
mod cache;
pub(crate) mod compaction;
mod continuation;
mod decode;
mod delete;
mod entry;
mod feed;
mod forms;
mod handoff;
mod index;
pub(crate) mod leases;
mod options;
mod ownership;
mod past;
mod present;
mod read;
mod resource;
mod ring;
mod routes;
mod selection;
mod watch;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use skiff_api::{Catalogue, Strategy};
use skiff_store::Store;
use tokio_util::sync::CancellationToken;

pub use admit::{Admission, AdmissionRequest, AdmitAll, Operation};
pub(crate) use decode::{Beside, internal_type, of_type, posted, summary, type_of};
#[cfg(test)]
pub(crate) use entry::entry_of;
pub use entry::{Entry, EventType, Facts};
pub(crate) use forms::{Form, Framed};
pub(crate) use leases::Leases;
pub use options::{
    DeleteOptions, Deleted, FieldValidation, List, ListOptions, PatchType, Propagation, WatchOptions,
    WriteOptions, Written,
};
pub use resource::Resource;
pub use watch::Frame;

use crate::error::{ApiError, ApiResult};
use crate::http::request_info::RequestInfo;
use crate::patch::apply::Versions;

use cache::Cache;
use decode::Decoder;
use feed::{Feed, StoreRef};

/// Stored JSON in the version of a strategy: the same bytes where that is the stored one.
pub(crate) fn serve(strategy: &dyn Strategy, stored: &Bytes) -> ApiResult<Bytes> {
    match strategy.conversion() {
        None => Ok(stored.clone()),
        Some(conversion) => {
            let json = conversion.serve(stored).map_err(ApiError::internal)?;
            Ok(json.into())
        }
    }
}

/// All resources of a server, by group, version and plural name.
#[derive(Debug)]
pub struct Registry {
    catalogue: Arc<Catalogue>,
    /// In the order of group, version and plural name.
    resources: Vec<Arc<Resource>>,
    /// The same by their plural name, which is almost always one kind's alone: every request asks.
    by_plural: HashMap<String, Vec<Arc<Resource>>>,
    feed: Arc<Feed>,
}

impl Registry {
    /// Opens the registry of a store's objects: reads them all, and follows their changes until `shutdown`. When it
    /// returns, every resource can be read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open(
        store: Arc<dyn Store>,
        catalogue: Catalogue,
        admission: Arc<dyn Admission>,
        shutdown: CancellationToken,
    ) -> ApiResult<Arc<Self>> {
        let store = StoreRef(store);
        let catalogue = Arc::new(catalogue);
        // One cache a kind, whatever the number of its versions.
        let caches: BTreeMap<String, Arc<Cache>> = catalogue
            .iter()
            .filter(|strategy| strategy.conversion().is_none())
            .map(|strategy| Arc::new(Cache::new(strategy.clone())))
            .map(|cache| (cache.info().store_prefix.to_string(), cache))
            .collect();
        let feed = Arc::new(Feed::new(store.clone(), caches.values().cloned()));
        let leases = Arc::default();
        let mut resources: Vec<Arc<Resource>> = catalogue
            .iter()
            .filter_map(|served| {
                let info = served.info();
                let cache = caches.get(info.store_prefix.as_ref())?.clone();
                let resource = Resource {
                    decoder: Decoder::of(served.as_ref()),
                    served: served.clone(),
                    versions: Versions::of(&catalogue, served.as_ref()),
                    cache,
                    feed: feed.clone(),
                    store: store.clone(),
                    admission: admission.clone(),
                    leases: Arc::clone(&leases),
                    catalogue: catalogue.clone(),
                    shutdown: shutdown.clone(),
                };
                Some(Arc::new(resource))
            })
            .collect();
        let path = |resource: &Arc<Resource>| {
            let info = resource.info();
            [&info.group, &info.version, &info.plural].map(ToString::to_string)
        };
        resources.sort_by_cached_key(path);
        let mut by_plural: HashMap<String, Vec<Arc<Resource>>> = HashMap::new();
        for resource in &resources {
            let plural = resource.info().plural.to_string();
            by_plural.entry(plural).or_default().push(resource.clone());
        }
        let revision = feed.list().await?;
        tokio::spawn(feed.clone().follow(revision, shutdown.clone()));
        tokio::spawn(compaction::run(store, revision, shutdown));
        Ok(Arc::new(Self {
            catalogue,
            resources,
            by_plural,
            feed,
        }))
    }

    /// The resource that a path names.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_plural
            .get(plural)?
            .iter()
            .find(|resource| resource.info().group == group && resource.info().version == version)
    }

    /// Whether a request is about one of the resources.
    pub(crate) fn knows(&self, info: &RequestInfo) -> bool {
        self.resource(&info.group, &info.version, &info.resource)
            .is_some()
    }

    /// All resources, by group, version and plural name.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter()
    }

    /// What is known of the kinds.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The revision that every cache has reached.
    pub fn revision(&self) -> i64 {
        self.feed.reached()
    }

    /// Waits until the store answers and the caches have reached its present revision.
    ///
    /// # Errors
    /// When the store does not answer, or the caches do not get there within seconds.
    pub async fn ready(&self) -> ApiResult<()> {
        self.feed.catch_up().await
    }
}
