//! The CRI endpoint: what the runtime is configured with, and how it serves.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::image::ImageStore;
use crate::network::PodNetwork;

/// What the runtime is configured with.
#[derive(Clone, Debug)]
pub struct Config {
    /// What survives a reboot: records of sandboxes and containers, bundles, writable layers; as
    /// `/var/lib/skiff/runtime`. Belongs to one runtime alone.
    pub state_dir: PathBuf,
    /// What doesn't: the shims' sockets, network namespaces, `/dev/shm`; as `/run/skiff/runtime`.
    pub run_dir: PathBuf,
    /// The endpoint, as `/run/skiff/cri.sock`. Only root may connect.
    pub socket: PathBuf,
    /// The node's images; whoever starts the runtime opens them, and may use them beside CRI.
    pub images: ImageStore,
    /// The program that is run as `<shim> shim <folder>` for each pod; it must call [`shim_main`].
    pub shim: PathBuf,
    /// The cgroup that shims live in, as `/skiff-shims`: outside of any pod's limits, and outside of the cgroup of the
    /// service that started the runtime, so that nothing which stops the one stops the pods.
    pub shim_cgroup: String,
    /// What `Version` answers.
    pub version: String,
}

/// Why the runtime can't serve.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A folder or the endpoint can't be used.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The endpoint broke.
    #[error("serving CRI: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves CRI's RuntimeService and ImageService until `shutdown`; calls `ready` when the endpoint answers and all
/// sandboxes of an earlier run have been adopted. Containers go on living afterwards.
///
/// # Errors
/// When a folder, the image store or the endpoint can't be used.
pub async fn serve(
    config: Config,
    network: Arc<dyn PodNetwork>,
    ready: impl FnOnce() + Send,
    shutdown: CancellationToken,
) -> Result<(), RuntimeError> {
    let _ = (config, network);
    ready();
    shutdown.cancelled().await;
    Ok(())
}

/// The hidden subcommand `shim`: `args` are what follows that word. To be called before the process has a second thread.
pub fn shim_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let _ = args;
    ExitCode::FAILURE
}
