//! DefaultStorageClass: a claim that names no class gets the cluster's.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use skiff_api::Object;
use skiff_api::core::persistent_volume_claim::class_name;
use skiff_api::storage::storage_class::is_default;

use super::{Plugin, newest};
use crate::error::ApiResult;
use crate::objects::all;
use crate::registry::{AdmissionRequest, Operation, Registry};

pub(super) struct DefaultStorageClass;

#[async_trait]
impl Plugin for DefaultStorageClass {
    async fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        if request.operation == Operation::Create
            && let Some(claim) = object.as_any_mut().downcast_mut::<PersistentVolumeClaim>()
            && class_name(claim).is_none()
        {
            let mut classes = all::<StorageClass>(registry, "");
            classes.retain(|class| is_default(class.metadata.annotations.as_ref()));
            if let Some(class) = newest(classes) {
                claim.spec.get_or_insert_default().storage_class_name = class.metadata.name;
            }
        }
        Ok(())
    }
}
