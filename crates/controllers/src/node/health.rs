//! What a node's conditions and taints should be: pure decisions of the node lifecycle controller.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";
/// The conditions that a silent node does not vouch for any more.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// The taint that stands for a condition with this status.
const TAINT_OF: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// A node's conditions.
pub(super) fn conditions(node: &Node) -> &[NodeCondition] {
    let status = node.status.as_ref();
    status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default()
}

/// A condition of a node.
pub(super) fn condition<'n>(node: &'n Node, type_: &str) -> Option<&'n NodeCondition> {
    conditions(node).iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition `Ready` is true.
pub(super) fn is_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready.status == "True")
}

/// A node's taints.
pub(super) fn taints(node: &Node) -> &[Taint] {
    let spec = node.spec.as_ref();
    spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// The conditions that change because nothing was heard of the node for too long.
pub(super) fn silenced(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let unknown = |type_: &&str| match condition(node, type_) {
        Some(condition) if condition.status == "Unknown" => None,
        Some(condition) => Some(NodeCondition {
            status: "Unknown".to_string(),
            reason: Some("NodeStatusUnknown".to_string()),
            message: Some("Kubelet stopped posting node status.".to_string()),
            last_transition_time: Some(Time(now)),
            ..condition.clone()
        }),
        None => Some(NodeCondition {
            type_: (*type_).to_string(),
            status: "Unknown".to_string(),
            reason: Some("NodeStatusNeverUpdated".to_string()),
            message: Some("Kubelet never posted node status.".to_string()),
            last_heartbeat_time: node.metadata.creation_timestamp.clone(),
            last_transition_time: Some(Time(now)),
        }),
    };
    REPORTED.iter().filter_map(unknown).collect()
}

/// What may be done about pods on nodes that are not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eviction {
    /// The taint that evicts may be put on the node now.
    Allowed,
    /// Not now; what is there stays.
    NotNow,
    /// No node of the cluster is ready, so the fault is more likely here than there: nothing is evicted at all.
    Stopped,
}

/// The taints that the node should have, if they are others than it has.
pub(super) fn desired_taints(node: &Node, eviction: Eviction, now: Timestamp) -> Option<Vec<Taint>> {
    let has = |key: &str, effect: &str| {
        taints(node)
            .iter()
            .find(|taint| taint.key == key && taint.effect == effect)
    };
    let new = |key: &str, effect: &str| Taint {
        key: key.to_string(),
        effect: effect.to_string(),
        time_added: Some(Time(now)),
        value: None,
    };
    let mut keys: Vec<&str> = Vec::new();
    for (type_, status, key) in TAINT_OF {
        if condition(node, type_).is_some_and(|condition| condition.status == status) {
            keys.push(key);
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        keys.push(UNSCHEDULABLE);
    }
    let ours = |taint: &Taint| {
        taint.effect == NO_SCHEDULE
            && (taint.key == UNSCHEDULABLE || TAINT_OF.iter().any(|(_, _, key)| *key == taint.key))
            || taint.effect == NO_EXECUTE && (taint.key == NOT_READY || taint.key == UNREACHABLE)
    };
    let evicting = [NOT_READY, UNREACHABLE]
        .into_iter()
        .find(|key| keys.contains(key));
    let is_evicting = has(NOT_READY, NO_EXECUTE).is_some() || has(UNREACHABLE, NO_EXECUTE).is_some();
    let mut wanted: Vec<Taint> = taints(node)
        .iter()
        .filter(|taint| !ours(taint))
        .cloned()
        .collect();
    for key in keys {
        wanted.push(
            has(key, NO_SCHEDULE)
                .cloned()
                .unwrap_or_else(|| new(key, NO_SCHEDULE)),
        );
    }
    // Once it evicts, it goes on, whichever of the two conditions it is by now.
    let may_evict = match eviction {
        Eviction::Allowed => true,
        Eviction::NotNow => is_evicting,
        Eviction::Stopped => false,
    };
    if let Some(key) = evicting.filter(|_| may_evict) {
        wanted.push(
            has(key, NO_EXECUTE)
                .cloned()
                .unwrap_or_else(|| new(key, NO_EXECUTE)),
        );
    }
    let same = wanted.len() == taints(node).len() && wanted.iter().all(|taint| taints(node).contains(taint));
    (!same).then_some(wanted)
}

/// Whether the node is to get a taint that evicts which it does not have yet.
pub(super) fn wants_eviction(node: &Node) -> bool {
    let not_ready = condition(node, "Ready").is_some_and(|ready| ready.status != "True");
    let evicts =
        |taint: &Taint| taint.effect == NO_EXECUTE && (taint.key == NOT_READY || taint.key == UNREACHABLE);
    not_ready && !taints(node).iter().any(evicts)
}

/// How many nodes of a zone are ready and not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Zone {
    pub(super) ready: usize,
    pub(super) not_ready: usize,
}

impl Zone {
    /// Whether no node is ready.
    pub(super) fn is_dark(self) -> bool {
        self.ready == 0 && self.not_ready > 0
    }

    /// Seconds between evictions from two nodes of the zone; `None` stops them (`--node-eviction-rate`,
    /// `--secondary-node-eviction-rate`, `--unhealthy-zone-threshold`, `--large-cluster-size-threshold`).
    pub(super) fn eviction_interval(self) -> Option<u64> {
        let size = self.ready + self.not_ready;
        let is_partly_dark = !self.is_dark() && self.not_ready > 2 && self.not_ready * 100 >= size * 55;
        match (is_partly_dark, size > 50) {
            (false, _) => Some(10),
            (true, true) => Some(100),
            (true, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use k8s_openapi::api::core::v1::{NodeSpec, NodeStatus};

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    fn node(conditions: &[(&str, &str)], taints: &[(&str, &str)]) -> Node {
        let before = Time(now() - SignedDuration::from_secs(100));
        Node {
            spec: Some(NodeSpec {
                taints: Some(
                    taints
                        .iter()
                        .map(|(key, effect)| Taint {
                            key: key.to_string(),
                            effect: effect.to_string(),
                            time_added: Some(before.clone()),
                            value: None,
                        })
                        .collect(),
                ),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus {
                conditions: Some(
                    conditions
                        .iter()
                        .map(|(type_, status)| NodeCondition {
                            type_: type_.to_string(),
                            status: status.to_string(),
                            last_heartbeat_time: Some(before.clone()),
                            last_transition_time: Some(before.clone()),
                            ..NodeCondition::default()
                        })
                        .collect(),
                ),
                ..NodeStatus::default()
            }),
            ..Node::default()
        }
    }

    fn names(taints: &[Taint]) -> Vec<String> {
        let mut names: Vec<_> = taints
            .iter()
            .map(|taint| {
                format!(
                    "{}:{}",
                    taint.key.trim_start_matches("node.kubernetes.io/"),
                    taint.effect
                )
            })
            .collect();
        names.sort();
        names
    }

    #[test]
    fn taints_follow_conditions() {
        let silent = [("Ready", "Unknown")];
        let cases: [(Node, Eviction, Option<&[&str]>); 12] = [
            (node(&[("Ready", "True")], &[]), Eviction::Allowed, None),
            (
                node(&[("Ready", "True")], &[(NOT_READY, "NoSchedule")]),
                Eviction::Allowed,
                Some(&[]),
            ),
            (
                node(
                    &[("Ready", "True")],
                    &[(NOT_READY, "NoSchedule"), ("mine", "NoExecute")],
                ),
                Eviction::Stopped,
                Some(&["mine:NoExecute"]),
            ),
            (
                node(&[("Ready", "False")], &[]),
                Eviction::Allowed,
                Some(&["not-ready:NoExecute", "not-ready:NoSchedule"]),
            ),
            (
                node(&silent, &[]),
                Eviction::NotNow,
                Some(&["unreachable:NoSchedule"]),
            ),
            (
                node(&silent, &[(UNREACHABLE, "NoSchedule")]),
                Eviction::NotNow,
                None,
            ),
            (
                node(&silent, &[(UNREACHABLE, "NoSchedule")]),
                Eviction::Allowed,
                Some(&["unreachable:NoExecute", "unreachable:NoSchedule"]),
            ),
            (
                node(&silent, &[(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
                Eviction::NotNow,
                Some(&["unreachable:NoExecute", "unreachable:NoSchedule"]),
            ),
            (
                node(
                    &silent,
                    &[(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")],
                ),
                Eviction::Stopped,
                Some(&["unreachable:NoSchedule"]),
            ),
            (
                node(&[("Ready", "True"), ("DiskPressure", "True")], &[]),
                Eviction::Allowed,
                Some(&["disk-pressure:NoSchedule"]),
            ),
            (
                node(&[("Ready", "True"), ("NetworkUnavailable", "Unknown")], &[]),
                Eviction::Allowed,
                None,
            ),
            (node(&[], &[]), Eviction::Allowed, None),
        ];
        for (node, eviction, expected) in cases {
            let desired = desired_taints(&node, eviction, now());
            let expected =
                expected.map(|names| names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
            assert_eq!(
                desired.map(|taints| names(&taints)),
                expected,
                "{node:?} {eviction:?}"
            );
        }
    }

    #[test]
    fn a_cordoned_node_is_tainted_and_an_old_taint_keeps_its_time() {
        let mut node = node(&[("Ready", "False")], &[(NOT_READY, "NoSchedule")]);
        node.spec.as_mut().unwrap().unschedulable = Some(true);
        let desired = desired_taints(&node, Eviction::NotNow, now()).unwrap();
        assert_eq!(
            names(&desired),
            ["not-ready:NoSchedule", "unschedulable:NoSchedule"]
        );
        let old = desired.iter().find(|taint| taint.key == NOT_READY).unwrap();
        assert_eq!(old, &taints(&node)[0]);
    }

    #[test]
    fn a_silent_node_is_unknown_in_all_it_reports() {
        let node = node(
            &[
                ("Ready", "True"),
                ("DiskPressure", "Unknown"),
                ("NetworkUnavailable", "False"),
            ],
            &[],
        );
        let changed = silenced(&node, now());
        let types: Vec<_> = changed.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(types, ["Ready", "MemoryPressure", "PIDPressure"]);
        assert!(changed.iter().all(|condition| condition.status == "Unknown"));
        assert_eq!(
            changed[0].message.as_deref(),
            Some("Kubelet stopped posting node status.")
        );
        assert_eq!(
            changed[0].last_heartbeat_time,
            conditions(&node)[0].last_heartbeat_time
        );
        assert_eq!(changed[0].last_transition_time, Some(Time(now())));
        assert_eq!(changed[1].reason.as_deref(), Some("NodeStatusNeverUpdated"));
    }

    #[test]
    fn evictions_slow_down_in_a_zone_that_is_mostly_dark() {
        let zone = |ready, not_ready| Zone { ready, not_ready };
        assert_eq!(zone(10, 1).eviction_interval(), Some(10));
        assert_eq!(zone(1, 2).eviction_interval(), Some(10), "too few to judge");
        assert_eq!(zone(2, 3).eviction_interval(), None);
        assert_eq!(zone(40, 60).eviction_interval(), Some(100));
        assert_eq!(
            zone(0, 5).eviction_interval(),
            Some(10),
            "the whole zone is gone, others are not"
        );
        assert!(zone(0, 1).is_dark() && !zone(1, 9).is_dark() && !zone(0, 0).is_dark());
    }
}
