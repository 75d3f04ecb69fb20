//! `serviceaccounts/token`: a new token for a service account, bound to what the request names.

use k8s_openapi::Metadata;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestStatus};
use k8s_openapi::api::core::v1::{Node, Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use skiff_api::{Errors, KindInfo, Path};
use uuid::Uuid;

use crate::admission::node_restriction::check_token_request;
use crate::auth::tokens::{Claims, KubernetesClaim, Reference};
use crate::error::{ApiError, ApiResult};
use crate::http::Response;
use crate::http::resources::{Call, answer};
use crate::objects::{Readable, find};
use crate::user::SERVICE_ACCOUNT_PREFIX;

const SHORTEST: i64 = 10 * 60;
const LONGEST: i64 = 1 << 32;
const USUAL: i64 = 60 * 60;
/// The lifetime that kubelets ask for; such a token is valid for longer, for programs that never read it again, and
/// warns after this.
const WARN_ONLY: i64 = 60 * 60 + 7;
/// How long it is valid then: a year.
const EXTENDED: i64 = 365 * 24 * 60 * 60;

/// Signs a token as a `TokenRequest` asks.
pub(crate) async fn handle(mut call: Call) -> ApiResult<Response> {
    let mut options = call.write_options("CreateOptions")?;
    let mut request: TokenRequest = call.read_posted(&mut options).await?;
    let (namespace, name) = (call.info.namespace.as_str(), call.info.path_name());
    let registry = &call.shared.registry;
    let authorizer = call.shared.authorizer.as_ref();
    check_token_request(&call.user, namespace, name, &request, registry, authorizer).await?;
    let tokens = &call.shared.tokens;
    let account: ServiceAccount = find(registry, namespace, name)
        .await?
        .ok_or_else(|| ApiError::not_found(&KindInfo::of::<ServiceAccount>("serviceaccount"), name))?;
    if request
        .metadata
        .name
        .as_deref()
        .is_some_and(|its| !its.is_empty() && its != name)
    {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({name})",
            request.metadata.name.as_deref().unwrap_or_default()
        )));
    }
    let mut spec = request.spec.clone().unwrap_or_default();
    let seconds = spec.expiration_seconds.unwrap_or(USUAL);
    spec.expiration_seconds = Some(seconds);
    if spec.audiences.iter().flatten().all(String::is_empty) {
        spec.audiences = Some(tokens.audiences().to_vec());
    }
    let audiences = spec.audiences.clone().unwrap_or_default();
    validate(&request, seconds)?;

    let mut claim = KubernetesClaim {
        namespace: namespace.to_string(),
        serviceaccount: reference(&account.metadata),
        ..KubernetesClaim::default()
    };
    if let Some(bound) = &spec.bound_object_ref {
        let (kind, name) = (
            bound.kind.as_deref().unwrap_or_default(),
            bound.name.as_deref().unwrap_or_default(),
        );
        let uid = bound.uid.as_deref();
        match kind {
            "Pod" => {
                let pod: Pod = bound_object(&call, namespace, name, uid).await?;
                let spec = pod.spec.unwrap_or_default();
                let account_of_pod = spec.service_account_name.unwrap_or_default();
                if account.metadata.name.as_deref() != Some(&account_of_pod) {
                    return Err(ApiError::bad_request(format!(
                        "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                        account.metadata.name.as_deref().unwrap_or_default()
                    )));
                }
                claim.pod = Some(reference(&pod.metadata));
                if let Some(node) = spec.node_name {
                    claim.node = find::<Node>(registry, "", &node)
                        .await?
                        .map(|node| reference(&node.metadata));
                }
            }
            "Secret" => {
                let secret: Secret = bound_object(&call, namespace, name, uid).await?;
                claim.secret = Some(reference(&secret.metadata));
            }
            "Node" => {
                let node: Node = bound_object(&call, "", name, uid).await?;
                claim.node = Some(reference(&node.metadata));
            }
            other => {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for object of type {other}"
                )));
            }
        }
    }

    let now = jiff::Timestamp::now().as_second();
    let own_audience = audiences
        .iter()
        .any(|audience| tokens.audiences().contains(audience));
    let extended = seconds == WARN_ONLY && claim.pod.is_some() && own_audience;
    if extended {
        claim.warnafter = Some(now + seconds);
    }
    let claims = Claims {
        aud: audiences,
        exp: now + if extended { EXTENDED } else { seconds },
        iat: now,
        nbf: now,
        iss: tokens.issuer().to_string(),
        jti: Uuid::new_v4().to_string(),
        sub: format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"),
        kubernetes: claim,
    };
    request.spec = Some(spec);
    request.metadata = ObjectMeta {
        name: account.metadata.name.clone(),
        namespace: Some(namespace.to_string()),
        creation_timestamp: Some(Time(super::binding::now())),
        ..ObjectMeta::default()
    };
    request.status = Some(TokenRequestStatus {
        token: Some(tokens.sign(&claims).map_err(ApiError::internal)?),
        expiration_timestamp: Some(Time(
            jiff::Timestamp::from_second(now + seconds).map_err(ApiError::internal)?,
        )),
    });
    answer(&call, 201, &request)
}

fn validate(request: &TokenRequest, seconds: i64) -> ApiResult<()> {
    let mut errors = Errors::new();
    let path = Path::new("spec.expirationSeconds");
    if seconds < SHORTEST {
        errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > LONGEST {
        errors.invalid(
            &path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    if errors.is_empty() {
        return Ok(());
    }
    let name = request.metadata.name.as_deref().unwrap_or_default();
    Err(ApiError::invalid(
        &KindInfo::of::<TokenRequest>("tokenrequest"),
        name,
        &errors,
    ))
}

async fn bound_object<K>(call: &Call, namespace: &str, name: &str, uid: Option<&str>) -> ApiResult<K>
where
    K: Readable + Metadata<Ty = ObjectMeta>,
{
    let info = KindInfo {
        group: K::GROUP.into(),
        plural: K::URL_PATH_SEGMENT.into(),
        ..KindInfo::of::<Pod>("")
    };
    let object: K = find(&call.shared.registry, namespace, name)
        .await?
        .ok_or_else(|| ApiError::not_found(&info, name))?;
    let its = object.metadata().uid.as_deref().unwrap_or_default();
    match uid {
        Some(uid) if !uid.is_empty() && uid != its => Err(ApiError::conflict(
            &info,
            name,
            &format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        )),
        _ => Ok(object),
    }
}

fn reference(meta: &ObjectMeta) -> Reference {
    Reference {
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_has_bounds() {
        let error = validate(&TokenRequest::default(), 599).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"#
        );
        assert!(validate(&TokenRequest::default(), 600).is_ok());
        assert!(validate(&TokenRequest::default(), LONGEST + 1).is_err());
    }
}
