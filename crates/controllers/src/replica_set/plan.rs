//! What a replica set needs next: how many pods to make, which to delete, what its status is.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use skiff_api::names;

use crate::ownership::controller_ref;
use crate::pods;
use crate::replica_set::rank::sort_for_deletion;

/// No more pods are made or deleted in one pass (upstream's `BurstReplicas`).
const BURST: usize = 500;

/// The pods that a pass makes and deletes; at most one of the two is not empty.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Scaling {
    /// So many pods are to be made.
    pub(crate) create: usize,
    /// These pods are to be deleted.
    pub(crate) delete: Vec<Arc<Pod>>,
}

/// Compares the replica set's pods with `spec.replicas`. `related` are the active pods of all replica sets with the
/// same controller.
pub(crate) fn scaling(set: &ReplicaSet, owned: &[Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) -> Scaling {
    let wanted = usize::try_from(replicas(set)).unwrap_or(0);
    let mut active: Vec<Arc<Pod>> = owned.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
    if active.len() <= wanted {
        let create = (wanted - active.len()).min(BURST);
        return Scaling {
            create,
            delete: Vec::new(),
        };
    }
    let surplus = (active.len() - wanted).min(BURST);
    if surplus < active.len() {
        sort_for_deletion(&mut active, related, now);
    }
    active.truncate(surplus);
    Scaling {
        create: 0,
        delete: active,
    }
}

/// `spec.replicas`, 1 if it is absent.
pub(crate) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// A pod of the replica set, as its template says.
pub(crate) fn pod(set: &ReplicaSet) -> Pod {
    let template = set.spec.template.clone().unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let name = set.metadata.name.clone().unwrap_or_default();
    let prefix = format!("{name}-");
    let prefix = if names::dns_subdomain(&prefix, true).is_empty() {
        prefix
    } else {
        name
    };
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix),
            namespace: set.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![controller_ref(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// What making or deleting pods failed with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScalingFailure {
    /// `FailedCreate` or `FailedDelete`.
    pub(crate) reason: &'static str,
    /// The API's words.
    pub(crate) message: String,
}

/// The status that the pods make.
pub(crate) fn status(
    set: &ReplicaSet,
    owned: &[Arc<Pod>],
    failure: Option<&ScalingFailure>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let min_ready_seconds = min_ready_seconds(set);
    let empty = BTreeMap::new();
    let wanted = set
        .spec
        .template
        .as_ref()
        .and_then(|template| template.metadata.as_ref())
        .and_then(|meta| meta.labels.as_ref())
        .unwrap_or(&empty);
    let count = |is: &dyn Fn(&Pod) -> bool| {
        let active = owned.iter().filter(|pod| pods::is_active(pod));
        i32::try_from(active.filter(|pod| is(pod)).count()).unwrap_or(i32::MAX)
    };
    let terminating = owned.iter().filter(|pod| pods::is_terminating(pod)).count();
    let has_all_labels = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref().unwrap_or(&empty);
        wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    let old = set.status.clone().unwrap_or_default();
    // Kubernetes writes these counts without zeros.
    let unless_zero = |count: i32| (count != 0).then_some(count);
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: unless_zero(count(&has_all_labels)),
        ready_replicas: unless_zero(count(&pods::is_ready)),
        available_replicas: unless_zero(count(&|pod| {
            pods::available_at(pod, min_ready_seconds).is_some_and(|at| at <= now)
        })),
        terminating_replicas: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: set.metadata.generation.max(old.observed_generation),
        conditions: conditions(old.conditions.unwrap_or_default(), failure, now),
    }
}

fn conditions(
    mut conditions: Vec<ReplicaSetCondition>,
    failure: Option<&ScalingFailure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    const FAILURE: &str = "ReplicaFailure";
    let present = conditions
        .iter()
        .any(|condition| condition.type_.as_deref() == Some(FAILURE));
    match failure {
        // The first failure stays until a pass succeeds, so that the text does not change with each try.
        Some(_) if present => {}
        Some(failure) => conditions.push(ReplicaSetCondition {
            type_: Some(FAILURE.to_string()),
            status: Some("True".to_string()),
            reason: Some(failure.reason.to_string()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(Time(now)),
        }),
        None => conditions.retain(|condition| condition.type_.as_deref() != Some(FAILURE)),
    }
    (!conditions.is_empty()).then_some(conditions)
}

fn min_ready_seconds(set: &ReplicaSet) -> i32 {
    set.spec.min_ready_seconds.unwrap_or(0)
}

/// When the next ready pod becomes available, which nothing but the clock tells.
pub(crate) fn next_available(set: &ReplicaSet, owned: &[Arc<Pod>], now: Timestamp) -> Option<Timestamp> {
    let active = owned.iter().filter(|pod| pods::is_active(pod));
    active
        .filter_map(|pod| pods::available_at(pod, min_ready_seconds(set)))
        .filter(|at| *at > now)
        .min()
}

/// Whether two statuses say the same; a server omits counts of zero, so absent means 0.
pub(crate) fn same_status(a: &ReplicaSetStatus, b: &ReplicaSetStatus) -> bool {
    let counts = |status: &ReplicaSetStatus| {
        (
            status.replicas,
            status.fully_labeled_replicas.unwrap_or(0),
            status.ready_replicas.unwrap_or(0),
            status.available_replicas.unwrap_or(0),
            status.terminating_replicas.unwrap_or(0),
            status.observed_generation.unwrap_or(0),
        )
    };
    counts(a) == counts(b)
        && a.conditions.as_deref().unwrap_or_default() == b.conditions.as_deref().unwrap_or_default()
}

/// The sizes of the batches in which so many pods are made: 1, 2, 4, …, so that a first failure (a quota, say) does
/// not repeat hundreds of times.
pub(crate) fn slow_start(count: usize) -> impl Iterator<Item = usize> {
    let mut left = count;
    let mut size = 1;
    std::iter::from_fn(move || {
        let batch = left.min(size);
        left -= batch;
        size = size.saturating_mul(2);
        (batch > 0).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use k8s_openapi::api::apps::v1::ReplicaSetSpec;
    use k8s_openapi::api::core::v1::{PodCondition, PodSpec, PodStatus, PodTemplateSpec};

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    fn labels() -> BTreeMap<String, String> {
        [("app".to_string(), "web".to_string())].into()
    }

    fn set(replicas: i32, min_ready_seconds: i32) -> ReplicaSet {
        ReplicaSet {
            metadata: ObjectMeta {
                name: Some("web".into()),
                namespace: Some("default".into()),
                uid: Some("set".into()),
                generation: Some(4),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: Some(min_ready_seconds),
                template: Some(PodTemplateSpec {
                    metadata: Some(ObjectMeta {
                        labels: Some(labels()),
                        ..ObjectMeta::default()
                    }),
                    spec: Some(PodSpec::default()),
                }),
                ..ReplicaSetSpec::default()
            },
            status: None,
        }
    }

    fn running(name: &str, ready_for: Option<i64>) -> Arc<Pod> {
        let ready = ready_for.map(|seconds| PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            last_transition_time: Some(Time(now() - SignedDuration::from_secs(seconds))),
            ..PodCondition::default()
        });
        Arc::new(Pod {
            metadata: ObjectMeta {
                name: Some(name.into()),
                uid: Some(name.into()),
                labels: Some(labels()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                node_name: Some("n".into()),
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                phase: Some("Running".into()),
                conditions: Some(ready.into_iter().collect()),
                ..PodStatus::default()
            }),
        })
    }

    fn with_phase(pod: &Arc<Pod>, phase: &str) -> Arc<Pod> {
        let mut pod = Pod::clone(pod);
        pod.status.get_or_insert_default().phase = Some(phase.into());
        Arc::new(pod)
    }

    fn deleted(pod: &Arc<Pod>) -> Arc<Pod> {
        let mut pod = Pod::clone(pod);
        pod.metadata.deletion_timestamp = Some(Time(now()));
        Arc::new(pod)
    }

    #[test]
    fn pods_that_ended_or_are_on_their_way_out_are_replaced() {
        let pod = running("a", Some(1));
        let owned = [pod.clone(), with_phase(&pod, "Failed"), deleted(&pod)];
        assert_eq!(
            scaling(&set(3, 0), &owned, &owned, now()),
            Scaling {
                create: 2,
                delete: vec![]
            }
        );
        assert_eq!(scaling(&set(1, 0), &owned, &owned, now()), Scaling::default());
        assert_eq!(scaling(&set(9999, 0), &[], &[], now()).create, BURST);
    }

    #[test]
    fn of_too_many_the_one_that_is_not_ready_goes() {
        let owned = [running("a", Some(50)), running("b", None), running("c", Some(50))];
        let scaling = scaling(&set(2, 0), &owned, &owned, now());
        assert_eq!(scaling.create, 0);
        assert_eq!(scaling.delete, [owned[1].clone()]);
    }

    #[test]
    fn the_status_counts_active_pods_only() {
        let mut unlabelled = Pod::clone(&running("c", None));
        unlabelled.metadata.labels = None;
        let pod = running("a", Some(5));
        let owned = [
            pod.clone(),
            running("b", Some(20)),
            Arc::new(unlabelled),
            deleted(&pod),
            with_phase(&deleted(&pod), "Succeeded"),
        ];
        let set = set(3, 10);
        let status = status(&set, &owned, None, now());
        let expected = ReplicaSetStatus {
            replicas: 3,
            fully_labeled_replicas: Some(2),
            ready_replicas: Some(2),
            available_replicas: Some(1),
            terminating_replicas: Some(1),
            observed_generation: Some(4),
            conditions: None,
        };
        assert_eq!(status, expected);
        assert_eq!(
            next_available(&set, &owned, now()),
            Some(now() + SignedDuration::from_secs(5))
        );
    }

    #[test]
    fn a_failure_is_a_condition_until_a_pass_succeeds() {
        let mut set = set(1, 0);
        let failure = ScalingFailure {
            reason: "FailedCreate",
            message: "exceeded quota".into(),
        };
        let failed = status(&set, &[], Some(&failure), now());
        let condition = failed.conditions.as_ref().unwrap().first().unwrap().clone();
        assert_eq!(condition.type_.as_deref(), Some("ReplicaFailure"));
        assert_eq!(condition.reason.as_deref(), Some("FailedCreate"));
        set.status = Some(failed);
        let other = ScalingFailure {
            reason: "FailedCreate",
            message: "other".into(),
        };
        let again = status(&set, &[], Some(&other), now());
        assert_eq!(again.conditions, Some(vec![condition]));
        assert_eq!(status(&set, &[], None, now()).conditions, None);
    }

    #[test]
    fn a_pod_is_made_from_the_template() {
        let pod = pod(&set(1, 0));
        assert_eq!(pod.metadata.generate_name.as_deref(), Some("web-"));
        assert_eq!(pod.metadata.labels, Some(labels()));
        let owner = pod.metadata.owner_references.unwrap().remove(0);
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
            ("ReplicaSet", "set", Some(true))
        );
        assert_eq!(owner.block_owner_deletion, Some(true));
    }

    #[test]
    fn batches_double() {
        assert_eq!(slow_start(0).count(), 0);
        assert_eq!(slow_start(10).collect::<Vec<_>>(), [1, 2, 4, 3]);
    }
}
