//! An object's JSON as Go writes it, with its metadata in front so that the resource version has a known place.
//!
//! `k8s-openapi`'s types write whatever was set, were it empty, and nothing else, in the order of the names, which puts a
//! ConfigMap's `data` before its `metadata`. What Go's types do is a fact of each field ([`Field::shown`]), so the
//! values are written along the schema.

use k8s_openapi::Resource;
use serde::ser::{
    Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer,
};
use serde_json::Error;

use crate::schema::{self, Definition, Empty, Field, NOTHING, Shown, Type};

/// `{"apiVersion":…,"kind":…,"metadata":{…},…}`.
pub(crate) fn metadata_first<T: Serialize>(
    object: &T,
    definition: Option<&'static Definition>,
) -> Result<Vec<u8>, Error> {
    object.serialize(MetadataFirst(definition))
}

/// The JSON of an object that no store keeps: a review, a scale, a token.
///
/// # Errors
/// When a value cannot be written as JSON, which no decoded object holds.
pub fn to_json<T: Serialize + Resource>(object: &T) -> Result<Vec<u8>, Error> {
    metadata_first(object, schema::of_kind(T::GROUP, T::VERSION, T::KIND))
}

/// A value of a type of the schema.
struct Written<'a> {
    json: &'a mut Vec<u8>,
    type_: Type,
}

impl<'a> Written<'a> {
    fn plain<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        serde_json::to_writer(self.json, value)
    }

    fn items(self) -> Items<'a> {
        self.json.push(b'[');
        let type_ = match self.type_ {
            Type::List(item) => *item,
            _ => Type::Any,
        };
        Items {
            json: self.json,
            type_,
        }
    }
}

macro_rules! plain {
    ($($method:ident($type:ty);)*) => {
        $(fn $method(self, value: $type) -> Result<(), Error> { self.plain(&value) })*
    };
}

impl<'a> Serializer for Written<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Members<'a>;
    type SerializeStructVariant = Impossible<(), Error>;

    plain! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Error> {
        no_json()
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.plain(&())
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.plain(&())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.plain(&())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.plain(variant)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        no_json()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a>, Error> {
        Ok(self.items())
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        no_json()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Error> {
        no_json()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        no_json()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries<'a>, Error> {
        self.json.push(b'{');
        let type_ = match self.type_ {
            Type::Map(value) => *value,
            _ => Type::Any,
        };
        Ok(Entries {
            json: self.json,
            type_,
        })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members<'a>, Error> {
        self.json.push(b'{');
        let definition = match self.type_ {
            Type::Object(id) => id.get(),
            _ => &NOTHING,
        };
        Ok(Members {
            json: self.json,
            fields: Fields::of(definition),
        })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        no_json()
    }
}

fn no_json<T>() -> Result<T, Error> {
    Err(Error::custom("no type of the API is written so"))
}

/// Puts the comma between two members or items.
fn separate(json: &mut Vec<u8>) {
    // No value ends like that.
    if !matches!(json.last(), Some(b'{' | b'[')) {
        json.push(b',');
    }
}

struct Items<'a> {
    json: &'a mut Vec<u8>,
    type_: Type,
}

impl SerializeSeq for Items<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, item: &T) -> Result<(), Error> {
        separate(self.json);
        item.serialize(Written {
            json: self.json,
            type_: self.type_,
        })
    }

    fn end(self) -> Result<(), Error> {
        self.json.push(b']');
        Ok(())
    }
}

struct Entries<'a> {
    json: &'a mut Vec<u8>,
    type_: Type,
}

impl SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), Error> {
        separate(self.json);
        key.serialize(Written {
            json: self.json,
            type_: Type::String,
        })
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        self.json.push(b':');
        value.serialize(Written {
            json: self.json,
            type_: self.type_,
        })
    }

    fn end(self) -> Result<(), Error> {
        self.json.push(b'}');
        Ok(())
    }
}

struct Members<'a> {
    json: &'a mut Vec<u8>,
    fields: Fields,
}

impl SerializeStruct for Members<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        let field = self.fields.pass(self.json, name);
        write_member(self.json, name, value, field)
    }

    fn end(self) -> Result<(), Error> {
        self.fields.write_rest(self.json);
        self.json.push(b'}');
        Ok(())
    }
}

/// The fields of an object that is being written, in the order of the schema, which is the types' own.
struct Fields {
    definition: &'static Definition,
    /// The place of the next one.
    next: usize,
}

impl Fields {
    fn of(definition: &'static Definition) -> Self {
        Self { definition, next: 0 }
    }

    /// The field with this name. Those before it that the object does not have are written if Go writes them even so:
    /// one text stands for one state, whether what is empty was there or not.
    fn pass(&mut self, json: &mut Vec<u8>, name: &str) -> Option<&'static Field> {
        let fields = self.definition.fields;
        let ahead = fields.iter().skip(self.next).position(|field| field.name == name);
        let Some(steps) = ahead else {
            debug_assert!(
                self.definition.field(name).is_none(),
                "{name} comes late in {}",
                self.definition.name
            );
            return None;
        };
        self.write_missing(json, steps);
        self.next += 1;
        fields.get(self.next - 1)
    }

    /// Writes the next fields as far as Go writes them even if nothing is in them.
    fn write_missing(&mut self, json: &mut Vec<u8>, count: usize) {
        for field in self.definition.fields.iter().skip(self.next).take(count) {
            if let Empty::Written(empty) = field.empty {
                separate(json);
                put_name(json, field.name);
                json.extend_from_slice(empty.as_bytes());
            }
        }
        self.next += count;
    }

    fn write_rest(mut self, json: &mut Vec<u8>) {
        self.write_missing(json, self.definition.fields.len() - self.next);
    }
}

fn write_member<T: ?Sized + Serialize>(
    json: &mut Vec<u8>,
    name: &'static str,
    value: &T,
    field: Option<&'static Field>,
) -> Result<(), Error> {
    let start = json.len();
    separate(json);
    put_name(json, name);
    let at = json.len();
    let type_ = field.map_or(Type::Any, |field| field.type_);
    value.serialize(Written { json, type_ })?;
    let Some((field, written)) = field.zip(json.get(at..)) else {
        return Ok(());
    };
    match field.shown(written) {
        Shown::AsItIs => {}
        Shown::As(empty) => {
            json.truncate(at);
            json.extend_from_slice(empty.as_bytes());
        }
        Shown::NotAtAll => json.truncate(start),
    }
    Ok(())
}

/// The names of fields have nothing to escape.
fn put_name(json: &mut Vec<u8>, name: &str) {
    json.push(b'"');
    json.extend_from_slice(name.as_bytes());
    json.extend_from_slice(b"\":");
}

struct MetadataFirst(Option<&'static Definition>);

/// The parts of an object, in the order in which they will stand.
struct Object {
    type_meta: Vec<u8>,
    metadata: Vec<u8>,
    rest: Vec<u8>,
    fields: Fields,
}

impl SerializeStruct for Object {
    type Ok = Vec<u8>;
    type Error = Error;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        // The types write these two first, whatever the order.
        if matches!(name, "apiVersion" | "kind") {
            return write_member(&mut self.type_meta, name, value, None);
        }
        let field = self.fields.pass(&mut self.rest, name);
        let part = match name {
            "metadata" => &mut self.metadata,
            _ => &mut self.rest,
        };
        write_member(part, name, value, field)
    }

    fn end(mut self) -> Result<Vec<u8>, Error> {
        self.fields.write_rest(&mut self.rest);
        let parts = [self.type_meta, self.metadata, self.rest];
        let length = parts.iter().map(Vec::len).sum::<usize>();
        // The text may be kept for as long as the object lives, so it gets no byte more than it needs.
        let mut json = Vec::with_capacity(length.max(1) + 1);
        parts.iter().for_each(|part| json.extend_from_slice(part));
        match json.first_mut() {
            Some(comma) => *comma = b'{',
            None => json.push(b'{'),
        }
        json.push(b'}');
        Ok(json)
    }
}

fn not_an_object<T>() -> Result<T, Error> {
    Err(Error::custom("an object must be a struct"))
}

macro_rules! refuse {
    ($($method:ident($($argument:ty),*);)*) => {
        $(fn $method(self, $(_: $argument),*) -> Result<Vec<u8>, Error> { not_an_object() })*
    };
}

impl Serializer for MetadataFirst {
    type Ok = Vec<u8>;
    type Error = Error;
    type SerializeSeq = Impossible<Vec<u8>, Error>;
    type SerializeTuple = Impossible<Vec<u8>, Error>;
    type SerializeTupleStruct = Impossible<Vec<u8>, Error>;
    type SerializeTupleVariant = Impossible<Vec<u8>, Error>;
    type SerializeMap = Impossible<Vec<u8>, Error>;
    type SerializeStruct = Object;
    type SerializeStructVariant = Impossible<Vec<u8>, Error>;

    refuse! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    fn serialize_some<T: ?Sized + Serialize>(self, _: &T) -> Result<Vec<u8>, Error> {
        not_an_object()
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Vec<u8>, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Vec<u8>, Error> {
        not_an_object()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Error> {
        not_an_object()
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        not_an_object()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Error> {
        not_an_object()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        not_an_object()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Error> {
        not_an_object()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Object, Error> {
        Ok(Object {
            type_meta: Vec::with_capacity(64),
            metadata: Vec::with_capacity(512),
            rest: Vec::with_capacity(1024),
            fields: Fields::of(self.0.unwrap_or(&NOTHING)),
        })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        not_an_object()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use k8s_openapi::api::rbac::v1::Role;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn written<T: Serialize + DeserializeOwned + Resource>(json: Value) -> Value {
        let object: T = serde_json::from_value(json).unwrap();
        let json = to_json(&object).unwrap();
        let mut json: Value = serde_json::from_slice(&json).unwrap();
        for known in ["apiVersion", "kind"] {
            json.as_object_mut().unwrap().remove(known);
        }
        json
    }

    #[test]
    fn what_go_writes_in_any_case_is_written() {
        assert_eq!(
            written::<Event>(json!({"metadata": {}, "involvedObject": {}, "reason": "r"})),
            json!({"metadata": {}, "involvedObject": {}, "reason": "r", "source": {}, "firstTimestamp": null,
                "lastTimestamp": null, "eventTime": null, "reportingComponent": "", "reportingInstance": ""})
        );
        assert_eq!(
            written::<Role>(json!({"metadata": {}})),
            json!({"metadata": {}, "rules": null})
        );
        assert_eq!(
            written::<EndpointSlice>(
                json!({"metadata": {}, "addressType": "IPv4", "endpoints": [], "ports": []})
            ),
            json!({"metadata": {}, "addressType": "IPv4", "endpoints": null, "ports": null})
        );
        let status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(
            written::<Pod>(json!({"metadata": {}, "spec": {"containers": []}, "status": status})),
            json!({"metadata": {}, "spec": {"containers": null}, "status": {"conditions": [
                {"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": null}]}})
        );
    }

    #[test]
    fn what_go_leaves_out_is_left_out() {
        let pod = json!({"metadata": {"name": "", "labels": {"empty": ""}}, "spec": {
            "hostNetwork": false, "nodeName": "", "priority": 0, "terminationGracePeriodSeconds": 0,
            "imagePullSecrets": [{"name": ""}, {"name": "a"}],
            "containers": [{"name": "", "image": "{\"name\":\"\"}", "ports": [{"containerPort": 0, "hostPort": 0}],
                "env": [{"name": "", "valueFrom": {"secretKeyRef": {"name": "", "key": "k"}}}]}]}});
        assert_eq!(
            written::<Pod>(pod),
            json!({"metadata": {"labels": {"empty": ""}}, "spec": {
                "priority": 0, "terminationGracePeriodSeconds": 0,
                "imagePullSecrets": [{}, {"name": "a"}],
                "containers": [{"name": "", "image": "{\"name\":\"\"}", "resources": {}, "ports": [{"containerPort": 0}],
                    "env": [{"name": "", "valueFrom": {"secretKeyRef": {"key": "k"}}}]}]}, "status": {}})
        );
    }

    #[test]
    fn one_text_stands_for_one_state() {
        let text = |json: Value| {
            let pod: Pod = serde_json::from_value(json).unwrap();
            to_json(&pod).unwrap()
        };
        let short = json!({"metadata": {}, "spec": {"containers": [{"name": "a", "tty": true}]}});
        let long = json!({"metadata": {}, "status": {}, "spec": {"hostPID": false,
            "containers": [{"name": "a", "tty": true, "stdin": false, "resources": {}, "env": []}]}});
        assert_eq!(text(short), text(long));
    }

    #[test]
    fn metadata_comes_first_and_nothing_is_lost() {
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "y"}});
        let object: ConfigMap = serde_json::from_value(map.clone()).unwrap();
        let json = metadata_first(&object, None).unwrap();
        assert!(json.starts_with(br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"#));
        assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), map);

        let json = metadata_first(&Pod::default(), None).unwrap();
        assert_eq!(json, br#"{"apiVersion":"v1","kind":"Pod","metadata":{}}"#);
        assert!(metadata_first(&7, None).is_err());
    }
}
