//! What an update may change of a pod, through itself and through each of its subresources.

mod resize;
mod spec;
mod status;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, PodStatus};

use crate::field::{Errors, Path};
use crate::kind::{Kind, Subresource, Target};
use crate::pod;

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
        }
        Target::Subresource(Subresource::Resize) => {
            let wanted = new.spec.take().unwrap_or_default();
            new.spec = Some(resized(&wanted, before));
            new.status.clone_from(&old.status);
        }
        Target::Subresource(_) => {
            new.spec.clone_from(&old.spec);
            new.metadata
                .deletion_timestamp
                .clone_from(&old.metadata.deletion_timestamp);
            new.metadata
                .owner_references
                .clone_from(&old.metadata.owner_references);
            keep_in_status(new.status.get_or_insert_default(), old.status.as_ref());
            new.metadata.generation = old.metadata.generation;
            return;
        }
    }
    let generation = old.metadata.generation.unwrap_or(0);
    let same = new.spec.as_ref().unwrap_or(&none) == before;
    new.metadata.generation = match (same, generation) {
        (true, 0) => None,
        (true, generation) => Some(generation),
        (false, generation) => Some(generation.saturating_add(1)),
    };
}

/// A resize takes only the containers' resources from the request; another set of containers is left to the
/// validation to refuse.
fn resized(wanted: &PodSpec, before: &PodSpec) -> PodSpec {
    let take = |new: &[Container], old: &[Container]| -> Vec<Container> {
        let names = |all: &[Container]| -> Vec<String> { all.iter().map(|one| one.name.clone()).collect() };
        if names(new) != names(old) {
            return new.to_vec();
        }
        old.iter()
            .zip(new)
            .map(|(old, new)| Container {
                resources: new.resources.clone(),
                resize_policy: new.resize_policy.clone(),
                ..old.clone()
            })
            .collect()
    };
    PodSpec {
        containers: take(&wanted.containers, &before.containers),
        init_containers: before
            .init_containers
            .as_ref()
            .map(|old| take(slice(&wanted.init_containers), old)),
        resources: wanted.resources.clone().or_else(|| before.resources.clone()),
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
    for condition in new.conditions.iter_mut().flatten() {
        if condition.observed_generation.unwrap_or(0) == 0 {
            let known = old
                .conditions
                .iter()
                .flatten()
                .find(|known| known.type_ == condition.type_);
            condition.observed_generation = known.and_then(|known| known.observed_generation);
        }
    }
}

/// Checks what an update changes.
pub(super) fn validate(new: &Pod, old: &Pod, target: Target, errors: &mut Errors) {
    validate_mirror(new, old, errors);
    match target {
        Target::Main => spec::validate(new, old, errors),
        // Through these, too, the whole pod must be a valid one.
        Target::Subresource(Subresource::EphemeralContainers) => {
            Kind::validate(new, errors);
            validate_ephemeral(new, old, errors);
        }
        Target::Subresource(Subresource::Resize) => {
            Kind::validate(new, errors);
            resize::validate(new, old, errors);
        }
        Target::Subresource(_) => status::validate(new, old, errors),
    }
}

fn annotation<'p>(pod: &'p Pod, key: &str) -> Option<&'p String> {
    pod.metadata.annotations.as_ref().and_then(|all| all.get(key))
}

fn validate_mirror(new: &Pod, old: &Pod, errors: &mut Errors) {
    let key = pod::MIRROR_ANNOTATION;
    let path = Path::new("metadata.annotations").key(key);
    match (annotation(old, key), annotation(new, key)) {
        (Some(old), new) if Some(old) != new => {
            errors.forbidden(&path, "may not remove or update mirror pod annotation");
        }
        (None, Some(_)) => errors.forbidden(&path, "may not add mirror pod annotation"),
        _ => {}
    }
}

fn validate_ephemeral(new: &Pod, old: &Pod, errors: &mut Errors) {
    if annotation(old, pod::MIRROR_ANNOTATION).is_some() {
        return errors.forbidden(&Path::new(""), "static pods do not support ephemeral containers");
    }
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
        match wanted.get(known.name.as_str()) {
            None => errors.forbidden(
                &path,
                &format!(
                    "existing ephemeral containers {:?} may not be removed\n",
                    known.name
                ),
            ),
            Some(same) if *same != known => errors.forbidden(
                &path,
                &format!(
                    "existing ephemeral containers {:?} may not be changed\n",
                    known.name
                ),
            ),
            Some(_) => {}
        }
    }
}
