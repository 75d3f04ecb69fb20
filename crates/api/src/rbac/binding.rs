//! What all bindings have: a role, and the subjects that it is given to.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::GROUP;
use crate::field::{Errors, Internal, Path};
use crate::kind::{Column, age};
use crate::names;

/// The columns; `of` is what the binding is called in their descriptions. That of the role is in the words of an
/// earlier version of the API.
pub(super) fn columns(of: &str, role: &'static str) -> Vec<Column> {
    let wide = |name: &'static str| {
        let mut column = Column::wide(name, "string", "");
        column.description = format!("{name} in the {of}").into();
        column
    };
    vec![
        Column::object_name(),
        Column::new("Role", "string", role),
        Column::age(),
        wide("Users"),
        wide("Groups"),
        wide("ServiceAccounts"),
    ]
}

/// The cells of a binding.
pub(super) fn cells(
    meta: &ObjectMeta,
    role: &RoleRef,
    subjects: Option<&Vec<Subject>>,
    now: Timestamp,
) -> Vec<Value> {
    let named = |kind: &str| {
        let names: Vec<String> = subjects
            .into_iter()
            .flatten()
            .filter(|subject| subject.kind == kind)
            .map(|subject| match kind {
                "ServiceAccount" => {
                    format!(
                        "{}/{}",
                        subject.namespace.as_deref().unwrap_or_default(),
                        subject.name
                    )
                }
                _ => subject.name.clone(),
            })
            .collect();
        Value::from(names.join(", "))
    };
    vec![
        meta.name.clone().into(),
        format!("{}/{}", role.kind, role.name).into(),
        age(meta, now),
        named("User"),
        named("Group"),
        named("ServiceAccount"),
    ]
}

fn is_empty(text: &Option<String>) -> bool {
    text.as_deref().unwrap_or_default().is_empty()
}

/// Fills in the API groups, which every kind of subject has only one of.
pub(super) fn default(role: &mut RoleRef, subjects: Option<&mut Vec<Subject>>) {
    if is_empty(&role.api_group) {
        role.api_group = Some(GROUP.into());
    }
    for subject in subjects.into_iter().flatten() {
        if is_empty(&subject.api_group) && matches!(subject.kind.as_str(), "User" | "Group") {
            subject.api_group = Some(GROUP.into());
        }
    }
}

/// Checks the role and the subjects of a binding.
pub(super) fn validate(
    role: &RoleRef,
    kinds: &[&str],
    subjects: Option<&Vec<Subject>>,
    namespaced: bool,
    errors: &mut Errors,
) {
    let path = Path::new("roleRef");
    let group = role.api_group.as_deref().unwrap_or_default();
    if group != GROUP {
        errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
    }
    if !kinds.contains(&role.kind.as_str()) {
        errors.not_supported(&path.child("kind"), &role.kind, kinds);
    }
    if role.name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        for message in names::path_segment(&role.name, false) {
            errors.invalid(&path.child("name"), &role.name, message);
        }
    }
    let path = Path::new("subjects");
    for (index, subject) in subjects.into_iter().flatten().enumerate() {
        validate_subject(subject, namespaced, &path.index(index), errors);
    }
}

fn validate_subject(subject: &Subject, namespaced: bool, path: &Path, errors: &mut Errors) {
    let group = subject.api_group.as_deref().unwrap_or_default();
    if subject.name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                for message in names::dns_subdomain(&subject.name, false) {
                    errors.invalid(&path.child("name"), &subject.name, message);
                }
            }
            if !group.is_empty() {
                errors.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            if !namespaced && is_empty(&subject.namespace) {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
            }
        }
        other => errors.not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}

/// A binding is to its role for ever: who may change a binding could otherwise give roles that nobody gave to them.
pub(super) fn validate_update(new: &RoleRef, old: &RoleRef, errors: &mut Errors) {
    if new != old {
        let shown = Internal::fields([
            ("APIGroup", Internal::plain(&new.api_group)),
            ("Kind", Internal::plain(&new.kind)),
            ("Name", Internal::plain(&new.name)),
        ]);
        errors.invalid(&Path::new("roleRef"), shown, "cannot change roleRef");
    }
}
