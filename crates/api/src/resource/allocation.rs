//! What a claim got: the devices, their configuration, who uses them, and what their drivers say of them.

use std::collections::BTreeSet;

use k8s_openapi::api::resource::v1::{
    AllocatedDeviceStatus, AllocationResult, DeviceAllocationConfiguration, DeviceRequestAllocationResult,
    NetworkDeviceData, ResourceClaimConsumerReference, ResourceClaimStatus,
};

use super::claim_spec::{self, MOST, Requests};
use super::{device, names, taints};
use crate::conditions;
use crate::core::pod_spec::{check_driver, validate_node_selector};
use crate::field::{Errors, Path};
use crate::meta;
use crate::networking::is_address_with_length;
use crate::same::same;

const MOST_CONSUMERS: usize = 256;
const MOST_CONDITIONS: usize = 8;
const MOST_ADDRESSES: usize = 16;
/// The longest name of an interface and the longest hardware address, in bytes.
const MAX_INTERFACE: usize = 256;
const MAX_HARDWARE_ADDRESS: usize = 128;
const SOURCES: [&str; 2] = ["FromClaim", "FromClass"];

/// What tells devices apart, and parts of a device that several claims share.
fn identity(driver: &str, pool: &str, device: &str, share: Option<&String>) -> String {
    match share {
        Some(share) => format!("{driver}/{pool}/{device}/{share}"),
        None => format!("{driver}/{pool}/{device}"),
    }
}

/// Checks a change of a claim's status.
pub(super) fn validate_update(
    status: &ResourceClaimStatus,
    old: &ResourceClaimStatus,
    is_deleted: bool,
    known: &Requests<'_>,
    errors: &mut Errors,
) {
    let path = Path::new("status");
    let at = path.child("reservedFor");
    names::each_unique(
        status.reserved_for.as_ref(),
        MOST_CONSUMERS,
        |consumer| consumer.uid.clone(),
        &at,
        errors,
        validate_consumer,
    );
    let results = status
        .allocation
        .iter()
        .flat_map(|allocation| &allocation.devices)
        .flat_map(|devices| devices.results.iter().flatten());
    let allocated: BTreeSet<String> = results
        .map(|result| {
            identity(
                &result.driver,
                &result.pool,
                &result.device,
                result.share_id.as_ref(),
            )
        })
        .collect();
    names::each_unique(
        status.devices.as_ref(),
        usize::MAX,
        |device| {
            identity(
                &device.driver,
                &device.pool,
                &device.device,
                device.share_id.as_ref(),
            )
        },
        &path.child("devices"),
        errors,
        |device, path, errors| validate_device(device, &allocated, path, errors),
    );
    let consumers = status.reserved_for.as_deref().unwrap_or_default();
    if !consumers.is_empty() && status.allocation.is_none() {
        errors.forbidden(&at, "may not be specified when `allocated` is not set");
    } else if is_deleted {
        let before = old.reserved_for.as_deref().unwrap_or_default();
        if consumers.iter().any(|consumer| !before.contains(consumer)) {
            errors.forbidden(
                &at,
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set",
            );
        }
    }
    let at = path.child("allocation");
    match (&status.allocation, &old.allocation) {
        (Some(new), Some(old)) if !same(new, old) => errors.invalid(&at, new, meta::IMMUTABLE),
        (Some(new), None) => validate_result(new, known, &at, errors),
        _ => {}
    }
}

fn validate_consumer(consumer: &ResourceClaimConsumerReference, path: &Path, errors: &mut Errors) {
    for (field, text) in [
        ("resource", &consumer.resource),
        ("name", &consumer.name),
        ("uid", &consumer.uid),
    ] {
        if text.is_empty() {
            errors.required(&path.child(field), "");
        }
    }
}

fn validate_result(allocation: &AllocationResult, known: &Requests<'_>, path: &Path, errors: &mut Errors) {
    let devices = allocation.devices.clone().unwrap_or_default();
    let at = path.child("devices");
    names::each(
        devices.results.as_ref(),
        MOST,
        &at.child("results"),
        errors,
        |result, path, errors| {
            validate_one(result, known, path, errors);
        },
    );
    names::each(
        devices.config.as_ref(),
        2 * MOST,
        &at.child("config"),
        errors,
        |config, path, errors| {
            validate_config(config, known, path, errors);
        },
    );
    if let Some(selector) = &allocation.node_selector {
        validate_node_selector(selector, &path.child("nodeSelector"), errors);
    }
}

fn validate_one(
    result: &DeviceRequestAllocationResult,
    known: &Requests<'_>,
    path: &Path,
    errors: &mut Errors,
) {
    claim_spec::validate_reference(&result.request, known, &path.child("request"), errors);
    check_driver(&result.driver, &path.child("driver"), errors);
    names::check_pool(&result.pool, &path.child("pool"), errors);
    names::check_label(&result.device, &path.child("device"), errors);
    device::validate_binding(
        result.binding_conditions.as_ref(),
        result.binding_failure_conditions.as_ref(),
        path,
        errors,
    );
    taints::validate_tolerations(result.tolerations.as_ref(), &path.child("tolerations"), errors);
    if let Some(share) = &result.share_id {
        names::check_uid(share, &path.child("shareID"), errors);
    }
    device::validate_skipped(
        result.skip_node_operations.as_ref(),
        &path.child("skipNodeOperations"),
        errors,
    );
}

fn validate_config(
    config: &DeviceAllocationConfiguration,
    known: &Requests<'_>,
    path: &Path,
    errors: &mut Errors,
) {
    errors.one_of(&path.child("source"), Some(&config.source), &SOURCES);
    claim_spec::validate_references(config.requests.as_ref(), known, &path.child("requests"), errors);
    claim_spec::validate_configuration(config.opaque.as_ref(), path, errors);
}

fn validate_device(
    device: &AllocatedDeviceStatus,
    allocated: &BTreeSet<String>,
    path: &Path,
    errors: &mut Errors,
) {
    check_driver(&device.driver, &path.child("driver"), errors);
    names::check_pool(&device.pool, &path.child("pool"), errors);
    names::check_label(&device.device, &path.child("device"), errors);
    if let Some(share) = &device.share_id {
        names::check_uid(share, &path.child("shareID"), errors);
    }
    let id = identity(
        &device.driver,
        &device.pool,
        &device.device,
        device.share_id.as_ref(),
    );
    if !allocated.contains(&id) {
        errors.invalid(path, id, "must be an allocated device in the claim");
    }
    let (list, at) = (
        device.conditions.as_deref().unwrap_or_default(),
        path.child("conditions"),
    );
    if list.len() > MOST_CONDITIONS {
        errors.too_many(&at, list.len(), MOST_CONDITIONS);
    }
    conditions::validate(list, &at, errors);
    if let Some(data) = &device.data {
        names::check_raw(&data.0, &path.child("data"), errors);
    }
    if let Some(network) = &device.network_data {
        validate_network(network, &path.child("networkData"), errors);
    }
}

fn validate_network(network: &NetworkDeviceData, path: &Path, errors: &mut Errors) {
    for (field, text, most) in [
        ("interfaceName", &network.interface_name, MAX_INTERFACE),
        ("hardwareAddress", &network.hardware_address, MAX_HARDWARE_ADDRESS),
    ] {
        if text.as_ref().is_some_and(|text| text.len() > most) {
            errors.too_long(&path.child(field), most);
        }
    }
    let at = path.child("ips");
    names::each_unique(
        network.ips.as_ref(),
        MOST_ADDRESSES,
        Clone::clone,
        &at,
        errors,
        |text, path, errors| {
            if !is_address_with_length(text) {
                let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
                errors.invalid(path, text, detail);
            }
        },
    );
}
