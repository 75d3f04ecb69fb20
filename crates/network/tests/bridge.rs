//! Pods on a real bridge: network namespaces of this machine that talk to each other and to the host.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use skiff_network::{Attachment, Bridge, Config, HostPort, Protocol};

/// A network namespace that goes away with the test.
struct Netns(String);

impl Netns {
    fn new(name: String) -> Self {
        let made = Command::new("ip").args(["netns", "add", &name]).status().unwrap();
        assert!(made.success());
        Self(name)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0)
    }

    /// Runs something inside, on a thread of its own.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let namespace = std::fs::File::open(self.path()).unwrap();
        std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    /// Answers one connection with `greeting`; returns when it listens.
    fn serve(&self, address: SocketAddr, greeting: &'static str) -> std::thread::JoinHandle<()> {
        let (ready, listening) = std::sync::mpsc::channel();
        let server = self.run(move || {
            let listener = TcpListener::bind(address).unwrap();
            ready.send(()).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(greeting.as_bytes()).unwrap();
        });
        listening.recv_timeout(Duration::from_secs(10)).unwrap();
        server
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Removes a bridge and its table even when the test fails.
struct Cleanup(String);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["link", "del", &self.0])
            .stderr(std::process::Stdio::null())
            .status();
        let _ = Command::new("nft")
            .args(["delete", "table", "ip", &self.0])
            .stderr(std::process::Stdio::null())
            .status();
    }
}

fn read_from(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn attachment(id: &str, netns: &Netns, host_ports: Vec<HostPort>) -> Attachment {
    Attachment {
        id: id.to_string(),
        netns: netns.path(),
        host_ports,
    }
}

/// Bridge and ids of one test; its name and range must differ from those of the others.
fn network(name: &str, second_octet: u8) -> (Bridge, ipnet::Ipv4Net, Cleanup, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    let bridge = format!("{name}{}", std::process::id() % 100_000);
    let cluster = format!("10.{second_octet}.0.0/16").parse().unwrap();
    let pods = format!("10.{second_octet}.3.0/24").parse().unwrap();
    let config = Config {
        bridge: bridge.clone(),
        state_dir: state.path().join("addresses"),
        cluster_cidr: cluster,
    };
    (Bridge::new(config).unwrap(), pods, Cleanup(bridge), state)
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_reach_each_other_the_host_and_are_reached_by_it() {
    let (bridge, pods, cleanup, _state) = network("skt1-", 201);
    bridge.set_pod_cidr(pods).await.unwrap();
    let (a, b) = (
        Netns::new(format!("{}a", cleanup.0)),
        Netns::new(format!("{}b", cleanup.0)),
    );
    let address_a = bridge
        .attach(&attachment("aaaaaaaaaaaaaa", &a, vec![]))
        .await
        .unwrap();
    let address_b = bridge
        .attach(&attachment("bbbbbbbbbbbbbb", &b, vec![]))
        .await
        .unwrap();
    assert_ne!(address_a, address_b);

    let server = a.serve((address_a, 8080).into(), "from a");
    assert_eq!(
        b.run(move || read_from((address_a, 8080).into())).join().unwrap(),
        "from a"
    );
    server.join().unwrap();

    let server = a.serve((Ipv4Addr::UNSPECIFIED, 8081).into(), "to the host");
    assert_eq!(read_from((address_a, 8081).into()), "to the host");
    server.join().unwrap();

    let gateway: Ipv4Addr = "10.201.3.1".parse().unwrap();
    let listener = TcpListener::bind((gateway, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = b.run(move || read_from((gateway, port).into()));
    let (mut stream, peer) = listener.accept().unwrap();
    // Without NAT: the host sees the pod's own address.
    assert_eq!(peer.ip(), address_b);
    stream.write_all(b"from the host").unwrap();
    drop(stream);
    assert_eq!(client.join().unwrap(), "from the host");
    bridge.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_port_leads_into_the_pod_until_it_is_detached() {
    let (bridge, pods, cleanup, _state) = network("skt2-", 202);
    bridge.set_pod_cidr(pods).await.unwrap();
    let pod = Netns::new(format!("{}a", cleanup.0));
    let host_port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let port = HostPort {
        protocol: Protocol::Tcp,
        host_port,
        pod_port: 80,
        host_address: None,
    };
    let attachment = attachment("cccccccccccccc", &pod, vec![port]);
    let address = bridge.attach(&attachment).await.unwrap();
    for host in [Ipv4Addr::LOCALHOST, "10.202.3.1".parse().unwrap()] {
        let server = pod.serve((Ipv4Addr::UNSPECIFIED, 80).into(), "through the host's port");
        assert_eq!(read_from((host, host_port).into()), "through the host's port");
        server.join().unwrap();
    }
    // From the pod itself as well, though the way out is the way in.
    let server = pod.serve((Ipv4Addr::UNSPECIFIED, 80).into(), "back again");
    let gateway = SocketAddr::from((Ipv4Addr::new(10, 202, 3, 1), host_port));
    assert_eq!(pod.run(move || read_from(gateway)).join().unwrap(), "back again");
    server.join().unwrap();
    bridge.detach(&attachment).await.unwrap();
    assert!(
        TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, host_port).into(), Duration::from_secs(1)).is_err()
    );
    // All of it is gone, so detaching again has nothing to do, and the address is free for the same pod.
    bridge.detach(&attachment).await.unwrap();
    assert_ne!(bridge.attach(&attachment).await.unwrap(), address);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_finds_the_network_as_it_was() {
    let (bridge, pods, cleanup, state) = network("skt3-", 203);
    assert!(!bridge.is_ready().await);
    bridge.set_pod_cidr(pods).await.unwrap();
    let pod = Netns::new(format!("{}a", cleanup.0));
    let port = HostPort {
        protocol: Protocol::Udp,
        host_port: 40_053,
        pod_port: 53,
        host_address: None,
    };
    let attachment = attachment("dddddddddddddd", &pod, vec![port]);
    let address = bridge.attach(&attachment).await.unwrap();
    drop(bridge);

    let config = Config {
        bridge: cleanup.0.clone(),
        state_dir: state.path().join("addresses"),
        cluster_cidr: "10.203.0.0/16".parse().unwrap(),
    };
    let again = Bridge::new(config).unwrap();
    again.set_pod_cidr(pods).await.unwrap();
    assert_eq!(again.attach(&attachment).await.unwrap(), address);
    let server = pod.serve((address, 80).into(), "still there");
    assert_eq!(read_from((address, 80).into()), "still there");
    server.join().unwrap();
    let listed = Command::new("nft")
        .args(["--numeric-protocol", "list", "table", "ip", &cleanup.0])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains(&format!("17 . 40053 : {address} . 53")),
        "{listed}"
    );
    assert_eq!(listed.matches("jump hostports-dnat").count(), 2, "{listed}");
}
