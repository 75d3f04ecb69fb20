//! The scheduler's whole state, and what each change in the cluster does to it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use skiff_api::pod::{is_terminal, node_name};
use skiff_informer::ObjectKey;
use tokio::time::Instant;

use crate::framework::{ClusterEvent, Framework, Unfit};
use crate::queue::Queue;
use crate::snapshot::{PodInfo, Snapshot};

/// What came of trying a pod.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is assumed to be on this node; the API has to be told.
    Bind(Arc<Pod>, String),
    /// No node can have it.
    Refused(Arc<Pod>, Unfit),
}

/// Queue, snapshot and plugins.
#[derive(Debug)]
pub(crate) struct State {
    scheduler_name: String,
    framework: Framework,
    snapshot: Snapshot,
    queue: Queue,
    next_start: usize,
}

impl State {
    /// The state of an empty cluster.
    pub(crate) fn new(scheduler_name: String, framework: Framework) -> Self {
        Self {
            scheduler_name,
            framework,
            snapshot: Snapshot::default(),
            queue: Queue::default(),
            next_start: 0,
        }
    }

    /// When the next pod is due that waits for no event.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.queue.next_due()
    }

    /// Whether the pod is to be scheduled, and by us.
    fn is_ours(&self, pod: &Pod) -> bool {
        let spec = pod.spec.as_ref();
        let scheduler = spec
            .and_then(|spec| spec.scheduler_name.as_deref())
            .unwrap_or("default-scheduler");
        let gated = spec
            .and_then(|spec| spec.scheduling_gates.as_ref())
            .is_some_and(|gates| !gates.is_empty());
        scheduler == self.scheduler_name
            && !gated
            && node_name(pod).is_empty()
            && !is_terminal(pod)
            && pod.metadata.deletion_timestamp.is_none()
    }

    /// A pod has come, changed or gone.
    pub(crate) fn pod_changed(&mut self, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>, now: Instant) {
        if let Some(old) = old
            && new.is_none_or(|new| new.metadata.uid != old.metadata.uid)
        {
            self.pod_gone(&ObjectKey::of(&old.metadata), now);
        }
        let Some(pod) = new else { return };
        let key = ObjectKey::of(&pod.metadata);
        if is_terminal(pod) {
            self.pod_gone(&key, now);
        } else if !node_name(pod).is_empty() {
            self.queue.remove(&key);
            self.snapshot.set_pod(pod.clone());
            // A pod that was resized to less makes room as one that leaves does.
            if let Some(old) = old.filter(|old| old.spec != pod.spec && node_name(old) == node_name(pod)) {
                let info = PodInfo::new(old.clone(), &mut self.snapshot.names);
                self.wake(&ClusterEventOf::PodLeft(info), now);
            }
        } else if self.is_ours(pod) {
            // An assumed pod is being bound; the informer only lags behind.
            if !self.snapshot.has_pod(&key, &pod.metadata.uid) {
                self.queue.set(pod.clone(), now);
            }
        } else {
            self.queue.remove(&key);
        }
    }

    fn pod_gone(&mut self, key: &ObjectKey, now: Instant) {
        self.queue.remove(key);
        if let Some((info, _)) = self.snapshot.remove_pod(key) {
            self.wake(&ClusterEventOf::PodLeft(info), now);
        }
    }

    /// A node has come, changed or gone.
    pub(crate) fn node_changed(&mut self, old: Option<&Arc<Node>>, new: Option<&Arc<Node>>, now: Instant) {
        let Some(node) = new else {
            if let Some(old) = old {
                self.snapshot
                    .remove_node(old.metadata.name.as_deref().unwrap_or_default());
            }
            return;
        };
        self.snapshot.set_node(node.clone());
        if old.is_none_or(|old| concerns_pods(old, node)) {
            self.wake(
                &ClusterEventOf::Node(node.metadata.name.clone().unwrap_or_default()),
                now,
            );
        }
    }

    fn wake(&mut self, event: &ClusterEventOf, now: Instant) {
        if !self.queue.has_refused() {
            return;
        }
        let Self {
            framework,
            snapshot,
            queue,
            ..
        } = self;
        let mut names = std::mem::take(&mut snapshot.names);
        let names_of_pods = std::cell::RefCell::new(&mut names);
        let event = match event {
            ClusterEventOf::Node(name) => snapshot.node(name).map(ClusterEvent::Node),
            ClusterEventOf::PodLeft(info) => Some(ClusterEvent::PodLeft(info)),
        };
        if let Some(event) = event {
            queue.wake(now, |pod, by| {
                let info = PodInfo::new(pod.clone(), &mut names_of_pods.borrow_mut());
                framework.may_help(event, &info, by)
            });
        }
        snapshot.names = names;
    }

    /// Tries the pod whose turn it is.
    pub(crate) fn schedule_one(&mut self, now: Instant) -> Option<Outcome> {
        let pod = self.queue.pop(now)?;
        let key = ObjectKey::of(&pod.metadata);
        let info = PodInfo::new(pod.clone(), &mut self.snapshot.names);
        self.next_start = self.next_start.wrapping_add(1);
        match self.framework.choose(&info, &self.snapshot, self.next_start) {
            Ok(node) => {
                // It stays in the queue's books, in flight, until the API has confirmed it.
                self.snapshot.assume(info, &node);
                Some(Outcome::Bind(pod, node))
            }
            Err(unfit) => {
                self.queue.refused(&key, unfit.by, now);
                Some(Outcome::Refused(pod, unfit))
            }
        }
    }

    /// The API has taken a binding; that the pod is there, the informer will tell.
    pub(crate) fn bound(&mut self, pod: &Pod) {
        self.queue.remove(&ObjectKey::of(&pod.metadata));
    }

    /// The API has refused a binding; `again` says whether the pod is to be tried again.
    pub(crate) fn binding_failed(&mut self, pod: &Arc<Pod>, again: bool, now: Instant) {
        let key = ObjectKey::of(&pod.metadata);
        if !self.snapshot.forget(&key, &pod.metadata.uid) {
            return;
        }
        if again {
            self.queue.failed(&key, now);
        } else {
            self.queue.remove(&key);
        }
        let info = PodInfo::new(pod.clone(), &mut self.snapshot.names);
        self.wake(&ClusterEventOf::PodLeft(info), now);
    }
}

/// A [`ClusterEvent`] that borrows nothing.
enum ClusterEventOf {
    Node(String),
    PodLeft(PodInfo),
}

/// Whether a change of a node can make a difference to where pods go; heartbeats do not.
fn concerns_pods(old: &Node, new: &Node) -> bool {
    let allocatable = |node: &Node| {
        node.status
            .as_ref()
            .map(|status| (status.allocatable.clone(), status.capacity.clone()))
    };
    old.spec != new.spec || old.metadata.labels != new.metadata.labels || allocatable(old) != allocatable(new)
}
