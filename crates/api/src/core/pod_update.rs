//! What an update may change of a pod, through itself and through each of its subresources.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, EphemeralContainer, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm,
    Pod, PodSpec, PodStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde_json::Value;

use super::pod_spec;
use crate::field::{Errors, Path};
use crate::kind::{Kind, Subresource, Target};
use crate::meta;
use crate::names;
use crate::pod;
use crate::quantity::Quantity;

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
     `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
     tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const WHITESPACE: &str = "must not have leading or trailing whitespace";

fn slice<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

/// Carries over what cannot be changed here, and counts the generation.
pub(super) fn prepare(new: &mut Pod, old: &Pod, target: Target) {
    let none = PodSpec::default();
    let before = old.spec.as_ref().unwrap_or(&none);
    match target {
        Target::Main => new.status.clone_from(&old.status),
        // The server's own change of spec and status; upstream's binding raises no generation either.
        Target::Subresource(Subresource::Binding) => {
            new.metadata.generation = old.metadata.generation;
            return;
        }
        Target::Subresource(Subresource::EphemeralContainers) => {
            let containers = new.spec.take().and_then(|spec| spec.ephemeral_containers);
            new.spec = Some(PodSpec {
                ephemeral_containers: containers,
                ..before.clone()
            });
            new.status.clone_from(&old.status);
        }
        Target::Subresource(Subresource::Resize) => {
            let wanted = new.spec.take().unwrap_or_default();
            new.spec = Some(resized(&wanted, before));
            new.status.clone_from(&old.status);
        }
        Target::Subresource(_) => {
            new.spec.clone_from(&old.spec);
            new.metadata
                .deletion_timestamp
                .clone_from(&old.metadata.deletion_timestamp);
            new.metadata
                .owner_references
                .clone_from(&old.metadata.owner_references);
            keep_in_status(new.status.get_or_insert_default(), old.status.as_ref());
            new.metadata.generation = old.metadata.generation;
            return;
        }
    }
    let generation = old.metadata.generation.unwrap_or(0);
    let same = new.spec.as_ref().unwrap_or(&none) == before;
    new.metadata.generation = match (same, generation) {
        (true, 0) => None,
        (true, generation) => Some(generation),
        (false, generation) => Some(generation + 1),
    };
}

/// A resize takes only the containers' resources from the request; another set of containers is left to the
/// validation to refuse.
fn resized(wanted: &PodSpec, before: &PodSpec) -> PodSpec {
    let take = |new: &[Container], old: &[Container]| -> Vec<Container> {
        let names = |all: &[Container]| -> Vec<String> { all.iter().map(|one| one.name.clone()).collect() };
        if names(new) != names(old) {
            return new.to_vec();
        }
        old.iter()
            .zip(new)
            .map(|(old, new)| Container {
                resources: new.resources.clone(),
                resize_policy: new.resize_policy.clone(),
                ..old.clone()
            })
            .collect()
    };
    PodSpec {
        containers: take(&wanted.containers, &before.containers),
        init_containers: before
            .init_containers
            .as_ref()
            .map(|old| take(slice(&wanted.init_containers), old)),
        resources: wanted.resources.clone().or_else(|| before.resources.clone()),
        ..before.clone()
    }
}

/// What a status that leaves it out does not clear.
fn keep_in_status(new: &mut PodStatus, old: Option<&PodStatus>) {
    let Some(old) = old else { return };
    if new.qos_class.as_deref().unwrap_or_default().is_empty() {
        new.qos_class.clone_from(&old.qos_class);
    }
    if new.observed_generation.unwrap_or(0) == 0 {
        new.observed_generation = old.observed_generation;
    }
    for condition in new.conditions.iter_mut().flatten() {
        if condition.observed_generation.unwrap_or(0) == 0 {
            let known = old
                .conditions
                .iter()
                .flatten()
                .find(|known| known.type_ == condition.type_);
            condition.observed_generation = known.and_then(|known| known.observed_generation);
        }
    }
}

/// Checks what an update changes.
pub(super) fn validate(new: &Pod, old: &Pod, target: Target, errors: &mut Errors) {
    validate_mirror(new, old, errors);
    match target {
        Target::Main => validate_spec(new, old, errors),
        // Through these, too, the whole pod must be a valid one.
        Target::Subresource(Subresource::EphemeralContainers) => {
            Kind::validate(new, errors);
            validate_ephemeral(new, old, errors);
        }
        Target::Subresource(Subresource::Resize) => {
            Kind::validate(new, errors);
            validate_resize(new, old, errors);
        }
        Target::Subresource(_) => validate_status(new, old, errors),
    }
}

fn annotation<'p>(pod: &'p Pod, key: &str) -> Option<&'p String> {
    pod.metadata.annotations.as_ref().and_then(|all| all.get(key))
}

fn validate_mirror(new: &Pod, old: &Pod, errors: &mut Errors) {
    let key = pod::MIRROR_ANNOTATION;
    let path = Path::new("metadata.annotations").key(key);
    match (annotation(old, key), annotation(new, key)) {
        (Some(old), new) if Some(old) != new => {
            errors.forbidden(&path, "may not remove or update mirror pod annotation");
        }
        (None, Some(_)) => errors.forbidden(&path, "may not add mirror pod annotation"),
        _ => {}
    }
}

/// Whether the containers are as many as before; their images are checked.
fn validate_containers(new: &[Container], old: &[Container], path: &Path, errors: &mut Errors) -> bool {
    if new.len() != old.len() {
        errors.forbidden(path, "pod updates may not add or remove containers");
        return false;
    }
    for (index, container) in new.iter().enumerate() {
        let image = container.image.as_deref().unwrap_or_default();
        if image.is_empty() {
            errors.required(&path.index(index).child("image"), "");
        }
        if image.trim() != image {
            errors.invalid(&path.index(index).child("image"), image, WHITESPACE);
        }
    }
    true
}

fn validate_spec(new: &Pod, old: &Pod, errors: &mut Errors) {
    let path = Path::new("spec");
    let none = PodSpec::default();
    let (new, old) = (
        new.spec.as_ref().unwrap_or(&none),
        old.spec.as_ref().unwrap_or(&none),
    );
    if new == old {
        return;
    }
    let (init, old_init) = (slice(&new.init_containers), slice(&old.init_containers));
    if !validate_containers(
        &new.containers,
        &old.containers,
        &path.child("containers"),
        errors,
    ) || !validate_containers(init, old_init, &path.child("initContainers"), errors)
    {
        return;
    }
    let deadline = path.child("activeDeadlineSeconds");
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            return errors.invalid(&deadline, seconds, names::range(0, i64::from(i32::MAX)));
        }
        (Some(seconds), Some(before)) if before < seconds => {
            return errors.invalid(&deadline, seconds, "must be less than or equal to previous value");
        }
        (None, Some(_)) => errors.invalid(
            &deadline,
            Value::Null,
            "must not update from a positive integer to nil value",
        ),
        _ => {}
    }
    pod_spec::validate_only_added_tolerations(
        slice(&new.tolerations),
        slice(&old.tolerations),
        &path.child("tolerations"),
        errors,
    );
    let gates = slice(&old.scheduling_gates);
    for (index, gate) in slice(&new.scheduling_gates).iter().enumerate() {
        if !gates.contains(gate) {
            errors.forbidden(
                &path.child("schedulingGates").index(index).child("name"),
                &format!(
                    "only deletion is allowed, but found new scheduling gate '{}'",
                    gate.name
                ),
            );
        }
    }
    // What may change is put back; what then differs is forbidden.
    let mut rest = new.clone();
    let images = |new: &mut [Container], old: &[Container]| {
        for (new, old) in new.iter_mut().zip(old) {
            new.image.clone_from(&old.image);
        }
    };
    images(&mut rest.containers, &old.containers);
    images(rest.init_containers.as_deref_mut().unwrap_or_default(), old_init);
    rest.active_deadline_seconds = old.active_deadline_seconds;
    rest.scheduling_gates.clone_from(&old.scheduling_gates);
    rest.tolerations.clone_from(&old.tolerations);
    let was_negative = old
        .termination_grace_period_seconds
        .is_some_and(|seconds| seconds < 0);
    if was_negative && rest.termination_grace_period_seconds == Some(1) {
        rest.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    if !gates.is_empty() {
        validate_gated(&mut rest, old, &path, errors);
    }
    if !same(&rest, old) {
        let changes = difference(old, &rest);
        errors.forbidden(&path, &format!("{UPDATABLE}\n{changes}"));
    }
}

/// While it is gated, a pod may be steered to nodes more narrowly.
fn validate_gated(rest: &mut PodSpec, old: &PodSpec, path: &Path, errors: &mut Errors) {
    let (wanted, before) = (
        rest.node_selector.clone().unwrap_or_default(),
        old.node_selector.clone().unwrap_or_default(),
    );
    if before.iter().any(|(key, value)| wanted.get(key) != Some(value)) {
        errors.invalid(
            &path.child("nodeSelector"),
            &rest.node_selector,
            "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        );
    }
    rest.node_selector.clone_from(&old.node_selector);
    let affinity = |spec: &PodSpec| {
        spec.affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.clone())
    };
    validate_gated_affinity(
        affinity(rest).as_ref(),
        affinity(old).as_ref(),
        &path
            .child("affinity")
            .child("nodeAffinity")
            .child("requiredDuringSchedulingIgnoredDuringExecution")
            .child("nodeSelectorTerms"),
        errors,
    );
    let mut whole = rest.affinity.clone().unwrap_or_default();
    whole.node_affinity = affinity(old);
    rest.affinity = if old.affinity.is_none() && whole == Default::default() {
        None
    } else {
        Some(whole)
    };
}

fn validate_gated_affinity(
    new: Option<&NodeAffinity>,
    old: Option<&NodeAffinity>,
    path: &Path,
    errors: &mut Errors,
) {
    let terms = |affinity: Option<&NodeAffinity>| -> Vec<NodeSelectorTerm> {
        affinity
            .and_then(|affinity| {
                affinity
                    .required_during_scheduling_ignored_during_execution
                    .as_ref()
            })
            .map(|required| required.node_selector_terms.clone())
            .unwrap_or_default()
    };
    let (new, old) = (terms(new), terms(old));
    if old.is_empty() {
        return;
    }
    if new.len() != old.len() {
        return errors.invalid(
            path,
            &new,
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        );
    }
    let added = |new: &Option<Vec<NodeSelectorRequirement>>, old: &Option<Vec<NodeSelectorRequirement>>| {
        slice(new).starts_with(slice(old))
    };
    for (index, (new, old)) in new.iter().zip(&old).enumerate() {
        let was_empty = slice(&old.match_expressions).is_empty() && slice(&old.match_fields).is_empty();
        let only_added = added(&new.match_expressions, &old.match_expressions)
            && added(&new.match_fields, &old.match_fields)
            && (!was_empty || new == old);
        if !only_added {
            errors.invalid(
                &path.index(index),
                new,
                "only additions are allowed (no mutations or deletions)",
            );
        }
    }
}

/// Whether two specs say the same: an absent list is as good as an empty one.
fn same(a: &PodSpec, b: &PodSpec) -> bool {
    a == b || matches!((plain(a), plain(b)), (Some(a), Some(b)) if a == b)
}

fn plain(spec: &PodSpec) -> Option<Value> {
    let mut value = serde_json::to_value(spec).ok()?;
    prune(&mut value);
    Some(value)
}

/// Drops what is empty.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|_, value| match value {
                Value::Null => false,
                Value::Array(list) => !list.is_empty(),
                Value::Object(map) => !map.is_empty(),
                Value::String(text) => !text.is_empty(),
                Value::Bool(flag) => *flag,
                Value::Number(_) => true,
            });
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}

/// The fields in which two specs differ, one a line: what was, and what is wanted.
fn difference(old: &PodSpec, new: &PodSpec) -> String {
    let mut lines = Vec::new();
    if let (Some(old), Some(new)) = (plain(old), plain(new)) {
        collect("", &old, &new, &mut lines);
    }
    format!("  core.PodSpec{{\n{}\n  }}\n", lines.join("\n"))
}

fn collect(path: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let get = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                collect(&path, &get(a), &get(b), lines);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                collect(&format!("{path}[{index}]"), a, b, lines);
            }
        }
        (old, new) => {
            for (sign, value) in [('-', old), ('+', new)] {
                if !value.is_null() {
                    lines.push(format!("{sign} \t{path}: {value},"));
                }
            }
        }
    }
}

fn validate_ephemeral(new: &Pod, old: &Pod, errors: &mut Errors) {
    if annotation(old, pod::MIRROR_ANNOTATION).is_some() {
        return errors.forbidden(&Path::new(""), "static pods do not support ephemeral containers");
    }
    let path = Path::new("spec.ephemeralContainers");
    fn all(pod: &Pod) -> &[EphemeralContainer] {
        pod.spec
            .as_ref()
            .map(|spec| slice(&spec.ephemeral_containers))
            .unwrap_or_default()
    }
    let wanted: BTreeMap<&str, &EphemeralContainer> =
        all(new).iter().map(|one| (one.name.as_str(), one)).collect();
    for known in all(old) {
        match wanted.get(known.name.as_str()) {
            None => errors.forbidden(
                &path,
                &format!(
                    "existing ephemeral containers {:?} may not be removed\n",
                    known.name
                ),
            ),
            Some(same) if *same != known => errors.forbidden(
                &path,
                &format!(
                    "existing ephemeral containers {:?} may not be changed\n",
                    known.name
                ),
            ),
            Some(_) => {}
        }
    }
}

fn validate_resize(new: &Pod, old: &Pod, errors: &mut Errors) {
    let root = Path::new("");
    let (wanted, before) = (
        new.spec.clone().unwrap_or_default(),
        old.spec.clone().unwrap_or_default(),
    );
    if annotation(old, pod::MIRROR_ANNOTATION).is_some() {
        return errors.forbidden(&root, "static pods cannot be resized");
    }
    if before.os.as_ref().is_some_and(|os| os.name == "windows") {
        return errors.forbidden(&root, "windows pods cannot be resized");
    }
    let path = Path::new("spec");
    if pod::qos_class(&wanted) != pod::qos_class(&before) {
        let class = new.status.as_ref().and_then(|status| status.qos_class.clone());
        errors.invalid(
            &path,
            class,
            "Pod QOS Class may not change as a result of resizing",
        );
    }
    let lists = [
        (
            "containers",
            wanted.containers.as_slice(),
            before.containers.as_slice(),
        ),
        (
            "initContainers",
            slice(&wanted.init_containers),
            slice(&before.init_containers),
        ),
    ];
    for (list, new, old) in lists {
        if new.len() != old.len() || new.iter().zip(old).any(|(new, old)| new.name != old.name) {
            errors.forbidden(&path, "only cpu and memory resources are mutable");
            continue;
        }
        for (index, (new, old)) in new.iter().zip(old).enumerate() {
            if list == "initContainers" && !pod::is_sidecar(old) {
                if new != old {
                    errors.forbidden(&path, "resources for non-sidecar init containers are immutable");
                }
                continue;
            }
            let empty = ResourceRequirements::default();
            validate_container_resize(
                new.resources.as_ref().unwrap_or(&empty),
                old.resources.as_ref().unwrap_or(&empty),
                new,
                &path.child(list).index(index).child("resources"),
                errors,
            );
        }
    }
}

fn validate_container_resize(
    new: &ResourceRequirements,
    old: &ResourceRequirements,
    container: &Container,
    path: &Path,
    errors: &mut Errors,
) {
    let amounts = |side: &Option<BTreeMap<String, Text>>| side.clone().unwrap_or_default();
    let sides = [
        ("requests", amounts(&new.requests), amounts(&old.requests)),
        ("limits", amounts(&new.limits), amounts(&old.limits)),
    ];
    let mut others = false;
    for (field, new, old) in &sides {
        if old.keys().any(|name| !new.contains_key(name)) {
            let what = field.trim_end_matches('s');
            errors.forbidden(&path.child(field), &format!("resource {what}s cannot be removed"));
        }
        let fixed = |amounts: &BTreeMap<String, Text>| -> BTreeMap<String, Text> {
            amounts
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "cpu" | "memory"))
                .map(|(name, amount)| (name.clone(), amount.clone()))
                .collect()
        };
        others |= fixed(new) != fixed(old);
    }
    if others {
        errors.forbidden(&Path::new("spec"), "only cpu and memory resources are mutable");
    }
    let restarts = slice(&container.resize_policy)
        .iter()
        .any(|policy| policy.resource_name == "memory" && policy.restart_policy == "RestartContainer");
    let memory = |side: &Option<BTreeMap<String, Text>>| {
        side.as_ref()
            .and_then(|amounts| amounts.get("memory"))
            .map(Quantity::of)
    };
    let at = path.child("limits").key("memory");
    match (memory(&new.limits), memory(&old.limits)) {
        (Some(wanted), Some(before)) if wanted < before && !restarts => errors.forbidden(
            &at,
            "memory limits cannot be decreased unless resizePolicy is RestartContainer",
        ),
        (Some(_), None) if !restarts => errors.forbidden(
            &at,
            "memory limits cannot be added unless resizePolicy is RestartContainer",
        ),
        _ => {}
    }
}

fn validate_status(new: &Pod, old: &Pod, errors: &mut Errors) {
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
