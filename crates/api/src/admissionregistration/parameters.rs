//! What a policy is parameterized by: the kind of the parameters, and which of them a binding means.

use k8s_openapi::api::admissionregistration::v1::{ParamKind, ParamRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::field::{Errors, Path};
use crate::names;
use crate::selector;

const NOT_FOUND_ACTIONS: [&str; 2] = ["Deny", "Allow"];
const EXCLUSIVE: &str = "name and selector are mutually exclusive";

/// Checks the kind of parameters.
pub(super) fn validate_kind(given: &ParamKind, path: &Path, errors: &mut Errors) {
    let version = given.api_version.as_deref().unwrap_or_default();
    let at = path.child("apiVersion");
    match version.split('/').collect::<Vec<_>>().as_slice() {
        [""] => errors.required(&at, ""),
        [version] => validate_version(version, version, &at, errors),
        [group, name] => {
            let wrong = names::dns_subdomain(group, false);
            if !group.is_empty() && !wrong.is_empty() {
                errors.invalid(&at, group, wrong.join(","));
            }
            validate_version(name, version, &at, errors);
        }
        _ => errors.invalid(&at, version, format!("unexpected GroupVersion string: {version}")),
    }
    let kind = given.kind.as_deref().unwrap_or_default();
    if kind.is_empty() {
        return errors.required(&path.child("kind"), "");
    }
    let wrong = names::dns_1035_label(&kind.to_lowercase(), false);
    if !wrong.is_empty() {
        let detail = format!(
            "may have mixed case, but should otherwise match: {}",
            wrong.join(",")
        );
        errors.invalid(&path.child("kind"), kind, detail);
    }
}

fn validate_version(version: &str, whole: &str, path: &Path, errors: &mut Errors) {
    if version.is_empty() {
        return errors.invalid(path, whole, "version must be specified");
    }
    let wrong = names::dns_1035_label(version, false);
    if !wrong.is_empty() {
        errors.invalid(path, version, wrong.join(","));
    }
}

/// Checks which parameters a binding means.
pub(super) fn validate_reference(given: &ParamRef, path: &Path, errors: &mut Errors) {
    let name = given.name.as_deref().unwrap_or_default();
    if !name.is_empty() {
        errors.invalid_each(&path.child("name"), name, names::path_segment(name, false));
        if given.selector.is_some() {
            errors.forbidden(&path.child("name"), EXCLUSIVE);
        }
    }
    match &given.selector {
        Some(of) => {
            selector::validate(of, &path.child("selector"), errors);
            if !name.is_empty() {
                errors.forbidden(&path.child("selector"), EXCLUSIVE);
            }
        }
        None if name.is_empty() => errors.required(path, "one of name or selector must be specified"),
        None => {}
    }
    errors.one_of(
        &path.child("parameterNotFoundAction"),
        given.parameter_not_found_action.as_deref(),
        &NOT_FOUND_ACTIONS,
    );
}

/// The cell of a policy's parameters.
pub(super) fn shown_kind(kind: Option<&ParamKind>) -> String {
    match kind {
        None => "<unset>".into(),
        Some(kind) => format!(
            "{}/{}",
            kind.api_version.as_deref().unwrap_or_default(),
            kind.kind.as_deref().unwrap_or_default()
        ),
    }
}

/// The cell of a binding's parameters.
pub(super) fn shown_reference(reference: Option<&ParamRef>) -> String {
    let Some(reference) = reference else {
        return "<unset>".into();
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (name, namespace) = (text(&reference.name), text(&reference.namespace));
    match &reference.selector {
        Some(of) if name.is_empty() => shown_selector(of),
        None if name.is_empty() => "<unset>".into(),
        // Whether the parameter has a namespace cannot be told from here.
        _ if namespace.is_empty() => format!("*/{name}"),
        _ => format!("{namespace}/{name}"),
    }
}

/// A selector as Go's own form of its protobuf message.
fn shown_selector(of: &LabelSelector) -> String {
    let labels: String = of
        .match_labels
        .iter()
        .flatten()
        .map(|(key, value)| format!("{key}: {value},"))
        .collect();
    let requirements: String = of
        .match_expressions
        .iter()
        .flatten()
        .map(|one| {
            let values = one.values.as_deref().unwrap_or_default().join(" ");
            let (key, operator) = (&one.key, &one.operator);
            format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},\
         MatchExpressions:[]LabelSelectorRequirement{{{requirements}}},}}"
    )
}
