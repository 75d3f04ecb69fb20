//! The roles and bindings that every cluster has, as objects.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

const POLICY: &str = include_str!("policy.txt");
const GROUP: &str = "rbac.authorization.k8s.io";
/// The role of Skiff's own controllers and scheduler, which share one identity: all that upstream gives to the
/// controllers' service accounts and to the scheduler.
const CONTROLLERS: &str = "skiff:controllers";
const CONTROLLERS_USER: &str = "system:kube-controller-manager";
const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub(crate) cluster_roles: Vec<ClusterRole>,
    pub(crate) roles: Vec<Role>,
    pub(crate) cluster_role_bindings: Vec<ClusterRoleBinding>,
    pub(crate) role_bindings: Vec<RoleBinding>,
}

fn meta(namespace: &str, name: &str) -> ObjectMeta {
    let pair = |key: &str, value: &str| Some(BTreeMap::from([(key.to_string(), value.to_string())]));
    ObjectMeta {
        name: Some(name.into()),
        namespace: (!namespace.is_empty()).then(|| namespace.to_string()),
        labels: pair("kubernetes.io/bootstrapping", "rbac-defaults"),
        annotations: pair(super::bootstrap::AUTOUPDATE, "true"),
        ..ObjectMeta::default()
    }
}

fn split(full: &str) -> (&str, &str) {
    full.split_once('/').unwrap_or(("", full))
}

fn sorted<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut texts: Vec<String> = texts.into_iter().map(String::from).collect();
    texts.sort();
    texts
}

fn verbs(text: &str) -> Vec<String> {
    sorted(text.split(',').flat_map(|verb| match verb {
        "read" => READ.to_vec(),
        "write" => WRITE.to_vec(),
        verb => vec![verb],
    }))
}

fn rule(line: &str) -> PolicyRule {
    let words: Vec<&str> = line.split_whitespace().collect();
    let list = |text: &str| {
        Some(sorted(
            text.split(',').map(|part| if part == "core" { "" } else { part }),
        ))
    };
    match words.as_slice() {
        ["record"] => rule("create,patch,update core,events.k8s.io events"),
        [its, groups, resources, rest @ ..] if !groups.starts_with('/') => PolicyRule {
            verbs: verbs(its),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: rest.first().and_then(|names| list(names)),
            ..PolicyRule::default()
        },
        [its, urls @ ..] => PolicyRule {
            verbs: verbs(its),
            non_resource_urls: Some(sorted(urls.iter().copied())),
            ..PolicyRule::default()
        },
        [] => PolicyRule::default(),
    }
}

fn subject(text: &str) -> Subject {
    let (kind, name) = text.split_once(':').unwrap_or(("user", text));
    let plain = |kind: &str| Subject {
        api_group: Some(GROUP.into()),
        kind: kind.into(),
        name: name.into(),
        ..Subject::default()
    };
    match kind {
        "group" => plain("Group"),
        "account" => {
            let (namespace, name) = split(name);
            Subject {
                kind: "ServiceAccount".into(),
                name: name.into(),
                namespace: Some(namespace.into()),
                ..Subject::default()
            }
        }
        _ => plain("User"),
    }
}

impl Policy {
    /// Upstream's policy and what Skiff adds to it.
    pub(crate) fn builtin() -> Self {
        let mut policy = Self::default();
        for line in POLICY.lines() {
            let (word, rest) = line
                .trim_start()
                .split_once(' ')
                .unwrap_or((line.trim_start(), ""));
            match word {
                "" | "#" => {}
                _ if line.starts_with('#') => {}
                _ if line.starts_with(' ') => policy.add_to_role(word, rest, line),
                "role" => policy.add_role(rest.trim()),
                _ => policy.add_binding(rest),
            }
        }
        policy.add_controllers();
        policy
    }

    fn add_role(&mut self, full: &str) {
        match split(full) {
            ("", name) => self.cluster_roles.push(ClusterRole {
                metadata: meta("", name),
                ..ClusterRole::default()
            }),
            (namespace, name) => self.roles.push(Role {
                metadata: meta(namespace, name),
                ..Role::default()
            }),
        }
    }

    /// Adds a line to the role that was begun last: those in namespaces come last.
    fn add_to_role(&mut self, word: &str, rest: &str, line: &str) {
        if let Some(role) = self.roles.last_mut() {
            role.rules.get_or_insert_default().push(rule(line));
            return;
        }
        let Some(role) = self.cluster_roles.last_mut() else {
            return;
        };
        let marked = BTreeMap::from([(rest.to_string(), "true".to_string())]);
        match word {
            "label" => role.metadata.labels.get_or_insert_default().extend(marked),
            "gathers" => {
                role.aggregation_rule = Some(AggregationRule {
                    cluster_role_selectors: Some(vec![LabelSelector {
                        match_labels: Some(marked),
                        ..LabelSelector::default()
                    }]),
                });
            }
            _ => role.rules.get_or_insert_default().push(rule(line)),
        }
    }

    fn add_binding(&mut self, rest: &str) {
        let mut words = rest.split_whitespace();
        let names: Vec<&str> = words.by_ref().take_while(|word| *word != "to").collect();
        let (Some(first), Some(last)) = (names.first(), names.last()) else {
            return;
        };
        let (namespace, name) = split(first);
        let (of, role) = split(last);
        let subjects: Vec<Subject> = words.map(subject).collect();
        let subjects = (!subjects.is_empty()).then_some(subjects);
        let role_ref = RoleRef {
            api_group: Some(GROUP.into()),
            kind: if of.is_empty() { "ClusterRole" } else { "Role" }.into(),
            name: role.into(),
        };
        if namespace.is_empty() {
            self.cluster_role_bindings.push(ClusterRoleBinding {
                metadata: meta("", name),
                role_ref,
                subjects,
            });
        } else {
            self.role_bindings.push(RoleBinding {
                metadata: meta(namespace, name),
                role_ref,
                subjects,
            });
        }
    }

    /// Binds each controller's role to its service account, and all of them together to Skiff's own controllers.
    fn add_controllers(&mut self) {
        let mut all = Vec::new();
        let mut bindings = Vec::new();
        for role in &self.cluster_roles {
            let name = role.metadata.name.as_deref().unwrap_or_default();
            let controller = name.strip_prefix("system:controller:");
            if controller.is_some() || name == "system:kube-scheduler" {
                all.extend(role.rules.iter().flatten().cloned());
            }
            if let Some(controller) = controller {
                bindings.push(format!("{name} to account:kube-system/{controller}"));
            }
        }
        for binding in bindings {
            self.add_binding(&binding);
        }
        // The rules that allow most come first, so that most requests are decided by the first.
        all.sort_by_key(|rule| {
            rule.resources
                .as_ref()
                .is_none_or(|names| names.iter().all(|name| name != "*"))
        });
        let mut seen = Vec::new();
        all.retain(|rule| {
            let new = !seen.contains(rule);
            if new {
                seen.push(rule.clone());
            }
            new
        });
        self.cluster_roles.push(ClusterRole {
            metadata: meta("", CONTROLLERS),
            rules: Some(all),
            ..ClusterRole::default()
        });
        self.add_binding(&format!("{CONTROLLERS} to user:{CONTROLLERS_USER}"));
    }

    /// The rules of a cluster role.
    pub(crate) fn rules_of(&self, name: &str) -> Vec<PolicyRule> {
        self.cluster_roles
            .iter()
            .find(|role| role.metadata.name.as_deref() == Some(name))
            .and_then(|role| role.rules.clone())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_api::field::Errors;
    use skiff_api::kind::Kind;
    use std::collections::BTreeSet;

    #[test]
    fn every_object_is_valid_and_every_binding_has_its_role() {
        let policy = Policy::builtin();
        let mut errors = Errors::new();
        let mut roles = BTreeSet::new();
        let key = |meta: &ObjectMeta| {
            (
                meta.namespace.clone().unwrap_or_default(),
                meta.name.clone().unwrap(),
            )
        };
        for role in &policy.cluster_roles {
            role.validate(&mut errors);
            assert!(
                roles.insert(key(&role.metadata)),
                "{:?} is there twice",
                role.metadata.name
            );
            let gathers = role.aggregation_rule.is_some();
            assert!(
                gathers || role.rules.is_some(),
                "{:?} has no rules",
                role.metadata.name
            );
        }
        for role in &policy.roles {
            role.validate(&mut errors);
            assert!(roles.insert(key(&role.metadata)));
        }
        for binding in &policy.cluster_role_bindings {
            binding.validate(&mut errors);
            assert!(
                roles.contains(&(String::new(), binding.role_ref.name.clone())),
                "{binding:?}"
            );
        }
        for binding in &policy.role_bindings {
            binding.validate(&mut errors);
            let namespace = binding.metadata.namespace.clone().unwrap();
            assert!(
                roles.contains(&(namespace, binding.role_ref.name.clone())),
                "{binding:?}"
            );
        }
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [""; 0]
        );
    }

    #[test]
    fn the_text_is_read_as_it_says() {
        let policy = Policy::builtin();
        let admin = &policy.rules_of("cluster-admin");
        assert_eq!(admin[0].resources, Some(vec!["*".into()]));
        assert_eq!(admin[1].non_resource_urls, Some(vec!["*".into()]));
        let rbac = policy.rules_of("system:aggregate-to-admin").pop().unwrap();
        assert_eq!(rbac.verbs.len(), 8);
        let events = policy.rules_of("system:kube-scheduler").remove(0);
        assert_eq!(events.api_groups, Some(vec!["".into(), "events.k8s.io".into()]));
        let edit = policy
            .cluster_roles
            .iter()
            .find(|role| role.metadata.name.as_deref() == Some("edit"));
        let labels = edit.unwrap().metadata.labels.clone().unwrap();
        assert_eq!(labels["rbac.authorization.k8s.io/aggregate-to-admin"], "true");
    }
}
