//! The garbage collector: what has lost all its owners is deleted.
//!
//! Every deletable kind that the API serves is watched. Kinds that others in the process need anyway come from their
//! informers, the rest by watches for metadata alone. All feed one [`graph::Graph`], which only ever suggests what to
//! look into; each decision is made on what the API itself says at that moment.

mod graph;
mod verdict;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::discovery::verbs;
use kube::{Client, Resource as _};
use parking_lot::{Mutex, RwLock};
use serde_json::json;
use skiff_informer::{
    Feed, Hearer, Informer, Informers, ObjectKey, Selection, Told, Watched, WorkQueue, read_metadata,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::discovered::{Discovered, Kinds};
use crate::namespace::Vacancies;
use crate::resource_quota::Releases;
use crate::worker::{Failure, Reconcile, unless_gone, work};
use graph::{FOREGROUND, Graph, Identity, ORPHAN, Work};
use verdict::{OwnerState, Verdict, verdict};

const WORKERS: usize = 20;
/// Absent owners that are remembered, so that a hundred dependents of one ask only once (upstream's cache size).
const REMEMBERED: usize = 500;
/// How soon discovery follows a change of a custom resource definition or an aggregated API …
const REDISCOVER: Duration = Duration::from_millis(500);
/// … and how often it is repeated without one: a server that was upgraded tells nobody.
const REDISCOVER_ANYWAY: Duration = Duration::from_secs(5 * 60);

/// What all watches feed.
struct Sink {
    graph: Mutex<Graph>,
    queue: Arc<WorkQueue<Work>>,
    vacancies: Vacancies,
    releases: Releases,
    kinds_changed: Notify,
}

impl Sink {
    fn observe(&self, api_version: &str, kind: &str, meta: &ObjectMeta) {
        let work = self.graph.lock().observe(api_version, kind, meta);
        work.into_iter().for_each(|work| self.queue.add(work));
    }

    /// An object of this resource (`deployments.apps`) is gone.
    fn gone(&self, resource: &str, meta: &ObjectMeta) {
        self.absent(meta.uid.as_deref().unwrap_or_default());
        if let Some(namespace) = &meta.namespace {
            self.vacancies.object_gone(namespace);
            self.releases.object_gone(resource, namespace);
        }
    }

    fn absent(&self, uid: &str) {
        let work = self.graph.lock().gone(uid);
        work.into_iter().for_each(|work| self.queue.add(work));
    }
}

/// Owners that were verified to be absent. A uid never comes back, so they stay absent.
#[derive(Debug, Default)]
struct Absent {
    known: HashSet<Identity>,
    order: VecDeque<Identity>,
}

impl Absent {
    fn remember(&mut self, identity: Identity) {
        if self.known.insert(identity.clone()) {
            self.order.push_back(identity);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

struct Collector {
    client: Client,
    sink: Arc<Sink>,
    kinds: Arc<RwLock<Kinds>>,
    absent: Mutex<Absent>,
}

/// Runs the collector until `shutdown`. It tells `vacancies` and `releases` of every object that goes.
pub(crate) async fn run(
    vacancies: Vacancies,
    releases: Releases,
    informers: Informers,
    shutdown: CancellationToken,
) {
    let queue = informers
        .queues()
        .make::<Work>("garbage_collector_attempt_to_delete");
    let sink = Arc::new(Sink {
        graph: Mutex::default(),
        queue: queue.clone(),
        vacancies,
        releases,
        kinds_changed: Notify::new(),
    });
    let kinds: Arc<RwLock<Kinds>> = Arc::default();
    let collector = Collector {
        client: informers.client().clone(),
        sink: sink.clone(),
        kinds: kinds.clone(),
        absent: Mutex::default(),
    };
    let (synced, mut is_synced) = watch::channel(false);
    let watching = watch_all(sink, kinds, informers, synced, shutdown.clone());
    let working = async {
        // Before all is seen, everything would look as if its owner were missing, and be verified in vain.
        tokio::select! {
            _ = is_synced.wait_for(|synced| *synced) => {}
            () = shutdown.cancelled() => return,
        }
        work(
            "garbage-collector",
            Arc::new(collector),
            queue,
            WORKERS,
            shutdown.clone(),
        )
        .await;
    };
    tokio::join!(watching, working);
}

type Key = (String, String);

/// Watches every kind there is, and follows when kinds come and go.
async fn watch_all(
    sink: Arc<Sink>,
    kinds: Arc<RwLock<Kinds>>,
    informers: Informers,
    synced: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let mut watches: HashMap<Key, (CancellationToken, watch::Receiver<bool>)> = HashMap::new();
    let mut delay = Duration::from_millis(50);
    loop {
        match Kinds::discover(informers.client()).await {
            Ok(found) => {
                delay = Duration::from_millis(50);
                let wanted: HashMap<Key, Discovered> = found
                    .iter()
                    .filter(|kind| is_collected(kind))
                    .map(|kind| {
                        (
                            (kind.resource.group.clone(), kind.resource.plural.clone()),
                            kind.clone(),
                        )
                    })
                    .collect();
                *kinds.write() = found;
                watches.retain(|key, (stop, _)| {
                    let keep = wanted.contains_key(key);
                    if !keep {
                        stop.cancel();
                    }
                    keep
                });
                for (key, kind) in wanted {
                    watches.entry(key).or_insert_with(|| {
                        let stop = shutdown.child_token();
                        let synced = start_watch(&sink, kind, &informers, stop.clone());
                        (stop, synced)
                    });
                }
                for (_, is_synced) in watches.values_mut() {
                    tokio::select! {
                        _ = is_synced.wait_for(|synced| *synced) => {}
                        () = shutdown.cancelled() => return,
                    }
                }
                synced.send_replace(true);
                tokio::select! {
                    () = sink.kinds_changed.notified() => tokio::time::sleep(REDISCOVER).await,
                    () = tokio::time::sleep(REDISCOVER_ANYWAY) => {}
                    () = shutdown.cancelled() => return,
                }
            }
            Err(error) => {
                tracing::debug!(%error, "discovery failed, trying again");
                // No event tells that a server is up again.
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = shutdown.cancelled() => return,
                }
                delay = (delay * 2).min(Duration::from_secs(10));
            }
        }
    }
}

/// Events are too many, own nothing, and go by themselves.
fn is_collected(kind: &Discovered) -> bool {
    let is_event =
        kind.resource.plural == "events" && matches!(kind.resource.group.as_str(), "" | "events.k8s.io");
    kind.is_deletable() && kind.supports(&[verbs::WATCH]) && !is_event
}

fn start_watch(
    sink: &Arc<Sink>,
    kind: Discovered,
    informers: &Informers,
    stop: CancellationToken,
) -> watch::Receiver<bool> {
    let (synced, is_synced) = watch::channel(false);
    let shared = (sink, informers, &stop);
    match (kind.resource.group.as_str(), kind.resource.kind.as_str()) {
        ("", "Pod") => share::<Pod>(shared, synced),
        ("", "Node") => share::<Node>(shared, synced),
        ("", "Namespace") => share::<Namespace>(shared, synced),
        ("", "Service") => share::<Service>(shared, synced),
        ("", "ServiceAccount") => share::<ServiceAccount>(shared, synced),
        ("apps", "Deployment") => share::<Deployment>(shared, synced),
        ("apps", "ReplicaSet") => share::<ReplicaSet>(shared, synced),
        ("coordination.k8s.io", "Lease") => share::<Lease>(shared, synced),
        ("discovery.k8s.io", "EndpointSlice") => share::<EndpointSlice>(shared, synced),
        _ => {
            tokio::spawn(watch_metadata(
                sink.clone(),
                kind,
                informers.client().clone(),
                synced,
                stop,
            ));
        }
    }
    is_synced
}

/// Follows an informer that is there anyway.
fn share<K>(
    (sink, informers, stop): (&Arc<Sink>, &Informers, &CancellationToken),
    synced: watch::Sender<bool>,
) where
    K: Watched + kube::Resource<DynamicType = ()>,
{
    let informer: Informer<K> = informers.all();
    let sink = sink.clone();
    let (api_version, kind) = (K::api_version(&()), K::kind(&()));
    let resource = group_resource(&K::plural(&()), &K::group(&()));
    informer.on_change(move |old, new| {
        let meta = |object: &Arc<K>| k8s_openapi::Metadata::metadata(&**object).clone();
        if let Some(old) = old.map(meta)
            && new.map(meta).is_none_or(|new| new.uid != old.uid)
        {
            sink.gone(&resource, &old);
        }
        if let Some(new) = new {
            sink.observe(&api_version, &kind, k8s_openapi::Metadata::metadata(&**new));
        }
    });
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = informer.synced() => {
                synced.send_replace(true);
            }
            () = stop.cancelled() => {}
        }
    });
}

/// A resource's name with its group, as `deployments.apps`.
fn group_resource(plural: &str, group: &str) -> String {
    if group.is_empty() {
        plural.to_string()
    } else {
        format!("{plural}.{group}")
    }
}

async fn watch_metadata(
    sink: Arc<Sink>,
    kind: Discovered,
    client: Client,
    synced: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let path = DynamicObject::url_path(&kind.resource, None);
    let feed = Feed::new(client, path, Selection::default()).metadata_alone();
    let mut watched = Watching {
        sink,
        group_resource: group_resource(&kind.resource.plural, &kind.resource.group),
        defines_kinds: matches!(
            kind.resource.kind.as_str(),
            "CustomResourceDefinition" | "APIService"
        ),
        kind,
        synced,
        shown: HashMap::new(),
        told: Told::default(),
    };
    tokio::select! {
        () = feed.tell(&mut watched) => {}
        () = stop.cancelled() => {}
    }
    // The kind is gone, and its objects with it.
    for meta in watched.shown.values() {
        watched.sink.gone(&watched.group_resource, meta);
    }
}

/// What becomes of what a watch for metadata tells.
struct Watching {
    sink: Arc<Sink>,
    kind: Discovered,
    group_resource: String,
    /// Whether other kinds come and go with objects of this one.
    defines_kinds: bool,
    synced: watch::Sender<bool>,
    /// What this watch has shown, by key: what is told anew after a gap shows what is missing by then.
    shown: HashMap<ObjectKey, ObjectMeta>,
    told: Told,
}

impl Watching {
    fn kinds_changed(&self) {
        if self.defines_kinds && *self.synced.borrow() {
            self.sink.kinds_changed.notify_one();
        }
    }
}

impl Hearer for Watching {
    fn begin(&mut self) {
        self.told.begin();
    }

    fn applied(&mut self, json: &[u8]) -> Result<String, serde_json::Error> {
        let meta = read_metadata(json)?;
        self.told.applied(&meta);
        let small = ObjectMeta {
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            ..ObjectMeta::default()
        };
        let old = self.shown.insert(ObjectKey::of(&meta), small);
        if let Some(old) = old.filter(|old| old.uid != meta.uid) {
            self.sink.gone(&self.group_resource, &old);
        }
        let resource = &self.kind.resource;
        self.sink.observe(&resource.api_version, &resource.kind, &meta);
        self.kinds_changed();
        Ok(meta.resource_version.unwrap_or_default())
    }

    fn deleted(&mut self, json: &[u8]) -> Result<String, serde_json::Error> {
        let meta = read_metadata(json)?;
        let key = ObjectKey::of(&meta);
        self.told.deleted(&key);
        self.shown.remove(&key);
        self.sink.gone(&self.group_resource, &meta);
        self.kinds_changed();
        Ok(meta.resource_version.unwrap_or_default())
    }

    fn complete(&mut self) {
        let told = self.told.complete();
        self.shown.retain(|key, meta| {
            let is_there = told.contains(key);
            if !is_there {
                self.sink.gone(&self.group_resource, meta);
            }
            is_there
        });
        self.synced.send_replace(true);
        self.kinds_changed();
    }
}

impl Reconcile<Work> for Collector {
    async fn reconcile(&self, work: &Work) -> Result<(), Failure> {
        match work {
            Work::Delete(uid) => self.look_into(uid).await,
            Work::Orphan(uid) => self.orphan(uid).await,
        }
    }
}

impl Collector {
    /// The API for an object, by its `apiVersion`, `kind` and namespace.
    fn api(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
    ) -> Result<(Api<DynamicObject>, bool), Failure> {
        let kinds = self.kinds.read();
        let Some(found) = kinds.resolve(api_version, kind) else {
            return Err(Failure::NotYet(format!(
                "no kind \"{kind}\" is registered for version \"{api_version}\""
            )));
        };
        let api = if found.namespaced && !namespace.is_empty() {
            Api::namespaced_with(self.client.clone(), namespace, &found.resource)
        } else {
            Api::all_with(self.client.clone(), &found.resource)
        };
        Ok((api, found.namespaced))
    }

    async fn look_into(&self, uid: &str) -> Result<(), Failure> {
        let known = self
            .sink
            .graph
            .lock()
            .get(uid)
            .map(|node| (node.identity.clone(), node.is_deleting, node.waits_for_dependents));
        let Some((identity, is_deleting, waits)) = known else {
            return Ok(());
        };
        if is_deleting && !waits {
            return Ok(());
        }
        let (api, namespaced) = self.api(&identity.api_version, &identity.kind, &identity.namespace)?;
        let live = if namespaced && identity.namespace.is_empty() {
            // A cluster-scoped object cannot be owned by a namespaced one; there is nothing to ask for.
            return Ok(());
        } else {
            api.get_metadata_opt(&identity.name)
                .await?
                .map(|object| object.metadata)
        };
        let Some(live) = live.filter(|live| live.uid.as_deref() == Some(uid)) else {
            self.absent.lock().remember(identity);
            self.sink.absent(uid);
            return Ok(());
        };
        if waits {
            return self.finish_foreground(uid, &identity, &api, &live).await;
        }
        let mut owners = Vec::new();
        for owner in live.owner_references.iter().flatten() {
            owners.push((owner.clone(), self.owner_state(owner, &identity.namespace).await?));
        }
        let (has_dependents, dependents_wait) = {
            let graph = self.sink.graph.lock();
            let dependents = graph.dependents(uid);
            (
                !dependents.is_empty(),
                dependents.iter().any(|node| node.waits_for_dependents),
            )
        };
        match verdict(&live, &owners, has_dependents, dependents_wait) {
            Verdict::Keep => Ok(()),
            Verdict::KeepOwners(owners) => set_owners(&api, &live, &owners).await,
            Verdict::Delete { policy, unblock } => {
                let mut version = live.resource_version.clone();
                if unblock {
                    let mut owners = live.owner_references.clone().unwrap_or_default();
                    owners
                        .iter_mut()
                        .for_each(|owner| owner.block_owner_deletion = Some(false));
                    set_owners(&api, &live, &owners).await?;
                    version = None;
                }
                tracing::debug!(
                    kind = identity.kind,
                    name = identity.name,
                    "has no owner any more, deleting"
                );
                let parameters = DeleteParams {
                    propagation_policy: Some(policy),
                    preconditions: Some(Preconditions {
                        uid: live.uid.clone(),
                        resource_version: version,
                    }),
                    ..DeleteParams::default()
                };
                unless_gone(api.delete(&identity.name, &parameters).await)?;
                Ok(())
            }
        }
    }

    /// Asks the API what became of an owner.
    async fn owner_state(&self, owner: &OwnerReference, namespace: &str) -> Result<OwnerState, Failure> {
        let (api, namespaced) = self.api(&owner.api_version, &owner.kind, namespace)?;
        if namespaced && namespace.is_empty() {
            // Such a reference is a mistake; it is not taken as a reason to delete.
            return Ok(OwnerState::Present);
        }
        let identity = Identity {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            namespace: if namespaced {
                namespace.to_string()
            } else {
                String::new()
            },
            name: owner.name.clone(),
            uid: owner.uid.clone(),
        };
        if self.absent.lock().known.contains(&identity) {
            return Ok(OwnerState::Absent);
        }
        let live = api
            .get_metadata_opt(&owner.name)
            .await?
            .map(|object| object.metadata);
        let Some(live) = live.filter(|live| live.uid.as_ref() == Some(&owner.uid)) else {
            self.absent.lock().remember(identity);
            return Ok(OwnerState::Absent);
        };
        let waits = live.deletion_timestamp.is_some()
            && live
                .finalizers
                .iter()
                .flatten()
                .any(|finalizer| finalizer == FOREGROUND);
        Ok(if waits {
            OwnerState::Waits
        } else {
            OwnerState::Present
        })
    }

    /// Lets an object go that has waited for its dependents, or sees to those that it waits for.
    async fn finish_foreground(
        &self,
        uid: &str,
        identity: &Identity,
        api: &Api<DynamicObject>,
        live: &ObjectMeta,
    ) -> Result<(), Failure> {
        let (waits_for_none, idle): (bool, Vec<String>) = {
            let graph = self.sink.graph.lock();
            let blocking = graph.blocking_dependents(uid);
            let idle = blocking.iter().filter(|node| !node.is_deleting);
            (
                blocking.is_empty(),
                idle.map(|node| node.identity.uid.clone()).collect(),
            )
        };
        if waits_for_none {
            return remove_finalizer(api, &identity.name, live, FOREGROUND).await;
        }
        idle.into_iter()
            .for_each(|uid| self.sink.queue.add(Work::Delete(uid)));
        Ok(())
    }

    /// Takes the object out of its dependents' owners, and lets it go.
    async fn orphan(&self, uid: &str) -> Result<(), Failure> {
        let (identity, dependents) = {
            let graph = self.sink.graph.lock();
            let Some(node) = graph.get(uid) else { return Ok(()) };
            let dependents: Vec<Identity> = graph
                .dependents(uid)
                .iter()
                .map(|node| node.identity.clone())
                .collect();
            (node.identity.clone(), dependents)
        };
        for dependent in dependents {
            let (api, _) = self.api(&dependent.api_version, &dependent.kind, &dependent.namespace)?;
            let Some(live) = api.get_metadata_opt(&dependent.name).await? else {
                continue;
            };
            let mut owners = live.metadata.owner_references.clone().unwrap_or_default();
            owners.retain(|owner| owner.uid != uid);
            if live
                .metadata
                .owner_references
                .as_ref()
                .is_some_and(|old| old.len() != owners.len())
            {
                set_owners(&api, &live.metadata, &owners).await?;
            }
        }
        let (api, _) = self.api(&identity.api_version, &identity.kind, &identity.namespace)?;
        match api.get_metadata_opt(&identity.name).await? {
            Some(live) if live.metadata.uid.as_deref() == Some(uid) => {
                remove_finalizer(&api, &identity.name, &live.metadata, ORPHAN).await
            }
            _ => Ok(()),
        }
    }
}

async fn set_owners(
    api: &Api<DynamicObject>,
    live: &ObjectMeta,
    owners: &[OwnerReference],
) -> Result<(), Failure> {
    let patch = json!({"metadata": {
        "uid": live.uid,
        "resourceVersion": live.resource_version,
        "ownerReferences": owners,
    }});
    let name = live.name.as_deref().unwrap_or_default();
    unless_gone(
        api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch))
            .await,
    )?;
    Ok(())
}

async fn remove_finalizer(
    api: &Api<DynamicObject>,
    name: &str,
    live: &ObjectMeta,
    finalizer: &str,
) -> Result<(), Failure> {
    let mut finalizers = live.finalizers.clone().unwrap_or_default();
    finalizers.retain(|other| other != finalizer);
    let patch = json!({"metadata": {
        "uid": live.uid,
        "resourceVersion": live.resource_version,
        "finalizers": finalizers,
    }});
    unless_gone(
        api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch))
            .await,
    )?;
    Ok(())
}
