//! A deployment's status: counts, and the conditions `Available`, `Progressing` and `ReplicaFailure` (`progress.go`).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::sizes::{available, max_unavailable, replicas};

pub(super) const AVAILABLE: &str = "Available";
pub(super) const PROGRESSING: &str = "Progressing";
pub(super) const REPLICA_FAILURE: &str = "ReplicaFailure";
pub(super) const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub(super) const PAUSED: &str = "DeploymentPaused";

/// A condition as of now.
pub(super) fn new_condition(
    type_: &str,
    status: &str,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(type_.to_string()),
        status: Some(status.to_string()),
        reason: Some(reason.to_string()),
        message: Some(message.into()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// The condition of this type.
pub(super) fn condition<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    conditions
        .iter()
        .find(|condition| condition.type_.as_deref() == Some(type_))
}

/// The reason of the `Progressing` condition; empty without it.
pub(super) fn progress_reason(status: &DeploymentStatus) -> &str {
    condition(status, PROGRESSING)
        .and_then(|condition| condition.reason.as_deref())
        .unwrap_or_default()
}

/// Replaces the condition of the same type, unless status and reason are what they were.
pub(super) fn set_condition(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    let type_ = new.type_.clone().unwrap_or_default();
    if let Some(old) = condition(status, &type_)
        && old.status == new.status
    {
        if old.reason == new.reason {
            return;
        }
        new.last_transition_time = old.last_transition_time.clone();
    }
    remove_condition(status, &type_);
    status.conditions.get_or_insert_default().push(new);
}

/// Takes the condition of this type away.
pub(super) fn remove_condition(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_.as_deref() != Some(type_));
    }
    status.conditions.take_if(|conditions| conditions.is_empty());
}

/// `spec.progressDeadlineSeconds`, if there is a deadline at all.
pub(super) fn progress_deadline(deployment: &Deployment) -> Option<SignedDuration> {
    let seconds = deployment
        .spec
        .progress_deadline_seconds
        .filter(|seconds| *seconds != i32::MAX)?;
    Some(SignedDuration::from_secs(i64::from(seconds)))
}

fn sum<'a>(sets: impl Iterator<Item = &'a ReplicaSet>, of: impl Fn(&ReplicaSet) -> i32) -> i32 {
    sets.map(of).fold(0, i32::saturating_add)
}

/// `status.replicas`.
pub(super) fn actual_replicas(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

/// A count as Kubernetes writes it: without zeros.
fn unless_zero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// The counts and the `Available` condition that the replica sets make; the other conditions stay.
pub(super) fn calculate(
    deployment: &Deployment,
    sets: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let all = || sets.iter().copied();
    let total = sum(all(), actual_replicas);
    let available = sum(all(), available);
    let terminating: Option<Vec<i32>> = all()
        .map(|set| set.status.as_ref().and_then(|status| status.terminating_replicas))
        .collect();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation.max(old.observed_generation),
        replicas: unless_zero(total),
        updated_replicas: unless_zero(new.map_or(0, actual_replicas)),
        ready_replicas: unless_zero(sum(all(), |set| {
            set.status
                .as_ref()
                .and_then(|status| status.ready_replicas)
                .unwrap_or(0)
        })),
        available_replicas: unless_zero(available),
        unavailable_replicas: unless_zero(total.saturating_sub(available).max(0)),
        terminating_replicas: terminating.map(|counts| counts.into_iter().fold(0, i32::saturating_add)),
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    let least = replicas(deployment) - max_unavailable(deployment);
    let condition = if available >= least {
        new_condition(
            AVAILABLE,
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
            now,
        )
    } else {
        new_condition(
            AVAILABLE,
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
            now,
        )
    };
    set_condition(&mut status, condition);
    status
}

/// Whether all pods are of the new template and available, and no old ones are left (`DeploymentComplete`).
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = replicas(deployment);
    status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.observed_generation >= deployment.metadata.generation
}

/// Whether the new status is nearer to the end than the old one (`DeploymentProgressing`).
fn is_progressing(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let outdated =
        |status: &DeploymentStatus| status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
    new.updated_replicas > old.updated_replicas
        || outdated(new) < outdated(old)
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

/// When the rollout is late, if it makes no progress until then.
fn deadline(deployment: &Deployment, status: &DeploymentStatus) -> Option<Timestamp> {
    let updated = condition(status, PROGRESSING)?.last_update_time.as_ref()?;
    updated.0.checked_add(progress_deadline(deployment)?).ok()
}

fn is_late(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    match progress_reason(status) {
        NEW_SET_AVAILABLE => false,
        TIMED_OUT => true,
        _ => deadline(deployment, status).is_some_and(|deadline| deadline < now),
    }
}

/// How long to wait before looking whether the rollout is late (`requeueStuckDeployment`).
pub(super) fn next_check(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<SignedDuration> {
    if is_complete(deployment, status) || progress_reason(status) == TIMED_OUT {
        return None;
    }
    // One second more, for times are stored in whole seconds.
    let left = deadline(deployment, status)?.duration_since(now) + SignedDuration::from_secs(1);
    Some(left.max(SignedDuration::from_secs(1)))
}

/// The status of a rollout, with its progress (`syncRolloutStatus`).
pub(super) fn of_rollout(
    deployment: &Deployment,
    sets: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let mut status = calculate(deployment, sets, new, now);
    let has_deadline = progress_deadline(deployment).is_some();
    if !has_deadline {
        remove_condition(&mut status, PROGRESSING);
    }
    let was_complete =
        status.replicas == status.updated_replicas && progress_reason(&old) == NEW_SET_AVAILABLE;
    if has_deadline && !was_complete {
        let subject = match new {
            Some(set) => format!(
                "ReplicaSet \"{}\"",
                set.metadata.name.as_deref().unwrap_or_default()
            ),
            None => format!(
                "Deployment \"{}\"",
                deployment.metadata.name.as_deref().unwrap_or_default()
            ),
        };
        if is_complete(deployment, &status) {
            let message = format!("{subject} has successfully progressed.");
            set_condition(
                &mut status,
                new_condition(PROGRESSING, "True", NEW_SET_AVAILABLE, message, now),
            );
        } else if is_progressing(&old, &status) {
            let message = format!("{subject} is progressing.");
            let mut condition_ = new_condition(PROGRESSING, "True", "ReplicaSetUpdated", message, now);
            if let Some(old) = condition(&old, PROGRESSING) {
                if old.status.as_deref() == Some("True") {
                    condition_.last_transition_time = old.last_transition_time.clone();
                }
                // Set anew even if the reason stays, for its update time restarts the deadline.
                remove_condition(&mut status, PROGRESSING);
            }
            set_condition(&mut status, condition_);
        } else if is_late(deployment, &status, now) {
            let message = format!("{subject} has timed out progressing.");
            set_condition(
                &mut status,
                new_condition(PROGRESSING, "False", TIMED_OUT, message, now),
            );
        }
    }
    match replica_failure(sets, new) {
        Some(failure) => set_condition(&mut status, failure),
        None => remove_condition(&mut status, REPLICA_FAILURE),
    }
    status
}

/// What a replica set fails with; the new one's failure comes first.
fn replica_failure(sets: &[&ReplicaSet], new: Option<&ReplicaSet>) -> Option<DeploymentCondition> {
    let of = |set: &ReplicaSet| {
        let conditions = set.status.as_ref()?.conditions.as_deref()?;
        let failure = conditions
            .iter()
            .find(|condition| condition.type_.as_deref() == Some(REPLICA_FAILURE))?;
        Some(DeploymentCondition {
            type_: failure.type_.clone(),
            status: failure.status.clone(),
            reason: failure.reason.clone(),
            message: failure.message.clone(),
            last_update_time: failure.last_transition_time.clone(),
            last_transition_time: failure.last_transition_time.clone(),
        })
    };
    new.and_then(of).or_else(|| sets.iter().find_map(|set| of(set)))
}
