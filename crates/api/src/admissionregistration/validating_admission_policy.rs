//! ValidatingAdmissionPolicy: expressions that a write must satisfy.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    AuditAnnotation, ExpressionWarning, ValidatingAdmissionPolicy, Validation,
};
use serde_json::Value;

use super::{FAILURE_POLICIES, expressions, parameters, rules};
use crate::conditions;
use crate::field::{Errors, Path};
use crate::halves;
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource, Target, age};
use crate::names;

const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const MAX_ANNOTATIONS: usize = 20;
/// The longest expression of an audit annotation, in bytes.
const MAX_EXPRESSION: usize = 5 * 1024;
const AT_LEAST_ONE: &str = "validations or auditAnnotations must contain at least one item";

impl Kind for ValidatingAdmissionPolicy {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            categories: &["api-extensions"],
            subresources: &[Subresource::Status],
            columns: vec![
                Column::object_name(),
                Column::new(
                    "Validations",
                    "integer",
                    "Validations indicates the number of validation rules defined in this configuration",
                ),
                Column::new(
                    "ParamKind",
                    "string",
                    "ParamKind specifies the kind of resources used to parameterize this policy",
                ),
                Column::age(),
            ],
            unconditional_update: false,
            ..KindInfo::of::<Self>("validatingadmissionpolicy")
        }
    }

    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.failure_policy.get_or_insert_with(|| "Fail".into());
        if let Some(constraints) = &mut spec.match_constraints {
            rules::default_match(constraints);
        }
        self.status.get_or_insert_default();
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(Default::default());
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        halves::carry_over_with_metadata(
            target,
            (&mut self.metadata, &old.metadata),
            (&mut self.spec, &old.spec),
            (&mut self.status, &old.status),
        );
    }

    fn validate(&self, errors: &mut Errors) {
        let spec = self.spec.clone().unwrap_or_default();
        let path = Path::new("spec");
        errors.one_of(
            &path.child("failurePolicy"),
            spec.failure_policy.as_deref(),
            &FAILURE_POLICIES,
        );
        if let Some(kind) = &spec.param_kind {
            parameters::validate_kind(kind, &path.child("paramKind"), errors);
        }
        let at = path.child("matchConstraints");
        rules::validate_constraints(spec.match_constraints.as_ref(), &at, errors);
        let at = path.child("matchConditions");
        expressions::validate_conditions(spec.match_conditions.as_ref(), &at, errors);
        expressions::validate_variables(spec.variables.as_ref(), &path.child("variables"), errors);
        let validations = spec.validations.unwrap_or_default();
        let annotations = spec.audit_annotations.unwrap_or_default();
        if validations.is_empty() && annotations.is_empty() {
            errors.required(&path.child("validations"), AT_LEAST_ONE);
            errors.required(&path.child("auditAnnotations"), AT_LEAST_ONE);
        }
        for (index, validation) in validations.iter().enumerate() {
            check_validation(validation, &path.child("validations").index(index), errors);
        }
        let name = self.metadata.name.as_deref().unwrap_or_default();
        check_annotations(&annotations, name, &path.child("auditAnnotations"), errors);
    }

    fn validate_update(&self, _old: &Self, target: Target, errors: &mut Errors) {
        if target == Target::Main {
            return;
        }
        let status = self.status.clone().unwrap_or_default();
        let path = Path::new("status");
        let warnings = status
            .type_checking
            .and_then(|checking| checking.expression_warnings);
        for (index, warning) in warnings.iter().flatten().enumerate() {
            let at = path
                .child("typeChecking")
                .child("expressionWarnings")
                .index(index);
            check_warning(warning, &at, errors);
        }
        let list = status.conditions.as_deref().unwrap_or_default();
        conditions::validate(list, &path.child("conditions"), errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.as_ref();
        let validations = spec.and_then(|spec| spec.validations.as_ref());
        vec![
            self.metadata.name.clone().into(),
            validations.map_or(0, Vec::len).into(),
            parameters::shown_kind(spec.and_then(|spec| spec.param_kind.as_ref())).into(),
            age(&self.metadata, now),
        ]
    }
}

fn check_validation(validation: &Validation, path: &Path, errors: &mut Errors) {
    if validation.expression.trim().is_empty() {
        errors.required(&path.child("expression"), "expression is not specified");
    } else {
        errors.expression(&path.child("expression"), &validation.expression);
    }
    let text = validation.message_expression.as_deref().unwrap_or_default();
    if !text.is_empty() && text.trim().is_empty() {
        errors.invalid(
            &path.child("messageExpression"),
            text,
            "must be non-empty if specified",
        );
    } else if !text.is_empty() {
        errors.expression(&path.child("messageExpression"), text);
    }
    let message = validation.message.as_deref().unwrap_or_default();
    if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(
            &path.child("message"),
            message,
            "message must be non-empty if specified",
        );
    } else if message.trim().contains(['\n', '\r']) {
        errors.invalid(
            &path.child("message"),
            message,
            "message must not contain line breaks",
        );
    }
    let reason = validation.reason.as_deref();
    if let Some(reason) = reason.filter(|reason| !REASONS.contains(reason)) {
        errors.not_supported(&path.child("reason"), reason, &REASONS);
    }
}

fn check_annotations(annotations: &[AuditAnnotation], policy: &str, path: &Path, errors: &mut Errors) {
    if annotations.len() > MAX_ANNOTATIONS {
        let detail = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        errors.invalid(path, annotations, detail);
    }
    let mut seen = BTreeSet::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let path = path.index(index);
        let (key, at) = (&annotation.key, path.child("key"));
        if policy.is_empty() {
            errors.invalid(&at, key, "requires metadata.name be non-empty");
        } else {
            let whole = format!("{policy}/{key}");
            errors.invalid_each(&at, &whole, names::qualified_name(&whole));
        }
        let (expression, at) = (annotation.value_expression.trim(), path.child("valueExpression"));
        if expression.is_empty() {
            errors.required(&at, "valueExpression is not specified");
        } else if expression.len() > MAX_EXPRESSION {
            errors.required(&at, &format!("must not exceed {MAX_EXPRESSION} bytes in length"));
        } else {
            errors.expression(&at, expression);
        }
        if !seen.insert(key) {
            errors.duplicate(&path.child("key"), key);
        }
    }
}

fn check_warning(warning: &ExpressionWarning, path: &Path, errors: &mut Errors) {
    if warning.warning.is_empty() {
        errors.required(&path.child("warning"), "");
    }
    if warning.field_ref.trim().is_empty() {
        errors.required(&path.child("fieldRef"), "");
    }
}
