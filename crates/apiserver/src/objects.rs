//! Reading objects of built-in kinds from the registry, for the server's own decisions.

use k8s_openapi::Resource;
use serde::de::DeserializeOwned;

use crate::error::{ApiError, ApiResult};
use crate::registry::Registry;

/// A built-in kind that the server itself reads.
pub(crate) trait Readable: Resource + DeserializeOwned + Send {}

impl<K: Resource + DeserializeOwned + Send> Readable for K {}

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
