//! The pod garbage collector: pods of nodes that do not exist any more, pods that were deleted before they had a node,
//! and the oldest of too many terminated pods.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use skiff_informer::{Index, Informer, Informers, ObjectKey};
use tokio_util::sync::CancellationToken;

use crate::node::disruption;
use crate::pods;
use crate::worker::{Failure, Reconcile, unless_gone, work};

/// How long a node must be missing before its pods are deleted (upstream's `quarantineTime`).
const QUARANTINE: Duration = Duration::from_secs(40);

/// What has to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Work {
    /// The pods of a node that may be missing.
    Node(String),
    /// A pod that was deleted before it had a node.
    Unscheduled(ObjectKey),
    /// The number of terminated pods.
    Terminated,
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Unscheduled(key) => write!(f, "unscheduled pod {key}"),
            Self::Terminated => f.write_str("terminated pods"),
        }
    }
}

struct Controller {
    client: Client,
    threshold: usize,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    pods_by_node: Index<String, Pod>,
    terminated: Index<(), Pod>,
}

/// Runs the controller until `shutdown`; it keeps `threshold` terminated pods, or all if that is 0.
pub(crate) async fn run(
    threshold: usize,
    pods_by_node: Index<String, Pod>,
    informers: Informers,
    shutdown: CancellationToken,
) {
    let nodes = informers.all::<Node>();
    let all_pods = informers.all::<Pod>();
    let terminated = Index::new(&all_pods, |pod: &Pod| {
        if pods::is_terminated(pod) {
            vec![()]
        } else {
            vec![]
        }
    });
    let queue = informers.queues().make::<Work>("orphaned_pods_nodes");
    nodes.on_change({
        let queue = queue.clone();
        move |old, new| {
            if let (Some(old), None) = (old, new) {
                queue.add_after(
                    Work::Node(old.metadata.name.clone().unwrap_or_default()),
                    QUARANTINE,
                );
            }
        }
    });
    all_pods.on_change({
        let (queue, nodes, terminated) = (queue.clone(), nodes.clone(), terminated.clone());
        move |old, new| {
            let Some(pod) = new else { return };
            let node = pods::node_name(pod);
            if node.is_empty() {
                if pod.metadata.deletion_timestamp.is_some() {
                    queue.add(Work::Unscheduled(ObjectKey::of(&pod.metadata)));
                }
            } else if old.is_none_or(|old| pods::node_name(old) != node)
                && nodes.get(&ObjectKey::new("", node)).is_none()
            {
                queue.add_after(Work::Node(node.to_string()), QUARANTINE);
            }
            let is_new_end = pods::is_terminated(pod) && old.is_none_or(|old| !pods::is_terminated(old));
            if is_new_end && threshold > 0 && terminated.count(&()) > threshold {
                queue.add(Work::Terminated);
            }
        }
    });
    tokio::select! {
        () = async { tokio::join!(nodes.synced(), all_pods.synced()); } => {}
        () = shutdown.cancelled() => return,
    }
    let client = informers.client().clone();
    let controller = Controller {
        client,
        threshold,
        nodes,
        pods: all_pods,
        pods_by_node,
        terminated,
    };
    work("pod-garbage-collector", Arc::new(controller), queue, 1, shutdown).await;
}

/// The pods beyond the threshold, oldest first; evicted ones go before all others.
fn surplus(mut terminated: Vec<Arc<Pod>>, threshold: usize) -> Vec<Arc<Pod>> {
    let count = terminated.len().saturating_sub(threshold);
    let is_evicted = |pod: &Pod| {
        pods::phase(pod) == "Failed"
            && pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("Evicted")
    };
    terminated.sort_by_cached_key(|pod| {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (!is_evicted(pod), created, pod.metadata.name.clone())
    });
    terminated.truncate(count);
    terminated
}

impl Reconcile<Work> for Controller {
    async fn reconcile(&self, work: &Work) -> Result<(), Failure> {
        match work {
            Work::Node(name) => {
                if self.nodes.get(&ObjectKey::new("", name)).is_some() {
                    return Ok(());
                }
                let api: Api<Node> = Api::all(self.client.clone());
                if api.get_opt(name).await?.is_some() {
                    return Ok(());
                }
                for pod in self.pods_by_node.get(name) {
                    let message = Some(("DeletionByPodGC", "PodGC: node no longer exists"));
                    self.end(&pod, message).await?;
                }
                Ok(())
            }
            Work::Unscheduled(key) => match self.pods.get(key) {
                Some(pod)
                    if pods::node_name(&pod).is_empty() && pod.metadata.deletion_timestamp.is_some() =>
                {
                    self.end(&pod, None).await
                }
                _ => Ok(()),
            },
            Work::Terminated => {
                for pod in surplus(self.terminated.get(&()), self.threshold) {
                    self.end(&pod, None).await?;
                }
                Ok(())
            }
        }
    }
}

impl Controller {
    /// Deletes a pod at once; nobody is there to end it. One that has not ended has failed.
    async fn end(&self, pod: &Pod, reason: Option<(&str, &str)>) -> Result<(), Failure> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        if !pods::is_terminated(pod) {
            let mut patch = match reason {
                Some((reason, message)) => disruption(pod, reason, message, Timestamp::now()),
                None => json!({"metadata": {"uid": pod.metadata.uid}, "status": {}}),
            };
            if let Some(status) = patch.get_mut("status").and_then(|status| status.as_object_mut()) {
                status.insert("phase".to_string(), json!("Failed"));
            }
            unless_gone(
                api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
                    .await,
            )?;
        }
        let parameters = DeleteParams::default()
            .grace_period(0)
            .preconditions(Preconditions {
                uid: pod.metadata.uid.clone(),
                resource_version: None,
            });
        unless_gone(api.delete(name, &parameters).await)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    fn pod(name: &str, second: i64, reason: Option<&str>) -> Arc<Pod> {
        Arc::new(Pod {
            metadata: ObjectMeta {
                name: Some(name.into()),
                creation_timestamp: Some(Time(Timestamp::from_second(second).unwrap())),
                ..ObjectMeta::default()
            },
            status: Some(PodStatus {
                phase: Some("Failed".into()),
                reason: reason.map(str::to_string),
                ..PodStatus::default()
            }),
            ..Pod::default()
        })
    }

    #[test]
    fn the_oldest_go_first_but_evicted_ones_before_them() {
        let all = vec![
            pod("new", 30, None),
            pod("old", 10, None),
            pod("evicted", 40, Some("Evicted")),
        ];
        let names = |threshold| -> Vec<String> {
            surplus(all.clone(), threshold)
                .iter()
                .map(|pod| pod.metadata.name.clone().unwrap())
                .collect()
        };
        assert_eq!(names(3), Vec::<String>::new());
        assert_eq!(names(2), ["evicted"]);
        assert_eq!(names(1), ["evicted", "old"]);
    }
}
