//! The node IPAM controller: every node gets its part of the pod network in `spec.podCIDR`.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;
use skiff_informer::events::reference_to;
use skiff_informer::{EventRecorder, EventType, Informer, Informers, ObjectKey};
use tokio_util::sync::CancellationToken;

use super::cidr::Cidrs;
use crate::worker::{Failure, Reconcile, unless_gone, work};
use crate::{Config, Error};

struct Controller {
    client: Client,
    nodes: Informer<Node>,
    cidrs: Arc<Mutex<Cidrs>>,
    events: EventRecorder,
}

/// The parts of the pod network that the configuration describes.
pub(crate) fn parts(config: &Config) -> Result<Option<Parts>, Error> {
    let Some((network, prefix)) = config.cluster_cidr else {
        return Ok(None);
    };
    let mask = match network {
        IpAddr::V4(_) => config.node_cidr_mask_ipv4,
        IpAddr::V6(_) => config.node_cidr_mask_ipv6,
    };
    match Cidrs::new(network, prefix, mask) {
        Some(cidrs) => Ok(Some(Parts(cidrs))),
        None => Err(Error::ClusterCidr {
            cidr: format!("{network}/{prefix}"),
            mask,
        }),
    }
}

/// The parts of the pod network.
pub(crate) struct Parts(Cidrs);

/// Runs the controller until `shutdown`.
pub(crate) async fn run(parts: Parts, informers: Informers, shutdown: CancellationToken) {
    let client = informers.client().clone();
    let nodes = informers.all::<Node>();
    let queue = informers.queues().make::<String>("cidrallocator_node");
    let cidrs = Arc::new(Mutex::new(parts.0));
    nodes.on_change({
        let queue = queue.clone();
        let cidrs = cidrs.clone();
        move |old, new| {
            let mut cidrs = cidrs.lock();
            if let (Some(old), None) = (old, new) {
                cidrs.release(old.metadata.name.as_deref().unwrap_or_default());
            }
            if let Some(node) = new {
                let name = node.metadata.name.clone().unwrap_or_default();
                for cidr in node_cidrs(node) {
                    cidrs.occupy(cidr, &name);
                }
                queue.add(name);
            }
        }
    });
    // Before anything is given away, all that the nodes have must be known.
    tokio::select! {
        () = nodes.synced() => {}
        () = shutdown.cancelled() => return,
    }
    let events = EventRecorder::new(client.clone(), "cidrAllocator", None, shutdown.clone());
    let controller = Controller {
        client,
        nodes,
        cidrs,
        events,
    };
    work("node-ipam", Arc::new(controller), queue, 1, shutdown).await;
}

fn node_cidrs(node: &Node) -> impl Iterator<Item = &str> {
    let spec = node.spec.as_ref();
    let listed = spec
        .and_then(|spec| spec.pod_cidrs.as_ref())
        .into_iter()
        .flatten();
    listed
        .chain(spec.and_then(|spec| spec.pod_cidr.as_ref()))
        .map(String::as_str)
        .filter(|cidr| !cidr.is_empty())
}

impl Reconcile<String> for Controller {
    async fn reconcile(&self, name: &String) -> Result<(), Failure> {
        let Some(node) = self.nodes.get(&ObjectKey::new("", name)) else {
            return Ok(());
        };
        if node_cidrs(&node).next().is_some() || node.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let cidr = self.cidrs.lock().allocate(name);
        let Some(cidr) = cidr else {
            let text = format!("Node {name} status is now: CIDRNotAvailable");
            self.events
                .record(reference_to(&*node), EventType::Normal, "CIDRNotAvailable", text);
            return Err(Failure::NotYet("the pod network has no free part".to_string()));
        };
        let patch = json!({
            "metadata": {"uid": node.metadata.uid},
            "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        });
        let api: Api<Node> = Api::all(self.client.clone());
        unless_gone(
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )?;
        Ok(())
    }
}
