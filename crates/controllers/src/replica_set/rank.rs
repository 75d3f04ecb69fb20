//! Which pods of a replica set go first when there are too many (`ActivePodsWithRanks`).

use std::cmp::Reverse;
use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::pods;

/// How cheap a pod says it is to delete; the lower, the earlier.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What decides a pod's turn; the least goes first.
///
/// Ages are compared by the power of two of their nanoseconds, so that of pods of about the same age no one in
/// particular is picked: what remains is decided by the uid, which is random.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    assigned: bool,
    phase: u8,
    ready: bool,
    cost: i32,
    /// Pods on a node with many of the same kind go before pods that are alone there.
    neighbours: Reverse<usize>,
    ready_age: i32,
    restarts: Reverse<(i32, i32)>,
    age: i32,
    uid: String,
}

impl Turn {
    fn of(pod: &Pod, neighbours: usize, now: Timestamp) -> Self {
        Self {
            assigned: !pods::node_name(pod).is_empty(),
            phase: match pods::phase(pod) {
                "Pending" => 0,
                "Running" => 2,
                _ => 1,
            },
            ready: pods::is_ready(pod),
            cost: deletion_cost(pod),
            neighbours: Reverse(neighbours),
            ready_age: pods::ready_since(pod).map_or(-2, |since| magnitude(since, now)),
            restarts: Reverse(restarts(pod)),
            age: match &pod.metadata.creation_timestamp {
                Some(time) => magnitude(time.0, now),
                None => -2,
            },
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        }
    }
}

fn magnitude(since: Timestamp, now: Timestamp) -> i32 {
    let age = now.duration_since(since).as_nanos();
    u128::try_from(age)
        .ok()
        .and_then(u128::checked_ilog2)
        .map_or(-1, |log| i32::try_from(log).unwrap_or(i32::MAX))
}

/// The annotation's value if it is a number in Go's canonical form, else 0.
fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|annotations| annotations.get(DELETION_COST)) else {
        return 0;
    };
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = digits == "0" && digits == text || !digits.starts_with('0') && !text.starts_with('+');
    if canonical { text.parse().unwrap_or(0) } else { 0 }
}

/// The most restarts of any container, and of any restartable init container.
fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else { return (0, 0) };
    let most = |statuses: Option<&Vec<ContainerStatus>>, counts: &dyn Fn(&str) -> bool| {
        let statuses = statuses.map(Vec::as_slice).unwrap_or_default();
        let counted = statuses.iter().filter(|status| counts(&status.name));
        counted.map(|status| status.restart_count).max().unwrap_or(0)
    };
    let init = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default();
    let is_sidecar = |name: &str| {
        init.iter()
            .any(|container| container.name == name && container.restart_policy.as_deref() == Some("Always"))
    };
    (
        most(status.container_statuses.as_ref(), &|_| true),
        most(status.init_container_statuses.as_ref(), &is_sidecar),
    )
}

/// Sorts `pods` so that those to be deleted first come first. `related` are all active pods of the same owner's
/// owner, by which it is seen how crowded a node is.
pub(crate) fn sort_for_deletion<P, R>(candidates: &mut [P], related: &[R], now: Timestamp)
where
    P: AsRef<Pod>,
    R: AsRef<Pod>,
{
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related
        .iter()
        .map(AsRef::as_ref)
        .filter(|pod| pods::is_active(pod))
    {
        *on_node.entry(pods::node_name(pod)).or_default() += 1;
    }
    let neighbours = |pod: &Pod| on_node.get(pods::node_name(pod)).copied().unwrap_or(0);
    candidates.sort_by_cached_key(|pod| Turn::of(pod.as_ref(), neighbours(pod.as_ref()), now));
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use k8s_openapi::api::core::v1::{PodCondition, PodSpec, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
    use proptest::prelude::*;
    use std::sync::Arc;

    const NOW: i64 = 1_700_000_000;

    fn at(seconds_ago: i64) -> Time {
        Time(Timestamp::from_second(NOW - seconds_ago).unwrap())
    }

    #[derive(Clone, Debug)]
    struct Facts {
        node: &'static str,
        phase: &'static str,
        ready: Option<i64>,
        cost: &'static str,
        restarts: i32,
        age: i64,
    }

    const USUAL: Facts = Facts {
        node: "n1",
        phase: "Running",
        ready: Some(90),
        cost: "0",
        restarts: 0,
        age: 100,
    };

    fn pod(name: &str, facts: &Facts) -> Arc<Pod> {
        let ready = facts.ready.map(|ago| PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            last_transition_time: Some(at(ago)),
            ..PodCondition::default()
        });
        Arc::new(Pod {
            metadata: ObjectMeta {
                name: Some(name.into()),
                uid: Some(name.into()),
                creation_timestamp: Some(at(facts.age)),
                annotations: Some([(DELETION_COST.to_string(), facts.cost.to_string())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                node_name: Some(facts.node.into()),
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                phase: Some(facts.phase.into()),
                conditions: Some(ready.into_iter().collect()),
                container_statuses: Some(vec![ContainerStatus {
                    restart_count: facts.restarts,
                    ..ContainerStatus::default()
                }]),
                ..PodStatus::default()
            }),
        })
    }

    fn first(a: &Facts, b: &Facts) -> String {
        // The uid would decide for "a", so a test that expects "b" cannot pass by chance.
        let mut pods = [pod("a", a), pod("b", b)];
        let related = pods.clone();
        sort_for_deletion(&mut pods, &related, Timestamp::from_second(NOW).unwrap());
        pods[0].metadata.name.clone().unwrap()
    }

    #[test]
    fn the_pod_that_is_missed_least_goes_first() {
        let cases = [
            ("not assigned", Facts { node: "", ..USUAL }),
            (
                "pending",
                Facts {
                    phase: "Pending",
                    ..USUAL
                },
            ),
            (
                "unknown",
                Facts {
                    phase: "Unknown",
                    ..USUAL
                },
            ),
            ("not ready", Facts { ready: None, ..USUAL }),
            ("cheap", Facts { cost: "-5", ..USUAL }),
            (
                "ready for a short time only",
                Facts {
                    ready: Some(2),
                    ..USUAL
                },
            ),
            ("restarted more often", Facts { restarts: 3, ..USUAL }),
            (
                "younger",
                Facts {
                    age: 10,
                    ready: Some(90),
                    ..USUAL
                },
            ),
        ];
        for (why, facts) in cases {
            assert_eq!(first(&USUAL, &facts), "b", "{why}");
            assert_eq!(first(&facts, &USUAL), "a", "{why}");
        }
    }

    #[test]
    fn earlier_reasons_outweigh_later_ones() {
        let pending_but_old = Facts {
            phase: "Pending",
            age: 10_000,
            restarts: 0,
            ..USUAL
        };
        let running_but_young = Facts {
            age: 1,
            restarts: 9,
            cost: "-100",
            ..USUAL
        };
        assert_eq!(first(&running_but_young, &pending_but_old), "b");
    }

    #[test]
    fn a_malformed_cost_counts_as_none() {
        for cost in ["+5", "05", "abc", "-0", ""] {
            assert_eq!(deletion_cost(&pod("a", &Facts { cost, ..USUAL })), 0, "{cost}");
        }
        assert_eq!(deletion_cost(&pod("a", &Facts { cost: "-7", ..USUAL })), -7);
    }

    #[test]
    fn a_crowded_node_gives_first() {
        let here = Facts { node: "n1", ..USUAL };
        let there = Facts { node: "n2", ..USUAL };
        let mut pods = vec![pod("a", &there), pod("b", &here)];
        let related = [pod("a", &there), pod("b", &here), pod("c", &here)];
        sort_for_deletion(&mut pods, &related, Timestamp::from_second(NOW).unwrap());
        assert_eq!(pods[0].metadata.name.as_deref(), Some("b"));
    }

    fn any_facts() -> impl Strategy<Value = Facts> {
        (
            prop::sample::select(vec!["", "n1", "n2"]),
            prop::sample::select(vec!["Pending", "Running", "Unknown"]),
            prop::option::of(0i64..5000),
            prop::sample::select(vec!["0", "-3", "7"]),
            0i32..3,
            0i64..5000,
        )
            .prop_map(|(node, phase, ready, cost, restarts, age)| Facts {
                node,
                phase,
                ready,
                cost,
                restarts,
                age,
            })
    }

    proptest! {
        #[test]
        fn the_order_does_not_depend_on_the_order_of_arrival(
            all in prop::collection::vec(any_facts(), 0..12),
            rotation in 0usize..12,
        ) {
            let now = Timestamp::from_second(NOW).unwrap() + SignedDuration::from_millis(1);
            let mut once: Vec<_> =
                all.iter().enumerate().map(|(n, facts)| pod(&format!("p{n:02}"), facts)).collect();
            let mut again = once.clone();
            if !again.is_empty() {
                let by = rotation % again.len();
                again.rotate_left(by);
            }
            let related = once.clone();
            sort_for_deletion(&mut once, &related, now);
            sort_for_deletion(&mut again, &related, now);
            prop_assert_eq!(once, again);
        }
    }
}
