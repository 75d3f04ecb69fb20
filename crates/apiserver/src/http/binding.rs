//! `pods/binding`: the scheduler's choice of a node for a pod.

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Binding, Pod};
use skiff_api::core::binding as rules;
use skiff_api::{Errors, KindInfo, Subresource, Target};

use crate::error::{ApiError, ApiResult};
use crate::http::Response;
use crate::http::eviction::created;
use crate::http::resources::{Call, answer, not_allowed};
use crate::registry::WriteOptions;

/// `POST …/pods/{name}/binding`
pub(crate) async fn pod(mut call: Call) -> ApiResult<Response> {
    let mut options = call.write_options("CreateOptions")?;
    // Nobody comes to own what a binding sets.
    options.field_manager = None;
    let binding: Binding = call.read_posted(&mut options).await?;
    let name = call.info.path_name().to_string();
    if binding.metadata.name.as_deref().is_some_and(|its| its != name) {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Binding object",
        ));
    }
    bind(call, name, binding, options).await
}

/// `POST …/bindings`, where the binding has the pod's name.
pub(crate) async fn collection(mut call: Call) -> ApiResult<Response> {
    if call.info.verb != "create" || call.info.namespace.is_empty() || !call.info.path_name().is_empty() {
        return Err(not_allowed());
    }
    let mut options = call.write_options("CreateOptions")?;
    // Nobody comes to own what a binding sets.
    options.field_manager = None;
    let binding: Binding = call.read_posted(&mut options).await?;
    let name = binding.metadata.name.clone().unwrap_or_default();
    bind(call, name, binding, options).await
}

/// The facts of pods as a refusal of this subresource names them.
fn subresource_info() -> KindInfo {
    KindInfo {
        plural: "pods/binding".into(),
        ..KindInfo::of::<Pod>("pod")
    }
}

async fn bind(call: Call, name: String, binding: Binding, options: WriteOptions) -> ApiResult<Response> {
    let mut errors = Errors::new();
    rules::validate(&binding, &mut errors);
    if !errors.is_empty() {
        return Err(ApiError::invalid(
            &KindInfo::of::<Binding>("binding"),
            &name,
            &errors,
        ));
    }
    let resource = call
        .shared
        .registry
        .resource("", "v1", "pods")
        .ok_or_else(ApiError::no_such_path)?;
    let target = Target::Subresource(Subresource::Binding);
    resource
        .modify(
            &call.info.namespace,
            &name,
            target,
            &options,
            |object| match object.as_any_mut().downcast_mut::<Pod>() {
                Some(pod) => rules::bind(pod, &binding, now())
                    .map_err(|error| ApiError::conflict(&subresource_info(), &name, &error.to_string())),
                None => Err(ApiError::internal("not a pod")),
            },
        )
        .boxed()
        .await?;
    answer(&call, 201, &created())
}

/// The present, in whole seconds, as objects hold it.
pub(crate) fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default()
}
