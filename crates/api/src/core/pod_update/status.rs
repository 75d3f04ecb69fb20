//! What an update of a pod's status may say.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus};

use super::slice;
use crate::core::pod_spec;
use crate::field::{Errors, Path};
use crate::meta;
use crate::names;

pub(super) fn validate(new: &Pod, old: &Pod, errors: &mut Errors) {
    let path = Path::new("status");
    let (no_spec, no_status) = (PodSpec::default(), PodStatus::default());
    let spec = old.spec.as_ref().unwrap_or(&no_spec);
    let status = new.status.as_ref().unwrap_or(&no_status);
    let before = old.status.as_ref().unwrap_or(&no_status);
    for (index, condition) in slice(&status.conditions).iter().enumerate() {
        if !matches!(condition.type_.as_str(), "PodScheduled" | "Ready" | "Initialized") {
            // Upstream reports it below the metadata.
            let path = Path::new("metadata.conditions").index(index).child("Type");
            meta::validate_label_name(&condition.type_, &path, errors);
        }
    }
    if let Some(node) = status
        .nominated_node_name
        .as_ref()
        .filter(|node| !node.is_empty())
        && status.nominated_node_name != before.nominated_node_name
    {
        for message in names::dns_subdomain(node, false) {
            errors.invalid(&path.child("nominatedNodeName"), node, message);
        }
    }
    let class = |status: &PodStatus| status.qos_class.clone().unwrap_or_default();
    meta::immutable(&class(status), &class(before), &path.child("qosClass"), errors);
    let policy = spec.restart_policy.as_deref().unwrap_or_default();
    fn named<'c>(containers: &'c [Container], name: &str) -> Option<&'c Container> {
        containers.iter().find(|container| container.name == name)
    }
    let lists = [
        (
            "containerStatuses",
            &status.container_statuses,
            &before.container_statuses,
        ),
        (
            "initContainerStatuses",
            &status.init_container_statuses,
            &before.init_container_statuses,
        ),
        (
            "ephemeralContainerStatuses",
            &status.ephemeral_container_statuses,
            &before.ephemeral_container_statuses,
        ),
    ];
    for (field, new, old) in lists {
        let pod_policy = if field == "ephemeralContainerStatuses" {
            "Never"
        } else {
            policy
        };
        for (index, known) in slice(old).iter().enumerate() {
            let Some(code) = exit_code(known) else { continue };
            let container = named(&spec.containers, &known.name)
                .or_else(|| named(slice(&spec.init_containers), &known.name));
            let has_rules = container
                .as_ref()
                .is_some_and(|container| !slice(&container.restart_policy_rules).is_empty());
            let own = container.and_then(|container| container.restart_policy.as_deref());
            let policy = own.unwrap_or(pod_policy);
            if policy == "Always" || has_rules || (policy == "OnFailure" && code != 0) {
                continue;
            }
            let revived =
                |status: &&ContainerStatus| status.name == known.name && exit_code(status).is_none();
            if slice(new).iter().any(|status| revived(&status)) {
                errors.forbidden(
                    &path.child(field).index(index).child("state"),
                    "may not be transitioned to non-terminated state",
                );
            }
        }
    }
    let addresses: Vec<&str> = slice(&status.pod_ips).iter().map(|ip| ip.ip.as_str()).collect();
    for (index, address) in addresses.iter().enumerate() {
        pod_spec::check_ip(address, &path.child("podIPs").index(index), errors);
    }
    let six = addresses.iter().filter(|address| address.contains(':')).count();
    if addresses.len() > 2 || (addresses.len() == 2 && six != 1) {
        errors.invalid(
            &path.child("podIPs"),
            &status.pod_ips,
            "may specify no more than one IP for each IP family",
        );
    }
    if let Some(first) = slice(&status.host_ips).first() {
        if status.host_ip.as_deref() != Some(&first.ip) {
            errors.invalid(
                &path.child("hostIPs").index(0).child("ip"),
                &first.ip,
                "must be equal to `hostIP`",
            );
        }
        for (index, host) in slice(&status.host_ips).iter().enumerate() {
            pod_spec::check_ip(&host.ip, &path.child("hostIPs").index(index), errors);
        }
    }
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}
