//! What a resize may change of a pod's resources.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::{annotation, slice};
use crate::field::{Errors, Path};
use crate::pod;
use crate::quantity::Quantity;

pub(super) fn validate(new: &Pod, old: &Pod, errors: &mut Errors) {
    let root = Path::new("");
    let (wanted, before) = (
        new.spec.clone().unwrap_or_default(),
        old.spec.clone().unwrap_or_default(),
    );
    if annotation(old, pod::MIRROR_ANNOTATION).is_some() {
        return errors.forbidden(&root, "static pods cannot be resized");
    }
    if before.os.as_ref().is_some_and(|os| os.name == "windows") {
        return errors.forbidden(&root, "windows pods cannot be resized");
    }
    let path = Path::new("spec");
    if pod::qos_class(&wanted) != pod::qos_class(&before) {
        let class = new.status.as_ref().and_then(|status| status.qos_class.clone());
        errors.invalid(
            &path,
            class,
            "Pod QOS Class may not change as a result of resizing",
        );
    }
    let lists = [
        (
            "containers",
            wanted.containers.as_slice(),
            before.containers.as_slice(),
        ),
        (
            "initContainers",
            slice(&wanted.init_containers),
            slice(&before.init_containers),
        ),
    ];
    for (list, new, old) in lists {
        if new.len() != old.len() || new.iter().zip(old).any(|(new, old)| new.name != old.name) {
            errors.forbidden(&path, "only cpu and memory resources are mutable");
            continue;
        }
        for (index, (new, old)) in new.iter().zip(old).enumerate() {
            if list == "initContainers" && !pod::is_sidecar(old) {
                if new != old {
                    errors.forbidden(&path, "resources for non-sidecar init containers are immutable");
                }
                continue;
            }
            let empty = ResourceRequirements::default();
            validate_container_resize(
                new.resources.as_ref().unwrap_or(&empty),
                old.resources.as_ref().unwrap_or(&empty),
                new,
                &path.child(list).index(index).child("resources"),
                errors,
            );
        }
    }
}

fn validate_container_resize(
    new: &ResourceRequirements,
    old: &ResourceRequirements,
    container: &Container,
    path: &Path,
    errors: &mut Errors,
) {
    let amounts = |side: &Option<BTreeMap<String, Text>>| side.clone().unwrap_or_default();
    let sides = [
        ("requests", amounts(&new.requests), amounts(&old.requests)),
        ("limits", amounts(&new.limits), amounts(&old.limits)),
    ];
    let mut others = false;
    for (field, new, old) in &sides {
        if old.keys().any(|name| !new.contains_key(name)) {
            let what = field.trim_end_matches('s');
            errors.forbidden(&path.child(field), &format!("resource {what}s cannot be removed"));
        }
        let fixed = |amounts: &BTreeMap<String, Text>| -> BTreeMap<String, Text> {
            amounts
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "cpu" | "memory"))
                .map(|(name, amount)| (name.clone(), amount.clone()))
                .collect()
        };
        others |= fixed(new) != fixed(old);
    }
    if others {
        errors.forbidden(&Path::new("spec"), "only cpu and memory resources are mutable");
    }
    let restarts = slice(&container.resize_policy)
        .iter()
        .any(|policy| policy.resource_name == "memory" && policy.restart_policy == "RestartContainer");
    let memory = |side: &Option<BTreeMap<String, Text>>| {
        side.as_ref()
            .and_then(|amounts| amounts.get("memory"))
            .map(Quantity::of)
    };
    let at = path.child("limits").key("memory");
    match (memory(&new.limits), memory(&old.limits)) {
        (Some(wanted), Some(before)) if wanted < before && !restarts => errors.forbidden(
            &at,
            "memory limits cannot be decreased unless resizePolicy is RestartContainer",
        ),
        (Some(_), None) if !restarts => errors.forbidden(
            &at,
            "memory limits cannot be added unless resizePolicy is RestartContainer",
        ),
        _ => {}
    }
}
