//! Facts of pods that the API server, the scheduler and the kubelet share: what a pod requests, its quality of service,
//! its conditions.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::quantity::Quantity;

/// Amounts by resource name.
pub type Resources = BTreeMap<String, Quantity>;

/// The annotation that marks the API object of a static pod, and holds its source's hash.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// The quality of service of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    /// Every container has requests equal to limits for processor and memory.
    Guaranteed,
    /// Some container requests or limits something.
    Burstable,
    /// No container asks for anything.
    BestEffort,
}

impl QosClass {
    /// As `status.qosClass` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// Whether an init container is a sidecar: one that is started in its turn and then runs along with the others.
pub fn is_sidecar(init_container: &Container) -> bool {
    init_container.restart_policy.as_deref() == Some("Always")
}

/// What a pod requests of a node (`resourcehelper.PodRequests`): the sum of its containers and sidecars, or the most
/// that is needed while its init containers run, with pod-level requests in their place where given, and its overhead.
pub fn requests(spec: &PodSpec) -> Resources {
    effective(spec, Side::Requests)
}

/// What a pod may use at most (`resourcehelper.PodLimits`); a container without a limit counts as nothing.
pub fn limits(spec: &PodSpec) -> Resources {
    effective(spec, Side::Limits)
}

/// Which half of resource requirements is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What is set aside.
    Requests,
    /// What must not be passed.
    Limits,
}

impl Side {
    /// The amounts of this half.
    pub fn of(self, resources: &ResourceRequirements) -> Option<&BTreeMap<String, Text>> {
        match self {
            Self::Requests => resources.requests.as_ref(),
            Self::Limits => resources.limits.as_ref(),
        }
    }
}

fn effective(spec: &PodSpec, side: Side) -> Resources {
    let mut total = container_totals(spec, side);
    if let Some(pod_level) = spec.resources.as_ref().and_then(|resources| side.of(resources)) {
        for (name, amount) in pod_level.iter().filter(|(name, _)| is_pod_level(name)) {
            total.insert(name.clone(), Quantity::of(amount));
        }
    }
    for (name, amount) in spec.overhead.iter().flatten() {
        // Overhead raises a limit only where there is one.
        if side == Side::Requests || total.contains_key(name) {
            *total.entry(name.clone()).or_default() += Quantity::of(amount);
        }
    }
    total
}

/// The effective requests or limits of the containers alone.
pub fn container_totals(spec: &PodSpec, side: Side) -> Resources {
    let mut running = Resources::new();
    for container in &spec.containers {
        add(
            &mut running,
            container.resources.as_ref().and_then(|own| side.of(own)),
        );
    }
    // In their order: each init container runs beside the sidecars that were started before it.
    let mut sidecars = Resources::new();
    let mut starting = Resources::new();
    for container in spec.init_containers.iter().flatten() {
        let own = container.resources.as_ref().and_then(|own| side.of(own));
        let mut peak = sidecars.clone();
        add(&mut peak, own);
        if is_sidecar(container) {
            add(&mut running, own);
            sidecars.clone_from(&peak);
        }
        for (name, amount) in peak {
            let most = starting.entry(name).or_default();
            *most = (*most).max(amount);
        }
    }
    for (name, amount) in starting {
        let total = running.entry(name).or_default();
        *total = (*total).max(amount);
    }
    running
}

fn add(total: &mut Resources, amounts: Option<&BTreeMap<String, Text>>) {
    for (name, amount) in amounts.into_iter().flatten() {
        match total.get_mut(name) {
            Some(sum) => *sum += Quantity::of(amount),
            None => {
                total.insert(name.clone(), Quantity::of(amount));
            }
        }
    }
}

/// Whether a resource can be requested for a pod as a whole.
pub fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// The quality of service that a pod's requests and limits make (`qos.ComputePodQOS`).
pub fn qos_class(spec: &PodSpec) -> QosClass {
    if let Some(resources) = &spec.resources {
        let set = |side: &Option<BTreeMap<String, Text>>| side.as_ref().is_some_and(|side| !side.is_empty());
        if set(&resources.requests) || set(&resources.limits) {
            return class_of(std::iter::once(Some(resources)));
        }
    }
    class_of(
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .map(|container| container.resources.as_ref()),
    )
}

fn class_of<'a>(all: impl Iterator<Item = Option<&'a ResourceRequirements>>) -> QosClass {
    let counted = |name: &str| matches!(name, "cpu" | "memory");
    let (mut requests, mut limits) = (Resources::new(), Resources::new());
    let mut guaranteed = true;
    for resources in all {
        let side = |side: Option<&BTreeMap<String, Text>>| -> Resources {
            side.into_iter()
                .flatten()
                .filter(|(name, _)| counted(name))
                .map(|(name, amount)| (name.clone(), Quantity::of(amount)))
                .filter(|(_, amount)| *amount > Quantity::ZERO)
                .collect()
        };
        let own_limits = side(resources.and_then(|resources| resources.limits.as_ref()));
        guaranteed &= own_limits.len() == 2;
        for (name, amount) in side(resources.and_then(|resources| resources.requests.as_ref())) {
            *requests.entry(name).or_default() += amount;
        }
        for (name, amount) in own_limits {
            *limits.entry(name).or_default() += amount;
        }
    }
    if requests.is_empty() && limits.is_empty() {
        QosClass::BestEffort
    } else if guaranteed && requests.len() == limits.len() && requests == limits {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

/// The condition of this type.
pub fn condition<'p>(pod: &'p Pod, type_: &str) -> Option<&'p PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == type_)
}

/// Whether the condition of this type is `True`.
pub fn has_condition(pod: &Pod, type_: &str) -> bool {
    condition(pod, type_).is_some_and(|condition| condition.status == "True")
}

/// Whether the pod is ready to serve.
pub fn is_ready(pod: &Pod) -> bool {
    has_condition(pod, "Ready")
}

/// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`; empty before there is a status.
pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Whether the pod has ended, well or badly: its containers run no more and never again.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// The node the pod is bound to; empty when it is not.
pub fn node_name(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: serde_json::Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    fn shown(resources: Resources) -> Vec<String> {
        resources
            .into_iter()
            .map(|(name, amount)| format!("{name}={amount}"))
            .collect()
    }

    fn requesting(cpu: &str) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    fn sidecar(cpu: &str) -> serde_json::Value {
        json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn requests_count_init_containers_sidecars_and_overhead() {
        let cases = [
            (
                json!({"containers": [requesting("1"), requesting("500m")]}),
                vec!["cpu=1500m"],
            ),
            (
                json!({"containers": [requesting("1")], "initContainers": [requesting("3")]}),
                vec!["cpu=3"],
            ),
            (
                json!({"containers": [requesting("1")], "initContainers": [sidecar("1"), requesting("2")]}),
                vec!["cpu=3"],
            ),
            (
                json!({"containers": [requesting("1")], "initContainers": [requesting("2"), sidecar("2")]}),
                vec!["cpu=3"],
            ),
            (
                json!({"containers": [requesting("1")], "overhead": {"cpu": "250m", "memory": "1Mi"}}),
                vec!["cpu=1250m", "memory=1Mi"],
            ),
            (
                json!({"containers": [requesting("1")], "resources": {"requests": {"cpu": "4"}}}),
                vec!["cpu=4"],
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(shown(requests(&spec(value.clone()))), expected, "{value}");
        }
    }

    #[test]
    fn overhead_raises_a_limit_only_where_there_is_one() {
        let value = json!({
            "containers": [{"name": "c", "resources": {"limits": {"memory": "1Mi"}}}],
            "overhead": {"cpu": "1", "memory": "1Mi"},
        });
        assert_eq!(shown(limits(&spec(value))), ["memory=2Mi"]);
    }

    #[test]
    fn quality_of_service_follows_requests_and_limits() {
        let both =
            json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
        let cases = [
            (json!({"containers": [{"name": "a"}]}), QosClass::BestEffort),
            (
                json!({"containers": [{"name": "a", "resources": both}]}),
                QosClass::Guaranteed,
            ),
            (
                json!({"containers": [{"name": "a", "resources": both}, {"name": "b"}]}),
                QosClass::Burstable,
            ),
            (json!({"containers": [requesting("1")]}), QosClass::Burstable),
            (
                json!({"containers": [{"name": "a", "resources": {"requests": {"nvidia.com/gpu": "1"}}}]}),
                QosClass::BestEffort,
            ),
            (
                json!({"containers": [{"name": "a"}], "resources": both}),
                QosClass::Guaranteed,
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(qos_class(&spec(value.clone())), expected, "{value}");
        }
    }
}
