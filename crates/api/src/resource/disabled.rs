//! The fields of features that are off by default: what a client writes into them is dropped, unless the object already
//! makes use of the feature.

use k8s_openapi::api::resource::v1::{
    Device, DeviceAttribute, DeviceDerivedAttribute, ResourceClaimSpec, ResourceSliceSpec,
};

fn devices(spec: &ResourceSliceSpec) -> impl Iterator<Item = &Device> {
    spec.devices.iter().flatten()
}

fn has_list(attribute: &DeviceAttribute) -> bool {
    attribute.bools.is_some()
        || attribute.ints.is_some()
        || attribute.strings.is_some()
        || attribute.versions.is_some()
}

/// `DRAListTypeAttributes`
fn uses_lists(spec: &ResourceSliceSpec) -> bool {
    devices(spec)
        .flat_map(|device| device.attributes.iter().flatten())
        .any(|(_, attribute)| has_list(attribute))
}

/// `DRANodeAllocatableResources`
fn uses_node_resources(spec: &ResourceSliceSpec) -> bool {
    devices(spec).any(|device| device.node_allocatable_resources.is_some())
}

/// `DRADeviceCompatibilityGroups`
fn uses_groups(spec: &ResourceSliceSpec) -> bool {
    devices(spec)
        .flat_map(|device| device.consumes_counters.iter().flatten())
        .any(|consumption| consumption.compatibility_groups.is_some())
}

/// Drops them from a slice.
pub(super) fn drop_from_slice(spec: &mut ResourceSliceSpec, old: Option<&ResourceSliceSpec>) {
    let lists = old.is_some_and(uses_lists);
    let node_resources = old.is_some_and(uses_node_resources);
    let groups = old.is_some_and(uses_groups);
    for device in spec.devices.iter_mut().flatten() {
        let attributes = device.attributes.iter_mut().flatten();
        for (_, attribute) in attributes.filter(|_| !lists) {
            attribute.bools = None;
            attribute.ints = None;
            attribute.strings = None;
            attribute.versions = None;
        }
        if !node_resources {
            device.node_allocatable_resources = None;
        }
        for consumption in device.consumes_counters.iter_mut().flatten().filter(|_| !groups) {
            consumption.compatibility_groups = None;
        }
    }
    // `DRAOptionalNodeOperations`
    if old.is_none_or(|old| old.skip_node_operations.is_none()) {
        spec.skip_node_operations = None;
    }
}

/// The fields of `DRADerivedAttributes`.
fn derived(spec: &mut ResourceClaimSpec) -> impl Iterator<Item = &mut Option<Vec<DeviceDerivedAttribute>>> {
    let claim = spec.devices.iter_mut();
    let requests = claim.flat_map(|claim| claim.requests.iter_mut().flatten());
    requests.flat_map(|request| {
        let exact = request
            .exactly
            .iter_mut()
            .map(|exact| &mut exact.derived_attributes);
        let others = request.first_available.iter_mut().flatten();
        exact.chain(others.map(|alternative| &mut alternative.derived_attributes))
    })
}

/// Drops them from a claim. What a claim asks for never changes, so only new ones are asked.
pub(super) fn drop_from_claim(spec: Option<&mut ResourceClaimSpec>) {
    if let Some(spec) = spec {
        derived(spec).for_each(|attributes| *attributes = None);
    }
}
