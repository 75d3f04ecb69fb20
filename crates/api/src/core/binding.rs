//! Binding: the body of `pods/binding`, by which a scheduler gives a pod its node. It is not stored.

use k8s_openapi::api::core::v1::{Binding, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::field::{Errors, Path};
use crate::pod;

/// Checks the body.
pub fn validate(binding: &Binding, errors: &mut Errors) {
    let path = Path::new("target");
    let kind = binding.target.kind.as_deref().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        errors.not_supported(&path.child("kind"), kind, &["Node", "<empty>"]);
    }
    if binding.target.name.as_deref().unwrap_or_default().is_empty() {
        errors.required(&path.child("name"), "");
    }
}

/// Why a pod cannot be bound; each is a conflict (409).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// It is on its way out.
    #[error("pod {0} is being deleted, cannot be assigned to a host")]
    Deleted(String),
    /// It has a node already.
    #[error("pod {0} is already assigned to node {1:?}")]
    Assigned(String, String),
    /// Something still holds it back.
    #[error("pod {0} has non-empty .spec.schedulingGates")]
    Gated(String),
    /// The binding is meant for an earlier pod of the same name.
    #[error(
        "the UID in the precondition ({1}) does not match the UID in record ({2}). The object might have been deleted and then recreated"
    )]
    Uid(String, String, String),
}

/// Gives the pod its node, as the binding says: sets `spec.nodeName` and the `PodScheduled` condition, and adds the
/// binding's annotations and labels.
///
/// # Errors
/// When the pod has a node, is being deleted, is gated, or is not the one that is meant.
pub fn bind(pod: &mut Pod, binding: &Binding, now: jiff::Timestamp) -> Result<(), BindError> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    if let Some(uid) = binding.metadata.uid.as_ref().filter(|uid| !uid.is_empty()) {
        let actual = pod.metadata.uid.clone().unwrap_or_default();
        if *uid != actual {
            return Err(BindError::Uid(name, uid.clone(), actual));
        }
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Err(BindError::Deleted(name));
    }
    let node = pod::node_name(pod);
    if !node.is_empty() {
        return Err(BindError::Assigned(name, node.to_string()));
    }
    let spec = pod.spec.get_or_insert_default();
    if spec
        .scheduling_gates
        .as_ref()
        .is_some_and(|gates| !gates.is_empty())
    {
        return Err(BindError::Gated(name));
    }
    spec.node_name.clone_from(&binding.target.name);
    for (key, value) in binding.metadata.annotations.iter().flatten() {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(key.clone(), value.clone());
    }
    for (key, value) in binding.metadata.labels.iter().flatten() {
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(key.clone(), value.clone());
    }
    set_condition(
        pod,
        PodCondition {
            type_: "PodScheduled".into(),
            status: "True".into(),
            last_transition_time: Some(Time(now)),
            ..Default::default()
        },
    );
    Ok(())
}

/// Puts a condition in its place: one of the same type is replaced, and keeps its transition time if the status is the
/// same.
pub fn set_condition(pod: &mut Pod, mut condition: PodCondition) {
    let conditions = pod
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    match conditions.iter_mut().find(|known| known.type_ == condition.type_) {
        Some(known) => {
            if known.status == condition.status {
                condition
                    .last_transition_time
                    .clone_from(&known.last_transition_time);
            }
            if condition.observed_generation.is_none() {
                condition.observed_generation = known.observed_generation;
            }
            *known = condition;
        }
        None => conditions.push(condition),
    }
}
