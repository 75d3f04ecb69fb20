//! What all parts of one kubelet share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::Client;
use parking_lot::Mutex;
use skiff_informer::{EventRecorder, Informer};
use tokio_util::sync::CancellationToken;

use crate::cgroups::Cgroups;
use crate::cri::Cri;
use crate::objects::Objects;
use crate::pod::fields::Facts;
use crate::resources::Amounts;
use crate::volumes::Volumes;

/// Everything that the workers, the server and the node's own tasks need.
pub(crate) struct Shared {
    pub(crate) cri: Cri,
    pub(crate) client: Client,
    pub(crate) recorder: EventRecorder,
    pub(crate) objects: Objects,
    pub(crate) volumes: Volumes,
    pub(crate) cgroups: Cgroups,
    pub(crate) pods: Informer<Pod>,
    pub(crate) services: Informer<Service>,
    pub(crate) node: Informer<Node>,
    pub(crate) node_name: String,
    pub(crate) node_ip: IpAddr,
    pub(crate) root_dir: PathBuf,
    pub(crate) log_dir: PathBuf,
    pub(crate) container_log_dir: PathBuf,
    pub(crate) cluster_dns: Vec<IpAddr>,
    pub(crate) cluster_domain: String,
    pub(crate) resolv_conf: PathBuf,
    pub(crate) max_pods: usize,
    /// `skiff`, `containerd`, …
    pub(crate) runtime_name: String,
    /// What the node has for pods.
    pub(crate) allocatable: Amounts,
    /// What the pods that were taken request, by uid.
    pub(crate) admitted: Mutex<BTreeMap<String, Amounts>>,
    pub(crate) shutdown: CancellationToken,
}

impl Shared {
    /// What the downward API may show of a pod with these addresses.
    pub(crate) fn facts(&self, pod_ips: Vec<String>) -> Facts {
        Facts {
            pod_ips,
            host_ip: self.node_ip.to_string(),
            node_name: self.node_name.clone(),
            allocatable: self.allocatable.clone(),
        }
    }

    pub(crate) fn node_memory(&self) -> i64 {
        self.allocatable.get("memory").copied().unwrap_or(0)
    }

    /// The node as the API has it; before the first answer, as good as empty.
    pub(crate) fn node_object(&self) -> Option<Arc<Node>> {
        self.node
            .get(&skiff_informer::ObjectKey::new("", &self.node_name))
    }
}
