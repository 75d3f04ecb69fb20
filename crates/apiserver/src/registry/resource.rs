//! One resource: the verbs of one kind.

use std::sync::Arc;

use futures::stream::BoxStream;
use skiff_api::{KindInfo, Object, Strategy, Target};

use super::{
    DeleteOptions, Deleted, Entry, Frame, List, ListOptions, PatchType, WatchOptions, WriteOptions, Written,
};
use crate::error::{ApiError, ApiResult};

/// The verbs of one kind.
#[derive(Debug)]
pub struct Resource {
    strategy: Arc<dyn Strategy>,
}

impl Resource {
    /// What is particular about the kind.
    pub fn strategy(&self) -> &Arc<dyn Strategy> {
        &self.strategy
    }

    /// The plain facts of the kind.
    pub fn info(&self) -> &KindInfo {
        self.strategy.info()
    }

    /// The object's present state.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn get(&self, namespace: &str, name: &str) -> ApiResult<Arc<Entry>> {
        self.get_not_older(namespace, name, None).await
    }

    /// The object's state, at least as new as a `resourceVersion` parameter demands.
    ///
    /// # Errors
    /// 404 when there is none, 400 for a malformed version, 504 for one that is not reached in time.
    pub async fn get_not_older(
        &self,
        namespace: &str,
        name: &str,
        resource_version: Option<&str>,
    ) -> ApiResult<Arc<Entry>> {
        let _ = (namespace, name, resource_version);
        Err(ApiError::unavailable("opening"))
    }

    /// The objects that match.
    ///
    /// # Errors
    /// 400 or 422 for options that make no sense, 410 for a continuation that is too old, 504 for a version that is not
    /// reached in time.
    pub async fn list(&self, options: &ListOptions) -> ApiResult<List> {
        let _ = options;
        Err(ApiError::unavailable("opening"))
    }

    /// The changes of the objects that match.
    ///
    /// # Errors
    /// 400 or 422 for options that make no sense. A resource version that is too old is a [`Frame::Error`].
    pub async fn watch(&self, options: WatchOptions) -> ApiResult<BoxStream<'static, Frame>> {
        let _ = options;
        Err(ApiError::unavailable("opening"))
    }

    /// Makes an object from its JSON.
    ///
    /// # Errors
    /// A `Status` for everything that can be wrong with it.
    pub async fn create(&self, namespace: &str, body: &[u8], options: &WriteOptions) -> ApiResult<Written> {
        let _ = (namespace, body, options);
        Err(ApiError::unavailable("opening"))
    }

    /// Replaces an object, or the part of it that a subresource stands for.
    ///
    /// # Errors
    /// A `Status` for everything that can be wrong with it.
    pub async fn update(
        &self,
        namespace: &str,
        name: &str,
        target: Target,
        body: &[u8],
        options: &WriteOptions,
    ) -> ApiResult<Written> {
        let _ = (namespace, name, target, body, options);
        Err(ApiError::unavailable("opening"))
    }

    /// Patches an object, or the part of it that a subresource stands for.
    ///
    /// # Errors
    /// A `Status` for everything that can be wrong with it.
    pub async fn patch(
        &self,
        namespace: &str,
        name: &str,
        target: Target,
        type_: PatchType,
        body: &[u8],
        options: &WriteOptions,
    ) -> ApiResult<Written> {
        let _ = (namespace, name, target, type_, body, options);
        Err(ApiError::unavailable("opening"))
    }

    /// Reads an object, lets `change` alter it, and writes it back; again when it was changed meanwhile. For
    /// subresources such as `binding` and `scale`, and for the server's own housekeeping.
    ///
    /// # Errors
    /// What `change` returns, or a `Status` for everything that can be wrong with the outcome.
    pub async fn modify(
        &self,
        namespace: &str,
        name: &str,
        target: Target,
        options: &WriteOptions,
        change: impl Fn(&mut dyn Object) -> ApiResult<()> + Send + Sync,
    ) -> ApiResult<Written> {
        let _ = (namespace, name, target, options, change);
        Err(ApiError::unavailable("opening"))
    }

    /// Deletes an object, or marks it as being deleted.
    ///
    /// # Errors
    /// 404 when there is none, 409 when a precondition does not hold.
    pub async fn delete(
        &self,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
        write: &WriteOptions,
    ) -> ApiResult<Deleted> {
        let _ = (namespace, name, options, write);
        Err(ApiError::unavailable("opening"))
    }

    /// Deletes all objects that match. The list has them as they were left, or last were.
    ///
    /// # Errors
    /// As [`Resource::list`] and [`Resource::delete`].
    pub async fn delete_collection(
        &self,
        list: &ListOptions,
        options: &DeleteOptions,
        write: &WriteOptions,
    ) -> ApiResult<List> {
        let _ = (list, options, write);
        Err(ApiError::unavailable("opening"))
    }
}
