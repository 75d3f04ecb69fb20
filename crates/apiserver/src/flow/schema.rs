//! A flow schema: whether a request belongs to it, and which flow of it the request is part of.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, NonResourcePolicyRule, PolicyRulesWithSubjects, ResourcePolicyRule, Subject,
};

use super::counters::Counters;
use crate::auth::rbac::rules::{ALL, has_or_all, url_covers};
use crate::http::request_info::RequestInfo;
use crate::user::UserInfo;

/// What tells the flows of a schema apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Nothing,
    User,
    Namespace,
}

#[derive(Debug)]
pub(super) struct Schema {
    pub(super) name: Arc<str>,
    pub(super) uid: Arc<str>,
    pub(super) precedence: i32,
    pub(super) level: Arc<str>,
    pub(super) counters: Arc<Counters>,
    by: By,
    rules: Vec<PolicyRulesWithSubjects>,
}

impl Schema {
    pub(super) fn of(object: FlowSchema, counters: Arc<Counters>) -> Self {
        let spec = object.spec;
        Self {
            name: object.metadata.name.unwrap_or_default().into(),
            uid: object.metadata.uid.unwrap_or_default().into(),
            precedence: spec.matching_precedence.unwrap_or_default(),
            level: spec.priority_level_configuration.name.into(),
            counters,
            by: match spec
                .distinguisher_method
                .as_ref()
                .map(|method| method.type_.as_str())
            {
                Some("ByUser") => By::User,
                Some("ByNamespace") => By::Namespace,
                _ => By::Nothing,
            },
            rules: spec.rules.unwrap_or_default(),
        }
    }

    /// Whether a request belongs to the schema.
    pub(super) fn matches(&self, info: &RequestInfo, user: &UserInfo) -> bool {
        self.rules.iter().any(|rule| {
            rule.subjects.iter().any(|subject| is(subject, user))
                && if info.is_resource {
                    let rules = rule.resource_rules.as_deref().unwrap_or_default();
                    rules.iter().any(|rule| is_about(rule, info))
                } else {
                    let rules = rule.non_resource_rules.as_deref().unwrap_or_default();
                    rules.iter().any(|rule| is_about_path(rule, info))
                }
        })
    }

    /// A number for the flow that a request is part of.
    pub(super) fn flow(&self, info: &RequestInfo, user: &UserInfo) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        self.distinguisher(info, user).hash(&mut hasher);
        hasher.finish()
    }

    /// What tells the flow of a request from the others.
    pub(super) fn distinguisher<'a>(&self, info: &'a RequestInfo, user: &'a UserInfo) -> &'a str {
        match self.by {
            By::Nothing => "",
            By::User => &user.name,
            By::Namespace => &info.namespace,
        }
    }
}

fn is(subject: &Subject, user: &UserInfo) -> bool {
    if let Some(group) = &subject.group {
        return group.name == ALL || user.in_group(&group.name);
    }
    if let Some(named) = &subject.user {
        return named.name == ALL || named.name == user.name;
    }
    let account = subject.service_account.as_ref().zip(user.as_service_account());
    account.is_some_and(|(wanted, (namespace, name))| {
        wanted.namespace == namespace && (wanted.name == ALL || wanted.name == name)
    })
}

fn is_about(rule: &ResourcePolicyRule, info: &RequestInfo) -> bool {
    let is_resource = |wanted: &String| match wanted.split_once('/') {
        _ if wanted == ALL => true,
        Some((resource, subresource)) => resource == info.resource && subresource == info.subresource,
        None => *wanted == info.resource && info.subresource.is_empty(),
    };
    has_or_all(&rule.verbs, info.verb)
        && has_or_all(&rule.api_groups, &info.group)
        && rule.resources.iter().any(is_resource)
        && if info.namespace.is_empty() {
            rule.cluster_scope == Some(true)
        } else {
            has_or_all(rule.namespaces.as_deref().unwrap_or_default(), &info.namespace)
        }
}

fn is_about_path(rule: &NonResourcePolicyRule, info: &RequestInfo) -> bool {
    has_or_all(&rule.verbs, info.verb)
        && rule
            .non_resource_urls
            .iter()
            .any(|url| url_covers(url, &info.path))
}
