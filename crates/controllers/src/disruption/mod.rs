//! The disruption controller: how many pods of each budget may be evicted now.

mod plan;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use serde_json::json;
use skiff_api::selector::LabelSelector;
use skiff_informer::events::reference_to;
use skiff_informer::{EventRecorder, EventType, Informer, Informers, ObjectKey, WorkQueue};
use tokio_util::sync::CancellationToken;

use crate::discovered::Kinds;
use crate::ownership::controller_of;
use crate::worker::{Failure, Reconcile, is_not_found, unless_gone, work};
use plan::{failed, is_relative, plan, stale_after};

/// What has to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Work {
    /// A budget.
    Budget(ObjectKey),
    /// A pod that says that it is about to be disrupted.
    Target(ObjectKey),
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Budget(key) => write!(f, "budget {key}"),
            Self::Target(key) => write!(f, "pod {key}"),
        }
    }
}

struct Controller {
    client: Client,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    controllers: Informer<ReplicationController>,
    replica_sets: Informer<ReplicaSet>,
    deployments: Informer<Deployment>,
    stateful_sets: Informer<StatefulSet>,
    kinds: Mutex<Kinds>,
    queue: Arc<WorkQueue<Work>>,
    events: EventRecorder,
}

/// Runs the controller until `shutdown`.
pub(crate) async fn run(informers: Informers, shutdown: CancellationToken) {
    let client = informers.client().clone();
    let controller = Controller {
        events: EventRecorder::new(client.clone(), "controllermanager", None, shutdown.clone()),
        client,
        budgets: informers.all(),
        pods: informers.all(),
        controllers: informers.all(),
        replica_sets: informers.all(),
        deployments: informers.all(),
        stateful_sets: informers.all(),
        kinds: Mutex::default(),
        queue: informers.queues().make("disruption"),
    };
    let queue = controller.queue.clone();
    controller.budgets.on_change({
        let queue = queue.clone();
        move |_, new| {
            if let Some(new) = new {
                queue.add(Work::Budget(ObjectKey::of(&new.metadata)));
            }
        }
    });
    controller.pods.on_change({
        let queue = queue.clone();
        let budgets = controller.budgets.clone();
        move |old, new| {
            if let Some(new) = new
                && stale_after(new, Timestamp::now()).is_some()
            {
                queue.add(Work::Target(ObjectKey::of(&new.metadata)));
            }
            for pod in [old, new].into_iter().flatten() {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                for budget in budgets.list_namespace(namespace) {
                    if covers(&budget, pod) {
                        queue.add(Work::Budget(ObjectKey::of(&budget.metadata)));
                    }
                }
            }
        }
    });
    tokio::select! {
        () = async {
            tokio::join!(
                controller.budgets.synced(),
                controller.pods.synced(),
                controller.controllers.synced(),
                controller.replica_sets.synced(),
                controller.deployments.synced(),
                controller.stateful_sets.synced(),
            );
        } => {}
        () = shutdown.cancelled() => return,
    }
    work("disruption", Arc::new(controller), queue, 2, shutdown).await;
}

fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    LabelSelector::of(selector).is_ok_and(|selector| selector.matches(&labels))
}

/// Why a budget cannot be calculated.
enum Uncountable {
    /// As it is, it never can.
    Misfit(String),
    /// The API did not answer.
    Api(kube::Error),
}

impl From<kube::Error> for Uncountable {
    fn from(error: kube::Error) -> Self {
        Self::Api(error)
    }
}

impl Reconcile<Work> for Controller {
    async fn reconcile(&self, work: &Work) -> Result<(), Failure> {
        match work {
            Work::Budget(key) => self.budget(key).await,
            Work::Target(key) => self.target(key).await,
        }
    }
}

impl Controller {
    async fn budget(&self, key: &ObjectKey) -> Result<(), Failure> {
        let Some(budget) = self.budgets.get(key) else {
            return Ok(());
        };
        let mut pods = self.pods.list_namespace(&key.namespace);
        pods.retain(|pod| covers(&budget, pod));
        let say = |type_, reason, message| self.events.record(reference_to(&*budget), type_, reason, message);
        if pods.is_empty() {
            say(EventType::Normal, "NoPods", "No matching pods found".to_string());
        }
        let relative = budget.spec.as_ref().is_some_and(is_relative);
        let wanted = if relative {
            self.wanted(&budget, &pods).await
        } else {
            Ok(0)
        };
        let now = Timestamp::now();
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(why) => {
                let message = match why {
                    Uncountable::Misfit(message) => message,
                    Uncountable::Api(error) => error.to_string(),
                };
                say(
                    EventType::Warning,
                    "CalculateExpectedPodCountFailed",
                    format!("Failed to calculate the number of expected pods: {message}"),
                );
                if let Some(status) = failed(&budget, message, now) {
                    self.write(&budget, status).await?;
                }
                return Ok(());
            }
        };
        let planned = plan(&budget, &pods, wanted, now);
        for pod in &planned.not_deleted {
            self.events.record(
                reference_to(&**pod),
                EventType::Warning,
                "NotDeleted",
                format!(
                    "Pod was expected by PDB {}/{} to be deleted but it wasn't",
                    key.namespace, key.name
                ),
            );
        }
        if let Some(status) = planned.status {
            self.write(&budget, status).await?;
        }
        if let Some(delay) = planned.recheck {
            let delay = delay.unsigned_abs() + std::time::Duration::from_millis(10);
            self.queue.add_after(Work::Budget(key.clone()), delay);
        }
        Ok(())
    }

    async fn write(
        &self,
        budget: &PodDisruptionBudget,
        status: PodDisruptionBudgetStatus,
    ) -> Result<(), Failure> {
        let mut changed = budget.clone();
        changed.status = Some(status);
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        let name = budget.metadata.name.as_deref().unwrap_or_default();
        let api: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), namespace);
        unless_gone(api.replace_status(name, &PostParams::default(), &changed).await)?;
        Ok(())
    }

    /// How many pods the controllers of these pods want together; pods without one are not counted.
    async fn wanted(&self, budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Result<i32, Uncountable> {
        let mut scales: HashMap<String, i32> = HashMap::new();
        let mut unmanaged = false;
        for pod in pods {
            let Some(owner) = controller_of(&pod.metadata) else {
                unmanaged = true;
                continue;
            };
            if scales.contains_key(&owner.uid) {
                continue;
            }
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let Some((uid, scale)) = self.scale(namespace, owner).await? else {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let why = format!("found no controllers for pod {name:?}");
                return Err(Uncountable::Misfit(why));
            };
            scales.insert(uid, scale);
        }
        if unmanaged {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let selector = LabelSelector::of(selector).map(|selector| selector.to_string());
            self.events.record(
                reference_to(budget),
                EventType::Warning,
                "UnmanagedPods",
                format!(
                    "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.",
                    selector.unwrap_or_default()
                ),
            );
        }
        Ok(scales
            .values()
            .fold(0, |sum: i32, scale| sum.saturating_add(*scale)))
    }

    /// The uid and the wished number of pods of whoever decides on that: a replica set's deployment, or the owner itself.
    async fn scale(
        &self,
        namespace: &str,
        owner: &OwnerReference,
    ) -> Result<Option<(String, i32)>, Uncountable> {
        let key = ObjectKey::new(namespace, &owner.name);
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let found = match (group, owner.kind.as_str()) {
            ("", "ReplicationController") => self.controllers.get(&key).map(|found| {
                let replicas = found.spec.as_ref().and_then(|spec| spec.replicas);
                (found.metadata.uid.clone(), replicas)
            }),
            ("apps", "StatefulSet") => self
                .stateful_sets
                .get(&key)
                .map(|found| (found.metadata.uid.clone(), found.spec.replicas)),
            ("apps", "ReplicaSet") => {
                let Some(set) = self.replica_sets.get(&key) else {
                    return Ok(None);
                };
                if set.metadata.uid.as_deref() != Some(owner.uid.as_str()) {
                    return Ok(None);
                }
                let above = controller_of(&set.metadata).filter(|above| above.kind == "Deployment");
                let Some(above) = above else {
                    return Ok(Some((owner.uid.clone(), set.spec.replicas.unwrap_or(1))));
                };
                let deployment = self.deployments.get(&ObjectKey::new(namespace, &above.name));
                return Ok(deployment
                    .filter(|found| found.metadata.uid.as_deref() == Some(above.uid.as_str()))
                    .map(|found| (above.uid.clone(), found.spec.replicas.unwrap_or(1))));
            }
            _ => return self.other_scale(namespace, owner).await,
        };
        Ok(found
            .filter(|(uid, _)| uid.as_deref() == Some(owner.uid.as_str()))
            .map(|(_, replicas)| (owner.uid.clone(), replicas.unwrap_or(1))))
    }

    /// The scale of an owner of any other kind, as its `scale` subresource has it.
    async fn other_scale(
        &self,
        namespace: &str,
        owner: &OwnerReference,
    ) -> Result<Option<(String, i32)>, Uncountable> {
        let resolve = |kinds: &Kinds| kinds.resolve(&owner.api_version, &owner.kind).cloned();
        let known = resolve(&self.kinds.lock());
        let kind = match known {
            Some(kind) => Some(kind),
            None => {
                let kinds = Kinds::discover(&self.client).await?;
                let kind = resolve(&kinds);
                *self.kinds.lock() = kinds;
                kind
            }
        };
        let Some(kind) = kind else {
            let (group, version) = owner
                .api_version
                .split_once('/')
                .unwrap_or(("", &owner.api_version));
            let shown = if group.is_empty() {
                owner.kind.clone()
            } else {
                format!("{}.{group}", owner.kind)
            };
            return Err(Uncountable::Misfit(format!(
                "no matches for kind {shown:?} in version {version:?}"
            )));
        };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind.resource);
        match api.get_scale(&owner.name).await {
            Ok(scale) => {
                let uid = scale.metadata.uid.unwrap_or_default();
                let replicas = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
                Ok((uid == owner.uid).then_some((uid, replicas)))
            }
            Err(error) if is_not_found(&error) => {
                // Either the owner is gone, or its kind has no scale.
                if api.get_metadata_opt(&owner.name).await?.is_none() {
                    return Ok(None);
                }
                let resource = &kind.resource;
                let dot = if resource.group.is_empty() { "" } else { "." };
                Err(Uncountable::Misfit(format!(
                    "{}{dot}{} does not implement the scale subresource",
                    resource.plural, resource.group
                )))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes back what a pod says about its end when that did not come.
    async fn target(&self, key: &ObjectKey) -> Result<(), Failure> {
        let Some(pod) = self.pods.get(key) else {
            return Ok(());
        };
        match stale_after(&pod, Timestamp::now()) {
            None => Ok(()),
            Some(left) if left.is_positive() => {
                self.queue
                    .add_after(Work::Target(key.clone()), left.unsigned_abs());
                Ok(())
            }
            Some(_) => {
                let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
                let patch = json!({
                    "metadata": {"uid": pod.metadata.uid},
                    "status": {"conditions": [{
                        "type": "DisruptionTarget", "status": "False", "reason": null, "message": null,
                        "lastTransitionTime": now.to_string(),
                    }]}
                });
                let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
                unless_gone(
                    api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch))
                        .await,
                )?;
                Ok(())
            }
        }
    }
}
