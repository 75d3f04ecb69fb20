//! CertificateApproval, CertificateSigning and ClusterTrustBundleAttest: who decides about a request, who signs it, and
//! who vouches for a bundle, must have the right to do so for its signer. CertificateSubjectRestriction: nobody gets a
//! client certificate for `system:masters`.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, ClusterTrustBundle};
use skiff_api::{Object, Subresource};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::Plugin;
use crate::auth::authorize::{Attributes, Authorizer, Decision, Union};
use crate::error::{ApiError, ApiResult};
use crate::registry::{AdmissionRequest, Registry};
use crate::user::{MASTERS, UserInfo};

const GROUP: &str = "certificates.k8s.io";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// Who may approve.
pub(super) struct CertificateApproval(pub(super) Arc<Union>);
/// Who may sign.
pub(super) struct CertificateSigning(pub(super) Arc<Union>);
/// Who may vouch.
pub(super) struct ClusterTrustBundleAttest(pub(super) Arc<Union>);
/// For whom nobody may ask.
pub(super) struct CertificateSubjectRestriction;

/// A request for a certificate, as it was.
fn before<'a>(request: &AdmissionRequest<'a>) -> Option<&'a CertificateSigningRequest> {
    request.old?.as_any().downcast_ref()
}

#[async_trait]
impl Plugin for CertificateApproval {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        _object: &dyn Object,
        _registry: &Registry,
    ) -> ApiResult<()> {
        match before(request) {
            Some(old) if request.subresource == Some(Subresource::Approval) => {
                let signer = &old.spec.signer_name;
                require(&self.0, request, "approve", signer, "approve requests with").await
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Plugin for CertificateSigning {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: &dyn Object,
        _registry: &Registry,
    ) -> ApiResult<()> {
        let wish = object.as_any().downcast_ref::<CertificateSigningRequest>();
        match before(request).zip(wish) {
            Some((old, new)) if request.subresource == Some(Subresource::Status) && says_more(new, old) => {
                let signer = &old.spec.signer_name;
                require(&self.0, request, "sign", signer, "sign requests with").await
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Plugin for ClusterTrustBundleAttest {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: &dyn Object,
        _registry: &Registry,
    ) -> ApiResult<()> {
        let Some(bundle) = object.as_any().downcast_ref::<ClusterTrustBundle>() else {
            return Ok(());
        };
        let signer = bundle.spec.signer_name.as_deref().unwrap_or_default();
        let old = request.old.and_then(|old| old.as_any().downcast_ref());
        if signer.is_empty() || old.is_some_and(|old| only_owners_change(bundle, old)) {
            return Ok(());
        }
        require(&self.0, request, "attest", signer, "attest for").await
    }
}

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: &dyn Object,
        _registry: &Registry,
    ) -> ApiResult<()> {
        match object.as_any().downcast_ref::<CertificateSigningRequest>() {
            Some(wish) if request.subresource.is_none() => {
                restrict_subject(wish).map_err(|why| ApiError::forbidden(request.info, request.name, &why))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a status says something new about the certificate.
fn says_more(new: &CertificateSigningRequest, old: &CertificateSigningRequest) -> bool {
    let status = |of: &CertificateSigningRequest| of.status.clone().unwrap_or_default();
    let (new, old) = (status(new), status(old));
    new.certificate != old.certificate
        || new.conditions.unwrap_or_default() != old.conditions.unwrap_or_default()
}

/// Whether nothing changes but what the garbage collector and those who store objects anew write.
fn only_owners_change(new: &ClusterTrustBundle, old: &ClusterTrustBundle) -> bool {
    let mut as_new = old.clone();
    let meta = &mut as_new.metadata;
    meta.owner_references.clone_from(&new.metadata.owner_references);
    meta.finalizers.clone_from(&new.metadata.finalizers);
    meta.managed_fields.clone_from(&new.metadata.managed_fields);
    meta.resource_version.clone_from(&new.metadata.resource_version);
    as_new == *new
}

/// Requires the right to do something for a signer; `what` it is in words.
async fn require(
    authorizer: &Union,
    request: &AdmissionRequest<'_>,
    verb: &str,
    signer: &str,
    what: &str,
) -> ApiResult<()> {
    if may(authorizer, request.user, verb, signer).await {
        return Ok(());
    }
    let why = format!("user not permitted to {what} signerName {signer:?}");
    Err(ApiError::forbidden(request.info, request.name, &why))
}

/// Whether somebody may do this for a signer, or for all signers of its domain.
async fn may(authorizer: &Union, user: &UserInfo, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    for name in [signer, &format!("{domain}/*")] {
        let attributes = Attributes {
            verb,
            is_resource: true,
            group: GROUP,
            resource: "signers".into(),
            name,
            ..Attributes::about_nothing(user)
        };
        if matches!(authorizer.authorize(&attributes).await, Decision::Allow(_)) {
            return true;
        }
    }
    false
}

fn restrict_subject(wish: &CertificateSigningRequest) -> Result<(), String> {
    if wish.spec.signer_name != CLIENT {
        return Ok(());
    }
    // Validation has refused what is no PEM.
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(&wish.spec.request.0) else {
        return Ok(());
    };
    let (_, parsed) = X509CertificationRequest::from_der(&pem.contents)
        .map_err(|error| format!("failed to parse CSR: {error}"))?;
    let subject = &parsed.certification_request_info.subject;
    let is_masters = subject
        .iter_organization()
        .any(|group| group.attr_value().data == MASTERS.as_bytes());
    if is_masters {
        return Err(format!(
            "use of {CLIENT} signer with {MASTERS} group is not allowed"
        ));
    }
    Ok(())
}
