//! Resources that the server does not have.
//!
//! There are no custom resources, and whoever asks for their definitions is told so by an empty list: kubectl asks before
//! it tells its user that a kind is unknown. They cannot be created, and discovery does not name them.

use serde_json::json;

use crate::error::{ApiError, ApiResult};
use crate::http::resources::Call;
use crate::http::{Response, respond};

/// Answers a request for a resource that is not there.
pub(crate) async fn none(call: &Call) -> ApiResult<Response> {
    let info = &call.info;
    let asked = (info.group.as_str(), info.version.as_str(), info.resource.as_str());
    if asked != ("apiextensions.k8s.io", "v1", "customresourcedefinitions") || info.verb != "list" {
        return Err(ApiError::no_such_path());
    }
    let revision = call.shared.store.revision().await;
    let revision = revision.map_err(|error| ApiError::unavailable(error.to_string()))?;
    let list = json!({
        "kind": "CustomResourceDefinitionList",
        "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": { "resourceVersion": revision.to_string() },
        "items": [],
    });
    respond::json(200, &list)
}
