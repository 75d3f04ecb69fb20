//! PersistentVolumeClaimResize: a claim may ask for more only once it has a volume, and of a class whose volumes can grow.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use skiff_api::Object;
use skiff_api::core::persistent_volume_claim::class_name;
use skiff_api::quantity::Quantity;

use super::{Plugin, shown_name};
use crate::error::{ApiError, ApiResult};
use crate::objects::look_up;
use crate::registry::{AdmissionRequest, Registry};

pub(super) struct PersistentVolumeClaimResize;

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: &dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        let old = request
            .old
            .and_then(|old| old.as_any().downcast_ref::<PersistentVolumeClaim>());
        let (Some(claim), Some(old), None) = (
            object.as_any().downcast_ref::<PersistentVolumeClaim>(),
            old,
            request.subresource,
        ) else {
            return Ok(());
        };
        if asked(claim) <= asked(old) {
            return Ok(());
        }
        let refuse = |why: &str| {
            let shown = shown_name(request, object.metadata());
            Err(ApiError::forbidden(request.info, &shown, why))
        };
        if old.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
            return refuse("Only bound persistent volume claims can be expanded");
        }
        if !can_grow(claim, old, registry).await? {
            return refuse(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            );
        }
        Ok(())
    }
}

fn asked(claim: &PersistentVolumeClaim) -> Quantity {
    let requests = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    requests
        .and_then(|requests| requests.get("storage"))
        .map(Quantity::of)
        .unwrap_or_default()
}

async fn can_grow(
    claim: &PersistentVolumeClaim,
    old: &PersistentVolumeClaim,
    registry: &Registry,
) -> ApiResult<bool> {
    let class = class_name(claim).unwrap_or_default();
    if class.is_empty() || class != class_name(old).unwrap_or_default() {
        return Ok(false);
    }
    let class = look_up::<StorageClass>(registry, "", class).await?;
    Ok(class.is_some_and(|class| class.allow_volume_expansion == Some(true)))
}
