//! Containers: what is known of each, and how they come and go.

mod capability;
mod device;
mod exec;
mod lifecycle;
mod prepare;
mod rootfs;
mod seccomp;
mod spec;
mod stop;
mod stream;
mod user;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use k8s_cri::v1;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::shim::protocol::RunState;

/// What is known of a container: `container.json` in its folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerRecord {
    pub id: String,
    pub sandbox: String,
    pub name: String,
    pub attempt: u32,
    pub labels: HashMap<String, String>,
    pub annotations: HashMap<String, String>,
    /// As the pod named it.
    pub image: String,
    pub user_specified_image: String,
    /// The image's tag in full: `docker.io/library/nginx:latest`; empty when it had none.
    #[serde(default)]
    pub image_tag: String,
    /// A digest that names the image anywhere, or its id.
    pub image_ref: String,
    pub image_id: String,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    pub log_path: Option<PathBuf>,
    pub mounts: Vec<MountRecord>,
    pub resources: Resources,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub tty: bool,
    pub stdin: bool,
    /// Whether its standard input ends with the first who has attached to it.
    #[serde(default)]
    pub stdin_once: bool,
    pub stop_signal: i32,
    pub cgroup: String,
    pub private_pid: bool,
}

/// A volume of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MountRecord {
    pub container_path: String,
    pub host_path: String,
    pub readonly: bool,
    pub propagation: i32,
    pub recursive_read_only: bool,
}

/// A container's limits, as CRI words them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Resources {
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpu_shares: i64,
    pub memory_limit_in_bytes: i64,
    pub oom_score_adj: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub unified: HashMap<String, String>,
    pub memory_swap_limit_in_bytes: i64,
}

impl Resources {
    pub(crate) fn from_cri(resources: &v1::LinuxContainerResources) -> Self {
        Self {
            cpu_period: resources.cpu_period,
            cpu_quota: resources.cpu_quota,
            cpu_shares: resources.cpu_shares,
            memory_limit_in_bytes: resources.memory_limit_in_bytes,
            oom_score_adj: resources.oom_score_adj,
            cpuset_cpus: resources.cpuset_cpus.clone(),
            cpuset_mems: resources.cpuset_mems.clone(),
            unified: resources.unified.clone(),
            memory_swap_limit_in_bytes: resources.memory_swap_limit_in_bytes,
        }
    }

    pub(crate) fn to_cri(&self) -> v1::LinuxContainerResources {
        v1::LinuxContainerResources {
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_shares: self.cpu_shares,
            memory_limit_in_bytes: self.memory_limit_in_bytes,
            oom_score_adj: self.oom_score_adj,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            hugepage_limits: Vec::new(),
            unified: self.unified.clone(),
            memory_swap_limit_in_bytes: self.memory_swap_limit_in_bytes,
        }
    }

    /// Takes over what an update names; nothing is unnamed by a zero.
    pub(crate) fn merge(&mut self, update: &v1::LinuxContainerResources) {
        let number = |known: &mut i64, new: i64| {
            if new != 0 {
                *known = new;
            }
        };
        number(&mut self.cpu_period, update.cpu_period);
        number(&mut self.cpu_quota, update.cpu_quota);
        number(&mut self.cpu_shares, update.cpu_shares);
        number(&mut self.memory_limit_in_bytes, update.memory_limit_in_bytes);
        number(&mut self.oom_score_adj, update.oom_score_adj);
        number(
            &mut self.memory_swap_limit_in_bytes,
            update.memory_swap_limit_in_bytes,
        );
        if !update.cpuset_cpus.is_empty() {
            self.cpuset_cpus.clone_from(&update.cpuset_cpus);
        }
        if !update.cpuset_mems.is_empty() {
            self.cpuset_mems.clone_from(&update.cpuset_mems);
        }
        self.unified.extend(update.unified.clone());
    }
}

impl ContainerRecord {
    pub(crate) const FILE: &str = "container.json";
}

/// A container that the server looks after.
#[derive(Debug)]
pub(crate) struct ContainerEntry {
    pub id: String,
    pub sandbox: String,
    pub record: Mutex<ContainerRecord>,
    /// Held by whoever starts or removes the container.
    pub operation: tokio::sync::Mutex<()>,
    pub run: watch::Sender<RunState>,
}

impl ContainerEntry {
    pub(crate) fn new(record: ContainerRecord, run: RunState) -> Self {
        Self {
            id: record.id.clone(),
            sandbox: record.sandbox.clone(),
            record: Mutex::new(record),
            operation: tokio::sync::Mutex::default(),
            run: watch::Sender::new(run),
        }
    }

    /// CRI's name for how far it has come.
    pub(crate) fn state(&self) -> v1::ContainerState {
        let run = self.run.borrow();
        if run.exited() {
            v1::ContainerState::ContainerExited
        } else if run.running() {
            v1::ContainerState::ContainerRunning
        } else {
            v1::ContainerState::ContainerCreated
        }
    }
}

/// Where a container keeps its things.
#[derive(Clone, Debug)]
pub(crate) struct ContainerPaths {
    /// The OCI bundle, with the records.
    pub folder: PathBuf,
    pub rootfs: PathBuf,
    pub upper: PathBuf,
    pub work: PathBuf,
}

impl ContainerPaths {
    pub(crate) fn new(state: &Path, id: &str) -> Self {
        let folder = state.join("containers").join(id);
        Self {
            rootfs: folder.join("rootfs"),
            upper: folder.join("upper"),
            work: folder.join("work"),
            folder,
        }
    }
}
