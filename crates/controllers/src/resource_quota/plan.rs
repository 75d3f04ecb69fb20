//! What a quota's status should say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus, Service};
use skiff_api::pod::Resources;
use skiff_api::quantity::Quantity;
use skiff_api::quota::{self, Counted};

/// What there is in a quota's namespace.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) services: Vec<Arc<Service>>,
    pub(super) claims: Vec<Arc<PersistentVolumeClaim>>,
    /// How many objects there are of the resources that [`counted_kinds`] names and that the API serves.
    pub(super) counts: BTreeMap<String, i64>,
}

/// The resources with their groups (`deployments.apps`) of which a quota limits nothing but their number.
pub(super) fn counted_kinds(quota: &ResourceQuota) -> BTreeSet<String> {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    let plain = [
        "configmaps",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
    ];
    hard.into_iter()
        .flatten()
        .filter_map(|(name, _)| match name.strip_prefix("count/") {
            Some("pods" | "services" | "persistentvolumeclaims") => None,
            Some(resource) => Some(resource.to_string()),
            None => plain.contains(&name.as_str()).then(|| name.clone()),
        })
        .collect()
}

/// The status that the quota should have; `None` when it has it.
pub(super) fn plan(
    quota: &ResourceQuota,
    observed: &Observed,
    now: Timestamp,
) -> Option<ResourceQuotaStatus> {
    let spec = quota.spec.clone().unwrap_or_default();
    let hard = spec.hard.clone().unwrap_or_default();
    let scopes = quota::scopes(&spec);
    let mut used = Resources::new();
    let pods = observed.pods.iter().map(|pod| Counted::Pod(pod));
    let services = observed.services.iter().map(|service| Counted::Service(service));
    let claims = observed.claims.iter().map(|claim| Counted::Claim(claim));
    for object in pods.chain(services).chain(claims) {
        if object.is_within(hard.keys(), &scopes) {
            quota::add(&mut used, &object.usage(now));
        }
    }
    for (resource, count) in &observed.counts {
        let object = Counted::Other(resource);
        if object.is_within(hard.keys(), &scopes) {
            let names = object.usage(now).into_keys();
            used.extend(names.map(|name| (name, Quantity::whole(*count))));
        }
    }
    let before = quota.status.clone().unwrap_or_default();
    let old = quota::amounts(before.used.as_ref());
    let mut after = Resources::new();
    for name in hard.keys() {
        let known = is_known(name, observed);
        match (known, used.get(name), old.get(name)) {
            (true, found, _) => drop(after.insert(name.clone(), found.copied().unwrap_or_default())),
            // Of what cannot be counted now, the last count holds.
            (false, _, Some(last)) => drop(after.insert(name.clone(), *last)),
            (false, _, None) => {}
        }
    }
    let same_hard = before.hard.as_ref().map(|amounts| quota::amounts(Some(amounts)))
        == Some(quota::amounts(Some(&hard)));
    if same_hard && before.used.is_some() && old == after {
        return None;
    }
    Some(ResourceQuotaStatus {
        hard: Some(hard),
        used: Some(quota::texts(&after)),
    })
}

/// Whether what a quota limits by this name was counted.
fn is_known(name: &str, observed: &Observed) -> bool {
    let (pod, service, claim) = (
        Pod::default(),
        Service::default(),
        PersistentVolumeClaim::default(),
    );
    Counted::Pod(&pod).is_measured_by(name)
        || Counted::Service(&service).is_measured_by(name)
        || Counted::Claim(&claim).is_measured_by(name)
        || observed
            .counts
            .keys()
            .any(|resource| Counted::Other(resource).is_measured_by(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn quota(spec: Value, status: Value) -> ResourceQuota {
        serde_json::from_value(json!({"metadata": {"name": "q"}, "spec": spec, "status": status})).unwrap()
    }

    fn pod(cpu: &str, phase: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]},
                "status": {"phase": phase}
            }))
            .unwrap(),
        )
    }

    #[test]
    fn a_quota_shows_what_is_used_of_what_it_limits() {
        let hard = json!({"requests.cpu": "2", "pods": "5", "count/pods": "9", "secrets": "3",
            "count/deployments.apps": "4", "count/foos.example.com": "1", "services.nodeports": "2"});
        let observed = Observed {
            pods: vec![
                pod("500m", "Running"),
                pod("700m", "Pending"),
                pod("1", "Succeeded"),
            ],
            counts: [("secrets".to_string(), 2), ("deployments.apps".into(), 1)].into(),
            ..Observed::default()
        };
        let fresh = quota(json!({"hard": hard}), json!({}));
        assert_eq!(
            counted_kinds(&fresh).into_iter().collect::<Vec<_>>(),
            ["deployments.apps", "foos.example.com", "secrets"]
        );
        let status = plan(&fresh, &observed, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(
            json!(status),
            // Nobody knows how many of a kind there are that the API does not serve.
            json!({"hard": hard, "used": {"requests.cpu": "1200m", "pods": "2", "count/pods": "3", "secrets": "2",
                "count/deployments.apps": "1", "services.nodeports": "0"}})
        );
        let settled = quota(json!({"hard": hard}), json!(status));
        assert_eq!(plan(&settled, &observed, Timestamp::UNIX_EPOCH), None);
        let raised = quota(
            json!({"hard": {"pods": "6"}}),
            json!({"hard": {"pods": "5"}, "used": {"pods": "2"}}),
        );
        let status = plan(&raised, &observed, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(
            json!(status),
            json!({"hard": {"pods": "6"}, "used": {"pods": "2"}})
        );
    }

    #[test]
    fn a_scope_leaves_out_what_is_not_in_it() {
        let observed = Observed {
            pods: vec![pod("1", "Running")],
            counts: [("secrets".to_string(), 2)].into(),
            ..Observed::default()
        };
        for (scope, expected) in [("BestEffort", "0"), ("NotBestEffort", "1")] {
            let quota = quota(json!({"hard": {"pods": "1"}, "scopes": [scope]}), json!({}));
            let status = plan(&quota, &observed, Timestamp::UNIX_EPOCH).unwrap();
            assert_eq!(status.used.unwrap()["pods"].0, expected, "{scope}");
        }
    }
}
