//! An object's JSON as Go writes it, with its metadata in front so that the resource version has a known place.
//!
//! `k8s-openapi`'s types write whatever was set, were it empty, and nothing else, in the order of the names, which puts a
//! ConfigMap's `data` before its `metadata`. What Go's types do is a fact of each field ([`Field::shown`]), so the
//! values are written along the schema.

use std::cell::Cell;

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
    let mut json = Vec::with_capacity(2048);
    let places = Cell::default();
    object.serialize(Written {
        json: &mut json,
        of: Of::Whole(definition.unwrap_or(&NOTHING), &places),
    })?;
    let Places {
        front,
        metadata: (start, end),
    } = places.get();
    if front == 0 {
        return Err(Error::custom("an object must be a struct that tells its kind"));
    }
    if let Some(passed) = json.get_mut(front..end) {
        passed.rotate_right(end - start);
    }
    // The text may be kept for as long as the object lives, so it gets no byte more than it needs.
    json.shrink_to_fit();
    Ok(json)
}

/// The JSON of an object that no store keeps: a review, a scale, a token.
///
/// # Errors
/// When a value cannot be written as JSON, which no decoded object holds.
pub fn to_json<T: Serialize + Resource>(object: &T) -> Result<Vec<u8>, Error> {
    metadata_first(object, schema::of_kind(T::GROUP, T::VERSION, T::KIND))
}

/// Where the parts of an object stand that are not where the types write them.
#[derive(Clone, Copy, Default)]
struct Places {
    /// What is behind `kind`.
    front: usize,
    /// `,"metadata":{…}`, from where to where.
    metadata: (usize, usize),
}

/// What is written.
enum Of<'a> {
    /// A value of a type of the schema.
    Value(Type),
    /// An object, of which it is told where its parts are.
    Whole(&'static Definition, &'a Cell<Places>),
}

struct Written<'a> {
    json: &'a mut Vec<u8>,
    of: Of<'a>,
}

impl<'a> Written<'a> {
    fn value(json: &'a mut Vec<u8>, type_: Type) -> Self {
        let of = Of::Value(type_);
        Self { json, of }
    }

    fn plain<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        serde_json::to_writer(self.json, value)
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
    type SerializeSeq = Elements<'a>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Elements<'a>;
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

    fn serialize_seq(self, _: Option<usize>) -> Result<Elements<'a>, Error> {
        self.json.push(b'[');
        let type_ = match self.of {
            Of::Value(Type::List(item)) => *item,
            _ => Type::Any,
        };
        let json = self.json;
        Ok(Elements { json, type_ })
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

    fn serialize_map(self, _: Option<usize>) -> Result<Elements<'a>, Error> {
        self.json.push(b'{');
        let type_ = match self.of {
            Of::Value(Type::Map(value)) => *value,
            _ => Type::Any,
        };
        let json = self.json;
        Ok(Elements { json, type_ })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members<'a>, Error> {
        self.json.push(b'{');
        let (definition, places) = match self.of {
            Of::Value(Type::Object(id)) => (id.get(), None),
            Of::Value(_) => (&NOTHING, None),
            Of::Whole(definition, places) => (definition, Some(places)),
        };
        Ok(Members {
            json: self.json,
            fields: Fields::of(definition),
            places,
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

/// The items of a list, or the entries of a map.
struct Elements<'a> {
    json: &'a mut Vec<u8>,
    type_: Type,
}

impl SerializeSeq for Elements<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, item: &T) -> Result<(), Error> {
        separate(self.json);
        item.serialize(Written::value(self.json, self.type_))
    }

    fn end(self) -> Result<(), Error> {
        self.json.push(b']');
        Ok(())
    }
}

impl SerializeMap for Elements<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), Error> {
        separate(self.json);
        key.serialize(Written::value(self.json, Type::String))
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        self.json.push(b':');
        value.serialize(Written::value(self.json, self.type_))
    }

    fn end(self) -> Result<(), Error> {
        self.json.push(b'}');
        Ok(())
    }
}

struct Members<'a> {
    json: &'a mut Vec<u8>,
    fields: Fields,
    places: Option<&'a Cell<Places>>,
}

impl SerializeStruct for Members<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        // The types write these two first, whatever the order.
        let is_type = self.places.is_some() && matches!(name, "apiVersion" | "kind");
        let field = match is_type {
            true => None,
            false => self.fields.pass(self.json, name),
        };
        let start = self.json.len();
        write_member(self.json, name, value, field)?;
        let end = self.json.len();
        match self.places {
            Some(places) if is_type => places.set(Places {
                front: end,
                ..places.get()
            }),
            Some(places) if name == "metadata" => places.set(Places {
                metadata: (start, end),
                ..places.get()
            }),
            _ => {}
        }
        Ok(())
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
    value.serialize(Written::value(json, type_))?;
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
