//! The node's status: what it can do and how it is, and the patch that tells it.

use jiff::Timestamp;
use k8s_cri::v1::{Image, StatusResponse};
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};

use super::eviction::{EvictionThresholds, Levels};
use super::facts::Machine;

/// Upstream's `nodeStatusMaxImages`.
const MAX_IMAGES: usize = 50;
const MAX_NAMES: usize = 5;
/// Everything that the status is made of.
pub(crate) struct Inputs<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) levels: Levels,
    pub(crate) thresholds: &'a EvictionThresholds,
    pub(crate) node_name: &'a str,
    pub(crate) node_ip: String,
    pub(crate) port: u16,
    pub(crate) max_pods: u32,
    /// `skiff://0.1.0`.
    pub(crate) runtime_version: &'a str,
    /// The runtime's answer, or why it gave none.
    pub(crate) runtime: Result<&'a StatusResponse, String>,
    pub(crate) images: &'a [Image],
    pub(crate) now: Timestamp,
}

/// Why pods cannot run now; `None` when they can.
fn not_ready(runtime: &Result<&StatusResponse, String>) -> Option<String> {
    let status = match runtime {
        Ok(status) => status.status.as_ref(),
        Err(error) => return Some(format!("container runtime is down: {error}")),
    };
    let mut errors = Vec::new();
    for (kind, what) in [
        ("RuntimeReady", "container runtime"),
        ("NetworkReady", "container runtime network"),
    ] {
        let conditions = status
            .map(|status| status.conditions.as_slice())
            .unwrap_or_default();
        match conditions.iter().find(|condition| condition.r#type == kind) {
            Some(condition) if condition.status => {}
            Some(condition) => errors.push(format!(
                "{what} not ready: {kind}=false reason:{} message:{}",
                condition.reason, condition.message
            )),
            None => errors.push(format!("{what} not ready: {kind} condition is unknown")),
        }
    }
    match errors.as_slice() {
        [] => None,
        [error] => Some(error.clone()),
        errors => Some(format!("[{}]", errors.join(", "))),
    }
}

fn conditions(inputs: &Inputs) -> Vec<NodeCondition> {
    let condition = |kind: &str, is: bool, reason: &str, message: &str| NodeCondition {
        type_: kind.into(),
        status: if is { "True" } else { "False" }.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_heartbeat_time: Some(Time(inputs.now)),
        last_transition_time: Some(Time(inputs.now)),
    };
    let pressure = inputs.thresholds.pressure(&inputs.levels);
    let memory = if pressure.memory {
        condition(
            "MemoryPressure",
            true,
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
        )
    } else {
        condition(
            "MemoryPressure",
            false,
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        )
    };
    let disk = if pressure.disk {
        condition(
            "DiskPressure",
            true,
            "KubeletHasDiskPressure",
            "kubelet has disk pressure",
        )
    } else {
        condition(
            "DiskPressure",
            false,
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        )
    };
    let pids = if pressure.pids {
        condition(
            "PIDPressure",
            true,
            "KubeletHasInsufficientPID",
            "kubelet has insufficient PID available",
        )
    } else {
        condition(
            "PIDPressure",
            false,
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        )
    };
    let ready = match not_ready(&inputs.runtime) {
        None => condition("Ready", true, "KubeletReady", "kubelet is posting ready status"),
        Some(message) => condition("Ready", false, "KubeletNotReady", &message),
    };
    vec![memory, disk, pids, ready]
}

fn images(images: &[Image]) -> Vec<ContainerImage> {
    let mut list: Vec<ContainerImage> = images
        .iter()
        .map(|image| {
            let names = image.repo_digests.iter().chain(&image.repo_tags).take(MAX_NAMES);
            ContainerImage {
                names: Some(names.cloned().collect()),
                size_bytes: i64::try_from(image.size).ok(),
            }
        })
        .filter(|image| image.names.as_ref().is_some_and(|names| !names.is_empty()))
        .collect();
    list.sort_by(|a, b| {
        b.size_bytes
            .cmp(&a.size_bytes)
            .then_with(|| a.names.cmp(&b.names))
    });
    list.truncate(MAX_IMAGES);
    list
}

fn handlers(runtime: &Result<&StatusResponse, String>) -> Option<Vec<NodeRuntimeHandler>> {
    let list = &runtime.as_ref().ok()?.runtime_handlers;
    let handlers = list.iter().map(|handler| NodeRuntimeHandler {
        name: Some(handler.name.clone()),
        features: handler
            .features
            .as_ref()
            .map(|features| NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
                user_namespaces: Some(features.user_namespaces),
            }),
    });
    Some(handlers.collect()).filter(|list: &Vec<_>| !list.is_empty())
}

/// The node's status, its conditions without a past.
pub(crate) fn compute(inputs: &Inputs) -> NodeStatus {
    let mut info = inputs.machine.info.clone();
    info.container_runtime_version = inputs.runtime_version.into();
    let address = |kind: &str, address: &str| NodeAddress {
        type_: kind.into(),
        address: address.into(),
    };
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", &inputs.node_ip),
            address("Hostname", inputs.node_name),
        ]),
        capacity: Some(inputs.machine.capacity(inputs.max_pods)),
        allocatable: Some(inputs.machine.allocatable(inputs.max_pods, inputs.thresholds)),
        conditions: Some(conditions(inputs)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(inputs.port),
            }),
        }),
        images: Some(images(inputs.images)),
        node_info: Some(info),
        runtime_handlers: handlers(&inputs.runtime),
        ..NodeStatus::default()
    }
}

/// Conditions that say the same as before keep the time since which they say it.
pub(crate) fn keep_transitions(status: &mut NodeStatus, before: &NodeStatus) {
    for condition in status.conditions.iter_mut().flatten() {
        let old = before
            .conditions
            .iter()
            .flatten()
            .find(|old| old.type_ == condition.type_);
        if let Some(old) = old.filter(|old| old.status == condition.status) {
            condition
                .last_transition_time
                .clone_from(&old.last_transition_time);
        }
    }
}

/// The conditions whose status is not what it was, as the reasons of upstream's events.
pub(crate) fn transitions(status: &NodeStatus, before: &NodeStatus) -> Vec<&'static str> {
    let changed = status.conditions.iter().flatten().filter(|condition| {
        let old = before
            .conditions
            .iter()
            .flatten()
            .find(|old| old.type_ == condition.type_);
        old.is_none_or(|old| old.status != condition.status)
    });
    changed
        .filter_map(|condition| {
            let is = condition.status == "True";
            Some(match (condition.type_.as_str(), is) {
                ("Ready", true) => "NodeReady",
                ("Ready", false) => "NodeNotReady",
                ("MemoryPressure", true) => "NodeHasInsufficientMemory",
                ("MemoryPressure", false) => "NodeHasSufficientMemory",
                ("DiskPressure", true) => "NodeHasDiskPressure",
                ("DiskPressure", false) => "NodeHasNoDiskPressure",
                ("PIDPressure", true) => "NodeHasInsufficientPID",
                ("PIDPressure", false) => "NodeHasSufficientPID",
                _ => return None,
            })
        })
        .collect()
}

fn object(status: &NodeStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn without_heartbeats(value: Option<&Value>) -> Option<Value> {
    let mut list = value?.clone();
    for condition in list.as_array_mut().into_iter().flatten() {
        if let Some(condition) = condition.as_object_mut() {
            condition.remove("lastHeartbeatTime");
        }
    }
    Some(list)
}

/// The strategic merge patch to the new status. `None` when only heartbeats differ, unless `heartbeat` is due.
pub(crate) fn status_patch(before: &NodeStatus, status: &NodeStatus, heartbeat: bool) -> Option<Value> {
    let (before, after) = (object(before), object(status));
    let mut changes = Map::new();
    for (field, value) in &after {
        let old = before.get(field);
        let same = if field == "conditions" {
            let ours = |value: Option<&Value>| {
                let mut list = without_heartbeats(value)
                    .and_then(|v| v.as_array().cloned())
                    .unwrap_or_default();
                list.retain(|c| {
                    let kinds = value_kinds(value_of(&after, "conditions"));
                    c.get("type").is_some_and(|kind| kinds.contains(kind))
                });
                list.sort_by_key(|c| c.get("type").map(Value::to_string));
                list
            };
            !heartbeat && ours(old) == ours(Some(value))
        } else {
            old == Some(value)
        };
        if !same {
            changes.insert(field.clone(), value.clone());
        }
    }
    (!changes.is_empty()).then(|| json!({ "status": changes }))
}

fn value_of<'a>(map: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    map.get(field)
}

fn value_kinds(conditions: Option<&Value>) -> Vec<Value> {
    let list = conditions.and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|c| c.get("type").cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::eviction::{DiskLevels, Level};
    use super::*;
    use k8s_cri::v1::{RuntimeCondition, RuntimeStatus};

    fn answer(network: bool) -> StatusResponse {
        let condition = |kind: &str, status: bool| RuntimeCondition {
            r#type: kind.into(),
            status,
            reason: if status {
                String::new()
            } else {
                "NetworkPluginNotReady".into()
            },
            message: if status {
                String::new()
            } else {
                "no pod CIDR".into()
            },
        };
        StatusResponse {
            status: Some(RuntimeStatus {
                conditions: vec![
                    condition("RuntimeReady", true),
                    condition("NetworkReady", network),
                ],
            }),
            ..StatusResponse::default()
        }
    }

    fn computed(runtime: Result<&StatusResponse, String>, levels: Levels, now: i64) -> NodeStatus {
        compute(&Inputs {
            machine: &Machine::default(),
            levels,
            thresholds: &EvictionThresholds::default(),
            node_name: "n",
            node_ip: "10.0.0.9".into(),
            port: 10250,
            max_pods: 110,
            runtime_version: "skiff://1",
            runtime,
            images: &[],
            now: Timestamp::from_second(now).unwrap(),
        })
    }

    const PLENTY: Levels = Levels {
        memory: Level {
            left: 1 << 30,
            whole: 1 << 31,
        },
        node: HALF,
        images: HALF,
        pids: None,
    };
    const HALF: DiskLevels = DiskLevels {
        bytes: Some(Level { left: 50, whole: 100 }),
        inodes: None,
    };

    fn ready(status: &NodeStatus) -> (String, String, String) {
        let condition = status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == "Ready")
            .unwrap()
            .clone();
        (
            condition.status,
            condition.reason.unwrap(),
            condition.message.unwrap(),
        )
    }

    #[test]
    fn the_node_is_ready_when_its_runtime_and_network_are() {
        let (up, no_network) = (answer(true), answer(false));
        let cases = [
            (Ok(&up), "True", "KubeletReady", "kubelet is posting ready status"),
            (
                Ok(&no_network),
                "False",
                "KubeletNotReady",
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:no pod CIDR",
            ),
            (
                Err("gone".to_string()),
                "False",
                "KubeletNotReady",
                "container runtime is down: gone",
            ),
        ];
        for (runtime, status, reason, message) in cases {
            let got = ready(&computed(runtime, PLENTY, 0));
            assert_eq!(got, (status.into(), reason.into(), message.into()));
        }
    }

    #[test]
    fn pressure_is_told_in_upstreams_words() {
        let up = answer(true);
        let nothing = Some(Level { left: 0, whole: 100 });
        let mut levels = PLENTY;
        let told = |levels| {
            let list = computed(Ok(&up), levels, 0).conditions.unwrap();
            list[..3]
                .iter()
                .map(|condition| (condition.status.clone(), condition.reason.clone().unwrap()))
                .collect::<Vec<_>>()
        };
        let expected = |status: &str, reasons: [&str; 3]| {
            reasons
                .map(|reason| (status.to_string(), reason.to_string()))
                .to_vec()
        };
        assert_eq!(
            told(levels),
            expected(
                "False",
                [
                    "KubeletHasSufficientMemory",
                    "KubeletHasNoDiskPressure",
                    "KubeletHasSufficientPID"
                ]
            )
        );
        levels.memory.left = 1;
        levels.node.bytes = nothing;
        assert_eq!(
            told(levels)[..2],
            expected(
                "True",
                ["KubeletHasInsufficientMemory", "KubeletHasDiskPressure", ""]
            )[..2]
        );
    }

    #[test]
    fn only_changes_and_due_heartbeats_are_told() {
        let (up, down) = (answer(true), answer(false));
        let before = computed(Ok(&up), PLENTY, 0);
        let mut later = computed(Ok(&up), PLENTY, 60);
        keep_transitions(&mut later, &before);
        assert_eq!(status_patch(&before, &later, false), None);
        let beat = status_patch(&before, &later, true).unwrap();
        assert_eq!(
            beat["status"].as_object().unwrap().keys().collect::<Vec<_>>(),
            ["conditions"]
        );
        let mut broken = computed(Ok(&down), PLENTY, 60);
        keep_transitions(&mut broken, &before);
        let patch = status_patch(&before, &broken, false).unwrap();
        assert_eq!(
            patch["status"]["conditions"][3]["lastTransitionTime"],
            "1970-01-01T00:01:00Z"
        );
        assert_eq!(
            patch["status"]["conditions"][0]["lastTransitionTime"],
            "1970-01-01T00:00:00Z"
        );
        assert_eq!(transitions(&broken, &before), ["NodeNotReady"]);
    }
}
