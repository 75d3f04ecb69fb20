//! What is allowed in a pod's spec and yet probably not meant (`GetWarningsForPod`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::slice;
use crate::field::Path;
use crate::quantity::Quantity;

/// Node labels that have been renamed.
const RENAMED_LABELS: [(&str, &str); 5] = [
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/zone",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
    ),
];

/// Adds the warnings about a spec.
pub(crate) fn warn(spec: &PodSpec, path: &Path, warnings: &mut Vec<String>) {
    for key in spec.node_selector.iter().flatten().map(|(key, _)| key) {
        let renamed = RENAMED_LABELS.iter().find(|(old, _)| old == key);
        if let Some((old, new)) = renamed {
            let place = path.child("nodeSelector").key(old);
            warnings.push(format!("{place}: deprecated since v1.14; use {new:?} instead"));
        }
    }
    for (index, alias) in slice(&spec.host_aliases).iter().enumerate() {
        if slice(&spec.host_aliases)
            .iter()
            .take(index)
            .any(|earlier| earlier.ip == alias.ip)
        {
            let place = path.child("hostAliases").index(index).child("ip");
            warnings.push(format!("{place}: duplicate ip {:?}", alias.ip));
        }
    }
    let mut secrets = BTreeMap::new();
    for (index, secret) in slice(&spec.image_pull_secrets).iter().enumerate() {
        let place = path.child("imagePullSecrets").index(index);
        if secret.name.is_empty() {
            warnings.push(format!("{}: invalid empty name \"\"", place.child("name")));
        } else if secrets.insert(&secret.name, index).is_some() {
            warnings.push(format!(
                "{}: duplicate name {:?}",
                place.child("name"),
                secret.name
            ));
        }
    }
    if spec
        .termination_grace_period_seconds
        .is_some_and(|seconds| seconds < 0)
    {
        warnings.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            path.child("terminationGracePeriodSeconds")
        ));
    }
    for (list, containers) in [
        ("containers", spec.containers.as_slice()),
        ("initContainers", slice(&spec.init_containers)),
    ] {
        for (index, container) in containers.iter().enumerate() {
            warn_of_container(container, &path.child(list).index(index), warnings);
        }
    }
}

fn warn_of_container(container: &Container, path: &Path, warnings: &mut Vec<String>) {
    let resources = container.resources.as_ref();
    let sides = [
        (
            "requests",
            resources.and_then(|resources| resources.requests.as_ref()),
        ),
        (
            "limits",
            resources.and_then(|resources| resources.limits.as_ref()),
        ),
    ];
    for (side, amounts) in sides {
        for (name, amount) in amounts.into_iter().flatten() {
            let bytes =
                matches!(name.as_str(), "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
            if bytes && !Quantity::of(amount).is_whole() {
                let place = path.child("resources").child(side).key(name);
                warnings.push(format!(
                    "{place}: fractional byte value {:?} is invalid, must be an integer",
                    amount.0
                ));
            }
        }
    }
    let mut variables = BTreeMap::new();
    for (index, variable) in slice(&container.env).iter().enumerate() {
        let place = path.child("env").index(index);
        if let Some(earlier) = variables.insert(&variable.name, index) {
            // One that builds on the earlier one is meant.
            let builds = variable
                .value
                .as_ref()
                .is_some_and(|value| value.contains(&format!("$({})", variable.name)));
            if !builds {
                let earlier = path.child("env").index(earlier);
                warnings.push(format!(
                    "{place}: hides previous definition of {:?}, which may be dropped when using apply: see {earlier}",
                    variable.name
                ));
            }
        }
    }
    let mut ports = BTreeMap::new();
    for (index, port) in slice(&container.ports).iter().enumerate() {
        let place = path.child("ports").index(index);
        let key = (port.container_port, &port.protocol, port.host_port, &port.host_ip);
        if let Some(earlier) = ports.insert(key, index) {
            let earlier = path.child("ports").index(earlier);
            warnings.push(format!("{place}: duplicate port definition with {earlier}"));
        }
    }
}
