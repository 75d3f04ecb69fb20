//! The defaults in the schema of a custom resource: each must be what its schema says, and say nothing beside it
//! (`defaulting.ValidateDefaults`).

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use super::formats;
use crate::field::{Errors, Path};
use crate::regexp;

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

    /// The same, of a value of the wrong type.
    fn refuse_type(&self, value: impl serde::Serialize, sentence: &str, errors: &mut Errors) {
        errors.type_invalid(&self.path(), value, &format!("{} in body {sentence}", self.name));
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

/// Checks a value; how many values were looked at in it.
fn check(value: &Value, schema: &JSONSchemaProps, found: &Found, errors: &mut Errors) -> usize {
    if value.is_null() && schema.nullable == Some(true) {
        return 1;
    }
    let wanted: &[&str] = match schema.type_.as_deref() {
        _ if schema.x_kubernetes_int_or_string == Some(true) => &["integer", "string"],
        Some(wanted) if !wanted.is_empty() => &[wanted],
        _ => &[],
    };
    if !wanted.is_empty() && !wanted.iter().any(|wanted| is_of_type(value, wanted)) {
        let type_ = type_of(value);
        let sentence = format!("must be of type {}: {type_:?}", wanted.join(","));
        found.refuse_type(type_, &sentence, errors);
    }
    let mut looked_at = 1 + check_combinations(value, schema, found, errors);
    match value {
        Value::String(text) => check_text(text, schema, found, errors),
        Value::Number(number) => check_number(number, schema, found, errors),
        Value::Array(list) => looked_at += check_list(list, schema, found, errors),
        _ => {}
    }
    check_choice(value, schema, found, errors);
    if let Value::Object(fields) = value {
        looked_at += check_fields(fields, schema, found, errors);
    }
    looked_at
}

/// What a value is by each of some schemas: whether it is right, and of the first that suits it best what is wrong.
struct Tried {
    right: usize,
    best: Option<(usize, Errors)>,
}

fn try_each(value: &Value, schemas: &[JSONSchemaProps], found: &Found) -> Tried {
    let mut tried = Tried { right: 0, best: None };
    for schema in schemas {
        let mut errors = Errors::new();
        let looked_at = check(value, schema, found, &mut errors);
        if errors.is_empty() {
            tried.right += 1;
        } else if tried.best.as_ref().is_none_or(|(most, _)| looked_at > *most) {
            tried.best = Some((looked_at, errors));
        }
    }
    tried
}

/// Checks what a value must be besides: one, all or none of others.
fn check_combinations(value: &Value, schema: &JSONSchemaProps, found: &Found, errors: &mut Errors) -> usize {
    let name = &found.name;
    let mut looked_at = 0;
    let mut refuse = |what: &str, tried: Option<Tried>| {
        errors.invalid(found.default, "", format!("{name:?} {what}"));
        if let Some((count, why)) = tried.and_then(|tried| tried.best) {
            looked_at += count;
            errors.extend(why.iter().cloned());
        }
    };
    let any_of = schema.any_of.as_deref().unwrap_or_default();
    if !any_of.is_empty() {
        let tried = try_each(value, any_of, found);
        if tried.right == 0 {
            refuse("must validate at least one schema (anyOf)", Some(tried));
        }
    }
    let one_of = schema.one_of.as_deref().unwrap_or_default();
    if !one_of.is_empty() {
        let tried = try_each(value, one_of, found);
        let message = "must validate one and only one schema (oneOf). Found";
        match tried.right {
            0 => refuse(&format!("{message} none valid"), Some(tried)),
            1 => {}
            count => refuse(&format!("{message} {count} valid alternatives"), None),
        }
    }
    let all_of = schema.all_of.as_deref().unwrap_or_default();
    if !all_of.is_empty() {
        let mut right = 0;
        for schema in all_of {
            let mut of_one = Errors::new();
            looked_at += check(value, schema, found, &mut of_one);
            right += usize::from(of_one.is_empty());
            errors.extend(of_one.iter().cloned());
        }
        if right < all_of.len() {
            let none = if right == 0 { ". None validated" } else { "" };
            let message = format!("{name:?} must validate all the schemas (allOf){none}");
            errors.invalid(found.default, "", message);
        }
    }
    if let Some(not) = &schema.not {
        let mut of_one = Errors::new();
        check(value, not, found, &mut of_one);
        if of_one.is_empty() {
            let message = format!("{name:?} must not validate the schema (not)");
            errors.invalid(found.default, "", message);
        }
    }
    looked_at
}

fn check_text(text: &str, schema: &JSONSchemaProps, found: &Found, errors: &mut Errors) {
    let length = text.chars().count();
    if let Some(max) = limit(schema.max_length).filter(|max| length > *max) {
        errors.too_long(&found.path(), max);
    }
    if let Some(min) = limit(schema.min_length).filter(|min| length < *min) {
        found.refuse(text, &format!("should be at least {min} chars long"), errors);
    }
    // An expression that is none is reported where it stands.
    let pattern = schema.pattern.as_deref().unwrap_or_default();
    if let Ok(Some(compiled)) = regexp::compile(pattern)
        && !compiled.is_match(text)
    {
        found.refuse(text, &format!("should match '{pattern}'"), errors);
    }
    let format = schema.format.as_deref().unwrap_or_default();
    if !formats::holds(format, text) {
        found.refuse_type(text, &format!("must be of type {format}: {text:?}"), errors);
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
    if let Some(factor) = schema.multiple_of
        && (given / factor).fract() != 0.0
    {
        found.refuse(number, &format!("should be a multiple of {factor}"), errors);
    }
}

fn check_list(list: &[Value], schema: &JSONSchemaProps, found: &Found, errors: &mut Errors) -> usize {
    let mut looked_at = 0;
    if let Some(items) = items_of(schema) {
        for (index, value) in list.iter().enumerate() {
            looked_at += check(value, items, &found.index(index), errors);
        }
    }
    if let Some(min) = limit(schema.min_items).filter(|min| list.len() < *min) {
        found.refuse(list.len(), &format!("should have at least {min} items"), errors);
    }
    if let Some(max) = limit(schema.max_items).filter(|max| list.len() > *max) {
        errors.too_many(&found.path(), list.len(), max);
    }
    looked_at
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
) -> usize {
    if let Some(min) = limit(schema.min_properties).filter(|min| fields.len() < *min) {
        let message = format!("should have at least {min} properties");
        found.refuse(fields.len(), &message, errors);
    }
    if let Some(max) = limit(schema.max_properties).filter(|max| fields.len() > *max) {
        errors.too_many(&found.path(), fields.len(), max);
    }
    for name in schema.required.iter().flatten() {
        if !fields.contains_key(name) {
            errors.required(&found.field(name).path(), "");
        }
    }
    let mut looked_at = 0;
    for (name, value) in fields {
        if let Some(schema) = below(schema, name) {
            looked_at += check(value, schema, &found.field(name), errors);
        }
    }
    looked_at
}
