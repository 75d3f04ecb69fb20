//! Admin access to devices, which are then shared with whoever uses them: only in namespaces that are meant for it
//! (`pkg/registry/resource`, where upstream asks it beside the validation of claims).

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::resource::v1::{
    DeviceRequest, DeviceRequestAllocationResult, ResourceClaim, ResourceClaimTemplate,
};
use skiff_api::{Errors, Object, Path};

use crate::error::ApiResult;
use crate::objects::look_up;
use crate::registry::{AdmissionRequest, Registry};

/// The label of those namespaces, whose value is `true`.
const LABEL: &str = "resource.kubernetes.io/admin-access";

/// Refuses admin access in other namespaces, beside what else is wrong.
pub(super) async fn examine(
    request: &AdmissionRequest<'_>,
    object: &dyn Object,
    registry: &Registry,
    errors: &mut Errors,
) -> ApiResult<()> {
    let Some(path) = asked(request, object) else {
        return Ok(());
    };
    let namespace = look_up::<Namespace>(registry, "", request.namespace).await?;
    let labels = namespace
        .as_ref()
        .and_then(|namespace| namespace.metadata.labels.as_ref());
    if labels
        .and_then(|labels| labels.get(LABEL))
        .is_none_or(|value| value != "true")
    {
        errors.forbidden(
            &path,
            &format!(
                "admin access to devices requires the `{LABEL}: true` label on the containing namespace"
            ),
        );
    }
    Ok(())
}

/// Where an object asks for admin access.
fn asked(request: &AdmissionRequest<'_>, object: &dyn Object) -> Option<Path> {
    if let Some(template) = object.as_any().downcast_ref::<ResourceClaimTemplate>() {
        return in_requests(
            template
                .spec
                .as_ref()?
                .spec
                .as_ref()?
                .devices
                .as_ref()?
                .requests
                .as_deref()?,
        );
    }
    let claim = object.as_any().downcast_ref::<ResourceClaim>()?;
    if request.subresource.is_none() {
        return in_requests(claim.spec.as_ref()?.devices.as_ref()?.requests.as_deref()?);
    }
    let old = request
        .old
        .and_then(|old| old.as_any().downcast_ref::<ResourceClaim>());
    // What was granted once stays.
    if old.is_some_and(|old| in_results(results(old)).is_some()) {
        return None;
    }
    in_results(results(claim))
}

fn in_requests(requests: &[DeviceRequest]) -> Option<Path> {
    let index = requests.iter().position(|request| {
        let exactly = request.exactly.as_ref();
        exactly.is_some_and(|exactly| exactly.admin_access == Some(true))
    })?;
    Some(
        Path::new("spec.devices.requests")
            .index(index)
            .child("adminAccess"),
    )
}

fn results(claim: &ResourceClaim) -> &[DeviceRequestAllocationResult] {
    let allocation = claim
        .status
        .as_ref()
        .and_then(|status| status.allocation.as_ref());
    let devices = allocation.and_then(|allocation| allocation.devices.as_ref());
    devices
        .and_then(|devices| devices.results.as_deref())
        .unwrap_or_default()
}

fn in_results(results: &[DeviceRequestAllocationResult]) -> Option<Path> {
    let index = results
        .iter()
        .position(|result| result.admin_access == Some(true))?;
    let path = Path::new("status.allocation.devices.results");
    Some(path.index(index).child("adminAccess"))
}
