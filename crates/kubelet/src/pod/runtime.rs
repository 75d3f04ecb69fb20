//! What the runtime says about one pod: its sandboxes and containers, newest first.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_cri::v1 as cri;

use super::labels;
use crate::cri::{Cri, Result};

/// Whether a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Created,
    Running,
    Exited,
    Unknown,
}

/// A sandbox.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) ready: bool,
    pub(crate) created_at: i64,
    /// The pod's addresses, the primary one first; none on the host's network.
    pub(crate) ips: Vec<String>,
}

/// One run of a container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) sandbox_id: String,
    pub(crate) name: String,
    pub(crate) restart_count: u32,
    pub(crate) state: State,
    pub(crate) created_at: i64,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) image: String,
    pub(crate) image_ref: String,
    /// The hash of the definition that it was made from.
    pub(crate) hash: String,
    pub(crate) log_path: String,
    /// The host's file behind the termination message path.
    pub(crate) termination_file: Option<String>,
    pub(crate) termination_policy: String,
    /// User, group and supplementary groups of the first process.
    pub(crate) user: Option<(i64, i64, Vec<i64>)>,
}

/// All that the runtime has of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RuntimePod {
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) runs: Vec<Run>,
}

fn time(nanos: i64) -> Option<Timestamp> {
    (nanos > 0)
        .then(|| Timestamp::from_nanosecond(i128::from(nanos)).ok())
        .flatten()
}

impl RuntimePod {
    /// Asks the runtime for everything that bears the pod's uid.
    pub(crate) async fn observe(cri: &Cri, uid: &str) -> Result<Self> {
        let (sandboxes, containers) = tokio::try_join!(cri.sandboxes(Some(uid)), cri.containers(Some(uid)))?;
        let mut pod = Self::default();
        // A lost sandbox takes its containers with it: asked after them, it cannot seem to stand while they have ended,
        // and nothing is restarted in it.
        for container in containers {
            match cri.container_status(&container.id).await {
                Ok(status) => pod.runs.push(run_of(status, container.pod_sandbox_id)),
                // Removed between the two calls.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        for sandbox in sandboxes {
            match cri.sandbox_status(&sandbox.id).await {
                Ok(status) => pod.sandboxes.push(sandbox_of(status)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        pod.sandboxes
            .sort_by_key(|s| std::cmp::Reverse((s.created_at, s.attempt)));
        pod.runs
            .sort_by_key(|r| std::cmp::Reverse((r.created_at, r.restart_count)));
        Ok(pod)
    }

    /// The newest run of a container.
    pub(crate) fn latest(&self, name: &str) -> Option<&Run> {
        self.runs.iter().find(|run| run.name == name)
    }

    /// The run before the newest.
    pub(crate) fn previous(&self, name: &str) -> Option<&Run> {
        self.runs.iter().filter(|run| run.name == name).nth(1)
    }

    /// The newest run of a container that was made in this sandbox.
    pub(crate) fn latest_in(&self, sandbox: &str, name: &str) -> Option<&Run> {
        self.runs
            .iter()
            .find(|run| run.name == name && run.sandbox_id == sandbox)
    }

    /// The runs that have a process, or may have.
    pub(crate) fn alive(&self) -> impl Iterator<Item = &Run> {
        self.runs
            .iter()
            .filter(|run| matches!(run.state, State::Running | State::Unknown))
    }

    /// Whether nothing of the pod runs any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.alive().next().is_none() && self.sandboxes.iter().all(|sandbox| !sandbox.ready)
    }

    /// Whether the runtime has nothing of the pod.
    pub(crate) fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.runs.is_empty()
    }
}

fn sandbox_of(status: cri::PodSandboxStatus) -> Sandbox {
    let mut ips = Vec::new();
    if let Some(network) = status.network {
        ips.push(network.ip);
        ips.extend(network.additional_ips.into_iter().map(|ip| ip.ip));
    }
    ips.retain(|ip| !ip.is_empty());
    Sandbox {
        id: status.id,
        attempt: status.metadata.map_or(0, |m| m.attempt),
        ready: status.state == cri::PodSandboxState::SandboxReady as i32,
        created_at: status.created_at,
        ips,
    }
}

fn run_of(status: cri::ContainerStatus, sandbox_id: String) -> Run {
    let annotation = |key: &str| status.annotations.get(key).cloned().unwrap_or_default();
    let termination_path = annotation(labels::TERMINATION_PATH);
    let termination_file = status
        .mounts
        .iter()
        .find(|m| !termination_path.is_empty() && m.container_path == termination_path)
        .map(|m| m.host_path.clone());
    let restart_count = annotation(labels::RESTART_COUNT)
        .parse()
        .unwrap_or_else(|_| status.metadata.as_ref().map_or(0, |m| m.attempt));
    let state = match cri::ContainerState::try_from(status.state) {
        Ok(cri::ContainerState::ContainerCreated) => State::Created,
        Ok(cri::ContainerState::ContainerRunning) => State::Running,
        Ok(cri::ContainerState::ContainerExited) => State::Exited,
        _ => State::Unknown,
    };
    let user = status
        .user
        .and_then(|user| user.linux)
        .map(|user| (user.uid, user.gid, user.supplemental_groups));
    Run {
        hash: annotation(labels::HASH),
        termination_policy: annotation(labels::TERMINATION_POLICY),
        name: name_of(&status.labels, status.metadata.as_ref()),
        id: status.id,
        sandbox_id,
        restart_count,
        state,
        created_at: status.created_at,
        started_at: time(status.started_at),
        finished_at: time(status.finished_at),
        exit_code: status.exit_code,
        reason: status.reason,
        message: status.message,
        image: status.image.map(|image| image.image).unwrap_or_default(),
        image_ref: status.image_ref,
        log_path: status.log_path,
        termination_file,
        user,
    }
}

fn name_of(
    labels: &std::collections::HashMap<String, String>,
    metadata: Option<&cri::ContainerMetadata>,
) -> String {
    labels
        .get(labels::CONTAINER_NAME)
        .cloned()
        .or_else(|| metadata.map(|m| m.name.clone()))
        .unwrap_or_default()
}

/// Which pods the runtime has, and in what state: what a relist compares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// By pod uid, then by the id of a sandbox or container: its state.
    pub(crate) pods: BTreeMap<String, BTreeMap<String, i32>>,
    /// Namespace and name by pod uid.
    pub(crate) names: BTreeMap<String, (String, String)>,
}

impl Snapshot {
    /// Lists everything the runtime has.
    pub(crate) async fn take(cri: &Cri) -> Result<Self> {
        let (sandboxes, containers) = tokio::try_join!(cri.sandboxes(None), cri.containers(None))?;
        let mut snapshot = Self::default();
        let sandboxes = sandboxes.into_iter().map(|s| (s.id, s.labels, s.state));
        let containers = containers.into_iter().map(|c| (c.id, c.labels, c.state + 16));
        for (id, labels, state) in sandboxes.chain(containers) {
            let Some(uid) = labels.get(labels::POD_UID) else {
                continue;
            };
            let text = |key: &str| labels.get(key).cloned().unwrap_or_default();
            let name = (text(labels::POD_NAMESPACE), text(labels::POD_NAME));
            snapshot.names.insert(uid.clone(), name);
            snapshot.pods.entry(uid.clone()).or_default().insert(id, state);
        }
        Ok(snapshot)
    }

    /// The uids of the pods that are not as they were.
    pub(crate) fn changed_since(&self, before: &Self) -> Vec<String> {
        let uids = self.pods.keys().chain(before.pods.keys());
        let mut changed: Vec<String> = uids
            .filter(|uid| self.pods.get(*uid) != before.pods.get(*uid))
            .cloned()
            .collect();
        changed.sort();
        changed.dedup();
        changed
    }
}
