//! MutatingAdmissionPolicy: expressions that change what is written.

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, Mutation};
use serde_json::Value;

use super::{FAILURE_POLICIES, REINVOCATION_POLICIES, expressions, parameters, rules};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Scope, Target, age};
use crate::meta::generation_after;
use crate::same::same;

const PATCH_TYPES: [&str; 2] = ["ApplyConfiguration", "JSONPatch"];

impl Kind for MutatingAdmissionPolicy {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            categories: &["api-extensions"],
            columns: vec![
                Column::object_name(),
                Column::new(
                    "Mutations",
                    "integer",
                    "Mutation indicates the number of mutations rules defined in this configuration",
                ),
                Column::new(
                    "ParamKind",
                    "string",
                    "ParamKind specifies the kind of resources used to parameterize this policy",
                ),
                Column::age(),
            ],
            unconditional_update: false,
            ..KindInfo::of::<Self>("mutatingadmissionpolicy")
        }
    }

    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.failure_policy.get_or_insert_with(|| "Fail".into());
        if let Some(constraints) = &mut spec.match_constraints {
            rules::default_match(constraints);
        }
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, _target: Target) {
        self.metadata.generation = generation_after(&old.metadata, !same(&self.spec, &old.spec));
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
        let (constraints, at) = (spec.match_constraints.as_ref(), path.child("matchConstraints"));
        rules::validate_constraints(constraints, &at, errors);
        rules::validate_mutating(constraints, &at, errors);
        let at = path.child("matchConditions");
        expressions::validate_conditions(spec.match_conditions.as_ref(), &at, errors);
        expressions::validate_variables(spec.variables.as_ref(), &path.child("variables"), errors);
        let (mutations, at) = (spec.mutations.unwrap_or_default(), path.child("mutations"));
        if mutations.is_empty() {
            errors.required(&at, "mutations must contain at least one item");
        }
        for (index, mutation) in mutations.iter().enumerate() {
            check_mutation(mutation, &at.index(index), errors);
        }
        errors.one_of(
            &path.child("reinvocationPolicy"),
            spec.reinvocation_policy.as_deref(),
            &REINVOCATION_POLICIES,
        );
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.as_ref();
        let mutations = spec.and_then(|spec| spec.mutations.as_ref());
        vec![
            self.metadata.name.clone().into(),
            mutations.map_or(0, Vec::len).into(),
            parameters::shown_kind(spec.and_then(|spec| spec.param_kind.as_ref())).into(),
            age(&self.metadata, now),
        ]
    }
}

/// The type of a patch, its own field with the expression, and the field that it excludes.
fn check_mutation(mutation: &Mutation, path: &Path, errors: &mut Errors) {
    let apply = mutation
        .apply_configuration
        .as_ref()
        .map(|patch| &patch.expression);
    let json = mutation.json_patch.as_ref().map(|patch| &patch.expression);
    let type_ = mutation.patch_type.as_str();
    let ((field, expression), (excluded, other)) = match type_ {
        "" => return errors.required(&path.child("patchType"), ""),
        "ApplyConfiguration" => (("applyConfiguration", apply), ("jsonPatch", json)),
        "JSONPatch" => (("jsonPatch", json), ("applyConfiguration", apply)),
        other => return errors.not_supported(&path.child("patchType"), other, &PATCH_TYPES),
    };
    match expression {
        None => errors.required(
            &path.child(field),
            &format!("must be specified when patchType is {type_}"),
        ),
        Some(expression) if expression.as_deref().unwrap_or_default().trim().is_empty() => {
            errors.required(&path.child(field).child("expression"), "");
        }
        Some(expression) => {
            let expression = expression.as_deref().unwrap_or_default();
            errors.expression(&path.child(field).child("expression"), expression);
        }
    }
    if other.is_some() {
        errors.invalid(
            &path.child(excluded),
            format!("{{{excluded}}}"),
            format!("must not be specified when patchType is {type_}"),
        );
    }
}
