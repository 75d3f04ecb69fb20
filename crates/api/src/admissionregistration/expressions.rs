//! The named expressions of webhooks and policies: match conditions and variables.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{MatchCondition, Variable};

use crate::expression;
use crate::field::{Errors, Path};
use crate::names;

const MAX_CONDITIONS: usize = 64;

/// Checks match conditions.
pub(super) fn validate_conditions(
    conditions: Option<&Vec<MatchCondition>>,
    path: &Path,
    errors: &mut Errors,
) {
    let conditions = conditions.map(Vec::as_slice).unwrap_or_default();
    if conditions.len() > MAX_CONDITIONS {
        errors.too_many(path, conditions.len(), MAX_CONDITIONS);
    }
    let mut seen = BTreeSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let at = path.index(index);
        if condition.expression.trim().is_empty() {
            errors.required(&at.child("expression"), "");
        } else {
            errors.expression(&at.child("expression"), &condition.expression);
        }
        let (name, at) = (condition.name.as_str(), at.child("name"));
        if name.is_empty() {
            errors.required(&at, "");
            continue;
        }
        errors.invalid_each(&at, name, names::qualified_name(name));
        if !seen.insert(name) {
            errors.duplicate(&at, name);
        }
    }
}

/// Checks variables.
pub(super) fn validate_variables(variables: Option<&Vec<Variable>>, path: &Path, errors: &mut Errors) {
    for (index, variable) in variables.into_iter().flatten().enumerate() {
        let at = path.index(index);
        if variable.name.trim().is_empty() {
            errors.required(&at.child("name"), "name is not specified");
        } else if !expression::is_identifier(&variable.name) {
            errors.invalid(
                &at.child("name"),
                &variable.name,
                "name is not a valid CEL identifier",
            );
        }
        if variable.expression.trim().is_empty() {
            errors.required(&at.child("expression"), "expression is not specified");
        } else {
            errors.expression(&at.child("expression"), &variable.expression);
        }
    }
}
