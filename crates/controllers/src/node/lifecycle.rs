//! The node lifecycle controller: a node that is not heard of becomes `Unknown`, taints follow conditions, and the pods
//! of a node that is not ready are not ready either.
//!
//! A heartbeat is a renewed Lease or a new status. It only moves the time at which the node was heard last; nothing is
//! queued for it. Each node has one timer, which looks again when the node would be late.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;
use skiff_informer::events::reference_to;
use skiff_informer::{EventRecorder, EventType, Index, Informer, Informers, ObjectKey, WorkQueue};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::health::{self, Eviction, Zone};
use crate::pods;
use crate::worker::{Failure, Reconcile, unless_gone, work};

const WORKERS: usize = 4;
const LEASES: &str = "kube-node-lease";
/// A node that has not said anything yet has this long (`--node-startup-grace-period`).
const STARTUP_GRACE: Duration = Duration::from_secs(60);

/// When a node was heard last, by our own clock: the node's may be wrong.
#[derive(Clone, Debug)]
struct Heard {
    at: Instant,
    renewed: Option<MicroTime>,
    heartbeat: Option<Time>,
    /// The pods of the node are marked as not ready since it is not.
    pods_marked: bool,
    was_ready: bool,
}

type Hearing = Mutex<HashMap<String, Heard>>;

struct Controller {
    client: Client,
    grace: Duration,
    nodes: Informer<Node>,
    pods_by_node: Index<String, Pod>,
    heard: Arc<Hearing>,
    /// When the next node of a zone may be evicted.
    next_eviction: Mutex<HashMap<String, Instant>>,
    queue: Arc<WorkQueue<String>>,
    events: EventRecorder,
}

/// Runs the controller until `shutdown`.
pub(crate) async fn run(
    grace: Duration,
    pods_by_node: Index<String, Pod>,
    informers: Informers,
    shutdown: CancellationToken,
) {
    let client = informers.client().clone();
    let nodes = informers.all::<Node>();
    let leases = informers.all::<Lease>();
    let pods = informers.all::<Pod>();
    let queue = informers.queues().make::<String>("node_lifecycle_controller");
    let heard: Arc<Hearing> = Arc::default();
    let events = EventRecorder::new(client.clone(), "node-controller", None, shutdown.clone());
    nodes.on_change({
        let (queue, heard, events, nodes) = (queue.clone(), heard.clone(), events.clone(), nodes.clone());
        move |old, new| {
            node_heard(&heard, old, new);
            tell_of_membership(&events, old, new);
            if let Some(name) = new.and_then(|node| node.metadata.name.clone())
                && old.is_none_or(|old| new.is_some_and(|new| is_relevant(old, new)))
            {
                queue.add(name);
            }
            // Another node's readiness decides whether those that are not ready may be evicted.
            let readiness = |node: Option<&Arc<Node>>| node.map(|node| health::is_ready(node));
            if readiness(old) != readiness(new) {
                for node in nodes.list().iter().filter(|node| !health::is_ready(node)) {
                    queue.add(node.metadata.name.clone().unwrap_or_default());
                }
            }
        }
    });
    leases.on_change({
        let heard = heard.clone();
        move |_, new| {
            if let Some(lease) = new
                && lease.metadata.namespace.as_deref() == Some(LEASES)
            {
                lease_heard(&heard, lease);
            }
        }
    });
    tokio::select! {
        () = async { tokio::join!(nodes.synced(), leases.synced(), pods.synced()); } => {}
        () = shutdown.cancelled() => return,
    }
    let controller = Controller {
        client,
        grace,
        nodes,
        pods_by_node,
        heard,
        next_eviction: Mutex::default(),
        queue: queue.clone(),
        events,
    };
    work("node-lifecycle", Arc::new(controller), queue, WORKERS, shutdown).await;
}

fn node_heard(heard: &Hearing, old: Option<&Arc<Node>>, new: Option<&Arc<Node>>) {
    let Some(node) = new else {
        if let Some(name) = old.and_then(|old| old.metadata.name.as_ref()) {
            heard.lock().remove(name);
        }
        return;
    };
    let heartbeat = health::condition(node, "Ready").and_then(|ready| ready.last_heartbeat_time.clone());
    let mut heard = heard.lock();
    let entry = heard
        .entry(node.metadata.name.clone().unwrap_or_default())
        .or_insert_with(new_hearing);
    if entry.heartbeat != heartbeat {
        entry.heartbeat = heartbeat;
        entry.at = Instant::now();
    }
}

fn lease_heard(heard: &Hearing, lease: &Lease) {
    let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
    let mut heard = heard.lock();
    let entry = heard
        .entry(lease.metadata.name.clone().unwrap_or_default())
        .or_insert_with(new_hearing);
    if entry.renewed != renewed {
        entry.renewed = renewed;
        entry.at = Instant::now();
    }
}

fn new_hearing() -> Heard {
    Heard {
        at: Instant::now(),
        renewed: None,
        heartbeat: None,
        pods_marked: false,
        was_ready: false,
    }
}

/// Whether a change is more than a heartbeat.
fn is_relevant(old: &Node, new: &Node) -> bool {
    let facts = |node: &Node| -> Vec<(String, String)> {
        health::conditions(node)
            .iter()
            .map(|condition| (condition.type_.clone(), condition.status.clone()))
            .collect()
    };
    old.spec != new.spec || old.metadata.uid != new.metadata.uid || facts(old) != facts(new)
}

fn tell_of_membership(events: &EventRecorder, old: Option<&Arc<Node>>, new: Option<&Arc<Node>>) {
    let name = |node: &Node| node.metadata.name.clone().unwrap_or_default();
    match (old, new) {
        (None, Some(node)) => {
            let text = format!("Node {0} event: Registered Node {0} in Controller", name(node));
            events.record(reference_to(&**node), EventType::Normal, "RegisteredNode", text);
        }
        (Some(node), None) => {
            let text = format!("Node {0} event: Removing Node {0} from Controller", name(node));
            events.record(reference_to(&**node), EventType::Normal, "RemovingNode", text);
        }
        _ => {}
    }
}

fn zone_of(node: &Node) -> String {
    let label = |key: &str| {
        let labels = node.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(key))
            .cloned()
            .unwrap_or_default()
    };
    format!(
        "{}/{}",
        label("topology.kubernetes.io/region"),
        label("topology.kubernetes.io/zone")
    )
}

impl Reconcile<String> for Controller {
    async fn reconcile(&self, name: &String) -> Result<(), Failure> {
        let Some(node) = self.nodes.get(&ObjectKey::new("", name)) else {
            return Ok(());
        };
        let api: Api<Node> = Api::all(self.client.clone());
        let mut node = node;
        if self.is_silent(name, &node) {
            let conditions = health::silenced(&node, now());
            if !conditions.is_empty() {
                let patch = json!({
                    "metadata": {"uid": node.metadata.uid},
                    "status": {"conditions": conditions},
                });
                node = Arc::new(
                    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
                        .await?,
                );
            }
        }
        let eviction = self.eviction(name, &node);
        if let Some(taints) = health::desired_taints(&node, eviction, now()) {
            let patch = json!({
                "metadata": {"resourceVersion": node.metadata.resource_version},
                "spec": {"taints": (!taints.is_empty()).then_some(taints)},
            });
            unless_gone(
                api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
                    .await,
            )?;
        }
        self.follow_readiness(name, &node).await
    }
}

/// The current time as it is stored.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

impl Controller {
    /// Whether the node is late; if not, it is looked at again when it would be.
    fn is_silent(&self, name: &str, node: &Node) -> bool {
        let at = self
            .heard
            .lock()
            .get(&name.to_string())
            .map_or_else(Instant::now, |heard| heard.at);
        let grace = match health::condition(node, "Ready") {
            Some(_) => self.grace,
            None => self.grace.max(STARTUP_GRACE),
        };
        let silence = at.elapsed();
        if silence < grace {
            self.queue.add_after(name.to_string(), grace - silence);
            return false;
        }
        true
    }

    /// Whether the node may get a taint that evicts now: one node of a zone after the other.
    fn eviction(&self, name: &str, node: &Node) -> Eviction {
        if health::is_ready(node) || health::condition(node, "Ready").is_none() {
            return Eviction::NotNow;
        }
        let mut zones: HashMap<String, Zone> = HashMap::new();
        for node in self.nodes.list() {
            let zone = zones.entry(zone_of(&node)).or_default();
            if health::is_ready(&node) {
                zone.ready += 1;
            } else {
                zone.not_ready += 1;
            }
        }
        if zones.values().all(|zone| zone.is_dark()) {
            return Eviction::Stopped;
        }
        if !health::wants_eviction(node) {
            return Eviction::NotNow;
        }
        let key = zone_of(node);
        let interval = zones.get(&key).copied().unwrap_or_default().eviction_interval();
        let Some(interval) = interval else {
            return Eviction::NotNow;
        };
        let mut next = self.next_eviction.lock();
        let now = Instant::now();
        match next.get(&key).copied().filter(|at| *at > now) {
            Some(at) => {
                self.queue.add_after(name.to_string(), at - now);
                Eviction::NotNow
            }
            None => {
                next.insert(key, now + Duration::from_secs(interval));
                Eviction::Allowed
            }
        }
    }

    /// Once for each time that the node ceases to be ready, its pods are marked as not ready.
    async fn follow_readiness(&self, name: &str, node: &Node) -> Result<(), Failure> {
        let is_ready = health::is_ready(node);
        let (was_ready, marked) = {
            let mut heard = self.heard.lock();
            let Some(entry) = heard.get_mut(name) else {
                return Ok(());
            };
            if is_ready {
                entry.pods_marked = false;
            }
            (
                std::mem::replace(&mut entry.was_ready, is_ready),
                entry.pods_marked,
            )
        };
        if is_ready || marked || health::condition(node, "Ready").is_none() {
            return Ok(());
        }
        if was_ready {
            let text = format!("Node {name} status is now: NodeNotReady");
            self.events
                .record(reference_to(node), EventType::Normal, "NodeNotReady", text);
        }
        for pod in self
            .pods_by_node
            .get(&name.to_string())
            .iter()
            .filter(|pod| pods::is_ready(pod))
        {
            self.mark_not_ready(pod).await?;
        }
        if let Some(entry) = self.heard.lock().get_mut(name) {
            entry.pods_marked = true;
        }
        Ok(())
    }

    async fn mark_not_ready(&self, pod: &Pod) -> Result<(), Failure> {
        let condition = PodCondition {
            type_: "Ready".to_string(),
            status: "False".to_string(),
            last_transition_time: Some(Time(now())),
            ..PodCondition::default()
        };
        let patch = json!({
            "metadata": {"uid": pod.metadata.uid},
            "status": {"conditions": [condition]},
        });
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let patched = api
            .patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
            .await;
        unless_gone(patched)?;
        self.events.record(
            reference_to(pod),
            EventType::Warning,
            "NodeNotReady",
            "Node is not ready",
        );
        Ok(())
    }
}
