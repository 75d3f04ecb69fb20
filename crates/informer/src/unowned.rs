//! Reading objects without `metadata.managedFields`, which are half the text of a small object and of no use to an informer:
//! they are passed over, not decoded and dropped.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde::de::value::CowStrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

/// An object that was read without its managed fields.
#[derive(Clone, Debug)]
pub(crate) struct Unowned<K>(pub(crate) K);

impl<'de, K: Deserialize<'de>> Deserialize<'de> for Unowned<K> {
    fn deserialize<D: Deserializer<'de>>(object: D) -> Result<Self, D::Error> {
        let of = Of::Object;
        K::deserialize(Members { of, inner: object }).map(Self)
    }
}

impl<K: Resource> Resource for Unowned<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

/// Whose members are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Object,
    Metadata,
}

/// Wraps what reads an object or its metadata.
struct Members<T> {
    of: Of,
    inner: T,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Members<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let of = self.of;
        self.inner.deserialize_any(Members { of, inner: visitor })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let of = self.of;
        self.inner.deserialize_option(Members { of, inner: visitor })
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Members<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        let of = self.of;
        self.inner.visit_some(Members { of, inner: value })
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Passing {
            of: self.of,
            at_metadata: false,
            members,
        })
    }
}

/// The members but for the managed fields.
struct Passing<A> {
    of: Of,
    /// Whether the value that comes next is the object's metadata.
    at_metadata: bool,
    members: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Passing<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        while let Some(Name(name)) = self.members.next_key()? {
            match (self.of, name.as_ref()) {
                (Of::Metadata, "managedFields") => {
                    self.members.next_value::<IgnoredAny>()?;
                    continue;
                }
                (of, name) => self.at_metadata = of == Of::Object && name == "metadata",
            }
            return seed.deserialize(CowStrDeserializer::new(name)).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        if self.at_metadata {
            let of = Of::Metadata;
            self.members.next_value_seed(Members { of, inner: seed })
        } else {
            self.members.next_value_seed(seed)
        }
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Members<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<S::Value, D::Error> {
        let of = self.of;
        self.inner.deserialize(Members { of, inner: value })
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
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use serde_json::json;

    #[test]
    fn all_is_read_but_the_managed_fields_of_the_object_itself() {
        let template = json!({ "managedFields": [{ "manager": "t" }], "name": "t" });
        let mut object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "managedFields": "x", "metadata": "y" },
            "metadata": { "name": "a", "labels": { "managedFields": "z" }, "managedFields": [{ "manager": "m",
                "fieldsV1": { "f:data": {} } }], "uid": "u" } });
        let text = object.to_string();
        let Unowned(read) = serde_json::from_str::<Unowned<ConfigMap>>(&text).unwrap();
        let Unowned(from_tree) = serde_json::from_value::<Unowned<ConfigMap>>(object.clone()).unwrap();
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("managedFields");
        assert_eq!(serde_json::to_value(&read).unwrap(), object);
        assert_eq!(read, from_tree);

        let pods = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" },
            "spec": { "selector": {}, "template": { "metadata": template } } });
        let Unowned(read): Unowned<k8s_openapi::api::apps::v1::Deployment> =
            serde_json::from_str(&pods.to_string()).unwrap();
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
        ] {
            assert!(serde_json::from_str::<Unowned<Pod>>(text).is_err(), "{text}");
        }
        let empty: Unowned<Pod> =
            serde_json::from_str(r#"{"apiVersion":"v1","kind":"Pod","metadata":null}"#).unwrap();
        assert_eq!(empty.0, Pod::default());
    }
}
