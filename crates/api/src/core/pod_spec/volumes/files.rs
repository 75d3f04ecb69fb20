//! Volumes made of files that the API server knows: keys of config maps and secrets, fields of the pod, tokens.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, ProjectedVolumeSource, VolumeProjection};

use crate::core::pod_spec::{env, slice};
use crate::field::{Errors, Path};

const BAD_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

pub(super) fn check_mode(mode: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(path, mode, BAD_MODE);
    }
}

pub(super) fn validate_items(items: &[KeyToPath], path: &Path, errors: &mut Errors) {
    for (index, item) in items.iter().enumerate() {
        validate_item(item, &path.index(index), errors);
    }
}

fn validate_item(item: &KeyToPath, path: &Path, errors: &mut Errors) {
    if item.key.is_empty() {
        errors.required(&path.child("key"), "");
    }
    if item.path.is_empty() {
        errors.required(&path.child("path"), "");
    }
    check_local_path(&item.path, &path.child("path"), errors);
    check_mode(item.mode, &path.child("mode"), errors);
}

pub(super) fn validate_downward_file(file: &DownwardAPIVolumeFile, path: &Path, errors: &mut Errors) {
    if file.path.is_empty() {
        errors.required(&path.child("path"), "");
    }
    check_local_path(&file.path, &path.child("path"), errors);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), resource) => {
            env::validate_field(field, env::FILE_FIELDS, &path.child("fieldRef"), errors);
            if resource.is_some() {
                errors.invalid(
                    path,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
        }
        (None, Some(resource)) => {
            env::validate_resource(resource, true, &path.child("resourceFieldRef"), errors)
        }
        (None, None) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    check_mode(file.mode, &path.child("mode"), errors);
}

pub(super) fn validate_projected(source: &ProjectedVolumeSource, path: &Path, errors: &mut Errors) {
    check_mode(source.default_mode, &path.child("defaultMode"), errors);
    let mut paths = BTreeSet::new();
    for (index, projection) in slice(&source.sources).iter().enumerate() {
        validate_projection(
            projection,
            &mut paths,
            path,
            &path.child("sources").index(index),
            errors,
        );
    }
}

/// Files of all sources share one directory: no path may stand twice.
fn unique<'a>(paths: &mut BTreeSet<&'a str>, file: &'a str, value: &str, path: &Path, errors: &mut Errors) {
    if !file.is_empty() && !paths.insert(file) {
        errors.invalid(path, value, "conflicting duplicate paths");
    }
}

fn validate_projection<'a>(
    source: &'a VolumeProjection,
    paths: &mut BTreeSet<&'a str>,
    volume: &Path,
    path: &Path,
    errors: &mut Errors,
) {
    let mut count = 0;
    let secret = source
        .secret
        .as_ref()
        .map(|source| ("secret", &source.name, &source.items));
    let config_map = source
        .config_map
        .as_ref()
        .map(|source| ("configMap", &source.name, &source.items));
    for (field, name, items) in secret.into_iter().chain(config_map) {
        count += 1;
        let path = path.child(field);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        for (index, item) in slice(items).iter().enumerate() {
            validate_item(item, &path.child("items").index(index), errors);
            unique(paths, &item.path, name, volume, errors);
        }
    }
    if let Some(downward) = &source.downward_api {
        count += 1;
        for file in slice(&downward.items) {
            validate_downward_file(file, &path.child("downwardAPI"), errors);
            unique(paths, &file.path, &file.path, volume, errors);
        }
    }
    if let Some(token) = &source.service_account_token {
        count += 1;
        let at = path.child("serviceAccountToken").child("expirationSeconds");
        let seconds = token.expiration_seconds.unwrap_or(0);
        if seconds < 600 {
            errors.invalid(&at, seconds, "may not specify a duration less than 10 minutes");
        }
        if seconds > 1 << 32 {
            errors.invalid(
                &at,
                seconds,
                "may not specify a duration larger than 2^32 seconds",
            );
        }
        if token.path.is_empty() {
            errors.required(&volume.child("path"), "");
        } else {
            check_local_path(&token.path, &volume.child("path"), errors);
        }
    }
    // Trust bundles and certificates are of features that are off; by now they have been dropped.
    if count > 1 {
        errors.forbidden(path, "may not specify more than 1 volume type per source");
    }
}

pub(in super::super) fn check_backsteps(text: &str, path: &Path, errors: &mut Errors) {
    if text.split('/').any(|part| part == "..") {
        errors.invalid(path, text, "must not contain '..'");
    }
}

/// A relative path that leads down.
pub(in super::super) fn check_descending(text: &str, path: &Path, errors: &mut Errors) {
    if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    }
    check_backsteps(text, path, errors);
}

/// A relative path that leads down, and whose name does not begin as the atomic writer's own files do.
pub(super) fn check_local_path(text: &str, path: &Path, errors: &mut Errors) {
    check_descending(text, path, errors);
    if text.starts_with("..") && !text.starts_with("../") {
        errors.invalid(path, text, "must not start with '..'");
    }
}
