//! What a webhook or a policy is asked about: operations, groups, versions, resources; namespaces and objects.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, NamedRuleWithOperations, RuleWithOperations,
};

use crate::field::{Errors, Path};
use crate::names;
use crate::selector;

pub(super) const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
/// What a mutating policy can be about: there is nothing to change in what is deleted or connected to.
const MUTATING: [&str; 3] = ["*", "CREATE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];

/// Whatever is not said of a rule means everything.
pub(super) fn default(rules: &mut Option<Vec<RuleWithOperations>>) {
    for rule in rules.iter_mut().flatten() {
        rule.scope.get_or_insert_with(|| "*".into());
    }
}

pub(super) fn default_match(resources: &mut MatchResources) {
    resources.match_policy.get_or_insert_with(|| "Equivalent".into());
    resources.namespace_selector.get_or_insert_default();
    resources.object_selector.get_or_insert_default();
    for rules in [
        &mut resources.resource_rules,
        &mut resources.exclude_resource_rules,
    ] {
        for rule in rules.iter_mut().flatten() {
            rule.scope.get_or_insert_with(|| "*".into());
        }
    }
}

fn has_wildcard(list: &[String]) -> bool {
    list.iter().any(|text| text == "*")
}

/// Checks a rule.
pub(super) fn validate(rule: &RuleWithOperations, path: &Path, errors: &mut Errors) {
    let operations = rule.operations.as_deref().unwrap_or_default();
    let at = path.child("operations");
    if operations.is_empty() {
        errors.required(&at, "");
    }
    if operations.len() > 1 && has_wildcard(operations) {
        errors.invalid(
            &at,
            operations,
            "if '*' is present, must not specify other operations",
        );
    }
    for (index, operation) in operations.iter().enumerate() {
        if !OPERATIONS.contains(&operation.as_str()) {
            errors.not_supported(&at.index(index), operation, &OPERATIONS);
        }
    }
    let groups = rule.api_groups.as_deref().unwrap_or_default();
    let at = path.child("apiGroups");
    if groups.is_empty() {
        errors.required(&at, "");
    }
    if groups.len() > 1 && has_wildcard(groups) {
        errors.invalid(
            &at,
            groups,
            "if '*' is present, must not specify other API groups",
        );
    }
    let versions = rule.api_versions.as_deref().unwrap_or_default();
    let at = path.child("apiVersions");
    if versions.is_empty() {
        errors.required(&at, "");
    }
    if versions.len() > 1 && has_wildcard(versions) {
        errors.invalid(
            &at,
            versions,
            "if '*' is present, must not specify other API versions",
        );
    }
    for (index, version) in versions.iter().enumerate() {
        if version.is_empty() {
            errors.required(&at.index(index), "");
        }
    }
    let resources = rule.resources.as_deref().unwrap_or_default();
    validate_resources(resources, &path.child("resources"), errors);
    if let Some(scope) = rule.scope.as_deref().filter(|scope| !SCOPES.contains(scope)) {
        errors.not_supported(&path.child("scope"), scope, &SCOPES);
    }
}

fn validate_resources(resources: &[String], path: &Path, errors: &mut Errors) {
    if resources.is_empty() {
        errors.required(path, "");
    }
    let (mut all_subresources, mut all_resources) = (BTreeSet::new(), BTreeSet::new());
    let mut plain = false;
    for (index, text) in resources.iter().enumerate() {
        let at = path.index(index);
        if text.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let Some((resource, subresource)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        if all_subresources.contains(resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            errors.invalid(&at, text, detail);
        }
        if all_resources.contains(subresource) {
            let detail = format!("if '*/{subresource}' is present, must not specify {text}");
            errors.invalid(&at, text, detail);
        }
        if subresource == "*" {
            all_subresources.insert(resource);
        }
        if resource == "*" {
            all_resources.insert(subresource);
        }
    }
    if resources.len() > 1 && resources.iter().any(|text| text == "*/*") {
        errors.invalid(
            path,
            resources,
            "if '*/*' is present, must not specify other resources",
        );
    }
    if plain && has_wildcard(resources) {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, resources, detail);
    }
}

/// Checks what a policy or a binding is about.
pub(super) fn validate_match(resources: &MatchResources, path: &Path, errors: &mut Errors) {
    errors.one_of(
        &path.child("matchPolicy"),
        resources.match_policy.as_deref(),
        &MATCH_POLICIES,
    );
    for (field, given) in [
        ("namespaceSelector", &resources.namespace_selector),
        ("objectSelector", &resources.object_selector),
    ] {
        match given {
            None => errors.required(&path.child(field), ""),
            Some(given) => selector::validate(given, &path.child(field), errors),
        }
    }
    for (field, rules) in [
        ("resourceRules", &resources.resource_rules),
        ("excludeResourceRules", &resources.exclude_resource_rules),
    ] {
        for (index, rule) in rules.iter().flatten().enumerate() {
            validate_named(rule, &path.child(field).index(index), errors);
        }
    }
}

/// Checks what a policy is about: it must name resources, which tell the types that its expressions see.
pub(super) fn validate_constraints(resources: Option<&MatchResources>, path: &Path, errors: &mut Errors) {
    let Some(resources) = resources else {
        return errors.required(path, "");
    };
    validate_match(resources, path, errors);
    if resources.resource_rules.as_ref().is_none_or(Vec::is_empty) {
        errors.required(&path.child("resourceRules"), "");
    }
}

/// Checks that a mutating policy is about what can be changed.
pub(super) fn validate_mutating(resources: Option<&MatchResources>, path: &Path, errors: &mut Errors) {
    let path = path.child("resourceRules").child("operations");
    let rules = resources.and_then(|resources| resources.resource_rules.as_ref());
    let operations = rules
        .into_iter()
        .flatten()
        .flat_map(|rule| rule.operations.iter().flatten());
    for operation in operations.filter(|operation| !MUTATING.contains(&operation.as_str())) {
        errors.not_supported(&path, operation, &MUTATING);
    }
}

fn validate_named(rule: &NamedRuleWithOperations, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, name) in rule.resource_names.iter().flatten().enumerate() {
        let at = path.child("resourceNames").index(index);
        errors.invalid_each(&at, name, names::path_segment(name, false));
        if !seen.insert(name) {
            errors.duplicate(&at, name);
        }
    }
    let rule = RuleWithOperations {
        api_groups: rule.api_groups.clone(),
        api_versions: rule.api_versions.clone(),
        operations: rule.operations.clone(),
        resources: rule.resources.clone(),
        scope: rule.scope.clone(),
    };
    validate(&rule, path, errors);
}
