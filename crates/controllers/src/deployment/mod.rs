//! The Deployment controller: rolls a template out over replica sets, a few pods at a time.

mod plan;
#[cfg(test)]
mod plan_tests;
mod revision;
mod sizes;
mod status;

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use skiff_api::selector::LabelSelector;
use skiff_informer::events::reference_to;
use skiff_informer::{EventRecorder, EventType, Index, Informer, Informers, ObjectKey, WorkQueue};
use tokio_util::sync::CancellationToken;

use crate::ownership::{self, Claim, Owner, controller_of, controller_ref, owner_of};
use crate::pods;
use crate::worker::{
    Failure, Reconcile, api_message, is_already_exists, is_namespace_terminating, unless_gone, work,
};
use plan::{Change, Plan, plan};
pub(crate) use sizes::{Round, scaled};

const WORKERS: usize = 5;
const KIND: &str = "Deployment";

struct Controller {
    client: Client,
    deployments: Informer<Deployment>,
    sets_by_owner: Index<Owner, ReplicaSet>,
    pods_by_owner: Index<Owner, Pod>,
    queue: Arc<WorkQueue<ObjectKey>>,
    events: EventRecorder,
}

/// Runs the controller until `shutdown`.
pub(crate) async fn run(informers: Informers, shutdown: CancellationToken) {
    let client = informers.client().clone();
    let deployments = informers.all::<Deployment>();
    let sets = informers.all::<ReplicaSet>();
    let all_pods = informers.all::<Pod>();
    let queue = informers.queues().make::<ObjectKey>("deployment");
    let controller = Controller {
        events: EventRecorder::new(client.clone(), "deployment-controller", None, shutdown.clone()),
        client,
        deployments: deployments.clone(),
        sets_by_owner: Index::new(&sets, |set: &ReplicaSet| vec![owner_of(&set.metadata)]),
        pods_by_owner: Index::new(&all_pods, |pod: &Pod| vec![owner_of(&pod.metadata)]),
        queue: queue.clone(),
    };
    deployments.on_change({
        let queue = queue.clone();
        move |old, new| {
            if let Some(deployment) = new.or(old) {
                queue.add(ObjectKey::of(&deployment.metadata));
            }
        }
    });
    sets.on_change({
        let queue = queue.clone();
        let deployments = deployments.clone();
        move |old, new| set_changed(old, new, &queue, &deployments)
    });
    all_pods.on_change({
        let queue = queue.clone();
        let (deployments, sets) = (deployments.clone(), sets.clone());
        move |old, new| {
            // `Recreate` waits until the last old pod has ended.
            let ended = new.is_none_or(|new| pods::is_terminated(new));
            if let Some(pod) = new.or(old).filter(|_| ended)
                && let Some(deployment) = recreating(&pod.metadata, &sets, &deployments)
            {
                queue.add(deployment);
            }
        }
    });
    tokio::select! {
        () = async { tokio::join!(deployments.synced(), sets.synced(), all_pods.synced()); } => {}
        () = shutdown.cancelled() => return,
    }
    work("deployment", Arc::new(controller), queue, WORKERS, shutdown).await;
}

fn set_changed(
    old: Option<&Arc<ReplicaSet>>,
    new: Option<&Arc<ReplicaSet>>,
    queue: &WorkQueue<ObjectKey>,
    deployments: &Informer<Deployment>,
) {
    for set in [old, new].into_iter().flatten() {
        if let Some(owner) = owner_key(&set.metadata, KIND) {
            queue.add(owner);
        }
    }
    let Some(new) = new.filter(|new| controller_of(&new.metadata).is_none()) else {
        return;
    };
    let labels = new.metadata.labels.clone().unwrap_or_default();
    for deployment in deployments.list_namespace(new.metadata.namespace.as_deref().unwrap_or_default()) {
        if selector(&deployment).is_some_and(|selector| selector.matches(&labels)) {
            queue.add(ObjectKey::of(&deployment.metadata));
        }
    }
}

fn owner_key(meta: &ObjectMeta, kind: &str) -> Option<ObjectKey> {
    let owner = controller_of(meta).filter(|owner| owner.kind == kind)?;
    Some(ObjectKey::new(
        meta.namespace.clone().unwrap_or_default(),
        owner.name.clone(),
    ))
}

/// The deployment that a pod belongs to, if it is one that replaces all pods at once.
fn recreating(
    pod: &ObjectMeta,
    sets: &Informer<ReplicaSet>,
    deployments: &Informer<Deployment>,
) -> Option<ObjectKey> {
    let set = sets.get(&owner_key(pod, "ReplicaSet")?)?;
    let key = owner_key(&set.metadata, KIND)?;
    let deployment = deployments.get(&key)?;
    (!sizes::is_rolling(&deployment)).then_some(key)
}

fn selector(deployment: &Deployment) -> Option<LabelSelector> {
    let selector = LabelSelector::of(Some(&deployment.spec.selector)).ok()?;
    (!selector.is_everything()).then_some(selector)
}

/// The current time as conditions store it.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

impl Reconcile<ObjectKey> for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<(), Failure> {
        let Some(deployment) = self.deployments.get(key) else {
            return Ok(());
        };
        let Some(selector) = selector(&deployment) else {
            let text = "This deployment is selecting all pods. A non-empty selector is required.";
            self.events.record(
                reference_to(&*deployment),
                EventType::Warning,
                "SelectingAll",
                text,
            );
            return Ok(());
        };
        let sets = self.claim(&deployment, &selector).await?;
        let with_pods: HashSet<String> = sets
            .iter()
            .filter_map(|set| set.metadata.uid.clone())
            .filter(|uid| {
                let pods = self.pods_by_owner.get(&Owner::Uid(uid.clone()));
                pods.iter().any(|pod| !pods::is_terminated(pod))
            })
            .collect();
        let plan = plan(&deployment, &sets, &with_pods, now());
        self.carry_out(key, &deployment, plan).await
    }
}

impl Controller {
    /// The replica sets that are the deployment's, after adopting and releasing.
    async fn claim(
        &self,
        deployment: &Deployment,
        selector: &LabelSelector,
    ) -> Result<Vec<Arc<ReplicaSet>>, Failure> {
        let meta = &deployment.metadata;
        let namespace = meta.namespace.clone().unwrap_or_default();
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &namespace);
        let mut candidates = self
            .sets_by_owner
            .get(&Owner::Uid(meta.uid.clone().unwrap_or_default()));
        candidates.extend(self.sets_by_owner.get(&Owner::None(namespace)));
        let mut owned = Vec::with_capacity(candidates.len());
        for set in candidates {
            let name = set.metadata.name.clone().unwrap_or_default();
            match ownership::claim(meta, selector, &set.metadata) {
                Claim::Keep => owned.push(set),
                Claim::Ignore => {}
                Claim::Adopt => {
                    if !self.is_still_there(deployment).await? {
                        continue;
                    }
                    let patch = ownership::adoption(&controller_ref(deployment), &set.metadata.uid);
                    match api
                        .patch(&name, &PatchParams::default(), &Patch::Strategic(patch))
                        .await
                    {
                        Ok(adopted) => owned.push(Arc::new(adopted)),
                        other => unless_gone(other)?,
                    }
                }
                Claim::Release => {
                    let patch = ownership::release(&meta.uid, &set.metadata.uid);
                    unless_gone(
                        api.patch(&name, &PatchParams::default(), &Patch::Strategic(patch))
                            .await,
                    )?;
                }
            }
        }
        Ok(owned)
    }

    /// Asks the API itself, so that nothing is adopted for a deployment that is deleted or replaced by now.
    async fn is_still_there(&self, deployment: &Deployment) -> Result<bool, Failure> {
        let fresh = self
            .api(deployment)
            .get_opt(deployment.metadata.name.as_deref().unwrap_or_default())
            .await?;
        Ok(fresh.is_some_and(|fresh| {
            fresh.metadata.uid == deployment.metadata.uid && fresh.metadata.deletion_timestamp.is_none()
        }))
    }

    fn api(&self, deployment: &Deployment) -> Api<Deployment> {
        Api::namespaced(
            self.client.clone(),
            deployment.metadata.namespace.as_deref().unwrap_or_default(),
        )
    }

    async fn carry_out(&self, key: &ObjectKey, deployment: &Deployment, plan: Plan) -> Result<(), Failure> {
        let sets: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        if let Some(change) = plan.create {
            match sets.create(&PostParams::default(), &change.set).await {
                Ok(_) => self.tell(deployment, &change),
                Err(error) => self.creation_failed(deployment, &change.set, error).await?,
            }
        }
        for change in plan.update {
            let name = change.set.metadata.name.clone().unwrap_or_default();
            sets.replace(&name, &PostParams::default(), &change.set).await?;
            self.tell(deployment, &change);
        }
        for set in plan.delete {
            let parameters = DeleteParams::background().preconditions(Preconditions {
                uid: set.metadata.uid.clone(),
                resource_version: None,
            });
            let name = set.metadata.name.as_deref().unwrap_or_default();
            unless_gone(sets.delete(name, &parameters).await)?;
        }
        if plan.revision.is_some() || plan.status.is_some() {
            let mut current = deployment.clone();
            if let Some(revision) = plan.revision {
                let annotations = current.metadata.annotations.get_or_insert_default();
                annotations.insert(revision::REVISION.into(), revision);
            }
            let status = plan.status.or_else(|| current.status.clone());
            // With the status, as nobody wishes for another revision: the generation stays.
            self.store_status(&current, status.unwrap_or_default()).await?;
        }
        if let Some(delay) = plan.look_again {
            self.queue.add_after(key.clone(), delay.unsigned_abs());
        }
        Ok(())
    }

    fn tell(&self, deployment: &Deployment, change: &Change) {
        for message in &change.events {
            self.events.record(
                reference_to(deployment),
                EventType::Normal,
                "ScalingReplicaSet",
                message.clone(),
            );
        }
    }

    async fn store_status(&self, deployment: &Deployment, status: DeploymentStatus) -> Result<(), Failure> {
        let mut new = deployment.clone();
        new.status = Some(status);
        let name = new.metadata.name.clone().unwrap_or_default();
        unless_gone(
            self.api(deployment)
                .replace_status(&name, &PostParams::default(), &new)
                .await,
        )?;
        Ok(())
    }

    /// Tells apart a replica set that is ours already, a collision of hashes, and a real failure.
    async fn creation_failed(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
        error: kube::Error,
    ) -> Result<(), Failure> {
        let name = set.metadata.name.clone().unwrap_or_default();
        if is_already_exists(&error) {
            let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
            let sets: Api<ReplicaSet> = Api::namespaced(self.client.clone(), namespace);
            let there = sets.get(&name).await?;
            let is_ours =
                controller_of(&there.metadata).map(|owner| &owner.uid) == deployment.metadata.uid.as_ref();
            let template = there.spec.template.clone().unwrap_or_default();
            if is_ours && revision::same_template(&template, &deployment.spec.template) {
                // The informer has not seen it yet; when it does, the next pass takes it into account.
                return Err(Failure::NotYet(format!("replica set {name} is not seen yet")));
            }
            let mut status = deployment.status.clone().unwrap_or_default();
            status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
            self.store_status(deployment, status).await?;
            return Err(error.into());
        }
        if is_namespace_terminating(&error) {
            return Err(error.into());
        }
        let message = format!(
            "Failed to create new replica set \"{name}\": {}",
            api_message(&error)
        );
        let text = message.clone();
        self.events.record(
            reference_to(deployment),
            EventType::Warning,
            "ReplicaSetCreateError",
            text,
        );
        if status::progress_deadline(deployment).is_some() {
            let mut status = deployment.status.clone().unwrap_or_default();
            let condition = status::new_condition(
                status::PROGRESSING,
                "False",
                "ReplicaSetCreateError",
                message,
                now(),
            );
            status::set_condition(&mut status, condition);
            if deployment.status.as_ref() != Some(&status) {
                self.store_status(deployment, status).await?;
            }
        }
        Err(error.into())
    }
}
