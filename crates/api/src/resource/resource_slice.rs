//! ResourceSlice: devices of a pool, as their driver publishes them.

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{Device, ResourceSlice, ResourceSliceSpec};
use serde_json::Value;

use super::{device, disabled, names, taints};
use crate::core::pod_spec::{check_driver, validate_node_selector};
use crate::field::{Errors, Path};
use crate::internal;
use crate::kind::{Column, Kind, KindInfo, Scope, Target, age};
use crate::meta::{generation_after, immutable};
use crate::names as words;
use crate::same::same;

const MOST_DEVICES: usize = 128;
/// The same where devices have taints, counters or lists.
const MOST_ADVANCED: usize = 64;
const MOST_COUNTER_SETS: usize = 8;
const ONE_PLACE: &str =
    "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";

impl Kind for ResourceSlice {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            scope: Scope::Cluster,
            columns: vec![
                Column::object_name(),
                Column::of("Node", "string", "resource.v1.ResourceSliceSpec", "nodeName"),
                Column::of("Driver", "string", "resource.v1.ResourceSliceSpec", "driver"),
                Column::of("Pool", "string", "resource.v1.ResourcePool", "name"),
                Column::age(),
            ],
            selectable_fields: &["spec.driver", "spec.nodeName"],
            ..KindInfo::of::<Self>("resourceslice")
        }
    }

    fn default(&mut self) {
        for device in self.spec.devices.iter_mut().flatten() {
            device.taints.iter_mut().flatten().for_each(taints::default_taint);
        }
    }

    fn prepare_for_create(&mut self) {
        disabled::drop_from_slice(&mut self.spec, None);
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, _target: Target) {
        disabled::drop_from_slice(&mut self.spec, Some(&old.spec));
        self.metadata.generation = generation_after(&old.metadata, !same(&self.spec, &old.spec));
    }

    fn validate_create(&self, errors: &mut Errors) {
        validate_spec(&self.spec, None, errors);
    }

    fn validate_update(&self, old: &Self, _target: Target, errors: &mut Errors) {
        validate_spec(&self.spec, Some(&old.spec), errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            self.metadata.name.clone().into(),
            self.spec.node_name.clone().unwrap_or_default().into(),
            self.spec.driver.clone().into(),
            self.spec.pool.name.clone().into(),
            age(&self.metadata, now),
        ]
    }

    fn field(&self, name: &str) -> String {
        match name {
            "spec.driver" => self.spec.driver.clone(),
            "spec.nodeName" => self.spec.node_name.clone().unwrap_or_default(),
            _ => String::new(),
        }
    }
}

fn validate_spec(spec: &ResourceSliceSpec, old: Option<&ResourceSliceSpec>, errors: &mut Errors) {
    let path = Path::new("spec");
    check_driver(&spec.driver, &path.child("driver"), errors);
    let (pool, at) = (&spec.pool, path.child("pool"));
    names::check_pool(&pool.name, &at.child("name"), errors);
    if pool.resource_slice_count <= 0 {
        let at = at.child("resourceSliceCount");
        errors.invalid(&at, pool.resource_slice_count, "must be greater than zero");
    }
    if pool.generation < 0 {
        let detail = "must be greater than or equal to zero";
        errors.invalid(&at.child("generation"), pool.generation, detail);
    }
    if let Some(old) = old {
        immutable(&pool.name, &old.pool.name, &at.child("name"), errors);
        immutable(&spec.driver, &old.driver, &path.child("driver"), errors);
        immutable(&spec.node_name, &old.node_name, &path.child("nodeName"), errors);
    }
    validate_place(spec, &path, errors);
    if spec.shared_counters.is_some() && spec.devices.is_some() {
        errors.invalid(&path, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let devices = spec.devices.as_deref().unwrap_or_default();
    let most = if devices.iter().any(is_advanced) {
        MOST_ADVANCED
    } else {
        MOST_DEVICES
    };
    let placed = spec.per_device_node_selection == Some(true);
    names::each_unique(
        spec.devices.as_ref(),
        most,
        |device| device.name.clone(),
        &path.child("devices"),
        errors,
        |device, path, errors| {
            let before = old.and_then(|old| old.devices.as_ref());
            let before = before.and_then(|all| all.iter().find(|before| before.name == device.name));
            device::validate(device, before, placed, path, errors);
        },
    );
    names::each_unique(
        spec.shared_counters.as_ref(),
        MOST_COUNTER_SETS,
        |set| set.name.clone(),
        &path.child("sharedCounters"),
        errors,
        |set, path, errors| {
            match set.name.as_str() {
                "" => errors.required(&path.child("name"), ""),
                name => names::check_label(name, &path.child("name"), errors),
            }
            device::validate_counters(&set.counters, &path.child("counters"), errors);
        },
    );
    if let Some(name) = &spec.partition_type_attribute {
        validate_partition_type(name, spec, &path, errors);
    }
    let at = path.child("skipNodeOperations");
    device::validate_skipped(spec.skip_node_operations.as_ref(), &at, errors);
}

fn is_advanced(device: &Device) -> bool {
    let some = |count: Option<usize>| count.is_some_and(|count| count > 0);
    some(device.taints.as_ref().map(Vec::len))
        || some(device.consumes_counters.as_ref().map(Vec::len))
        || device.attributes.iter().flatten().any(|(_, attribute)| {
            attribute.bools.is_some()
                || attribute.ints.is_some()
                || attribute.strings.is_some()
                || attribute.versions.is_some()
        })
}

fn validate_place(spec: &ResourceSliceSpec, path: &Path, errors: &mut Errors) {
    let mut given = Vec::new();
    match spec.node_name.as_deref() {
        Some("") => {
            let detail = "must be either unset or set to a non-empty string";
            errors.invalid(&path.child("nodeName"), "", detail);
        }
        Some(name) => {
            given.push("`nodeName`");
            errors.invalid_each(&path.child("nodeName"), name, words::dns_subdomain(name, false));
        }
        None => {}
    }
    if let Some(selector) = &spec.node_selector {
        given.push("`nodeSelector`");
        let at = path.child("nodeSelector");
        validate_node_selector(selector, &at, errors);
        if selector.node_selector_terms.len() != 1 {
            errors.invalid(
                &at.child("nodeSelectorTerms"),
                internal::list("NodeSelectorTerm", &selector.node_selector_terms),
                "must have exactly one node selector term",
            );
        }
    }
    for (field, shown, flag) in [
        ("allNodes", "`allNodes`", spec.all_nodes),
        (
            "perDeviceNodeSelection",
            "`perDeviceNodeSelection`",
            spec.per_device_node_selection,
        ),
    ] {
        match flag {
            Some(true) => given.push(shown),
            Some(false) => errors.invalid(&path.child(field), false, "must be either unset or set to true"),
            None => {}
        }
    }
    match given.len() {
        0 => errors.required(path, ONE_PLACE),
        1 => {}
        _ => errors.invalid(
            path,
            format!("{{{}}}", given.join(", ")),
            format!("{ONE_PLACE}, but multiple fields are set"),
        ),
    }
}

/// Every device that consumes counters tells by this attribute what part of a device it is.
fn validate_partition_type(name: &str, spec: &ResourceSliceSpec, path: &Path, errors: &mut Errors) {
    let devices = spec.devices.as_deref().unwrap_or_default();
    let consumes = |device: &Device| {
        device
            .consumes_counters
            .as_ref()
            .is_some_and(|list| !list.is_empty())
    };
    let at = path.child("partitionTypeAttribute");
    if !devices.iter().any(consumes) {
        let detail = "may only be set on a slice which declares devices that consume counters";
        return errors.invalid(&at, name, detail);
    }
    let before = errors.iter().len();
    names::check_fully_qualified(name, &at, errors);
    if errors.iter().len() > before {
        return;
    }
    let own = name
        .strip_prefix(&format!("{}/", spec.driver))
        .unwrap_or_default();
    for (index, device) in devices.iter().enumerate().filter(|(_, device)| consumes(device)) {
        let path = path.child("devices").index(index).child("attributes").key(name);
        let attributes = device.attributes.as_ref();
        let found = attributes.and_then(|all| all.get(name).or_else(|| all.get(own)));
        match found {
            None => errors.required(
                &path,
                "device consumes counters and `partitionTypeAttribute` names this attribute, so it must be set",
            ),
            Some(attribute) if attribute.string.is_none() => errors.invalid(
                &path,
                attribute,
                "must be a string value because `partitionTypeAttribute` names this attribute",
            ),
            Some(_) => {}
        }
    }
}
