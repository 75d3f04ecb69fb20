//! What an update through the pod itself may change of its spec.

use k8s_openapi::api::core::v1::{
    Container, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
};
use serde_json::Value;

use super::slice;
use crate::core::pod_spec;
use crate::field::{Errors, Path};
use crate::internal;
use crate::names;

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
     `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
     tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const WHITESPACE: &str = "must not have leading or trailing whitespace";

/// Whether the containers are as many as before; their images are checked.
fn validate_containers(new: &[Container], old: &[Container], path: &Path, errors: &mut Errors) -> bool {
    if new.len() != old.len() {
        errors.forbidden(path, "pod updates may not add or remove containers");
        return false;
    }
    for (index, container) in new.iter().enumerate() {
        let image = container.image.as_deref().unwrap_or_default();
        if image.is_empty() {
            errors.required(&path.index(index).child("image"), "");
        }
        if image.trim() != image {
            errors.invalid(&path.index(index).child("image"), image, WHITESPACE);
        }
    }
    true
}

pub(super) fn validate(new: &Pod, old: &Pod, errors: &mut Errors) {
    let path = Path::new("spec");
    let none = PodSpec::default();
    let (new, old) = (
        new.spec.as_ref().unwrap_or(&none),
        old.spec.as_ref().unwrap_or(&none),
    );
    if new == old {
        return;
    }
    let (init, old_init) = (slice(&new.init_containers), slice(&old.init_containers));
    if !validate_containers(
        &new.containers,
        &old.containers,
        &path.child("containers"),
        errors,
    ) || !validate_containers(init, old_init, &path.child("initContainers"), errors)
    {
        return;
    }
    let deadline = path.child("activeDeadlineSeconds");
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            return errors.invalid(&deadline, seconds, names::range(0, i64::from(i32::MAX)));
        }
        (Some(seconds), Some(before)) if before < seconds => {
            return errors.invalid(&deadline, seconds, "must be less than or equal to previous value");
        }
        (None, Some(_)) => errors.invalid(
            &deadline,
            Value::Null,
            "must not update from a positive integer to nil value",
        ),
        _ => {}
    }
    pod_spec::validate_only_added_tolerations(
        slice(&new.tolerations),
        slice(&old.tolerations),
        &path.child("tolerations"),
        errors,
    );
    let gates = slice(&old.scheduling_gates);
    for (index, gate) in slice(&new.scheduling_gates).iter().enumerate() {
        if !gates.contains(gate) {
            errors.forbidden(
                &path.child("schedulingGates").index(index).child("name"),
                &format!(
                    "only deletion is allowed, but found new scheduling gate '{}'",
                    gate.name
                ),
            );
        }
    }
    // What may change is put back; what then differs is forbidden.
    let mut rest = new.clone();
    let images = |new: &mut [Container], old: &[Container]| {
        for (new, old) in new.iter_mut().zip(old) {
            new.image.clone_from(&old.image);
        }
    };
    images(&mut rest.containers, &old.containers);
    images(rest.init_containers.as_deref_mut().unwrap_or_default(), old_init);
    rest.active_deadline_seconds = old.active_deadline_seconds;
    rest.scheduling_gates.clone_from(&old.scheduling_gates);
    rest.tolerations.clone_from(&old.tolerations);
    let was_negative = old
        .termination_grace_period_seconds
        .is_some_and(|seconds| seconds < 0);
    if was_negative && rest.termination_grace_period_seconds == Some(1) {
        rest.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    if !gates.is_empty() {
        validate_gated(&mut rest, old, &path, errors);
    }
    if !crate::same::same(&rest, old) {
        let changes = crate::internal::difference("PodSpec", old, &rest);
        errors.forbidden(&path, &format!("{UPDATABLE}\n{changes}"));
    }
}

/// While it is gated, a pod may be steered to nodes more narrowly.
fn validate_gated(rest: &mut PodSpec, old: &PodSpec, path: &Path, errors: &mut Errors) {
    let (wanted, before) = (
        rest.node_selector.clone().unwrap_or_default(),
        old.node_selector.clone().unwrap_or_default(),
    );
    if before.iter().any(|(key, value)| wanted.get(key) != Some(value)) {
        errors.invalid(
            &path.child("nodeSelector"),
            &rest.node_selector,
            "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        );
    }
    rest.node_selector.clone_from(&old.node_selector);
    let affinity = |spec: &PodSpec| {
        spec.affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.clone())
    };
    validate_gated_affinity(
        affinity(rest).as_ref(),
        affinity(old).as_ref(),
        &path
            .child("affinity")
            .child("nodeAffinity")
            .child("requiredDuringSchedulingIgnoredDuringExecution")
            .child("nodeSelectorTerms"),
        errors,
    );
    let mut whole = rest.affinity.clone().unwrap_or_default();
    whole.node_affinity = affinity(old);
    rest.affinity = if old.affinity.is_none() && whole == Default::default() {
        None
    } else {
        Some(whole)
    };
}

fn validate_gated_affinity(
    new: Option<&NodeAffinity>,
    old: Option<&NodeAffinity>,
    path: &Path,
    errors: &mut Errors,
) {
    let terms = |affinity: Option<&NodeAffinity>| -> Vec<NodeSelectorTerm> {
        affinity
            .and_then(|affinity| {
                affinity
                    .required_during_scheduling_ignored_during_execution
                    .as_ref()
            })
            .map(|required| required.node_selector_terms.clone())
            .unwrap_or_default()
    };
    let (new, old) = (terms(new), terms(old));
    if old.is_empty() {
        return;
    }
    if new.len() != old.len() {
        return errors.invalid(
            path,
            internal::list("NodeSelectorTerm", &new),
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        );
    }
    let added = |new: &Option<Vec<NodeSelectorRequirement>>, old: &Option<Vec<NodeSelectorRequirement>>| {
        slice(new).starts_with(slice(old))
    };
    for (index, (new, old)) in new.iter().zip(&old).enumerate() {
        let was_empty = slice(&old.match_expressions).is_empty() && slice(&old.match_fields).is_empty();
        let only_added = added(&new.match_expressions, &old.match_expressions)
            && added(&new.match_fields, &old.match_fields)
            && (!was_empty || new == old);
        if !only_added {
            errors.invalid(
                &path.index(index),
                internal::of("NodeSelectorTerm", new),
                "only additions are allowed (no mutations or deletions)",
            );
        }
    }
}
