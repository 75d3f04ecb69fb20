//! Kubernetes' protobuf encoding of the built-in kinds, transcoded from and to JSON by the schema.
//!
//! An encoded object is the four bytes `k8s\0` and an `Unknown` message (`k8s.io/apimachinery/pkg/runtime`): the kind, and
//! the object's own message. Nothing here is written for a particular type: the numbers of the fields stand in
//! `protobuf_fields.txt`, their types in the schema.

mod either;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use prost::bytes::{Buf, Bytes};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use serde_json::{Map, Number, Value};

use super::{Definition, Empty, Field, Type, Wire, definition, of_kind};
use either::Either;

/// What an encoded object begins with.
pub const MAGIC: &[u8] = b"k8s\0";

/// No type of the API is nested as deep as this; what is nested deeper is refused.
const DEEPEST: usize = 64;

/// Why bytes are not an object, or an object cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum ProtobufError {
    /// The bytes do not begin as an encoded object does.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NotAnObject,
    /// No message of this kind is known.
    #[error("no protobuf message is known for kind \"{kind}\" in version \"{api_version}\"")]
    UnknownKind {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// The message is cut off, nested too deep, or not one of its type.
    #[error("the protobuf message is malformed: {0}")]
    Malformed(String),
}

impl From<prost::DecodeError> for ProtobufError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

type Result<T> = std::result::Result<T, ProtobufError>;

/// An encoded object as JSON, `apiVersion` and `kind` first.
///
/// # Errors
/// See [`ProtobufError`].
pub fn to_json(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut envelope = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NotAnObject)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    while envelope.has_remaining() {
        match read_field(&mut envelope)? {
            (1, Scalar::Bytes(mut type_meta)) => {
                while type_meta.has_remaining() {
                    match read_field(&mut type_meta)? {
                        (1, Scalar::Bytes(text)) => api_version = utf8(text)?,
                        (2, Scalar::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Scalar::Bytes(message)) => raw = message,
            _ => {}
        }
    }
    let definition = find(&api_version, &kind)?;
    let mut object = message(definition, raw, DEEPEST)?;
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    serde_json::to_vec(&object).map_err(|error| ProtobufError::Malformed(error.to_string()))
}

/// An object in JSON, encoded. Fields without a number are left out.
///
/// # Errors
/// When it is no object of a known kind.
pub fn from_json(json: &[u8]) -> Result<Vec<u8>> {
    let Read {
        api_version,
        kind,
        message,
    } = read(json)?;
    Ok(enveloped(&api_version, &kind, &message).encoded)
}

/// An encoded object, and where in it its own message lies: what stands among the items of a list.
#[derive(Debug)]
pub struct Enveloped {
    /// The whole.
    pub encoded: Vec<u8>,
    /// The object's own message.
    pub message: std::ops::Range<usize>,
}

/// An object in JSON, encoded, with its own message to be found.
///
/// # Errors
/// When it is no object of a known kind.
pub fn enveloped_from_json(json: &[u8]) -> Result<Enveloped> {
    let Read {
        api_version,
        kind,
        message,
    } = read(json)?;
    Ok(enveloped(&api_version, &kind, &message))
}

/// A list, from its items' own messages. `head` is the list in JSON without items.
///
/// # Errors
/// When it is no list of a known kind.
pub fn list_from_messages(head: &[u8], items: impl Iterator<Item = Bytes>) -> Result<Vec<Bytes>> {
    let Read {
        api_version,
        kind,
        message,
    } = read(head)?;
    let mut segments = vec![Bytes::new(), Bytes::from(message)];
    for item in items {
        let mut key = Vec::with_capacity(6);
        encode_key(LIST_ITEMS, WireType::LengthDelimited, &mut key);
        encode_varint(length(item.len()), &mut key);
        segments.extend([Bytes::from(key), item]);
    }
    let size = segments.iter().map(Bytes::len).sum();
    if let Some(first) = segments.first_mut() {
        *first = envelope_head(&api_version, &kind, size).into();
    }
    segments.push(Bytes::from_static(ENVELOPE_TAIL));
    Ok(segments)
}

/// A watch event (`meta/v1` `WatchEvent`, by itself, without envelope) of an encoded object; the event begins after
/// `room` free bytes.
pub fn watch_event(type_: &str, encoded: &[u8], room: usize) -> Vec<u8> {
    let mut extension = Vec::with_capacity(8);
    encode_key(1, WireType::LengthDelimited, &mut extension);
    encode_varint(length(encoded.len()), &mut extension);
    let mut event = Vec::with_capacity(room + type_.len() + extension.len() + encoded.len() + 16);
    event.resize(room, 0);
    write_bytes(1, type_.as_bytes(), &mut event);
    encode_key(2, WireType::LengthDelimited, &mut event);
    encode_varint(length(extension.len() + encoded.len()), &mut event);
    event.extend_from_slice(&extension);
    event.extend_from_slice(encoded);
    event
}

/// The number of the items in every list.
const LIST_ITEMS: u32 = 2;
/// Encoding and type of the content, which upstream writes empty.
const ENVELOPE_TAIL: &[u8] = &[0x1a, 0, 0x22, 0];

/// An object's kind and its own message.
struct Read {
    api_version: String,
    kind: String,
    message: Vec<u8>,
}

fn read(json: &[u8]) -> Result<Read> {
    let object: Map<String, Value> =
        serde_json::from_slice(json).map_err(|error| ProtobufError::Malformed(error.to_string()))?;
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let definition = find(api_version, kind)?;
    let mut message = Vec::with_capacity(json.len());
    write_fields(definition, definition.wire, &object, &mut message);
    Ok(Read {
        api_version: api_version.into(),
        kind: kind.into(),
        message,
    })
}

fn length(length: usize) -> u64 {
    u64::try_from(length).unwrap_or_default()
}

/// Up to the object's own message, which is `size` bytes long.
fn envelope_head(api_version: &str, kind: &str, size: usize) -> Vec<u8> {
    let mut type_meta = Vec::new();
    write_bytes(1, api_version.as_bytes(), &mut type_meta);
    write_bytes(2, kind.as_bytes(), &mut type_meta);
    let mut head = MAGIC.to_vec();
    write_bytes(1, &type_meta, &mut head);
    encode_key(2, WireType::LengthDelimited, &mut head);
    encode_varint(length(size), &mut head);
    head
}

fn enveloped(api_version: &str, kind: &str, message: &[u8]) -> Enveloped {
    let mut encoded = envelope_head(api_version, kind, message.len());
    let from = encoded.len();
    encoded.extend_from_slice(message);
    let message = from..encoded.len();
    encoded.extend_from_slice(ENVELOPE_TAIL);
    Enveloped { encoded, message }
}

fn find(api_version: &str, kind: &str) -> Result<&'static Definition> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    // Options and statuses are the same message in every group.
    let common = || definition(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"));
    of_kind(group, version, kind)
        .or_else(common)
        .filter(|definition| !definition.wire.is_empty())
        .ok_or_else(|| ProtobufError::UnknownKind {
            api_version: api_version.into(),
            kind: kind.into(),
        })
}

// --- reading -------------------------------------------------------------------------------------------------------

/// A value as the wire has it.
enum Scalar<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

fn malformed(what: &str) -> ProtobufError {
    ProtobufError::Malformed(what.to_string())
}

fn utf8(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| malformed("a text is not UTF-8"))
}

fn read_field<'a>(bytes: &mut &'a [u8]) -> Result<(u32, Scalar<'a>)> {
    let (number, wire_type) = decode_key(bytes)?;
    let scalar = match wire_type {
        WireType::Varint => Scalar::Varint(decode_varint(bytes)?),
        WireType::SixtyFourBit => Scalar::Fixed64(bytes.try_get_u64_le().map_err(|_| malformed("cut off"))?),
        WireType::ThirtyTwoBit => Scalar::Fixed32(bytes.try_get_u32_le().map_err(|_| malformed("cut off"))?),
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(bytes)?).map_err(|_| malformed("cut off"))?;
            let (value, rest) = bytes
                .split_at_checked(length)
                .ok_or_else(|| malformed("cut off"))?;
            *bytes = rest;
            Scalar::Bytes(value)
        }
        WireType::StartGroup | WireType::EndGroup => return Err(malformed("groups are not used")),
    };
    Ok((number, scalar))
}

fn message(definition: &'static Definition, bytes: &[u8], depth: usize) -> Result<Map<String, Value>> {
    let mut object = Map::new();
    read_into(&mut object, definition, definition.wire, bytes, depth)?;
    Ok(object)
}

fn read_into(
    object: &mut Map<String, Value>,
    definition: &'static Definition,
    wire: &'static [(u32, Wire)],
    mut bytes: &[u8],
    depth: usize,
) -> Result<()> {
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| malformed("it is nested too deep"))?;
    while bytes.has_remaining() {
        let (number, scalar) = read_field(&mut bytes)?;
        let known = wire
            .binary_search_by_key(&number, |(number, _)| *number)
            .ok()
            .and_then(|index| wire.get(index));
        match (known.map(|(_, wire)| wire), scalar) {
            // A field of a newer version than ours.
            (None, _) => {}
            (Some(Wire::Inlined(inner)), Scalar::Bytes(inner_bytes)) => {
                read_into(object, definition, inner, inner_bytes, depth)?;
            }
            (Some(Wire::Inlined(_)), _) => return Err(malformed("a message is expected")),
            (Some(Wire::Field(place) | Wire::Wrapped(place)), scalar) => {
                let Some(field) = definition.fields.get(usize::from(*place)) else {
                    continue;
                };
                if let Some(either) = Either::of(definition, field.name) {
                    let Scalar::Bytes(inner) = scalar else {
                        return Err(malformed("a message is expected"));
                    };
                    if !either.is_map() {
                        object.insert(field.name.to_string(), either.read(definition, inner, depth)?);
                        continue;
                    }
                    let (key, held) = either.read_entry(definition, inner, depth)?;
                    let map = object
                        .entry(field.name)
                        .or_insert_with(|| Value::Object(Map::new()));
                    if let Some(map) = map.as_object_mut() {
                        map.insert(key, held);
                    }
                } else if let (Some((_, Wire::Wrapped(_))), Type::List(_)) = (known, field.type_) {
                    let list = value(field.type_, scalar, depth)?;
                    object.insert(field.name.to_string(), list.unwrap_or_default());
                } else {
                    read_value(object, field, scalar, depth)?;
                }
            }
        }
    }
    Ok(())
}

fn read_value(
    object: &mut Map<String, Value>,
    field: &'static Field,
    scalar: Scalar<'_>,
    depth: usize,
) -> Result<()> {
    match field.type_ {
        Type::List(element) => {
            let list = object
                .entry(field.name)
                .or_insert_with(|| Value::Array(Vec::new()));
            if let (Some(list), Some(value)) = (list.as_array_mut(), value(*element, scalar, depth)?) {
                list.push(value);
            }
        }
        Type::Map(element) => {
            let Scalar::Bytes(mut entry) = scalar else {
                return Err(malformed("a map's entry is expected"));
            };
            let (mut key, mut held) = (String::new(), None);
            while entry.has_remaining() {
                match read_field(&mut entry)? {
                    (1, Scalar::Bytes(text)) => key = utf8(text)?,
                    (2, scalar) => held = value(*element, scalar, depth)?,
                    _ => {}
                }
            }
            let held = held.unwrap_or_else(|| Value::String(String::new()));
            let map = object
                .entry(field.name)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Some(map) = map.as_object_mut() {
                map.insert(key, held);
            }
        }
        type_ => {
            if let Some(value) = value(type_, scalar, depth)?
                && !is_unset(field, &value)
            {
                // A message that comes in two parts is one message.
                match (object.get_mut(field.name).and_then(Value::as_object_mut), value) {
                    (Some(first), Value::Object(second)) => first.extend(second),
                    (_, value) => {
                        object.insert(field.name.to_string(), value);
                    }
                }
            }
        }
    }
    Ok(())
}

/// Whether a value is Go's zero of a field that then counts as not set. Go writes plain values whether or not they are set:
/// without this, a pod that came in protobuf would say `hostNetwork: false` where one that came in JSON says nothing.
fn is_unset(field: &Field, value: &Value) -> bool {
    field.empty == Empty::Omitted && field.type_.is_unset(value)
}

/// One value as JSON; `None` for a time that is zero.
fn value(type_: Type, scalar: Scalar<'_>, depth: usize) -> Result<Option<Value>> {
    Ok(Some(match (type_, scalar) {
        (Type::Boolean, Scalar::Varint(number)) => Value::Bool(number != 0),
        // Negative numbers are sign-extended to 64 bits on the wire.
        (Type::Integer | Type::Long, Scalar::Varint(number)) => Value::from(number.cast_signed()),
        (Type::Number, Scalar::Fixed64(bits)) => Number::from_f64(f64::from_bits(bits))
            .map(Value::Number)
            .ok_or_else(|| malformed("not a number"))?,
        (Type::Number, Scalar::Fixed32(bits)) => Number::from_f64(f32::from_bits(bits).into())
            .map(Value::Number)
            .ok_or_else(|| malformed("not a number"))?,
        (Type::String, Scalar::Bytes(text)) => Value::String(utf8(text)?),
        (Type::Bytes, Scalar::Bytes(bytes)) => Value::String(BASE64_STANDARD.encode(bytes)),
        (Type::Object(id), Scalar::Bytes(bytes)) => Value::Object(message(id.get(), bytes, depth)?),
        (Type::Quantity, Scalar::Bytes(mut bytes)) => {
            let mut text = String::from("0");
            while bytes.has_remaining() {
                if let (1, Scalar::Bytes(amount)) = read_field(&mut bytes)? {
                    text = utf8(amount)?;
                }
            }
            Value::String(text)
        }
        (Type::Time, Scalar::Bytes(bytes)) => return time(bytes, 0),
        (Type::MicroTime, Scalar::Bytes(bytes)) => return time(bytes, 6),
        (Type::IntOrString, Scalar::Bytes(mut bytes)) => {
            let (mut is_text, mut number, mut text) = (false, 0, String::new());
            while bytes.has_remaining() {
                match read_field(&mut bytes)? {
                    (1, Scalar::Varint(which)) => is_text = which == 1,
                    (2, Scalar::Varint(value)) => number = value.cast_signed(),
                    (3, Scalar::Bytes(value)) => text = utf8(value)?,
                    _ => {}
                }
            }
            if is_text {
                Value::String(text)
            } else {
                Value::from(number)
            }
        }
        // Raw extensions, JSON and FieldsV1 all hold JSON in their first field.
        (Type::Any, Scalar::Bytes(mut bytes)) => {
            let mut held = Value::Null;
            while bytes.has_remaining() {
                if let (1, Scalar::Bytes(json)) = read_field(&mut bytes)?
                    && !json.is_empty()
                {
                    held = serde_json::from_slice(json)
                        .map_err(|error| ProtobufError::Malformed(error.to_string()))?;
                }
            }
            held
        }
        // A list as the value of a map is a message with a list (`ExtraValue`).
        (Type::List(element), Scalar::Bytes(mut bytes)) => {
            let mut list = Vec::new();
            while bytes.has_remaining() {
                if let (1, scalar) = read_field(&mut bytes)? {
                    list.extend(value(*element, scalar, depth)?);
                }
            }
            Value::Array(list)
        }
        (type_, _) => return Err(malformed(&format!("a field's wire type does not fit {type_:?}"))),
    }))
}

/// A `Time` message; zero means that there is none.
fn time(mut bytes: &[u8], precision: u8) -> Result<Option<Value>> {
    let (mut seconds, mut nanoseconds) = (0i64, 0i32);
    while bytes.has_remaining() {
        match read_field(&mut bytes)? {
            (1, Scalar::Varint(number)) => seconds = number.cast_signed(),
            (2, Scalar::Varint(number)) => {
                nanoseconds = i32::try_from(number.cast_signed()).unwrap_or_default()
            }
            _ => {}
        }
    }
    if seconds == 0 && nanoseconds == 0 {
        return Ok(None);
    }
    let time =
        Timestamp::new(seconds, nanoseconds).map_err(|error| ProtobufError::Malformed(error.to_string()))?;
    let text = if precision == 0 {
        format!("{time:.0}")
    } else {
        format!("{time:.6}")
    };
    Ok(Some(Value::String(text)))
}

// --- writing -------------------------------------------------------------------------------------------------------

fn write_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(u64::try_from(bytes.len()).unwrap_or_default(), out);
    out.extend_from_slice(bytes);
}

fn write_varint(number: u32, value: u64, out: &mut Vec<u8>) {
    encode_key(number, WireType::Varint, out);
    encode_varint(value, out);
}

fn write_fields(
    definition: &'static Definition,
    wire: &'static [(u32, Wire)],
    object: &Map<String, Value>,
    out: &mut Vec<u8>,
) {
    for (number, wire) in wire {
        match wire {
            Wire::Inlined(inner) => {
                let mut nested = Vec::new();
                write_fields(definition, inner, object, &mut nested);
                if !nested.is_empty() {
                    write_bytes(*number, &nested, out);
                }
            }
            Wire::Field(place) | Wire::Wrapped(place) => {
                let field = definition.fields.get(usize::from(*place));
                let Some((field, value)) = field.and_then(|field| Some((field, object.get(field.name)?)))
                else {
                    continue;
                };
                if let Some(either) = Either::of(definition, field.name) {
                    either.write_field(definition, *number, value, out);
                    continue;
                }
                match (wire, field.type_) {
                    (Wire::Wrapped(_), Type::List(_)) => {
                        let mut items = Vec::new();
                        write_value(1, field.type_, value, &mut items);
                        write_bytes(*number, &items, out);
                    }
                    _ => write_value(*number, field.type_, value, out),
                }
            }
        }
    }
}

/// Writes a value; one that does not fit its type, which no stored object holds, is left out.
fn write_value(number: u32, type_: Type, value: &Value, out: &mut Vec<u8>) {
    match (type_, value) {
        (Type::List(element), Value::Array(list)) => {
            for item in list {
                write_value(number, *element, item, out);
            }
        }
        (Type::Map(element), Value::Object(map)) => {
            for (key, held) in map {
                let mut entry = Vec::new();
                write_bytes(1, key.as_bytes(), &mut entry);
                if let (Type::List(inner), Value::Array(list)) = (*element, held) {
                    let mut items = Vec::new();
                    for item in list {
                        write_value(1, *inner, item, &mut items);
                    }
                    write_bytes(2, &items, &mut entry);
                } else {
                    write_value(2, *element, held, &mut entry);
                }
                write_bytes(number, &entry, out);
            }
        }
        (Type::Boolean, Value::Bool(flag)) => write_varint(number, u64::from(*flag), out),
        (Type::Integer | Type::Long, Value::Number(integer)) => {
            if let Some(integer) = integer.as_i64() {
                write_varint(number, integer.cast_unsigned(), out);
            }
        }
        (Type::Number, Value::Number(float)) => {
            if let Some(float) = float.as_f64() {
                encode_key(number, WireType::SixtyFourBit, out);
                out.extend_from_slice(&float.to_le_bytes());
            }
        }
        (Type::String, Value::String(text)) => write_bytes(number, text.as_bytes(), out),
        (Type::Bytes, Value::String(text)) => {
            if let Ok(bytes) = BASE64_STANDARD.decode(text) {
                write_bytes(number, &bytes, out);
            }
        }
        (Type::Object(id), Value::Object(object)) => {
            let (definition, mut nested) = (id.get(), Vec::new());
            write_fields(definition, definition.wire, object, &mut nested);
            write_bytes(number, &nested, out);
        }
        (Type::Quantity, amount @ (Value::String(_) | Value::Number(_))) => {
            let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_string);
            let mut nested = Vec::new();
            write_bytes(1, text.as_bytes(), &mut nested);
            write_bytes(number, &nested, out);
        }
        (Type::Time | Type::MicroTime, Value::String(text)) => {
            if let Ok(time) = text.parse::<Timestamp>() {
                let mut nested = Vec::new();
                write_varint(1, time.as_second().cast_unsigned(), &mut nested);
                write_varint(
                    2,
                    i64::from(time.subsec_nanosecond()).cast_unsigned(),
                    &mut nested,
                );
                write_bytes(number, &nested, out);
            }
        }
        (Type::IntOrString, either) => {
            let mut nested = Vec::new();
            write_varint(1, u64::from(either.is_string()), &mut nested);
            write_varint(
                2,
                either.as_i64().unwrap_or_default().cast_unsigned(),
                &mut nested,
            );
            write_bytes(3, either.as_str().unwrap_or_default().as_bytes(), &mut nested);
            write_bytes(number, &nested, out);
        }
        (Type::Any, any) => {
            let mut nested = Vec::new();
            write_bytes(1, any.to_string().as_bytes(), &mut nested);
            write_bytes(number, &nested, out);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn round_trip(object: &Value) -> Value {
        let encoded = from_json(object.to_string().as_bytes()).unwrap();
        serde_json::from_slice(&to_json(&encoded).unwrap()).unwrap()
    }

    #[test]
    fn an_object_with_every_kind_of_field_survives() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "labels": {"x": "y", "empty": ""}, "creationTimestamp": "2026-11-21T08:00:00Z",
                         "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}, "fieldsType": "FieldsV1"}]},
            "spec": {
                "containers": [{
                    "name": "c", "image": "i", "args": ["", "b"],
                    "resources": {"limits": {"cpu": "100m", "memory": "1Gi"}},
                    "securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": false},
                    "livenessProbe": {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": 5},
                    "readinessProbe": {"tcpSocket": {"port": 80}},
                    "env": [{"name": "e", "valueFrom": {"configMapKeyRef": {"name": "n", "key": "k"}}}],
                }],
                "volumes": [{"name": "v", "configMap": {"name": "m", "defaultMode": 420}}, {"name": "w", "emptyDir": {}}],
                "terminationGracePeriodSeconds": 0,
            },
        });
        assert_eq!(round_trip(&pod), pod);
    }

    #[test]
    fn lists_events_and_options_survive() {
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}, "count": 3,
            "eventTime": "2026-11-21T08:00:00.123456Z", "involvedObject": {"kind": "Pod"}});
        assert_eq!(round_trip(&event), event);
        let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"},
            "items": [{"metadata": {"name": "a"}, "data": {"k": "v"}, "binaryData": {"b": "AAEC"}}]});
        assert_eq!(round_trip(&list), list);
        let options = json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": "u"}, "propagationPolicy": "Foreground"});
        assert_eq!(round_trip(&options), options);
    }

    #[test]
    fn a_list_with_a_name_of_its_own_is_a_message() {
        let resources = json!({"apiVersion": "v1", "kind": "APIResourceList", "groupVersion": "v1", "resources": [
            {"name": "p", "singularName": "", "namespaced": true, "kind": "P", "verbs": ["get", "list"], "shortNames": ["x"]}
        ]});
        assert_eq!(round_trip(&resources), resources);
        let encoded = from_json(resources.to_string().as_bytes()).unwrap();
        // verbs=4 { items=1 "get" items=1 "list" }
        let verbs = b"\x22\x0b\x0a\x03get\x0a\x04list";
        assert!(encoded.windows(verbs.len()).any(|part| part == verbs));
    }

    #[test]
    fn a_list_made_of_messages_is_the_list() {
        let maps: Vec<Value> = (0..3)
            .map(|n| json!({"metadata": {"name": format!("m{n}")}, "data": {"k": "v".repeat(n * 200)}}))
            .collect();
        let whole = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"},
            "items": maps});
        let head = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"}});
        let messages = maps.iter().map(|map| {
            let mut map = map.clone();
            map["apiVersion"] = "v1".into();
            map["kind"] = "ConfigMap".into();
            let Enveloped { encoded, message } = enveloped_from_json(map.to_string().as_bytes()).unwrap();
            Bytes::from(encoded).slice(message)
        });
        let segments = list_from_messages(head.to_string().as_bytes(), messages).unwrap();
        assert_eq!(
            segments.concat(),
            from_json(whole.to_string().as_bytes()).unwrap()
        );
    }

    #[test]
    fn a_watch_event_holds_an_encoded_object() {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        let encoded = from_json(map.to_string().as_bytes()).unwrap();
        let event = watch_event("ADDED", &encoded, 4);
        let (room, mut event) = event.split_at(4);
        assert_eq!(room, [0; 4]);
        let Ok((1, Scalar::Bytes(b"ADDED"))) = read_field(&mut event) else {
            panic!()
        };
        let Ok((2, Scalar::Bytes(mut extension))) = read_field(&mut event) else {
            panic!()
        };
        let Ok((1, Scalar::Bytes(raw))) = read_field(&mut extension) else {
            panic!()
        };
        assert_eq!(raw, encoded);
        assert!(event.is_empty() && extension.is_empty());
    }

    #[test]
    fn numbers_are_upstreams() {
        // metadata=1 { name=1 "a" } and data=2 { key=1 "k", value=2 "v" }, in Unknown.raw=2.
        let config_map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
        let encoded = from_json(config_map.to_string().as_bytes()).unwrap();
        let expected = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0d\x0a\x03\x0a\x01a\x12\x06\x0a\x01k\x12\x01v\x1a\x00\x22\x00";
        assert_eq!(encoded, expected);
    }

    #[test]
    fn gos_zeros_of_unset_fields_are_left_out() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "generateName": "", "generation": 0},
            "spec": {"hostNetwork": false, "containers": [], "nodeName": ""}});
        assert_eq!(
            round_trip(&pod),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}})
        );
    }

    #[test]
    fn zeros_behind_pointers_are_values() {
        for object in [
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"},
                "spec": {"holderIdentity": "", "leaseTransitions": 0}}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {
                "automountServiceAccountToken": false, "containers": [{"name": "c",
                    "securityContext": {"privileged": false, "runAsUser": 0}}],
                "priorityClassName": "p", "terminationGracePeriodSeconds": 0,
                "volumes": [{"name": "v", "csi": {"driver": "d", "readOnly": false}}]}}),
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "a"},
                "spec": {"resources": {}, "storageClassName": "", "volumeAttributesClassName": ""}}),
        ] {
            assert_eq!(round_trip(&object), object);
        }
    }

    #[test]
    fn schemas_hold_one_thing_or_another() {
        let object = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "a.b.c"}, "spec": {"group": "b.c", "scope": "Namespaced", "names": {"kind": "A", "plural": "a"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {"type": "object",
                "properties": {
                    "list": {"type": "array", "items": {"type": "string", "default": "x"}},
                    "tuple": {"items": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "integer"}}]},
                    "open": {"type": "object", "additionalProperties": true},
                    "closed": {"additionalItems": false,
                        "dependencies": {"a": ["b", "c"], "d": {"required": ["e"]}}}}}}}]}});
        assert_eq!(round_trip(&object), object);
        // JSONSchemaPropsOrBool is allows=1 and schema=2, JSONSchemaPropsOrArray schema=1 and jSONSchemas=2.
        let encoded = from_json(object.to_string().as_bytes()).unwrap();
        let holds = |part: &[u8]| encoded.windows(part.len()).any(|window| window == part);
        assert!(holds(b"\x08\x01\x12\x09\x2a\x07integer") && holds(b"\x12\x08\x2a\x06string"));
    }

    #[test]
    fn bytes_that_are_no_object_are_refused() {
        for bytes in [
            &b""[..],
            b"{}",
            b"k8s",
            b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"k8s\0\x12\x05ab",
        ] {
            assert!(to_json(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn every_field_of_the_catalogue_has_a_number() {
        fn numbered(wire: &[(u32, Wire)], found: &mut Vec<u16>) {
            for (_, wire) in wire {
                match wire {
                    Wire::Field(place) | Wire::Wrapped(place) => found.push(*place),
                    Wire::Inlined(inner) => numbered(inner, found),
                }
            }
        }
        let mut missing = Vec::new();
        for definition in &super::super::DEFINITIONS {
            let mut found = Vec::new();
            numbered(definition.wire, &mut found);
            for (place, field) in definition.fields.iter().enumerate() {
                let is_type_meta = matches!(field.name, "apiVersion" | "kind") && found.is_empty() || {
                    let has_type_meta =
                        definition.field("apiVersion").is_some() && definition.field("kind").is_some();
                    has_type_meta && matches!(field.name, "apiVersion" | "kind")
                };
                if !is_type_meta && !found.contains(&u16::try_from(place).unwrap()) {
                    missing.push(format!(
                        "{}.{}",
                        definition.name.rsplit('.').next().unwrap(),
                        field.name
                    ));
                }
            }
        }
        // New in v1.37: the source of the numbers does not have them yet. Until it does, protobuf clients do not see
        // these fields.
        let known = [
            "TokenRequestSpec.attestations",
            "ClusterTrustBundleProjection.user",
            "ConfigMapVolumeSource.defaultUser",
            "DownwardAPIVolumeFile.user",
            "DownwardAPIVolumeSource.defaultUser",
            "EmptyDirVolumeSource.mode",
            "KeyToPath.user",
            "NodeSpec.podPreemptionPolicy",
            "NodeSystemInfo.runningInUserNamespace",
            "PodCertificateProjection.user",
            "PodSpec.evictionResponders",
            "PodStatus.nodeAllocatableResourceClaimStatuses",
            "PodStatus.volumeHealth",
            "ProjectedVolumeSource.defaultUser",
            "SecretVolumeSource.defaultUser",
            "ServiceAccountTokenProjection.user",
            "VolumeMount.bindMountOptions",
            "GRPCAction.mode",
            "HTTPGetAction.protocol",
            "CSINode.status",
            "HorizontalPodAutoscalerCondition.observedGeneration",
            "JobSpec.scheduling",
            "Device.nodeAllocatableResources",
            "DeviceCounterConsumption.compatibilityGroups",
            "DeviceRequestAllocationResult.skipNodeOperations",
            "DeviceSubRequest.derivedAttributes",
            "ExactDeviceRequest.derivedAttributes",
            "ResourceSliceSpec.partitionTypeAttribute",
            "ResourceSliceSpec.skipNodeOperations",
            "PersistentVolumeClaimStatus.healthStatus",
        ];
        let known_types = [
            "CSINodeStatus",
            "DeviceDerivedAttribute",
            "NodeAllocatableMapping",
            "NodeAllocatableOverhead",
            "NodeAllocatableResource",
            "EvictionResponder",
            "JobSchedulingConfiguration",
            "NodeAllocatableMappedResources",
            "NodeAllocatableOverheadResources",
            "NodeAllocatableResourceClaimStatus",
            "NodePodPreemptionPolicy",
            "PodVolumeHealth",
            "StorageHealth",
            "StorageHealthCondition",
            "TopologyConstraint",
            "VolumeHealthCondition",
            "VolumeHealthStatus",
            "WorkloadPodGroupDisruptionMode",
            "WorkloadPodGroupGangSchedulingPolicy",
            "WorkloadPodGroupResourceClaim",
            "WorkloadPodGroupSchedulingConstraints",
            "WorkloadPodGroupSchedulingPolicy",
        ];
        missing.retain(|field| {
            let type_ = field.split('.').next().unwrap();
            !known.contains(&field.as_str()) && !known_types.contains(&type_)
        });
        assert_eq!(missing, [""; 0]);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12".to_vec();
            bytes.extend(tail);
            let _ = to_json(&bytes);
        }
    }
}
