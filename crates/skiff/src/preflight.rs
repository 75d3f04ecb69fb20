//! What must be there before a cluster can start, and how to get it when it is not.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context as _, bail};
use ipnet::Ipv4Net;

use crate::flags::Settings;

/// Checks the machine: root, cgroups, overlayfs, nft.
pub(crate) fn machine() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("Skiff must run as root: it makes namespaces, cgroups and network interfaces (try sudo)");
    }
    if !Path::new("/sys/fs/cgroup").is_dir() || std::fs::read_dir("/sys/fs/cgroup")?.next().is_none() {
        bail!("no cgroups: nothing is mounted on /sys/fs/cgroup");
    }
    let filesystems =
        std::fs::read_to_string("/proc/filesystems").context("cannot read /proc/filesystems")?;
    if !filesystems
        .lines()
        .any(|line| line.trim_start_matches("nodev").trim() == "overlay")
    {
        bail!("the kernel has no overlay file system (try: modprobe overlay)");
    }
    skiff_network::check_available()?;
    Ok(())
}

/// Takes a port, with an error that says whose it is.
pub(crate) fn listen(what: &str, address: IpAddr, port: u16, flag: &str) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(address, port);
    match TcpListener::bind(address) {
        Ok(listener) => {
            listener.set_nonblocking(true)?;
            Ok(listener)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("{what}: port {port} is in use by another program (choose another with {flag})")
        }
        Err(error) => Err(error).with_context(|| format!("{what}: cannot listen on {address}")),
    }
}

/// Checks that the ports are free, without keeping them.
pub(crate) fn ports(settings: &Settings) -> anyhow::Result<()> {
    listen("API server", settings.bind_address, settings.port, "--port")?;
    listen(
        "kubelet",
        settings.bind_address,
        settings.kubelet_port,
        "--kubelet-port",
    )?;
    Ok(())
}

/// Checks that the cluster's addresses are not those of something else on this machine: two networks with the same
/// addresses answer for each other, and pods are then now and then out of reach.
pub(crate) fn addresses(settings: &Settings) -> anyhow::Result<()> {
    let (pods, services) = (settings.cluster_cidr, settings.service_cidr);
    if pods.contains(&services) || services.contains(&pods) {
        bail!(
            "pod addresses {pods} and service addresses {services} overlap (see --cluster-cidr, --service-cidr)"
        );
    }
    let routes = std::fs::read_to_string("/proc/net/route").context("cannot read /proc/net/route")?;
    if let Some((network, interface)) = taken_within(&routes, pods, &settings.bridge) {
        bail!(
            "pod addresses {pods}: {network} is in use by the interface {interface} (choose others with --cluster-cidr)"
        );
    }
    Ok(())
}

/// The network within `range` that the routing table, in the form of `/proc/net/route`, has on an interface other
/// than `own`. A wider network (a whole 10.0.0.0/8 outside) is none of ours: the narrower route wins there.
fn taken_within<'a>(table: &'a str, range: Ipv4Net, own: &str) -> Option<(Ipv4Net, &'a str)> {
    // Words are in the machine's byte order, of numbers that are in the network's.
    let address = |word: &str| Some(Ipv4Addr::from(u32::from_str_radix(word, 16).ok()?.to_ne_bytes()));
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let (interface, network) = (words.next()?, address(words.next()?)?);
        let direct = address(words.next()?)?.is_unspecified();
        let network = Ipv4Net::with_netmask(network, address(words.nth(4)?)?).ok()?;
        (direct && interface != own && range.contains(&network)).then_some((network, interface))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_another_interface_within_the_range_is_found() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            cni0\t0000F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            eth0\t0001F40A\t010200C0\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            lan0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n";
        for (range, own, expected) in [
            ("10.244.0.0/16", "skiff0", Some(("10.244.0.0/24", "cni0"))),
            ("10.244.0.0/16", "cni0", None),    // our own bridge
            ("10.244.1.0/24", "skiff0", None),  // behind a gateway
            ("10.245.0.0/16", "skiff0", None),  // only within a wider network
            ("192.168.0.0/16", "skiff0", None), // nobody's
        ] {
            let found = taken_within(table, range.parse().unwrap(), own);
            let expected = expected.map(|(network, interface)| (network.parse().unwrap(), interface));
            assert_eq!(found, expected, "{range} on {own}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_named_with_the_flag_that_changes_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = listen("API server", "127.0.0.1".parse().unwrap(), port, "--port").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("API server: port {port} is in use by another program (choose another with --port)")
        );
    }
}
