//! The rules in a custom resource's schema that are written as expressions.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;

use super::shown;
use crate::expression;
use crate::field::{Errors, Path};

/// Checks that the expressions of a schema's rules can be read.
pub(super) fn validate(schema: &JSONSchemaProps, path: &Path, errors: &mut Errors) {
    let rules = schema.x_kubernetes_validations.iter().flatten();
    for (index, rule) in rules.enumerate() {
        let at = path.child("x-kubernetes-validations").index(index);
        if let Err(why) = expression::check(&rule.rule) {
            errors.invalid(&at.child("rule"), shown::rule(rule), why);
        }
        let message = rule.message_expression.as_deref().unwrap_or_default();
        if !message.is_empty()
            && let Err(why) = expression::check(message)
        {
            let why = format!("messageExpression {why}");
            errors.invalid(&at.child("messageExpression"), shown::rule(rule), why);
        }
    }
}
