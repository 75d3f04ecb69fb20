//! Environment variables, and the fields and resources that they and downward API files show.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, ObjectFieldSelector, PodSpec, ResourceFieldSelector, Volume,
};

use super::{given, invalid_each};
use crate::field::{Errors, Path};
use crate::names;
use crate::quantity::Quantity;

/// What a variable may show of its pod.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// What a file may show of its pod.
pub(super) const FILE_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// All that either may.
const KNOWN_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
    "spec.host",
];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

const BYTE_DIVISORS: &[&str] = &[
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];

/// Checks the variables of a container.
pub(super) fn validate(variables: &[EnvVar], path: &Path, errors: &mut Errors) {
    for (index, variable) in variables.iter().enumerate() {
        let path = path.index(index);
        if variable.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            let messages = names::env_var(&variable.name);
            invalid_each(&path.child("name"), &variable.name, messages, errors);
        }
        validate_source(variable, &path.child("valueFrom"), errors);
    }
}

fn validate_source(variable: &EnvVar, path: &Path, errors: &mut Errors) {
    let Some(source) = &variable.value_from else {
        return;
    };
    let mut count = 0;
    if let Some(field) = &source.field_ref {
        count += 1;
        validate_field(field, ENV_FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(resource) = &source.resource_field_ref {
        count += 1;
        validate_resource(resource, false, &path.child("resourceFieldRef"), errors);
    }
    if let Some(reference) = &source.config_map_key_ref {
        count += 1;
        let path = path.child("configMapKeyRef");
        validate_key(&reference.name, &reference.key, &path, errors);
    }
    if let Some(reference) = &source.secret_key_ref {
        count += 1;
        let path = path.child("secretKeyRef");
        validate_key(&reference.name, &reference.key, &path, errors);
    }
    if let Some(reference) = &source.file_key_ref {
        count += 1;
        let path = path.child("fileKeyRef");
        if reference.key.is_empty() {
            errors.required(&path.child("key"), "");
        } else {
            invalid_each(
                &path.child("key"),
                &reference.key,
                names::env_var(&reference.key),
                errors,
            );
        }
        let volume = reference.volume_name.as_str();
        if volume.is_empty() {
            errors.required(&path.child("volumeName"), "");
        } else {
            invalid_each(
                &path.child("volumeName"),
                volume,
                names::dns_label(volume, false),
                errors,
            );
        }
        if reference.path.is_empty() {
            errors.required(&path.child("path"), "");
        } else {
            super::volumes::check_backsteps(&reference.path, &path.child("path"), errors);
        }
    }
    if count == 0 {
        errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        );
    } else if given(&variable.value).is_some() {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if count > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

/// A file with variables is in a volume that the pod's containers fill.
pub(super) fn validate_files(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    for container in super::visit::all(spec, path) {
        for (index, variable) in container.env.iter().enumerate() {
            let source = variable.value_from.as_ref();
            let Some(file) = source.and_then(|source| source.file_key_ref.as_ref()) else {
                continue;
            };
            let at = container
                .path
                .child("env")
                .index(index)
                .child("valueFrom.fileKeyRef.volumeName");
            let named = |volume: &&Volume| volume.name == file.volume_name;
            match spec.volumes.iter().flatten().rfind(named) {
                None => errors.not_found(&at, &file.volume_name),
                Some(volume) if volume.empty_dir.is_none() => {
                    errors.invalid(
                        &at,
                        &file.volume_name,
                        "referenced volume must be of type emptyDir",
                    );
                }
                Some(_) => {}
            }
        }
    }
}

fn validate_key(name: &str, key: &str, path: &Path, errors: &mut Errors) {
    invalid_each(
        &path.child("name"),
        name,
        names::dns_subdomain(name, false),
        errors,
    );
    if key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        invalid_each(&path.child("key"), key, names::config_map_key(key), errors);
    }
}

/// Checks the sources of variables.
pub(super) fn validate_from(sources: &[EnvFromSource], path: &Path, errors: &mut Errors) {
    for (index, source) in sources.iter().enumerate() {
        let own = path.index(index);
        if let Some(prefix) = given(&source.prefix) {
            invalid_each(&own.child("prefix"), prefix, names::env_var(prefix), errors);
        }
        let config_map = source
            .config_map_ref
            .as_ref()
            .map(|source| ("configMapRef", &source.name));
        let secret = source
            .secret_ref
            .as_ref()
            .map(|source| ("secretRef", &source.name));
        let named: Vec<_> = config_map.into_iter().chain(secret).collect();
        for (field, name) in &named {
            let path = own.child(field).child("name");
            if name.is_empty() {
                errors.required(&path, "");
            } else {
                invalid_each(&path, name, names::dns_subdomain(name, true), errors);
            }
        }
        match named.len() {
            0 => errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(path, "", "may not have more than one field specified at a time"),
        }
    }
}

/// Checks what field of the pod is shown.
pub(super) fn validate_field(
    field: &ObjectFieldSelector,
    allowed: &[&str],
    path: &Path,
    errors: &mut Errors,
) {
    let version = field.api_version.as_deref().unwrap_or_default();
    let shown = field.field_path.as_str();
    if version.is_empty() {
        return errors.required(&path.child("apiVersion"), "");
    }
    if shown.is_empty() {
        return errors.required(&path.child("fieldPath"), "");
    }
    let at = path.child("fieldPath");
    if version != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {version}");
        return errors.invalid(&at, shown, detail);
    }
    let subscripted = shown
        .strip_suffix("']")
        .and_then(|rest| rest.split_once("['"))
        .filter(|(name, _)| !name.is_empty());
    match subscripted {
        Some(("metadata.annotations", key)) => {
            invalid_each(path, key, names::qualified_name(&key.to_lowercase()), errors);
        }
        Some(("metadata.labels", key)) => invalid_each(path, key, names::qualified_name(key), errors),
        Some((name, _)) => errors.invalid(
            &at,
            shown,
            format!("error converting fieldPath: field label does not support subscript: {name}"),
        ),
        None if !KNOWN_FIELDS.contains(&shown) => errors.invalid(
            &at,
            shown,
            format!("error converting fieldPath: field label not supported: {shown}"),
        ),
        None if !allowed.contains(&shown) => errors.not_supported(&at, shown, allowed),
        None => {}
    }
}

/// Checks which of a container's resources is shown.
pub(super) fn validate_resource(
    field: &ResourceFieldSelector,
    of_volume: bool,
    path: &Path,
    errors: &mut Errors,
) {
    let resource = field.resource.as_str();
    let huge = resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if of_volume && given(&field.container_name).is_none() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.not_supported(&path.child("resource"), resource, RESOURCES);
    }
    let divisor = field.divisor.as_ref().map(Quantity::of).unwrap_or_default();
    if divisor.is_zero() {
        return;
    }
    let text = divisor.to_string();
    let (allowed, what): (&[&str], &str) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "cpu"),
        "limits.memory" | "requests.memory" => (BYTE_DIVISORS, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (BYTE_DIVISORS, "local ephemeral storage")
        }
        _ if huge => (BYTE_DIVISORS, "hugepages"),
        _ => return,
    };
    if !allowed.contains(&text.as_str()) {
        let values = if what == "cpu" {
            "1m and 1".to_string()
        } else {
            allowed.join(", ")
        };
        errors.invalid(
            &path.child("divisor"),
            resource,
            format!("only divisor's values {values} are supported with the {what} resource"),
        );
    }
}

/// The names of ports, each once.
pub(super) fn duplicates<'a>(seen: &mut BTreeSet<&'a str>, name: &'a str, path: &Path, errors: &mut Errors) {
    if !seen.insert(name) {
        errors.duplicate(path, name);
    }
}
