//! The rules for `metadata`, on create and on update (`k8s.io/apimachinery/pkg/api/validation`).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference};
use serde::Serialize;

use crate::field::{Errors, Path};
use crate::kind::{KindInfo, Scope};
use crate::names;

/// What is said of a change to a field that must not change.
pub const IMMUTABLE: &str = "field is immutable";

/// The most bytes that all annotations of an object may have, keys and values.
pub const MAX_ANNOTATIONS: usize = 256 << 10;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Checks the metadata of a new object, whose name has been generated if it was to be.
pub fn validate(
    info: &KindInfo,
    check_name: impl Fn(&str, bool) -> Vec<String>,
    meta: &ObjectMeta,
    errors: &mut Errors,
) {
    let path = Path::new("metadata");
    if let Some(generate) = meta.generate_name.as_deref().filter(|name| !name.is_empty()) {
        for message in check_name(generate, true) {
            errors.invalid(&path.child("generateName"), generate, message);
        }
    }
    match meta.name.as_deref().unwrap_or_default() {
        "" => errors.required(&path.child("name"), "name or generateName is required"),
        name => {
            for message in check_name(name, false) {
                errors.invalid(&path.child("name"), name, message);
            }
        }
    }
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    match (info.scope, namespace) {
        (Scope::Namespaced, "") => errors.required(&path.child("namespace"), ""),
        (Scope::Namespaced, namespace) => {
            for message in names::dns_label(namespace, false) {
                errors.invalid(&path.child("namespace"), namespace, message);
            }
        }
        (Scope::Cluster, "") => {}
        (Scope::Cluster, _) => errors.forbidden(&path.child("namespace"), "not allowed on this type"),
    }
    if let Some(generation) = meta.generation.filter(|&generation| generation < 0) {
        errors.invalid(
            &path.child("generation"),
            generation,
            "must be greater than or equal to 0",
        );
    }
    validate_labels(meta.labels.as_ref(), &path.child("labels"), errors);
    validate_annotations(meta.annotations.as_ref(), &path.child("annotations"), errors);
    validate_owners(meta, &path.child("ownerReferences"), errors);
    validate_finalizers(meta, &path.child("finalizers"), errors);
    if !info.group.contains('.') {
        validate_standard_finalizers(meta, &path.child("finalizers"), errors);
    }
    validate_managed_fields(meta, &path.child("managedFields"), errors);
}

/// Checks what an update does to the metadata.
pub fn validate_update(info: &KindInfo, new: &ObjectMeta, old: &ObjectMeta, errors: &mut Errors) {
    let path = Path::new("metadata");
    if old.deletion_timestamp.is_some() {
        let before = old.finalizers.as_deref().unwrap_or_default();
        let mut added: Vec<&str> = new
            .finalizers
            .iter()
            .flatten()
            .filter(|finalizer| !before.contains(finalizer))
            .map(String::as_str)
            .collect();
        added.sort_unstable();
        added.dedup();
        if !added.is_empty() {
            let list: Vec<String> = added.iter().map(|finalizer| format!("{finalizer:?}")).collect();
            errors.forbidden(
                &path.child("finalizers"),
                &format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    list.join(", ")
                ),
            );
        }
    }
    if new.resource_version.as_deref().unwrap_or_default().is_empty() {
        errors.invalid(
            &path.child("resourceVersion"),
            "",
            "must be specified for an update",
        );
    }
    if new.generation.unwrap_or(0) < old.generation.unwrap_or(0) {
        errors.invalid(
            &path.child("generation"),
            new.generation.unwrap_or(0),
            "must not be decremented",
        );
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    immutable(&text(&new.name), &text(&old.name), &path.child("name"), errors);
    immutable(
        &text(&new.namespace),
        &text(&old.namespace),
        &path.child("namespace"),
        errors,
    );
    immutable(&text(&new.uid), &text(&old.uid), &path.child("uid"), errors);
    immutable(
        &new.creation_timestamp,
        &old.creation_timestamp,
        &path.child("creationTimestamp"),
        errors,
    );
    immutable(
        &new.deletion_timestamp,
        &old.deletion_timestamp,
        &path.child("deletionTimestamp"),
        errors,
    );
    immutable(
        &new.deletion_grace_period_seconds,
        &old.deletion_grace_period_seconds,
        &path.child("deletionGracePeriodSeconds"),
        errors,
    );
    validate_labels(new.labels.as_ref(), &path.child("labels"), errors);
    validate_annotations(new.annotations.as_ref(), &path.child("annotations"), errors);
    validate_owners(new, &path.child("ownerReferences"), errors);
    if !info.group.contains('.') {
        validate_standard_finalizers(new, &path.child("finalizers"), errors);
    }
    validate_managed_fields(new, &path.child("managedFields"), errors);
}

/// Takes over what a write of the status may not change (`metav1.ResetObjectMetaForStatus`).
pub fn reset_for_status(new: &mut ObjectMeta, old: &ObjectMeta) {
    new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    new.generation = old.generation;
    new.self_link.clone_from(&old.self_link);
    new.labels.clone_from(&old.labels);
    new.annotations.clone_from(&old.annotations);
    new.finalizers.clone_from(&old.finalizers);
    new.owner_references.clone_from(&old.owner_references);
}

/// The generation after an update that changes what is desired, or does not.
pub fn generation_after(old: &ObjectMeta, changed: bool) -> Option<i64> {
    match (old.generation, changed) {
        (generation, true) => Some(generation.unwrap_or(0).saturating_add(1)),
        (generation, false) => generation,
    }
}

/// Reports a change of a field that must not change.
pub fn immutable<T: PartialEq + Serialize>(new: &T, old: &T, path: &Path, errors: &mut Errors) {
    if new != old {
        errors.invalid(path, new, IMMUTABLE);
    }
}

/// Checks labels: the keys and the values.
pub fn validate_labels(labels: Option<&BTreeMap<String, String>>, path: &Path, errors: &mut Errors) {
    for (key, value) in labels.into_iter().flatten() {
        validate_label_name(key, path, errors);
        for message in names::label_value(value) {
            errors.invalid(path, value, message);
        }
    }
}

/// Checks a label's key.
pub fn validate_label_name(key: &str, path: &Path, errors: &mut Errors) {
    for message in names::qualified_name(key) {
        errors.invalid(path, key, message);
    }
}

/// Checks annotations: the keys, in which case does not matter, and the size of all.
pub fn validate_annotations(
    annotations: Option<&BTreeMap<String, String>>,
    path: &Path,
    errors: &mut Errors,
) {
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        size += key.len() + value.len();
        for message in names::qualified_name(&key.to_lowercase()) {
            errors.invalid(path, key, message);
        }
    }
    if size > MAX_ANNOTATIONS {
        errors.too_long(path, MAX_ANNOTATIONS);
    }
}

fn validate_owners(meta: &ObjectMeta, path: &Path, errors: &mut Errors) {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let mut controller: Option<String> = None;
    for owner in owners {
        validate_owner(owner, path, errors);
        if owner.controller == Some(true) {
            let name = format!("{}/{}", owner.kind, owner.name);
            match &controller {
                Some(first) => errors.invalid(
                    path,
                    owners.iter().map(Shown::of).collect::<Vec<_>>(),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} \
                         and {name}"
                    ),
                ),
                None => controller = Some(name),
            }
        }
    }
}

/// An owner as errors show it: its fields in upstream's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    api_version: &'a str,
    kind: &'a str,
    name: &'a str,
    uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    controller: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_owner_deletion: Option<bool>,
}

impl<'a> Shown<'a> {
    fn of(owner: &'a OwnerReference) -> Self {
        Self {
            api_version: &owner.api_version,
            kind: &owner.kind,
            name: &owner.name,
            uid: &owner.uid,
            controller: owner.controller,
            block_owner_deletion: owner.block_owner_deletion,
        }
    }
}

fn validate_owner(owner: &OwnerReference, path: &Path, errors: &mut Errors) {
    // A group needs a version behind it: `apps/` has none, and what has two slashes is neither.
    let version = &owner.api_version;
    if version.is_empty() || version.ends_with('/') || version.matches('/').count() > 1 {
        errors.invalid(
            &path.child("apiVersion"),
            &owner.api_version,
            "version must not be empty",
        );
    }
    for (field, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
        if value.is_empty() {
            errors.invalid(&path.child(field), value, "must not be empty");
        }
    }
    if owner.api_version == "v1" && owner.kind == "Event" {
        errors.invalid(
            path,
            Shown::of(owner),
            "/v1, Kind=Event is disallowed from being an owner",
        );
    }
}

fn validate_finalizers(meta: &ObjectMeta, path: &Path, errors: &mut Errors) {
    let finalizers = meta.finalizers.as_deref().unwrap_or_default();
    for finalizer in finalizers {
        validate_label_name(finalizer, path, errors);
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if has(ORPHAN) && has(FOREGROUND) {
        errors.invalid(
            path,
            finalizers,
            format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set"),
        );
    }
}

/// In Kubernetes' oldest groups a finalizer without a domain is one of its own.
fn validate_standard_finalizers(meta: &ObjectMeta, path: &Path, errors: &mut Errors) {
    for (index, finalizer) in meta.finalizers.iter().flatten().enumerate() {
        if !finalizer.contains('/') && !matches!(finalizer.as_str(), ORPHAN | FOREGROUND | "kubernetes") {
            errors.invalid(
                &path.index(index),
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
}

fn validate_managed_fields(meta: &ObjectMeta, path: &Path, errors: &mut Errors) {
    for (index, entry) in meta.managed_fields.iter().flatten().enumerate() {
        validate_managed_entry(entry, &path.index(index), errors);
    }
}

fn validate_managed_entry(entry: &ManagedFieldsEntry, path: &Path, errors: &mut Errors) {
    let operation = entry.operation.as_deref().unwrap_or_default();
    if !matches!(operation, "Apply" | "Update") {
        errors.invalid(&path.child("operation"), operation, "must be `Apply` or `Update`");
    }
    let fields_type = entry.fields_type.as_deref().unwrap_or_default();
    if !matches!(fields_type, "" | "FieldsV1") {
        errors.invalid(&path.child("fieldsType"), fields_type, "must be `FieldsV1`");
    }
    validate_field_manager(
        entry.manager.as_deref().unwrap_or_default(),
        &path.child("manager"),
        errors,
    );
    if entry.subresource.as_ref().is_some_and(|name| name.len() > 256) {
        errors.too_long(&path.child("subresource"), 256);
    }
}

/// Checks the name of a field manager: at most 128 bytes, all printable.
pub fn validate_field_manager(manager: &str, path: &Path, errors: &mut Errors) {
    if manager.len() > 128 {
        errors.too_long(path, 128);
    }
    for (position, character) in manager.char_indices().filter(|(_, c)| c.is_control()) {
        errors.invalid(
            path,
            manager,
            format!(
                "invalid character U+{:04X} (at position {position})",
                u32::from(character)
            ),
        );
    }
}
