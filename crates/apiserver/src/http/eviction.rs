//! `pods/eviction`: a deletion that somebody else than the owner asks for, and that the pod's disruption budget may
//! refuse.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::api::policy::v1::{Eviction, PodDisruptionBudget};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, Time};
use serde_json::Value;
use skiff_api::policy::disruption;
use skiff_api::selector::LabelSelector;
use skiff_api::{KindInfo, Subresource, Target, pod};

use crate::admission::namespace_lifecycle::check_active;
use crate::admission::node_restriction::check_eviction;
use crate::error::{ApiError, ApiResult};
use crate::http::Response;
use crate::http::binding::now;
use crate::http::resources::{Call, answer};
use crate::registry::{DeleteOptions, ListOptions, Propagation, Registry, Resource, WriteOptions};

/// How often an eviction is tried again because the pod changed meanwhile.
const ATTEMPTS: usize = 20;
/// The most evictions of a budget that its controller has not seen yet.
const MOST_DISRUPTED: usize = 2000;
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// Deletes a pod as an `Eviction` says, if its budget allows it.
pub(crate) async fn handle(mut call: Call, pods: Arc<Resource>) -> ApiResult<Response> {
    let mut write = call.write_options("CreateOptions")?;
    let eviction: Eviction = call.read_posted_as(&mut write, of_today).await?;
    let (namespace, name) = call.place(&pods);
    if eviction.metadata.name.as_deref().unwrap_or_default() != name {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let body = eviction.delete_options.unwrap_or_default();
    let preconditions = body.preconditions.unwrap_or_default();
    write.dry_run |= body.dry_run.is_some_and(|values| !values.is_empty());
    // Nobody comes to own what an eviction sets.
    write.field_manager = None;
    let delete = DeleteOptions {
        grace_period: body.grace_period_seconds,
        uid: preconditions.uid,
        resource_version: preconditions.resource_version,
        propagation: body
            .propagation_policy
            .as_deref()
            .map(Propagation::parse)
            .transpose()?,
        orphan_dependents: body.orphan_dependents,
        dry_run: write.dry_run,
    };
    let registry = &call.shared.registry;
    check_active(registry, pods.info(), namespace, name).await?;
    let evictor = Evictor {
        registry,
        pods: &pods,
        namespace,
        name,
        delete,
        write,
    };
    evictor.evict().await?;
    answer(&call, 201, &created())
}

/// Older clients say the version in which evictions began; nothing but the version's name has changed since.
fn of_today(body: Bytes) -> Bytes {
    let tree: Result<Value, _> = serde_json::from_slice(&body);
    match tree {
        Ok(mut tree)
            if tree
                .get("apiVersion")
                .is_some_and(|version| version == "policy/v1beta1") =>
        {
            if let Some(fields) = tree.as_object_mut() {
                fields.insert("apiVersion".into(), "policy/v1".into());
            }
            tree.to_string().into()
        }
        _ => body,
    }
}

/// What a subresource answers that makes no object of its own.
pub(crate) fn created() -> Status {
    Status {
        status: Some("Success".into()),
        code: Some(201),
        ..Status::default()
    }
}

/// Whether nobody is disrupted when the pod goes: it has ended, has not begun, or is going already.
fn needs_no_budget(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() || matches!(pod::phase(pod), "Succeeded" | "Failed" | "Pending")
}

struct Evictor<'a> {
    registry: &'a Registry,
    pods: &'a Resource,
    namespace: &'a str,
    name: &'a str,
    delete: DeleteOptions,
    write: WriteOptions,
}

impl Evictor<'_> {
    async fn evict(&self) -> ApiResult<()> {
        check_eviction(&self.write.user, &self.pod().await?)?;
        let asks_for_version = self.delete.resource_version.is_some();
        let mut attempts = 0;
        let pod = loop {
            let pod = self.pod().await?;
            if !needs_no_budget(&pod) {
                break pod;
            }
            let mut delete = self.delete.clone();
            let ends = pod.metadata.deletion_timestamp.is_some() || pod::is_terminal(&pod);
            if !ends && !asks_for_version {
                // It must not become ready before it is gone.
                delete.resource_version.clone_from(&pod.metadata.resource_version);
            }
            attempts += 1;
            match self.remove(delete).await {
                Err(error) if error.reason() == "Conflict" && !asks_for_version && attempts < ATTEMPTS => {}
                outcome => return outcome,
            }
        };
        let budgets = self.budgets(&pod).await?;
        let budget = match budgets.as_slice() {
            [] => return self.remove(self.delete.clone()).await,
            [budget] => budget,
            _ => {
                return Err(ApiError::unclassified(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        let name = budget.metadata.name.clone().unwrap_or_default();
        if pod::is_ready(&pod) || !spares_unhealthy(budget) {
            self.decrement(&name).await?;
            return self.remove(self.delete.clone()).await;
        }
        // An unhealthy pod does not count, as long as it is one.
        let mut delete = self.delete.clone();
        delete.resource_version.clone_from(&pod.metadata.resource_version);
        match self.remove(delete).await {
            Err(error) if error.reason() == "Conflict" && !asks_for_version => Err(being_processed(&name)),
            outcome => outcome,
        }
    }

    async fn pod(&self) -> ApiResult<Pod> {
        let entry = self.pods.get(self.namespace, self.name).await?;
        serde_json::from_slice(entry.json()).map_err(ApiError::internal)
    }

    /// The budgets that cover the pod.
    async fn budgets(&self, pod: &Pod) -> ApiResult<Vec<PodDisruptionBudget>> {
        let Some(resource) = self.registry.resource("policy", "v1", "poddisruptionbudgets") else {
            return Ok(Vec::new());
        };
        let options = ListOptions {
            namespace: Some(self.namespace.to_string()),
            ..ListOptions::default()
        };
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let mut found = Vec::new();
        for entry in resource.list(&options).await?.items {
            let budget: PodDisruptionBudget =
                serde_json::from_slice(entry.json()).map_err(ApiError::internal)?;
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            if LabelSelector::of(selector).is_ok_and(|selector| selector.matches(&labels)) {
                found.push(budget);
            }
        }
        Ok(found)
    }

    /// Takes one disruption from the budget, and notes for whom.
    async fn decrement(&self, budget: &str) -> ApiResult<()> {
        let resource = self
            .registry
            .resource("policy", "v1", "poddisruptionbudgets")
            .ok_or_else(ApiError::no_such_path)?;
        let target = Target::Subresource(Subresource::Status);
        resource
            .modify(self.namespace, budget, target, &self.write, |object| match object
                .as_any_mut()
                .downcast_mut::<PodDisruptionBudget>(
            ) {
                Some(budget) => check_and_decrement(budget, self.name, Time(now())),
                None => Err(ApiError::internal("not a budget")),
            })
            .await
            .map(drop)
    }

    /// Says in the pod why it goes, and deletes it.
    async fn remove(&self, mut delete: DeleteOptions) -> ApiResult<()> {
        if !delete.dry_run {
            let target = Target::Subresource(Subresource::Status);
            let marked = self
                .pods
                .modify(self.namespace, self.name, target, &self.write, |object| {
                    self.pods.check_preconditions(object.metadata(), &delete)?;
                    if let Some(pod) = object.as_any_mut().downcast_mut::<Pod>() {
                        mark(pod, Time(now()));
                    }
                    Ok(())
                })
                .await?;
            if delete.resource_version.is_some() {
                delete.resource_version = Some(marked.entry.revision().to_string());
            }
        }
        self.pods
            .delete(self.namespace, self.name, &delete, &self.write)
            .await
            .map(drop)
    }
}

/// Whether a pod that is not ready may go, whatever is left of the budget.
fn spares_unhealthy(budget: &PodDisruptionBudget) -> bool {
    let policy = budget
        .spec
        .as_ref()
        .and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    let status = budget.status.clone().unwrap_or_default();
    let (healthy, desired) = (
        status.current_healthy.unwrap_or(0),
        status.desired_healthy.unwrap_or(0),
    );
    policy == Some("AlwaysAllow") || healthy >= desired && desired > 0
}

/// The condition that says that the pod is disrupted, and by whom.
fn mark(pod: &mut Pod, now: Time) {
    let generation = pod.metadata.generation;
    let status = pod.status.get_or_insert_default();
    let tracked = status.observed_generation.is_some_and(|observed| observed > 0);
    let conditions = status.conditions.get_or_insert_default();
    let mut condition = PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some("EvictionByEvictionAPI".into()),
        message: Some("Eviction API: evicting".into()),
        last_transition_time: Some(now),
        observed_generation: generation.filter(|_| tracked),
        ..PodCondition::default()
    };
    match conditions.iter_mut().find(|found| found.type_ == condition.type_) {
        Some(found) => {
            if found.status == condition.status {
                condition
                    .last_transition_time
                    .clone_from(&found.last_transition_time);
            }
            *found = condition;
        }
        None => conditions.push(condition),
    }
}

fn too_many(retry_after: Option<Duration>, cause: String) -> ApiError {
    let mut error = ApiError::too_many_requests(REFUSED, retry_after.unwrap_or_default());
    let details = error.0.details.get_or_insert_default();
    details.retry_after_seconds = details.retry_after_seconds.filter(|seconds| *seconds > 0);
    details.causes = Some(vec![StatusCause {
        reason: Some("DisruptionBudget".into()),
        message: Some(cause),
        field: None,
    }]);
    error
}

fn being_processed(budget: &str) -> ApiError {
    let cause = format!("The disruption budget {budget} is still being processed by the server.");
    too_many(Some(Duration::from_secs(10)), cause)
}

fn check_and_decrement(budget: &mut PodDisruptionBudget, pod: &str, now: Time) -> ApiResult<()> {
    let name = budget.metadata.name.clone().unwrap_or_default();
    let status = budget.status.get_or_insert_default();
    if status.observed_generation.unwrap_or(0) < budget.metadata.generation.unwrap_or(0) {
        return Err(being_processed(&name));
    }
    let forbidden = |why: &str| {
        // Upstream's quirk: it names the resource in the singular.
        let info = KindInfo {
            plural: "poddisruptionbudget".into(),
            ..KindInfo::of::<PodDisruptionBudget>("poddisruptionbudget")
        };
        Err(ApiError::forbidden(&info, &name, why))
    };
    let allowed = status.disruptions_allowed.unwrap_or(0);
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    let disrupted = status.disrupted_pods.get_or_insert_default();
    if disrupted.len() > MOST_DISRUPTED {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        let failure = disruption::condition(status)
            .filter(|condition| condition.reason == disruption::SYNC_FAILED)
            .map(|condition| condition.message.clone());
        return Err(too_many(
            None,
            match failure {
                Some(why) => format!(
                    "The disruption budget {name} does not allow evicting pods currently because it failed sync: {why}"
                ),
                None => format!(
                    "The disruption budget {name} needs {} healthy pods and has {} currently",
                    status.desired_healthy.unwrap_or(0),
                    status.current_healthy.unwrap_or(0)
                ),
            },
        ));
    }
    disrupted.insert(pod.to_string(), now.clone());
    status.disruptions_allowed = Some(allowed - 1);
    if allowed == 1 {
        disruption::refresh(status, now);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use serde_json::{Value, json};

    fn budget(generation: i64, status: Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({"metadata": {"name": "b", "generation": generation}, "status": status}))
            .unwrap()
    }

    #[test]
    fn a_budget_says_why_it_allows_nothing() {
        let many: serde_json::Map<String, Value> = (0..=MOST_DISRUPTED)
            .map(|index| (index.to_string(), json!("2026-01-01T00:00:00Z")))
            .collect();
        let cases = [
            (
                budget(2, json!({"observedGeneration": 1, "disruptionsAllowed": 5})),
                429,
                "The disruption budget b is still being processed by the server.",
            ),
            (
                budget(
                    1,
                    json!({"observedGeneration": 1, "desiredHealthy": 3, "currentHealthy": 2}),
                ),
                429,
                "The disruption budget b needs 3 healthy pods and has 2 currently",
            ),
            (
                budget(
                    1,
                    json!({"observedGeneration": 1, "conditions": [{"type": "DisruptionAllowed", "status": "False",
                    "reason": "SyncFailed", "message": "no scale", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
                ),
                429,
                "The disruption budget b does not allow evicting pods currently because it failed sync: no scale",
            ),
            (
                budget(1, json!({"observedGeneration": 1, "disruptionsAllowed": -1})),
                403,
                "poddisruptionbudget.policy \"b\" is forbidden: pdb disruptions allowed is negative",
            ),
            (
                budget(
                    1,
                    json!({"observedGeneration": 1, "disruptionsAllowed": 9, "disruptedPods": many}),
                ),
                403,
                "poddisruptionbudget.policy \"b\" is forbidden: DisruptedPods map too big - too many evictions not confirmed by PDB controller",
            ),
        ];
        for (mut budget, code, expected) in cases {
            let error = check_and_decrement(&mut budget, "p", Time(Timestamp::UNIX_EPOCH)).unwrap_err();
            assert_eq!(error.code(), code, "{expected}");
            let details = error.0.details.clone().unwrap();
            let said = match &details.causes {
                Some(causes) => causes[0].message.clone().unwrap(),
                None => error.to_string(),
            };
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn the_last_disruption_changes_the_condition() {
        let mut budget = budget(1, json!({"observedGeneration": 1, "disruptionsAllowed": 2}));
        check_and_decrement(&mut budget, "p", Time(Timestamp::UNIX_EPOCH)).unwrap();
        assert_eq!(budget.status.as_ref().unwrap().conditions, None);
        check_and_decrement(&mut budget, "q", Time(Timestamp::UNIX_EPOCH)).unwrap();
        let status = budget.status.unwrap();
        assert_eq!(status.disruptions_allowed, Some(0));
        assert_eq!(disruption::condition(&status).unwrap().reason, "InsufficientPods");
        assert_eq!(
            status.disrupted_pods.unwrap().into_keys().collect::<Vec<_>>(),
            ["p", "q"]
        );
    }
}
