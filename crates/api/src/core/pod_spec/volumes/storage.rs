//! Volumes of storage elsewhere: drivers, disks and block protocols.

use k8s_openapi::api::core::v1::{FCVolumeSource, ISCSIVolumeSource, QuobyteVolumeSource};

use crate::core::pod_spec::{invalid_each, slice};
use crate::field::{Errors, Path};
use crate::names;

const BAD_PARTITION: &str = "must be between 0 and 255, inclusive";

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
    if !["iqn", "eui", "naa"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
    {
        errors.invalid(path, name, "must be valid format starting with iqn, eui, or naa");
    } else if !is_iqn(name) {
        errors.invalid(path, name, "must be valid format");
    }
}

/// `iqn.2001-04.com.example:storage`, `eui.` and 16 hexadecimal digits, or `naa.` and 16 or 32.
fn is_iqn(name: &str) -> bool {
    let hexadecimal = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(digits) = name.strip_prefix("eui.") {
        return digits.len() == 16 && hexadecimal(digits);
    }
    if let Some(digits) = name.strip_prefix("naa.") {
        return matches!(digits.len(), 16 | 32) && hexadecimal(digits);
    }
    let Some(rest) = name.strip_prefix("iqn.") else {
        return false;
    };
    let Some((date, authority)) = rest.split_once('.') else {
        return false;
    };
    let Some((year, month)) = date.split_once('-') else {
        return false;
    };
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(year, 4) && digits(month, 2) && !authority.is_empty()
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
    } else if source
        .registry
        .split(',')
        .any(|pair| pair.matches(':').count() != 1)
    {
        errors.invalid(&path.child("registry"), &source.registry, PAIRS);
    }
    if source.volume.is_empty() {
        errors.required(&path.child("volume"), "");
    }
}
