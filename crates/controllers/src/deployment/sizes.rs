//! How many pods each replica set of a deployment may have: surge, availability, and shares of a scaling
//! (`deployment_util.go`, `rolling.go`).

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::revision::max_replicas;
use crate::replica_set::replicas as set_replicas;

/// `spec.replicas`, 1 if it is absent.
pub(super) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

/// Whether the strategy is to replace pods a few at a time.
pub(super) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment
        .spec
        .strategy
        .as_ref()
        .and_then(|strategy| strategy.type_.as_deref());
    strategy != Some("Recreate")
}

/// What becomes of a share that is not a whole number.
#[derive(Clone, Copy)]
pub(crate) enum Round {
    Up,
    Down,
}

/// A number, or a share of `total`; what is neither counts as none (the API refuses it).
pub(crate) fn scaled(value: Option<&IntOrString>, total: i32, round: Round) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let percent = text
                .strip_suffix('%')
                .and_then(|number| number.parse::<i64>().ok())
                .unwrap_or(0);
            let product = percent.saturating_mul(i64::from(total));
            let share = match round {
                Round::Up => product.saturating_add(99).div_euclid(100),
                Round::Down => product.div_euclid(100),
            };
            i32::try_from(share).unwrap_or(i32::MAX)
        }
    }
}

/// `maxSurge` and `maxUnavailable` as numbers of pods. They are never both 0, for nothing could be replaced then.
fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    let rolling = deployment
        .spec
        .strategy
        .as_ref()
        .and_then(|strategy| strategy.rolling_update.as_ref());
    let total = replicas(deployment);
    let surge = scaled(
        rolling.and_then(|rolling| rolling.max_surge.as_ref()),
        total,
        Round::Up,
    );
    let unavailable = scaled(
        rolling.and_then(|rolling| rolling.max_unavailable.as_ref()),
        total,
        Round::Down,
    );
    if surge == 0 && unavailable == 0 {
        (0, 1)
    } else {
        (surge, unavailable)
    }
}

/// How many pods there may be above `spec.replicas` during a rolling update.
pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) {
        fenceposts(deployment).0
    } else {
        0
    }
}

/// How many of `spec.replicas` may be unavailable during a rolling update.
pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    let total = replicas(deployment);
    if !is_rolling(deployment) || total == 0 {
        return 0;
    }
    fenceposts(deployment).1.min(total)
}

/// The most pods that the deployment may have now.
pub(super) fn most_pods(deployment: &Deployment) -> i32 {
    replicas(deployment).saturating_add(max_surge(deployment))
}

/// The sum of `spec.replicas`.
pub(super) fn total_replicas<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i32 {
    sets.into_iter().map(set_replicas).fold(0, i32::saturating_add)
}

/// `status.availableReplicas`.
pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

/// How large the new replica set may be now (`NewRSNewReplicas`), when it is `current` large and all together,
/// itself included, are `total`.
pub(super) fn new_set_size(deployment: &Deployment, total: i32, current: i32) -> i32 {
    let wanted = replicas(deployment);
    if !is_rolling(deployment) {
        return wanted;
    }
    let room = most_pods(deployment).saturating_sub(total);
    if room <= 0 {
        return current;
    }
    current.saturating_add(room.min(wanted.saturating_sub(current)))
}

/// A replica set's share when a deployment in the middle of a rollout is scaled by `to_add` pods, of which `added`
/// are given away (`GetReplicaSetProportion`).
pub(super) fn proportion(set: &ReplicaSet, deployment: &Deployment, to_add: i32, added: i32) -> i32 {
    if set_replicas(set) == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(set, deployment);
    let allowed = to_add - added;
    if to_add > 0 {
        fraction.min(allowed)
    } else {
        fraction.max(allowed)
    }
}

fn fraction(set: &ReplicaSet, deployment: &Deployment) -> i32 {
    let size = set_replicas(set);
    if replicas(deployment) == 0 {
        return -size;
    }
    let before = max_replicas(set).filter(|max| *max != 0);
    let status_replicas = || {
        deployment
            .status
            .as_ref()
            .and_then(|status| status.replicas)
            .unwrap_or(0)
    };
    let before = before.unwrap_or_else(status_replicas);
    if before == 0 {
        return 0;
    }
    let new_size = f64::from(size) * f64::from(most_pods(deployment)) / f64::from(before);
    // Within i32: a share of a sum of replica counts; `as` saturates beyond.
    new_size.round() as i32 - size
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::{
        DeploymentSpec, DeploymentStrategy, ReplicaSetSpec, RollingUpdateDeployment,
    };

    fn percent(text: &str) -> IntOrString {
        IntOrString::String(text.into())
    }

    fn deployment(replicas: i32, surge: IntOrString, unavailable: IntOrString) -> Deployment {
        Deployment {
            spec: DeploymentSpec {
                replicas: Some(replicas),
                strategy: Some(DeploymentStrategy {
                    type_: Some("RollingUpdate".into()),
                    rolling_update: Some(RollingUpdateDeployment {
                        max_surge: Some(surge),
                        max_unavailable: Some(unavailable),
                    }),
                }),
                ..DeploymentSpec::default()
            },
            ..Deployment::default()
        }
    }

    #[test]
    fn surge_rounds_up_and_unavailable_rounds_down() {
        let int = IntOrString::Int;
        let cases = [
            (10, percent("25%"), percent("25%"), 3, 2),
            (1, percent("25%"), percent("25%"), 1, 0),
            (3, percent("25%"), percent("25%"), 1, 0),
            (4, percent("25%"), percent("25%"), 1, 1),
            (10, int(2), int(0), 2, 0),
            (10, int(0), int(0), 0, 1),
            (10, percent("0%"), percent("5%"), 0, 1),
            (3, int(0), int(7), 0, 3),
            (0, percent("25%"), percent("25%"), 0, 0),
        ];
        for (replicas, surge, unavailable, expected_surge, expected_unavailable) in cases {
            let case = format!("{replicas} {surge:?} {unavailable:?}");
            let deployment = deployment(replicas, surge, unavailable);
            assert_eq!(max_surge(&deployment), expected_surge, "surge of {case}");
            assert_eq!(
                max_unavailable(&deployment),
                expected_unavailable,
                "unavailable of {case}"
            );
        }
    }

    #[test]
    fn the_new_set_grows_into_the_room_that_is_left() {
        let deployment = deployment(10, IntOrString::Int(3), IntOrString::Int(0));
        for (total, current, expected) in [(0, 0, 10), (10, 0, 3), (13, 3, 3), (20, 3, 3), (11, 9, 10)] {
            assert_eq!(
                new_set_size(&deployment, total, current),
                expected,
                "{total} {current}"
            );
        }
    }

    #[test]
    fn shares_are_in_proportion_to_size() {
        let mut set = ReplicaSet {
            spec: ReplicaSetSpec {
                replicas: Some(5),
                ..ReplicaSetSpec::default()
            },
            ..ReplicaSet::default()
        };
        super::super::revision::set_sizes(&mut set, 10, 10);
        let grown = deployment(20, IntOrString::Int(0), IntOrString::Int(1));
        assert_eq!(proportion(&set, &grown, 10, 0), 5);
        assert_eq!(proportion(&set, &grown, 10, 7), 3);
        let none = deployment(0, IntOrString::Int(0), IntOrString::Int(1));
        assert_eq!(proportion(&set, &none, -10, 0), -5);
    }
}
