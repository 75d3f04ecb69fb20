//! Pod sandboxes: what is known of each, and how they come and go.

mod files;
mod lifecycle;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use k8s_cri::v1;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::network::PortMapping;
use crate::shim::client::Shim;

/// How far a sandbox has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Phase {
    /// Being made; a server that finds one in this phase clears it away.
    Creating,
    /// Its shim lives and its network is connected.
    Ready,
    /// Stopped, or its shim has died.
    NotReady,
}

/// What is known of a sandbox: `sandbox.json` in its folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SandboxRecord {
    pub id: String,
    pub name: String,
    pub uid: String,
    pub namespace: String,
    pub attempt: u32,
    pub labels: HashMap<String, String>,
    pub annotations: HashMap<String, String>,
    pub runtime_handler: String,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    pub phase: Phase,
    pub hostname: String,
    pub log_directory: PathBuf,
    pub cgroup_parent: String,
    /// CRI's `NamespaceMode`, as numbers.
    pub network_mode: i32,
    pub pid_mode: i32,
    pub ipc_mode: i32,
    pub port_mappings: Vec<Mapping>,
    pub ips: Vec<IpAddr>,
    pub shim_pid: i32,
    pub pid_namespace_init: Option<ProcessIdentity>,
}

/// A port of the host that is led to the pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mapping {
    protocol: String,
    host_port: u16,
    container_port: u16,
    host_ip: Option<IpAddr>,
}

/// A process, told apart from a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessIdentity {
    pub pid: i32,
    /// Clock ticks since the machine's start.
    pub started: u64,
}

impl ProcessIdentity {
    /// The identity of a process that lives now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may contain anything.
        let fields = stat.rsplit_once(") ")?.1;
        Some(Self {
            pid,
            started: fields.split(' ').nth(19)?.parse().ok()?,
        })
    }

    /// Whether it still lives.
    pub(crate) fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

impl SandboxRecord {
    pub(crate) const FILE: &str = "sandbox.json";

    /// Whether the pod lives in the host's network.
    pub(crate) fn host_network(&self) -> bool {
        self.network_mode == v1::NamespaceMode::Node as i32
    }

    /// As the network knows it.
    pub(crate) fn for_network(&self, netns: PathBuf) -> crate::network::Sandbox {
        let mappings = self.port_mappings.iter().map(|m| PortMapping {
            protocol: m.protocol.clone(),
            host_port: m.host_port,
            container_port: m.container_port,
            host_ip: m.host_ip,
        });
        crate::network::Sandbox {
            id: self.id.clone(),
            pod_namespace: self.namespace.clone(),
            pod_name: self.name.clone(),
            pod_uid: self.uid.clone(),
            netns,
            port_mappings: mappings.collect(),
        }
    }
}

impl Mapping {
    fn from_cri(mapping: &v1::PortMapping) -> Option<Self> {
        Some(Self {
            protocol: mapping.protocol().as_str_name().to_owned(),
            // Without a host port there is nothing to lead in.
            host_port: u16::try_from(mapping.host_port).ok().filter(|p| *p != 0)?,
            container_port: u16::try_from(mapping.container_port).ok().filter(|p| *p != 0)?,
            host_ip: mapping.host_ip.parse().ok(),
        })
    }
}

/// A sandbox that the server looks after.
#[derive(Debug)]
pub(crate) struct SandboxEntry {
    pub id: String,
    pub record: Mutex<SandboxRecord>,
    /// Held by whoever changes the sandbox.
    pub operation: tokio::sync::Mutex<()>,
    pub shim: Shim,
}

/// Where a sandbox keeps its things.
#[derive(Clone, Debug)]
pub(crate) struct SandboxPaths {
    /// Records, `resolv.conf`, `hosts`, `hostname`, the shim's complaints.
    pub folder: PathBuf,
    pub netns: PathBuf,
    pub shm: PathBuf,
    pub socket: PathBuf,
    pub libcontainer_root: PathBuf,
}

impl SandboxPaths {
    pub(crate) fn new(state: &Path, run: &Path, id: &str) -> Self {
        // Socket paths must stay under 108 bytes; 80 random bits tell sandboxes apart well enough.
        let short = id.get(..20).unwrap_or(id);
        Self {
            folder: state.join("sandboxes").join(id),
            netns: run.join("netns").join(id),
            shm: run.join("shm").join(id),
            socket: run.join("shim").join(format!("{short}.sock")),
            libcontainer_root: run.join("oci").join(short),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_apart_from_a_later_one() {
        let own = ProcessIdentity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.lives());
        assert!(
            !ProcessIdentity {
                started: own.started + 1,
                ..own
            }
            .lives()
        );
    }
}
