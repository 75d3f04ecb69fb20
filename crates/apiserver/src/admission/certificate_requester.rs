//! Who asks for a certificate: the server writes the client into the request, whatever the request says. (Upstream does
//! this in the kind's own strategy, which sees the client there.)

use async_trait::async_trait;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use skiff_api::Object;

use super::Plugin;
use crate::error::ApiResult;
use crate::registry::{AdmissionRequest, Operation, Registry};
use crate::user::UserInfo;

pub(super) struct CertificateRequester;

#[async_trait]
impl Plugin for CertificateRequester {
    async fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        _registry: &Registry,
    ) -> ApiResult<()> {
        if request.operation == Operation::Create
            && let Some(wish) = object.as_any_mut().downcast_mut::<CertificateSigningRequest>()
        {
            sign_in(wish, request.user);
        }
        Ok(())
    }
}

fn sign_in(wish: &mut CertificateSigningRequest, user: &UserInfo) {
    let spec = &mut wish.spec;
    let given = |text: &str| (!text.is_empty()).then(|| text.to_string());
    spec.username = given(&user.name);
    spec.uid = given(&user.uid);
    spec.groups = (!user.groups.is_empty()).then(|| user.groups.clone());
    spec.extra = (!user.extra.is_empty()).then(|| user.extra.clone().into_iter().collect());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_asks_in_anothers_name() {
        let mut wish = CertificateSigningRequest::default();
        wish.spec.username = Some("system:node:other".into());
        wish.spec.uid = Some("1".into());
        sign_in(&mut wish, &UserInfo::master("me"));
        assert_eq!(wish.spec.username.as_deref(), Some("me"));
        assert_eq!(wish.spec.uid, None);
        assert_eq!(
            wish.spec.groups,
            Some(vec!["system:masters".to_string(), "system:authenticated".into()])
        );
    }
}
