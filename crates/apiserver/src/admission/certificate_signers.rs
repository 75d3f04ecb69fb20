//! CertificateApproval and CertificateSigning: who decides about a request, and who signs it, must have the right to do
//! so for its signer. CertificateSubjectRestriction: nobody gets a client certificate for `system:masters`.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use skiff_api::{Object, Subresource};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::Plugin;
use crate::auth::authorize::{Attributes, Authorizer, Decision, Union};
use crate::error::{ApiError, ApiResult};
use crate::registry::{AdmissionRequest, Operation, Registry};
use crate::user::{MASTERS, UserInfo};

const GROUP: &str = "certificates.k8s.io";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// Knows who may do what.
pub(super) struct CertificateSigners(pub(super) Arc<Union>);

#[async_trait]
impl Plugin for CertificateSigners {
    async fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        _registry: &Registry,
    ) -> ApiResult<()> {
        let Some(wish) = object.as_any().downcast_ref::<CertificateSigningRequest>() else {
            return Ok(());
        };
        let refuse = |why: String| Err(ApiError::forbidden(request.info, request.name, &why));
        if request.operation == Operation::Create {
            return restrict_subject(wish).or_else(refuse);
        }
        let Some(old) = request
            .old
            .and_then(|old| old.as_any().downcast_ref::<CertificateSigningRequest>())
        else {
            return Ok(());
        };
        let signer = &old.spec.signer_name;
        let verb = match request.subresource {
            Some(Subresource::Approval) => "approve",
            Some(Subresource::Status) if says_more(wish, old) => "sign",
            _ => return Ok(()),
        };
        if self.may(request.user, verb, signer).await {
            return Ok(());
        }
        refuse(format!(
            "user not permitted to {verb} requests with signerName {signer:?}"
        ))
    }
}

/// Whether a status says something new about the certificate.
fn says_more(new: &CertificateSigningRequest, old: &CertificateSigningRequest) -> bool {
    let status = |of: &CertificateSigningRequest| of.status.clone().unwrap_or_default();
    let (new, old) = (status(new), status(old));
    new.certificate != old.certificate
        || new.conditions.unwrap_or_default() != old.conditions.unwrap_or_default()
}

impl CertificateSigners {
    /// Whether somebody may do this for a signer, or for all signers of its domain.
    async fn may(&self, user: &UserInfo, verb: &str, signer: &str) -> bool {
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
            if matches!(self.0.authorize(&attributes).await, Decision::Allow(_)) {
                return true;
            }
        }
        false
    }
}

fn restrict_subject(wish: &CertificateSigningRequest) -> Result<(), String> {
    if wish.spec.signer_name != CLIENT {
        return Ok(());
    }
    // Validation, which comes after this, refuses what is no PEM.
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
