//! The charging of quotas: all writes that wait for a namespace's quotas are booked together, in one compare-and-swap a
//! quota, so that they neither pass the limit together nor push each other away.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ResourceQuota;
use parking_lot::Mutex;
use skiff_api::pod::Resources;
use skiff_api::quota::{add, amounts, texts};
use skiff_api::{Object, Subresource, Target};
use tokio::sync::oneshot;

use crate::error::{ApiError, ApiResult};
use crate::registry::Resource;
use crate::startup;

/// What one write uses.
#[derive(Clone, Debug)]
pub(super) struct Charge {
    /// By the quota's name.
    pub(super) amounts: Vec<(String, Resources)>,
    /// Whether it is refused where the quota has no room for it.
    pub(super) capped: bool,
}

impl Charge {
    fn of(&self, quota: &str) -> Option<&Resources> {
        let mut amounts = self.amounts.iter();
        amounts
            .find(|(name, _)| name == quota)
            .map(|(_, amounts)| amounts)
    }
}

/// Booked, or why not.
type Booked = Result<(), String>;

struct Waiting {
    charge: Charge,
    answer: oneshot::Sender<ApiResult<Booked>>,
}

/// The charges that wait, by namespace. A namespace that stands here is being worked on. As many can wait as requests are
/// let in at once.
#[derive(Default)]
pub(super) struct Ledger {
    waiting: Arc<Mutex<HashMap<String, Vec<Waiting>>>>,
}

impl Ledger {
    /// Charges quotas of a namespace: all of them, or none.
    ///
    /// # Errors
    /// When a quota cannot be written.
    pub(super) async fn charge(
        &self,
        quotas: &Arc<Resource>,
        namespace: &str,
        charge: Charge,
    ) -> ApiResult<Booked> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { charge, answer };
        let idle = {
            let mut all = self.waiting.lock();
            let idle = !all.contains_key(namespace);
            all.entry(namespace.to_string()).or_default().push(waiting);
            idle
        };
        if idle {
            // A task of its own: others wait for it, too, when this request is given up.
            let (all, quotas) = (self.waiting.clone(), quotas.clone());
            let namespace = namespace.to_string();
            tokio::spawn(async move { work(&all, &quotas, &namespace).await });
        }
        answered.await.map_err(ApiError::internal)?
    }
}

/// Works on a namespace until nobody waits.
async fn work(all: &Mutex<HashMap<String, Vec<Waiting>>>, quotas: &Resource, namespace: &str) {
    loop {
        let batch = {
            let mut all = all.lock();
            let batch = all.get_mut(namespace).map(std::mem::take).unwrap_or_default();
            if batch.is_empty() {
                all.remove(namespace);
                return;
            }
            batch
        };
        let (charges, answers): (Vec<Charge>, Vec<_>) = batch
            .into_iter()
            .map(|waiting| (waiting.charge, waiting.answer))
            .unzip();
        for (answer, outcome) in answers.into_iter().zip(settle(quotas, namespace, &charges).await) {
            // Who does not wait any more has been charged for nothing; the controller recounts.
            let _ = answer.send(outcome);
        }
    }
}

/// Books charges in their order, quota after quota; one that a quota refuses is taken back from the others.
async fn settle(quotas: &Resource, namespace: &str, charges: &[Charge]) -> Vec<ApiResult<Booked>> {
    let mut outcomes: Vec<ApiResult<Booked>> = charges.iter().map(|_| Ok(Ok(()))).collect();
    let names: BTreeSet<&str> = charges
        .iter()
        .flat_map(|charge| charge.amounts.iter().map(|(name, _)| name.as_str()))
        .collect();
    let mut booked: Vec<(&str, Vec<usize>)> = Vec::new();
    for name in names {
        let sharers: Vec<(usize, &Charge)> = charges
            .iter()
            .enumerate()
            .zip(&outcomes)
            .filter(|((_, charge), outcome)| matches!(outcome, Ok(Ok(()))) && charge.of(name).is_some())
            .map(|(sharer, _)| sharer)
            .collect();
        let refusals = Mutex::new(Vec::new());
        let written = write(quotas, namespace, name, |quota| {
            *refusals.lock() = book(quota, sharers.iter().copied());
        })
        .await;
        match written {
            Ok(()) => {
                let refusals = refusals.into_inner();
                let is_refused = |index: &usize| refusals.iter().any(|(refused, _)| refused == index);
                let accepted = sharers.iter().map(|(index, _)| *index);
                booked.push((name, accepted.filter(|index| !is_refused(index)).collect()));
                for (index, why) in refusals {
                    if let Some(outcome) = outcomes.get_mut(index) {
                        *outcome = Ok(Err(why));
                    }
                }
            }
            // A quota that is gone limits nothing.
            Err(error) if error.code() == 404 => {}
            Err(error) => {
                for (index, _) in &sharers {
                    if let Some(outcome) = outcomes.get_mut(*index) {
                        *outcome = Err(error.clone());
                    }
                }
            }
        }
    }
    take_back(quotas, namespace, charges, &outcomes, booked).await;
    outcomes
}

/// Takes back what was booked for charges that did not come through in the end.
async fn take_back(
    quotas: &Resource,
    namespace: &str,
    charges: &[Charge],
    outcomes: &[ApiResult<Booked>],
    booked: Vec<(&str, Vec<usize>)>,
) {
    for (name, accepted) in booked {
        let later: Vec<&Resources> = accepted
            .iter()
            .filter(|index| !matches!(outcomes.get(**index), Some(Ok(Ok(())))))
            .filter_map(|index| charges.get(*index)?.of(name))
            .collect();
        if later.is_empty() {
            continue;
        }
        let written = write(quotas, namespace, name, |quota| {
            let status = quota.status.get_or_insert_default();
            let mut used = amounts(status.used.as_ref());
            for charge in &later {
                for (name, amount) in *charge {
                    if let Some(used) = used.get_mut(name) {
                        *used -= *amount;
                    }
                }
            }
            status.used = Some(texts(&used));
        })
        .await;
        if let Err(error) = written {
            tracing::warn!(%error, quota = name, namespace, "a charge was not taken back; the controller recounts");
        }
    }
}

async fn write(
    quotas: &Resource,
    namespace: &str,
    name: &str,
    change: impl Fn(&mut ResourceQuota) + Send + Sync,
) -> ApiResult<()> {
    let target = Target::Subresource(Subresource::Status);
    let options = startup::options();
    let change = |object: &mut dyn Object| {
        if let Some(quota) = object.as_any_mut().downcast_mut::<ResourceQuota>() {
            change(quota);
        }
        Ok(())
    };
    quotas
        .modify(namespace, name, target, &options, change)
        .await
        .map(drop)
}

/// Books charges on one quota as long as it has room; the numbers of those for which it has none, and why.
pub(super) fn book<'c>(
    quota: &mut ResourceQuota,
    charges: impl Iterator<Item = (usize, &'c Charge)>,
) -> Vec<(usize, String)> {
    let name = quota.metadata.name.clone().unwrap_or_default();
    let status = quota.status.get_or_insert_default();
    let hard = amounts(status.hard.as_ref());
    let mut used = amounts(status.used.as_ref());
    let mut refused = Vec::new();
    for (index, charge) in charges {
        let Some(requested) = charge.of(&name) else {
            continue;
        };
        let mut after = used.clone();
        add(&mut after, requested);
        let exceeded: Vec<&String> = requested
            .keys()
            .filter(|name| match (after.get(*name), hard.get(*name)) {
                (Some(after), Some(hard)) => after > hard,
                _ => false,
            })
            .collect();
        if charge.capped && !exceeded.is_empty() {
            let listed = |amounts: &Resources| {
                let parts: Vec<String> = exceeded
                    .iter()
                    .filter_map(|name| Some(format!("{name}={}", amounts.get(*name)?)))
                    .collect();
                parts.join(",")
            };
            let why = format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                listed(requested),
                listed(&used),
                listed(&hard)
            );
            refused.push((index, why));
        } else {
            used = after;
        }
    }
    status.used = Some(texts(&used));
    refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use skiff_api::quantity::Quantity;

    fn charge(amounts: &[(&str, i64)]) -> Charge {
        let amounts = amounts
            .iter()
            .map(|(name, amount)| (name.to_string(), Quantity::whole(*amount)))
            .collect();
        Charge {
            amounts: vec![("q".into(), amounts)],
            capped: true,
        }
    }

    fn quota(hard: i64, used: i64) -> ResourceQuota {
        serde_json::from_value(json!({
            "metadata": {"name": "q"},
            "status": {"hard": {"pods": hard.to_string(), "cpu": "1"}, "used": {"pods": used.to_string(), "cpu": "500m"}}
        }))
        .unwrap()
    }

    #[test]
    fn what_has_no_room_is_refused_with_the_amounts() {
        let mut quota = quota(3, 2);
        let charges = [
            charge(&[("pods", 2)]),
            charge(&[("pods", 1)]),
            charge(&[("pods", 1), ("cpu", 1)]),
        ];
        let refused = book(&mut quota, charges.iter().enumerate());
        assert_eq!(
            refused,
            [
                (
                    0,
                    "exceeded quota: q, requested: pods=2, used: pods=2, limited: pods=3".to_string()
                ),
                (
                    2,
                    "exceeded quota: q, requested: cpu=1,pods=1, used: cpu=500m,pods=3, limited: cpu=1,pods=3".into()
                ),
            ]
        );
        assert_eq!(
            json!(quota.status.unwrap().used),
            json!({"cpu": "500m", "pods": "3"})
        );
    }

    proptest! {
        #[test]
        fn a_quota_is_never_passed(hard in 0..20_i64, asked in prop::collection::vec(1..6_i64, 0..20)) {
            let mut quota = quota(hard, 0);
            let charges: Vec<Charge> = asked.iter().map(|amount| charge(&[("pods", *amount)])).collect();
            let refused = book(&mut quota, charges.iter().enumerate());
            let lost: i64 = refused.iter().map(|(index, _)| asked[*index]).sum();
            let used: i64 = quota.status.unwrap().used.unwrap()["pods"].0.parse().unwrap();
            prop_assert!(used <= hard);
            prop_assert_eq!(used, asked.iter().sum::<i64>() - lost);
            for (index, _) in &refused {
                prop_assert!(asked[*index] + used > hard || asked[..*index].iter().sum::<i64>() + asked[*index] > hard);
            }
        }
    }
}
