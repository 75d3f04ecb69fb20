//! What a disruption budget's status should say.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use skiff_api::policy::disruption;

use crate::deployment::{Round, scaled};
use crate::pods;

/// How long a pod that was evicted may stay before nobody believes that it will go (upstream's `DeletionTimeout`).
const DELETION: SignedDuration = SignedDuration::from_secs(2 * 60);
/// How long a pod may say that it is about to be disrupted before that is taken back.
const STALE: SignedDuration = SignedDuration::from_secs(2 * 60);

/// What is to be done about a budget.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Planned {
    /// The status that it should have; `None` when it has it.
    pub(super) status: Option<PodDisruptionBudgetStatus>,
    /// When to look again, though nothing happens.
    pub(super) recheck: Option<SignedDuration>,
    /// Pods that should have gone and did not.
    pub(super) not_deleted: Vec<Arc<Pod>>,
}

/// Whether the budget is a share of what the pods' controllers want, so that one has to ask for that.
pub(super) fn is_relative(spec: &PodDisruptionBudgetSpec) -> bool {
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(_), _) => true,
        (None, Some(IntOrString::String(_))) => true,
        (None, Some(IntOrString::Int(_)) | None) => false,
    }
}

/// How many pods there should be, and how many of them healthy.
fn expected(spec: &PodDisruptionBudgetSpec, pods: usize, wanted: i32) -> (i32, i32) {
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let away = scaled(Some(most), wanted, Round::Up);
            (wanted, wanted.saturating_sub(away).max(0))
        }
        (None, Some(IntOrString::Int(least))) => (i32::try_from(pods).unwrap_or(i32::MAX), *least),
        (None, least @ Some(IntOrString::String(_))) => (wanted, scaled(least.as_ref(), wanted, Round::Up)),
        (None, None) => (0, 0),
    }
}

/// Decides about a budget whose pods are these, and whose pods' controllers want so many.
pub(super) fn plan(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], wanted: i32, now: Timestamp) -> Planned {
    let spec = budget.spec.clone().unwrap_or_default();
    let before = budget.status.clone().unwrap_or_default();
    let (expected, desired) = expected(&spec, pods.len(), wanted);
    let mut planned = Planned::default();
    let disrupted = still_disrupted(&before, pods, now, &mut planned);
    let is_healthy = |pod: &Arc<Pod>| {
        let leaves = pod
            .metadata
            .name
            .as_ref()
            .is_some_and(|name| disrupted.contains_key(name));
        pod.metadata.deletion_timestamp.is_none() && !leaves && pods::is_ready(pod)
    };
    let healthy = pods.iter().filter(|pod| is_healthy(pod)).count();
    let healthy = i32::try_from(healthy).unwrap_or(i32::MAX);
    let allowed = if expected <= 0 {
        0
    } else {
        (healthy - desired).max(0)
    };
    let generation = budget.metadata.generation.unwrap_or(0);
    let unchanged = before.current_healthy.unwrap_or(0) == healthy
        && before.desired_healthy.unwrap_or(0) == desired
        && before.expected_pods.unwrap_or(0) == expected
        && before.disruptions_allowed.unwrap_or(0) == allowed
        && before.disrupted_pods.clone().unwrap_or_default() == disrupted
        && disruption::is_up_to_date(budget);
    if !unchanged {
        let mut status = PodDisruptionBudgetStatus {
            conditions: before.conditions,
            current_healthy: Some(healthy),
            desired_healthy: Some(desired),
            disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
            disruptions_allowed: Some(allowed),
            expected_pods: Some(expected),
            observed_generation: Some(generation),
        };
        disruption::refresh(&mut status, whole_seconds(now));
        planned.status = Some(status);
    }
    planned
}

/// The status of a budget that could not be calculated; `None` when it has it.
pub(super) fn failed(
    budget: &PodDisruptionBudget,
    message: String,
    now: Timestamp,
) -> Option<PodDisruptionBudgetStatus> {
    let before = budget.status.clone().unwrap_or_default();
    let mut status = before.clone();
    disruption::fail(&mut status, message, whole_seconds(now));
    (status != before).then_some(status)
}

fn whole_seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Which of the pods that were evicted are still to go.
fn still_disrupted(
    status: &PodDisruptionBudgetStatus,
    pods: &[Arc<Pod>],
    now: Timestamp,
    planned: &mut Planned,
) -> BTreeMap<String, Time> {
    let mut disrupted = BTreeMap::new();
    let Some(evicted) = &status.disrupted_pods else {
        return disrupted;
    };
    for pod in pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
    {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let Some(since) = evicted.get(&name) else { continue };
        let left = DELETION.saturating_sub(now.duration_since(since.0));
        if left.is_negative() {
            planned.not_deleted.push(pod.clone());
        } else {
            planned.recheck = Some(planned.recheck.map_or(left, |soonest| soonest.min(left)));
            disrupted.insert(name, since.clone());
        }
    }
    disrupted
}

/// After which time a pod's word that it is about to be disrupted is no longer believed; `None` when it says no such thing.
/// A pod that its kubelet ends may take as long as it likes.
pub(super) fn stale_after(pod: &Pod, now: Timestamp) -> Option<SignedDuration> {
    let condition = pods::condition(pod, "DisruptionTarget")?;
    let believed = pod.metadata.deletion_timestamp.is_some()
        || pods::is_terminated(pod)
        || condition.status != "True"
        || condition.reason.as_deref() == Some("TerminationByKubelet");
    if believed {
        return None;
    }
    let since = condition
        .last_transition_time
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let left = STALE.saturating_sub(now.duration_since(since));
    Some(left.max(SignedDuration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: i64 = 10_000;

    fn at(second: i64) -> Value {
        json!(Time(Timestamp::from_second(second).unwrap()))
    }

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    fn pod(name: &str, ready: bool, deleted: bool) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "deletionTimestamp": deleted.then(|| at(NOW))},
                "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}
            }))
            .unwrap(),
        )
    }

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        serde_json::from_value(
            json!({"metadata": {"name": "b", "generation": 1}, "spec": spec, "status": status}),
        )
        .unwrap()
    }

    #[test]
    fn a_budget_allows_what_it_can_do_without() {
        let pods = [
            pod("a", true, false),
            pod("b", true, false),
            pod("c", false, false),
            pod("d", true, true),
        ];
        // The budget; healthy, desired, expected, allowed, where the pods' controllers want five.
        for (spec, desired, expected, allowed) in [
            (json!({"minAvailable": 1}), 1, 4, 1),
            (json!({"minAvailable": 2}), 2, 4, 0),
            (json!({"minAvailable": 0}), 0, 4, 2),
            (json!({"minAvailable": "50%"}), 3, 5, 0),
            (json!({"minAvailable": "20%"}), 1, 5, 1),
            (json!({"maxUnavailable": 4}), 1, 5, 1),
            (json!({"maxUnavailable": "50%"}), 2, 5, 0),
            (json!({"maxUnavailable": "200%"}), 0, 5, 2),
        ] {
            let status = plan(&budget(spec.clone(), json!({})), &pods, 5, now())
                .status
                .unwrap();
            assert_eq!(
                (
                    status.current_healthy,
                    status.desired_healthy,
                    status.expected_pods,
                    status.disruptions_allowed
                ),
                (Some(2), Some(desired), Some(expected), Some(allowed)),
                "{spec}"
            );
            let condition = &status.conditions.as_ref().unwrap()[0];
            assert_eq!(condition.status, if allowed > 0 { "True" } else { "False" });
            let settled = budget(spec, json!(status));
            assert_eq!(plan(&settled, &pods, 5, now()), Planned::default());
        }
    }

    #[test]
    fn a_budget_without_pods_allows_nothing() {
        let status = plan(&budget(json!({"minAvailable": 0}), json!({})), &[], 0, now())
            .status
            .unwrap();
        assert_eq!(
            (status.expected_pods, status.disruptions_allowed),
            (Some(0), Some(0))
        );
    }

    #[test]
    fn an_evicted_pod_does_not_count_until_nobody_believes_that_it_goes() {
        let pods = [
            pod("fresh", true, false),
            pod("old", true, false),
            pod("going", true, true),
            pod("x", true, false),
        ];
        let evicted = json!({"disruptedPods": {"fresh": at(NOW - 20), "old": at(NOW - 121), "going": at(NOW), "gone": at(NOW)}});
        let planned = plan(&budget(json!({"minAvailable": 1}), evicted), &pods, 0, now());
        let status = planned.status.unwrap();
        assert_eq!(status.current_healthy, Some(2));
        assert_eq!(
            status.disrupted_pods.unwrap().into_keys().collect::<Vec<_>>(),
            ["fresh"]
        );
        assert_eq!(planned.recheck, Some(SignedDuration::from_secs(100)));
        assert_eq!(planned.not_deleted, [pods[1].clone()]);
    }

    #[test]
    fn a_budget_that_cannot_be_calculated_allows_nothing_and_says_why() {
        let ample = budget(json!({"maxUnavailable": 1}), json!({"disruptionsAllowed": 3}));
        let status = failed(&ample, "no scale".into(), now()).unwrap();
        assert_eq!(status.disruptions_allowed, Some(0));
        let condition = &status.conditions.as_ref().unwrap()[0];
        assert_eq!(
            (condition.reason.as_str(), condition.message.as_str()),
            ("SyncFailed", "no scale")
        );
        let settled = budget(json!({"maxUnavailable": 1}), json!(status));
        assert_eq!(failed(&settled, "no scale".into(), now()), None);
    }

    #[test]
    fn a_pods_word_that_it_goes_is_believed_for_a_while() {
        let pod = |reason: &str, since: i64, deleted: bool| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"deletionTimestamp": deleted.then(|| at(NOW))},
                "status": {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason,
                    "lastTransitionTime": at(since)}]}
            }))
            .unwrap()
        };
        let seconds = SignedDuration::from_secs;
        for (reason, since, deleted, expected) in [
            ("EvictionByEvictionAPI", NOW - 20, false, Some(seconds(100))),
            ("EvictionByEvictionAPI", NOW - 500, false, Some(seconds(0))),
            ("EvictionByEvictionAPI", NOW - 500, true, None),
            ("TerminationByKubelet", NOW - 500, false, None),
        ] {
            assert_eq!(
                stale_after(&pod(reason, since, deleted), now()),
                expected,
                "{reason} {since}"
            );
        }
    }
}
