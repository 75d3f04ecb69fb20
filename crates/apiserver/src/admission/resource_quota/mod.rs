//! ResourceQuota: nothing is created, and nothing grows, beyond what its namespace may use; what may is charged before it
//! is written.

mod ledger;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use skiff_api::pod::Resources;
use skiff_api::quota::{self, Counted};
use skiff_api::{Object, Scope, Subresource};

use super::{Plugin, shown_name};
use crate::error::{ApiError, ApiResult};
use crate::objects::all;
use crate::registry::{AdmissionRequest, Operation, Registry};

use ledger::{Charge, Ledger, book};

/// What no quota counts: events, and requests that are never stored.
const UNCOUNTED: [&str; 2] = ["", "events.k8s.io"];

#[derive(Default)]
pub(super) struct ResourceQuota {
    ledger: Ledger,
}

#[async_trait]
impl Plugin for ResourceQuota {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: &dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        let info = request.info;
        let is_event = info.kind == "Event" && UNCOUNTED.contains(&info.group.as_ref());
        if info.scope != Scope::Namespaced || is_event {
            return Ok(());
        }
        let quotas = all::<core::ResourceQuota>(registry, request.namespace);
        if quotas.is_empty() {
            return Ok(());
        }
        let resource = info.group_resource();
        let new = Counted::of(&resource, object);
        if !can_charge(request, new) {
            return Ok(());
        }
        let old = request.old.map(|old| Counted::of(&resource, old));
        let shown = shown_name(request, object.metadata());
        let refuse = |why: String| ApiError::forbidden(info, &shown, &why);
        let mut charge = Charge {
            amounts: charges(&quotas, new, old, Timestamp::now()).map_err(refuse)?,
            // What a status reports has happened already.
            capped: request.subresource != Some(Subresource::Status),
        };
        if charge.amounts.is_empty() {
            return Ok(());
        }
        if request.dry_run {
            for mut quota in quotas {
                let refusals = book(&mut quota, std::slice::from_mut(&mut charge).iter().enumerate());
                if let Some((_, why)) = refusals.into_iter().next() {
                    return Err(refuse(why));
                }
            }
            return Ok(());
        }
        match registry.resource("", "v1", "resourcequotas") {
            Some(resource) => self
                .ledger
                .charge(resource, request.namespace, charge)
                .await?
                .map_err(refuse),
            None => Ok(()),
        }
    }
}

/// Whether such a write can raise what is used.
fn can_charge(request: &AdmissionRequest<'_>, object: Counted<'_>) -> bool {
    match object {
        Counted::Pod(_) => match request.subresource {
            None => request.operation == Operation::Create,
            Some(subresource) => subresource == Subresource::Resize,
        },
        Counted::Service(_) | Counted::Claim(_) => true,
        Counted::Other(_) => request.operation == Operation::Create && request.subresource.is_none(),
    }
}

/// What is to be charged to which quota, by the quota's name; or why no quota can take it.
fn charges(
    quotas: &[core::ResourceQuota],
    new: Counted<'_>,
    old: Option<Counted<'_>>,
    now: Timestamp,
) -> Result<Vec<(String, Resources)>, String> {
    let mut interested = Vec::new();
    for quota in quotas {
        let name = quota.metadata.name.as_deref().unwrap_or_default();
        let status = quota.status.clone().unwrap_or_default();
        let hard = status.hard.unwrap_or_default();
        let scopes = quota.spec.as_ref().map(quota::scopes).unwrap_or_default();
        if !new.is_within(hard.keys(), &scopes) {
            continue;
        }
        let measured: Vec<&String> = hard.keys().filter(|name| new.is_measured_by(name)).collect();
        if let Some(lack) = new.lacks(measured.iter().copied()) {
            return Err(format!("failed quota: {name}: {lack}"));
        }
        let used = status.used.unwrap_or_default();
        if measured.iter().any(|resource| !used.contains_key(*resource)) {
            let names: Vec<&str> = measured.iter().map(|name| name.as_str()).collect();
            let names = names.join(",");
            return Err(format!("status unknown for quota: {name}, resources: {names}"));
        }
        let was_within = old.is_some_and(|old| old.is_within(hard.keys(), &scopes));
        interested.push((name, hard, was_within));
    }
    if interested.is_empty() {
        return Ok(Vec::new());
    }
    let whole = new.usage(now);
    let negative: Vec<&str> = whole
        .iter()
        .filter(|(_, amount)| amount.is_negative())
        .map(|(name, _)| name.as_str())
        .collect();
    if !negative.is_empty() {
        let names = negative.join(",");
        return Err(format!("quota usage is negative for resource(s): {names}"));
    }
    let mut growth = whole.clone();
    if let Some(old) = old {
        for (name, amount) in old.usage(now) {
            if let Some(grown) = growth.get_mut(&name) {
                *grown -= amount;
            }
        }
    }
    let charges = interested.into_iter().map(|(name, hard, was_within)| {
        let mut amounts = if was_within { growth.clone() } else { whole.clone() };
        amounts.retain(|resource, amount| {
            !amount.is_zero() && !amount.is_negative() && hard.contains_key(resource)
        });
        (name.to_string(), amounts)
    });
    Ok(charges.filter(|(_, amounts)| !amounts.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Pod, Service};
    use serde_json::{Value, json};

    fn quota(name: &str, hard: Value, used: Value) -> core::ResourceQuota {
        serde_json::from_value(json!({
            "metadata": {"name": name}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}
        }))
        .unwrap()
    }

    fn shown(charges: Result<Vec<(String, Resources)>, String>) -> Result<Vec<String>, String> {
        Ok(charges?
            .into_iter()
            .map(|(name, amounts)| {
                let amounts: Vec<String> = amounts
                    .iter()
                    .map(|(name, amount)| format!("{name}={amount}"))
                    .collect();
                format!("{name}: {}", amounts.join(","))
            })
            .collect())
    }

    #[test]
    fn only_what_grows_is_charged_and_only_to_quotas_that_limit_it() {
        let quotas = [
            quota(
                "objects",
                json!({"services": "5", "secrets": "5"}),
                json!({"services": "0", "secrets": "0"}),
            ),
            quota(
                "ports",
                json!({"services.nodeports": "5"}),
                json!({"services.nodeports": "0"}),
            ),
            quota("pods", json!({"pods": "5"}), json!({"pods": "0"})),
        ];
        let service = |type_: &str| -> Service {
            serde_json::from_value(json!({"spec": {"type": type_, "ports": [{"port": 1}]}})).unwrap()
        };
        let (plain, exposed) = (service("ClusterIP"), service("NodePort"));
        let now = Timestamp::UNIX_EPOCH;
        let charged = |new: &Service, old: Option<&Service>| {
            shown(charges(
                &quotas,
                Counted::Service(new),
                old.map(Counted::Service),
                now,
            ))
            .unwrap()
        };
        assert_eq!(
            charged(&exposed, None),
            ["objects: services=1", "ports: services.nodeports=1"]
        );
        assert_eq!(charged(&plain, None), ["objects: services=1"]);
        assert_eq!(charged(&exposed, Some(&plain)), ["ports: services.nodeports=1"]);
        assert!(charged(&plain, Some(&exposed)).is_empty());
        assert!(charged(&exposed, Some(&exposed)).is_empty());
    }

    #[test]
    fn a_quota_that_cannot_tell_refuses() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "a"}]}})).unwrap();
        let charged = |quota| shown(charges(&[quota], Counted::Pod(&pod), None, Timestamp::UNIX_EPOCH));
        assert_eq!(
            charged(quota(
                "q",
                json!({"pods": "1", "cpu": "1"}),
                json!({"pods": "0", "cpu": "0"})
            )),
            Err("failed quota: q: must specify cpu for: a".into())
        );
        assert_eq!(
            charged(quota(
                "q",
                json!({"pods": "1", "count/pods": "1"}),
                json!({"pods": "0"})
            )),
            Err("status unknown for quota: q, resources: count/pods,pods".into())
        );
        // A quota whose controller has not seen it yet limits nothing.
        let mut fresh = quota("q", json!({"pods": "1"}), json!({}));
        fresh.status = None;
        assert_eq!(charged(fresh), Ok(vec![]));
    }
}
