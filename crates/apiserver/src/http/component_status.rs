//! `componentstatuses`: how the parts are that this server knows of. That is its store; of the other parts their own
//! health tells.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ComponentCondition, ComponentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skiff_api::Strategy;
use skiff_api::kind::Typed;

use crate::error::{ApiError, ApiResult};
use crate::http::accept::negotiate;
use crate::http::resources::{Call, not_allowed};
use crate::http::transform::{IncludeObject, View};
use crate::http::{Response, respond};
use crate::registry::{Entry, List};

/// The store, by the name that upstream gives to the first of its servers.
const STORE: &str = "etcd-0";

/// Serves `get` and `list`.
pub(crate) async fn handle(call: Call) -> ApiResult<Response> {
    let accepted = negotiate(&call.headers, true)?;
    let strategy = Typed::<ComponentStatus>::new();
    let view = View {
        strategy: &strategy,
        transform: accepted.transform,
        encoding: accepted.encoding,
        meta: accepted.meta,
        include: IncludeObject::read(&call.query, accepted.transform)?,
    };
    let entry = Entry::unstored(&strategy, &store(&call).await, 0)?;
    call.warnings.extend(strategy.info().deprecation);
    Ok(match (call.info.verb, call.info.path_name()) {
        ("get", STORE) => respond::object(200, accepted.encoding, [view.object(&entry)?]),
        ("get", name) => return Err(ApiError::not_found(strategy.info(), name)),
        ("list", _) => {
            let list = List {
                items: vec![Arc::new(entry)],
                resource_version: 0,
                continue_: None,
                remaining: None,
            };
            let segments = view.list(&list)?;
            respond::object(200, accepted.encoding, segments)
        }
        _ => return Err(not_allowed()),
    })
}

async fn store(call: &Call) -> ComponentStatus {
    let (status, message, error) = match call.shared.registry.ready().await {
        Ok(()) => ("True", Some("ok".to_string()), None),
        Err(error) => ("False", None, Some(error.to_string())),
    };
    ComponentStatus {
        metadata: ObjectMeta {
            name: Some(STORE.into()),
            ..ObjectMeta::default()
        },
        conditions: Some(vec![ComponentCondition {
            type_: "Healthy".into(),
            status: status.into(),
            message,
            error,
        }]),
    }
}
