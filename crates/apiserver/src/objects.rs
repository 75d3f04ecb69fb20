//! Reading objects of built-in kinds from the registry, for the server's own decisions.

use k8s_openapi::Resource;
use serde::de::DeserializeOwned;

use crate::error::{ApiError, ApiResult};
use crate::registry::Registry;

/// A built-in kind that the server itself reads.
pub(crate) trait Readable: Resource + DeserializeOwned + Send {}

impl<K: Resource + DeserializeOwned + Send> Readable for K {}

/// The object with this name as the cache has it, or, when the cache knows none, as the store has it: what is decided for
/// every request costs no reading, and what a client has just made is found.
pub(crate) async fn look_up<K: Readable>(
    registry: &Registry,
    namespace: &str,
    name: &str,
) -> ApiResult<Option<K>> {
    let resource = registry.resource(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT);
    match resource.and_then(|resource| resource.at_hand(namespace, name)) {
        Some(entry) => serde_json::from_slice(entry.json())
            .map(Some)
            .map_err(ApiError::internal),
        None => find(registry, namespace, name).await,
    }
}

/// All objects of a kind in a namespace (empty for all) as the cache has them.
pub(crate) fn all<K: Readable>(registry: &Registry, namespace: &str) -> Vec<K> {
    let Some(resource) = registry.resource(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT) else {
        return Vec::new();
    };
    let entries = resource.all_at_hand(namespace);
    entries
        .iter()
        .filter_map(|entry| serde_json::from_slice(entry.json()).ok())
        .collect()
}

/// The object with this name; `None` when there is none, or its kind is not served.
pub(crate) async fn find<K: Readable>(
    registry: &Registry,
    namespace: &str,
    name: &str,
) -> ApiResult<Option<K>> {
    let Some(resource) = registry.resource(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT) else {
        return Ok(None);
    };
    match resource.get(namespace, name).await {
        Ok(entry) => serde_json::from_slice(entry.json())
            .map(Some)
            .map_err(ApiError::internal),
        Err(error) if error.reason() == "NotFound" => Ok(None),
        Err(error) => Err(error),
    }
}
