//! Who asks the kubelet's server, and whether they may: the API server knows, and is asked.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::shared::Shared;

/// The group of everybody who is known.
const AUTHENTICATED: &str = "system:authenticated";

/// Whom the connection's certificate names; the client CA has signed it.
#[derive(Clone, Debug)]
pub(super) struct Peer(Option<Arc<User>>);

/// Somebody who asks, as access reviews describe users.
#[derive(Clone, Debug, Default, PartialEq)]
struct User {
    name: String,
    uid: Value,
    groups: Vec<Value>,
    extra: Value,
}

impl Peer {
    /// The common name in the groups of its organizations.
    pub(super) fn of(certificates: Option<&[CertificateDer<'_>]>) -> Self {
        let user = certificates.and_then(<[_]>::first).and_then(|certificate| {
            let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
            let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
            let groups = parsed.subject().iter_organization();
            let mut groups: Vec<Value> = groups
                .filter_map(|group| Some(group.as_str().ok()?.into()))
                .collect();
            groups.push(AUTHENTICATED.into());
            Some(Arc::new(User {
                name: name.to_owned(),
                groups,
                ..User::default()
            }))
        });
        Self(user)
    }
}

/// Lets through who may ask this.
pub(super) async fn permit(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().and_then(|peer| peer.0.clone());
    let token = bearer(request.headers()).map(str::to_owned);
    let Some(user) = identify(&shared, peer, token).await else {
        return (StatusCode::UNAUTHORIZED, "Unauthorized").into_response();
    };
    let verb = verb(request.method());
    let subresources = subresources(request.uri().path());
    for subresource in subresources {
        let asked = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user.name,
                "uid": user.uid,
                "groups": user.groups,
                "extra": user.extra,
                "resourceAttributes": {
                    "verb": verb,
                    "version": "v1",
                    "resource": "nodes",
                    "subresource": subresource,
                    "name": shared.node_name,
                },
            },
        });
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        match review(&shared, path, &asked).await {
            Ok(answer) if answer.pointer("/status/allowed") == Some(&Value::Bool(true)) => {
                return next.run(request).await;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, user = user.name, "an access review failed");
                let message = format!(
                    "Authorization error (user={}, verb={verb}, resource=nodes, subresource={subresource})",
                    user.name
                );
                return (StatusCode::INTERNAL_SERVER_ERROR, message).into_response();
            }
        }
    }
    let message = format!(
        "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n",
        user.name,
        subresources.join(" ")
    );
    (StatusCode::FORBIDDEN, message).into_response()
}

/// Who asks: whom the certificate names, else whose token it is.
async fn identify(shared: &Shared, peer: Option<Arc<User>>, token: Option<String>) -> Option<Arc<User>> {
    if peer.is_some() {
        return peer;
    }
    let asked = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": token? },
    });
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let answer = review(shared, path, &asked).await;
    let answer = answer.inspect_err(|error| tracing::warn!(%error, "a token review failed"));
    user_of(&answer.ok()?).map(Arc::new)
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Whom a token review names.
fn user_of(review: &Value) -> Option<User> {
    let status = review.get("status")?;
    if status.get("authenticated") != Some(&Value::Bool(true)) {
        return None;
    }
    let user = status.get("user")?;
    let field = |name: &str| user.get(name).cloned().unwrap_or_default();
    Some(User {
        name: user.get("username")?.as_str()?.to_owned(),
        uid: field("uid"),
        groups: field("groups").as_array().cloned().unwrap_or_default(),
        extra: field("extra"),
    })
}

async fn review(shared: &Shared, path: &str, asked: &Value) -> Result<Value, kube::Error> {
    let request = axum::http::Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(asked.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    shared.client.request(request).await
}

/// The API's verb for a method; other methods have none, which only who may do everything is allowed.
fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// What of a node a path is about. One of several is enough.
fn subresources(path: &str) -> &'static [&'static str] {
    match path.split('/').nth(1).unwrap_or_default() {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_about_a_part_of_a_node() {
        let cases: [(&str, &[&str]); 8] = [
            ("/metrics/cadvisor", &["metrics"]),
            ("/stats/summary", &["stats"]),
            ("/logs/", &["log"]),
            ("/pods", &["pods", "proxy"]),
            ("/healthz/ping", &["healthz", "proxy"]),
            ("/configz", &["configz", "proxy"]),
            ("/exec/ns/p/c", &["proxy"]),
            ("/metricsandmore", &["proxy"]),
        ];
        for (path, expected) in cases {
            assert_eq!(subresources(path), expected, "{path}");
        }
    }

    #[test]
    fn a_token_stands_behind_its_scheme() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of("Bearer abc"), Some("abc".into()));
        assert_eq!(of("bearer  abc"), Some("abc".into()));
        for wrong in ["Basic abc", "Bearer", "Bearer ", "abc"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_a_token_that_is_good_names_somebody() {
        let review = |authenticated: bool| {
            json!({ "status": { "authenticated": authenticated, "user": {
                "username": "u", "uid": "1", "groups": ["g"], "extra": { "a": ["b"] } } } })
        };
        let user = user_of(&review(true)).unwrap();
        assert_eq!((user.name.as_str(), user.groups), ("u", vec!["g".into()]));
        assert_eq!((user.uid, user.extra), ("1".into(), json!({ "a": ["b"] })));
        assert_eq!(user_of(&review(false)), None);
        assert_eq!(user_of(&json!({})), None);
    }
}
