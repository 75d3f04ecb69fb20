//! The defaults in the schema of a custom resource: each must be what its schema says, and say nothing beside it
//! (`defaulting.ValidateDefaults`).

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use crate::field::{Errors, Path};

/// What of an object says what it is, which no schema has to.
const OF_OBJECTS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Checks the defaults in a structural schema of whole objects.
pub(super) fn violations(schema: &JSONSchemaProps, path: &Path) -> Errors {
    let mut errors = Errors::new();
    validate(schema, true, false, path, &mut errors);
    errors
}

fn validate(schema: &JSONSchemaProps, is_root: bool, in_metadata: bool, path: &Path, errors: &mut Errors) {
    let is_object = is_root || is_embedded(schema);
    let in_metadata = in_metadata && !is_object;
    if let Some(default) = schema.default.as_ref().filter(|default| !default.0.is_null()) {
        let at = path.child("default");
        let mut pruned = default.0.clone();
        prune(&mut pruned, schema);
        if !in_metadata && pruned != default.0 {
            errors.invalid(&at, &default.0, "must not have unknown fields");
        }
        let found = Found {
            default: &at,
            name: String::new(),
        };
        check(&default.0, schema, &found, errors);
    }
    // Below `additionalProperties` there are no defaults.
    if let Some(items) = items_of(schema) {
        validate(items, false, in_metadata, &path.child("items"), errors);
    }
    for (name, property) in schema.properties.iter().flatten() {
        let in_metadata = in_metadata || is_object && OF_OBJECTS.contains(&name.as_str());
        let at = path.child("properties").key(name);
        validate(property, false, in_metadata, &at, errors);
    }
}

fn is_embedded(schema: &JSONSchemaProps) -> bool {
    schema.x_kubernetes_embedded_resource == Some(true)
}

fn items_of(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items),
        _ => None,
    }
}

fn below<'a>(schema: &'a JSONSchemaProps, name: &str) -> Option<&'a JSONSchemaProps> {
    if let Some(property) = schema.properties.as_ref().and_then(|all| all.get(name)) {
        return Some(property);
    }
    match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(additional)) => Some(additional),
        _ => None,
    }
}

/// Takes away the fields that the schema does not know.
fn prune(value: &mut Value, schema: &JSONSchemaProps) {
    let keeps_all = schema.x_kubernetes_preserve_unknown_fields == Some(true)
        || schema.additional_properties == Some(JSONSchemaPropsOrBool::Bool(true));
    match value {
        Value::Object(fields) => fields.retain(|name, value| {
            if let Some(schema) = below(schema, name) {
                prune(value, schema);
                return true;
            }
            keeps_all || is_embedded(schema) && OF_OBJECTS.contains(&name.as_str())
        }),
        Value::Array(list) => {
            if let Some(items) = items_of(schema) {
                list.iter_mut().for_each(|value| prune(value, items));
            }
        }
        _ => {}
    }
}

/// Where in a default a value was found.
struct Found<'a> {
    default: &'a Path,
    /// The path from the default on.
    name: String,
}

impl Found<'_> {
    fn field(&self, name: &str) -> Self {
        let dot = if self.name.is_empty() { "" } else { "." };
        Self {
            name: format!("{}{dot}{name}", self.name),
            ..*self
        }
    }

    fn index(&self, index: usize) -> Self {
        Self {
            name: format!("{}[{index}]", self.name),
            ..*self
        }
    }

    fn path(&self) -> Path {
        if self.name.is_empty() {
            return self.default.clone();
        }
        self.default.child(&self.name)
    }

    /// Refuses a value. Upstream's sentence starts with the path from the default on, and so with a blank for the whole.
    fn refuse(&self, value: impl serde::Serialize, sentence: &str, errors: &mut Errors) {
        errors.invalid(&self.path(), value, format!("{} in body {sentence}", self.name));
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_of_type(value: &Value, wanted: &str) -> bool {
    match (type_of(value), wanted) {
        ("integer", "number") => true,
        // What has no fraction is a whole number, however it is written.
        ("number", "integer") => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        (found, wanted) => found == wanted,
    }
}

fn check(value: &Value, schema: &JSONSchemaProps, found: &Found, errors: &mut Errors) {
    if value.is_null() && schema.nullable == Some(true) {
        return;
    }
    let wanted: &[&str] = match schema.type_.as_deref() {
        _ if schema.x_kubernetes_int_or_string == Some(true) => &["integer", "string"],
        Some(wanted) if !wanted.is_empty() => &[wanted],
        _ => &[],
    };
    if !wanted.is_empty() && !wanted.iter().any(|wanted| is_of_type(value, wanted)) {
        let type_ = type_of(value);
        let sentence = format!("must be of type {}: {type_:?}", wanted.join(","));
        found.refuse(type_, &sentence, errors);
    }
    match value {
        Value::String(text) => check_text(text, schema, found, errors),
        Value::Number(number) => check_number(number, schema, found, errors),
        Value::Array(list) => check_list(list, schema, found, errors),
        _ => {}
    }
    check_choice(value, schema, found, errors);
    if let Value::Object(fields) = value {
        check_fields(fields, schema, found, errors);
    }
}

fn check_text(text: &str, schema: &JSONSchemaProps, found: &Found, errors: &mut Errors) {
    let length = text.chars().count();
    if let Some(max) = limit(schema.max_length).filter(|max| length > *max) {
        errors.too_long(&found.path(), max);
    }
    if let Some(min) = limit(schema.min_length).filter(|min| length < *min) {
        found.refuse(text, &format!("should be at least {min} chars long"), errors);
    }
}

fn limit(limit: Option<i64>) -> Option<usize> {
    limit.and_then(|limit| usize::try_from(limit).ok())
}

fn check_number(number: &serde_json::Number, schema: &JSONSchemaProps, found: &Found, errors: &mut Errors) {
    let Some(given) = number.as_f64() else {
        return;
    };
    if let Some(max) = schema.maximum {
        let (exceeds, than) = match schema.exclusive_maximum {
            Some(true) => (given >= max, "less than"),
            _ => (given > max, "less than or equal to"),
        };
        if exceeds {
            found.refuse(number, &format!("should be {than} {max}"), errors);
        }
    }
    if let Some(min) = schema.minimum {
        let (exceeds, than) = match schema.exclusive_minimum {
            Some(true) => (given <= min, "greater than"),
            _ => (given < min, "greater than or equal to"),
        };
        if exceeds {
            found.refuse(number, &format!("should be {than} {min}"), errors);
        }
    }
}

fn check_list(list: &[Value], schema: &JSONSchemaProps, found: &Found, errors: &mut Errors) {
    if let Some(items) = items_of(schema) {
        for (index, value) in list.iter().enumerate() {
            check(value, items, &found.index(index), errors);
        }
    }
    if let Some(min) = limit(schema.min_items).filter(|min| list.len() < *min) {
        found.refuse(list.len(), &format!("should have at least {min} items"), errors);
    }
    if let Some(max) = limit(schema.max_items).filter(|max| list.len() > *max) {
        errors.too_many(&found.path(), list.len(), max);
    }
}

fn check_choice(value: &Value, schema: &JSONSchemaProps, found: &Found, errors: &mut Errors) {
    let choices = schema.enum_.as_deref().unwrap_or_default();
    if choices.is_empty() || choices.iter().any(|choice| choice.0 == *value) {
        return;
    }
    let names: Vec<String> = choices
        .iter()
        .map(|choice| match &choice.0 {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    errors.not_supported(&found.path(), value, &names);
}

fn check_fields(
    fields: &serde_json::Map<String, Value>,
    schema: &JSONSchemaProps,
    found: &Found,
    errors: &mut Errors,
) {
    for name in schema.required.iter().flatten() {
        if !fields.contains_key(name) {
            errors.required(&found.field(name).path(), "");
        }
    }
    for (name, value) in fields {
        if let Some(schema) = below(schema, name) {
            check(value, schema, &found.field(name), errors);
        }
    }
}
