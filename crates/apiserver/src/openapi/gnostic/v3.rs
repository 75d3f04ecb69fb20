//! A version 3 document in gnostic's protobuf form (`openapi.v3`). Most things may be a reference instead; a message of its
//! own says which of the two it is.

use serde_json::Value;

use super::{Form, Kind, additional_properties, bytes, message};

pub(super) static DOCUMENT: Form = Form {
    fields: &[
        ("openapi", 1, Kind::Text),
        ("info", 2, Kind::Message(&INFO)),
        ("paths", 4, Kind::Named(1, &PATH_ITEM)),
        ("components", 5, Kind::Message(&COMPONENTS)),
    ],
    extensions: 9,
};

static INFO: Form = Form {
    fields: &[
        ("title", 1, Kind::Text),
        ("description", 2, Kind::Text),
        ("version", 6, Kind::Text),
    ],
    extensions: 7,
};

static COMPONENTS: Form = Form {
    fields: &[
        ("schemas", 1, Kind::NamedChoices(1, &SCHEMA)),
        ("securitySchemes", 7, Kind::NamedChoices(1, &SECURITY_SCHEME)),
    ],
    extensions: 10,
};

static SECURITY_SCHEME: Form = Form {
    fields: &[
        ("type", 1, Kind::Text),
        ("description", 2, Kind::Text),
        ("name", 3, Kind::Text),
        ("in", 4, Kind::Text),
    ],
    extensions: 9,
};

static PATH_ITEM: Form = Form {
    fields: &[
        ("get", 4, Kind::Message(&OPERATION)),
        ("put", 5, Kind::Message(&OPERATION)),
        ("post", 6, Kind::Message(&OPERATION)),
        ("delete", 7, Kind::Message(&OPERATION)),
        ("options", 8, Kind::Message(&OPERATION)),
        ("head", 9, Kind::Message(&OPERATION)),
        ("patch", 10, Kind::Message(&OPERATION)),
        ("parameters", 13, Kind::Choices(&PARAMETER)),
    ],
    extensions: 14,
};

static OPERATION: Form = Form {
    fields: &[
        ("tags", 1, Kind::Texts),
        ("description", 3, Kind::Text),
        ("operationId", 5, Kind::Text),
        ("parameters", 6, Kind::Choices(&PARAMETER)),
        ("requestBody", 7, Kind::Choice(&REQUEST_BODY)),
        ("responses", 8, Kind::NamedChoices(2, &RESPONSE)),
        ("deprecated", 10, Kind::Flag),
    ],
    extensions: 13,
};

static PARAMETER: Form = Form {
    fields: &[
        ("name", 1, Kind::Text),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("required", 4, Kind::Flag),
        ("schema", 10, Kind::Choice(&SCHEMA)),
    ],
    extensions: 14,
};

static REQUEST_BODY: Form = Form {
    fields: &[
        ("description", 1, Kind::Text),
        ("content", 2, Kind::Named(1, &MEDIA_TYPE)),
        ("required", 3, Kind::Flag),
    ],
    extensions: 4,
};

static RESPONSE: Form = Form {
    fields: &[
        ("description", 1, Kind::Text),
        ("content", 3, Kind::Named(1, &MEDIA_TYPE)),
    ],
    extensions: 5,
};

static MEDIA_TYPE: Form = Form {
    fields: &[("schema", 1, Kind::Choice(&SCHEMA))],
    extensions: 5,
};

static SCHEMA: Form = Form {
    fields: &[
        ("nullable", 1, Kind::Flag),
        ("title", 9, Kind::Text),
        ("maximum", 11, Kind::Float),
        ("minimum", 13, Kind::Float),
        ("maxLength", 15, Kind::Integer),
        ("minLength", 16, Kind::Integer),
        ("pattern", 17, Kind::Text),
        ("maxItems", 18, Kind::Integer),
        ("minItems", 19, Kind::Integer),
        ("uniqueItems", 20, Kind::Flag),
        ("maxProperties", 21, Kind::Integer),
        ("minProperties", 22, Kind::Integer),
        ("required", 23, Kind::Texts),
        ("enum", 24, Kind::Anys),
        ("type", 25, Kind::Text),
        ("allOf", 26, Kind::Choices(&SCHEMA)),
        ("oneOf", 27, Kind::Choices(&SCHEMA)),
        ("anyOf", 28, Kind::Choices(&SCHEMA)),
        ("not", 29, Kind::Message(&SCHEMA)),
        ("items", 30, Kind::Shaped(items)),
        ("properties", 31, Kind::NamedChoices(1, &SCHEMA)),
        ("additionalProperties", 32, Kind::Shaped(additional)),
        ("default", 33, Kind::Shaped(default)),
        ("description", 34, Kind::Text),
        ("format", 35, Kind::Text),
    ],
    extensions: 36,
};

static REFERENCE: Form = Form {
    fields: &[("$ref", 1, Kind::Text)],
    extensions: 0,
};

/// A thing or a reference to one.
pub(super) fn choice(form: &Form, value: &Value) -> Vec<u8> {
    let mut chosen = Vec::new();
    if let Some(object) = value.as_object() {
        match object.contains_key("$ref") {
            true => message(2, &REFERENCE, object, &mut chosen),
            false => message(1, form, object, &mut chosen),
        }
    }
    chosen
}

/// `ItemsItem { schema_or_reference }`
fn items(value: &Value, number: u32, out: &mut Vec<u8>) {
    let mut item = Vec::new();
    bytes(1, &choice(&SCHEMA, value), &mut item);
    bytes(number, &item, out);
}

/// A schema, or whether there may be any.
fn additional(value: &Value, number: u32, out: &mut Vec<u8>) {
    if value.is_boolean() {
        return additional_properties(value, number, out);
    }
    items(value, number, out);
}

/// `DefaultType { number | boolean | string }`, which is none of these where the default is an object.
fn default(value: &Value, number: u32, out: &mut Vec<u8>) {
    const ONE: Form = Form {
        fields: &[
            ("number", 1, Kind::Float),
            ("boolean", 2, Kind::Shaped(flag)),
            ("string", 3, Kind::Text),
        ],
        extensions: 0,
    };
    let name = match value {
        Value::Number(_) => "number",
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        _ => "",
    };
    let object = [(name.to_string(), value.clone())].into_iter().collect();
    message(number, &ONE, &object, out);
}

/// A choice is written even when it is no.
fn flag(value: &Value, number: u32, out: &mut Vec<u8>) {
    super::varint(u64::from(number) << 3, out);
    super::varint(u64::from(value == &Value::Bool(true)), out);
}

#[cfg(test)]
mod tests {
    use super::super::encode_v3;
    use serde_json::json;

    #[test]
    fn a_document_is_written_by_its_numbers() {
        let document = json!({
            "openapi": "3.0.0",
            "components": { "schemas": { "a": {
                "type": "array", "default": false, "items": { "$ref": "#/b" }, "maximum": 1,
            } } },
        });
        let reference = [0x12, 5, 0x0a, 3, b'#', b'/', b'b'];
        let schema = [
            &[0x59, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f][..],
            &[0xca, 0x01, 5, b'a', b'r', b'r', b'a', b'y'],
            &[0xf2, 0x01, 9, 0x0a, 7],
            &reference,
            &[0x8a, 0x02, 2, 0x10, 0],
        ]
        .concat();
        let choice = [&[0x0a, schema.len() as u8][..], &schema].concat();
        let named = [&[0x0a, 1, b'a', 0x12, choice.len() as u8][..], &choice].concat();
        let schemas = [&[0x0a, named.len() as u8][..], &named].concat();
        let components = [&[0x0a, schemas.len() as u8][..], &schemas].concat();
        let expected = [
            &[
                0x0a,
                5,
                b'3',
                b'.',
                b'0',
                b'.',
                b'0',
                0x2a,
                components.len() as u8,
            ][..],
            &components,
        ]
        .concat();
        assert_eq!(encode_v3(&document), expected);
    }
}
