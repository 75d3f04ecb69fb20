//! Network interfaces: the bridge on the host, and the veth pair that leads into a pod's network namespace.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use futures::TryStreamExt as _;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_core::ErrorMessage;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec, LinkVeth, RouteMessageBuilder};

/// Why an interface is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("{step}: {message}")]
    Netlink { step: &'static str, message: String },
    #[error("network namespace {path}: {source}")]
    Namespace { path: String, source: io::Error },
    #[error("{path}: {source}")]
    Sysctl { path: String, source: io::Error },
}

fn netlink(step: &'static str) -> impl Fn(rtnetlink::Error) -> LinkError {
    move |error| LinkError::Netlink {
        step,
        message: error.to_string(),
    }
}

/// Whether the kernel said that it has what it was asked to make, or has not what it was asked to remove.
fn is_errno(error: &rtnetlink::Error, errno: &[Errno]) -> bool {
    match error {
        rtnetlink::Error::NetlinkError(ErrorMessage { code: Some(code), .. }) => errno
            .iter()
            .any(|errno| code.get().unsigned_abs() == (*errno as i32).unsigned_abs()),
        _ => false,
    }
}

/// A MAC address that follows from the IP address, so that a neighbour's cache is right after an address is reused.
pub(crate) fn mac_of(address: Ipv4Addr) -> Vec<u8> {
    let mut mac = vec![0x0a, 0x58];
    mac.extend(address.octets());
    mac
}

async fn find(handle: &Handle, name: &str) -> Result<Option<LinkMessage>, LinkError> {
    match handle.link().get().match_name(name).execute().try_next().await {
        Ok(link) => Ok(link),
        Err(error) if is_errno(&error, &[Errno::ENODEV]) => Ok(None),
        Err(error) => Err(netlink("find interface")(error)),
    }
}

async fn index_of(handle: &Handle, name: &str) -> Result<u32, LinkError> {
    find(handle, name)
        .await?
        .map(|link| link.header.index)
        .ok_or_else(|| LinkError::Netlink {
            step: "find interface",
            message: format!("{name} is not there"),
        })
}

/// Makes the bridge if it is not there, gives it its address and brings it up.
pub(crate) async fn ensure_bridge(
    handle: &Handle,
    name: &str,
    address: Ipv4Addr,
    prefix: u8,
    mtu: u32,
) -> Result<(), LinkError> {
    if find(handle, name).await?.is_none() {
        let message = LinkBridge::new(name).address(mac_of(address)).mtu(mtu).build();
        match handle.link().add(message).execute().await {
            Err(error) if !is_errno(&error, &[Errno::EEXIST]) => return Err(netlink("create bridge")(error)),
            _ => {}
        }
    }
    let index = index_of(handle, name).await?;
    handle
        .address()
        .add(index, IpAddr::V4(address), prefix)
        .replace()
        .execute()
        .await
        .map_err(netlink("set the bridge's address"))?;
    handle
        .link()
        .set(LinkUnspec::new_with_index(index).up().build())
        .execute()
        .await
        .map_err(netlink("bring the bridge up"))
}

/// Removes an interface; it may be gone already.
pub(crate) async fn delete(handle: &Handle, name: &str) -> Result<(), LinkError> {
    let Some(link) = find(handle, name).await? else {
        return Ok(());
    };
    match handle.link().del(link.header.index).execute().await {
        Err(error) if !is_errno(&error, &[Errno::ENODEV]) => Err(netlink("delete interface")(error)),
        _ => Ok(()),
    }
}

/// The MTU of the interface that the default route leaves by; 1500 when there is none.
pub(crate) async fn uplink_mtu(handle: &Handle) -> u32 {
    let routes = handle
        .route()
        .get(RouteMessageBuilder::<Ipv4Addr>::new().build())
        .execute();
    let default = routes.try_filter(|route| {
        let is_default = route.header.destination_prefix_length == 0;
        futures::future::ready(is_default)
    });
    let Ok(Some(route)) = Box::pin(default).try_next().await else {
        return 1500;
    };
    let oif = route.attributes.iter().find_map(|attribute| match attribute {
        rtnetlink::packet_route::route::RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    let Some(index) = oif else { return 1500 };
    let Ok(Some(link)) = handle.link().get().match_index(index).execute().try_next().await else {
        return 1500;
    };
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        })
        .unwrap_or(1500)
}

/// What a pod's end of the veth pair gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PodAddress {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) gateway: Ipv4Addr,
}

/// Connects a network namespace to the bridge by a veth pair: `host_end` here, `eth0` there. Does nothing where that
/// is done already.
pub(crate) async fn connect(
    handle: &Handle,
    bridge: &str,
    host_end: &str,
    netns: &Path,
    pod: PodAddress,
    mtu: u32,
) -> Result<(), LinkError> {
    let in_namespace = |source: io::Error| LinkError::Namespace {
        path: netns.display().to_string(),
        source,
    };
    let namespace: OwnedFd = File::open(netns).map_err(in_namespace)?.into();
    let bridge_index = index_of(handle, bridge).await?;

    if find(handle, host_end).await?.is_none() {
        // The peer's name must be free on the host for the moment until it moves, and unique among parallel calls.
        let peer = format!("{}p", host_end.get(..host_end.len().min(14)).unwrap_or(host_end));
        let message = LinkVeth::new(host_end, &peer).mtu(mtu).build();
        handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(netlink("create veth pair"))?;
        let moved = async {
            let peer_index = index_of(handle, &peer).await?;
            let message = LinkUnspec::new_with_index(peer_index)
                .setns_by_fd(namespace.as_raw_fd())
                .name("eth0")
                .address(mac_of(pod.address))
                .mtu(mtu)
                .build();
            handle
                .link()
                .set(message)
                .execute()
                .await
                .map_err(netlink("move veth into the pod"))
        };
        if let Err(error) = moved.await {
            // Nothing half-made stays; the next try starts afresh.
            delete(handle, host_end).await.ok();
            return Err(error);
        }
    }
    let host_index = index_of(handle, host_end).await?;
    handle
        .link()
        .set(
            LinkUnspec::new_with_index(host_index)
                .controller(bridge_index)
                .up()
                .build(),
        )
        .execute()
        .await
        .map_err(netlink("put veth on the bridge"))?;
    // A pod may reach itself through a host port or a service.
    handle
        .link()
        .set_port(LinkBridgePort::new(host_index).hairpin(true).build())
        .execute()
        .await
        .map_err(netlink("let the pod reach itself"))?;
    inside(namespace, move |handle| configure_pod(handle, pod))
        .await
        .map_err(in_namespace)?
}

async fn configure_pod(handle: Handle, pod: PodAddress) -> Result<(), LinkError> {
    for name in ["lo", "eth0"] {
        let index = index_of(&handle, name).await?;
        if name == "eth0" {
            let address = handle
                .address()
                .add(index, IpAddr::V4(pod.address), pod.prefix)
                .replace();
            address
                .execute()
                .await
                .map_err(netlink("set the pod's address"))?;
        }
        let up = LinkUnspec::new_with_index(index).up().build();
        handle
            .link()
            .set(up)
            .execute()
            .await
            .map_err(netlink("bring the pod's interface up"))?;
    }
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(pod.gateway)
        .build();
    handle
        .route()
        .add(route)
        .replace()
        .execute()
        .await
        .map_err(netlink("set the pod's default route"))
}

/// Runs netlink requests inside a network namespace, on a thread of their own: a thread that has changed its
/// namespace must not go back to a pool.
async fn inside<F, R>(namespace: OwnedFd, work: impl FnOnce(Handle) -> F + Send + 'static) -> io::Result<R>
where
    F: Future<Output = R>,
    R: Send + 'static,
{
    let (send, receive) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("pod-netns".into())
        .spawn(move || {
            let result = (|| {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_io()
                    .build()?;
                runtime.block_on(async {
                    let (connection, handle, _) = rtnetlink::new_connection()?;
                    tokio::spawn(connection);
                    Ok(work(handle).await)
                })
            })();
            let _ = send.send(result);
        })?;
    receive.await.map_err(io::Error::other)?
}

/// Writes a kernel setting, unless it has that value (it may be read-only and right).
pub(crate) fn write_sysctl(path: &str, value: &str) -> Result<(), LinkError> {
    if std::fs::read_to_string(path).is_ok_and(|current| current.trim() == value) {
        return Ok(());
    }
    std::fs::write(path, value).map_err(|source| LinkError::Sysctl {
        path: path.to_string(),
        source,
    })
}
