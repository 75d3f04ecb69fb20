//! What the kubelet is told: names, directories, sockets, addresses.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Taint;

use crate::node::eviction::EvictionThresholds;

/// Everything that one kubelet needs to know. Two of them can live in one process.
#[derive(Debug)]
pub struct Config {
    /// The node's name, and its `kubernetes.io/hostname`.
    pub node_name: String,
    /// The node's `InternalIP`.
    pub node_ip: IpAddr,
    /// Pod directories and volumes, upstream's `/var/lib/kubelet`.
    pub root_dir: PathBuf,
    /// Container logs, upstream's `/var/log/pods`.
    pub log_dir: PathBuf,
    /// Links to the logs by container, upstream's `/var/log/containers`.
    pub container_log_dir: PathBuf,
    /// The runtime's CRI socket.
    pub cri_endpoint: PathBuf,
    /// The HTTPS server.
    pub server: ServerConfig,
    /// Name servers of pods whose DNS policy is `ClusterFirst`.
    pub cluster_dns: Vec<IpAddr>,
    /// The DNS domain of the cluster, `cluster.local`.
    pub cluster_domain: String,
    /// The cgroup under which `kubepods` is made, such as `/` or `/skiff-a`.
    pub cgroup_root: String,
    /// Labels of the node beside the well-known ones.
    pub labels: BTreeMap<String, String>,
    /// Taints that the node registers with.
    pub taints: Vec<Taint>,
    /// The most pods that the node takes, 110 upstream.
    pub max_pods: u32,
    /// When the node is under pressure.
    pub eviction_hard: EvictionThresholds,
    /// `kubeletVersion`, such as `v1.37.0`.
    pub version: String,
    /// The host's name servers, for pods and for the `Default` DNS policy.
    pub resolv_conf: PathBuf,
}

/// The kubelet's HTTPS server.
pub struct ServerConfig {
    /// Where it listens; port 10250 by default.
    pub listener: TcpListener,
    /// Its certificate chain.
    pub certificate_pem: String,
    /// The key of the certificate.
    pub key_pem: String,
    /// Who signs the certificates of the clients that may ask.
    pub client_ca_pem: String,
}

impl fmt::Debug for ServerConfig {
    /// Without the key, which has no business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
