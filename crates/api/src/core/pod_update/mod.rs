//! What an update may change of a pod, through itself and through each of its subresources.

mod resize;
mod spec;
mod status;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, PodStatus};

use super::pod_spec::{annotations, disabled};
use crate::field::{Errors, Path};
use crate::internal::difference;
use crate::kind::{Kind, Subresource, Target};
use crate::meta;
use crate::pod;
use crate::same::same;

pub(super) use status::warnings as status_warnings;

fn slice<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

/// Carries over what cannot be changed here, and counts the generation.
pub(super) fn prepare(new: &mut Pod, old: &Pod, target: Target) {
    let none = PodSpec::default();
    let before = old.spec.as_ref().unwrap_or(&none);
    match target {
        Target::Main => new.status.clone_from(&old.status),
        // The server's own change of spec and status; upstream's binding raises no generation either.
        Target::Subresource(Subresource::Binding) => {
            new.metadata.generation = old.metadata.generation;
            return;
        }
        Target::Subresource(Subresource::EphemeralContainers) => {
            let containers = new.spec.take().and_then(|spec| spec.ephemeral_containers);
            new.spec = Some(PodSpec {
                ephemeral_containers: containers,
                ..before.clone()
            });
            new.status.clone_from(&old.status);
            meta::reset_for_status(&mut new.metadata, &old.metadata);
        }
        Target::Subresource(Subresource::Resize) => {
            let wanted = new.spec.take().unwrap_or_default();
            new.spec = Some(resized(wanted, before));
            new.status.clone_from(&old.status);
            meta::reset_for_status(&mut new.metadata, &old.metadata);
        }
        Target::Subresource(_) => {
            new.spec.clone_from(&old.spec);
            new.metadata
                .deletion_timestamp
                .clone_from(&old.metadata.deletion_timestamp);
            new.metadata
                .owner_references
                .clone_from(&old.metadata.owner_references);
            let status = new.status.get_or_insert_default();
            keep_in_status(status, old.status.as_ref());
            disabled::drop_from_status(status);
            new.metadata.generation = old.metadata.generation;
            return;
        }
    }
    let changed = !same(new.spec.as_ref().unwrap_or(&none), before);
    new.metadata.generation = meta::generation_after(&old.metadata, changed).filter(|&number| number != 0);
}

/// A resize takes only the resources from the request; another set of containers is left to the validation to refuse.
fn resized(wanted: PodSpec, before: &PodSpec) -> PodSpec {
    let (init, old_init) = (slice(&wanted.init_containers), slice(&before.init_containers));
    if wanted.containers.len() != before.containers.len() || init.len() != old_init.len() {
        return wanted;
    }
    let take = |new: &[Container], old: &[Container]| -> Vec<Container> {
        if new.iter().zip(old).any(|(new, old)| new.name != old.name) {
            return new.to_vec();
        }
        let pairs = old.iter().zip(new);
        pairs
            .map(|(old, new)| Container {
                resources: new.resources.clone(),
                resize_policy: new.resize_policy.clone(),
                ..old.clone()
            })
            .collect()
    };
    PodSpec {
        containers: take(&wanted.containers, &before.containers),
        init_containers: before.init_containers.as_ref().map(|old| take(init, old)),
        resources: wanted.resources.clone(),
        ..before.clone()
    }
}

/// What a status that leaves it out does not clear.
fn keep_in_status(new: &mut PodStatus, old: Option<&PodStatus>) {
    let Some(old) = old else { return };
    if new.qos_class.as_deref().unwrap_or_default().is_empty() {
        new.qos_class.clone_from(&old.qos_class);
    }
    if new.observed_generation.unwrap_or(0) == 0 {
        new.observed_generation = old.observed_generation;
    }
    // There may be several conditions of one type; they are taken in their order.
    let mut known: BTreeMap<&str, std::collections::VecDeque<Option<i64>>> = BTreeMap::new();
    for condition in slice(&old.conditions) {
        let generations = known.entry(&condition.type_).or_default();
        generations.push_back(condition.observed_generation);
    }
    for condition in new.conditions.iter_mut().flatten() {
        let before = known
            .get_mut(condition.type_.as_str())
            .and_then(|generations| generations.pop_front());
        if condition.observed_generation.unwrap_or(0) == 0 {
            condition.observed_generation = before.flatten();
        }
    }
}

/// Checks what an update changes.
pub(super) fn validate(new: &Pod, old: &Pod, target: Target, errors: &mut Errors) {
    // Nothing but this is said of a pod that its node takes from a file.
    let is_static = annotation(old, pod::MIRROR_ANNOTATION).is_some();
    let root = Path::new("");
    match target {
        Target::Main => {
            validate_annotations(new, old, errors);
            spec::validate(new, old, errors);
        }
        // Through these, too, the whole pod must be a valid one.
        Target::Subresource(Subresource::EphemeralContainers) => {
            if is_static {
                return errors.forbidden(&root, "static pods do not support ephemeral containers");
            }
            Kind::validate(new, errors);
            validate_annotations(new, old, errors);
            validate_ephemeral(new, old, errors);
        }
        Target::Subresource(Subresource::Resize) => {
            if is_static {
                return errors.forbidden(&root, "static pods cannot be resized");
            }
            let os = old.spec.as_ref().and_then(|spec| spec.os.as_ref());
            if os.is_some_and(|os| os.name == "windows") {
                return errors.forbidden(&root, "windows pods cannot be resized");
            }
            Kind::validate(new, errors);
            resize::validate(new, old, errors);
        }
        Target::Subresource(_) => {
            validate_annotations(new, old, errors);
            status::validate(new, old, errors);
        }
    }
}

fn annotation<'p>(pod: &'p Pod, key: &str) -> Option<&'p String> {
    pod.metadata.annotations.as_ref().and_then(|all| all.get(key))
}

/// Some annotations are as fixed as the fields that they stand for.
fn validate_annotations(new: &Pod, old: &Pod, errors: &mut Errors) {
    let path = Path::new("metadata.annotations");
    let fixed = |key: &str| {
        if key == pod::MIRROR_ANNOTATION {
            Some("mirror pod annotation")
        } else {
            key.starts_with(annotations::APP_ARMOR)
                .then_some("AppArmor annotations")
        }
    };
    let all = |pod: &'_ Pod| pod.metadata.annotations.clone().unwrap_or_default();
    let (wanted, before) = (all(new), all(old));
    for (key, value) in &before {
        if let Some(what) = fixed(key)
            && wanted.get(key) != Some(value)
        {
            errors.forbidden(&path.key(key), &format!("may not remove or update {what}"));
        }
    }
    for key in wanted.keys().filter(|key| !before.contains_key(*key)) {
        if let Some(what) = fixed(key) {
            errors.forbidden(&path.key(key), &format!("may not add {what}"));
        }
    }
    let none = PodSpec::default();
    annotations::validate(&new.metadata, new.spec.as_ref().unwrap_or(&none), &path, errors);
}

fn validate_ephemeral(new: &Pod, old: &Pod, errors: &mut Errors) {
    let path = Path::new("spec.ephemeralContainers");
    fn all(pod: &Pod) -> &[EphemeralContainer] {
        pod.spec
            .as_ref()
            .map(|spec| slice(&spec.ephemeral_containers))
            .unwrap_or_default()
    }
    let wanted: BTreeMap<&str, &EphemeralContainer> =
        all(new).iter().map(|one| (one.name.as_str(), one)).collect();
    for known in all(old) {
        let name = &known.name;
        match wanted.get(name.as_str()) {
            None => errors.forbidden(
                &path,
                &format!("existing ephemeral containers {name:?} may not be removed\n"),
            ),
            Some(wanted) if !same(*wanted, known) => {
                let changes = difference("EphemeralContainer", known, wanted);
                errors.forbidden(
                    &path,
                    &format!("existing ephemeral containers {name:?} may not be changed\n{changes}"),
                );
            }
            Some(_) => {}
        }
    }
}
