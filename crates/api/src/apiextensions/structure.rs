//! Whether the schema of a custom resource is structural: every value in it has a type outside of the conditions on
//! values (`allOf`, `anyOf`, `oneOf`, `not`), which only restrict what is there anyway.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use crate::field::{Errors, FieldError, Path};
use crate::regexp;

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

fn is_set(flag: Option<bool>) -> bool {
    flag == Some(true)
}

fn type_of(schema: &JSONSchemaProps) -> &str {
    schema.type_.as_deref().unwrap_or_default()
}

fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items),
        _ => None,
    }
}

/// The schemas that only restrict values, each with its path: first `not`, as upstream does for completeness.
fn conditions<'a>(schema: &'a JSONSchemaProps, path: &Path) -> Vec<(Path, &'a JSONSchemaProps)> {
    let mut found = Vec::new();
    if let Some(not) = &schema.not {
        found.push((path.child("not"), &**not));
    }
    for (name, list) in [
        ("allOf", &schema.all_of),
        ("anyOf", &schema.any_of),
        ("oneOf", &schema.one_of),
    ] {
        let each = list.iter().flatten().enumerate();
        found.extend(each.map(|(index, schema)| (path.child(name).index(index), schema)));
    }
    found
}

/// What a structural schema cannot have at all, whichever rule it is of.
pub(super) fn unsupported(schema: &JSONSchemaProps) -> Option<String> {
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let own = [
        ("id", given(&schema.id)),
        ("schema", given(&schema.schema)),
        ("$ref", given(&schema.ref_path)),
        (
            "patternProperties",
            schema
                .pattern_properties
                .as_ref()
                .is_some_and(|all| !all.is_empty()),
        ),
        (
            "dependencies",
            schema.dependencies.as_ref().is_some_and(|all| !all.is_empty()),
        ),
        ("additionalItems", schema.additional_items.is_some()),
        (
            "definitions",
            schema.definitions.as_ref().is_some_and(|all| !all.is_empty()),
        ),
    ];
    if let Some((name, _)) = own.into_iter().find(|(_, given)| *given) {
        return Some(format!("OpenAPIV3Schema '{name}' is not supported"));
    }
    let below = conditions(schema, &Path::default());
    if let Some(found) = below.into_iter().find_map(|(_, schema)| unsupported(schema)) {
        return Some(found);
    }
    if schema.x_kubernetes_preserve_unknown_fields == Some(false) {
        return Some(
            "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".into(),
        );
    }
    if let Some(JSONSchemaPropsOrBool::Schema(additional)) = &schema.additional_properties
        && let Some(found) = unsupported(additional)
    {
        return Some(found);
    }
    if let Some(JSONSchemaPropsOrArray::Schemas(_)) = &schema.items {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".into());
    }
    let properties = schema.properties.iter().flatten().map(|(_, schema)| schema);
    let mut below = properties.chain(items(schema));
    below.find_map(unsupported)
}

/// What keeps the schema of whole objects from being structural, in the order of the texts.
pub(super) fn violations(schema: &JSONSchemaProps, path: &Path) -> Vec<FieldError> {
    let mut errors = Errors::new();
    check(schema, Level::Root, path, &mut errors);
    for (at, condition) in conditions(schema, path) {
        check_complete(condition, schema, path, &at, &mut errors);
    }
    let mut found: Vec<FieldError> = errors.iter().cloned().collect();
    found.sort_by_cached_key(ToString::to_string);
    found
}

fn check(schema: &JSONSchemaProps, level: Level, path: &Path, errors: &mut Errors) {
    let type_ = type_of(schema);
    if type_ == "array" && items(schema).is_none() {
        errors.required(&path.child("items"), "must be specified");
    }
    if let Some(items) = items(schema) {
        check(items, Level::Item, &path.child("items"), errors);
    }
    for (name, property) in schema.properties.iter().flatten() {
        check(
            property,
            Level::Field,
            &path.child("properties").key(name),
            errors,
        );
    }
    let at = path.child("additionalProperties");
    let additional = &schema.additional_properties;
    if additional.is_some() && level == Level::Root {
        errors.forbidden(&at, "must not be used at the root");
    }
    if let Some(JSONSchemaPropsOrBool::Schema(additional)) = additional {
        check(additional, Level::Field, &at, errors);
    }
    let free = is_set(schema.x_kubernetes_int_or_string);
    let open = is_set(schema.x_kubernetes_preserve_unknown_fields);
    let embedded = is_set(schema.x_kubernetes_embedded_resource);
    if free && open {
        errors.invalid(
            &path.child("x-kubernetes-preserve-unknown-fields"),
            true,
            "must be false if x-kubernetes-int-or-string is true",
        );
    }
    if free && embedded {
        errors.invalid(
            &path.child("x-kubernetes-embedded-resource"),
            true,
            "must be false if x-kubernetes-int-or-string is true",
        );
    }
    check_values(
        schema,
        is_either(schema.any_of.as_ref()),
        is_first_either(schema),
        path,
        errors,
    );
    check_type(schema, level, path, errors);
    if embedded && additional.is_some() {
        errors.forbidden(&at, "must not be used if x-kubernetes-embedded-resource is set");
    }
    check_metadata(schema, level, path, errors);
    let empty = schema.properties.as_ref().is_none_or(|all| all.is_empty());
    if embedded && !open && empty {
        errors.required(
            &path.child("properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        );
    }
}

fn check_type(schema: &JSONSchemaProps, level: Level, path: &Path, errors: &mut Errors) {
    let (type_, at) = (type_of(schema), path.child("type"));
    let free =
        is_set(schema.x_kubernetes_int_or_string) || is_set(schema.x_kubernetes_preserve_unknown_fields);
    if is_set(schema.x_kubernetes_embedded_resource) && type_ != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        if type_.is_empty() {
            errors.required(&at, detail);
        } else {
            errors.invalid(&at, type_, detail);
        }
    } else if type_.is_empty() && !free {
        errors.required(
            &at,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        );
    }
    if level == Level::Root && !type_.is_empty() && type_ != "object" {
        errors.invalid(&at, type_, "must be object at the root");
    }
}

/// Of the metadata only the names can be restricted; all else of them is given.
fn check_metadata(schema: &JSONSchemaProps, level: Level, path: &Path, errors: &mut Errors) {
    let Some(properties) = &schema.properties else {
        return;
    };
    let of_objects = level == Level::Root || is_set(schema.x_kubernetes_embedded_resource);
    for name in ["kind", "apiVersion"] {
        if let Some(property) = properties.get(name).filter(|_| of_objects)
            && type_of(property) != "string"
        {
            let at = path.child("properties").key(name).child("type");
            errors.invalid(&at, type_of(property), "must be string");
        }
    }
    let Some(metadata) = properties.get("metadata") else {
        return;
    };
    let path = path.child("properties").key("metadata");
    if of_objects && type_of(metadata) != "object" {
        errors.invalid(&path.child("type"), type_of(metadata), "must be object");
    }
    if level != Level::Root {
        return;
    }
    let names = |name: &String| matches!(name.as_str(), "name" | "generateName");
    let only_names = metadata.properties.iter().flatten().all(|(name, _)| names(name));
    let rest = JSONSchemaProps {
        type_: None,
        default: None,
        external_docs: None,
        example: None,
        properties: metadata.properties.clone().filter(|_| !only_names),
        ..metadata.clone()
    };
    if !crate::same::same(&rest, &JSONSchemaProps::default()) {
        errors.forbidden(
            &path,
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        );
    }
}

/// Whether a list says that a value is a number or a text, and nothing more.
fn is_either(list: Option<&Vec<JSONSchemaProps>>) -> bool {
    let only = |type_: &str| JSONSchemaProps {
        type_: Some(type_.into()),
        ..JSONSchemaProps::default()
    };
    list.is_some_and(|list| *list == [only("integer"), only("string")])
}

fn is_first_either(schema: &JSONSchemaProps) -> bool {
    let first = schema.all_of.as_ref().and_then(|list| list.first());
    first.is_some_and(|first| is_either(first.any_of.as_ref()))
}

/// The conditions on values.
fn check_values(
    schema: &JSONSchemaProps,
    skip_any_of: bool,
    skip_in_first: bool,
    path: &Path,
    errors: &mut Errors,
) {
    for (index, condition) in schema.any_of.iter().flatten().enumerate() {
        if !skip_any_of {
            check_condition(condition, false, &path.child("anyOf").index(index), errors);
        }
    }
    for (index, condition) in schema.all_of.iter().flatten().enumerate() {
        let skip = skip_in_first && index == 0;
        check_condition(condition, skip, &path.child("allOf").index(index), errors);
    }
    for (index, condition) in schema.one_of.iter().flatten().enumerate() {
        check_condition(condition, false, &path.child("oneOf").index(index), errors);
    }
    if let Some(not) = &schema.not {
        check_condition(not, false, &path.child("not"), errors);
    }
    let pattern = schema.pattern.as_deref().unwrap_or_default();
    if let Err(why) = regexp::compile(pattern) {
        let detail = format!("must be a valid regular expression, but isn't: {why}");
        errors.invalid(&path.child("pattern"), pattern, detail);
    }
}

fn check_condition(schema: &JSONSchemaProps, skip_any_of: bool, path: &Path, errors: &mut Errors) {
    check_values(schema, skip_any_of, false, path, errors);
    if let Some(items) = items(schema) {
        check_condition(items, false, &path.child("items"), errors);
    }
    for (name, property) in schema.properties.iter().flatten() {
        check_condition(property, false, &path.child("properties").key(name), errors);
    }
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let keys = schema.x_kubernetes_list_map_keys.as_ref();
    let rules = schema.x_kubernetes_validations.as_ref();
    for (field, given, must) in [
        ("type", given(&schema.type_), "empty"),
        (
            "additionalProperties",
            schema.additional_properties.is_some(),
            "undefined",
        ),
        ("default", schema.default.is_some(), "undefined"),
        ("title", given(&schema.title), "empty"),
        ("description", given(&schema.description), "empty"),
        ("nullable", is_set(schema.nullable), "false"),
        (
            "x-kubernetes-preserve-unknown-fields",
            is_set(schema.x_kubernetes_preserve_unknown_fields),
            "false",
        ),
        (
            "x-kubernetes-embedded-resource",
            is_set(schema.x_kubernetes_embedded_resource),
            "false",
        ),
        (
            "x-kubernetes-int-or-string",
            is_set(schema.x_kubernetes_int_or_string),
            "false",
        ),
        (
            "x-kubernetes-list-map-keys",
            keys.is_some_and(|keys| !keys.is_empty()),
            "empty",
        ),
        (
            "x-kubernetes-list-type",
            schema.x_kubernetes_list_type.is_some(),
            "undefined",
        ),
        (
            "x-kubernetes-map-type",
            schema.x_kubernetes_map_type.is_some(),
            "undefined",
        ),
        (
            "x-kubernetes-validations",
            rules.is_some_and(|rules| !rules.is_empty()),
            "empty",
        ),
    ] {
        if given {
            errors.forbidden(&path.child(field), &format!("must be {must} to be structural"));
        }
    }
    if schema
        .properties
        .as_ref()
        .is_some_and(|all| all.contains_key("metadata"))
    {
        errors.forbidden(
            &path.child("properties").key("metadata"),
            "must not be specified in a nested context",
        );
    }
}

/// Every field and list that a condition is about must be there outside of it, too.
fn check_complete(
    condition: &JSONSchemaProps,
    schema: &JSONSchemaProps,
    path: &Path,
    condition_path: &Path,
    errors: &mut Errors,
) {
    for (at, below) in conditions(condition, condition_path) {
        check_complete(below, schema, path, &at, errors);
    }
    let missing = |path: &Path, condition: &Path, errors: &mut Errors| {
        errors.required(path, &format!("because it is defined in {condition}"));
    };
    if let Some(condition) = items(condition) {
        let (path, at) = (path.child("items"), condition_path.child("items"));
        match items(schema) {
            Some(schema) => check_complete(condition, schema, &path, &at, errors),
            None => missing(&path, &at, errors),
        }
    }
    for (name, condition) in condition.properties.iter().flatten() {
        let path = path.child("properties").key(name);
        let at = condition_path.child("properties").key(name);
        match schema.properties.as_ref().and_then(|all| all.get(name)) {
            Some(schema) => check_complete(condition, schema, &path, &at, errors),
            None => missing(&path, &at, errors),
        }
    }
}
