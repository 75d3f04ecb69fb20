//! The door that every write passes: admission, which the registry calls and [`crate::admission`] implements.

use async_trait::async_trait;
use skiff_api::{Errors, KindInfo, Object, Subresource};

use crate::error::ApiResult;
use crate::user::UserInfo;
use crate::warnings::Warnings;

/// What a request does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Makes it.
    Create,
    /// Changes it.
    Update,
    /// Deletes it.
    Delete,
}

/// What admission decides by.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionRequest<'a> {
    /// The kind of the object.
    pub info: &'a KindInfo,
    /// Empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// The object's name; empty for a create whose name is yet to be generated, and for a delete of a collection.
    pub name: &'a str,
    /// What is done.
    pub operation: Operation,
    /// The subresource that is written to.
    pub subresource: Option<Subresource>,
    /// The object before an update or delete.
    pub old: Option<&'a dyn Object>,
    /// Who asks.
    pub user: &'a UserInfo,
    /// Whether nothing will be written: no side effect is allowed.
    pub dry_run: bool,
    /// Takes what the client is to be warned of.
    pub warnings: &'a Warnings,
}

/// The admission of a server: all its plugins.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Changes or refuses an object that is to be created or updated. It has been decoded and defaulted, not yet
    /// validated. Called again when the write has to be tried again.
    ///
    /// # Errors
    /// The refusal.
    async fn admit(&self, request: &AdmissionRequest<'_>, object: &mut dyn Object) -> ApiResult<()>;

    /// Adds what is wrong with an object that has been prepared, and is validated next, for the sake of other objects.
    ///
    /// # Errors
    /// When the others cannot be read.
    async fn examine(
        &self,
        _request: &AdmissionRequest<'_>,
        _object: &dyn Object,
        _errors: &mut Errors,
    ) -> ApiResult<()> {
        Ok(())
    }

    /// Refuses an object that has been prepared and validated and is about to be written. Called again when the write
    /// has to be tried again.
    ///
    /// # Errors
    /// The refusal.
    async fn validate(&self, _request: &AdmissionRequest<'_>, _object: &dyn Object) -> ApiResult<()> {
        Ok(())
    }

    /// Refuses a delete. Called again when the delete has to be tried again.
    ///
    /// # Errors
    /// The refusal.
    async fn check_delete(&self, request: &AdmissionRequest<'_>) -> ApiResult<()>;

    /// An object for which [`Admission::admit`] may have reserved something (a cluster IP) was not created after all,
    /// or is gone. Never called after a dry run.
    async fn released(&self, info: &KindInfo, object: &dyn Object);
}

/// Admits everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmitAll;

#[async_trait]
impl Admission for AdmitAll {
    async fn admit(&self, _: &AdmissionRequest<'_>, _: &mut dyn Object) -> ApiResult<()> {
        Ok(())
    }

    async fn check_delete(&self, _: &AdmissionRequest<'_>) -> ApiResult<()> {
        Ok(())
    }

    async fn released(&self, _: &KindInfo, _: &dyn Object) {}
}
