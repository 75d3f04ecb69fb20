//! NamespaceLifecycle: nothing is created in a namespace that is not there or is going; some namespaces stay.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use skiff_api::{KindInfo, Object, Scope};

use super::{Plugin, shown_name};
use crate::error::{ApiError, ApiResult};
use crate::registry::{AdmissionRequest, Operation, Registry};

/// The namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle;

fn is_terminating(namespace: &Namespace) -> bool {
    let phase = namespace
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_some() || phase == Some("Terminating")
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    async fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        if request.info.scope != Scope::Namespaced || request.operation != Operation::Create {
            return Ok(());
        }
        let shown = shown_name(request, object.metadata());
        check_active(registry, request.info, request.namespace, &shown).await
    }

    async fn check_delete(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let is_namespace = request.info.group.is_empty() && request.info.kind == "Namespace";
        if is_namespace && IMMORTAL.contains(&request.name) {
            return Err(ApiError::forbidden(
                request.info,
                request.name,
                "this namespace may not be deleted",
            ));
        }
        Ok(())
    }
}

/// Whether something can be created in a namespace; `info` and `shown` say what.
///
/// # Errors
/// 404 when there is no such namespace, 403 when it is going.
pub(crate) async fn check_active(
    registry: &Registry,
    info: &KindInfo,
    namespace: &str,
    shown: &str,
) -> ApiResult<()> {
    let namespaces = registry
        .resource("", "v1", "namespaces")
        .ok_or_else(|| ApiError::not_found(&KindInfo::of::<Namespace>("namespace"), namespace))?;
    // The cache's word is enough that it is there; that it is not is asked of the store.
    let entry = match namespaces.at_hand("", namespace) {
        Some(entry) => entry,
        None => namespaces.get("", namespace).await?,
    };
    if is_terminating(entry.decoded::<Namespace>()?.as_ref()) {
        Err(terminating(info, namespace, shown))
    } else {
        Ok(())
    }
}

fn terminating(info: &KindInfo, namespace: &str, shown: &str) -> ApiError {
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut error = ApiError::forbidden(info, shown, &why);
    let details = error.0.details.get_or_insert_default();
    details.causes = Some(vec![StatusCause {
        reason: Some("NamespaceTerminating".into()),
        message: Some(format!("namespace {namespace} is being terminated")),
        field: Some("metadata.namespace".into()),
    }]);
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Warnings;
    use crate::admission::testing::creation;
    use crate::user::UserInfo;
    use k8s_openapi::api::core::v1::Pod;

    #[tokio::test]
    async fn some_namespaces_stay() {
        let info = KindInfo::of::<Namespace>("namespace");
        let (user, warnings) = (UserInfo::anonymous(), Warnings::default());
        for (name, stays) in [
            ("default", true),
            ("kube-system", true),
            ("kube-node-lease", false),
        ] {
            let request = AdmissionRequest {
                name,
                operation: Operation::Delete,
                ..creation(&info, &user, &warnings)
            };
            let refusal = NamespaceLifecycle.check_delete(&request).await.err();
            let expected = format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted");
            assert_eq!(refusal.map(|error| error.to_string()), stays.then_some(expected));
        }
    }

    #[test]
    fn a_going_namespace_is_told_by_its_phase_or_its_deletion() {
        for (json, expected) in [
            (r#"{"metadata":{},"status":{"phase":"Active"}}"#, false),
            (r#"{"metadata":{},"status":{"phase":"Terminating"}}"#, true),
            (
                r#"{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}}"#,
                true,
            ),
        ] {
            assert_eq!(
                is_terminating(&serde_json::from_str(json).unwrap()),
                expected,
                "{json}"
            );
        }
        let error = terminating(&KindInfo::of::<Pod>("pod"), "default", "x");
        assert_eq!(
            error.to_string(),
            "pods \"x\" is forbidden: unable to create new content in namespace default because it is being terminated"
        );
    }
}
