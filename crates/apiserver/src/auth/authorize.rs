//! May they: the question, those who answer it, and the wording of a refusal.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::PolicyRule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusDetails};

use crate::error::ApiError;
use crate::http::request_info::RequestInfo;
use crate::user::{MASTERS, UserInfo};

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
    /// Which objects of a collection, as the query says it.
    pub field_selector: &'a str,
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
            field_selector: &info.field_selector,
        }
    }

    /// Somebody, who wants nothing yet.
    pub(crate) fn about_nothing(user: &'a UserInfo) -> Self {
        Self {
            user,
            verb: "",
            is_resource: false,
            group: "",
            resource: String::new(),
            namespace: "",
            name: "",
            path: "",
            field_selector: "",
        }
    }
}

/// An authorizer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, whatever the others say; and why, where a review would tell.
    Allow(Option<Arc<str>>),
    /// No, whatever the others say.
    Deny(String),
    /// Not by me; the reason, if any, is told when nobody else allows it.
    NoOpinion(String),
}

/// What somebody may do, as far as an authorizer can tell it beforehand.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Rules that hold for them.
    pub rules: Vec<PolicyRule>,
    /// What could not be found out.
    pub errors: Vec<String>,
    /// Whether there is more than the rules say.
    pub incomplete: bool,
}

/// Somebody who answers.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// Whether this may be done.
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision;

    /// What a user may do in a namespace, or outside of all.
    fn rules_for(&self, _user: &UserInfo, _namespace: &str) -> Held {
        Held::default()
    }
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

    fn rules_for(&self, user: &UserInfo, namespace: &str) -> Held {
        let mut all = Held::default();
        for authorizer in &self.0 {
            let held = authorizer.rules_for(user, namespace);
            all.rules.extend(held.rules);
            all.errors.extend(held.errors);
            all.incomplete |= held.incomplete;
        }
        all
    }
}

/// `system:masters` may do everything.
pub struct Masters;

#[async_trait]
impl Authorizer for Masters {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.in_group(MASTERS) {
            Decision::Allow(None)
        } else {
            Decision::NoOpinion(String::new())
        }
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
            path,
            ..Attributes::about_nothing(user)
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
