//! The documents in gnostic's protobuf form: of version 2 (`openapi.v2`) the only one that kubectl takes, and in [`v3`] the
//! other.
//!
//! A message is written from the JSON by a table that has the number and the kind of each of its fields. What the
//! document never has (examples, discriminators, headers, …) is in no table.

mod v3;

use serde_json::{Map, Value};

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    Integer,
    /// A list of texts.
    Texts,
    /// A message of its own.
    Message(&'static Form),
    /// A message for each element of a list.
    Messages(&'static Form),
    /// A map as `{ name, value }` entries in the field with this number of a message of its own.
    Named(u32, &'static Form),
    /// A number as it is in memory.
    Float,
    /// A message or a reference, which is version 3's way.
    Choice(&'static Form),
    /// One for each element of a list.
    Choices(&'static Form),
    /// A map as [`Kind::Named`], of such.
    NamedChoices(u32, &'static Form),
    /// Any JSON, as YAML text (of which JSON is a part).
    Any,
    /// The same of each element of a list.
    Anys,
    /// Written by a function of its own: what depends on the JSON's shape.
    Shaped(fn(&Value, u32, &mut Vec<u8>)),
}

/// A message: its fields by their JSON names, and the number of the one that takes the `x-…` extensions.
struct Form {
    fields: &'static [(&'static str, u32, Kind)],
    extensions: u32,
}

static INFO: Form = Form {
    fields: &[("title", 1, Kind::Text), ("version", 2, Kind::Text)],
    extensions: 7,
};

static DOCUMENT: Form = Form {
    fields: &[
        ("swagger", 1, Kind::Text),
        ("info", 2, Kind::Message(&INFO)),
        ("paths", 8, Kind::Named(2, &PATH_ITEM)),
        ("definitions", 9, Kind::Named(1, &SCHEMA)),
    ],
    extensions: 16,
};

static PATH_ITEM: Form = Form {
    fields: &[
        ("get", 2, Kind::Message(&OPERATION)),
        ("put", 3, Kind::Message(&OPERATION)),
        ("post", 4, Kind::Message(&OPERATION)),
        ("delete", 5, Kind::Message(&OPERATION)),
        ("patch", 8, Kind::Message(&OPERATION)),
        ("parameters", 9, Kind::Shaped(parameters)),
    ],
    extensions: 10,
};

static OPERATION: Form = Form {
    fields: &[
        ("tags", 1, Kind::Texts),
        ("description", 3, Kind::Text),
        ("operationId", 5, Kind::Text),
        ("produces", 6, Kind::Texts),
        ("consumes", 7, Kind::Texts),
        ("parameters", 8, Kind::Shaped(parameters)),
        ("responses", 9, Kind::Shaped(responses)),
        ("schemes", 10, Kind::Texts),
    ],
    extensions: 13,
};

static BODY_PARAMETER: Form = Form {
    fields: &[
        ("description", 1, Kind::Text),
        ("name", 2, Kind::Text),
        ("in", 3, Kind::Text),
        ("required", 4, Kind::Flag),
        ("schema", 5, Kind::Message(&SCHEMA)),
    ],
    extensions: 6,
};

static QUERY_PARAMETER: Form = Form {
    fields: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 6, Kind::Text),
        ("uniqueItems", 19, Kind::Flag),
    ],
    extensions: 22,
};

static PATH_PARAMETER: Form = Form {
    fields: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 5, Kind::Text),
        ("uniqueItems", 18, Kind::Flag),
    ],
    extensions: 21,
};

static RESPONSE: Form = Form {
    fields: &[
        ("description", 1, Kind::Text),
        ("schema", 2, Kind::Shaped(wrapped_schema)),
    ],
    extensions: 5,
};

static SCHEMA: Form = Form {
    fields: &[
        ("$ref", 1, Kind::Text),
        ("format", 2, Kind::Text),
        ("title", 3, Kind::Text),
        ("description", 4, Kind::Text),
        ("default", 5, Kind::Any),
        ("maxLength", 11, Kind::Integer),
        ("minLength", 12, Kind::Integer),
        ("pattern", 13, Kind::Text),
        ("maxItems", 14, Kind::Integer),
        ("minItems", 15, Kind::Integer),
        ("uniqueItems", 16, Kind::Flag),
        ("required", 19, Kind::Texts),
        ("enum", 20, Kind::Anys),
        ("additionalProperties", 21, Kind::Shaped(additional_properties)),
        ("type", 22, Kind::Shaped(schema_type)),
        ("items", 23, Kind::Shaped(wrapped_schema)),
        ("allOf", 24, Kind::Messages(&SCHEMA)),
        ("properties", 25, Kind::Named(1, &SCHEMA)),
    ],
    extensions: 31,
};

/// The document, encoded.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut encoded = Vec::new();
    if let Some(document) = document.as_object() {
        write(&DOCUMENT, document, &mut encoded);
    }
    encoded
}

/// A document of version 3, encoded.
pub(super) fn encode_v3(document: &Value) -> Vec<u8> {
    let mut encoded = Vec::new();
    if let Some(document) = document.as_object() {
        write(&v3::DOCUMENT, document, &mut encoded);
    }
    encoded
}

fn write(form: &Form, object: &Map<String, Value>, out: &mut Vec<u8>) {
    for (name, number, kind) in form.fields {
        if let Some(value) = object.get(*name) {
            field(*number, *kind, value, out);
        }
    }
    for (name, value) in object.iter().filter(|(name, _)| name.starts_with("x-")) {
        let mut named = Vec::new();
        bytes(1, name.as_bytes(), &mut named);
        field(2, Kind::Any, value, &mut named);
        bytes(form.extensions, &named, out);
    }
}

fn field(number: u32, kind: Kind, value: &Value, out: &mut Vec<u8>) {
    match (kind, value) {
        (Kind::Text, Value::String(text)) => bytes(number, text.as_bytes(), out),
        (Kind::Flag, Value::Bool(true)) => {
            varint(u64::from(number) << 3, out);
            varint(1, out);
        }
        (Kind::Integer, Value::Number(integer)) => {
            varint(u64::from(number) << 3, out);
            varint(integer.as_u64().unwrap_or_default(), out);
        }
        (Kind::Texts, Value::Array(items)) => {
            items
                .iter()
                .filter_map(Value::as_str)
                .for_each(|text| bytes(number, text.as_bytes(), out));
        }
        (Kind::Message(form), Value::Object(object)) => message(number, form, object, out),
        (Kind::Messages(form), Value::Array(items)) => {
            items
                .iter()
                .filter_map(Value::as_object)
                .for_each(|object| message(number, form, object, out));
        }
        (Kind::Named(inner, form), Value::Object(map)) => {
            let mut entries = Vec::new();
            for (name, value) in map {
                let mut entry = Vec::new();
                bytes(1, name.as_bytes(), &mut entry);
                if let Some(object) = value.as_object() {
                    message(2, form, object, &mut entry);
                }
                bytes(inner, &entry, &mut entries);
            }
            bytes(number, &entries, out);
        }
        (Kind::Float, Value::Number(float)) => {
            varint(u64::from(number) << 3 | 1, out);
            out.extend(float.as_f64().unwrap_or_default().to_le_bytes());
        }
        (Kind::Choice(form), value) => bytes(number, &v3::choice(form, value), out),
        (Kind::Choices(form), Value::Array(items)) => {
            items
                .iter()
                .for_each(|item| bytes(number, &v3::choice(form, item), out));
        }
        (Kind::NamedChoices(inner, form), Value::Object(map)) => {
            let mut entries = Vec::new();
            for (name, value) in map {
                let mut entry = Vec::new();
                bytes(1, name.as_bytes(), &mut entry);
                bytes(2, &v3::choice(form, value), &mut entry);
                bytes(inner, &entry, &mut entries);
            }
            bytes(number, &entries, out);
        }
        (Kind::Anys, Value::Array(items)) => {
            items.iter().for_each(|item| field(number, Kind::Any, item, out));
        }
        (Kind::Any, value) => {
            let mut any = Vec::new();
            bytes(2, value.to_string().as_bytes(), &mut any);
            bytes(number, &any, out);
        }
        (Kind::Shaped(write), value) => write(value, number, out),
        _ => {}
    }
}

fn message(number: u32, form: &Form, object: &Map<String, Value>, out: &mut Vec<u8>) {
    let mut encoded = Vec::new();
    write(form, object, &mut encoded);
    bytes(number, &encoded, out);
}

/// `ParametersItem { parameter: Parameter { body | non-body { query | path } } }`
fn parameters(value: &Value, number: u32, out: &mut Vec<u8>) {
    for parameter in value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
    {
        let mut chosen = Vec::new();
        match parameter.get("in").and_then(Value::as_str) {
            Some("body") => message(1, &BODY_PARAMETER, parameter, &mut chosen),
            place => {
                let mut other = Vec::new();
                match place {
                    Some("path") => message(4, &PATH_PARAMETER, parameter, &mut other),
                    _ => message(3, &QUERY_PARAMETER, parameter, &mut other),
                }
                bytes(2, &other, &mut chosen);
            }
        }
        let mut item = Vec::new();
        bytes(1, &chosen, &mut item);
        bytes(number, &item, out);
    }
}

/// `Responses { response_code: { name, value: ResponseValue { response } } }`
fn responses(value: &Value, number: u32, out: &mut Vec<u8>) {
    let mut all = Vec::new();
    for (code, response) in value.as_object().into_iter().flatten() {
        let mut chosen = Vec::new();
        if let Some(response) = response.as_object() {
            message(1, &RESPONSE, response, &mut chosen);
        }
        let mut named = Vec::new();
        bytes(1, code.as_bytes(), &mut named);
        bytes(2, &chosen, &mut named);
        bytes(1, &named, &mut all);
    }
    bytes(number, &all, out);
}

/// A schema in a message of its own, as `items` and a response have it.
fn wrapped_schema(value: &Value, number: u32, out: &mut Vec<u8>) {
    if let Some(schema) = value.as_object() {
        let mut wrapped = Vec::new();
        message(1, &SCHEMA, schema, &mut wrapped);
        bytes(number, &wrapped, out);
    }
}

/// A schema, or whether there may be any.
fn additional_properties(value: &Value, number: u32, out: &mut Vec<u8>) {
    if let Value::Bool(any) = value {
        let mut item = Vec::new();
        varint(2 << 3, &mut item);
        varint(u64::from(*any), &mut item);
        bytes(number, &item, out);
    } else {
        wrapped_schema(value, number, out);
    }
}

/// One type or several.
fn schema_type(value: &Value, number: u32, out: &mut Vec<u8>) {
    let mut item = Vec::new();
    match value {
        Value::String(one) => bytes(1, one.as_bytes(), &mut item),
        several => field(1, Kind::Texts, several, &mut item),
    }
    bytes(number, &item, out);
}

fn bytes(number: u32, content: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | 2, out);
    varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.extend((value as u8 | 0x80).to_le_bytes());
        value >>= 7;
    }
    out.extend((value as u8).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_is_written_by_its_numbers() {
        let document = json!({
            "swagger": "2.0",
            "info": { "title": "t", "version": "v" },
            "definitions": { "a": { "type": "object", "x-k": 1 } },
        });
        let extension = [0xfa, 0x01, 10, 0x0a, 3, b'x', b'-', b'k', 0x12, 3, 0x12, 1, b'1'];
        let schema = [
            &[0xb2, 0x01, 8, 0x0a, 6, b'o', b'b', b'j', b'e', b'c', b't'][..],
            &extension,
        ]
        .concat();
        let entry = [&[0x0a, 1, b'a', 0x12, schema.len() as u8][..], &schema].concat();
        let definitions = [&[0x0a, entry.len() as u8][..], &entry].concat();
        let expected = [
            &[0x0a, 3, b'2', b'.', b'0', 0x12, 6, 0x0a, 1, b't', 0x12, 1, b'v'][..],
            &[0x4a, definitions.len() as u8],
            &definitions,
        ]
        .concat();
        assert_eq!(encode(&document), expected);
    }

    #[test]
    fn long_numbers_take_several_bytes() {
        let mut out = Vec::new();
        varint(300, &mut out);
        assert_eq!(out, [0xac, 0x02]);
    }
}
