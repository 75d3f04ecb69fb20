//! `pods/eviction`: a deletion that somebody else than the owner asks for.

use std::sync::Arc;

use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use crate::error::{ApiError, ApiResult};
use crate::http::options;
use crate::http::resources::Call;
use crate::http::{Response, respond};
use crate::registry::{DeleteOptions, Propagation, Resource};

/// Deletes a pod as an `Eviction` says. There are no disruption budgets that could forbid it.
pub(crate) async fn handle(mut call: Call, resource: Arc<Resource>) -> ApiResult<Response> {
    let mut write = options::write(&call.query, "CreateOptions", &call.user)?;
    let body = call.read_object().await?;
    let eviction: Eviction =
        serde_json::from_slice(&body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let (namespace, name) = call.place(&resource);
    if eviction.metadata.name.as_deref().is_some_and(|its| its != name) {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let body = eviction.delete_options.unwrap_or_default();
    let preconditions = body.preconditions.unwrap_or_default();
    let dry_run = body.dry_run.is_some_and(|values| !values.is_empty());
    write.dry_run |= dry_run;
    let delete = DeleteOptions {
        grace_period: body.grace_period_seconds,
        uid: preconditions.uid,
        resource_version: preconditions.resource_version,
        propagation: body
            .propagation_policy
            .as_deref()
            .map(Propagation::parse)
            .transpose()?,
        orphan_dependents: body.orphan_dependents,
        dry_run: write.dry_run,
    };
    resource.delete(namespace, name, &delete, &write).await?;
    respond::json(201, &created())
}

/// What a subresource answers that makes no object of its own.
pub(crate) fn created() -> Status {
    Status {
        status: Some("Success".into()),
        code: Some(201),
        ..Status::default()
    }
}
