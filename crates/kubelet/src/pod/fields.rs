//! The downward API: a pod's own fields and resources as text, for variables and for files.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};

use super::env::escape_values;
use crate::resources::{Amounts, limits, nanos, requests};

/// Facts that the pod object does not hold yet when its containers start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) pod_ips: Vec<String>,
    pub(crate) host_ip: String,
    pub(crate) node_name: String,
    /// What the node can give: the limit of a container that has none.
    pub(crate) allocatable: Amounts,
}

/// `metadata.labels['x']` as its base and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (base, key) = path.split_once("['")?;
    Some((base, key.strip_suffix("']")?))
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", escape_values(value)))
        .collect();
    lines.join("\n")
}

/// The value of a `fieldRef`.
///
/// # Errors
/// The text that the container's status shows.
pub(crate) fn field(pod: &Pod, facts: &Facts, selector: &ObjectFieldSelector) -> Result<String, String> {
    let meta = &pod.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let path = selector.field_path.as_str();
    if let Some((base, key)) = subscript(path) {
        let map = match base {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        return Ok(map
            .as_ref()
            .and_then(|map| map.get(key))
            .cloned()
            .unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => spec
            .and_then(|s| s.node_name.clone())
            .unwrap_or_else(|| facts.node_name.clone()),
        "spec.serviceAccountName" => spec
            .and_then(|s| s.service_account_name.clone())
            .unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.clone(),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// The value of a `resourceFieldRef`: in units of the divisor, rounded up.
///
/// # Errors
/// The text that the container's status shows.
pub(crate) fn resource(
    container: &Container,
    facts: &Facts,
    selector: &ResourceFieldSelector,
) -> Result<String, String> {
    let (list, name) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?;
    let resources = container.resources.as_ref();
    let own = match list {
        "limits" => limits(resources).get(name).copied().or_else(|| {
            let node = facts.allocatable.get(name).copied();
            node.filter(|_| matches!(name, "cpu" | "memory" | "ephemeral-storage"))
        }),
        "requests" => requests(resources).get(name).copied(),
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let amount = i128::from(own.unwrap_or(0));
    // CPU is held in thousandths, the divisor is in billionths of a unit.
    let scaled = if name == "cpu" {
        amount * 1_000_000
    } else {
        amount * 1_000_000_000
    };
    let divisor = selector
        .divisor
        .as_ref()
        .map(nanos)
        .filter(|divisor| *divisor > 0)
        .unwrap_or(1_000_000_000);
    Ok(((scaled + divisor - 1) / divisor).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    #[test]
    fn fields_are_found_by_their_paths() {
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".into());
        pod.metadata.labels = Some([("a".into(), "x\"y".into()), ("b.c/d".into(), "2".into())].into());
        let facts = Facts {
            pod_ips: vec!["10.0.0.1".into(), "fd00::1".into()],
            host_ip: "1.2.3.4".into(),
            ..Facts::default()
        };
        let cases = [
            ("metadata.name", Ok("p")),
            ("metadata.labels['b.c/d']", Ok("2")),
            ("metadata.labels['none']", Ok("")),
            ("metadata.labels", Ok("a=\"x\\\"y\"\nb.c/d=\"2\"")),
            ("status.podIP", Ok("10.0.0.1")),
            ("status.podIPs", Ok("10.0.0.1,fd00::1")),
            ("status.hostIP", Ok("1.2.3.4")),
            ("spec.nothing", Err("unsupported fieldPath: spec.nothing")),
        ];
        for (path, expected) in cases {
            let selector = ObjectFieldSelector {
                api_version: None,
                field_path: path.into(),
            };
            let expected = expected.map(String::from).map_err(String::from);
            assert_eq!(field(&pod, &facts, &selector), expected, "{path}");
        }
    }

    #[test]
    fn resources_are_rounded_up_to_the_divisor() {
        let list = |pairs: &[(&str, &str)]| {
            Some(
                pairs
                    .iter()
                    .map(|(k, v)| ((*k).into(), Quantity((*v).into())))
                    .collect(),
            )
        };
        let container = Container {
            resources: Some(k8s_openapi::api::core::v1::ResourceRequirements {
                requests: list(&[("cpu", "250m"), ("memory", "64Mi")]),
                limits: list(&[("memory", "128Mi")]),
                claims: None,
            }),
            ..Container::default()
        };
        let facts = Facts {
            allocatable: [("cpu".into(), 2000), ("memory".into(), 1 << 30)].into(),
            ..Facts::default()
        };
        let cases = [
            ("requests.cpu", None, "1"),
            ("requests.cpu", Some("1m"), "250"),
            ("requests.memory", Some("1Mi"), "64"),
            ("limits.memory", None, "134217728"),
            ("limits.cpu", None, "2"),
        ];
        for (name, divisor, expected) in cases {
            let selector = ResourceFieldSelector {
                container_name: None,
                divisor: divisor.map(|d: &str| Quantity(d.into())),
                resource: name.into(),
            };
            assert_eq!(
                resource(&container, &facts, &selector).unwrap(),
                expected,
                "{name}"
            );
        }
    }
}
