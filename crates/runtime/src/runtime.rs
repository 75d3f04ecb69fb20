//! What the server knows: all sandboxes and containers, and who wants to hear of changes.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_cri::v1;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::cgroup::Layout;
use crate::container::{ContainerEntry, ContainerPaths};
use crate::cri::status;
use crate::network::PodNetwork;
use crate::sandbox::{SandboxEntry, SandboxPaths};
use crate::server::Config;
use crate::shim::protocol::RunState;

/// How many events a subscriber may be behind; then it is told to list again.
const EVENTS: usize = 1024;

/// The runtime behind CRI.
pub(crate) struct Runtime {
    pub config: Config,
    pub network: Arc<dyn PodNetwork>,
    pub layout: Layout,
    pub events: broadcast::Sender<v1::ContainerEventResponse>,
    /// Ends with the server; what follows the shims stops then, and takes no shim for dead.
    pub shutdown: CancellationToken,
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    sandboxes: HashMap<String, Arc<SandboxEntry>>,
    containers: HashMap<String, Arc<ContainerEntry>>,
    /// Names that are being given: two requests for one name shall not both succeed.
    names: std::collections::HashSet<String>,
}

/// A name that nobody else may take meanwhile.
pub(crate) struct Reserved {
    runtime: Arc<Runtime>,
    name: String,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.runtime.index.lock().names.remove(&self.name);
    }
}

impl Runtime {
    pub(crate) fn new(
        config: Config,
        network: Arc<dyn PodNetwork>,
        shutdown: CancellationToken,
    ) -> io::Result<Self> {
        Ok(Self {
            config,
            network,
            layout: Layout::detect()?,
            events: broadcast::channel(EVENTS).0,
            shutdown,
            index: Mutex::default(),
        })
    }

    pub(crate) fn sandbox_paths(&self, id: &str) -> SandboxPaths {
        SandboxPaths::new(&self.config.state_dir, &self.config.run_dir, id)
    }

    pub(crate) fn container_paths(&self, id: &str) -> ContainerPaths {
        ContainerPaths::new(&self.config.state_dir, id)
    }

    /// Reserves a name, unless it is taken.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        name: String,
        taken: impl Fn() -> bool,
    ) -> Result<Reserved, Status> {
        let fresh = self.index.lock().names.insert(name.clone());
        if !fresh {
            return Err(Status::already_exists(format!("name \"{name}\" is reserved")));
        }
        let reserved = Reserved {
            runtime: Arc::clone(self),
            name,
        };
        if taken() {
            return Err(Status::already_exists(format!(
                "name \"{}\" is reserved",
                reserved.name
            )));
        }
        Ok(reserved)
    }

    pub(crate) fn insert_sandbox(&self, entry: Arc<SandboxEntry>) {
        self.index.lock().sandboxes.insert(entry.id.clone(), entry);
    }

    pub(crate) fn insert_container(&self, entry: Arc<ContainerEntry>) {
        self.index.lock().containers.insert(entry.id.clone(), entry);
    }

    pub(crate) fn forget_sandbox(&self, id: &str) {
        self.index.lock().sandboxes.remove(id);
    }

    pub(crate) fn forget_container(&self, id: &str) {
        self.index.lock().containers.remove(id);
    }

    /// By id, or by the beginning of only one id.
    pub(crate) fn sandbox(&self, id: &str) -> Result<Arc<SandboxEntry>, Status> {
        find(&self.index.lock().sandboxes, id).ok_or_else(|| {
            Status::not_found(format!(
                "an error occurred when try to find sandbox \"{id}\": not found"
            ))
        })
    }

    /// By id, or by the beginning of only one id.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<ContainerEntry>, Status> {
        find(&self.index.lock().containers, id).ok_or_else(|| {
            Status::not_found(format!(
                "an error occurred when try to find container \"{id}\": not found"
            ))
        })
    }

    /// All sandboxes, the newest last.
    pub(crate) fn sandboxes(&self) -> Vec<Arc<SandboxEntry>> {
        let mut all: Vec<_> = self.index.lock().sandboxes.values().cloned().collect();
        all.sort_by_cached_key(|s| (s.record.lock().created_at, s.id.clone()));
        all
    }

    /// All containers, the newest last.
    pub(crate) fn containers(&self) -> Vec<Arc<ContainerEntry>> {
        let mut all: Vec<_> = self.index.lock().containers.values().cloned().collect();
        all.sort_by_cached_key(|c| (c.record.lock().created_at, c.id.clone()));
        all
    }

    /// The containers of a sandbox, the newest last.
    pub(crate) fn containers_of(&self, sandbox: &str) -> Vec<Arc<ContainerEntry>> {
        self.containers()
            .into_iter()
            .filter(|c| c.sandbox == sandbox)
            .collect()
    }

    /// Takes note of how far a container's process has come. News may come twice and in any order.
    pub(crate) fn apply(&self, state: RunState) {
        let Ok(container) = self.container(&state.container) else {
            return;
        };
        let mut events = Vec::new();
        container.run.send_if_modified(|known| {
            if known.exited() || (known.started_at != 0 && !state.exited()) || *known == state {
                return false;
            }
            if known.started_at == 0 && state.started_at != 0 {
                events.push(v1::ContainerEventType::ContainerStartedEvent);
            }
            if state.exited() {
                events.push(v1::ContainerEventType::ContainerStoppedEvent);
            }
            *known = state;
            true
        });
        for event in events {
            self.publish(&container.id, &container.sandbox, event);
        }
    }

    /// Tells the subscribers that something became of a container, or of the sandbox when both ids are the same.
    pub(crate) fn publish(&self, id: &str, sandbox: &str, event: v1::ContainerEventType) {
        if self.events.receiver_count() == 0 {
            return;
        }
        let sandbox_status = self.sandbox(sandbox).ok().map(|s| status::sandbox(&s));
        let containers = self.containers_of(sandbox);
        // Nobody is listening any more: they'll list when they come back.
        let _ = self.events.send(v1::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: event as i32,
            created_at: now(),
            pod_sandbox_status: sandbox_status,
            containers_statuses: containers.iter().map(|c| status::container(c)).collect(),
        });
    }
}

fn find<T>(all: &HashMap<String, Arc<T>>, id: &str) -> Option<Arc<T>> {
    if let Some(exact) = all.get(id) {
        return Some(Arc::clone(exact));
    }
    let mut matching = all
        .iter()
        .filter(|(known, _)| !id.is_empty() && known.starts_with(id));
    match (matching.next(), matching.next()) {
        (Some((_, only)), None) => Some(Arc::clone(only)),
        _ => None,
    }
}

/// A new id: 256 random bits, as everybody expects of a container.
pub(crate) fn new_id() -> String {
    use std::fmt::Write as _;
    let bytes: [u8; 32] = rand::random();
    bytes.iter().fold(String::new(), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Runs what may wait for the disk where it keeps nobody else waiting.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

/// An error of ours that has no code of its own.
pub(crate) fn failed(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Status {
    let what = what.to_string();
    move |error| Status::unknown(format!("{what}: {error}"))
}

/// Unmounts and removes a mount point; nothing to do is success.
pub(crate) fn unmount(path: PathBuf, folder: bool) -> io::Result<()> {
    use nix::errno::Errno;
    use nix::mount::{MntFlags, umount2};
    loop {
        // Detached: whoever still has a file open there doesn't keep the pod from going.
        match umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // Something may be mounted twice after a crash.
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(error) => return Err(error.into()),
        }
    }
    match if folder {
        std::fs::remove_dir(&path)
    } else {
        std::fs::remove_file(&path)
    } {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
