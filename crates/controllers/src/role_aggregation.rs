//! The cluster-role aggregation controller: a role with an aggregation rule has the rules of all that it selects.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use skiff_api::selector::LabelSelector;
use skiff_informer::{Informer, Informers, ObjectKey};
use tokio_util::sync::CancellationToken;

use crate::worker::{Failure, Reconcile, unless_gone, work};

struct Controller {
    client: Client,
    roles: Informer<ClusterRole>,
}

/// Runs the controller until `shutdown`.
pub(crate) async fn run(informers: Informers, shutdown: CancellationToken) {
    let roles = informers.all::<ClusterRole>();
    let queue = informers.queues().make::<String>("ClusterRoleAggregator");
    roles.on_change({
        let (roles, queue) = (roles.clone(), queue.clone());
        move |_, new| {
            // Any role may be selected by any that gathers. While the roles are being read first, each asks for itself.
            let gathering = roles.list();
            let gathering = gathering.iter().chain(new);
            for role in gathering.filter(|role| role.aggregation_rule.is_some()) {
                queue.add(role.metadata.name.clone().unwrap_or_default());
            }
        }
    });
    tokio::select! {
        () = roles.synced() => {}
        () = shutdown.cancelled() => return,
    }
    let controller = Controller {
        client: informers.client().clone(),
        roles,
    };
    work(
        "clusterrole-aggregation",
        Arc::new(controller),
        queue,
        1,
        shutdown,
    )
    .await;
}

/// The rules that a role should have; `None` when it has them, or gathers none.
fn plan(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let selectors = role
        .aggregation_rule
        .as_ref()?
        .cluster_role_selectors
        .as_deref()?;
    let by_name: BTreeMap<&str, &Arc<ClusterRole>> = all
        .iter()
        .map(|role| (role.metadata.name.as_deref().unwrap_or_default(), role))
        .collect();
    let own = role.metadata.name.as_deref().unwrap_or_default();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        let Ok(selector) = LabelSelector::of(Some(selector)) else {
            continue;
        };
        let selected = by_name.iter().filter(|(name, other)| {
            let labels = other.metadata.labels.clone().unwrap_or_default();
            **name != own && selector.matches(&labels)
        });
        for rule in selected.flat_map(|(_, other)| other.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    let present = role.rules.as_deref().unwrap_or_default();
    (present != rules.as_slice()).then_some(rules)
}

impl Reconcile<String> for Controller {
    async fn reconcile(&self, name: &String) -> Result<(), Failure> {
        let Some(role) = self.roles.get(&ObjectKey::new("", name)) else {
            return Ok(());
        };
        let Some(rules) = plan(&role, &self.roles.list()) else {
            return Ok(());
        };
        let patch = json!({
            "metadata": { "resourceVersion": role.metadata.resource_version },
            "rules": rules,
        });
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        unless_gone(
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn role(name: &str, label: &str, verbs: &[&str], gathers: Option<&str>) -> Arc<ClusterRole> {
        let rules: Vec<Value> = verbs
            .iter()
            .map(|verb| json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}))
            .collect();
        let aggregation =
            gathers.map(|key| json!({"clusterRoleSelectors": [{"matchLabels": {key: "true"}}]}));
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "labels": {label: "true"}},
                "rules": rules,
                "aggregationRule": aggregation,
            }))
            .unwrap(),
        )
    }

    #[test]
    fn a_role_gathers_the_rules_of_those_that_it_selects() {
        let all = [
            role("c", "to-view", &["watch", "get"], None),
            role("b", "to-view", &["get", "list"], None),
            role("a", "to-edit", &["delete"], None),
            role("view", "to-view", &[], Some("to-view")),
            role("done", "", &["delete"], Some("to-edit")),
        ];
        let verbs = |rules: Option<Vec<PolicyRule>>| {
            rules.map(|rules| {
                rules
                    .iter()
                    .flat_map(|rule| rule.verbs.clone())
                    .collect::<Vec<_>>()
            })
        };
        let planned = verbs(plan(&all[3], &all));
        assert_eq!(planned, Some(["get", "list", "watch"].map(String::from).to_vec()));
        assert_eq!(plan(&all[4], &all), None, "it has them");
        assert_eq!(plan(&all[0], &all), None, "it gathers none");
    }
}
