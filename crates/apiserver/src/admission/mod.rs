//! Admission: what the cluster adds to objects, and what it refuses, before they are validated. One file a plugin, named
//! as upstream names them.

mod certificate_requester;
mod certificate_signers;
mod default_ingress_class;
mod default_storage_class;
pub(crate) mod default_toleration_seconds;
mod device_admin_access;
mod escalation;
mod limit_ranger;
pub(crate) mod namespace_lifecycle;
pub(crate) mod node_restriction;
mod persistent_volume_claim_resize;
mod pod_security;
mod pod_topology_labels;
mod priority;
mod request_signature;
mod resource_quota;
mod runtime_class;
mod service_account;
pub(crate) mod service_addresses;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;

use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skiff_api::{Errors, KindInfo, Object};

use crate::admission::certificate_requester::CertificateRequester;
use crate::admission::certificate_signers::{
    CertificateApproval, CertificateSigning, CertificateSubjectRestriction, ClusterTrustBundleAttest,
};
use crate::admission::default_ingress_class::DefaultIngressClass;
use crate::admission::default_storage_class::DefaultStorageClass;
use crate::admission::default_toleration_seconds::DefaultTolerationSeconds;
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
use crate::http::{AdmissionTimes, Passed, PluginTimes, Step};
use crate::registry::{Admission, AdmissionRequest, Operation, Registry};

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

    /// Refuses an object that is about to be written.
    async fn validate(
        &self,
        _request: &AdmissionRequest<'_>,
        _object: &dyn Object,
        _registry: &Registry,
    ) -> ApiResult<()> {
        Ok(())
    }

    /// Refuses a deletion.
    async fn check_delete(&self, _request: &AdmissionRequest<'_>) -> ApiResult<()> {
        Ok(())
    }
}

/// A plugin, and when it is called.
struct Called {
    plugin: Box<dyn Plugin>,
    /// For what it may change objects, and for what it may refuse them after that.
    admits: &'static [Operation],
    validates: &'static [Operation],
    /// What it takes; nothing is told of what upstream does outside of admission.
    times: Option<Arc<PluginTimes>>,
}

const NEVER: &[Operation] = &[];
const NEW: &[Operation] = &[Operation::Create];
const CHANGED: &[Operation] = &[Operation::Update];
const WRITTEN: &[Operation] = &[Operation::Create, Operation::Update];
const ALWAYS: &[Operation] = &[Operation::Create, Operation::Update, Operation::Delete];

/// All plugins, in upstream's order.
pub(crate) struct Chain {
    plugins: Vec<Called>,
    times: Arc<AdmissionTimes>,
    addresses: Arc<ServiceAddresses>,
    /// The registry that asks; it is made after its admission.
    registry: OnceLock<Weak<Registry>>,
}

impl Chain {
    /// The plugins; cluster IPs and node ports come from `addresses`, and `authorizer` says what somebody may do.
    pub(crate) fn new(
        addresses: Arc<ServiceAddresses>,
        authorizer: Arc<Union>,
        times: Arc<AdmissionTimes>,
    ) -> Self {
        let of = |name: &'static str, admits, validates, plugin: Box<dyn Plugin>| Called {
            plugin,
            admits,
            validates,
            times: (!name.is_empty()).then(|| times.of_plugin(name)),
        };
        Self {
            plugins: vec![
                of("NamespaceLifecycle", ALWAYS, NEVER, Box::new(NamespaceLifecycle)),
                of("LimitRanger", WRITTEN, WRITTEN, Box::new(LimitRanger)),
                of("ServiceAccount", WRITTEN, WRITTEN, Box::new(ServiceAccount)),
                of("NodeRestriction", ALWAYS, NEVER, Box::new(NodeRestriction)),
                of(
                    "TaintNodesByCondition",
                    NEW,
                    NEVER,
                    Box::new(TaintNodesByCondition),
                ),
                of("PodSecurity", NEVER, WRITTEN, Box::new(PodSecurity)),
                of("Priority", WRITTEN, ALWAYS, Box::new(Priority)),
                of(
                    "DefaultTolerationSeconds",
                    WRITTEN,
                    NEVER,
                    Box::new(DefaultTolerationSeconds),
                ),
                of("DefaultStorageClass", NEW, NEVER, Box::new(DefaultStorageClass)),
                of(
                    "StorageObjectInUseProtection",
                    NEW,
                    NEVER,
                    Box::new(StorageObjectInUseProtection),
                ),
                of(
                    "PersistentVolumeClaimResize",
                    NEVER,
                    CHANGED,
                    Box::new(PersistentVolumeClaimResize),
                ),
                of("RuntimeClass", NEW, NEW, Box::new(RuntimeClass)),
                of("", WRITTEN, NEVER, Box::new(CertificateRequester)),
                of(
                    "CertificateApproval",
                    NEVER,
                    CHANGED,
                    Box::new(CertificateApproval(authorizer.clone())),
                ),
                of(
                    "CertificateSigning",
                    NEVER,
                    CHANGED,
                    Box::new(CertificateSigning(authorizer.clone())),
                ),
                of(
                    "ClusterTrustBundleAttest",
                    NEVER,
                    WRITTEN,
                    Box::new(ClusterTrustBundleAttest(authorizer.clone())),
                ),
                of(
                    "CertificateSubjectRestriction",
                    NEVER,
                    NEW,
                    Box::new(CertificateSubjectRestriction),
                ),
                of("", WRITTEN, NEVER, Box::new(Escalation(authorizer))),
                of("DefaultIngressClass", NEW, NEVER, Box::new(DefaultIngressClass)),
                of("PodTopologyLabels", WRITTEN, NEVER, Box::new(PodTopologyLabels)),
                of("ResourceQuota", NEVER, WRITTEN, Box::<ResourceQuota>::default()),
            ],
            times,
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

/// Tells how long the parts of a step took, one after the other, and the whole.
struct Stopwatch {
    began: Instant,
    last: Instant,
    step: Step,
    operation: Operation,
}

impl Stopwatch {
    fn start(step: Step, operation: Operation) -> Self {
        let now = Instant::now();
        Self {
            began: now,
            last: now,
            step,
            operation,
        }
    }

    fn passed(&self, rejected: bool) -> Passed {
        Passed {
            step: self.step,
            operation: self.operation,
            rejected,
        }
    }

    /// A plugin is done.
    fn lap(&mut self, called: &Called, rejected: bool) {
        let now = Instant::now();
        if let Some(times) = &called.times {
            times.add(self.passed(rejected), now - self.last);
        }
        self.last = now;
    }

    /// All are, or one has refused.
    fn stop(self, times: &AdmissionTimes, rejected: bool) {
        times.add_step(self.passed(rejected), self.began.elapsed());
    }
}

#[async_trait]
impl Admission for Chain {
    async fn admit(&self, request: &AdmissionRequest<'_>, object: &mut dyn Object) -> ApiResult<()> {
        let registry = self.registry()?;
        let mut watch = Stopwatch::start(Step::Admit, request.operation);
        let called = self
            .plugins
            .iter()
            .filter(|called| called.admits.contains(&request.operation));
        for called in called {
            let admitted = called.plugin.admit(request, object, &registry).await;
            watch.lap(called, admitted.is_err());
            if admitted.is_err() {
                watch.stop(&self.times, true);
                return admitted;
            }
        }
        watch.stop(&self.times, false);
        self.addresses.admit(request, object, &registry).await
    }

    async fn examine(
        &self,
        request: &AdmissionRequest<'_>,
        object: &dyn Object,
        errors: &mut Errors,
    ) -> ApiResult<()> {
        let registry = self.registry()?;
        request_signature::examine(request, object, errors);
        device_admin_access::examine(request, object, &registry, errors).await
    }

    async fn validate(&self, request: &AdmissionRequest<'_>, object: &dyn Object) -> ApiResult<()> {
        let registry = self.registry()?;
        let mut watch = Stopwatch::start(Step::Validate, request.operation);
        let called = self
            .plugins
            .iter()
            .filter(|called| called.validates.contains(&request.operation));
        for called in called {
            let valid = called.plugin.validate(request, object, &registry).await;
            watch.lap(called, valid.is_err());
            if let Err(refusal) = valid {
                watch.stop(&self.times, true);
                return Err(refusal);
            }
        }
        watch.stop(&self.times, false);
        Ok(())
    }

    async fn check_delete(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        // There is nothing to change, so a plugin is asked once, in the step in which upstream asks it.
        for step in [Step::Admit, Step::Validate] {
            let mut watch = Stopwatch::start(step, Operation::Delete);
            for called in &self.plugins {
                let asked = if step == Step::Admit {
                    called.admits
                } else {
                    called.validates
                };
                if !asked.contains(&Operation::Delete) {
                    continue;
                }
                let checked = called.plugin.check_delete(request).await;
                watch.lap(called, checked.is_err());
                if checked.is_err() {
                    watch.stop(&self.times, true);
                    return checked;
                }
            }
            watch.stop(&self.times, false);
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
    let creating = request.operation == Operation::Create && request.subresource.is_none();
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
    use crate::Warnings;
    use crate::user::UserInfo;

    /// A request to create an object, for a plugin's own test.
    pub(super) fn creation<'a>(
        info: &'a KindInfo,
        user: &'a UserInfo,
        warnings: &'a Warnings,
    ) -> AdmissionRequest<'a> {
        AdmissionRequest {
            info,
            namespace: "default",
            name: "x",
            operation: Operation::Create,
            subresource: None,
            old: None,
            user,
            dry_run: false,
            warnings,
        }
    }
}
