//! The pod network as the runtime asks for it: Skiff's bridge behind the runtime's seam, set up when the node has its
//! pod CIDR.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use skiff_informer::{Informer, ObjectKey};
use skiff_network::{Attachment, Bridge, HostPort, Protocol};
use skiff_runtime::{PodNetwork, Sandbox};
use tokio::sync::watch;

/// How long an answer about the network's state may wait for the network to come up. It takes a few milliseconds after
/// the node has its range; whoever asks at start-up need not ask again.
const PATIENCE: Duration = Duration::from_millis(500);

/// The bridge of this node.
pub(crate) struct NodeNetwork {
    bridge: Bridge,
    state: watch::Sender<State>,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Waiting,
    Ready,
    Failed(String),
}

impl NodeNetwork {
    /// A network that waits for its range.
    pub(crate) fn new(config: skiff_network::Config) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            bridge: Bridge::new(config)?,
            state: watch::Sender::new(State::Waiting),
        }))
    }

    /// Sets the bridge up as soon as the node has its pod CIDR.
    pub(crate) async fn follow(self: Arc<Self>, nodes: Informer<Node>, node_name: String) {
        let cidrs = watch::Sender::new(None);
        let mut changes = cidrs.subscribe();
        nodes.on_change(move |_, node| {
            let Some(node) = node.filter(|node| ObjectKey::of(&node.metadata).name == node_name) else {
                return;
            };
            let cidr = node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone());
            cidrs.send_if_modified(|known| cidr.is_some() && std::mem::replace(known, cidr.clone()) != cidr);
        });
        while changes.changed().await.is_ok() {
            let cidr = changes.borrow_and_update().clone();
            let Some(cidr) = cidr else { continue };
            let state = match cidr.parse::<Ipv4Net>() {
                Ok(range) => match self.bridge.set_pod_cidr(range).await {
                    Ok(()) => State::Ready,
                    Err(error) => State::Failed(error.to_string()),
                },
                Err(error) => State::Failed(format!("the node's pod CIDR {cidr:?}: {error}")),
            };
            if let State::Failed(why) = &state {
                tracing::error!(%why, "the pod network cannot be set up");
            }
            self.state.send_replace(state);
        }
    }
}

fn attachment(sandbox: &Sandbox) -> Attachment {
    let host_ports = sandbox
        .port_mappings
        .iter()
        .filter(|mapping| mapping.host_port != 0);
    Attachment {
        id: sandbox.id.clone(),
        netns: sandbox.netns.clone(),
        host_ports: host_ports
            .map(|mapping| HostPort {
                protocol: match mapping.protocol.as_str() {
                    "UDP" => Protocol::Udp,
                    "SCTP" => Protocol::Sctp,
                    _ => Protocol::Tcp,
                },
                host_port: mapping.host_port,
                pod_port: mapping.container_port,
                host_address: match mapping.host_ip {
                    Some(IpAddr::V4(address)) if !address.is_unspecified() => Some(address),
                    _ => None,
                },
            })
            .collect(),
    }
}

#[async_trait]
impl PodNetwork for NodeNetwork {
    async fn attach(&self, sandbox: &Sandbox) -> Result<Vec<IpAddr>, String> {
        match self.bridge.attach(&attachment(sandbox)).await {
            Ok(address) => Ok(vec![address.into()]),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn detach(&self, sandbox: &Sandbox) -> Result<(), String> {
        self.bridge
            .detach(&attachment(sandbox))
            .await
            .map_err(|error| error.to_string())
    }

    async fn not_ready(&self) -> Option<String> {
        let mut state = self.state.subscribe();
        let settled = tokio::time::timeout(PATIENCE, state.wait_for(|state| *state != State::Waiting));
        match settled.await.ok().and_then(Result::ok).as_deref() {
            Some(State::Ready) => None,
            Some(State::Failed(why)) => Some(why.clone()),
            Some(State::Waiting) | None => Some("the node has no pod CIDR yet".into()),
        }
    }
}
