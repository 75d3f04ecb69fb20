//! Whether the node takes a pod that was bound to it: the last word, after the scheduler's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod};

use crate::resources::{Amounts, amounts, pod_requests};

/// Why a pod is not taken: the reason and message of its `Failed` status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Decides on a pod beside those that are here already.
///
/// # Errors
/// Why not.
pub(crate) fn admit(
    pod: &Pod,
    node: &Node,
    allocatable: &Amounts,
    max_pods: usize,
    others: &BTreeMap<String, Amounts>,
) -> Result<(), Refusal> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let fits = required.is_none_or(|selector| {
        selector
            .node_selector_terms
            .iter()
            .any(|term| term_matches(term, &labels, name))
    });
    if !selected || !fits {
        return Err(Refusal {
            reason: "NodeAffinity".into(),
            message: "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
                .into(),
        });
    }
    if let Some(os) = spec.os.as_ref().filter(|os| os.name != "linux") {
        return Err(Refusal {
            reason: "PodOSNotSupported".into(),
            message: format!(
                "Failed to admit pod as the OS field doesn't match node OS: pod wants {:?}",
                os.name
            ),
        });
    }
    let short = |resource: &str, requested: i64, used: i64, capacity: i64| Refusal {
        reason: format!("OutOf{resource}"),
        message: format!(
            "Pod was rejected: Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    };
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    if others.len() >= max_pods {
        return Err(short("pods", 1, count(others.len()), count(max_pods)));
    }
    for (resource, requested) in pod_requests(spec) {
        if requested == 0 {
            continue;
        }
        let used: i64 = others
            .values()
            .map(|amounts| amounts.get(&resource).copied().unwrap_or(0))
            .fold(0, i64::saturating_add);
        let capacity = allocatable.get(&resource).copied().or_else(|| {
            let extended = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
            amounts(extended).get(&resource).copied()
        });
        let capacity = capacity.unwrap_or(0);
        if requested > capacity.saturating_sub(used) {
            return Err(short(&resource, requested, used, capacity));
        }
    }
    Ok(())
}

fn term_matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let by_label = expressions.iter().all(|requirement| {
        requirement_matches(requirement, labels.get(&requirement.key).map(String::as_str))
    });
    let by_field = fields.iter().all(|requirement| {
        requirement.key == "metadata.name" && requirement_matches(requirement, Some(name))
    });
    by_label && by_field
}

fn requirement_matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|v| v == value));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let bound = number(values.first().map(String::as_str));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value)
            .zip(bound)
            .is_some_and(|(value, bound)| value > bound),
        "Lt" => number(value)
            .zip(bound)
            .is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::fixtures::pod;
    use serde_json::json;

    #[test]
    fn a_pod_is_taken_when_it_fits() {
        let node: Node =
            serde_json::from_value(json!({ "metadata": { "name": "n", "labels": { "a": "1" } } })).unwrap();
        let allocatable: Amounts = [("cpu".into(), 2000), ("memory".into(), 1 << 30)].into();
        let others: BTreeMap<String, Amounts> = [("x".into(), [("cpu".into(), 1500)].into())].into();
        let cpu = |cpu: &str| json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] });
        let affinity = |value: &str| {
            json!({ "containers": [], "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchExpressions": [{ "key": "a", "operator": "In", "values": [value] }] }] } } } })
        };
        let cases = [
            (cpu("500m"), None),
            (cpu("501m"), Some("OutOfcpu")),
            (json!({ "containers": [], "nodeSelector": { "a": "1" } }), None),
            (
                json!({ "containers": [], "nodeSelector": { "a": "2" } }),
                Some("NodeAffinity"),
            ),
            (affinity("1"), None),
            (affinity("2"), Some("NodeAffinity")),
        ];
        for (spec, reason) in cases {
            let refused = admit(&pod(spec.clone()), &node, &allocatable, 110, &others);
            assert_eq!(refused.err().map(|r| r.reason).as_deref(), reason, "{spec}");
        }
        let full = admit(&pod(cpu("1m")), &node, &allocatable, 1, &others).unwrap_err();
        assert_eq!(full.reason, "OutOfpods");
        let short = admit(&pod(cpu("1")), &node, &allocatable, 110, &others).unwrap_err();
        assert_eq!(
            short.message,
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000"
        );
    }
}
