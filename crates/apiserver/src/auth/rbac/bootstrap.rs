//! Reconciling the roles and bindings that every cluster has, when the server starts.
//!
//! What is missing is made; what is there gets the rules and subjects back that it lost, and keeps what was added
//! (`k8s.io/component-helpers/auth/rbac/reconciliation`), unless its annotation says to leave it alone.

use futures::future::join_all;
use k8s_openapi::Metadata;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skiff_api::kind::Kind;
use skiff_api::{Object, Target};

use super::policy::Policy;
use super::rules;
use crate::error::{ApiError, ApiResult};
use crate::registry::{Registry, WriteOptions};

/// Says, with the value `false`, that an object is not to be reconciled.
pub(crate) const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// An object of the policy.
trait Wanted: Kind {
    /// Adds what the policy has and a found object has not; whether there was such.
    fn complete(&self, found: &mut Self) -> bool;
}

fn complete_rules(wanted: &Option<Vec<PolicyRule>>, found: &mut Option<Vec<PolicyRule>>) -> bool {
    let missing = rules::missing(
        found.as_deref().unwrap_or_default(),
        wanted.as_deref().unwrap_or_default(),
    );
    let lacking = !missing.is_empty();
    if lacking {
        found.get_or_insert_default().extend(missing);
    }
    lacking
}

fn complete_subjects(wanted: &Option<Vec<Subject>>, found: &mut Option<Vec<Subject>>) -> bool {
    let there = found.clone().unwrap_or_default();
    let mut missing = wanted
        .iter()
        .flatten()
        .filter(|subject| !there.contains(subject))
        .peekable();
    let lacking = missing.peek().is_some();
    if lacking {
        found.get_or_insert_default().extend(missing.cloned());
    }
    lacking
}

fn complete_meta(wanted: &ObjectMeta, found: &mut ObjectMeta) -> bool {
    let mut lacking = false;
    for (wanted, found) in [
        (&wanted.labels, &mut found.labels),
        (&wanted.annotations, &mut found.annotations),
    ] {
        for (key, value) in wanted.iter().flatten() {
            if !found.as_ref().is_some_and(|found| found.contains_key(key)) {
                found.get_or_insert_default().insert(key.clone(), value.clone());
                lacking = true;
            }
        }
    }
    lacking
}

impl Wanted for ClusterRole {
    fn complete(&self, found: &mut Self) -> bool {
        let mut lacking = complete_meta(&self.metadata, &mut found.metadata);
        if self.aggregation_rule.is_none() {
            return lacking | complete_rules(&self.rules, &mut found.rules);
        }
        // The rules of one that gathers them come from the others.
        if found.aggregation_rule.is_none() {
            found.aggregation_rule.clone_from(&self.aggregation_rule);
            lacking = true;
        }
        lacking
    }
}

impl Wanted for Role {
    fn complete(&self, found: &mut Self) -> bool {
        complete_meta(&self.metadata, &mut found.metadata) | complete_rules(&self.rules, &mut found.rules)
    }
}

impl Wanted for ClusterRoleBinding {
    fn complete(&self, found: &mut Self) -> bool {
        complete_meta(&self.metadata, &mut found.metadata)
            | complete_subjects(&self.subjects, &mut found.subjects)
    }
}

impl Wanted for RoleBinding {
    fn complete(&self, found: &mut Self) -> bool {
        complete_meta(&self.metadata, &mut found.metadata)
            | complete_subjects(&self.subjects, &mut found.subjects)
    }
}

fn is_protected(meta: &ObjectMeta) -> bool {
    let update = meta
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(AUTOUPDATE));
    update.is_some_and(|update| update == "false")
}

async fn ensure<K: Wanted>(registry: &Registry, wanted: K, options: &WriteOptions) -> ApiResult<()> {
    let Some(resource) = registry.resource(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT) else {
        return Ok(());
    };
    let meta = Metadata::metadata(&wanted);
    let (namespace, name) = (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    );
    // The caches are as the store was a moment ago; whoever else changes these objects now reconciles them as well.
    match resource.get_not_older(&namespace, &name, Some("0")).await {
        Ok(entry) => {
            let mut found: K = serde_json::from_slice(entry.json()).map_err(ApiError::internal)?;
            if is_protected(Metadata::metadata(&found)) || !wanted.complete(&mut found) {
                return Ok(());
            }
            let change = |object: &mut dyn Object| {
                if let Some(found) = object.as_any_mut().downcast_mut::<K>() {
                    wanted.complete(found);
                }
                Ok(())
            };
            resource
                .modify(&namespace, &name, Target::Main, options, change)
                .await
                .map(drop)
        }
        Err(error) if error.code() == 404 => {
            match resource
                .create_object(&namespace, Box::new(wanted), options)
                .await
            {
                // Another server of the same cluster was faster.
                Err(error) if error.reason() == "AlreadyExists" => Ok(()),
                outcome => outcome.map(drop),
            }
        }
        Err(error) => Err(error),
    }
}

/// Makes what is missing of the policy, all at once, so that the writes share their commits.
///
/// # Errors
/// The first that could not be made.
pub(crate) async fn reconcile(registry: &Registry, policy: Policy, options: &WriteOptions) -> ApiResult<()> {
    async fn all<K: Wanted>(registry: &Registry, wanted: Vec<K>, options: &WriteOptions) -> ApiResult<()> {
        let made = join_all(wanted.into_iter().map(|wanted| ensure(registry, wanted, options))).await;
        made.into_iter().collect()
    }
    let (a, b, c, d) = tokio::join!(
        all(registry, policy.cluster_roles, options),
        all(registry, policy.roles, options),
        all(registry, policy.cluster_role_bindings, options),
        all(registry, policy.role_bindings, options),
    );
    a.and(b).and(c).and(d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_away_comes_back_and_what_was_added_stays() {
        let policy = Policy::builtin();
        let wanted = policy
            .cluster_roles
            .iter()
            .find(|role| role.metadata.name.as_deref() == Some("system:basic-user"))
            .unwrap();
        let mut found = wanted.clone();
        assert!(!wanted.complete(&mut found), "nothing is missing");
        let added = PolicyRule {
            verbs: vec!["get".into()],
            api_groups: Some(vec!["".into()]),
            resources: Some(vec!["pods".into()]),
            ..PolicyRule::default()
        };
        found.rules = Some(vec![added.clone()]);
        found.metadata.labels = None;
        assert!(wanted.complete(&mut found));
        assert_eq!(found.metadata.labels, wanted.metadata.labels);
        assert!(found.rules.as_ref().unwrap().contains(&added));
        assert!(!wanted.complete(&mut found), "once is enough");
    }
}
