//! Nulls where Go sees the empty value: in maps, in lists.
//!
//! A field that is null counts as left out, for Go's decoder as for ours. But the null value of a label, or of a list's
//! element, is an empty text to Go and a wrong type to ours; YAML's `key:` with nothing behind it makes such nulls.

use serde_json::{Map, Value};

use super::{Definition, Type};

/// Go's zero time.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// Replaces the nulls of maps and lists by the empty value of their type.
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
    for (name, value) in fields {
        if let Some(field) = definition.field(name) {
            settle_in(field.type_, value);
        }
    }
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
