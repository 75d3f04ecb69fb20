//! What a resize may change of a pod's resources (`ValidatePodResize`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::slice;
use crate::field::{Errors, Path};
use crate::pod;
use crate::same::same;

type Amounts = BTreeMap<String, Text>;

const ONLY: &str = "only cpu and memory resources are mutable";

/// Checks a resize; the new pod as a whole has been checked already.
pub(super) fn validate(new: &Pod, old: &Pod, errors: &mut Errors) {
    let none = PodSpec::default();
    let wanted = new.spec.as_ref().unwrap_or(&none);
    let before = old.spec.as_ref().unwrap_or(&none);
    let path = Path::new("spec");
    let found = errors.iter().len();
    let class_of = |pod: &Pod| pod.status.as_ref().and_then(|status| status.qos_class.clone());
    let class = class_of(old)
        .filter(|class| !class.is_empty())
        .unwrap_or_else(|| pod::qos_class(before).name().into());
    if class != pod::qos_class(wanted).name() {
        errors.invalid(
            &path,
            class_of(new).unwrap_or_default(),
            "Pod QOS Class may not change as a result of resizing",
        );
    }
    if !is_supported(old) {
        errors.forbidden(&path, "Pod running on node without support for resize");
    }
    let mut rest = wanted.clone();
    if has_own(before) || has_own(wanted) {
        validate_pod_level(
            wanted.resources.as_ref(),
            before.resources.as_ref(),
            &path,
            errors,
        );
        rest.resources = with_compute_of(rest.resources.take(), before.resources.as_ref());
        if !same(&rest.resources, &before.resources) {
            errors.forbidden(&path, "only cpu and memory resources are mutable at pod-level");
        }
    }
    if !validate_order(wanted, before, &path, errors) {
        return;
    }
    let (init, old_init) = (slice(&wanted.init_containers), slice(&before.init_containers));
    for (list, new, old) in [
        ("initContainers", init, old_init),
        ("containers", &wanted.containers, &before.containers),
    ] {
        for (index, (new, old)) in new.iter().zip(old).enumerate() {
            let path = path.child(list).index(index).child("resources");
            let none = ResourceRequirements::default();
            let (new, old) = (
                new.resources.as_ref().unwrap_or(&none),
                old.resources.as_ref().unwrap_or(&none),
            );
            if is_removed(&new.requests, &old.requests) {
                errors.forbidden(&path.child("requests"), "resource requests cannot be removed");
            }
            if is_removed(&new.limits, &old.limits) {
                errors.forbidden(&path.child("limits"), "resource limits cannot be removed");
            }
        }
    }
    for (new, old) in rest.containers.iter_mut().zip(&before.containers) {
        put_back(new, old);
        if !same(new, old) {
            errors.forbidden(&path, ONLY);
        }
    }
    for (index, (new, old)) in rest
        .init_containers
        .iter_mut()
        .flatten()
        .zip(old_init)
        .enumerate()
    {
        let path = path.child("initContainers").index(index);
        let is_modified = !same(new, old);
        put_back(new, old);
        if !same(new, old) {
            errors.forbidden(
                &path,
                "only cpu and memory resources for init or sidecar containers are mutable",
            );
        }
        let restarts = slice(&new.resize_policy)
            .iter()
            .filter(|policy| policy.restart_policy == "RestartContainer");
        if is_modified && !pod::is_sidecar(new) {
            for _ in restarts {
                errors.forbidden(
                    &path,
                    "non-sidecar init containers with a resize policy of RestartContainer cannot be resized",
                );
            }
        }
    }
    if errors.iter().len() == found && !same(&rest, before) {
        errors.forbidden(&path, ONLY);
    }
}

/// A node that resizes pods says what resources their running containers have.
fn is_supported(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| slice(&status.container_statuses));
    let mut running = statuses
        .into_iter()
        .filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
    running.next().is_none_or(|status| status.resources.is_some())
}

fn has_own(spec: &PodSpec) -> bool {
    let some = |amounts: &Option<Amounts>| amounts.as_ref().is_some_and(|amounts| !amounts.is_empty());
    spec.resources
        .as_ref()
        .is_some_and(|own| some(&own.requests) || some(&own.limits))
}

fn validate_pod_level(
    new: Option<&ResourceRequirements>,
    old: Option<&ResourceRequirements>,
    path: &Path,
    errors: &mut Errors,
) {
    let path = path.child("resources");
    match (new, old) {
        (None, Some(_)) => errors.forbidden(&path, "pod-level resources cannot be removed"),
        (Some(new), Some(old)) => {
            if is_removed(&new.requests, &old.requests) {
                errors.forbidden(
                    &path.child("requests"),
                    "pod-level resource requests cannot be removed",
                );
            }
            if is_removed(&new.limits, &old.limits) {
                errors.forbidden(
                    &path.child("limits"),
                    "pod-level resource limits cannot be removed",
                );
            }
        }
        (_, None) => {}
    }
}

fn is_removed(new: &Option<Amounts>, old: &Option<Amounts>) -> bool {
    let has = |name: &String| new.as_ref().is_some_and(|new| new.contains_key(name));
    old.iter().flatten().any(|(name, _)| !has(name))
}

/// Whether the containers are the same ones, in the same order.
fn validate_order(new: &PodSpec, old: &PodSpec, path: &Path, errors: &mut Errors) -> bool {
    let before = errors.iter().len();
    let lists = [
        ("containers", new.containers.as_slice(), old.containers.as_slice()),
        (
            "initContainers",
            slice(&new.init_containers),
            slice(&old.init_containers),
        ),
    ];
    for (list, new, old) in lists {
        let path = path.child(list);
        if new.len() != old.len() {
            errors.forbidden(&path, &format!("{list} may not be added or removed on resize"));
            continue;
        }
        for (index, _) in new
            .iter()
            .zip(old)
            .enumerate()
            .filter(|(_, (new, old))| new.name != old.name)
        {
            errors.forbidden(
                &path.index(index).child("name"),
                &format!("{list} may not be renamed or reordered on resize"),
            );
        }
    }
    errors.iter().len() == before
}

/// Takes the processor and memory of a container as they were; what then differs is what may not change.
fn put_back(container: &mut Container, old: &Container) {
    let masked = with_compute_of(
        Some(container.resources.take().unwrap_or_default()),
        old.resources.as_ref(),
    );
    container.resources = masked.map(|masked| ResourceRequirements {
        claims: None,
        ..masked
    });
}

fn with_compute_of(
    new: Option<ResourceRequirements>,
    old: Option<&ResourceRequirements>,
) -> Option<ResourceRequirements> {
    let masked = |new: Option<Amounts>, old: Option<&Amounts>| -> Option<Amounts> {
        let mut amounts = new.unwrap_or_default();
        for name in ["cpu", "memory"] {
            amounts.remove(name);
            if let Some(amount) = old.and_then(|old| old.get(name)) {
                amounts.insert(name.into(), amount.clone());
            }
        }
        (!amounts.is_empty()).then_some(amounts)
    };
    let new = new?;
    let masked = ResourceRequirements {
        requests: masked(new.requests, old.and_then(|old| old.requests.as_ref())),
        limits: masked(new.limits, old.and_then(|old| old.limits.as_ref())),
        claims: new.claims,
    };
    (old.is_some() || masked != ResourceRequirements::default()).then_some(masked)
}
