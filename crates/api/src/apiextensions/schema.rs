//! What the schema of a custom resource may say (`ValidateCustomResourceDefinitionOpenAPISchema`).

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, JSONSchemaPropsOrStringArray,
};

use super::{defaults, expressions, json_path, shown, structure};
use crate::field::{Errors, Path};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];
/// What a schema may say at its root when the status has a path of its own: the status' schema is then taken out, and
/// nothing that is said here must get lost by that.
const AT_ROOT: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength \
    MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example \
    XPreserveUnknownFields XValidations]";

/// Checks the schema of whole objects.
pub(super) fn validate(schema: &JSONSchemaProps, has_status: bool, path: &Path, errors: &mut Errors) {
    let before = errors.iter().len();
    if has_status {
        check_root(schema, path, errors);
    }
    if schema.nullable == Some(true) {
        errors.forbidden(&path.child("nullable"), "nullable cannot be true at the root");
    }
    let unsupported = structure::unsupported(schema);
    let mut structural = false;
    if unsupported.is_none() {
        let mut violations = structure::violations(schema, path);
        if violations.is_empty() {
            violations = defaults::violations(schema, path).iter().cloned().collect();
        }
        structural = violations.is_empty();
        errors.extend(violations);
    }
    let mut of_expressions = Errors::new();
    let place = Place {
        is_root: true,
        no_defaults: None,
        in_metadata: false,
        has_expressions: structural,
    };
    check(schema, &place, path, errors, &mut of_expressions);
    errors.extend(of_expressions.iter().cloned());
    if let Some(what) = unsupported
        && errors.iter().len() == before
    {
        errors.invalid(path, "", what);
    }
}

fn check_root(schema: &JSONSchemaProps, path: &Path, errors: &mut Errors) {
    let type_ = schema.type_.as_deref().unwrap_or_default();
    if !type_.is_empty() && type_ != "object" {
        return errors.invalid(
            &path.child("type"),
            type_,
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled",
        );
    }
    let allowed = JSONSchemaProps {
        description: None,
        type_: None,
        format: None,
        title: None,
        maximum: None,
        exclusive_maximum: None,
        minimum: None,
        exclusive_minimum: None,
        max_length: None,
        min_length: None,
        pattern: None,
        max_items: None,
        min_items: None,
        unique_items: None,
        multiple_of: None,
        required: None,
        items: None,
        properties: None,
        external_docs: None,
        example: None,
        x_kubernetes_preserve_unknown_fields: None,
        x_kubernetes_validations: None,
        ..schema.clone()
    };
    if schema.default.is_some() || !crate::same::same(&allowed, &JSONSchemaProps::default()) {
        let detail = format!(
            "only {AT_ROOT} fields are allowed at the root of the schema if the status subresource is enabled"
        );
        errors.invalid(path, shown::schema(schema), detail);
    }
}

/// Where a schema stands among those around it.
#[derive(Clone)]
struct Place {
    is_root: bool,
    /// Why there must be no default, if so.
    no_defaults: Option<String>,
    /// Whether it is of the metadata or the type of an object.
    in_metadata: bool,
    /// Whether rules in expressions are looked at: not in conditions on values, and not where no types are known.
    has_expressions: bool,
}

impl Place {
    fn below(&self) -> Self {
        Self {
            is_root: false,
            ..self.clone()
        }
    }

    fn in_condition(&self) -> Self {
        Self {
            has_expressions: false,
            ..self.below()
        }
    }
}

fn check(
    schema: &JSONSchemaProps,
    place: &Place,
    path: &Path,
    errors: &mut Errors,
    of_expressions: &mut Errors,
) {
    let before = errors.iter().len();
    check_own(schema, place, path, errors);
    if let Some(additional) = &schema.additional_properties {
        let at = path.child("additionalProperties");
        let has_properties = schema.properties.as_ref().is_some_and(|all| !all.is_empty());
        if has_properties && *additional != JSONSchemaPropsOrBool::Bool(true) {
            errors.forbidden(&at, "additionalProperties and properties are mutual exclusive");
        }
        if let JSONSchemaPropsOrBool::Schema(additional) = additional {
            let mut below = place.below();
            if place.in_metadata {
                below.no_defaults = Some("inside additionalProperties applying to object metadata".into());
            }
            check(additional, &below, &at, errors, of_expressions);
        }
    }
    let embedded = schema.x_kubernetes_embedded_resource == Some(true);
    for (name, property) in schema.properties.iter().flatten() {
        let mut below = place.below();
        if (place.is_root || embedded) && matches!(name.as_str(), "metadata" | "kind" | "apiVersion") {
            below.in_metadata = true;
            if place.is_root {
                below.no_defaults = Some(format!("in top-level {name}"));
            }
        }
        let at = path.child("properties").key(name);
        check(property, &below, &at, errors, of_expressions);
    }
    let condition = place.in_condition();
    for (at, below) in conditions(schema, path) {
        check(below, &condition, &at, errors, of_expressions);
    }
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => {
            check(
                items,
                &place.below(),
                &path.child("items"),
                errors,
                of_expressions,
            );
        }
        Some(JSONSchemaPropsOrArray::Schemas(list)) => {
            for (index, items) in list.iter().enumerate() {
                let at = path.child("items").index(index);
                check(items, &place.below(), &at, errors, of_expressions);
            }
        }
        None => {}
    }
    for (name, dependency) in schema.dependencies.iter().flatten() {
        if let JSONSchemaPropsOrStringArray::Schema(below) = dependency {
            let at = path.child("dependencies").key(name);
            check(below, &condition, &at, errors, of_expressions);
        }
    }
    if schema.x_kubernetes_preserve_unknown_fields == Some(false) {
        errors.invalid(
            &path.child("x-kubernetes-preserve-unknown-fields"),
            false,
            "must be true or undefined",
        );
    }
    check_map(schema, path, errors);
    check_list(schema, path, errors);
    check_rules(schema, path, errors);
    if place.has_expressions && errors.iter().len() == before {
        expressions::validate(schema, path, of_expressions);
    }
}

fn conditions<'a>(schema: &'a JSONSchemaProps, path: &Path) -> Vec<(Path, &'a JSONSchemaProps)> {
    let mut found = Vec::new();
    if let Some(not) = &schema.not {
        found.push((path.child("not"), &**not));
    }
    for (name, list) in [
        ("allOf", &schema.all_of),
        ("oneOf", &schema.one_of),
        ("anyOf", &schema.any_of),
    ] {
        let each = list.iter().flatten().enumerate();
        found.extend(each.map(|(index, schema)| (path.child(name).index(index), schema)));
    }
    for (name, schema) in schema.definitions.iter().flatten() {
        found.push((path.child("definitions").key(name), schema));
    }
    found
}

fn check_own(schema: &JSONSchemaProps, place: &Place, path: &Path, errors: &mut Errors) {
    let type_ = schema.type_.as_deref().unwrap_or_default();
    if !type_.is_empty() && !TYPES.contains(&type_) {
        errors.not_supported(&path.child("type"), type_, &TYPES);
    }
    if let Some(reason) = place.no_defaults.as_ref().filter(|_| schema.default.is_some()) {
        errors.forbidden(&path.child("default"), &format!("must not be set {reason}"));
    }
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    for (field, present) in [
        ("id", given(&schema.id)),
        ("additionalItems", schema.additional_items.is_some()),
        (
            "patternProperties",
            schema
                .pattern_properties
                .as_ref()
                .is_some_and(|all| !all.is_empty()),
        ),
        (
            "definitions",
            schema.definitions.as_ref().is_some_and(|all| !all.is_empty()),
        ),
        ("dependencies", schema.dependencies.is_some()),
        ("$ref", schema.ref_path.is_some()),
    ] {
        if present {
            errors.forbidden(&path.child(field), &format!("{field} is not supported"));
        }
    }
    if type_ == "null" {
        errors.forbidden(
            &path.child("type"),
            "type cannot be set to null, use nullable as an alternative",
        );
    }
    if matches!(&schema.items, Some(JSONSchemaPropsOrArray::Schemas(list)) if !list.is_empty()) {
        errors.forbidden(
            &path.child("items"),
            "items must be a schema object and not an array",
        );
    }
    if place.in_metadata && schema.x_kubernetes_embedded_resource == Some(true) {
        errors.forbidden(
            &path.child("x-kubernetes-embedded-resource"),
            "must not be used inside of resource meta",
        );
    }
    if schema.unique_items == Some(true) {
        errors.forbidden(
            &path.child("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
}

fn require_type(
    schema: &JSONSchemaProps,
    wanted: &str,
    detail: &str,
    path: &Path,
    errors: &mut Errors,
) -> bool {
    let type_ = schema.type_.as_deref().unwrap_or_default();
    if type_.is_empty() {
        errors.required(&path.child("type"), detail);
    } else if type_ != wanted {
        errors.invalid(&path.child("type"), type_, detail);
    }
    type_ == wanted
}

fn check_map(schema: &JSONSchemaProps, path: &Path, errors: &mut Errors) {
    let Some(kind) = schema.x_kubernetes_map_type.as_deref() else {
        return;
    };
    let detail = "must be object if x-kubernetes-map-type is specified";
    require_type(schema, "object", detail, path, errors);
    if !matches!(kind, "atomic" | "granular") {
        let at = path.child("x-kubernetes-map-type");
        errors.not_supported(&at, kind, &["atomic", "granular"]);
    }
}

fn check_list(schema: &JSONSchemaProps, path: &Path, errors: &mut Errors) {
    let items = match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(&**items),
        _ => None,
    };
    let (kind, at) = (
        schema.x_kubernetes_list_type.as_deref(),
        path.child("x-kubernetes-list-type"),
    );
    let keys = schema.x_kubernetes_list_map_keys.as_deref().unwrap_or_default();
    if let Some(kind) = kind {
        let detail = "must be array if x-kubernetes-list-type is specified";
        let is_list = require_type(schema, "array", detail, path, errors);
        if let Some(items) = items.filter(|_| is_list && kind == "set") {
            check_set(items, &path.child("items"), errors);
        }
        if !matches!(kind, "atomic" | "set" | "map") {
            errors.not_supported(&at, kind, &["atomic", "set", "map"]);
        }
    }
    if !keys.is_empty() {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match kind {
            None => errors.required(&at, detail),
            Some("map") => {}
            Some(other) => errors.invalid(&at, other, detail),
        }
    }
    if kind == Some("map") {
        check_keyed(schema, items, keys, path, errors);
    }
    check_keys(items, kind, keys, path, errors);
}

/// What is told apart by its value must be one value.
fn check_set(items: &JSONSchemaProps, path: &Path, errors: &mut Errors) {
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let (list, map) = (&items.x_kubernetes_list_type, &items.x_kubernetes_map_type);
    match items.type_.as_deref() {
        Some("array") if list.as_deref().is_some_and(|kind| kind != "atomic") => {
            errors.invalid(&path.child("x-kubernetes-list-type"), list, detail);
        }
        // Upstream shows the kind of the list here, too.
        Some("object") if map.as_deref() != Some("atomic") => {
            errors.invalid(&path.child("x-kubernetes-map-type"), list, detail);
        }
        _ => {}
    }
}

fn check_keyed(
    schema: &JSONSchemaProps,
    items: Option<&JSONSchemaProps>,
    keys: &[String],
    path: &Path,
    errors: &mut Errors,
) {
    let (keys_at, items_at) = (path.child("x-kubernetes-list-map-keys"), path.child("items"));
    if keys.is_empty() {
        errors.required(&keys_at, "must not be empty if x-kubernetes-list-type is map");
    }
    let Some(items) = items else {
        return match &schema.items {
            None => errors.required(&items_at, "must have a schema if x-kubernetes-list-type is map"),
            Some(list) => errors.invalid(
                &items_at,
                list,
                "must only have a single schema if x-kubernetes-list-type is map",
            ),
        };
    };
    let type_ = items.type_.as_deref().unwrap_or_default();
    if type_ != "object" {
        return errors.invalid(
            &items_at.child("type"),
            type_,
            "must be object if parent array's x-kubernetes-list-type is map",
        );
    }
    let mut seen = BTreeSet::new();
    for key in keys {
        match items.properties.as_ref().and_then(|all| all.get(key)) {
            Some(property) if matches!(property.type_.as_deref(), Some("array" | "object")) => {
                let at = items_at.child("properties").key(key).child("type");
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.invalid(&at, type_, detail);
            }
            Some(_) => {}
            None => errors.invalid(&keys_at, keys, "entries must all be names of item properties"),
        }
        if !seen.insert(key) {
            errors.invalid(&keys_at, keys, "must not contain duplicate entries");
        }
    }
}

/// What a list's elements are told apart by must be there, and not null.
fn check_keys(
    items: Option<&JSONSchemaProps>,
    kind: Option<&str>,
    keys: &[String],
    path: &Path,
    errors: &mut Errors,
) {
    let (Some(items), Some(kind @ ("set" | "map"))) = (items, kind) else {
        return;
    };
    let path = path.child("items");
    if items.nullable == Some(true) {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        errors.forbidden(&path.child("nullable"), &detail);
    }
    for key in keys.iter().filter(|_| kind == "map") {
        let Some(property) = items.properties.as_ref().and_then(|all| all.get(key)) else {
            continue;
        };
        let at = path.child("properties").key(key);
        let required = items.required.iter().flatten().any(|name| name == key);
        if !required && property.default.is_none() {
            errors.required(
                &at.child("default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            );
        }
        if property.nullable == Some(true) {
            errors.forbidden(
                &at.child("nullable"),
                "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            );
        }
    }
}

/// What is said of rules beside their expressions.
fn check_rules(schema: &JSONSchemaProps, path: &Path, errors: &mut Errors) {
    let rules = schema.x_kubernetes_validations.iter().flatten();
    for (index, rule) in rules.enumerate() {
        let at = path.child("x-kubernetes-validations").index(index);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (message, expression) = (text(&rule.message), text(&rule.message_expression));
        let broken = |text: &str| text.contains(['\n', '\r']);
        if rule.rule.trim().is_empty() {
            errors.required(&at.child("rule"), "rule is not specified");
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.invalid(&at.child("message"), &message, "must be non-empty if specified");
        } else if broken(message.trim()) {
            errors.invalid(&at.child("message"), &message, "must not contain line breaks");
        } else if broken(rule.rule.trim()) && message.trim().is_empty() {
            errors.required(
                &at.child("message"),
                "message must be specified if rule contains line breaks",
            );
        }
        if !expression.is_empty() && expression.trim().is_empty() {
            errors.required(
                &at.child("messageExpression"),
                "messageExpression must be non-empty if specified",
            );
        }
        if let Some(reason) = rule.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
            errors.not_supported(&at.child("reason"), reason, &REASONS);
        }
        let (field, at) = (text(&rule.field_path), at.child("fieldPath"));
        if field.is_empty() {
            continue;
        }
        if field.trim().is_empty() {
            errors.invalid(&at, &field, "must be non-empty if specified");
        }
        if broken(&field) {
            errors.invalid(&at, &field, "must not contain line breaks");
        }
        if structure::unsupported(schema).is_none() && json_path::follow(&field, schema, true).is_err() {
            errors.invalid(&at, &field, "must be a valid path");
        }
    }
}
