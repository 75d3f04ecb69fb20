//! The OpenAPI v3 schemas of the definitions, as they are published: with defaults, with what is required, and with the
//! facts of merging; compressed.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::{Map, Value, json};

use crate::merge::Merge;
use crate::{INT_OR_STRING, QUANTITY, facts, is_atomic, merge_of, reference, wire};

/// What marshals itself, so that its zero is no value of its type.
const SELF_WRITTEN: [&str; 7] = [
    "FieldsV1",
    "IntOrString",
    "JSON",
    "MicroTime",
    "Quantity",
    "RawExtension",
    "Time",
];

/// The types call names required that documents do not: they have a default.
const NAME_ONLY: [&str; 8] = [
    "ConfigMapEnvSource",
    "ConfigMapKeySelector",
    "ConfigMapProjection",
    "ConfigMapVolumeSource",
    "LocalObjectReference",
    "SecretEnvSource",
    "SecretKeySelector",
    "SecretProjection",
];

/// What JSON has as any type, and CRDs' schemas as either of two.
const ANY: [&str; 4] = [
    ".apiextensions.v1.JSON",
    ".apiextensions.v1.JSONSchemaPropsOrArray",
    ".apiextensions.v1.JSONSchemaPropsOrBool",
    ".apiextensions.v1.JSONSchemaPropsOrStringArray",
];

/// What each definition's fields have when they are left out.
struct Defaults {
    /// By definition: fields, and the default as JSON, or `none`.
    exceptions: BTreeMap<&'static str, BTreeMap<&'static str, &'static str>>,
}

impl Defaults {
    /// `src/schema/defaults.txt`: what the rule of [`Defaults::of`] does not tell.
    fn read() -> Self {
        let exceptions = include_str!("../src/schema/defaults.txt").lines().map(|line| {
            let mut words = line.split(' ');
            let definition = words.next().unwrap_or_default();
            (
                definition,
                words.filter_map(|word| word.split_once('=')).collect(),
            )
        });
        Self {
            exceptions: exceptions.collect(),
        }
    }

    /// The default of a field. Upstream's generator gives one to what Go's types hold by value and always write: required
    /// scalars, and objects that are required or the parts that every kind has.
    fn of(
        &self,
        definition: &str,
        field: &str,
        schema: &Value,
        required: bool,
    ) -> Result<Option<Value>, Box<dyn Error>> {
        if let Some(exception) = self
            .exceptions
            .get(definition)
            .and_then(|fields| fields.get(field))
        {
            return Ok(match *exception {
                "none" => None,
                json => Some(
                    serde_json::from_str(json).map_err(|error| format!("defaults.txt: {json}: {error}"))?,
                ),
            });
        }
        if let Some(target) = reference(schema) {
            let writes_itself = SELF_WRITTEN.contains(&target.rsplit('.').next().unwrap_or(target));
            let held = required || matches!(field, "metadata" | "spec" | "status");
            return Ok((held && !writes_itself).then(|| json!({})));
        }
        let text = |key: &str| schema.get(key).and_then(Value::as_str);
        Ok(match (text("type"), text("format")) {
            _ if !required => None,
            (Some("string"), Some("byte")) => None,
            (Some("string"), _) => Some("".into()),
            (Some("integer" | "number"), _) => Some(0.into()),
            (Some("boolean"), _) => Some(false.into()),
            _ => None,
        })
    }
}

/// The fields that a definition requires, in the order that they have in its message.
fn required(name: &str, schema: &Value, numbers: &wire::Numbers<'_>) -> Vec<String> {
    let kind = name.rsplit('.').next().unwrap_or(name);
    // That of an Event must be told: it has the namespace that is checked with the object's.
    let keeps_metadata = name == "io.k8s.api.core.v1.Event";
    let named = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let mut fields: Vec<String> = named
        .filter_map(Value::as_str)
        .filter(|field| keeps_metadata || *field != "metadata")
        .filter(|field| *field != "name" || !NAME_ONLY.contains(&kind))
        .map(str::to_string)
        .collect();
    fields.sort_by_key(|field| numbers.of(name, field).unwrap_or(u32::MAX));
    fields
}

/// The OpenAPI v3 schemas: where each begins and ends in the compressed text.
pub(crate) fn packed(
    definitions: &BTreeMap<String, Value>,
    kinds: &BTreeMap<(String, String, String), String>,
    numbers: &wire::Numbers<'_>,
) -> Result<(String, Vec<u8>), Box<dyn Error>> {
    let mut blob = Vec::new();
    let mut table = String::new();
    let defaults = Defaults::read();
    if let Some(unknown) = defaults
        .exceptions
        .keys()
        .find(|name| !definitions.contains_key(**name))
    {
        return Err(format!("defaults.txt: there is no {unknown}").into());
    }
    writeln!(
        table,
        "static DOCUMENTS: [(&str, u32, u32); {}] = [",
        definitions.len()
    )?;
    for (name, schema) in definitions {
        let mut schema = document(name, schema, &defaults, numbers)?;
        let of_kind: Vec<Value> = kinds
            .iter()
            .filter(|(_, definition)| *definition == name)
            .map(|((group, version, kind), _)| json!({"group": group, "version": version, "kind": kind}))
            .collect();
        if let (Some(map), false) = (schema.as_object_mut(), of_kind.is_empty()) {
            map.insert("x-kubernetes-group-version-kind".into(), of_kind.into());
        }
        let start = blob.len();
        let mut encoder = flate2::write::DeflateEncoder::new(&mut blob, flate2::Compression::best());
        encoder.write_all(&serde_json::to_vec(&schema)?)?;
        encoder.finish()?;
        writeln!(table, "({name:?}, {start}, {}),", blob.len())?;
    }
    writeln!(table, "];")?;
    Ok((table, blob))
}

fn document(
    name: &str,
    schema: &Value,
    defaults: &Defaults,
    numbers: &wire::Numbers<'_>,
) -> Result<Value, Box<dyn Error>> {
    let description = schema.get("description").cloned().unwrap_or_default();
    match name {
        QUANTITY => {
            return Ok(
                json!({"description": description, "oneOf": [{"type": "string"}, {"type": "number"}]}),
            );
        }
        INT_OR_STRING => {
            return Ok(json!({
                "description": description,
                "format": "int-or-string",
                "oneOf": [{"type": "integer"}, {"type": "string"}],
            }));
        }
        // Of what may be of several types nothing is told.
        name if ANY.iter().any(|any| name.ends_with(any)) => {
            return Ok(json!({ "description": description }));
        }
        _ => {}
    }
    let mut document = translate(schema);
    let Some(map) = document.as_object_mut() else {
        return Ok(document);
    };
    let required = required(name, schema, numbers);
    map.remove("required");
    if is_atomic(name) {
        map.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    let short = name.strip_prefix("io.k8s.").unwrap_or(name);
    if let Some((_, discriminator, fields)) = facts::UNIONS.iter().find(|(of, ..)| *of == short) {
        let mut union: Map<String, Value> = Map::new();
        if !discriminator.is_empty() {
            union.insert("discriminator".into(), json!(discriminator));
        }
        let fields: BTreeMap<_, _> = fields.iter().copied().collect();
        union.insert("fields-to-discriminateBy".into(), json!(fields));
        map.insert("x-kubernetes-unions".into(), json!([union]));
    }
    if let Some(fields) = map.get_mut("properties").and_then(Value::as_object_mut) {
        for (field, shown) in fields {
            let original = schema
                .get("properties")
                .and_then(|properties| properties.get(field))
                .unwrap_or(&Value::Null);
            let Some(shown) = shown.as_object_mut() else {
                continue;
            };
            extend(shown, name, field, original);
            if let Some(default) = defaults.of(name, field, original, required.contains(field))? {
                shown.insert("default".into(), default);
            }
            // Beside a reference nothing else may stand.
            if shown.len() > 1
                && let Some(target) = shown.remove("$ref")
            {
                shown.insert("allOf".into(), json!([{ "$ref": target }]));
            }
        }
    }
    if !required.is_empty() {
        map.insert("required".into(), json!(required));
    }
    Ok(document)
}

/// The same with references as OpenAPI v3 documents have them.
fn translate(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let mut shown = Map::new();
            for (key, value) in map {
                match (key.as_str(), value.as_str()) {
                    ("$ref", Some(target)) => {
                        let target = target.replace("#/$defs/", "#/components/schemas/");
                        shown.insert(key.clone(), target.into());
                    }
                    _ => {
                        shown.insert(key.clone(), translate(value));
                    }
                }
            }
            Value::Object(shown)
        }
        Value::Array(list) => Value::Array(list.iter().map(translate).collect()),
        other => other.clone(),
    }
}

/// The facts of merging, as clients read them.
fn extend(shown: &mut Map<String, Value>, definition: &str, field: &str, schema: &Value) {
    let is_list = schema.get("type").and_then(Value::as_str) == Some("array");
    let mut set = |key: &str, value: Value| {
        shown.insert(format!("x-kubernetes-{key}"), value);
    };
    let short = definition.strip_prefix("io.k8s.").unwrap_or(definition);
    let retains = facts::RETAIN_KEYS.contains(&(short, field));
    if facts::GRANULAR.contains(&(short, field)) {
        set("map-type", "granular".into());
    }
    match merge_of(definition, field, schema) {
        Merge::None => {}
        // Of what is only ever read whole nothing is told.
        Merge::Atomic
            if is_list
                && (field == "items" && definition.ends_with("List")
                    || definition.ends_with("APIResource")) => {}
        Merge::Atomic if is_list => set("list-type", "atomic".into()),
        Merge::Atomic if reference(schema).is_some() => {}
        Merge::Atomic => set("map-type", "atomic".into()),
        Merge::Set => {
            set("list-type", "set".into());
            set("patch-strategy", "merge".into());
        }
        Merge::ApplySet => set("list-type", "set".into()),
        Merge::RetainKeys => set("patch-strategy", "retainKeys".into()),
        Merge::Replace => set("patch-strategy", "replace".into()),
        Merge::Map { patch_key, keys } => {
            if keys.is_empty() {
                set("list-type", "atomic".into());
            } else {
                set("list-type", "map".into());
                set("list-map-keys", json!(keys));
            }
            if !patch_key.is_empty() {
                set("patch-merge-key", patch_key.into());
                set(
                    "patch-strategy",
                    if retains { "merge,retainKeys" } else { "merge" }.into(),
                );
            }
        }
    }
}
