//! What an update of a pod's status may say (`ValidatePodStatusUpdate`).

mod resources;
mod states;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodSpec, PodStatus};

use super::slice;
use crate::core::address;
use crate::field::{Errors, Path};
use crate::internal;
use crate::meta;
use crate::names;

pub(super) const NOT_NEGATIVE: &str = "must be a non-negative integer";
const ONE_EACH: &str = "may specify no more than one IP for each IP family";

/// The lists of statuses of containers: the name of the field, and the statuses.
fn lists(status: &PodStatus) -> [(&'static str, &[ContainerStatus]); 3] {
    [
        ("containerStatuses", slice(&status.container_statuses)),
        ("initContainerStatuses", slice(&status.init_container_statuses)),
        (
            "ephemeralContainerStatuses",
            slice(&status.ephemeral_container_statuses),
        ),
    ]
}

pub(super) fn validate(new: &Pod, old: &Pod, errors: &mut Errors) {
    let path = Path::new("status");
    let (no_spec, no_status) = (PodSpec::default(), PodStatus::default());
    let spec = old.spec.as_ref().unwrap_or(&no_spec);
    let status = new.status.as_ref().unwrap_or(&no_status);
    let before = old.status.as_ref().unwrap_or(&no_status);
    validate_conditions(slice(&status.conditions), &path.child("conditions"), errors);
    validate_nominated(status, before, spec, &path.child("nominatedNodeName"), errors);
    if let Some(generation) = status.observed_generation.filter(|&generation| generation < 0) {
        errors.invalid(&path.child("observedGeneration"), generation, NOT_NEGATIVE);
    }
    let class = |status: &PodStatus| status.qos_class.clone().unwrap_or_default();
    meta::immutable(&class(status), &class(before), &path.child("qosClass"), errors);
    for ((field, new), (_, old)) in lists(status).into_iter().zip(lists(before)) {
        states::validate(field, new, old, spec, &path.child(field), errors);
    }
    resources::validate_claims(status, spec, &path, errors);
    let addresses: Vec<&str> = slice(&status.pod_ips).iter().map(|ip| ip.ip.as_str()).collect();
    let kept: Vec<String> = slice(&before.pod_ips).iter().map(|ip| ip.ip.clone()).collect();
    let at = path.child("podIPs");
    for (index, text) in addresses.iter().enumerate() {
        address::check(text, &kept, &at.index(index), errors);
    }
    if !address::one_of_each_family(&addresses) {
        errors.invalid(&at, internal::list("PodIP", slice(&status.pod_ips)), ONE_EACH);
    }
    validate_host_ips(status, before, &path.child("hostIPs"), errors);
    let os = spec.os.as_ref().map_or("linux", |os| os.name.as_str());
    for (field, statuses) in lists(status) {
        states::validate_users(statuses, os, &path.child(field), errors);
    }
    for (field, statuses) in lists(status) {
        resources::validate_allocated(field, statuses, spec, &path.child(field), errors);
    }
}

fn validate_conditions(conditions: &[PodCondition], path: &Path, errors: &mut Errors) {
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        if let Some(generation) = condition.observed_generation.filter(|&generation| generation < 0) {
            errors.invalid(&path.child("observedGeneration"), generation, NOT_NEGATIVE);
        }
        if !matches!(condition.type_.as_str(), "PodScheduled" | "Ready" | "Initialized") {
            meta::validate_label_name(&condition.type_, &path.child("Type"), errors);
        }
    }
}

fn validate_nominated(
    status: &PodStatus,
    before: &PodStatus,
    spec: &PodSpec,
    path: &Path,
    errors: &mut Errors,
) {
    let nominated = |status: &PodStatus| status.nominated_node_name.clone().unwrap_or_default();
    let node = nominated(status);
    if node.is_empty() || node == nominated(before) {
        return;
    }
    errors.invalid_each(path, &node, names::dns_subdomain(&node, false));
    if spec.node_name.as_ref().is_some_and(|name| !name.is_empty()) {
        errors.forbidden(path, "may not be set on pods that are already bound to a node");
    }
}

fn validate_host_ips(status: &PodStatus, before: &PodStatus, path: &Path, errors: &mut Errors) {
    let hosts = slice(&status.host_ips);
    let Some(first) = hosts.first() else { return };
    if status.host_ip.as_deref().unwrap_or_default() != first.ip {
        errors.invalid(&path.index(0).child("ip"), &first.ip, "must be equal to `hostIP`");
    }
    let kept: Vec<String> = slice(&before.host_ips).iter().map(|ip| ip.ip.clone()).collect();
    for (index, host) in hosts.iter().enumerate() {
        address::check(&host.ip, &kept, &path.index(index), errors);
    }
    let addresses: Vec<&str> = hosts.iter().map(|host| host.ip.as_str()).collect();
    if !address::one_of_each_family(&addresses) {
        errors.invalid(path, hosts, ONE_EACH);
    }
}

/// What the writer of a status is told: of addresses that nobody else writes that way.
pub(in crate::core) fn warnings(pod: &Pod) -> Vec<String> {
    let none = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    let pods = slice(&status.pod_ips).iter().map(|ip| ip.ip.as_str());
    let hosts = slice(&status.host_ips).iter().map(|ip| ip.ip.as_str());
    let at = |list: &str, index: usize| Path::new("status").child(list).index(index).child("ip");
    let pods = pods
        .enumerate()
        .filter_map(|(index, ip)| address::warning(&at("podIPs", index), ip));
    let hosts = hosts
        .enumerate()
        .filter_map(|(index, ip)| address::warning(&at("hostIPs", index), ip));
    pods.chain(hosts).collect()
}
