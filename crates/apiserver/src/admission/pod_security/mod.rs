//! PodSecurity: a namespace says by its labels which security standard its pods must meet, which one is warned about, and
//! which one is audited.

mod baseline;
mod policy;
mod restricted;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use async_trait::async_trait;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    Container, Namespace, Pod, PodSpec, PodTemplate, PodTemplateSpec, ReplicationController,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skiff_api::{Errors, Object, Path, Subresource};

use super::{Plugin, shown_name};
use crate::error::{ApiError, ApiResult};
use crate::objects::all;
use crate::registry::{AdmissionRequest, Operation, Registry};

use policy::{Level, Standard, Subject, Version, described, violations};

const PREFIX: &str = "pod-security.kubernetes.io/";
/// How many pods are looked at when a namespace's standard is raised.
const MOST_PODS: usize = 3000;

pub(super) struct PodSecurity;

#[async_trait]
impl Plugin for PodSecurity {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: &dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        if object.as_any().is::<Namespace>() {
            return check_namespace(request, object, registry);
        }
        let Some((meta, spec, is_pod)) = subject_of(object) else {
            return Ok(());
        };
        if !is_significant(request, object, is_pod) {
            return Ok(());
        }
        let labels = registry
            .resource("", "v1", "namespaces")
            .and_then(|namespaces| namespaces.at_hand("", request.namespace))
            .map(|namespace| namespace.facts().labels.clone())
            .unwrap_or_default();
        let (policy, _) = Policy::of(&labels);
        let subject = Subject { meta, spec };
        if is_pod {
            let found = violations(policy.enforce, subject);
            if !found.is_empty() {
                let why = format!(
                    "violates PodSecurity \"{}\": {}",
                    policy.enforce,
                    described(&found)
                );
                let shown = shown_name(request, object.metadata());
                return Err(ApiError::forbidden(request.info, &shown, &why));
            }
        }
        let found = violations(policy.warn, subject);
        if !found.is_empty() {
            request.warnings.add(format!(
                "would violate PodSecurity \"{}\": {}",
                policy.warn,
                described(&found)
            ));
        }
        Ok(())
    }
}

/// What a namespace's labels say. Audit logs are not written, so what they would be about is not looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Policy {
    enforce: Standard,
    warn: Standard,
}

impl Policy {
    /// The policy, and what is wrong with the labels. A level that cannot be read is taken for the strictest where it is
    /// enforced, and for none where it is not.
    fn of(labels: &BTreeMap<String, String>) -> (Self, Errors) {
        let mut errors = Errors::new();
        let mut policy = Self {
            enforce: Standard::PRIVILEGED,
            warn: Standard::PRIVILEGED,
        };
        let mut audit = Standard::PRIVILEGED;
        for (mode, standard, unreadable) in [
            ("enforce", &mut policy.enforce, Level::Restricted),
            ("audit", &mut audit, Level::Privileged),
            ("warn", &mut policy.warn, Level::Privileged),
        ] {
            let mut wrong = |key: &str, value: &str, why: &str| {
                errors.invalid(&Path::new("metadata.labels").key(key), value, why);
            };
            let key = format!("{PREFIX}{mode}");
            if let Some(value) = labels.get(&key) {
                standard.level = Level::named(value).unwrap_or_else(|| {
                    wrong(&key, value, "must be one of privileged, baseline, restricted");
                    unreadable
                });
            }
            let key = format!("{PREFIX}{mode}-version");
            if let Some(value) = labels.get(&key) {
                standard.version = Version::named(value).unwrap_or_else(|| {
                    wrong(&key, value, "must be \"latest\" or \"v1.x\"");
                    Version::Latest
                });
            }
        }
        // Who is refused pods is also warned of what would make them.
        if !labels.contains_key(&format!("{PREFIX}warn")) && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if !labels.contains_key(&format!("{PREFIX}warn-version")) {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }
}

/// The pod that an object is or makes pods from.
fn subject_of(object: &dyn Object) -> Option<(&ObjectMeta, &PodSpec, bool)> {
    fn template(template: &PodTemplateSpec) -> Option<(&ObjectMeta, &PodSpec, bool)> {
        static NONE: std::sync::LazyLock<ObjectMeta> = std::sync::LazyLock::new(ObjectMeta::default);
        Some((
            template.metadata.as_ref().unwrap_or(&NONE),
            template.spec.as_ref()?,
            false,
        ))
    }
    let any = object.as_any();
    if let Some(pod) = any.downcast_ref::<Pod>() {
        Some((&pod.metadata, pod.spec.as_ref()?, true))
    } else if let Some(owner) = any.downcast_ref::<Deployment>() {
        template(&owner.spec.template)
    } else if let Some(owner) = any.downcast_ref::<ReplicaSet>() {
        template(owner.spec.template.as_ref()?)
    } else if let Some(owner) = any.downcast_ref::<StatefulSet>() {
        template(&owner.spec.template)
    } else if let Some(owner) = any.downcast_ref::<DaemonSet>() {
        template(&owner.spec.template)
    } else if let Some(owner) = any.downcast_ref::<Job>() {
        template(&owner.spec.as_ref()?.template)
    } else if let Some(owner) = any.downcast_ref::<CronJob>() {
        template(&owner.spec.job_template.spec.as_ref()?.template)
    } else if let Some(owner) = any.downcast_ref::<ReplicationController>() {
        template(owner.spec.as_ref()?.template.as_ref()?)
    } else if let Some(owner) = any.downcast_ref::<PodTemplate>() {
        template(owner.template.as_ref()?)
    } else {
        None
    }
}

/// Whether a write can change what the standards are about.
fn is_significant(request: &AdmissionRequest<'_>, object: &dyn Object, is_pod: bool) -> bool {
    if !is_pod {
        return request.subresource.is_none();
    }
    let ignored = matches!(
        request.subresource,
        Some(Subresource::Status | Subresource::Binding | Subresource::Eviction)
    );
    fn pod(object: &dyn Object) -> Option<&Pod> {
        object.as_any().downcast_ref()
    }
    match (ignored, request.old.and_then(pod), pod(object)) {
        (true, ..) => false,
        (false, Some(old), Some(new)) => changes_containers(new, old),
        _ => true,
    }
}

fn changes_containers(new: &Pod, old: &Pod) -> bool {
    let empty = PodSpec::default();
    let (new, old) = (
        new.spec.as_ref().unwrap_or(&empty),
        old.spec.as_ref().unwrap_or(&empty),
    );
    fn images(containers: &[Container]) -> impl Iterator<Item = Option<&str>> {
        containers.iter().map(|container| container.image.as_deref())
    }
    fn starting(spec: &PodSpec) -> impl Iterator<Item = Option<&str>> {
        images(spec.init_containers.as_deref().unwrap_or_default())
    }
    fn added(spec: &PodSpec) -> BTreeMap<&str, Option<&str>> {
        let added = spec.ephemeral_containers.iter().flatten();
        added
            .map(|container| (container.name.as_str(), container.image.as_deref()))
            .collect()
    }
    images(&new.containers).ne(images(&old.containers))
        || starting(new).ne(starting(old))
        || added(new) != added(old)
}

fn check_namespace(
    request: &AdmissionRequest<'_>,
    object: &dyn Object,
    registry: &Registry,
) -> ApiResult<()> {
    if request.subresource.is_some() {
        return Ok(());
    }
    let none = BTreeMap::new();
    let labels = |object: &dyn Object| object.metadata().labels.clone();
    let (new, errors) = Policy::of(labels(object).as_ref().unwrap_or(&none));
    let name = shown_name(request, object.metadata());
    let invalid = || Err(ApiError::invalid(request.info, &name, &errors));
    let Some(old) = request.old.filter(|_| request.operation == Operation::Update) else {
        return if errors.is_empty() { Ok(()) } else { invalid() };
    };
    let (old, old_errors) = Policy::of(labels(old).as_ref().unwrap_or(&none));
    if !errors.is_empty() && (old_errors.is_empty() || errors.aggregate() != old_errors.aggregate()) {
        return invalid();
    }
    let relaxed = new.enforce.version == old.enforce.version && new.enforce.level <= old.enforce.level;
    if new.enforce.level == Level::Privileged || relaxed {
        return Ok(());
    }
    request
        .warnings
        .extend(warnings_about(&name, new.enforce, all::<Pod>(registry, &name)));
    Ok(())
}

/// What to say of pods that are there and would not be let in any more: each kind of violation once, with the first pod.
fn warnings_about(namespace: &str, standard: Standard, pods: Vec<Pod>) -> Vec<String> {
    let total = pods.len();
    let mut by_reason: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in pods.into_iter().take(MOST_PODS) {
        let Some(spec) = &pod.spec else { continue };
        let subject = Subject {
            meta: &pod.metadata,
            spec,
        };
        let found = violations(standard, subject);
        if found.is_empty() {
            continue;
        }
        let reasons: Vec<String> = found.into_iter().map(|violation| violation.reason).collect();
        let name = pod.metadata.name.clone().unwrap_or_default();
        let (first, count) = by_reason
            .entry(reasons.join(", "))
            .or_insert_with(|| (name.clone(), 0));
        if name < *first {
            *first = name;
        }
        *count += 1;
    }
    let mut said = Vec::new();
    if total > MOST_PODS {
        said.push(format!(
            "new PodSecurity enforce level only checked against the first {MOST_PODS} of {total} existing pods"
        ));
    }
    if !by_reason.is_empty() {
        said.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{standard}\""
        ));
    }
    let mut of_pods: Vec<String> = by_reason
        .into_iter()
        .map(|(reasons, (first, count))| match count {
            1 => format!("{first}: {reasons}"),
            2 => format!("{first} (and 1 other pod): {reasons}"),
            more => format!("{first} (and {} other pods): {reasons}", more - 1),
        })
        .collect();
    of_pods.sort();
    said.extend(of_pods);
    said
}
