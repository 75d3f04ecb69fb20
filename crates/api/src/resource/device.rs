//! One device of a pool: its attributes, capacities and counters, where it can be used, and what it takes to use it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::resource::v1::{
    Counter, Device, DeviceAttribute, DeviceCounterConsumption, NodeAllocatableResource,
};

use super::{names, request_policy, taints};
use crate::core::pod_spec::validate_node_selector;
use crate::field::{Errors, Path};
use crate::meta;
use crate::names as words;
use crate::quantity::Quantity;
use crate::same::same;

const MOST_ATTRIBUTES: usize = 32;
const MOST_VALUES: usize = 48;
const MOST_TAINTS: usize = 16;
const MOST_CONSUMPTIONS: usize = 2;
pub(super) const MOST_COUNTERS: usize = 32;
const MOST_CONDITIONS: usize = 4;
/// The longest value of an attribute, in bytes.
const MAX_VALUE: usize = 64;
const ONE_PLACE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
                         `perDeviceNodeSelection` is set to true in the ResourceSlice spec";

/// Checks a device; `old` is the one of this name before, `placed` whether devices say where they are.
pub(super) fn validate(
    device: &Device,
    old: Option<&Device>,
    placed: bool,
    path: &Path,
    errors: &mut Errors,
) {
    names::check_label(&device.name, &path.child("name"), errors);
    let nothing = BTreeMap::new();
    let attributes = device.attributes.as_ref().unwrap_or(&nothing);
    let count = attributes.len() + device.capacity.as_ref().map_or(0, BTreeMap::len);
    if count > MOST_ATTRIBUTES {
        let detail =
            format!("the total number of attributes and capacities must not exceed {MOST_ATTRIBUTES}");
        errors.invalid(path, count, detail);
    }
    let values: usize = attributes.values().map(values).sum();
    if values > MOST_VALUES {
        let detail = format!("the total number of attribute values must not exceed {MOST_VALUES}");
        errors.invalid(path, values, detail);
    }
    let at = path.child("attributes");
    names::each_entry(
        attributes,
        usize::MAX,
        &at,
        errors,
        names::check_qualified,
        validate_attribute,
    );
    let is_shared = device.allow_multiple_allocations == Some(true);
    if !old.is_some_and(|old| same(&old.capacity, &device.capacity)) {
        let nothing = BTreeMap::new();
        let capacity = device.capacity.as_ref().unwrap_or(&nothing);
        let at = path.child("capacity");
        names::each_entry(
            capacity,
            usize::MAX,
            &at,
            errors,
            names::check_qualified,
            |capacity, path, errors| {
                let path = path.child("requestPolicy");
                match &capacity.request_policy {
                    Some(policy) if is_shared => {
                        request_policy::validate(&capacity.value, policy, &path, errors)
                    }
                    Some(_) => errors.forbidden(&path, "allowMultipleAllocations must be true"),
                    None => {}
                }
            },
        );
    }
    if !old.is_some_and(|old| same(&old.taints, &device.taints)) {
        let at = path.child("taints");
        names::each(
            device.taints.as_ref(),
            MOST_TAINTS,
            &at,
            errors,
            taints::validate_taint,
        );
    }
    names::each_unique(
        device.consumes_counters.as_ref(),
        MOST_CONSUMPTIONS,
        |consumption| consumption.counter_set.clone(),
        &path.child("consumesCounters"),
        errors,
        validate_consumption,
    );
    validate_place(device, placed, path, errors);
    validate_binding(
        device.binding_conditions.as_ref(),
        device.binding_failure_conditions.as_ref(),
        path,
        errors,
    );
    let at = path.child("nodeAllocatableResources");
    for (name, resource) in device.node_allocatable_resources.iter().flatten() {
        validate_node_resource(name, resource, device, &at.key(name), errors);
    }
}

fn values(attribute: &DeviceAttribute) -> usize {
    let lists = [
        attribute.bools.as_ref().map_or(0, Vec::len),
        attribute.ints.as_ref().map_or(0, Vec::len),
        attribute.strings.as_ref().map_or(0, Vec::len),
        attribute.versions.as_ref().map_or(0, Vec::len),
    ];
    lists.iter().sum::<usize>().max(1)
}

fn validate_attribute(attribute: &DeviceAttribute, path: &Path, errors: &mut Errors) {
    if let Some(text) = &attribute.string {
        check_text(text, &path.child("string"), errors);
    }
    if let Some(version) = &attribute.version {
        check_version(version, &path.child("version"), errors);
    }
    for (field, is_empty) in [
        ("bools", attribute.bools.as_ref().map(Vec::is_empty)),
        ("ints", attribute.ints.as_ref().map(Vec::is_empty)),
        ("strings", attribute.strings.as_ref().map(Vec::is_empty)),
        ("versions", attribute.versions.as_ref().map(Vec::is_empty)),
    ] {
        if is_empty == Some(true) {
            let nothing: [&str; 0] = [];
            errors.invalid(&path.child(field), nothing, "must not be empty if specified");
        }
    }
    for (index, text) in attribute.strings.iter().flatten().enumerate() {
        check_text(text, &path.child("strings").index(index), errors);
    }
    for (index, version) in attribute.versions.iter().flatten().enumerate() {
        check_version(version, &path.child("versions").index(index), errors);
    }
    let given = [
        attribute.bool.is_some(),
        attribute.int.is_some(),
        attribute.string.is_some(),
        attribute.version.is_some(),
        attribute.bools.is_some(),
        attribute.ints.is_some(),
        attribute.strings.is_some(),
        attribute.versions.is_some(),
    ];
    match given.iter().filter(|given| **given).count() {
        0 => errors.invalid(path, "", "exactly one value must be specified"),
        1 => {}
        _ => errors.invalid(path, attribute, "exactly one value must be specified"),
    }
}

fn check_text(text: &str, path: &Path, errors: &mut Errors) {
    if text.len() > MAX_VALUE {
        errors.too_long(path, MAX_VALUE);
    }
}

fn check_version(version: &str, path: &Path, errors: &mut Errors) {
    if !is_semantic(version) {
        errors.invalid(
            path,
            version,
            "must be a string compatible with semver.org spec 2.0.0",
        );
    }
    check_text(version, path, errors);
}

/// `1.2.3`, `1.2.3-alpha.1+build.5`.
fn is_semantic(version: &str) -> bool {
    let (rest, build) = version
        .split_once('+')
        .map_or((version, None), |(rest, build)| (rest, Some(build)));
    let (core, before) = rest
        .split_once('-')
        .map_or((rest, None), |(core, before)| (core, Some(before)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let number = |text: &str| digits(text) && (text == "0" || !text.starts_with('0'));
    let word = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == b'-')
    };
    let numbers: Vec<&str> = core.split('.').collect();
    numbers.len() == 3
        && numbers.iter().all(|text| number(text))
        && before.is_none_or(|text| {
            text.split('.')
                .all(|part| word(part) && (!digits(part) || number(part)))
        })
        && build.is_none_or(|text| text.split('.').all(word))
}

fn validate_consumption(consumption: &DeviceCounterConsumption, path: &Path, errors: &mut Errors) {
    let at = path.child("counterSet");
    match consumption.counter_set.as_str() {
        "" => errors.required(&at, ""),
        name => names::check_label(name, &at, errors),
    }
    validate_counters(&consumption.counters, &path.child("counters"), errors);
}

/// Checks counters: any amount is valid.
pub(super) fn validate_counters(counters: &BTreeMap<String, Counter>, path: &Path, errors: &mut Errors) {
    if counters.is_empty() {
        return errors.required(path, "");
    }
    names::each_entry(
        counters,
        MOST_COUNTERS,
        path,
        errors,
        names::check_label,
        |_, _, _| {},
    );
}

fn validate_place(device: &Device, placed: bool, path: &Path, errors: &mut Errors) {
    if !placed {
        if device.node_name.is_some() || device.node_selector.is_some() || device.all_nodes.is_some() {
            errors.invalid(
                path,
                (),
                "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true \
                 in the ResourceSlice spec",
            );
        }
        return;
    }
    let mut given = Vec::new();
    match device.node_name.as_deref() {
        Some("") => errors.invalid(&path.child("nodeName"), "", "must not be empty"),
        Some(name) => {
            given.push("`nodeName`");
            errors.invalid_each(&path.child("nodeName"), name, words::dns_subdomain(name, false));
        }
        None => {}
    }
    if let Some(selector) = &device.node_selector {
        given.push("`nodeSelector`");
        validate_node_selector(selector, &path.child("nodeSelector"), errors);
    }
    match device.all_nodes {
        Some(true) => given.push("`allNodes`"),
        Some(false) => {
            errors.invalid(
                &path.child("allNodes"),
                false,
                "must be either unset or set to true",
            );
        }
        None => {}
    }
    match given.len() {
        0 => errors.required(path, ONE_PLACE),
        1 => {}
        _ => errors.invalid(path, format!("{{{}}}", given.join(", ")), ONE_PLACE),
    }
}

/// Checks what must become true, and what must not, before a pod is bound that uses the device.
pub(super) fn validate_binding(
    conditions: Option<&Vec<String>>,
    failures: Option<&Vec<String>>,
    path: &Path,
    errors: &mut Errors,
) {
    let (good, bad) = (
        path.child("bindingConditions"),
        path.child("bindingFailureConditions"),
    );
    let check =
        |name: &String, path: &Path, errors: &mut Errors| meta::validate_label_name(name, path, errors);
    names::each(conditions, MOST_CONDITIONS, &good, errors, check);
    names::each(failures, MOST_CONDITIONS, &bad, errors, check);
    let conditions = conditions.map(Vec::as_slice).unwrap_or_default();
    let failures = failures.map(Vec::as_slice).unwrap_or_default();
    for (list, at) in [(conditions, &good), (failures, &bad)] {
        let mut seen = BTreeSet::new();
        for (index, name) in list.iter().enumerate() {
            if !seen.insert(name) {
                errors.duplicate(&at.index(index), name);
            }
        }
    }
    for (index, name) in failures
        .iter()
        .enumerate()
        .filter(|(_, name)| conditions.contains(name))
    {
        let detail = "bindingFailureConditions must not overlap with bindingConditions";
        errors.invalid(&bad.index(index), name, detail);
    }
    if conditions.is_empty() && !failures.is_empty() {
        let detail = "bindingConditions are required to use bindingFailureConditions";
        errors.invalid(&good, conditions, detail);
    }
    if failures.is_empty() && !conditions.is_empty() {
        let detail = "bindingFailureConditions are required to use bindingConditions";
        errors.invalid(&bad, failures, detail);
    }
}

/// Checks what of a driver's work on a node may be left out.
pub(super) fn validate_skipped(skipped: Option<&Vec<String>>, path: &Path, errors: &mut Errors) {
    let skipped = skipped.map(Vec::as_slice).unwrap_or_default();
    let has = |name: &str| skipped.iter().any(|operation| operation == name);
    if has("NodePrepareResources") && !has("NodeUnprepareResources") && !has("*") {
        let detail = "NodePrepareResources cannot be skipped unless NodeUnprepareResources is also skipped";
        errors.invalid(path, skipped, detail);
    }
}

fn validate_node_resource(
    name: &str,
    resource: &NodeAllocatableResource,
    device: &Device,
    path: &Path,
    errors: &mut Errors,
) {
    let is_allocatable =
        matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !is_allocatable {
        errors.invalid(path, name, "must be a node allocatable resource name");
    }
    if resource.mapping.is_none() && resource.overhead.is_none() {
        errors.required(path, "at least one of mapping or overhead must be set");
    }
    if let Some(mapping) = &resource.mapping {
        let path = path.child("mapping");
        let at = path.child("capacityKey");
        match (mapping.capacity_key.as_deref(), &mapping.capacity_multiplier) {
            (Some(""), _) => errors.invalid(&at, "", "capacityKey must not be an empty string"),
            (Some(key), _) if !device.capacity.as_ref().is_some_and(|all| all.contains_key(key)) => {
                errors.not_found(&at, key);
            }
            (None, Some(_)) => errors.required(&at, "capacityKey is required when capacityMultiplier is set"),
            _ => {}
        }
        if mapping.capacity_key.is_some() && mapping.capacity_multiplier.is_none() {
            let detail = "capacityMultiplier is required when capacityKey is set";
            errors.required(&path.child("capacityMultiplier"), detail);
        }
        for (field, amount) in [
            ("capacityMultiplier", &mapping.capacity_multiplier),
            ("deviceMultiplier", &mapping.device_multiplier),
        ] {
            if let Some(amount) = amount
                .as_ref()
                .filter(|amount| Quantity::of(amount) <= Quantity::ZERO)
            {
                errors.invalid(&path.child(field), &amount.0, "must be positive");
            }
        }
    }
    if let Some(overhead) = &resource.overhead {
        let path = path.child("overhead");
        let amounts = [
            ("perPod", &overhead.per_pod),
            ("perContainer", &overhead.per_container),
        ];
        if amounts.iter().all(|(_, amount)| amount.is_none()) {
            errors.invalid(&path, "", "at least one of perPod or perContainer must be set");
        }
        for (field, amount) in amounts {
            if let Some(amount) = amount
                .as_ref()
                .filter(|amount| Quantity::of(amount).is_negative())
            {
                errors.invalid(&path.child(field), &amount.0, "must be non-negative");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_semantic;

    #[test]
    fn versions_are_semantic_or_not() {
        for version in [
            "1.2.3",
            "0.0.0",
            "1.2.3-alpha.1",
            "1.2.3-a-b+build.007",
            "1.0.0+x",
        ] {
            assert!(is_semantic(version), "{version}");
        }
        for version in ["1.2", "01.2.3", "1.2.3-01", "1.2.3-", "v1.2.3", "1.2.3+", ""] {
            assert!(!is_semantic(version), "{version}");
        }
    }
}
