//! What is nothing to Go and something to us: nulls in maps and lists, empty lists and maps in fields.
//!
//! A field that is null counts as left out, for Go's decoder as for ours. But the null value of a label, or of a list's
//! element, is an empty text to Go and a wrong type to ours; YAML's `key:` with nothing behind it makes such nulls.
//!
//! Go writes no list and no map that is empty (`omitempty`), so nobody ever sees that one was sent.

use serde_json::{Map, Value};

use super::{Definition, Type};

/// Go's zero time.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// The optional lists that are something else when they are empty than when they are left out: Go writes them even so,
/// as their fields have no `omitempty`, or refuses them.
const WRITTEN_EMPTY: [(&str, &str); 7] = [
    ("io.k8s.api.autoscaling.v2.HPAScalingRules", "policies"),
    (
        "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus",
        "conditions",
    ),
    (
        "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus",
        "currentMetrics",
    ),
    ("io.k8s.api.discovery.v1.EndpointSlice", "endpoints"),
    ("io.k8s.api.discovery.v1.EndpointSlice", "ports"),
    ("io.k8s.api.rbac.v1.ClusterRole", "rules"),
    ("io.k8s.api.rbac.v1.Role", "rules"),
];

/// The references of which Go leaves out a name that is empty, though our types cannot be without one.
const NAMED: [&str; 8] = [
    "io.k8s.api.core.v1.ConfigMapEnvSource",
    "io.k8s.api.core.v1.ConfigMapKeySelector",
    "io.k8s.api.core.v1.ConfigMapProjection",
    "io.k8s.api.core.v1.ConfigMapVolumeSource",
    "io.k8s.api.core.v1.LocalObjectReference",
    "io.k8s.api.core.v1.SecretEnvSource",
    "io.k8s.api.core.v1.SecretKeySelector",
    "io.k8s.api.core.v1.SecretProjection",
];

/// Leaves out of an object's fields the names that Go leaves out.
pub(crate) fn drop_empty_names(definition: &'static Definition, fields: &mut Map<String, Value>) {
    for (name, value) in fields {
        if let Some(field) = definition.field(name) {
            drop_names(field.type_, value);
        }
    }
}

fn drop_names(type_: Type, value: &mut Value) {
    match (type_, value) {
        (Type::Object(id), Value::Object(fields)) => {
            let definition = id.get();
            if NAMED.contains(&definition.name) {
                fields.retain(|field, value| field != "name" || value.as_str() != Some(""));
            }
            drop_empty_names(definition, fields);
        }
        (Type::List(item), Value::Array(items)) => {
            items.iter_mut().for_each(|value| drop_names(*item, value));
        }
        (Type::Map(of), Value::Object(entries)) => {
            entries.values_mut().for_each(|value| drop_names(*of, value));
        }
        _ => {}
    }
}

/// Replaces the nulls of maps and lists by the empty value of their type, and leaves out the fields whose list or map
/// is empty.
pub(crate) fn settle(definition: &'static Definition, value: &mut Value) {
    let Value::Object(fields) = value else { return };
    // The one thing that cannot be left out here and can in Go.
    let times = definition
        .fields
        .iter()
        .filter(|field| field.required && matches!(field.type_, Type::Time | Type::MicroTime));
    for field in times {
        let time = fields.entry(field.name).or_insert(Value::Null);
        if time.is_null() {
            *time = NO_TIME.into();
        }
    }
    fields.retain(|name, value| {
        let Some(field) = definition.field(name) else {
            return true;
        };
        settle_in(field.type_, value);
        let empty = match (field.type_, &*value) {
            (Type::List(_), Value::Array(list)) => list.is_empty(),
            (Type::Map(_), Value::Object(map)) => map.is_empty(),
            _ => false,
        };
        !empty || field.required || WRITTEN_EMPTY.contains(&(definition.name, field.name))
    });
}

fn settle_in(type_: Type, value: &mut Value) {
    match (type_, value) {
        (Type::Object(id), value @ Value::Object(_)) => settle(id.get(), value),
        (Type::List(item), Value::Array(elements)) => {
            for element in elements {
                fill(*item, element);
            }
        }
        (Type::Map(of), Value::Object(entries)) => {
            for entry in entries.values_mut() {
                fill(*of, entry);
            }
        }
        _ => {}
    }
}

fn fill(type_: Type, value: &mut Value) {
    if value.is_null() {
        *value = match type_ {
            Type::String | Type::Bytes => Value::String(String::new()),
            Type::Integer | Type::Long | Type::Number | Type::IntOrString => 0.into(),
            Type::Quantity => "0".into(),
            Type::Boolean => false.into(),
            Type::Object(_) | Type::Map(_) => Value::Object(Map::new()),
            Type::List(_) => Value::Array(Vec::new()),
            Type::Time | Type::MicroTime => NO_TIME.into(),
            Type::Any => Value::Null,
        };
    }
    settle_in(type_, value);
}
