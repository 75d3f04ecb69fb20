//! A cluster on this machine: what follows from its settings, and whether it runs.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ipnet::Ipv4Net;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Pid;

use crate::flags::{Directories, Settings};
use crate::pki;

/// The lock that a running server holds; others learn from it whether and as which process it runs.
pub(crate) struct RunLock(#[allow(dead_code, reason = "held, not read")] Flock<File>);

impl RunLock {
    /// Takes the lock for this process, or says which process has it.
    pub(crate) fn take(directories: &Directories) -> anyhow::Result<Self> {
        make_private(&directories.run_dir)?;
        match Flock::lock(open_pid_file(directories)?, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                file.set_len(0)?;
                write!(file, "{}", std::process::id())?;
                Ok(Self(file))
            }
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                bail!(
                    "a cluster already runs with the directory {}",
                    directories.run_dir.display()
                )
            }
            Err((_, error)) => Err(error).context("cannot lock the process id file"),
        }
    }
}

fn open_pid_file(directories: &Directories) -> anyhow::Result<File> {
    let path = directories.pid_file();
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))
}

/// The process of the running server.
pub(crate) fn running(directories: &Directories) -> anyhow::Result<Option<Pid>> {
    if !directories.pid_file().exists() {
        return Ok(None);
    }
    match Flock::lock(open_pid_file(directories)?, FlockArg::LockSharedNonblock) {
        Ok(_unlocked_on_drop) => Ok(None),
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            let pid = text
                .trim()
                .parse()
                .context("the process id file holds no process id")?;
            Ok(Some(Pid::from_raw(pid)))
        }
        Err((_, error)) => Err(error).context("cannot lock the process id file"),
    }
}

/// Waits until no server holds the lock.
pub(crate) fn wait_stopped(directories: &Directories) -> anyhow::Result<()> {
    match Flock::lock(open_pid_file(directories)?, FlockArg::LockShared) {
        Ok(_unlocked_on_drop) => Ok(()),
        Err((_, error)) => Err(error).context("cannot lock the process id file"),
    }
}

/// Makes a directory that only its owner can look into.
pub(crate) fn make_private(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// Keeps the settings for the next start.
pub(crate) fn save(directories: &Directories, settings: &Settings) -> anyhow::Result<()> {
    make_private(&directories.state_dir)?;
    let json = serde_json::to_string_pretty(settings)?;
    pki::write(&directories.settings_file(), &json, 0o600)
}

/// The settings of the cluster that lives in these directories.
pub(crate) fn saved(directories: &Directories) -> anyhow::Result<Option<Settings>> {
    match fs::read(directories.settings_file()) {
        Ok(json) => Ok(Some(
            serde_json::from_slice(&json).context("settings.json cannot be read")?,
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("settings.json cannot be read"),
    }
}

/// The node's name: the flag's, else the host's in lower case, as the kubelet takes it.
pub(crate) fn node_name(settings: &Settings) -> anyhow::Result<String> {
    match &settings.node_name {
        Some(name) => Ok(name.clone()),
        None => {
            let name = nix::unistd::gethostname().context("this machine has no host name")?;
            Ok(name.to_string_lossy().trim().to_lowercase())
        }
    }
}

/// The node's address: the flag's, else the one that the default route would use, else any that is not a loopback, else
/// that of the pods' bridge: a machine without a network has a cluster too, and a loopback address cannot be one of its
/// endpoints.
pub(crate) fn node_ip(settings: &Settings) -> IpAddr {
    settings
        .node_ip
        .or_else(default_route_address)
        .or_else(interface_address)
        .unwrap_or_else(|| bridge_address(settings))
}

/// The address that the bridge of the first node's pods gets: the first of the first node's range, which is where the
/// range of all pods begins.
fn bridge_address(settings: &Settings) -> IpAddr {
    nth(settings.cluster_cidr, 1)
}

/// The n-th address of a range.
fn nth(range: Ipv4Net, n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(u32::from(range.network()).wrapping_add(n)))
}

fn default_route_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Connecting a datagram socket sends nothing: it only makes the kernel choose a source address. The target is
    // in a range that is kept for documentation.
    socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

fn interface_address() -> Option<IpAddr> {
    let addresses = nix::ifaddrs::getifaddrs().ok()?;
    addresses
        .filter_map(|interface| Some(IpAddr::V4(interface.address?.as_sockaddr_in()?.ip())))
        .find(|address| !address.is_loopback())
}

/// The n-th address of the service range.
pub(crate) fn service_address(settings: &Settings, n: u32) -> IpAddr {
    nth(settings.service_cidr, n)
}

/// The URL by which this machine reaches the API server.
pub(crate) fn local_url(settings: &Settings) -> String {
    let host = if settings.bind_address.is_unspecified() {
        IpAddr::from([127, 0, 0, 1])
    } else {
        settings.bind_address
    };
    format!("https://{}", std::net::SocketAddr::new(host, settings.port))
}

/// The kubeconfig that the cluster is merged into.
pub(crate) fn kubeconfig(settings: &Settings) -> anyhow::Result<PathBuf> {
    settings
        .kubeconfig
        .clone()
        .map_or_else(crate::kubeconfig::default_path, Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories(root: &Path) -> Directories {
        Directories {
            state_dir: root.join("state"),
            run_dir: root.join("run"),
            config_dir: root.join("config"),
        }
    }

    #[test]
    fn a_running_server_is_known_by_its_lock_and_not_by_a_file_that_was_left() {
        let root = tempfile::tempdir().unwrap();
        let directories = directories(root.path());
        assert_eq!(running(&directories).unwrap(), None);
        let lock = RunLock::take(&directories).unwrap();
        assert_eq!(running(&directories).unwrap(), Some(Pid::this()));
        assert!(RunLock::take(&directories).is_err());
        drop(lock);
        assert_eq!(running(&directories).unwrap(), None);
        wait_stopped(&directories).unwrap();
    }

    #[test]
    fn a_machine_without_a_network_is_known_by_its_bridge() {
        let settings = Settings::default();
        assert_eq!(bridge_address(&settings).to_string(), "10.244.0.1");
        let node_ip = Some("192.0.2.7".parse().unwrap());
        assert_eq!(node_ip, Some(super::node_ip(&Settings { node_ip, ..settings })));
    }

    #[test]
    fn service_addresses_count_from_the_range() {
        let settings = Settings::default();
        assert_eq!(service_address(&settings, 1).to_string(), "10.96.0.1");
        assert_eq!(service_address(&settings, 10).to_string(), "10.96.0.10");
    }
}
