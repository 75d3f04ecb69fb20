//! Any Kubernetes object, with its type erased: metadata and an encoding are all that generic code needs.

use std::any::Any;
use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kind::Kind;
use crate::schema;

/// An object of some kind. Strategies downcast it with [`Object::as_any`]; nobody else does.
pub trait Object: Any + Debug + Send + Sync {
    /// `metadata`.
    fn metadata(&self) -> &ObjectMeta;
    /// `metadata`, to change.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    /// The object as compact JSON that begins `{"apiVersion":…,"kind":…,"metadata":{`.
    ///
    /// # Errors
    /// When a value cannot be written as JSON, which no decoded object holds.
    fn encode(&self) -> Result<Vec<u8>, serde_json::Error>;
    /// A deep copy.
    fn clone_object(&self) -> Box<dyn Object>;
    /// The object as `Any`.
    fn as_any(&self) -> &dyn Any;
    /// The object as `Any`, to change.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<K: Kind> Object for K {
    fn metadata(&self) -> &ObjectMeta {
        k8s_openapi::Metadata::metadata(self)
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        k8s_openapi::Metadata::metadata_mut(self)
    }

    fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        crate::encode::metadata_first(self, schema::of_kind(K::GROUP, K::VERSION, K::KIND))
    }

    fn clone_object(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
