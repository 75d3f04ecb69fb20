//! The check that nobody gives away rights that they have not got; upstream has it in the storage of roles and bindings.

use std::sync::Arc;

use async_trait::async_trait;
use skiff_api::Object;

use super::Plugin;
use crate::auth::authorize::Union;
use crate::auth::rbac::check_escalation;
use crate::error::ApiResult;
use crate::registry::{AdmissionRequest, Registry};

/// Knows by whom it is decided what somebody may do.
pub(super) struct Escalation(pub(super) Arc<Union>);

#[async_trait]
impl Plugin for Escalation {
    async fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        check_escalation(request, object, registry, self.0.as_ref()).await
    }
}
