//! What a pod asks of a node, in the numbers that cgroups and admission count in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use skiff_api::quantity::Quantity;

pub(crate) use skiff_api::pod::{QosClass, is_sidecar, qos_class};

/// Resource names and amounts: CPU in thousandths, everything else in units, rounded up.
pub(crate) type Amounts = BTreeMap<String, i64>;

fn amount(name: &str, quantity: Quantity) -> i64 {
    if name == "cpu" {
        quantity.milli_value()
    } else {
        quantity.value()
    }
}

/// A resource list as numbers.
pub(crate) fn amounts(list: Option<&BTreeMap<String, Text>>) -> Amounts {
    list.into_iter()
        .flatten()
        .map(|(name, quantity)| (name.clone(), amount(name, Quantity::of(quantity))))
        .collect()
}

/// A container's own requests.
pub(crate) fn requests(resources: Option<&ResourceRequirements>) -> Amounts {
    amounts(resources.and_then(|r| r.requests.as_ref()))
}

/// A container's own limits.
pub(crate) fn limits(resources: Option<&ResourceRequirements>) -> Amounts {
    amounts(resources.and_then(|r| r.limits.as_ref()))
}

/// The value in billionths of a unit.
pub(crate) fn nanos(text: &Text) -> i128 {
    Quantity::of(text).nanos()
}

/// What the pod requests of a node.
pub(crate) fn pod_requests(spec: &PodSpec) -> Amounts {
    skiff_api::pod::requests(spec)
        .into_iter()
        .map(|(name, quantity)| (name.clone(), amount(&name, quantity)))
        .collect()
}

/// The limit of the whole pod for one resource; `None` when a container has none.
pub(crate) fn pod_limit(spec: &PodSpec, resource: &str) -> Option<i64> {
    let own = limits(spec.resources.as_ref()).contains_key(resource);
    let all = || {
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .all(|c| {
                limits(c.resources.as_ref())
                    .get(resource)
                    .is_some_and(|limit| *limit > 0)
            })
    };
    if !own && !all() {
        return None;
    }
    let limit = skiff_api::pod::limits(spec).get(resource).copied()?;
    Some(amount(resource, limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_limited_only_when_all_its_containers_are() {
        let spec = |limits: &[&str]| -> PodSpec {
            let containers: Vec<_> = limits
                .iter()
                .map(|cpu| match *cpu {
                    "" => json!({ "name": "c" }),
                    cpu => json!({ "name": "c", "resources": { "limits": { "cpu": cpu } } }),
                })
                .collect();
            serde_json::from_value(json!({ "containers": containers })).unwrap()
        };
        assert_eq!(pod_limit(&spec(&["1", "1500m"]), "cpu"), Some(2500));
        assert_eq!(pod_limit(&spec(&["1", ""]), "cpu"), None);
        let mut own = spec(&["1", ""]);
        own.resources = Some(ResourceRequirements {
            limits: Some([("cpu".into(), Text("4".into()))].into()),
            ..ResourceRequirements::default()
        });
        assert_eq!(pod_limit(&own, "cpu"), Some(4000));
    }
}
