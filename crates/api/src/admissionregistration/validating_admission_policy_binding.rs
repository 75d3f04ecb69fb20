//! ValidatingAdmissionPolicyBinding: where a policy holds, with which parameters, and what comes of a violation.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use serde_json::Value;

use super::{parameters, rules};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Target, age};
use crate::meta::generation_after;
use crate::names;
use crate::same::same;

const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];

impl Kind for ValidatingAdmissionPolicyBinding {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            categories: &["api-extensions"],
            columns: columns(),
            unconditional_update: false,
            ..KindInfo::of::<Self>("validatingadmissionpolicybinding")
        }
    }

    fn default(&mut self) {
        if let Some(resources) = &mut self.spec.match_resources {
            rules::default_match(resources);
        }
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, _target: Target) {
        self.metadata.generation = generation_after(&old.metadata, !same(&self.spec, &old.spec));
    }

    fn validate(&self, errors: &mut Errors) {
        let (spec, path) = (&self.spec, Path::new("spec"));
        check_policy(&spec.policy_name, &path.child("policyName"), errors);
        if let Some(reference) = &spec.param_ref {
            parameters::validate_reference(reference, &path.child("paramRef"), errors);
        }
        if let Some(resources) = &spec.match_resources {
            rules::validate_match(resources, &path.child("matchResouces"), errors);
        }
        check_actions(&spec.validation_actions, &path.child("validationActions"), errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            self.metadata.name.clone().into(),
            self.spec.policy_name.clone().into(),
            parameters::shown_reference(self.spec.param_ref.as_ref()).into(),
            age(&self.metadata, now),
        ]
    }
}

/// The columns of bindings.
pub(super) fn columns() -> Vec<Column> {
    vec![
        Column::object_name(),
        Column::new(
            "PolicyName",
            "string",
            "PolicyName indicates the policy definition which the policy binding binded to",
        ),
        Column::new(
            "ParamRef",
            "string",
            "ParamRef indicates the param resource which sets the configration param",
        ),
        Column::age(),
    ]
}

/// Checks the name of the policy that is bound.
pub(super) fn check_policy(name: &str, path: &Path, errors: &mut Errors) {
    match name {
        "" => errors.required(path, ""),
        name => errors.invalid_each(path, name, names::dns_subdomain(name, false)),
    }
}

fn check_actions(actions: &[String], path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, action) in actions.iter().enumerate() {
        if !ACTIONS.contains(&action.as_str()) {
            errors.not_supported(&path.index(index), action, &ACTIONS);
        }
        if !seen.insert(action.as_str()) {
            errors.duplicate(&path.index(index), action);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        errors.invalid(
            path,
            actions,
            "must not contain both Deny and Warn (repeating the same validation failure information in the API \
             response and headers serves no purpose)",
        );
    }
    if seen.is_empty() {
        errors.required(path, "at least one validation action is required");
    }
}
