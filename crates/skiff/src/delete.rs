//! `skiff delete`: nothing of the cluster stays: no process, mount, cgroup, interface, rule or file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{ListPodSandboxRequest, PodSandbox, RemovePodSandboxRequest, StopPodSandboxRequest};
use skiff_network::Bridge;
use skiff_runtime::image::ImageStore;
use tokio_util::sync::CancellationToken;

use crate::flags::{Directories, Settings};
use crate::node_network::NodeNetwork;
use crate::progress::Step;
use crate::{cluster, image, kubeconfig, preflight, progress, server, start};

/// How long the runtime has to take up its sandboxes before they are removed.
const RUNTIME_START: Duration = Duration::from_secs(30);

/// Deletes the cluster that lives in these directories.
pub(crate) fn delete(directories: &Directories) -> anyhow::Result<()> {
    preflight::machine()?;
    // Only a directory that a cluster was started in is deleted, whatever the flag says.
    let Some(settings) = cluster::saved(directories)? else {
        progress::line("* There is no cluster here");
        return Ok(());
    };
    if let Some(pid) = cluster::running(directories)? {
        start::end(pid, directories, "The cluster is stopped")?;
    }
    let step = Step::begin("Deleting the cluster");
    let lock = cluster::RunLock::take(directories)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(remove_pods(directories, &settings))?;
    runtime.shutdown_timeout(Duration::from_secs(5));
    unmount_below(&directories.state_dir)?;
    unmount_below(&directories.run_dir)?;
    remove_cgroups(&settings.cgroup_root)?;
    kubeconfig::remove(&cluster::kubeconfig(&settings)?, &settings.context)?;
    remove_file(&directories.admin_kubeconfig())?;
    drop(lock);
    // The state goes last: until then an interrupted delete can be repeated.
    remove_tree(&directories.run_dir)?;
    remove_tree(&directories.state_dir)?;
    step.done(Some(&format!("The cluster \"{}\" is deleted", settings.context)));
    Ok(())
}

/// Stops and removes every pod through CRI, as a kubelet would, and then the pod network.
async fn remove_pods(directories: &Directories, settings: &Settings) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let network_config = skiff_network::Config {
        bridge: settings.bridge.clone(),
        state_dir: directories.state_dir.join("network"),
        cluster_cidr: settings.cluster_cidr,
    };
    if settings.container_runtime_endpoint.is_none() {
        let images = ImageStore::open(server::image_config(directories)).await?;
        let config = server::runtime_config(directories, settings, images)?;
        let socket = config.socket.clone();
        let shutdown = CancellationToken::new();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let network = NodeNetwork::new(network_config.clone())?;
        let serving = tokio::spawn(skiff_runtime::serve(
            config,
            network,
            move || {
                // Nobody waits any more when the deadline has passed.
                let _ = ready.send(());
            },
            shutdown.clone(),
        ));
        if tokio::time::timeout(RUNTIME_START, is_ready).await.is_err() {
            bail!("the container runtime does not start");
        }
        let mut client = RuntimeServiceClient::new(image::channel(&socket).await?);
        let sandboxes = client
            .list_pod_sandbox(ListPodSandboxRequest::default())
            .await?
            .into_inner()
            .items;
        for sandbox in sandboxes {
            let id = sandbox.id.clone();
            client
                .stop_pod_sandbox(StopPodSandboxRequest {
                    pod_sandbox_id: id.clone(),
                })
                .await?;
            client
                .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id })
                .await?;
            remove_logs(settings, &sandbox)?;
        }
        shutdown.cancel();
        serving.await??;
    }
    Ok(Bridge::new(network_config)?.remove().await?)
}

/// The logs of one pod, and the links to them. Other clusters on the machine may share the directories.
fn remove_logs(settings: &Settings, sandbox: &PodSandbox) -> anyhow::Result<()> {
    let Some(pod) = &sandbox.metadata else {
        return Ok(());
    };
    let name = format!("{}_{}_{}", pod.namespace, pod.name, pod.uid);
    if name.contains('/') {
        return Ok(());
    }
    let logs = settings.pod_log_dir.join(name);
    for link in fs::read_dir(&settings.container_log_dir)
        .into_iter()
        .flatten()
        .flatten()
    {
        if fs::read_link(link.path()).is_ok_and(|target| target.starts_with(&logs)) {
            remove_file(&link.path())?;
        }
    }
    remove_tree(&logs)
}

/// The mounts below a directory, innermost first.
fn mounts_below(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let paths = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .map(PathBuf::from);
    let mut below: Vec<PathBuf> = paths.filter(|path| path.starts_with(directory)).collect();
    // A mount stands after what it is mounted on.
    below.reverse();
    Ok(below)
}

/// A path as mountinfo writes it: space, tab, newline and backslash as octal numbers.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

fn unmount_below(directory: &Path) -> anyhow::Result<()> {
    for mount in mounts_below(directory)? {
        nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH)
            .with_context(|| format!("cannot unmount {}", mount.display()))?;
    }
    Ok(())
}

/// Removes the pods' cgroups in every hierarchy. Their processes are gone.
fn remove_cgroups(cgroup_root: &str) -> anyhow::Result<()> {
    let below = cgroup_root.trim_matches('/');
    let base = Path::new("/sys/fs/cgroup");
    let mut hierarchies = vec![base.to_path_buf()];
    hierarchies.extend(fs::read_dir(base)?.flatten().map(|entry| entry.path()));
    for hierarchy in hierarchies {
        remove_cgroup(&hierarchy.join(below).join("kubepods"));
        remove_cgroup(&hierarchy.join(below).join(server::SHIM_CGROUP));
        if !below.is_empty() {
            remove_cgroup(&hierarchy.join(below));
        }
    }
    Ok(())
}

/// Removes a cgroup and those in it. One that is in use by something else stays.
fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    if path.is_dir()
        && let Err(error) = fs::remove_dir(path)
    {
        tracing::debug!(path = %path.display(), %error, "a cgroup stays");
    }
}

fn remove_file(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a directory with all in it, but never what is mounted there: that may be anybody's data.
fn remove_tree(path: &Path) -> anyhow::Result<()> {
    if let Some(mount) = mounts_below(path)?.first() {
        bail!(
            "{} is still mounted; nothing below {} was removed",
            mount.display(),
            path.display()
        );
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::mount::{MsFlags, mount};

    #[test]
    fn a_tree_with_a_mount_in_it_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("with space");
        fs::create_dir(&inner).unwrap();
        mount(
            Some("none"),
            &inner,
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        fs::write(inner.join("precious"), "x").unwrap();
        assert!(remove_tree(directory.path()).is_err());
        assert!(inner.join("precious").exists());
        unmount_below(directory.path()).unwrap();
        assert_eq!(mounts_below(directory.path()).unwrap(), Vec::<PathBuf>::new());
        remove_tree(directory.path()).unwrap();
        assert!(!directory.path().exists());
    }
}
