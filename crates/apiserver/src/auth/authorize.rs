//! May they: the question, those who answer it, and the wording of a refusal.

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusDetails};

use crate::error::ApiError;
use crate::http::request_info::RequestInfo;
use crate::user::{AUTHENTICATED, MASTERS, NODES, SERVICE_ACCOUNTS, UserInfo};

/// What somebody wants to do (`authorizer.Attributes`).
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a UserInfo,
    /// `get`, `list`, …; for paths that are no resources the method in lower case.
    pub verb: &'a str,
    /// Whether this is about a resource; if not, only `path` says what it is about.
    pub is_resource: bool,
    /// The API group.
    pub group: &'a str,
    /// The plural name, with the subresource after a slash.
    pub resource: String,
    /// Empty for everything that is in no namespace or in all.
    pub namespace: &'a str,
    /// Empty for collections.
    pub name: &'a str,
    /// The URL's path.
    pub path: &'a str,
}

impl<'a> Attributes<'a> {
    /// What a request wants to do.
    pub fn of(user: &'a UserInfo, info: &'a RequestInfo) -> Self {
        Self {
            user,
            verb: info.verb,
            is_resource: info.is_resource,
            group: &info.group,
            resource: info.resource_path(),
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
        }
    }
}

/// An authorizer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, whatever the others say.
    Allow,
    /// No, whatever the others say.
    Deny(String),
    /// Not by me; the reason, if any, is told when nobody else allows it.
    NoOpinion(String),
}

/// Somebody who answers.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// Whether this may be done.
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}

/// Asks one authorizer after the other until one has an opinion.
pub struct Union(pub Vec<Box<dyn Authorizer>>);

#[async_trait]
impl Authorizer for Union {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let mut reasons = Vec::new();
        for authorizer in &self.0 {
            match authorizer.authorize(attributes).await {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decision => return decision,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }
}

/// `system:masters` may do everything.
pub struct Masters;

#[async_trait]
impl Authorizer for Masters {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        allow_if(attributes.user.in_group(MASTERS))
    }
}

/// Health and version for everybody; discovery and the documents for everybody with a credential; the issuer's keys for
/// service accounts. These are upstream's roles `system:public-info-viewer`, `system:discovery` and
/// `system:service-account-issuer-discovery`, as their default bindings grant them.
pub struct PublicPaths;

const HEALTH: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];
const DISCOVERY: &[&str] = &["/api", "/api/", "/apis", "/apis/", "/openapi", "/openapi/"];
const ISSUER: &[&str] = &[
    "/.well-known/openid-configuration",
    "/.well-known/openid-configuration/",
    "/openid/v1/jwks",
    "/openid/v1/jwks/",
];

#[async_trait]
impl Authorizer for PublicPaths {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.is_resource || attributes.verb != "get" {
            return Decision::NoOpinion(String::new());
        }
        let (path, user) = (attributes.path, attributes.user);
        let discovery = DISCOVERY.contains(&path)
            || ["/api/", "/apis/", "/openapi/"]
                .iter()
                .any(|prefix| path.starts_with(prefix));
        allow_if(
            HEALTH.contains(&path)
                || (discovery && user.in_group(AUTHENTICATED))
                || (ISSUER.contains(&path) && user.in_group(SERVICE_ACCOUNTS)),
        )
    }
}

/// The cluster's own components may do everything: they are known by their certificates, which only the cluster's
/// authority gives out. The roles that narrow this down are objects, which come with RBAC.
pub struct Components;

const COMPONENTS: &[&str] = &[
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "system:kube-proxy",
];

#[async_trait]
impl Authorizer for Components {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let user = attributes.user;
        let node = user.name.starts_with("system:node:") && user.in_group(NODES);
        allow_if(node || COMPONENTS.contains(&user.name.as_str()))
    }
}

fn allow_if(allowed: bool) -> Decision {
    if allowed {
        Decision::Allow
    } else {
        Decision::NoOpinion(String::new())
    }
}

/// The refusal, in upstream's words.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> ApiError {
    let Attributes {
        user,
        verb,
        group,
        resource,
        namespace,
        name,
        path,
        ..
    } = attributes;
    let user = format!("User {:?}", user.name);
    let mut why = if !attributes.is_resource {
        format!("{user} cannot {verb} path {path:?}")
    } else if namespace.is_empty() {
        format!("{user} cannot {verb} resource {resource:?} in API group {group:?} at the cluster scope")
    } else {
        format!(
            "{user} cannot {verb} resource {resource:?} in API group {group:?} in the namespace {namespace:?}"
        )
    };
    if !reason.is_empty() {
        why = format!("{why}: {reason}");
    }
    if !attributes.is_resource {
        return ApiError::forbidden_path(format!("forbidden: {why}"));
    }
    let plural = resource.split('/').next().unwrap_or_default();
    let qualified = if group.is_empty() {
        plural.to_string()
    } else {
        format!("{plural}.{group}")
    };
    let message = if name.is_empty() {
        format!("{qualified} is forbidden: {why}")
    } else {
        format!("{qualified} {name:?} is forbidden: {why}")
    };
    let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
    ApiError(Box::new(Status {
        code: Some(403),
        reason: Some("Forbidden".into()),
        message: Some(message),
        status: Some("Failure".into()),
        details: Some(StatusDetails {
            group: some(group),
            kind: some(plural),
            name: some(name),
            ..StatusDetails::default()
        }),
        ..Status::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes<'a>(user: &'a UserInfo, verb: &'a str, path: &'a str) -> Attributes<'a> {
        Attributes {
            user,
            verb,
            is_resource: false,
            group: "",
            resource: String::new(),
            namespace: "",
            name: "",
            path,
        }
    }

    #[tokio::test]
    async fn each_user_may_do_what_is_theirs() {
        let union = Union(vec![
            Box::new(Masters),
            Box::new(PublicPaths),
            Box::new(Components),
        ]);
        let anonymous = UserInfo::anonymous();
        let account = UserInfo::service_account("default", "default", "1");
        let admin = UserInfo::master("admin");
        let node = UserInfo::new("system:node:a", [NODES]);
        let false_node = UserInfo::new("system:node:a", ["others"]);
        let cases = [
            (&anonymous, "/healthz", true),
            (&anonymous, "/version", true),
            (&anonymous, "/api", false),
            (&anonymous, "/metrics", false),
            (&account, "/api", true),
            (&account, "/apis/apps/v1", true),
            (&account, "/openapi/v3/api/v1", true),
            (&account, "/openid/v1/jwks", true),
            (&account, "/metrics", false),
            (&admin, "/metrics", true),
            (&node, "/metrics", true),
            (&false_node, "/metrics", false),
        ];
        for (user, path, allowed) in cases {
            let decision = union.authorize(&attributes(user, "get", path)).await;
            assert_eq!(decision == Decision::Allow, allowed, "{} {path}", user.name);
        }
    }

    #[test]
    fn refusals_read_as_upstream_writes_them() {
        let account = UserInfo::service_account("default", "default", "1");
        let listing = Attributes {
            is_resource: true,
            resource: "pods".into(),
            namespace: "default",
            ..attributes(&account, "list", "")
        };
        let cases = [
            (
                listing.clone(),
                r#"pods is forbidden: User "system:serviceaccount:default:default" cannot list resource "pods" in API group "" in the namespace "default""#,
            ),
            (
                Attributes {
                    namespace: "",
                    verb: "get",
                    resource: "deployments/scale".into(),
                    group: "apps",
                    name: "d",
                    ..listing
                },
                r#"deployments.apps "d" is forbidden: User "system:serviceaccount:default:default" cannot get resource "deployments/scale" in API group "apps" at the cluster scope"#,
            ),
            (
                attributes(&account, "get", "/metrics"),
                r#"forbidden: User "system:serviceaccount:default:default" cannot get path "/metrics""#,
            ),
        ];
        for (attributes, expected) in cases {
            assert_eq!(forbidden(&attributes, "").to_string(), expected);
        }
    }
}
