//! A version of a kind that is served and not kept: its objects are in the store as another version of the same kind.
//!
//! A [`Version`] says how the JSON of its objects is made of the stored JSON, and the other way round. All else is the
//! stored [`Kind`]'s: once it is decoded, an object is one of that kind, whichever version the client wrote.

use std::borrow::Cow;
use std::fmt::Debug;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::field::Errors;
use crate::kind::{Kind, KindInfo, Strategy, Subresource, Target, Typed};
use crate::object::Object;
use crate::schema;

/// A version of a kind that is not the stored one.
pub trait Version: k8s_openapi::Resource + Debug + 'static {
    /// The version in which the objects are kept.
    type Stored: Kind;

    /// The fields that a field selector may name in this version: each with the stored version's name for it.
    fn selectable_fields() -> &'static [&'static str] {
        &[]
    }

    /// The stored version's name of a selectable field.
    fn stored_field(_name: &str) -> Option<&'static str> {
        None
    }

    /// Turns the fields of this version into those of the stored one; the type is changed by the caller.
    fn to_stored(object: &mut Map<String, Value>);

    /// Turns the fields of the stored version into those of this one; the type is changed by the caller.
    fn of_stored(object: &mut Map<String, Value>);

    /// Checks that hold for objects made in this version alone, beside [`Kind::validate`].
    fn validate_create(_object: &Self::Stored, _errors: &mut Errors) {}

    /// Checks that hold for changes made in this version alone, beside [`Kind::validate_update`].
    fn validate_update(_object: &Self::Stored, _old: &Self::Stored, _target: Target, _errors: &mut Errors) {}
}

/// How a version and the stored one become each other.
pub trait Conversion: Send + Sync {
    /// An object of this version, made of a stored one.
    fn of_stored(&self, object: Value) -> Value;
    /// A stored object, made of one of this version.
    fn to_stored(&self, object: Value) -> Value;
    /// The stored version's name of a selectable field.
    fn stored_field(&self, name: &str) -> Option<&'static str>;

    /// The JSON of this version; begins `{"apiVersion":…,"kind":…,"metadata":`, as stored JSON does.
    ///
    /// # Errors
    /// When the text is not a JSON object.
    fn serve(&self, stored: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
        let mut object = self.of_stored(serde_json::from_slice(stored)?);
        let mut json = Vec::with_capacity(stored.len() + 64);
        let Some(fields) = object.as_object_mut() else {
            return serde_json::to_vec(&object);
        };
        for name in ["apiVersion", "kind", "metadata"] {
            if let Some(value) = fields.remove(name) {
                write_member(&mut json, name, &value)?;
            }
        }
        for (name, value) in fields {
            write_member(&mut json, name, value)?;
        }
        if json.is_empty() {
            json.push(b'{');
        }
        json.push(b'}');
        Ok(json)
    }
}

fn write_member(json: &mut Vec<u8>, name: &str, value: &Value) -> Result<(), serde_json::Error> {
    json.push(if json.is_empty() { b'{' } else { b',' });
    serde_json::to_writer(&mut *json, name)?;
    json.push(b':');
    serde_json::to_writer(json, value)
}

/// [`Strategy`] for a version that is not the stored one.
#[derive(Debug)]
pub struct Converted<V: Version> {
    info: KindInfo,
    stored: Typed<V::Stored>,
    version: std::marker::PhantomData<fn() -> V>,
}

impl<V: Version> Converted<V> {
    /// The strategy of `V`.
    pub fn new() -> Self {
        let stored = Typed::<V::Stored>::new();
        Self {
            info: KindInfo {
                group: Cow::Borrowed(V::GROUP),
                version: Cow::Borrowed(V::VERSION),
                kind: Cow::Borrowed(V::KIND),
                plural: Cow::Borrowed(V::URL_PATH_SEGMENT),
                selectable_fields: V::selectable_fields(),
                ..stored.info().clone()
            },
            stored,
            version: std::marker::PhantomData,
        }
    }

    fn own<'a>(&self, object: &'a dyn Object) -> Option<&'a V::Stored> {
        object.as_any().downcast_ref()
    }
}

impl<V: Version> Default for Converted<V> {
    fn default() -> Self {
        Self::new()
    }
}

fn set_type(object: &mut Map<String, Value>, info: &KindInfo) {
    object.insert("apiVersion".into(), info.api_version().into());
    object.insert("kind".into(), info.kind.as_ref().into());
}

impl<V: Version> Conversion for Converted<V> {
    fn of_stored(&self, mut object: Value) -> Value {
        if let Some(fields) = object.as_object_mut() {
            V::of_stored(fields);
            set_type(fields, &self.info);
            if let Some(definition) = schema::of_kind(V::GROUP, V::VERSION, V::KIND) {
                schema::show(definition, fields);
            }
        }
        object
    }

    fn to_stored(&self, mut object: Value) -> Value {
        if let Some(fields) = object.as_object_mut() {
            V::to_stored(fields);
            set_type(fields, self.stored.info());
        }
        object
    }

    fn stored_field(&self, name: &str) -> Option<&'static str> {
        V::stored_field(name)
    }
}

impl<V: Version> Strategy for Converted<V> {
    fn info(&self) -> &KindInfo {
        &self.info
    }

    fn conversion(&self) -> Option<&dyn Conversion> {
        Some(self)
    }

    fn stored(&self) -> &dyn Strategy {
        &self.stored
    }

    fn decode(&self, json: &[u8]) -> Result<Box<dyn Object>, serde_json::Error> {
        self.decode_value(serde_json::from_slice(json)?)
    }

    fn decode_value(&self, json: Value) -> Result<Box<dyn Object>, serde_json::Error> {
        self.stored.decode_value(self.to_stored(json))
    }

    fn default(&self, object: &mut dyn Object) {
        self.stored.default(object);
    }

    fn prepare_for_create(&self, object: &mut dyn Object) {
        self.stored.prepare_for_create(object);
    }

    fn prepare_for_update(&self, object: &mut dyn Object, old: &dyn Object, target: Target) {
        self.stored.prepare_for_update(object, old, target);
    }

    fn validate(&self, object: &dyn Object, errors: &mut Errors) {
        self.stored.validate(object, errors);
    }

    fn validate_changed(&self, object: &dyn Object, old: &dyn Object, errors: &mut Errors) {
        self.stored.validate_changed(object, old, errors);
    }

    fn validate_create(&self, object: &dyn Object, errors: &mut Errors) {
        self.stored.validate_create(object, errors);
        if let Some(object) = self.own(object) {
            V::validate_create(object, errors);
        }
    }

    fn validate_update(&self, object: &dyn Object, old: &dyn Object, target: Target, errors: &mut Errors) {
        self.stored.validate_update(object, old, target, errors);
        if let (Some(object), Some(old)) = (self.own(object), self.own(old)) {
            V::validate_update(object, old, target, errors);
        }
    }

    fn grace_period(&self, object: &dyn Object, requested: Option<i64>) -> i64 {
        self.stored.grace_period(object, requested)
    }

    fn begin_deletion(&self, object: &mut dyn Object) {
        self.stored.begin_deletion(object);
    }

    fn is_held(&self, object: &dyn Object) -> bool {
        self.stored.is_held(object)
    }

    fn check_name(&self, name: &str, prefix: bool) -> Vec<String> {
        self.stored.check_name(name, prefix)
    }

    fn warnings(&self, object: &dyn Object, old: Option<&dyn Object>) -> Vec<String> {
        self.stored.warnings(object, old)
    }

    fn warnings_as_sent(&self, object: &dyn Object) -> Vec<String> {
        self.stored.warnings_as_sent(object)
    }

    fn subresource_warnings(&self, object: &dyn Object, subresource: Subresource) -> Vec<String> {
        self.stored.subresource_warnings(object, subresource)
    }

    fn cells(&self, object: &dyn Object, now: Timestamp) -> Vec<Value> {
        self.stored.cells(object, now)
    }

    fn field(&self, object: &dyn Object, name: &str) -> Option<String> {
        match name {
            "metadata.name" | "metadata.namespace" => self.stored.field(object, name),
            name => self.stored.field(object, V::stored_field(name)?),
        }
    }
}
