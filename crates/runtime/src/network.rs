//! The seam to the pod network: what the runtime asks of whoever connects a sandbox.

use std::net::IpAddr;
use std::path::PathBuf;

use async_trait::async_trait;

/// A port of the host that is led to a port of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The host's port.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
    /// The host address to listen on; all when `None`.
    pub host_ip: Option<IpAddr>,
}

/// A pod sandbox, as far as a network needs to know it.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The sandbox' id.
    pub id: String,
    /// The pod's namespace, name and uid, for messages and for CNI plugins.
    pub pod_namespace: String,
    /// The pod's name.
    pub pod_name: String,
    /// The pod's uid.
    pub pod_uid: String,
    /// The network namespace, as a path that can be opened.
    pub netns: PathBuf,
    /// The host ports to lead in.
    pub port_mappings: Vec<PortMapping>,
}

/// Connects sandboxes to the pod network.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Connects the sandbox and returns its addresses, the primary one first. Must be idempotent.
    ///
    /// # Errors
    /// A message that the pod's event shows.
    async fn attach(&self, sandbox: &Sandbox) -> Result<Vec<IpAddr>, String>;

    /// Disconnects the sandbox and frees its addresses. Must succeed when there is nothing left to do.
    ///
    /// # Errors
    /// A message that the pod's event shows.
    async fn detach(&self, sandbox: &Sandbox) -> Result<(), String>;

    /// Why no sandbox can be connected now; `None` when all is well (CRI's `NetworkReady` condition).
    async fn not_ready(&self) -> Option<String>;
}
