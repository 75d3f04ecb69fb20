//! The fields of CRDs that have messages of their own which no schema tells of: those of a JSON schema that hold one of two
//! things, where JSON has the one or the other and the wire a message that says which; and one that says all by being there.

use prost::bytes::Buf;
use serde_json::{Map, Value};

use super::{
    Definition, Result, Scalar, malformed, message, read_field, utf8, write_bytes, write_fields, write_varint,
};

/// What such a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Either {
    /// `JSONSchemaPropsOrArray`
    Schemas,
    /// `JSONSchemaPropsOrBool`
    Bool,
    /// The values of a map of `JSONSchemaPropsOrStringArray`.
    Texts,
    /// `CustomResourceSubresourceStatus`, which has no fields.
    Empty,
}

impl Either {
    /// Of a field of a message.
    pub(super) fn of(definition: &Definition, field: &str) -> Option<Self> {
        if definition.name.ends_with(".CustomResourceSubresources") {
            return (field == "status").then_some(Self::Empty);
        }
        if !definition.name.ends_with(".JSONSchemaProps") {
            return None;
        }
        match field {
            "items" => Some(Self::Schemas),
            "additionalItems" | "additionalProperties" => Some(Self::Bool),
            "dependencies" => Some(Self::Texts),
            _ => None,
        }
    }

    /// Whether the field is a map of it.
    pub(super) fn is_map(self) -> bool {
        self == Self::Texts
    }

    /// The message as JSON; `schema` is the message of a schema.
    pub(super) fn read(self, schema: &'static Definition, mut bytes: &[u8], depth: usize) -> Result<Value> {
        let (mut one, mut many, mut allows) = (None, Vec::new(), false);
        while bytes.has_remaining() {
            match (self, read_field(&mut bytes)?) {
                (Self::Schemas | Self::Texts, (1, Scalar::Bytes(inner)))
                | (Self::Bool, (2, Scalar::Bytes(inner))) => {
                    one = Some(Value::Object(message(schema, inner, depth)?));
                }
                (Self::Schemas, (2, Scalar::Bytes(inner))) => {
                    many.push(Value::Object(message(schema, inner, depth)?));
                }
                (Self::Texts, (2, Scalar::Bytes(text))) => many.push(Value::String(utf8(text)?)),
                (Self::Bool, (1, Scalar::Varint(flag))) => allows = flag != 0,
                _ => {}
            }
        }
        Ok(match self {
            Self::Bool => one.unwrap_or(Value::Bool(allows)),
            Self::Empty => Value::Object(Map::new()),
            _ if !many.is_empty() => Value::Array(many),
            _ => one.unwrap_or_default(),
        })
    }

    /// One entry of a map of it.
    pub(super) fn read_entry(
        self,
        schema: &'static Definition,
        mut entry: &[u8],
        depth: usize,
    ) -> Result<(String, Value)> {
        let (mut key, mut held) = (String::new(), Value::Null);
        while entry.has_remaining() {
            match read_field(&mut entry)? {
                (1, Scalar::Bytes(text)) => key = utf8(text)?,
                (2, Scalar::Bytes(inner)) => held = self.read(schema, inner, depth)?,
                (1 | 2, _) => return Err(malformed("a map's entry is expected")),
                _ => {}
            }
        }
        Ok((key, held))
    }

    /// JSON as the message.
    pub(super) fn write(self, schema: &'static Definition, value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        if self == Self::Empty {
            return out;
        }
        let number = if self == Self::Bool { 2 } else { 1 };
        match value {
            Value::Object(one) => {
                if self == Self::Bool {
                    write_varint(1, 1, &mut out);
                }
                let mut inner = Vec::new();
                write_fields(schema, schema.wire, one, &mut inner);
                write_bytes(number, &inner, &mut out);
            }
            Value::Bool(flag) => write_varint(1, u64::from(*flag), &mut out),
            Value::Array(many) => {
                for one in many {
                    match one {
                        Value::Object(one) => {
                            let mut inner = Vec::new();
                            write_fields(schema, schema.wire, one, &mut inner);
                            write_bytes(2, &inner, &mut out);
                        }
                        Value::String(text) => write_bytes(2, text.as_bytes(), &mut out),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        out
    }

    /// A map of it.
    pub(super) fn write_field(
        self,
        schema: &'static Definition,
        number: u32,
        value: &Value,
        out: &mut Vec<u8>,
    ) {
        match (self.is_map(), value) {
            (true, Value::Object(map)) => {
                for (key, held) in map {
                    let mut entry = Vec::new();
                    write_bytes(1, key.as_bytes(), &mut entry);
                    write_bytes(2, &self.write(schema, held), &mut entry);
                    write_bytes(number, &entry, out);
                }
            }
            _ => write_bytes(number, &self.write(schema, value), out),
        }
    }
}
