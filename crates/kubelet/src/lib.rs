//! The kubelet: makes the pods that are bound to one node run on it, and says how they and the node do.
//!
//! It sees the cluster only through a `kube::Client` and the container runtime only over CRI v1 on a Unix socket.
//! [`run`] is the whole of it: it registers the node, keeps its lease, follows the pods of the node, and gives each a
//! worker. A worker gathers what is (CRI), asks `pod::plan` what to do, does it, and publishes the status.
//!
//! *Architecture invariants:* no runtime is known by name. What to do next for a pod is decided by a pure function. A
//! restart of the kubelet is its first start: everything is found again through CRI, nothing is remembered on disk.

mod cgroups;
mod config;
mod cri;
mod duration;
mod images;
mod kubelet;
mod logs;
mod node;
mod objects;
mod pod;
mod probe;
mod resources;
mod server;
mod shared;
mod volumes;

pub use config::{Config, ServerConfig};
pub use node::eviction::{EvictionThresholdError, EvictionThresholds};

use tokio_util::sync::CancellationToken;

/// Why the kubelet could not start or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KubeletError {
    /// The container runtime does not answer on its socket.
    #[error("container runtime at {endpoint}: {message}")]
    Runtime {
        /// The socket.
        endpoint: String,
        /// What went wrong.
        message: String,
    },
    /// A directory or file that it needs cannot be made or read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// The HTTPS server's certificate, key or client CA is no good.
    #[error("kubelet server: {0}")]
    Server(String),
    /// The API server refused what the kubelet cannot do without.
    #[error("API server: {0}")]
    Api(#[from] kube::Error),
}

/// Runs the kubelet until `shutdown`; the containers keep running.
///
/// # Errors
/// When the runtime, a directory or the server's certificate is unusable at the start. An API server that is away
/// is waited for.
pub async fn run(
    config: Config,
    client: kube::Client,
    shutdown: CancellationToken,
) -> Result<(), KubeletError> {
    kubelet::run(config, client, shutdown).await
}
