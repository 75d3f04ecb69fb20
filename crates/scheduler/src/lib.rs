//! The scheduler: finds a node for each pod that has none.
//!
//! Informer callbacks keep a [`state::State`]: a snapshot of the nodes and a queue of pods. The scheduling loop takes a
//! pod from the queue, asks the plugins for the best node, and *assumes* the pod to be there at once, so that the next
//! pod is decided about while the binding is still on its way to the API. The decision is a pure function of the pod and
//! the snapshot.

mod affinity;
mod framework;
mod plugins;
mod queue;
mod snapshot;
mod state;
#[cfg(test)]
mod state_tests;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use serde_json::json;
use skiff_informer::events::reference_to;
use skiff_informer::{EventRecorder, EventType, Informers};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use framework::Unfit;
use state::{Outcome, State};

/// Bindings and status changes that may be on their way to the API at once.
const REQUESTS: usize = 256;

/// What the scheduler is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The pods whose `spec.schedulerName` is this are scheduled.
    pub scheduler_name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".into(),
        }
    }
}

/// Why the scheduler could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A scheduler without a name would take no pods.
    #[error("schedulerName must not be empty")]
    NoName,
}

struct Scheduler {
    client: Client,
    state: Mutex<State>,
    wake: Notify,
    events: EventRecorder,
}

/// Schedules pods until `shutdown`.
///
/// # Errors
/// When the configuration makes no sense. Errors of the API are retried, not returned.
pub async fn run(config: Config, informers: Informers, shutdown: CancellationToken) -> Result<(), Error> {
    if config.scheduler_name.is_empty() {
        return Err(Error::NoName);
    }
    let client = informers.client().clone();
    let scheduler = Arc::new(Scheduler {
        events: EventRecorder::new(client.clone(), &config.scheduler_name, None, shutdown.clone()),
        client,
        state: Mutex::new(State::new(config.scheduler_name, plugins::default_framework())),
        wake: Notify::new(),
    });
    let nodes = informers.all::<Node>();
    let pods = informers.all::<Pod>();
    nodes.on_change({
        let scheduler = scheduler.clone();
        move |old, new| {
            scheduler.state.lock().node_changed(old, new, Instant::now());
            scheduler.wake.notify_one();
        }
    });
    pods.on_change({
        let scheduler = scheduler.clone();
        move |old, new| {
            scheduler.state.lock().pod_changed(old, new, Instant::now());
            scheduler.wake.notify_one();
        }
    });
    let permits = Arc::new(Semaphore::new(REQUESTS));
    tokio::select! {
        () = async { tokio::join!(nodes.synced(), pods.synced()); } => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    loop {
        tokio::select! {
            () = scheduler.clone().schedule_next(&permits) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

impl Scheduler {
    /// Waits for a pod, decides about it, and has the decision carried out.
    async fn schedule_next(self: Arc<Self>, permits: &Arc<Semaphore>) {
        // The semaphore is never closed.
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        let outcome = loop {
            let woken = self.wake.notified();
            let due = {
                let mut state = self.state.lock();
                if let Some(outcome) = state.schedule_one(Instant::now()) {
                    break outcome;
                }
                state.next_due()
            };
            match due {
                Some(at) => tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => woken.await,
            }
        };
        match outcome {
            Outcome::Bind(pod, node) => {
                tokio::spawn(self.bind(pod, node, permit));
            }
            Outcome::Refused(pod, unfit) => {
                tokio::spawn(self.refuse(pod, unfit, permit));
            }
        }
    }

    async fn bind(self: Arc<Self>, pod: Arc<Pod>, node: String, _permit: OwnedSemaphorePermit) {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let name = pod.metadata.name.clone().unwrap_or_default();
        let result = self.post_binding(&pod, &namespace, &name, &node).await;
        match result {
            Ok(()) => {
                self.state.lock().bound(&pod);
                let text = format!("Successfully assigned {namespace}/{name} to {node}");
                self.events
                    .record(reference_to(&*pod), EventType::Normal, "Scheduled", text);
            }
            Err(error) => {
                // Gone, replaced or bound by somebody else: the informer tells what there is now.
                let settled = matches!(&error, kube::Error::Api(status) if matches!(status.code, 404 | 409));
                self.state.lock().binding_failed(&pod, !settled, Instant::now());
                self.wake.notify_one();
                if !settled {
                    let text = format!("binding rejected: running Bind plugin \"DefaultBinder\": {error}");
                    self.report(&pod, "SchedulerError", text).await;
                }
            }
        }
    }

    async fn post_binding(
        &self,
        pod: &Pod,
        namespace: &str,
        name: &str,
        node: &str,
    ) -> Result<(), kube::Error> {
        let binding = Binding {
            metadata: ObjectMeta {
                namespace: Some(namespace.to_string()),
                name: Some(name.to_string()),
                uid: pod.metadata.uid.clone(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_string()),
                name: Some(node.to_string()),
                ..ObjectReference::default()
            },
        };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let _: serde_json::Value = pods
            .create_subresource("binding", name, &PostParams::default(), &binding)
            .await?;
        Ok(())
    }

    async fn refuse(self: Arc<Self>, pod: Arc<Pod>, unfit: Unfit, _permit: OwnedSemaphorePermit) {
        self.report(&pod, "Unschedulable", unfit.message).await;
    }

    /// Says in an event and in the pod's status why it has no node.
    async fn report(&self, pod: &Pod, reason: &str, message: String) {
        self.events.record(
            reference_to(pod),
            EventType::Warning,
            "FailedScheduling",
            message.clone(),
        );
        let Some(condition) = changed_condition(pod, reason, message, Timestamp::now()) else {
            return;
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let patch = json!({
            "metadata": {"uid": pod.metadata.uid},
            "status": {"conditions": [condition]},
        });
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let patched = pods
            .patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
            .await;
        if let Err(error) = patched {
            tracing::debug!(pod = name, namespace, %error, "condition not written");
        }
    }
}

/// The condition `PodScheduled=False`, unless the pod says just that already.
fn changed_condition(pod: &Pod, reason: &str, message: String, now: Timestamp) -> Option<PodCondition> {
    const SCHEDULED: &str = "PodScheduled";
    let old = skiff_api::pod::condition(pod, SCHEDULED);
    let is_same = |old: &PodCondition| {
        old.status == "False"
            && old.reason.as_deref() == Some(reason)
            && old.message.as_deref() == Some(message.as_str())
    };
    if old.is_some_and(is_same) {
        return None;
    }
    let since = old
        .filter(|old| old.status == "False")
        .and_then(|old| old.last_transition_time.clone());
    Some(PodCondition {
        type_: SCHEDULED.to_string(),
        status: "False".to_string(),
        reason: Some(reason.to_string()),
        message: Some(message),
        last_transition_time: Some(since.unwrap_or(Time(now))),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    })
}
