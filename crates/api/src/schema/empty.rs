//! What is nothing to Go and something to us: fields that are empty, and nulls.
//!
//! Go's types leave out a field that is empty (`omitempty`) unless it lies behind a pointer, and write those that have no
//! `omitempty` whatever is in them, were it `null`. So whether a client said `hostNetwork: false` or nothing cannot be
//! told afterwards, and a condition that was never probed shows `lastProbeTime: null`. `empty.txt` says which field is of
//! which sort, where its schema does not.
//!
//! A field that is null counts as left out, for Go's decoder as for ours. But the null value of a label, or of a list's
//! element, is an empty text to Go and a wrong type to ours; YAML's `key:` with nothing behind it makes such nulls.

use serde_json::{Map, Value};

use super::{Definition, Field, Type};

/// Go's zero time.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// How the JSON of Go's zero time begins, with microseconds or without.
const NO_TIME_TEXT: &[u8] = b"\"0001-01-01T00:00:00";

/// What Go does with a field when nothing is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    /// It is left out.
    Omitted,
    /// It is there all the same, as this JSON.
    Written(&'static str),
    /// It lies behind a pointer: what is empty differs from what is not there.
    Kept,
}

/// The lists behind no pointer of which an empty one is something else than none: it is refused.
const REFUSED: [(&str, &str); 1] = [("io.k8s.api.autoscaling.v2.HPAScalingRules", "policies")];

/// What stands in Go's JSON for a field's value.
pub(crate) enum Shown {
    AsItIs,
    As(&'static str),
    NotAtAll,
}

impl Field {
    /// What stands in Go's JSON where ours has this value for the field.
    pub(crate) fn shown(&self, json: &[u8]) -> Shown {
        match self.type_.is_zero(json) {
            true => self.shown_empty(),
            false => Shown::AsItIs,
        }
    }

    /// What stands in Go's JSON where ours has Go's zero for the field.
    fn shown_empty(&self) -> Shown {
        match (self.empty, self.type_) {
            (Empty::Omitted, _) => Shown::NotAtAll,
            // A scalar may lie behind a pointer that is written in any case.
            (Empty::Written(empty), Type::List(_) | Type::Map(_) | Type::Time | Type::MicroTime) => {
                Shown::As(empty)
            }
            _ => Shown::AsItIs,
        }
    }
}

impl Type {
    /// Whether the JSON of a value is that of Go's zero.
    fn is_zero(self, json: &[u8]) -> bool {
        match self {
            Self::String | Self::Bytes => json == b"\"\"",
            Self::Integer | Self::Long | Self::Number => json == b"0" || json == b"0.0",
            Self::Boolean => json == b"false",
            Self::List(_) => json == b"[]",
            Self::Map(_) => json == b"{}",
            Self::Time | Self::MicroTime => json == b"null" || json.starts_with(NO_TIME_TEXT),
            Self::Quantity | Self::IntOrString | Self::Any | Self::Object(_) => false,
        }
    }

    /// Whether a value of a tree is Go's zero, so that it counts as left out where that is `omitempty`. Null always does.
    pub(super) fn is_unset(self, value: &Value) -> bool {
        match (self, value) {
            (Self::String | Self::Bytes, Value::String(text)) => text.is_empty(),
            (Self::Integer | Self::Long | Self::Number, Value::Number(number)) => {
                number.as_f64() == Some(0.0)
            }
            (Self::Boolean, Value::Bool(flag)) => !flag,
            (Self::Time | Self::MicroTime, Value::String(text)) => {
                text.starts_with(NO_TIME.trim_end_matches('Z'))
            }
            (Self::List(_), Value::Array(list)) => list.is_empty(),
            (Self::Map(_), Value::Object(map)) => map.is_empty(),
            _ => false,
        }
    }
}

/// Replaces the nulls of maps and lists by the empty value of their type, and leaves out the fields that are empty where
/// Go cannot tell that from their not being there.
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
        if !field.type_.is_unset(value) {
            return true;
        }
        match field.shown_empty() {
            Shown::AsItIs => true,
            Shown::As(_) => field.required && matches!(field.type_, Type::Time | Type::MicroTime),
            Shown::NotAtAll => REFUSED.contains(&(definition.name, field.name)),
        }
    });
}

/// Makes of a tree what Go would write: as [`Field::shown`] does with text, and with what is missing.
pub(crate) fn show(definition: &'static Definition, fields: &mut Map<String, Value>) {
    fields.retain(|name, value| {
        let Some(field) = definition.field(name) else {
            return true;
        };
        show_in(field.type_, value);
        if !field.type_.is_unset(value) {
            return true;
        }
        match field.shown_empty() {
            Shown::AsItIs => true,
            Shown::As(empty) => {
                *value = serde_json::from_str(empty).unwrap_or_default();
                true
            }
            Shown::NotAtAll => false,
        }
    });
    for field in definition.fields {
        if let Empty::Written(empty) = field.empty
            && !fields.contains_key(field.name)
        {
            let empty = serde_json::from_str(empty).unwrap_or_default();
            fields.insert(field.name.into(), empty);
        }
    }
}

fn show_in(type_: Type, value: &mut Value) {
    match (type_, value) {
        (Type::Object(id), Value::Object(fields)) => show(id.get(), fields),
        (Type::List(item), Value::Array(items)) => items.iter_mut().for_each(|value| show_in(*item, value)),
        (Type::Map(of), Value::Object(entries)) => entries.values_mut().for_each(|value| show_in(*of, value)),
        _ => {}
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
