//! The bridge network: what happens when a pod is connected, and when it goes.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use rtnetlink::Handle;
use tokio::sync::Mutex;

use crate::addresses::{AddressError, Addresses};
use crate::link::{self, LinkError, PodAddress};
use crate::nft::{self, NftError};

/// A transport protocol that host ports know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A port of the host that leads into a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The protocol.
    pub protocol: Protocol,
    /// The host's port.
    pub host_port: u16,
    /// The pod's port.
    pub pod_port: u16,
    /// The host's address it is open on; all of them when `None`.
    pub host_address: Option<Ipv4Addr>,
}

/// A pod that wants to be on the network.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Unique among the node's pods, at least in its first 11 characters (they name the interface).
    pub id: String,
    /// The pod's network namespace.
    pub netns: PathBuf,
    /// The host ports that lead into it.
    pub host_ports: Vec<HostPort>,
}

/// Where the network lives.
#[derive(Clone, Debug)]
pub struct Config {
    /// The bridge's name, at most 15 characters; the nftables table is called like it.
    pub bridge: String,
    /// Where allocated addresses are kept.
    pub state_dir: PathBuf,
    /// The range of all pods of the cluster: not masqueraded.
    pub cluster_cidr: Ipv4Net,
}

/// Why a pod is not connected.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The node has no pod range yet.
    #[error("the node has no pod CIDR yet")]
    NotReady,
    /// There is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// An interface or a kernel setting could not be made.
    #[error("{0}")]
    Link(String),
    /// The packet filter refused.
    #[error(transparent)]
    Nft(#[from] NftError),
}

impl From<LinkError> for NetworkError {
    fn from(error: LinkError) -> Self {
        Self::Link(error.to_string())
    }
}

/// The pod network of this node.
pub struct Bridge {
    config: Config,
    netlink: Handle,
    /// `None` until the node's range is known. Held while the range is set up, so that it happens once.
    ready: Mutex<Option<Ready>>,
}

#[derive(Clone)]
struct Ready {
    addresses: std::sync::Arc<Addresses>,
    mtu: u32,
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Bridge {
    /// A network that waits for the node's range, see [`Bridge::set_pod_cidr`]. Needs a Tokio runtime.
    ///
    /// # Errors
    /// When there is no netlink socket to be had.
    pub fn new(config: Config) -> Result<Self, NetworkError> {
        let (connection, netlink, _) =
            rtnetlink::new_connection().map_err(|error| NetworkError::Link(error.to_string()))?;
        tokio::spawn(connection);
        Ok(Self {
            config,
            netlink,
            ready: Mutex::new(None),
        })
    }

    /// Sets the network up for the node's range: bridge, forwarding, masquerading. Repeating it does no harm.
    ///
    /// # Errors
    /// When an interface, a kernel setting or the packet filter fails; the network is then not ready.
    pub async fn set_pod_cidr(&self, pods: Ipv4Net) -> Result<(), NetworkError> {
        let mut ready = self.ready.lock().await;
        if ready
            .as_ref()
            .is_some_and(|ready| ready.addresses.range() == pods)
        {
            return Ok(());
        }
        let addresses = Addresses::open(self.config.state_dir.clone(), pods)?;
        let bridge = &self.config.bridge;
        let mtu = link::uplink_mtu(&self.netlink).await;
        link::ensure_bridge(&self.netlink, bridge, addresses.gateway(), pods.prefix_len(), mtu).await?;
        link::write_sysctl("/proc/sys/net/ipv4/ip_forward", "1")?;
        // Host ports are reachable on 127.0.0.1 too.
        link::write_sysctl(&format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet"), "1")?;
        nft::apply(&nft::node_table(bridge, bridge, pods, self.config.cluster_cidr)).await?;
        *ready = Some(Ready {
            addresses: std::sync::Arc::new(addresses),
            mtu,
        });
        Ok(())
    }

    /// Whether pods can be connected.
    pub async fn is_ready(&self) -> bool {
        self.ready.lock().await.is_some()
    }

    async fn ready(&self) -> Result<Ready, NetworkError> {
        self.ready.lock().await.clone().ok_or(NetworkError::NotReady)
    }

    /// Connects a pod and returns its address. Repeating it gives the same address.
    ///
    /// # Errors
    /// When the pod is not connected; nothing of it stays but the address, which [`Bridge::detach`] frees.
    pub async fn attach(&self, attachment: &Attachment) -> Result<Ipv4Addr, NetworkError> {
        let ready = self.ready().await?;
        let address = ready.addresses.allocate(&attachment.id)?;
        let pod = PodAddress {
            address,
            prefix: ready.addresses.range().prefix_len(),
            gateway: ready.addresses.gateway(),
        };
        let host_end = interface_name(&attachment.id);
        link::connect(
            &self.netlink,
            &self.config.bridge,
            &host_end,
            &attachment.netns,
            pod,
            ready.mtu,
        )
        .await?;
        if !attachment.host_ports.is_empty() {
            let table = &self.config.bridge;
            nft::apply(&nft::add_host_ports(table, address, &attachment.host_ports)).await?;
        }
        Ok(address)
    }

    /// Disconnects a pod and frees its address and host ports. Succeeds when it is not connected.
    ///
    /// # Errors
    /// When something of it could not be removed; to be repeated.
    pub async fn detach(&self, attachment: &Attachment) -> Result<(), NetworkError> {
        for port in &attachment.host_ports {
            // One by one: each may have been taken back before, or never have been there.
            let rules = nft::delete_host_ports(&self.config.bridge, std::slice::from_ref(port));
            if let Err(error @ NftError::Missing(_)) = nft::apply(&rules).await {
                return Err(error.into());
            }
        }
        link::delete(&self.netlink, &interface_name(&attachment.id)).await?;
        if let Ok(ready) = self.ready().await {
            ready.addresses.release(&attachment.id)?;
        }
        Ok(())
    }

    /// Removes the bridge, the table and all addresses: the node leaves no trace of its pod network.
    ///
    /// # Errors
    /// When something could not be removed.
    pub async fn remove(&self) -> Result<(), NetworkError> {
        *self.ready.lock().await = None;
        link::delete(&self.netlink, &self.config.bridge).await?;
        let table = &self.config.bridge;
        nft::apply(&format!("table ip {table} {{ }}\ndelete table ip {table}\n")).await?;
        match std::fs::remove_dir_all(&self.config.state_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(AddressError::Io {
                path: self.config.state_dir.clone(),
                source: error,
            }
            .into()),
            _ => Ok(()),
        }
    }
}

/// The host's end of a pod's veth pair. Interface names have at most 15 characters.
fn interface_name(id: &str) -> String {
    let start: String = id.chars().filter(char::is_ascii_alphanumeric).take(11).collect();
    format!("sk{start}")
}
