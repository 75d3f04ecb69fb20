//! Makes or adopts the node's object, and keeps its status true.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use skiff_informer::EventType;
use skiff_informer::events::reference_to_node;

use super::eviction::EvictionThresholds;
use super::facts::{self, Machine};
use super::status::{self, Inputs};
use crate::shared::Shared;

/// Upstream's `nodeStatusReportFrequency`: how often a status without news is told.
const REPORT: Duration = Duration::from_secs(300);
/// Upstream's `nodeStatusUpdateFrequency`: how often it is computed. Neither the runtime nor the machine tells of its
/// changes.
const UPDATE: Duration = Duration::from_secs(10);
/// How often it is computed while the node starts, until it is ready for the first time.
const UNREADY: Duration = Duration::from_millis(200);
/// Upstream's `nodeReadyGracePeriod`: a node that takes longer to be ready is in no hurry.
const START: Duration = Duration::from_secs(120);

/// What the node's object is made from.
pub(crate) struct Registration {
    pub(crate) shared: Arc<Shared>,
    pub(crate) machine: Machine,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) max_pods: u32,
    pub(crate) eviction_hard: EvictionThresholds,
    pub(crate) port: u16,
    /// `skiff://0.1.0`.
    pub(crate) runtime_version: String,
}

/// The labels that every node has.
fn well_known(node_name: &str) -> BTreeMap<String, String> {
    let arch = facts::architecture();
    [
        ("kubernetes.io/hostname", node_name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_string(), value.to_string()))
    .collect()
}

fn is_ready(status: &NodeStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The wait until the status is computed again, so long after the start.
fn pace(has_been_ready: bool, since_start: Duration) -> Duration {
    if has_been_ready || since_start >= START {
        UPDATE
    } else {
        UNREADY
    }
}

impl Registration {
    fn api(&self) -> Api<Node> {
        Api::all(self.shared.client.clone())
    }

    fn all_labels(&self) -> BTreeMap<String, String> {
        let mut labels = well_known(&self.shared.node_name);
        labels.extend(self.labels.clone());
        labels
    }

    async fn status(&self) -> NodeStatus {
        let cri = &self.shared.cri;
        let (runtime, images, filesystems) =
            tokio::join!(cri.status(), cri.images_present(), cri.image_filesystems());
        let images = images.unwrap_or_default();
        let image_dir = filesystems
            .ok()
            .and_then(|list| Some(PathBuf::from(list.into_iter().next()?.fs_id?.mountpoint)));
        status::compute(&Inputs {
            machine: &self.machine,
            levels: facts::levels(&self.shared.root_dir, image_dir.as_deref()),
            thresholds: &self.eviction_hard,
            node_name: &self.shared.node_name,
            node_ip: self.shared.node_ip.to_string(),
            port: self.port,
            max_pods: self.max_pods,
            runtime_version: &self.runtime_version,
            runtime: runtime.as_ref().map_err(ToString::to_string),
            images: &images,
            now: Timestamp::now(),
        })
    }

    fn tell_transitions(&self, status: &NodeStatus, before: &NodeStatus) {
        let name = &self.shared.node_name;
        for reason in status::transitions(status, before) {
            let message = format!("Node {name} status is now: {reason}");
            self.shared
                .recorder
                .record(reference_to_node(name), EventType::Normal, reason, message);
        }
    }

    /// Makes the object with its first status, or adopts the one that is there; its status as the API has it.
    async fn register(&self) -> Result<NodeStatus, kube::Error> {
        let name = &self.shared.node_name;
        let status = self.status().await;
        let node = Node {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(self.all_labels()),
                annotations: Some(
                    [(
                        "volumes.kubernetes.io/controller-managed-attach-detach".into(),
                        "true".into(),
                    )]
                    .into(),
                ),
                ..ObjectMeta::default()
            },
            spec: (!self.taints.is_empty()).then(|| NodeSpec {
                taints: Some(self.taints.clone()),
                ..NodeSpec::default()
            }),
            status: Some(status.clone()),
        };
        match self.api().create(&PostParams::default(), &node).await {
            Ok(made) => {
                tracing::info!(node = name, "registered");
                let stored = made.status.unwrap_or_default();
                self.tell_transitions(&stored, &NodeStatus::default());
                Ok(stored)
            }
            Err(kube::Error::Api(error)) if error.code == 409 => {
                let labels = json!({ "metadata": { "labels": self.all_labels() } });
                let patched = self
                    .api()
                    .patch(name, &PatchParams::default(), &Patch::Strategic(labels))
                    .await?;
                tracing::info!(node = name, "adopted the node that is registered");
                Ok(patched.status.unwrap_or_default())
            }
            Err(error) => Err(error),
        }
    }

    /// Tells the status when it has changed or is due; true when the node is ready and says so.
    async fn update(&self, before: &mut NodeStatus, reported: &mut Instant) -> Result<bool, kube::Error> {
        let mut status = self.status().await;
        status::keep_transitions(&mut status, before);
        let due = reported.elapsed() >= REPORT;
        let Some(patch) = status::status_patch(before, &status, due) else {
            return Ok(is_ready(&status));
        };
        let name = &self.shared.node_name;
        let node = self
            .api()
            .patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
            .await?;
        self.tell_transitions(&status, before);
        *before = node.status.unwrap_or_default();
        *reported = Instant::now();
        Ok(is_ready(before))
    }

    /// Registers the node and keeps its status until shutdown.
    pub(crate) async fn run(self) {
        let shutdown = self.shared.shutdown.clone();
        tokio::select! {
            () = self.keep() => {}
            () = shutdown.cancelled() => {}
        }
    }

    async fn keep(&self) {
        let mut retry = UNREADY;
        let mut before = loop {
            match self.register().await {
                Ok(status) => break status,
                Err(error) => {
                    tracing::warn!(%error, "the node is not registered yet");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(UPDATE);
                }
            }
        };
        retry = UNREADY;
        let started = Instant::now();
        let (mut reported, mut has_been_ready) = (started, false);
        loop {
            let wait = match self.update(&mut before, &mut reported).await {
                Ok(is_ready) => {
                    retry = UNREADY;
                    has_been_ready |= is_ready;
                    pace(has_been_ready, started.elapsed())
                }
                Err(kube::Error::Api(error)) if error.code == 404 => match self.register().await {
                    // Someone has deleted it: it is made anew.
                    Ok(status) => {
                        before = status;
                        UNREADY
                    }
                    Err(_) => UPDATE,
                },
                Err(error) => {
                    tracing::debug!(%error, "node status not told");
                    retry = (retry * 2).min(UPDATE);
                    retry
                }
            };
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_starts_is_looked_at_more_often_than_upstream_does() {
        let (early, late) = (Duration::from_secs(1), Duration::from_secs(120));
        let cases = [
            (false, early, UNREADY),
            (true, early, UPDATE),
            (false, late, UPDATE),
        ];
        for (has_been_ready, since_start, wait) in cases {
            assert_eq!(
                pace(has_been_ready, since_start),
                wait,
                "{has_been_ready} {since_start:?}"
            );
        }
    }
}
