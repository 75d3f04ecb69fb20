//! The ReplicaSet controller: keeps as many pods as `spec.replicas` says.

mod plan;
mod rank;

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use skiff_api::selector::LabelSelector;
use skiff_informer::events::reference_to;
use skiff_informer::{EventRecorder, EventType, Index, Informer, Informers, ObjectKey, WorkQueue};
use tokio_util::sync::CancellationToken;

use crate::expectations::{self, Expectations};
use crate::ownership::{self, Claim, Owner, controller_of, controller_ref, owner_of};
use crate::pods;
use crate::worker::{Failure, Reconcile, api_message, is_namespace_terminating, unless_gone, work};
pub(crate) use plan::replicas;
use plan::{Scaling, ScalingFailure};

const WORKERS: usize = 5;
const KIND: &str = "ReplicaSet";

struct Controller {
    client: Client,
    sets: Informer<ReplicaSet>,
    sets_by_owner: Index<Owner, ReplicaSet>,
    pods_by_owner: Index<Owner, Pod>,
    expectations: Arc<Expectations>,
    queue: Arc<WorkQueue<ObjectKey>>,
    events: EventRecorder,
}

/// Runs the controller until `shutdown`.
pub(crate) async fn run(informers: Informers, shutdown: CancellationToken) {
    let client = informers.client().clone();
    let sets = informers.all::<ReplicaSet>();
    let all_pods = informers.all::<Pod>();
    let sets_by_owner = Index::new(&sets, |set: &ReplicaSet| vec![owner_of(&set.metadata)]);
    let pods_by_owner = Index::new(&all_pods, |pod: &Pod| vec![owner_of(&pod.metadata)]);
    let controller = Controller {
        events: EventRecorder::new(client.clone(), "replicaset-controller", None, shutdown.clone()),
        client,
        sets: sets.clone(),
        sets_by_owner,
        pods_by_owner,
        expectations: Arc::default(),
        queue: informers.queues().make("replicaset"),
    };
    let queue = controller.queue.clone();
    sets.on_change({
        let queue = queue.clone();
        let expectations = controller.expectations.clone();
        move |old, new| {
            if let Some(old) = old
                && new.is_none_or(|new| new.metadata.uid != old.metadata.uid)
            {
                expectations.forget(&ObjectKey::of(&old.metadata));
            }
            if let Some(set) = new.or(old) {
                queue.add(ObjectKey::of(&set.metadata));
            }
        }
    });
    all_pods.on_change({
        let queue = queue.clone();
        let expectations = controller.expectations.clone();
        let sets = sets.clone();
        move |old, new| pod_changed(old, new, &queue, &expectations, &sets)
    });
    tokio::select! {
        () = async { tokio::join!(sets.synced(), all_pods.synced()); } => {}
        () = shutdown.cancelled() => return,
    }
    work("replicaset", Arc::new(controller), queue, WORKERS, shutdown).await;
}

/// Tells the replica sets that a pod belongs, belonged or could belong to.
fn pod_changed(
    old: Option<&Arc<Pod>>,
    new: Option<&Arc<Pod>>,
    queue: &WorkQueue<ObjectKey>,
    expectations: &Expectations,
    sets: &Informer<ReplicaSet>,
) {
    let is_same = matches!((old, new), (Some(old), Some(new)) if old.metadata.uid == new.metadata.uid);
    if let Some(old) = old {
        let owner = owning_set(&old.metadata);
        if let Some(owner) = &owner {
            if !is_same {
                expectations.deletion_observed(owner, &ObjectKey::of(&old.metadata));
            }
            if !is_same || new.and_then(|new| owning_set(&new.metadata)) != Some(owner.clone()) {
                queue.add(owner.clone());
            }
        }
    }
    let Some(new) = new else { return };
    match owning_set(&new.metadata) {
        Some(owner) => {
            if !is_same {
                expectations.creation_observed(&owner);
            }
            if new.metadata.deletion_timestamp.is_some() {
                expectations.deletion_observed(&owner, &ObjectKey::of(&new.metadata));
            }
            queue.add(owner);
        }
        None if controller_of(&new.metadata).is_none() && new.metadata.deletion_timestamp.is_none() => {
            let relabelled = old.is_none_or(|old| {
                old.metadata.labels != new.metadata.labels
                    || old.metadata.owner_references != new.metadata.owner_references
            });
            if relabelled {
                let labels = new.metadata.labels.clone().unwrap_or_default();
                let namespace = new.metadata.namespace.as_deref().unwrap_or_default();
                for set in sets.list_namespace(namespace) {
                    if selector(&set).is_some_and(|selector| selector.matches(&labels)) {
                        queue.add(ObjectKey::of(&set.metadata));
                    }
                }
            }
        }
        None => {}
    }
}

fn owning_set(meta: &ObjectMeta) -> Option<ObjectKey> {
    let owner = controller_of(meta).filter(|owner| owner.kind == KIND)?;
    Some(ObjectKey::new(
        meta.namespace.clone().unwrap_or_default(),
        owner.name.clone(),
    ))
}

fn selector(set: &ReplicaSet) -> Option<LabelSelector> {
    let selector = LabelSelector::of(Some(&set.spec.selector)).ok()?;
    (!selector.is_everything()).then_some(selector)
}

impl Reconcile<ObjectKey> for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<(), Failure> {
        let Some(set) = self.sets.get(key) else {
            self.expectations.forget(key);
            return Ok(());
        };
        let Some(selector) = selector(&set) else {
            return Ok(());
        };
        let may_scale = self.expectations.are_met(key);
        let owned = self.claim(&set, &selector).await?;
        let failure = if may_scale && set.metadata.deletion_timestamp.is_none() {
            self.scale(key, &set, &owned).await
        } else {
            None
        };
        let now = Timestamp::now();
        self.store_status(&set, plan::status(&set, &owned, failure.as_ref(), now))
            .await?;
        if let Some(at) = plan::next_available(&set, &owned, now) {
            let delay = at.duration_since(now).unsigned_abs();
            self.queue.add_after(key.clone(), delay);
        }
        match failure {
            Some(failure) => Err(Failure::NotYet(failure.message)),
            None => Ok(()),
        }
    }
}

impl Controller {
    /// The pods that are the replica set's, after adopting and releasing.
    async fn claim(&self, set: &ReplicaSet, selector: &LabelSelector) -> Result<Vec<Arc<Pod>>, Failure> {
        let meta = &set.metadata;
        let namespace = meta.namespace.clone().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let mut candidates = self
            .pods_by_owner
            .get(&Owner::Uid(meta.uid.clone().unwrap_or_default()));
        candidates.extend(self.pods_by_owner.get(&Owner::None(namespace)));
        let mut owned = Vec::with_capacity(candidates.len());
        let mut may_adopt = None;
        for pod in candidates {
            let name = pod.metadata.name.clone().unwrap_or_default();
            match ownership::claim(meta, selector, &pod.metadata) {
                Claim::Keep => owned.push(pod),
                Claim::Ignore => {}
                Claim::Adopt if !pods::is_active(&pod) => {}
                Claim::Adopt => {
                    if may_adopt.is_none() {
                        may_adopt = Some(self.is_still_there(set).await?);
                    }
                    if may_adopt == Some(true) {
                        let patch = ownership::adoption(&controller_ref(set), &pod.metadata.uid);
                        let patched = api
                            .patch(&name, &PatchParams::default(), &Patch::Strategic(patch))
                            .await;
                        match patched {
                            Ok(adopted) => owned.push(Arc::new(adopted)),
                            other => unless_gone(other)?,
                        }
                    }
                }
                Claim::Release => {
                    let patch = ownership::release(&meta.uid, &pod.metadata.uid);
                    unless_gone(
                        api.patch(&name, &PatchParams::default(), &Patch::Strategic(patch))
                            .await,
                    )?;
                }
            }
        }
        Ok(owned)
    }

    /// Asks the API itself, so that nothing is adopted for a replica set that is deleted or replaced by now.
    async fn is_still_there(&self, set: &ReplicaSet) -> Result<bool, Failure> {
        let api: Api<ReplicaSet> = Api::namespaced(
            self.client.clone(),
            set.metadata.namespace.as_deref().unwrap_or_default(),
        );
        let fresh = api
            .get_opt(set.metadata.name.as_deref().unwrap_or_default())
            .await?;
        Ok(fresh.is_some_and(|fresh| {
            fresh.metadata.uid == set.metadata.uid && fresh.metadata.deletion_timestamp.is_none()
        }))
    }

    /// The active pods of all replica sets with the same controller; only needed to delete.
    fn related(&self, set: &ReplicaSet, owned: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let Some(owner) = controller_of(&set.metadata) else {
            return owned.to_vec();
        };
        let siblings = self.sets_by_owner.get(&Owner::Uid(owner.uid.clone()));
        siblings
            .iter()
            .flat_map(|set| {
                self.pods_by_owner
                    .get(&Owner::Uid(set.metadata.uid.clone().unwrap_or_default()))
            })
            .collect()
    }

    async fn scale(&self, key: &ObjectKey, set: &ReplicaSet, owned: &[Arc<Pod>]) -> Option<ScalingFailure> {
        let active = owned.iter().filter(|pod| pods::is_active(pod)).count();
        let too_many = usize::try_from(replicas(set)).is_ok_and(|wanted| active > wanted);
        let related = if too_many {
            self.related(set, owned)
        } else {
            Vec::new()
        };
        let Scaling { create, delete } = plan::scaling(set, owned, &related, Timestamp::now());
        if create == 0 && delete.is_empty() {
            return None;
        }
        let deletions: HashSet<ObjectKey> = delete.iter().map(|pod| ObjectKey::of(&pod.metadata)).collect();
        self.expectations.expect(key, create, deletions);
        // Should an event be lost for good, the replica set is looked at again when the expectations end.
        self.queue.add_after(key.clone(), expectations::TIMEOUT);
        let result = if create > 0 {
            self.create(key, set, create)
                .await
                .map_err(|error| ("FailedCreate", error))
        } else {
            self.delete(key, set, &delete)
                .await
                .map_err(|error| ("FailedDelete", error))
        };
        result.err().map(|(reason, error)| ScalingFailure {
            reason,
            message: api_message(&error),
        })
    }

    async fn create(&self, key: &ObjectKey, set: &ReplicaSet, count: usize) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let pod = plan::pod(set);
        let mut left = count;
        for batch in plan::slow_start(count) {
            let parameters = PostParams::default();
            let requests = (0..batch).map(|_| api.create(&parameters, &pod));
            let results = join_all(requests).await;
            left -= batch;
            let mut failed = None;
            for result in results {
                match result {
                    Ok(created) => {
                        let name = created.metadata.name.unwrap_or_default();
                        let text = format!("Created pod: {name}");
                        self.events
                            .record(reference_to(set), EventType::Normal, "SuccessfulCreate", text);
                    }
                    Err(error) => {
                        self.expectations.creation_observed(key);
                        // Its deletion will take the replica set along.
                        if !is_namespace_terminating(&error) {
                            let text = format!("Error creating: {}", api_message(&error));
                            self.events
                                .record(reference_to(set), EventType::Warning, "FailedCreate", text);
                            failed = Some(Err(error));
                        } else {
                            failed.get_or_insert(Ok(()));
                        }
                    }
                }
            }
            if let Some(failed) = failed {
                (0..left).for_each(|_| self.expectations.creation_observed(key));
                return failed;
            }
        }
        Ok(())
    }

    async fn delete(&self, key: &ObjectKey, set: &ReplicaSet, pods: &[Arc<Pod>]) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let requests = pods.iter().map(|pod| async {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let result = api.delete(&name, &DeleteParams::default()).await.map(|_| ());
            match &result {
                Ok(()) => {
                    let text = format!("Deleted pod: {name}");
                    self.events
                        .record(reference_to(set), EventType::Normal, "SuccessfulDelete", text);
                }
                Err(error) => {
                    self.expectations
                        .deletion_observed(key, &ObjectKey::of(&pod.metadata));
                    if !crate::worker::is_not_found(error) {
                        let text = format!("Error deleting: {}", api_message(error));
                        self.events
                            .record(reference_to(set), EventType::Warning, "FailedDelete", text);
                    }
                }
            }
            unless_gone(result)
        });
        join_all(requests).await.into_iter().collect()
    }

    async fn store_status(
        &self,
        set: &ReplicaSet,
        status: k8s_openapi::api::apps::v1::ReplicaSetStatus,
    ) -> Result<(), Failure> {
        if set
            .status
            .as_ref()
            .is_some_and(|old| plan::same_status(old, &status))
        {
            return Ok(());
        }
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), namespace);
        let mut new = set.clone();
        new.status = Some(status);
        let name = new.metadata.name.clone().unwrap_or_default();
        unless_gone(api.replace_status(&name, &PostParams::default(), &new).await)?;
        Ok(())
    }
}
