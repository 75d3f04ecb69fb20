//! Volumes of storage elsewhere: drivers, disks and block protocols.

use k8s_openapi::api::core::v1::{
    AzureDiskVolumeSource, CinderVolumeSource, FCVolumeSource, ISCSIVolumeSource, QuobyteVolumeSource,
    StorageOSVolumeSource,
};

use crate::core::pod_spec::{invalid_each, slice};
use crate::field::{Errors, Path};
use crate::names;

/// Upstream's words; 0 is allowed.
const BAD_PARTITION: &str = "must be between 1 and 255, inclusive";

/// Checks the name of a CSI driver.
pub(crate) fn check_driver(driver: &str, path: &Path, errors: &mut Errors) {
    if driver.is_empty() {
        errors.required(path, "");
    }
    if driver.len() > 63 {
        errors.too_long(path, 63);
    }
    let lower = driver.to_lowercase();
    invalid_each(path, driver, names::dns_subdomain(&lower, false), errors);
}

pub(super) fn validate_disk(key: &str, name: &str, partition: Option<i32>, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(&path.child(key), "");
    }
    if let Some(partition) = partition.filter(|partition| !(0..=255).contains(partition)) {
        errors.invalid(&path.child("partition"), partition, BAD_PARTITION);
    }
}

fn check_iqn(name: &str, path: &Path, errors: &mut Errors) {
    let is_known = ["iqn", "eui", "naa"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    if !is_known {
        errors.invalid(path, name, "must be valid format starting with iqn, eui, or naa");
    } else if !is_iqn(name) {
        errors.invalid(path, name, "must be valid format");
    }
}

/// `iqn.2001-04.com.example:storage`, `eui.` and 16 letters or digits, or `naa.` and 32.
pub(crate) fn is_iqn(name: &str) -> bool {
    let alphanumeric = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    // The character behind the prefix may be any.
    let behind = |prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.get(1..));
    if let Some(digits) = behind("eui") {
        return digits.len() == 16 && alphanumeric(digits);
    }
    if let Some(digits) = behind("naa") {
        return digits.len() == 32 && alphanumeric(digits);
    }
    let Some(rest) = name.strip_prefix("iqn.") else {
        return false;
    };
    let Some((date, rest)) = rest.split_once('.') else {
        return false;
    };
    let (Some((year, month)), Some((authority, storage))) = (date.split_once('-'), rest.split_once(':'))
    else {
        return false;
    };
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_authority = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let is_storage = |c: char| !matches!(c, ',' | ';' | '*' | '&' | '$' | '|') && !c.is_ascii_whitespace();
    digits(year, 4)
        && digits(month, 2)
        && !authority.is_empty()
        && authority.bytes().all(is_authority)
        && !storage.is_empty()
        && storage.chars().all(is_storage)
}

pub(super) fn validate_iscsi(source: &ISCSIVolumeSource, path: &Path, errors: &mut Errors) {
    if source.target_portal.is_empty() {
        errors.required(&path.child("targetPortal"), "");
    }
    if source.iqn.is_empty() {
        errors.required(&path.child("iqn"), "");
    } else {
        check_iqn(&source.iqn, &path.child("iqn"), errors);
    }
    if !(0..=255).contains(&source.lun) {
        errors.invalid(&path.child("lun"), source.lun, names::range(0, 255));
    }
    let authenticated = source.chap_auth_discovery == Some(true) || source.chap_auth_session == Some(true);
    if authenticated && source.secret_ref.is_none() {
        errors.required(&path.child("secretRef"), "");
    }
    if let Some(initiator) = &source.initiator_name {
        check_iqn(initiator, &path.child("initiatorname"), errors);
    }
}

pub(super) fn validate_fc(source: &FCVolumeSource, path: &Path, errors: &mut Errors) {
    let (targets, wide) = (slice(&source.target_wwns), slice(&source.wwids));
    if targets.is_empty() && wide.is_empty() {
        errors.required(
            &path.child("targetWWNs"),
            "must specify either targetWWNs or wwids, but not both",
        );
    }
    if !targets.is_empty() && !wide.is_empty() {
        errors.invalid(
            &path.child("targetWWNs"),
            targets,
            "targetWWNs and wwids can not be specified simultaneously",
        );
    }
    if !targets.is_empty() {
        match source.lun {
            None => errors.required(&path.child("lun"), "lun is required if targetWWNs is specified"),
            Some(lun) if !(0..=255).contains(&lun) => {
                errors.invalid(&path.child("lun"), lun, names::range(0, 255))
            }
            Some(_) => {}
        }
    }
}

pub(super) fn validate_quobyte(source: &QuobyteVolumeSource, path: &Path, errors: &mut Errors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    if source.registry.is_empty() {
        errors.required(&path.child("registry"), PAIRS);
    } else if source.tenant.as_ref().is_some_and(|tenant| tenant.len() >= 65) {
        errors.required(
            &path.child("tenant"),
            "must be a UUID and may not exceed a length of 64 characters",
        );
    } else {
        for _ in source.registry.split(',').filter(|pair| !is_host_and_port(pair)) {
            errors.invalid(&path.child("registry"), &source.registry, PAIRS);
        }
    }
    if source.volume.is_empty() {
        errors.required(&path.child("volume"), "");
    }
}

/// `host:port` or `[address]:port`, either of which may be empty.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner {
        Some(address) => !address.contains(['[', ']']) && !port.contains(['[', ']']),
        None => !host.contains([':', '[', ']']) && !port.contains(['[', ']']),
    }
}

pub(super) fn validate_cinder(source: &CinderVolumeSource, path: &Path, errors: &mut Errors) {
    if source.volume_id.is_empty() {
        errors.required(&path.child("volumeID"), "");
    }
    if source
        .secret_ref
        .as_ref()
        .is_some_and(|secret| secret.name.is_empty())
    {
        errors.required(&path.child("secretRef.name"), "");
    }
}

pub(super) fn validate_azure_disk(source: &AzureDiskVolumeSource, path: &Path, errors: &mut Errors) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    if source.disk_name.is_empty() {
        errors.required(&path.child("diskName"), "");
    }
    if source.disk_uri.is_empty() {
        errors.required(&path.child("diskURI"), "");
    }
    let one_of = |field: &str, value: &Option<String>, known: &[&str], errors: &mut Errors| {
        if let Some(value) = value.as_deref().filter(|value| !known.contains(value)) {
            errors.not_supported(&path.child(field), value, known);
        }
    };
    one_of(
        "cachingMode",
        &source.caching_mode,
        &["None", "ReadOnly", "ReadWrite"],
        errors,
    );
    one_of("kind", &source.kind, &["Dedicated", "Managed", "Shared"], errors);
    let place = match source.kind.as_deref() {
        Some("Managed") => Some(("/subscriptions/", MANAGED)),
        Some(_) => Some(("https://", BLOB)),
        None => None,
    };
    if let Some((prefix, form)) = place
        && !source.disk_uri.starts_with(prefix)
    {
        errors.not_supported(&path.child("diskURI"), &source.disk_uri, &[form]);
    }
}

pub(super) fn validate_storage_os(source: &StorageOSVolumeSource, path: &Path, errors: &mut Errors) {
    check_storage_os(
        source.volume_name.as_deref(),
        source.volume_namespace.as_deref(),
        path,
        errors,
    );
    let secret = source.secret_ref.as_ref();
    if secret.is_some_and(|secret| secret.name.is_empty()) {
        errors.required(&path.child("secretRef.name"), "");
    }
}

pub(crate) fn check_storage_os(
    name: Option<&str>,
    namespace: Option<&str>,
    path: &Path,
    errors: &mut Errors,
) {
    match name.unwrap_or_default() {
        "" => errors.required(&path.child("volumeName"), ""),
        name => invalid_each(
            &path.child("volumeName"),
            name,
            names::dns_label(name, false),
            errors,
        ),
    }
    if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
        let messages = names::dns_label(namespace, false);
        invalid_each(&path.child("volumeNamespace"), namespace, messages, errors);
    }
}
