//! Making, stopping and removing sandboxes, and following their shims.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_cri::v1;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tonic::Status;

use super::{Mapping, Phase, ProcessIdentity, SandboxEntry, SandboxPaths, SandboxRecord, files};
use crate::runtime::{Runtime, blocking, failed, new_id, now, unmount};
use crate::shim::client::{Shim, ShimError, launch};
use crate::shim::protocol::{Launch, Launched, Reply, Request, RunState};
use crate::state::write_atomically;
use crate::sys;

use v1::ContainerEventType as Event;

/// How long a shim that has answered may take to end.
const SHIM_END: Duration = Duration::from_secs(2);

impl Runtime {
    /// CRI `RunPodSandbox`.
    pub(crate) async fn run_sandbox(
        self: &Arc<Self>,
        config: v1::PodSandboxConfig,
        runtime_handler: String,
    ) -> Result<String, Status> {
        if !matches!(runtime_handler.as_str(), "" | "skiff") {
            return Err(Status::invalid_argument(format!(
                "no runtime for \"{runtime_handler}\" is configured"
            )));
        }
        let record = record_of(&config, runtime_handler)?;
        let name = format!(
            "{}_{}_{}_{}",
            record.name, record.namespace, record.uid, record.attempt
        );
        let _reserved = self.reserve(format!("sandbox {name}"), || {
            self.sandboxes().iter().any(|known| {
                let known = known.record.lock();
                known.uid == record.uid
                    && known.attempt == record.attempt
                    && known.name == record.name
                    && known.namespace == record.namespace
            })
        })?;
        let id = record.id.clone();
        let paths = self.sandbox_paths(&id);
        let entry = Arc::new(SandboxEntry {
            id: id.clone(),
            record: Mutex::new(record),
            operation: tokio::sync::Mutex::default(),
            shim: Shim::new(paths.socket.clone()),
        });
        match self.make_sandbox(&entry, &config, &paths).await {
            Ok(()) => {
                self.insert_sandbox(Arc::clone(&entry));
                self.follow(&entry).await;
                self.publish(&id, &id, Event::ContainerCreatedEvent);
                self.publish(&id, &id, Event::ContainerStartedEvent);
                Ok(id)
            }
            Err(error) => {
                tracing::warn!(sandbox = id, %error, "sandbox could not be made");
                if let Err(error) = self.clear_sandbox(&entry).await {
                    tracing::error!(sandbox = id, %error, "left-overs of a failed sandbox");
                }
                Err(error)
            }
        }
    }

    async fn make_sandbox(
        &self,
        entry: &SandboxEntry,
        config: &v1::PodSandboxConfig,
        paths: &SandboxPaths,
    ) -> Result<(), Status> {
        let record = entry.record.lock().clone();
        let launch_file = launch_of(&record, config, paths, &self.config.shim_cgroup);
        let resolv_conf = files::resolv_conf(config.dns_config.as_ref());
        let folder = paths.folder.clone();
        let saved = record.clone();
        let socket = paths.socket.clone();
        blocking(move || {
            fs::create_dir_all(&folder)?;
            // Before there is anything to clear away, there is a word of it.
            write_atomically(&folder.join(SandboxRecord::FILE), &saved, true)?;
            write_atomically(&folder.join("launch.json"), &launch_file, false)?;
            write_files(&folder, &saved.hostname, resolv_conf)?;
            if socket.as_os_str().len() > 100 {
                return Err(io::Error::other(format!(
                    "socket path {} is too long",
                    socket.display()
                )));
            }
            Ok(())
        })
        .await
        .map_err(failed("failed to create sandbox"))?;

        let launched = launch(&self.config.shim, &paths.folder)
            .await
            .map_err(|e| Status::unknown(format!("failed to start shim: {e}")))?;
        if let Launched::Ready {
            pid,
            pid_namespace_init,
        } = launched
        {
            let mut record = entry.record.lock();
            record.shim_pid = pid;
            record.pid_namespace_init = pid_namespace_init.and_then(ProcessIdentity::of);
        }
        if !record.host_network() {
            let sandbox = record.for_network(paths.netns.clone());
            let ips = self.network.attach(&sandbox).await.map_err(|error| {
                Status::unknown(format!(
                    "failed to setup network for sandbox \"{}\": {error}",
                    record.id
                ))
            })?;
            entry.record.lock().ips = ips;
        }
        entry.record.lock().phase = Phase::Ready;
        self.save_sandbox(entry).await
    }

    async fn save_sandbox(&self, entry: &SandboxEntry) -> Result<(), Status> {
        let record = entry.record.lock().clone();
        let path = self.sandbox_paths(&entry.id).folder.join(SandboxRecord::FILE);
        blocking(move || write_atomically(&path, &record, true))
            .await
            .map_err(failed("failed to save sandbox"))
    }

    /// CRI `StopPodSandbox`: nothing of the pod runs afterwards, and its network is given back.
    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<(), Status> {
        let Ok(entry) = self.sandbox(id) else {
            return Ok(());
        };
        let _operation = entry.operation.lock().await;
        if self.sandbox(&entry.id).is_err() {
            return Ok(());
        }
        self.stop_sandbox_locked(&entry).await
    }

    async fn stop_sandbox_locked(&self, entry: &SandboxEntry) -> Result<(), Status> {
        let was_ready = entry.record.lock().phase == Phase::Ready;
        let containers = self.containers_of(&entry.id);
        let stops = containers.iter().map(|c| self.stop_container_now(c, 0));
        futures::future::try_join_all(stops).await?;
        // Told before the shim goes, so that whoever follows it doesn't take it for dead.
        entry.record.lock().phase = Phase::NotReady;
        self.shut_down(entry)
            .await
            .map_err(|error| Status::unknown(format!("failed to stop sandbox: {error}")))?;
        self.release_surroundings(entry).await?;
        self.save_sandbox(entry).await?;
        if was_ready {
            self.publish(&entry.id, &entry.id, Event::ContainerStoppedEvent);
        }
        Ok(())
    }

    /// Ends the shim, if it has not ended yet, and waits until its process has left its cgroup: it answers before.
    async fn shut_down(&self, entry: &SandboxEntry) -> Result<(), ShimError> {
        // Known by its descriptor before it can end, and not by a number that another process may get.
        let process = sys::process(entry.record.lock().shim_pid).and_then(sys::watched);
        match entry.shim.call(&Request::Shutdown).await {
            Ok(_) | Err(ShimError::Gone(_)) => {}
            Err(error) => return Err(error),
        }
        if let Ok(process) = process
            && tokio::time::timeout(SHIM_END, process.readable()).await.is_err()
        {
            tracing::warn!(sandbox = entry.id, "the shim has not ended in time");
        }
        Ok(())
    }

    /// Gives back the network and the mounts of a sandbox in which nothing runs any more.
    async fn release_surroundings(&self, entry: &SandboxEntry) -> Result<(), Status> {
        let record = entry.record.lock().clone();
        let paths = self.sandbox_paths(&entry.id);
        if let Some(init) = record.pid_namespace_init.filter(|p| p.lives()) {
            let _ = kill(Pid::from_raw(init.pid), Signal::SIGKILL);
        }
        if !record.host_network() {
            let sandbox = record.for_network(paths.netns.clone());
            self.network.detach(&sandbox).await.map_err(|error| {
                Status::unknown(format!(
                    "failed to destroy network for sandbox \"{}\": {error}",
                    entry.id
                ))
            })?;
        }
        blocking(move || {
            unmount(paths.netns, false)?;
            unmount(paths.shm, true)?;
            remove_file(&paths.socket)?;
            remove_folder(&paths.libcontainer_root)
        })
        .await
        .map_err(failed("failed to clear sandbox"))
    }

    /// CRI `RemovePodSandbox`.
    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<(), Status> {
        let Ok(entry) = self.sandbox(id) else {
            return Ok(());
        };
        let _operation = entry.operation.lock().await;
        // Somebody else may have been faster.
        if self.sandbox(&entry.id).is_err() {
            return Ok(());
        }
        self.stop_sandbox_locked(&entry).await?;
        for container in self.containers_of(&entry.id) {
            self.remove_container(&container.id).await?;
        }
        self.remove_sandbox_folder(&entry.id).await?;
        self.forget_sandbox(&entry.id);
        self.publish(&entry.id, &entry.id, Event::ContainerDeletedEvent);
        Ok(())
    }

    async fn remove_sandbox_folder(&self, id: &str) -> Result<(), Status> {
        let folder = self.sandbox_paths(id).folder;
        blocking(move || remove_folder(&folder))
            .await
            .map_err(failed("failed to remove sandbox"))
    }

    /// Clears away a sandbox that never became ready.
    pub(crate) async fn clear_sandbox(&self, entry: &SandboxEntry) -> Result<(), Status> {
        let _ = self.shut_down(entry).await;
        self.release_surroundings(entry).await?;
        self.remove_sandbox_folder(&entry.id).await
    }

    /// Follows what the shim tells, until the sandbox or the server stops. Returns when all that happened before is
    /// known.
    pub(crate) async fn follow(self: &Arc<Self>, entry: &Arc<SandboxEntry>) {
        let (caught_up, known) = oneshot::channel();
        tokio::spawn(Arc::clone(self).follow_for_ever(Arc::clone(entry), caught_up));
        // An error means that the shim was dead, which is known as well.
        let _ = known.await;
    }

    async fn follow_for_ever(self: Arc<Self>, entry: Arc<SandboxEntry>, caught_up: oneshot::Sender<()>) {
        let mut caught_up = Some(caught_up);
        let following = async {
            // A shim cuts a reader off that is too slow; it must be gone to be taken for dead.
            while let Ok(mut conversation) = entry.shim.open(&Request::Subscribe, Vec::new()).await {
                loop {
                    match conversation.next().await {
                        Ok(Reply::Snapshot(states)) => {
                            states.into_iter().for_each(|state| self.apply(state));
                            caught_up.take().map(|tell| tell.send(()));
                        }
                        Ok(Reply::State(state)) => self.apply(*state),
                        Ok(_) => {}
                        Err(_) => break,
                    }
                }
                if entry.record.lock().phase != Phase::Ready {
                    return;
                }
            }
        };
        tokio::select! {
            () = following => {}
            () = self.shutdown.cancelled() => return,
        }
        self.shim_died(&entry).await;
        drop(caught_up);
    }

    /// The shim is gone: unless the sandbox was stopped, what it held is gone with it.
    async fn shim_died(&self, entry: &SandboxEntry) {
        // Before its containers have ended, so that nobody who sees an end restarts them in it.
        if std::mem::replace(&mut entry.record.lock().phase, Phase::NotReady) != Phase::Ready {
            return;
        }
        tracing::warn!(sandbox = entry.id, "shim died");
        for container in self.containers_of(&entry.id) {
            let paths = self.container_paths(&container.id);
            let cgroup = container.record.lock().cgroup.clone();
            let layout = self.layout.clone();
            let known = container.run.borrow().clone();
            let state = blocking(move || {
                layout.kill_all(&cgroup);
                let file = paths.folder.join(RunState::FILE);
                let mut state = crate::state::read(&file).unwrap_or(known);
                if state.running() {
                    state.exit_code = 137;
                    state.finished_at = now();
                    state.message = "the pod's shim died".to_owned();
                    state.oom_killed = layout.oom_kills(&cgroup) > 0;
                    write_atomically(&file, &state, true)?;
                }
                layout.remove(&cgroup)?;
                Ok(state)
            });
            match state.await {
                Ok(state) => self.apply(state),
                Err(error) => {
                    tracing::error!(container = container.id, %error, "clearing up after a dead shim")
                }
            }
        }
        // Only now: whoever stops the sandbox holds this while waiting for its containers' ends.
        let _operation = entry.operation.lock().await;
        if self.sandbox(&entry.id).is_err() {
            return;
        }
        if let Err(error) = self.save_sandbox(entry).await {
            tracing::error!(sandbox = entry.id, %error, "saving the record of a dead sandbox");
        }
        self.publish(&entry.id, &entry.id, Event::ContainerStoppedEvent);
    }
}

fn record_of(config: &v1::PodSandboxConfig, runtime_handler: String) -> Result<SandboxRecord, Status> {
    let metadata = config
        .metadata
        .clone()
        .ok_or_else(|| Status::invalid_argument("sandbox config must include metadata"))?;
    let linux = config.linux.clone().unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    let modes = security.namespace_options.unwrap_or_default();
    if modes
        .userns_options
        .as_ref()
        .is_some_and(|u| u.mode != v1::NamespaceMode::Node as i32)
    {
        return Err(Status::invalid_argument("user namespaces are not supported"));
    }
    let host_network = modes.network == v1::NamespaceMode::Node as i32;
    let hostname = if config.hostname.is_empty() || host_network {
        nix::unistd::gethostname()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    } else {
        config.hostname.clone()
    };
    Ok(SandboxRecord {
        id: new_id(),
        name: metadata.name,
        uid: metadata.uid,
        namespace: metadata.namespace,
        attempt: metadata.attempt,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        runtime_handler,
        created_at: now(),
        phase: Phase::Creating,
        hostname,
        log_directory: config.log_directory.clone().into(),
        cgroup_parent: linux.cgroup_parent,
        network_mode: modes.network,
        pid_mode: modes.pid,
        ipc_mode: modes.ipc,
        port_mappings: config
            .port_mappings
            .iter()
            .filter_map(Mapping::from_cri)
            .collect(),
        ips: Vec::new(),
        shim_pid: 0,
        pid_namespace_init: None,
    })
}

fn launch_of(
    record: &SandboxRecord,
    config: &v1::PodSandboxConfig,
    paths: &SandboxPaths,
    shim_cgroup: &str,
) -> Launch {
    let own_ipc = record.ipc_mode != v1::NamespaceMode::Node as i32;
    let sysctls = config
        .linux
        .as_ref()
        .map(|l| l.sysctls.clone())
        .unwrap_or_default();
    Launch {
        id: record.id.clone(),
        socket: paths.socket.clone(),
        libcontainer_root: paths.libcontainer_root.clone(),
        cgroup: shim_cgroup.to_owned(),
        hostname: (!record.host_network()).then(|| record.hostname.clone()),
        netns: (!record.host_network()).then(|| paths.netns.clone()),
        ipc: own_ipc,
        shared_pid: record.pid_mode == v1::NamespaceMode::Pod as i32,
        shm: own_ipc.then(|| paths.shm.clone()),
        sysctls: sysctls.into_iter().collect::<BTreeMap<_, _>>(),
    }
}

fn write_files(folder: &Path, hostname: &str, resolv_conf: Option<String>) -> io::Result<()> {
    fs::write(folder.join("hostname"), format!("{hostname}\n"))?;
    let host = |path: &str| fs::read_to_string(path).unwrap_or_default();
    fs::write(folder.join("hosts"), host("/etc/hosts"))?;
    fs::write(
        folder.join("resolv.conf"),
        resolv_conf.unwrap_or_else(|| host("/etc/resolv.conf")),
    )
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
