//! Reading objects of built-in kinds from the registry, for the server's own decisions, without their managed fields.

use std::sync::Arc;

use k8s_openapi::Resource;
use serde::de::DeserializeOwned;
use skiff_api::owners::Split;

use crate::error::{ApiError, ApiResult};
use crate::registry::{Entry, Registry};

/// A built-in kind that the server itself reads.
pub(crate) trait Readable: Resource + DeserializeOwned + Send + Sync + 'static {}

impl<K: Resource + DeserializeOwned + Send + Sync + 'static> Readable for K {}

/// The object with this name as the cache has it, or, when the cache knows none, as the store has it: what is decided for
/// every request costs no reading and no decoding, and what a client has just made is found.
pub(crate) async fn look_up<K: Readable>(
    registry: &Registry,
    namespace: &str,
    name: &str,
) -> ApiResult<Option<Arc<K>>> {
    let resource = registry.resource(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT);
    match resource.and_then(|resource| resource.at_hand(namespace, name)) {
        Some(entry) => entry.decoded().map(Some),
        None => Ok(find(registry, namespace, name).await?.map(Arc::new)),
    }
}

/// All objects of a kind in a namespace (empty for all) as the cache has them.
pub(crate) fn all<K: Readable>(registry: &Registry, namespace: &str) -> Vec<K> {
    let entries = at_hand::<K>(registry, namespace);
    entries.iter().filter_map(|entry| decode(entry).ok()).collect()
}

/// The same for what is asked with every request: decoded once for each version.
pub(crate) fn all_shared<K: Readable>(registry: &Registry, namespace: &str) -> Vec<Arc<K>> {
    let entries = at_hand::<K>(registry, namespace);
    entries.iter().filter_map(|entry| entry.decoded().ok()).collect()
}

fn at_hand<K: Readable>(registry: &Registry, namespace: &str) -> Vec<Arc<Entry>> {
    registry
        .resource(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT)
        .map(|resource| resource.all_at_hand(namespace))
        .unwrap_or_default()
}

fn decode<K: Readable>(entry: &Entry) -> ApiResult<K> {
    serde_json::from_slice(&Split::of(entry.json()).rest).map_err(ApiError::internal)
}

/// The object with this name as the store has it; `None` when there is none, or its kind is not served.
pub(crate) async fn find<K: Readable>(
    registry: &Registry,
    namespace: &str,
    name: &str,
) -> ApiResult<Option<K>> {
    let Some(resource) = registry.resource(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT) else {
        return Ok(None);
    };
    match resource.get(namespace, name).await {
        Ok(entry) => decode(&entry).map(Some),
        Err(error) if error.reason() == "NotFound" => Ok(None),
        Err(error) => Err(error),
    }
}
