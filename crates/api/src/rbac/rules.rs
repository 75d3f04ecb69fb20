//! What all roles have: rules that allow something.

use k8s_openapi::api::rbac::v1::PolicyRule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::Column;

/// The columns of both kinds of roles.
pub(super) fn columns() -> Vec<Column> {
    vec![Column::object_name(), Column::created_at()]
}

/// The cells of both kinds of roles: a role's age is shown as the time it was made.
pub(super) fn cells(meta: &ObjectMeta) -> Vec<Value> {
    vec![meta.name.clone().into(), cell::created(meta).into()]
}

/// Checks the rules of a role. Those of a role in a namespace allow no paths outside of the API's resources.
pub(super) fn validate(rules: Option<&Vec<PolicyRule>>, namespaced: bool, errors: &mut Errors) {
    let path = Path::new("rules");
    for (index, rule) in rules.into_iter().flatten().enumerate() {
        validate_rule(rule, namespaced, &path.index(index), errors);
    }
}

fn validate_rule(rule: &PolicyRule, namespaced: bool, path: &Path, errors: &mut Errors) {
    let none = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if rule.verbs.is_empty() {
        errors.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    if !none(&rule.non_resource_urls) {
        let path = path.child("nonResourceURLs");
        if namespaced {
            errors.invalid(
                &path,
                &rule.non_resource_urls,
                "namespaced rules cannot apply to non-resource URLs",
            );
        }
        if !none(&rule.api_groups) || !none(&rule.resources) || !none(&rule.resource_names) {
            errors.invalid(
                &path,
                &rule.non_resource_urls,
                "rules cannot apply to both regular resources and non-resource URLs",
            );
        }
        return;
    }
    if none(&rule.api_groups) {
        errors.required(
            &path.child("apiGroups"),
            "resource rules must supply at least one api group",
        );
    }
    if none(&rule.resources) {
        errors.required(
            &path.child("resources"),
            "resource rules must supply at least one resource",
        );
    }
}
