//! Reading objects without `metadata.managedFields`, which are half the text of a small object and of no use to an informer:
//! they are passed over, not decoded and dropped.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::value::CowStrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Reads an object but for its managed fields.
///
/// # Errors
/// When the text is no such object.
pub fn read<K>(json: &[u8]) -> Result<K, serde_json::Error>
where
    K: DeserializeOwned + Metadata<Ty = ObjectMeta>,
{
    let mut metadata = None;
    let mut text = serde_json::Deserializer::from_slice(json);
    let mut object = K::deserialize(Members {
        on: Object(&mut metadata),
        inner: &mut text,
    })?;
    text.end()?;
    *object.metadata_mut() = metadata.unwrap_or_default();
    Ok(object)
}

/// Reads the metadata of an object but for the managed fields, and nothing else of it.
///
/// # Errors
/// When the text is no object.
pub fn read_metadata(json: &[u8]) -> Result<ObjectMeta, serde_json::Error> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Option<Unowned>,
    }

    let Object { metadata } = serde_json::from_slice(json)?;
    Ok(metadata.map(|Unowned(metadata)| metadata).unwrap_or_default())
}

/// Metadata that were read without the managed fields.
struct Unowned(ObjectMeta);

impl<'de> Deserialize<'de> for Unowned {
    fn deserialize<D: Deserializer<'de>>(metadata: D) -> Result<Self, D::Error> {
        let inner = metadata;
        ObjectMeta::deserialize(Members { on: Fields, inner }).map(Self)
    }
}

/// What becomes of the members on their way to who reads them.
trait On {
    /// Takes a member to itself; `false` for one that is passed on.
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, members: &mut A) -> Result<bool, A::Error>;
}

/// An object's: the metadata are read apart. What is passed on is read as anybody would read it, so no second way to read a
/// whole kind is compiled for it.
struct Object<'a>(&'a mut Option<ObjectMeta>);

impl On for Object<'_> {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, members: &mut A) -> Result<bool, A::Error> {
        let is_metadata = name == "metadata";
        if is_metadata {
            *self.0 = members
                .next_value::<Option<Unowned>>()?
                .map(|Unowned(metadata)| metadata);
        }
        Ok(is_metadata)
    }
}

/// The metadata's: the managed fields are passed over.
struct Fields;

impl On for Fields {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, members: &mut A) -> Result<bool, A::Error> {
        let is_managed = name == "managedFields";
        if is_managed {
            members.next_value::<IgnoredAny>()?;
        }
        Ok(is_managed)
    }
}

/// Wraps what reads a map, and who reads it.
struct Members<O, T> {
    on: O,
    inner: T,
}

impl<'de, O: On, D: Deserializer<'de>> Deserializer<'de> for Members<O, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Self { on, inner } = self;
        inner.deserialize_map(Members { on, inner: visitor })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, O: On, V: Visitor<'de>> Visitor<'de> for Members<O, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        let Self { on, inner } = self;
        inner.visit_map(Passing { on, members })
    }
}

/// The members that are passed on.
struct Passing<O, A> {
    on: O,
    members: A,
}

impl<'de, O: On, A: MapAccess<'de>> MapAccess<'de> for Passing<O, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        while let Some(Name(name)) = self.members.next_key()? {
            if !self.on.take(&name, &mut self.members)? {
                return seed.deserialize(CowStrDeserializer::new(name)).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.members.next_value_seed(seed)
    }
}

/// A member's name, borrowed where it can be.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(name: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(name.into()))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(name.to_string().into()))
            }
        }

        name.deserialize_str(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use serde_json::json;

    #[test]
    fn all_is_read_but_the_managed_fields_of_the_object_itself() {
        let template = json!({ "managedFields": [{ "manager": "t" }], "name": "t" });
        let mut object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "managedFields": "x", "metadata": "y" },
            "metadata": { "name": "a", "labels": { "managedFields": "z" }, "managedFields": [{ "manager": "m",
                "fieldsV1": { "f:data": {} } }], "uid": "u" } });
        let text = object.to_string();
        let read: ConfigMap = read(text.as_bytes()).unwrap();
        assert_eq!(read_metadata(text.as_bytes()).unwrap(), read.metadata);
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("managedFields");
        assert_eq!(serde_json::to_value(&read).unwrap(), object);

        let pods = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" },
            "spec": { "selector": {}, "template": { "metadata": template } } });
        let read: Deployment = super::read(pods.to_string().as_bytes()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), pods);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in [
            "[]",
            "1",
            "null",
            r#"{"metadata":[]}"#,
            r#"{"metadata":{"name":1}}"#,
            r#"{"kind":"#,
            r#"{"apiVersion":"v1","kind":"Pod"}}"#,
            r#"{"apiVersion":"v1","kind":"ConfigMap"}"#,
        ] {
            assert!(read::<Pod>(text.as_bytes()).is_err(), "{text}");
        }
        let empty: Pod = read(br#"{"apiVersion":"v1","kind":"Pod","metadata":null}"#).unwrap();
        assert_eq!(empty, Pod::default());
    }
}
