//! Who has which roles: the bindings by subject, so that a decision looks only at the caller's own.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};

use crate::user::{SERVICE_ACCOUNT_PREFIX, UserInfo};

/// A role that a binding gives to a subject.
#[derive(Clone, Debug)]
struct Grant {
    /// The binding's name.
    binding: Arc<str>,
    /// Whether it is a cluster role, and its name.
    role: (bool, Arc<str>),
    /// What a review tells of it.
    reason: Arc<str>,
}

/// The grants of one scope, by subject.
#[derive(Debug, Default)]
struct Grants {
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
    /// The subjects of each binding: whether a group, and the name.
    bindings: HashMap<Arc<str>, Vec<(bool, String)>>,
}

impl Grants {
    fn remove(&mut self, binding: &str) {
        for (group, name) in self.bindings.remove(binding).unwrap_or_default() {
            let subjects = if group { &mut self.groups } else { &mut self.users };
            if let Some(grants) = subjects.get_mut(&name) {
                grants.retain(|grant| grant.binding.as_ref() != binding);
                if grants.is_empty() {
                    subjects.remove(&name);
                }
            }
        }
    }

    fn of<'a>(&'a self, user: &'a UserInfo) -> impl Iterator<Item = &'a Grant> {
        let groups = user.groups.iter().filter_map(|group| self.groups.get(group));
        groups.chain(self.users.get(&user.name)).flatten()
    }
}

type Rules = Arc<Vec<PolicyRule>>;

/// All roles and bindings. The namespace of what is in none is empty.
#[derive(Debug, Default)]
pub(super) struct Index {
    grants: HashMap<String, Grants>,
    /// By namespace and name.
    roles: HashMap<String, HashMap<String, Rules>>,
}

/// The role that a grant names.
pub(super) enum Granted<'a> {
    /// Its rules, and why the subject has it.
    Rules(&'a [PolicyRule], &'a Arc<str>),
    /// It is not there; the message that says so.
    Missing(String),
}

impl Index {
    /// The roles that a user has, in a namespace or outside of all.
    pub(super) fn granted<'a>(
        &'a self,
        user: &'a UserInfo,
        namespace: &'a str,
    ) -> impl Iterator<Item = Granted<'a>> {
        let everywhere = self.grants.get("");
        let there = self.grants.get(namespace).filter(|_| !namespace.is_empty());
        everywhere
            .into_iter()
            .chain(there)
            .flat_map(|grants| grants.of(user))
            .map(move |grant| {
                let (cluster, name) = &grant.role;
                let of = if *cluster { "" } else { namespace };
                match self.roles.get(of).and_then(|roles| roles.get(name.as_ref())) {
                    Some(rules) => Granted::Rules(rules, &grant.reason),
                    None => Granted::Missing(format!(
                        "{}.rbac.authorization.k8s.io {name:?} not found",
                        if *cluster { "clusterrole" } else { "role" }
                    )),
                }
            })
    }

    fn set_role(&mut self, namespace: &str, name: &str, rules: Option<Vec<PolicyRule>>) {
        let roles = self.roles.entry(namespace.to_string()).or_default();
        match rules {
            Some(rules) => drop(roles.insert(name.to_string(), Arc::new(rules))),
            None => {
                roles.remove(name);
                if roles.is_empty() {
                    self.roles.remove(namespace);
                }
            }
        }
    }

    fn bind(&mut self, namespace: &str, name: &str, role: &RoleRef, subjects: Option<&Vec<Subject>>) {
        self.unbind(namespace, name);
        let binding: Arc<str> = name.into();
        let grants = self.grants.entry(namespace.to_string()).or_default();
        let mut named = Vec::new();
        for subject in subjects.into_iter().flatten() {
            let (group, user, shown) = match subject.kind.as_str() {
                "User" => (false, subject.name.clone(), subject.name.clone()),
                "Group" => (true, subject.name.clone(), subject.name.clone()),
                "ServiceAccount" => {
                    let own = subject.namespace.as_deref().filter(|own| !own.is_empty());
                    let of = own.unwrap_or(namespace);
                    if of.is_empty() {
                        continue;
                    }
                    let user = format!("{SERVICE_ACCOUNT_PREFIX}{of}:{}", subject.name);
                    (false, user, format!("{}/{of}", subject.name))
                }
                _ => continue,
            };
            let (kind, full) = if namespace.is_empty() {
                ("ClusterRoleBinding", name.to_string())
            } else {
                ("RoleBinding", format!("{name}/{namespace}"))
            };
            let grant = Grant {
                binding: binding.clone(),
                role: (role.kind == "ClusterRole", role.name.as_str().into()),
                reason: format!(
                    "RBAC: allowed by {kind} {full:?} of {} {:?} to {} {shown:?}",
                    role.kind, role.name, subject.kind
                )
                .into(),
            };
            let subjects = if group {
                &mut grants.groups
            } else {
                &mut grants.users
            };
            subjects.entry(user.clone()).or_default().push(grant);
            named.push((group, user));
        }
        grants.bindings.insert(binding, named);
    }

    fn unbind(&mut self, namespace: &str, name: &str) {
        if let Some(grants) = self.grants.get_mut(namespace) {
            grants.remove(name);
            if grants.bindings.is_empty() {
                self.grants.remove(namespace);
            }
        }
    }
}

/// A kind that the index is made of.
pub(super) trait Indexed: k8s_openapi::Resource + serde::de::DeserializeOwned + Send {
    /// Takes in the present state of an object.
    fn put(self, index: &mut Index, namespace: &str, name: &str);
    /// Forgets an object.
    fn remove(index: &mut Index, namespace: &str, name: &str);
    /// Forgets all objects of the kind.
    fn clear(index: &mut Index);
}

/// Both kinds of roles, and both kinds of bindings, differ only in whether they are in namespaces.
macro_rules! indexed {
    ($kind:ty, $is_here:expr, roles) => {
        impl Indexed for $kind {
            fn put(self, index: &mut Index, namespace: &str, name: &str) {
                index.set_role(namespace, name, Some(self.rules.unwrap_or_default()));
            }
            fn remove(index: &mut Index, namespace: &str, name: &str) {
                index.set_role(namespace, name, None);
            }
            fn clear(index: &mut Index) {
                index.roles.retain(|namespace, _| !$is_here(namespace));
            }
        }
    };
    ($kind:ty, $is_here:expr, bindings) => {
        impl Indexed for $kind {
            fn put(self, index: &mut Index, namespace: &str, name: &str) {
                index.bind(namespace, name, &self.role_ref, self.subjects.as_ref());
            }
            fn remove(index: &mut Index, namespace: &str, name: &str) {
                index.unbind(namespace, name);
            }
            fn clear(index: &mut Index) {
                index.grants.retain(|namespace, _| !$is_here(namespace));
            }
        }
    };
}
indexed!(ClusterRole, str::is_empty, roles);
indexed!(Role, |namespace: &str| !namespace.is_empty(), roles);
indexed!(ClusterRoleBinding, str::is_empty, bindings);
indexed!(RoleBinding, |namespace: &str| !namespace.is_empty(), bindings);

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(role: &str, subjects: &[(&str, &str)]) -> RoleBinding {
        RoleBinding {
            role_ref: RoleRef {
                kind: "Role".into(),
                name: role.into(),
                ..RoleRef::default()
            },
            subjects: Some(
                subjects
                    .iter()
                    .map(|(kind, name)| Subject {
                        kind: kind.to_string(),
                        name: name.to_string(),
                        ..Subject::default()
                    })
                    .collect(),
            ),
            ..RoleBinding::default()
        }
    }

    fn seen(index: &Index, user: &UserInfo, namespace: &str) -> Vec<String> {
        index
            .granted(user, namespace)
            .map(|granted| match granted {
                Granted::Rules(_, reason) => reason.to_string(),
                Granted::Missing(message) => message,
            })
            .collect()
    }

    #[test]
    fn subjects_have_what_bindings_give_them_there() {
        let mut index = Index::default();
        Role::default().put(&mut index, "a", "r");
        binding("r", &[("User", "jane"), ("ServiceAccount", "default")]).put(&mut index, "a", "b");
        binding("none", &[("Group", "dev")]).put(&mut index, "a", "c");
        let jane = UserInfo::new("jane", ["dev"]);
        let account = UserInfo::service_account("a", "default", "");
        assert_eq!(
            seen(&index, &jane, "a"),
            [
                r#"role.rbac.authorization.k8s.io "none" not found"#,
                r#"RBAC: allowed by RoleBinding "b/a" of Role "r" to User "jane""#
            ]
        );
        assert_eq!(
            seen(&index, &account, "a"),
            [r#"RBAC: allowed by RoleBinding "b/a" of Role "r" to ServiceAccount "default/a""#]
        );
        assert!(seen(&index, &jane, "b").is_empty() && seen(&index, &jane, "").is_empty());

        // Another list of subjects, then none.
        binding("r", &[("User", "joe")]).put(&mut index, "a", "b");
        assert_eq!(seen(&index, &jane, "a").len(), 1);
        assert!(seen(&index, &account, "a").is_empty());
        RoleBinding::remove(&mut index, "a", "b");
        RoleBinding::remove(&mut index, "a", "c");
        Role::remove(&mut index, "a", "r");
        assert!(
            index.grants.is_empty() && index.roles.is_empty(),
            "nothing is left behind"
        );
    }
}
