//! The strategic merge patch that brings a pod's status in the API to the one that was computed.

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Map, Value, json};

/// Only these are the kubelet's to write; conditions of other types stay as they are.
const FIELDS: [&str; 14] = [
    "phase",
    "reason",
    "message",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "startTime",
    "qosClass",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
    "observedGeneration",
    "conditions",
];
/// Lists that merge by `ip`, so that what is gone has to be said.
const BY_IP: [&str; 2] = ["hostIPs", "podIPs"];

fn object(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// The patch from `told` to `wanted`; `None` when nothing has to change. The uid keeps it off a successor of the pod.
pub(crate) fn status_patch(pod: &Pod, told: &PodStatus, wanted: &PodStatus) -> Option<Value> {
    let (told, wanted) = (object(told), object(wanted));
    let mut changes = Map::new();
    for field in FIELDS {
        let (before, after) = (told.get(field), wanted.get(field));
        if field == "conditions" {
            let conditions = conditions_patch(before, after);
            if !conditions.is_empty() {
                changes.insert(field.into(), Value::Array(conditions));
            }
        } else if before != after {
            let value = match after {
                Some(Value::Array(items)) if BY_IP.contains(&field) => by_ip(before, items),
                Some(value) => value.clone(),
                None => Value::Null,
            };
            changes.insert(field.into(), value);
        }
    }
    if changes.is_empty() {
        return None;
    }
    Some(json!({ "metadata": { "uid": pod.metadata.uid }, "status": changes }))
}

fn by_ip(before: Option<&Value>, after: &[Value]) -> Value {
    let mut items = after.to_vec();
    for old in before.and_then(Value::as_array).into_iter().flatten() {
        if !after.contains(old)
            && let Some(ip) = old.get("ip")
        {
            items.push(json!({ "$patch": "delete", "ip": ip }));
        }
    }
    Value::Array(items)
}

fn conditions_patch(before: Option<&Value>, after: Option<&Value>) -> Vec<Value> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let before = list(before);
    let mut changed = Vec::new();
    for condition in list(after) {
        let old = before.iter().find(|old| old.get("type") == condition.get("type"));
        let Value::Object(mut new) = condition else {
            continue;
        };
        if let Some(Value::Object(old)) = old {
            let mut old = old.clone();
            // Go writes the empty probe time as null.
            old.retain(|_, value| !value.is_null());
            if old == new {
                continue;
            }
            for key in old.keys().filter(|key| *key != "lastProbeTime") {
                new.entry(key.clone()).or_insert(Value::Null);
            }
        }
        changed.push(Value::Object(new));
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodCondition, PodIP};

    fn condition(kind: &str, status: &str, reason: Option<&str>) -> PodCondition {
        PodCondition {
            type_: kind.into(),
            status: status.into(),
            reason: reason.map(Into::into),
            ..PodCondition::default()
        }
    }

    #[test]
    fn only_what_changed_is_sent_and_what_is_gone_is_null() {
        let mut pod = Pod::default();
        pod.metadata.uid = Some("u".into());
        let told = PodStatus {
            phase: Some("Pending".into()),
            reason: Some("Odd".into()),
            pod_ips: Some(vec![PodIP {
                ip: "10.0.0.1".into(),
            }]),
            nominated_node_name: Some("not ours".into()),
            conditions: Some(vec![
                condition("Ready", "False", Some("ContainersNotReady")),
                condition("Initialized", "True", None),
                condition("example.com/gate", "True", None),
            ]),
            ..PodStatus::default()
        };
        assert_eq!(status_patch(&pod, &told, &told), None);
        let wanted = PodStatus {
            phase: Some("Running".into()),
            pod_ips: Some(vec![PodIP {
                ip: "10.0.0.2".into(),
            }]),
            conditions: Some(vec![
                condition("Ready", "True", None),
                condition("Initialized", "True", None),
            ]),
            ..PodStatus::default()
        };
        assert_eq!(
            status_patch(&pod, &told, &wanted),
            Some(json!({
                "metadata": { "uid": "u" },
                "status": {
                    "phase": "Running",
                    "reason": null,
                    "podIPs": [{ "ip": "10.0.0.2" }, { "$patch": "delete", "ip": "10.0.0.1" }],
                    "conditions": [{ "type": "Ready", "status": "True", "reason": null }],
                },
            }))
        );
    }
}
