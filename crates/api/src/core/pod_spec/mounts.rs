//! Where a container mounts the pod's volumes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{SecurityContext, VolumeDevice, VolumeMount};

use super::volumes::{Volumes, check_descending};
use super::{given, slice};
use crate::field::{Errors, Path};

/// What of a container its mounts are checked against.
pub(super) struct Mounts<'a> {
    pub(super) mounts: &'a Option<Vec<VolumeMount>>,
    pub(super) devices: &'a Option<Vec<VolumeDevice>>,
    pub(super) security: Option<&'a SecurityContext>,
}

impl Mounts<'_> {
    /// Checks the mounts and the devices.
    pub(super) fn validate(&self, volumes: &Volumes<'_>, path: &Path, errors: &mut Errors) {
        self.validate_mounts(volumes, &path.child("volumeMounts"), errors);
        self.validate_devices(volumes, &path.child("volumeDevices"), errors);
    }

    fn validate_mounts(&self, volumes: &Volumes<'_>, all: &Path, errors: &mut Errors) {
        let mut points = BTreeSet::new();
        let devices = slice(self.devices);
        for (index, mount) in slice(self.mounts).iter().enumerate() {
            let path = all.index(index);
            let (name, point) = (mount.name.as_str(), mount.mount_path.as_str());
            if name.is_empty() {
                errors.required(&path.child("name"), "");
            }
            if !volumes.contains_key(name) {
                errors.not_found(&path.child("name"), name);
            }
            if point.is_empty() {
                errors.required(&path.child("mountPath"), "");
            }
            if !points.insert(point) {
                errors.invalid(&path.child("mountPath"), point, "must be unique");
            }
            if devices.iter().any(|device| device.name == name) {
                errors.invalid(
                    &path.child("name"),
                    name,
                    "must not already exist in volumeDevices",
                );
            }
            if devices.iter().any(|device| device.device_path == point) {
                errors.invalid(
                    &path.child("mountPath"),
                    point,
                    "must not already exist as a path in volumeDevices",
                );
            }
            // Upstream's paths lack the index from here on.
            if let Some(sub_path) = given(&mount.sub_path) {
                check_descending(sub_path, &all.child("subPath"), errors);
            }
            if let Some(expression) = given(&mount.sub_path_expr) {
                if given(&mount.sub_path).is_some() {
                    errors.invalid(
                        &path.child("subPathExpr"),
                        expression,
                        "subPathExpr and subPath are mutually exclusive",
                    );
                }
                check_descending(expression, &all.child("subPathExpr"), errors);
            }
            self.validate_propagation(mount, &all.child("mountPropagation"), errors);
            validate_recursive(mount, &all.child("recursiveReadOnly"), errors);
        }
    }

    fn validate_propagation(&self, mount: &VolumeMount, path: &Path, errors: &mut Errors) {
        let Some(propagation) = mount.mount_propagation.as_deref() else {
            return;
        };
        if !matches!(propagation, "Bidirectional" | "HostToContainer" | "None") {
            errors.not_supported(path, propagation, &["Bidirectional", "HostToContainer", "None"]);
        }
        let privileged = self
            .security
            .is_some_and(|security| security.privileged == Some(true));
        if propagation == "Bidirectional" && !privileged {
            errors.forbidden(
                path,
                "Bidirectional mount propagation is available only to privileged containers",
            );
        }
    }

    fn validate_devices(&self, volumes: &Volumes<'_>, all: &Path, errors: &mut Errors) {
        let (mut paths, mut names) = (BTreeSet::new(), BTreeSet::new());
        let mounts = slice(self.mounts);
        for (index, device) in slice(self.devices).iter().enumerate() {
            let path = all.index(index);
            let (name, at) = (device.name.as_str(), device.device_path.as_str());
            if name.is_empty() {
                errors.required(&path.child("name"), "");
            }
            if !name.is_empty() && !names.insert(name) {
                errors.invalid(&path.child("name"), name, "must be unique");
            }
            match volumes.get(name) {
                Some(volume) if volume.persistent_volume_claim.is_none() && volume.ephemeral.is_none() => {
                    errors.invalid(
                        &path.child("name"),
                        name,
                        "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                    );
                }
                Some(_) => {}
                None => errors.not_found(&path.child("name"), name),
            }
            if at.is_empty() {
                errors.required(&path.child("devicePath"), "");
            }
            if paths.contains(at) {
                errors.invalid(&path.child("devicePath"), at, "must be unique");
            }
            if at.split('/').any(|part| part == "..") {
                errors.invalid(&path.child("devicePath"), at, "can not contain backsteps ('..')");
            } else {
                paths.insert(at);
            }
            if mounts.iter().any(|mount| mount.name == name) {
                errors.invalid(
                    &path.child("name"),
                    name,
                    "must not already exist in volumeMounts",
                );
            }
            if mounts.iter().any(|mount| mount.mount_path == at) {
                errors.invalid(
                    &path.child("devicePath"),
                    at,
                    "must not already exist as a path in volumeMounts",
                );
            }
        }
    }
}

fn validate_recursive(mount: &VolumeMount, path: &Path, errors: &mut Errors) {
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount.read_only != Some(true) {
                errors.forbidden(path, "may only be specified when readOnly is true");
            }
            if !matches!(mount.mount_propagation.as_deref(), None | Some("None")) {
                errors.forbidden(
                    path,
                    "may only be specified when mountPropagation is None or not specified",
                );
            }
        }
        Some(other) => errors.not_supported(path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}
