//! What must be there before a cluster can start, and how to get it when it is not.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context as _, bail};

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

#[cfg(test)]
mod tests {
    use super::*;

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
