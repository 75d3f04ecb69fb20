//! The JSON of an object with its metadata in front, so that the resource version has a known place.
//!
//! `k8s-openapi` writes fields in the order of their names, which puts a ConfigMap's `data` before its `metadata`.

use serde::ser::{Error as _, Impossible, Serialize, SerializeStruct, Serializer};
use serde_json::{Error, Map, Value};

use crate::schema::{self, Definition};

/// `{"apiVersion":…,"kind":…,"metadata":{…},…}`.
pub(crate) fn metadata_first<T: Serialize>(object: &T, definition: DefinitionOf) -> Result<Vec<u8>, Error> {
    object.serialize(MetadataFirst(definition))
}

/// Looks up the definition of an object's kind.
pub(crate) type DefinitionOf = fn() -> Option<&'static Definition>;

/// What an empty name looks like. Few objects have one, so nearly all are written as they are.
const NAMELESS: &[u8] = br#""name":"""#;

/// Members (each with the comma before it) without the names that Go leaves out.
fn without_empty_names(members: Vec<u8>, definition: DefinitionOf) -> Result<Vec<u8>, Error> {
    let (Some(definition), Some((_, json))) = (definition(), members.split_first()) else {
        return Ok(members);
    };
    let mut fields: Map<String, Value> = serde_json::from_slice(&[b"{", json, b"}"].concat())?;
    schema::drop_empty_names(definition, &mut fields);
    let mut json = serde_json::to_vec(&fields)?;
    json.pop();
    if let Some(brace) = json.first_mut() {
        *brace = b',';
    }
    Ok(json)
}

struct MetadataFirst(DefinitionOf);

/// The members of the object, each with the comma before it.
struct Members {
    type_meta: Vec<u8>,
    metadata: Vec<u8>,
    rest: Vec<u8>,
    definition: DefinitionOf,
}

impl SerializeStruct for Members {
    type Ok = Vec<u8>;
    type Error = Error;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        let members = match key {
            "apiVersion" | "kind" => &mut self.type_meta,
            "metadata" => &mut self.metadata,
            _ => &mut self.rest,
        };
        members.push(b',');
        serde_json::to_writer(&mut *members, key)?;
        members.push(b':');
        serde_json::to_writer(members, value)
    }

    fn end(self) -> Result<Vec<u8>, Error> {
        let rest = match memchr::memmem::find(&self.rest, NAMELESS) {
            Some(_) => without_empty_names(self.rest, self.definition)?,
            None => self.rest,
        };
        let members = [self.type_meta, self.metadata, rest];
        let length = members.iter().map(Vec::len).sum::<usize>();
        // The text may be kept for as long as the object lives, so it gets no byte more than it needs.
        let mut json = Vec::with_capacity(length.max(1) + 1);
        members.iter().for_each(|members| json.extend_from_slice(members));
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
    type SerializeStruct = Members;
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

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members, Error> {
        Ok(Members {
            type_meta: Vec::with_capacity(64),
            metadata: Vec::with_capacity(512),
            rest: Vec::with_capacity(1024),
            definition: self.0,
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
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use serde_json::json;

    fn none() -> Option<&'static Definition> {
        None
    }

    #[test]
    fn names_that_go_leaves_out_are_left_out() {
        let pod: Pod = serde_json::from_str(
            r#"{"metadata":{"name":""},"spec":{"imagePullSecrets":[{},{"name":"a"}],"containers":[
                {"name":"","image":"{\"name\":\"\"}","env":[{"name":"","valueFrom":{"secretKeyRef":{"key":"k"}}}]}]}}"#,
        )
        .unwrap();
        let json = metadata_first(&pod, || schema::definition("io.k8s.api.core.v1.Pod")).unwrap();
        assert_eq!(
            String::from_utf8(json).unwrap(),
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":""},"spec":{"containers":[{"env":[{"name":"","valueFrom":{"secretKeyRef":{"key":"k"}}}],"image":"{\"name\":\"\"}","name":""}],"imagePullSecrets":[{},{"name":"a"}]}}"#
        );
    }

    #[test]
    fn metadata_comes_first_and_nothing_is_lost() {
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "y"}});
        let object: ConfigMap = serde_json::from_value(map.clone()).unwrap();
        let json = metadata_first(&object, none).unwrap();
        assert!(json.starts_with(br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"#));
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&json).unwrap(), map);

        let json = metadata_first(&Pod::default(), none).unwrap();
        assert_eq!(json, br#"{"apiVersion":"v1","kind":"Pod","metadata":{}}"#);
        assert!(metadata_first(&7, none).is_err());
    }
}
