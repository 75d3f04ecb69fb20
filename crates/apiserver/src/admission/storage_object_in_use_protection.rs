//! StorageObjectInUseProtection: volumes, claims and attribute classes stay until nobody uses them any more; controllers
//! take the finalizers away then.

use async_trait::async_trait;
use skiff_api::Object;

use super::Plugin;
use crate::error::ApiResult;
use crate::registry::{AdmissionRequest, Operation, Registry};

pub(super) struct StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    async fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        _registry: &Registry,
    ) -> ApiResult<()> {
        if request.operation != Operation::Create {
            return Ok(());
        }
        let finalizer = match (request.info.group.as_ref(), request.info.plural.as_ref()) {
            ("", "persistentvolumes") => "kubernetes.io/pv-protection",
            ("", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
            ("storage.k8s.io", "volumeattributesclasses") => "kubernetes.io/vac-protection",
            _ => return Ok(()),
        };
        let finalizers = object.metadata_mut().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|its| its == finalizer) {
            finalizers.push(finalizer.into());
        }
        Ok(())
    }
}
