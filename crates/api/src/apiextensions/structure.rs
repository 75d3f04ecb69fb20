//! Whether the schema of a custom resource is structural: every value in it has a type.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use crate::field::{Errors, Path};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Checks a schema of whole objects.
pub(super) fn validate(schema: &JSONSchemaProps, path: &Path, errors: &mut Errors) {
    match schema.type_.as_deref().unwrap_or_default() {
        "" => errors.required(&path.child("type"), "must not be empty at the root"),
        "object" => {}
        other => errors.invalid(&path.child("type"), other, "must be object at the root"),
    }
    validate_inner(schema, path, errors);
}

fn validate_inner(schema: &JSONSchemaProps, path: &Path, errors: &mut Errors) {
    let type_ = schema.type_.as_deref().unwrap_or_default();
    if !type_.is_empty() && !TYPES.contains(&type_) {
        errors.not_supported(&path.child("type"), type_, &TYPES);
    }
    if schema.unique_items == Some(true) {
        errors.forbidden(
            &path.child("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
    let properties = schema.properties.clone().unwrap_or_default();
    if let Some(JSONSchemaPropsOrBool::Schema(additional)) = &schema.additional_properties {
        if !properties.is_empty() {
            errors.forbidden(
                &path.child("additionalProperties"),
                "additionalProperties and properties are mutual exclusive",
            );
        }
        let path = path.child("additionalProperties");
        require_type(additional, "specified object fields", &path, errors);
        validate_inner(additional, &path, errors);
    }
    for (name, property) in &properties {
        let path = path.child("properties").key(name);
        require_type(property, "specified object fields", &path, errors);
        validate_inner(property, &path, errors);
    }
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => {
            let path = path.child("items");
            require_type(items, "specified array items", &path, errors);
            validate_inner(items, &path, errors);
        }
        Some(JSONSchemaPropsOrArray::Schemas(_)) => errors.forbidden(
            &path.child("items"),
            "items must be a schema object and not an array",
        ),
        None if type_ == "array" => {
            errors.required(&path.child("items"), "must be specified");
        }
        None => {}
    }
}

fn require_type(schema: &JSONSchemaProps, of: &str, path: &Path, errors: &mut Errors) {
    let free = schema.x_kubernetes_int_or_string == Some(true)
        || schema.x_kubernetes_preserve_unknown_fields == Some(true);
    if schema.type_.as_deref().unwrap_or_default().is_empty() && !free {
        errors.required(&path.child("type"), &format!("must not be empty for {of}"));
    }
}
