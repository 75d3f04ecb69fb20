//! Admission: what the cluster adds to objects, and what it refuses, before they are validated. One file a plugin, named
//! as upstream names them.

mod certificate_requester;
mod certificate_signers;
mod default_ingress_class;
mod default_storage_class;
mod default_toleration_seconds;
mod device_admin_access;
mod escalation;
mod limit_ranger;
pub(crate) mod namespace_lifecycle;
pub(crate) mod node_restriction;
mod persistent_volume_claim_resize;
mod pod_security;
mod pod_topology_labels;
mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
pub(crate) mod service_addresses;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;

use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skiff_api::{KindInfo, Object};

use crate::admission::certificate_requester::CertificateRequester;
use crate::admission::certificate_signers::CertificateSigners;
use crate::admission::default_ingress_class::DefaultIngressClass;
use crate::admission::default_storage_class::DefaultStorageClass;
use crate::admission::default_toleration_seconds::DefaultTolerationSeconds;
use crate::admission::device_admin_access::DeviceAdminAccess;
use crate::admission::escalation::Escalation;
use crate::admission::limit_ranger::LimitRanger;
use crate::admission::namespace_lifecycle::NamespaceLifecycle;
use crate::admission::node_restriction::NodeRestriction;
use crate::admission::persistent_volume_claim_resize::PersistentVolumeClaimResize;
use crate::admission::pod_security::PodSecurity;
use crate::admission::pod_topology_labels::PodTopologyLabels;
use crate::admission::priority::Priority;
use crate::admission::resource_quota::ResourceQuota;
use crate::admission::runtime_class::RuntimeClass;
use crate::admission::service_account::ServiceAccount;
use crate::admission::service_addresses::ServiceAddresses;
use crate::admission::storage_object_in_use_protection::StorageObjectInUseProtection;
use crate::admission::taint_nodes_by_condition::TaintNodesByCondition;
use crate::auth::authorize::Union;
use crate::error::{ApiError, ApiResult};
use crate::registry::{Admission, AdmissionRequest, Registry};

/// One rule of admission.
#[async_trait]
trait Plugin: Send + Sync {
    /// Changes or refuses an object that is to be created or updated.
    async fn admit(
        &self,
        _request: &AdmissionRequest<'_>,
        _object: &mut dyn Object,
        _registry: &Registry,
    ) -> ApiResult<()> {
        Ok(())
    }

    /// Refuses an object that is about to be written; says what the client should be warned of.
    async fn validate(
        &self,
        _request: &AdmissionRequest<'_>,
        _object: &dyn Object,
        _registry: &Registry,
        _warnings: &mut Vec<String>,
    ) -> ApiResult<()> {
        Ok(())
    }

    /// Refuses a deletion.
    async fn check_delete(&self, _request: &AdmissionRequest<'_>) -> ApiResult<()> {
        Ok(())
    }
}

/// All plugins, in upstream's order.
pub(crate) struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
    addresses: Arc<ServiceAddresses>,
    /// The registry that asks; it is made after its admission.
    registry: OnceLock<Weak<Registry>>,
}

impl Chain {
    /// The plugins; cluster IPs and node ports come from `addresses`, and `authorizer` says what somebody may do.
    pub(crate) fn new(addresses: Arc<ServiceAddresses>, authorizer: Arc<Union>) -> Self {
        Self {
            plugins: vec![
                Box::new(NamespaceLifecycle),
                Box::new(LimitRanger),
                Box::new(ServiceAccount),
                Box::new(NodeRestriction),
                Box::new(TaintNodesByCondition),
                Box::new(PodSecurity),
                Box::new(Priority),
                Box::new(DefaultTolerationSeconds),
                Box::new(DefaultStorageClass),
                Box::new(StorageObjectInUseProtection),
                Box::new(PersistentVolumeClaimResize),
                Box::new(RuntimeClass),
                Box::new(CertificateRequester),
                Box::new(CertificateSigners(authorizer.clone())),
                Box::new(Escalation(authorizer)),
                Box::new(DefaultIngressClass),
                Box::new(PodTopologyLabels),
                Box::new(DeviceAdminAccess),
                Box::new(ResourceQuota::default()),
            ],
            addresses,
            registry: OnceLock::new(),
        }
    }

    /// Says which registry the plugins read from.
    pub(crate) fn attach(&self, registry: &Arc<Registry>) {
        // A second registry would be a second server, which has a chain of its own.
        let _ = self.registry.set(Arc::downgrade(registry));
    }

    fn registry(&self) -> ApiResult<Arc<Registry>> {
        self.registry
            .get()
            .and_then(Weak::upgrade)
            .ok_or_else(|| ApiError::unavailable("the server is not ready"))
    }
}

#[async_trait]
impl Admission for Chain {
    async fn admit(&self, request: &AdmissionRequest<'_>, object: &mut dyn Object) -> ApiResult<()> {
        let registry = self.registry()?;
        for plugin in &self.plugins {
            plugin.admit(request, object, &registry).await?;
        }
        self.addresses.admit(request, object, &registry).await
    }

    async fn validate(&self, request: &AdmissionRequest<'_>, object: &dyn Object) -> ApiResult<Vec<String>> {
        let registry = self.registry()?;
        let mut warnings = Vec::new();
        for plugin in &self.plugins {
            plugin.validate(request, object, &registry, &mut warnings).await?;
        }
        Ok(warnings)
    }

    async fn check_delete(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        for plugin in &self.plugins {
            plugin.check_delete(request).await?;
        }
        Ok(())
    }

    async fn released(&self, _info: &KindInfo, object: &dyn Object) {
        self.addresses.released(object);
    }
}

/// A pod that is being created, when that is what a request does.
fn new_pod<'a>(
    request: &AdmissionRequest<'_>,
    object: &'a mut dyn Object,
) -> Option<&'a mut k8s_openapi::api::core::v1::Pod> {
    let creating = request.operation == crate::registry::Operation::Create && request.subresource.is_none();
    if creating {
        object.as_any_mut().downcast_mut()
    } else {
        None
    }
}

/// The name that a refusal shows: before a name is generated, what it will begin with.
fn shown_name(request: &AdmissionRequest<'_>, meta: &ObjectMeta) -> String {
    if !request.name.is_empty() {
        return request.name.to_string();
    }
    let mut given = [&meta.name, &meta.generate_name].into_iter().flatten();
    given
        .find(|name| !name.is_empty())
        .cloned()
        .unwrap_or_else(|| "Unknown!".into())
}

/// Of several classes that want to be the default, the newest, by name when they are as new.
fn newest<K: k8s_openapi::Metadata<Ty = ObjectMeta>>(classes: Vec<K>) -> Option<K> {
    classes.into_iter().min_by_key(|class| {
        let meta = class.metadata();
        let created = meta.creation_timestamp.as_ref().map(|time| time.0);
        (std::cmp::Reverse(created), meta.name.clone())
    })
}

#[cfg(test)]
mod testing {
    use super::*;
    use crate::registry::Operation;
    use crate::user::UserInfo;

    /// A request to create an object, for a plugin's own test.
    pub(super) fn creation<'a>(info: &'a KindInfo, user: &'a UserInfo) -> AdmissionRequest<'a> {
        AdmissionRequest {
            info,
            namespace: "default",
            name: "x",
            operation: Operation::Create,
            subresource: None,
            old: None,
            user,
            dry_run: false,
        }
    }
}
