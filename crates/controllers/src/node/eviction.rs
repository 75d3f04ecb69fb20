//! The taint-eviction controller: pods leave nodes whose `NoExecute` taints they do not tolerate, or when they have
//! tolerated them long enough. Each pod that is to leave has a timer.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;
use serde_json::json;
use skiff_api::toleration::tolerates;
use skiff_informer::events::reference_to;
use skiff_informer::{EventRecorder, EventType, Index, Informer, Informers, ObjectKey, WorkQueue};
use tokio_util::sync::CancellationToken;

use super::health;
use crate::pods;
use crate::worker::{Failure, Reconcile, unless_gone, work};

const WORKERS: usize = 8;

struct Controller {
    client: Client,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    /// When it was noticed first that a pod would have to leave.
    noticed: Mutex<HashMap<ObjectKey, Timestamp>>,
    queue: Arc<WorkQueue<ObjectKey>>,
    events: EventRecorder,
}

/// Runs the controller until `shutdown`.
pub(crate) async fn run(pods_by_node: Index<String, Pod>, informers: Informers, shutdown: CancellationToken) {
    let client = informers.client().clone();
    let nodes = informers.all::<Node>();
    let all_pods = informers.all::<Pod>();
    let queue = informers.queues().make::<ObjectKey>("noexec_taint_pod");
    nodes.on_change({
        let queue = queue.clone();
        move |old, new| {
            let Some(node) = new else { return };
            if old.map_or(Vec::new(), |old| evicting(old)) != evicting(node) {
                let name = node.metadata.name.clone().unwrap_or_default();
                for pod in pods_by_node.get(&name) {
                    queue.add(ObjectKey::of(&pod.metadata));
                }
            }
        }
    });
    all_pods.on_change({
        let queue = queue.clone();
        move |old, new| {
            let tolerations = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.tolerations.clone());
            let changed = match (old, new) {
                (Some(old), Some(new)) => {
                    pods::node_name(old) != pods::node_name(new) || tolerations(old) != tolerations(new)
                }
                _ => true,
            };
            if let Some(pod) = new
                .or(old)
                .filter(|pod| changed && !pods::node_name(pod).is_empty())
            {
                queue.add(ObjectKey::of(&pod.metadata));
            }
        }
    });
    tokio::select! {
        () = async { tokio::join!(nodes.synced(), all_pods.synced()); } => {}
        () = shutdown.cancelled() => return,
    }
    let controller = Controller {
        events: EventRecorder::new(
            client.clone(),
            "taint-eviction-controller",
            None,
            shutdown.clone(),
        ),
        client,
        nodes,
        pods: all_pods,
        noticed: Mutex::default(),
        queue: queue.clone(),
    };
    work("taint-eviction", Arc::new(controller), queue, WORKERS, shutdown).await;
}

fn evicting(node: &Node) -> Vec<&Taint> {
    health::taints(node)
        .iter()
        .filter(|taint| taint.effect == "NoExecute")
        .collect()
}

/// When a pod with these tolerations has to leave a node with these taints; `None` if it may stay. A taint without a
/// time counts from `noticed`.
fn leaves_at(tolerations: &[Toleration], taints: &[&Taint], noticed: Timestamp) -> Option<Timestamp> {
    let leaves = |taint: &&Taint| {
        let since = taint.time_added.as_ref().map_or(noticed, |time| time.0);
        match tolerations.iter().find(|toleration| tolerates(toleration, taint)) {
            None => Some(Timestamp::MIN),
            Some(toleration) => {
                let seconds = toleration.toleration_seconds?.max(0);
                since.checked_add(SignedDuration::from_secs(seconds)).ok()
            }
        }
    };
    taints.iter().filter_map(leaves).min()
}

impl Reconcile<ObjectKey> for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<(), Failure> {
        let now = Timestamp::now();
        let pod = self
            .pods
            .get(key)
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let Some(pod) = pod else {
            self.noticed.lock().remove(key);
            return Ok(());
        };
        let node = self.nodes.get(&ObjectKey::new("", pods::node_name(&pod)));
        let taints = node.as_deref().map(evicting).unwrap_or_default();
        let tolerations = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.tolerations.as_deref())
            .unwrap_or_default();
        let noticed = self.noticed.lock().get(key).copied().unwrap_or(now);
        let Some(at) = leaves_at(tolerations, &taints, noticed) else {
            if self.noticed.lock().remove(key).is_some() {
                let text = format!("Cancelling deletion of Pod {key}");
                self.events.record(
                    reference_to(&*pod),
                    EventType::Normal,
                    "TaintManagerEviction",
                    text,
                );
            }
            return Ok(());
        };
        self.noticed.lock().entry(key.clone()).or_insert(now);
        if at > now {
            self.queue
                .add_after(key.clone(), at.duration_since(now).unsigned_abs());
            return Ok(());
        }
        self.evict(key, &pod, now).await
    }
}

impl Controller {
    async fn evict(&self, key: &ObjectKey, pod: &Pod, now: Timestamp) -> Result<(), Failure> {
        let text = format!("Marking for deletion Pod {key}");
        self.events
            .record(reference_to(pod), EventType::Normal, "TaintManagerEviction", text);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let patch = disruption(
            pod,
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
            now,
        );
        unless_gone(
            api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch))
                .await,
        )?;
        let parameters = DeleteParams::default().preconditions(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        });
        unless_gone(api.delete(&key.name, &parameters).await)?;
        Ok(())
    }
}

/// The status patch that says why a pod is about to be deleted.
pub(crate) fn disruption(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> serde_json::Value {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    json!({
        "metadata": {"uid": pod.metadata.uid},
        "status": {"conditions": [{
            "type": "DisruptionTarget",
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": now.to_string(),
            "observedGeneration": pod.metadata.generation,
        }]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn taint(key: &str, added: Option<i64>) -> Taint {
        Taint {
            key: key.into(),
            effect: "NoExecute".into(),
            time_added: added.map(|added| Time(second(added))),
            value: None,
        }
    }

    fn toleration(key: &str, seconds: Option<i64>) -> Toleration {
        Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            toleration_seconds: seconds,
            ..Toleration::default()
        }
    }

    #[test]
    fn a_pod_leaves_when_its_shortest_toleration_ends() {
        let (a, b, timeless) = (taint("a", Some(100)), taint("b", Some(130)), taint("a", None));
        let noticed = second(500);
        let cases: [(&[Toleration], &[&Taint], Option<Timestamp>); 9] = [
            (&[], &[], None),
            (&[], &[&a], Some(Timestamp::MIN)),
            (&[toleration("b", None)], &[&a], Some(Timestamp::MIN)),
            (&[toleration("a", None)], &[&a], None),
            (&[toleration("a", Some(300))], &[&a], Some(second(400))),
            (&[toleration("a", Some(-5))], &[&a], Some(second(100))),
            (&[toleration("a", Some(300))], &[&timeless], Some(second(800))),
            (
                &[toleration("a", Some(300)), toleration("b", Some(60))],
                &[&a, &b],
                Some(second(190)),
            ),
            (&[toleration("a", Some(300))], &[&a, &b], Some(Timestamp::MIN)),
        ];
        for (tolerations, taints, expected) in cases {
            assert_eq!(
                leaves_at(tolerations, taints, noticed),
                expected,
                "{tolerations:?} {taints:?}"
            );
        }
    }
}
